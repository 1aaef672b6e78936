//! Figures of the router. Labels are the destinations of the configuration and words of closed lists.

use daemon::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::dispatch::{Outcome, Standing};

/// Label of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DestinationLabel {
    pub destination: String,
}

/// Labels of attempts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub destination: String,
    pub channel: &'static str,
    pub outcome: &'static str,
}

/// Handles to the registered metrics.
#[derive(Debug, Clone)]
pub struct RouterMetrics {
    pub attempts: Family<OutcomeLabel, Counter>,
    pub waiting: Family<DestinationLabel, Gauge>,
    pub bundled: Family<DestinationLabel, Gauge>,
    pub failing: Family<DestinationLabel, Gauge>,
    pub journal_failures: Counter,
}

impl RouterMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        Self {
            attempts: metrics.register("sf_alert_attempts", "Attempts to deliver a message", Family::default()),
            waiting: metrics.register("sf_alert_waiting", "Messages that wait to be delivered", Family::default()),
            bundled: metrics.register("sf_alert_bundled", "Alarms that wait for a common message", Family::default()),
            failing: metrics.register("sf_alert_failing", "1 while the last attempt failed", Family::default()),
            journal_failures: metrics.register(
                "sf_alert_journal_failures",
                "Times the router's memory was not written",
                Counter::default(),
            ),
        }
    }

    pub(super) fn outcome(&self, destination: &str, channel: &'static str, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Delivered => "delivered",
            Outcome::Later { .. } => "later",
            Outcome::Refused { .. } => "refused",
        };
        let label = OutcomeLabel { destination: destination.to_owned(), channel, outcome };
        self.attempts.get_or_create(&label).inc();
    }

    pub(super) fn show(&self, standings: &[Standing]) {
        for standing in standings {
            let label = DestinationLabel { destination: standing.name.clone() };
            self.waiting.get_or_create(&label).set(i64::try_from(standing.waiting).unwrap_or(i64::MAX));
            self.bundled.get_or_create(&label).set(i64::from(standing.bundled));
            self.failing.get_or_create(&label).set(i64::from(standing.trouble.is_some()));
        }
    }
}
