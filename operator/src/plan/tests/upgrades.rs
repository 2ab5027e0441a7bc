//! Rollouts from their beginning to their verdict.

use super::*;
use crate::{admin::EngineFormat, observed::Canary, upgrade::fleet::Fleet};

/// A Sunday, inside the default window.
pub(super) const IN_WINDOW: &str = "2026-06-07T03:10:00Z";
pub(super) const MONDAY: &str = "2026-06-08T03:10:00Z";

/// A running cluster of 0.1.0, at this time, with these versions on offer.
pub(super) fn offered(now: &str, versions: &[&str]) -> World {
    let mut world = World::running(AWS);
    world.now = now.parse().expect("a time");
    world.observed.catalog = Some(catalog(versions));
    world
}

impl World {
    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn version(&mut self) -> String {
        version_in(self.children().stateful_set.as_ref().expect("a workload"))
    }

    /// The last release on offer knows a newer file format.
    fn newest_knows_format(&mut self, format: i32) {
        let catalog = self.observed.catalog.as_mut().expect("a catalog");
        catalog.spec.releases.last_mut().expect("a release").format = format;
    }

    /// The file format that the engine is told to commit to.
    fn format(&mut self) -> String {
        let config = self.children().config.as_ref().expect("a configuration");
        config.data.as_ref().expect("entries")["format"].clone()
    }

    fn fleet(&self) -> Fleet {
        Fleet::read(self.observed.custody.fleet.as_ref())
    }

    pub(super) fn upgrade(&self) -> vectorkeep_crds::status::UpgradeStatus {
        self.observed.cluster.status.clone().expect("a status").upgrade.expect("a report")
    }

    /// Settles at the moment at which every gate has held for long enough.
    pub(super) fn soak(&mut self) {
        self.settle();
        self.pass(10);
        self.settle();
    }

    /// What the engine says of itself is changed.
    fn engine_reports(&mut self, change: impl FnOnce(&mut EngineStatus)) {
        let EngineView::Answered(status) = &mut self.observed.engine else { panic!("the engine does not run") };
        change(status);
    }

    /// The new pod does not come up.
    fn pod_crashes(&mut self) {
        let set = self.children().stateful_set.as_mut().expect("a workload");
        let version = version_in(set);
        set.status = serde_yaml_ng::from_str(&format!(
            "{{replicas: 1, readyReplicas: 0, updatedReplicas: 1, currentRevision: old, updateRevision: revision-{version}}}"
        ))
        .expect("a status");
        self.children().pod = serde_yaml_ng::from_str(&format!(
            "{{metadata: {{name: engine-0, uid: pod-{version}, labels: {{controller-revision-hash: revision-{version}}}}},
              status: {{containerStatuses: [{{name: engine, ready: false, restartCount: 4, image: x, imageID: x,
                        state: {{waiting: {{reason: CrashLoopBackOff}}}}}}]}}}}"
        ))
        .expect("a pod");
        self.observed.engine = EngineView::Silent { reason: "no connection".into() };
    }
}

#[test]
fn inside_its_window_a_patch_is_taken_kept_and_reported() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    let first = world.desired();
    let Change::Apply(record) = &first.record else { panic!("nothing is recorded") };
    assert!(text(record).contains("upgrade.json"), "what is begun is recorded in the plan that begins it");
    assert_eq!(first.news[0].0, "UpgradeStarted");
    world.settle();
    assert_eq!(world.version(), "0.1.1");
    assert_eq!(world.condition(types::UP_TO_DATE).reason, "Upgrading");
    assert_eq!(world.condition(types::READY).reason, "EngineStarting");

    world.pass(20);
    world.start_engine();
    world.pass(10);
    world.soak();
    let upgrade = world.upgrade();
    assert_eq!(upgrade.in_progress, None);
    let report = &upgrade.history[0];
    assert_eq!((report.outcome.as_str(), report.from.as_str(), report.to.as_str()), ("Succeeded", "0.1.0", "0.1.1"));
    assert_eq!(report.window.as_deref(), Some("2026-06-07T03:00:00Z"));
    assert_eq!(world.condition(types::UP_TO_DATE).reason, "Current");
    assert!(world.fleet().has_room("another", 1, world.now), "its place is free again");
}

#[test]
fn outside_its_window_nothing_moves_and_the_next_one_is_told() {
    let mut world = offered(MONDAY, &["0.1.0", "0.1.1"]);
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    assert_eq!(world.upgrade().available.as_deref(), Some("0.1.1"));
    assert_eq!(world.upgrade().next.as_deref(), Some("2026-06-14T03:00:00Z"));
    assert!(world.desired().next_look.is_some_and(|next| next <= "2026-06-14T03:00:00Z".parse().expect("a time")));
}

#[test]
fn a_release_that_crashes_is_taken_back_its_pod_deleted_and_given_to_nobody_else() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.pass(30);
    world.pod_crashes();
    let failing = world.desired();
    assert!(failing.news.iter().any(|(reason, _)| *reason == "UpgradeFailed"));
    world.carry_out(*failing);
    assert_eq!(world.version(), "0.1.0");
    assert!(world.fleet().is_quarantined(&image("0.1.1")));
    // The StatefulSet controller has seen the template, and keeps the broken pod.
    world.children().stateful_set.as_mut().expect("a workload").status =
        serde_yaml_ng::from_str("{replicas: 1, readyReplicas: 0, updateRevision: revision-0.1.0}").expect("a status");
    let taking_back = world.desired();
    let pod = taking_back.orphans.iter().find(|it| it.kind == DeletedKind::Pod).expect("the pod goes");
    assert_eq!(pod.uid, "pod-0.1.1");
    world.carry_out(*taking_back);
    assert_eq!(world.condition(types::UP_TO_DATE).reason, "RollingBack");

    world.pass(5);
    world.start_engine();
    world.settle();
    let report = world.upgrade().history[0].clone();
    assert_eq!(report.outcome, "RolledBack");
    assert!(report.reason.is_some_and(|reason| reason.contains("CrashLoopBackOff")));
    assert_eq!(report.unavailable_seconds, 35);
    world.pass(60);
    world.settle();
    assert_eq!(world.version(), "0.1.0", "it is not tried again");
    assert!(world.condition(types::UP_TO_DATE).message.contains("0.1.1"), "and the report says why");
}

#[test]
fn a_ready_engine_that_is_not_what_was_promised_is_taken_back() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.start_engine();
    world.engine_reports(|status| status.version = "0.1.0".into());
    world.settle();
    assert_eq!(world.version(), "0.1.1", "the first seconds say nothing");
    world.pass(10);
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    assert!(world.fleet().is_quarantined(&image("0.1.1")));
}

#[test]
fn a_key_that_is_refused_in_the_middle_suspends_the_verdict_and_blames_nobody() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.start_engine();
    world.engine_says("Locked", "Refused");
    world.settle();
    world.pass(100_000);
    world.settle();
    assert_eq!(world.version(), "0.1.1");
    assert!(!world.fleet().is_quarantined(&image("0.1.1")));
    assert!(world.fleet().has_room("another", 1, world.now), "who waits for a key takes nobody's place");
    world.engine_says("Serving", "Accessible");
    world.soak();
    assert_eq!(world.upgrade().history[0].outcome, "Succeeded");
}

#[test]
fn a_cluster_whose_key_is_refused_is_not_upgraded() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.engine_says("Locked", "Refused");
    world.settle();
    assert_eq!(world.version(), "0.1.0");
}

#[test]
fn one_cluster_at_a_time_and_canaries_first() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    let mut fleet = Fleet::default();
    fleet.moves("another", "0.1.1", world.now, false);
    world.observed.custody.fleet = Some(fleet.write("vectorkeep-system"));
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    assert!(world.condition(types::UP_TO_DATE).message.contains("other clusters"));

    world.observed.custody.fleet = None;
    let canary = |version: &str, serves| Canary {
        cluster_id: "c".into(),
        version: Some(version.into()),
        serves,
        ..Canary::default()
    };
    world.observed.canaries = vec![canary("0.1.0", true)];
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    assert!(world.condition(types::UP_TO_DATE).message.contains("canary"));
    let mut idle = canary("0.1.0", true);
    idle.policy.window.schedule = "0 0 31 2 *".into();
    world.observed.canaries = vec![idle];
    assert!(
        world.desired().news.iter().any(|(reason, _)| *reason == "UpgradeStarted"),
        "one that never goes holds up nobody"
    );
    world.observed.canaries = vec![canary("0.1.1", true)];
    let mut fleet = Fleet::default();
    fleet.moves("c", "0.1.1", world.now, true);
    world.observed.custody.fleet = Some(fleet.write("vectorkeep-system"));
    world.settle();
    assert_eq!(world.version(), "0.1.0", "a canary without a verdict has proven nothing");
    let now = world.now;
    world.pass(3600);
    assert!(world.desired().news.iter().any(|(reason, _)| *reason == "UpgradeStarted"), "but not for ever");
    world.now = now;
    world.observed.custody.fleet = None;
    world.observed.canaries = vec![canary("0.1.1", true), canary("0.1.0", false)];
    world.settle();
    assert_eq!(world.version(), "0.1.1");
}

#[test]
fn a_request_is_met_once_whatever_the_window() {
    let mut world = offered(MONDAY, &["0.1.0", "0.1.1"]);
    let annotations = world.observed.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert("vectorkeep.dev/upgrade-now".into(), "2026-06-08T03:09:00Z".into());
    world.settle();
    world.start_engine();
    world.pass(10);
    world.soak();
    assert_eq!(world.upgrade().history[0].window, None);
    world.observed.catalog = Some(catalog(&["0.1.0", "0.1.1", "0.1.2"]));
    world.settle();
    assert_eq!(world.version(), "0.1.1", "the next release waits for its window again");
}

#[test]
fn another_template_of_this_operator_waits_for_the_window_and_goes_out_with_the_next_change() {
    let mut world = World::running(AWS);
    world.settings.pod_annotations = vec![("example.com/team".into(), "search".into())];
    assert!(world.desired().stateful_set.is_keep(), "an operator that renders otherwise restarts nothing");
    world.observed.children.as_mut().expect("children").pod = None;
    assert!(world.desired().stateful_set.is_keep(), "an evicted pod comes back from the stored template");

    let mut changed = world.clone();
    changed.observed.cluster.spec.encryption.check_interval = "20s".into();
    let Change::Apply(set) = changed.desired().stateful_set else { panic!("no rollout") };
    assert!(text(&set).contains("example.com/team"));

    world.start_engine();
    world.now = IN_WINDOW.parse().expect("a time");
    world.settle();
    world.start_engine();
    world.pass(10);
    world.soak();
    let report = &world.upgrade().history[0];
    assert_eq!((report.from.as_str(), report.to.as_str(), report.outcome.as_str()), ("0.1.0", "0.1.0", "Succeeded"));
    assert!(text(world.children().stateful_set.as_ref().expect("a workload")).contains("example.com/team"));
    world.now = "2026-06-14T03:10:00Z".parse().expect("a time");
    assert!(world.desired().stateful_set.is_keep(), "once is enough");
}

#[test]
fn a_status_that_is_deleted_in_the_middle_changes_nothing() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.observed.cluster.status = None;
    let desired = world.desired();
    assert!(desired.stateful_set.is_keep() && desired.record.is_keep() && desired.fleet == FleetChange::Keep);
}

#[test]
fn a_change_of_the_resource_in_the_middle_reaches_both_releases() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.observed.cluster.spec.encryption.check_interval = "20s".into();
    world.settle();
    assert_eq!(world.version(), "0.1.1");
    assert!(text(&world.children().config).contains("20"));
    world.pod_crashes();
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    assert!(text(&world.children().config).contains("20"), "the way back has the change too");
}

#[test]
fn a_deletion_in_the_middle_gives_the_place_in_the_fleet_back() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    assert!(!world.fleet().has_room("another", 1, world.now));
    world.delete();
    let Plan::TearDown(step) = world.plan() else { panic!("not torn down") };
    let FleetChange::Write { object, .. } = step.fleet else { panic!("the place is kept") };
    assert!(Fleet::read(Some(&object)).has_room("another", 1, world.now));
}

#[test]
fn without_a_catalog_what_runs_goes_on_and_nothing_new_starts() {
    let mut world = World::running(AWS);
    world.observed.catalog = None;
    assert!(world.desired().stateful_set.is_keep());
    let mut new = World::new(AWS);
    new.observed.catalog = None;
    assert_eq!(new.condition(types::STALLED).reason, "NoRelease");
}

#[test]
fn a_template_that_failed_is_not_tried_again_by_itself() {
    let mut world = World::running(AWS);
    world.now = IN_WINDOW.parse().expect("a time");
    world.settings.pod_annotations = vec![("example.com/team".into(), "search".into())];
    world.settle();
    world.pod_crashes();
    world.settle();
    world.start_engine();
    world.settle();
    assert_eq!(world.upgrade().history[0].outcome, "RolledBack");
    assert!(!world.fleet().is_quarantined(&image("0.1.0")), "the release runs, with another template");
    world.pass(60);
    world.settle();
    assert_eq!(world.upgrade().history.len(), 1);
    assert!(!text(world.children().stateful_set.as_ref().expect("a workload")).contains("example.com/team"));
}

#[test]
fn a_release_that_runs_but_is_in_no_catalog_is_kept_since_there_would_be_no_way_back() {
    let mut world = offered(IN_WINDOW, &["0.1.1"]);
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    assert!(world.condition(types::UP_TO_DATE).message.contains("way back"));
}

#[test]
fn a_request_for_any_time_is_met_or_forgotten_and_breaks_nothing() {
    for asked in [Timestamp::MAX.to_string(), Timestamp::MIN.to_string(), "9999-12-30T21:30:00Z".into(), "soon".into()]
    {
        let mut world = offered(MONDAY, &["0.1.0", "0.1.1"]);
        for annotation in ["vectorkeep.dev/upgrade-now", "vectorkeep.dev/verify-isolation", "vectorkeep.dev/rotate-ca"]
        {
            let annotations = world.observed.cluster.metadata.annotations.get_or_insert_default();
            annotations.insert(annotation.into(), asked.clone());
        }
        world.desired();
    }
}

#[test]
fn a_newer_file_format_is_committed_to_once_its_release_is_kept_and_not_before() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.newest_knows_format(2);
    world.settle();
    assert_eq!((world.version().as_str(), world.format().as_str()), ("0.1.1", "1"));
    world.pass(20);
    world.start_engine();
    world.pass(10);
    world.settle();
    assert_eq!(world.format(), "1", "every gate holds, but not for long enough");
    world.pass(10);
    world.settle();
    assert_eq!(world.upgrade().history[0].outcome, "Succeeded");
    assert_eq!(world.format(), "2");
    assert!(world.desired().stateful_set.is_keep(), "to commit restarts nothing");
    world.observed.custody.record = None;
    let desired = world.desired();
    assert!(desired.config.is_keep() && desired.stateful_set.is_keep(), "a lost record commits to nothing else");
}

#[test]
fn a_release_that_is_taken_back_leaves_the_file_format_as_it_was() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.newest_knows_format(2);
    world.settle();
    world.pass(30);
    world.pod_crashes();
    world.settle();
    assert_eq!((world.version().as_str(), world.format().as_str()), ("0.1.0", "1"));
    world.start_engine();
    world.settle();
    assert_eq!(world.upgrade().history[0].outcome, "RolledBack");
    assert_eq!(world.format(), "1");
}

#[test]
fn a_file_format_that_the_engine_reports_is_remembered_and_no_release_below_it_is_taken() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.engine_reports(|status| status.format = Some(EngineFormat { newest: 2, committed: Some(2) }));
    world.settle();
    assert_eq!((world.version().as_str(), world.format().as_str()), ("0.1.0", "2"));
    assert_eq!(world.upgrade().format, Some(2));
    world.observed.engine = EngineView::Silent { reason: "no connection".into() };
    world.settle();
    assert_eq!(world.format(), "2");
    world.newest_knows_format(2);
    world.start_engine();
    world.settle();
    assert_eq!(world.version(), "0.1.1");
}

#[test]
fn an_engine_that_does_not_know_its_stores_format_is_told_apart_from_a_locked_one() {
    let mut world = World::running(AWS);
    world.engine_reports(|status| status.format = Some(EngineFormat { newest: 1, committed: Some(2) }));
    world.settle();
    // It replaces itself, and has not seen its store again.
    world.engine_reports(|status| {
        status.format = Some(EngineFormat { newest: 1, committed: None });
        status.state = crate::admin::EngineState::Unlocking;
    });
    let ready = world.condition(types::READY);
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "FormatUnknown"));
    assert!(ready.message.contains("file format 2"));
    assert_eq!(world.condition(types::STALLED).status, "True");
}

#[test]
fn a_window_that_can_not_be_read_stops_nothing_but_what_would_begin_in_it() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.observed.cluster.spec.upgrade.window.time_zone = "Europe/Atlantis".into();
    world.pass(20);
    world.start_engine();
    world.pass(10);
    world.soak();
    assert_eq!(world.upgrade().history[0].outcome, "Succeeded", "what was begun is ended");
    world.observed.catalog = Some(catalog(&["0.1.0", "0.1.1", "0.1.2"]));
    world.settle();
    assert_eq!(world.version(), "0.1.1");
    assert_eq!(world.condition(types::READY).status, "True");
    let told = world.condition(types::UP_TO_DATE).message;
    assert!(told.contains("Europe/Atlantis"), "{told}");

    let mut fresh = World::new(AWS);
    fresh.observed.cluster.spec.upgrade.window.time_zone = "Europe/Atlantis".into();
    assert!(matches!(fresh.plan(), Plan::Refuse(_)), "nothing is made for a resource that can't be read");
}

#[test]
fn a_request_mends_an_engine_that_says_nothing_any_more() {
    let mut world = offered(MONDAY, &["0.1.0", "0.1.1"]);
    world.settle();
    world.observed.engine = EngineView::Silent { reason: "no connection".into() };
    world.settle();
    assert_eq!(world.version(), "0.1.0");
    let annotations = world.observed.cluster.metadata.annotations.get_or_insert_default();
    annotations.insert("vectorkeep.dev/upgrade-now".into(), MONDAY.into());
    world.settle();
    assert_eq!(world.version(), "0.1.1");
}

#[test]
fn what_is_refused_later_is_told_and_what_serves_goes_on_serving() {
    let mut world = World::running(AWS);
    world.observed.cluster.spec.encryption.aws.as_mut().expect("a key").key_arn = "arn:aws:kms:nowhere".into();
    let Plan::Refuse(refused) = world.plan() else { panic!("expected a refusal") };
    let status = |type_: &str| {
        let conditions = &refused.status.conditions;
        conditions.iter().find(|it| it.type_ == type_).expect("told").status.clone()
    };
    assert_eq!((status(types::READY).as_str(), status(types::STALLED).as_str()), ("True", "True"));
}

#[test]
fn what_found_no_node_is_not_tried_again_in_the_same_window_but_another_image_is() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.children().pod = None;
    world.observed.engine = EngineView::Silent { reason: "no connection".into() };
    world.pass(301);
    world.settle();
    world.start_engine();
    world.settle();
    assert_eq!(world.upgrade().history[0].outcome, "RolledBack");
    assert_eq!(world.version(), "0.1.0");
    assert!(!world.fleet().is_quarantined(&world.observed.catalog.as_ref().expect("there").spec.releases[1].image));
    assert!(world.condition(types::UP_TO_DATE).message.contains("it was taken back"));
    let releases = &mut world.observed.catalog.as_mut().expect("a catalog").spec.releases;
    releases[1].image = releases[1].image.replace("sha256:", "sha256:f");
    assert_eq!(world.desired().news[0].0, "UpgradeStarted");
}

#[test]
fn a_damaged_record_is_named_and_kept_and_what_serves_goes_on_serving() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    world.pass(20);
    world.start_engine();
    world.soak();
    assert_eq!(world.upgrade().history.len(), 1);
    let whole = world.observed.custody.record.clone().expect("a record");
    let stable = ["release.json", "template.json", "files.json"];
    for entry in stable.into_iter().chain(["upgrade.json", "history.json", "advisories.json", "takenBack.json"]) {
        let record = world.observed.custody.record.insert(whole.clone());
        record.data.get_or_insert_default().insert(entry.into(), "[{\"from\": 7,}]".into());
        let Plan::Refuse(Refused { refusal, status }) = world.plan() else { panic!("{entry} is written over") };
        assert_eq!(refusal.reason(), "RecordUnreadable");
        let told = |type_: &str| status.conditions.iter().find(|it| it.type_ == type_).expect("told").clone();
        assert_eq!((told(types::READY).status.as_str(), told(types::STALLED).status.as_str()), ("True", "True"));
        let message = told(types::STALLED).message;
        for part in [entry, &whole.name_any(), "column"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("from"), "what is in it is not told: {message}");
        // What is just being asked serves as before; what is silent doesn't; and what serves again, serves.
        let answer = std::mem::replace(&mut world.observed.engine, EngineView::Restarted);
        assert_eq!(world.condition(types::READY).status, "True");
        world.observed.engine = EngineView::Silent { reason: "no connection".into() };
        let Plan::Refuse(Refused { status, .. }) = world.plan() else { panic!("not refused") };
        let before = world.observed.cluster.status.replace(status);
        assert_eq!(world.condition(types::READY).status, "False");
        world.observed.engine = answer;
        assert_eq!(world.condition(types::READY).status, "True");
        world.observed.cluster.status = before;
        // The remedy: without that entry, everything else stays as it is.
        let record = world.observed.custody.record.as_mut().expect("a record");
        record.data.get_or_insert_default().remove(entry);
        assert!(world.desired().stateful_set.is_keep(), "{entry}");
        world.settle();
        assert_eq!(world.version(), "0.1.1");
        assert_eq!(world.upgrade().history.len(), usize::from(entry != "history.json"));
    }
}

#[test]
fn what_is_being_tried_never_stands_for_what_ran_before() {
    let mut world = offered(IN_WINDOW, &["0.1.0", "0.1.1"]);
    world.settle();
    assert_eq!(world.version(), "0.1.1");
    let record = world.observed.custody.record.as_mut().expect("a record");
    record.data.get_or_insert_default().remove("template.json").expect("there");
    let Plan::Refuse(Refused { refusal, .. }) = world.plan() else { panic!("there is no way back any more") };
    assert!(refusal.to_string().contains("upgrade.json"), "{refusal}");
    world.observed.custody.record.as_mut().and_then(|it| it.data.as_mut()).expect("data").remove("upgrade.json");
    assert!(world.desired().stateful_set.is_keep());
}

#[test]
fn nothing_is_begun_before_an_engine_was_asked_not_even_on_request() {
    let mut world = World::running(AWS);
    world.observed.catalog = Some(catalog(&["0.1.0", "0.1.1"]));
    world
        .observed
        .cluster
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("vectorkeep.dev/upgrade-now".into(), "x".into());
    for view in [EngineView::NotAsked, EngineView::Restarted] {
        let answer = std::mem::replace(&mut world.observed.engine, view);
        assert!(world.desired().news.is_empty(), "its key may be withheld");
        world.observed.engine = answer;
    }
    assert_eq!(world.desired().news[0].0, "UpgradeStarted");
}

#[test]
fn what_only_the_engine_knows_of_is_not_replaced_before_it_was_asked() {
    let mut world = World::running(AWS);
    world.observed.custody.record = None;
    world.observed.catalog = Some(catalog(&["0.1.1"]));
    let answer = std::mem::replace(&mut world.observed.engine, EngineView::NotAsked);
    let Plan::Wait(status) = world.plan() else { panic!("it is not known what runs") };
    assert!(status.conditions.iter().any(|it| it.type_ == types::RECONCILING && it.reason == "EngineNotAsked"));
    world.observed.engine = answer;
    world.settle();
    assert_eq!(world.version(), "0.1.0");
}
