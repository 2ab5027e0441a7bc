//! When to lock: the decision, as a function of values.

use std::fmt;
use std::time::Duration;

use crate::boottime::BootTime;
use crate::check::CheckOutcome;

/// What is known about the right to use the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// The keys may be used.
    Held {
        /// When the last successful check started.
        last_success: BootTime,
        /// How long silence is endured from then on.
        outage_grace: Duration,
    },
    /// The keys are given up. Final: a new process starts over.
    Locked,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A check that started at `started` came back.
    Checked {
        /// Start of the check's calls.
        started: BootTime,
        /// What they said.
        outcome: CheckOutcome,
    },
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Give the keys up at once.
    Lock(LockReason),
}

/// Why the keys were given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockReason {
    /// The KMS or the identity service refused.
    Refused(String),
    /// The KMS answered with something that is not the key.
    Invalid(String),
    /// The KMS was silent for longer than the outage grace.
    OutageGraceOver(String),
}

impl fmt::Display for LockReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) => write!(f, "the master key was refused: {message}"),
            Self::Invalid(message) => write!(f, "the KMS gave an invalid answer: {message}"),
            Self::OutageGraceOver(message) => {
                write!(f, "the KMS was silent for longer than the outage grace")?;
                if message.is_empty() { Ok(()) } else { write!(f, ": {message}") }
            }
        }
    }
}

/// The next state and what to do, given what happened by `now`.
pub fn next(state: LockState, event: Event, now: BootTime) -> (LockState, Action) {
    let LockState::Held { last_success, outage_grace } = state else {
        return (LockState::Locked, Action::Keep);
    };
    let lock = |reason| (LockState::Locked, Action::Lock(reason));
    let (success, silence) = match event {
        Event::Checked { outcome, started } => match outcome {
            CheckOutcome::Refused(message) => return lock(LockReason::Refused(message)),
            CheckOutcome::Invalid(message) => return lock(LockReason::Invalid(message)),
            CheckOutcome::Ok => (Some(started), String::new()),
            CheckOutcome::Unreachable(message) => (None, message),
        },
        Event::Tick => (None, String::new()),
    };
    // A success that arrives after the grace is over comes too late: others have acted on the expiry already.
    if now >= last_success.after(outage_grace) {
        return lock(LockReason::OutageGraceOver(silence));
    }
    let state = LockState::Held {
        last_success: success.map_or(last_success, |started| last_success.max(started)),
        outage_grace,
    };
    (state, Action::Keep)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    fn held(seconds: u64) -> LockState {
        LockState::Held { last_success: at(seconds), outage_grace: GRACE }
    }

    fn checked(started: u64, outcome: CheckOutcome) -> Event {
        Event::Checked { started: at(started), outcome }
    }

    #[test]
    fn a_refusal_locks_at_once() {
        let event = checked(11, CheckOutcome::Refused("disabled".into()));
        let (state, action) = next(held(10), event, at(12));
        assert_eq!(state, LockState::Locked);
        assert_eq!(action, Action::Lock(LockReason::Refused("disabled".into())));
    }

    #[test]
    fn an_invalid_answer_locks_at_once() {
        let event = checked(11, CheckOutcome::Invalid("other key".into()));
        let (_, action) = next(held(10), event, at(12));
        assert_eq!(action, Action::Lock(LockReason::Invalid("other key".into())));
    }

    #[test]
    fn silence_is_endured_until_the_grace_is_over() {
        let silence = || checked(608, CheckOutcome::Unreachable("time-out".into()));
        assert_eq!(next(held(10), silence(), at(609)), (held(10), Action::Keep));
        let (state, action) = next(held(10), silence(), at(610));
        assert_eq!(state, LockState::Locked);
        assert!(matches!(action, Action::Lock(LockReason::OutageGraceOver(_))));
        let (_, action) = next(held(10), Event::Tick, at(610));
        assert!(matches!(action, Action::Lock(LockReason::OutageGraceOver(_))));
    }

    #[test]
    fn success_counts_from_the_start_of_the_call() {
        let (state, action) = next(held(10), checked(20, CheckOutcome::Ok), at(29));
        assert_eq!((state, action), (held(20), Action::Keep));
        let (state, _) = next(held(10), checked(5, CheckOutcome::Ok), at(29));
        assert_eq!(state, held(10), "an older check takes nothing back");
    }

    #[test]
    fn a_success_after_the_grace_comes_too_late() {
        let (state, action) = next(held(10), checked(609, CheckOutcome::Ok), at(611));
        assert_eq!(state, LockState::Locked);
        assert!(matches!(action, Action::Lock(LockReason::OutageGraceOver(_))));
    }

    proptest! {
        #[test]
        fn locked_is_final(started: u64, now: u64, kind in 0..4) {
            let outcome = match kind {
                0 => CheckOutcome::Ok,
                1 => CheckOutcome::Refused(String::new()),
                2 => CheckOutcome::Unreachable(String::new()),
                _ => CheckOutcome::Invalid(String::new()),
            };
            let event = Event::Checked { started: BootTime::from_nanos(started), outcome };
            let (state, action) = next(LockState::Locked, event, BootTime::from_nanos(now));
            prop_assert_eq!(state, LockState::Locked);
            prop_assert_eq!(action, Action::Keep);
        }
    }
}
