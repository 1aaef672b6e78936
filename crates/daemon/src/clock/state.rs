//! The rules: from one observation to the next, what the clock is worth and whether it was set (OFF-01, OFF-02).
//!
//! Pure. Hours of a plant are milliseconds of a test.

use model::{ClockState, Timestamp};
use serde::{Deserialize, Serialize};

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 24 * 3600 * SECOND_US;

/// A clock further from its time server than this is not SYNCED.
pub const SYNCED_WITHIN_US: i64 = 100_000;
/// A clock without a time server for longer than this is UNSYNCED.
pub const HOLDOVER_MAX_US: i64 = DAY_US;
/// The wall clock was set when it went further than this from the time since boot; less is a correction nobody minds.
pub const STEP_MIN_US: i64 = SECOND_US;
/// A leap second is seen as a step of one second, give or take the time it takes to look.
const LEAP_SLACK_US: i64 = 100_000;
/// No build runs longer than this after it was made: a clock beyond is as wrong as one in 1970.
const BUILD_LIFE_MAX_US: i64 = 25 * 365 * DAY_US;

/// What the kernel knows of a time server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kernel {
    /// Somebody disciplines the clock.
    pub synced: bool,
    /// By how much the clock is estimated to be off.
    pub offset_us: i64,
    /// A leap second is about to come or has just been.
    pub leap: bool,
}

/// All that is seen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub wall: Timestamp,
    /// Since the machine started, suspend included.
    pub boottime_us: i64,
    pub kernel: Kernel,
}

impl Observation {
    /// Wall clock less time since boot: constant until somebody sets or slews the clock.
    pub const fn shift_us(&self) -> i64 {
        self.wall.as_micros().saturating_sub(self.boottime_us)
    }
}

/// What does not change while the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The state is always SYNCED.
    pub assume_synced: bool,
    /// When this program was built; an earlier wall clock was never set.
    pub built: Timestamp,
}

/// What outlives the process: in the state folder of the runtime, and handed to each child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// The last wall clock that was believed, microseconds since 1970; an earlier one is wrong.
    pub not_before_us: Option<i64>,
    /// When the gateway first looked at the clock since the machine started, on the clock since boot.
    pub begun_us: Option<i64>,
    /// When the clock was last seen SYNCED since then, on the same clock.
    pub synced_us: Option<i64>,
}

/// Somebody set the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Positive: it was set forward.
    pub delta_us: i64,
}

impl Step {
    pub const fn delta_ms(self) -> i64 {
        self.delta_us / 1000
    }
}

/// What one observation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    pub step: Option<Step>,
    /// The state before.
    pub state: Option<ClockState>,
    /// A time server says that the time believed before lay in the future.
    pub rewound: bool,
}

/// What is known of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub state: ClockState,
    /// The wall clock is not earlier than the build and the last time believed, and not absurdly late.
    pub plausible: bool,
    pub not_before: Timestamp,
    /// Last seen.
    pub seen: Observation,
    begun_us: i64,
    synced_us: Option<i64>,
    /// Since when the state is not SYNCED.
    astray_since_us: Option<i64>,
}

impl Life {
    /// From the first observation of a process.
    pub fn begin(rules: &Rules, memory: Memory, seen: Observation) -> Self {
        let last_good = memory.not_before_us.map_or(rules.built, Timestamp::from_micros);
        let blank = Self {
            state: ClockState::Unsynced,
            plausible: false,
            not_before: last_good.max(rules.built),
            seen,
            // a time after now is of another boot
            begun_us: memory.begun_us.filter(|at| *at <= seen.boottime_us).unwrap_or(seen.boottime_us),
            synced_us: memory.synced_us.filter(|at| *at <= seen.boottime_us),
            astray_since_us: None,
        };
        let mut life = next(blank, rules, seen).0;
        if life.state != ClockState::Synced {
            life.astray_since_us = Some(life.synced_us.unwrap_or(life.begun_us));
        }
        life
    }

    /// What to keep for the next process.
    pub fn memory(&self) -> Memory {
        Memory {
            not_before_us: Some(self.not_before.as_micros()),
            begun_us: Some(self.begun_us),
            synced_us: self.synced_us,
        }
    }

    /// For how long the state has not been SYNCED.
    pub fn astray_us(&self) -> i64 {
        self.astray_since_us.map_or(0, |since| self.seen.boottime_us.saturating_sub(since).max(0))
    }

    /// The time that may be written down as the last good one; `None` while the clock is not believed.
    pub fn good_time(&self) -> Option<Timestamp> {
        match self.state {
            _ if !self.plausible => None,
            ClockState::Synced => Some(self.seen.wall),
            ClockState::Holdover => Some(self.seen.wall.max(self.not_before)),
            ClockState::Unsynced => None,
        }
    }
}

/// Is this a time at which this build can run?
pub fn plausible(wall: Timestamp, built: Timestamp, not_before: Timestamp) -> bool {
    wall >= built && wall >= not_before && wall <= built.plus_micros(BUILD_LIFE_MAX_US)
}

/// Takes in an observation.
pub fn next(before: Life, rules: &Rules, seen: Observation) -> (Life, Changes) {
    let mut life = Life { seen, ..before };
    let disciplined = seen.kernel.synced && seen.kernel.offset_us.saturating_abs() <= SYNCED_WITHIN_US;
    let possible = plausible(seen.wall, rules.built, rules.built);
    // a time server knows better than a file that was written by a wrong clock
    let rewound = disciplined && possible && seen.wall < before.not_before;
    if rewound {
        life.not_before = seen.wall;
    }
    life.plausible = possible && seen.wall >= life.not_before;
    if disciplined && life.plausible {
        life.synced_us = Some(seen.boottime_us);
    }
    let alone_us = seen.boottime_us.saturating_sub(life.synced_us.unwrap_or(life.begun_us));
    life.state = if rules.assume_synced || (disciplined && life.plausible) {
        ClockState::Synced
    } else if life.plausible && alone_us <= HOLDOVER_MAX_US {
        ClockState::Holdover
    } else {
        ClockState::Unsynced
    };
    life.astray_since_us = match life.state {
        ClockState::Synced => None,
        _ => Some(before.astray_since_us.unwrap_or(seen.boottime_us)),
    };
    let changed = (life.state != before.state).then_some(before.state);
    (life, Changes { step: step(before.seen, seen), state: changed, rewound })
}

/// Was the wall clock set between two observations?
fn step(before: Observation, now: Observation) -> Option<Step> {
    let delta_us = now.shift_us().saturating_sub(before.shift_us());
    let leap = now.kernel.leap && (delta_us.saturating_abs() - SECOND_US).abs() <= LEAP_SLACK_US;
    (delta_us.saturating_abs() > STEP_MIN_US && !leap).then_some(Step { delta_us })
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
