//! A shard: one SlateDB and the objects beside it, with a single commit pipeline.
//!
//! Everything that changes the shard is a [`Commit`]: records for the log, and what to show to readers once they are
//! durable. The commit task takes all that waits, writes it as one batch, flushes the log, and publishes in order: group
//! commit without a timer. A timestamp is given out in the same moment as the place in the queue, so the order of
//! timestamps, of the log and of publication are one.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use prost::Message;
use slatedb::config::{CompactorOptions, FlushOptions, FlushType, GarbageCollectorOptions, Settings};
use slatedb::{Db, WriteBatch};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::budget::Budget;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::proto::storage;
use crate::storage::collection::{Collections, LiveCollection};
use crate::storage::keys::{self, Kind};

/// Batches up to this size lie in the log itself; larger ones are objects that the log refers to.
pub const INLINE_BATCH_BYTES: usize = 128 * 1024;
/// Writers that may wait for the commit task.
const QUEUE: usize = 256;

/// A change of one record of the log.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Operation {
    Put(Vec<u8>, Bytes),
    Delete(Vec<u8>),
}

/// See the module's documentation.
struct Commit {
    operations: Vec<Operation>,
    publish: Box<dyn FnOnce() + Send>,
    done: oneshot::Sender<Result<()>>,
}

/// See the module's documentation.
pub struct Shard {
    /// The log and the records.
    pub(crate) db: Db,
    /// Segments and large batches; sealed.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// Timestamps of this shard.
    pub clock: Clock,
    /// Memory for rows and indexes.
    pub budget: Budget,
    pub(crate) collections: Arc<RwLock<Collections>>,
    /// Changes of the catalogue, one at a time.
    pub(crate) catalogue: tokio::sync::Mutex<()>,
    /// Wakes the maintenance task.
    pub(crate) work: Notify,
    epoch: u64,
    commits: mpsc::Sender<Commit>,
    /// Held for the moment in which a timestamp and a place in the queue are taken.
    order: Mutex<()>,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Shard {
    /// Opens the shard in `store`, or makes a new one there, and recovers its collections. A writer that still had it
    /// open is fenced off: its next write fails.
    pub async fn open(store: Arc<dyn ObjectStore>, budget: Budget) -> Result<Arc<Self>> {
        let db = Db::builder("log", store.clone()).with_settings(settings()).build().await?;
        let epoch = db.manifest().writer_epoch();
        let (commits, queue) = mpsc::channel(QUEUE);
        let shard = Arc::new(Self {
            objects: store,
            clock: Clock::default(),
            budget,
            collections: Arc::default(),
            catalogue: tokio::sync::Mutex::default(),
            work: Notify::new(),
            epoch,
            commits,
            order: Mutex::default(),
            db: db.clone(),
        });
        tokio::spawn(commit_task(db, queue));
        shard.recover().await?;
        Ok(shard)
    }

    /// The epoch of this writer; every opening raises it.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Stops the commit task after what waits, and closes the log.
    pub async fn close(&self) -> Result<()> {
        self.barrier().await?;
        self.db.close().await.map_err(Error::from)
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
        let place = self.commits.reserve().await.map_err(|_| closed())?;
        let (done, committed) = oneshot::channel();
        let timestamp = {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            let timestamp = self.clock.next();
            let (operations, publish) = change(timestamp)?;
            place.send(Commit { operations, publish: Box::new(publish), done });
            timestamp
        };
        committed.await.map_err(|_| closed())??;
        Ok(timestamp)
    }

    /// Returns when everything queued before is durable and visible.
    pub(crate) async fn barrier(&self) -> Result<u64> {
        self.commit(|_| Ok((Vec::new(), || {}))).await
    }

    /// A new object name. It starts with the epoch of the writer, so that two writers never use the same one.
    pub(crate) fn object_name(&self, folder: &str) -> String {
        format!("{folder}/{:016x}-{}", self.epoch, ulid::Ulid::new())
    }

    /// Stores `bytes` as a new object that counts as garbage until the commit that refers to it takes
    /// [`Shard::adopt`] along: a crash in between leaves nothing behind.
    pub(crate) async fn put_object(&self, name: &str, bytes: Bytes) -> Result<()> {
        let garbage = Operation::Put(keys::named(Kind::Garbage, name), storage::Garbage {}.encode_to_vec().into());
        self.commit(|_| Ok((vec![garbage], || {}))).await?;
        self.objects.put(&name.into(), bytes.into()).await?;
        Ok(())
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

    /// The bytes of object `name`.
    pub(crate) async fn object(&self, name: &str) -> Result<Bytes> {
        Ok(self.objects.get(&name.into()).await?.bytes().await?)
    }

    /// All records with `prefix`.
    pub(crate) async fn records(&self, prefix: Vec<u8>) -> Result<Vec<(Bytes, Bytes)>> {
        let mut found = Vec::new();
        let mut records = self.db.scan_prefix(prefix, ..).await?;
        while let Some(record) = records.next().await? {
            found.push((record.key, record.value));
        }
        Ok(found)
    }

    /// The record at `key`.
    pub(crate) async fn record(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.db.get(key).await?)
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

async fn commit_task(db: Db, mut queue: mpsc::Receiver<Commit>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, QUEUE).await > 0 {
        let mut batch = WriteBatch::new();
        for operation in waiting.iter_mut().flat_map(|commit| commit.operations.drain(..)) {
            match operation {
                Operation::Put(key, value) => batch.put_bytes(key.into(), value),
                Operation::Delete(key) => batch.delete(key),
            }
        }
        let written = write_durably(&db, batch).await;
        if let Err(error) = &written {
            tracing::error!(error = %error, "the shard's log refused a write");
        }
        for commit in waiting.drain(..) {
            if written.is_ok() {
                (commit.publish)();
            }
            // The writer may have gone away; its change is committed all the same.
            let _gone = commit.done.send(written.clone());
        }
    }
}

async fn write_durably(db: &Db, batch: WriteBatch) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let write = db.write(batch).await?;
    db.flush_with_options(FlushOptions { flush_type: FlushType::Wal }).await?;
    write.await_durable().await?;
    Ok(())
}

fn closed() -> Error {
    Error::new(Code::Unavailable, "the shard is closing; try again")
}

fn settings() -> Settings {
    Settings {
        // Group commit flushes; a timer would only add waiting.
        flush_interval: None,
        // The log holds references and small batches only.
        l0_sst_size_bytes: 16 * 1024 * 1024,
        max_unflushed_bytes: 256 * 1024 * 1024,
        compactor_options: Some(CompactorOptions::default()),
        garbage_collector_options: Some(GarbageCollectorOptions::default()),
        object_store_max_retries: Some(8),
        ..Settings::default()
    }
}
