//! Vector search over one view of a collection.
//!
//! Every part is searched for itself, by its index or by an exact scan of the rows that the filter leaves, whichever is
//! cheaper; the results are ranked by exact distances and merged.

use std::collections::HashSet;

use fixedbitset::FixedBitSet;
use vectorkeep_distance::{Metric, Neighbor};

use crate::column::Values;
use crate::error::{Code, Error, Result};
use crate::filter::Filter;
use crate::query::output::{KeyRef, Row};
use crate::storage::collection::View;
use crate::storage::part::Part;

/// Up to one row in so many left by a filter, scanning them beats walking the graph around the others.
const SCAN_ONE_ROW_IN: usize = 8;
/// Index candidates are ranked exactly; so many more than wanted make up for the index's rounding.
const EXTRA_CANDIDATES: usize = 16;

/// What to search for.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Search<'a> {
    pub field_id: i64,
    pub primary_key: i64,
    pub metric: Metric,
    pub dim: usize,
    /// Rows to find per query vector.
    pub limit: usize,
    /// Candidates that an index looks at (HNSW's ef).
    pub expansion: usize,
    pub filter: &'a Filter,
    /// Whether rows that are in no segment yet count too.
    pub growing: bool,
}

/// One result.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Hit {
    pub row: Row,
    /// As the client sees it: similarity for COSINE and IP, squared distance for L2.
    pub score: f32,
}

impl Search<'_> {
    /// Memory that [`Search::run`] takes for what it finds.
    pub fn bytes(&self, view: &View, queries: usize) -> usize {
        let found: usize = view.parts().map(|part| part.rows.count.min(self.limit)).sum();
        queries * (found * size_of::<(usize, Neighbor)>() + found.min(self.limit) * size_of::<Hit>())
    }

    /// The nearest rows for each of `queries`, nearest first.
    pub fn run(&self, view: &View, queries: &[&[f32]]) -> Result<Vec<Vec<Hit>>> {
        let parts: Vec<&Part> = view.parts().collect();
        let searched = if self.growing { parts.len() } else { view.sealed.len() };
        let mut found: Vec<Vec<(usize, Neighbor)>> = vec![Vec::new(); queries.len()];
        for (number, part) in parts[..searched].iter().enumerate() {
            let candidates = Candidates::new(part, self.filter);
            for (query, found) in queries.iter().zip(&mut found) {
                let nearest = self.search_part(part, &candidates, query)?;
                found.extend(nearest.into_iter().map(|neighbor| (number, neighbor)));
            }
        }
        Ok(found.into_iter().map(|found| self.merge(&parts, found)).collect())
    }

    fn search_part(&self, part: &Part, candidates: &Candidates, query: &[f32]) -> Result<Vec<Neighbor>> {
        let Some(column) = part.rows.column(self.field_id) else { return Ok(Vec::new()) };
        let Values::FloatVector { values, .. } = &column.values else {
            return Err(Error::new(Code::DataIntegrity, "a vector column holds something else"));
        };
        if candidates.count == 0 {
            return Ok(Vec::new());
        }
        if let Some(index) = part.indexes.get(&self.field_id).filter(|_| candidates.worth_an_index(part)) {
            let wanted = self.expansion.max(self.limit + EXTRA_CANDIDATES).min(part.rows.count);
            let keep = |row: u32| candidates.rows.contains(row as usize);
            let keep: Option<&dyn Fn(u32) -> bool> = if candidates.all { None } else { Some(&keep) };
            let near = index.search(query, wanted, keep)?;
            // A walk that found too little was cut short; the scan below finds the rest.
            if near.len() >= self.limit.min(candidates.count) {
                return Ok(vectorkeep_distance::rank(self.metric, query, values, &near, self.limit));
            }
        }
        Ok(vectorkeep_distance::scan(self.metric, query, values, &candidates.rows, self.limit))
    }

    /// The best of all parts; of rows with one primary key, only the nearest.
    fn merge(&self, parts: &[&Part], mut found: Vec<(usize, Neighbor)>) -> Vec<Hit> {
        found.sort_by(|(part_a, a), (part_b, b)| a.cmp(b).then(part_a.cmp(part_b)));
        let mut seen = HashSet::with_capacity(self.limit);
        let mut hits = Vec::with_capacity(self.limit.min(found.len()));
        for (part, neighbor) in found {
            let row = Row { part, row: neighbor.row as usize };
            if hits.len() < self.limit && seen.insert(KeyRef::of(parts[part], self.primary_key, row.row)) {
                hits.push(Hit { row, score: self.metric.score(neighbor.distance) });
            }
        }
        hits
    }
}

/// Rows of a part that a search may return.
struct Candidates {
    rows: FixedBitSet,
    count: usize,
    all: bool,
}

impl Candidates {
    fn new(part: &Part, filter: &Filter) -> Self {
        let mut rows = part.live();
        if !filter.is_all() {
            rows.intersect_with(&filter.evaluate(&part.rows));
        }
        let count = rows.count_ones(..);
        Self { all: count == part.rows.count, rows, count }
    }

    fn worth_an_index(&self, part: &Part) -> bool {
        self.count * SCAN_ONE_ROW_IN > part.rows.count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::column::{Column, Rows};
    use crate::storage::index::VectorIndex;
    use crate::storage::part::{Origin, tests::collection};

    const KEY: i64 = 100;
    const VECTOR: i64 = 101;

    /// Finds the first rows, and remembers how many it was asked for.
    struct Asked(Arc<AtomicUsize>);

    impl VectorIndex for Asked {
        fn search(&self, _: &[f32], count: usize, _: Option<&dyn Fn(u32) -> bool>) -> Result<Vec<u32>> {
            self.0.store(count, Ordering::Relaxed);
            Ok((0..count as u32).collect())
        }

        fn to_bytes(&self) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }

        fn memory_bytes(&self) -> usize {
            0
        }
    }

    fn part(count: usize, index: Arc<dyn VectorIndex>) -> Part {
        let column = |field_id, values| Column { field_id, validity: None, values };
        let vectors = (0..count).map(|row| row as f32).collect();
        let rows = Rows {
            count,
            columns: vec![
                column(KEY, Values::Int64((0..count as i64).collect())),
                column(VECTOR, Values::FloatVector { dim: 1, values: vectors }),
            ],
            timestamps: vec![1; count],
        };
        let origin = Origin::Growing(Vec::new());
        let part = Part::joined(rows, &collection(), origin.clone(), Vec::new());
        part.with_indexes(HashMap::from([(VECTOR, index)]), origin, Vec::new())
    }

    #[test]
    fn an_index_is_not_asked_for_more_rows_than_it_has() {
        let asked = Arc::new(AtomicUsize::new(0));
        let view = View { sealed: vec![part(20, Arc::new(Asked(asked.clone())))], ..View::default() };
        let filter = Filter::all();
        let search = |limit, expansion| Search {
            field_id: VECTOR,
            primary_key: KEY,
            metric: Metric::L2,
            dim: 1,
            limit,
            expansion,
            filter: &filter,
            growing: true,
        };
        for (limit, expansion, wanted) in [(3, 1_000_000, 20), (1_000_000, 1, 20), (1, 18, 18), (1, 1, 17)] {
            let hits = search(limit, expansion).run(&view, &[&[5.0]]).unwrap();
            assert_eq!(asked.load(Ordering::Relaxed), wanted, "limit {limit}, expansion {expansion}");
            assert_eq!((hits[0].len(), hits[0][0].row.row), (limit.min(20), 5));
        }
    }
}
