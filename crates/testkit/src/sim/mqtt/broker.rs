//! An MQTT 3.1.1 broker in this process: small, bounded, and as wrong as its script says.
//!
//! Quality of service 0 and 1, kept messages, wills, wildcards, lasting sessions, keep-alive. Quality of service 2 is
//! taken from publishers, each message once, and handed on as 1. A client of version 5 is told to speak 3.1.1. No TLS, no
//! login, no access list, no shared subscriptions: these are refused, and the log says so.
//!
//! Where to look next: [`super::state`] for what it knows, `connection` for one client, [`super::fault`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mqtt311::mqttbytes::v4::Packet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connection;
use super::fault::{Asked, Fault, Rule, Script};
use super::state::{Counters, Message, State};

/// Open connections; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 256;
/// Packets remembered for [`Broker::seen`]; the oldest is forgotten first.
const SEEN_MAX: usize = 10_000;
/// How long to wait after the operating system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A packet that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Name of the client.
    pub client: String,
    /// What it was.
    pub packet: Packet,
}

/// A running broker; dropping it closes its port and all connections.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Owns the accept loop, which owns the connections.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    script: Mutex<Script>,
    seen: Mutex<VecDeque<Seen>>,
    offline: AtomicBool,
    power: Notify,
}

impl Broker {
    /// Listens; port 0 picks a free one.
    pub async fn start(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// On a free port of this machine.
    pub async fn local() -> io::Result<Self> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule; earlier rules win.
    pub fn script(&self, rule: Rule) {
        lock(&self.shared.script).push(rule);
    }

    /// Forgets all rules: the broker behaves again.
    pub fn behave(&self) {
        lock(&self.shared.script).clear();
    }

    /// Switches it off (connections end, new ones are closed) or on again; sessions and kept messages stay.
    pub fn set_offline(&self, offline: bool) {
        self.shared.offline.store(offline, Ordering::SeqCst);
        self.shared.power.notify_waiters();
        if offline {
            self.shared.state().cut("");
        }
    }

    /// Publishes as a client would.
    pub fn publish(&self, message: &Message) {
        self.shared.state().route(message);
    }

    /// Cuts the connections of clients whose name begins so.
    pub fn cut(&self, client: &str) {
        self.shared.state().cut(client);
    }

    /// Forgets the session of a client and what waits in it.
    pub fn forget(&self, client: &str) {
        self.shared.state().forget(client);
    }

    /// Names of connected clients.
    pub fn clients(&self) -> Vec<String> {
        self.shared.state().clients()
    }

    /// Messages that wait for a client, sent and unacknowledged ones included.
    pub fn waiting(&self, client: &str) -> usize {
        self.shared.state().waiting(client)
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.state().counters
    }

    /// The packets of clients so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().cloned().collect()
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The fault that strikes, if one does; it is counted.
    pub(super) fn fault(&self, client: &str, asked: Asked, topic: &str) -> Option<Fault> {
        let fault = lock(&self.script).next(client, asked, topic);
        if let Some(fault) = &fault {
            self.state().counters.faults += 1;
            tracing::debug!(client, ?fault, "a scripted fault strikes");
        }
        fault
    }

    pub(super) fn remember(&self, client: &str, packet: &Packet) {
        let mut all = lock(&self.seen);
        if all.len() == SEEN_MAX {
            all.pop_front();
        }
        all.push_back(Seen { client: client.to_owned(), packet: packet.clone() });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if shared.offline.load(Ordering::SeqCst) || connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let off = async {
                while !shared.offline.load(Ordering::SeqCst) {
                    shared.power.notified().await;
                }
            };
            tokio::select! { // when it is switched off nothing of the connection is to be kept
                () = serve(stream, &shared) => {}
                () = off => {}
            }
        });
    }
}

async fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    if let Err(error) = connection::serve(stream, shared).await {
        tracing::debug!(%error, "a client went away");
    }
}
