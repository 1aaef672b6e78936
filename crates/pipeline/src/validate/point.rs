//! What is remembered of one point, in as little memory as it needs.

use model::{Quality, Timestamp};

use super::rules::condition::Operand;
use super::rules::{duplicate, flatline, rate, share, spike};

/// No time yet.
pub(super) const NEVER: i64 = i64::MIN;

/// Times in microseconds, [`NEVER`] where there is none; small, since a million of them must pass through the cache.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts in four bytes")]
pub(super) struct Point {
    /// Newest accepted device time.
    pub(super) newest: i64,
    /// The value at that time, where it is a number.
    pub(super) last_value: f64,
    /// Steady time of the last accepted reading.
    pub(super) arrival: i64,
    /// Device time since which the class holds.
    pub(super) since: i64,
    /// When the class was GOOD last, for points that are not.
    pub(super) last_good: i64,
    pub(super) memory: duplicate::Memory,
    /// What only points with the rarer checks remember.
    pub(super) extras: Option<Box<Extras>>,
    pub(super) profile: u32,
    /// Place in the lane's list of assets.
    pub(super) asset: u32,
    /// Numbers the caller keeps with the point.
    pub(super) handles: [u32; 2],
    /// Steady time of the last reading of any quality, in seconds; wraps in the year 2106, when a point may be forgotten early.
    pub(super) seen_s: u32,
    pub(super) class: Option<Quality>,
    /// `last_value` is a value of the point.
    pub(super) has_number: bool,
    /// Told to be silent, and not heard since.
    pub(super) stale: bool,
    /// A deadline for its silence is set.
    pub(super) timed: bool,
    /// Changed since its asset was saved.
    pub(super) dirty: bool,
}

/// See [`Point::extras`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Extras {
    pub(super) recent: spike::Recent,
    pub(super) rest: Option<flatline::Rest>,
    pub(super) operand: Option<Operand>,
    pub(super) share: Option<share::Share>,
    /// A level that was rejected and may turn out to be real.
    pub(super) rejected: Option<rate::Candidate>,
}

/// A point changed its quality class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// `None` for the first reading of a point, when it is not GOOD.
    pub from: Option<Quality>,
    pub to: Quality,
    /// Since when `from` held, by device time.
    pub since: Option<Timestamp>,
    pub last_good: Option<Timestamp>,
}

/// A time that may be missing.
pub(super) fn time(micros: i64) -> Option<Timestamp> {
    (micros != NEVER).then(|| Timestamp::from_micros(micros))
}

impl Point {
    pub(super) fn new(profile: u32, asset: u32) -> Self {
        Self {
            newest: NEVER,
            last_value: 0.0,
            arrival: NEVER,
            since: NEVER,
            last_good: NEVER,
            memory: duplicate::Memory::default(),
            extras: None,
            profile,
            asset,
            handles: [0; 2],
            seen_s: 0,
            class: None,
            has_number: false,
            stale: false,
            timed: false,
            dirty: false,
        }
    }

    /// Takes the class of a judged reading in and tells whether it is another one; `newest_before` is the newest device
    /// time before this reading.
    #[inline]
    pub(super) fn classify(&mut self, quality: Quality, device_time: Timestamp, newest_before: i64) -> Option<Change> {
        if self.class == Some(quality) {
            return None;
        }
        if self.class == Some(Quality::Good) {
            self.last_good = newest_before;
        }
        let last_good = time(self.last_good);
        let (from, since) = (self.class.replace(quality), time(self.since));
        self.since = device_time.as_micros();
        if from.is_none() && quality == Quality::Good {
            return None; // a point that begins well is no news
        }
        Some(Change { from, to: quality, since, last_good })
    }

    /// The clock behind its times was set anew: nothing before can be compared with what comes.
    pub(super) fn forget_times(&mut self) {
        self.newest = NEVER;
        self.has_number = false;
        if let Some(extras) = &mut self.extras {
            extras.rest = None;
            extras.rejected = None;
        }
    }
}
