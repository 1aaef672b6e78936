//! The disk guard: refuses records of clients while the disk has less room than the reserve (STR-06).
//!
//! What the reserve is for goes on: topics that are essential (alarms and the audit trail) until three quarters of it are
//! used, group offsets, schemas and deletions to the end. The figure is looked at every second and after a write that
//! found the disk full.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use commitlog::{Space, Vfs};

/// Room for everybody.
const ROOM: u8 = 0;
/// Below the reserve: essential topics only.
const RESERVE: u8 = 1;
/// Below a quarter of the reserve: nothing that clients produce.
const LAST_QUARTER: u8 = 2;

/// With less than so many times the reserve the disk is called low, before anything is refused.
const LOW_RESERVES: u64 = 4;

/// Room on the disk, as of the last look.
#[derive(Debug)]
pub(crate) struct DiskGuard {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    reserve_bytes: u64,
    essential: Vec<String>,
    level: AtomicU8,
    /// Free bytes.
    free: AtomicU64,
}

impl DiskGuard {
    /// `essential` holds names of topics, or beginnings of names with a `*` behind them.
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, reserve_bytes: u64, essential: Vec<String>) -> Self {
        let guard =
            Self { vfs, dir, reserve_bytes, essential, level: AtomicU8::new(ROOM), free: AtomicU64::new(u64::MAX) };
        guard.look();
        guard
    }

    /// Looks at the disk; returns how much room it has.
    pub(crate) fn look(&self) -> Option<Space> {
        match self.vfs.space(&self.dir) {
            Ok(space) => {
                let free = space.free;
                self.free.store(free, Ordering::SeqCst);
                let reserve_bytes = self.reserve_bytes;
                let level = level(free, reserve_bytes);
                let before = self.level.swap(level, Ordering::SeqCst);
                match level {
                    _ if level == before => {}
                    ROOM => {
                        tracing::info!(free_bytes = free, reserve_bytes, "room on the disk again: producers may go on");
                    }
                    RESERVE => tracing::error!(
                        free_bytes = free,
                        reserve_bytes,
                        "disk almost full: producers are told to retry, but those of essential topics"
                    ),
                    _ => tracing::error!(
                        free_bytes = free,
                        reserve_bytes,
                        "most of the reserve is used: all producers are told to retry"
                    ),
                }
                Some(space)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell how much room the data disk has");
                None
            }
        }
    }

    /// A write found no room, whatever the last look said.
    pub(crate) fn found_full(&self) {
        self.level.fetch_max(RESERVE, Ordering::SeqCst);
    }

    pub(crate) fn full(&self) -> bool {
        self.level.load(Ordering::SeqCst) > ROOM
    }

    /// The free bytes, when they are few.
    pub(crate) fn low(&self) -> Option<u64> {
        let free = self.free.load(Ordering::SeqCst);
        (free < self.reserve_bytes.saturating_mul(LOW_RESERVES)).then_some(free)
    }

    /// Whether a client's records for this topic are taken now.
    pub(crate) fn takes(&self, topic: &str) -> bool {
        match self.level.load(Ordering::SeqCst) {
            ROOM => true,
            RESERVE => self.essential.iter().any(|pattern| matches(pattern, topic)),
            _ => false,
        }
    }
}

fn level(free: u64, reserve_bytes: u64) -> u8 {
    if free >= reserve_bytes {
        ROOM
    } else if free >= reserve_bytes / 4 {
        RESERVE
    } else {
        LAST_QUARTER
    }
}

fn matches(pattern: &str, topic: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => topic.starts_with(beginning),
        None => topic == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commitlog::SimVfs;

    // STR-06: telemetry is refused first, alarms and the audit trail have most of the reserve to themselves.
    #[test]
    fn the_reserve_is_for_essential_topics() {
        let vfs = SimVfs::new();
        let essential = ["alarms.*", "audit"].map(str::to_owned).to_vec();
        let guard = DiskGuard::new(Arc::new(vfs.clone()), PathBuf::from("/data"), 1_000, essential);
        let taken = |free: u64| {
            vfs.set_capacity(Some(free));
            guard.look();
            ["telemetry.raw", "alarms.raw", "audit", "auditor"].map(|topic| guard.takes(topic))
        };
        assert_eq!((taken(4_000), guard.low()), ([true; 4], None));
        assert_eq!((taken(3_999), guard.low()), ([true; 4], Some(3_999)), "it is told before anything is refused");
        assert_eq!(taken(1_000), [true; 4]);
        assert_eq!(taken(999), [false, true, true, false]);
        assert_eq!(taken(250), [false, true, true, false]);
        assert_eq!(taken(249), [false; 4]);
        assert_eq!(taken(1_000), [true; 4]);
        guard.found_full();
        assert!(guard.full() && guard.takes("audit") && !guard.takes("telemetry.raw"));
    }
}
