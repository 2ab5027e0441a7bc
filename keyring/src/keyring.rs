//! All zones of one store: opening, creating, checking, locking.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::boottime::BootTime;
use crate::check::{CheckOutcome, KeyState};
use crate::ezk::EzkBytes;
use crate::ids::{EncryptionContext, Purpose, StoreId, ZoneId};
use crate::kms::{Kms, KmsError, KmsErrorKind};
use crate::lease::Lease;
use crate::record::{KEYRING_PREFIX, KeyringRecord, RecordFields};
use crate::record_copies::{StoredRecord, load_records, store_record};
use crate::zone::{Zone, ZoneKeys, ZoneStatus};

/// How long silence of the KMS is endured unless [`Keyring::set_outage_grace`] says otherwise.
const DEFAULT_OUTAGE_GRACE: Duration = Duration::from_secs(600);
/// KMS calls in flight at a time.
const PARALLEL_CALLS: usize = 8;
/// Version of a zone's first key.
const FIRST_VERSION: u32 = 1;

/// Why a keyring can't be opened or changed. Nothing in the store was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The KMS refused, was silent, or answered wrongly.
    #[error(transparent)]
    Kms(#[from] KmsError),
    /// An object of the keyring is not what it should be.
    #[error("keyring object {object} can't be used: {reason}; restore it from a backup of the store")]
    Corrupt {
        /// Path in the outer store.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store belongs to another cluster.
    #[error("the store belongs to cluster {found}, this is cluster {expected}; mount the store of this cluster")]
    WrongCluster {
        /// The id that was configured.
        expected: String,
        /// The id in the store.
        found: String,
    },
    /// The outer store failed.
    #[error("the store failed at {object}: {source}")]
    Io {
        /// Path in the outer store.
        object: String,
        /// What it said.
        source: object_store::Error,
    },
    /// The configured cluster id does not fit the record format.
    #[error("{0:?} is no cluster id: 1 to 30 lower-case letters and digits")]
    ClusterId(String),
    /// There is no such zone.
    #[error("the keyring has no zone {0}")]
    UnknownZone(ZoneId),
    /// The keyring was locked.
    #[error("the keyring is locked: its master key is not accessible")]
    Locked,
    /// The cryptographic library or the random source failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl KeyringError {
    pub(crate) fn io(path: &Path, source: object_store::Error) -> Self {
        Self::Io { object: path.to_string(), source }
    }
}

/// The keyring of one store, unlocked. Cheap to clone; all clones lock together.
#[derive(Clone)]
pub struct Keyring {
    shared: Arc<Shared>,
}

struct Shared {
    raw: Arc<dyn ObjectStore>,
    kms: Arc<dyn Kms>,
    cluster_id: String,
    store: StoreId,
    system: Arc<ZoneKeys>,
    lease: Lease,
    outage_grace: Mutex<Duration>,
    /// When the last successful check (or the opening) started.
    last_success: Mutex<BootTime>,
    zones: RwLock<BTreeMap<ZoneId, ZoneEntry>>,
}

#[derive(Clone)]
struct ZoneEntry {
    keys: Arc<ZoneKeys>,
    /// The record of the current version.
    record: Arc<KeyringRecord>,
    state: KeyState,
}

impl Keyring {
    /// Opens the keyring found in `raw` (the outer, unsealed store), or creates it with a system zone if the store is
    /// empty.
    ///
    /// A store that holds objects but no keyring is refused. Every key is proven by a `Decrypt` before this returns;
    /// the lease counts from the start of the first one.
    pub async fn open(raw: Arc<dyn ObjectStore>, kms: Arc<dyn Kms>, cluster_id: &str) -> Result<Self, KeyringError> {
        let stored = load_records(&raw).await?;
        if stored.is_empty() {
            return Self::create(raw, kms, cluster_id).await;
        }
        let store = identity(&stored, cluster_id)?;
        let started = BootTime::now();
        let unlocked: Vec<(KeyringRecord, EzkBytes)> = futures::stream::iter(&stored)
            .map(|record| unlock(record, kms.as_ref()))
            .buffer_unordered(PARALLEL_CALLS)
            .try_collect()
            .await?;
        for record in &stored {
            let place = (record.zone, record.ezk_version);
            if let Some((proven, _)) = unlocked.iter().find(|(r, _)| (r.zone, r.ezk_version) == place) {
                record.repair(&raw, proven).await;
            }
        }
        let lease = Lease::until(started.after(DEFAULT_OUTAGE_GRACE));
        let zones = zones_of(store, &lease, unlocked)?;
        let system = system_zone(&zones)?;
        Ok(Self::assemble(Shared {
            raw,
            kms,
            cluster_id: cluster_id.to_owned(),
            store,
            system,
            lease,
            outage_grace: Mutex::new(DEFAULT_OUTAGE_GRACE),
            last_success: Mutex::new(started),
            zones: RwLock::new(zones),
        }))
    }

    async fn create(raw: Arc<dyn ObjectStore>, kms: Arc<dyn Kms>, cluster_id: &str) -> Result<Self, KeyringError> {
        let root = Path::default();
        let first = raw.list(None).try_next().await;
        if let Some(meta) = first.map_err(|source| KeyringError::io(&root, source))? {
            return Err(KeyringError::Corrupt {
                object: format!("{KEYRING_PREFIX}/"),
                reason: format!("it is missing, but the store is not empty (it holds {})", meta.location),
            });
        }
        let store = StoreId::random().ok_or(KeyringError::Crypto)?;
        let started = BootTime::now();
        let lease = Lease::until(started.after(DEFAULT_OUTAGE_GRACE));
        let entry = new_zone(&raw, kms.as_ref(), cluster_id, store, Purpose::System, &lease).await?;
        let system = Arc::clone(&entry.keys);
        // Two processes that find the same empty store would each make a system zone; then neither may go on.
        let stored = load_records(&raw).await?;
        if stored.iter().any(|record| record.zone != system.id()) {
            return Err(two_system_zones(system.id()));
        }
        Ok(Self::assemble(Shared {
            raw,
            kms,
            cluster_id: cluster_id.to_owned(),
            store,
            system,
            lease,
            outage_grace: Mutex::new(DEFAULT_OUTAGE_GRACE),
            last_success: Mutex::new(started),
            zones: RwLock::new(BTreeMap::from([(entry.keys.id(), entry)])),
        }))
    }

    fn assemble(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Sets how long silence of the KMS is endured, and counts the lease anew: from the start of the last success.
    pub fn set_outage_grace(&self, grace: Duration) {
        let shared = &self.shared;
        *lock(&shared.outage_grace) = grace;
        let last_success = *lock(&shared.last_success);
        shared.lease.restart(last_success.after(grace));
    }

    /// The store's random identity.
    pub fn store_id(&self) -> StoreId {
        self.shared.store
    }

    /// The cluster that the store belongs to.
    pub fn cluster_id(&self) -> &str {
        &self.shared.cluster_id
    }

    /// The system zone.
    pub fn system(&self) -> Zone {
        Zone::new(Arc::clone(&self.shared.system), Arc::clone(&self.shared.raw))
    }

    /// Makes a zone with a random id and a fresh key, proven by `Decrypt` and stored before this returns.
    ///
    /// A failure can leave an unused record behind, never a zone whose key is not stored.
    pub async fn create_zone(&self, purpose: Purpose) -> Result<Zone, KeyringError> {
        let shared = &self.shared;
        if purpose == Purpose::System {
            return Err(two_system_zones(shared.system.id()));
        }
        if !shared.lease.is_valid() {
            return Err(KeyringError::Locked);
        }
        let entry =
            new_zone(&shared.raw, shared.kms.as_ref(), &shared.cluster_id, shared.store, purpose, &shared.lease)
                .await?;
        let keys = Arc::clone(&entry.keys);
        let mut zones = shared.zones.write().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock of the map: `lock` ends the lease first and then empties the zones that it finds here.
        if !shared.lease.is_valid() {
            keys.forget();
            return Err(KeyringError::Locked);
        }
        zones.insert(keys.id(), entry);
        drop(zones);
        Ok(Zone::new(keys, Arc::clone(&shared.raw)))
    }

    /// A zone by its id.
    pub fn zone(&self, id: ZoneId) -> Result<Zone, KeyringError> {
        let entry = self.entry(id).ok_or(KeyringError::UnknownZone(id))?;
        Ok(Zone::new(entry.keys, Arc::clone(&self.shared.raw)))
    }

    /// Every zone and what the last check said about it.
    pub fn zones(&self) -> Vec<ZoneStatus> {
        self.entries()
            .into_iter()
            .map(|entry| ZoneStatus {
                id: entry.keys.id(),
                purpose: entry.keys.purpose(),
                version: entry.record.ezk_version,
                state: entry.state,
            })
            .collect()
    }

    /// Asks the KMS to decrypt the current key of every zone, and compares the answers with the keys in use.
    ///
    /// If all are right, extends the lease, counted from the moment when this started. It never locks: what an outcome
    /// means is decided by [`next`](crate::next).
    pub async fn check(&self) -> CheckOutcome {
        let started = BootTime::now();
        let mut outcomes = futures::stream::iter(self.entries())
            .map(|entry| async move { (entry.keys.id(), self.check_zone(&entry).await) })
            .buffer_unordered(PARALLEL_CALLS);
        let mut worst = CheckOutcome::Ok;
        while let Some((id, outcome)) = outcomes.next().await {
            self.note(id, outcome.state());
            worst = worst.worse(outcome);
            // Either ends the use of the keys; answers that may never come are not waited for.
            if matches!(worst, CheckOutcome::Refused(_) | CheckOutcome::Invalid(_)) {
                break;
            }
        }
        if worst == CheckOutcome::Ok {
            let grace = *lock(&self.shared.outage_grace);
            if self.shared.lease.extend(started, grace, BootTime::now()) {
                let mut last_success = lock(&self.shared.last_success);
                *last_success = started.max(*last_success);
            }
        }
        worst
    }

    fn note(&self, id: ZoneId, state: KeyState) {
        let zones = self.shared.zones.write();
        if let Some(entry) = zones.unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            entry.state = state;
        }
    }

    async fn check_zone(&self, entry: &ZoneEntry) -> CheckOutcome {
        let record = &entry.record;
        let context = EncryptionContext::new(&self.shared.cluster_id, record.zone, record.purpose);
        match self.shared.kms.decrypt(&record.wrapped, &context).await {
            Err(error) => error.into(),
            Ok(answer) => match record.prove(&answer) {
                Ok(true) => CheckOutcome::Ok,
                Ok(false) => CheckOutcome::Invalid(wrong_key(record).message),
                Err(failure) => CheckOutcome::Unreachable(failure.to_string()),
            },
        }
    }

    /// The lease that every seal and open asks.
    pub fn lease(&self) -> Lease {
        self.shared.lease.clone()
    }

    /// When the last successful check, or the opening, started.
    pub fn last_success(&self) -> BootTime {
        *lock(&self.shared.last_success)
    }

    /// Gives all keys up for good: from now on every store of this keyring answers `Locked`.
    pub fn lock(&self) {
        self.shared.lease.end();
        for entry in self.entries() {
            entry.keys.forget();
        }
    }

    pub(crate) fn zone_keys(&self, id: ZoneId) -> Option<Arc<ZoneKeys>> {
        self.entry(id).map(|entry| entry.keys)
    }

    pub(crate) fn raw(&self) -> &Arc<dyn ObjectStore> {
        &self.shared.raw
    }

    fn entry(&self, id: ZoneId) -> Option<ZoneEntry> {
        let zones = self.shared.zones.read();
        zones.unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn entries(&self) -> Vec<ZoneEntry> {
        let zones = self.shared.zones.read();
        zones.unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("store", &self.shared.store)
            .field("cluster_id", &self.shared.cluster_id)
            .field("lease", &self.shared.lease)
            .finish_non_exhaustive()
    }
}

/// The store id on which all whole copies agree; refuses another cluster's store.
fn identity(stored: &[StoredRecord], cluster_id: &str) -> Result<StoreId, KeyringError> {
    let mut store = None;
    for record in stored {
        let candidates = record.candidates();
        if candidates.is_empty() {
            return Err(record.corrupt());
        }
        for candidate in candidates {
            if candidate.cluster_id != cluster_id {
                return Err(KeyringError::WrongCluster {
                    expected: cluster_id.to_owned(),
                    found: candidate.cluster_id.clone(),
                });
            }
            if *store.get_or_insert(candidate.store) != candidate.store {
                return Err(KeyringError::Corrupt {
                    object: record.path(crate::record::RecordCopy::A).to_string(),
                    reason: "it belongs to another store than the other records".to_owned(),
                });
            }
        }
    }
    store.ok_or(KeyringError::Crypto)
}

/// Decrypts the first copy that proves itself.
async fn unlock(stored: &StoredRecord, kms: &dyn Kms) -> Result<(KeyringRecord, EzkBytes), KeyringError> {
    let mut invalid = None;
    for record in stored.candidates() {
        let context = EncryptionContext::new(&record.cluster_id, record.zone, record.purpose);
        match kms.decrypt(&record.wrapped, &context).await {
            Ok(key) if record.prove(&key).map_err(|_| KeyringError::Crypto)? => {
                return Ok((record.clone(), key));
            }
            Ok(_) => invalid = invalid.or(Some(wrong_key(record))),
            // The other copy may be the good one.
            Err(error) if error.kind == KmsErrorKind::Invalid => invalid = invalid.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(invalid.map_or_else(|| stored.corrupt(), KeyringError::Kms))
}

fn wrong_key(record: &KeyringRecord) -> KmsError {
    KmsError::invalid(format!(
        "the KMS returned a key that does not match the commitment of zone {} version {}",
        record.zone, record.ezk_version
    ))
}

fn zones_of(
    store: StoreId,
    lease: &Lease,
    unlocked: Vec<(KeyringRecord, EzkBytes)>,
) -> Result<BTreeMap<ZoneId, ZoneEntry>, KeyringError> {
    let mut by_zone: BTreeMap<ZoneId, BTreeMap<u32, (KeyringRecord, Arc<EzkBytes>)>> = BTreeMap::new();
    for (record, key) in unlocked {
        by_zone.entry(record.zone).or_default().insert(record.ezk_version, (record, Arc::new(key)));
    }
    let mut zones = BTreeMap::new();
    for (id, versions) in by_zone {
        let Some((current, _)) = versions.values().next_back().cloned() else {
            continue;
        };
        let purpose = current.purpose;
        if let Some((odd, _)) = versions.values().find(|(record, _)| record.purpose != purpose) {
            return Err(KeyringError::Corrupt {
                object: format!("{KEYRING_PREFIX}/{id}"),
                reason: format!("its versions {} and {} differ in purpose", odd.ezk_version, current.ezk_version),
            });
        }
        let keys = versions.into_iter().map(|(version, (_, key))| (version, key)).collect();
        zones.insert(
            id,
            ZoneEntry {
                keys: Arc::new(ZoneKeys::new(store, id, purpose, lease.clone(), keys)),
                record: Arc::new(current),
                state: KeyState::Accessible,
            },
        );
    }
    Ok(zones)
}

fn system_zone(zones: &BTreeMap<ZoneId, ZoneEntry>) -> Result<Arc<ZoneKeys>, KeyringError> {
    let mut found = zones.values().map(|entry| &entry.keys).filter(|keys| keys.purpose() == Purpose::System);
    match (found.next(), found.next()) {
        (Some(keys), None) => Ok(Arc::clone(keys)),
        (Some(keys), Some(_)) => Err(two_system_zones(keys.id())),
        (None, _) => Err(KeyringError::Corrupt {
            object: format!("{KEYRING_PREFIX}/"),
            reason: "the record of the system zone is missing".to_owned(),
        }),
    }
}

fn two_system_zones(id: ZoneId) -> KeyringError {
    KeyringError::Corrupt {
        object: format!("{KEYRING_PREFIX}/{id}"),
        reason: "a store has exactly one system zone, and there would be a second one".to_owned(),
    }
}

/// Generates, proves and stores the first key of a new zone.
async fn new_zone(
    raw: &Arc<dyn ObjectStore>,
    kms: &dyn Kms,
    cluster_id: &str,
    store: StoreId,
    purpose: Purpose,
    lease: &Lease,
) -> Result<ZoneEntry, KeyringError> {
    let id = ZoneId::random().ok_or(KeyringError::Crypto)?;
    let context = EncryptionContext::new(cluster_id, id, purpose);
    let generated = kms.generate_data_key(&context).await?;
    let fields =
        RecordFields { purpose, cluster_id, ezk_version: FIRST_VERSION, store, zone: id, wrapped: &generated.wrapped };
    let record = KeyringRecord::new(fields, &generated.plaintext)
        .map_err(|_| KeyringError::Crypto)?
        .ok_or_else(|| KeyringError::ClusterId(cluster_id.to_owned()))?;
    // Before anything is sealed under it: the wrapped key has to come back as the same key.
    let proof = kms.decrypt(&generated.wrapped, &context).await?;
    if !record.prove(&proof).map_err(|_| KeyringError::Crypto)? {
        return Err(wrong_key(&record).into());
    }
    store_record(raw, &record).await?;
    let versions = BTreeMap::from([(FIRST_VERSION, Arc::new(proof))]);
    Ok(ZoneEntry {
        keys: Arc::new(ZoneKeys::new(store, id, purpose, lease.clone(), versions)),
        record: Arc::new(record),
        state: KeyState::Accessible,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
