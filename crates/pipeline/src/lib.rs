//! The pure data path: validation rules, windows, and what was written before a crash.
//!
//! Knows no clock but the times it is handed, no stream and no task. Every decision is a function of the readings seen so
//! far, so that the same readings give the same answers after a restart. [`validate`] judges single readings,
//! [`aggregate`] folds them into windows, [`alarm`] tells people, [`resume`] decides which outputs a replay must not repeat, [`trail`] how far it looks for them.

pub mod aggregate;
pub mod alarm;
pub mod backtest;
mod bytes;
pub mod dead_letter;
pub mod points;
pub mod resume;
pub mod timers;
pub mod trail;
pub mod validate;

pub use points::PointTable;
