//! The data key of one object: making, wrapping, unwrapping, and its use on chunks.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, rand};
use zeroize::{Zeroize, Zeroizing};

use super::error::{IntegrityFault, SealedError};
use super::geometry::{ChunkSize, TAG_LEN};
use super::header::{Header, HeaderBytes, WRAP_BOUND_LEN, WRAPPED_DEK_LEN};
use crate::derive::{CryptoFailure, object_keys};
use crate::zone::ZoneKeys;

const DOMAIN: &[u8] = b"vectorkeep sealed object v1";
const TAG: usize = TAG_LEN as usize;

/// The data key of one object, bound to the object's name and header.
pub(crate) struct ObjectKey {
    cipher: LessSafeKey,
    chunk_aad: [u8; 32],
    chunk_size: ChunkSize,
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectKey").finish_non_exhaustive()
    }
}

impl ObjectKey {
    /// A fresh key and header for one write of `name`.
    pub(crate) fn create(
        keys: &ZoneKeys,
        name: &str,
        chunk_size: ChunkSize,
    ) -> Result<(HeaderBytes, Self), SealedError> {
        let mut salt = [0; 32];
        let mut dek = Zeroizing::new([0; 32]);
        let filled = rand::fill(&mut salt).and_then(|()| rand::fill(dek.as_mut_slice()));
        filled.map_err(|_| crypto(name))?;
        Self::create_from(keys, name, chunk_size, salt, &dek)
    }

    /// As [`create`](Self::create), with the random numbers given; test vectors need that.
    pub(crate) fn create_from(
        keys: &ZoneKeys,
        name: &str,
        chunk_size: ChunkSize,
        salt: [u8; 32],
        dek: &[u8; 32],
    ) -> Result<(HeaderBytes, Self), SealedError> {
        let (ezk_version, ezk) = keys.current()?;
        let derived = object_keys(&ezk, &salt, keys.store(), keys.id(), ezk_version).map_err(|_| crypto(name))?;
        let mut header = Header {
            chunk_size,
            ezk_version,
            store: keys.store(),
            zone: keys.id(),
            salt,
            commitment: derived.commitment,
            wrapped_dek: [0; WRAPPED_DEK_LEN],
        };
        let aad = context_digest(&header.encode()[..WRAP_BOUND_LEN], name);
        let (ciphertext, tag_space) = header.wrapped_dek.split_at_mut(32);
        ciphertext.copy_from_slice(dek);
        let wrapping = cipher(&derived.kek).and_then(|kek| {
            let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
            Ok(kek.seal_in_place_separate_tag(nonce, Aad::from(aad), ciphertext)?)
        });
        match wrapping {
            Ok(tag) => tag_space.copy_from_slice(tag.as_ref()),
            Err(CryptoFailure) => {
                header.wrapped_dek.zeroize();
                return Err(crypto(name));
            }
        }
        let bytes = header.encode();
        let key = Self {
            cipher: cipher(dek).map_err(|_| crypto(name))?,
            chunk_aad: context_digest(&bytes, name),
            chunk_size,
        };
        Ok((bytes, key))
    }

    /// The key of the object `name`, from the header found there.
    pub(crate) fn open(
        keys: &ZoneKeys,
        name: &str,
        chunk_size: ChunkSize,
        bytes: &HeaderBytes,
    ) -> Result<Self, SealedError> {
        let integrity = |fault| SealedError::Integrity { object: name.to_owned(), fault };
        let header = Header::parse(bytes).map_err(integrity)?;
        if header.store != keys.store() {
            return Err(integrity(IntegrityFault::WrongStore));
        }
        if header.zone != keys.id() {
            return Err(integrity(IntegrityFault::WrongZone));
        }
        if header.chunk_size != chunk_size {
            return Err(integrity(IntegrityFault::WrongKind));
        }
        let ezk = keys.version(header.ezk_version)?.ok_or_else(|| integrity(IntegrityFault::UnknownKeyVersion))?;
        let derived =
            object_keys(&ezk, &header.salt, header.store, header.zone, header.ezk_version).map_err(|_| crypto(name))?;
        constant_time::verify_slices_are_equal(&derived.commitment, &header.commitment)
            .map_err(|_| integrity(IntegrityFault::Commitment))?;

        let aad = context_digest(&bytes[..WRAP_BOUND_LEN], name);
        let (ciphertext, tag) = header.wrapped_dek.split_at(32);
        let mut dek = Zeroizing::new([0; 32]);
        cipher(&derived.kek)
            .map_err(|_| crypto(name))?
            .open_separate_gather(
                Nonce::assume_unique_for_key([0; NONCE_LEN]),
                Aad::from(aad),
                ciphertext,
                tag,
                dek.as_mut_slice(),
            )
            .map_err(|_| integrity(IntegrityFault::WrappedKey))?;
        Ok(Self { cipher: cipher(&dek).map_err(|_| crypto(name))?, chunk_aad: context_digest(bytes, name), chunk_size })
    }

    pub(crate) fn chunk_size(&self) -> ChunkSize {
        self.chunk_size
    }

    /// Seals the bytes of `out` from `start` on as chunk `index`, in place, and appends the tag.
    pub(crate) fn seal_tail(
        &self,
        index: u64,
        last: bool,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), CryptoFailure> {
        let tag =
            self.cipher.seal_in_place_separate_tag(nonce(index, last), Aad::from(self.chunk_aad), &mut out[start..])?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens the sealed chunk `index` and appends its plaintext to `out`; on failure `out` is as before.
    pub(crate) fn open_chunk(
        &self,
        index: u64,
        last: bool,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), IntegrityFault> {
        let fault = IntegrityFault::Chunk { index };
        let split = sealed.len().checked_sub(TAG).ok_or(fault)?;
        let (ciphertext, tag) = sealed.split_at(split);
        let start = out.len();
        out.resize(start + ciphertext.len(), 0);
        self.cipher
            .open_separate_gather(nonce(index, last), Aad::from(self.chunk_aad), ciphertext, tag, &mut out[start..])
            .map_err(|_| {
                out.truncate(start);
                fault
            })
    }
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, CryptoFailure> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key)?))
}

fn nonce(index: u64, last: bool) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[3..11].copy_from_slice(&index.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

fn context_digest(header_part: &[u8], name: &str) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(DOMAIN);
    hash.update(&[0]);
    hash.update(header_part);
    hash.update(&(name.len() as u32).to_be_bytes());
    hash.update(name.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(hash.finish().as_ref());
    out
}

pub(crate) fn crypto(name: &str) -> SealedError {
    SealedError::Crypto { object: name.to_owned() }
}
