//! How clients were served in the last minutes: what the operator compares before and after an upgrade.
//!
//! Counts lie in buckets of half a minute. The time comes in as a value, of a clock that never goes back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Code;

/// Requests for data. All others are rare, and take as long as what they do.
const CALLS: [&str; 5] = ["Insert", "Upsert", "Delete", "Search", "Query"];
const BUCKET_SECONDS: u64 = 30;
/// Together the window of five minutes, the current bucket included.
const BUCKETS: usize = 10;
/// Upper bound of the first class of latencies, milliseconds.
const FIRST_BOUND_MS: f64 = 0.1;
/// Bounds are a factor of 2^(1/4) apart, so a latency is told to within 19 %.
const CLASSES_PER_DOUBLING: f64 = 4.0;
/// The last bound is 88 s; what took longer counts there too.
const CLASSES: usize = 80;

/// See the module's documentation.
#[derive(Debug)]
pub struct Traffic {
    started: Instant,
    buckets: Mutex<[Bucket; BUCKETS]>,
}

/// What happened in the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Requests for data.
    pub requests: u64,
    /// Those that failed for a reason of the server's.
    pub failures: u64,
    /// Median time of those that succeeded, milliseconds; 0 if there is none.
    pub p50_ms: f64,
    /// The time within which 99 of 100 succeeded, milliseconds; 0 if there is none.
    pub p99_ms: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Its place in time since the start.
    number: u64,
    requests: u64,
    failures: u64,
    latencies: [u32; CLASSES],
}

const EMPTY: Bucket = Bucket { number: 0, requests: 0, failures: 0, latencies: [0; CLASSES] };

impl Traffic {
    /// No traffic yet, at the time `started`.
    pub fn new(started: Instant) -> Self {
        Self { started, buckets: Mutex::new([EMPTY; BUCKETS]) }
    }

    /// Counts a call that was answered at `now`: with success, or with `code`. Calls that are not for data don't count.
    pub fn record(&self, call: &str, code: Option<Code>, took: Duration, now: Instant) {
        if !CALLS.contains(&call) {
            return;
        }
        let number = self.number(now);
        let mut buckets = self.buckets();
        let bucket = &mut buckets[(number % BUCKETS as u64) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..EMPTY };
        }
        bucket.requests += 1;
        match code {
            Some(code) => bucket.failures += u64::from(code.is_servers_fault()),
            // Only these: a refusal takes no time, and would make a bad engine look fast.
            None => bucket.latencies[class(took)] += 1,
        }
    }

    /// What happened in the window that ends at `now`.
    pub fn report(&self, now: Instant) -> Report {
        let number = self.number(now);
        let buckets = self.buckets();
        let recent: Vec<&Bucket> = buckets.iter().filter(|bucket| bucket.number + BUCKETS as u64 > number).collect();
        let sum = |count: fn(&Bucket) -> u64| recent.iter().map(|bucket| count(bucket)).sum::<u64>();
        let mut latencies = [0u64; CLASSES];
        for bucket in &recent {
            latencies.iter_mut().zip(bucket.latencies).for_each(|(total, count)| *total += u64::from(count));
        }
        Report {
            requests: sum(|bucket| bucket.requests),
            failures: sum(|bucket| bucket.failures),
            p50_ms: quantile_ms(&latencies, 0.5),
            p99_ms: quantile_ms(&latencies, 0.99),
        }
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / BUCKET_SECONDS
    }

    fn buckets(&self) -> MutexGuard<'_, [Bucket; BUCKETS]> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn class(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() * 1000.0 / FIRST_BOUND_MS).log2();
    let class = (doublings * CLASSES_PER_DOUBLING).ceil().max(0.0);
    (class as usize).min(CLASSES - 1)
}

/// The upper bound of the class that contains the quantile.
fn quantile_ms(latencies: &[u64; CLASSES], quantile: f64) -> f64 {
    let total: u64 = latencies.iter().sum();
    let wanted = (total as f64 * quantile).ceil() as u64;
    let mut seen = 0;
    for (class, count) in latencies.iter().enumerate() {
        seen += count;
        if *count > 0 && seen >= wanted {
            return FIRST_BOUND_MS * (class as f64 / CLASSES_PER_DOUBLING).exp2();
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_requests_for_data_count_and_only_the_servers_faults_are_failures() {
        let start = Instant::now();
        let traffic = Traffic::new(start);
        traffic.record("Insert", None, MS, start);
        traffic.record("CreateCollection", Some(Code::Io), MS, start);
        for code in [Code::KeyRevoked, Code::InvalidParameter, Code::CollectionNotFound, Code::NotAuthenticated] {
            traffic.record("Search", Some(code), MS, start);
        }
        let faults =
            [Code::NotReady, Code::Unavailable, Code::QuotaExceeded, Code::Io, Code::DataIntegrity, Code::Unexpected];
        for code in faults {
            traffic.record("Query", Some(code), MS, start);
        }
        let report = traffic.report(start);
        assert_eq!((report.requests, report.failures), (11, 6));
    }

    #[test]
    fn after_five_minutes_a_request_is_forgotten() {
        let start = Instant::now();
        let traffic = Traffic::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        traffic.record("Insert", Some(Code::Io), MS, at(1));
        traffic.record("Delete", None, MS, at(100));
        assert_eq!(traffic.report(at(299)).requests, 2);
        assert_eq!((traffic.report(at(300)).requests, traffic.report(at(300)).failures), (1, 0));
        // The bucket of the first request is used again.
        traffic.record("Insert", None, MS, at(310));
        assert_eq!((traffic.report(at(310)).requests, traffic.report(at(310)).failures), (2, 0));
        let later = traffic.report(at(10_000));
        assert_eq!(later, Report { requests: 0, failures: 0, p50_ms: 0.0, p99_ms: 0.0 });
    }

    #[test]
    fn latencies_are_told_to_within_a_fifth() {
        let start = Instant::now();
        let traffic = Traffic::new(start);
        for _ in 0..98 {
            traffic.record("Search", None, 3 * MS, start);
        }
        for _ in 0..2 {
            traffic.record("Search", None, 250 * MS, start);
        }
        for _ in 0..100 {
            traffic.record("Search", Some(Code::KeyRevoked), Duration::ZERO, start);
        }
        let report = traffic.report(start);
        assert!((3.0..3.6).contains(&report.p50_ms), "{report:?}");
        assert!((250.0..300.0).contains(&report.p99_ms), "{report:?}");
    }

    #[test]
    fn every_time_has_a_class() {
        assert_eq!(class(Duration::ZERO), 0);
        assert_eq!(class(Duration::from_secs(86_400)), CLASSES - 1);
        let classes = [MS / 20, MS, 10 * MS, 1000 * MS, 80_000 * MS].map(class);
        assert!(classes.is_sorted() && classes[4] == CLASSES - 1, "{classes:?}");
    }
}
