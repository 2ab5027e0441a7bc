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
            let wanted = self.expansion.max(self.limit + EXTRA_CANDIDATES);
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
