//! The pod, its configuration, and when they change.

use super::*;

#[test]
fn the_engine_is_configured_with_key_role_and_identity() {
    let mut world = World::new(AWS);
    world.settle();
    let id = world.identity().cluster_id;
    let config = world.children().config.clone().expect("a ConfigMap");
    let text = config.data.expect("data").remove(CONFIG_FILE).expect("a file");
    let parsed: toml::Table = toml::from_str(&text).expect("TOML");
    assert_eq!(parsed["cluster_id"].as_str(), Some(id.as_str()));
    assert_eq!(parsed["memory_budget_bytes"].as_integer(), Some(805_306_368));
    assert_eq!(parsed["kms"]["check_interval_seconds"].as_integer(), Some(10));
    assert_eq!(parsed["kms"]["outage_grace_seconds"].as_integer(), Some(600));
    assert!(parsed["kms"]["aws"]["key_arn"].as_str().is_some_and(|arn| arn.contains(":key/")));
    assert!(parsed["kms"].get("local").is_none());
    assert_eq!(parsed["tls"]["operator_uri"].as_str(), Some(format!("vectorkeep://{id}/operator").as_str()));
}

#[test]
fn no_secret_is_part_of_pod_template_or_configuration() {
    let mut world = World::new(LOCAL);
    world.settle();
    let children = world.children();
    let shown = text(&children.stateful_set) + &text(&children.config);
    assert!(!shown.contains("drawn"));
    assert!(!shown.contains("\"env\""));
}

#[test]
fn the_pod_meets_the_restricted_standard() {
    let mut world = World::new(AWS);
    world.settle();
    let rendered = text(&world.children().stateful_set);
    for wanted in [
        "\"runAsNonRoot\":true",
        "\"readOnlyRootFilesystem\":true",
        "\"allowPrivilegeEscalation\":false",
        "\"drop\":[\"ALL\"]",
        "\"type\":\"RuntimeDefault\"",
        "\"automountServiceAccountToken\":false",
        "\"medium\":\"Memory\"",
    ] {
        assert!(rendered.contains(wanted), "{wanted}");
    }
}

#[test]
fn a_patch_on_offer_restarts_nothing_outside_the_window_and_is_reported() {
    let mut world = World::running(AWS);
    world.observed.catalog = Some(catalog(&["0.1.0", "0.1.1"]));
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.config.is_keep());
    assert_eq!(world.condition(types::UP_TO_DATE).reason, "PatchOffered");
    assert_eq!(world.condition(types::READY).status, "True");
}

#[test]
fn a_lost_record_restarts_nothing() {
    let mut world = World::running(AWS);
    world.observed.catalog = Some(catalog(&["0.1.0", "0.1.1"]));
    world.observed.custody.record = None;
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.config.is_keep());
    let Change::Apply(record) = desired.record else {
        panic!("the record is written again");
    };
    assert_eq!(record.name_any(), record_name(&world.identity().cluster_id));
    assert!(text(&record).contains("sha256:0.1.0"));
}

#[test]
fn a_change_of_the_resource_rolls_out_with_the_release_that_runs() {
    let mut world = World::running(AWS);
    world.observed.catalog = Some(catalog(&["0.1.0", "0.1.1"]));
    world.observed.cluster.spec.encryption.check_interval = "20s".into();
    let desired = world.desired();
    let Change::Apply(set) = &desired.stateful_set else {
        panic!("expected a rollout");
    };
    assert_eq!(version_in(set), "0.1.0");
    assert!(!desired.config.is_keep() && !desired.record.is_keep());
    let ready = world.condition(types::READY);
    assert_eq!(ready.reason, "EngineStarting");
}

#[test]
fn what_does_not_reach_the_engine_does_not_restart_it() {
    let mut world = World::running(AWS);
    let spec = &mut world.observed.cluster.spec;
    spec.network.clients = serde_yaml_ng::from_str("[{podSelector: {}}]").expect("clients");
    spec.tls.duration = "100h".into();
    spec.storage.volume.size = "30Gi".into();
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.config.is_keep());
    assert!(!desired.volume.is_keep());
}

#[test]
fn an_edited_child_is_repaired() {
    let mut world = World::running(AWS);
    let service = world.children().service.as_mut().expect("a service");
    let spec = service.spec.as_mut().expect("a spec");
    spec.type_ = Some("LoadBalancer".into());
    let desired = world.desired();
    assert!(!desired.service.is_keep());
    assert!(desired.peers.is_keep() && desired.stateful_set.is_keep());
}
