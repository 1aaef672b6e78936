//! Aggregates: the partial sums of one window of one tag.
//!
//! Windows carry partials (count, mean, M2 and so on), not only results, so that a longer window is the exact merge of
//! its shorter ones (AGG-04, AGG-05). The arithmetic lives in `pipeline`, the codec in `stream`.

use crate::{Quality, Timestamp};

/// Width of a tumbling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    Second,
    Minute,
    Hour,
}

impl Resolution {
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// The word in topic names, tables and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Second => "1s",
            Self::Minute => "1min",
            Self::Hour => "1hour",
        }
    }

    /// The reverse of [`Resolution::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// Width in microseconds.
    pub const fn width_micros(self) -> i64 {
        match self {
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
        }
    }

    /// How long a window stays open behind the newest device time of its tag (AGG-02), in microseconds.
    pub const fn lateness_micros(self) -> i64 {
        match self {
            Self::Second => 5_000_000,
            Self::Minute => 30_000_000,
            Self::Hour => 300_000_000,
        }
    }
}

/// The mergeable partials of a window (AGG-04). All values in the tag's own unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    pub count: i64,
    pub sum: f64,
    pub mean: f64,
    /// Sum of squared distances from the mean.
    pub m2: f64,
    pub min: f64,
    pub min_time: Timestamp,
    pub max: f64,
    pub max_time: Timestamp,
    pub first: f64,
    pub first_time: Timestamp,
    pub last: f64,
    pub last_time: Timestamp,
    pub good_count: i64,
    pub suspect_count: i64,
    pub uncertain_count: i64,
}

/// One window as it travels on `telemetry.1s`, `.1min`, `.1hour`.
#[derive(Debug, Clone, Copy)]
pub struct Aggregate<'a> {
    pub asset_id: &'a str,
    pub parameter: &'a str,
    pub unit: Option<&'a str>,
    pub resolution: Resolution,
    /// Inclusive.
    pub window_start: Timestamp,
    /// Exclusive.
    pub window_end: Timestamp,
    pub statistics: Statistics,
    pub quality: Quality,
    /// From 1; a correction of the same window counts up (AGG-06).
    pub revision: i64,
    /// When the window was emitted.
    pub gateway_time: Timestamp,
    pub gateway_id: &'a str,
}
