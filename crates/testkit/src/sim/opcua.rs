//! An OPC UA server in this process: the filling line of the demo plant, nodes of a test's own, and faults on demand.
//!
//! It speaks what a subscriber needs: endpoints, sessions that outlive their connection, reading, browsing, subscriptions
//! with repetition and transfer. Only the security policy None and anonymous logins; no events, no history, no methods.
//! The codec and the channel are the library's that the adapter uses, so the two cannot find a mistake in it together;
//! `tests/it/opcua_server.rs` therefore has a foreign client speak to it as well.
//!
//! Where to look next: [`fault`] for what can go wrong by script, [`Server`] for what a test does to it, `service` for what
//! it answers, `subscription` and `state` for when it tells something, `space` for its nodes.

mod channel;
mod connection;
pub mod fault;
mod service;
mod space;
mod state;
mod subscription;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opcua_types::{DataValue, DateTime, ServerState, StatusCode, Variant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use fault::{Fault, Rule};
pub use opcua_types;
pub use space::{SERVER_URI, SPARE_URI, SPARE_VALUE};
pub use state::Counters;
use state::State;

/// Open connections; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 100;
/// Requests remembered for [`Server::requests`]; the oldest is forgotten first.
const SEEN_MAX: usize = 10_000;
/// How often it looks at what is due; no interval is shorter.
const TICK: Duration = Duration::from_millis(10);
/// How long to wait after the operating system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Settings of `streamforge sim opcua`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:4840")]
    pub listen: SocketAddr,
    /// Announce that a call may watch this many items, and refuse more
    #[arg(long)]
    pub items_per_call: Option<u32>,
    /// Refuse calls that watch more items than this, without having announced it
    #[arg(long)]
    pub refuse_above: Option<u32>,
    /// Start anew every so many seconds: nobody is known any more, and the namespaces change their numbers
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub restart_every: Option<u64>,
    /// Misbehave: delay=200, close, refuse=0x80250000, drop, lose, duplicate, reorder; /N for one in N, @S for requests of service S
    #[arg(long = "fault", value_name = "FAULT[=VALUE][/N][@SERVICE]")]
    pub faults: Vec<Rule>,
}

/// What the server announces and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Announced as MaxMonitoredItemsPerCall, and kept; none is announced when absent.
    pub items_per_call: Option<u32>,
    /// Kept without being announced.
    pub refuses_items_above: Option<u32>,
    /// Announced as MaxNodesPerRead, and kept.
    pub nodes_per_read: Option<u32>,
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {address} as an OPC UA server; give another address with --listen")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs the server until `stop`.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), Error> {
    let limits = Limits {
        items_per_call: options.items_per_call,
        refuses_items_above: options.refuse_above,
        nodes_per_read: None,
    };
    let server = Server::start(options.listen, limits).await?;
    for rule in options.faults {
        server.script(rule);
    }
    tracing::info!(address = %server.address(), "simulating an OPC UA server (no security)");
    let Some(seconds) = options.restart_every else {
        stop.cancelled().await;
        return Ok(());
    };
    let mut swapped = false;
    loop {
        tokio::select! { // nothing is lost with either
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
        swapped = !swapped;
        tracing::info!(swapped, "the server starts anew");
        server.restart(swapped);
    }
}

/// A request that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Number of the connection.
    pub connection: u64,
    /// Name of the service: `CreateSession`.
    pub service: &'static str,
}

/// A running server; dropping it closes its port and all connections.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Owns the accept loop, which owns the connections, and the clock.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    seen: Mutex<VecDeque<Seen>>,
    offline: AtomicBool,
    /// Goes up when all connections are to end.
    era: watch::Sender<u64>,
}

impl Server {
    /// Listens; port 0 picks a free one.
    pub async fn start(listen: SocketAddr, limits: Limits) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(limits, false, Instant::now())),
            seen: Mutex::default(),
            offline: AtomicBool::new(false),
            era: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        let of_clock = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut tick = interval(TICK);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                of_clock.state().tick(Instant::now());
            }
        });
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// On a free port of this machine.
    pub async fn local() -> Result<Self, Error> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), Limits::default()).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule; earlier rules win.
    pub fn script(&self, rule: Rule) {
        self.shared.state().script.push(rule);
    }

    /// Forgets all rules: the server behaves again.
    pub fn behave(&self) {
        self.shared.state().script.clear();
    }

    /// Gives a node of the line's namespace a value, with a status and now as its time; a new name becomes a new node.
    pub fn set(&self, name: &str, value: impl Into<Variant>, status: StatusCode) {
        let now = DateTime::now();
        let value = DataValue {
            value: Some(value.into()),
            status: Some(status),
            source_timestamp: Some(now),
            server_timestamp: Some(now),
            ..DataValue::default()
        };
        self.set_data(name, &value);
    }

    /// The same with everything as it is given.
    pub fn set_data(&self, name: &str, value: &DataValue) {
        let mut state = self.shared.state();
        let node = state.space.given(name, value);
        state.given.insert(name.to_owned(), value.clone());
        // at once, whatever the sampling interval: no value of a test is passed over
        for subscription in state.subscriptions.values_mut() {
            for item in subscription.items.values_mut().filter(|item| item.watches(&node)) {
                item.sample(value.clone());
            }
        }
    }

    /// Takes a node of the line's namespace away until the next start, one that was set for good.
    pub fn remove(&self, name: &str) {
        let mut state = self.shared.state();
        state.space.remove(name);
        state.given.remove(name);
    }

    /// What the server says of itself.
    pub fn set_state(&self, server_state: ServerState) {
        self.shared.state().space.state = server_state;
    }

    /// Changes the limits; announced ones are seen after the next restart.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.state().limits = limits;
    }

    /// Starts anew: connections end, sessions and subscriptions are forgotten; `swapped` gives the last two namespaces each
    /// other's numbers.
    pub fn restart(&self, swapped: bool) {
        self.shared.state().restart(swapped);
        self.cut();
    }

    /// Ends all connections; sessions and subscriptions stay.
    pub fn cut(&self) {
        self.shared.era.send_modify(|era| *era += 1);
    }

    /// Switches it off (connections end, new ones are closed) or on again; sessions and subscriptions stay.
    pub fn set_offline(&self, offline: bool) {
        self.shared.offline.store(offline, Ordering::SeqCst);
        if offline {
            self.cut();
        }
    }

    /// Ends all subscriptions and says so: StatusChangeNotification with Bad_Timeout (UA-13).
    pub fn expire_subscriptions(&self) {
        self.end_subscriptions(Some(StatusCode::BadTimeout));
    }

    /// Ends all subscriptions without a word.
    pub fn lose_subscriptions(&self) {
        self.end_subscriptions(None);
    }

    fn end_subscriptions(&self, told: Option<StatusCode>) {
        let mut state = self.shared.state();
        let ids: Vec<u32> = state.subscriptions.keys().copied().collect();
        for id in ids {
            state.end(id, told);
        }
        state.tell_all();
    }

    /// Forgets all sessions; their subscriptions stay, for somebody to take over.
    pub fn lose_sessions(&self) {
        let mut state = self.shared.state();
        let numbers: Vec<u32> = state.sessions.keys().copied().collect();
        for number in numbers {
            state.drop_session(number);
        }
    }

    /// Sessions there are.
    pub fn session_count(&self) -> usize {
        self.shared.state().sessions.len()
    }

    /// Subscriptions there are.
    pub fn subscription_count(&self) -> usize {
        self.shared.state().subscriptions.len()
    }

    /// Items of all subscriptions.
    pub fn item_count(&self) -> usize {
        self.shared.state().subscriptions.values().map(|subscription| subscription.items.len()).sum()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.state().counters
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().copied().collect()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The fault that strikes a request, if one does; it is counted.
    fn fault(&self, service: &'static str) -> Option<Fault> {
        let mut state = self.state();
        let fault = state.script.of_request(service)?;
        state.counters.faults += 1;
        tracing::debug!(service, ?fault, "a scripted fault strikes");
        Some(fault)
    }

    fn remember(&self, seen: Seen) {
        let mut all = lock(&self.seen);
        if all.len() == SEEN_MAX {
            all.pop_front();
        }
        all.push_back(seen);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if shared.offline.load(Ordering::SeqCst) || connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        number += 1;
        shared.state().counters.connections += 1;
        connections.spawn(serve(stream, Arc::clone(&shared), number));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, number: u64) {
    let mut era = shared.era.subscribe();
    tokio::select! { // when connections are to end nothing of them is to be kept
        served = connection::serve(stream, &shared, number) => if let Err(error) = served {
            tracing::debug!(%error, "a client went away");
        },
        _ = era.changed() => {}
    }
}
