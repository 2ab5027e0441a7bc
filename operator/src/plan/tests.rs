//! Plans for small worlds. A world is what would be observed; `World::settle` plays the API server.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use proptest::prelude::*;
use vectorkeep_crds::{
    EngineCatalog, EngineCatalogSpec, EngineRelease, VectorCluster, VectorClusterSpec,
    status::Condition,
    well_known::{FINALIZER, LABEL_ADOPT, LABEL_RELEASED},
};

use super::{
    certificates::{Authority, AuthorityChange, LeafChange, Own, Serving},
    conditions::types,
    config_map::CONFIG_FILE,
    record::record_name,
    *,
};
use crate::{
    admin::{EngineStatus, EngineView},
    certificates::{TlsMaterial, issue},
    observed::{Custody, Issuance, SecretSeen},
    sensitive::Sensitive,
};

mod ca_rotation;
mod client_auth;
mod isolation;
mod issuer_ref;
mod network;
mod notifications;
mod ownership;
mod secrets;
mod status;
mod teardown;
mod upgrades;
mod workload;

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
                catalog: Some(catalog(&["0.1.0"])),
                canaries: Vec::new(),
                control: BTreeMap::new(),
                others: Vec::new(),
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
        make(&mut custody.operator_client, certificates.operator_client, &internal_ca, now);
        put(&mut custody.notified, desired.notified);
        put(&mut custody.record, desired.record);
        if let FleetChange::Write { object, replaces } = desired.fleet {
            let seen = custody.fleet.as_ref().and_then(|fleet| fleet.metadata.resource_version.clone());
            assert_eq!(replaces, seen, "the fleet is replaced in the version that was read");
            let mut object = *object;
            object.metadata.resource_version = Some(format!("{}+", seen.unwrap_or_default()));
            custody.fleet = Some(object);
        }
        if let Serving::Own(own) = certificates.serving {
            let Own { ca, leaf, client, hitch: _ } = *own;
            let ca = make_ca(&mut custody.serving_ca, ca, now);
            if let Some(client) = client {
                make(&mut custody.client, client, &ca, now);
            }
            make(&mut self.children().serving_tls, leaf, &ca, now);
        }
        let children = self.children();
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
        if let Change::Apply(mut order) = desired.order {
            order.metadata.uid = Some("uid-of-order".into());
            children.issuance = Issuance::Ordered(order);
        }
        for change in desired.network_policies {
            if let Change::Apply(mut policy) = change {
                let name = policy.name_any();
                policy.metadata.uid = Some(format!("uid-of-{name}"));
                children.network_policies.retain(|live| live.name_any() != name);
                children.network_policies.push(*policy);
            }
        }
        for orphan in desired.orphans {
            children.pod = children.pod.take().filter(|pod| pod.metadata.uid.as_ref() != Some(&orphan.uid));
            children.network_policies.retain(|live| live.name_any() != orphan.name);
            if orphan.kind == DeletedKind::Certificate {
                children.issuance = Issuance::None;
            }
        }
        self.observed.cluster.status = Some(desired.status);
    }

    /// What kubelet and engine would do.
    fn start_engine(&mut self) {
        let identity = self.identity();
        let serving = self.children().serving_tls.clone().expect("a certificate");
        let pem = serving.entry("tls.crt").and_then(Sensitive::reveal_text);
        let sha256 = crate::certificates::verify::fingerprint(pem.expect("PEM")).expect("PEM");
        let (ready, now) = (r#"{type: Ready, status: "True", lastTransitionTime: "NOW"}"#, self.now.to_string());
        let set = self.children().stateful_set.as_mut().expect("a workload");
        let version = version_in(set);
        let revision = format!("revision-{version}");
        set.status = serde_yaml_ng::from_str(&format!(
            "{{replicas: 1, readyReplicas: 1, updatedReplicas: 1, currentRevision: {revision}, updateRevision: {revision}}}"
        ))
        .expect("a status");
        let pod = format!(
            "{{metadata: {{name: engine-0, uid: pod-{version}, labels: {{controller-revision-hash: {revision}}}}},
              status: {{conditions: [{ready}], containerStatuses: [{{name: engine, ready: true, restartCount: 0,
                        image: x, imageID: x}}]}}}}"
        );
        self.children().pod = serde_yaml_ng::from_str(&pod.replace("NOW", &now)).expect("a pod");
        let answer: EngineStatus = serde_json::from_value(serde_json::json!({
            "version": version, "clusterId": identity.cluster_id, "storeId": null, "bootId": "b",
            "state": "Serving", "key": {"state": "Accessible"},
            "servingCertificate": {"sha256": sha256},
            "shards": [{"databaseId": "d1", "slot": 0, "epoch": 3, "highWater": 1}],
            "selfTest": {"passed": true, "message": ""},
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
        isolation_probes: Vec::new(),
        isolation_targets: Vec::new(),
        pod_annotations: Vec::new(),
        concurrent_upgrades: 1,
        gate_deadline: SignedDuration::from_mins(5),
        kms_egress: Vec::new(),
        cluster_ranges: Vec::new(),
        monitoring_namespaces: Vec::new(),
        token_audience: "sts.amazonaws.com".into(),
        notification_targets: Vec::new(),
    }
}

/// A catalog with these versions.
fn catalog(versions: &[&str]) -> EngineCatalog {
    let release = |version: &&str| EngineRelease {
        version: (*version).to_owned(),
        image: image(version),
        format: 1,
        ..EngineRelease::default()
    };
    EngineCatalog::new("vectorkeep", EngineCatalogSpec { releases: versions.iter().map(release).collect() })
}

/// The image of a version. Nothing here asks for a real digest.
fn image(version: &str) -> String {
    format!("localhost/engine@sha256:{version}")
}

/// The version that a workload's template asks for.
fn version_in(set: &StatefulSet) -> String {
    let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).expect("a template");
    let image = spec.containers[0].image.as_ref().expect("an image");
    image.rsplit(':').next().expect("a version").to_owned()
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
        owner: Some(("acme".into(), "support".into())),
        by_cert_manager: false,
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
    let (signer, authority) = match change {
        AuthorityChange::Keep(authority) => return authority.signer(),
        AuthorityChange::Make { request, honoured, .. } => {
            let authority = Authority::new(issue::authority(&request, now).expect("a CA"), honoured);
            (authority.signer(), authority)
        }
        AuthorityChange::Distribute { authority, request, honoured, .. } => {
            let next = issue::authority(&request, now).expect("a CA");
            (authority.signer(), authority.joined_by(next, honoured))
        }
        AuthorityChange::Advance { authority, .. } => (authority.signer(), authority),
    };
    let entries = authority.entries().into_iter().map(|(key, value)| (key, Sensitive::new(value.0))).collect();
    *place = Some(SecretSeen { entries, ..secret([]) });
    signer
}

fn make(place: &mut Option<SecretSeen>, change: LeafChange, authority: &TlsMaterial, now: Timestamp) {
    let material = match change {
        LeafChange::Keep { .. } => return,
        LeafChange::Rebundle { material, .. } => material,
        LeafChange::Make { request, .. } => issue::leaf(&request, authority, now).expect("a certificate"),
    };
    *place = Some(tls_secret(&material));
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
        fleet,
        notified,
        record,
        news: _,
        config,
        stateful_set,
        order,
        orphans,
        next_look: _,
        status,
    } = desired;
    !finalizer
        && namespace.is_keep()
        && role_binding.is_keep()
        && publisher_binding.is_keep()
        && quota.is_keep()
        && limit_range.is_keep()
        && network_policies.iter().all(Change::is_keep)
        && certificates.internal_ca.is_keep()
        && certificates.serving.is_keep()
        && certificates.internal.is_keep()
        && certificates.operator_client.is_keep()
        && *root_password == Draw::Keep
        && *local_key != Some(Draw::Create)
        && service_account.is_keep()
        && volume.is_keep()
        && peers.is_keep()
        && service.is_keep()
        && connection.as_ref().is_none_or(|publication| !publication.refresh_authority && !publication.refresh_client)
        && *fleet == FleetChange::Keep
        && notified.is_keep()
        && record.is_keep()
        && config.is_keep()
        && stateful_set.is_keep()
        && order.is_keep()
        && orphans.is_empty()
        && observed.cluster.status.as_ref() == Some(status)
}

fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("JSON")
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
