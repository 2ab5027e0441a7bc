//! A shard: one SlateDB and the objects beside it, with a single commit pipeline.
//!
//! Everything that changes the shard is a commit: records for the log, and what to show to readers once they are
//! durable. A timestamp is given out in the same moment as the place in the log's queue, so the order of timestamps, of
//! the log and of publication are one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use prost::Message;
use tokio::sync::{Notify, OwnedMutexGuard, mpsc, oneshot};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::proto::storage;
use crate::storage::collection::{Collections, LiveCollection};
use crate::storage::format::{self, Formats};
use crate::storage::keys::{self, Kind};
use crate::storage::log::{Commit, Log, closed};

pub use crate::storage::log::Operation;

/// Batches up to this size lie in the log itself; larger ones are objects that the log refers to.
pub const INLINE_BATCH_BYTES: usize = 128 * 1024;

/// See the module's documentation.
pub struct Shard {
    log: Arc<Log>,
    /// Segments and large batches; sealed.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Timestamps of this shard.
    pub clock: Clock,
    /// Memory for rows and indexes.
    pub budget: Budget,
    pub(crate) collections: Arc<RwLock<Collections>>,
    /// Changes of the catalogue, one at a time.
    catalogue: Arc<tokio::sync::Mutex<()>>,
    /// Wakes the task that seals and merges.
    pub(crate) work: Arc<Notify>,
    /// Wakes the task that builds indexes.
    pub(crate) unindexed: Notify,
    commits: mpsc::Sender<Commit>,
    /// Held for the moment in which a timestamp and a place in the queue are taken.
    order: Mutex<()>,
    /// What the log says of its format.
    format: Arc<AtomicU32>,
    formats: Arc<Formats>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

impl Shard {
    /// Opens the shard in `store`, or makes a new one there, and recovers its collections. A writer that still had it
    /// open is fenced off: its next write fails. A shard whose format is not among `formats` is refused, and left as it
    /// was.
    pub async fn open(store: Arc<dyn ObjectStore>, budget: Budget, formats: Arc<Formats>) -> Result<Arc<Self>> {
        let work = Arc::new(Notify::new());
        let (log, commits, format) = Log::open(store.clone(), work.clone(), &formats).await?;
        let shard = Arc::new(Self {
            log,
            objects: store,
            clock: Clock::default(),
            budget,
            collections: Arc::default(),
            catalogue: Arc::default(),
            work,
            unindexed: Notify::new(),
            commits,
            order: Mutex::default(),
            format: Arc::new(AtomicU32::new(format)),
            formats,
        });
        shard.recover().await?;
        Ok(shard)
    }

    /// The epoch of this writer; every opening raises it.
    pub fn epoch(&self) -> u64 {
        self.log.epoch()
    }

    /// Returns once another process is known to have taken the shard.
    pub async fn lost(&self) {
        self.log.lost().await;
    }

    /// The format that the shard is committed to: whatever is written must be understood by every release that knows
    /// it.
    pub fn format(&self) -> u32 {
        self.format.load(Ordering::Acquire)
    }

    /// Commits the shard to `wanted`, or to the newest format that this release knows if that is lower. From then on
    /// older releases refuse the shard. What it was committed to before is never taken back.
    pub async fn commit_format(&self, wanted: u32) -> Result<()> {
        let format = wanted.min(self.formats.newest());
        if format <= self.format() {
            return Ok(());
        }
        let record = Operation::Put(keys::FORMAT.to_vec(), format::to_record(format));
        let (committed, formats) = (self.format.clone(), self.formats.clone());
        let publish = move || {
            committed.fetch_max(format, Ordering::AcqRel);
            formats.note(format);
        };
        self.commit(|_| Ok((vec![record], publish))).await?;
        tracing::info!(format, "the shard is committed to a newer file format");
        Ok(())
    }

    /// Stops the commit task after what waits, and closes the log.
    pub async fn close(&self) -> Result<()> {
        self.barrier().await?;
        self.log.close().await
    }

    /// All collections.
    pub fn collections(&self) -> Vec<Arc<LiveCollection>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).all()
    }

    /// The collection called `name`.
    pub fn collection(&self, name: &str) -> Result<Arc<LiveCollection>> {
        let found = self.collections.read().unwrap_or_else(PoisonError::into_inner).by_name(name);
        found.ok_or_else(|| Error::new(Code::CollectionNotFound, format!("collection not found[collection={name}]")))
    }

    /// The collection with id `id`.
    pub fn collection_by_id(&self, id: i64) -> Result<Arc<LiveCollection>> {
        let found = self.collections.read().unwrap_or_else(PoisonError::into_inner).by_id(id);
        found.ok_or_else(|| Error::new(Code::CollectionNotFound, format!("collection not found[collection={id}]")))
    }

    /// Commits what `change` makes for the timestamp that it is given. Returns that timestamp once the change is durable
    /// and visible. `change` runs under a lock: it only puts together what was prepared before.
    pub(crate) async fn commit<F, P>(&self, change: F) -> Result<u64>
    where
        F: FnOnce(u64) -> Result<(Vec<Operation>, P)>,
        P: FnOnce() + Send + 'static,
    {
        self.commit_since(self.epoch(), (), change).await
    }

    /// As [`Shard::commit`], for a change that rests on what was read while the log had `epoch`: if the log was opened
    /// anew since, a write that was in doubt then may have changed it, and the change is refused. `held` are the locks
    /// under which it was read. They are let go when the change is visible or refused, and not when the caller goes away:
    /// what is queued happens all the same.
    pub(crate) async fn commit_since<H, F, P>(&self, epoch: u64, held: H, change: F) -> Result<u64>
    where
        H: Send + 'static,
        F: FnOnce(u64) -> Result<(Vec<Operation>, P)>,
        P: FnOnce() + Send + 'static,
    {
        let place = self.commits.reserve().await.map_err(|_| closed())?;
        let (done, committed) = oneshot::channel();
        let timestamp = {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            let timestamp = self.clock.next();
            let (operations, publish) = change(timestamp)?;
            place.send(Commit { epoch, operations, publish: Box::new(publish), done, _held: Box::new(held) });
            timestamp
        };
        committed.await.map_err(|_| closed())??;
        Ok(timestamp)
    }

    /// Waits until nobody else changes the catalogue, and keeps it so until the answer is dropped.
    pub(crate) async fn change_catalogue(&self) -> OwnedMutexGuard<()> {
        self.catalogue.clone().lock_owned().await
    }

    /// Returns when everything queued before is durable and visible.
    pub(crate) async fn barrier(&self) -> Result<u64> {
        self.commit(|_| Ok((Vec::new(), || {}))).await
    }

    /// A new object name. It starts with the epoch of the writer, so that two writers never use the same one.
    pub(crate) fn object_name(&self, folder: &str) -> String {
        format!("{folder}/{:016x}-{}", self.epoch(), ulid::Ulid::new())
    }

    /// Stores `bytes` as a new object that counts as garbage until the commit that refers to it takes
    /// [`Shard::adopt`] along: a crash in between leaves nothing behind.
    pub(crate) async fn put_object(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.intend(name).await?;
        self.objects.put(&name.into(), bytes.into()).await?;
        Ok(())
    }

    /// Records that an object `name` is about to be stored, which is garbage until it is adopted.
    pub(crate) async fn intend(&self, name: &str) -> Result<()> {
        let garbage = Operation::Put(keys::named(Kind::Garbage, name), storage::Garbage {}.encode_to_vec().into());
        self.commit(|_| Ok((vec![garbage], || {}))).await.map(drop)
    }

    /// The operation that makes object `name` permanent.
    pub(crate) fn adopt(name: &str) -> Operation {
        Operation::Delete(keys::named(Kind::Garbage, name))
    }

    /// The operation that gives object `name` up; [`Shard::collect`] deletes it afterwards.
    pub(crate) fn disown(name: &str) -> Operation {
        Operation::Put(keys::named(Kind::Garbage, name), storage::Garbage {}.encode_to_vec().into())
    }

    /// Deletes objects that a committed record gave up.
    pub(crate) async fn collect(&self, names: Vec<String>) -> Result<()> {
        for name in &names {
            match self.objects.delete(&name.as_str().into()).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let records = names.iter().map(|name| Operation::Delete(keys::named(Kind::Garbage, name))).collect();
        self.commit(|_| Ok((records, || {}))).await.map(drop)
    }

    /// Deletes objects that no record will name. What can't be deleted now is deleted at the next start.
    pub(crate) async fn abandon(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.objects.delete(&name.as_str().into()).await {
                tracing::debug!(reason = %error, "an object of a refused write is left for the next start");
            }
        }
    }

    /// The bytes of object `name`.
    pub(crate) async fn object(&self, name: &str) -> Result<Bytes> {
        Ok(self.objects.get(&name.into()).await?.bytes().await?)
    }

    /// All records with `prefix`.
    pub(crate) async fn records(&self, prefix: Vec<u8>) -> Result<Vec<(Bytes, Bytes)>> {
        let mut found = Vec::new();
        let mut records = self.log.db().scan_prefix(prefix, ..).await?;
        while let Some(record) = records.next().await? {
            found.push((record.key, record.value));
        }
        Ok(found)
    }

    /// The record at `key`.
    pub(crate) async fn record(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.log.db().get(key).await?)
    }

    /// Number of objects in the store, for tests of what is left behind.
    pub async fn object_count(&self, folder: &str) -> Result<usize> {
        let found: Vec<_> = self.objects.list(Some(&folder.into())).try_collect().await?;
        Ok(found.len())
    }
}

/// A record from its bytes; one that does not parse is an error that names it.
pub(crate) fn decode<M: Message + Default>(what: &str, bytes: Bytes) -> Result<M> {
    M::decode(bytes)
        .map_err(|error| Error::new(Code::DataIntegrity, format!("the record of a {what} is damaged: {error}")))
}
