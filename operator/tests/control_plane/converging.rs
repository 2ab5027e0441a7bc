//! Everything converges, and then rests.

use serde::Serialize;

use super::*;

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
    // Not compared by a macro that would print them.
    assert!(entry("token") == format!("root:{}", entry("password")), "the token is user and password");
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
    assert!(drawn["password"] == given["password"], "given as drawn");
    let serving = data_plane.get("engine-serving-tls").await.expect("a secret").data.expect("data");
    assert_eq!(serving["ca.crt"], given["ca.crt"]);
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn every_child_that_is_edited_is_put_right() {
    let world = World::new().await;
    let (_operator, engines) = ready(&world, AWS).await;
    let data_plane = world.data_plane("support");
    let open = json!({"spec": {"ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}});
    edited_and_back::<NetworkPolicy>(&world, &data_plane, "default-deny", open, "/spec").await;
    let nobody = json!({"spec": {"podSelector": {"matchLabels": {"app": "none"}}}});
    edited_and_back::<NetworkPolicy>(&world, &data_plane, "default-deny", nobody, "/spec").await;
    let evil = json!({"spec": {"selector": {"app": "evil", "vectorkeep.dev/component": null}}});
    edited_and_back::<Service>(&world, &data_plane, "engine", evil.clone(), "/spec/selector").await;
    edited_and_back::<Service>(&world, &data_plane, "engine-peers", evil, "/spec/selector").await;
    let other = json!({"subjects": [{"kind": "ServiceAccount", "name": "evil", "namespace": "default"}]});
    edited_and_back::<RoleBinding>(&world, &data_plane, "vectorkeep-operator", other, "/subjects").await;
    let mounted = json!({"automountServiceAccountToken": true});
    edited_and_back::<ServiceAccount>(&world, &data_plane, "engine", mounted, "/automountServiceAccountToken").await;
    let wide = json!({"spec": {"hard": {"pods": "1000"}}});
    edited_and_back::<ResourceQuota>(&world, &data_plane, "data-plane", wide, "/spec/hard/pods").await;
    let none = json!({"spec": {"limits": []}});
    edited_and_back::<LimitRange>(&world, &data_plane, "data-plane", none, "/spec/limits").await;
    let stopped = json!({"spec": {"replicas": 0}});
    edited_and_back::<StatefulSet>(&world, &data_plane, "engine", stopped, "/spec/replicas").await;
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &data_plane);
    let place = "/spec/template/spec/containers";
    let live = serde_json::to_value(sets.get("engine").await.expect("there")).expect("JSON");
    let beside = json!([live.pointer(place).expect("containers")[0], {"name": "beside", "image": image("evil", 'e')}]);
    let joined = json!({"spec": {"template": {"spec": {"containers": beside}}}});
    edited_and_back::<StatefulSet>(&world, &data_plane, "engine", joined, place).await;
    let configs: Api<ConfigMap> = Api::namespaced(world.client.clone(), &data_plane);
    let config = configs.get("engine-config").await.expect("there").data.expect("entries");
    let emptied: serde_json::Map<_, _> = config.keys().map(|entry| (entry.clone(), "".into())).collect();
    edited_and_back::<ConfigMap>(&world, &data_plane, "engine-config", json!({"data": emptied}), "/data").await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let enforced = "pod-security.kubernetes.io/enforce";
    let lax = json!({"metadata": {"labels": {enforced: "privileged"}}});
    namespaces.patch(&data_plane, &PatchParams::default(), &Patch::Merge(lax)).await.expect("edited");
    world
        .until("the namespace's label", || async {
            let namespace = namespaces.get(&data_plane).await.ok()?;
            (namespace.labels()[enforced] == "restricted").then_some(())
        })
        .await;
    let garbage = json!({"stringData": {"tls.crt": "garbage"}});
    for name in ["engine-serving-tls", "engine-internal-tls"] {
        let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &data_plane);
        secrets.patch(name, &PatchParams::default(), &Patch::Merge(&garbage)).await.expect("edited");
        world
            .until("a certificate", || async {
                let data = secrets.get(name).await.ok()?.data?;
                data["tls.crt"].0.starts_with(b"-----BEGIN").then_some(())
            })
            .await;
    }
    engines.run(&world.client, &world.cluster_id("support")).await;
    world.pod_is_ready("support").await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.clean_up().await;
}

/// Not the volume, and not what was drawn by chance for the data on it: nobody can bring those back.
#[tokio::test]
async fn every_child_that_is_deleted_comes_back() {
    let world = World::new().await;
    let (_operator, engines) = ready(&world, AWS).await;
    let (id, data_plane) = (world.cluster_id("support"), world.data_plane("support"));
    let policies: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &data_plane);
    for policy in policies.list(&ListParams::default()).await.expect("listed") {
        gone_and_back::<NetworkPolicy>(&world, &data_plane, &policy.name_any()).await;
    }
    gone_and_back::<Service>(&world, &data_plane, "engine").await;
    gone_and_back::<Service>(&world, &data_plane, "engine-peers").await;
    gone_and_back::<ServiceAccount>(&world, &data_plane, "engine").await;
    gone_and_back::<ResourceQuota>(&world, &data_plane, "data-plane").await;
    gone_and_back::<LimitRange>(&world, &data_plane, "data-plane").await;
    gone_and_back::<ConfigMap>(&world, &data_plane, "engine-config").await;
    gone_and_back::<RoleBinding>(&world, &data_plane, "vectorkeep-operator").await;
    gone_and_back::<RoleBinding>(&world, &world.namespace, "vectorkeep-publisher-support").await;
    gone_and_back::<Secret>(&world, &world.namespace, "support-connection").await;
    gone_and_back::<Secret>(&world, &data_plane, "engine-serving-tls").await;
    gone_and_back::<Secret>(&world, &data_plane, "engine-internal-tls").await;
    for name in [format!("operator-client-{id}"), format!("ca-serving-{id}"), format!("ca-internal-{id}")] {
        gone_and_back::<Secret>(&world, OPERATOR_NAMESPACE, &name).await;
    }
    gone_and_back::<ConfigMap>(&world, OPERATOR_NAMESPACE, &format!("record-{id}")).await;
    gone_and_back::<StatefulSet>(&world, &data_plane, "engine").await;

    // The certificates were made anew; the engine takes a moment to show them.
    world.pod_is_ready("support").await;
    world
        .until("the engine to be understood again", || async {
            engines.run(&world.client, &id).await;
            let condition = world.condition("support", "Ready").await?;
            (condition.status == "True").then_some(())
        })
        .await;
    world.until_condition("support", "CertificatesValid", "True", "Valid").await;
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

/// Changes an object, and waits until the part of it at `place` is as it was.
async fn edited_and_back<T>(world: &World, namespace: &str, name: &str, edit: Value, place: &str)
where
    T: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<T> = Api::namespaced(world.client.clone(), namespace);
    let part = |object: &T| serde_json::to_value(object).expect("JSON").pointer(place).cloned();
    let before = part(&api.get(name).await.expect("there"));
    let edited = api.patch(name, &PatchParams::default(), &Patch::Merge(edit)).await.expect("edited");
    assert_ne!(part(&edited), before, "{} {name} was not changed", T::kind(&()));
    world
        .until(&format!("{} {name} to be put right", T::kind(&())), || async {
            (part(&api.get(name).await.ok()?) == before).then_some(())
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
    world.delete_status("support");
    world.until_condition("support", "Ready", "True", "Serving").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(before, versions(&world).await);
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
