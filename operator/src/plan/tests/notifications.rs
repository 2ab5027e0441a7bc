//! Advisories, and what is told of them and of upgrades.

use vectorkeep_crds::Severity;

use super::{
    upgrades::{IN_WINDOW, MONDAY, offered},
    *,
};
use crate::notify::ledger::dispatch;

/// A running cluster of 0.1.0, at this time, with 0.1.1 on offer, which answers an advisory, and this target.
fn lacking(now: &str, target: &str) -> World {
    let mut world = offered(now, &["0.1.0", "0.1.1"]);
    let releases = &mut world.observed.catalog.as_mut().expect("a catalog").spec.releases;
    releases[1].severity = Severity::Security;
    releases[1].advisories = vec!["CVE-2026-0001".into()];
    world.settings.notification_targets = vec![target.into()];
    world
}

/// Types of the events that a target has not accepted, by name.
fn owed(world: &World, target: &str) -> Vec<&'static str> {
    let mut dispatch = dispatch(&world.observed, &world.settings).expect("a record");
    let events = dispatch.owed.remove(target).unwrap_or_default();
    let short = |type_: &'static str| type_.trim_start_matches("dev.vectorkeep.").trim_end_matches(".v1");
    let mut types: Vec<_> = events.iter().map(|event| short(event.type_)).collect();
    types.sort_unstable();
    types
}

fn upgrade(world: &mut World) {
    world.settle();
    world.pass(20);
    world.start_engine();
    world.pass(10);
    world.soak();
}

#[test]
fn what_becomes_known_after_a_target_was_seen_is_owed_to_it_and_to_no_later_one() {
    let mut world = lacking(IN_WINDOW, "tickets");
    upgrade(&mut world);
    assert_eq!(world.upgrade().history.len(), 1);
    assert_eq!(owed(&world, "tickets"), ["advisory.closed", "advisory.opened", "upgrade.succeeded"]);
    world.settings.notification_targets.push("chat".into());
    assert!(owed(&world, "chat").is_empty(), "its beginning is not written down yet");
    world.settle();
    assert!(owed(&world, "chat").is_empty(), "that is history");
    assert_eq!(owed(&world, "tickets").len(), 3, "until it has accepted");
}

#[test]
fn a_target_that_is_seen_together_with_a_report_is_told_the_report() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.pass(20);
    world.start_engine();
    world.pass(10);
    world.settle();
    world.pass(10);
    world.settings.notification_targets = vec!["tickets".into()];
    let last = world.desired();
    assert!(!last.notified.is_keep() && !last.record.is_keep(), "both are news in this plan");
    world.carry_out(*last);
    assert_eq!(owed(&world, "tickets"), ["upgrade.succeeded"]);
}

#[test]
fn an_open_advisory_is_in_the_status_and_its_message_until_it_is_answered() {
    let mut world = lacking(MONDAY, "tickets");
    world.settle();
    let advisory = world.upgrade().advisories[0].clone();
    assert_eq!((advisory.id.as_str(), advisory.fixed_in.as_str()), ("CVE-2026-0001", "0.1.1"));
    assert_eq!((advisory.severity, advisory.since.as_deref()), (Severity::Security, Some(MONDAY)));
    assert!(world.condition(types::UP_TO_DATE).message.contains("CVE-2026-0001 (fixed in 0.1.1)"));
    // It is the case right now, so a new target is told.
    world.settings.notification_targets.push("chat".into());
    world.settle();
    assert_eq!(owed(&world, "chat"), ["advisory.opened"]);

    world.now = "2026-06-14T03:10:00Z".parse().expect("a time");
    upgrade(&mut world);
    assert!(world.upgrade().advisories.is_empty());
    assert!(!world.condition(types::UP_TO_DATE).message.contains("CVE-2026-0001"));
}

#[test]
fn a_catalog_that_is_gone_closes_nothing_and_neither_does_a_lost_status() {
    let mut world = lacking(MONDAY, "tickets");
    world.settle();
    let before = world.upgrade().advisories;
    world.observed.catalog = None;
    world.observed.cluster.status = None;
    world.pass(600);
    world.settle();
    assert_eq!(world.upgrade().advisories, before);
    assert_eq!(owed(&world, "tickets"), ["advisory.opened"]);
}

#[test]
fn what_is_owed_about_a_cluster_is_not_taken_back_when_its_record_goes_at_its_end() {
    let mut world = lacking(MONDAY, "tickets");
    world.settle();
    world.delete();
    assert_eq!(owed(&world, "tickets"), ["advisory.opened"]);
    world.observed.custody.record = None;
    assert_eq!(dispatch(&world.observed, &world.settings), None);
}

#[test]
fn without_targets_there_is_no_ledger_and_it_goes_with_the_cluster() {
    let mut world = World::running(AWS);
    assert_eq!(world.observed.custody.notified, None);
    world.settings.notification_targets = vec!["tickets".into()];
    world.settle();
    let ledger = world.observed.custody.notified.as_mut().expect("a ledger");
    ledger.metadata.uid = Some("uid-ledger".into());
    world.observed.cluster.spec.deletion_policy = vectorkeep_crds::DeletionPolicy::Delete;
    world.observed.namespace = None;
    world.observed.children = None;
    world.delete();
    let Plan::TearDown(step) = world.plan() else { panic!("expected a teardown") };
    assert!(step.deletions.iter().any(|it| it.kind == DeletedKind::CustodyConfigMap && it.uid == "uid-ledger"));
}

#[test]
fn a_resource_that_says_the_id_of_another_is_told_nothing_of_it() {
    let mut world = lacking(MONDAY, "tickets");
    world.settle();
    let id = world.identity().cluster_id;
    world.observed.cluster.metadata.name = Some("impostor".into());
    world.observed.cluster.spec.cluster_id = Some(id);
    assert!(owed(&world, "tickets").is_empty());
}
