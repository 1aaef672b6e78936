//! Aggregation: tumbling windows by device time, kept as partials so that longer windows merge shorter ones exactly.
//!
//! [`statistics`] is the arithmetic, [`window`] one open window, [`Level`] all open windows of one resolution with the
//! decisions when they open and close. Late data opens a closed window again and it is emitted with the next revision
//! (AGG-06); [`closed`] keeps what that takes.

mod closed;
mod lane;
mod level;
pub mod statistics;
pub mod window;

pub use lane::{Checkpoint, Closed, Restored, Sample, Taken};
pub use level::{Level, OPEN_WINDOWS_MAX, POINTS_MAX};
pub use window::Input;
