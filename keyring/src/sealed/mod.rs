//! The encrypted object store: `object_store::ObjectStore` in, sealed bytes out (`docs/sealed-format.md`).
//!
//! [`store`] is the trait's face; [`upload`] seals streams; [`reader`] opens ranges; [`object_key`] holds the cipher;
//! [`header`] and [`geometry`] are the format.

pub(crate) mod chunk_sealer;
mod error;
pub(crate) mod geometry;
pub(crate) mod header;
pub(crate) mod object_key;
mod reader;
mod source;
mod store;
mod upload;
mod verify;

pub use error::{IntegrityFault, SealedError, is_integrity_error, is_locked_error, sealed_error_in};
pub use geometry::ChunkSize;
pub use store::SealedStore;
pub use verify::{SealedSummary, verify_sealed};
pub(crate) use verify::{open_prefix, open_whole};
