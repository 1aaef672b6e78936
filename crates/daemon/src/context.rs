//! The one context a process is given by `main`: identity, clock, stop token, metrics, health board.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use model::Clock;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, ClockSource, MachineClock};
use crate::{Board, Launch, Metrics};

/// Everything a role needs from its process. Cheap to clone; clones share the same board, metrics and stop token.
#[derive(Debug, Clone)]
pub struct Context {
    /// Name in logs, health and metrics, for example `adapter_modbus_001`.
    pub component: String,
    /// The gateway this process belongs to.
    pub gateway_id: String,
    /// Cancelled once; every loop watches it.
    pub stop: CancellationToken,
    pub clock: Arc<dyn Clock>,
    /// The same clock with what is needed to judge it.
    pub clock_source: Arc<dyn ClockSource>,
    pub clock_settings: clock::Settings,
    pub metrics: Metrics,
    pub board: Arc<Board>,
    /// Where the admin server listens (`/health`, `/metrics`); port 0 picks a free one.
    pub admin_listen: SocketAddr,
    /// Folder in which a process publishes its bound addresses as `<component>.addr`.
    pub run_dir: Option<PathBuf>,
    /// Where schemas are registered, for example `http://127.0.0.1:8081`.
    pub schema_registry: Option<String>,
    /// What an external stream asks for besides its address, as the runtime wrote it; none for the embedded one.
    pub stream_access: Option<String>,
    /// Folder of the schema cache.
    pub schema_cache: Option<PathBuf>,
    /// Folder for what a component remembers over a restart.
    pub state_dir: Option<PathBuf>,
    /// What the supervisor handed over: start counter and secrets.
    pub launch: Launch,
}

impl Context {
    /// A context on the machine's clock with an admin port chosen by the system; `main` and tests refine the fields.
    pub fn new(component: &str, gateway_id: &str) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(MachineClock);
        Self {
            component: component.to_owned(),
            gateway_id: gateway_id.to_owned(),
            stop: CancellationToken::new(),
            metrics: Metrics::new(component),
            board: Arc::new(Board::new(component, Arc::clone(&clock))),
            clock,
            clock_source: Arc::new(MachineClock),
            clock_settings: clock::Settings::default(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            run_dir: None,
            schema_registry: None,
            stream_access: None,
            schema_cache: None,
            state_dir: None,
            launch: Launch::default(),
        }
    }
}
