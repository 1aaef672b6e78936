//! Alarms: the acceptance rows, laws that hold for any input, and days of a plant.

mod acceptance;
mod commands;
mod kept;
pub(crate) mod plant;
mod properties;
mod restarts;
mod simulation;
