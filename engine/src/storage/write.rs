//! Writes: rows and deletes become one commit.

use bytes::Bytes;
use fixedbitset::FixedBitSet;
use prost::Message;

use std::sync::Arc;

use crate::column::Rows;
use crate::error::{Code, Error, Result};
use crate::proto::storage;
use crate::storage::collection::LiveCollection;
use crate::storage::keys::{self, Kind};
use crate::storage::part::{Delete, Keys, Origin, Part};
use crate::storage::shard::{INLINE_BATCH_BYTES, Operation, Shard};

/// Rows of one record are cut so that they stay below this.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

impl Shard {
    /// Makes `rows` durable and visible, and before them, in the same moment, deletes older rows with `replaced` keys.
    /// The timestamps of `rows` are replaced by the timestamp of the write, which is returned.
    pub async fn insert(&self, live: &Arc<LiveCollection>, rows: Rows, replaced: Option<Keys>) -> Result<u64> {
        let memory = self.budget.reserve(Part::memory_bytes(&rows))?;
        let batches = self.store_batches(&rows).await?;
        let (shared, id) = (live.clone(), live.meta.load().id);
        let written = self
            .commit(move |timestamp| {
                writable(&shared)?;
                let mut operations = Vec::new();
                let mut origin = Vec::new();
                for (number, (record, object)) in batches.into_iter().enumerate() {
                    operations.push(Operation::Put(
                        keys::of_collection(Kind::Batch, id, &[timestamp, number as u64]),
                        record,
                    ));
                    operations.extend(object.as_deref().map(Shard::adopt));
                    origin.push((timestamp, number as u64, object));
                }
                let delete = replaced.filter(|keys| !keys.is_empty()).map(|keys| Delete { timestamp, keys });
                operations.extend(delete.as_ref().map(|delete| put_delete(id, delete)));
                let publish = move || {
                    let mut rows = rows;
                    rows.timestamps = vec![timestamp; rows.count];
                    let part = Part::new(rows, &shared.meta.load(), Origin::Growing(origin), memory);
                    shared.publish(timestamp, delete, Some(part));
                };
                Ok((operations, publish))
            })
            .await?;
        self.wake_if_full(live);
        Ok(written)
    }

    /// Makes the deletion of rows with `keys` durable and visible. Returns its timestamp.
    pub async fn delete(&self, live: &Arc<LiveCollection>, keys: Keys) -> Result<u64> {
        let (shared, id) = (live.clone(), live.meta.load().id);
        let written = self
            .commit(move |timestamp| {
                writable(&shared)?;
                let delete = Delete { timestamp, keys };
                let operations = vec![put_delete(id, &delete)];
                Ok((operations, move || shared.publish(timestamp, Some(delete), None)))
            })
            .await?;
        self.wake_if_full(live);
        self.wake_if_many_deletes(live);
        Ok(written)
    }

    /// The records of `rows`, with the object that each refers to if it is large. The objects are stored already.
    async fn store_batches(&self, rows: &Rows) -> Result<Vec<(Bytes, Option<String>)>> {
        let mut batches = Vec::new();
        for chunk in chunks(rows) {
            match self.store_batch(chunk.as_ref().unwrap_or(rows)).await {
                Ok(batch) => batches.push(batch),
                Err(error) => {
                    // On a full disk they would keep the room that others wait for.
                    let stored: Vec<_> = batches.into_iter().filter_map(|(_, object)| object).collect();
                    self.abandon(&stored).await;
                    return Err(error);
                }
            }
        }
        Ok(batches)
    }

    async fn store_batch(&self, rows: &Rows) -> Result<(Bytes, Option<String>)> {
        let stored = rows.to_stored();
        if stored.encoded_len() <= INLINE_BATCH_BYTES {
            let record = storage::Batch { rows: Some(stored), object: String::new() };
            return Ok((record.encode_to_vec().into(), None));
        }
        let name = self.object_name("batches");
        self.put_object(&name, stored.encode_to_vec().into()).await?;
        let record = storage::Batch { rows: None, object: name.clone() };
        Ok((record.encode_to_vec().into(), Some(name)))
    }
}

fn writable(live: &LiveCollection) -> Result<()> {
    match live.is_dropped() {
        true => Err(Error::new(Code::CollectionNotFound, "the collection was dropped meanwhile")),
        false => Ok(()),
    }
}

fn put_delete(id: i64, delete: &Delete) -> Operation {
    let record = delete.keys.to_stored(delete.timestamp).encode_to_vec();
    Operation::Put(keys::of_collection(Kind::Deletes, id, &[delete.timestamp]), record.into())
}

/// `rows` cut into pieces of about [`BATCH_BYTES`]; `None` stands for all of them, which saves a copy.
fn chunks(rows: &Rows) -> Vec<Option<Rows>> {
    let pieces = rows.memory_bytes().div_ceil(BATCH_BYTES).clamp(1, rows.count.max(1));
    if pieces == 1 {
        return vec![None];
    }
    let each = rows.count.div_ceil(pieces);
    let ranges = (0..pieces).map(|piece| (piece * each).min(rows.count)..((piece + 1) * each).min(rows.count));
    let piece = |range: std::ops::Range<usize>| {
        let mut keep = FixedBitSet::with_capacity(rows.count);
        keep.insert_range(range);
        rows.filtered(&keep)
    };
    ranges.filter(|range| !range.is_empty()).map(|range| Some(piece(range))).collect()
}
