//! HKDF-SHA256 from an encryption zone key to the keys that do the work (`docs/sealed-format.md`, *Keys*).

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use crate::ezk::EzkBytes;
use crate::ids::{StoreId, ZoneId};

/// The system's cryptographic library failed. That needs a broken machine, but it is an error, not a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed")]
pub(crate) struct CryptoFailure;

impl From<aws_lc_rs::error::Unspecified> for CryptoFailure {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

const OBJECT_DOMAIN: &[u8] = b"vectorkeep sealed object v1";
const RECORD_DOMAIN: &[u8] = b"vectorkeep keyring record v1";

/// What a sealed object takes from its zone's key.
pub(crate) struct ObjectKeys {
    pub(crate) kek: Zeroizing<[u8; 32]>,
    pub(crate) commitment: [u8; 32],
}

pub(crate) fn object_keys(
    ezk: &EzkBytes,
    salt: &[u8; 32],
    store: StoreId,
    zone: ZoneId,
    ezk_version: u32,
) -> Result<ObjectKeys, CryptoFailure> {
    let prk = Salt::new(HKDF_SHA256, salt).extract(ezk.expose());
    let version = ezk_version.to_be_bytes();
    let expand = |purpose: &[u8]| {
        let info = [OBJECT_DOMAIN, &[0], purpose, &[0], store.as_bytes(), zone.as_bytes(), &version];
        expand_32(&prk, &info)
    };
    Ok(ObjectKeys { kek: expand(b"kek")?, commitment: *expand(b"commitment")? })
}

/// What a keyring record takes from the key that it wraps.
pub(crate) struct RecordKeys {
    pub(crate) commitment: [u8; 32],
    pub(crate) mac_key: Zeroizing<[u8; 32]>,
}

pub(crate) fn record_keys(
    ezk: &EzkBytes,
    store: StoreId,
    zone: ZoneId,
    ezk_version: u32,
) -> Result<RecordKeys, CryptoFailure> {
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(store.as_bytes());
    salt[16..].copy_from_slice(zone.as_bytes());
    let prk = Salt::new(HKDF_SHA256, &salt).extract(ezk.expose());
    let version = ezk_version.to_be_bytes();
    let expand = |purpose: &[u8]| {
        let info = [RECORD_DOMAIN, &[0], purpose, &[0], &version];
        expand_32(&prk, &info)
    };
    Ok(RecordKeys { commitment: *expand(b"commitment")?, mac_key: expand(b"mac")? })
}

struct Len32;

impl KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

fn expand_32(prk: &Prk, info: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, CryptoFailure> {
    let mut out = Zeroizing::new([0; 32]);
    prk.expand(info, Len32)?.fill(out.as_mut_slice())?;
    Ok(out)
}
