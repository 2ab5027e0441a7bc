//! Where sealed bytes come from: an open local file, or a stream from a remote store.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::Result;

/// Sealed bytes, read forwards.
pub(crate) enum SealedSource {
    /// A file that stays the same object however its name is overwritten meanwhile.
    File { file: Arc<File>, at: u64, end: u64 },
    /// A response body.
    Stream { body: BoxStream<'static, Result<Bytes>>, read: BytesMut },
}

impl SealedSource {
    pub(crate) fn file(file: Arc<File>, range: Range<u64>) -> Self {
        Self::File { file, at: range.start, end: range.end }
    }

    pub(crate) fn stream(body: BoxStream<'static, Result<Bytes>>) -> Self {
        Self::Stream { body, read: BytesMut::new() }
    }

    pub(crate) fn bytes(bytes: Bytes) -> Self {
        Self::Stream { body: futures::stream::empty().boxed(), read: BytesMut::from(bytes) }
    }

    /// The next `want` bytes; fewer only at the end.
    pub(crate) async fn next(&mut self, want: usize) -> Result<Bytes> {
        match self {
            Self::File { file, at, end } => {
                let len = want.min(usize::try_from(*end - *at).unwrap_or(usize::MAX));
                let start = *at;
                *at += len as u64;
                read_file(Arc::clone(file), start..start + len as u64).await
            }
            Self::Stream { body, read } => {
                while read.len() < want {
                    match body.next().await {
                        Some(more) => read.extend_from_slice(&more?),
                        None => break,
                    }
                }
                Ok(read.split_to(want.min(read.len())).freeze())
            }
        }
    }
}

/// Bytes of a file, off the async threads; fewer than asked for if the file ends.
pub(crate) async fn read_file(file: Arc<File>, range: Range<u64>) -> Result<Bytes> {
    let read = move || -> io::Result<Bytes> {
        let mut buffer = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        let mut done = 0;
        while done < buffer.len() {
            match file.read_at(&mut buffer[done..], range.start + done as u64) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(done);
        Ok(Bytes::from(buffer))
    };
    tokio::task::spawn_blocking(read)
        .await?
        .map_err(|error| object_store::Error::Generic { store: "SealedStore", source: Box::new(error) })
}
