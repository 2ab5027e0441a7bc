//! The catalogue of a shard: recovery when it is opened, and the changes of collections and indexes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use prost::Message;
use tokio::sync::OwnedMutexGuard;

use crate::column::Rows;
use crate::error::{Code, Error, Result};
use crate::proto::storage;
use crate::schema::{Collection, Index};
use crate::storage::collection::{LiveCollection, View};
use crate::storage::keys::{self, Kind};
use crate::storage::maintenance::put_segment;
use crate::storage::part::{Delete, Origin, Part};
use crate::storage::shard::{Operation, Shard, decode};

impl Shard {
    /// Brings back what the log holds: collections, segments of loaded ones, growing rows, deletes.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<()> {
        // In the order of their creation. Should two have one name, the newer is found by it, as before the restart.
        let mut collections = Vec::new();
        for (_, value) in self.records(keys::kind(Kind::Collection)).await? {
            let meta = Collection::from_stored(decode("collection", value)?).map_err(|reason| {
                Error::new(Code::DataIntegrity, format!("the record of a collection is damaged: {reason}"))
            })?;
            self.clock.observe(meta.created);
            collections.push(meta);
        }
        for meta in collections {
            let live = self.recover_collection(meta).await?;
            self.collections.write().unwrap_or_else(PoisonError::into_inner).insert(Arc::new(live));
        }
        self.sweep().await
    }

    async fn recover_collection(&self, meta: Collection) -> Result<LiveCollection> {
        let id = meta.id;
        let mut view = View { timestamp: meta.created, ..View::default() };
        for (key, value) in self.records(keys::of_collection(Kind::Batch, id, &[])).await? {
            let (timestamp, number) = match keys::parse(&key) {
                Some((_, numbers)) if numbers.len() == 2 => (numbers[0], numbers[1]),
                _ => return Err(Error::new(Code::DataIntegrity, "the key of a batch is damaged")),
            };
            let batch: storage::Batch = decode("batch", value)?;
            let (stored, object) = match batch.object.is_empty() {
                true => (batch.rows.unwrap_or_default(), None),
                false => (decode("batch", self.object(&batch.object).await?)?, Some(batch.object)),
            };
            let mut rows = rows(&stored)?;
            rows.timestamps = vec![timestamp; rows.count];
            let memory = self.budget.reserve_always(Part::memory_bytes(&rows));
            view.growing.push(Part::new(rows, &meta, Origin::Growing(vec![(timestamp, number, object)]), memory));
            view.timestamp = view.timestamp.max(timestamp);
        }
        for (_, value) in self.records(keys::of_collection(Kind::Segment, id, &[])).await? {
            let segment: storage::Segment = decode("segment", value)?;
            view.timestamp = view.timestamp.max(segment.max_timestamp).max(segment.deletes_applied);
            match meta.loaded {
                true => view.sealed.push(self.read_segment(&meta, segment, true).await?),
                false => view.unloaded.push(segment),
            }
        }
        let deletes = self.records(keys::of_collection(Kind::Deletes, id, &[])).await?;
        let deletes = deletes.into_iter().map(|(_, value)| decode("delete", value).map(Delete::from_stored));
        let live = LiveCollection::new(meta, view, deletes.collect::<Result<_>>()?);
        self.clock.observe(live.view().timestamp);
        Ok(live)
    }

    /// Deletes the objects that a writer before us made or gave up but did not get to adopt or delete.
    async fn sweep(&self) -> Result<()> {
        let garbage = self.records(keys::kind(Kind::Garbage)).await?;
        let names: Vec<_> = garbage.iter().map(|(key, _)| String::from_utf8_lossy(&key[2..]).into_owned()).collect();
        match names.is_empty() {
            true => Ok(()),
            false => self.collect(names).await,
        }
    }

    /// Reads a segment's rows and indexes. `always`: take the memory even past the budget.
    pub(crate) async fn read_segment(
        &self,
        meta: &Collection,
        segment: storage::Segment,
        always: bool,
    ) -> Result<Part> {
        let reserve = |bytes: usize| match always {
            true => Ok(self.budget.reserve_always(bytes)),
            false => self.budget.reserve(bytes),
        };
        let memory = reserve(segment.memory_bytes as usize)?;
        let rows = rows(&decode("segment", self.object(&segment.rows_object).await?)?)?;
        let part = Part::new(rows, meta, Origin::Sealed(segment.clone()), memory);
        let (mut indexes, mut index_memory) = (HashMap::new(), Vec::new());
        for record in &segment.indexes {
            if let Some(index) = self.read_index(meta, &part, record).await? {
                index_memory.push(reserve(index.memory_bytes())?);
                indexes.insert(record.field_id, index);
            }
        }
        Ok(part.with_indexes(indexes, Origin::Sealed(segment), index_memory))
    }

    /// Adds a collection. Its name must be free.
    pub async fn create_collection(&self, mut meta: Collection) -> Result<()> {
        let one = self.change_catalogue().await;
        let epoch = self.epoch();
        if let Ok(existing) = self.collection(&meta.name) {
            let existing = existing.meta.load();
            let same = existing.fields == meta.fields && existing.description == meta.description;
            return match same {
                // Repeating a request that went through is no error in Milvus.
                true => Ok(()),
                false => Err(Error::invalid(format!(
                    "create duplicate collection with different parameters, collection: {}",
                    meta.name
                ))),
            };
        }
        // Ids are timestamps: unique for ever, also after a collection is dropped.
        meta.created = self.clock.next();
        meta.id = (meta.created >> 1) as i64;
        for (number, index) in meta.indexes.iter_mut().enumerate() {
            index.id = meta.id + 1 + number as i64;
        }
        let record = put_collection(&meta);
        let live = Arc::new(LiveCollection::new(meta, View::default(), Vec::new()));
        let publish = self.publish_catalogue(move |collections| collections.insert(live));
        self.commit_since(epoch, one, |_| Ok((vec![record], publish))).await.map(drop)
    }

    /// Removes a collection with everything in it. Removing one that isn't there is no error in Milvus.
    pub async fn drop_collection(&self, name: &str) -> Result<()> {
        let Ok(live) = self.collection(name) else { return Ok(()) };
        // In this order everywhere: who loads or releases holds the first and waits for the second.
        let maintenance = live.maintain().await;
        let one = self.change_catalogue().await;
        if !self.collection(name).is_ok_and(|present| Arc::ptr_eq(&present, &live)) {
            return Ok(());
        }
        let held = (maintenance, one, live.begin_drop());
        self.drop_live(&live, held).await
    }

    async fn drop_live(&self, live: &Arc<LiveCollection>, held: impl Send + 'static) -> Result<()> {
        let epoch = self.epoch();
        // Writes that were already queued come before this; later ones are refused.
        self.barrier().await?;
        let id = live.meta.load().id;
        let view = live.view();
        let mut operations = vec![Operation::Delete(keys::of_collection(Kind::Collection, id, &[]))];
        let mut objects = Vec::new();
        for part in &view.growing {
            release_origin(id, &part.origin, &mut operations, &mut objects);
        }
        for segment in view.segments() {
            release_origin(id, &Origin::Sealed(segment.clone()), &mut operations, &mut objects);
        }
        for timestamp in live.deletes_up_to(u64::MAX) {
            operations.push(Operation::Delete(keys::of_collection(Kind::Deletes, id, &[timestamp])));
        }
        let remove = self.publish_catalogue(move |collections| collections.remove(id));
        let gone = live.clone();
        let publish = move || {
            gone.set_gone();
            remove();
        };
        self.commit_since(epoch, held, |_| Ok((operations, publish))).await?;
        self.collect_or_leave(objects).await;
        Ok(())
    }

    /// Deletes objects of what is gone, whatever becomes of them; the next start deletes those that are left.
    async fn collect_or_leave(&self, objects: Vec<String>) {
        if let Err(error) = self.collect(objects).await {
            tracing::warn!(reason = %error, "objects of what was dropped are left for the next start");
        }
    }

    /// Declares an index; segments get it in the background.
    pub async fn create_index(&self, live: &LiveCollection, mut index: Index) -> Result<()> {
        let one = self.change_catalogue().await;
        let epoch = self.epoch();
        let mut meta = (**live.meta.load()).clone();
        if let Some(existing) = meta.index_on(index.field_id) {
            let same = existing.index_type == index.index_type
                && existing.metric == index.metric
                && existing.params == index.params;
            return match same {
                true => Ok(()),
                false => Err(Error::invalid(format!(
                    "at most one distinct index is allowed per field; drop index {} first",
                    existing.name
                ))),
            };
        }
        index.id = (self.clock.next() >> 1) as i64;
        meta.indexes.push(index);
        let live = self.collection_by_id(meta.id)?;
        let record = put_collection(&meta);
        let publish = move || live.meta.store(Arc::new(meta));
        self.commit_since(epoch, one, |_| Ok((vec![record], publish))).await?;
        self.unindexed.notify_one();
        Ok(())
    }

    /// Removes a declared index, with what the segments have of it: the next one on the field may be another.
    pub async fn drop_index(&self, live: &LiveCollection, field_id: i64) -> Result<()> {
        let maintenance = live.maintain().await;
        let one = self.change_catalogue().await;
        let epoch = self.epoch();
        let mut meta = (**live.meta.load()).clone();
        if meta.loaded && meta.field_by_id(field_id).is_some_and(|field| field.dim > 0) {
            return Err(Error::invalid("the collection is loaded; release it before dropping its vector index"));
        }
        meta.indexes.retain(|index| index.field_id != field_id);
        let mut operations = vec![put_collection(&meta)];
        let mut objects = Vec::new();
        // Only an index on vectors is stored, and those are dropped while no segment is in memory.
        let mut unloaded = live.view().unloaded.clone();
        for segment in &mut unloaded {
            let dropped = segment.indexes.extract_if(.., |index| index.field_id == field_id);
            let dropped: Vec<String> = dropped.map(|index| index.object).collect();
            if !dropped.is_empty() {
                operations.push(put_segment(meta.id, segment));
                operations.extend(dropped.iter().map(|name| Shard::disown(name)));
                objects.extend(dropped);
            }
        }
        let live = self.collection_by_id(meta.id)?;
        let publish = move || match meta.loaded {
            true => live.meta.store(Arc::new(meta)),
            false => live.publish_loaded(meta, Vec::new(), unloaded, 0),
        };
        self.commit_since(epoch, (maintenance, one), |_| Ok((operations, publish))).await?;
        self.collect_or_leave(objects).await;
        Ok(())
    }

    /// Brings a collection's segments into memory and serves it.
    pub async fn load_collection(&self, live: &LiveCollection) -> Result<()> {
        let maintenance = live.maintain().await;
        let epoch = self.epoch();
        if live.meta.load().loaded {
            return Ok(());
        }
        let view = live.view();
        let mut loaded = Vec::new();
        for segment in &view.unloaded {
            let part = self.read_segment(&live.meta.load(), segment.clone(), false).await?;
            loaded.push(live.with_deletes_after(part, segment.deletes_applied));
        }
        self.set_loaded(live, epoch, maintenance, Some((loaded, view.timestamp)), Vec::new()).await?;
        // Segments that were stored while it was not in memory have no index yet.
        self.unindexed.notify_one();
        Ok(())
    }

    /// Takes a collection out of memory. Its data stays.
    pub async fn release_collection(&self, live: &LiveCollection) -> Result<()> {
        let maintenance = live.maintain().await;
        let epoch = self.epoch();
        if !live.meta.load().loaded {
            return Ok(());
        }
        let segments = live.view().segments().cloned().collect();
        self.set_loaded(live, epoch, maintenance, None, segments).await
    }

    /// `loaded`: the segments that are in memory from now on, and up to where deletes are applied to them.
    async fn set_loaded(
        &self,
        live: &LiveCollection,
        epoch: u64,
        maintenance: OwnedMutexGuard<()>,
        loaded: Option<(Vec<Part>, u64)>,
        unloaded: Vec<storage::Segment>,
    ) -> Result<()> {
        let one = self.change_catalogue().await;
        let mut meta = (**live.meta.load()).clone();
        meta.loaded = loaded.is_some();
        let (parts, seen) = loaded.unwrap_or_default();
        let live = self.collection_by_id(meta.id)?;
        let record = put_collection(&meta);
        let publish = move || live.publish_loaded(meta, parts, unloaded, seen);
        self.commit_since(epoch, (maintenance, one), |_| Ok((vec![record], publish))).await.map(drop)
    }

    /// A publication that changes the map of collections.
    fn publish_catalogue<F>(&self, change: F) -> impl FnOnce() + Send + 'static
    where
        F: FnOnce(&mut crate::storage::collection::Collections) + Send + 'static,
    {
        let collections = self.collections.clone();
        move || change(&mut collections.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Adds the operations that remove what `origin` stores, and the objects that become garbage.
pub(crate) fn release_origin(id: i64, origin: &Origin, operations: &mut Vec<Operation>, objects: &mut Vec<String>) {
    match origin {
        Origin::Growing(batches) => {
            for (timestamp, number, object) in batches {
                operations.push(Operation::Delete(keys::of_collection(Kind::Batch, id, &[*timestamp, *number])));
                objects.extend(object.clone());
                operations.extend(object.as_deref().map(Shard::disown));
            }
        }
        Origin::Sealed(segment) => {
            operations.push(Operation::Delete(keys::of_collection(Kind::Segment, id, &[segment.id])));
            let names: HashSet<_> =
                segment.indexes.iter().map(|index| &index.object).chain([&segment.rows_object]).collect();
            for name in names {
                operations.push(Shard::disown(name));
                objects.push(name.clone());
            }
        }
    }
}

fn put_collection(meta: &Collection) -> Operation {
    Operation::Put(keys::of_collection(Kind::Collection, meta.id, &[]), meta.to_stored().encode_to_vec().into())
}

fn rows(stored: &storage::Rows) -> Result<Rows> {
    Rows::from_stored(stored)
        .map_err(|reason| Error::new(Code::DataIntegrity, format!("stored rows are damaged: {reason}")))
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStore;
    use object_store::memory::InMemory;

    use super::*;
    use crate::budget::Budget;
    use crate::storage::part::tests::collection;

    async fn open(store: &Arc<dyn ObjectStore>) -> Arc<Shard> {
        Shard::open(store.clone(), Budget::new(1 << 20), Arc::default()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_collections_with_one_name_the_newest_is_found_by_it_after_every_restart() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let shard = open(&store).await;
        shard.create_collection(collection()).await.unwrap();
        let newest = (**shard.collection("c").unwrap().meta.load()).clone();
        let older: Vec<_> =
            (1..10).map(|age| put_collection(&Collection { id: newest.id - age, ..newest.clone() })).collect();
        shard.commit(|_| Ok((older, || {}))).await.unwrap();
        let reopened = open(&store).await;
        assert_eq!(reopened.collections().len(), 10);
        assert_eq!(reopened.collection("c").unwrap().meta.load().id, newest.id);
        let others: Vec<_> = reopened.collections().into_iter().map(|live| live.meta.load().id).collect();
        let mut collections = reopened.collections.write().unwrap();
        collections.remove(others[0]);
        assert!(collections.by_name("c").is_some_and(|live| live.meta.load().id == newest.id), "another was removed");
    }
}
