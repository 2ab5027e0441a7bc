//! Distances between dense float vectors, and exact search by scanning.
//!
//! Scores follow Milvus: COSINE and IP are similarities (greater is nearer), L2 is the squared distance (smaller is
//! nearer). Inside the engine every score is turned into a *distance* (smaller is nearer) by negating similarities.
//!
//! A crate of its own because it is worth optimising in every build: nothing else runs so often per query.
#![warn(missing_docs)]

use std::collections::BinaryHeap;

use fixedbitset::FixedBitSet;

/// Metric of a vector index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Metric {
    Cosine,
    L2,
    Ip,
}

impl Metric {
    /// The metric called `name`, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "COSINE" => Some(Self::Cosine),
            "L2" => Some(Self::L2),
            "IP" => Some(Self::Ip),
            _ => None,
        }
    }

    /// Milvus' name of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "COSINE",
            Self::L2 => "L2",
            Self::Ip => "IP",
        }
    }

    /// The score that the client sees for an internal distance.
    pub fn score(self, distance: f32) -> f32 {
        match self {
            Self::L2 => distance,
            Self::Cosine | Self::Ip => -distance,
        }
    }
}

/// A row and its distance; ordered by distance, then by row, so that results are stable.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct Neighbor {
    pub distance: f32,
    pub row: u32,
}

impl Eq for Neighbor {}

impl Ord for Neighbor {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Neighbor {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The `k` rows nearest to `query` among those set in `candidates`, nearest first.
pub fn scan(metric: Metric, query: &[f32], vectors: &[f32], candidates: &FixedBitSet, k: usize) -> Vec<Neighbor> {
    pulp::Arch::new().dispatch(Scan { metric, query, vectors, rows: candidates.ones().map(|row| row as u32), k })
}

/// The `k` of `rows` nearest to `query` by exact distance, nearest first.
pub fn rank(metric: Metric, query: &[f32], vectors: &[f32], rows: &[u32], k: usize) -> Vec<Neighbor> {
    pulp::Arch::new().dispatch(Scan { metric, query, vectors, rows: rows.iter().copied(), k })
}

struct Scan<'a, I> {
    metric: Metric,
    query: &'a [f32],
    vectors: &'a [f32],
    rows: I,
    k: usize,
}

impl<I: Iterator<Item = u32>> pulp::NullaryFnOnce for Scan<'_, I> {
    type Output = Vec<Neighbor>;

    // Inlined into a function compiled for the CPU's widest vectors, chosen when the program starts.
    #[inline(always)]
    fn call(self) -> Vec<Neighbor> {
        let dim = self.query.len();
        let mut nearest = BinaryHeap::with_capacity(self.k + 1);
        if self.k == 0 {
            return Vec::new();
        }
        let query_norm = dot(self.query, self.query).sqrt();
        for row in self.rows {
            let start = row as usize * dim;
            let vector = &self.vectors[start..start + dim];
            let distance = match self.metric {
                Metric::Ip => -dot(self.query, vector),
                Metric::L2 => squared(self.query, vector),
                Metric::Cosine => {
                    let (product, norm) = dot_and_norm(self.query, vector);
                    let norms = query_norm * norm.sqrt();
                    if norms > 0.0 { -(product / norms) } else { 0.0 }
                }
            };
            let neighbor = Neighbor { distance, row };
            if nearest.len() < self.k {
                nearest.push(neighbor);
            } else if nearest.peek().is_some_and(|worst| neighbor < *worst) {
                nearest.pop();
                nearest.push(neighbor);
            }
        }
        nearest.into_sorted_vec()
    }
}

/// Independent sums, so that the compiler may keep them in vector registers.
const LANES: usize = 32;

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| x * y)
}

#[inline(always)]
fn squared(a: &[f32], b: &[f32]) -> f32 {
    fold(a, b, |x, y| (x - y) * (x - y))
}

#[inline(always)]
fn fold(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| term(*x, *y)).sum();
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn dot_and_norm(a: &[f32], b: &[f32]) -> (f32, f32) {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let (mut dots, mut norms) = ([0f32; LANES], [0f32; LANES]);
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            dots[lane] += x[lane] * y[lane];
            norms[lane] += y[lane] * y[lane];
        }
    }
    let mut total = (dots.iter().sum::<f32>(), norms.iter().sum::<f32>());
    for (x, y) in a_rest.iter().zip(b_rest) {
        total.0 += x * y;
        total.1 += y * y;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(count: usize) -> FixedBitSet {
        let mut bits = FixedBitSet::with_capacity(count);
        bits.insert_range(..);
        bits
    }

    #[test]
    fn scores_are_those_of_milvus() {
        let vectors = [3.0, 4.0, 0.0, 2.0];
        let score = |metric: Metric| {
            scan(metric, &[1.0, 0.0], &vectors, &all(2), 2)
                .into_iter()
                .map(|found| (found.row, metric.score(found.distance)))
                .collect::<Vec<_>>()
        };
        assert_eq!(score(Metric::Ip), [(0, 3.0), (1, 0.0)]);
        assert_eq!(score(Metric::L2), [(1, 5.0), (0, 20.0)]);
        assert_eq!(score(Metric::Cosine), [(0, 0.6), (1, 0.0)]);
    }

    #[test]
    fn long_vectors_are_summed_whole() {
        let vectors = vec![1.0; 100];
        let found = scan(Metric::Ip, &vectors, &vectors, &all(1), 1);
        assert_eq!(found[0].distance, -100.0);
    }
}
