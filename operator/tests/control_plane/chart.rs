//! What the chart makes of its values.

use serde::Deserialize;

use super::{support::render, *};

fn objects(options: &[&str]) -> Vec<Value> {
    let manifest = render(options).expect("rendered");
    let objects = serde_yaml_ng::Deserializer::from_str(&manifest).map(|it| Value::deserialize(it).expect("YAML"));
    objects.filter(|object| !object.is_null()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn definitions_are_kept_on_uninstall_and_left_out_where_somebody_else_brings_them() {
    let all = objects(&[]);
    let definitions = of_kind(&all, "CustomResourceDefinition");
    assert_eq!(definitions.len(), 2);
    for definition in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert!(of_kind(&objects(&["--set", "crds.enabled=false"]), "CustomResourceDefinition").is_empty());
}

#[test]
fn values_that_can_not_be_right_are_refused_by_their_name() {
    for (value, named) in [
        ("installationId=", "installationId"),
        ("engine.image=registry.example/engine:latest", "engine/image"),
        ("operator.replicas=0", "operator/replicas"),
        ("upgrades.concurrent=none", "upgrades/concurrent"),
        ("operator.replica=2", "replica"),
    ] {
        let error = render(&["--set", value]).expect_err(value).replace('.', "/");
        assert!(error.contains(named), "{value}: {error}");
    }
}

#[test]
fn the_charts_own_release_may_answer_advisories_and_know_a_newer_format() {
    let own = r#"engine.releases=[{"version": "0.1.0", "image": "registry.example/ignored@sha256:1111111111111111111111111111111111111111111111111111111111111111", "severity": "Security", "advisories": ["CVE-2026-0001"], "format": 2}]"#;
    let all = objects(&["--set-json", own]);
    let [catalog] = of_kind(&all, "EngineCatalog")[..] else { panic!("one catalog") };
    let expected = json!([{
        "version": "0.1.0", "image": image("engine", 'b'),
        "severity": "Security", "advisories": ["CVE-2026-0001"], "format": 2,
    }]);
    assert_eq!(catalog["spec"]["releases"], expected);
}
