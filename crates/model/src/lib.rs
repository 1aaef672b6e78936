//! The nouns of the plant: readings, quality, time, identities.
//!
//! Knows no tokio, no I/O and no clock but the [`Clock`] it is handed. Everything above speaks in these words; the glossary in
//! `docs/glossary.md` defines them.

pub mod aggregate;
pub mod alarm;
pub mod health;
pub mod ids;
pub mod quality;
pub mod reading;
pub mod text;
pub mod time;

pub use aggregate::{Aggregate, Coverage, Kind, Resolution, Statistics};
pub use alarm::{Alarm, AlarmChange, AlarmKind, AlarmState, IsaState, Severity, SuppressionKind, alarm_flag};
pub use health::Health;
pub use ids::{AdapterId, AssetId, InvalidName, Parameter};
pub use quality::{Quality, flag, reason};
pub use reading::{Classification, Reading, Value, ValueType, time_source};
pub use text::{TextList, TextMap};
pub use time::{Clock, ClockState, ManualClock, SystemClock, Timestamp};
