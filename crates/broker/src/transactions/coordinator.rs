//! Who owns the transactions: runs the state machine under a transaction's lock and stores what it decides.
//!
//! Invariant: what depends on a transaction being open (records, offsets) is written under its lock, so nothing of it is
//! written after its end was decided. Look next at `ending.rs` for what follows a decision.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commitlog::{Clock, Log};
use kafka_protocol::error::ResponseError;
use tokio::sync::Notify;

use super::state::{self, Answer, Phase, Place, Request, Transaction, Who};
use super::store::Store;
use crate::Error;
use crate::commit::{Committer, Ticket};
use crate::limits::TRANSACTIONS_MAX;

/// One transactional id.
#[derive(Debug, Default)]
struct Slot {
    transaction: Option<Transaction>,
    /// Notified when an end has been carried out.
    ended: Arc<Notify>,
    /// Taken out of the map; whoever still holds it looks again.
    retired: bool,
}

/// All transactional ids.
#[derive(Debug)]
pub(crate) struct Transactions {
    store: Store,
    clock: Arc<dyn Clock>,
    slots: Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
    /// Transactional ids whose end is decided and waits to be carried out.
    due: Mutex<BTreeSet<String>>,
    woken: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transactions {
    /// Replays the log. Ends that were decided before the last stop are due.
    pub(crate) fn open(
        log: Arc<Log>,
        committer: Committer,
        clock: Arc<dyn Clock>,
        rewrite_bytes: u64,
    ) -> Result<Self, Error> {
        let (store, known) = Store::open(log, committer, Arc::clone(&clock), rewrite_bytes)?;
        let (mut slots, mut due) = (HashMap::new(), BTreeSet::new());
        for (id, transaction) in known {
            if matches!(transaction.phase, Phase::Preparing { .. }) {
                due.insert(id.clone());
            }
            let slot = Slot { transaction: Some(transaction), ..Slot::default() };
            slots.insert(id, Arc::new(Mutex::new(slot)));
        }
        Ok(Self { store, clock, slots: Mutex::new(slots), due: Mutex::new(due), woken: Notify::new() })
    }

    fn slot(&self, id: &str, create: bool) -> Result<Option<Arc<Mutex<Slot>>>, ResponseError> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(id) {
            return Ok(Some(Arc::clone(slot)));
        }
        if !create {
            return Ok(None);
        }
        if slots.len() >= TRANSACTIONS_MAX {
            self.forget_one(&mut slots)?;
        }
        Ok(Some(Arc::clone(slots.entry(id.to_owned()).or_default())))
    }

    /// Makes room: forgets the transactional id that has been idle longest.
    fn forget_one(&self, slots: &mut HashMap<String, Arc<Mutex<Slot>>>) -> Result<(), ResponseError> {
        let idle = slots.iter().filter_map(|(id, slot)| {
            let slot = lock(slot);
            let transaction = slot.transaction.as_ref().filter(|transaction| transaction.idle())?;
            Some((transaction.updated_ms, id.clone()))
        });
        let (_, id) = idle.min().ok_or(ResponseError::CoordinatorNotAvailable)?;
        if let Some(slot) = slots.get(&id).map(Arc::clone) {
            let mut slot = lock(&slot);
            self.store.put(&id, None)?;
            (slot.transaction, slot.retired) = (None, true);
            slots.remove(&id);
        }
        Ok(())
    }

    /// Runs `visit` on the slot of a transactional id while its lock is held. An unknown one is an empty slot; it is
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

    /// Hands a request to a transactional id. A new state counts when the ticket says so; there is none where nothing has
    /// changed.
    pub(crate) fn step(&self, id: &str, request: Request) -> Result<(Answer, Option<Ticket>), ResponseError> {
        let create = matches!(request, Request::Init { .. });
        let (answer, changed) = self.with(id, create, |slot| self.step_in(id, slot, request))??;
        Ok((answer, changed.then(|| self.store.commit())))
    }

    /// See [`Transactions::step`]; says whether anything has changed.
    fn step_in(&self, id: &str, slot: &mut Slot, request: Request) -> Result<(Answer, bool), ResponseError> {
        let (after, answer) = state::next(slot.transaction.clone(), request, self.clock.now_ms());
        if after == slot.transaction {
            return Ok((answer, false));
        }
        self.store.put(id, after.as_ref())?;
        slot.transaction = after;
        match slot.transaction.as_ref().map(|transaction| transaction.phase) {
            Some(Phase::Preparing { .. }) => self.put_due(id),
            Some(Phase::Complete { .. }) => slot.ended.notify_waiters(),
            _ => {}
        }
        Ok((answer, true))
    }

    /// Runs `action` if this producer may write to this partition now; the transaction cannot end in between.
    pub(crate) fn inside<T>(
        &self,
        id: &str,
        who: Who,
        place: &Place,
        action: impl FnOnce() -> T,
    ) -> Result<T, ResponseError> {
        self.with(id, false, |slot| {
            let transaction = slot.transaction.as_ref().ok_or(ResponseError::InvalidProducerIdMapping)?;
            transaction.admits(who, place)?;
            Ok(action())
        })?
    }

    /// Ends when no end of this transactional id is being carried out.
    pub(crate) async fn settled(&self, id: &str) {
        loop {
            let Ok(ended) = self.with(id, false, |slot| Arc::clone(&slot.ended)) else { return };
            let mut ended = std::pin::pin!(ended.notified());
            ended.as_mut().enable(); // before the look, so that nothing is missed in between
            let phase = self.describe(id).map(|transaction| transaction.phase);
            if !matches!(phase, Some(Phase::Preparing { .. })) {
                return;
            }
            ended.await;
        }
    }

    /// A copy of a transactional id's state as it is now.
    pub(crate) fn describe(&self, id: &str) -> Option<Transaction> {
        self.with(id, false, |slot| slot.transaction.clone()).ok().flatten()
    }

    /// Names and copies of all.
    pub(crate) fn all(&self) -> Vec<(String, Transaction)> {
        let slots: Vec<_> = lock(&self.slots).iter().map(|(id, slot)| (id.clone(), Arc::clone(slot))).collect();
        slots.into_iter().filter_map(|(id, slot)| Some((id, lock(&slot).transaction.clone()?))).collect()
    }

    /// The largest producer id in use.
    pub(crate) fn producer_id_max(&self) -> Option<i64> {
        self.all().into_iter().map(|(_, transaction)| transaction.producer_id).max()
    }

    /// Which producers have which partitions in a transaction that has not ended.
    pub(super) fn unfinished(&self) -> HashSet<(i64, Place)> {
        let unfinished = self.all().into_iter().filter(|(_, transaction)| !transaction.idle());
        unfinished
            .flat_map(|(_, transaction)| {
                transaction.partitions.into_iter().map(move |place| (transaction.producer_id, place))
            })
            .collect()
    }

    /// Lets time pass for all: what took too long is aborted, what was idle for too long forgotten.
    pub(super) fn tick(&self) {
        let now_ms = self.clock.now_ms();
        let slots: Vec<_> = lock(&self.slots).iter().map(|(id, slot)| (id.clone(), Arc::clone(slot))).collect();
        for (id, slot) in slots {
            let mut slot = lock(&slot);
            if slot.retired || !slot.transaction.as_ref().is_some_and(|transaction| transaction.overdue(now_ms)) {
                continue;
            }
            match self.step_in(&id, &mut slot, Request::Tick) {
                Ok((Answer::Ending, _)) => {
                    tracing::warn!(transactional_id = id, "a transaction took longer than its timeout and is aborted");
                }
                Ok(_) => slot.retired = slot.transaction.is_none(),
                Err(code) => tracing::warn!(transactional_id = id, ?code, "cannot let time pass for a transaction"),
            }
        }
        lock(&self.slots).retain(|_, slot| !lock(slot).retired);
    }

    pub(super) fn put_due(&self, id: &str) {
        lock(&self.due).insert(id.to_owned());
        self.woken.notify_one();
    }

    pub(super) fn take_due(&self) -> Option<String> {
        lock(&self.due).pop_first()
    }

    /// Ends when something has become due since it was asked last.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Begins to make all decisions durable.
    pub(super) fn commit(&self) -> Ticket {
        self.store.commit()
    }

    /// See [`Store::rewrite_if_due`].
    pub(super) async fn rewrite_if_due(&self) -> Result<bool, commitlog::Error> {
        self.store.rewrite_if_due().await
    }
}
