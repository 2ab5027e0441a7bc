//! The shard against a model, across flushes, merges, reopening, fencing, damage and failing stores.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::join;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use vectorkeep_engine::budget::Budget;
use vectorkeep_engine::column::{Column, Rows, Values};
use vectorkeep_engine::error::Code;
use vectorkeep_engine::filter::Filter;
use vectorkeep_engine::proto::schema::DataType;
use vectorkeep_engine::query::retrieve::retrieve;
use vectorkeep_engine::schema::{Collection, Field, Index};
use vectorkeep_engine::storage::collection::LiveCollection;
use vectorkeep_engine::storage::format::Formats;
use vectorkeep_engine::storage::part::Keys;
use vectorkeep_engine::storage::shard::Shard;

use support::{Failing, Fault};

const KEY: i64 = 100;
const TAG: i64 = 101;
const VECTOR: i64 = 102;

fn field(id: i64, name: &str, data_type: DataType) -> Field {
    Field {
        id,
        name: name.into(),
        data_type,
        description: String::new(),
        primary_key: id == KEY,
        auto_id: false,
        nullable: false,
        dynamic: false,
        dim: if data_type == DataType::FloatVector { 2 } else { 0 },
        max_length: 0,
        default_value: None,
    }
}

fn collection(name: &str) -> Collection {
    Collection {
        id: 0,
        name: name.into(),
        description: String::new(),
        fields: vec![
            field(KEY, "id", DataType::Int64),
            field(TAG, "tag", DataType::Int64),
            field(VECTOR, "vector", DataType::FloatVector),
        ],
        indexes: vec![Index {
            id: 0,
            name: "vector".into(),
            field_id: VECTOR,
            index_type: "HNSW".into(),
            metric: "L2".into(),
            params: HashMap::new(),
        }],
        loaded: true,
        created: 0,
        consistency_level: 0,
        properties: HashMap::new(),
    }
}

fn rows(keys: &[i64], tag: i64) -> Rows {
    let column = |field_id, values| Column { field_id, validity: None, values };
    Rows {
        count: keys.len(),
        columns: vec![
            column(KEY, Values::Int64(keys.to_vec())),
            column(TAG, Values::Int64(vec![tag; keys.len()])),
            column(
                VECTOR,
                Values::FloatVector { dim: 2, values: keys.iter().flat_map(|key| [*key as f32, tag as f32]).collect() },
            ),
        ],
        timestamps: vec![0; keys.len()],
    }
}

async fn open(store: &Arc<dyn ObjectStore>) -> Arc<Shard> {
    Shard::open(store.clone(), Budget::new(1 << 30), Arc::default()).await.unwrap()
}

async fn created(shard: &Shard, name: &str) -> Arc<LiveCollection> {
    shard.create_collection(collection(name)).await.unwrap();
    shard.collection(name).unwrap()
}

/// Key and tag of every row. No key is there twice.
fn contents(live: &LiveCollection) -> BTreeMap<i64, i64> {
    let view = live.view();
    let parts: Vec<_> = view.parts().collect();
    let value = |row: &vectorkeep_engine::query::output::Row, field: i64| match &parts[row.part]
        .rows
        .column(field)
        .unwrap()
        .values
    {
        Values::Int64(values) => values[row.row],
        other => unreachable!("{other:?}"),
    };
    let found: BTreeMap<_, _> =
        retrieve(&view, &Filter::all(), KEY, true).iter().map(|row| (value(row, KEY), value(row, TAG))).collect();
    assert_eq!(view.row_count(), found.len() as u64, "rows that are not the newest of their key");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_rows_are_those_of_the_model() {
    let mut random = StdRng::seed_from_u64(7);
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut shard = open(&store).await;
    let mut live = created(&shard, "c").await;
    let mut model = BTreeMap::new();
    for step in 0..400 {
        let keys: Vec<i64> = (0..random.random_range(1..30)).map(|_| random.random_range(0..200)).collect();
        let keys: Vec<i64> = keys.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
        match random.random_range(0..10) {
            0..=4 => {
                shard.insert(&live, rows(&keys, step), Some(Keys::Int(keys.clone()))).await.unwrap();
                model.extend(keys.iter().map(|key| (*key, step)));
            }
            5..=6 => {
                shard.delete(&live, Keys::Int(keys.clone())).await.unwrap();
                model.retain(|key, _| !keys.contains(key));
            }
            7 => {
                shard.flush_collection(&live).await.unwrap();
            }
            8 => {
                shard.release_collection(&live).await.unwrap();
                if random.random_bool(0.5) {
                    shard.delete(&live, Keys::Int(keys.clone())).await.unwrap();
                    model.retain(|key, _| !keys.contains(key));
                    shard.flush_collection(&live).await.unwrap();
                }
                shard.load_collection(&live).await.unwrap();
            }
            _ => {
                shard.maintain_once().await.unwrap();
                if random.random_bool(0.5) {
                    drop(live);
                    // As after a kill: the next writer fences this one, which closes nothing.
                    shard = open(&store).await;
                    live = shard.collection("c").unwrap();
                }
            }
        }
        assert_eq!(contents(&live), model, "after step {step}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_that_meet_a_rewrite_are_kept() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open(&store).await;
    let live = created(&shard, "c").await;
    let keys: Vec<i64> = (0..20_000).collect();
    shard.insert(&live, rows(&keys, 0), None).await.unwrap();
    let flushing = tokio::spawn({
        let (shard, live) = (shard.clone(), live.clone());
        async move { shard.flush_collection(&live).await.unwrap() }
    });
    for key in 0..200 {
        shard.delete(&live, Keys::Int(vec![key])).await.unwrap();
    }
    flushing.await.unwrap();
    assert_eq!(live.view().row_count(), 19_800);
    let reopened = open(&store).await;
    assert_eq!(reopened.collection("c").unwrap().view().row_count(), 19_800);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_were_replaced_before_a_merge_of_segments_stay_replaced_after_a_restart() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open(&store).await;
    let live = created(&shard, "c").await;
    for key in 10..14 {
        shard.insert(&live, rows(&[key], 0), None).await.unwrap();
        shard.flush_collection(&live).await.unwrap();
    }
    // So many that they are joined: the newest alone is left in memory, and all of them in the log.
    for version in 0..16 {
        shard.insert(&live, rows(&[1], version), Some(Keys::Int(vec![1]))).await.unwrap();
    }
    assert_eq!(live.view().growing.iter().map(|part| part.rows.count).collect::<Vec<_>>(), [1]);
    let expected = contents(&live);
    shard.maintain_once().await.unwrap();
    assert_eq!((live.view().growing.len(), live.view().sealed.len()), (1, 1), "the segments were merged");
    assert_eq!(contents(&live), expected);
    let reopened = open(&store).await;
    assert_eq!(contents(&reopened.collection("c").unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_are_forgotten_once_no_row_needs_them() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open(&store).await;
    let live = created(&shard, "c").await;
    let kept = || live.deletes_up_to(u64::MAX).len();
    shard.insert(&live, rows(&[1, 2, 3, 4, 5], 0), None).await.unwrap();
    shard.flush_collection(&live).await.unwrap();
    shard.insert(&live, rows(&[6, 7], 0), None).await.unwrap();
    shard.delete(&live, Keys::Int(vec![6, 100])).await.unwrap();
    shard.flush_collection(&live).await.unwrap();
    assert_eq!(kept(), 0, "the first segment has none of their keys");
    shard.delete(&live, Keys::Int(vec![1])).await.unwrap();
    shard.insert(&live, rows(&[8], 0), None).await.unwrap();
    shard.flush_collection(&live).await.unwrap();
    assert_eq!(kept(), 1, "the first segment still stores the row");
    let reopened = open(&store).await;
    assert_eq!(contents(&reopened.collection("c").unwrap()), contents(&live));
    assert_eq!(contents(&live).into_keys().collect::<Vec<_>>(), [2, 3, 4, 5, 7, 8]);
}

/// The answer of `call`, which is dropped where it waits once more than `waits` times: its client went away.
async fn given_up<F: Future>(call: F, waits: usize) -> Option<F::Output> {
    let mut call = Box::pin(call);
    let mut left = waits;
    let polled = std::future::poll_fn(move |context| match call.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    });
    polled.await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_made_once_also_if_its_creator_goes_away_and_asks_again() {
    let failing = Failing::new();
    let shard = open(&failing.store()).await;
    failing.stall(true);
    assert!(given_up(shard.create_collection(collection("c")), 0).await.is_none(), "the log waits for the store");
    let mut again = Box::pin(shard.create_collection(collection("c")));
    assert!(futures::poll!(&mut again).is_pending());
    failing.stall(false);
    again.await.unwrap();
    assert_eq!(shard.collections().len(), 1);
    shard.insert(&shard.collection("c").unwrap(), rows(&[1], 0), None).await.unwrap();
    let reopened = open(&failing.store()).await;
    assert_eq!(reopened.collections().len(), 1);
    assert_eq!(contents(&reopened.collection("c").unwrap()), BTreeMap::from([(1, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_flushed_once_also_if_one_of_two_who_ask_for_it_goes_away() {
    for waits in 0.. {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        let live = created(&shard, "c").await;
        shard.insert(&live, rows(&[1, 2], 0), None).await.unwrap();
        let first = given_up(shard.flush_collection(&live), waits);
        let (first, second) = join(first, shard.flush_collection(&live)).await;
        second.unwrap();
        assert_eq!(live.view().segments().count(), 1, "given up after {waits} waits");
        assert_eq!(contents(&live), BTreeMap::from([(1, 0), (2, 0)]));
        let reopened = open(&store).await;
        assert_eq!(contents(&reopened.collection("c").unwrap()), contents(&live));
        if first.is_some() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_beside_a_drop_whose_client_goes_away_is_refused_or_kept() {
    for waits in 0.. {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        let live = created(&shard, "c").await;
        let dropped = given_up(shard.drop_collection("c"), waits).await;
        let written = shard.insert(&live, rows(&[1], 0), None).await;
        let reopened = open(&store).await;
        match written.map_err(|error| error.code) {
            Ok(_) => assert_eq!(contents(&reopened.collection("c").unwrap()), BTreeMap::from([(1, 0)])),
            refused => assert_eq!(refused, Err(Code::CollectionNotFound), "given up after {waits} waits"),
        }
        if dropped.is_some() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_shuts_the_first_one_out() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let first = open(&store).await;
    let live = created(&first, "c").await;
    let second = open(&store).await;
    assert!(second.epoch() > first.epoch());
    assert!(first.insert(&live, rows(&[1], 0), None).await.is_err());
    let live = second.collection("c").unwrap();
    second.insert(&live, rows(&[2], 0), None).await.unwrap();
    assert_eq!(contents(&live), BTreeMap::from([(2, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_collection_leaves_no_object_behind() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open(&store).await;
    let live = created(&shard, "c").await;
    let keys: Vec<i64> = (0..30_000).collect();
    shard.insert(&live, rows(&keys, 0), None).await.unwrap();
    assert!(shard.object_count("batches").await.unwrap() > 0, "large batches are objects of their own");
    shard.flush_collection(&live).await.unwrap();
    shard.maintain_once().await.unwrap();
    assert_eq!(shard.object_count("batches").await.unwrap(), 0);
    assert_eq!(shard.object_count("segments").await.unwrap(), 2, "rows and one index");
    shard.drop_collection("c").await.unwrap();
    assert_eq!(shard.object_count("segments").await.unwrap(), 0);
    let late = shard.insert(&live, rows(&[1], 0), None).await;
    assert_eq!(late.map_err(|error| error.code), Err(Code::CollectionNotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_segments_have_of_a_dropped_index_is_not_used_for_the_next_one() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open(&store).await;
    let live = created(&shard, "c").await;
    let keys: Vec<i64> = (0..5_000).collect();
    shard.insert(&live, rows(&keys, 0), None).await.unwrap();
    shard.flush_collection(&live).await.unwrap();
    shard.maintain_once().await.unwrap();
    let indexed = || live.view().sealed.iter().any(|part| part.indexes.contains_key(&VECTOR));
    assert!(indexed());
    for (index_type, connectivity) in [("FLAT", ""), ("HNSW", "32"), ("HNSW", "8")] {
        shard.release_collection(&live).await.unwrap();
        shard.drop_index(&live, VECTOR).await.unwrap();
        assert_eq!(shard.object_count("segments").await.unwrap(), 1, "its object is left");
        let mut next = collection("c").indexes.remove(0);
        next.index_type = index_type.into();
        next.params.insert("M".into(), connectivity.into());
        shard.create_index(&live, next).await.unwrap();
        shard.load_collection(&live).await.unwrap();
        assert!(!indexed(), "{index_type} with M = {connectivity}");
        shard.maintain_once().await.unwrap();
        assert_eq!(indexed(), index_type == "HNSW");
        assert_eq!(contents(&live).len(), keys.len());
    }
    let reopened = open(&store).await;
    assert!(reopened.collection("c").unwrap().view().sealed[0].indexes.contains_key(&VECTOR));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_an_error_and_nothing_is_overwritten() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open(&store).await;
    let live = created(&shard, "c").await;
    shard.insert(&live, rows(&[1, 2, 3], 0), None).await.unwrap();
    shard.flush_collection(&live).await.unwrap();
    shard.release_collection(&live).await.unwrap();
    let segments: Vec<_> = store.list(Some(&"segments".into())).try_collect().await.unwrap();
    let good = store.get(&segments[0].location).await.unwrap().bytes().await.unwrap();
    store.put(&segments[0].location, good.slice(..good.len() - 3).into()).await.unwrap();
    let refused = shard.load_collection(&live).await.map_err(|error| error.code);
    assert_eq!(refused, Err(Code::DataIntegrity));
    store.put(&segments[0].location, good.into()).await.unwrap();
    shard.load_collection(&live).await.unwrap();
    assert_eq!(contents(&live).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_memory_budget_a_write_is_refused_and_leaves_nothing() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = Shard::open(store, Budget::new(100_000), Arc::default()).await.unwrap();
    let live = created(&shard, "c").await;
    let keys: Vec<i64> = (0..10_000).collect();
    let refused = shard.insert(&live, rows(&keys, 0), None).await.map_err(|error| error.code);
    assert_eq!(refused, Err(Code::QuotaExceeded));
    assert_eq!(live.view().row_count(), 0);
    assert_eq!(shard.object_count("batches").await.unwrap(), 0);
}

/// Writes until the log takes writes again.
async fn write_again(shard: &Shard, live: &Arc<LiveCollection>, keys: &[i64], tag: i64) {
    for _ in 0..600 {
        let written = shard.insert(live, rows(keys, tag), Some(Keys::Int(keys.to_vec()))).await;
        match written.map_err(|error| error.code) {
            Ok(_) => return,
            // Refused by the log that failed, or prepared for it and too late.
            Err(Code::Io | Code::Unavailable) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(other) => unreachable!("{other:?}"),
        }
    }
    unreachable!("the log takes no writes though the store is well again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_failed_takes_writes_again_by_itself_and_readers_notice_nothing() {
    let failing = Failing::new();
    let shard = open(&failing.store()).await;
    let live = created(&shard, "c").await;
    shard.insert(&live, rows(&[1, 2], 1), None).await.unwrap();
    let epoch = shard.epoch();
    failing.set(Fault::Refuse);
    let refused = shard.insert(&live, rows(&[3], 2), None).await.map_err(|error| error.code);
    assert_eq!(refused, Err(Code::Io));
    let refused = shard.delete(&live, Keys::Int(vec![1])).await.map_err(|error| error.code);
    assert_eq!(refused, Err(Code::Io), "also while the log is being opened anew");
    assert_eq!(contents(&live), BTreeMap::from([(1, 1), (2, 1)]));
    failing.set(Fault::None);
    write_again(&shard, &live, &[4], 3).await;
    assert_eq!(contents(&live), BTreeMap::from([(1, 1), (2, 1), (4, 3)]));
    assert!(shard.epoch() > epoch);
    let reopened = open(&failing.store()).await;
    assert_eq!(contents(&reopened.collection("c").unwrap()), contents(&live));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_key_is_refused_says_so() {
    let failing = Failing::new();
    let shard = open(&failing.store()).await;
    let live = created(&shard, "c").await;
    failing.set(Fault::Lock);
    let refused = shard.insert(&live, rows(&[1], 1), None).await.map_err(|error| error.code);
    assert_eq!(refused, Err(Code::KeyRevoked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_doubt_is_shown_exactly_if_the_log_has_it() {
    let failing = Failing::new();
    let mut shard = open(&failing.store()).await;
    let mut live = created(&shard, "c").await;
    let mut random = StdRng::seed_from_u64(11);
    let mut model = BTreeMap::new();
    let (mut applied, mut dropped) = (0, 0);
    for round in 0..8 {
        let (kept, doubtful) = (round * 10, round * 10 + 1);
        shard.insert(&live, rows(&[kept], round), None).await.unwrap();
        model.insert(kept, round);
        // The write is lost, or done and reported as lost.
        failing.set(if random.random_bool(0.5) { Fault::Refuse } else { Fault::DoAndRefuse });
        let refused = shard.insert(&live, rows(&[doubtful], round), None).await.map_err(|error| error.code);
        assert_eq!(refused, Err(Code::Io));
        assert_eq!(contents(&live), model, "nothing is shown before the log is known");
        failing.set(Fault::None);
        write_again(&shard, &live, &[kept + 2], round).await;
        model.insert(kept + 2, round);
        match contents(&live).contains_key(&doubtful) {
            true => {
                applied += 1;
                model.insert(doubtful, round);
            }
            false => dropped += 1,
        }
        assert_eq!(contents(&live), model);
        shard = open(&failing.store()).await;
        live = shard.collection("c").unwrap();
        assert_eq!(contents(&live), model, "memory was what the log says");
    }
    assert!(applied > 0 && dropped > 0, "{applied} writes in doubt were part of the log, {dropped} were not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_another_writer_took_is_not_taken_back() {
    let failing = Failing::new();
    let first = open(&failing.store()).await;
    let live = created(&first, "c").await;
    let second = open(&failing.store()).await;
    assert!(first.insert(&live, rows(&[1], 0), None).await.is_err());
    tokio::time::timeout(Duration::from_secs(30), first.lost()).await.unwrap();
    assert!(first.insert(&live, rows(&[1], 0), None).await.is_err());
    let live = second.collection("c").unwrap();
    second.insert(&live, rows(&[2], 0), None).await.unwrap();
    assert_eq!(contents(&live), BTreeMap::from([(2, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_whose_log_failed_leaves_the_one_alone_who_took_it_over() {
    // It tries first when the other has the log already, or it has tried in vain before.
    for outage in [Duration::ZERO, Duration::from_secs(5)] {
        let failing = Failing::new();
        let first = open(&failing.store()).await;
        let live = created(&first, "c").await;
        failing.set(Fault::Refuse);
        let refused = first.insert(&live, rows(&[1], 0), None).await.map_err(|error| error.code);
        assert_eq!(refused, Err(Code::Io));
        tokio::time::sleep(outage).await;
        let second = open(&failing.beside().store()).await;
        failing.set(Fault::None);
        tokio::time::timeout(Duration::from_secs(60), first.lost()).await.unwrap();
        let epoch = second.epoch();
        let live = second.collection("c").unwrap();
        second.insert(&live, rows(&[2], 0), None).await.unwrap();
        assert_eq!(second.epoch(), epoch, "after an outage of {outage:?}");
        assert_eq!(contents(&live), BTreeMap::from([(2, 0)]));
    }
}

/// What the store holds, byte by byte.
async fn stored(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for object in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        found.insert(object.location.to_string(), bytes.to_vec());
    }
    found
}

/// Opens the shard as a release does that knows formats up to `newest`.
async fn open_as(store: &Arc<dyn ObjectStore>, newest: u32) -> Result<Arc<Shard>, vectorkeep_engine::error::Error> {
    Shard::open(store.clone(), Budget::new(1 << 30), Arc::new(Formats::new(newest))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn until_a_newer_format_is_committed_the_release_before_opens_the_shard_again() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open_as(&store, 2).await.unwrap();
    let live = created(&shard, "c").await;
    shard.insert(&live, rows(&[1, 2], 0), None).await.unwrap();
    assert_eq!(shard.format(), 1, "a newer release alone commits to nothing");
    let before = open_as(&store, 1).await.unwrap();
    assert_eq!(contents(&before.collection("c").unwrap()), BTreeMap::from([(1, 0), (2, 0)]));
    before.commit_format(2).await.unwrap();
    assert_eq!(before.format(), 1, "nobody commits to what it doesn't know");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_format_is_refused_by_the_release_before_which_changes_nothing() {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let shard = open_as(&store, 2).await.unwrap();
    let live = created(&shard, "c").await;
    shard.insert(&live, rows(&[1], 0), None).await.unwrap();
    shard.commit_format(2).await.unwrap();
    assert_eq!(shard.format(), 2);
    shard.commit_format(1).await.unwrap();
    assert_eq!(shard.format(), 2, "what was committed is not taken back");
    let refused = open_as(&store, 1).await.unwrap_err();
    assert_eq!(refused.code, Code::NotReady);
    assert!(refused.message.contains("file format 2"), "{refused}");
    // The log was not taken from its writer.
    shard.insert(&live, rows(&[2], 0), None).await.unwrap();
    shard.close().await.unwrap();
    let before = stored(&store).await;
    assert!(open_as(&store, 1).await.is_err());
    assert!(stored(&store).await == before, "something in the store was changed");
    let reopened = open_as(&store, 2).await.unwrap();
    assert_eq!(reopened.format(), 2);
    assert_eq!(contents(&reopened.collection("c").unwrap()), BTreeMap::from([(1, 0), (2, 0)]));
}
