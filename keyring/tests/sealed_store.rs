//! The sealed store looks like the plain store to its user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, UpdateVersion,
};
use proptest::prelude::*;
use support::{contents, fresh, open, read, write};
use vectorkeep_keyring::{Purpose, SealedStore, is_locked_error};

const SIZES: [usize; 9] = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000];

fn noise(len: usize) -> Vec<u8> {
    let mut state = len as u32 ^ 0x9e37_79b9;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

/// Both kinds, over a store that streams and over one that hands out files.
async fn all_stores() -> (tempfile::TempDir, Vec<Arc<SealedStore>>) {
    let dir = tempfile::tempdir().unwrap();
    let local = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    let outers: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(local)];
    let mut stores = Vec::new();
    for raw in outers {
        let kms = support::ScriptedKms::new();
        let zone = open(&raw, &kms).await.unwrap().system();
        stores.push(zone.sealed_store("lsm"));
        stores.push(zone.sealed_row_store("lsm"));
    }
    (dir, stores)
}

#[tokio::test]
async fn what_is_put_is_got_whole_and_sizes_are_logical() {
    let (_dir, stores) = all_stores().await;
    for store in stores {
        for size in SIZES {
            let path = Path::from(format!("a/{size}"));
            let data = noise(size);
            let put = store.put(&path, data.clone().into()).await.unwrap();
            let got = store.get(&path).await.unwrap();
            assert_eq!(got.meta.size, size as u64);
            assert_eq!(got.meta.location, path);
            assert_eq!(got.range, 0..size as u64);
            assert_eq!(got.meta.e_tag, put.e_tag);
            assert_eq!(got.bytes().await.unwrap(), data);
            let head = store.head(&path).await.unwrap();
            assert_eq!((head.size, head.location), (size as u64, path));
        }
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(listed.len(), SIZES.len());
        for meta in listed {
            assert_eq!(meta.location.to_string(), format!("a/{}", meta.size));
        }
    }
}

#[tokio::test]
async fn ranges_near_every_border_equal_those_of_the_plain_store() {
    let (_dir, stores) = all_stores().await;
    let plain = InMemory::new();
    for size in SIZES {
        let path = Path::from(format!("{size}"));
        plain.put(&path, noise(size).into()).await.unwrap();
        for store in &stores {
            store.put(&path, noise(size).into()).await.unwrap();
        }
        let size = size as u64;
        let marks = [0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 131_072, 199_999, 200_000, 200_001];
        let mut ranges = Vec::new();
        for from in marks {
            ranges.push(GetRange::Offset(from));
            ranges.push(GetRange::Suffix(from));
            ranges.extend(marks.map(|to| GetRange::Bounded(from..to)));
        }
        for range in ranges {
            let options = || GetOptions::new().with_range(Some(range.clone()));
            let expected = get(&plain, &path, options()).await;
            for store in &stores {
                let found = get(store.as_ref(), &path, options()).await;
                assert_eq!(found.as_ref().ok(), expected.as_ref().ok(), "{store} {size} {range:?}");
            }
        }
    }
}

async fn get(
    store: &dyn ObjectStore,
    path: &Path,
    options: GetOptions,
) -> object_store::Result<(std::ops::Range<u64>, Bytes)> {
    let got = store.get_opts(path, options).await?;
    Ok((got.range.clone(), got.bytes().await?))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_ranges_equal_those_of_the_plain_store(
        size in 1usize..300_000,
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (_dir, stores) = all_stores().await;
            let data = noise(size);
            let path = Path::from("o");
            let mut ranges = Vec::new();
            for (a, b) in &cuts {
                let (a, b) = (a.index(size), b.index(size));
                ranges.push(a.min(b) as u64..a.max(b) as u64 + 1);
            }
            for store in &stores {
                store.put(&path, data.clone().into()).await.unwrap();
                for range in &ranges {
                    let got = store.get_range(&path, range.clone()).await.unwrap();
                    assert_eq!(got, &data[range.start as usize..range.end as usize]);
                }
                let got = store.get_ranges(&path, &ranges).await.unwrap();
                for (range, got) in ranges.iter().zip(got) {
                    assert_eq!(got, &data[range.start as usize..range.end as usize]);
                }
            }
        });
    }

    #[test]
    fn parts_of_any_length_make_the_same_object(
        parts in proptest::collection::vec(0usize..150_000, 0..8),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (_dir, stores) = all_stores().await;
            let data = noise(parts.iter().sum());
            for store in &stores {
                let mut rest = data.as_slice();
                let mut upload = store.put_multipart(&Path::from("o")).await.unwrap();
                for len in &parts {
                    let (now, later) = rest.split_at(*len);
                    upload.put_part(now.to_vec().into()).await.unwrap();
                    rest = later;
                }
                upload.complete().await.unwrap();
                assert_eq!(read(store.as_ref(), "o").await.unwrap(), data);
            }
        });
    }
}

#[tokio::test]
async fn a_large_upload_reaches_the_outer_store_in_equal_parts() {
    let (raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("big");
    let data = noise(21 * 1024 * 1024 + 5);
    let mut upload = store.put_multipart(&Path::from("o")).await.unwrap();
    for piece in data.chunks(5 * 1024 * 1024) {
        upload.put_part(piece.to_vec().into()).await.unwrap();
    }
    upload.complete().await.unwrap();
    assert_eq!(read(store.as_ref(), "o").await.unwrap(), data);
    assert!(contents(raw.as_ref()).await.len() >= 3);
}

#[tokio::test]
async fn an_upload_that_is_dropped_half_way_leaves_no_object() {
    let (_dir, stores) = all_stores().await;
    for store in stores {
        let mut upload = store.put_multipart(&Path::from("o")).await.unwrap();
        upload.put_part(noise(9 * 1024 * 1024).into()).await.unwrap();
        drop(upload);
        assert!(matches!(store.get(&Path::from("o")).await, Err(Error::NotFound { .. })));
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(listed.is_empty());
    }
}

#[tokio::test]
async fn an_aborted_upload_can_not_be_completed() {
    let (_raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let mut upload = store.put_multipart(&Path::from("o")).await.unwrap();
    upload.put_part(noise(10).into()).await.unwrap();
    upload.abort().await.unwrap();
    assert!(upload.complete().await.is_err());
    assert!(upload.put_part(noise(10).into()).await.is_err());
}

#[tokio::test]
async fn conditional_puts_keep_their_meaning() {
    let (_raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let path = Path::from("o");
    let first = store.put_opts(&path, "1".into(), PutMode::Create.into()).await.unwrap();
    let again = store.put_opts(&path, "2".into(), PutMode::Create.into()).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));

    let version = UpdateVersion::from(first);
    let second = store.put_opts(&path, "3".into(), PutMode::Update(version.clone()).into()).await.unwrap();
    let stale = store.put_opts(&path, "4".into(), PutMode::Update(version).into()).await;
    assert!(matches!(stale, Err(Error::Precondition { .. })));
    assert_eq!(read(store.as_ref(), "o").await.unwrap(), b"3");

    let tag = second.e_tag.unwrap();
    for range in [None, Some(GetRange::Bounded(0..1))] {
        let with = |tag: &str| GetOptions::new().with_range(range.clone()).with_if_match(Some(tag));
        assert!(store.get_opts(&path, with(&tag)).await.is_ok());
        let other = store.get_opts(&path, with("\"x\"")).await;
        assert!(matches!(other, Err(Error::Precondition { .. })));
        let unchanged = GetOptions::new().with_range(range.clone()).with_if_none_match(Some(&tag));
        let unchanged = store.get_opts(&path, unchanged).await;
        assert!(matches!(unchanged, Err(Error::NotModified { .. })));
    }
}

#[tokio::test]
async fn attributes_pass_through_and_survive_a_copy() {
    let (_raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::Metadata("put-id".into()), "01ARZ".into());
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let (a, b, c) = (Path::from("a"), Path::from("b"), Path::from("c"));
    store.put_opts(&a, "x".into(), options).await.unwrap();
    store.copy(&a, &b).await.unwrap();
    let options = PutMultipartOptions { attributes: attributes.clone(), ..PutMultipartOptions::default() };
    let mut upload = store.put_multipart_opts(&c, options).await.unwrap();
    upload.put_part("x".into()).await.unwrap();
    upload.complete().await.unwrap();
    for path in [a, b, c] {
        let head = GetOptions::new().with_head(true);
        assert_eq!(store.get_opts(&path, head).await.unwrap().attributes, attributes);
        let ranged = GetOptions::new().with_range(Some(0..1));
        assert_eq!(store.get_opts(&path, ranged).await.unwrap().attributes, attributes);
    }
}

#[tokio::test]
async fn a_store_that_refuses_attributes_still_does() {
    let (_dir, stores) = all_stores().await;
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, "text/plain".into());
    let options = PutOptions { attributes, ..PutOptions::default() };
    let local = stores.last().unwrap();
    let refused = local.put_opts(&Path::from("o"), "x".into(), options).await;
    assert!(matches!(refused, Err(Error::NotImplemented { .. } | Error::NotSupported { .. })));
}

#[tokio::test]
async fn listings_show_the_store_as_if_it_were_alone() {
    let (_dir, stores) = all_stores().await;
    for store in stores {
        for path in ["a/1", "a/2", "a/b/3", "c"] {
            write(store.as_ref(), path, path.as_bytes()).await;
        }
        let names = |metas: Vec<object_store::ObjectMeta>| {
            let mut names: Vec<_> = metas.iter().map(|m| m.location.to_string()).collect();
            names.sort();
            names
        };
        let a = Path::from("a");
        let all = store.list(Some(&a)).try_collect().await.unwrap();
        assert_eq!(names(all), ["a/1", "a/2", "a/b/3"]);
        let offset = Path::from("a/1");
        let after = store.list_with_offset(Some(&a), &offset);
        assert_eq!(names(after.try_collect().await.unwrap()), ["a/2", "a/b/3"]);
        let shallow = store.list_with_delimiter(Some(&a)).await.unwrap();
        assert!(shallow.objects.iter().all(|meta| meta.size == 3));
        assert_eq!(names(shallow.objects), ["a/1", "a/2"]);
        assert_eq!(shallow.common_prefixes, [Path::from("a/b")]);
        let top = store.list_with_delimiter(None).await.unwrap();
        assert_eq!(names(top.objects), ["c"]);
        assert_eq!(top.common_prefixes, [a]);
    }
}

#[tokio::test]
async fn copy_rename_and_delete_work_by_name() {
    let (_dir, stores) = all_stores().await;
    for store in stores {
        let (a, b, c) = (Path::from("a"), Path::from("d/b"), Path::from("c"));
        let data = noise(100_000);
        store.put(&a, data.clone().into()).await.unwrap();
        store.copy(&a, &b).await.unwrap();
        let refused = store.copy_if_not_exists(&a, &b).await;
        assert!(matches!(refused, Err(Error::AlreadyExists { .. })));
        store.rename(&b, &c).await.unwrap();
        assert!(matches!(store.head(&b).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.rename_if_not_exists(&a, &c).await, Err(Error::AlreadyExists { .. })));
        store.rename(&a, &a).await.unwrap();
        for path in ["a", "c"] {
            assert_eq!(read(store.as_ref(), path).await.unwrap(), data);
        }
        let gone = futures::stream::iter([Ok(a.clone()), Ok(c.clone())]);
        let mut deleted: Vec<_> = store.delete_stream(Box::pin(gone)).try_collect().await.unwrap();
        deleted.sort();
        assert_eq!(deleted, [a.clone(), c]);
        assert!(matches!(store.get(&a).await, Err(Error::NotFound { .. })));
        assert!(matches!(store.copy(&a, &b).await, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_large_copy_is_streamed_and_equal() {
    let (_raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let data = noise(17 * 1024 * 1024 + 3);
    store.put(&Path::from("a"), data.clone().into()).await.unwrap();
    store.copy(&Path::from("a"), &Path::from("b")).await.unwrap();
    assert_eq!(read(store.as_ref(), "b").await.unwrap(), data);
}

#[tokio::test]
async fn the_same_bytes_are_never_sealed_the_same_way() {
    let (raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let sealed = format!("zones/{}/bulk/x/o", keyring.system().id());
    write(store.as_ref(), "o", b"same").await;
    let first = read(raw.as_ref(), &sealed).await.unwrap();
    write(store.as_ref(), "o", b"same").await;
    let second = read(raw.as_ref(), &sealed).await.unwrap();
    // Salt, commitment, wrapped key and ciphertext all differ.
    for range in [64..96, 96..128, 128..176, 192..196] {
        assert_ne!(first[range.clone()], second[range]);
    }
}

#[tokio::test]
async fn zones_do_not_see_each_other() {
    let (_raw, _kms, keyring) = fresh().await;
    let a = keyring.create_zone(Purpose::Database).await.unwrap();
    let b = keyring.create_zone(Purpose::Database).await.unwrap();
    write(a.sealed_store("x").as_ref(), "o", b"a").await;
    let other = b.sealed_store("x");
    assert!(matches!(other.head(&Path::from("o")).await, Err(Error::NotFound { .. })));
    let listed: Vec<_> = other.list(None).try_collect().await.unwrap();
    assert!(listed.is_empty());
}

#[tokio::test]
async fn a_locked_keyring_refuses_every_call_also_in_the_middle_of_a_read_or_upload() {
    let (raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let path = Path::from("o");
    store.put(&path, noise(3_000_000).into()).await.unwrap();
    let reading = store.get(&path).await.unwrap();
    let mut upload = store.put_multipart(&Path::from("p")).await.unwrap();
    upload.put_part(noise(10).into()).await.unwrap();
    let before = contents(raw.as_ref()).await;

    keyring.lock();
    let locked = |error: Error| assert!(is_locked_error(&error), "{error}");
    locked(reading.bytes().await.unwrap_err());
    locked(upload.put_part(noise(10).into()).await.unwrap_err());
    locked(upload.complete().await.unwrap_err());
    locked(store.get(&path).await.unwrap_err());
    locked(store.get_range(&path, 0..1).await.unwrap_err());
    locked(store.head(&path).await.unwrap_err());
    locked(store.put(&path, "x".into()).await.unwrap_err());
    locked(store.put_multipart(&path).await.unwrap_err());
    locked(store.delete(&path).await.unwrap_err());
    locked(store.copy(&path, &Path::from("q")).await.unwrap_err());
    locked(store.rename(&path, &Path::from("q")).await.unwrap_err());
    locked(store.list(None).try_collect::<Vec<_>>().await.unwrap_err());
    locked(store.list_with_delimiter(None).await.unwrap_err());
    assert_eq!(contents(raw.as_ref()).await, before, "nothing deleted or written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_replaced_between_header_and_chunks_is_read_whole_or_not_at_all() {
    let (_raw, _kms, keyring) = fresh().await;
    let store = keyring.system().sealed_store("x");
    let path = Path::from("o");
    let size = 2_000_000;
    let versions: Vec<Vec<u8>> = (0..4).map(|i| vec![i; size]).collect();
    store.put(&path, versions[0].clone().into()).await.unwrap();
    let writer = {
        let (store, path, versions) = (Arc::clone(&store), path.clone(), versions.clone());
        tokio::spawn(async move {
            for round in 0..60 {
                let bytes = versions[round % 4].clone();
                store.put(&path, bytes.into()).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    for _ in 0..60 {
        match store.get_range(&path, 1_500_000..1_500_100).await {
            Ok(bytes) => assert!(bytes.iter().all(|b| *b == bytes[0])),
            Err(error) => assert!(matches!(error, Error::Precondition { .. }), "{error}"),
        }
    }
    writer.await.unwrap();
}
