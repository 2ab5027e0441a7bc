//! Faults that tests inject.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The whole of the injected faults; what is left out is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Faults of KMS.
    pub kms: ServiceFaults,
    /// Faults of STS.
    pub sts: ServiceFaults,
    /// How long a change of a key's state or policy takes to be seen by callers.
    pub propagation_delay_ms: u64,
}

/// Faults of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceFaults {
    /// Delay before a request is looked at.
    pub latency_ms: u64,
    /// Answer "too many requests".
    pub throttle: bool,
    /// Answer "internal failure" (500).
    pub error_5xx: bool,
    /// Close the connection without an answer.
    pub drop: bool,
    /// Keep the connection open without an answer.
    pub hang: bool,
    /// KMS: answer a random key of the right length in place of the plaintext.
    pub wrong_plaintext: bool,
    /// STS: lifetime of the credentials, whatever was asked for.
    pub session_seconds: Option<u64>,
    /// Chance, between 0 and 1, that a request is affected.
    pub probability: f64,
    /// Affect only these operations, such as `Decrypt`; none named means all.
    pub operations: Vec<String>,
    /// Affect only this many requests, then none.
    pub times: Option<u64>,
}

impl Default for ServiceFaults {
    fn default() -> Self {
        Self {
            latency_ms: 0,
            throttle: false,
            error_5xx: false,
            drop: false,
            hang: false,
            wrong_plaintext: false,
            session_seconds: None,
            probability: 1.0,
            operations: Vec::new(),
            times: None,
        }
    }
}

/// Faults that can't be injected as described.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FaultError {
    /// Two endings of one request.
    #[error("{0}: a request can end in only one of throttle, error_5xx, drop and hang")]
    SeveralEndings(&'static str),
    /// Not a chance.
    #[error("{0}: probability must be between 0 and 1")]
    Probability(&'static str),
    /// Only KMS has plaintexts.
    #[error("sts: wrong_plaintext is a fault of kms")]
    StsPlaintext,
    /// Only STS issues sessions.
    #[error("kms: session_seconds is a fault of sts")]
    KmsSessions,
}

/// A simulated service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Key management.
    Kms,
    /// Security tokens.
    Sts,
}

/// How an affected request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Too many requests.
    Throttle,
    /// Internal failure.
    InternalError,
    /// Connection closed.
    Drop,
    /// No answer.
    Hang,
}

impl Ending {
    /// The name of the switch that causes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::InternalError => "error_5xx",
            Self::Drop => "drop",
            Self::Hang => "hang",
        }
    }
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Affliction {
    /// Wait first.
    pub latency: Duration,
    /// End like this; `None` means that the request is served.
    pub ending: Option<Ending>,
    /// Answer another plaintext.
    pub wrong_plaintext: bool,
    /// Issue credentials of this lifetime.
    pub session_lifetime: Option<Duration>,
}

impl Faults {
    fn check(&self) -> Result<(), FaultError> {
        for (name, service) in [("kms", &self.kms), ("sts", &self.sts)] {
            let endings = [service.throttle, service.error_5xx, service.drop, service.hang];
            if endings.iter().filter(|on| **on).count() > 1 {
                return Err(FaultError::SeveralEndings(name));
            }
            if !(0.0..=1.0).contains(&service.probability) {
                return Err(FaultError::Probability(name));
            }
        }
        if self.sts.wrong_plaintext {
            return Err(FaultError::StsPlaintext);
        }
        if self.kms.session_seconds.is_some() {
            return Err(FaultError::KmsSessions);
        }
        Ok(())
    }
}

impl ServiceFaults {
    fn draw(&mut self, operation: &str, chance: f64) -> Affliction {
        let meant = self.operations.is_empty() || self.operations.iter().any(|name| name == operation);
        if !meant || self.times == Some(0) || chance >= self.probability {
            return Affliction::default();
        }
        let affliction = Affliction {
            latency: Duration::from_millis(self.latency_ms),
            ending: self.ending(),
            wrong_plaintext: self.wrong_plaintext,
            session_lifetime: self.session_seconds.map(Duration::from_secs),
        };
        if affliction != Affliction::default() {
            self.times = self.times.map(|left| left - 1);
        }
        affliction
    }

    fn ending(&self) -> Option<Ending> {
        let endings = [
            (self.throttle, Ending::Throttle),
            (self.error_5xx, Ending::InternalError),
            (self.drop, Ending::Drop),
            (self.hang, Ending::Hang),
        ];
        endings.into_iter().find_map(|(on, ending)| on.then_some(ending))
    }
}

/// The faults in force.
#[derive(Debug, Default)]
pub struct FaultBoard {
    faults: Mutex<Faults>,
}

impl FaultBoard {
    /// Puts other faults in force.
    ///
    /// # Errors
    /// They contradict each other.
    pub fn replace(&self, faults: Faults) -> Result<(), FaultError> {
        faults.check()?;
        *self.lock() = faults;
        Ok(())
    }

    /// The faults in force.
    #[must_use]
    pub fn current(&self) -> Faults {
        self.lock().clone()
    }

    /// What befalls a request to `operation` that arrives now.
    #[must_use]
    pub fn draw(&self, service: Service, operation: &str) -> Affliction {
        let mut faults = self.lock();
        let of_service = match service {
            Service::Kms => &mut faults.kms,
            Service::Sts => &mut faults.sts,
        };
        of_service.draw(operation, rand::random())
    }

    /// Delay of changes to keys.
    #[must_use]
    pub fn propagation_delay(&self) -> Duration {
        Duration::from_millis(self.lock().propagation_delay_ms)
    }

    fn lock(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(value: serde_json::Value) -> Faults {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn faults_hit_only_what_they_name_and_only_so_often() {
        let mut kms = faults(json!({"kms": {"throttle": true, "operations": ["Decrypt"], "times": 2}})).kms;
        assert_eq!(kms.draw("GenerateDataKey", 0.0).ending, None);
        assert_eq!(kms.draw("Decrypt", 0.0).ending, Some(Ending::Throttle));
        assert_eq!(kms.draw("Decrypt", 0.0).ending, Some(Ending::Throttle));
        assert_eq!(kms.draw("Decrypt", 0.0).ending, None);
    }

    #[test]
    fn probability_is_a_share_of_requests() {
        let mut kms = faults(json!({"kms": {"drop": true, "probability": 0.5}})).kms;
        assert_eq!(kms.draw("Decrypt", 0.49).ending, Some(Ending::Drop));
        assert_eq!(kms.draw("Decrypt", 0.5).ending, None);
        let mut never = faults(json!({"kms": {"drop": true, "probability": 0.0}})).kms;
        assert_eq!(never.draw("Decrypt", 0.0).ending, None);
    }

    #[test]
    fn contradictions_and_unknown_names_are_refused() {
        for (value, error) in [
            (json!({"kms": {"drop": true, "hang": true}}), FaultError::SeveralEndings("kms")),
            (json!({"sts": {"probability": 1.5}}), FaultError::Probability("sts")),
            (json!({"sts": {"wrong_plaintext": true}}), FaultError::StsPlaintext),
            (json!({"kms": {"session_seconds": 1}}), FaultError::KmsSessions),
        ] {
            assert_eq!(FaultBoard::default().replace(faults(value)), Err(error));
        }
        assert!(serde_json::from_value::<Faults>(json!({"kms": {"latencyMs": 5}})).is_err());
    }
}
