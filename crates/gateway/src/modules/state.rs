//! The state of a module as the status page and the metrics show it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use daemon::Metrics;
use model::Health;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// Shared between a module's loop, which writes it once per batch, and its readers.
#[derive(Debug, Default)]
pub struct ModuleState {
    records_in: AtomicU64,
    records_out: AtomicU64,
    dead_letters: AtomicU64,
    lag: AtomicI64,
    told: Mutex<Told>,
    meters: OnceLock<Meters>,
}

#[derive(Debug, Default)]
struct Told {
    health: Health,
    reason: String,
    last_error: Option<String>,
}

impl ModuleState {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> Health {
        self.told().health
    }

    /// One sentence behind the health.
    pub fn reason(&self) -> String {
        let reason = self.told().reason.clone();
        if reason.is_empty() { "starting".to_owned() } else { reason }
    }

    /// The error that last ended the loop, also when it runs again.
    pub fn last_error(&self) -> Option<String> {
        self.told().last_error.clone()
    }

    /// The loop ended with an error and will be started again.
    pub fn set_error(&self, reason: &str) {
        let mut told = self.told();
        told.health = Health::Unhealthy;
        reason.clone_into(&mut told.reason);
        told.last_error = Some(reason.to_owned());
    }

    pub(super) fn set_health(&self, health: Health, reason: &str) {
        let mut told = self.told();
        if told.health != health || told.reason != reason {
            told.health = health;
            reason.clone_into(&mut told.reason);
        }
    }

    /// Records taken from the input, replays included.
    pub fn records_in(&self) -> u64 {
        self.records_in.load(Ordering::Relaxed)
    }

    /// Records written, dead letters not included.
    pub fn records_out(&self) -> u64 {
        self.records_out.load(Ordering::Relaxed)
    }

    pub fn dead_letters(&self) -> u64 {
        self.dead_letters.load(Ordering::Relaxed)
    }

    /// Records between the module and the ends of its inputs, seen at most a second or two ago.
    pub fn lag_records(&self) -> i64 {
        self.lag.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, records_in: u64, records_out: u64, dead_letters: u64) {
        self.records_in.fetch_add(records_in, Ordering::Relaxed);
        self.records_out.fetch_add(records_out, Ordering::Relaxed);
        self.dead_letters.fetch_add(dead_letters, Ordering::Relaxed);
    }

    /// Corrects the lag by what one part of the module saw before and sees now.
    pub(super) fn move_lag(&self, before: i64, now: i64) {
        self.lag.fetch_add(now - before, Ordering::Relaxed);
    }

    /// The module's meters, registered by the first loop that asks.
    pub(super) fn meters(&self, metrics: &Metrics, register: fn(&Metrics) -> Meters) -> &Meters {
        self.meters.get_or_init(|| register(metrics))
    }
}

/// A label from a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) reason: &'static str,
}

/// The quality a reading was forwarded with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QualityLabel {
    pub(super) quality: &'static str,
}

/// Width of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResolutionLabel {
    pub(super) resolution: &'static str,
}

/// Counters of a module.
#[derive(Debug)]
pub(super) enum Meters {
    Validator(ValidatorMeters),
    Aggregator(AggregatorMeters),
}

#[derive(Debug, Clone)]
pub(super) struct ValidatorMeters {
    pub(super) records: Family<QualityLabel, Counter>,
    pub(super) discarded: Family<Reason, Counter>,
    pub(super) duplicates: Counter,
    pub(super) gaps: Counter,
    pub(super) stale: Counter,
    pub(super) alarms: Gauge,
    pub(super) transitions: Counter,
    pub(super) announced: Counter,
    pub(super) dead_letters: Family<Reason, Counter>,
    pub(super) panics: Counter,
    pub(super) lost: Family<Reason, Counter>,
    pub(super) lag: Gauge,
    pub(super) points: Gauge,
    pub(super) points_not_shown: Counter,
    pub(super) points_without_memory: Counter,
}

#[derive(Debug, Clone)]
pub(super) struct AggregatorMeters {
    pub(super) windows: Family<ResolutionLabel, Counter>,
    pub(super) late: Family<ResolutionLabel, Counter>,
    pub(super) skipped: Family<Reason, Counter>,
    pub(super) lost: Family<Reason, Counter>,
    pub(super) open_windows: Family<ResolutionLabel, Gauge>,
    pub(super) lag: Family<ResolutionLabel, Gauge>,
}

impl ValidatorMeters {
    pub(super) fn of<'s>(state: &'s ModuleState, metrics: &Metrics) -> Option<&'s Self> {
        match state.meters(metrics, |metrics| Meters::Validator(Self::register(metrics))) {
            Meters::Validator(meters) => Some(meters),
            Meters::Aggregator(_) => None,
        }
    }

    fn register(metrics: &Metrics) -> Self {
        Self {
            records: metrics.register("sf_records", "Readings forwarded, by quality", Family::default()),
            discarded: metrics.register("sf_discarded", "Records not forwarded, by reason", Family::default()),
            duplicates: metrics.register(
                "sf_duplicates_suppressed",
                "Readings told twice and dropped",
                Counter::default(),
            ),
            gaps: metrics.register("sf_gaps", "Holes in the arrival of a point", Counter::default()),
            stale: metrics.register("sf_stale", "Points that fell silent", Counter::default()),
            alarms: metrics.register("sf_alarms", "Alarms that are watched for", Gauge::default()),
            transitions: metrics.register("sf_alarm_transitions", "Transitions of alarms written", Counter::default()),
            announced: metrics.register(
                "sf_alarms_announced",
                "Transitions people were to be told of",
                Counter::default(),
            ),
            dead_letters: metrics.register("sf_dlq", "Dead letters written, by reason", Family::default()),
            panics: metrics.register("sf_validator_panics", "Panics caught while judging a record", Counter::default()),
            lost: metrics.register("sf_loss_records", "Records gone before they were read", Family::default()),
            lag: metrics.register("sf_validator_lag_records", "Records not judged yet", Gauge::default()),
            points: metrics.register("sf_validator_points", "Points with a memory", Gauge::default()),
            points_without_memory: metrics.register(
                "sf_validator_readings_without_memory",
                "Readings judged without history, since too many points are known",
                Counter::default(),
            ),
            points_not_shown: metrics.register(
                "sf_live_points_refused",
                "Points beyond the limit of the live table",
                Counter::default(),
            ),
        }
    }
}

impl AggregatorMeters {
    pub(super) fn of<'s>(state: &'s ModuleState, metrics: &Metrics) -> Option<&'s Self> {
        match state.meters(metrics, |metrics| Meters::Aggregator(Self::register(metrics))) {
            Meters::Aggregator(meters) => Some(meters),
            Meters::Validator(_) => None,
        }
    }

    fn register(metrics: &Metrics) -> Self {
        Self {
            windows: metrics.register("sf_windows", "Windows emitted", Family::default()),
            late: metrics.register("sf_late_dropped", "Inputs whose window was closed", Family::default()),
            skipped: metrics.register("sf_aggregator_skipped", "Inputs not aggregated, by reason", Family::default()),
            lost: metrics.register(
                "sf_aggregator_loss_records",
                "Records gone before they were aggregated",
                Family::default(),
            ),
            open_windows: metrics.register("sf_open_windows", "Windows that are open", Family::default()),
            lag: metrics.register("sf_aggregator_lag_records", "Records not aggregated yet", Family::default()),
        }
    }
}
