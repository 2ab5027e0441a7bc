//! The log of a shard: one SlateDB, one writer task, group commit.
//!
//! The writer takes all that waits, writes it as one batch, flushes, and publishes in order: group commit without a
//! timer. A write that fails (a full disk, a store that went away) leaves one batch in doubt, and SlateDB closed for
//! good. The writer then opens the log anew until that works. Meanwhile readers go on with what was published, and
//! writers are refused. Each batch carries a mark, so the opened log tells whether the batch in doubt is part of it; if
//! it is, it is published, since memory must be what the log says. It also tells whether another process wrote since:
//! then the log is the other's, and this writer refuses for ever. What was prepared before the log was opened anew is
//! refused too: it may rest on what was not settled yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use slatedb::config::{CompactorOptions, DbReaderOptions, FlushOptions, FlushType, GarbageCollectorOptions, Settings};
use slatedb::{CloseReason, Db, DbReader, DbReaderMode, ErrorKind, WriteBatch};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, Result};
use crate::storage::format::{self, Formats};
use crate::storage::keys;

/// Writers that may wait for the commit task.
const QUEUE: usize = 256;
/// Time before the first attempt to open a failed log, and the longest between two.
const REOPEN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The log's folder in the store.
const FOLDER: &str = "log";
/// About two seconds: a client that waits for a full disk is better told.
const RETRIES: u32 = 4;
/// A log that failed gets so long to end its tasks.
const CLOSE: Duration = Duration::from_secs(1);

/// A change of one record of the log.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Operation {
    Put(Vec<u8>, Bytes),
    Delete(Vec<u8>),
}

/// What the writer makes durable, and then shows to readers.
pub(super) struct Commit {
    /// The epoch of the log when what it rests on was read.
    pub(super) epoch: u64,
    pub(super) operations: Vec<Operation>,
    pub(super) publish: Publish,
    pub(super) done: oneshot::Sender<Result<()>>,
    /// Let go after the answer, whether or not somebody waits for it: the locks that the change needs.
    pub(super) _held: Box<dyn Send>,
}

pub(super) type Publish = Box<dyn FnOnce() + Send>;

/// The log as readers see it.
pub(super) struct Log {
    db: ArcSwap<Db>,
    epoch: AtomicU64,
    closing: AtomicBool,
    lost: CancellationToken,
}

impl Log {
    /// Opens the log in `store` and starts its writer, which wakes `recovered` after it opened a failed log anew. The
    /// writer ends with the last sender of commits. Beside it: the format that the shard is committed to. One that is
    /// not among `formats` is refused, and the log left as it was.
    pub(super) async fn open(
        store: Arc<dyn ObjectStore>,
        recovered: Arc<Notify>,
        formats: &Formats,
    ) -> Result<(Arc<Self>, mpsc::Sender<Commit>, u32)> {
        // First without a claim: to open is to write.
        formats.admit(recorded_format(&store).await?)?;
        let db = open(&store, None).await?;
        // A newer release may have had the log in between.
        let format = format::from_record(db.get(keys::FORMAT).await?)?;
        if let Err(refusal) = formats.admit(format) {
            let _closed = tokio::time::timeout(CLOSE, db.close()).await;
            return Err(refusal);
        }
        let epoch = db.manifest().writer_epoch();
        let mark = mark(epoch, 0);
        // Before anything else is read: from here on the log says whose it is.
        let mut batch = WriteBatch::new();
        batch.put_bytes(keys::MARK.into(), mark.clone());
        write_durably(&db, batch).await?;
        let log = Arc::new(Self {
            db: ArcSwap::from_pointee(db),
            epoch: AtomicU64::new(epoch),
            closing: AtomicBool::new(false),
            lost: CancellationToken::new(),
        });
        let (commits, queue) = mpsc::channel(QUEUE);
        let writer = Writer { log: log.clone(), store, queue, written: 0, acknowledged: mark, recovered };
        tokio::spawn(writer.run());
        Ok((log, commits, format))
    }

    /// The log as it is open now.
    pub(super) fn db(&self) -> Arc<Db> {
        self.db.load_full()
    }

    /// The epoch of this writer; every opening raises it.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Returns once another process is known to have taken the log: what is known here is no longer so.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Closes the log for good.
    pub(super) async fn close(&self) -> Result<()> {
        self.closing.store(true, Ordering::Release);
        self.db().close().await.map_err(Error::from)
    }
}

struct Writer {
    log: Arc<Log>,
    store: Arc<dyn ObjectStore>,
    queue: mpsc::Receiver<Commit>,
    /// Batches written in this epoch.
    written: u64,
    /// The mark of the last batch that is known to be part of the log.
    acknowledged: Bytes,
    recovered: Arc<Notify>,
}

/// How the log was opened anew.
enum Opened {
    /// It is still this writer's; the batch in doubt is part of it or not.
    Ours { db: Box<Db>, settled: bool },
    /// Another process wrote since.
    Lost,
}

impl Writer {
    async fn run(mut self) {
        let mut waiting = Vec::new();
        loop {
            let mut status = self.log.db().subscribe();
            let closed_itself = async move { drop(status.wait_for(|status| status.close_reason.is_some()).await) };
            let failed = tokio::select! {
                taken = self.queue.recv_many(&mut waiting, QUEUE) => match taken {
                    0 => return,
                    _ => self.serve(&mut waiting).await,
                },
                // It closes itself when its own work fails for too long, also while nobody writes. It does not say
                // why; opening it anew does.
                () = closed_itself => {
                    Some((Vec::new(), Error::new(Code::Io, "the shard's log closed itself"), false))
                }
            };
            let Some((in_doubt, refusal, fenced)) = failed else { continue };
            if self.log.closing.load(Ordering::Acquire) {
                return self.refuse_for_ever(&closed()).await;
            }
            match in_doubt.is_empty() {
                true => tracing::warn!("the shard's log closed itself"),
                false => tell(&refusal, true, "the shard's log refused a write"),
            }
            match self.reopen(in_doubt, &refusal, fenced).await {
                Some(true) => {}
                Some(false) => {
                    tracing::error!("another process has taken the shard's log; this one serves it no more");
                    self.log.lost.cancel();
                    let taken = Error::new(Code::Io, "another process has taken the shard's log");
                    return self.refuse_for_ever(&taken).await;
                }
                None => return,
            }
        }
    }

    /// Writes what waits, and publishes it. If that fails: what is in doubt now, the answer that its writers got, and
    /// whether SlateDB thinks that another writer has the log.
    async fn serve(&mut self, waiting: &mut Vec<Commit>) -> Option<(Vec<Publish>, Error, bool)> {
        let epoch = self.log.epoch();
        for stale in waiting.extract_if(.., |commit| commit.epoch != epoch) {
            let _gone = stale.done.send(Err(reopened()));
        }
        let Err(error) = self.write(waiting).await else {
            for commit in waiting.drain(..) {
                (commit.publish)();
                // The writer may have gone away; its change is committed all the same.
                let _gone = commit.done.send(Ok(()));
            }
            return None;
        };
        let fenced = error.kind() == ErrorKind::Closed(CloseReason::Fenced);
        let refusal = Error::from(error);
        let refuse = |commit: Commit| {
            let _gone = commit.done.send(Err(refusal.clone()));
            commit.publish
        };
        Some((waiting.drain(..).map(refuse).collect(), refusal.clone(), fenced))
    }

    async fn write(&mut self, waiting: &mut [Commit]) -> std::result::Result<(), slatedb::Error> {
        let mut batch = WriteBatch::new();
        for operation in waiting.iter_mut().flat_map(|commit| commit.operations.drain(..)) {
            match operation {
                Operation::Put(key, value) => batch.put_bytes(key.into(), value),
                Operation::Delete(key) => batch.delete(key),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        self.written += 1;
        let mark = mark(self.log.epoch(), self.written);
        batch.put_bytes(keys::MARK.into(), mark.clone());
        write_durably(&self.log.db(), batch).await?;
        self.acknowledged = mark;
        Ok(())
    }

    /// Opens the log anew, however long that takes, refusing whoever wants to write meanwhile. Then settles the batch
    /// in doubt. `false` if the log is another's by now; `None` if the shard was dropped before.
    async fn reopen(&mut self, in_doubt: Vec<Publish>, refusal: &Error, fenced: bool) -> Option<bool> {
        // Whatever this flushes counts: the batch in doubt is looked for afterwards.
        let _closed = tokio::time::timeout(CLOSE, self.log.db().close()).await;
        let doubtful = mark(self.log.epoch(), self.written);
        let opened = {
            let opening = open_until_it_works(&self.store, self.log.epoch(), &doubtful, &self.acknowledged, fenced);
            let mut opening = std::pin::pin!(opening);
            loop {
                tokio::select! {
                    opened = &mut opening => break opened,
                    commit = self.queue.recv() => match commit {
                        Some(commit) => { let _gone = commit.done.send(Err(refusal.clone())); }
                        None => return None,
                    }
                }
            }
        };
        let Opened::Ours { db, settled } = opened else { return Some(false) };
        let epoch = db.manifest().writer_epoch();
        self.log.db.store(Arc::new(*db));
        if settled {
            in_doubt.into_iter().for_each(|publish| publish());
            self.acknowledged = doubtful;
        }
        // Only now: who reads this epoch sees what was settled.
        self.log.epoch.store(epoch, Ordering::Release);
        self.written = 0;
        tracing::info!(epoch, "the shard's log takes writes again");
        self.recovered.notify_one();
        Some(true)
    }

    async fn refuse_for_ever(&mut self, refusal: &Error) {
        while let Some(commit) = self.queue.recv().await {
            let _gone = commit.done.send(Err(refusal.clone()));
        }
    }
}

/// The mark of a batch: who wrote it, and which one it was.
fn mark(epoch: u64, number: u64) -> Bytes {
    [epoch.to_be_bytes(), number.to_be_bytes()].concat().into()
}

async fn write_durably(db: &Db, batch: WriteBatch) -> std::result::Result<(), slatedb::Error> {
    let write = db.write(batch).await?;
    db.flush_with_options(FlushOptions { flush_type: FlushType::Wal }).await?;
    write.await_durable().await
}

/// Opens the log anew, unless another process has it. Its last mark says so: it is either the one in doubt or the one
/// that was acknowledged last.
async fn open_until_it_works(
    store: &Arc<dyn ObjectStore>,
    epoch: u64,
    doubtful: &Bytes,
    acknowledged: &Bytes,
    fenced: bool,
) -> Opened {
    let (first, longest) = REOPEN;
    let delays = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).with_jitter();
    let mut delays = delays.without_max_times().build();
    let ours = |mark: &Option<Bytes>| mark.as_ref().is_some_and(|mark| mark == doubtful || mark == acknowledged);
    // Claimed only if nobody else did, so that a writer that took the log is not disturbed: to claim it is to fence that
    // one off. An attempt that failed half-way may have claimed the epoch itself; from then on the mark alone decides,
    // which is read first.
    let mut expected = Some(epoch);
    let mut failed = false;
    let mut wait = !fenced;
    loop {
        if wait {
            tokio::time::sleep(delays.next().unwrap_or(longest)).await;
        }
        wait = true;
        let opened = async {
            if expected.is_none() && !ours(&read(store, keys::MARK).await?) {
                return Ok(None);
            }
            let db = open(store, expected).await?;
            let last = db.get(keys::MARK).await?;
            Ok::<_, slatedb::Error>(Some((db, last)))
        };
        match opened.await {
            Ok(Some((db, last))) if ours(&last) => {
                let settled = last.as_ref() == Some(doubtful);
                return Opened::Ours { db: Box::new(db), settled };
            }
            Ok(Some((db, _))) => {
                let _closed = tokio::time::timeout(CLOSE, db.close()).await;
                return Opened::Lost;
            }
            Ok(None) => return Opened::Lost,
            Err(error) if error.kind() == ErrorKind::Closed(CloseReason::Fenced) && expected.is_some() => {
                if !failed {
                    return Opened::Lost;
                }
                expected = None;
            }
            Err(error) => {
                tell(&Error::from(error), !failed, "the shard's log can't be opened yet");
                failed = true;
            }
        }
    }
}

/// Logs why the log does not work: an error once, a warning when it is nothing new, and neither if the key is withheld,
/// which its owner wants so.
fn tell(reason: &Error, new: bool, what: &str) {
    match reason.code {
        Code::KeyRevoked => tracing::info!(%reason, "{what}"),
        _ if new => tracing::error!(%reason, "{what}"),
        _ => tracing::warn!(%reason, "{what}"),
    }
}

/// Opens the log in `store`, or makes a new one there. A writer that still had it open is fenced off: its next write
/// fails. With `expected`, only if that is the epoch of the last writer.
async fn open(store: &Arc<dyn ObjectStore>, expected: Option<u64>) -> std::result::Result<Db, slatedb::Error> {
    let builder = Db::builder(FOLDER, store.clone()).with_settings(settings());
    match expected {
        Some(epoch) => builder.with_expected_epoch(epoch).build().await,
        None => builder.build().await,
    }
}

/// The format that the log in `store` says it has, read without writing anything.
async fn recorded_format(store: &Arc<dyn ObjectStore>) -> Result<u32> {
    let manifests = Path::from_iter([FOLDER, "manifest"]);
    if store.list(Some(&manifests)).try_next().await?.is_none() {
        // There is no log yet.
        return Ok(format::FIRST);
    }
    format::from_record(read(store, keys::FORMAT).await?)
}

/// The record at `key` of the log in `store`, read without writing anything.
async fn read(store: &Arc<dyn ObjectStore>, key: &[u8]) -> std::result::Result<Option<Bytes>, slatedb::Error> {
    let options = DbReaderOptions { object_store_max_retries: Some(RETRIES), ..DbReaderOptions::default() };
    let reader = DbReader::builder(FOLDER, store.clone())
        // The only mode that leaves no checkpoint behind.
        .with_reader_mode(DbReaderMode::FollowLatest)
        .with_db_cache_disabled()
        .with_options(options)
        .build()
        .await?;
    let record = reader.get(key).await;
    let _closed = tokio::time::timeout(CLOSE, reader.close()).await;
    record
}

/// The answer to who prepared a change before the log was opened anew.
fn reopened() -> Error {
    Error::new(Code::Unavailable, "the shard's log was opened anew meanwhile; try again")
}

/// The answer to who comes after the last commit.
pub(super) fn closed() -> Error {
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
        object_store_max_retries: Some(RETRIES),
        ..Settings::default()
    }
}
