//! An object store that fails as told.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::watch;

/// What becomes of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are done.
    None,
    /// They are refused, as on a full disk.
    Refuse,
    /// They are refused, as after the key was.
    Lock,
    /// The next one is done, its answer is lost, and the following ones are refused.
    DoAndRefuse,
}

/// A store in memory whose writes fail, or wait, as told. Reads and deletes work, as on a full disk.
#[derive(Debug, Clone)]
pub(crate) struct Failing {
    inner: Arc<InMemory>,
    fault: Arc<Mutex<Fault>>,
    stalled: Arc<watch::Sender<bool>>,
}

impl Failing {
    pub(crate) fn new() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            fault: Arc::new(Mutex::new(Fault::None)),
            stalled: Arc::new(watch::Sender::new(false)),
        }
    }

    /// The same objects as another process reaches them: with faults of its own.
    pub(crate) fn beside(&self) -> Self {
        Self { inner: self.inner.clone(), ..Self::new() }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Lets writes wait, or lets those go on that wait.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.clone())
    }

    /// What becomes of a write whose time has come.
    async fn fault(&self) -> Fault {
        drop(self.stalled.subscribe().wait_for(|stalled| !*stalled).await.unwrap());
        *self.fault.lock().unwrap()
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failing store")
    }
}

fn locked() -> object_store::Error {
    vectorkeep_keyring::SealedError::Locked.into()
}

fn full() -> object_store::Error {
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    object_store::Error::Generic { store: "failing", source: Box::new(source) }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.fault().await {
            Fault::None => self.inner.put_opts(location, payload, options).await,
            Fault::Refuse => Err(full()),
            Fault::Lock => Err(locked()),
            Fault::DoAndRefuse => {
                self.set(Fault::Refuse);
                self.inner.put_opts(location, payload, options).await?;
                Err(full())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.fault().await {
            Fault::None => self.inner.put_multipart_opts(location, options).await,
            Fault::Refuse | Fault::DoAndRefuse => Err(full()),
            Fault::Lock => Err(locked()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.fault().await {
            Fault::None => self.inner.copy_opts(from, to, options).await,
            Fault::Refuse | Fault::DoAndRefuse => Err(full()),
            Fault::Lock => Err(locked()),
        }
    }
}
