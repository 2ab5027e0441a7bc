//! Vector indexes over the rows of one immutable segment.
//!
//! Keys are row ordinals, and nothing is ever removed from an index: rows that are deleted or filtered out are left
//! out of a search by its predicate. Serialised bytes come from authenticated objects only.

use std::sync::{Condvar, Mutex, PoisonError};

use usearch::ffi::{IndexOptions, MetricKind, ScalarKind};
use vectorkeep_distance::Metric;

use crate::error::{Code, Error, Result};

/// Approximate nearest neighbours among the rows of one segment.
pub trait VectorIndex: Send + Sync {
    /// At most `count` rows near `query` that `keep` accepts, roughly nearest first. Distances are not reported: the
    /// caller ranks the rows by their exact vectors.
    fn search(&self, query: &[f32], count: usize, keep: Option<&dyn Fn(u32) -> bool>) -> Result<Vec<u32>>;

    /// The index as bytes, for [`open`].
    fn to_bytes(&self) -> Result<Vec<u8>>;

    /// Bytes that the index takes in memory.
    fn memory_bytes(&self) -> usize;
}

/// What an index is built with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IndexParams {
    /// How distances are measured.
    pub metric: Metric,
    /// Neighbours per node (HNSW's M).
    pub connectivity: usize,
    /// Candidates looked at when a row is added (efConstruction).
    pub expansion: usize,
}

/// Builds an index over `vectors` (row-major, `dim` values per row) on `threads` threads.
pub fn build(params: IndexParams, dim: usize, vectors: &[f32], threads: usize) -> Result<Box<dyn VectorIndex>> {
    let index = Usearch::new(params, dim)?;
    let (rows, threads) = (vectors.len() / dim, threads.max(1));
    index.reserve(rows, threads)?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    const STRIDE: usize = 256;
    let add_rows = || -> Result<()> {
        loop {
            let start = next.fetch_add(STRIDE, std::sync::atomic::Ordering::Relaxed);
            if start >= rows {
                return Ok(());
            }
            for row in start..rows.min(start + STRIDE) {
                index.graph.add(row as u64, &vectors[row * dim..(row + 1) * dim]).map_err(failed)?;
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(add_rows)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::new(Code::Unexpected, "an index builder thread died")))
        })
    })?;
    Ok(Box::new(index))
}

/// Opens an index of `rows` rows from the bytes that [`VectorIndex::to_bytes`] gave.
pub fn open(params: IndexParams, dim: usize, rows: usize, bytes: &[u8]) -> Result<Box<dyn VectorIndex>> {
    let index = Usearch::new(params, dim)?;
    index.graph.load_from_buffer(bytes).map_err(failed)?;
    if index.graph.size() != rows || index.graph.dimensions() != dim {
        return Err(Error::new(Code::DataIntegrity, "a vector index does not belong to its segment"));
    }
    // What loading reserves comes from the library's own count of the cores.
    index.reserve(rows, 1)?;
    Ok(Box::new(index))
}

struct Usearch {
    graph: usearch::Index,
    searches: Slots,
}

impl Usearch {
    fn new(params: IndexParams, dim: usize) -> Result<Self> {
        let options = IndexOptions {
            dimensions: dim,
            metric: match params.metric {
                Metric::Cosine => MetricKind::Cos,
                Metric::L2 => MetricKind::L2sq,
                Metric::Ip => MetricKind::IP,
            },
            // Half the memory and twice the speed of f32; exact ranking afterwards makes up for the rounding.
            quantization: ScalarKind::BF16,
            connectivity: params.connectivity,
            expansion_add: params.expansion,
            expansion_search: 64,
            multi: false,
        };
        let graph = usearch::Index::new(&options).map_err(failed)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { graph, searches: Slots::new(cores) })
    }

    /// Makes room for `rows` rows, for `threads` threads that add them, and for as many as may search.
    fn reserve(&self, rows: usize, threads: usize) -> Result<()> {
        self.graph.reserve_capacity_and_threads(rows, threads.max(self.searches.count)).map_err(failed)
    }
}

/// Threads that may search at the same time. The library has buffers for so many, and refuses one more instead of
/// letting it wait; here it waits.
struct Slots {
    count: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    fn new(count: usize) -> Self {
        Self { count, free: Mutex::new(count), freed: Condvar::new() }
    }

    fn take(&self) -> Slot<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Slot(self)
    }
}

/// A place among the threads that search, given back when dropped.
struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

impl VectorIndex for Usearch {
    fn search(&self, query: &[f32], count: usize, keep: Option<&dyn Fn(u32) -> bool>) -> Result<Vec<u32>> {
        let _slot = self.searches.take();
        let found = match keep {
            None => self.graph.search(query, count),
            Some(keep) => self.graph.filtered_search(query, count, |row| keep(row as u32)),
        };
        Ok(found.map_err(failed)?.keys.into_iter().map(|row| row as u32).collect())
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.graph.serialized_length()];
        self.graph.save_to_buffer(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn memory_bytes(&self) -> usize {
        self.graph.memory_usage()
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(Code::Unexpected, format!("vector index: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: IndexParams = IndexParams { metric: Metric::L2, connectivity: 16, expansion: 100 };

    #[test]
    fn a_reopened_index_finds_what_the_built_one_found_and_honours_the_filter() -> Result<()> {
        let vectors: Vec<f32> = (0..1000).flat_map(|row| [row as f32, (row % 7) as f32]).collect();
        let built = build(PARAMS, 2, &vectors, 2)?;
        let reopened = open(PARAMS, 2, 1000, &built.to_bytes()?)?;
        for index in [&built, &reopened] {
            assert_eq!(index.search(&[500.0, 3.0], 1, None)?, [500]);
            let odd = index.search(&[500.0, 3.0], 5, Some(&|row| row % 2 == 1))?;
            assert!(odd.len() == 5 && odd.iter().all(|row| row % 2 == 1));
        }
        Ok(())
    }

    #[test]
    fn more_threads_than_cores_search_at_the_same_time() -> Result<()> {
        let vectors: Vec<f32> = (0..1000).flat_map(|row| [row as f32, (row % 7) as f32]).collect();
        let built = build(PARAMS, 2, &vectors, 1)?;
        let reopened = open(PARAMS, 2, 1000, &built.to_bytes()?)?;
        // So slow that all of them are in their search at once.
        let keep = |_: u32| {
            std::thread::sleep(std::time::Duration::from_micros(50));
            true
        };
        let threads = 8 * std::thread::available_parallelism().map_or(1, usize::from);
        for index in [&built, &reopened] {
            let found: Vec<_> = std::thread::scope(|scope| {
                let search = || index.search(&[500.0, 3.0], 1, Some(&keep));
                let searching: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
                searching.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(found.iter().all(|found| found.as_ref().is_ok_and(|rows| *rows == [500])), "{found:?}");
        }
        Ok(())
    }

    #[test]
    fn an_index_of_another_segment_is_refused() -> Result<()> {
        let bytes = build(PARAMS, 2, &[0.0; 20], 1)?.to_bytes()?;
        assert_eq!(open(PARAMS, 2, 11, &bytes).map(drop).map_err(|error| error.code), Err(Code::DataIntegrity));
        Ok(())
    }
}
