//! Plans for small worlds. A world is what would be observed; `World::settle` plays the API server.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use proptest::prelude::*;
use vectorkeep_crds::{
    VectorCluster, VectorClusterSpec,
    status::Condition,
    well_known::{FINALIZER, LABEL_ADOPT, LABEL_RELEASED},
};

use super::{
    certificates::{AuthorityChange, LeafChange},
    conditions::types,
    config_map::CONFIG_FILE,
    record::record_name,
    *,
};
use crate::{
    admin::{EngineStatus, EngineView},
    certificates::{TlsMaterial, issue},
    observed::{Custody, SecretSeen},
    sensitive::Sensitive,
};

const LOCAL: &str = "{encryption: {local: {}}}";
const AWS: &str = "
encryption:
  aws:
    keyArn: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
    roleArn: arn:aws:iam::111122223333:role/vector
";

#[derive(Clone)]
struct World {
    observed: Observed,
    settings: Settings,
    now: Timestamp,
}

impl World {
    fn new(spec: &str) -> Self {
        let spec: VectorClusterSpec = serde_yaml_ng::from_str(spec).expect("a valid spec");
        let mut cluster = VectorCluster::new("support", spec);
        cluster.metadata.namespace = Some("acme".into());
        cluster.metadata.uid = Some("uid-1".into());
        cluster.metadata.generation = Some(1);
        Self {
            observed: Observed {
                cluster,
                namespace: None,
                role_binding: None,
                children: None,
                publisher_binding: None,
                custody: Custody::default(),
                engine: EngineView::NotAsked,
            },
            settings: settings(),
            now: "2026-06-01T12:00:00Z".parse().expect("a time"),
        }
    }

    fn running(spec: &str) -> Self {
        let mut world = Self::new(spec);
        world.settle();
        world.start_engine();
        world.settle();
        world
    }

    fn plan(&self) -> Plan {
        plan(&self.observed, &self.settings, self.now)
    }

    fn desired(&self) -> Box<Desired> {
        match self.plan() {
            Plan::Converge(desired) => desired,
            other => panic!("expected a plan to converge, got {other:?}"),
        }
    }

    fn identity(&self) -> Identity {
        Identity::of(&self.observed.cluster, &self.settings.installation_id)
    }

    fn children(&mut self) -> &mut Children {
        self.observed.children.as_mut().expect("children")
    }

    fn condition(&self, type_: &str) -> Condition {
        let status = match self.plan() {
            Plan::Refuse(refused) => refused.status,
            Plan::Claim(foundation) => foundation.status,
            Plan::Wait(status) => status,
            Plan::Converge(desired) => desired.status,
            Plan::TearDown(step) => step.status,
            Plan::LetGo => panic!("no status"),
        };
        let found = status.conditions.into_iter().find(|c| c.type_ == type_);
        found.unwrap_or_else(|| panic!("no condition {type_}"))
    }

    /// Carries out plans until one changes nothing.
    fn settle(&mut self) {
        for _ in 0..6 {
            match self.plan() {
                Plan::Claim(foundation) => self.lay(*foundation),
                Plan::Converge(desired) => {
                    if is_quiet(&desired, &self.observed) {
                        return;
                    }
                    self.carry_out(*desired);
                }
                other => panic!("not settling: {other:?}"),
            }
        }
        panic!("does not settle");
    }

    fn lay(&mut self, foundation: Foundation) {
        self.hold(foundation.finalizer);
        put(&mut self.observed.namespace, foundation.namespace);
        put(&mut self.observed.role_binding, foundation.role_binding);
        self.observed.children = Some(Children::default());
    }

    fn hold(&mut self, finalizer: bool) {
        if finalizer {
            self.observed.cluster.metadata.finalizers = Some(vec![FINALIZER.into()]);
        }
    }

    fn carry_out(&mut self, desired: Desired) {
        let now = self.now;
        let local_key = desired.local_key;
        self.hold(desired.finalizer);
        put(&mut self.observed.namespace, desired.namespace);
        put(&mut self.observed.role_binding, desired.role_binding);
        put(&mut self.observed.publisher_binding, desired.publisher_binding);
        let custody = &mut self.observed.custody;
        let certificates = desired.certificates;
        let internal_ca = make_ca(&mut custody.internal_ca, certificates.internal_ca, now);
        let serving_ca = make_ca(&mut custody.serving_ca, certificates.serving_ca, now);
        make(&mut custody.operator_client, certificates.operator_client, &internal_ca, now);
        put(&mut custody.record, desired.record);
        let children = self.children();
        make(&mut children.serving_tls, certificates.serving, &serving_ca, now);
        make(&mut children.internal_tls, certificates.internal, &internal_ca, now);
        if desired.root_password == Draw::Create {
            children.root_password = Some(secret([("password", b"drawn".as_slice())]));
        }
        if local_key == Some(Draw::Create) {
            children.local_key = Some(secret([("key", [7u8; 32].as_slice())]));
        }
        put(&mut children.quota, desired.quota);
        put(&mut children.limit_range, desired.limit_range);
        put(&mut children.service_account, desired.service_account);
        put(&mut children.volume, desired.volume);
        put(&mut children.peers, desired.peers);
        put(&mut children.service, desired.service);
        put(&mut children.config, desired.config);
        put(&mut children.stateful_set, desired.stateful_set);
        for change in desired.network_policies {
            if let Change::Apply(mut policy) = change {
                let name = policy.name_any();
                policy.metadata.uid = Some(format!("uid-of-{name}"));
                children.network_policies.retain(|live| live.name_any() != name);
                children.network_policies.push(*policy);
            }
        }
        for orphan in desired.orphans {
            children.network_policies.retain(|live| live.name_any() != orphan.name);
        }
        self.observed.cluster.status = Some(desired.status);
    }

    /// What kubelet and engine would do.
    fn start_engine(&mut self) {
        let identity = self.identity();
        let serving = self.children().serving_tls.clone().expect("a certificate");
        let pem = serving.entry("tls.crt").and_then(Sensitive::reveal_text);
        let sha256 = crate::certificates::verify::fingerprint(pem.expect("PEM")).expect("PEM");
        let set = self.children().stateful_set.as_mut().expect("a workload");
        set.status = serde_yaml_ng::from_str(
            "{replicas: 1, readyReplicas: 1, updatedReplicas: 1, currentRevision: a, updateRevision: a}",
        )
        .expect("a status");
        let answer: EngineStatus = serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "clusterId": identity.cluster_id, "storeId": null, "bootId": "b",
            "state": "Serving", "key": {"state": "Accessible"},
            "servingCertificate": {"sha256": sha256},
        }))
        .expect("an answer");
        self.observed.engine = EngineView::Answered(Box::new(answer));
    }

    fn engine_says(&mut self, state: &str, key: &str) {
        let EngineView::Answered(answer) = &mut self.observed.engine else {
            panic!("the engine does not run");
        };
        answer.state = serde_json::from_value(state.into()).expect("a state");
        answer.key.state = serde_json::from_value(key.into()).expect("a state");
        answer.key.message = Some("AccessDeniedException".into());
    }

    fn delete(&mut self) {
        self.observed.cluster.metadata.deletion_timestamp =
            serde_json::from_str("\"2026-06-01T12:00:00Z\"").expect("a time");
    }
}

fn settings() -> Settings {
    Settings {
        installation_id: "test".into(),
        operator_namespace: "vectorkeep-system".into(),
        operator_service_account: "vectorkeep-operator".into(),
        operator_pod_labels: vec![("app.kubernetes.io/name".into(), "vectorkeep-operator".into())],
        engine_image: "localhost/engine@sha256:00".into(),
        kms_egress: Vec::new(),
        cluster_ranges: Vec::new(),
        monitoring_namespaces: Vec::new(),
        token_audience: "sts.amazonaws.com".into(),
    }
}

fn put<T>(place: &mut Option<T>, change: Change<T>) {
    if let Change::Apply(object) = change {
        *place = Some(*object);
    }
}

fn secret<const N: usize>(entries: [(&str, &[u8]); N]) -> SecretSeen {
    SecretSeen {
        uid: "uid-s".into(),
        resource_version: "1".into(),
        entries: entries.into_iter().map(|(key, value)| (key.to_owned(), Sensitive::new(value.to_vec()))).collect(),
    }
}

fn tls_secret(material: &TlsMaterial) -> SecretSeen {
    secret([
        ("tls.crt", material.certificate.as_bytes()),
        ("tls.key", material.key.reveal()),
        ("ca.crt", material.authority.as_bytes()),
    ])
}

fn make_ca(place: &mut Option<SecretSeen>, change: AuthorityChange, now: Timestamp) -> TlsMaterial {
    match change {
        AuthorityChange::Keep { material, .. } => material,
        AuthorityChange::Make { request, .. } => {
            let material = issue::authority(&request, now).expect("a CA");
            *place = Some(tls_secret(&material));
            material
        }
    }
}

fn make(place: &mut Option<SecretSeen>, change: LeafChange, authority: &TlsMaterial, now: Timestamp) {
    if let LeafChange::Make { request, .. } = change {
        let material = issue::leaf(&request, authority, now).expect("a certificate");
        *place = Some(tls_secret(&material));
    }
}

/// Whether carrying out the plan would write nothing.
fn is_quiet(desired: &Desired, observed: &Observed) -> bool {
    let Desired {
        identity: _,
        finalizer,
        namespace,
        role_binding,
        publisher_binding,
        quota,
        limit_range,
        network_policies,
        certificates,
        root_password,
        local_key,
        service_account,
        volume,
        peers,
        service,
        connection,
        record,
        config,
        stateful_set,
        orphans,
        status,
    } = desired;
    !finalizer
        && namespace.is_keep()
        && role_binding.is_keep()
        && publisher_binding.is_keep()
        && quota.is_keep()
        && limit_range.is_keep()
        && network_policies.iter().all(Change::is_keep)
        && certificates.internal_ca.validity().is_some()
        && certificates.serving_ca.validity().is_some()
        && certificates.serving.validity().is_some()
        && certificates.internal.validity().is_some()
        && certificates.operator_client.validity().is_some()
        && *root_password == Draw::Keep
        && *local_key != Some(Draw::Create)
        && service_account.is_keep()
        && volume.is_keep()
        && peers.is_keep()
        && service.is_keep()
        && connection.as_ref().is_some_and(|publication| !publication.refresh_authority)
        && record.is_keep()
        && config.is_keep()
        && stateful_set.is_keep()
        && orphans.is_empty()
        && observed.cluster.status.as_ref() == Some(status)
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
}

#[test]
fn a_new_resource_first_gets_a_namespace_and_the_operator_the_right_to_work_there() {
    let Plan::Claim(foundation) = World::new(LOCAL).plan() else {
        panic!("expected a claim");
    };
    assert!(foundation.finalizer);
    let Change::Apply(namespace) = foundation.namespace else {
        panic!("expected a namespace");
    };
    assert_eq!(namespace.name_any(), foundation.identity.namespace);
    assert_eq!(namespace.labels().get("pod-security.kubernetes.io/enforce"), Some(&"restricted".to_owned()));
}

#[test]
fn planning_again_after_everything_was_applied_changes_nothing() {
    for spec in [LOCAL, AWS] {
        let world = World::running(spec);
        assert!(is_quiet(&world.desired(), &world.observed));
        assert_eq!(world.condition(types::READY).status, "True");
        assert_eq!(world.condition(types::STALLED).status, "False");
    }
}

#[test]
fn deleting_the_status_changes_nothing_else() {
    let mut world = World::running(AWS);
    let before = world.desired();
    world.observed.cluster.status = None;
    let mut after = world.desired();
    after.status = before.status.clone();
    assert_eq!(before, after);
}

#[test]
fn a_namespace_that_is_somebody_elses_is_refused_until_an_administrator_consents() {
    let mut world = World::new(LOCAL);
    let identity = world.identity();
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(identity.namespace.clone());
    world.observed.namespace = Some(namespace);
    let Plan::Refuse(refused) = world.plan() else {
        panic!("expected a refusal");
    };
    assert_eq!(refused.refusal.reason(), "NamespaceNotOwned");
    let stalled = world.condition(types::STALLED);
    assert_eq!(stalled.status, "True");
    assert!(stalled.message.contains(&identity.namespace));

    let namespace = world.observed.namespace.as_mut().expect("there");
    let labels = namespace.metadata.labels.get_or_insert_default();
    labels.insert(LABEL_ADOPT.into(), identity.cluster_id);
    assert!(matches!(world.plan(), Plan::Claim(_)));
}

#[test]
fn the_data_of_another_namespaces_resource_is_not_taken_over_by_the_same_id() {
    let mut world = World::running("{clusterId: sharedid, encryption: {local: {}}}");
    world.observed.cluster.metadata.namespace = Some("intruder".into());
    assert!(matches!(world.plan(), Plan::Refuse(_)));
}

#[test]
fn a_lost_binding_is_bound_again_before_anything_is_judged_missing() {
    let mut world = World::running(LOCAL);
    world.observed.role_binding = None;
    world.observed.children = None;
    let Plan::Claim(foundation) = world.plan() else {
        panic!("expected a claim");
    };
    assert!(foundation.namespace.is_keep());
    assert!(!foundation.role_binding.is_keep());
}

#[test]
fn nothing_may_connect_unless_it_is_listed() {
    let mut world = World::new(AWS);
    world.settle();
    let names: Vec<String> = world.children().network_policies.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names[0], "default-deny");
    assert!(!names.contains(&"engine-clients".to_owned()));
}

#[test]
fn a_client_that_is_taken_off_the_list_loses_its_policy() {
    let mut world = World::new(&format!("{AWS}\nnetwork: {{clients: [{{podSelector: {{}}}}]}}"));
    world.settle();
    let clients = world
        .children()
        .network_policies
        .iter()
        .find(|policy| policy.name_any() == "engine-clients")
        .cloned()
        .expect("a policy");
    let rendered = text(&clients);
    assert!(rendered.contains("\"kubernetes.io/metadata.name\":\"acme\""));
    assert!(rendered.contains("19530") && !rendered.contains("9092"));

    world.observed.cluster.spec.network.clients.clear();
    let orphans = world.desired().orphans;
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].name, "engine-clients");
    assert_eq!(orphans[0].uid, "uid-of-engine-clients");
}

#[test]
fn the_admin_port_is_for_the_operators_pods_alone() {
    let mut world = World::new(AWS);
    world.settle();
    let admin: Vec<_> =
        world.children().network_policies.iter().filter(|policy| text(policy).contains("9092")).cloned().collect();
    assert_eq!(admin.len(), 1);
    let rendered = text(&admin[0]);
    assert!(rendered.contains("vectorkeep-system"));
    assert!(rendered.contains("\"app.kubernetes.io/name\":\"vectorkeep-operator\""));
}

#[test]
fn without_given_addresses_only_public_ones_on_443_can_be_reached_and_the_condition_says_so() {
    let mut world = World::new(AWS);
    world.settle();
    let policy = world
        .children()
        .network_policies
        .iter()
        .find(|policy| policy.name_any() == "engine-kms")
        .cloned()
        .expect("a policy");
    let rendered = text(&policy);
    for range in ["10.0.0.0/8", "169.254.0.0/16", "fe80::/10", "fc00::/7"] {
        assert!(rendered.contains(range), "{range} in {rendered}");
    }
    assert!(rendered.contains("\"port\":443"));
    let isolated = world.condition(types::NETWORK_ISOLATED);
    assert_eq!((isolated.status.as_str(), isolated.reason.as_str()), ("Unknown", "PoliciesApplied"));
    assert!(isolated.message.contains("every public address"));
}

#[test]
fn a_cluster_with_a_local_key_reaches_nothing_but_dns() {
    let mut world = World::new(LOCAL);
    world.settle();
    let egress: Vec<String> = world
        .children()
        .network_policies
        .iter()
        .filter(|policy| text(policy).contains("\"egress\""))
        .map(ResourceExt::name_any)
        .collect();
    assert_eq!(egress, ["engine-dns"]);
}

#[test]
fn a_resource_cannot_open_egress_to_link_local_or_cluster_ranges() {
    for cidr in ["169.254.169.254/32", "10.1.0.0/16", "0.0.0.0/0", "fe80::/64", "::ffff:10.0.0.0/104"] {
        let mut world = World::new(&format!("{AWS}\nnetwork: {{egress: [{{cidr: \"{cidr}\"}}]}}"));
        let Plan::Refuse(refused) = world.plan() else {
            panic!("{cidr} was not refused");
        };
        assert_eq!(refused.refusal.reason(), "EgressRefused", "{cidr}");
        // Once the cluster's own ranges are known, other private addresses may be a private endpoint.
        world.settings.cluster_ranges = vec!["10.96.0.0/12".parse().expect("a range")];
        let known = matches!(world.plan(), Plan::Refuse(_));
        assert_eq!(known, cidr != "10.1.0.0/16", "{cidr}");
    }
}

#[test]
fn addresses_of_the_installation_are_taken_as_they_are() {
    let mut world = World::new(AWS);
    world.settings.kms_egress = vec!["10.244.0.0/16:8443".parse().expect("valid")];
    world.settle();
    let policies = text(&world.children().network_policies);
    assert!(policies.contains("10.244.0.0/16") && policies.contains("8443"));
    assert!(!policies.contains("0.0.0.0/0"));
}

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
fn another_engine_image_on_offer_restarts_nothing_and_is_reported() {
    let mut world = World::running(AWS);
    world.settings.engine_image = "localhost/engine@sha256:01".into();
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.config.is_keep());
    assert_eq!(world.condition(types::UP_TO_DATE).reason, "NewerImageOffered");
    assert_eq!(world.condition(types::READY).status, "True");
}

#[test]
fn a_lost_record_restarts_nothing() {
    let mut world = World::running(AWS);
    world.settings.engine_image = "localhost/engine@sha256:01".into();
    world.observed.custody.record = None;
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.config.is_keep());
    let Change::Apply(record) = desired.record else {
        panic!("the record is written again");
    };
    assert_eq!(record.name_any(), record_name(&world.identity().cluster_id));
    assert!(text(&record).contains("sha256:00"));
}

#[test]
fn a_change_of_the_resource_rolls_out_and_takes_the_image_on_offer() {
    let mut world = World::running(AWS);
    world.settings.engine_image = "localhost/engine@sha256:01".into();
    world.observed.cluster.spec.encryption.check_interval = "20s".into();
    let desired = world.desired();
    let Change::Apply(set) = &desired.stateful_set else {
        panic!("expected a rollout");
    };
    assert!(text(set).contains("sha256:01"));
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

#[test]
fn certificates_are_renewed_at_two_thirds_and_not_before() {
    let mut world = World::running(AWS);
    world.now += SignedDuration::from_hours(59 * 24);
    assert!(is_quiet(&world.desired(), &world.observed));
    world.now += SignedDuration::from_hours(48);
    let certificates = world.desired().certificates;
    for leaf in [&certificates.serving, &certificates.internal, &certificates.operator_client] {
        assert!(matches!(leaf, LeafChange::Make { replaces: Some(_), .. }), "{leaf:?}");
    }
    assert!(certificates.serving_ca.validity().is_some());
    world.settle();
    // The engine still shows the certificate before.
    assert_eq!(world.condition(types::CERTIFICATES_VALID).reason, "Reloading");
}

#[test]
fn a_lost_ca_is_made_anew_with_its_certificates_and_published_again() {
    let mut world = World::running(AWS);
    world.observed.custody.serving_ca = None;
    let certificates = world.desired().certificates;
    assert!(matches!(certificates.serving, LeafChange::Make { .. }));
    assert!(matches!(certificates.internal, LeafChange::Keep { .. }));
    world.carry_out(*world.desired());
    let connection = world.desired().connection.expect("a right to publish");
    assert!(connection.refresh_authority);
}

#[test]
fn a_drawn_password_is_never_drawn_again() {
    let mut world = World::running(LOCAL);
    world.children().root_password = Some(secret([]));
    assert_eq!(world.desired().root_password, Draw::Keep);
}

#[test]
fn a_damaged_local_key_is_left_for_a_person_to_restore() {
    let mut world = World::running(LOCAL);
    world.children().local_key = Some(secret([("key", b"short".as_slice())]));
    let Plan::Refuse(refused) = world.plan() else {
        panic!("expected a refusal");
    };
    assert!(refused.refusal.to_string().contains("restore it from a backup"));
}

#[test]
fn a_refused_key_names_the_key_and_the_remedy() {
    let mut world = World::running(AWS);
    world.engine_says("Locked", "Refused");
    for type_ in [types::READY, types::KEY_ACCESSIBLE] {
        let condition = world.condition(type_);
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "KeyRefused"));
        for part in ["1234abcd-12ab", "role/vector", "kubectl vectorkeep key-policy -n acme support", "AccessDenied"] {
            assert!(condition.message.contains(part), "{part}");
        }
    }
    assert_eq!(world.condition(types::STALLED).status, "True");
    assert!(world.desired().stateful_set.is_keep());
}

#[test]
fn a_silent_kms_is_not_a_refusal() {
    let mut world = World::running(AWS);
    world.engine_says("Serving", "Unreachable");
    assert_eq!(world.condition(types::KEY_ACCESSIBLE).reason, "KeyUnreachable");
    assert_eq!(world.condition(types::STALLED).status, "False");
    assert_eq!(world.condition(types::RECONCILING).status, "True");
}

#[test]
fn a_local_key_is_called_development_only_loudly() {
    let world = World::running(LOCAL);
    let condition = world.condition(types::KEY_ACCESSIBLE);
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "DevelopmentKey"));
    assert!(condition.message.starts_with("DEVELOPMENT ONLY"));
}

#[test]
fn an_engine_that_does_not_answer_is_unknown() {
    let mut world = World::running(AWS);
    world.observed.engine = EngineView::Silent { reason: "no connection".into() };
    assert_eq!(world.condition(types::READY).status, "Unknown");
    assert_eq!(world.condition(types::KEY_ACCESSIBLE).status, "Unknown");
}

#[test]
fn a_pod_that_cannot_be_scheduled_is_told_with_its_reason() {
    let mut world = World::running(AWS);
    world.observed.engine = EngineView::NotAsked;
    world.children().stateful_set.as_mut().expect("a workload").status = None;
    world.children().pod = serde_yaml_ng::from_str(
        "{status: {conditions: [{type: PodScheduled, status: 'False', message: Insufficient memory}]}}",
    )
    .expect("a pod");
    let ready = world.condition(types::READY);
    assert_eq!(ready.reason, "EngineStarting");
    assert!(ready.message.contains("Insufficient memory"));
}

#[test]
fn retaining_stops_the_engine_and_keeps_volume_keys_and_passwords() {
    let mut world = World::running(AWS);
    let set = world.children().stateful_set.as_mut().expect("a workload");
    set.metadata.uid = Some("uid-set".into());
    world.delete();
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(!step.finished);
    let kinds: Vec<DeletedKind> = step.deletions.iter().map(|deletion| deletion.kind).collect();
    assert!(kinds.contains(&DeletedKind::StatefulSet));
    assert!(kinds.iter().all(|kind| matches!(kind, DeletedKind::StatefulSet | DeletedKind::Service)));

    world.children().stateful_set = None;
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(step.finished);
    let Change::Apply(namespace) = step.released else {
        panic!("the namespace is marked");
    };
    assert_eq!(namespace.labels().get(LABEL_RELEASED), Some(&"true".to_owned()));
}

#[test]
fn a_resource_made_again_takes_its_data_up_again() {
    let mut world = World::running(AWS);
    let identity = world.identity();
    world.observed.namespace = Some(namespace::released(&identity));
    world.observed.cluster.metadata.uid = Some("uid-2".into());
    world.observed.cluster.metadata.finalizers = None;
    let desired = world.desired();
    let Change::Apply(namespace) = &desired.namespace else {
        panic!("the mark is taken away");
    };
    assert!(!namespace.labels().contains_key(LABEL_RELEASED));
    assert_eq!(desired.root_password, Draw::Keep);
    assert!(desired.certificates.serving_ca.validity().is_some());
}

#[test]
fn deleting_removes_the_namespace_first_and_the_keys_only_when_it_is_gone() {
    let mut world = World::running(AWS);
    world.observed.cluster.spec.deletion_policy = vectorkeep_crds::DeletionPolicy::Delete;
    let namespace = world.observed.namespace.as_mut().expect("a namespace");
    namespace.metadata.uid = Some("uid-ns".into());
    world.delete();
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(!step.finished);
    assert_eq!(step.deletions.len(), 1);
    assert_eq!((step.deletions[0].kind, step.deletions[0].uid.as_str()), (DeletedKind::Namespace, "uid-ns"));

    world.observed.namespace = None;
    world.observed.children = None;
    let record = world.observed.custody.record.as_mut().expect("a record");
    record.metadata.uid = Some("uid-record".into());
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(step.finished);
    assert_eq!(step.deletions.len(), 4);
}

#[test]
fn a_foreign_namespace_survives_the_deletion_of_a_resource() {
    let mut world = World::new("{encryption: {local: {}}, deletionPolicy: Delete}");
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(world.identity().namespace);
    namespace.metadata.uid = Some("uid-foreign".into());
    world.observed.namespace = Some(namespace);
    world.hold(true);
    world.delete();
    let Plan::TearDown(step) = world.plan() else {
        panic!("expected a teardown");
    };
    assert!(step.finished && step.deletions.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_valid_resource_settles_and_planning_is_idempotent(
        local in any::<bool>(),
        memory in 1u32..64,
        size in 1u32..500,
        check in 1u32..60,
        clients in 0usize..3,
        egress in 0usize..3,
        hours in 1u32..8760,
    ) {
        let mut spec: VectorClusterSpec =
            serde_yaml_ng::from_str(if local { LOCAL } else { AWS }).expect("valid");
        spec.resources = serde_yaml_ng::from_str(&format!("{{requests: {{cpu: 1000m, memory: {memory}Gi}}}}"))
            .expect("valid");
        spec.storage.volume.size = format!("{size}Gi");
        spec.encryption.check_interval = format!("{check}s");
        spec.tls.duration = format!("{hours}h");
        spec.network.clients = vec![serde_yaml_ng::from_str("{cidr: 203.0.113.0/24}").expect("valid"); clients];
        spec.network.egress = vec![serde_yaml_ng::from_str("{cidr: 203.0.113.7/32}").expect("valid"); egress];
        let mut world = World::new("{encryption: {local: {}}}");
        world.observed.cluster.spec = spec;
        world.settle();
        world.start_engine();
        world.settle();
        prop_assert_eq!(world.plan(), world.plan());
        prop_assert!(is_quiet(&world.desired(), &world.observed));
    }
}
