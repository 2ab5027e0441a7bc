//! The format of what a shard stores: a number in its log, raised and never lowered.
//!
//! A release knows every format up to its newest, and reads all of them. What it writes must be understood by every
//! release that knows the format that the shard is committed to. The operator commits to a higher one only after an
//! upgrade has proven itself; until then the release before can take over again. Code that writes something new asks
//! [`Shard::format`](crate::storage::shard::Shard::format) first, and writes as before while the answer is too low.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use crate::error::{Code, Error, Result};

/// The format of a shard without a record of one.
pub const FIRST: u32 = 1;
/// The newest format that this library knows.
pub const NEWEST: u32 = 1;

/// The formats of one process: what its release knows, and what its shards have.
#[derive(Debug)]
pub struct Formats {
    newest: u32,
    /// 0 = no shard was seen.
    highest: AtomicU32,
}

impl Default for Formats {
    fn default() -> Self {
        Self::new(NEWEST)
    }
}

impl Formats {
    /// Those of a release that knows formats up to `newest`.
    pub fn new(newest: u32) -> Self {
        Self { newest, highest: AtomicU32::new(0) }
    }

    /// The newest format that the release knows.
    pub fn newest(&self) -> u32 {
        self.newest
    }

    /// The highest format that a shard has, also one that was refused for it; none before the first was seen.
    pub fn highest(&self) -> Option<u32> {
        Some(self.highest.load(Ordering::Acquire)).filter(|highest| *highest > 0)
    }

    /// Notes that a shard has `format`.
    pub(super) fn note(&self, format: u32) {
        self.highest.fetch_max(format, Ordering::AcqRel);
    }

    /// Notes the format of a shard, and refuses one that the release doesn't know.
    pub(super) fn admit(&self, format: u32) -> Result<()> {
        self.note(format);
        if format <= self.newest {
            return Ok(());
        }
        Err(Error::new(
            Code::NotReady,
            format!(
                "this store was written by a newer release: it has file format {format}, and this release knows none \
                 above {}. Nothing in it was changed; run a release that knows format {format}",
                self.newest
            ),
        ))
    }
}

/// The format that the record of a shard's log says; without one it is the first.
pub(super) fn from_record(record: Option<Bytes>) -> Result<u32> {
    let Some(record) = record else { return Ok(FIRST) };
    let bytes = <[u8; 4]>::try_from(record.as_ref())
        .map_err(|_| Error::new(Code::DataIntegrity, "the record of a shard's format is damaged"))?;
    Ok(u32::from_be_bytes(bytes))
}

/// The record that says `format`.
pub(super) fn to_record(format: u32) -> Bytes {
    Bytes::copy_from_slice(&format.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_a_missing_one_is_the_first_and_a_damaged_one_an_error() {
        assert_eq!(from_record(Some(to_record(7))).ok(), Some(7));
        assert_eq!(from_record(None).ok(), Some(FIRST));
        let damaged = from_record(Some(Bytes::from_static(b"\0\0\x01"))).map_err(|error| error.code);
        assert_eq!(damaged, Err(Code::DataIntegrity));
    }

    #[test]
    fn an_unknown_format_is_refused_by_number_and_remembered() {
        let formats = Formats::new(2);
        assert_eq!(formats.highest(), None);
        assert!(formats.admit(1).is_ok() && formats.admit(2).is_ok());
        let refused = formats.admit(3);
        assert!(refused.is_err_and(|error| error.code == Code::NotReady && error.message.contains("file format 3")));
        assert_eq!(formats.highest(), Some(3));
    }
}
