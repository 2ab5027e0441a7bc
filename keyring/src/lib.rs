//! The key hierarchy of VectorKeep: CMK → EZK → DEK, KMS providers, and the encrypted object store.
//!
//! - The *customer master key* (CMK) stays in the customer's KMS; [`kms::Kms`] is the only door to it.
//! - An *encryption zone key* (EZK) protects one zone (the system zone or one database). The [`Keyring`] holds them,
//!   wrapped in the store and unwrapped in locked memory, for as long as its [`Lease`] lasts.
//! - A *data encryption key* (DEK) protects one object. [`SealedStore`] makes one for every write.
//!
//! This crate knows nothing of vectors. It is the only place that constructs stores for tenant data, and every
//! byte that it hands to the outer store is part of a sealed object or of a keyring record, as `docs/sealed-format.md`
//! lays down.
#![warn(missing_docs)]

pub mod audit;
mod boottime;
mod check;
mod derive;
mod ezk;
#[cfg(test)]
mod golden;
mod ids;
mod keyring;
pub mod kms;
mod lease;
mod lock;
mod record;
mod record_copies;
mod sealed;
mod watch;
mod zone;

pub use boottime::BootTime;
pub use check::{CheckOutcome, KeyState};
pub use ezk::{EzkBytes, EzkMemoryError};
pub use ids::{EncryptionContext, Purpose, StoreId, ZoneId};
pub use keyring::{Keyring, KeyringError};
pub use lease::Lease;
pub use lock::{Action, Event, LockReason, LockState, next};
pub use sealed::{
    ChunkSize, IntegrityFault, SealedError, SealedStore, SealedSummary, is_integrity_error, is_locked_error,
    sealed_error_in, verify_sealed,
};
pub use watch::{KeyStatus, WatchConfig, watch};
pub use zone::{Zone, ZoneStatus};
