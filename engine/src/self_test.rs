//! A hidden collection whose rows are read and searched whenever the engine is unlocked: it shows that this build still
//! understands what an earlier one stored.
//!
//! It lies in the system shard, which no database serves, so clients can't name it. Its rows are written once and
//! become a segment, which is read from the store for each test. The catalogue never lists it as loaded, so that a
//! damaged segment fails the test and not the start. Releases share it: what is written here must stay as it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use vectorkeep_distance::Metric;

use crate::column::{Column, Rows, Values};
use crate::error::{Code, Error, Result};
use crate::filter::Filter;
use crate::proto::schema::DataType;
use crate::query::output::{KeyRef, Row};
use crate::query::retrieve::retrieve;
use crate::query::search::Search;
use crate::schema::{Collection, FIRST_FIELD_ID, Field, Index};
use crate::storage::collection::{LiveCollection, View};
use crate::storage::part::Part;
use crate::storage::shard::Shard;

const NAME: &str = "self-test";
const KEY: i64 = FIRST_FIELD_ID;
const VECTOR: i64 = FIRST_FIELD_ID + 1;
const DIM: usize = 8;
/// Keys are 0 up to here.
const ROWS: i64 = 16;

/// The outcome of the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTest {
    /// Whether every row was found by its key and by its vector.
    pub passed: bool,
    /// What went wrong; empty if nothing did.
    pub message: String,
    /// Wall-clock time of the test.
    pub at: SystemTime,
}

impl SelfTest {
    /// Runs the test in the system shard, whose collection is made first if it isn't there.
    pub async fn run(system: &Shard) -> Self {
        let outcome = test(system).await;
        if let Err(error) = &outcome {
            tracing::error!(code = error.code as i32, reason = %error, "the self-test failed");
        }
        let passed = outcome.is_ok();
        let message = outcome.err().map(|error| error.message).unwrap_or_default();
        Self { passed, message, at: SystemTime::now() }
    }
}

async fn test(system: &Shard) -> Result<()> {
    let live = prepared(system).await?;
    let (meta, view) = (live.meta.load_full(), stored(system, &live).await?);
    (0..ROWS).try_for_each(|key| check(&meta, &view, key))
}

/// The collection, with its rows in a segment. What an earlier start did not finish is finished.
async fn prepared(system: &Shard) -> Result<Arc<LiveCollection>> {
    system.create_collection(collection()).await?;
    let live = system.collection(NAME)?;
    if live.view().row_count() == 0 {
        system.insert(&live, rows(), None).await?;
    }
    if !live.view().growing.is_empty() {
        system.flush_collection(&live).await?;
    }
    Ok(live)
}

/// The collection's segments, read from the store.
async fn stored(system: &Shard, live: &LiveCollection) -> Result<View> {
    let (meta, listed) = (live.meta.load_full(), live.view());
    let mut view = View { timestamp: listed.timestamp, ..View::default() };
    for segment in &listed.unloaded {
        let part = system.read_segment(&meta, segment.clone(), true).await?;
        view.sealed.push(live.with_deletes_after(part, segment.deletes_applied));
    }
    Ok(view)
}

/// Whether the row with `key` is found by it and by its vector.
fn check(meta: &Collection, view: &View, key: i64) -> Result<()> {
    let parts: Vec<&Part> = view.parts().collect();
    let (vector, all) = (vector(key), Filter::all());
    let filter = Filter::parse(&format!("id == {key}"), meta, &HashMap::new())?;
    let found = retrieve(view, &filter, KEY, false);
    let [row] = found[..] else {
        return Err(failed(format!("{} rows have the key {key} instead of one", found.len())));
    };
    if stored_vector(&parts, row) != Some(&vector[..]) {
        return Err(failed(format!("the row with the key {key} has another vector")));
    }
    let search = Search {
        field_id: VECTOR,
        primary_key: KEY,
        metric: Metric::L2,
        dim: DIM,
        limit: 1,
        expansion: DIM,
        filter: &all,
        growing: false,
    };
    let hits = search.run(view, &[vector.as_slice()])?;
    let nearest = hits.first().and_then(|hits| hits.first());
    match nearest.map(|hit| (KeyRef::of(parts[hit.row.part], KEY, hit.row.row), hit.score)) {
        Some((KeyRef::Int(nearest), 0.0)) if nearest == key => Ok(()),
        _ => Err(failed(format!("a search for the vector of the row with the key {key} does not find it"))),
    }
}

fn stored_vector<'a>(parts: &[&'a Part], row: Row) -> Option<&'a [f32]> {
    match &parts[row.part].rows.column(VECTOR)?.values {
        Values::FloatVector { values, .. } => values.chunks(DIM).nth(row.row),
        _ => None,
    }
}

fn failed(what: String) -> Error {
    Error::new(Code::DataIntegrity, what)
}

fn collection() -> Collection {
    Collection {
        id: 0,
        name: NAME.into(),
        description: String::new(),
        fields: vec![field(KEY, "id", DataType::Int64), field(VECTOR, "vector", DataType::FloatVector)],
        indexes: vec![Index {
            id: 0,
            name: "vector".into(),
            field_id: VECTOR,
            index_type: "FLAT".into(),
            metric: Metric::L2.name().into(),
            params: HashMap::new(),
        }],
        loaded: false,
        created: 0,
        consistency_level: 0,
        properties: HashMap::new(),
    }
}

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
        dim: if data_type == DataType::FloatVector { DIM } else { 0 },
        max_length: 0,
        default_value: None,
    }
}

fn rows() -> Rows {
    let column = |field_id, values| Column { field_id, validity: None, values };
    Rows {
        count: ROWS as usize,
        columns: vec![
            column(KEY, Values::Int64((0..ROWS).collect())),
            column(VECTOR, Values::FloatVector { dim: DIM, values: (0..ROWS).flat_map(vector).collect() }),
        ],
        timestamps: vec![0; ROWS as usize],
    }
}

/// Another one for each key.
fn vector(key: i64) -> Vec<f32> {
    (0..DIM as i64).map(|value| ((31 * key + 17 * value) % 101) as f32).collect()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;
    use crate::budget::Budget;
    use crate::storage::part::Keys;

    async fn open(store: &Arc<dyn ObjectStore>) -> Arc<Shard> {
        Shard::open(store.clone(), Budget::new(1 << 20), Arc::default()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn its_rows_are_written_once_and_read_at_every_start() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for start in 0..3 {
            let shard = open(&store).await;
            let outcome = SelfTest::run(&shard).await;
            assert!(outcome.passed && outcome.message.is_empty(), "start {start}: {outcome:?}");
            assert_eq!(shard.object_count("segments").await.unwrap(), 1, "start {start}");
            let live = shard.collection(NAME).unwrap();
            assert!(!live.meta.load().loaded && live.view().growing.is_empty() && live.view().sealed.is_empty());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_an_earlier_start_did_not_finish_is_finished() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        shard.create_collection(collection()).await.unwrap();
        assert!(SelfTest::run(open(&store).await.as_ref()).await.passed, "a collection without rows");

        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        shard.create_collection(collection()).await.unwrap();
        shard.insert(&shard.collection(NAME).unwrap(), rows(), None).await.unwrap();
        assert!(SelfTest::run(open(&store).await.as_ref()).await.passed, "rows that are in no segment");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_missing_row_fails_it() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        assert!(SelfTest::run(&shard).await.passed);
        shard.delete(&shard.collection(NAME).unwrap(), Keys::Int(vec![3])).await.unwrap();
        let outcome = SelfTest::run(&shard).await;
        let at_the_next_start = SelfTest::run(open(&store).await.as_ref()).await;
        for outcome in [outcome, at_the_next_start] {
            assert_eq!((outcome.passed, &*outcome.message), (false, "0 rows have the key 3 instead of one"));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_vector_fails_it() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        shard.create_collection(collection()).await.unwrap();
        let mut rows = rows();
        if let Values::FloatVector { values, .. } = &mut rows.columns[1].values {
            values[5 * DIM] += 1.0;
        }
        shard.insert(&shard.collection(NAME).unwrap(), rows, None).await.unwrap();
        let outcome = SelfTest::run(&shard).await;
        assert_eq!((outcome.passed, &*outcome.message), (false, "the row with the key 5 has another vector"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_segment_fails_it_and_the_shard_opens_all_the_same() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        assert!(SelfTest::run(open(&store).await.as_ref()).await.passed);
        let segments: Vec<_> = store.list(Some(&"segments".into())).try_collect().await.unwrap();
        let good = store.get(&segments[0].location).await.unwrap().bytes().await.unwrap();
        store.put(&segments[0].location, good.slice(..good.len() - 3).into()).await.unwrap();
        let shard = open(&store).await;
        let outcome = SelfTest::run(&shard).await;
        assert!(!outcome.passed && outcome.message.contains("damaged"), "{outcome:?}");
    }

    #[test]
    fn no_two_rows_have_the_same_vector() {
        let vectors: Vec<_> = (0..ROWS).map(vector).collect();
        assert!((0..vectors.len()).all(|row| !vectors[..row].contains(&vectors[row])));
    }
}
