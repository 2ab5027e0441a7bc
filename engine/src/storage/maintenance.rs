//! Background work on a shard: growing rows become segments, small segments are merged, segments get their indexes.
//!
//! One task seals and merges, another builds indexes, since that takes longest and nobody waits for it. Each sleeps until
//! a write or a change of the catalogue wakes it, and takes one collection at a time. What they build is stored first and
//! named by one commit afterwards, under the collection's lock; deletes that arrive meanwhile are applied to the result
//! in that commit, and an index whose segment was merged away meanwhile is thrown away.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fixedbitset::FixedBitSet;
use object_store::ObjectStoreExt;
use prost::Message;
use tokio::sync::{Notify, OwnedMutexGuard};
use vectorkeep_distance::Metric;

use crate::column::{Rows, Values};
use crate::error::{Code, Error, Result};
use crate::proto::storage;
use crate::schema::{Collection, Index};
use crate::storage::catalogue::release_origin;
use crate::storage::collection::{LiveCollection, View, newest, oldest};
use crate::storage::index::{self, IndexParams, VectorIndex};
use crate::storage::keys::{self, Kind};
use crate::storage::part::{Origin, Part};
use crate::storage::shard::{Operation, Shard};

/// Growing rows become a segment when they take so much memory.
pub const SEAL_BYTES: usize = 64 * 1024 * 1024;
/// Or when the log keeps so many records for them, of batches or of deletes since the oldest: rows that are replaced all
/// the time take little memory, and more and more of the log.
const SEAL_RECORDS: usize = 16_384;
/// A segment takes about so much memory at most, and is made of at most so much. The texts of a column are found by
/// offsets of 32 bits, so it must stay far below 4 GiB.
const SEGMENT_BYTES: usize = 1024 * 1024 * 1024;
/// Segments below so many rows are searched exactly; an index would not pay.
pub const INDEX_FROM_ROWS: usize = 4096;
/// So many small segments are merged into one.
const MERGE_SEGMENTS: usize = 4;
/// A segment is small up to so many rows, as long as so many of its size fit into one.
const SMALL_ROWS: usize = 65_536;
/// A segment is rewritten when more than one row in so many of it is deleted.
const REWRITE_DELETED_ONE_IN: usize = 4;
/// A segment with fewer deleted rows is rewritten when so many delete records are kept for them, and at least one for as
/// many rows of the collection as above: what is rewritten stays in proportion to what was deleted.
const REWRITE_KEPT_DELETES: usize = 100_000;
/// Deletes wake the task that rewrites segments once in so many of them.
const WAKE_DELETES: usize = 1024;

impl Shard {
    /// Starts the tasks. They end when the shard is dropped.
    pub fn start_maintenance(self: &Arc<Self>) -> [tokio::task::JoinHandle<()>; 2] {
        [
            tokio::spawn(seal_in_background(Arc::downgrade(self))),
            tokio::spawn(index_in_background(Arc::downgrade(self))),
        ]
    }

    pub(crate) fn wake_if_full(&self, live: &LiveCollection) {
        if is_full(live, &live.view()) {
            self.work.notify_one();
        }
    }

    pub(crate) fn wake_if_many_deletes(&self, live: &LiveCollection) {
        if live.deletes_after(0).is_multiple_of(WAKE_DELETES) {
            self.work.notify_one();
        }
    }

    /// Turns all rows written so far into segments. Returns the ids of the collection's segments.
    pub async fn flush_collection(&self, live: &Arc<LiveCollection>) -> Result<Vec<u64>> {
        let written = self.barrier().await?;
        self.seal_growing(live, written).await?;
        // Two are asked: whether small segments are worth a merge, and for the index meanwhile.
        self.work.notify_one();
        self.unindexed.notify_one();
        Ok(live.view().segments().map(|segment| segment.id).collect())
    }

    /// One round over all collections: what the background tasks do when they are woken.
    pub async fn maintain_once(&self) -> Result<()> {
        self.seal_once().await?;
        self.index_once().await
    }

    /// Turns growing rows into segments where there are many, and merges segments.
    async fn seal_once(&self) -> Result<()> {
        let mut outcome = Ok(());
        for live in self.collections() {
            outcome = outcome.and(self.seal_collection(&live).await);
        }
        self.unindexed.notify_one();
        outcome
    }

    async fn seal_collection(&self, live: &Arc<LiveCollection>) -> Result<()> {
        let written = live.view().timestamp;
        if is_full(live, &live.view()) {
            self.seal_growing(live, written).await?;
        }
        self.merge_segments(live).await
    }

    /// Turns the rows that were written up to `written` into segments.
    async fn seal_growing(&self, live: &Arc<LiveCollection>, written: u64) -> Result<()> {
        let due = |view: &View| view.growing.first().is_some_and(|part| oldest(part) <= written);
        while due(&live.view()) {
            let maintenance = live.maintain().await;
            let epoch = self.epoch();
            let view = live.freeze();
            if live.is_dropped() || !due(&view) {
                return Ok(());
            }
            let inputs = oldest_rows(&view.growing, SEGMENT_BYTES);
            self.rewrite(live, epoch, maintenance, &view, inputs).await?;
        }
        Ok(())
    }

    async fn merge_segments(&self, live: &Arc<LiveCollection>) -> Result<()> {
        let maintenance = live.maintain().await;
        let epoch = self.epoch();
        let view = live.view();
        let worn = merge_candidates(live, &view, SEGMENT_BYTES);
        if worn.is_empty() || live.is_dropped() {
            return Ok(());
        }
        self.rewrite(live, epoch, maintenance, &view, worn).await?;
        // There may be more.
        self.work.notify_one();
        Ok(())
    }

    /// Builds every index that is missing.
    async fn index_once(&self) -> Result<()> {
        let mut outcome = Ok(());
        for live in self.collections().into_iter().filter(|live| !live.is_dropped()) {
            for part in live.view().sealed.clone() {
                outcome = outcome.and(self.index_segment(&live, &part).await);
            }
        }
        outcome
    }

    /// Replaces `inputs` by one segment of their live rows. They were read while the log had `epoch`.
    async fn rewrite(
        &self,
        live: &Arc<LiveCollection>,
        epoch: u64,
        maintenance: OwnedMutexGuard<()>,
        view: &View,
        inputs: Vec<Part>,
    ) -> Result<()> {
        let meta = live.meta.load_full();
        let id = meta.id;
        let through = inputs.iter().filter(|part| part.segment().is_none()).map(newest).max().unwrap_or_default();
        let replaced: Vec<u64> = inputs.iter().filter_map(|part| part.segment().map(|segment| segment.id)).collect();
        let rows = tokio::task::block_in_place(|| {
            let kept: Vec<FixedBitSet> = inputs.iter().map(Part::live).collect();
            Rows::concat(&inputs.iter().map(|part| &*part.rows).zip(&kept).collect::<Vec<_>>())
        });

        let mut operations = Vec::new();
        let mut garbage = Vec::new();
        inputs.iter().for_each(|part| release_origin(id, &part.origin, &mut operations, &mut garbage));

        let mut built = None;
        if rows.count > 0 {
            let segment = self.store_segment(&rows, view.timestamp).await?;
            operations.push(put_segment(id, &segment));
            operations.push(Shard::adopt(&segment.rows_object));
            let memory = self.budget.reserve_always(segment.memory_bytes as usize);
            if meta.loaded {
                built = Some(Part::new(rows, &meta, Origin::Sealed(segment), memory));
            } else {
                let span = (through, view.timestamp);
                self.commit_unloaded(live, epoch, maintenance, segment, operations, span).await?;
                return self.collect(garbage).await;
            }
        }
        let expired = self.expired_deletes(view, &inputs, through);
        operations.extend(delete_records(id, live, expired));
        let (shared, seen) = (live.clone(), view.timestamp);
        let publish = move || shared.publish_segment(built, &replaced, through, seen, expired);
        self.commit_since(epoch, maintenance, |_| Ok((operations, publish))).await?;
        self.collect(garbage).await
    }

    /// The same for growing rows of a collection that is not in memory: the segment is stored and listed.
    async fn commit_unloaded(
        &self,
        live: &Arc<LiveCollection>,
        epoch: u64,
        maintenance: OwnedMutexGuard<()>,
        segment: storage::Segment,
        operations: Vec<Operation>,
        (through, seen): (u64, u64),
    ) -> Result<()> {
        let shared = live.clone();
        let publish = move || {
            let mut unloaded = shared.view().unloaded.clone();
            unloaded.push(segment);
            shared.publish_segment(None, &[], through, seen, 0);
            let meta = (**shared.meta.load()).clone();
            shared.publish_loaded(meta, Vec::new(), unloaded, seen);
        };
        self.commit_since(epoch, maintenance, |_| Ok((operations, publish))).await.map(drop)
    }

    async fn store_segment(&self, rows: &Rows, deletes_applied: u64) -> Result<storage::Segment> {
        let name = self.object_name("segments");
        let bytes = tokio::task::block_in_place(|| rows.to_stored().encode_to_vec());
        self.put_object(&name, bytes.into()).await?;
        Ok(storage::Segment {
            id: self.clock.next() >> 1,
            rows: rows.count as u32,
            deletes_applied,
            min_timestamp: rows.timestamps.iter().copied().min().unwrap_or_default(),
            max_timestamp: rows.timestamps.iter().copied().max().unwrap_or_default(),
            rows_object: name,
            indexes: Vec::new(),
            memory_bytes: Part::memory_bytes(rows) as u64,
        })
    }

    /// Builds the indexes that the catalogue declares and the segment lacks.
    async fn index_segment(&self, live: &Arc<LiveCollection>, part: &Part) -> Result<()> {
        let meta = live.meta.load_full();
        let Some(segment) = part.segment().filter(|_| part.rows.count >= INDEX_FROM_ROWS) else { return Ok(()) };
        let missing: Vec<&Index> = meta
            .indexes
            .iter()
            .filter(|index| is_graph(index) && !part.indexes.contains_key(&index.field_id))
            .collect();
        let mut indexes = (*part.indexes).clone();
        let mut record = segment.clone();
        let (mut names, mut memory) = (Vec::new(), Vec::new());
        for declared in &missing {
            let Some((params, dim, vectors)) = vectors_of(part, declared) else { continue };
            // A log that takes no writes is found out before the work, not after it.
            let name = self.object_name("segments");
            self.intend(&name).await?;
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let estimate = self.budget.reserve_always(vectors.len() * 2 + part.rows.count * params.connectivity * 16);
            let built = tokio::task::block_in_place(|| index::build(params, dim, vectors, threads))?;
            drop(estimate);
            memory.push(self.budget.reserve_always(built.memory_bytes()));
            let bytes = tokio::task::block_in_place(|| built.to_bytes())?;
            self.objects.put(&name.as_str().into(), bytes.into()).await?;
            names.push(name.clone());
            let metric = declared.metric.clone();
            record.indexes.push(storage::VectorIndex { field_id: declared.field_id, object: name, metric });
            indexes.insert(declared.field_id, Arc::from(built));
        }
        if names.is_empty() {
            return Ok(());
        }
        let maintenance = live.maintain().await;
        let epoch = self.epoch();
        let still_there = live.view().sealed.iter().any(|present| present.segment() == Some(segment));
        let still_wanted = missing.iter().all(|declared| live.meta.load().indexes.contains(declared));
        if live.is_dropped() || !still_there || !still_wanted {
            return self.collect(names).await;
        }
        let mut operations: Vec<_> = names.iter().map(|name| Shard::adopt(name)).collect();
        operations.push(put_segment(meta.id, &record));
        let indexed = part.with_indexes(indexes, Origin::Sealed(record), memory);
        let shared = live.clone();
        let publish = move || shared.publish_indexed(indexed);
        self.commit_since(epoch, maintenance, |_| Ok((operations, publish))).await.map(drop)
    }

    pub(crate) async fn read_index(
        &self,
        meta: &Collection,
        part: &Part,
        record: &storage::VectorIndex,
    ) -> Result<Option<Arc<dyn VectorIndex>>> {
        let declared = meta.index_on(record.field_id);
        let declared = declared.filter(|declared| is_graph(declared) && declared.metric == record.metric);
        let Some((params, dim, _)) = declared.and_then(|declared| vectors_of(part, declared)) else { return Ok(None) };
        let bytes = self.object(&record.object).await?;
        let opened = tokio::task::block_in_place(|| index::open(params, dim, part.rows.count, &bytes))?;
        Ok(Some(Arc::from(opened)))
    }

    /// Of deletes up to here no record is needed: they were applied to every row that is stored and older than them.
    fn expired_deletes(&self, view: &View, inputs: &[Part], through: u64) -> u64 {
        let replaced = |id: u64| inputs.iter().any(|part| part.segment().is_some_and(|segment| segment.id == id));
        // A segment that lost no row since it was made has none for which a record must be kept.
        let met = view.sealed.iter().filter(|part| part.live_count() < part.rows.count).filter_map(Part::segment);
        let segments = met.chain(&view.unloaded).filter(|segment| !replaced(segment.id));
        let segments = segments.map(|segment| segment.deletes_applied);
        let growing = view.growing.iter().filter(|part| newest(part) > through).map(oldest);
        segments.chain(growing).fold(view.timestamp, u64::min)
    }
}

/// Time after which a round that failed is tried again, if nothing wakes its task before; doubled each time.
const RETRY: Duration = Duration::from_secs(10);
/// So often it is doubled.
const DOUBLINGS: u32 = 5;

/// Seals and merges whenever there is work, until the shard is gone.
async fn seal_in_background(shard: Weak<Shard>) {
    let mut failures = 0;
    while let Some(shard) = shard.upgrade() {
        if woken(&shard.work, failures).await {
            failures = after(failures, &shard.seal_once().await);
        }
    }
}

/// Builds indexes whenever there is work, until the shard is gone.
async fn index_in_background(shard: Weak<Shard>) {
    let mut failures = 0;
    while let Some(shard) = shard.upgrade() {
        if woken(&shard.unindexed, failures).await {
            failures = after(failures, &shard.index_once().await);
        }
    }
}

/// Whether there is something to do. Comes back now and then in any case, so that a shard that is gone is noticed.
async fn woken(work: &Notify, failures: u32) -> bool {
    let patience = match failures {
        0 => Duration::from_secs(1),
        failures => RETRY * 2u32.pow((failures - 1).min(DOUBLINGS)),
    };
    tokio::time::timeout(patience, work.notified()).await.is_ok() || failures > 0
}

/// Failures in a row after a round.
fn after(failures: u32, outcome: &Result<()>) -> u32 {
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            tracing::warn!(code = error.code as i32, "background work on the shard failed and will be tried again");
            failures + 1
        }
    }
}

/// Whether it is time that growing rows become a segment.
fn is_full(live: &LiveCollection, view: &View) -> bool {
    let bytes: usize = view.growing.iter().map(|part| part.rows.memory_bytes()).sum();
    let batches: usize = view.growing.iter().map(|part| part.batches().len()).sum();
    let deletes = view.growing.first().map_or(0, |part| live.deletes_after(oldest(part)));
    bytes >= SEAL_BYTES || batches.max(deletes) >= SEAL_RECORDS
}

/// The oldest of the growing parts: as many as take at most `limit` bytes, but one at least. Those of one timestamp stay
/// together, since a segment replaces all that was written up to its newest row.
fn oldest_rows(growing: &[Part], limit: usize) -> Vec<Part> {
    let through = within(growing.iter(), limit).last().or(growing.first()).map_or(0, newest);
    growing.iter().filter(|part| newest(part) <= through).cloned().collect()
}

/// Segments to rewrite as one that takes at most `limit` bytes: several small ones, or one with many deleted rows, or one
/// for whose deleted rows many delete records are kept.
fn merge_candidates(live: &LiveCollection, view: &View, limit: usize) -> Vec<Part> {
    let is_small = |part: &&Part| part.live_count() <= SMALL_ROWS && part.rows.memory_bytes() <= limit / MERGE_SEGMENTS;
    let small: Vec<Part> = within(view.sealed.iter().filter(is_small), limit).cloned().collect();
    if small.len() >= MERGE_SEGMENTS {
        return small;
    }
    let many = REWRITE_KEPT_DELETES.max(view.row_count() as usize / REWRITE_DELETED_ONE_IN);
    let is_worn = |part: &&Part| {
        let deleted = part.rows.count - part.live_count();
        let kept = part.segment().map_or(0, |segment| live.deletes_after(segment.deletes_applied));
        deleted * REWRITE_DELETED_ONE_IN > part.rows.count || (deleted > 0 && kept >= many)
    };
    view.sealed.iter().find(is_worn).cloned().into_iter().collect()
}

/// As many of `parts`, from the first on, as take at most `limit` bytes together.
fn within<'a>(parts: impl Iterator<Item = &'a Part>, limit: usize) -> impl Iterator<Item = &'a Part> {
    let mut bytes = 0;
    parts.take_while(move |part| {
        bytes += part.rows.memory_bytes();
        bytes <= limit
    })
}

pub(crate) fn put_segment(collection: i64, segment: &storage::Segment) -> Operation {
    Operation::Put(keys::of_collection(Kind::Segment, collection, &[segment.id]), segment.encode_to_vec().into())
}

fn delete_records(id: i64, live: &LiveCollection, expired: u64) -> Vec<Operation> {
    let records = live.deletes_up_to(expired).into_iter();
    records.map(|timestamp| Operation::Delete(keys::of_collection(Kind::Deletes, id, &[timestamp]))).collect()
}

/// Whether the index is more than the rows themselves.
fn is_graph(declared: &Index) -> bool {
    declared.index_type != "FLAT"
}

/// Parameters, dimension and vectors for the index `declared` on `part`, if it is on a vector field.
fn vectors_of<'a>(part: &'a Part, declared: &Index) -> Option<(IndexParams, usize, &'a [f32])> {
    let Values::FloatVector { dim, values } = &part.rows.column(declared.field_id)?.values else { return None };
    let number =
        |name: &str, default: usize| declared.params.get(name).and_then(|value| value.parse().ok()).unwrap_or(default);
    let metric = Metric::parse(&declared.metric)?;
    let params = IndexParams { metric, connectivity: number("M", 16), expansion: number("efConstruction", 128) };
    Some((params, *dim, values))
}

/// Number of rows of a collection whose segments have, or don't need, the index on `field_id`, and of all rows.
pub fn indexed_rows(view: &View, field_id: i64) -> (u64, u64) {
    let done = |part: &&Part| part.rows.count < INDEX_FROM_ROWS || part.indexes.contains_key(&field_id);
    let sealed: usize = view.sealed.iter().filter(done).map(Part::live_count).sum();
    let growing: usize = view.growing.iter().map(Part::live_count).sum();
    ((sealed + growing) as u64, view.row_count())
}

/// The error for a collection that is not in memory.
pub fn not_loaded(name: &str) -> Error {
    Error::new(Code::CollectionNotLoaded, format!("collection not loaded[collection={name}]; load it first"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::part::tests::{collection, part};
    use crate::storage::part::{Delete, Keys};

    /// Keys 0 to 9 in a segment.
    fn segment(id: u64) -> Part {
        let keys: Vec<i64> = (0..10).collect();
        part(&keys, &[1; 10], Origin::Sealed(storage::Segment { id, deletes_applied: 1, ..Default::default() }))
    }

    /// Two rows in the log.
    fn growing(timestamp: u64) -> Part {
        part(&[1, 2], &[timestamp; 2], Origin::Growing(vec![(timestamp, 0, None)]))
    }

    /// A collection of so many segments from which one key after the other was deleted.
    fn live(segments: u64, deleted: impl Iterator<Item = i64>) -> LiveCollection {
        of_view(View { sealed: (0..segments).map(segment).collect(), ..View::default() }, deleted)
    }

    fn of_view(view: View, deleted: impl Iterator<Item = i64>) -> LiveCollection {
        let delete = |(timestamp, key): (u64, i64)| Delete { timestamp, keys: Keys::Int(vec![key]) };
        LiveCollection::new(collection(), view, (2..).zip(deleted).map(delete).collect())
    }

    fn candidates(live: &LiveCollection, limit: usize) -> usize {
        merge_candidates(live, &live.view(), limit).len()
    }

    #[test]
    fn no_more_segments_are_merged_than_fit_into_one() {
        let live = live(10, 0..0);
        let each = live.view().sealed[0].rows.memory_bytes();
        let merged = |limit| candidates(&live, limit);
        assert_eq!([merged(usize::MAX), merged(5 * each), merged(4 * each), merged(4 * each - 1)], [10, 5, 4, 0]);
    }

    #[test]
    fn a_segment_is_rewritten_for_many_deleted_rows_or_for_many_deletes_that_are_kept_for_few() {
        assert_eq!(candidates(&live(1, 0..2), usize::MAX), 0);
        assert_eq!(candidates(&live(1, 0..3), usize::MAX), 1);
        let others = 10..10 + REWRITE_KEPT_DELETES as i64;
        assert_eq!(candidates(&live(1, others.clone()), usize::MAX), 0, "they are kept for nothing");
        assert_eq!(candidates(&live(1, (0..1).chain(others.clone().skip(1))), usize::MAX), 1);
        assert_eq!(candidates(&live(1, (0..1).chain(others.skip(2))), usize::MAX), 0);
    }

    #[test]
    fn rows_are_sealed_before_the_log_keeps_too_many_records_for_them() {
        let full = |growing: Part, deletes: usize| {
            let live = of_view(View { growing: vec![growing], ..View::default() }, 10..10 + deletes as i64);
            is_full(&live, &live.view())
        };
        let written = |batches: usize| part(&[1], &[1], Origin::Growing(vec![(1, 0, None); batches]));
        assert!(!full(written(SEAL_RECORDS - 1), SEAL_RECORDS - 1));
        assert!(full(written(SEAL_RECORDS), 0));
        assert!(full(growing(1), SEAL_RECORDS));
        assert!(!full(growing(2), SEAL_RECORDS), "one of the deletes is older than the rows");
    }

    #[test]
    fn growing_rows_are_sealed_oldest_first_and_what_was_written_at_once_at_once() {
        let parts: Vec<Part> = [1, 2, 3, 3, 4].map(growing).into();
        let each = parts[0].rows.memory_bytes();
        let sealed = |limit| oldest_rows(&parts, limit).iter().map(newest).collect::<Vec<_>>();
        assert_eq!(sealed(2 * each), [1, 2]);
        assert_eq!(sealed(3 * each), [1, 2, 3, 3]);
        assert_eq!(sealed(usize::MAX), [1, 2, 3, 3, 4]);
        assert_eq!(sealed(0), [1], "a part that alone is too large");
        assert_eq!(oldest_rows(&[], 0).len(), 0);
    }
}
