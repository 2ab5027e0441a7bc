//! Sizes: which chunk holds which byte, and how long an object is sealed and unsealed.

use std::ops::Range;

/// Length of the header in every format version.
pub(crate) const HEADER_LEN: u64 = 192;
/// Length of a chunk's authentication tag.
pub(crate) const TAG_LEN: u64 = 16;

/// The kind of a sealed object, which decides the size of its chunks: the least that a read has to fetch and open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChunkSize {
    /// 64 KiB, for what is read in long runs.
    Bulk,
    /// 4 KiB, for rows that are fetched singly.
    Rows,
}

impl ChunkSize {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Bulk, Self::Rows];

    /// Plaintext bytes in a full chunk.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bulk => 64 * 1024,
            Self::Rows => 4 * 1024,
        }
    }

    /// The folder that holds objects of this kind, below the zone's.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Rows => "rows",
        }
    }

    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Bulk => 1,
            Self::Rows => 2,
        }
    }

    /// Bytes of a full chunk with its tag.
    pub(crate) const fn sealed_chunk(self) -> u64 {
        self.bytes() + TAG_LEN
    }

    /// How many chunks hold `logical` bytes: at least one, so that every object has a last chunk.
    pub(crate) const fn chunks(self, logical: u64) -> u64 {
        let full = logical.div_ceil(self.bytes());
        if full == 0 { 1 } else { full }
    }

    /// Length of the sealed form of `logical` bytes.
    pub(crate) const fn sealed_size(self, logical: u64) -> u64 {
        HEADER_LEN + logical + TAG_LEN * self.chunks(logical)
    }

    /// Length of what an object of `sealed` bytes holds; `None` if no object has that size.
    pub(crate) fn logical_size(self, sealed: u64) -> Option<u64> {
        let body = sealed.checked_sub(HEADER_LEN)?;
        let chunks = body.div_ceil(self.sealed_chunk());
        let last = body.checked_sub(chunks.checked_sub(1)?.checked_mul(self.sealed_chunk())?)?;
        let least = if chunks > 1 { TAG_LEN + 1 } else { TAG_LEN };
        (last >= least).then(|| body - TAG_LEN * chunks)
    }

    /// Where in the sealed form the chunks `chunks` lie, given the object's logical size.
    pub(crate) fn sealed_range(self, chunks: Range<u64>, logical: u64) -> Range<u64> {
        let start = HEADER_LEN + chunks.start * self.sealed_chunk();
        let end = HEADER_LEN + chunks.end * self.sealed_chunk();
        start..end.min(self.sealed_size(logical))
    }

    /// The chunks that hold the bytes `range`; an empty range needs none.
    pub(crate) fn covering(self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / self.bytes()..(range.end - 1) / self.bytes() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_sizes() {
        assert_eq!(ChunkSize::Bulk.sealed_size(0), 208);
        assert_eq!(ChunkSize::Bulk.sealed_size(65_536), 192 + 65_536 + 16);
        assert_eq!(ChunkSize::Bulk.sealed_size(65_537), 192 + 65_537 + 32);
    }

    #[test]
    fn sizes_near_chunk_borders_map_back_and_nothing_else_does() {
        for size in ChunkSize::ALL {
            let limit = 3 * size.sealed_chunk() + HEADER_LEN;
            let valid: std::collections::HashMap<u64, u64> =
                (0..=3 * size.bytes()).map(|logical| (size.sealed_size(logical), logical)).collect();
            for sealed in 0..=limit {
                assert_eq!(size.logical_size(sealed), valid.get(&sealed).copied());
            }
        }
    }

    proptest! {
        #[test]
        fn any_size_maps_back(logical in 0u64..(1 << 60)) {
            for size in ChunkSize::ALL {
                prop_assert_eq!(size.logical_size(size.sealed_size(logical)), Some(logical));
            }
        }

        #[test]
        fn any_sealed_size_is_handled(sealed: u64) {
            for size in ChunkSize::ALL {
                let _ = size.logical_size(sealed);
            }
        }
    }
}
