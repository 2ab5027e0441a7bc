//! What is true of a cluster right now, in words for programs and for people.

use jiff::Timestamp;
use vectorkeep_crds::status::Condition;

/// Types of conditions.
pub mod types {
    /// The cluster serves.
    pub const READY: &str = "Ready";
    /// The operator is at work, or waits for something that comes by itself.
    pub const RECONCILING: &str = "Reconciling";
    /// Nothing moves on until somebody does something.
    pub const STALLED: &str = "Stalled";
    /// The master key answers.
    pub const KEY_ACCESSIBLE: &str = "KeyAccessible";
    /// Every certificate is good, and the engine shows the current one.
    pub const CERTIFICATES_VALID: &str = "CertificatesValid";
    /// Nobody but those listed reaches the engine.
    pub const NETWORK_ISOLATED: &str = "NetworkIsolated";
    /// What runs is what the operator would start.
    pub const UP_TO_DATE: &str = "UpToDate";
}

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Some(true)`, `Some(false)`, or `None` for unknown.
    pub holds: Option<bool>,
    /// One word.
    pub reason: &'static str,
    /// A sentence: what is the matter, and what to do.
    pub message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Some(true), reason, message)
    }

    /// It does not hold.
    pub fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Some(false), reason, message)
    }

    /// Nobody knows.
    pub fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(None, reason, message)
    }

    fn new(holds: Option<bool>, reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }

    fn status(&self) -> &'static str {
        match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// Turns judgements into conditions. A condition whose status is what it was keeps its time.
pub fn conditions(
    verdicts: Vec<(&'static str, Verdict)>,
    previous: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    verdicts
        .into_iter()
        .map(|(type_, verdict)| {
            let unchanged =
                previous.iter().find(|condition| condition.type_ == type_ && condition.status == verdict.status());
            Condition {
                type_: type_.to_owned(),
                status: verdict.status().to_owned(),
                observed_generation: generation,
                last_transition_time: match unchanged {
                    Some(condition) => condition.last_transition_time.clone(),
                    None => seconds(now),
                },
                reason: verdict.reason.to_owned(),
                message: verdict.message,
            }
        })
        .collect()
}

/// A moment as Kubernetes writes it: RFC 3339 in whole seconds.
pub fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let early: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let late: Timestamp = "2026-01-02T00:00:00.5Z".parse().expect("a time");
        let first = conditions(vec![(types::READY, Verdict::no("A", "a"))], &[], Some(1), early);
        let same = conditions(vec![(types::READY, Verdict::no("B", "b"))], &first, Some(1), late);
        assert_eq!(same[0].last_transition_time, "2026-01-01T00:00:00Z");
        assert_eq!(same[0].reason, "B");
        let changed = conditions(vec![(types::READY, Verdict::yes("C", "c"))], &same, Some(1), late);
        assert_eq!(changed[0].last_transition_time, "2026-01-02T00:00:00Z");
    }
}
