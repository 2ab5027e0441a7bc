//! Metrics in Prometheus' text format. Labels are calls, codes and states, never names or data.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The engine's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallLabels, Counter>,
    seconds: Family<CallLabel, Histogram>,
    memory_used: Gauge,
    memory_limit: Gauge,
    serving: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
    code: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabel {
    call: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let calls = Family::<CallLabels, Counter>::default();
        let seconds = Family::<CallLabel, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.0005, 2.0, 16))
        });
        let (memory_used, memory_limit, serving) = (Gauge::default(), Gauge::default(), Gauge::default());
        let mut registry = Registry::with_prefix("vectorkeep");
        registry.register("calls", "API calls by Milvus code (0 = success)", calls.clone());
        registry.register("call_seconds", "Time to serve an API call", seconds.clone());
        registry.register("memory_used_bytes", "Memory budget in use", memory_used.clone());
        registry.register("memory_limit_bytes", "Memory budget", memory_limit.clone());
        registry.register("serving", "1 while the engine is unlocked and serves, else 0", serving.clone());
        Self { registry, calls, seconds, memory_used, memory_limit, serving }
    }
}

impl Metrics {
    /// Counts an API call.
    pub fn call(&self, call: &'static str, code: i32, took: Duration) {
        self.calls.get_or_create(&CallLabels { call, code }).inc();
        self.seconds.get_or_create(&CallLabel { call }).observe(took.as_secs_f64());
    }

    /// The text that a scrape gets.
    pub fn text(&self, serving: bool, (used, limit): (usize, usize)) -> Result<String, std::fmt::Error> {
        self.serving.set(i64::from(serving));
        self.memory_used.set(used as i64);
        self.memory_limit.set(limit as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
