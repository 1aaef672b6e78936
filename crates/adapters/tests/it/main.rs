//! Integration tests of the adapters: real sockets, a simulated device, no broker.
#![expect(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod capture;
mod clocking;
mod conformance;
mod faults;
mod hearing;
mod hosting;
mod learning;
mod libmodbus;
mod mqtt;
mod opcua;
mod plant;
mod probing;
mod pumping;
mod reporting;
mod serial;
mod serving;
mod support;
mod wire;
