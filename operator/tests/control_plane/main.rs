//! The operator against a real API server, with the rights and under the admission policies that the chart installs.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chart;
mod converging;
mod dying;
mod ending;
mod faults;
mod interrupted;
mod issuer;
mod notifications;
mod refusal;
mod rights;
mod rollout;
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
use support::{Flags, GATE_SECONDS, OPERATOR_NAMESPACE, Operator, World, engine::Engines, image, kubectl, try_kubectl};

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
