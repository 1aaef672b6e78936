//! A Kafka listener: accepts connections within the limits that all listeners share, and owns their tasks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_tcp_congestion;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::access::listener::{Admission, Endpoint};
use crate::access::peer::Peer;
use crate::connection::{self, Ended, FrameBudget};
use crate::core::Core;
use crate::limits::{LOGIN_DEADLINE, LOGINS_MAX, LOGINS_PER_ADDRESS_MAX, PENDING_FRAME_BYTES_MAX, STOP_DEADLINE};
use crate::loud::Loud;
use crate::places::{Full, Place, Places};

/// Pause after a failed accept: out of descriptors, most likely, and that passes only when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Congestion control of a connection from this machine. There is no path to share and nothing gets lost on it; where the
/// system's choice is BBR, its pacing takes a busy processor for a slow path: a catch-up by `sendfile` runs at 2.2
/// instead of 4.6 GB/s. Every kernel has this one, and every user may ask for it.
const LOOPBACK_CONGESTION: &str = "reno";

/// What all listeners share: the limits on connections and on what they hold.
#[derive(Debug, Clone)]
pub(crate) struct House {
    core: Arc<Core>,
    budget: Arc<FrameBudget>,
    places: Arc<Places<IpAddr>>,
    /// For those who have not logged in yet.
    lobby: Arc<Places<IpAddr>>,
    warnings: Arc<Warnings>,
}

#[derive(Debug, Default)]
struct Warnings {
    refused: Loud,
    closed: Loud,
}

impl House {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let budget = Arc::new(FrameBudget::new(PENDING_FRAME_BYTES_MAX));
        let places = Places::new(core.settings.connections_max, core.settings.connections_per_address_max);
        let lobby = Places::new(LOGINS_MAX, LOGINS_PER_ADDRESS_MAX);
        Self { core, budget, places, lobby, warnings: Arc::default() }
    }
}

/// Accepts until `stop` is cancelled, then lets connections end and aborts what does not.
pub(crate) async fn run(house: House, listener: TcpListener, endpoint: Arc<Endpoint>, stop: CancellationToken) {
    let core = Arc::clone(&house.core);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! { // cancel-safe: accept and join_next lose nothing, both are documented so
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let address = address.ip().to_canonical(); // rules and limits know one form of it
                    match Places::take(&house.places, &address) {
                        Ok(place) => {
                            let (house, endpoint) = (house.clone(), Arc::clone(&endpoint));
                            connections.spawn(serve(house, endpoint, stream, (place, address), stop.clone()));
                        }
                        Err(full) => {
                            let limit = if full == Full::InAll { "in_all" } else { "address" };
                            core.metrics.count_refused(limit);
                            if let Some(before) = house.warnings.refused.say() {
                                tracing::warn!(%address, limit, before, "too many connections, this one is closed");
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = stop.cancelled() => break,
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections did not end in time and were aborted");
    }
}

async fn serve(
    house: House,
    endpoint: Arc<Endpoint>,
    stream: TcpStream,
    (place, address): (Place<IpAddr>, IpAddr),
    stop: CancellationToken,
) {
    let (core, warnings) = (Arc::clone(&house.core), Arc::clone(&house.warnings));
    core.metrics.connections.inc();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off the delay of small packets");
    }
    if address.is_loopback()
        && let Err(error) = set_tcp_congestion(&stream, LOOPBACK_CONGESTION)
    {
        tracing::debug!(%error, "cannot choose the congestion control of a connection from this machine");
    }
    match admit(house, endpoint, stream, address, stop).await {
        Ok(()) | Err(Ended::Stopping | Ended::LoginFailed) => {}
        Err(Ended::Io(error)) => tracing::debug!(%address, %error, "a connection broke"),
        Err(error) => match warnings.closed.say() {
            Some(before) => {
                tracing::warn!(%address, reason = %daemon::report(&error), before, "a connection was closed");
            }
            None => tracing::debug!(%address, reason = %daemon::report(&error), "a connection was closed"),
        },
    }
    core.metrics.connections.dec();
    drop(place);
}

/// TLS where the listener asks for it, and then the protocol.
async fn admit(
    house: House,
    endpoint: Arc<Endpoint>,
    stream: TcpStream,
    address: IpAddr,
    stop: CancellationToken,
) -> Result<(), Ended> {
    let House { core, budget, lobby, .. } = house;
    let deadline = Instant::now() + LOGIN_DEADLINE;
    let place = if endpoint.tls.is_some() || endpoint.admission == Admission::LoggedIn {
        let place = Places::take(&lobby, &address).map_err(|_| {
            core.metrics.count_refused("login");
            Ended::LobbyFull
        })?;
        Some((place, deadline))
    } else {
        None
    };
    let Some(tls) = &endpoint.tls else {
        let peer = Peer::new(address, endpoint, None).ok_or(Ended::Nameless)?;
        return connection::serve(core, budget, peer, stream.into_split(), place, stop).await;
    };
    let accepted = tokio::select! { // cancel-safe: the connection ends when the broker stops
        accepted = timeout_at(deadline, tls.acceptor().accept(stream)) => accepted,
        () = stop.cancelled() => return Err(Ended::Stopping),
    };
    let accepted = accepted.map_err(|_| Ended::LoginTooSlow).and_then(|accepted| accepted.map_err(Ended::Tls));
    let stream = accepted.inspect_err(|_| {
        core.metrics.logins_failed.inc();
    })?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = Peer::new(address, Arc::clone(&endpoint), certificate.map(AsRef::as_ref)).ok_or(Ended::Nameless)?;
    if peer.named() && !core.seat(&peer) {
        return Err(Ended::TooManyOfUser);
    }
    connection::serve(core, budget, peer, tokio::io::split(stream), place, stop).await
}
