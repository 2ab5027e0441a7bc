//! Durable state: shards, their catalogue, growing batches, sealed segments and deletes.
//!
//! A *shard* is one SlateDB (write-ahead log, manifest, single writer) plus immutable objects beside it, all through the
//! sealed store. Bulk data never lies in the LSM tree: a batch above [`shard::INLINE_BATCH_BYTES`] is an object of its
//! own that the log only refers to, and a segment is a set of objects that one record names.
//!
//! Invariants:
//! - A write is visible when it is durable, never earlier; all of a request becomes visible at once.
//! - A delete removes the rows that have one of its keys and a smaller timestamp, wherever they lie, also later.
//! - An object is deleted only after a committed record said that nothing refers to it any more.

pub mod catalogue;
pub mod collection;
pub mod format;
pub mod index;
pub mod keys;
mod log;
pub mod maintenance;
pub mod part;
pub mod shard;
mod write;
