//! The status of a cluster: every condition, judged from what was observed and from what is about to be done.

mod certificates;
mod isolation;
mod key;
mod upgrade;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use vectorkeep_crds::{
    identity::{client_uri, connection_secret_name},
    isolation::Enforcement,
    status::{Condition, VectorClusterStatus},
};

pub use self::isolation::proof_awaited;
use super::{
    certificates::{Certificates, operator_client},
    conditions::{Verdict, conditions, types},
    identity::Identity,
    isolation::Boundary,
    refusal::Refusal,
    rollout::Rollout,
    statefulset::is_rolled_out,
};
use crate::{
    admin::{EngineState, EngineStatus, EngineView},
    observed::Observed,
};

/// So long after its pod became ready an engine is asked in vain before it counts as silent: a few polls.
const FIRST_WORDS: SignedDuration = SignedDuration::from_secs(10);

/// The status of a cluster that is being served.
pub fn serving(
    identity: &Identity,
    observed: &Observed,
    rollout: &Rollout,
    certificates: &Certificates,
    boundary: &Boundary,
    rolls_out: bool,
    now: Timestamp,
) -> VectorClusterStatus {
    let key = key::accessible(identity, observed);
    let isolated = isolation::isolated(observed, boundary);
    let valid = certificates::valid(observed, certificates);
    let awaited = certificates.serving.is_awaited().then_some(&valid);
    let ready = ready(observed, &key, &isolated, awaited, rolls_out, rollout.stable.release.format, now);
    let verdicts = vec![
        (types::READY, ready.clone()),
        (types::RECONCILING, reconciling(&ready)),
        (types::STALLED, stalled(&ready)),
        (types::KEY_ACCESSIBLE, key),
        (types::CERTIFICATES_VALID, valid),
        (types::NETWORK_ISOLATED, isolated),
        (types::UP_TO_DATE, upgrade::up_to_date(rollout)),
    ];
    let mut status = base(identity, observed, verdicts, now);
    status.certificates = Some(certificates::report(certificates));
    status.upgrade = Some(upgrade::report(observed, rollout));
    status.isolation = isolation::report(observed, boundary, now);
    status
}

/// The status of a cluster that can't be served until somebody changes something.
pub fn refused(identity: &Identity, observed: &Observed, refusal: &Refusal, now: Timestamp) -> VectorClusterStatus {
    let (reason, message) = (refusal.reason(), refusal.to_string());
    // What serves goes on serving, as it was asked to before. Of one that is just being asked, that is not news yet.
    let serving = match answer(observed) {
        Some(status) => status.state == EngineState::Serving,
        None => observed.engine.is_awaited() && operator_client(observed).is_some() && was_ready(observed),
    };
    let ready = match serving {
        true => Verdict::yes("Serving", format!("served as it was before, and nothing of it is changed: {message}")),
        false => Verdict::no(reason, message.clone()),
    };
    let verdicts = vec![
        (types::READY, ready),
        (types::RECONCILING, Verdict::no(reason, message.clone())),
        (types::STALLED, Verdict::yes(reason, message)),
        (types::KEY_ACCESSIBLE, key::accessible(identity, observed)),
    ];
    base(identity, observed, verdicts, now)
}

/// The status of a cluster that waits for a namespace: being claimed, or on its way out.
pub fn waiting(
    identity: &Identity,
    observed: &Observed,
    reason: &'static str,
    message: &str,
    now: Timestamp,
) -> VectorClusterStatus {
    let verdicts = vec![
        (types::READY, Verdict::no(reason, message)),
        (types::RECONCILING, Verdict::yes(reason, message)),
        (types::STALLED, Verdict::no(reason, message)),
    ];
    base(identity, observed, verdicts, now)
}

/// The status of a cluster for which the API server refused a write: what was planned to be reported, and why it is
/// not so.
pub fn interrupted(
    mut planned: VectorClusterStatus,
    observed: &Observed,
    problem: &str,
    now: Timestamp,
) -> VectorClusterStatus {
    let reason = "WriteRefused";
    let message = format!("{problem}. It is tried again; an administrator has to allow it or change what forbids it");
    let mut verdicts = vec![
        (types::RECONCILING, Verdict::yes(reason, message.clone())),
        (types::STALLED, Verdict::yes(reason, message.clone())),
    ];
    // What serves goes on serving.
    let ready = |condition: &Condition| condition.type_ == types::READY && condition.status == "True";
    if !planned.conditions.iter().any(ready) {
        verdicts.push((types::READY, Verdict::no(reason, message)));
    }
    let cluster = &observed.cluster;
    let previous = cluster.status.as_ref().map_or(&[][..], |status| &status.conditions);
    for condition in conditions(verdicts, previous, cluster.metadata.generation, now) {
        match planned.conditions.iter_mut().find(|planned| planned.type_ == condition.type_) {
            Some(planned) => *planned = condition,
            None => planned.conditions.push(condition),
        }
    }
    planned
}

fn base(
    identity: &Identity,
    observed: &Observed,
    verdicts: Vec<(&'static str, Verdict)>,
    now: Timestamp,
) -> VectorClusterStatus {
    let cluster = &observed.cluster;
    let previous = cluster.status.as_ref();
    let previous = previous.map_or(&[][..], |status| &status.conditions);
    let generation = cluster.metadata.generation;
    VectorClusterStatus {
        observed_generation: generation,
        cluster_id: Some(identity.cluster_id.clone()),
        data_plane_namespace: Some(identity.namespace.clone()),
        endpoint: Some(client_uri(&identity.cluster_id)),
        connection_secret: Some(connection_secret_name(&identity.owner_name)),
        version: answer(observed).map(|status| status.version.clone()),
        key: answer(observed).map(key::report),
        certificates: None,
        isolation: None,
        upgrade: None,
        conditions: conditions(verdicts, previous, generation, now),
    }
}

fn was_ready(observed: &Observed) -> bool {
    let status = observed.cluster.status.as_ref();
    status.is_some_and(|it| it.conditions.iter().any(|it| it.type_ == types::READY && it.status == "True"))
}

fn answer(observed: &Observed) -> Option<&EngineStatus> {
    observed.engine.answer()
}

fn ready(
    observed: &Observed,
    key: &Verdict,
    isolated: &Verdict,
    awaited: Option<&Verdict>,
    rolls_out: bool,
    format: i32,
    now: Timestamp,
) -> Verdict {
    let children = observed.children.as_ref();
    let workload = children.and_then(|children| children.stateful_set.as_ref());
    // A locked engine says why itself, and that is worth more than what Kubernetes can say of its pod.
    if key.holds == Some(false) {
        return key.clone();
    }
    let required = observed.cluster.spec.isolation.enforcement == Enforcement::Required;
    if isolated.holds == Some(false)
        && required
        && answer(observed).is_some_and(|it| it.state != EngineState::Serving && it.is_exposed())
    {
        return isolated.clone();
    }
    if rolls_out || !workload.is_some_and(is_rolled_out) {
        // Without a certificate, no pod starts.
        if let Some(awaited) = awaited {
            return awaited.clone();
        }
        let pod = children.and_then(|children| children.pod.as_ref());
        return Verdict::no("EngineStarting", starting(workload, pod));
    }
    if first_words_awaited(observed, now).is_some() {
        return Verdict::no("EngineStarting", "the engine's pod is ready, and is being asked how it is");
    }
    match &observed.engine {
        EngineView::NotAsked | EngineView::Restarted => {
            Verdict::unknown("EngineNotAsked", "the engine runs; the operator has not heard it yet")
        }
        EngineView::Silent { reason } => Verdict::unknown(
            "EngineSilent",
            format!(
                "the engine runs but does not answer the operator: {reason}. Check that the operator's pods can reach \
                 port 9092 of the data-plane namespace"
            ),
        ),
        EngineView::Answered(status) if status.knows_less_than(format) => Verdict::no(
            "FormatUnknown",
            format!(
                "the store was written by a newer release: it has file format {format}, which {} does not know. Nothing \
                 in it is changed. Put a release that knows the format into the EngineCatalog and take it with \
                 `kubectl vectorkeep upgrade now`",
                status.version
            ),
        ),
        EngineView::Answered(status) => match status.state {
            EngineState::Serving if key.holds == Some(true) => {
                Verdict::yes("Serving", "the cluster serves reads and writes")
            }
            EngineState::Unlocking => {
                Verdict::no("EngineUnlocking", "the key answers; the engine loads its collections")
            }
            _ => Verdict::no("EngineLocked", "the engine is locked until its key has answered"),
        },
    }
}

/// Until when nobody worries that an engine which has just become ready was not heard yet.
pub fn first_words_awaited(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let since = now.duration_since(observed.ready_since()?);
    // Clocks of nodes may be wrong, a little or by years.
    let young = observed.engine.answer().is_none() && since.abs() < FIRST_WORDS;
    young.then(|| now + (FIRST_WORDS - since))
}

/// Why an engine is not there yet, as far as its pod shows it.
fn starting(stateful_set: Option<&StatefulSet>, pod: Option<&Pod>) -> String {
    if stateful_set.is_none() {
        return "the engine is being created".to_owned();
    }
    let Some(status) = pod.and_then(|pod| pod.status.as_ref()) else {
        return "the engine's pod is being created".to_owned();
    };
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unscheduled {
        let selector = pod.and_then(|pod| pod.spec.as_ref()?.node_selector.as_ref()?.iter().next());
        let remedy = match selector {
            Some((label, value)) => format!("or label a node that has room {label}={value}"),
            None => "or add a node".to_owned(),
        };
        let reason = condition.message.as_deref().unwrap_or("no reason given");
        return format!("the engine's pod can't be scheduled: {reason}. Lower spec.resources, {remedy}");
    }
    let containers = status.container_statuses.iter().flatten();
    for container in containers {
        let state = container.state.as_ref();
        let restarts = container.restart_count;
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or("waiting");
            return format!(
                "the engine's pod waits ({reason}, {restarts} restarts){}",
                match waiting.message.as_deref() {
                    Some(message) => format!(": {message}"),
                    None => String::new(),
                }
            );
        }
    }
    "the engine's pod starts".to_owned()
}

/// Reasons that only a person can do something about.
const NEEDS_A_PERSON: [&str; 6] = [
    "KeyRefused",
    "KeyInvalid",
    "PoliciesNotEnforced",
    "FormatUnknown",
    "CertManagerMissing",
    "IssuedCertificateUnusable",
];

fn reconciling(ready: &Verdict) -> Verdict {
    if ready.holds == Some(true) || NEEDS_A_PERSON.contains(&ready.reason) {
        Verdict::no("Settled", "nothing is being changed")
    } else {
        Verdict::yes(ready.reason, ready.message.clone())
    }
}

fn stalled(ready: &Verdict) -> Verdict {
    if NEEDS_A_PERSON.contains(&ready.reason) {
        Verdict::yes(ready.reason, ready.message.clone())
    } else {
        Verdict::no("Settled", "nothing waits for a person")
    }
}
