//! Commands about many letters: waiting, under way, and what came of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Timestamp;
use pipeline::dead_letter::{Decision, Status};
use serde_json::{Value, json};

use super::entry::Key;

/// Jobs that wait; one more is refused.
const WAITING_MAX: usize = 16;
/// Jobs whose result can be asked for; the oldest finished one is forgotten.
const KEPT_MAX: usize = 64;
/// Letters named with why they failed; the others are counted.
const FAILED_SHOWN: usize = 1000;

/// What is done with each letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Approve,
    Reject,
    Reprocess,
    /// Judges without writing anything.
    DryRun,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Reprocess => "reprocess",
            Self::DryRun => "dry_run",
        }
    }

    pub(super) const fn decision(self) -> Decision {
        match self {
            Self::Approve => Decision::Approve,
            Self::Reject => Decision::Reject,
            Self::Reprocess | Self::DryRun => Decision::Reprocess,
        }
    }
}

/// Who wants what, with which letters.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) action: Action,
    /// The filter or the ids, as they were asked for.
    pub(super) selection: Value,
    pub(super) by: String,
    pub(super) role: String,
    pub(super) comment: String,
    pub(super) command_id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Running,
    Done,
    Cancelled,
    Failed,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Done => "DONE",
            Self::Cancelled => "CANCELLED",
            Self::Failed => "FAILED",
        }
    }

    const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }
}

/// What came of the letters so far.
#[derive(Debug, Default, Clone)]
pub(super) struct Tally {
    pub(super) ok: u64,
    pub(super) already: u64,
    pub(super) failed: u64,
    /// Failures by their reason: codes and fixed clauses, a bounded set.
    pub(super) by_reason: BTreeMap<String, u64>,
    pub(super) failed_shown: Vec<(Arc<str>, String)>,
    pub(super) before: BTreeMap<Status, u64>,
    pub(super) after: BTreeMap<Status, u64>,
}

impl Tally {
    pub(super) fn fail(&mut self, id: &Arc<str>, reason: &str) {
        self.failed += 1;
        *self.by_reason.entry(reason.to_owned()).or_default() += 1;
        if self.failed_shown.len() < FAILED_SHOWN {
            self.failed_shown.push((Arc::clone(id), reason.to_owned()));
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.already += other.already;
        self.failed += other.failed;
        let sum = |into: &mut BTreeMap<Status, u64>, from: BTreeMap<Status, u64>| {
            for (status, count) in from {
                *into.entry(status).or_default() += count;
            }
        };
        sum(&mut self.before, other.before);
        sum(&mut self.after, other.after);
        for (reason, count) in other.by_reason {
            *self.by_reason.entry(reason).or_default() += count;
        }
        let room = FAILED_SHOWN.saturating_sub(self.failed_shown.len());
        self.failed_shown.extend(other.failed_shown.into_iter().take(room));
    }

    pub(super) fn done(&self) -> u64 {
        self.ok + self.already + self.failed
    }
}

#[derive(Debug)]
struct Progress {
    state: State,
    tally: Tally,
    keys: Vec<Key>,
    finished_at: Option<Timestamp>,
    error: Option<String>,
}

/// One command.
#[derive(Debug)]
pub struct Job {
    pub id: String,
    pub(super) order: Order,
    total: u64,
    created_at: Timestamp,
    cancelled: AtomicBool,
    progress: Mutex<Progress>,
    over: Condvar,
}

impl Job {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The letters; afterwards the job holds none.
    pub(super) fn begin(&self) -> Vec<Key> {
        let mut progress = self.lock();
        progress.state = State::Running;
        std::mem::take(&mut progress.keys)
    }

    pub(super) fn add(&self, tally: Tally) {
        self.lock().tally.add(tally);
    }

    pub(super) fn tally(&self) -> Tally {
        self.lock().tally.clone()
    }

    pub(super) fn finish(&self, state: State, error: Option<String>, now: Timestamp) {
        let mut progress = self.lock();
        progress.state = state;
        progress.error = error;
        progress.keys = Vec::new();
        progress.finished_at = Some(now);
        drop(progress);
        self.over.notify_all();
    }

    /// Waits for the end, for at most `timeout`.
    pub(super) fn wait(&self, timeout: Duration) {
        let guard = self.lock();
        drop(self.over.wait_timeout_while(guard, timeout, |progress| !progress.state.is_over()));
    }

    pub(super) fn json(&self) -> Value {
        let progress = self.lock();
        let tally = &progress.tally;
        let failed: Vec<Value> =
            tally.failed_shown.iter().map(|(id, reason)| json!({ "dlq_id": &**id, "reason": reason })).collect();
        json!({
            "job_id": self.id, "action": self.order.action.as_str(), "state": progress.state.as_str(),
            "command_id": self.order.command_id, "by": self.order.by, "selection": self.order.selection,
            "total": self.total, "done": tally.done(), "ok": tally.ok, "already": tally.already,
            "failed": tally.failed, "failed_by_reason": tally.by_reason, "failed_entries": failed,
            "created_at": self.created_at.to_string(), "finished_at": progress.finished_at.map(|at| at.to_string()),
            "error": progress.error,
        })
    }
}

/// All jobs of this start.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    table: Mutex<Table>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    waiting: VecDeque<Arc<Job>>,
    kept: VecDeque<Arc<Job>>,
    made: u64,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job at the end of the queue; `None` when there is no room.
    pub(super) fn submit(&self, order: Order, keys: Vec<Key>, now: Timestamp) -> Option<Arc<Job>> {
        let mut table = self.lock();
        if table.waiting.len() >= WAITING_MAX {
            return None;
        }
        table.made += 1;
        let id = format!("{}-{}", now.as_millis(), table.made);
        let (state, tally) = (State::Waiting, Tally::default());
        let job = Arc::new(Job {
            id,
            order,
            total: u64::try_from(keys.len()).unwrap_or(u64::MAX),
            created_at: now,
            cancelled: AtomicBool::new(false),
            progress: Mutex::new(Progress { state, tally, keys, finished_at: None, error: None }),
            over: Condvar::new(),
        });
        table.waiting.push_back(Arc::clone(&job));
        table.kept.push_back(Arc::clone(&job));
        if table.kept.len() > KEPT_MAX
            && let Some(oldest) = table.kept.iter().position(|job| job.lock().state.is_over())
        {
            table.kept.remove(oldest);
        }
        drop(table);
        self.wake.notify_one();
        Some(job)
    }

    /// The next job, when one comes within `timeout`.
    pub(super) fn next(&self, timeout: Duration) -> Option<Arc<Job>> {
        let table = self.lock();
        let (mut table, _) = self
            .wake
            .wait_timeout_while(table, timeout, |table| table.waiting.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        table.waiting.pop_front()
    }

    pub(super) fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().kept.iter().find(|job| job.id == id).cloned()
    }

    /// All that are kept, the newest first.
    pub(super) fn all(&self) -> Vec<Arc<Job>> {
        self.lock().kept.iter().rev().cloned().collect()
    }

    /// Ends a job before its next piece of work; what it did stays done.
    pub(super) fn cancel(&self, job: &Job, now: Timestamp) {
        job.cancelled.store(true, Ordering::Relaxed);
        let mut table = self.lock();
        let before = table.waiting.len();
        table.waiting.retain(|waiting| waiting.id != job.id);
        if table.waiting.len() < before {
            job.finish(State::Cancelled, None, now);
        }
    }
}
