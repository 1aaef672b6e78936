//! The only spawner: every task has an owner, a name and a last word.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Backoff;

/// Tasks of one owner. Dropping the set aborts what still runs.
#[derive(Debug)]
pub struct TaskSet {
    tasks: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl TaskSet {
    /// A set whose tasks see `stop` (or a child of it).
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop }
    }

    /// Runs a task that ends by itself or when it sees the token; an error is logged.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        let future = task(self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = future.await {
                tracing::error!(task = name, error = %crate::report(&error), "task ended with an error");
            }
            name
        });
    }

    /// Runs a task again after an error, with backoff from 100 ms to 10 s, until the token is cancelled.
    pub fn spawn_restarting<F, E>(&mut self, name: &'static str, task: impl Fn(CancellationToken) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10), 20, 1);
            while !stop.is_cancelled() {
                let text = match task(stop.clone()).await {
                    Ok(()) => break,
                    Err(error) => crate::report(&error), // the error itself need not be Send across the wait
                };
                let delay = backoff.next_delay();
                tracing::warn!(task = name, error = %text, retry_in_ms = delay.as_millis(), "task failed, starting it again");
                tokio::select! { // cancel-safe: both arms only wait
                    () = tokio::time::sleep(delay) => {}
                    () = stop.cancelled() => {}
                }
            }
            name
        });
    }

    /// Waits until the first task ends; `None` when the set is empty.
    pub async fn next_ended(&mut self) -> Option<&'static str> {
        self.tasks.join_next().await.map(|ended| ended.unwrap_or("a task that panicked"))
    }

    /// Cancels the token and waits up to `deadline`; returns how many tasks had to be abandoned.
    pub async fn shutdown(mut self, deadline: Duration) -> usize {
        self.stop.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!(abandoned = self.tasks.len(), "tasks did not stop in time");
        }
        self.tasks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_failing_task_is_started_again_until_it_ends_well() {
        let tries = Arc::new(AtomicU32::new(0));
        let mut set = TaskSet::new(CancellationToken::new());
        let seen = Arc::clone(&tries);
        set.spawn_restarting("flaky", move |_| {
            let tries = Arc::clone(&seen);
            async move { if tries.fetch_add(1, Ordering::SeqCst) < 3 { Err(std::fmt::Error) } else { Ok(()) } }
        });
        assert_eq!(set.next_ended().await, Some("flaky"));
        assert_eq!(tries.load(Ordering::SeqCst), 4);
    }
}
