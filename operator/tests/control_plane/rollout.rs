//! Changes of the resource, new operators, and patches.

use super::*;

#[tokio::test]
async fn a_change_of_the_resource_rolls_out_and_a_new_operator_rolls_nothing() {
    let world = World::new().await;
    let (operator, engines) = ready(&world, AWS).await;
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let generation = || async { sets.get("engine").await.expect("there").metadata.generation };
    let first = generation().await;

    // A new version of the operator, which renders another pod; and a patch on offer.
    operator.kill();
    let _operator = world.start(&Flags {
        pod_annotations: vec!["example.com/team=search".into()],
        connect_to: Some(engines.address()),
        ..Flags::default()
    });
    world.offer(&[("0.1.1", &image("engine", 'c'))]);
    world.until_condition("support", "UpToDate", "False", "PatchOffered").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    assert_eq!(generation().await, first);

    world.apply("support", &AWS.replace("encryption:", "encryption:\n  checkInterval: 20s")).await;
    world.until("a rollout", || async { (generation().await != first).then_some(()) }).await;
    let template = sets.get("engine").await.expect("there").spec.expect("a spec").template;
    assert_eq!(template.metadata.expect("metadata").annotations.expect("annotations")["example.com/team"], "search");
    let image_now = template.spec.expect("a spec").containers[0].image.clone();
    assert_eq!(image_now, Some(image("engine", 'b')), "the patch waits for its window");
    world.until_condition("support", "Ready", "False", "EngineStarting").await;
    world.pod_is_ready("support").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    world.clean_up().await;
}

/// Plays kubelet and the StatefulSet controller for whatever template is wanted, for as long as the test runs: the pod
/// of 0.1.1 is ready at once, and its engine says so.
pub async fn play(world: &World, engines: &Engines, versions: &[(String, &str)]) {
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let Ok(Some(set)) = sets.get_opt("engine").await else { return };
    let image = set.spec.and_then(|spec| spec.template.spec?.containers.first()?.image.clone());
    if let Some((_, version)) = versions.iter().find(|(known, _)| Some(known) == image.as_ref()) {
        engines.say_version(&world.cluster_id("support"), version);
    }
    world.pod_is_ready("support").await;
}

#[tokio::test]
async fn killed_at_any_moment_of_an_upgrade_the_operator_ends_it_as_if_undisturbed() {
    let world = World::new().await;
    let spec = "{encryption: {local: {}}, upgrade: {window: {schedule: '* * * * *', duration: 1h}}}";
    let (operator, engines) = ready(&world, spec).await;
    operator.kill();
    let versions = [(image("engine", 'b'), "0.1.0"), (image("engine", 'c'), "0.1.1")];
    world.offer(&[("0.1.1", &versions[1].0)]);
    let flags = Flags { connect_to: Some(engines.address()), ..Flags::default() };
    for attempt in 0..6u64 {
        let operator = world.start(&flags);
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(120 + 60 * attempt)).await;
            play(&world, &engines, &versions).await;
        }
        operator.kill();
    }
    let operator = world.start(&flags);
    let report = world
        .until("a report", || async {
            play(&world, &engines, &versions).await;
            let cluster = world.clusters().get("support").await.ok()?;
            cluster.status?.upgrade?.history.first().cloned()
        })
        .await;
    assert_eq!((report.outcome.as_str(), report.to.as_str()), ("Succeeded", "0.1.1"));
    world.until_condition("support", "UpToDate", "True", "Current").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    let history = world.clusters().get("support").await.expect("there").status.and_then(|status| status.upgrade);
    assert_eq!(history.map(|upgrade| upgrade.history.len()), Some(1), "it was done once");
    let fleets: Api<ConfigMap> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let fleet = fleets.get("upgrade-fleet").await.expect("there").data.expect("data");
    assert_eq!(fleet["moving.json"], "{}");
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}
