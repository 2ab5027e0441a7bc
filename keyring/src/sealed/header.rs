//! The header of a sealed object, as bytes.

use super::error::IntegrityFault;
use super::geometry::{ChunkSize, HEADER_LEN};
use crate::ids::{StoreId, ZoneId};

const MAGIC: &[u8; 8] = b"VKSEALED";
const FORMAT_VERSION: u16 = 1;
const SUITE: u8 = 1;
/// The part of the header that the wrapped key is bound to.
pub(crate) const WRAP_BOUND_LEN: usize = 128;
/// Ciphertext and tag of the data key.
pub(crate) const WRAPPED_DEK_LEN: usize = 48;

/// A header's bytes.
pub(crate) type HeaderBytes = [u8; HEADER_LEN as usize];

/// A header's fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) chunk_size: ChunkSize,
    pub(crate) ezk_version: u32,
    pub(crate) store: StoreId,
    pub(crate) zone: ZoneId,
    pub(crate) salt: [u8; 32],
    pub(crate) commitment: [u8; 32],
    pub(crate) wrapped_dek: [u8; WRAPPED_DEK_LEN],
}

impl Header {
    pub(crate) fn encode(&self) -> HeaderBytes {
        let mut bytes = [0; HEADER_LEN as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes[10] = SUITE;
        bytes[11] = self.chunk_size.code();
        bytes[12..16].copy_from_slice(&(self.chunk_size.bytes() as u32).to_be_bytes());
        bytes[16..20].copy_from_slice(&self.ezk_version.to_be_bytes());
        bytes[32..48].copy_from_slice(self.store.as_bytes());
        bytes[48..64].copy_from_slice(self.zone.as_bytes());
        bytes[64..96].copy_from_slice(&self.salt);
        bytes[96..128].copy_from_slice(&self.commitment);
        bytes[128..176].copy_from_slice(&self.wrapped_dek);
        bytes
    }

    pub(crate) fn parse(bytes: &HeaderBytes) -> Result<Self, IntegrityFault> {
        if &bytes[..8] != MAGIC {
            return Err(IntegrityFault::NotSealed);
        }
        if bytes[8..10] != FORMAT_VERSION.to_be_bytes() || bytes[10] != SUITE {
            return Err(IntegrityFault::UnknownFormat);
        }
        let header = Self {
            chunk_size: ChunkSize::ALL
                .into_iter()
                .find(|size| size.code() == bytes[11])
                .ok_or(IntegrityFault::Header)?,
            ezk_version: u32::from_be_bytes(array_at(bytes, 16)),
            store: StoreId::from_bytes(array_at(bytes, 32)),
            zone: ZoneId::from_bytes(array_at(bytes, 48)),
            salt: array_at(bytes, 64),
            commitment: array_at(bytes, 96),
            wrapped_dek: array_at(bytes, 128),
        };
        // One spelling per header: chunk size fits the kind, reserved bytes are zero.
        if header.ezk_version == 0 || header.encode() != *bytes {
            return Err(IntegrityFault::Header);
        }
        Ok(header)
    }
}

fn array_at<const N: usize>(bytes: &HeaderBytes, at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
