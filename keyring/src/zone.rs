//! One encryption zone: its keys, and the sealed stores that use them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use object_store::ObjectStore;
use object_store::path::Path;

use crate::check::KeyState;
use crate::ezk::EzkBytes;
use crate::ids::{Purpose, StoreId, ZoneId};
use crate::lease::Lease;
use crate::sealed::{ChunkSize, SealedError, SealedStore};

/// Sealed objects lie below this path, then zone id, then kind.
pub(crate) const ZONES_PREFIX: &str = "zones";

/// The keys of one zone, usable while the keyring's lease is valid.
pub(crate) struct ZoneKeys {
    store: StoreId,
    id: ZoneId,
    purpose: Purpose,
    lease: Lease,
    /// By version; the highest seals, all of them open. Empty once locked.
    versions: RwLock<BTreeMap<u32, Arc<EzkBytes>>>,
}

impl ZoneKeys {
    pub(crate) fn new(
        store: StoreId,
        id: ZoneId,
        purpose: Purpose,
        lease: Lease,
        versions: BTreeMap<u32, Arc<EzkBytes>>,
    ) -> Self {
        Self { store, id, purpose, lease, versions: RwLock::new(versions) }
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    pub(crate) fn id(&self) -> ZoneId {
        self.id
    }

    pub(crate) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether keys may be used now.
    pub(crate) fn admit(&self) -> Result<(), SealedError> {
        if self.lease.is_valid() { Ok(()) } else { Err(SealedError::Locked) }
    }

    /// The key that seals.
    pub(crate) fn current(&self) -> Result<(u32, Arc<EzkBytes>), SealedError> {
        self.admit()?;
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let (version, key) = versions.last_key_value().ok_or(SealedError::Locked)?;
        Ok((*version, Arc::clone(key)))
    }

    /// The key of one version; `None` if the keyring has no such version.
    pub(crate) fn version(&self, version: u32) -> Result<Option<Arc<EzkBytes>>, SealedError> {
        self.admit()?;
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        if versions.is_empty() {
            return Err(SealedError::Locked);
        }
        Ok(versions.get(&version).map(Arc::clone))
    }

    /// Gives the keys up. Operations that hold one finish their chunk; the key is zeroised with the last of them.
    pub(crate) fn forget(&self) {
        self.versions.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for ZoneKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoneKeys").field("id", &self.id).field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// A handle on one zone of a [`Keyring`](crate::Keyring). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Zone {
    keys: Arc<ZoneKeys>,
    raw: Arc<dyn ObjectStore>,
}

impl Zone {
    pub(crate) fn new(keys: Arc<ZoneKeys>, raw: Arc<dyn ObjectStore>) -> Self {
        Self { keys, raw }
    }

    /// The zone's id; for a database zone, the database's id.
    pub fn id(&self) -> ZoneId {
        self.keys.id()
    }

    /// What the zone protects.
    pub fn purpose(&self) -> Purpose {
        self.keys.purpose()
    }

    /// The sealed store below `prefix` of this zone (may be empty), with chunks of 64 KiB.
    ///
    /// In the outer store its objects lie at `zones/<zone id>/bulk/<prefix>/…`.
    pub fn sealed_store(&self, prefix: impl Into<Path>) -> Arc<SealedStore> {
        self.store_of(prefix.into(), ChunkSize::Bulk)
    }

    /// As [`sealed_store`](Self::sealed_store), with chunks of 4 KiB, for rows that are fetched singly.
    ///
    /// In the outer store its objects lie at `zones/<zone id>/rows/<prefix>/…`, apart from those with long chunks.
    pub fn sealed_row_store(&self, prefix: impl Into<Path>) -> Arc<SealedStore> {
        self.store_of(prefix.into(), ChunkSize::Rows)
    }

    fn store_of(&self, prefix: Path, chunk_size: ChunkSize) -> Arc<SealedStore> {
        Arc::new(SealedStore::new(Arc::clone(&self.raw), Arc::clone(&self.keys), prefix, chunk_size))
    }
}

/// What a status says about one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneStatus {
    /// The zone's id.
    pub id: ZoneId,
    /// What it protects.
    pub purpose: Purpose,
    /// The key version that seals new objects.
    pub version: u32,
    /// What the last check said about its key.
    pub state: KeyState,
}
