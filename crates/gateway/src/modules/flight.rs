//! Batches under way: what may be committed once the stream has acknowledged them.

use std::collections::VecDeque;
use std::time::Duration;

use kafka::client::{Error, Pending};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Batches under way at the same time; when full the loop waits for the oldest, which makes the next one larger.
pub(super) const FLIGHTS_MAX: usize = 4;
/// A batch not acknowledged for this long makes the module DEGRADED.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// How often a waiting loop looks at its stop token.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Batches in the order they were sent, each with what its acknowledgement allows.
#[derive(Debug)]
pub(super) struct Flights<C> {
    under_way: VecDeque<(Pending, C, Instant)>,
}

impl<C> Default for Flights<C> {
    fn default() -> Self {
        Self { under_way: VecDeque::new() }
    }
}

impl<C> Flights<C> {
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn push(&mut self, pending: Pending, checkpoint: C) {
        self.under_way.push_back((pending, checkpoint, Instant::now()));
    }

    /// Takes the acknowledged batches off the front; the newest checkpoint of them.
    pub(super) fn landed(&mut self) -> Result<Option<C>, Error> {
        let mut newest = None;
        while let Some((pending, _, _)) = self.under_way.front() {
            if !pending.wait(Duration::ZERO)? {
                break;
            }
            newest = self.under_way.pop_front().map(|(_, checkpoint, _)| checkpoint);
        }
        Ok(newest)
    }

    /// Waits until there is room for one more batch, or the token is cancelled.
    pub(super) fn wait_for_room(&mut self, stop: &CancellationToken, slow: impl Fn()) -> Result<(), Error> {
        while self.under_way.len() >= FLIGHTS_MAX && !stop.is_cancelled() {
            let Some((pending, _, sent)) = self.under_way.front() else { return Ok(()) };
            if pending.wait(STOP_CHECK)? {
                return Ok(());
            }
            if sent.elapsed() > SLOW_AFTER {
                slow();
            }
        }
        Ok(())
    }

    /// True when the oldest batch waits for its acknowledgement far too long.
    pub(super) fn is_stuck(&self) -> bool {
        self.under_way.front().is_some_and(|(_, _, sent)| sent.elapsed() > SLOW_AFTER)
    }

    /// Waits for all batches up to `deadline`; the newest checkpoint that was reached.
    pub(super) fn land_all(&mut self, deadline: Duration) -> Result<Option<C>, Error> {
        let until = Instant::now() + deadline;
        if let Some((last, _, _)) = self.under_way.back() {
            last.clone().wait(until.saturating_duration_since(Instant::now()))?;
        }
        self.landed()
    }
}
