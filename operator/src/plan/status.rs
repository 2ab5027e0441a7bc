//! The status of a cluster: every condition, judged from what was observed and from what is about to be done.

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use vectorkeep_crds::{
    identity::{client_uri, connection_secret_name},
    status::{CertificateStatus, KeyStatus, VectorClusterStatus, ZoneStatus},
};

use super::{
    certificates::{Certificates, LeafChange},
    conditions::{Verdict, conditions, seconds, types},
    egress::KmsEgress,
    identity::Identity,
    refusal::Refusal,
};
use crate::{
    admin::{EngineKey, EngineState, EngineStatus, EngineView, KeyState},
    certificates::verify,
    observed::Observed,
    settings::Settings,
};

/// The status of a cluster that is being served.
pub fn serving(
    identity: &Identity,
    observed: &Observed,
    settings: &Settings,
    certificates: &Certificates,
    egress: &KmsEgress,
    rolls_out: bool,
    now: Timestamp,
) -> VectorClusterStatus {
    let key = key_accessible(identity, observed);
    let ready = ready(observed, &key, rolls_out);
    let verdicts = vec![
        (types::READY, ready.clone()),
        (types::RECONCILING, reconciling(&ready)),
        (types::STALLED, stalled(&ready)),
        (types::KEY_ACCESSIBLE, key),
        (types::CERTIFICATES_VALID, certificates_valid(observed, certificates)),
        (types::NETWORK_ISOLATED, network_isolated(observed, egress)),
        (types::UP_TO_DATE, up_to_date(observed, settings)),
    ];
    let mut status = base(identity, observed, verdicts, now);
    status.certificates = Some(certificate_status(certificates));
    status
}

/// The status of a cluster that can't be served until somebody changes something.
pub fn refused(identity: &Identity, observed: &Observed, refusal: &Refusal, now: Timestamp) -> VectorClusterStatus {
    let (reason, message) = (refusal.reason(), refusal.to_string());
    let verdicts = vec![
        (types::READY, Verdict::no(reason, message.clone())),
        (types::RECONCILING, Verdict::no(reason, message.clone())),
        (types::STALLED, Verdict::yes(reason, message)),
        (types::KEY_ACCESSIBLE, key_accessible(identity, observed)),
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
        key: answer(observed).map(key_status),
        certificates: None,
        conditions: conditions(verdicts, previous, generation, now),
    }
}

fn answer(observed: &Observed) -> Option<&EngineStatus> {
    match &observed.engine {
        EngineView::Answered(status) => Some(status),
        _ => None,
    }
}

fn key_status(status: &EngineStatus) -> KeyStatus {
    let key = &status.key;
    KeyStatus {
        state: key.state.as_str().to_owned(),
        // While the key answers, this moment moves all the time; a status that moves is a status that is written.
        last_success: key.last_success.filter(|_| key.state != KeyState::Accessible).map(seconds),
        endpoint_override: key.endpoint_override,
        zones: status
            .zones
            .iter()
            .map(|zone| ZoneStatus {
                id: zone.id.clone(),
                purpose: zone.purpose.clone(),
                version: zone.version,
                state: zone.state.as_str().to_owned(),
            })
            .collect(),
    }
}

/// Whether the master key answers, as the engine says.
fn key_accessible(identity: &Identity, observed: &Observed) -> Verdict {
    let status = match &observed.engine {
        EngineView::Answered(status) => status,
        EngineView::NotAsked => {
            return Verdict::unknown("EngineNotAsked", "the engine has not been heard yet");
        }
        EngineView::Silent { reason } => {
            return Verdict::unknown("EngineSilent", format!("the engine does not answer the operator: {reason}"));
        }
    };
    let spec = &observed.cluster.spec.encryption;
    let Some(aws) = &spec.aws else {
        return match status.key.state {
            KeyState::Accessible => Verdict::yes(
                "DevelopmentKey",
                "DEVELOPMENT ONLY: the master key lies in the Kubernetes cluster beside the data, and nobody outside \
                 can take it away; use encryption.aws for data that matters",
            ),
            state => Verdict::no(
                key_reason(state),
                format!(
                    "the key in the secret engine-local-key of the namespace {} is not usable{}; restore it from a \
                     backup",
                    identity.namespace,
                    said(&status.key)
                ),
            ),
        };
    };
    let (key, role) = (&aws.key_arn, &aws.role_arn);
    let said = said(&status.key);
    match status.key.state {
        KeyState::Accessible => Verdict::yes(
            "Accessible",
            if status.key.endpoint_override {
                "the key answers; the KMS is asked at the address in encryption.aws.endpoints"
            } else {
                "the key answers"
            },
        ),
        KeyState::Refused => Verdict::no(
            "KeyRefused",
            format!(
                "the KMS refuses the key {key} to the role {role}{said}. If that is not intended: enable the key; add \
                 the statement that `kubectl vectorkeep key-policy -n {} {}` prints to its policy; and let the role \
                 trust the subject system:serviceaccount:{}:engine. Service returns by itself within {}",
                identity.owner_namespace, identity.owner_name, identity.namespace, spec.check_interval
            ),
        ),
        KeyState::Unreachable => Verdict::no(
            "KeyUnreachable",
            format!(
                "the KMS does not answer for the key {key}{said}. Check that the KMS and the token service can be \
                 reached (spec.network.egress, or the chart value network.kmsEgress). The cluster stops serving {} after the \
                 last answer",
                spec.outage_grace
            ),
        ),
        KeyState::Invalid => Verdict::no(
            "KeyInvalid",
            format!(
                "the KMS answers for the key {key} with something that can't be right{said}. Check the address in \
                 encryption.aws.endpoints and that the key was not replaced; nothing was deleted"
            ),
        ),
        KeyState::Unknown => {
            Verdict::unknown("KeyNotAsked", format!("the engine has not asked the KMS for the key {key} yet{said}"))
        }
    }
}

fn said(key: &EngineKey) -> String {
    match key.message.as_deref() {
        Some(message) if !message.is_empty() => format!(" ({message})"),
        _ => String::new(),
    }
}

fn key_reason(state: KeyState) -> &'static str {
    match state {
        KeyState::Accessible => "Accessible",
        KeyState::Refused => "KeyRefused",
        KeyState::Unreachable => "KeyUnreachable",
        KeyState::Invalid => "KeyInvalid",
        KeyState::Unknown => "KeyNotAsked",
    }
}

fn ready(observed: &Observed, key: &Verdict, rolls_out: bool) -> Verdict {
    let children = observed.children.as_ref();
    let workload = children.and_then(|children| children.stateful_set.as_ref());
    // A locked engine says why itself, and that is worth more than what Kubernetes can say of its pod.
    if key.holds == Some(false) {
        return key.clone();
    }
    if rolls_out || !workload.is_some_and(is_rolled_out) {
        let pod = children.and_then(|children| children.pod.as_ref());
        return Verdict::no("EngineStarting", starting(workload, pod));
    }
    match &observed.engine {
        EngineView::NotAsked => {
            Verdict::unknown("EngineNotAsked", "the engine runs; the operator has not asked it yet")
        }
        EngineView::Silent { reason } => Verdict::unknown(
            "EngineSilent",
            format!(
                "the engine runs but does not answer the operator: {reason}. Check that the operator's pods can reach \
                 port 9092 of the data-plane namespace"
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

/// Whether every pod is of the current template, and answers.
fn is_rolled_out(stateful_set: &StatefulSet) -> bool {
    let wanted = stateful_set.spec.as_ref().and_then(|spec| spec.replicas);
    stateful_set.status.as_ref().is_some_and(|status| {
        status.observed_generation >= stateful_set.metadata.generation
            && status.ready_replicas == wanted
            && (status.update_revision.is_none()
                || status.updated_replicas == wanted
                || status.update_revision == status.current_revision)
    })
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
        return format!(
            "the engine's pod can't be scheduled: {}. Lower spec.resources, or add a node",
            condition.message.as_deref().unwrap_or("no reason given")
        );
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
const NEEDS_A_PERSON: [&str; 2] = ["KeyRefused", "KeyInvalid"];

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

fn certificates_valid(observed: &Observed, certificates: &Certificates) -> Verdict {
    let leaves = [
        ("serving", &certificates.serving),
        ("internal", &certificates.internal),
        ("operator", &certificates.operator_client),
    ];
    let made: Vec<String> = leaves
        .iter()
        .filter_map(|(name, leaf)| match leaf {
            LeafChange::Make { reason, .. } => Some(format!("{name}: {reason}")),
            LeafChange::Keep { .. } => None,
        })
        .collect();
    if !made.is_empty() {
        return Verdict::no("Issuing", format!("certificates are being made ({})", made.join("; ")));
    }
    let current = certificates.serving.material().and_then(|material| verify::fingerprint(&material.certificate).ok());
    let shown = answer(observed)
        .and_then(|status| status.serving_certificate.as_ref())
        .map(|certificate| certificate.sha256.to_ascii_lowercase());
    if shown.is_some() && shown != current {
        return Verdict::no(
            "Reloading",
            "the serving certificate was renewed and the engine still shows the one before; kubelet brings it within \
             about a minute",
        );
    }
    match certificates.next_renewal() {
        Some(renewal) => Verdict::yes("Valid", format!("the next certificate is renewed at {}", seconds(renewal))),
        None => Verdict::yes("Valid", "every certificate is valid"),
    }
}

fn network_isolated(observed: &Observed, egress: &KmsEgress) -> Verdict {
    let clients = match observed.cluster.spec.network.clients.len() {
        0 => "nobody may connect: list clients in spec.network.clients".to_owned(),
        1 => "one group of clients may connect".to_owned(),
        number => format!("{number} groups of clients may connect"),
    };
    let reach = match egress {
        KmsEgress::Nothing => "the engine may reach cluster DNS only",
        KmsEgress::Given(_) => "the engine may reach cluster DNS and the given addresses of the KMS only",
        KmsEgress::PublicOnly { .. } => {
            "no addresses of the KMS are given, so the engine may reach every public address on port 443; name them in \
             spec.network.egress or in the chart value network.kmsEgress to narrow that"
        }
    };
    Verdict::unknown(
        "PoliciesApplied",
        format!(
            "default-deny policies are in place; {clients}; {reach}. Whether the cluster's network enforces policies is \
             not proven by the operator"
        ),
    )
}

fn up_to_date(observed: &Observed, settings: &Settings) -> Verdict {
    let image = observed
        .children
        .as_ref()
        .and_then(|children| children.stateful_set.as_ref())
        .and_then(|set| set.spec.as_ref())
        .and_then(|spec| spec.template.spec.as_ref())
        .and_then(|pod| pod.containers.first())
        .and_then(|container| container.image.as_deref());
    match image {
        None => Verdict::unknown("NotRolledOut", "no engine has been started yet"),
        Some(image) if image == settings.engine_image => Verdict::yes("Current", "the engine is of the image on offer"),
        Some(_) => Verdict::no(
            "NewerImageOffered",
            format!(
                "the engine is of another image than the one on offer ({}); it is used from the next change of the \
                 resource on that starts the engine anew",
                settings.engine_image
            ),
        ),
    }
}

fn certificate_status(certificates: &Certificates) -> CertificateStatus {
    let end = |leaf: &LeafChange| leaf.validity().map(|validity| seconds(validity.not_after));
    CertificateStatus {
        serving_not_after: end(&certificates.serving),
        internal_not_after: end(&certificates.internal),
        operator_not_after: end(&certificates.operator_client),
        serving_ca_not_after: certificates.serving_ca.validity().map(|validity| seconds(validity.not_after)),
    }
}
