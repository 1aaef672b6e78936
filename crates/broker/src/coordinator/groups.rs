//! Who owns the groups: runs the state machine under the group's lock and carries its answers to the waiting requests.
//!
//! Invariant: what depends on a group's state (an offset commit) happens under the same lock as the check, so a fenced
//! member cannot write after its successor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::group::{Action, Answer, Group, Identity, Input, Millis, Token};
use super::state;
use crate::limits::GROUPS_MAX;

/// One group and the requests that wait for it.
#[derive(Debug, Default)]
struct Slot {
    group: Group,
    waiting: HashMap<Token, oneshot::Sender<Answer>>,
    /// Taken out of the map; whoever still holds it looks again.
    retired: bool,
}

impl Slot {
    fn step(&mut self, input: Input, now: Millis) {
        let (group, actions) = state::next(std::mem::take(&mut self.group), input, now);
        self.group = group;
        for Action { token, answer } in actions {
            if let Some(waiting) = self.waiting.remove(&token) {
                drop(waiting.send(answer)); // its connection may have gone
            }
        }
    }
}

/// All groups that have, or just had, members.
#[derive(Debug)]
pub(crate) struct Groups {
    slots: Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
    tokens: AtomicU64,
    started: Instant,
    initial_delay_ms: i64,
    stopping: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Groups {
    /// No groups yet. From `stopping` on nobody waits for other members any more.
    pub(crate) fn new(initial_delay_ms: i64, stopping: CancellationToken) -> Self {
        let (slots, tokens) = (Mutex::default(), AtomicU64::new(0));
        Self { slots, tokens, started: Instant::now(), initial_delay_ms, stopping }
    }

    pub(crate) fn initial_delay_ms(&self) -> i64 {
        self.initial_delay_ms
    }

    fn now(&self) -> Millis {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn token(&self) -> Token {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    fn slot(&self, id: &str, create: bool) -> Result<Option<Arc<Mutex<Slot>>>, ResponseError> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(id) {
            return Ok(Some(Arc::clone(slot)));
        }
        if !create {
            return Ok(None);
        }
        if slots.len() >= GROUPS_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        Ok(Some(Arc::clone(slots.entry(id.to_owned()).or_default())))
    }

    /// Runs `visit` on the slot of a group while its lock is held. A group that does not exist is an empty one; it is
    /// remembered only when `create` says so.
    fn with<T>(&self, id: &str, create: bool, visit: impl FnOnce(&mut Slot) -> T) -> Result<T, ResponseError> {
        loop {
            let Some(slot) = self.slot(id, create)? else { return Ok(visit(&mut Slot::default())) };
            let mut slot = lock(&slot);
            if !slot.retired {
                return Ok(visit(&mut slot));
            }
        }
    }

    /// Hands an input to a group and waits for the answer, possibly until other members have acted.
    pub(crate) async fn call(
        &self,
        id: &str,
        create: bool,
        input: impl FnOnce(Token) -> Input,
    ) -> Result<Answer, ResponseError> {
        let (sender, receiver) = oneshot::channel();
        let token = self.token();
        let now = self.now();
        self.with(id, create, |slot| {
            slot.waiting.insert(token, sender);
            slot.step(input(token), now);
        })?;
        tokio::select! { // cancel-safe: an answer that comes too late finds nobody
            biased;
            answer = receiver => answer.map_err(|_| ResponseError::CoordinatorNotAvailable),
            () = self.stopping.cancelled() => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    /// Runs `action` if this member may commit offsets now; nothing can change the group in between.
    pub(crate) fn commit<T>(
        &self,
        id: &str,
        who: Identity,
        generation: i32,
        action: impl FnOnce() -> T,
    ) -> Result<T, ResponseError> {
        let (token, now) = (self.token(), self.now());
        self.with(id, false, |slot| {
            let (sender, mut receiver) = oneshot::channel();
            slot.waiting.insert(token, sender);
            slot.step(Input::Commit { token, who, generation }, now);
            match receiver.try_recv() {
                Ok(Answer::Done(Ok(()))) => Ok(action()),
                Ok(Answer::Done(Err(error))) => Err(error),
                _ => Err(ResponseError::UnknownServerError),
            }
        })?
    }

    /// Runs `action` if the group has no members, and forgets the group.
    pub(crate) fn delete<T>(&self, id: &str, action: impl FnOnce() -> T) -> Result<T, ResponseError> {
        let done = self.with(id, false, |slot| {
            if !slot.group.members.is_empty() {
                return Err(ResponseError::NonEmptyGroup);
            }
            slot.retired = true;
            Ok(action())
        })??;
        lock(&self.slots).remove(id);
        Ok(done)
    }

    /// A copy of a group as it is now.
    pub(crate) fn describe(&self, id: &str) -> Option<Group> {
        let slot = self.slot(id, false).ok().flatten()?;
        let group = lock(&slot).group.clone();
        Some(group)
    }

    /// Names and copies of all groups.
    pub(crate) fn all(&self) -> Vec<(String, Group)> {
        let slots: Vec<_> = lock(&self.slots).iter().map(|(id, slot)| (id.clone(), Arc::clone(slot))).collect();
        slots.into_iter().map(|(id, slot)| (id, lock(&slot).group.clone())).collect()
    }

    /// Lets time pass for all groups, and forgets those without members. Returns how many are left.
    pub(crate) fn tick(&self) -> usize {
        let now = self.now();
        let slots: Vec<_> = lock(&self.slots).values().map(Arc::clone).collect();
        for slot in &slots {
            lock(slot).step(Input::Tick, now);
        }
        let mut slots = lock(&self.slots);
        slots.retain(|_, slot| {
            let mut slot = lock(slot);
            let idle = slot.group.members.is_empty() && slot.group.promised.is_empty() && slot.waiting.is_empty();
            slot.retired = idle;
            !idle
        });
        slots.len()
    }
}
