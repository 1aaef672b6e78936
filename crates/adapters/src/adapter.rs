//! What an adapter is: something that connects to a device and reads the tags of a poll group.
//!
//! The component writes the protocol; the host ([`crate::host`]) writes the patience. There is no backoff, no schedule,
//! no metric and no health in an adapter, so that a mistake there is healed once for all of them.
//!
//! Where to look next: [`crate::modbus::adapter`] for one that speaks to devices, [`crate::simulated`] for the smallest.

use std::future::Future;
use std::time::Duration;

use model::{Classification, ValueType};

use crate::sample::Cycle;

/// One named signal of an adapter; constant for its life.
#[derive(Debug, Clone, PartialEq)]
pub struct Tag {
    /// The thing in the plant.
    pub asset_id: String,
    /// ISA-95 path of the asset.
    pub asset_path: Option<String>,
    /// The measured quantity.
    pub parameter: String,
    /// Engineering unit as configured.
    pub unit: Option<String>,
    /// Declared type of its values.
    pub value_type: ValueType,
    /// Telemetry, event or alarm; from configuration only.
    pub classification: Classification,
    /// Where the value comes from, for `metadata.source_ref`: `u=1;fc=3;a=0`.
    pub source_ref: String,
    /// Index of its poll group.
    pub group: usize,
    /// Index of its device.
    pub device: usize,
}

/// Tags that are read together at one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As configured.
    pub name: String,
    /// From one poll to the next.
    pub period: Duration,
}

/// Why a connection could not be made or is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The device cannot be reached.
    #[error("cannot connect to {target}")]
    Connect {
        /// `host:port`.
        target: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Connecting took too long.
    #[error("{target} did not accept a connection within {timeout:?}")]
    ConnectTimeout {
        /// `host:port`.
        target: String,
        /// The limit.
        timeout: Duration,
    },
    /// The other side ended the connection.
    #[error("{target} closed the connection")]
    Closed {
        /// `host:port`.
        target: String,
    },
    /// Sending or receiving failed.
    #[error("the connection to {target} broke")]
    Broken {
        /// `host:port`.
        target: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Several requests in a row were not answered.
    #[error("{target} left {timeouts} requests in a row unanswered")]
    Silent {
        /// `host:port`.
        target: String,
        /// How many.
        timeouts: u32,
    },
    /// The bytes on the connection make no sense any more.
    #[error("the conversation with {target} is out of step: {what}")]
    OutOfStep {
        /// `host:port`.
        target: String,
        /// What was seen.
        what: String,
    },
}

impl LinkError {
    /// True if the other side merely hung up, as many devices do with idle connections: worth one immediate try.
    pub fn is_hang_up(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Broken { .. })
    }
}

/// A source connector.
///
/// Laws, proven for every member by `tests/it/conformance.rs`:
/// 1. `tags`, `groups` and `devices` never change.
/// 2. `connect` makes one attempt, within the adapter's own connect timeout, and may be called again at any time.
/// 3. `poll` reads each tag of the group at most once and reports it at most once, as a value or as BAD with a reason.
///    After `Ok` every tag of the group was reported.
/// 4. `poll` gives an error only when the connection is of no use any more; a device that answers "no" is not an error.
///    Tags reported before the error stand; the host reports the others.
/// 5. All tags read by one answer of the device carry the same device time (MB-19).
/// 6. A dropped `poll` leaves the adapter fit only for `connect`.
pub trait Adapter: Send {
    /// What is read; the index of a tag is its number everywhere else.
    fn tags(&self) -> &[Tag];

    /// Poll groups, fastest first.
    fn groups(&self) -> &[Group];

    /// Names of the devices behind this adapter, for metrics and health.
    fn devices(&self) -> &[String];

    /// Makes a new connection, dropping an old one.
    fn connect(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Reads the tags of a group.
    fn poll(&mut self, group: usize, cycle: &mut Cycle) -> impl Future<Output = Result<(), LinkError>> + Send;
}
