//! Keeps asking the KMS, publishes what it says, and returns when the keys must be given up.

use std::time::{Duration, SystemTime};

use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep_until, timeout};

use crate::boottime::BootTime;
use crate::check::{CheckOutcome, KeyState};
use crate::keyring::Keyring;
use crate::lock::{Action, Event, LockReason, LockState, next};

/// How the keys are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConfig {
    /// Within this time of a refusal by the KMS, [`watch`] returns. Checks start every half of it and get at most
    /// the other half, time-outs and retries included.
    pub interval: Duration,
    /// How long silence of the KMS is endured, from the start of the last successful check. With less than the
    /// interval, it can be over while the KMS answers.
    pub outage_grace: Duration,
}

impl WatchConfig {
    /// What one KMS call, retries included, may take for a check to fit. Give it to the KMS provider.
    pub fn call_timeout(&self) -> Duration {
        self.interval / 2
    }
}

/// What a status says about the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// State as the last check found it.
    pub state: KeyState,
    /// What happened; empty if all is well.
    pub message: String,
    /// Wall-clock time of the last success.
    pub last_success: Option<SystemTime>,
    /// Wall-clock time of the last check.
    pub last_check: Option<SystemTime>,
}

impl Default for KeyStatus {
    fn default() -> Self {
        Self { state: KeyState::Unknown, message: String::new(), last_success: None, last_check: None }
    }
}

/// Checks `keyring` until its keys must be given up; then locks it and says why.
///
/// When this returns, the stores of the keyring refuse already. Checks run without jitter, so that a refusal is acted
/// on within one interval; the first is due half an interval after the last success, be it the opening. If the future
/// is dropped, the keyring stays as it is and its lease runs out by itself.
pub async fn watch(keyring: Keyring, config: WatchConfig, status: Sender<KeyStatus>) -> LockReason {
    keyring.set_outage_grace(config.outage_grace);
    let period = (config.interval / 2).max(Duration::from_millis(10));
    let mut state = LockState::Held { last_success: keyring.last_success(), outage_grace: config.outage_grace };
    let since_success = keyring.last_success().until(BootTime::now());
    let mut next_check = Instant::now().checked_sub(since_success.min(period)).unwrap_or_else(Instant::now);
    loop {
        next_check += period;
        let event = match until_check_or_expiry(&keyring, next_check).await {
            Waited::Check => {
                let started = BootTime::now();
                let outcome = timeout(period, keyring.check()).await.unwrap_or_else(|_| {
                    CheckOutcome::Unreachable(format!(
                        "the KMS did not answer within {period:?}; check the network path to it"
                    ))
                });
                publish(&status, &outcome);
                Event::Checked { started, outcome }
            }
            Waited::Expiry => Event::Tick,
        };
        let (after, action) = next(state, event, BootTime::now());
        state = after;
        if let Action::Lock(reason) = action {
            keyring.lock();
            return reason;
        }
        // A late start (a busy or suspended machine) does not make the following checks bunch up.
        next_check = next_check.max(Instant::now().checked_sub(period).unwrap_or(next_check));
    }
}

enum Waited {
    Check,
    Expiry,
}

async fn until_check_or_expiry(keyring: &Keyring, check: Instant) -> Waited {
    let left = keyring.lease().remaining_at(BootTime::now());
    let expiry = Instant::now() + left;
    if expiry < check {
        sleep_until(expiry).await;
        Waited::Expiry
    } else {
        sleep_until(check).await;
        Waited::Check
    }
}

fn publish(status: &Sender<KeyStatus>, outcome: &CheckOutcome) {
    let now = SystemTime::now();
    status.send_modify(|status| {
        status.state = outcome.state();
        status.message = outcome.message().to_owned();
        status.last_check = Some(now);
        if *outcome == CheckOutcome::Ok {
            status.last_success = Some(now);
        }
    });
}
