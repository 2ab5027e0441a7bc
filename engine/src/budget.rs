//! One memory budget for everything that grows with data: rows, indexes, builds, and requests in work.
//!
//! A request takes its body as it arrives, and gives it back when its answer has left. What does not count here is
//! bounded by number:
//! - Every request may have [`ALLOWANCE`] even if nothing is left. Who sends one has shown a password.
//! - Calls that need no password share 32 MiB of their own (see [`crate::server::admission`]).
//! - At most 128 requests wait for their password to be verified (see [`crate::server::auth`]). Their bodies are not
//!   read, but of each the connection takes in as much as a stream's window allows (see [`crate::listen`]).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Code, Error, Result};

/// So much every request may take, whatever is left: a full cluster can still be read, and told to release or drop
/// collections.
pub const ALLOWANCE: usize = 1024 * 1024;

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

/// Memory that one request takes, given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    budget: Budget,
    allowance: usize,
    taken: Arc<Mutex<Reservation>>,
}

impl RequestMemory {
    /// Nothing of `budget` yet; up to `allowance` bytes are never refused.
    pub fn new(budget: Budget, allowance: usize) -> Self {
        let taken = Arc::new(Mutex::new(budget.reserve_always(0)));
        Self { budget, allowance, taken }
    }

    /// Takes `bytes` more, or refuses with Milvus' quota code.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut more = match taken.bytes.saturating_add(bytes) <= self.allowance {
            true => self.budget.reserve_always(bytes),
            false => self.budget.reserve(bytes)?,
        };
        taken.bytes += std::mem::take(&mut more.bytes);
        Ok(())
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

    #[test]
    fn a_request_gets_its_allowance_from_a_full_budget_and_gives_all_of_it_back() {
        let budget = Budget::new(100);
        let full = budget.reserve_always(100);
        let (memory, other) = (RequestMemory::new(budget.clone(), 10), RequestMemory::new(budget.clone(), 0));
        let clone = memory.clone();
        assert!(memory.reserve(6).is_ok() && clone.reserve(4).is_ok());
        assert_eq!(memory.reserve(1).map_err(|error| error.code), Err(Code::QuotaExceeded));
        assert_eq!(other.reserve(1).map_err(|error| error.code), Err(Code::QuotaExceeded));
        assert_eq!(budget.usage(), (110, 100));
        drop((memory, full));
        assert_eq!(budget.usage(), (10, 100));
        assert!(clone.reserve(90).is_ok());
        drop(clone);
        assert_eq!(budget.usage(), (0, 100));
    }
}
