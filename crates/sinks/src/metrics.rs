//! Metrics of a sink (OFF-29). Labels are closed lists: topics, reasons, causes.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Label of counters per topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TopicLabel {
    pub topic: &'static str,
}

/// Label of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    pub reason: &'static str,
}

/// Label of losses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CauseLabel {
    pub cause: &'static str,
}

/// Handles to the registered metrics.
#[derive(Debug, Clone)]
pub struct SinkMetrics {
    pub records: Family<TopicLabel, Counter>,
    pub batches: Counter,
    pub write_seconds: Histogram,
    pub failures: Counter,
    pub dead_letters: Family<ReasonLabel, Counter>,
    pub lost: Family<CauseLabel, Counter>,
    pub lag_records: Gauge,
    pub oldest_age_s: Gauge<f64, AtomicU64>,
    pub breaker_state: Gauge,
}

impl SinkMetrics {
    pub fn register(metrics: &daemon::Metrics) -> Self {
        // 1 ms to about 65 s
        let seconds = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        Self {
            records: metrics.register("sf_sink_records", "Records the target confirmed", Family::default()),
            batches: metrics.register("sf_sink_batches", "Batches the target took", Counter::default()),
            write_seconds: metrics.register("sf_sink_write_seconds", "Time the target took for a batch", seconds),
            failures: metrics.register("sf_sink_failures", "Calls in which the target failed", Counter::default()),
            dead_letters: metrics.register("sf_dlq", "Records sent to the dead letters", Family::default()),
            lost: metrics.register("sf_loss_records", "Records gone before they were read", Family::default()),
            lag_records: metrics.register("sf_sink_lag_records", "Records not confirmed yet", Gauge::default()),
            oldest_age_s: metrics.register(
                "sf_sink_oldest_age_s",
                "Age of the oldest record not confirmed yet, in seconds",
                Gauge::default(),
            ),
            breaker_state: metrics.register(
                "sf_breaker_state",
                "Circuit breaker: 0 closed, 1 half open, 2 open",
                Gauge::default(),
            ),
        }
    }
}
