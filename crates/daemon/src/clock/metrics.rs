//! The figures of the clock, the same in every process that stamps (OFF-29).

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::Metrics;

/// Handles to all of them; cheap to clone.
#[derive(Debug, Clone)]
pub struct ClockMetrics {
    /// 0 SYNCED, 1 HOLDOVER, 2 UNSYNCED.
    pub state: Gauge,
    pub offset_ms: Gauge,
    pub steps: Counter,
    pub backwards: Counter,
}

impl ClockMetrics {
    /// Registers all of them.
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            state: metrics.register("sf_clock_state", "0 SYNCED, 1 HOLDOVER, 2 UNSYNCED", Gauge::default()),
            offset_ms: metrics.register(
                "sf_clock_offset_ms",
                "How far the kernel estimates the clock to be off, in milliseconds",
                Gauge::default(),
            ),
            steps: metrics.register(
                "sf_clock_steps",
                "Times the wall clock was set by more than a second",
                Counter::default(),
            ),
            backwards: metrics.register(
                "sf_clock_backwards",
                "Durations that were negative because the clock was set back, and count as none",
                Counter::default(),
            ),
        }
    }
}
