//! Hybrid timestamps in Milvus' format: milliseconds since the Unix epoch, shifted left by 18 bits, plus a counter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bits of the counter below the milliseconds.
const LOGICAL_BITS: u32 = 18;

/// Gives out strictly increasing hybrid timestamps.
#[derive(Debug, Default)]
pub struct Clock {
    last: AtomicU64,
}

impl Clock {
    /// A timestamp greater than every one given out or observed before, also if the wall clock steps back.
    pub fn next(&self) -> u64 {
        let wall = wall_millis() << LOGICAL_BITS;
        let advance = |last: u64| wall.max(last + 1);
        let last = self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(advance(last)));
        last.map_or(wall, advance)
    }

    /// Makes all later timestamps greater than `seen`, which came from storage.
    pub fn observe(&self, seen: u64) {
        self.last.fetch_max(seen, Ordering::AcqRel);
    }

    /// The greatest timestamp given out or observed so far.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }
}

/// Seconds since the Unix epoch of a hybrid timestamp.
pub fn seconds(timestamp: u64) -> u64 {
    (timestamp >> LOGICAL_BITS) / 1000
}

fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_never_repeat_nor_go_back() {
        let clock = Clock::default();
        clock.observe(u64::MAX >> 1);
        let (first, second) = (clock.next(), clock.next());
        assert!(first > u64::MAX >> 1 && second > first);
    }
}
