//! A partition: its log, and who waits for it to grow.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use commitlog::Log;

use crate::waiters::Waiters;

/// One partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) log: Arc<Log>,
    pub(crate) waiters: Arc<Waiters>,
    /// Bytes of batches that producers brought and consumers took since the start, for the metrics.
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
}

impl Partition {
    /// Wires the log to its waiters: they are woken whenever more of it is durable.
    pub(crate) fn new(index: i32, log: Arc<Log>) -> Arc<Self> {
        let waiters = Arc::new(Waiters::default());
        let woken = Arc::clone(&waiters);
        log.on_durable(Box::new(move || woken.wake()));
        Arc::new(Self { index, log, waiters, received_bytes: AtomicU64::new(0), sent_bytes: AtomicU64::new(0) })
    }
}
