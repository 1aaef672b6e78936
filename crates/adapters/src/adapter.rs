//! What an adapter is: something that connects to a device and reads the tags of a poll group, or hears what it sends.
//!
//! The component writes the protocol; the host ([`crate::host`]) writes the patience. There is no backoff, no schedule,
//! no metric and no health in an adapter, so that a mistake there is healed once for all of them.
//!
//! Where to look next: [`crate::modbus::adapter`] for one that speaks to devices, [`crate::simulated`] for the smallest,
//! [`crate::mqtt`] for one that is sent to.

use std::future::Future;
use std::time::Duration;

use model::{Classification, ValueType};

use crate::edges::Edges;
use crate::notice::Notice;
use crate::publishing::OnChange;
use crate::sample::Cycle;

/// Group of a tag that is not polled.
pub const NO_GROUP: usize = usize::MAX;

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
    /// Index of its poll group; [`NO_GROUP`] for one that is not polled.
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
    /// The other side does not want us, and says so.
    #[error("{target} refused: {what}")]
    Refused {
        /// `host:port`.
        target: String,
        /// What it said, and what to try.
        what: String,
        /// Asking again before this is of no use.
        wait_min: Duration,
    },
    /// The other side shows who it is, and nobody has said that this is right.
    #[error("{target} is not trusted: {what}")]
    Untrusted {
        /// `host:port`.
        target: String,
        /// What it shows, and what to do.
        what: String,
    },
    /// What the connection needs on this machine is not there or not usable.
    #[error("cannot prepare the connection to {target}: {what}")]
    Setup {
        /// `host:port`.
        target: String,
        /// What is missing.
        what: String,
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

    /// How long the next try should wait at least.
    pub fn wait_min(&self) -> Duration {
        match self {
            Self::Refused { wait_min, .. } => *wait_min,
            _ => Duration::ZERO,
        }
    }

    /// How long the next try may wait at most: what a person has just allowed shall be seen to work.
    pub fn wait_max(&self) -> Duration {
        match self {
            Self::Untrusted { .. } => Duration::from_secs(10),
            _ => Duration::MAX,
        }
    }
}

/// What a source that keeps its messages until they are confirmed is owed: a number that grows with each.
pub type Receipt = u64;

/// A source connector.
///
/// Two kinds of source, and any mixture: what has to be asked has poll groups; what sends by itself is heard.
///
/// Laws, proven for every member by `tests/it/conformance.rs`:
/// 1. `groups` and `devices` never change. `tags` grows at its end only: a source that learns its points adds them before
///    it reports the first sample of each, and their group is none of `groups`.
/// 2. `connect` makes one attempt, within the adapter's own connect timeout, and may be called again at any time.
/// 3. `poll` reads each tag of the group at most once and reports it at most once, as a value or as BAD with a reason.
///    After `Ok` every tag of the group was reported, unless the cycle says that the poll has paused for a faster group.
/// 4. `poll` gives an error only when the connection is of no use any more; a device that answers "no" is not an error.
///    Tags reported before the error stand; the host reports the others.
/// 5. All tags read by one answer of the device carry the same device time (MB-19).
/// 6. A dropped `poll` leaves the adapter fit only for `connect`.
/// 7. `hear` returns as soon as there is something to hand over, and may be dropped at any time without losing any of it:
///    it never waits with something in the cycle. An error as in law 4; what stands in the cycle then is taken.
/// 8. A receipt in the cycle is owed: the host calls `settle` with it, or with a later one, when everything in that cycle
///    and in all before it is durable, in the order of hearing, and never before. What is under a receipt is never
///    dropped for lack of room, so a source must bound what it has heard and not settled. After `connect` the receipts
///    of the old connection are worth nothing, and settling them does nothing.
pub trait Adapter: Send {
    /// True if reconnecting is spread over the whole wait and not only around it: many clients share one server.
    const FULL_JITTER: bool = false;

    /// What is read; the index of a tag is its number everywhere else.
    fn tags(&self) -> &[Tag];

    /// Poll groups, fastest first; none for a source that only sends by itself.
    fn groups(&self) -> &[Group];

    /// Names of the devices behind this adapter, for metrics and health.
    fn devices(&self) -> &[String];

    /// Makes a new connection, dropping an old one.
    fn connect(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// Reads the tags of a group.
    fn poll(&mut self, group: usize, cycle: &mut Cycle) -> impl Future<Output = Result<(), LinkError>> + Send;

    /// How a tag is published where not every value of it is (MB-41).
    fn publishing(&self, _tag: usize) -> Option<&OnChange> {
        None
    }

    /// Which changes of a tag are told as events (MB-40).
    fn edges(&self, _tag: usize) -> Option<&Edges> {
        None
    }

    /// Waits for what the source sends by itself.
    fn hear(&mut self, _cycle: &mut Cycle) -> impl Future<Output = Result<(), LinkError>> + Send {
        std::future::pending()
    }

    /// Everything up to this receipt is durable.
    fn settle(&mut self, _upto: Receipt) {}

    /// Ends the conversation politely, after the last `settle`; the connection is of no use afterwards.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// What is to be told although there is no connection; asked for after each attempt.
    fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }

    /// Why there is no connection, as one word of a closed list; shown in health.
    fn link_reason(&self) -> Option<&'static str> {
        None
    }

    /// What a person should know although all is well; shown in health.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What keeps the source from being all it should be although it is connected; one clause about the first device.
    fn complaint(&self) -> Option<String> {
        None
    }
}
