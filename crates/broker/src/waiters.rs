//! Who waits for records: fetches register with every partition they read and are woken by the first that grows.
//!
//! Invariant: a fetch registers before it looks, so a record that becomes durable in between still wakes it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The waiting fetches of one partition.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Spares the lock on the write path while nobody waits.
    any: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    waiting: HashMap<u64, Arc<Notify>>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all who wait. Cheap when nobody does; called from the thread that synced the log.
    pub(crate) fn wake(&self) {
        if self.any.load(Ordering::SeqCst) {
            for waiter in self.lock().waiting.values() {
                waiter.notify_one();
            }
        }
    }

    /// Has `waiter` woken until the registration is dropped.
    pub(crate) fn register(waiters: &Arc<Self>, waiter: &Arc<Notify>) -> Registration {
        let mut inner = waiters.lock();
        inner.next += 1;
        let id = inner.next;
        inner.waiting.insert(id, Arc::clone(waiter));
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
        let notify = Arc::new(Notify::new());
        let registration = Waiters::register(&waiters, &notify);
        waiters.wake();
        notify.notified().await;
        drop(registration);
        assert!(!waiters.any.load(Ordering::SeqCst));
        assert!(waiters.lock().waiting.is_empty());
    }
}
