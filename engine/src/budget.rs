//! One memory budget for everything that grows with data: rows, indexes, builds and request bodies in work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, Error, Result};

/// The budget; clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    used: AtomicUsize,
}

/// Memory taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
    shared: Arc<Shared>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { shared: Arc::new(Shared { limit, used: AtomicUsize::new(0) }) }
    }

    /// Bytes in use and the limit.
    pub fn usage(&self) -> (usize, usize) {
        (self.shared.used.load(Ordering::Relaxed), self.shared.limit)
    }

    /// Takes `bytes`, or refuses with Milvus' quota code.
    pub fn reserve(&self, bytes: usize) -> Result<Reservation> {
        let taken = self.shared.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(bytes).filter(|total| *total <= self.shared.limit)
        });
        match taken {
            Ok(_) => Ok(Reservation { bytes, shared: self.shared.clone() }),
            Err(used) => Err(Error::new(
                Code::QuotaExceeded,
                format!(
                    "quota exceeded[reason=memory budget: {bytes} bytes wanted, {used} of {} in use]; release or drop \
                     collections, or give the cluster more memory",
                    self.shared.limit
                ),
            )),
        }
    }

    /// Takes `bytes` even past the limit: for data that is already acknowledged and must be served again.
    pub fn reserve_always(&self, bytes: usize) -> Reservation {
        self.shared.used.fetch_add(bytes, Ordering::AcqRel);
        Reservation { bytes, shared: self.shared.clone() }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_limit_the_answer_is_a_quota_code_and_dropping_gives_back() {
        let budget = Budget::new(100);
        let held = budget.reserve(80).map_err(|error| error.code);
        assert!(held.is_ok());
        assert_eq!(budget.reserve(21).map(drop).map_err(|error| error.code), Err(Code::QuotaExceeded));
        drop(held);
        assert!(budget.reserve(100).is_ok());
    }
}
