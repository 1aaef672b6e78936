//! What a request costs its client: quotas are charged, the answer says how long to wait, the connection is not read
//! for as long.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ProduceResponse;
use tokio::time::Instant;

use super::enforce::Guarded;
use super::peer::Peer;
use super::quotas::Kind;
use crate::core::Core;
use crate::dispatch::Call;

/// Whom a request is charged to; nobody where there are no quotas.
pub(crate) struct Bill(Option<Client>);

struct Client {
    core: Arc<Core>,
    peer: Arc<Peer>,
    id: String,
    begun: Instant,
}

impl Bill {
    pub(crate) fn of(core: &Arc<Core>, call: &Call) -> Self {
        if !core.access.quotas.any() {
            return Self(None);
        }
        let (core, peer) = (Arc::clone(core), Arc::clone(&call.peer));
        Self(Some(Client { core, peer, id: call.client_id.clone(), begun: Instant::now() }))
    }

    /// Charges the time a request took and the records it was answered with, those beside the encoded answer included.
    pub(crate) fn charge<R: Guarded>(self, answer: &mut R::Response, taken: Duration, stored_bytes: usize) {
        let Some(client) = self.0 else { return };
        let mut wait = client.take(Kind::RequestPercentage, taken.as_secs_f64());
        let bytes = R::consumed(answer) + stored_bytes;
        if bytes > 0 {
            wait = wait.max(client.take(Kind::ConsumerByteRate, amount(bytes)));
        }
        if let Some(time_ms) = client.mute(wait) {
            R::throttled(answer, time_ms);
        }
    }

    /// Charges the bytes of a Produce request and the time since it was read.
    pub(crate) fn charge_produce(self, answer: &mut ProduceResponse, bytes: usize) {
        let Some(client) = self.0 else { return };
        let wait = client.take(Kind::RequestPercentage, client.begun.elapsed().as_secs_f64());
        let wait = wait.max(client.take(Kind::ProducerByteRate, amount(bytes)));
        if let Some(time_ms) = client.mute(wait) {
            answer.throttle_time_ms = time_ms;
        }
    }
}

impl Client {
    fn take(&self, kind: Kind, amount: f64) -> Duration {
        self.core.access.quotas.take(kind, &self.peer.principal(), &self.id, amount)
    }

    fn mute(&self, wait: Duration) -> Option<i32> {
        if wait.is_zero() {
            return None;
        }
        self.core.metrics.requests_throttled.inc();
        self.peer.mute(wait);
        Some(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX).max(1))
    }
}

/// A frame has 64 MiB at most, which a double holds exactly.
fn amount(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from)
}

/// Runs a handler and measures the time it is worked on, without the time it waits.
pub(crate) async fn timed<F: Future>(handler: F) -> (F::Output, Duration) {
    let mut handler = pin!(handler);
    let mut taken = Duration::ZERO;
    let output = std::future::poll_fn(|context| {
        let begun = Instant::now();
        let polled = handler.as_mut().poll(context);
        taken += begun.elapsed();
        polled
    })
    .await;
    (output, taken)
}
