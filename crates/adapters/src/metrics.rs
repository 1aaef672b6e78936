//! The metrics of an adapter process. Names are the project's common ones (OFF-29); labels never carry assets or tags.

use std::sync::atomic::AtomicU64;

use daemon::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByResult {
    /// `ok`, `partial` or `failed`.
    pub result: &'static str,
}

/// Quality of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByQuality {
    /// `GOOD`, `SUSPECT`, `UNCERTAIN` or `BAD`.
    pub quality: &'static str,
}

/// Why something was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    /// A word of the list in the code that counts.
    pub reason: &'static str,
}

/// Why records were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByCause {
    /// `buffer_full` or `stopped`.
    pub cause: &'static str,
}

/// A device of the adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByDevice {
    /// As [`crate::adapter::Adapter::devices`] names it.
    pub device: String,
}

/// Handles to all of them; cheap to clone.
#[derive(Debug, Clone)]
pub struct AdapterMetrics {
    pub poll_cycles: Family<ByResult, Counter>,
    pub poll_overruns: Counter,
    pub poll_jitter_ms: Histogram,
    pub request_rtt_ms: Histogram,
    /// 1 connected, 0 not.
    pub link_state: Gauge,
    /// 0 OK, 1 DEGRADED, 2 DOWN.
    pub device_state: Family<ByDevice, Gauge>,
    pub records: Family<ByQuality, Counter>,
    pub discarded: Family<ByReason, Counter>,
    pub suppressed: Counter,
    pub unchanged: Counter,
    pub gaps: Counter,
    pub lost: Family<ByCause, Counter>,
    pub buffered_records: Gauge,
    pub buffered_bytes: Gauge,
    pub held_records: Gauge,
    pub acknowledged: Counter<u64, AtomicU64>,
}

/// Buckets in milliseconds, from a wire on the desk to a slow gateway.
const MILLISECONDS: [f64; 12] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0];

impl AdapterMetrics {
    /// Registers all of them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            poll_cycles: metrics.register("sf_poll_cycles", "Polls by how they ended", Family::default()),
            poll_overruns: metrics.register(
                "sf_poll_overruns",
                "Ticks missed because a poll took longer than its period",
                Counter::default(),
            ),
            poll_jitter_ms: metrics.register(
                "sf_poll_jitter_ms",
                "How late polls began, in milliseconds",
                Histogram::new(MILLISECONDS),
            ),
            request_rtt_ms: metrics.register(
                "sf_request_rtt_ms",
                "From request to answer, in milliseconds",
                Histogram::new(MILLISECONDS),
            ),
            link_state: metrics.register("sf_link_state", "1 while connected, else 0", Gauge::default()),
            device_state: metrics.register("sf_device_state", "0 OK, 1 DEGRADED, 2 DOWN", Family::default()),
            records: metrics.register("sf_records", "Readings handed to the stream, by quality", Family::default()),
            discarded: metrics.register("sf_discarded", "Input or readings thrown away", Family::default()),
            suppressed: metrics.register(
                "sf_repeated_bad_suppressed",
                "BAD readings without a value that only repeated the one before",
                Counter::default(),
            ),
            unchanged: metrics.register(
                "sf_unchanged_suppressed",
                "Readings of points that are published on change which had not changed enough",
                Counter::default(),
            ),
            gaps: metrics.register("sf_gaps", "Readings that came after a gap of their tag", Counter::default()),
            lost: metrics.register("sf_loss_records", "Readings lost, by cause", Family::default()),
            buffered_records: metrics.register(
                "sf_buffered_records",
                "Readings waiting for the stream",
                Gauge::default(),
            ),
            buffered_bytes: metrics.register(
                "sf_buffered_bytes",
                "Memory that the waiting readings take",
                Gauge::default(),
            ),
            held_records: metrics.register(
                "sf_held_records",
                "Readings and events waiting for the gateway's clock to be set",
                Gauge::default(),
            ),
            acknowledged: metrics.register(
                "sf_records_acknowledged",
                "Readings the stream has made durable",
                Counter::default(),
            ),
        }
    }
}
