//! Simulated devices.
//!
//! `streamforge sim modbus` runs [`modbus::run`], `streamforge sim mqtt` runs [`mqtt::run`]; tests start
//! [`modbus::Simulator`] or [`mqtt::Broker`] on a free port and script its faults.

pub mod modbus;
pub mod mqtt;
