//! Integration tests of the simulators over real sockets.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod modbus_server;
mod mqtt_broker;
mod opcua_server;
