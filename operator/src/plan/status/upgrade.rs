//! What is told of releases, and of the upgrades between them.

use vectorkeep_crds::{
    Severity,
    status::{UpgradeInProgress, UpgradeStatus},
};

use super::answer;
use crate::{
    observed::Observed,
    plan::{
        conditions::{Verdict, seconds},
        rollout::Rollout,
    },
    upgrade::{
        advisories,
        decision::{Decision, Wait},
    },
};

/// Whether the newest release that fits runs.
pub(super) fn up_to_date(rollout: &Rollout) -> Verdict {
    let running = &rollout.stable.release.version;
    if let Some(progress) = &rollout.progress {
        let (to, waits_for) = (&progress.to.version, &rollout.waits_for);
        return match &progress.failure {
            None => Verdict::no("Upgrading", format!("{to} takes the place of {running}; it waits for {waits_for}")),
            Some(failure) => {
                Verdict::no("RollingBack", format!("{to} is taken back ({failure}); it waits for {waits_for}"))
            }
        };
    }
    let bad = rollout.fleet.quarantined_versions();
    let bad = match bad.is_empty() {
        _ if rollout.fleet.is_broken() => {
            ". The ConfigMap upgrade-fleet of the operator's namespace can't be read; nothing is begun until it is \
             mended or deleted"
                .to_owned()
        }
        true => String::new(),
        false => format!(". Taken by no cluster, since they failed one: {}", bad.join(", ")),
    };
    let unreadable = rollout.unreadable.as_ref().map(|problem| format!(". Nothing is begun by itself: {problem}"));
    let bad = bad + &open_holes(rollout) + &unreadable.unwrap_or_default();
    let waits = waits(rollout.decision).map(|why| format!("; {why}")).unwrap_or_default();
    let renewed = match rollout.renews {
        true => format!("; there is a renewed pod template{waits}"),
        false => String::new(),
    };
    match &rollout.offer {
        None => Verdict::yes("Current", format!("{running} is the newest release that fits{renewed}{bad}")),
        // The template goes first only where the resource takes no release by itself.
        Some(offer) if rollout.renews => {
            let asked = waits_for_a_request();
            Verdict::no("PatchOffered", format!("{} is on offer; {asked}{renewed}{bad}", offer.version))
        }
        Some(offer) => Verdict::no("PatchOffered", format!("{} is on offer{waits}{bad}", offer.version)),
    }
}

fn waits_for_a_request() -> String {
    "spec.upgrade.autoPatch is off; `kubectl vectorkeep upgrade now` takes it".to_owned()
}

/// What is waited for, if something is.
fn waits(decision: Decision) -> Option<String> {
    let Decision::Later { wait, next } = decision else { return None };
    Some(match (wait, next) {
        (Wait::TakenBack, next) => {
            let next = next.map(|next| format!(" from {} on,", seconds(next))).unwrap_or_default();
            format!("it was taken back; it is tried again{next} or by `kubectl vectorkeep upgrade now`")
        }
        (Wait::Window, Some(next)) => format!("it is taken at {}", seconds(next)),
        (Wait::Window, None) => "the window in spec.upgrade.window never opens".to_owned(),
        (Wait::Paused, _) => "spec.upgrade.paused holds it back".to_owned(),
        (Wait::Asked, _) => waits_for_a_request(),
        (Wait::Serving, _) => "it is taken once the cluster serves".to_owned(),
        (Wait::WayBack, _) => {
            "the release that runs is not in the EngineCatalog, so there would be no way back; add it".to_owned()
        }
        (Wait::Canaries, _) => "clusters labelled vectorkeep.dev/canary=true take it first".to_owned(),
        (Wait::Room, _) => "enough other clusters are moving right now".to_owned(),
    })
}

/// The security advisories that are open, in words; nothing if there are none.
fn open_holes(rollout: &Rollout) -> String {
    /// So many are named; the status has all of them.
    const NAMED: usize = 5;
    let open = advisories::open(&rollout.advisories);
    let holes: Vec<_> = open.iter().filter(|open| open.severity == Severity::Security).collect();
    if holes.is_empty() {
        return String::new();
    }
    let named: Vec<_> =
        holes.iter().take(NAMED).map(|hole| format!("{} (fixed in {})", hole.id, hole.fixed_in)).collect();
    let more = match holes.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(". Open security advisories: {}{more}", named.join(", "))
}

/// Upgrades in detail.
pub(super) fn report(observed: &Observed, rollout: &Rollout) -> UpgradeStatus {
    UpgradeStatus {
        // It never gets lower, so what was last told holds while the engine says nothing.
        format: answer(observed).and_then(|status| status.format?.committed).or_else(|| told_format(observed)),
        available: rollout.offer.as_ref().map(|offer| offer.version.clone()),
        next: match rollout.decision {
            Decision::Later { next, .. } => next.map(seconds),
            _ => None,
        },
        in_progress: rollout.progress.as_ref().map(|progress| UpgradeInProgress {
            from: progress.from.version.clone(),
            to: progress.to.version.clone(),
            started: seconds(progress.started),
            waits_for: rollout.waits_for.clone(),
        }),
        history: rollout.history.clone(),
        advisories: advisories::open(&rollout.advisories),
    }
}

fn told_format(observed: &Observed) -> Option<i32> {
    observed.cluster.status.as_ref()?.upgrade.as_ref()?.format
}
