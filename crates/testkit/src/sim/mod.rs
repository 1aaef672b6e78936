//! Simulated devices.
//!
//! `streamforge sim modbus` runs [`modbus::run`], `sim opcua` [`opcua::run`], `sim mqtt` [`mqtt::run`]; tests start
//! [`modbus::Simulator`], [`opcua::Server`] or [`mqtt::Broker`] on a free port and script its faults.

pub mod modbus;
pub mod mqtt;
pub mod opcua;
