//! The door to the customer's key-management service: two calls, three kinds of failure.

pub mod aws;
pub mod local;

use std::fmt;

use async_trait::async_trait;

use crate::ezk::{EzkBytes, EzkMemoryError};
use crate::ids::EncryptionContext;

/// A key-management service that holds the customer's master key.
#[async_trait]
pub trait Kms: fmt::Debug + Send + Sync + 'static {
    /// Makes a fresh 256-bit data key, in the clear and wrapped under the master key.
    async fn generate_data_key(&self, context: &EncryptionContext) -> Result<DataKey, KmsError>;

    /// Unwraps `wrapped`. `context` must be the one given when it was made.
    async fn decrypt(&self, wrapped: &[u8], context: &EncryptionContext) -> Result<EzkBytes, KmsError>;
}

/// The answer to [`Kms::generate_data_key`].
#[derive(Debug)]
pub struct DataKey {
    /// The key, in locked memory.
    pub plaintext: EzkBytes,
    /// The same key under the master key; safe to store.
    pub wrapped: Vec<u8>,
}

/// What a failure of the KMS means for the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KmsErrorKind {
    /// The KMS, or the identity service before it, says no: disabled, denied, pending deletion, not found.
    Refused,
    /// No answer that says anything about the key: time-out, throttled, server error, no network.
    Unreachable,
    /// An answer that can't be right: a wrong key, a wrong length, a blob that the KMS does not recognise.
    Invalid,
}

impl fmt::Display for KmsErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Invalid => "invalid",
        })
    }
}

/// A failed KMS call. The message is fit for a status: no secret, no name of a foreign key or account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("KMS {kind}: {message}")]
pub struct KmsError {
    /// What the failure means.
    pub kind: KmsErrorKind,
    /// What happened, and what to do about it.
    pub message: String,
}

impl KmsError {
    /// A refusal.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::of(KmsErrorKind::Refused, message)
    }

    /// A silence.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::of(KmsErrorKind::Unreachable, message)
    }

    /// An answer that can't be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::of(KmsErrorKind::Invalid, message)
    }

    fn of(kind: KmsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl From<EzkMemoryError> for KmsError {
    fn from(error: EzkMemoryError) -> Self {
        match error {
            EzkMemoryError::Length(_) => Self::invalid(error.to_string()),
            // The KMS did its part; this machine can't hold the key. Nothing was said against the key.
            EzkMemoryError::Kernel(_) => Self::unreachable(error.to_string()),
        }
    }
}
