//! An API server that fails now and then, and a leader that falls asleep: the end is that of an undisturbed run.

use super::{rollout::play, support::proxy::Proxy, *};

#[tokio::test]
async fn a_failing_api_server_delays_a_cluster_and_its_upgrade_and_changes_nothing_of_their_outcome() {
    let world = World::new().await;
    let engines = Engines::start().await;
    let proxy = Proxy::start(world.kubeconfig()).await;
    let flags = Flags { connect_to: Some(engines.address()), api_server: Some(proxy.url()), ..Flags::default() };
    // A reconcile makes some thirty requests: every other one fails somewhere.
    proxy.fail_every(29);
    let operator = world.start(&flags);
    world.apply("support", "{encryption: {local: {}}, upgrade: {window: {schedule: '* * * * *', duration: 1h}}}").await;
    become_ready(&world, &engines).await;

    let versions = [(image("engine", 'b'), "0.1.0"), (image("engine", 'c'), "0.1.1")];
    world.offer(&[("0.1.1", &versions[1].0)]);
    let report = world
        .until("a report", || async {
            play(&world, &engines, &versions).await;
            world.clusters().get("support").await.ok()?.status?.upgrade?.history.first().cloned()
        })
        .await;
    assert_eq!((report.outcome.as_str(), report.to.as_str()), ("Succeeded", "0.1.1"));
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.until_condition("support", "UpToDate", "True", "Current").await;
    // One of each kind, at least: how many requests there are depends on how fast the machine is.
    assert!(proxy.failed() >= 5, "only {} requests failed", proxy.failed());
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
    assert_eq!(drawn["password"], given["password"], "drawn once");
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
    let spec = "{encryption: {local: {}}, upgrade: {window: {schedule: '* * * * *', duration: 1h}}}";
    let (operator, engines) = ready(&world, spec).await;
    operator.kill();
    let versions = [(image("engine", 'b'), "0.1.0"), (image("engine", 'c'), "0.1.1")];
    let flags =
        |instance: &str| Flags { instance: instance.into(), connect_to: Some(engines.address()), ..Flags::default() };
    let first = world.start(&flags("operator-1"));
    world.until("a leader", || async { first.log().contains("\"leading\"").then_some(()) }).await;
    let second = world.start(&flags("operator-2"));
    world.offer(&[("0.1.1", &versions[1].0)]);
    let upgrade = || async { world.clusters().get("support").await.ok()?.status?.upgrade };
    world.until("the upgrade to begin", || async { upgrade().await?.in_progress }).await;
    first.signal("STOP");
    world
        .until("the second to end it", || async {
            play(&world, &engines, &versions).await;
            upgrade().await?.history.first().cloned()
        })
        .await;
    assert!(second.log().contains("\"leading\""));
    first.signal("CONT");
    world.until("the end of the first", || async { first.log().contains("ends at once").then_some(()) }).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let history = upgrade().await.expect("a status").history;
    assert_eq!(history.iter().map(|report| report.outcome.as_str()).collect::<Vec<_>>(), ["Succeeded"]);
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let image_now = sets.get("engine").await.expect("there").spec.expect("a spec").template.spec.expect("a spec");
    assert_eq!(image_now.containers[0].image.as_ref(), Some(&versions[1].0));
    world.clean_up().await;
}
