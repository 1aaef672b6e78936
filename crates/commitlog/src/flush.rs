//! Group commit: a small pool of threads that makes logs durable and then tells those who wait.
//!
//! Each log has rounds of its own: while one of its syncs runs, everything appended to it collects for the next, and
//! different logs are synced side by side by the pool. A lone append is synced at once; there is no timer. Only logs
//! with waiters are ever looked at, so idle partitions cost nothing (STR-02).
//! Invariant: after one failed fsync no sync is started any more and no commit succeeds, of any log (STR-03); one whose
//! sync was already running elsewhere may still be confirmed, rightly.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use crate::error::{Error, SyncError};
use crate::log::{Log, lock};

/// What a commit calls when it is decided.
pub type Done = Box<dyn FnOnce(Result<(), SyncError>) + Send>;

/// Syncs logs on a pool of threads of its own. The queue holds each log at most once, so it is bounded by their number;
/// waiters are bounded by the requests the broker admits.
pub struct Flusher {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    failed: AtomicBool,
    reason: Mutex<Option<Arc<str>>>,
}

#[derive(Default)]
struct Queue {
    dirty: VecDeque<Arc<Log>>,
    stopping: bool,
}

/// A log's own place in the flusher: who waits for its next round.
#[derive(Debug, Default)]
pub(crate) struct FlushSlot {
    queued: bool,
    waiters: Vec<Arc<Commit>>,
}

/// One call of [`Flusher::commit`], shared by the logs it covers.
struct Commit {
    outcome: Mutex<Outcome>,
}

struct Outcome {
    remaining: usize,
    error: Option<SyncError>,
    done: Option<Done>,
}

impl Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").finish_non_exhaustive()
    }
}

impl Debug for Flusher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flusher").field("failed", &self.failed()).finish_non_exhaustive()
    }
}

impl Commit {
    /// Counts one log down; the last one calls back.
    fn finish_one(&self, result: Result<(), SyncError>) {
        let (done, result) = {
            let mut outcome = lock(&self.outcome);
            outcome.remaining -= 1;
            if let Err(error) = result {
                outcome.error.get_or_insert(error);
            }
            if outcome.remaining > 0 {
                return;
            }
            (outcome.done.take(), outcome.error.take().map_or(Ok(()), Err))
        };
        if let Some(done) = done {
            call(done, result);
        }
    }
}

/// Calls back. A callback that panics has been reported by the panic hook; it must not take the pool with it.
fn call(done: Done, result: Result<(), SyncError>) {
    drop(catch_unwind(AssertUnwindSafe(|| done(result))));
}

impl Flusher {
    /// Starts a pool of `threads` threads, at least one.
    pub fn new(threads: usize) -> Arc<Flusher> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            failed: AtomicBool::new(false),
            reason: Mutex::new(None),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name(format!("log-sync-{index}"));
            thread.spawn(move || shared.work())
        };
        // With fewer threads than asked for commits are slower but as safe; with none there is no flusher.
        let mut workers: Vec<JoinHandle<()>> = (0..threads.max(1)).map_while(|index| spawn(index).ok()).collect();
        if workers.is_empty() {
            workers.push(spawn(0).expect("the process may start at least one more thread"));
        }
        Arc::new(Flusher { shared, workers: Mutex::new(workers) })
    }

    /// Calls `done` once, when every log in `logs` is durable up to the end offset it has now, or cannot become so.
    ///
    /// `done` runs on a thread of the pool (or on the caller's, when there is nothing to wait for) without any lock
    /// held; it should hand over and return.
    pub fn commit(&self, logs: Vec<Arc<Log>>, done: Done) {
        if self.failed() {
            return call(done, Err(self.shared.refusal()));
        }
        let dirty: Vec<Arc<Log>> = logs.into_iter().filter(|log| log.durable_offset() < log.end_offset()).collect();
        if dirty.is_empty() {
            return call(done, Ok(()));
        }
        let outcome = Outcome { remaining: dirty.len(), error: None, done: Some(done) };
        let commit = Arc::new(Commit { outcome: Mutex::new(outcome) });
        for log in dirty {
            let enqueue = {
                let mut slot = lock(&log.flush);
                slot.waiters.push(Arc::clone(&commit));
                !std::mem::replace(&mut slot.queued, true)
            };
            if enqueue && !self.shared.enqueue(Arc::clone(&log)) {
                refuse_waiters(&log, &SyncError::Stopping);
            }
        }
    }

    /// [`Flusher::commit`], waiting for the answer. Blocks the thread: not for async code.
    pub fn commit_wait(&self, logs: Vec<Arc<Log>>) -> Result<(), SyncError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.commit(logs, Box::new(move |result| drop(sender.send(result))));
        receiver.recv().unwrap_or(Err(SyncError::Stopping))
    }

    /// Whether an fsync has failed: everything is refused from then on.
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }

    /// Finishes the commits that are queued, then ends the threads. Later commits end with [`SyncError::Stopping`].
    pub fn shutdown(&self) {
        lock(&self.shared.queue).stopping = true;
        self.shared.wake.notify_all();
        let workers = std::mem::take(&mut *lock(&self.workers));
        for worker in workers {
            // The last handle may be dropped by a callback, on a thread that cannot wait for itself.
            if worker.thread().id() != thread::current().id() {
                drop(worker.join());
            }
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl Shared {
    /// Queues a log; false when the pool is stopping.
    fn enqueue(&self, log: Arc<Log>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.stopping {
            return false;
        }
        queue.dirty.push_back(log);
        drop(queue);
        self.wake.notify_one();
        true
    }

    fn next(&self) -> Option<Arc<Log>> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(log) = queue.dirty.pop_front() {
                return Some(log);
            }
            if queue.stopping {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        while let Some(log) = self.next() {
            self.round(&log);
        }
    }

    /// One round of one log: everybody who waits now is covered by a sync that starts now.
    fn round(&self, log: &Arc<Log>) {
        let waiters = std::mem::take(&mut lock(&log.flush).waiters);
        let result = self.sync(log);
        for waiter in waiters {
            waiter.finish_one(result.clone());
        }
        let again = {
            let mut slot = lock(&log.flush);
            slot.queued = !slot.waiters.is_empty();
            slot.queued
        };
        if again {
            // Behind the others, so that a busy log does not starve them; also while stopping, to finish what is queued.
            lock(&self.queue).dirty.push_back(Arc::clone(log));
            self.wake.notify_one();
        }
    }

    fn sync(&self, log: &Log) -> Result<(), SyncError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(self.refusal());
        }
        match log.sync() {
            Ok(_) => Ok(()),
            Err(error) if log.stopped() => {
                self.fail(&error);
                Err(self.refusal())
            }
            Err(error) => Err(SyncError::Retry { reason: chain(&error).into() }),
        }
    }

    fn fail(&self, error: &Error) {
        lock(&self.reason).get_or_insert_with(|| chain(error).into());
        self.failed.store(true, Ordering::Release);
    }

    fn refusal(&self) -> SyncError {
        let reason = lock(&self.reason).clone();
        SyncError::Failed { reason: reason.unwrap_or_else(|| "a sync failed".into()) }
    }
}

/// Takes a log out of the queue it did not get into, and tells those who wait for it.
fn refuse_waiters(log: &Log, error: &SyncError) {
    let waiters = {
        let mut slot = lock(&log.flush);
        slot.queued = false;
        std::mem::take(&mut slot.waiters)
    };
    for waiter in waiters {
        waiter.finish_one(Err(error.clone()));
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
