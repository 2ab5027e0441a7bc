//! What is told of the master key.

use vectorkeep_crds::status::{KeyStatus, ZoneStatus};

use crate::{
    admin::{EngineKey, EngineStatus, EngineView, KeyState},
    observed::Observed,
    plan::{
        conditions::{Verdict, seconds},
        identity::Identity,
    },
};

/// The key in detail.
pub(super) fn report(status: &EngineStatus) -> KeyStatus {
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
pub(super) fn accessible(identity: &Identity, observed: &Observed) -> Verdict {
    let status = match &observed.engine {
        EngineView::Answered(status) => status,
        EngineView::NotAsked | EngineView::Restarted => {
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
