//! How long to wait after a failure: longer each time, and never in step with others.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::ObjectRef;
use vectorkeep_crds::VectorCluster;

const FIRST: Duration = Duration::from_millis(400);
const LONGEST: Duration = Duration::from_secs(300);

/// Failures in a row, for each resource.
#[derive(Default)]
pub struct Backoffs {
    failures: Mutex<HashMap<ObjectRef<VectorCluster>, u32>>,
}

impl Backoffs {
    /// Counts a failure. Answers how long to wait.
    pub fn failed(&self, object: ObjectRef<VectorCluster>) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object).or_insert(0);
        let wait = growing(*count, FIRST, LONGEST);
        *count += 1;
        wait
    }

    /// Whether the last attempt at a resource failed.
    pub fn is_failing(&self, object: &ObjectRef<VectorCluster>) -> bool {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).contains_key(object)
    }

    /// Forgets the failures of a resource that succeeded or is gone.
    pub fn succeeded(&self, object: &ObjectRef<VectorCluster>) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }
}

/// How long to wait after so many failures before this one: `first`, then twice as long each time, up to `longest`.
pub fn growing(failures: u32, first: Duration, longest: Duration) -> Duration {
    jittered(first.saturating_mul(1 << failures.min(16)).min(longest))
}

/// A duration between 75 % and 125 % of `duration`.
pub fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_grows_to_a_bound_and_starts_anew_after_a_success() {
        let backoffs = Backoffs::default();
        let object = ObjectRef::new("support").within("acme");
        let first = backoffs.failed(object.clone());
        assert!(first <= FIRST.mul_f64(1.25));
        let mut last = first;
        for _ in 0..40 {
            last = backoffs.failed(object.clone());
        }
        assert!(last >= LONGEST.mul_f64(0.75) && last <= LONGEST.mul_f64(1.25));
        backoffs.succeeded(&object);
        assert!(backoffs.failed(object) <= FIRST.mul_f64(1.25));
    }
}
