//! What the KMS says about the keys, in the words of a status.

use std::fmt;

use crate::kms::{KmsError, KmsErrorKind};

/// The outcome of one check of all zones: the most serious answer of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Every zone's key was decrypted and is the one that we hold.
    Ok,
    /// The KMS or the identity service says no.
    Refused(String),
    /// No answer about the key.
    Unreachable(String),
    /// An answer that can't be right.
    Invalid(String),
}

impl CheckOutcome {
    /// The state that this outcome puts the key in.
    pub fn state(&self) -> KeyState {
        match self {
            Self::Ok => KeyState::Accessible,
            Self::Refused(_) => KeyState::Refused,
            Self::Unreachable(_) => KeyState::Unreachable,
            Self::Invalid(_) => KeyState::Invalid,
        }
    }

    /// What happened; empty if all is well.
    pub fn message(&self) -> &str {
        match self {
            Self::Ok => "",
            Self::Refused(message) | Self::Unreachable(message) | Self::Invalid(message) => message,
        }
    }

    /// The more serious of two: a refusal counts most, then an invalid answer, then silence.
    pub(crate) fn worse(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Unreachable(_) => 1,
            Self::Invalid(_) => 2,
            Self::Refused(_) => 3,
        }
    }
}

impl From<KmsError> for CheckOutcome {
    fn from(error: KmsError) -> Self {
        match error.kind {
            KmsErrorKind::Refused => Self::Refused(error.message),
            KmsErrorKind::Unreachable => Self::Unreachable(error.message),
            KmsErrorKind::Invalid => Self::Invalid(error.message),
        }
    }
}

/// State of a key as the last check found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Decrypted and proven.
    Accessible,
    /// Refused by the KMS or the identity service.
    Refused,
    /// The KMS did not answer.
    Unreachable,
    /// The KMS answered with something that is not the key.
    Invalid,
    /// Not asked yet.
    Unknown,
}

impl KeyState {
    /// The word used in statuses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accessible => "Accessible",
            Self::Refused => "Refused",
            Self::Unreachable => "Unreachable",
            Self::Invalid => "Invalid",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
