//! An API server that fails now and then, and a leader that falls asleep: the end is that of an undisturbed run.

use super::{
    rollout::{PATCHED_AT_ONCE, assert_done_once, patch, play, play_to_the_end, upgrade},
    support::proxy::{FAULTS, Proxy},
    *,
};

#[tokio::test]
async fn a_failing_api_server_delays_a_cluster_and_its_upgrade_and_changes_nothing_of_their_outcome() {
    let world = World::new().await;
    let engines = Engines::start().await;
    let proxy = Proxy::start(world.kubeconfig()).await;
    let flags = Flags { connect_to: Some(engines.address()), api_server: Some(proxy.url()), ..Flags::default() };
    // A reconcile makes some thirty requests: every other one fails somewhere.
    proxy.fail_every(29);
    let operator = world.start(&flags);
    world.apply("support", PATCHED_AT_ONCE).await;
    become_ready(&world, &engines).await;

    world.offer(&[("0.1.1", &patch())]);
    play_to_the_end(&world, &engines).await;
    let faults = proxy.faults();
    assert!(FAULTS.iter().all(|fault| faults.contains(fault)), "not every fault came: {faults:?}");
    let stale = proxy.stale();
    for kind in ["networkpolicies", "vectorclusters"] {
        assert!(stale.iter().any(|list| list.contains(kind)), "no list of {kind} was stale: {stale:?}");
    }

    proxy.fail_every(0);
    world.until_condition("support", "Stalled", "False", "Settled").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = super::versions(&world).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(before, super::versions(&world).await, "and then it rests");
    let drawn: Api<Secret> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let customer: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
    let drawn = drawn.get("engine-root-password").await.expect("a secret").data.expect("data");
    let given = customer.get("support-connection").await.expect("a secret").data.expect("data");
    assert!(drawn["password"] == given["password"], "drawn once");
    for line in operator.log().lines() {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let provoked = entry["target"].as_str().is_some_and(|target| target.starts_with("kube_client"));
        assert!(entry["level"] != "ERROR" || provoked, "{line}");
    }
    world.clean_up().await;
}

#[tokio::test]
async fn a_leader_that_falls_asleep_during_an_upgrade_undoes_nothing_when_it_wakes() {
    let world = World::new().await;
    let (operator, engines) = ready(&world, PATCHED_AT_ONCE).await;
    operator.kill();
    let flags =
        |instance: &str| Flags { instance: instance.into(), connect_to: Some(engines.address()), ..Flags::default() };
    let first = world.start(&flags("operator-1"));
    world.until("a leader", || async { first.log().contains("\"leading\"").then_some(()) }).await;
    let second = world.start(&flags("operator-2"));
    world.offer(&[("0.1.1", &patch())]);
    world.until("the upgrade to begin", || async { upgrade(&world).await?.in_progress }).await;
    first.signal("STOP");
    world
        .until("the second to end it", || async {
            play(&world, &engines).await;
            upgrade(&world).await?.history.first().cloned()
        })
        .await;
    assert!(second.log().contains("\"leading\""));
    first.signal("CONT");
    world.until("the end of the first", || async { first.log().contains("ends at once").then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_done_once(&world).await;
    world.clean_up().await;
}
