//! The keyring record: one wrapped encryption zone key, as bytes (`docs/sealed-format.md`, *Keyring record*).

use aws_lc_rs::{constant_time, digest, hmac};
use object_store::path::Path;

use crate::derive::{CryptoFailure, record_keys};
use crate::ezk::EzkBytes;
use crate::ids::{Purpose, StoreId, ZoneId};

const MAGIC: &[u8; 8] = b"VKEYRING";
const FORMAT_VERSION: u16 = 1;
const WRAPPED_AT: usize = 114;
const MAC_LEN: usize = 32;
const DIGEST_LEN: usize = 32;
/// The longest ciphertext blob that AWS KMS returns.
const WRAPPED_MAX: usize = 6144;
/// The longest cluster id that the custom resource admits.
pub(crate) const CLUSTER_ID_MAX: usize = 30;

/// Everything below this path is a keyring record.
pub(crate) const KEYRING_PREFIX: &str = "keyring";

/// Why bytes are not an intact record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordFault {
    #[error("it is too short")]
    Short,
    #[error("it is no keyring record")]
    Magic,
    #[error("it has a format version that this release can't read; use the release that wrote it")]
    FormatVersion,
    #[error("its digest does not match its bytes")]
    Digest,
    #[error("a field has an impossible value")]
    Field,
    #[error("it belongs to another zone or key version than its name says")]
    Place,
}

/// A parsed record whose digest matches. Authentic only after [`prove`](KeyringRecord::prove).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyringRecord {
    pub(crate) purpose: Purpose,
    pub(crate) cluster_id: String,
    pub(crate) ezk_version: u32,
    pub(crate) store: StoreId,
    pub(crate) zone: ZoneId,
    pub(crate) commitment: [u8; 32],
    pub(crate) wrapped: Vec<u8>,
    mac: [u8; MAC_LEN],
}

/// What a new record says.
pub(crate) struct RecordFields<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) cluster_id: &'a str,
    pub(crate) ezk_version: u32,
    pub(crate) store: StoreId,
    pub(crate) zone: ZoneId,
    pub(crate) wrapped: &'a [u8],
}

impl KeyringRecord {
    /// A record of `fields`, authenticated by the key that it wraps; `None` if a field does not fit the format.
    pub(crate) fn new(fields: RecordFields<'_>, ezk: &EzkBytes) -> Result<Option<Self>, CryptoFailure> {
        let RecordFields { purpose, cluster_id, ezk_version, store, zone, wrapped } = fields;
        let fits =
            is_cluster_id(cluster_id.as_bytes()) && ezk_version > 0 && (1..=WRAPPED_MAX).contains(&wrapped.len());
        if !fits {
            return Ok(None);
        }
        let keys = record_keys(ezk, store, zone, ezk_version)?;
        let mut record = Self {
            purpose,
            cluster_id: cluster_id.to_owned(),
            ezk_version,
            store,
            zone,
            commitment: keys.commitment,
            wrapped: wrapped.to_vec(),
            mac: [0; MAC_LEN],
        };
        let key = hmac::Key::new(hmac::HMAC_SHA256, keys.mac_key.as_slice());
        let mac = hmac::sign(&key, &record.authenticated_part());
        record.mac.copy_from_slice(mac.as_ref());
        Ok(Some(record))
    }

    /// Whether `ezk` is the key that this record was made for, and the record is as it was made.
    pub(crate) fn prove(&self, ezk: &EzkBytes) -> Result<bool, CryptoFailure> {
        let keys = record_keys(ezk, self.store, self.zone, self.ezk_version)?;
        let committed = constant_time::verify_slices_are_equal(&keys.commitment, &self.commitment).is_ok();
        let key = hmac::Key::new(hmac::HMAC_SHA256, keys.mac_key.as_slice());
        Ok(committed && hmac::verify(&key, &self.authenticated_part(), &self.mac).is_ok())
    }

    /// The record's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.authenticated_part();
        bytes.extend_from_slice(&self.mac);
        let digest = digest::digest(&digest::SHA256, &bytes);
        bytes.extend_from_slice(digest.as_ref());
        bytes
    }

    /// Reads a record; checks everything that needs no key.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, RecordFault> {
        if bytes.len() < WRAPPED_AT + MAC_LEN + DIGEST_LEN {
            return Err(RecordFault::Short);
        }
        if &bytes[..8] != MAGIC {
            return Err(RecordFault::Magic);
        }
        // Before the digest: another format version may keep its digest elsewhere.
        if u16_at(bytes, 8) != FORMAT_VERSION {
            return Err(RecordFault::FormatVersion);
        }
        let (body, found) = bytes.split_at(bytes.len() - DIGEST_LEN);
        if digest::digest(&digest::SHA256, body).as_ref() != found {
            return Err(RecordFault::Digest);
        }
        let purpose = Purpose::from_code(body[10]).ok_or(RecordFault::Field)?;
        let cluster_len = usize::from(body[11]);
        let ezk_version = u32_at(body, 12);
        let wrapped_len = usize::from(u16_at(body, 112));
        let mac_at = WRAPPED_AT + wrapped_len;
        if cluster_len > CLUSTER_ID_MAX
            || ezk_version == 0
            || !(1..=WRAPPED_MAX).contains(&wrapped_len)
            || body.len() != mac_at + MAC_LEN
        {
            return Err(RecordFault::Field);
        }
        let (cluster_id, padding) = body[48..80].split_at(cluster_len);
        if !is_cluster_id(cluster_id) || padding.iter().any(|b| *b != 0) {
            return Err(RecordFault::Field);
        }
        Ok(Self {
            purpose,
            cluster_id: String::from_utf8_lossy(cluster_id).into_owned(),
            ezk_version,
            store: StoreId::from_bytes(array_at(body, 16)),
            zone: ZoneId::from_bytes(array_at(body, 32)),
            commitment: array_at(body, 80),
            wrapped: body[WRAPPED_AT..mac_at].to_vec(),
            mac: array_at(body, mac_at),
        })
    }

    fn authenticated_part(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(WRAPPED_AT + self.wrapped.len() + MAC_LEN + DIGEST_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.push(self.purpose.code());
        bytes.push(self.cluster_id.len() as u8);
        bytes.extend_from_slice(&self.ezk_version.to_be_bytes());
        bytes.extend_from_slice(self.store.as_bytes());
        bytes.extend_from_slice(self.zone.as_bytes());
        bytes.extend_from_slice(self.cluster_id.as_bytes());
        bytes.resize(80, 0);
        bytes.extend_from_slice(&self.commitment);
        bytes.extend_from_slice(&(self.wrapped.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&self.wrapped);
        bytes
    }
}

/// Where a record lies: zone, key version, copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordPlace {
    pub(crate) zone: ZoneId,
    pub(crate) ezk_version: u32,
    pub(crate) copy: RecordCopy,
}

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordCopy {
    A,
    B,
}

impl RecordCopy {
    pub(crate) const BOTH: [Self; 2] = [Self::A, Self::B];

    fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl RecordPlace {
    pub(crate) fn path(self) -> Path {
        Path::from(format!("{KEYRING_PREFIX}/{}/{:08}.{}", self.zone, self.ezk_version, self.copy.as_str()))
    }

    /// The place that a path names; `None` if it is no name of a record.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mut parts = path.as_ref().split('/');
        let (prefix, zone, file) = (parts.next()?, parts.next()?, parts.next()?);
        let (version, copy) = file.split_once('.')?;
        let place = Self {
            zone: zone.parse().ok()?,
            ezk_version: version.parse().ok()?,
            copy: RecordCopy::BOTH.into_iter().find(|c| c.as_str() == copy)?,
        };
        // Only the canonical spelling counts, so that one place has one name.
        let canonical = prefix == KEYRING_PREFIX && parts.next().is_none() && place.path() == *path;
        canonical.then_some(place)
    }
}

fn is_cluster_id(bytes: &[u8]) -> bool {
    (1..=CLUSTER_ID_MAX).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

/// `N` bytes from `at` on; the caller has checked the length.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ezk(byte: u8) -> EzkBytes {
        EzkBytes::take(&mut [byte; 32]).unwrap()
    }

    fn record() -> KeyringRecord {
        let fields = RecordFields {
            purpose: Purpose::Database,
            cluster_id: "vc0123456789abcdef",
            ezk_version: 3,
            store: StoreId::from_bytes([1; 16]),
            zone: ZoneId::from_bytes([2; 16]),
            wrapped: &[9; 184],
        };
        KeyringRecord::new(fields, &ezk(5)).unwrap().unwrap()
    }

    #[test]
    fn a_record_reads_back_and_proves_its_key() {
        let record = record();
        let parsed = KeyringRecord::parse(&record.encode()).unwrap();
        assert_eq!(parsed, record);
        assert!(parsed.prove(&ezk(5)).unwrap());
        assert!(!parsed.prove(&ezk(6)).unwrap());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed_without_a_key() {
        let bytes = record().encode();
        for index in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[index] ^= 1;
            assert!(KeyringRecord::parse(&bad).is_err(), "byte {index}");
            assert!(KeyringRecord::parse(&bytes[..index]).is_err(), "cut at {index}");
        }
        assert!(KeyringRecord::parse(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_forged_digest_does_not_help_against_the_mac() {
        let bytes = record().encode();
        let body_len = bytes.len() - DIGEST_LEN;
        for index in 0..body_len {
            let mut bad = bytes.clone();
            bad[index] ^= 1;
            let digest = digest::digest(&digest::SHA256, &bad[..body_len]);
            bad[body_len..].copy_from_slice(digest.as_ref());
            if let Ok(parsed) = KeyringRecord::parse(&bad) {
                assert!(!parsed.prove(&ezk(5)).unwrap(), "byte {index}");
            }
        }
    }

    #[test]
    fn places_have_one_spelling() {
        let place = RecordPlace { zone: ZoneId::from_bytes([0xab; 16]), ezk_version: 7, copy: RecordCopy::B };
        assert_eq!(RecordPlace::of(&place.path()), Some(place));
        let zone = "ab".repeat(16);
        for bad in [
            format!("keyring/{zone}/7.b"),
            format!("keyring/{zone}/00000007.c"),
            format!("keyring/{zone}/00000007.b/x"),
            format!("other/{zone}/00000007.b"),
            format!("keyring/{}/00000007.b", zone.to_uppercase()),
            "keyring/x".to_owned(),
        ] {
            assert_eq!(RecordPlace::of(&Path::from(bad.as_str())), None, "{bad}");
        }
    }
}
