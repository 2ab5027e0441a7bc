//! The end of a cluster, and its return.

use super::*;

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
    world.pod_goes_with_its_workload("support").await;
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
    // Not compared by a macro that would print them.
    assert!(secrets.get("engine-root-password").await.expect("there").data == password, "the password is kept");
    assert!(secrets.get("engine-local-key").await.expect("there").data == key, "the key is kept");
    assert_eq!(volumes.get("engine-data").await.expect("there").uid(), volume);
    let namespace = namespaces.get(&data_plane).await.expect("there");
    assert!(!namespace.labels().contains_key("vectorkeep.dev/released"));
    world.clean_up().await;
}

/// Waits until a cluster that is deleted for good is gone, and everything of it.
pub async fn assert_gone(world: &World) {
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
}

#[tokio::test]
async fn deleting_for_good_leaves_nothing_behind() {
    let world = World::new().await;
    let spec = "{encryption: {local: {}}, deletionPolicy: Delete}";
    let (operator, _engines) = ready(&world, spec).await;
    world.clusters().delete("support", &DeleteParams::default()).await.expect("deleted");
    assert_gone(&world).await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}
