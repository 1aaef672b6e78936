//! The data path inside the gateway: the validator and the aggregator, each a blocking loop on a thread of its own.
//!
//! They decide nothing here: the rules and windows are in `pipeline`, and these loops carry records between the stream
//! and those pure cores. Effectively once without transactions: every output names the input record it was derived from;
//! offsets are committed only behind acknowledged outputs; a commit carries *marks*, the ends of the output partitions
//! then, and a restart reads the outputs from there to know what is already written. Partition p of an output derives
//! from partition p of its input alone. Start with [`validator`] or [`aggregator`]; what both share is in the files beside.

mod aggregator;
mod alarm_table;
mod error;
mod flight;
mod live;
mod loss;
mod marks;
pub(crate) mod outlet;
mod pace;
mod schema_ids;
mod state;
mod strikes;
mod validator;

use std::sync::Arc;

use model::Clock;
use stream::Schemas;
use tokio_util::sync::CancellationToken;

pub use aggregator::run_aggregator;
pub use alarm_table::{AlarmSnapshot, AlarmTable, COMMAND};
pub use error::Error;
pub use live::{LivePoint, LiveTable, LiveValue};
pub use state::ModuleState;
pub use validator::{ValidatorSettings, run_validator};

/// What a module needs from the gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModuleContext {
    /// How the stream is reached.
    pub settings: kafka::client::Settings,
    pub schemas: Arc<Schemas>,
    /// For the registry, which is asked over HTTP.
    pub runtime: tokio::runtime::Handle,
    pub gateway_id: String,
    pub clock: Arc<dyn Clock>,
    pub metrics: daemon::Metrics,
    /// Ends the loops, after what is under way is acknowledged and committed.
    pub stop: CancellationToken,
    pub live: Arc<LiveTable>,
    pub alarms: Arc<AlarmTable>,
}
