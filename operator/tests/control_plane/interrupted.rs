//! What comes between the beginning of an upgrade and its end.

use super::{
    rollout::{PATCHED_AT_ONCE, assert_fleet_at_rest, patch, play_to_the_end, upgrade},
    *,
};

/// A cluster that waits for the pod of a patch, with its operator and its engine.
async fn in_the_middle(world: &World) -> (Operator, Engines) {
    let (operator, engines) = ready(world, PATCHED_AT_ONCE).await;
    world.offer(&[("0.1.1", &patch())]);
    world.until("the upgrade to begin", || async { upgrade(world).await?.in_progress }).await;
    (operator, engines)
}

#[tokio::test]
async fn a_status_that_is_deleted_in_the_middle_of_an_upgrade_changes_nothing_of_its_end() {
    let world = World::new().await;
    let (operator, engines) = in_the_middle(&world).await;
    let before = upgrade(&world).await.expect("told").in_progress.expect("begun");
    world.delete_status("support");
    let after = world.until("the status to be told again", || async { upgrade(&world).await?.in_progress }).await;
    assert_eq!((&after.from, &after.to, &after.started), (&before.from, &before.to, &before.started));
    play_to_the_end(&world, &engines).await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_key_that_is_refused_in_the_middle_of_an_upgrade_suspends_its_verdict_and_blames_nobody() {
    let world = World::new().await;
    let (operator, engines) = in_the_middle(&world).await;
    let id = world.cluster_id("support");
    engines.say(&id, "Locked", "Refused", "DisabledException");
    world.until_condition("support", "KeyAccessible", "False", "KeyRefused").await;
    // The gates' deadline passes meanwhile, twice.
    tokio::time::sleep(Duration::from_secs(2 * GATE_SECONDS)).await;
    let suspended = upgrade(&world).await.expect("told");
    assert!(suspended.in_progress.is_some() && suspended.history.is_empty(), "{suspended:?}");
    engines.say(&id, "Serving", "Accessible", "");
    play_to_the_end(&world, &engines).await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}

#[tokio::test]
async fn a_cluster_that_is_deleted_in_the_middle_of_an_upgrade_goes_and_gives_its_place_back() {
    let world = World::new().await;
    let (operator, _engines) = in_the_middle(&world).await;
    world.clusters().delete("support", &DeleteParams::default()).await.expect("deleted");
    ending::assert_gone(&world).await;
    assert_fleet_at_rest(&world).await;
    assert_clean(&world, &operator).await;
    world.clean_up().await;
}
