//! Who writes to a collection at the same time.
//!
//! A delete by filter finds keys in a view and removes, at a later timestamp, every row that has them. A write between
//! the two would be lost, though its row never met the filter: so such a delete is alone, and all other writes share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The writers of all collections, which are told apart by their ids. Two databases may use the same id; then writes
/// wait for each other without need.
#[derive(Debug, Default)]
pub struct Writers {
    collections: Mutex<HashMap<i64, Weak<RwLock<()>>>>,
}

impl Writers {
    /// Waits until no delete by filter is at work on the collection, and keeps the next one waiting.
    pub async fn share(&self, collection: i64) -> OwnedRwLockReadGuard<()> {
        self.of(collection).read_owned().await
    }

    /// Waits until nobody writes to the collection, and keeps everybody else waiting.
    pub async fn alone(&self, collection: i64) -> OwnedRwLockWriteGuard<()> {
        self.of(collection).write_owned().await
    }

    fn of(&self, collection: i64) -> Arc<RwLock<()>> {
        let mut collections = self.collections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(present) = collections.get(&collection).and_then(Weak::upgrade) {
            return present;
        }
        collections.retain(|_, writers| writers.strong_count() > 0);
        let writers = Arc::default();
        collections.insert(collection, Arc::downgrade(&writers));
        writers
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn writers_share_a_collection_and_a_delete_by_filter_has_it_alone() {
        let writers = Writers::default();
        let (first, second) = (writers.share(1).now_or_never(), writers.share(1).now_or_never());
        assert!(first.is_some() && second.is_some());
        assert!(writers.alone(1).now_or_never().is_none() && writers.alone(2).now_or_never().is_some());
        drop((first, second));
        let alone = writers.alone(1).now_or_never();
        assert!(alone.is_some() && writers.share(1).now_or_never().is_none());
        drop(alone);
        assert!(writers.share(1).now_or_never().is_some());
    }

    #[test]
    fn collections_that_nobody_writes_to_are_forgotten() {
        let writers = Writers::default();
        let held = writers.share(0).now_or_never();
        for collection in 1..100 {
            assert!(writers.share(collection).now_or_never().is_some());
        }
        assert!(held.is_some() && writers.collections.lock().unwrap().len() <= 2);
    }
}
