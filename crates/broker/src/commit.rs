//! From "written" to "durable": the bridge between request futures and the log's flusher.
//!
//! Invariant: after one failed fsync nothing is accepted any more and the process ends with an error (STR-03).

use std::sync::{Arc, OnceLock};

use commitlog::{Flusher, Log, SyncError};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why the broker has to end.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    reason: OnceLock<String>,
    raised: CancellationToken,
}

impl Failure {
    /// Says once, for a person at 2 a.m., that and why the broker stops.
    pub(crate) fn raise(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            tracing::error!(
                reason,
                "the disk refused to make records durable; the broker stops now, so that nothing is acknowledged that \
                 may be lost. Check the disk and its kernel messages; at the next start the broker keeps what is intact"
            );
        }
        self.raised.cancel();
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Ends when the failure is raised.
    pub(crate) async fn raised(&self) {
        self.raised.cancelled().await;
    }
}

/// Makes logs durable. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    flusher: Arc<Flusher>,
    failure: Arc<Failure>,
    seconds: Histogram,
}

/// A commit under way.
#[derive(Debug)]
pub(crate) struct Ticket(oneshot::Receiver<Result<(), SyncError>>);

impl Ticket {
    /// Ends when everything the commit covers is durable, or cannot become so.
    pub(crate) async fn durable(self) -> Result<(), SyncError> {
        self.0.await.unwrap_or(Err(SyncError::Stopping))
    }
}

impl Committer {
    pub(crate) fn new(flusher: Arc<Flusher>, failure: Arc<Failure>, seconds: Histogram) -> Self {
        Self { flusher, failure, seconds }
    }

    /// Begins to make all that is in `logs` now durable.
    pub(crate) fn commit(&self, logs: Vec<Arc<Log>>) -> Ticket {
        let (sender, receiver) = oneshot::channel();
        self.commit_then(logs, move |result| drop(sender.send(result))); // nobody waits when the client has gone
        Ticket(receiver)
    }

    /// As [`Committer::commit`]; `then` runs on the thread that synced the logs, and must be quick.
    pub(crate) fn commit_then(&self, logs: Vec<Arc<Log>>, then: impl FnOnce(Result<(), SyncError>) + Send + 'static) {
        let begun = Instant::now();
        let (failure, seconds) = (Arc::clone(&self.failure), self.seconds.clone());
        self.flusher.commit(
            logs,
            Box::new(move |result| {
                seconds.observe(begun.elapsed().as_secs_f64());
                if let Err(SyncError::Failed { reason }) = &result {
                    failure.raise(reason);
                }
                then(result);
            }),
        );
    }

    pub(crate) fn failure(&self) -> &Failure {
        &self.failure
    }
}
