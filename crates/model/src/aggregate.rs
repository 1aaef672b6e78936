//! Aggregates: the partial sums of one window of one tag.
//!
//! Windows carry partials (count, mean, M2 and so on), not only results, so that a longer window is the exact merge of
//! its shorter ones (AGG-04, AGG-05). The arithmetic lives in `pipeline`, the codec in `stream`.

use std::sync::Arc;

use crate::text::take_zigzag;
use crate::{Quality, TextList, Timestamp};

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

/// The mergeable partials of a window (AGG-04). All values in the tag's own unit. Without readings all are 0 and say
/// nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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

/// What a point measures, and with it what is worth knowing of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A quantity: mean, extremes, spread.
    #[default]
    Value,
    /// A totaliser: how much it grew (AGG-10).
    Counter,
    /// A direction in degrees: mean of vectors (AGG-12).
    Angle,
    /// True or false: time in each (AGG-11).
    Bool,
    /// One of a few states: time in each (AGG-11).
    Enum,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Value, Self::Counter, Self::Angle, Self::Bool, Self::Enum];

    /// The word in records and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Counter => "counter",
            Self::Angle => "angle",
            Self::Bool => "bool",
            Self::Enum => "enum",
        }
    }

    /// The reverse of [`Kind::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// How much of a window's time is known (AGG-07).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Time with a value, in microseconds.
    pub covered_us: i64,
    /// Time with a GOOD value, in microseconds.
    pub good_us: i64,
    /// Integral of the value over the covered time, in units times milliseconds; `None` when the average is not weighted
    /// by time.
    pub integral: Option<f64>,
}

/// What a counter did in a window (AGG-10).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// How much was counted.
    pub delta: f64,
    /// Times it began anew.
    pub resets: i64,
    /// Steps not counted, since they were faster than the plant can be.
    pub refused: i64,
    /// Steps over a time too long to be spread: counted here in whole.
    pub gaps: i64,
}

/// Sum of the unit vectors of an angle's readings (AGG-12).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Vector {
    pub sin: f64,
    pub cos: f64,
}

/// What a bool or a state did in a window (AGG-11).
#[derive(Debug, Clone, Copy)]
pub struct States<'a> {
    pub transitions: i64,
    /// State of the first reading; empty without one.
    pub first: &'a str,
    /// State of the last reading; empty without one.
    pub last: &'a str,
    pub times: StateTimes<'a>,
}

/// The state that takes the time of all beyond [`STATES_MAX`].
pub const OTHER_STATE: &str = "other";
/// States told apart in a window; the time of further ones counts as [`OTHER_STATE`].
pub const STATES_MAX: usize = 32;

/// Microseconds by state.
#[derive(Debug, Clone, Copy)]
pub enum StateTimes<'a> {
    /// Written by us.
    Owned(&'a [(Arc<str>, i64)]),
    /// Read from the stream: the bytes of an Avro map of longs, checked by the decoder.
    Packed(&'a [u8]),
}

impl<'a> StateTimes<'a> {
    /// State and microseconds, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, i64)> + use<'a> {
        let (owned, packed): (&'a [(Arc<str>, i64)], &'a [u8]) = match *self {
            Self::Owned(owned) => (owned, &[]),
            Self::Packed(packed) => (&[], packed),
        };
        owned.iter().map(|(state, micros)| (&**state, *micros)).chain(PackedTimes { rest: packed, left_in_block: 0 })
    }

    /// Microseconds of one state.
    pub fn get(&self, state: &str) -> i64 {
        self.iter().find(|(name, _)| *name == state).map_or(0, |(_, micros)| micros)
    }
}

/// A list of times in microseconds.
#[derive(Debug, Clone, Copy)]
pub enum Times<'a> {
    /// Written by us.
    Slice(&'a [i64]),
    /// Read from the stream: the bytes of an Avro array of longs, checked by the decoder.
    Packed(&'a [u8]),
}

impl Default for Times<'_> {
    fn default() -> Self {
        Self::Slice(&[])
    }
}

impl<'a> Times<'a> {
    pub fn iter(&self) -> impl Iterator<Item = i64> + use<'a> {
        let (slice, packed): (&'a [i64], &'a [u8]) = match *self {
            Self::Slice(slice) => (slice, &[]),
            Self::Packed(packed) => (&[], packed),
        };
        let (mut rest, mut left) = (packed, 0_u64);
        let unpacked = std::iter::from_fn(move || {
            if left == 0 {
                let count = take_zigzag(&mut rest).filter(|count| *count != 0)?;
                if count < 0 {
                    take_zigzag(&mut rest)?; // a negative count is followed by the block's size in bytes
                }
                left = count.unsigned_abs();
            }
            left -= 1;
            take_zigzag(&mut rest)
        });
        slice.iter().copied().chain(unpacked)
    }
}

struct PackedTimes<'a> {
    rest: &'a [u8],
    left_in_block: u64,
}

impl<'a> Iterator for PackedTimes<'a> {
    type Item = (&'a str, i64);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left_in_block == 0 {
            let count = take_zigzag(&mut self.rest)?;
            if count == 0 {
                self.rest = &[];
                return None;
            }
            if count < 0 {
                take_zigzag(&mut self.rest)?; // a negative count is followed by the block's size in bytes
            }
            self.left_in_block = count.unsigned_abs();
        }
        let length = usize::try_from(take_zigzag(&mut self.rest)?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        let micros = take_zigzag(&mut self.rest)?;
        self.left_in_block -= 1;
        Some((std::str::from_utf8(text).ok()?, micros))
    }
}

/// What only some kinds have.
#[derive(Debug, Clone, Copy, Default)]
pub enum Extra<'a> {
    #[default]
    None,
    Counter(Counts),
    Angle(Vector),
    States(States<'a>),
}

/// What of a window adds up: two of them merge exactly.
#[derive(Debug, Clone, Copy)]
pub struct Partials<'a> {
    pub statistics: Statistics,
    /// `None` where time is not looked at.
    pub coverage: Option<Coverage>,
    pub extra: Extra<'a>,
}

/// What holds at the start or the end of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Carry<'a> {
    /// Device time of the reading.
    pub time: Timestamp,
    pub number: f64,
    /// The state of a bool or an enum.
    pub state: Option<&'a str>,
    pub quality: Quality,
    /// Of a counter: how much was counted since already.
    pub counted: f64,
    /// How far the point runs behind the gateway's clock, in microseconds.
    pub behind_us: i64,
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
    pub kind: Kind,
    pub partials: Partials<'a>,
    pub quality: Quality,
    /// Closed before its end, or made from such a window (AGG-13).
    pub partial: bool,
    /// From 1; a correction of the same window counts up (AGG-06).
    pub revision: i64,
    /// What held at the window's start; with it and the readings the window can be made again.
    pub held: Option<Carry<'a>>,
    /// What holds at its end.
    pub carry: Option<Carry<'a>>,
    /// When what held ceased to hold, in microseconds.
    pub stops: Times<'a>,
    pub flags: TextList<'a>,
    /// When the window was emitted.
    pub gateway_time: Timestamp,
    pub gateway_id: &'a str,
}

impl Aggregate<'_> {
    /// The average its kind has; `None` where there is none, for example in an empty window or of states.
    pub fn average(&self) -> Option<f64> {
        let Partials { statistics: s, coverage, extra } = &self.partials;
        match (self.kind, coverage, extra) {
            (Kind::Value, Some(Coverage { covered_us, integral: Some(integral), .. }), _) => {
                (*covered_us > 0).then(|| integral / (as_float(*covered_us) / 1000.0))
            }
            (Kind::Value, ..) => (s.count > 0).then_some(s.mean),
            (Kind::Angle, _, Extra::Angle(Vector { sin, cos })) => {
                // directions that cancel each other out have no mean
                let length = sin.hypot(*cos);
                (length > 1e-9 * as_float(s.count.max(1))).then(|| sin.atan2(*cos).to_degrees().rem_euclid(360.0))
            }
            _ => None,
        }
    }

    /// `sample` or `time_weighted`.
    pub fn avg_method(&self) -> &'static str {
        let weighted = self.partials.coverage.is_some_and(|coverage| coverage.integral.is_some());
        if weighted { "time_weighted" } else { "sample" }
    }

    /// Lowest and highest value; `None` for kinds where that says nothing, and without readings.
    pub fn extremes(&self) -> Option<(f64, f64)> {
        let s = &self.partials.statistics;
        (self.kind == Kind::Value && s.count > 0).then_some((s.min, s.max))
    }

    /// Population standard deviation of the readings.
    pub fn stddev(&self) -> Option<f64> {
        let s = &self.partials.statistics;
        (self.kind == Kind::Value && s.count > 0).then(|| (s.m2 / as_float(s.count)).max(0.0).sqrt())
    }

    /// Share of the window that is GOOD: of its time where time is looked at, else of its readings.
    pub fn percent_good(&self) -> f64 {
        let s = &self.partials.statistics;
        let (good, all) = match self.partials.coverage {
            Some(coverage) => (coverage.good_us, self.window_end.as_micros() - self.window_start.as_micros()),
            None => (s.good_count, s.count),
        };
        if all > 0 { 100.0 * as_float(good) / as_float(all) } else { 0.0 }
    }

    /// Share of the covered time in which a bool was true.
    pub fn percent_true(&self) -> Option<f64> {
        let (Kind::Bool, Extra::States(states), Some(coverage)) =
            (self.kind, &self.partials.extra, self.partials.coverage)
        else {
            return None;
        };
        let covered = coverage.covered_us;
        (covered > 0).then(|| 100.0 * as_float(states.times.get("true")) / as_float(covered))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a window stay far below 2^53")]
fn as_float(number: i64) -> f64 {
    number as f64
}
