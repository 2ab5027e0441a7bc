//! Changes of the resource, new operators, and patches.

use vectorkeep_crds::status::UpgradeStatus;

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

/// A cluster whose window is always open.
pub const PATCHED_AT_ONCE: &str = "
encryption: {local: {}}
deletionPolicy: Delete
upgrade: {window: {schedule: '* * * * *', duration: 1h}}
";

/// What there is to be run.
const RELEASES: [(char, &str); 3] = [('b', "0.1.0"), ('c', "0.1.1"), ('d', "0.1.2")];

/// The image of a patch, 0.1.1.
pub fn patch() -> String {
    image("engine", 'c')
}

/// Plays kubelet and the StatefulSet controller for whatever template is wanted, for as long as the test runs: its pod
/// is ready at once, and its engine says which release it is.
pub async fn play(world: &World, engines: &Engines) {
    let Some(wanted) = image_of(world).await else { return };
    if let Some((_, version)) = RELEASES.iter().find(|(digit, _)| image("engine", *digit) == wanted) {
        engines.say_version(&world.cluster_id("support"), version);
    }
    world.pod_is_ready("support").await;
}

/// The image that the workload wants.
pub async fn image_of(world: &World) -> Option<String> {
    let sets: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.data_plane("support"));
    let template = sets.get_opt("engine").await.ok()??.spec?.template.spec?;
    template.containers.first()?.image.clone()
}

/// What the status tells of upgrades.
pub async fn upgrade(world: &World) -> Option<UpgradeStatus> {
    world.clusters().get_opt("support").await.ok()??.status?.upgrade
}

/// Plays until the upgrade is reported.
pub async fn play_to_the_end(world: &World, engines: &Engines) {
    world
        .until("a report", || async {
            play(world, engines).await;
            upgrade(world).await?.history.first().map(|_| ())
        })
        .await;
    assert_done_once(world).await;
}

/// What is left of an upgrade that nothing disturbed, whatever did.
pub async fn assert_done_once(world: &World) {
    world.until_condition("support", "UpToDate", "True", "Current").await;
    world.until_condition("support", "Ready", "True", "Serving").await;
    let upgrade = upgrade(world).await.expect("a report");
    let reports: Vec<_> = upgrade.history.iter().map(|it| (it.outcome.as_str(), it.to.as_str())).collect();
    assert_eq!(reports, [("Succeeded", "0.1.1")]);
    assert_eq!(upgrade.in_progress, None);
    assert_eq!(image_of(world).await, Some(patch()));
    assert_fleet_at_rest(world).await;
}

/// Nobody moves, and nothing is kept from anybody.
pub async fn assert_fleet_at_rest(world: &World) {
    let fleets: Api<ConfigMap> = Api::namespaced(world.client.clone(), OPERATOR_NAMESPACE);
    let fleet = fleets.get("upgrade-fleet").await.expect("there").data.expect("data");
    assert_eq!(fleet["moving.json"], "{}");
    assert!(!fleet.values().any(|value| value.contains(&patch())), "{fleet:?}");
}
