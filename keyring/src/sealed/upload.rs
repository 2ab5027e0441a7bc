//! Uploads in parts: sealed as they stream by.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::try_join_all;
use object_store::{Error, MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::chunk_sealer::ChunkSealer;
use crate::zone::ZoneKeys;

/// Parts handed to the outer store are exactly this long, the last one excepted: object stores refuse short parts, some
/// refuse unequal ones, and the sealed form of a caller's part has neither its length nor its borders.
const PART_LEN: usize = 8 * 1024 * 1024;

/// One object on its way.
pub(crate) struct SealedUpload {
    upload: Box<dyn MultipartUpload>,
    /// Gone once the object is complete, aborted, or failed to seal.
    sealer: Option<ChunkSealer>,
    keys: Arc<ZoneKeys>,
    /// A part that failed leaves a hole; the object must not be completed then.
    failed: Arc<AtomicBool>,
}

impl SealedUpload {
    pub(crate) fn new(upload: Box<dyn MultipartUpload>, sealer: ChunkSealer, keys: Arc<ZoneKeys>) -> Self {
        Self { upload, sealer: Some(sealer), keys, failed: Arc::new(AtomicBool::new(false)) }
    }

    /// Seals `data` and starts the upload of every part that got full.
    fn seal(&mut self, data: &PutPayload) -> Result<Vec<UploadPart>> {
        self.keys.admit()?;
        let sealer = self.sealer.as_mut().ok_or_else(ended)?;
        let mut parts = Vec::new();
        for piece in data.iter() {
            // In slices, so that no more than a part and a slice is buffered.
            for slice in piece.chunks(PART_LEN) {
                sealer.push(slice)?;
                while sealer.sealed_len() >= PART_LEN {
                    parts.push(self.upload.put_part(sealer.take(PART_LEN).into()));
                }
            }
        }
        Ok(parts)
    }
}

#[async_trait]
impl MultipartUpload for SealedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let failed = Arc::clone(&self.failed);
        match self.seal(&data) {
            Ok(parts) => async move {
                let sent = try_join_all(parts).await;
                if sent.is_err() {
                    failed.store(true, Ordering::Release);
                }
                sent.map(|_| ())
            }
            .boxed(),
            Err(error) => {
                failed.store(true, Ordering::Release);
                self.sealer = None;
                futures::future::ready(Err(error)).boxed()
            }
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.keys.admit()?;
        let sealer = self.sealer.take().ok_or_else(ended)?;
        if self.failed.load(Ordering::Acquire) {
            return Err(ended());
        }
        let mut rest = sealer.finish()?;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART_LEN));
            parts.push(self.upload.put_part(part.into()));
        }
        try_join_all(parts).await?;
        // The last moment at which the object can be kept from appearing.
        self.keys.admit()?;
        self.upload.complete().await
    }

    async fn abort(&mut self) -> Result<()> {
        self.sealer = None;
        self.upload.abort().await
    }
}

impl fmt::Debug for SealedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedUpload").finish_non_exhaustive()
    }
}

fn ended() -> Error {
    Error::Generic {
        store: "SealedStore",
        source: "this upload failed, was aborted, or is complete; start a new one".into(),
    }
}
