//! A part: rows that a reader searches as one, with the keys to find them and the rows already deleted.
//!
//! Growing batches and sealed segments are both parts. The rows never change; which of them are deleted does, by
//! replacing the part with one that shares everything else.

use std::collections::HashMap;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use crate::budget::Reservation;
use crate::column::{Rows, Values};
use crate::filter::PrimaryKeys;
use crate::proto::storage;
use crate::schema::Collection;
use crate::storage::index::VectorIndex;

/// Primary keys named by a request or a delete record.
#[derive(Debug, Clone, PartialEq)]
pub enum Keys {
    /// Keys of an Int64 primary key.
    Int(Vec<i64>),
    /// Keys of a VarChar primary key.
    Text(Vec<String>),
}

impl Keys {
    /// Number of keys.
    pub fn len(&self) -> usize {
        match self {
            Self::Int(keys) => keys.len(),
            Self::Text(keys) => keys.len(),
        }
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of the rows in `keep`.
    pub fn of_rows(rows: &Rows, primary_key: i64, keep: impl Iterator<Item = usize>) -> Self {
        match rows.column(primary_key).map(|column| &column.values) {
            Some(Values::Int64(values)) => Self::Int(keep.map(|row| values[row]).collect()),
            Some(Values::VarChar(values)) => Self::Text(keep.map(|row| values.text(row).to_owned()).collect()),
            _ => Self::Int(Vec::new()),
        }
    }

    /// The stored record of deleting these keys at `timestamp`.
    pub fn to_stored(&self, timestamp: u64) -> storage::Deletes {
        let (int_keys, string_keys) = match self {
            Self::Int(keys) => (keys.clone(), Vec::new()),
            Self::Text(keys) => (Vec::new(), keys.clone()),
        };
        storage::Deletes { timestamp, int_keys, string_keys }
    }
}

impl From<PrimaryKeys> for Keys {
    /// Each key once.
    fn from(keys: PrimaryKeys) -> Self {
        match keys {
            PrimaryKeys::Int64(mut keys) => {
                keys.sort_unstable();
                keys.dedup();
                Self::Int(keys)
            }
            PrimaryKeys::VarChar(mut keys) => {
                keys.sort_unstable();
                keys.dedup();
                Self::Text(keys)
            }
        }
    }
}

/// A delete: rows with one of the keys and a smaller timestamp are gone.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Delete {
    pub timestamp: u64,
    pub keys: Keys,
}

impl Delete {
    /// From the stored record.
    pub fn from_stored(stored: storage::Deletes) -> Self {
        let keys = match stored.string_keys.is_empty() {
            true => Keys::Int(stored.int_keys),
            false => Keys::Text(stored.string_keys),
        };
        Self { timestamp: stored.timestamp, keys }
    }
}

/// Where a part's rows are stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Batches of the log: timestamp and part number of each, with the object that holds it if it isn't inline.
    Growing(Vec<(u64, u64, Option<String>)>),
    /// A sealed segment.
    Sealed(storage::Segment),
}

/// See the module's documentation.
#[derive(Clone)]
pub struct Part {
    /// The rows.
    pub rows: Arc<Rows>,
    /// Rows that no reader sees any more.
    pub deleted: Arc<FixedBitSet>,
    /// Indexes of the vector fields that have one, by field id.
    pub indexes: Arc<HashMap<i64, Arc<dyn VectorIndex>>>,
    /// Where the rows are stored.
    pub origin: Arc<Origin>,
    primary_key: usize,
    /// Row ordinals in the order of their primary keys.
    by_key: Arc<Vec<u32>>,
    /// What the rows and the indexes take of the memory budget.
    rows_memory: Vec<Arc<Reservation>>,
    _indexes_memory: Arc<Vec<Reservation>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("rows", &self.rows.count).field("deleted", &self.deleted.count_ones(..)).finish()
    }
}

impl Part {
    /// A part of `rows` of `collection`, none of them deleted.
    pub fn new(rows: Rows, collection: &Collection, origin: Origin, memory: Reservation) -> Self {
        Self::joined(rows, collection, origin, vec![Arc::new(memory)])
    }

    /// A part of rows that came from other parts and go on using their memory reservations.
    pub fn joined(rows: Rows, collection: &Collection, origin: Origin, memory: Vec<Arc<Reservation>>) -> Self {
        let primary_key = collection.primary_key().id;
        let position = rows.columns.iter().position(|column| column.field_id == primary_key).unwrap_or_default();
        let mut by_key: Vec<u32> = (0..rows.count as u32).collect();
        match rows.columns.get(position).map(|column| &column.values) {
            Some(Values::Int64(keys)) => by_key.sort_by_key(|row| keys[*row as usize]),
            Some(Values::VarChar(keys)) => {
                by_key.sort_by(|a, b| keys.get(*a as usize).cmp(keys.get(*b as usize)));
            }
            _ => {}
        }
        Self {
            deleted: Arc::new(FixedBitSet::with_capacity(rows.count)),
            rows: Arc::new(rows),
            indexes: Arc::default(),
            origin: Arc::new(origin),
            primary_key: position,
            by_key: Arc::new(by_key),
            rows_memory: memory,
            _indexes_memory: Arc::default(),
        }
    }

    /// The memory reservations of the rows, for a part that takes them over.
    pub fn share_memory(&self) -> Vec<Arc<Reservation>> {
        self.rows_memory.clone()
    }

    /// Bytes that a part of `rows` takes beside its indexes.
    pub fn memory_bytes(rows: &Rows) -> usize {
        rows.memory_bytes() + 4 * rows.count + rows.count / 8
    }

    /// The same part with other indexes, which took `memory` of the budget.
    pub fn with_indexes(
        &self,
        indexes: HashMap<i64, Arc<dyn VectorIndex>>,
        origin: Origin,
        memory: Vec<Reservation>,
    ) -> Self {
        Self { indexes: Arc::new(indexes), origin: Arc::new(origin), _indexes_memory: Arc::new(memory), ..self.clone() }
    }

    /// The same part with other rows deleted.
    pub fn with_deleted(self, deleted: Arc<FixedBitSet>) -> Self {
        Self { deleted, ..self }
    }

    /// Rows that a reader sees.
    pub fn live(&self) -> FixedBitSet {
        let mut live = (*self.deleted).clone();
        live.toggle_range(..);
        live
    }

    /// Number of rows that a reader sees.
    pub fn live_count(&self) -> usize {
        self.rows.count - self.deleted.count_ones(..)
    }

    /// Rows with one of `keys`, deleted ones included.
    pub fn find(&self, keys: &Keys) -> Vec<u32> {
        let mut found = Vec::new();
        match (self.rows.columns.get(self.primary_key).map(|column| &column.values), keys) {
            (Some(Values::Int64(values)), Keys::Int(keys)) => {
                let value = |at: usize| values[self.by_key[at] as usize];
                for key in keys {
                    let start = partition_point(self.by_key.len(), |at| value(at) < *key);
                    found.extend(
                        (start..self.by_key.len()).take_while(|at| value(*at) == *key).map(|at| self.by_key[at]),
                    );
                }
            }
            (Some(Values::VarChar(values)), Keys::Text(keys)) => {
                let value = |at: usize| values.get(self.by_key[at] as usize);
                for key in keys.iter().map(String::as_bytes) {
                    let start = partition_point(self.by_key.len(), |at| value(at) < key);
                    found.extend(
                        (start..self.by_key.len()).take_while(|at| value(*at) == key).map(|at| self.by_key[at]),
                    );
                }
            }
            _ => {}
        }
        found
    }

    /// The part with `delete` applied, or `None` if that changes nothing.
    pub fn with_delete(&self, delete: &Delete) -> Option<Self> {
        let gone: Vec<usize> = self
            .find(&delete.keys)
            .into_iter()
            .map(|row| row as usize)
            .filter(|row| self.rows.timestamps[*row] < delete.timestamp && !self.deleted.contains(*row))
            .collect();
        if gone.is_empty() {
            return None;
        }
        let mut deleted = (*self.deleted).clone();
        gone.into_iter().for_each(|row| deleted.insert(row));
        Some(Self { deleted: Arc::new(deleted), ..self.clone() })
    }

    /// The batches of the log that hold the rows, if the part is growing.
    pub fn batches(&self) -> &[(u64, u64, Option<String>)] {
        match &*self.origin {
            Origin::Growing(batches) => batches,
            Origin::Sealed(_) => &[],
        }
    }

    /// The segment's record, if the part is sealed.
    pub fn segment(&self) -> Option<&storage::Segment> {
        match &*self.origin {
            Origin::Sealed(segment) => Some(segment),
            Origin::Growing(_) => None,
        }
    }
}

/// The first of `0..len` for which `before` does not hold.
fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::column::Column;
    use crate::proto::schema::DataType;
    use crate::schema::Field;

    /// A collection of keys.
    pub(crate) fn collection() -> Collection {
        let field = Field {
            id: 100,
            name: "id".into(),
            data_type: DataType::Int64,
            description: String::new(),
            primary_key: true,
            auto_id: false,
            nullable: false,
            dynamic: false,
            dim: 0,
            max_length: 0,
            default_value: None,
        };
        Collection {
            id: 1,
            name: "c".into(),
            description: String::new(),
            fields: vec![field],
            indexes: Vec::new(),
            loaded: true,
            created: 0,
            consistency_level: 0,
            properties: HashMap::new(),
        }
    }

    pub(crate) fn part(keys: &[i64], timestamps: &[u64], origin: Origin) -> Part {
        let column = Column { field_id: 100, validity: None, values: Values::Int64(keys.to_vec()) };
        let rows = Rows { count: keys.len(), columns: vec![column], timestamps: timestamps.to_vec() };
        Part::joined(rows, &collection(), origin, Vec::new())
    }

    #[test]
    fn a_delete_removes_only_older_rows_with_its_keys() {
        let part = part(&[5, 3, 5, 9], &[10, 10, 20, 10], Origin::Growing(Vec::new()));
        let delete = Delete { timestamp: 20, keys: Keys::Int(vec![5, 4]) };
        let after = part.with_delete(&delete).map(|part| part.live().ones().collect::<Vec<_>>());
        assert_eq!(after, Some(vec![1, 2, 3]));
        assert!(part.with_delete(&Delete { timestamp: 10, keys: Keys::Int(vec![5]) }).is_none());
    }
}
