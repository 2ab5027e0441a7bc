//! Whatever is done to stored bytes is an error, never a wrong answer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use support::{fresh, read, write};
use vectorkeep_keyring::{
    IntegrityFault, Keyring, Purpose, SealedError, SealedStore, is_integrity_error, sealed_error_in,
};

struct World {
    raw: Arc<dyn ObjectStore>,
    keyring: Keyring,
    bulk: Arc<SealedStore>,
    rows: Arc<SealedStore>,
}

impl World {
    async fn new() -> Self {
        let (raw, _kms, keyring) = fresh().await;
        let zone = keyring.system();
        Self { raw, bulk: zone.sealed_store("x"), rows: zone.sealed_row_store("x"), keyring }
    }

    fn outer(&self, kind: &str, name: &str) -> String {
        format!("zones/{}/{kind}/x/{name}", self.keyring.system().id())
    }

    async fn sealed(&self, kind: &str, name: &str) -> Vec<u8> {
        read(self.raw.as_ref(), &self.outer(kind, name)).await.unwrap()
    }

    async fn replace(&self, kind: &str, name: &str, bytes: &[u8]) {
        write(self.raw.as_ref(), &self.outer(kind, name), bytes).await;
    }
}

/// Every way of reading says that the object is damaged.
async fn refused(store: &SealedStore, name: &str, why: &str) {
    let error = read(store, name).await.expect_err(why);
    assert!(is_integrity_error(&error), "{why}: {error}");
}

fn fault(error: &object_store::Error) -> IntegrityFault {
    match sealed_error_in(error) {
        Some(SealedError::Integrity { fault, .. }) => *fault,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_flipped_byte_of_a_small_object_of_each_kind_is_noticed() {
    let world = World::new().await;
    for (kind, store) in [("bulk", &world.bulk), ("rows", &world.rows)] {
        for plain in [b"".as_slice(), b"a small object"] {
            write(store.as_ref(), "o", plain).await;
            let good = world.sealed(kind, "o").await;
            for index in 0..good.len() {
                for bit in [0x01, 0x80] {
                    let mut bad = good.clone();
                    bad[index] ^= bit;
                    world.replace(kind, "o", &bad).await;
                    refused(store, "o", &format!("{kind} byte {index}")).await;
                    if !plain.is_empty() {
                        let error = store.get_range(&Path::from("o"), 0..1).await.unwrap_err();
                        assert!(is_integrity_error(&error));
                    }
                }
            }
            world.replace(kind, "o", &good).await;
            assert_eq!(read(store.as_ref(), "o").await.unwrap(), plain);
        }
    }
}

#[tokio::test]
async fn every_length_but_the_right_one_is_noticed() {
    let world = World::new().await;
    let plain = vec![7; 3 * 4096 + 5];
    write(world.rows.as_ref(), "o", &plain).await;
    let good = world.sealed("rows", "o").await;
    for len in (0..good.len()).step_by(7).chain(good.len() - 50..good.len()) {
        world.replace("rows", "o", &good[..len]).await;
        refused(&world.rows, "o", &format!("cut to {len}")).await;
        // A range that ends at or after the new end, and one that starts there.
        for range in [len as u64..plain.len() as u64, 12_000..12_290] {
            if range.is_empty() {
                continue;
            }
            let found = world.rows.get_range(&Path::from("o"), range.clone()).await;
            match found {
                Err(error) => assert!(is_integrity_error(&error), "{len} {range:?} {error}"),
                Ok(bytes) => assert_eq!(bytes, &plain[range.start as usize..range.end as usize]),
            }
        }
    }
    for extra in [1, 15, 16, 17, 4112] {
        let longer = [good.clone(), vec![0; extra]].concat();
        world.replace("rows", "o", &longer).await;
        refused(&world.rows, "o", &format!("extended by {extra}")).await;
    }
}

#[tokio::test]
async fn a_chunk_border_is_no_place_to_cut() {
    let world = World::new().await;
    write(world.rows.as_ref(), "o", &vec![7; 4 * 4096]).await;
    let good = world.sealed("rows", "o").await;
    world.replace("rows", "o", &good[..192 + 2 * 4112]).await;
    refused(&world.rows, "o", "cut at a chunk border").await;
    let path = Path::from("o");
    // Chunks that are whole and in place still open; whatever touches the end does not, also "there is nothing there".
    assert!(world.rows.get_range(&path, 0..4096).await.is_ok());
    for range in [4096..8192, 9000..9001, 0..16_384] {
        let error = world.rows.get_range(&path, range.clone()).await.unwrap_err();
        assert!(is_integrity_error(&error), "{range:?}");
    }
}

#[tokio::test]
async fn reordered_repeated_and_dropped_chunks_are_noticed() {
    let world = World::new().await;
    write(world.rows.as_ref(), "o", &vec![7; 4 * 4096]).await;
    let good = world.sealed("rows", "o").await;
    let chunk = |i: usize| good[192 + i * 4112..192 + (i + 1) * 4112].to_vec();
    for order in [
        vec![1, 0, 2, 3],
        vec![0, 2, 1, 3],
        vec![0, 1, 3, 2],
        vec![0, 0, 2, 3],
        vec![0, 2, 3],
        vec![1, 2, 3],
        vec![0, 1, 2],
        vec![3],
        vec![0, 1, 2, 3, 3],
    ] {
        let mut bad = good[..192].to_vec();
        bad.extend(order.iter().flat_map(|i| chunk(*i)));
        world.replace("rows", "o", &bad).await;
        refused(&world.rows, "o", &format!("{order:?}")).await;
    }
}

#[tokio::test]
async fn a_swapped_or_renamed_object_is_noticed() {
    let world = World::new().await;
    write(world.bulk.as_ref(), "a", b"same length 1").await;
    write(world.bulk.as_ref(), "b", b"same length 2").await;
    let (a, b) = (world.sealed("bulk", "a").await, world.sealed("bulk", "b").await);
    world.replace("bulk", "a", &b).await;
    let error = read(world.bulk.as_ref(), "a").await.unwrap_err();
    assert_eq!(fault(&error), IntegrityFault::WrappedKey);
    // Header of one, body of the other.
    let mixed = [&a[..192], &b[192..]].concat();
    world.replace("bulk", "a", &mixed).await;
    let error = read(world.bulk.as_ref(), "a").await.unwrap_err();
    assert_eq!(fault(&error), IntegrityFault::Chunk { index: 0 });
    // An older version of the same name is a rollback: the sealed store can't tell, shards do (their manifests say).
    world.replace("bulk", "a", &a).await;
    assert_eq!(read(world.bulk.as_ref(), "a").await.unwrap(), b"same length 1");
}

#[tokio::test]
async fn an_object_of_another_zone_kind_or_store_is_noticed() {
    let world = World::new().await;
    let other_zone = world.keyring.create_zone(Purpose::Database).await.unwrap();
    write(other_zone.sealed_store("x").as_ref(), "o", b"data").await;
    let foreign = format!("zones/{}/bulk/x/o", other_zone.id());
    let bytes = read(world.raw.as_ref(), &foreign).await.unwrap();
    world.replace("bulk", "o", &bytes).await;
    let error = read(world.bulk.as_ref(), "o").await.unwrap_err();
    assert_eq!(fault(&error), IntegrityFault::WrongZone);

    write(world.rows.as_ref(), "o", b"data").await;
    let bytes = world.sealed("rows", "o").await;
    world.replace("bulk", "o", &bytes).await;
    let error = read(world.bulk.as_ref(), "o").await.unwrap_err();
    assert_eq!(fault(&error), IntegrityFault::WrongKind);

    let elsewhere = World::new().await;
    write(elsewhere.bulk.as_ref(), "o", b"data").await;
    let bytes = elsewhere.sealed("bulk", "o").await;
    world.replace("bulk", "o", &bytes).await;
    let error = read(world.bulk.as_ref(), "o").await.unwrap_err();
    assert_eq!(fault(&error), IntegrityFault::WrongStore);
}

#[tokio::test]
async fn plaintext_in_the_store_is_not_served() {
    let world = World::new().await;
    for bytes in [vec![], b"short".to_vec(), vec![b'x'; 500], vec![0; 100_000]] {
        world.replace("bulk", "o", &bytes).await;
        refused(&world.bulk, "o", "plaintext").await;
        for range in [0..1, 70_000..70_001] {
            let error = world.bulk.get_range(&Path::from("o"), range).await.unwrap_err();
            assert!(is_integrity_error(&error), "{error}");
        }
    }
}

#[tokio::test]
async fn a_listing_names_an_object_of_impossible_size() {
    let world = World::new().await;
    world.replace("bulk", "o", b"short").await;
    let error = world.bulk.list(None).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(fault(&error), IntegrityFault::Size);
    assert!(error.to_string().contains("bulk/x/o"), "{error}");
    let error = world.bulk.head(&Path::from("o")).await.unwrap_err();
    assert!(is_integrity_error(&error));
}
