//! MQTT against a broker somebody else wrote: mosquitto, on a port and in a folder of its own.
//!
//! Needs `SF_TEST_EXTERNAL=1` and the programs of the packages mosquitto and mosquitto-clients; says `not run` otherwise.

mod acknowledging;
pub(crate) mod broker;
mod hearing_all;
mod listening;
pub(crate) mod probing;
pub(crate) mod process;
mod proxy;
mod refusing;
pub(crate) mod sparkplug;
