//! The sealed store: an `ObjectStore` whose user sees plaintext and whose outer store sees sealed objects.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions, RenameTargetMode, Result,
};

use super::chunk_sealer::ChunkSealer;
use super::error::{IntegrityFault, SealedError};
use super::geometry::{ChunkSize, HEADER_LEN};
use super::header::HeaderBytes;
use super::object_key::ObjectKey;
use super::reader::OpenObject;
use super::source::{SealedSource, read_file};
use super::upload::SealedUpload;
use crate::zone::{ZONES_PREFIX, ZoneKeys};

/// A ranged read of a remote object that starts in the first chunk fetches header and data in one request, if they are
/// at most this long together.
const ONE_REQUEST_MAX: u64 = 1024 * 1024;
/// How often a read starts over because the object was replaced between the request for its header and that for its
/// chunks.
const REPLACED_RETRIES: usize = 4;
/// A copy of more than this is streamed.
const COPY_STREAM_MIN: u64 = 16 * 1024 * 1024;

/// One prefix of one zone, as a plain object store.
///
/// - Sizes are logical, ETags, versions, attributes, tags and conditions are those of the outer store.
/// - `list` and `head` compute sizes without reading; they prove nothing about an object. Reads do.
/// - Every write seals anew with a fresh data key, also a retry of the same bytes.
/// - Once the keyring is locked, every call fails with [`SealedError::Locked`].
#[derive(Clone)]
pub struct SealedStore {
    raw: Arc<dyn ObjectStore>,
    keys: Arc<ZoneKeys>,
    /// `zones/<zone id>/<kind>/<prefix>`.
    root: Path,
    chunk_size: ChunkSize,
}

impl SealedStore {
    pub(crate) fn new(raw: Arc<dyn ObjectStore>, keys: Arc<ZoneKeys>, prefix: Path, chunk_size: ChunkSize) -> Self {
        let zone = keys.id().to_string();
        let top = [ZONES_PREFIX, zone.as_str(), chunk_size.folder()];
        let root = Path::from_iter(top).parts().chain(prefix.parts()).collect();
        Self { raw, keys, root, chunk_size }
    }

    fn outer(&self, location: &Path) -> Path {
        self.root.parts().chain(location.parts()).collect()
    }

    fn outer_prefix(&self, prefix: Option<&Path>) -> Path {
        prefix.map_or_else(|| self.root.clone(), |prefix| self.outer(prefix))
    }

    /// The caller's view of what the outer store says about an object.
    fn inner_meta(&self, meta: ObjectMeta) -> Result<ObjectMeta> {
        let location = strip(&self.root, &meta.location)?;
        let size =
            self.chunk_size.logical_size(meta.size).ok_or_else(|| integrity(&meta.location, IntegrityFault::Size))?;
        Ok(ObjectMeta { location, size, ..meta })
    }

    fn open_key(&self, outer: &Path, header: &[u8]) -> Result<ObjectKey> {
        let header = HeaderBytes::try_from(header).map_err(|_| integrity(outer, IntegrityFault::Size))?;
        Ok(ObjectKey::open(&self.keys, outer.as_ref(), self.chunk_size, &header)?)
    }

    /// The same, but an object that looks empty is opened first. Readers take emptiness at its word and never ask for
    /// the contents, so an object cut down to an empty one would pass for one.
    async fn proven_meta(&self, meta: ObjectMeta) -> Result<ObjectMeta> {
        let meta = self.inner_meta(meta)?;
        if meta.size == 0 {
            let opened = async { self.get_whole(&meta.location, GetOptions::default()).await?.bytes().await };
            match opened.await {
                // Deleted or replaced meanwhile: what was said is as old as any answer may be.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(meta)
    }

    async fn head_of(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let found = self.raw.get_opts(&self.outer(location), options).await?;
        let meta = self.proven_meta(found.meta).await?;
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::empty().boxed()),
            range: 0..meta.size,
            meta,
            attributes: found.attributes,
            extensions: found.extensions,
        })
    }

    async fn get_whole(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let outer = self.outer(location);
        let found = self.raw.get_opts(&outer, options).await?;
        let sealed_size = found.meta.size;
        let meta = self.inner_meta(found.meta)?;
        let mut source = match found.payload {
            GetResultPayload::File(file, _) => SealedSource::file(Arc::new(file), 0..sealed_size),
            GetResultPayload::Stream(body) => SealedSource::stream(body),
        };
        let header = source.next(HEADER_LEN as usize).await?;
        let object = self.opened(&outer, &header, meta.size)?;
        let range = 0..meta.size;
        Ok(GetResult {
            payload: GetResultPayload::Stream(object.stream(range.clone(), source)),
            meta,
            range,
            attributes: found.attributes,
            extensions: found.extensions,
        })
    }

    fn opened(&self, outer: &Path, header: &[u8], logical: u64) -> Result<OpenObject> {
        Ok(OpenObject {
            keys: Arc::clone(&self.keys),
            key: self.open_key(outer, header)?,
            name: outer.to_string(),
            logical,
        })
    }

    /// `None` if the object was replaced while it was being read.
    async fn get_range_once(
        &self,
        location: &Path,
        wanted: &GetRange,
        options: GetOptions,
    ) -> Result<Option<GetResult>> {
        let outer = self.outer(location);
        let first = 0..self.first_request(wanted);
        let conditional = options.if_match.is_some();
        let request = options.with_range(Some(GetRange::Bounded(first.clone())));
        let found = match self.raw.get_opts(&outer, request).await {
            Err(error @ (Error::Generic { .. } | Error::NotSupported { .. })) => {
                return Err(self.too_short(&outer).await.unwrap_or(error));
            }
            other => other?,
        };
        let sealed_size = found.meta.size;
        let (e_tag, version) = (found.meta.e_tag.clone(), found.meta.version.clone());
        let meta = self.inner_meta(found.meta)?;

        let (resolved, out_of_range) = match wanted.as_range(meta.size) {
            Ok(range) => (range, None),
            // The size alone proves nothing: the last chunk has to open before the caller is told.
            Err(error) => (meta.size..meta.size, Some(error)),
        };

        let (object, source) = match found.payload {
            GetResultPayload::File(file, _) => {
                let file = Arc::new(file);
                let header = read_file(Arc::clone(&file), 0..HEADER_LEN).await?;
                let object = self.opened(&outer, &header, meta.size)?;
                let place = self.place(&object, &resolved);
                (object, SealedSource::file(file, place))
            }
            GetResultPayload::Stream(body) => {
                let mut got = SealedSource::stream(body).next(first.end as usize).await?;
                if (got.len() as u64) < HEADER_LEN {
                    return Err(integrity(&outer, IntegrityFault::Size));
                }
                let object = self.opened(&outer, &got.split_to(HEADER_LEN as usize), meta.size)?;
                let place = self.place(&object, &resolved);
                let source = if place.start == HEADER_LEN && place.end <= first.end {
                    got.truncate((place.end - HEADER_LEN) as usize);
                    SealedSource::bytes(got)
                } else {
                    let request = GetOptions::new()
                        .with_range(Some(GetRange::Bounded(place)))
                        .with_if_match(e_tag)
                        .with_version(version);
                    match self.raw.get_opts(&outer, request).await {
                        Err(Error::Precondition { .. }) if !conditional => return Ok(None),
                        Ok(found) if found.meta.size != sealed_size => return Ok(None),
                        other => SealedSource::stream(other?.into_stream()),
                    }
                };
                (object, source)
            }
        };

        if let Some(error) = out_of_range {
            let _: Vec<Bytes> = object.stream(resolved, source).try_collect().await?;
            return Err(Error::Generic { store: "SealedStore", source: Box::new(error) });
        }
        Ok(Some(GetResult {
            payload: GetResultPayload::Stream(object.stream(resolved.clone(), source)),
            meta,
            range: resolved,
            attributes: found.attributes,
            extensions: found.extensions,
        }))
    }

    /// How far the first request of a ranged read reaches: the header, and the data if it follows at once.
    fn first_request(&self, wanted: &GetRange) -> u64 {
        match wanted {
            GetRange::Bounded(range) if range.start < self.chunk_size.bytes() => {
                let chunks = self.chunk_size.covering(range);
                let end = chunks.end.saturating_mul(self.chunk_size.sealed_chunk()).saturating_add(HEADER_LEN);
                if end <= ONE_REQUEST_MAX { end } else { HEADER_LEN }
            }
            _ => HEADER_LEN,
        }
    }

    fn place(&self, object: &OpenObject, range: &Range<u64>) -> Range<u64> {
        self.chunk_size.sealed_range(object.chunks_for(range), object.logical)
    }

    /// Stores refuse a range of an object that is shorter than a header, each in its own words; this finds out whether
    /// that was the reason.
    async fn too_short(&self, outer: &Path) -> Option<Error> {
        let meta = self.raw.head(outer).await.ok()?;
        self.chunk_size.logical_size(meta.size).is_none().then(|| integrity(outer, IntegrityFault::Size))
    }

    fn seal(&self, outer: &Path, payload: &PutPayload) -> Result<PutPayload> {
        let mut sealer =
            ChunkSealer::start(&self.keys, outer.as_ref(), self.chunk_size, payload.content_length() as u64)?;
        for piece in payload.iter() {
            sealer.push(piece)?;
        }
        Ok(sealer.finish()?.into())
    }

    async fn copy_streamed(&self, from: GetResult, to: &Path) -> Result<()> {
        let options = PutMultipartOptions { attributes: from.attributes.clone(), ..PutMultipartOptions::default() };
        let mut upload = self.put_multipart_opts(to, options).await?;
        let mut body = from.into_stream();
        let outcome = async {
            while let Some(bytes) = body.try_next().await? {
                upload.put_part(bytes.into()).await?;
            }
            upload.complete().await
        }
        .await;
        if let Err(error) = outcome {
            // The error that matters is the first one.
            let _ = upload.abort().await;
            return Err(error);
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for SealedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let outer = self.outer(location);
        let sealed = self.seal(&outer, &payload)?;
        self.raw.put_opts(&outer, sealed, opts).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let outer = self.outer(location);
        let sealer = ChunkSealer::start(&self.keys, outer.as_ref(), self.chunk_size, 0)?;
        let upload = self.raw.put_multipart_opts(&outer, opts).await?;
        Ok(Box::new(SealedUpload::new(upload, sealer, Arc::clone(&self.keys))))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.keys.admit()?;
        if options.head {
            return self.head_of(location, options).await;
        }
        let Some(range) = options.range.clone() else {
            return self.get_whole(location, options).await;
        };
        range.is_valid().map_err(|error| Error::Generic { store: "SealedStore", source: Box::new(error) })?;
        for _ in 0..REPLACED_RETRIES {
            if let Some(found) = self.get_range_once(location, &range, options.clone()).await? {
                return Ok(found);
            }
        }
        Err(Error::Precondition {
            path: location.to_string(),
            source: "the object was replaced again and again while it was being read; try again".into(),
        })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (root, keys) = (self.root.clone(), Arc::clone(&self.keys));
        let to_outer = root.clone();
        // While a key is refused, nothing is deleted: the gate is asked for every object.
        let outer = locations.map(move |location| {
            keys.admit()?;
            Ok(to_outer.parts().chain(location?.parts()).collect())
        });
        self.raw.delete_stream(outer.boxed()).map(move |deleted| strip(&root, &deleted?)).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.raw.list(Some(&self.outer_prefix(prefix)));
        self.seen(listed)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.raw.list_with_offset(Some(&self.outer_prefix(prefix)), &self.outer(offset));
        self.seen(listed)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.keys.admit()?;
        let listed = self.raw.list_with_delimiter(Some(&self.outer_prefix(prefix))).await?;
        Ok(ListResult {
            common_prefixes: listed
                .common_prefixes
                .iter()
                .map(|path| strip(&self.root, path))
                .collect::<Result<_>>()?,
            objects: stream::iter(listed.objects).then(|meta| self.proven_meta(meta)).try_collect().await?,
            extensions: listed.extensions,
        })
    }

    /// Opens and seals anew, because an object's name is bound to its bytes. The copy keeps the attributes. With
    /// [`CopyMode::Create`] the object passes through memory as a whole, because uploads in parts can't be conditional.
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let source = self.get_opts(from, GetOptions::default()).await?;
        if options.mode == CopyMode::Overwrite && source.meta.size > COPY_STREAM_MIN {
            return self.copy_streamed(source, to).await;
        }
        let put = PutOptions {
            mode: match options.mode {
                CopyMode::Overwrite => PutMode::Overwrite,
                CopyMode::Create => PutMode::Create,
            },
            attributes: source.attributes.clone(),
            ..PutOptions::default()
        };
        let bytes = source.bytes().await?;
        self.put_opts(to, bytes.into(), put).await?;
        Ok(())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let mode = match options.target_mode {
            RenameTargetMode::Overwrite => CopyMode::Overwrite,
            RenameTargetMode::Create => CopyMode::Create,
        };
        if from == to && mode == CopyMode::Overwrite {
            // A copy onto itself followed by a delete would lose the object.
            return self.head(from).await.map(|_| ());
        }
        self.copy_opts(from, to, CopyOptions::new().with_mode(mode)).await?;
        self.delete(from).await
    }
}

impl SealedStore {
    fn seen(&self, listed: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(locked) = self.keys.admit() {
            return stream::once(std::future::ready(Err(locked.into()))).boxed();
        }
        let view = self.clone();
        listed
            .then(move |meta| {
                let view = view.clone();
                async move {
                    view.keys.admit()?;
                    view.proven_meta(meta?).await
                }
            })
            .boxed()
    }
}

impl fmt::Display for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedStore({})", self.root)
    }
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore")
            .field("root", &self.root)
            .field("chunk_size", &self.chunk_size)
            .field("raw", &format_args!("{}", self.raw))
            .finish_non_exhaustive()
    }
}

fn strip(root: &Path, outer: &Path) -> Result<Path> {
    outer.prefix_match(root).map(|parts| parts.collect()).ok_or_else(|| Error::Generic {
        store: "SealedStore",
        source: format!("the outer store answered with {outer}, which is not below {root}").into(),
    })
}

fn integrity(outer: &Path, fault: IntegrityFault) -> Error {
    SealedError::Integrity { object: outer.to_string(), fault }.into()
}
