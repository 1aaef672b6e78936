//! Alarms: from readings, device events and commands to the life of every alarm (ALM-01..21).
//!
//! Not a safety function; never a substitute for the trips of a PLC or a safety system.
//!
//! Invariants: the same inputs in the same order give the same transitions; time is only what [`Now`] says; nothing grows
//! without a named bound. A point nobody watches costs one comparison per reading.
//!
//! Look next at `engine.rs` for what a caller does, `state.rs` for the table of states, `condition.rs` for detection,
//! `lane.rs` for how they meet, `save.rs` for what survives a restart.

mod command;
mod condition;
mod engine;
mod first_out;
mod flood;
mod handling;
mod kept;
mod lane;
mod memory;
mod plan;
mod record;
mod restore;
mod save;
mod state;
mod timers;
mod watch;

pub use command::{
    Action, COMMANDS_REMEMBERED_MAX, COMMENT_CHARS_MAX, Command, CommandAnswer, CommandResult, NAME_LENGTH_MAX, Role,
    Source,
};
pub use condition::{Input, suppressed};
pub use engine::{Counts, DeviceEvent, Engine, Listed, SystemEvent, Transition};
pub use flood::AreaKpis;
pub use kept::{CONDITIONS_MAX, ConditionEvent, RefreshEvent};
pub use restore::Damaged;
pub use state::{Flags, Outcome, Step, next};

use model::Timestamp;

/// Alarms in one engine, over all lanes, and points watched for them; a point beyond it is not watched, and counted.
pub const ALARMS_MAX: usize = 100_000;

/// The time of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds of a clock that never goes back within a lane, also over restarts: delays and shelving run on it
    /// (ALM-07, ALM-12). After a restart it goes on at [`Engine::steady`], plus the time the gateway was down when the
    /// wall clock can be trusted.
    pub steady: i64,
    /// For people and records; decides nothing but the expiry of commands.
    pub wall: Timestamp,
    /// False while the wall clock is UNSYNCED: then nothing expires by it.
    pub wall_trusted: bool,
}

impl Now {
    /// The same moment seen from an earlier steady time.
    fn at(self, steady: i64) -> Self {
        Self { steady, wall: self.wall.plus_micros(steady.saturating_sub(self.steady)), ..self }
    }
}
