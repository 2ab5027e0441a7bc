//! Checks of whole objects: their outer shape without a key, or all of them with one.

use super::error::{IntegrityFault, SealedError};
use super::geometry::{ChunkSize, HEADER_LEN};
use super::header::{Header, HeaderBytes};
use super::object_key::ObjectKey;
use crate::ids::{StoreId, ZoneId};
use crate::zone::ZoneKeys;

/// What the outside of a sealed object tells without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSummary {
    /// The store that it was sealed for.
    pub store: StoreId,
    /// The zone that it was sealed for.
    pub zone: ZoneId,
    /// Its kind.
    pub chunk_size: ChunkSize,
    /// The key version that sealed it.
    pub ezk_version: u32,
    /// The bytes that it holds.
    pub logical_size: u64,
}

/// Whether `bytes` have the shape of a sealed object. Proves nothing about who made it; opening it does.
pub fn verify_sealed(bytes: &[u8]) -> Result<SealedSummary, IntegrityFault> {
    let (header, _) = split_header(bytes)?;
    let header = Header::parse(header)?;
    let logical_size = header.chunk_size.logical_size(bytes.len() as u64).ok_or(IntegrityFault::Size)?;
    Ok(SealedSummary {
        store: header.store,
        zone: header.zone,
        chunk_size: header.chunk_size,
        ezk_version: header.ezk_version,
        logical_size,
    })
}

/// Opens all of the object `name`.
pub(crate) fn open_whole(
    keys: &ZoneKeys,
    name: &str,
    chunk_size: ChunkSize,
    bytes: &[u8],
) -> Result<Vec<u8>, SealedError> {
    let integrity = |fault| SealedError::Integrity { object: name.to_owned(), fault };
    let (header, body) = split_header(bytes).map_err(integrity)?;
    let key = ObjectKey::open(keys, name, chunk_size, header)?;
    let logical = chunk_size.logical_size(bytes.len() as u64).ok_or_else(|| integrity(IntegrityFault::Size))?;
    let count = chunk_size.chunks(logical);
    let mut plain = Vec::new();
    for (index, chunk) in (0..count).zip(body.chunks(chunk_size.sealed_chunk() as usize)) {
        key.open_chunk(index, index + 1 == count, chunk, &mut plain).map_err(integrity)?;
    }
    Ok(plain)
}

/// Checks an unfinished upload of `name`: everything in it must belong to the sealed form of one object, as far as it
/// got. Returns how many bytes at the end are too few for a chunk and so can't be checked.
///
/// Parts may be written out of order, so a chunk-sized run of zeros counts as a hole.
pub(crate) fn open_prefix(
    keys: &ZoneKeys,
    name: &str,
    chunk_size: ChunkSize,
    bytes: &[u8],
) -> Result<u64, SealedError> {
    if (bytes.len() as u64) < HEADER_LEN {
        return Ok(bytes.len() as u64);
    }
    let integrity = |fault| SealedError::Integrity { object: name.to_owned(), fault };
    let (header, body) = split_header(bytes).map_err(integrity)?;
    let key = ObjectKey::open(keys, name, chunk_size, header)?;
    let mut plain = Vec::new();
    let mut unchecked = 0;
    for (index, chunk) in (0..).zip(body.chunks(chunk_size.sealed_chunk() as usize)) {
        plain.clear();
        let opens = key.open_chunk(index, false, chunk, &mut plain).is_ok()
            || key.open_chunk(index, true, chunk, &mut plain).is_ok();
        if opens || chunk.iter().all(|byte| *byte == 0) {
            continue;
        }
        if chunk.len() as u64 == chunk_size.sealed_chunk() {
            return Err(integrity(IntegrityFault::Chunk { index }));
        }
        unchecked = chunk.len() as u64;
    }
    Ok(unchecked)
}

fn split_header(bytes: &[u8]) -> Result<(&HeaderBytes, &[u8]), IntegrityFault> {
    bytes.split_first_chunk::<{ HEADER_LEN as usize }>().ok_or(IntegrityFault::Size)
}
