//! The operator against a real API server, with the rights and under the admission policies that the chart installs.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{collections::BTreeMap, fmt::Debug, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, LimitRange, Namespace, PersistentVolumeClaim, ResourceQuota, Secret, Service, ServiceAccount,
        },
        events::v1::Event,
        networking::v1::NetworkPolicy,
        rbac::v1::RoleBinding,
    },
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::{Flags, OPERATOR_NAMESPACE, Operator, World, engine::Engines, image, try_kubectl};

const LOCAL: &str = "{encryption: {local: {}}, network: {clients: [{podSelector: {}}]}}";
const AWS: &str = "
encryption:
  aws:
    keyArn: arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
    roleArn: arn:aws:iam::111122223333:role/vector
network: {clients: [{podSelector: {}}], egress: [{cidr: 203.0.113.0/24}]}
";

/// A cluster `support` that is Ready, its operator, and the engine that answers for it.
async fn ready(world: &World, spec: &str) -> (Operator, Engines) {
    let engines = Engines::start().await;
    let operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.apply("support", spec).await;
    become_ready(world, &engines).await;
    (operator, engines)
}

async fn become_ready(world: &World, engines: &Engines) {
    world.until_condition("support", "Ready", "False", "EngineStarting").await;
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    world.until("a workload", || async { sets.get_opt("engine").await.ok().flatten() }).await;
    engines.run(&world.client, &world.cluster_id("support")).await;
    world.pod_is_ready("support").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
}

/// Every object of the cluster `support` with its version, secrets by name only where their content is none of a test's
/// business.
async fn versions(world: &World) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let data_plane = world.data_plane("support");
    all::<ServiceAccount>(world, &data_plane, &mut versions).await;
    all::<ConfigMap>(world, &data_plane, &mut versions).await;
    all::<Secret>(world, &data_plane, &mut versions).await;
    all::<Service>(world, &data_plane, &mut versions).await;
    all::<StatefulSet>(world, &data_plane, &mut versions).await;
    all::<PersistentVolumeClaim>(world, &data_plane, &mut versions).await;
    all::<NetworkPolicy>(world, &data_plane, &mut versions).await;
    all::<ResourceQuota>(world, &data_plane, &mut versions).await;
    all::<LimitRange>(world, &data_plane, &mut versions).await;
    all::<RoleBinding>(world, &data_plane, &mut versions).await;
    all::<RoleBinding>(world, &world.namespace, &mut versions).await;
    all::<Secret>(world, &world.namespace, &mut versions).await;
    all::<Secret>(world, OPERATOR_NAMESPACE, &mut versions).await;
    all::<ConfigMap>(world, OPERATOR_NAMESPACE, &mut versions).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = namespaces.get(&data_plane).await.expect("a namespace");
    versions.insert("Namespace".into(), namespace.resource_version().unwrap_or_default());
    versions
}

async fn all<T>(world: &World, namespace: &str, versions: &mut BTreeMap<String, String>)
where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<T> = Api::namespaced(world.client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("vectorkeep.dev/cluster-id={}", world.cluster_id("support")));
    for object in api.list(&ours).await.expect("listed") {
        let key = format!("{} {namespace}/{}", T::kind(&()), object.name_any());
        versions.insert(key, object.resource_version().unwrap_or_default());
    }
}

/// Nothing in the operator's log is worse than a warning, and nothing that was drawn or made is in it.
async fn assert_clean(world: &World, operator: &Operator) {
    let log = operator.log();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert_ne!(entry["level"], "ERROR", "{line}");
    }
    let secrets: Api<Secret> = Api::all(world.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=vectorkeep-operator");
    for secret in secrets.list(&ours).await.expect("listed") {
        for (key, value) in secret.data.iter().flatten() {
            let public = ["uri", "username"].contains(&key.as_str()) || key.ends_with(".crt");
            let text = String::from_utf8_lossy(&value.0).into_owned();
            assert!(public || !log.contains(text.trim()), "{} {key} is in the log", secret.name_any());
        }
    }
}

#[tokio::test]
async fn a_first_reconcile_creates_everything_in_order_and_the_cluster_becomes_ready() {
    let world = World::new().await;
    let (operator, _engines) = ready(&world, AWS).await;

    let found = versions(&world).await;
    let data_plane = world.data_plane("support");
    let id = world.cluster_id("support");
    for name in [
        format!("NetworkPolicy {data_plane}/default-deny"),
        format!("NetworkPolicy {data_plane}/engine-clients"),
        format!("NetworkPolicy {data_plane}/engine-operator"),
        format!("NetworkPolicy {data_plane}/engine-dns"),
        format!("NetworkPolicy {data_plane}/engine-kms"),
        format!("ResourceQuota {data_plane}/data-plane"),
        format!("LimitRange {data_plane}/data-plane"),
        format!("Secret {data_plane}/engine-serving-tls"),
        format!("Secret {data_plane}/engine-internal-tls"),
        format!("Secret {data_plane}/engine-root-password"),
        format!("ServiceAccount {data_plane}/engine"),
        format!("PersistentVolumeClaim {data_plane}/engine-data"),
        format!("Service {data_plane}/engine"),
        format!("Service {data_plane}/engine-peers"),
        format!("ConfigMap {data_plane}/engine-config"),
        format!("StatefulSet {data_plane}/engine"),
        format!("Secret {}/support-connection", world.namespace),
        format!("Secret {OPERATOR_NAMESPACE}/ca-internal-{id}"),
        format!("Secret {OPERATOR_NAMESPACE}/ca-serving-{id}"),
        format!("Secret {OPERATOR_NAMESPACE}/operator-client-{id}"),
        format!("ConfigMap {OPERATOR_NAMESPACE}/record-{id}"),
    ] {
        assert!(found.contains_key(&name), "{name} is missing in {found:#?}");
    }

    // Denial before anything that could talk, keys before the workload that needs them: in the order in which the API
    // server saw the creations (its audit log).
    let created = world.creations(&data_plane);
    let position = |resource: &str, name: &str| {
        created
            .iter()
            .position(|(r, n)| r == resource && n == name)
            .unwrap_or_else(|| panic!("{resource}/{name} was not created: {created:?}"))
    };
    let deny = position("networkpolicies", "default-deny");
    assert!(deny < position("secrets", "engine-serving-tls"));
    assert!(position("secrets", "engine-serving-tls") < position("statefulsets", "engine"));
    assert!(position("configmaps", "engine-config") < position("statefulsets", "engine"));

    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let connection = secrets.get("support-connection").await.expect("a secret");
    let entry = |key: &str| {
        let data = connection.data.as_ref().expect("data");
        String::from_utf8(data[key].0.clone()).expect("text")
    };
    assert_eq!(entry("uri"), format!("https://engine.{data_plane}.svc.cluster.local:19530"));
    assert_eq!(entry("token"), format!("root:{}", entry("password")));
    assert!(entry("ca.crt").starts_with("-----BEGIN CERTIFICATE-----"));

    let status = world.clusters().get("support").await.expect("there").status.expect("a status");
    assert_eq!(status.cluster_id.as_deref(), Some(id.as_str()));
    assert_eq!(status.version.as_deref(), Some("0.1.0"));
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn once_settled_nothing_is_written_however_often_it_is_looked_at() {
    let world = World::new().await;
    let (operator, _engines) = ready(&world, LOCAL).await;
    world.until_condition("support", "KeyAccessible", "True", "DevelopmentKey").await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = (versions(&world).await, world.clusters().get("support").await.expect("there").resource_version());
    // Several resyncs, and a successor that knows nothing.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(operator.stop().await);
    let engines = Engines::start().await;
    engines.run(&world.client, &world.cluster_id("support")).await;
    let operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.until("a reconcile", || async { operator.log().contains("\"leading\"").then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut after = (versions(&world).await, world.clusters().get("support").await.expect("there").resource_version());
    // A successor has not heard the engine yet when it first looks, and says so in the status.
    after.1.clone_from(&before.1);
    assert_eq!(before, after);
    world.clean_up().await;
}

#[tokio::test]
async fn killed_at_any_moment_of_a_first_reconcile_it_converges_and_draws_nothing_twice() {
    let world = World::new().await;
    let engines = Engines::start().await;
    let flags = Flags { connect_to: Some(engines.address()), ..Flags::default() };
    world.apply("support", LOCAL).await;
    for attempt in 0..8u64 {
        let operator = world.start(&flags);
        // Longer each time, so that each life gets a little further.
        tokio::time::sleep(Duration::from_millis(250 + 90 * attempt)).await;
        operator.kill();
    }
    let operator = world.start(&flags);
    become_ready(&world, &engines).await;
    let data_plane: Api<Secret> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let customer: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let drawn = data_plane.get("engine-root-password").await.expect("a secret").data.expect("data");
    let given = customer.get("support-connection").await.expect("a secret").data.expect("data");
    assert_eq!(drawn["password"], given["password"]);
    let serving = data_plane.get("engine-serving-tls").await.expect("a secret").data.expect("data");
    assert_eq!(serving["ca.crt"], given["ca.crt"]);
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn children_that_are_edited_or_deleted_are_repaired() {
    let world = World::new().await;
    let (_operator, engines) = ready(&world, AWS).await;
    let data_plane = world.data_plane("support");

    let services: Api<Service> = Api::namespaced(world.client.clone(), &data_plane);
    let evil = json!({"spec": {"selector": {"app": "evil"}}});
    services.patch("engine", &PatchParams::default(), &Patch::Merge(evil)).await.expect("edited");
    world
        .until("the service's selector", || async {
            let service = services.get("engine").await.ok()?;
            let selector = service.spec?.selector?;
            selector.contains_key("vectorkeep.dev/component").then_some(())
        })
        .await;

    gone_and_back::<NetworkPolicy>(&world, &data_plane, "default-deny").await;
    gone_and_back::<ConfigMap>(&world, &data_plane, "engine-config").await;
    gone_and_back::<RoleBinding>(&world, &data_plane, "vectorkeep-operator").await;
    gone_and_back::<Secret>(&world, &data_plane, "engine-serving-tls").await;
    gone_and_back::<Secret>(&world, &world.namespace, "support-connection").await;
    gone_and_back::<ConfigMap>(&world, OPERATOR_NAMESPACE, &format!("record-{}", world.cluster_id("support"))).await;
    gone_and_back::<StatefulSet>(&world, &data_plane, "engine").await;

    // The serving certificate was made anew; the engine takes a moment to show it.
    world.pod_is_ready("support").await;
    world.until_condition("support", "CertificatesValid", "False", "Reloading").await;
    engines.run(&world.client, &world.cluster_id("support")).await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.clean_up().await;
}

async fn gone_and_back<T>(world: &World, namespace: &str, name: &str)
where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let api: Api<T> = Api::namespaced(world.client.clone(), namespace);
    let uid = api.get(name).await.expect("there").uid();
    api.delete(name, &DeleteParams::default()).await.expect("deleted");
    world
        .until(&format!("{} {name} to come back", T::kind(&())), || async {
            let object = api.get_opt(name).await.ok()??;
            (object.uid() != uid).then_some(())
        })
        .await;
}

#[tokio::test]
async fn deleting_the_status_changes_nothing_but_the_status() {
    let world = World::new().await;
    let (_operator, _engines) = ready(&world, LOCAL).await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = versions(&world).await;
    let mut cluster = world.clusters().get("support").await.expect("there");
    cluster.status = None;
    let patch = json!([{"op": "remove", "path": "/status"}]);
    let _ = try_kubectl(
        world.kubeconfig(),
        &[
            "patch",
            "vcl",
            "support",
            "-n",
            &world.namespace,
            "--subresource=status",
            "--type=json",
            "-p",
            &patch.to_string(),
        ],
        "",
    )
    .expect("the status is deleted");
    world.until_condition("support", "Ready", "True", "Serving").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(before, versions(&world).await);
    world.clean_up().await;
}

#[tokio::test]
async fn a_namespace_that_is_there_already_is_refused_until_an_administrator_consents() {
    let world = World::new().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let foreign: Namespace =
        serde_json::from_value(json!({"metadata": {"name": world.data_plane("support")}})).expect("valid");
    namespaces.create(&PostParams::default(), &foreign).await.expect("created");
    let operator = world.start(&Flags::default());
    world.apply("support", LOCAL).await;
    let stalled = world.until_condition("support", "Stalled", "True", "NamespaceNotOwned").await;
    assert!(stalled.message.contains("vectorkeep.dev/adopt"), "{}", stalled.message);
    assert!(versions(&world).await.keys().all(|key| key == "Namespace"));

    let consent = json!({"metadata": {"labels": {"vectorkeep.dev/adopt": world.cluster_id("support")}}});
    namespaces
        .patch(&world.data_plane("support"), &PatchParams::default(), &Patch::Merge(consent))
        .await
        .expect("labelled");
    world.until_condition("support", "Ready", "False", "EngineStarting").await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_refused_key_is_reported_with_its_remedy_and_service_returns_by_itself() {
    let world = World::new().await;
    // Without a word about the network: public addresses only, and nobody may connect.
    let spec = AWS.lines().filter(|line| !line.starts_with("network:")).collect::<Vec<_>>().join("\n");
    let (_operator, engines) = ready(&world, &spec).await;
    let id = world.cluster_id("support");
    engines.say(&id, "Locked", "Refused", "AccessDeniedException");
    let condition = world.until_condition("support", "Ready", "False", "KeyRefused").await;
    for part in ["key/1234abcd", "role/vector", "kubectl vectorkeep key-policy", "AccessDenied"] {
        assert!(condition.message.contains(part), "{part}");
    }
    world.until_condition("support", "KeyAccessible", "False", "KeyRefused").await;
    world.until_condition("support", "Stalled", "True", "KeyRefused").await;

    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    world
        .until("an Event", || async {
            let events = events.list(&ListParams::default()).await.ok()?;
            events
                .iter()
                .any(|event| event.reason.as_deref() == Some("KeyRefused") && event.type_.as_deref() == Some("Warning"))
                .then_some(())
        })
        .await;

    engines.end(&id);
    world.until_condition("support", "KeyAccessible", "Unknown", "EngineSilent").await;
    world.until_condition("support", "Ready", "Unknown", "EngineSilent").await;

    engines.run(&world.client, &id).await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_change_of_the_resource_rolls_out_and_a_new_operator_rolls_nothing() {
    let world = World::new().await;
    let (operator, engines) = ready(&world, AWS).await;
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let generation = || async { sets.get("engine").await.expect("there").metadata.generation };
    let first = generation().await;

    // A new version of the operator, which offers another image.
    operator.kill();
    let operator = world.start(&Flags {
        engine_image: image("engine", 'c'),
        connect_to: Some(engines.address()),
        ..Flags::default()
    });
    world.until_condition("support", "UpToDate", "False", "NewerImageOffered").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    assert_eq!(generation().await, first);
    operator.kill();

    let _operator = world.start(&Flags { connect_to: Some(engines.address()), ..Flags::default() });
    world.apply("support", &AWS.replace("encryption:", "encryption:\n  checkInterval: 20s")).await;
    world.until("a rollout", || async { (generation().await != first).then_some(()) }).await;
    world.until_condition("support", "Ready", "False", "EngineStarting").await;
    world.pod_is_ready("support").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.clean_up().await;
}

#[tokio::test]
async fn retained_data_is_taken_up_again_by_a_resource_of_the_same_name() {
    let world = World::new().await;
    let (_operator, engines) = ready(&world, LOCAL).await;
    let data_plane = world.data_plane("support");
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &data_plane);
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(world.client.clone(), &data_plane);
    let password = secrets.get("engine-root-password").await.expect("there").data;
    let key = secrets.get("engine-local-key").await.expect("there").data;
    let volume = volumes.get("engine-data").await.expect("there").uid();

    world.clusters().delete("support", &DeleteParams::default()).await.expect("deleted");
    world
        .until("the resource to go", || async {
            world.clusters().get_opt("support").await.ok()?.is_none().then_some(())
        })
        .await;
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &data_plane);
    assert!(sets.get_opt("engine").await.expect("readable").is_none());
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = namespaces.get(&data_plane).await.expect("there");
    assert_eq!(namespace.labels().get("vectorkeep.dev/released"), Some(&"true".to_owned()));
    assert_eq!(volumes.get("engine-data").await.expect("there").uid(), volume);
    // The customer's copy goes with the resource that owned it.
    let customer: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    world
        .until("the connection secret to go", || async {
            customer.get_opt("support-connection").await.ok()?.is_none().then_some(())
        })
        .await;

    world.apply("support", LOCAL).await;
    become_ready(&world, &engines).await;
    assert_eq!(secrets.get("engine-root-password").await.expect("there").data, password);
    assert_eq!(secrets.get("engine-local-key").await.expect("there").data, key);
    assert_eq!(volumes.get("engine-data").await.expect("there").uid(), volume);
    let namespace = namespaces.get(&data_plane).await.expect("there");
    assert!(!namespace.labels().contains_key("vectorkeep.dev/released"));
    world.clean_up().await;
}

#[tokio::test]
async fn deleting_for_good_leaves_nothing_behind() {
    let world = World::new().await;
    let spec = "{encryption: {local: {}}, deletionPolicy: Delete}";
    let (operator, _engines) = ready(&world, spec).await;
    world.clusters().delete("support", &DeleteParams::default()).await.expect("deleted");
    world
        .until("the resource to go", || async {
            world.clusters().get_opt("support").await.ok()?.is_none().then_some(())
        })
        .await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    assert!(namespaces.get_opt(&world.data_plane("support")).await.expect("readable").is_none());
    let id = world.cluster_id("support");
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    for name in [format!("ca-internal-{id}"), format!("ca-serving-{id}"), format!("operator-client-{id}")] {
        assert!(secrets.get_opt(&name).await.expect("readable").is_none(), "{name}");
    }
    let records: Api<ConfigMap> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    assert!(records.get_opt(&format!("record-{id}")).await.expect("readable").is_none());
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn of_two_operators_one_works_and_the_other_takes_over() {
    let world = World::new().await;
    let first = world.start(&Flags { instance: "operator-1".into(), ..Flags::default() });
    let holder = || async {
        let leases: Api<Lease> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
        leases.get_opt("vectorkeep-operator").await.ok()??.spec?.holder_identity
    };
    world.until("a leader", || async { (holder().await.as_deref() == Some("operator-1")).then_some(()) }).await;
    let second = world.start(&Flags { instance: "operator-2".into(), ..Flags::default() });
    world.apply("support", LOCAL).await;
    world.until_condition("support", "Ready", "False", "EngineStarting").await;
    assert!(!second.log().contains("\"leading\""));

    // In good order: at once.
    assert!(first.stop().await);
    world.until("a successor", || async { (holder().await.as_deref() == Some("operator-2")).then_some(()) }).await;

    // Without a word: when the lease ends.
    let third = world.start(&Flags { instance: "operator-3".into(), ..Flags::default() });
    second.kill();
    world.until("a successor", || async { (holder().await.as_deref() == Some("operator-3")).then_some(()) }).await;

    // Whoever has lost it, ends.
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let theft = json!({"spec": {"holderIdentity": "thief"}});
    leases.patch("vectorkeep-operator", &PatchParams::default(), &Patch::Merge(theft)).await.expect("stolen");
    world
        .until("the end of the one that lost", || async { third.log().contains("this one ends at once").then_some(()) })
        .await;
    leases.delete("vectorkeep-operator", &DeleteParams::default()).await.expect("given back");
    world.clean_up().await;
}

#[tokio::test]
async fn invalid_resources_are_refused_with_a_message_that_names_the_field() {
    let world = World::new().await;
    let cases = [
        ("{encryption: {}}", "exactly one of aws and local"),
        (
            "{encryption: {local: {}, aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws:iam::111122223333:role/r'}}}",
            "exactly one of aws and local",
        ),
        ("{encryption: {local: {}, checkInterval: 2m}}", "encryption.checkInterval"),
        ("{encryption: {local: {}, checkInterval: soon}}", "encryption.checkInterval"),
        ("{encryption: {local: {}, outageGrace: 48h}}", "encryption.outageGrace"),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:alias/a', roleArn: 'arn:aws:iam::111122223333:role/r'}}}",
            "encryption.aws.keyArn",
        ),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws:iam::1:role/r'}}}",
            "encryption.aws.roleArn",
        ),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws-cn:iam::111122223333:role/r'}}}",
            "same AWS partition",
        ),
        (
            "{encryption: {aws: {keyArn: 'arn:aws:kms:eu-central-1:111122223333:key/1', roleArn: 'arn:aws:iam::111122223333:role/r', endpoints: {kms: 'http://kms'}}}}",
            "endpoints.kms",
        ),
        ("{encryption: {local: {}}, replicas: 2}", "spec.replicas"),
        ("{encryption: {local: {}}, clusterId: UPPER1}", "spec.clusterId"),
        (
            "{encryption: {local: {}}, resources: {requests: {memory: 4Gi}, limits: {memory: 2Gi}}}",
            "resources.limits.memory",
        ),
        ("{encryption: {local: {}}, resources: {requests: {memory: lots}}}", "resources.requests.memory"),
        ("{encryption: {local: {}}, storage: {volume: {size: big}}}", "storage.volume.size"),
        ("{encryption: {local: {}}, network: {clients: [{}]}}", "network.clients"),
        ("{encryption: {local: {}}, network: {clients: [{cidr: 10.0.0.0/8, podSelector: {}}]}}", "network.clients"),
        ("{encryption: {local: {}}, network: {clients: [{cidr: ten}]}}", "network.clients"),
        ("{encryption: {local: {}}, network: {egress: [{cidr: 1.2.3.4}]}}", "network.egress"),
        ("{encryption: {local: {}}, network: {egress: [{cidr: 1.2.3.4/32, ports: [0]}]}}", "ports"),
        ("{encryption: {local: {}}, tls: {duration: 1m}}", "tls.duration"),
        ("{encryption: {local: {}}, tls: {dnsNames: ['*.acme.example']}}", "tls.dnsNames"),
        ("{encryption: {local: {}}, deletionPolicy: Shred}", "deletionPolicy"),
    ];
    for (spec, field) in cases {
        let error = world.try_apply("wrong", spec).await.expect_err(spec).to_string();
        assert!(error.contains(field), "{spec}: {error}");
    }
    let long = "n".repeat(53);
    let error = world.try_apply(&long, LOCAL).await.expect_err("too long").to_string();
    assert!(error.contains("metadata.name"), "{error}");
    world
        .try_apply("right", "{encryption: {local: {}}, resources: {requests: {cpu: 2, memory: 4Gi}}}")
        .await
        .expect("accepted");
    world.clean_up().await;
}

#[tokio::test]
async fn what_cannot_be_served_yet_cannot_be_changed() {
    let world = World::new().await;
    let base = AWS.trim().to_owned() + "\nclusterId: sharedid\nstorage: {volume: {size: 20Gi, storageClassName: fast}}";
    world.apply("fixed", &base).await;
    let changes = [
        ("key/1234abcd", "key/9999abcd", "keyArn"),
        ("sharedid", "otherid", "clusterId"),
        ("\nclusterId: sharedid", "", "clusterId"),
        ("size: 20Gi", "size: 10Gi", "size"),
        ("storageClassName: fast", "storageClassName: slow", "storageClassName"),
        ("network:", "tls: {dnsNames: [a.acme.example]}\nnetwork:", "dnsNames"),
    ];
    for (from, to, field) in changes {
        let spec = base.replace(from, to);
        assert_ne!(spec, base);
        let error = world.try_apply("fixed", &spec).await.expect_err(field).to_string();
        assert!(error.contains(field), "{field}: {error}");
        assert!(error.contains("can"), "{error}");
    }
    let local =
        base.lines().filter(|line| !line.contains("aws") && !line.contains("Arn")).collect::<Vec<_>>().join("\n");
    let error = world
        .try_apply("fixed", &local.replace("encryption:", "encryption: {local: {}}"))
        .await
        .expect_err("provider")
        .to_string();
    assert!(error.contains("provider can't be changed"), "{error}");
    world
        .try_apply("fixed", &base.replace("size: 20Gi", "size: 30Gi").replace("role/vector", "role/other"))
        .await
        .expect("accepted");
    world.clean_up().await;
}

#[tokio::test]
async fn the_operator_can_do_what_it_needs_and_nothing_else() {
    let world = World::new().await;
    let kubeconfig = world.operator_kubeconfig();
    let allowed = |arguments: &[&str]| try_kubectl(&kubeconfig, &[&["auth", "can-i"], arguments].concat(), "").is_ok();
    assert!(allowed(&["list", "vectorclusters.vectorkeep.dev", "-A"]));
    for forbidden in [
        &["list", "secrets", "-A"][..],
        &["get", "secrets", "-n", "kube-system"],
        &["get", "secrets", "-n", &world.namespace],
        &["list", "pods", "-A"],
        &["get", "configmaps", "-n", &world.namespace],
        &["create", "statefulsets.apps", "-n", &world.namespace],
        &["create", "clusterrolebindings"],
        &["escalate", "clusterroles"],
        &["bind", "clusterrole/cluster-admin"],
        &["patch", "validatingadmissionpolicies"],
        &["patch", "customresourcedefinitions"],
        &["update", "vectorclusters.vectorkeep.dev", "-n", &world.namespace],
    ] {
        assert!(!allowed(forbidden), "{forbidden:?} is allowed");
    }
    // What rights can't say, admission says.
    let denied = |manifest: &str, part: &str| {
        let error = try_kubectl(&kubeconfig, &["create", "-f", "-"], &format!("---\n{manifest}")).expect_err(manifest);
        assert!(error.contains(part), "{manifest}: {error}");
    };
    denied("{apiVersion: v1, kind: Namespace, metadata: {name: mine}}", "vk-<cluster id>");
    denied(
        "{apiVersion: v1, kind: Namespace, metadata: {name: vk-vc1234, labels: {vectorkeep.dev/cluster-id: vc1234, vectorkeep.dev/data-plane: 'true'}}}",
        "restricted",
    );
    let binding = |role: &str, namespace: &str| {
        format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: x, namespace: {namespace}}}, \
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}, \
             subjects: [{{kind: ServiceAccount, name: vectorkeep-operator, namespace: {OPERATOR_NAMESPACE}}}]}}"
        )
    };
    denied(&binding("cluster-admin", "kube-system"), "forbidden");
    denied(&binding("vectorkeep-data-plane", "kube-system"), "data-plane namespaces only");
    denied(&binding("vectorkeep-publisher", &world.namespace), "for a VectorCluster only");
    let error = try_kubectl(&kubeconfig, &["label", "namespace", "kube-system", "vectorkeep.dev/data-plane=true"], "")
        .expect_err("denied");
    assert!(error.contains("vk-<cluster id>"), "{error}");
    let error = try_kubectl(&kubeconfig, &["delete", "namespace", &world.namespace], "").expect_err("denied");
    assert!(error.contains("vk-<cluster id>"), "{error}");

    // In the namespaces that it is bound in, it writes what it must and no more.
    let (_operator, _engines) = ready(&world, LOCAL).await;
    let data_plane = world.data_plane("support");
    let secret = |namespace: &str, name: &str, type_: &str| {
        format!("{{apiVersion: v1, kind: Secret, type: '{type_}', metadata: {{name: {name}, namespace: {namespace}}}}}")
    };
    denied(&secret(&world.namespace, "mine", "Opaque"), "connection secrets only");
    denied(&secret(&data_plane, "other", "Opaque"), "connection secrets only");
    for forbidden in [
        &["get", "secrets/support-connection", "-n", &world.namespace][..],
        &["get", "secrets/other", "-n", &data_plane],
        &["delete", "secrets", "-n", &data_plane],
        &["delete", "persistentvolumeclaims", "-n", &data_plane],
        &["create", "pods", "-n", &data_plane],
        &["create", "pods", "--subresource=exec", "-n", &data_plane],
        &["create", "serviceaccounts", "--subresource=token", "-n", &data_plane],
    ] {
        assert!(!allowed(forbidden), "{forbidden:?} is allowed");
    }
    let evil =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image("evil", 'e')}]);
    let error = try_kubectl(
        &kubeconfig,
        &["patch", "statefulset", "engine", "-n", &data_plane, "--type=json", "-p", &evil.to_string()],
        "",
    )
    .expect_err("denied");
    assert!(error.contains("engine image of the chart only"), "{error}");
    world.clean_up().await;
}
