//! Values whose changes take effect late, as those of an eventually consistent service do.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A value and the changes to it that have been accepted but are not seen by callers yet.
#[derive(Debug)]
pub struct Propagating<T> {
    settled: T,
    pending: VecDeque<(Instant, T)>,
}

impl<T> Propagating<T> {
    /// A value that is in effect at once.
    pub fn new(settled: T) -> Self {
        Self { settled, pending: VecDeque::new() }
    }

    /// What callers see at `now`.
    pub fn at(&mut self, now: Instant) -> &T {
        while self.pending.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, value)) = self.pending.pop_front() {
                self.settled = value;
            }
        }
        &self.settled
    }

    /// The value that everybody will see in the end.
    pub fn latest(&self) -> &T {
        self.pending.back().map_or(&self.settled, |(_, value)| value)
    }

    /// Accepts a change that takes effect `delay` after `now`. Changes take effect in the order in which they
    /// were accepted: one that would overtake earlier ones replaces them.
    pub fn change(&mut self, value: T, now: Instant, delay: Duration) {
        let due = now + delay;
        while self.pending.back().is_some_and(|(earlier, _)| *earlier >= due) {
            self.pending.pop_back();
        }
        if delay.is_zero() {
            self.pending.clear();
            self.settled = value;
        } else {
            self.pending.push_back((due, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_only_after_its_delay() {
        let start = Instant::now();
        let mut value = Propagating::new(1);
        value.change(2, start, Duration::from_millis(100));
        assert_eq!(*value.at(start + Duration::from_millis(99)), 1);
        assert_eq!(*value.latest(), 2);
        assert_eq!(*value.at(start + Duration::from_millis(100)), 2);
    }

    #[test]
    fn an_immediate_change_overtakes_those_under_way() {
        let start = Instant::now();
        let mut value = Propagating::new(1);
        value.change(2, start, Duration::from_secs(9));
        value.change(3, start, Duration::ZERO);
        assert_eq!(*value.at(start + Duration::from_secs(10)), 3);
    }

    #[test]
    fn changes_take_effect_in_order() {
        let start = Instant::now();
        let mut value = Propagating::new(1);
        value.change(2, start, Duration::from_secs(1));
        value.change(3, start, Duration::from_secs(2));
        assert_eq!(*value.at(start + Duration::from_secs(1)), 2);
        assert_eq!(*value.at(start + Duration::from_secs(2)), 3);
    }
}
