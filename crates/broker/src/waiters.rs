//! Who waits for a partition to change: fetches, and fetch sessions between two fetches.
//!
//! A waiter is a slot of an inbox: when the partition changes, its slot is noted there once and whoever waits for the
//! inbox is woken. So a fetch learns which of its partitions changed, and need not look at the others.
//! Invariant: a fetch registers before it looks, so a record that becomes durable in between still wakes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The slots of one fetch or session that changed since it last looked. At most as many as it has partitions.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    notify: Notify,
    changed: Mutex<Changed>,
}

#[derive(Debug, Default)]
struct Changed {
    slots: Vec<usize>,
    /// By slot, whether it is in `slots` already.
    noted: Vec<bool>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Changed> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, slot: usize) {
        let mut changed = self.lock();
        if changed.noted.len() <= slot {
            changed.noted.resize(slot + 1, false);
        }
        if !changed.noted[slot] {
            changed.noted[slot] = true;
            changed.slots.push(slot);
            drop(changed);
            self.notify.notify_one();
        }
    }

    /// Calls `visit` for every slot that changed, and forgets them.
    pub(crate) fn empty(&self, mut visit: impl FnMut(usize)) {
        let mut changed = self.lock();
        let Changed { slots, noted } = &mut *changed;
        for slot in slots.drain(..) {
            noted[slot] = false;
            visit(slot);
        }
    }

    /// Ends when something changed since the last time, or [`Inbox::call`] was called.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Wakes whoever waits, though nothing changed.
    pub(crate) fn call(&self) {
        self.notify.notify_one();
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Spares the lock on the write path while nobody waits.
    any: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: HashMap<u64, (Arc<Inbox>, usize)>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who wait. Cheap when nobody does; called from the thread that synced the log.
    pub(crate) fn wake(&self) {
        if self.any.load(Ordering::SeqCst) {
            for (inbox, slot) in self.lock().waiting.values() {
                inbox.note(*slot);
            }
        }
    }

    /// Has changes noted as `slot` of `inbox` until the registration is dropped.
    pub(crate) fn register(waiters: &Arc<Self>, inbox: &Arc<Inbox>, slot: usize) -> Registration {
        let mut inner = waiters.lock();
        inner.next += 1;
        let id = inner.next;
        inner.waiting.insert(id, (Arc::clone(inbox), slot));
        waiters.any.store(true, Ordering::SeqCst);
        drop(inner);
        Registration { waiters: Arc::clone(waiters), id }
    }
}

/// Ends the waiting when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    waiters: Arc<Waiters>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = self.waiters.lock();
        inner.waiting.remove(&self.id);
        let any = !inner.waiting.is_empty();
        self.waiters.any.store(any, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_registered_are_woken_and_the_dropped_forgotten() {
        let waiters = Arc::new(Waiters::default());
        let inbox = Arc::new(Inbox::default());
        let registration = Waiters::register(&waiters, &inbox, 3);
        waiters.wake();
        inbox.woken().await;
        drop(registration);
        assert!(!waiters.any.load(Ordering::SeqCst));
        assert!(waiters.lock().waiting.is_empty());
    }

    // a session may rest for long while its partitions grow
    #[tokio::test]
    async fn a_slot_is_noted_once_until_it_was_seen() {
        let waiters = Arc::new(Waiters::default());
        let inbox = Arc::new(Inbox::default());
        let _two = [Waiters::register(&waiters, &inbox, 0), Waiters::register(&waiters, &inbox, 5)];
        for _ in 0..1_000 {
            waiters.wake();
        }
        assert_eq!(inbox.lock().slots.len(), 2);
        let mut seen = Vec::new();
        inbox.empty(|slot| seen.push(slot));
        seen.sort_unstable();
        assert_eq!(seen, [0, 5]);
        waiters.wake();
        assert_eq!(inbox.lock().slots.len(), 2);
    }
}
