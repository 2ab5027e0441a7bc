//! The right to use keys, for as long as the KMS has recently granted it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::boottime::BootTime;

/// Marks a lease that has ended for good. Real expiry times can't reach it: a boot time of 584 years.
const ENDED: u64 = u64::MAX;

/// A cheap handle on the lease of one [`Keyring`](crate::Keyring): every seal and every open asks it first.
///
/// Only a successful `Decrypt` extends it, counted from the moment when that call *started*. Once ended it never
/// becomes valid again; a new keyring has to be opened.
#[derive(Clone)]
pub struct Lease {
    expires: Arc<AtomicU64>,
}

impl Lease {
    pub(crate) fn until(expires: BootTime) -> Self {
        Self { expires: Arc::new(AtomicU64::new(expires.as_nanos().min(ENDED - 1))) }
    }

    /// Whether keys may be used now. One read of the clock and one of an atomic.
    pub fn is_valid(&self) -> bool {
        self.is_valid_at(BootTime::now())
    }

    /// Whether keys may be used at `now`.
    pub fn is_valid_at(&self, now: BootTime) -> bool {
        let expires = self.expires.load(Ordering::Acquire);
        expires != ENDED && now.as_nanos() < expires
    }

    /// When the lease runs out unless it is extended; `None` once it has ended for good.
    pub fn expires(&self) -> Option<BootTime> {
        match self.expires.load(Ordering::Acquire) {
            ENDED => None,
            nanos => Some(BootTime::from_nanos(nanos)),
        }
    }

    /// Time left at `now`; zero when expired or ended.
    pub fn remaining_at(&self, now: BootTime) -> Duration {
        self.expires().map_or(Duration::ZERO, |expires| now.until(expires))
    }

    /// Moves the expiry to `started + grace`, never backwards, never after the end, and not once it has expired:
    /// between expiry and this call somebody may already have been told that the keys are gone.
    pub(crate) fn extend(&self, started: BootTime, grace: Duration, now: BootTime) -> bool {
        let target = started.after(grace).as_nanos().min(ENDED - 1);
        self.expires
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |current| {
                let dead = current == ENDED || now.as_nanos() >= current;
                (!dead).then_some(current.max(target))
            })
            .is_ok()
    }

    /// Sets the expiry, earlier or later, unless the lease has ended for good.
    pub(crate) fn restart(&self, expires: BootTime) {
        let target = expires.as_nanos().min(ENDED - 1);
        // Fails only if the lease has ended, and then there is nothing to set.
        let _ = self
            .expires
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |current| (current != ENDED).then_some(target));
    }

    pub(crate) fn end(&self) {
        self.expires.store(ENDED, Ordering::Release);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("expires", &self.expires()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_lease_counts_from_the_start_of_the_call() {
        let lease = Lease::until(at(100));
        assert!(lease.extend(at(50), Duration::from_secs(100), at(60)));
        assert!(lease.is_valid_at(at(149)));
        assert!(!lease.is_valid_at(at(150)));
    }

    #[test]
    fn a_lease_never_moves_backwards() {
        let lease = Lease::until(at(100));
        assert!(lease.extend(at(10), Duration::from_secs(20), at(30)));
        assert!(lease.is_valid_at(at(99)));
    }

    #[test]
    fn an_ended_lease_stays_ended() {
        let lease = Lease::until(at(100));
        let other = lease.clone();
        lease.end();
        assert!(!other.is_valid_at(at(1)));
        assert!(!other.extend(at(1), Duration::from_secs(1_000), at(1)));
        assert!(!lease.is_valid_at(at(1)));
        assert_eq!(lease.remaining_at(at(1)), Duration::ZERO);
    }

    #[test]
    fn an_expired_lease_is_not_revived() {
        let lease = Lease::until(at(100));
        assert!(!lease.extend(at(99), Duration::from_secs(50), at(101)));
        assert!(!lease.is_valid_at(at(101)));
    }
}
