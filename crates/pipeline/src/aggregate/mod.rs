//! Aggregation: tumbling windows by device time, kept as partials so that longer windows merge shorter ones exactly.
//!
//! [`statistics`] is the arithmetic, [`window`] one open window, [`Level`] all open windows of one resolution with the
//! decisions when they open and close. A window that was closed is never opened again: late readings are counted.

mod lane;
mod level;
pub mod statistics;
pub mod window;

pub use lane::{Checkpoint, Closed, Sample, Taken};
pub use level::{Level, OPEN_WINDOWS_MAX, POINTS_MAX};
pub use window::Input;
