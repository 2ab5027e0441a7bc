//! Figures about the operator itself, in Prometheus' text format. No names of resources: those are the customers'. The
//! targets of notifications are the administrator's.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Figures about the operator itself.
pub struct Metrics {
    registry: Mutex<Registry>,
    reconciles: Family<Outcome, Counter>,
    duration: Histogram,
    polls: Family<Outcome, Counter>,
    notifications: Family<Attempt, Counter>,
    notifications_pending: Family<Target, Gauge>,
    unusable_targets: Gauge,
    leading: Gauge,
    started: AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// One attempt to notify a target of the administrator's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    target: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Target {
    target: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let reconciles = Family::default();
        let polls = Family::default();
        let notifications = Family::default();
        let notifications_pending = Family::default();
        let unusable_targets = Gauge::default();
        let leading = Gauge::default();
        // From an idle reconcile (a few reads) to one that creates everything against a slow API server.
        let duration = Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0]);
        let mut registry = Registry::with_prefix("vectorkeep_operator");
        registry.register("reconciles", "Reconciles by outcome: ok, or the step that failed", reconciles.clone());
        registry.register("reconcile_duration_seconds", "Duration of a reconcile", duration.clone());
        registry.register("engine_polls", "Questions to engines by outcome", polls.clone());
        registry.register("leading", "1 while this replica is the one that reconciles", leading.clone());
        registry.register("notifications", "Attempts to notify a target by outcome", notifications.clone());
        let pending = "Notifications that a target has not accepted yet";
        registry.register("notifications_pending", pending, notifications_pending.clone());
        let unusable = "Targets that are told nothing, as their URL or their caBundle can't be used";
        registry.register("notification_targets_unusable", unusable, unusable_targets.clone());
        Self {
            registry: Mutex::new(registry),
            reconciles,
            duration,
            polls,
            notifications,
            notifications_pending,
            unusable_targets,
            leading,
            started: AtomicBool::new(false),
        }
    }
}

impl Metrics {
    /// Counts a reconcile: `ok`, or the step that failed.
    pub fn reconciled(&self, outcome: &'static str, duration: Duration) {
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts a question to an engine.
    pub fn polled(&self, heard: bool) {
        let outcome = if heard { "ok" } else { "silent" };
        self.polls.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts an attempt to notify a target: `accepted`, `failed` or `refused`.
    pub fn notified(&self, target: &str, outcome: &'static str) {
        self.notifications.get_or_create(&Attempt { target: target.to_owned(), outcome }).inc();
    }

    /// Says how many notifications a target has not accepted yet.
    pub fn pending(&self, target: &str, notifications: usize) {
        let pending = i64::try_from(notifications).unwrap_or(i64::MAX);
        self.notifications_pending.get_or_create(&Target { target: target.to_owned() }).set(pending);
    }

    /// Says how many targets can't be used as they are.
    pub fn unusable_targets(&self, targets: usize) {
        self.unusable_targets.set(i64::try_from(targets).unwrap_or(i64::MAX));
    }

    /// Says whether this replica leads.
    pub fn lead(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// Says that the process has reached the API server once, and is fit to wait for its turn.
    pub fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Whether the process is fit to wait for its turn.
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Everything, as text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_carry_outcomes_and_no_names() {
        let metrics = Metrics::default();
        metrics.reconciled("apply", Duration::from_millis(20));
        metrics.polled(true);
        metrics.notified("tickets", "refused");
        metrics.pending("tickets", 2);
        metrics.unusable_targets(1);
        metrics.lead(true);
        let text = metrics.text().expect("text");
        assert!(text.contains("vectorkeep_operator_reconciles_total{outcome=\"apply\"} 1"));
        assert!(text.contains("vectorkeep_operator_engine_polls_total{outcome=\"ok\"} 1"));
        let refused = "vectorkeep_operator_notifications_total{target=\"tickets\",outcome=\"refused\"} 1";
        assert!(text.contains(refused));
        assert!(text.contains("vectorkeep_operator_notifications_pending{target=\"tickets\"} 2"));
        assert!(text.contains("vectorkeep_operator_notification_targets_unusable 1"));
        assert!(text.contains("vectorkeep_operator_leading 1"));
    }
}
