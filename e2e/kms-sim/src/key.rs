//! A KMS key: identity, state, policy and the backing keys that do the encryption.
//!
//! A ciphertext blob is
//! `01 | length of key id (1 byte) | key id | id of the backing key (32 bytes) | nonce (12 bytes) | sealed bytes and tag`.
//! Everything before the nonce, and the encryption context (pairs sorted by key, each text preceded by its length
//! as 4 big-endian bytes), is authenticated with AES-256-GCM.

use std::collections::BTreeMap;
use std::time::Instant;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use rand::RngCore;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::arn::KeyArn;
use crate::policy::Policy;
use crate::propagation::Propagating;

/// Pairs that the caller gives again, unchanged, to decrypt.
pub type EncryptionContext = BTreeMap<String, String>;

const BLOB_VERSION: u8 = 1;
const BACKING_ID_LEN: usize = 32;

/// Whether the key may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyState {
    /// May be used.
    #[default]
    Enabled,
    /// Switched off by its owner.
    Disabled,
    /// Will be deleted; can't be used meanwhile.
    PendingDeletion,
}

/// What the key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum KeyUsage {
    /// Symmetric encryption: the only usage whose operations the simulator offers.
    #[default]
    EncryptDecrypt,
    /// Signatures.
    SignVerify,
    /// Message authentication codes.
    GenerateVerifyMac,
}

impl KeyUsage {
    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EncryptDecrypt => "ENCRYPT_DECRYPT",
            Self::SignVerify => "SIGN_VERIFY",
            Self::GenerateVerifyMac => "GENERATE_VERIFY_MAC",
        }
    }
}

/// One KMS key.
#[derive(Debug)]
pub struct Key {
    /// Name, region and account.
    pub arn: KeyArn,
    /// What it is for.
    pub usage: KeyUsage,
    /// Whether it may be used.
    pub state: Propagating<KeyState>,
    /// Who may use it.
    pub policy: Propagating<Policy>,
    /// When it was made.
    pub created: jiff::Timestamp,
    backing: Vec<BackingKey>,
}

impl Key {
    /// A key with one fresh backing key.
    ///
    /// # Errors
    /// The cryptographic library refused the key bytes.
    pub fn new(arn: KeyArn, usage: KeyUsage, state: KeyState, policy: Policy) -> Result<Self, Unspecified> {
        Ok(Self {
            arn,
            usage,
            state: Propagating::new(state),
            policy: Propagating::new(policy),
            created: jiff::Timestamp::now(),
            backing: vec![BackingKey::generate()?],
        })
    }

    /// What callers see of the state now.
    pub fn current_state(&mut self, now: Instant) -> KeyState {
        *self.state.at(now)
    }

    /// Adds a backing key, which encrypts from now on; the older ones go on decrypting what they encrypted.
    ///
    /// # Errors
    /// The cryptographic library refused the key bytes.
    pub fn rotate(&mut self) -> Result<(), Unspecified> {
        self.backing.push(BackingKey::generate()?);
        Ok(())
    }

    /// How many backing keys there are.
    #[must_use]
    pub fn backing_keys(&self) -> usize {
        self.backing.len()
    }

    /// Encrypts under the newest backing key; answers the blob and the backing key's id in hex.
    ///
    /// # Errors
    /// Encryption failed in the cryptographic library.
    pub fn seal(&self, plaintext: &[u8], context: &EncryptionContext) -> Result<(Vec<u8>, String), Unspecified> {
        let backing = self.backing.last().ok_or(Unspecified)?;
        let mut blob = header(&self.arn.key_id, &backing.id)?;
        let aad = additional_data(&blob, context);
        let mut sealed = plaintext.to_vec();
        let nonce = backing.key.seal_in_place_append_tag(Aad::from(&aad), &mut sealed)?;
        blob.extend_from_slice(nonce.as_ref());
        blob.extend_from_slice(&sealed);
        Ok((blob, hex::encode(backing.id)))
    }

    /// Decrypts a blob of this key; answers the plaintext and the backing key's id in hex.
    ///
    /// # Errors
    /// The blob is of another key or another backing key, was altered, or was made with another context.
    pub fn open(
        &self,
        blob: &Blob<'_>,
        context: &EncryptionContext,
    ) -> Result<(Zeroizing<Vec<u8>>, String), Unspecified> {
        if blob.key_id != self.arn.key_id {
            return Err(Unspecified);
        }
        let backing = self.backing.iter().find(|backing| backing.id == blob.backing_id).ok_or(Unspecified)?;
        let aad = additional_data(blob.header, context);
        let mut bytes = Zeroizing::new(blob.sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(blob.nonce);
        let length = backing.key.open_in_place(nonce, Aad::from(&aad), &mut bytes)?.len();
        bytes.truncate(length);
        Ok((bytes, hex::encode(backing.id)))
    }
}

struct BackingKey {
    id: [u8; BACKING_ID_LEN],
    key: RandomizedNonceKey,
}

impl BackingKey {
    fn generate() -> Result<Self, Unspecified> {
        let mut rng = rand::rng();
        let mut id = [0; BACKING_ID_LEN];
        rng.fill_bytes(&mut id);
        let mut material = Zeroizing::new([0; 32]);
        rng.fill_bytes(material.as_mut());
        Ok(Self { id, key: RandomizedNonceKey::new(&AES_256_GCM, material.as_ref())? })
    }
}

impl std::fmt::Debug for BackingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackingKey").field("id", &hex::encode(self.id)).finish_non_exhaustive()
    }
}

/// The parts of a ciphertext blob.
#[derive(Debug)]
pub struct Blob<'a> {
    /// Key that made it.
    pub key_id: &'a str,
    header: &'a [u8],
    backing_id: [u8; BACKING_ID_LEN],
    nonce: [u8; NONCE_LEN],
    sealed: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Takes a blob apart; `None` if it can't be one.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&version, rest) = bytes.split_first()?;
        let (&key_id_len, rest) = rest.split_first()?;
        let (key_id, rest) = rest.split_at_checked(usize::from(key_id_len))?;
        let (backing_id, rest) = rest.split_first_chunk()?;
        let header = bytes.get(..bytes.len() - rest.len())?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        (version == BLOB_VERSION).then_some(())?;
        Some(Self { key_id: std::str::from_utf8(key_id).ok()?, header, backing_id: *backing_id, nonce: *nonce, sealed })
    }
}

fn header(key_id: &str, backing_id: &[u8; BACKING_ID_LEN]) -> Result<Vec<u8>, Unspecified> {
    let length = u8::try_from(key_id.len()).map_err(|_| Unspecified)?;
    let mut header = vec![BLOB_VERSION, length];
    header.extend_from_slice(key_id.as_bytes());
    header.extend_from_slice(backing_id);
    Ok(header)
}

fn additional_data(header: &[u8], context: &EncryptionContext) -> Vec<u8> {
    let mut data = header.to_vec();
    for text in context.iter().flat_map(|(key, value)| [key, value]) {
        // Contexts are limited to 8 KiB, so a length always fits.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(text.as_bytes());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        let arn = KeyArn::parse(&format!("arn:aws:kms:eu-central-1:111122223333:key/{id}")).unwrap();
        let policy = Policy::parse(&serde_json::json!({"Version": "2012-10-17", "Statement": []})).unwrap();
        Key::new(arn, KeyUsage::EncryptDecrypt, KeyState::Enabled, policy).unwrap()
    }

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_blob_opens_only_under_its_key_and_context() {
        let (one, other) = (key("one"), key("two"));
        let bound = context(&[("a", "b")]);
        let (blob, id) = one.seal(b"secret", &bound).unwrap();
        let parsed = Blob::parse(&blob).unwrap();
        let (plaintext, opened_by) = one.open(&parsed, &bound).unwrap();
        assert_eq!(plaintext.as_slice(), b"secret");
        assert_eq!(opened_by, id);
        assert!(other.open(&parsed, &bound).is_err());
        for wrong in [context(&[]), context(&[("a", "c")]), context(&[("ab", "")]), context(&[("a", "b"), ("c", "d")])]
        {
            assert!(one.open(&parsed, &wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let key = key("one");
        let (blob, _) = key.seal(b"secret", &context(&[])).unwrap();
        for position in 0..blob.len() {
            let mut altered = blob.clone();
            altered[position] ^= 1;
            let opened = Blob::parse(&altered).map(|parsed| key.open(&parsed, &context(&[])).is_ok());
            assert_ne!(opened, Some(true), "byte {position}");
        }
    }

    #[test]
    fn rotation_keeps_old_blobs_readable() {
        let mut key = key("one");
        let (old, old_id) = key.seal(b"old", &context(&[])).unwrap();
        key.rotate().unwrap();
        let (_, new_id) = key.seal(b"new", &context(&[])).unwrap();
        assert_ne!(old_id, new_id);
        assert_eq!(key.open(&Blob::parse(&old).unwrap(), &context(&[])).unwrap().0.as_slice(), b"old");
    }
}
