//! What an engine must not reach, and what is told of it.

use vectorkeep_crds::status::ProbeVerdict::{self, Isolated, NotProven, Reached};

use super::*;
use crate::{admin::Isolation, observed::Other, plan::config_map::ISOLATION_FILE};

const LISTENER: &str = "probe.vectorkeep-system.svc.cluster.local.:8444";
const API_SERVER: &str = "kubernetes.default.svc.cluster.local.:443";
const METADATA: &str = "169.254.169.254:80";
const OTHER: &str = "vc00000000000000aa";
const ADMIN: &str = "other-cluster-15c955:9092";
const CLIENTS: &str = "other-cluster-15c955:19530";
const HEALTH: &str = "other-cluster-15c955:9091";

impl World {
    /// A running cluster beside one other, of an installation that proves isolation. The operator reaches everything but
    /// the metadata.
    fn proving() -> Self {
        let mut world = Self::new(AWS);
        world.settings.isolation_probes = vec![LISTENER.into()];
        world.settings.isolation_targets =
            vec![("kubernetes-api".into(), API_SERVER.into()), ("cloud-metadata".into(), METADATA.into())];
        world.settings.kms_egress = vec!["203.0.113.7/32:443".parse().expect("an address")];
        world.observed.control =
            [(LISTENER, true), (API_SERVER, true), (METADATA, false)].map(|(at, is)| (at.to_owned(), is)).into();
        world.observed.others = vec![Other { cluster_id: OTHER.into(), answers: true }];
        world.settle();
        world.start_engine();
        world.settle();
        world
    }

    /// Names and addresses that the engine is told to try.
    fn told(&mut self) -> Vec<(String, String)> {
        let config = self.children().config.as_ref().expect("a configuration");
        let Some(text) = config.data.as_ref().expect("entries").get(ISOLATION_FILE) else { return Vec::new() };
        let file: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let field = |target: &serde_json::Value, name: &str| target[name].as_str().expect("text").to_owned();
        let targets = file["targets"].as_array().expect("a list");
        targets.iter().map(|target| (field(target, "name"), field(target, "address"))).collect()
    }

    fn engine_found(&mut self, reached: &[&str], unreached: &[&str]) {
        let EngineView::Answered(status) = &mut self.observed.engine else { panic!("the engine does not run") };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
        let (reached, unreached) = (texts(reached), texts(unreached));
        let withholds = Some(reached.iter().any(|name| name != "kubernetes-api"));
        status.isolation = Some(Isolation { required: true, withholds, reached, unreached, at: Some(self.now) });
    }

    fn matrix(&self) -> Vec<(String, ProbeVerdict)> {
        let isolation = self.desired().status.isolation.expect("a matrix");
        isolation.probes.into_iter().map(|probe| (probe.target, probe.verdict)).collect()
    }
}

fn named(rows: &[(&str, ProbeVerdict)]) -> Vec<(String, ProbeVerdict)> {
    rows.iter().map(|(name, verdict)| ((*name).to_owned(), *verdict)).collect()
}

#[test]
fn the_engine_tries_operator_api_server_metadata_and_other_engines_and_a_change_of_these_restarts_nothing() {
    let mut world = World::proving();
    let host = format!("engine-0.engine-peers.vk-{OTHER}.svc.cluster.local.");
    let wanted = [
        ("operator", LISTENER.to_owned()),
        ("kubernetes-api", API_SERVER.to_owned()),
        ("cloud-metadata", METADATA.to_owned()),
        (ADMIN, format!("{host}:9092")),
        (CLIENTS, format!("{host}:19530")),
        (HEALTH, format!("{host}:9091")),
    ];
    assert_eq!(world.told(), wanted.map(|(name, address)| (name.to_owned(), address)));
    world.observed.others.clear();
    let desired = world.desired();
    assert!(!desired.config.is_keep());
    assert!(desired.stateful_set.is_keep() && desired.record.is_keep());
    world.settle();
    assert_eq!(world.told().len(), 3);
    world.observed.custody.record = None;
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.config.is_keep(), "a lost record does not take them for its own");
}

#[test]
fn what_the_policies_may_allow_is_not_tried() {
    let mut world = World::proving();
    world.settings.kms_egress.clear();
    world.settle();
    let names: Vec<String> = world.told().into_iter().map(|(name, _)| name).collect();
    assert!(!names.contains(&"kubernetes-api".to_owned()), "its address may be a public one on port 443");
    assert!(names.contains(&"operator".to_owned()) && names.contains(&"cloud-metadata".to_owned()));
}

#[test]
fn an_installation_without_a_listener_proves_nothing_and_tries_nothing() {
    let mut world = World::proving();
    world.settings.isolation_probes.clear();
    world.settle();
    assert!(world.told().is_empty());
}

#[test]
fn isolation_is_proven_by_the_operators_listener_and_what_nobody_reaches_proves_nothing() {
    let mut world = World::proving();
    world.engine_found(&[], &["operator", "kubernetes-api", "cloud-metadata", ADMIN]);
    let rows = [
        ("operator", Isolated),
        ("kubernetes-api", Isolated),
        ("cloud-metadata", NotProven),
        (ADMIN, Isolated),
        // Its name did not resolve, so it was not tried.
        (CLIENTS, NotProven),
        (HEALTH, NotProven),
    ];
    assert_eq!(world.matrix(), named(&rows));
    let proven = world.condition(types::NETWORK_ISOLATED);
    assert_eq!((proven.status.as_str(), proven.reason.as_str()), ("True", "Proven"));
    assert!(proven.message.contains("Not proven: cloud-metadata"));
    world.observed.control.insert(LISTENER.into(), false);
    assert_eq!(world.condition(types::NETWORK_ISOLATED).reason, "ControlProbeFailed");
}

#[test]
fn a_cluster_that_serves_is_not_cut_off_by_a_network_that_stops_enforcing() {
    let mut world = World::proving();
    world.engine_found(&[ADMIN], &["operator"]);
    let isolated = world.condition(types::NETWORK_ISOLATED);
    assert_eq!((isolated.status.as_str(), isolated.reason.as_str()), ("False", "PoliciesNotEnforced"));
    assert!(isolated.message.contains(&format!("reaches {ADMIN}")));
    assert_eq!(world.condition(types::READY).status, "True");
    world.engine_says("Locked", "Unknown");
    assert_eq!(world.condition(types::READY).reason, "PoliciesNotEnforced");
}

#[test]
fn what_may_lie_on_the_engines_own_node_is_told_and_decides_nothing() {
    let mut world = World::proving();
    world.engine_found(&["kubernetes-api"], &["operator"]);
    let isolated = world.condition(types::NETWORK_ISOLATED);
    assert_eq!((isolated.status.as_str(), isolated.reason.as_str()), ("False", "PartlyEnforced"));
    world.engine_says("Locked", "Unknown");
    assert_ne!(world.condition(types::READY).reason, "PartlyEnforced");
}

#[test]
fn another_cluster_keeps_its_name_whoever_comes_beside_it() {
    let mut world = World::proving();
    let newcomer = Other { cluster_id: "vc000000000000000a".into(), answers: true };
    world.observed.others.insert(0, newcomer);
    world.engine_found(&[], &["operator", ADMIN]);
    let matrix = world.matrix();
    assert_eq!(matrix.iter().filter(|(_, verdict)| *verdict == Isolated).count(), 2, "{matrix:?}");
    assert!(matrix.contains(&(ADMIN.to_owned(), Isolated)));
}

#[test]
fn no_status_tells_which_other_cluster_it_is() {
    let mut world = World::proving();
    world.engine_found(&[ADMIN], &["operator", CLIENTS]);
    let status = world.desired().status.clone();
    assert!(text(&status).contains(ADMIN));
    assert!(!text(&status).contains(OTHER), "{}", text(&status));
    assert_eq!(world.matrix()[3], (ADMIN.to_owned(), Reached));
}

#[test]
fn an_engine_that_was_never_given_names_is_understood_and_what_is_no_longer_tried_counts_if_it_was_reached() {
    let mut world = World::proving();
    world.engine_found(&[], &[LISTENER]);
    assert_eq!(world.matrix()[0], ("operator".to_owned(), Isolated));
    assert_eq!(world.condition(types::NETWORK_ISOLATED).reason, "Proven");
    world.engine_found(&["other-cluster-222222:9092"], &["operator", "other-cluster-333333:9092"]);
    assert_eq!(world.matrix().last(), Some(&("other-cluster-222222:9092".to_owned(), Reached)));
    assert_eq!(world.condition(types::NETWORK_ISOLATED).status, "False");
}
