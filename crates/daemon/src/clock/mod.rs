//! What the gateway's clock is worth, and when it was set: SYNCED, HOLDOVER or UNSYNCED (OFF-01 to OFF-04).
//!
//! Invariants:
//! - Nobody here sets the clock; it is observed, and what depends on it is told.
//! - What is decided is decided in [`state`], a pure function of observations; [`machine`] is the only place that asks
//!   the kernel.
//! - Durations are differences of the time since boot, which goes on during suspend and which nobody can set (G-04).
//!
//! Where to look next: [`state`] for the rules, [`watch`] for what a process holds, `docs/adr/0014-clock-states.md` for
//! the reasons.

pub mod last_good;
pub mod machine;
pub mod metrics;
pub mod state;
pub mod watch;

use std::time::Duration;

use model::Clock;

pub use machine::MachineClock;
pub use state::{Kernel, Life, Memory, Observation, Rules, Step};
pub use watch::{Stamp, Watch};

/// How long completed readings wait for the clock after the start of a process when nothing else is set (OFF-04).
pub const BOOT_HOLD: Duration = Duration::from_secs(60);

/// A wall clock with what is needed to judge it. A parameter everywhere, so that tests set and stop it.
pub trait ClockSource: Clock {
    /// Microseconds since the machine started, suspend included; never set, never backwards.
    fn boottime_us(&self) -> i64;

    /// What the kernel knows of a time server.
    fn kernel(&self) -> Kernel;

    /// Names the time from one start of the machine to the next.
    fn boot(&self) -> String;
}

/// What an operator sets of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Somebody else keeps the time, for example the host of a virtual machine: the state is always SYNCED.
    pub assume_synced: bool,
    /// How long completed readings wait for a clock that is not set; zero is not at all.
    pub boot_hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { assume_synced: false, boot_hold: BOOT_HOLD }
    }
}
