//! Simulated devices.
//!
//! `streamforge sim modbus` runs [`modbus::run`]; tests start [`modbus::Simulator`] on a free port and script its faults.

pub mod modbus;

pub use modbus::{Options, run};
