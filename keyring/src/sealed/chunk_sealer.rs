//! Turns a stream of plaintext into the bytes of a sealed object.

use bytes::Bytes;

use super::error::SealedError;
use super::geometry::{ChunkSize, HEADER_LEN};
use super::object_key::{ObjectKey, crypto};
use crate::zone::ZoneKeys;

/// Seals one object. Holds back at most one chunk: whether a full chunk is the last one shows only when more bytes or
/// the end arrive.
#[derive(Debug)]
pub(crate) struct ChunkSealer {
    name: String,
    key: ObjectKey,
    /// Sealed bytes that were not taken yet, then the plaintext of the open chunk.
    out: Vec<u8>,
    open_at: usize,
    index: u64,
}

impl ChunkSealer {
    /// Starts an object with a fresh data key; `expected` plaintext bytes size the buffer.
    pub(crate) fn start(
        keys: &ZoneKeys,
        name: &str,
        chunk_size: ChunkSize,
        expected: u64,
    ) -> Result<Self, SealedError> {
        let (header, key) = ObjectKey::create(keys, name, chunk_size)?;
        Ok(Self::with_key(name, &header, key, expected))
    }

    pub(crate) fn with_key(name: &str, header: &[u8; HEADER_LEN as usize], key: ObjectKey, expected: u64) -> Self {
        let capacity = usize::try_from(key.chunk_size().sealed_size(expected)).unwrap_or(0);
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(header);
        Self { name: name.to_owned(), key, open_at: out.len(), out, index: 0 }
    }

    /// Adds plaintext.
    pub(crate) fn push(&mut self, mut data: &[u8]) -> Result<(), SealedError> {
        let chunk = self.key.chunk_size().bytes() as usize;
        while !data.is_empty() {
            if self.out.len() - self.open_at == chunk {
                self.seal_open_chunk(false)?;
            }
            let room = chunk - (self.out.len() - self.open_at);
            let (now, later) = data.split_at(room.min(data.len()));
            self.out.extend_from_slice(now);
            data = later;
        }
        Ok(())
    }

    /// Sealed bytes ready to be taken.
    pub(crate) fn sealed_len(&self) -> usize {
        self.open_at
    }

    /// Takes exactly the first `len` sealed bytes; at most [`sealed_len`](Self::sealed_len).
    pub(crate) fn take(&mut self, len: usize) -> Bytes {
        let len = len.min(self.open_at);
        let rest = self.out.split_off(len);
        self.open_at -= len;
        Bytes::from(std::mem::replace(&mut self.out, rest))
    }

    /// Ends the object; returns what was not taken yet.
    pub(crate) fn finish(mut self) -> Result<Bytes, SealedError> {
        self.seal_open_chunk(true)?;
        Ok(Bytes::from(self.out))
    }

    fn seal_open_chunk(&mut self, last: bool) -> Result<(), SealedError> {
        self.key.seal_tail(self.index, last, &mut self.out, self.open_at).map_err(|_| crypto(&self.name))?;
        self.open_at = self.out.len();
        self.index += 1;
        Ok(())
    }
}
