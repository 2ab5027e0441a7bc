//! What is to be rolled out, so that only a change of the resource, or a rollout that was decided on, makes new pods.
//!
//! What was rolled out last is recorded verbatim. A later operator may render another template or another configuration
//! from the same resource. It re-applies what is recorded until an *input* changes, or the resource's window lets it roll
//! out its own.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;
use semver::Version;
use serde::{Deserialize, Serialize};
use vectorkeep_crds::{
    EngineRelease,
    status::UpgradeReport,
    upgrade::Upgrade,
    well_known::{ANNOTATION_UPGRADE_NOW, LABEL_CANARY},
};

use super::{
    certificates::operator_client,
    change::Change,
    identity::Identity,
    record,
    refusal::Refusal,
    rendering::{Renderer, Rendering, print},
    statefulset,
};
use crate::{
    admin::{EngineState, EngineStatus, EngineView, KeyState},
    observed::Observed,
    settings::Settings,
    upgrade::{
        FIRST_FORMAT, Release,
        advisories::{self, Advisory},
        decision::{self, Decision, Situation, Wait},
        fleet::Fleet,
        offer,
        progress::{PodSight, Progress, Sight, Step},
        window::{Opening, Window},
    },
};

/// A request that could not be met for so long is forgotten.
const REQUEST: SignedDuration = SignedDuration::from_hours(1);
/// A canary whose window opens later than that is not waited for.
const CANARY: SignedDuration = SignedDuration::from_hours(8 * 24);
/// What was taken back is left alone for so long.
const RETRY: SignedDuration = SignedDuration::from_hours(6);
/// So many reports are kept.
const HISTORY: usize = 20;

/// What a cluster's engine is told to be, what is being done about it, and what was done.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// What was rolled out and found good.
    pub stable: Rendering,
    /// A rollout that was begun and has no verdict yet.
    pub progress: Option<Progress>,
    /// What that one waits for.
    pub waits_for: String,
    /// Rollouts that are over, newest first.
    pub history: Vec<UpgradeReport>,
    /// Advisories that are open, and the latest that were.
    pub advisories: Vec<Advisory>,
    /// The last request for a rollout that was answered.
    pub honoured: Option<String>,
    /// Fingerprint of a pod template that failed with the release that runs.
    pub rejected: Option<String>,
    /// The release that was taken back last, if none was kept since.
    pub taken_back: Option<TakenBack>,
    /// The release that would be taken next.
    pub offer: Option<EngineRelease>,
    /// Whether a renewed pod template would be rolled out next, with the release that runs.
    pub renews: bool,
    /// What becomes of the one or the other.
    pub decision: Decision,
    /// Why the window can't be read, if so.
    pub unreadable: Option<String>,
    /// The fleet, with this cluster's part in it.
    pub fleet: Fleet,
    /// What to tell: a word and a sentence.
    pub news: Vec<(&'static str, String)>,
}

/// A release that was taken back. Those to blame are quarantined; where a node, a volume or a registry was missing, trying
/// again at once would stop the cluster again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Its image.
    image: String,
    /// When.
    at: Timestamp,
}

impl Rollout {
    /// The pod template that is wanted now.
    pub fn template(&self) -> &PodTemplateSpec {
        self.moving().map_or(&self.stable.template, |progress| &progress.template)
    }

    /// The configuration files that are wanted now.
    pub fn files(&self) -> &BTreeMap<String, String> {
        self.moving().map_or(&self.stable.files, |progress| &progress.files)
    }

    /// What is being rolled out, unless it is being taken back.
    fn moving(&self) -> Option<&Progress> {
        self.progress.as_ref().filter(|progress| progress.failure.is_none())
    }

    /// When to look again, if nothing calls before.
    pub fn next_look(&self, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
        match (&self.progress, self.decision) {
            (Some(progress), _) => Some(progress.next_look(settings.gate_deadline, now)),
            (None, Decision::Later { next, wait: Wait::Window }) => next,
            // Nobody calls when another cluster is done.
            (None, Decision::Later { wait: Wait::Canaries | Wait::Room | Wait::Serving | Wait::WayBack, .. }) => {
                Some(now + SignedDuration::from_secs(15))
            }
            _ => None,
        }
    }
}

/// What is to be rolled out now.
///
/// What is recorded, as long as its inputs are the resource's; else a new rendering with the same release. A rollout
/// that was begun is taken on; else it is decided whether to begin one.
pub fn rollout(
    identity: &Identity,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) -> Result<Rollout, Refusal> {
    let spec = &observed.cluster.spec;
    let fleet = Fleet::read(observed.custody.fleet.as_ref());
    // In any case: an invalid resource must be told so, not hidden by what runs.
    let render = Renderer::new(identity, spec, settings)?;
    let catalog = releases(observed);
    let record = observed.custody.record.as_ref();
    let (mut stable, begun) = match known(observed)? {
        Some(stable) => (stable, true),
        None => {
            let release = offer::first(catalog, &spec.upgrade, &fleet)
                .ok_or_else(|| Refusal::NoRelease { line: spec.upgrade.version.clone() })?;
            (render.with(Release::from(release)), false)
        }
    };
    // A cluster that is there is not given up for a window that can't be read: nothing is begun in it.
    let window = match Window::of(&spec.upgrade.window) {
        Err(refusal) if !begun => return Err(refusal),
        window => window,
    };
    // What lies in the store and what the release knows count, whatever the catalog said when it was taken.
    if let Some(newest) = newest_format(observed, &stable.release) {
        stable.release.format = stable.release.format.min(newest);
    }
    stable.release.format = stable.release.format.max(committed_format(observed));
    let mut rollout = record::rollout(record, stable, fleet)?;
    rollout.unreadable = window.as_ref().err().map(Refusal::to_string);
    if rollout.stable.inputs != render.inputs() {
        rollout.stable = render.with(rollout.stable.release.clone());
        if let Some(progress) = &mut rollout.progress {
            let renewed = render.with(progress.to.clone());
            (progress.template, progress.files, progress.clock) = (renewed.template, renewed.files, now);
            progress.excused = true;
        }
    }
    match rollout.progress.take() {
        Some(progress) => take_on(&mut rollout, progress, identity, observed, settings, now),
        None if begun => begin(&mut rollout, &render, window.as_ref().ok(), observed, catalog, now),
        None => {}
    }
    // A catalog that is not there says nothing, not even that an advisory is over.
    if observed.catalog.is_some() {
        let known = std::mem::take(&mut rollout.advisories);
        rollout.advisories = advisories::follow(known, catalog, &rollout.stable.release, &spec.upgrade, now);
    }
    match &rollout.progress {
        Some(progress) => {
            let (to, since) = (&progress.to.version, progress.started);
            rollout.fleet.moves(&identity.cluster_id, to, since, progress.suspended);
        }
        None => rollout.fleet.rests(&identity.cluster_id),
    }
    Ok(rollout)
}

/// What was rolled out and found good, as far as anything says so. If the record was lost, the running workload and its
/// configuration stand in for it: losing a record must not restart anything.
fn known(observed: &Observed) -> Result<Option<Rendering>, Refusal> {
    let written = observed.custody.record.as_ref().map(record::stable).transpose()?.flatten();
    Ok(written.or_else(|| Rendering::running(observed, releases(observed))))
}

fn releases(observed: &Observed) -> &[EngineRelease] {
    observed.catalog.as_ref().map_or(&[], |catalog| &catalog.spec.releases)
}

/// Whether something runs of which nobody knows what it is before the engine has said it, which is just being asked.
pub fn is_known_by_the_engine_alone(observed: &Observed) -> Result<bool, Refusal> {
    let runs = observed.children.as_ref().is_some_and(|children| children.stateful_set.is_some());
    let asked = observed.engine.is_awaited() && operator_client(observed).is_some();
    Ok(runs && asked && known(observed)?.is_none())
}

/// Takes a rollout that was begun on, or ends it.
fn take_on(
    rollout: &mut Rollout,
    progress: Progress,
    identity: &Identity,
    observed: &Observed,
    settings: &Settings,
    now: Timestamp,
) {
    let spec = &observed.cluster.spec;
    let (to, failed) = (progress.to.clone(), progress.failure.is_some());
    let wanted = if failed { &rollout.stable.template } else { &progress.template };
    let workload = observed.children.as_ref().and_then(|children| children.stateful_set.as_ref());
    let written = workload.filter(|live| {
        Change::between(statefulset::stateful_set(identity, spec, wanted.clone()), Some(*live)).is_keep()
    });
    let sight = Sight {
        written: written.is_some(),
        rolled_out: written.is_some_and(statefulset::is_rolled_out),
        pod: pod_sight(observed),
        engine: &observed.engine,
    };
    let rendered = (progress.template.clone(), progress.files.clone());
    match progress.advance(&sight, settings.gate_deadline, now) {
        Step::On(progress, waits_for) => {
            if let Some(failure) = progress.failure.as_ref().filter(|_| !failed) {
                let note = format!("{} is taken back: {failure}", to.version);
                rollout.news.push(("UpgradeFailed", note));
            }
            if progress.blames_release() {
                let reason = progress.failure.clone().unwrap_or_default();
                rollout.fleet.quarantine(&to.image, &to.version, &reason, &identity.cluster_id);
            }
            rollout.progress = Some(*progress);
            rollout.waits_for = waits_for;
        }
        Step::Succeeded(report) => {
            let note = format!("{} runs, after {} ({} s)", report.to, report.from, report.duration_seconds);
            rollout.news.push(("UpgradeSucceeded", note));
            (rollout.stable.template, rollout.stable.files) = rendered;
            rollout.stable.release = to;
            rollout.taken_back = None;
            remember(&mut rollout.history, report);
        }
        Step::RolledBack(report) => {
            rollout.news.push(("UpgradeRolledBack", format!("{} runs again instead of {}", report.from, report.to)));
            // A release that failed is quarantined, or tried again; a pod template of this operator's is not.
            rollout.rejected = Some(print(&rendered.0, &rendered.1)).filter(|_| report.from == report.to);
            rollout.taken_back = Some(TakenBack { image: to.image, at: now }).filter(|_| report.from != report.to);
            remember(&mut rollout.history, report);
        }
    }
}

/// Decides whether to begin a rollout, and notes its beginning.
fn begin(
    rollout: &mut Rollout,
    render: &Renderer<'_>,
    window: Option<&Window>,
    observed: &Observed,
    catalog: &[EngineRelease],
    now: Timestamp,
) {
    let policy = &observed.cluster.spec.upgrade;
    let running = &rollout.stable.release;
    let offer = offer::next(catalog, running, policy, &rollout.fleet).cloned();
    let request = observed.cluster.annotations().get(ANNOTATION_UPGRADE_NOW);
    let request = request.filter(|request| Some(*request) != rollout.honoured.as_ref() && !is_old(request, now));
    // What nobody lets in must not hold up a renewed pod template.
    let taken = offer.as_ref().filter(|_| policy.auto_patch || request.is_some());
    let renewed = render.with(taken.map_or_else(|| running.clone(), Release::from));
    let rejected = rollout.rejected.as_ref() == Some(&renewed.print()) && request.is_none();
    let template_differs = taken.is_none() && !renewed.is_same_pod(&rollout.stable) && !rejected;
    let decision = decision::decide(&Situation {
        offer: if template_differs { None } else { offer.as_ref() },
        template_differs,
        policy,
        window,
        unasked: observed.engine.is_awaited(),
        key_withheld: answer(observed).is_some_and(|status| {
            matches!(status.key.state, KeyState::Refused | KeyState::Unreachable | KeyState::Invalid)
        }),
        serving: serves(observed),
        way_back: catalog.iter().any(|release| release.image == running.image),
        room: rollout.fleet.has_room(&render.identity.cluster_id, render.settings.concurrent_upgrades, now),
        canaries_pending: canaries_pending(observed, &rollout.fleet, taken, now),
        again: taken.and_then(|offer| {
            let before = rollout.taken_back.as_ref().filter(|before| before.image == offer.image);
            before.map(|before| before.at + RETRY)
        }),
        requested: request.is_some(),
        now,
    });
    if let Decision::Start { window } = decision {
        let note = format!("{} takes the place of {}", renewed.release.version, running.version);
        rollout.news.push(("UpgradeStarted", note));
        rollout.progress = Some(Progress {
            from: running.clone(),
            to: renewed.release,
            advisories: taken.map(|offer| offer.advisories.clone()).unwrap_or_default(),
            started: now,
            window,
            template: renewed.template,
            files: renewed.files,
            epochs: epochs(&observed.engine),
            traffic: answer(observed).and_then(|status| status.traffic),
            clock: now,
            suspended: false,
            healthy_since: None,
            unavailable_since: None,
            unavailable_seconds: 0,
            // What did not serve before says little about what comes after.
            excused: !serves(observed),
            failure: None,
            blamed: false,
        });
        rollout.waits_for = "the new pod".to_owned();
    }
    // A request that can only be met later stays; any other is answered, one way or the other.
    let stays = matches!(decision, Decision::Later { wait: Wait::Serving | Wait::Room | Wait::WayBack, .. })
        || observed.catalog.is_none();
    if let Some(request) = request.filter(|_| !stays) {
        rollout.honoured = Some(request.clone());
    }
    rollout.offer = offer;
    rollout.renews = template_differs;
    rollout.decision = decision;
}

/// Whether a request was made so long ago that nobody waits for it any more. One that is no time is met.
fn is_old(request: &str, now: Timestamp) -> bool {
    request.parse::<Timestamp>().is_ok_and(|asked| asked < now - REQUEST)
}

fn remember(history: &mut Vec<UpgradeReport>, report: UpgradeReport) {
    history.insert(0, report);
    history.truncate(HISTORY);
}

fn answer(observed: &Observed) -> Option<&EngineStatus> {
    observed.engine.answer()
}

/// The file format that the engine says its store has.
fn committed_format(observed: &Observed) -> i32 {
    let format = answer(observed).and_then(|status| status.format);
    format.and_then(|format| format.committed).unwrap_or(FIRST_FORMAT)
}

/// The newest file format that the engine says it knows, if it is that of `release` and serves: then it knows the store's.
fn newest_format(observed: &Observed, release: &Release) -> Option<i32> {
    let status = answer(observed)?;
    let known = status.state == EngineState::Serving && status.version == release.version;
    Some(status.format.filter(|_| known)?.newest.max(FIRST_FORMAT))
}

/// Whether the cluster serves, and would again if its pod were replaced now.
fn serves(observed: &Observed) -> bool {
    let workload = observed.children.as_ref().and_then(|children| children.stateful_set.as_ref());
    workload.is_some_and(statefulset::is_rolled_out)
        && answer(observed).is_some_and(|status| {
            status.state == EngineState::Serving && status.key.state == KeyState::Accessible && !status.is_exposed()
        })
}

fn epochs(engine: &EngineView) -> BTreeMap<String, u64> {
    let shards = engine.answer().into_iter().flat_map(|status| &status.shards);
    shards.map(|shard| (shard.database_id.clone(), shard.epoch)).collect()
}

fn pod_sight(observed: &Observed) -> PodSight<'_> {
    let Some(children) = &observed.children else { return PodSight::default() };
    let Some(pod) = &children.pod else { return PodSight::default() };
    let Some(status) = &pod.status else { return PodSight::default() };
    let wanted = children.stateful_set.as_ref().and_then(|set| set.status.as_ref()?.update_revision.as_ref());
    let container = status.container_statuses.iter().flatten().next();
    PodSight {
        ready_since: observed.ready_since(),
        current: wanted.is_some() && pod.labels().get("controller-revision-hash") == wanted,
        restarts: container.map_or(0, |container| container.restart_count),
        waiting: container.and_then(|container| container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()),
    }
}

/// Whether a canary takes the offer, or still could: then the others wait for it.
fn canaries_pending(observed: &Observed, fleet: &Fleet, offer: Option<&EngineRelease>, now: Timestamp) -> bool {
    let is_canary = observed.cluster.labels().get(LABEL_CANARY).is_some_and(|value| value == "true");
    let Some(offered) = offer.and_then(|offer| Version::parse(&offer.version).ok()) else { return false };
    !is_canary
        && observed.canaries.iter().any(|canary| {
            let version = canary.version.as_deref().and_then(|version| Version::parse(version).ok());
            let fits = version.is_some_and(|version| {
                (version.major, version.minor) == (offered.major, offered.minor) && version < offered
            });
            (fits && canary.serves && goes_soon(&canary.policy, now)) || fleet.is_on_its_way(&canary.cluster_id, now)
        })
}

/// Whether a canary takes what it is offered before long: nobody waits for one whose window hardly ever opens.
fn goes_soon(policy: &Upgrade, now: Timestamp) -> bool {
    let opens = Window::of(&policy.window).ok().and_then(|window| match window.at(now) {
        Opening::Open(opened) => Some(opened),
        Opening::Closed(next) => next,
    });
    policy.auto_patch && !policy.paused && opens.is_some_and(|opens| opens <= now + CANARY)
}
