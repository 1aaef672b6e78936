//! Aggregation: tumbling windows by device time, kept as partials so that longer windows merge shorter ones exactly.
//!
//! [`statistics`] and [`totals`] are the arithmetic; [`plan`] says what is done with a point; [`window`] and [`series`] are
//! what is in a window; [`lane`] decides when windows open and close, [`rim`] what then happens, [`closed`] what is kept of
//! them, [`recall`] what comes back. [`Level`] is all of one resolution. Late data makes the next revision of its window (AGG-06).

mod closed;
mod counter;
mod lane;
mod level;
pub mod plan;
mod point;
mod recall;
mod rim;
mod series;
pub mod statistics;
pub mod totals;
mod window;

pub use lane::{Checkpoint, Closed, Restored, Sample, Taken};
pub use level::{Level, Limits};
pub use plan::Plans;
pub use recall::Stretch;
pub use totals::Totals;
pub use window::Input;
