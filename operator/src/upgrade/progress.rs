//! A rollout that was begun: what it waits for, and how it ends.
//!
//! Gates are looked at in order; all of them must hold for a while, within a deadline. What can't get better fails at
//! once. While the key is out of reach nothing is judged, and the deadline counts anew afterwards: a customer who
//! disables a key says nothing about a release. But an engine without its key waits for it; one that ends again and again
//! is judged.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde::{Deserialize, Serialize};
use vectorkeep_crds::status::UpgradeReport;

use super::Release;
use crate::{
    admin::{EngineState, EngineStatus, EngineView, KeyState, Traffic},
    plan::conditions::seconds,
};

/// So long everything must hold before a rollout counts as good.
const SOAK: SignedDuration = SignedDuration::from_secs(10);
/// So long after its pod became ready an engine's own words count against it.
const SETTLED: SignedDuration = SignedDuration::from_secs(10);
/// Time between two looks at what only others can bring on.
const PATIENT: SignedDuration = SignedDuration::from_secs(20);
/// So many restarts in a row are no coincidence.
const RESTARTS: i32 = 3;
/// Traffic is compared from so many requests on, before and after.
const REQUESTS: u64 = 50;
/// So many more of a hundred requests may fail.
const FAILURES_PERCENT: u64 = 2;
/// The slowest may take so much longer: three times as long, and no less than this many milliseconds more.
const SLOWER: (f64, f64) = (3.0, 250.0);

/// A rollout under way, as it is written down before anything moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What ran.
    pub from: Release,
    /// What is being started.
    pub to: Release,
    /// Advisories that it answers.
    #[serde(default)]
    pub advisories: Vec<String>,
    /// When it began.
    pub started: Timestamp,
    /// Opening of the window in which it began.
    #[serde(default)]
    pub window: Option<Timestamp>,
    /// The pod template that is being rolled out.
    pub template: PodTemplateSpec,
    /// The configuration that goes with it.
    pub files: BTreeMap<String, String>,
    /// Epochs before, by database: no shard may be older afterwards.
    #[serde(default)]
    pub epochs: BTreeMap<String, u64>,
    /// Traffic before.
    #[serde(default)]
    pub traffic: Option<Traffic>,
    /// From when on the deadline counts.
    pub clock: Timestamp,
    /// Whether the key is out of reach.
    #[serde(default)]
    pub suspended: bool,
    /// Since when every gate holds.
    #[serde(default)]
    pub healthy_since: Option<Timestamp>,
    /// Since when the cluster does not serve.
    #[serde(default)]
    pub unavailable_since: Option<Timestamp>,
    /// Seconds in which it did not serve, before that.
    #[serde(default)]
    pub unavailable_seconds: i64,
    /// Whether the resource was changed meanwhile, or the cluster did not serve before: then a failure may be its doing.
    #[serde(default)]
    pub excused: bool,
    /// Why it is being taken back, if it is.
    #[serde(default)]
    pub failure: Option<String>,
    /// Whether that says something about the release.
    #[serde(default)]
    pub blamed: bool,
}

/// What is seen of a rollout.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    /// Whether the workload was given the template that is wanted.
    pub written: bool,
    /// Whether the workload has the template that is wanted, and every pod of it is ready.
    pub rolled_out: bool,
    /// The pod's part in it.
    pub pod: PodSight<'a>,
    /// What the engine in that pod says.
    pub engine: &'a EngineView,
}

/// What is seen of the pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodSight<'a> {
    /// Since when it is ready.
    pub ready_since: Option<Timestamp>,
    /// Whether it was made from the template that is wanted.
    pub current: bool,
    /// Restarts of its container.
    pub restarts: i32,
    /// Why its container does not run, in Kubernetes' words.
    pub waiting: Option<&'a str>,
}

impl PodSight<'_> {
    /// Whether it is the pod that is judged, and ends whenever it is started.
    fn crashes(&self) -> bool {
        self.current && self.restarts >= RESTARTS && self.waiting == Some("CrashLoopBackOff")
    }
}

/// Where a rollout stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It goes on, and waits for this.
    On(Box<Progress>, String),
    /// It is good.
    Succeeded(UpgradeReport),
    /// What was before runs again.
    RolledBack(UpgradeReport),
}

/// A gate that does not hold.
struct Closed {
    waits_for: String,
    /// Whether waiting can't help.
    for_good: bool,
    /// Whether it is the release's doing, as far as can be seen.
    by_release: bool,
}

impl Progress {
    /// Whether the release itself is to blame if this fails, so that no other cluster should take it.
    pub fn blames_release(&self) -> bool {
        self.blamed && self.to.image != self.from.image
    }

    /// Takes the rollout on, by what is seen at `now`.
    pub fn advance(mut self, sight: &Sight<'_>, gate_deadline: SignedDuration, now: Timestamp) -> Step {
        let serving = sight.rolled_out && sight.engine.answer().is_some_and(|it| it.state == EngineState::Serving);
        self.count_unavailability(serving, now);
        if self.failure.is_some() {
            return match sight.rolled_out {
                true => {
                    let report = self.report("RolledBack", now);
                    Step::RolledBack(report)
                }
                false => Step::On(Box::new(self), "the version before to run again".to_owned()),
            };
        }
        // Not heard yet is not silent: an operator that was away, or has just begun to ask, judges nobody by that. Nor by
        // a workload that could not be written. But an engine that is started anew again and again runs out of time.
        if !sight.written || *sight.engine == EngineView::NotAsked {
            self.clock = now;
            self.healthy_since = None;
            return Step::On(Box::new(self), "the workload to be written and the engine to be asked".to_owned());
        }
        // An engine that stays locked because its network enforces no policies says nothing about its release either.
        match sight.engine.answer().map(|it| if it.is_exposed() { KeyState::Unreachable } else { it.key.state }) {
            Some(KeyState::Refused | KeyState::Unreachable | KeyState::Invalid) => {
                self.suspended = true;
                self.healthy_since = None;
            }
            Some(KeyState::Accessible) if self.suspended => {
                self.suspended = false;
                self.clock = now;
            }
            _ => {}
        }
        if self.suspended && sight.pod.crashes() {
            self.suspended = false;
        }
        if self.suspended {
            return Step::On(Box::new(self), "the key to be accessible again; until then nothing is judged".to_owned());
        }
        match self.gates(sight, now) {
            Ok(()) => {
                let since = *self.healthy_since.get_or_insert(now);
                if now - SOAK >= since {
                    return Step::Succeeded(self.report("Succeeded", now));
                }
                Step::On(Box::new(self), format!("every gate to hold for {} seconds", SOAK.as_secs()))
            }
            Err(closed) => {
                self.healthy_since = None;
                let late = now - gate_deadline >= self.clock;
                if closed.for_good || late {
                    let problem = match closed.for_good {
                        true => closed.waits_for.clone(),
                        false => format!("{} within {} seconds", closed.waits_for, gate_deadline.as_secs()),
                    };
                    self.failure = Some(format!("waited in vain for {problem}"));
                    self.blamed = closed.by_release && !self.excused;
                }
                Step::On(Box::new(self), closed.waits_for)
            }
        }
    }

    /// When to look again, if nothing calls before.
    pub fn next_look(&self, gate_deadline: SignedDuration, now: Timestamp) -> Timestamp {
        if self.suspended || self.failure.is_some() {
            return now + PATIENT;
        }
        let soaked = self.healthy_since.map(|since| since + SOAK);
        let settled = now + SETTLED;
        soaked.unwrap_or(settled).min(self.clock + gate_deadline).max(now + SignedDuration::from_secs(1))
    }

    fn gates(&self, sight: &Sight<'_>, now: Timestamp) -> Result<(), Closed> {
        let later = |waits_for: String| Closed { waits_for, for_good: false, by_release: true };
        let pod = sight.pod;
        if !sight.rolled_out {
            let waiting = pod.waiting.filter(|_| pod.current);
            let detail = waiting.map(|reason| format!(" (it is {reason})")).unwrap_or_default();
            return Err(Closed {
                waits_for: format!("the pod of {} to be ready{detail}", self.to.version),
                for_good: pod.crashes(),
                // A pod that finds no node, no volume or no registry says nothing about what would have run in it.
                by_release: pod.current && pod.restarts > 0,
            });
        }
        let Some(status) = sight.engine.answer() else {
            return Err(later("the engine's answer".to_owned()));
        };
        let settled = pod.ready_since.is_some_and(|since| now - SETTLED >= since);
        let judged = |waits_for: String| Closed { waits_for, for_good: settled, by_release: true };
        if status.version != self.to.version {
            return Err(judged(format!("the engine to be {}; it says {}", self.to.version, status.version)));
        }
        if status.knows_less_than(self.from.format) {
            return Err(judged(format!("an engine that knows file format {} of its store", self.from.format)));
        }
        if status.state != EngineState::Serving {
            return Err(later("the engine to serve".to_owned()));
        }
        for (database, before) in &self.epochs {
            let shard = status.shards.iter().find(|shard| shard.database_id == *database);
            match shard.map(|shard| shard.epoch) {
                Some(epoch) if epoch >= *before => {}
                _ => return Err(judged(format!("database {database} at epoch {before} or later"))),
            }
        }
        match &status.self_test {
            Some(test) if test.passed => {}
            Some(test) => return Err(judged(format!("the engine's self-test to pass ({})", test.message))),
            None => return Err(later("the engine's self-test".to_owned())),
        }
        // The first requests after a start are slow everywhere.
        self.compare_traffic(status).map_err(later)
    }

    fn compare_traffic(&self, status: &EngineStatus) -> Result<(), String> {
        let (Some(before), Some(after)) = (&self.traffic, &status.traffic) else { return Ok(()) };
        if before.requests < REQUESTS || after.requests < REQUESTS {
            return Ok(());
        }
        let percent = |traffic: &Traffic| traffic.failures * 100 / traffic.requests;
        if percent(after) > percent(before) + FAILURES_PERCENT {
            return Err(format!("fewer requests to fail ({} % before, {} % now)", percent(before), percent(after)));
        }
        let (times, more) = SLOWER;
        if after.p99_ms > (before.p99_ms * times).max(before.p99_ms + more) {
            return Err(format!("faster answers (p99 {:.0} ms before, {:.0} ms now)", before.p99_ms, after.p99_ms));
        }
        Ok(())
    }

    fn count_unavailability(&mut self, serving: bool, now: Timestamp) {
        match (serving, self.unavailable_since) {
            (false, None) => self.unavailable_since = Some(now),
            (true, Some(since)) => {
                self.unavailable_seconds += now.duration_since(since).as_secs();
                self.unavailable_since = None;
            }
            _ => {}
        }
    }

    fn report(&self, outcome: &str, now: Timestamp) -> UpgradeReport {
        UpgradeReport {
            from: self.from.version.clone(),
            to: self.to.version.clone(),
            window: self.window.map(seconds),
            started: seconds(self.started),
            duration_seconds: now.duration_since(self.started).as_secs(),
            outcome: outcome.to_owned(),
            reason: self.failure.clone(),
            unavailable_seconds: self.unavailable_seconds
                + self.unavailable_since.map_or(0, |since| now.duration_since(since).as_secs()),
            advisories: self.advisories.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: SignedDuration = SignedDuration::from_mins(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn release(version: &str) -> Release {
        Release { version: version.into(), image: format!("engine-{version}"), format: 1 }
    }

    fn progress() -> Progress {
        Progress {
            from: release("1.4.1"),
            to: release("1.4.2"),
            advisories: vec!["CVE-2026-0001".into()],
            started: at(0),
            window: Some(at(-60)),
            template: PodTemplateSpec::default(),
            files: BTreeMap::new(),
            epochs: BTreeMap::from([("d1".to_owned(), 7)]),
            traffic: None,
            clock: at(0),
            suspended: false,
            healthy_since: None,
            unavailable_since: None,
            unavailable_seconds: 0,
            excused: false,
            failure: None,
            blamed: false,
        }
    }

    fn engine(change: impl FnOnce(&mut serde_json::Value)) -> EngineView {
        let mut status = serde_json::json!({
            "version": "1.4.2", "clusterId": "vc1", "storeId": null, "bootId": "b", "state": "Serving",
            "key": {"state": "Accessible"},
            "shards": [{"databaseId": "d1", "slot": 0, "epoch": 8, "highWater": 1}],
            "servingCertificate": null,
            "selfTest": {"passed": true, "message": ""},
        });
        change(&mut status);
        EngineView::Answered(Box::new(serde_json::from_value(status).expect("a status")))
    }

    fn silent() -> EngineView {
        EngineView::Silent { reason: "no connection".into() }
    }

    fn good() -> EngineView {
        engine(|_| ())
    }

    fn seen<'a>(engine: &'a EngineView, rolled_out: bool) -> Sight<'a> {
        let pod = PodSight { ready_since: rolled_out.then(|| at(0)), current: true, ..PodSight::default() };
        Sight { written: true, rolled_out, pod, engine }
    }

    fn on(step: Step) -> Progress {
        match step {
            Step::On(progress, _) => *progress,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_release_is_kept_once_every_gate_held_for_a_while() {
        let starting = on(progress().advance(&seen(&silent(), false), DEADLINE, at(2)));
        let healthy = on(starting.advance(&seen(&good(), true), DEADLINE, at(20)));
        let healthy = on(healthy.advance(&seen(&good(), true), DEADLINE, at(25)));
        let Step::Succeeded(report) = healthy.advance(&seen(&good(), true), DEADLINE, at(30)) else {
            panic!("not kept")
        };
        assert_eq!((report.from.as_str(), report.to.as_str()), ("1.4.1", "1.4.2"));
        assert_eq!((report.duration_seconds, report.unavailable_seconds), (30, 18));
        assert_eq!(report.outcome, "Succeeded");
        assert_eq!(report.advisories, ["CVE-2026-0001"]);
    }

    #[test]
    fn a_gate_that_opens_and_closes_again_starts_the_wait_anew() {
        let healthy = on(progress().advance(&seen(&good(), true), DEADLINE, at(5)));
        let shaken = on(healthy.advance(&seen(&silent(), true), DEADLINE, at(10)));
        assert_eq!(shaken.healthy_since, None);
        let again = on(shaken.advance(&seen(&good(), true), DEADLINE, at(15)));
        on(again.advance(&seen(&good(), true), DEADLINE, at(20)));
    }

    #[test]
    fn a_pod_that_never_gets_ready_is_taken_back_at_the_deadline_and_not_before() {
        let waiting = on(progress().advance(&seen(&silent(), false), DEADLINE, at(299)));
        assert_eq!(waiting.failure, None);
        let failed = on(waiting.advance(&seen(&silent(), false), DEADLINE, at(300)));
        assert!(failed.failure.as_ref().is_some_and(|failure| failure.contains("300 seconds")), "{failed:?}");
        assert!(!failed.blames_release(), "a pod that finds no node says nothing about the release");
        let returning = on(failed.advance(&seen(&silent(), false), DEADLINE, at(301)));
        let Step::RolledBack(report) = returning.advance(&seen(&good(), true), DEADLINE, at(330)) else {
            panic!("not over")
        };
        assert_eq!(report.outcome, "RolledBack");
        assert!(report.reason.is_some_and(|reason| reason.contains("1.4.2")));
    }

    #[test]
    fn a_pod_that_crashes_again_and_again_is_taken_back_at_once_and_the_release_blamed() {
        let engine = silent();
        let pod = PodSight { restarts: 3, waiting: Some("CrashLoopBackOff"), ready_since: None, current: true };
        let crashing = |pod, progress: Progress| {
            let sight = Sight { written: true, rolled_out: false, pod, engine: &engine };
            on(progress.advance(&sight, DEADLINE, at(60)))
        };
        assert!(crashing(pod, progress()).blames_release());
        let changed = crashing(pod, Progress { excused: true, ..progress() });
        assert!(changed.failure.is_some() && !changed.blames_release(), "it may be the change's doing");
        assert!(
            crashing(pod, Progress { suspended: true, ..progress() }).blames_release(),
            "whatever it said of its key"
        );
        let old = PodSight { current: false, ..pod };
        assert_eq!(crashing(old, progress()).failure, None, "the pod before is not the one that is judged");
    }

    #[test]
    fn a_registry_that_does_not_answer_says_nothing_about_the_release() {
        let engine = silent();
        let pod = PodSight { restarts: 0, waiting: Some("ImagePullBackOff"), ready_since: None, current: true };
        let sight = Sight { written: true, rolled_out: false, pod, engine: &engine };
        let failed = on(progress().advance(&sight, DEADLINE, at(300)));
        assert!(failed.failure.as_ref().is_some_and(|failure| failure.contains("ImagePullBackOff")), "{failed:?}");
        assert!(!failed.blames_release());
    }

    #[test]
    fn an_operator_that_was_away_and_a_workload_that_could_not_be_written_judge_nobody() {
        let mut waiting = progress();
        waiting = on(waiting.advance(&seen(&EngineView::NotAsked, true), DEADLINE, at(10_000)));
        assert_eq!(waiting.failure, None);
        let engine = silent();
        let unwritten = Sight { written: false, ..seen(&engine, false) };
        waiting = on(waiting.advance(&unwritten, DEADLINE, at(20_000)));
        assert_eq!(waiting.failure, None);
        waiting = on(waiting.advance(&seen(&engine, true), DEADLINE, at(20_299)));
        assert_eq!(waiting.failure, None);
        assert!(on(waiting.advance(&seen(&engine, true), DEADLINE, at(20_300))).failure.is_some());
    }

    #[test]
    fn what_is_started_anew_again_and_again_runs_out_of_time_and_is_never_kept() {
        let mut waiting = progress();
        for second in (0..300).step_by(10) {
            let view = if second % 20 == 0 { EngineView::Restarted } else { good() };
            waiting = on(waiting.advance(&seen(&view, true), DEADLINE, at(second)));
            assert_eq!(waiting.failure, None);
        }
        assert!(on(waiting.advance(&seen(&EngineView::Restarted, true), DEADLINE, at(300))).blames_release());
    }

    #[test]
    fn a_ready_engine_that_fails_a_gate_is_taken_back() {
        let bad: [fn(&mut serde_json::Value); 4] = [
            |status| status["version"] = "1.4.9".into(),
            |status| status["selfTest"] = serde_json::json!({"passed": false, "message": "the row was not found"}),
            |status| status["shards"][0]["epoch"] = 6.into(),
            |status| status["shards"] = serde_json::json!([]),
        ];
        for change in bad {
            let engine = engine(change);
            // What an engine says in the first seconds may be what it said before it was ready.
            let early = on(progress().advance(&seen(&engine, true), DEADLINE, at(5)));
            assert_eq!(early.failure, None);
            assert!(on(early.advance(&seen(&engine, true), DEADLINE, at(10))).failure.is_some());
        }
    }

    #[test]
    fn an_engine_that_does_not_know_the_format_of_its_store_is_taken_back_at_once() {
        let locked = engine(|status| {
            status["state"] = "Locked".into();
            status["key"] = serde_json::json!({"state": "Unknown"});
            status["format"] = serde_json::json!({"newest": 1, "committed": null});
        });
        let begun = |format| Progress { from: Release { format, ..release("1.4.1") }, ..progress() };
        assert_eq!(on(begun(1).advance(&seen(&locked, true), DEADLINE, at(60))).failure, None);
        let failed = on(begun(2).advance(&seen(&locked, true), DEADLINE, at(60)));
        assert!(failed.failure.is_some_and(|failure| failure.contains("file format 2")));
    }

    #[test]
    fn more_failures_or_much_slower_answers_than_before_are_noticed() {
        let traffic = |requests, failures, p99_ms| Traffic { requests, failures, p50_ms: 1.0, p99_ms };
        let judged = |before, after: Traffic| {
            let progress = Progress { traffic: Some(before), ..progress() };
            let engine = engine(|status| status["traffic"] = serde_json::to_value(after).expect("JSON"));
            let early = on(progress.advance(&seen(&engine, true), DEADLINE, at(60)));
            assert_eq!(early.failure, None, "the first requests after a start are slow everywhere");
            early.healthy_since.is_none() && on(early.advance(&seen(&engine, true), DEADLINE, at(300))).blames_release()
        };
        assert!(!judged(traffic(1000, 0, 10.0), traffic(1000, 20, 200.0)));
        assert!(judged(traffic(1000, 0, 10.0), traffic(1000, 30, 10.0)));
        assert!(judged(traffic(1000, 0, 100.0), traffic(1000, 0, 400.0)));
        assert!(!judged(traffic(1000, 0, 10.0), traffic(49, 49, 4000.0)), "too little to judge");
    }

    #[test]
    fn while_the_key_is_out_of_reach_nothing_is_judged_and_the_deadline_counts_anew() {
        for state in ["Refused", "Unreachable", "Invalid"] {
            let locked = engine(|status| {
                status["state"] = "Locked".into();
                status["key"] = serde_json::json!({"state": state});
            });
            let suspended = on(progress().advance(&seen(&locked, true), DEADLINE, at(100)));
            let suspended = on(suspended.advance(&seen(&locked, true), DEADLINE, at(100_000)));
            assert!(suspended.suspended && suspended.failure.is_none());
            let gone = on(suspended.advance(&seen(&silent(), true), DEADLINE, at(100_010)));
            assert!(gone.suspended && gone.failure.is_none(), "silence says nothing about the key");
            let healthy = on(gone.advance(&seen(&good(), true), DEADLINE, at(100_020)));
            assert!(matches!(healthy.advance(&seen(&good(), true), DEADLINE, at(100_030)), Step::Succeeded(_)));
        }
    }

    #[test]
    fn what_was_begun_is_read_back_as_it_was_written() {
        let progress = Progress { failure: Some("x".into()), traffic: Some(Traffic::default()), ..progress() };
        let text = serde_json::to_string(&progress).expect("JSON");
        assert_eq!(serde_json::from_str::<Progress>(&text).expect("read"), progress);
    }
}
