//! What others may see of the alarms and ask of them: the newest list, the figures, and the answers to commands.
//!
//! The engine belongs to the validator's thread. Once a second it leaves a snapshot here; commands travel through the
//! stream, so that they outlive a crash, and their answers are left here for whoever waits.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// Event type of a command on `control.commands`.
pub const COMMAND: &str = "alarm.command";
/// Answers kept for those who wait; of more the oldest is forgotten.
const ANSWERS_MAX: usize = 4096;

/// The newest snapshot. Values are JSON as the local API gives it out.
#[derive(Debug, Clone, Default)]
pub struct AlarmSnapshot {
    /// False until the alarms of before were restored.
    pub is_complete: bool,
    /// Every alarm there is, as its newest record.
    pub alarms: Vec<Value>,
    /// By operator area (ALM-16).
    pub kpis: Vec<Value>,
}

/// Shared between the validator's thread and the API.
#[derive(Debug, Default)]
pub struct AlarmTable {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    snapshot: Arc<AlarmSnapshot>,
    answers: HashMap<String, Value>,
    order: VecDeque<String>,
    /// Answers to what the snapshot does not show yet.
    fresh: Vec<(String, Value)>,
}

impl AlarmTable {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn snapshot(&self) -> Arc<AlarmSnapshot> {
        Arc::clone(&self.lock().snapshot)
    }

    /// The answer to a command, once there is one.
    pub fn answer(&self, command_id: &str) -> Option<Value> {
        self.lock().answers.get(command_id).cloned()
    }

    pub(super) fn publish(&self, snapshot: AlarmSnapshot) {
        let mut inner = self.lock();
        inner.snapshot = Arc::new(snapshot);
        for (command_id, answer) in std::mem::take(&mut inner.fresh) {
            if inner.answers.insert(command_id.clone(), answer).is_none() {
                inner.order.push_back(command_id);
            }
        }
        while inner.order.len() > ANSWERS_MAX {
            if let Some(oldest) = inner.order.pop_front() {
                inner.answers.remove(&oldest);
            }
        }
    }

    /// The answer is given out with the next snapshot: who reads the list after an answer finds in it what was done.
    pub(super) fn set_answer(&self, command_id: &str, answer: Value) {
        let mut inner = self.lock();
        if inner.fresh.len() < ANSWERS_MAX {
            inner.fresh.push((command_id.to_owned(), answer));
        }
    }
}
