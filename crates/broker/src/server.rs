//! The Kafka listener: accepts connections within the limits and owns their tasks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Ended, FrameBudget};
use crate::core::Core;
use crate::limits::{PENDING_FRAME_BYTES_MAX, STOP_DEADLINE};

/// Pause after a failed accept: out of descriptors, most likely, and that passes only when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `stop` is cancelled, then lets connections end and aborts what does not.
pub(crate) async fn run(core: Arc<Core>, listener: TcpListener, stop: CancellationToken) {
    let budget = Arc::new(FrameBudget::new(PENDING_FRAME_BYTES_MAX));
    let places = Arc::new(Places::new(core.settings.connections_max, core.settings.connections_per_address_max));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! { // cancel-safe: accept and join_next lose nothing, both are documented so
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    if let Some(place) = Places::take(&places, address.ip()) {
                        let task = serve(Arc::clone(&core), Arc::clone(&budget), stream, place, stop.clone());
                        connections.spawn(task);
                    } else {
                        core.metrics.connections_refused.inc();
                        tracing::warn!(%address, "too many connections, this one is closed");
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

async fn serve(core: Arc<Core>, budget: Arc<FrameBudget>, stream: TcpStream, place: Place, stop: CancellationToken) {
    core.metrics.connections.inc();
    let address = place.address;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off the delay of small packets");
    }
    let (reader, writer) = stream.into_split();
    match connection::serve(Arc::clone(&core), budget, address, reader, writer, stop).await {
        Ok(()) | Err(Ended::Stopping) => {}
        Err(Ended::Io(error)) => tracing::debug!(%address, %error, "a connection broke"),
        Err(error) => tracing::warn!(%address, reason = %daemon::report(&error), "a connection was closed"),
    }
    core.metrics.connections.dec();
    drop(place);
}

/// How many connections there are, in all and per address.
#[derive(Debug)]
struct Places {
    most: usize,
    most_per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn new(most: usize, most_per_address: usize) -> Self {
        Self { most, most_per_address, taken: Mutex::default() }
    }

    fn take(places: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let here = taken.get(&address).copied().unwrap_or_default();
        if all >= places.most || here >= places.most_per_address {
            return None;
        }
        taken.insert(address, here + 1);
        drop(taken);
        Some(Place { places: Arc::clone(places), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-13
    #[test]
    fn places_are_limited_per_address_and_in_all() {
        let places = Arc::new(Places::new(3, 2));
        let (a, b) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = Places::take(&places, a).unwrap();
        let _second = Places::take(&places, a).unwrap();
        assert!(Places::take(&places, a).is_none());
        let _third = Places::take(&places, b).unwrap();
        assert!(Places::take(&places, b).is_none());
        drop(first);
        assert!(Places::take(&places, a).is_some());
    }
}
