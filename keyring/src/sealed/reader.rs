//! Opens the chunks of a range, one batch after the other.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::Result;

use super::error::{IntegrityFault, SealedError};
use super::object_key::ObjectKey;
use super::source::SealedSource;
use crate::zone::ZoneKeys;

/// About this many sealed bytes are fetched and opened at a time.
const BATCH_BYTES: u64 = 1024 * 1024;

/// An object whose header was opened: what is needed to open its chunks.
pub(crate) struct OpenObject {
    pub(crate) keys: Arc<ZoneKeys>,
    pub(crate) key: ObjectKey,
    /// Path in the outer store.
    pub(crate) name: String,
    /// Size that follows from the sealed size.
    pub(crate) logical: u64,
}

impl OpenObject {
    /// The plaintext `range` (within the logical size) as a stream. `source` starts at the first chunk that the range
    /// needs; for an empty range, at the last chunk of the object, which is then opened to prove the size.
    pub(crate) fn stream(self, range: Range<u64>, source: SealedSource) -> BoxStream<'static, Result<Bytes>> {
        let chunks = self.chunks_for(&range);
        let reading = Reading { object: self, source, next: chunks.start, end: chunks.end, range };
        stream::try_unfold(reading, |mut reading| async move {
            match reading.batch().await? {
                Some(bytes) => Ok(Some((bytes, reading))),
                None => Ok(None),
            }
        })
        .boxed()
    }

    /// The chunks that have to be opened for `range`.
    pub(crate) fn chunks_for(&self, range: &Range<u64>) -> Range<u64> {
        let size = self.key.chunk_size();
        if range.is_empty() {
            let chunks = size.chunks(self.logical);
            return chunks - 1..chunks;
        }
        size.covering(range)
    }

    fn integrity(&self, fault: IntegrityFault) -> object_store::Error {
        SealedError::Integrity { object: self.name.clone(), fault }.into()
    }
}

struct Reading {
    object: OpenObject,
    source: SealedSource,
    next: u64,
    end: u64,
    range: Range<u64>,
}

impl Reading {
    async fn batch(&mut self) -> Result<Option<Bytes>> {
        if self.next >= self.end {
            return Ok(None);
        }
        let size = self.object.key.chunk_size();
        let per_batch = BATCH_BYTES / size.bytes();
        let batch = self.next..self.end.min(self.next + per_batch);
        let place = size.sealed_range(batch.clone(), self.object.logical);
        let want = (place.end - place.start) as usize;
        let sealed = self.source.next(want).await?;
        // The gate stands after the wait: what was fetched while locked is not opened.
        self.object.keys.admit()?;
        if sealed.len() != want {
            return Err(self.object.integrity(IntegrityFault::Size));
        }

        let count = size.chunks(self.object.logical);
        let mut plain = Vec::with_capacity(want);
        for (index, chunk) in batch.clone().zip(sealed.chunks(size.sealed_chunk() as usize)) {
            self.object
                .key
                .open_chunk(index, index + 1 == count, chunk, &mut plain)
                .map_err(|fault| self.object.integrity(fault))?;
        }
        self.next = batch.end;

        let first = batch.start * size.bytes();
        let from = self.range.start.saturating_sub(first).min(plain.len() as u64);
        let to = self.range.end.saturating_sub(first).min(plain.len() as u64);
        Ok(Some(Bytes::from(plain).slice(from as usize..to.max(from) as usize)))
    }
}
