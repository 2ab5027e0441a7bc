//! A collection in memory: what readers see and how a committed change becomes visible.
//!
//! Readers take the current [`View`] and keep it for as long as they like. Only the shard's commit task replaces it, one
//! change after the other in the order of their timestamps, so a view is always the state at one timestamp.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use fixedbitset::FixedBitSet;
use tokio::sync::OwnedMutexGuard;

use crate::column::Rows;
use crate::proto::storage;
use crate::schema::Collection;
use crate::storage::part::{Delete, Origin, Part};

/// Small growing parts are joined once so many of them lie next to each other.
const JOIN_PARTS: usize = 16;
/// A part is small for joining below so many rows; two tiers keep the copying logarithmic.
const JOIN_BELOW_ROWS: [usize; 2] = [256, 4096];
/// Nor is one small that takes so much memory: it is no dearer to visit it than to copy it.
const JOIN_BELOW_BYTES: usize = 4 * 1024 * 1024;

/// The state of a collection at one timestamp.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Every change up to here is in the view.
    pub timestamp: u64,
    /// Rows of the log that are in no segment yet, oldest first.
    pub growing: Vec<Part>,
    /// Segments in memory. Empty while the collection is released.
    pub sealed: Vec<Part>,
    /// Records of segments that are stored but not in memory.
    pub unloaded: Vec<storage::Segment>,
}

impl View {
    /// All parts that a search covers.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.sealed.iter().chain(&self.growing)
    }

    /// Rows that a reader sees; for segments that are not loaded, their stored rows.
    pub fn row_count(&self) -> u64 {
        let loaded: usize = self.parts().map(Part::live_count).sum();
        loaded as u64 + self.unloaded.iter().map(|segment| u64::from(segment.rows)).sum::<u64>()
    }

    /// Records of all segments, in memory or not.
    pub fn segments(&self) -> impl Iterator<Item = &storage::Segment> {
        self.sealed.iter().filter_map(Part::segment).chain(&self.unloaded)
    }

    fn apply_delete(&mut self, delete: &Delete) {
        for part in self.growing.iter_mut().chain(&mut self.sealed) {
            if let Some(changed) = part.with_delete(delete) {
                *part = changed;
            }
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct LiveCollection {
    /// The catalogue's entry.
    pub meta: ArcSwap<Collection>,
    view: ArcSwap<View>,
    /// Deletes whose records are still stored, oldest first: segments that are built or loaded meanwhile need them.
    deletes: Mutex<Vec<Arc<Delete>>>,
    /// Held while the view is replaced, and while a builder takes the view that it starts from.
    publishing: Mutex<()>,
    /// Growing parts up to this timestamp are being built into a segment and must stay as they are.
    frozen: AtomicU64,
    /// Set while the collection is being dropped: no write is accepted.
    dropping: AtomicBool,
    /// Set once it is gone, and never taken back.
    gone: AtomicBool,
    /// Held while segments are built, merged, loaded or released: one of these at a time.
    maintenance: Arc<tokio::sync::Mutex<()>>,
}

impl LiveCollection {
    /// A collection with the given contents; `deletes` are applied to all of them.
    pub fn new(meta: Collection, mut view: View, mut deletes: Vec<Delete>) -> Self {
        deletes.sort_by_key(|delete| delete.timestamp);
        for delete in &deletes {
            view.apply_delete(delete);
            view.timestamp = view.timestamp.max(delete.timestamp);
        }
        Self {
            meta: ArcSwap::from_pointee(meta),
            view: ArcSwap::from_pointee(view),
            deletes: Mutex::new(deletes.into_iter().map(Arc::new).collect()),
            publishing: Mutex::default(),
            frozen: AtomicU64::new(0),
            dropping: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            maintenance: Arc::default(),
        }
    }

    /// The current state.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The current state, for building a segment of its growing parts: later writes are not joined with them.
    pub fn freeze(&self) -> Arc<View> {
        let _publishing = self.publishing();
        let view = self.view();
        self.frozen.store(view.timestamp, Ordering::Release);
        view
    }

    /// Whether the collection is being dropped or gone.
    pub fn is_dropped(&self) -> bool {
        self.gone.load(Ordering::Acquire) || self.dropping.load(Ordering::Acquire)
    }

    /// Waits until nobody else builds, merges, loads or releases segments, and keeps it so until the answer is dropped.
    pub async fn maintain(&self) -> OwnedMutexGuard<()> {
        self.maintenance.clone().lock_owned().await
    }

    /// Refuses writes until the answer is dropped: for good if the collection is gone by then.
    pub fn begin_drop(self: &Arc<Self>) -> Dropping {
        self.dropping.store(true, Ordering::Release);
        Dropping(self.clone())
    }

    /// The collection is no more.
    pub fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Shows a committed write to readers: a delete, then new rows of the same timestamp.
    pub fn publish(&self, timestamp: u64, delete: Option<Delete>, inserted: Option<Part>) {
        let _publishing = self.publishing();
        let mut view = (*self.view()).clone();
        view.timestamp = view.timestamp.max(timestamp);
        if let Some(delete) = delete {
            view.apply_delete(&delete);
            self.deletes().push(Arc::new(delete));
        }
        if let Some(part) = inserted {
            view.growing.push(part);
            join_small(&mut view.growing, self.frozen.load(Ordering::Acquire), &self.meta.load());
        }
        self.view.store(Arc::new(view));
    }

    /// Puts `built` in the place of what it was built from: segments with the ids in `replaced`, and growing batches up
    /// to timestamp `through`. Deletes since `seen` are applied to it first.
    pub fn publish_segment(&self, built: Option<Part>, replaced: &[u64], through: u64, seen: u64, expired: u64) {
        let _publishing = self.publishing();
        let mut view = (*self.view()).clone();
        view.sealed.retain(|part| part.segment().is_none_or(|segment| !replaced.contains(&segment.id)));
        view.growing.retain(|part| newest(part) > through);
        if let Some(part) = built {
            view.sealed.push(self.with_deletes_after(part, seen));
        }
        self.deletes().retain(|delete| delete.timestamp > expired);
        self.view.store(Arc::new(view));
    }

    /// Replaces the loaded segments by `loaded`, which have the deletes up to `seen`, and lists the others as stored.
    pub fn publish_loaded(&self, meta: Collection, loaded: Vec<Part>, unloaded: Vec<storage::Segment>, seen: u64) {
        let _publishing = self.publishing();
        let mut view = (*self.view()).clone();
        view.sealed = loaded.into_iter().map(|part| self.with_deletes_after(part, seen)).collect();
        view.unloaded = unloaded;
        self.view.store(Arc::new(view));
        self.meta.store(Arc::new(meta));
    }

    /// Exchanges one loaded segment for the same rows with other indexes. Deletes of the present one are kept.
    pub fn publish_indexed(&self, indexed: Part) {
        let _publishing = self.publishing();
        let mut view = (*self.view()).clone();
        let id = indexed.segment().map(|segment| segment.id);
        for part in &mut view.sealed {
            if part.segment().map(|segment| segment.id) == id {
                *part = indexed.clone().with_deleted(part.deleted.clone());
            }
        }
        self.view.store(Arc::new(view));
    }

    /// Timestamps of the delete records up to `limit`.
    pub fn deletes_up_to(&self, limit: u64) -> Vec<u64> {
        self.deletes().iter().map(|delete| delete.timestamp).filter(|timestamp| *timestamp <= limit).collect()
    }

    /// Number of delete records after `seen`.
    pub fn deletes_after(&self, seen: u64) -> usize {
        let deletes = self.deletes();
        deletes.len() - deletes.partition_point(|delete| delete.timestamp <= seen)
    }

    /// `part` with every stored delete after `seen` applied.
    pub fn with_deletes_after(&self, mut part: Part, seen: u64) -> Part {
        for delete in self.deletes().iter().filter(|delete| delete.timestamp > seen) {
            part = part.with_delete(delete).unwrap_or(part);
        }
        part
    }

    fn publishing(&self) -> std::sync::MutexGuard<'_, ()> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deletes(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Delete>>> {
        self.deletes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collection that is being dropped. Also a caller that goes away in the middle takes the mark back.
#[derive(Debug)]
pub struct Dropping(Arc<LiveCollection>);

impl Drop for Dropping {
    fn drop(&mut self) {
        self.0.dropping.store(false, Ordering::Release);
    }
}

/// The newest timestamp of a growing part.
pub fn newest(part: &Part) -> u64 {
    match &*part.origin {
        Origin::Growing(batches) => batches.iter().map(|(timestamp, ..)| *timestamp).max().unwrap_or_default(),
        Origin::Sealed(segment) => segment.max_timestamp,
    }
}

/// The oldest timestamp of what a growing part stores. Its oldest row may be younger: rows that were deleted before parts
/// were joined are no longer among its rows, but still in the log.
pub fn oldest(part: &Part) -> u64 {
    match &*part.origin {
        Origin::Growing(batches) => batches.iter().map(|(timestamp, ..)| *timestamp).min().unwrap_or_default(),
        Origin::Sealed(segment) => segment.min_timestamp,
    }
}

/// Joins trailing small parts, so that many single inserts don't make every search visit as many parts.
fn join_small(growing: &mut Vec<Part>, frozen: u64, collection: &Collection) {
    for below in JOIN_BELOW_ROWS {
        let is_small = |rows: &Rows| rows.count < below && rows.memory_bytes() < JOIN_BELOW_BYTES;
        let joinable = |part: &&Part| is_small(&part.rows) && oldest(part) > frozen;
        let small = growing.iter().rev().take_while(joinable).count();
        if small < JOIN_PARTS {
            continue;
        }
        let parts = growing.split_off(growing.len() - small);
        growing.push(join(&parts, collection));
    }
}

fn join(parts: &[Part], collection: &Collection) -> Part {
    let live: Vec<FixedBitSet> = parts.iter().map(Part::live).collect();
    let inputs: Vec<(&Rows, &FixedBitSet)> = parts.iter().map(|part| &*part.rows).zip(&live).collect();
    let batches = parts.iter().flat_map(Part::batches).cloned().collect();
    let memory = parts.iter().flat_map(Part::share_memory).collect();
    Part::joined(Rows::concat(&inputs), collection, Origin::Growing(batches), memory)
}

/// Collections of a shard by id and by name.
#[derive(Debug, Default)]
pub struct Collections {
    by_id: HashMap<i64, Arc<LiveCollection>>,
    by_name: HashMap<String, i64>,
}

impl Collections {
    /// Adds or replaces a collection.
    pub fn insert(&mut self, collection: Arc<LiveCollection>) {
        let meta = collection.meta.load();
        self.by_name.insert(meta.name.clone(), meta.id);
        self.by_id.insert(meta.id, collection.clone());
    }

    /// Removes a collection.
    pub fn remove(&mut self, id: i64) {
        let Some(collection) = self.by_id.remove(&id) else { return };
        let meta = collection.meta.load();
        if self.by_name.get(&meta.name) == Some(&id) {
            self.by_name.remove(&meta.name);
        }
    }

    /// The collection called `name`.
    pub fn by_name(&self, name: &str) -> Option<Arc<LiveCollection>> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id)).cloned()
    }

    /// The collection with id `id`.
    pub fn by_id(&self, id: i64) -> Option<Arc<LiveCollection>> {
        self.by_id.get(&id).cloned()
    }

    /// All of them, in the order of their creation.
    pub fn all(&self) -> Vec<Arc<LiveCollection>> {
        let mut all: Vec<_> = self.by_id.values().cloned().collect();
        all.sort_by_key(|collection| collection.meta.load().id);
        all
    }
}
