//! The disk guard: refuses records of clients while the disk has less room than the reserve (STR-06).
//!
//! Group offsets, schemas and deletes go on, they are what the reserve is for. The figure is looked at every second and
//! after a write that found the disk full.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use commitlog::Vfs;

/// Room on the disk, as of the last look.
#[derive(Debug)]
pub(crate) struct DiskGuard {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    reserve_bytes: u64,
    full: AtomicBool,
}

impl DiskGuard {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, reserve_bytes: u64) -> Self {
        let guard = Self { vfs, dir, reserve_bytes, full: AtomicBool::new(false) };
        guard.look();
        guard
    }

    /// Looks at the disk; returns its free bytes.
    pub(crate) fn look(&self) -> Option<u64> {
        match self.vfs.free_space(&self.dir) {
            Ok(free) => {
                let full = free < self.reserve_bytes;
                if self.full.swap(full, Ordering::SeqCst) != full {
                    let reserve_bytes = self.reserve_bytes;
                    if full {
                        tracing::error!(
                            free_bytes = free,
                            reserve_bytes,
                            "disk almost full: producers are told to retry"
                        );
                    } else {
                        tracing::info!(free_bytes = free, reserve_bytes, "room on the disk again: producers may go on");
                    }
                }
                Some(free)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell how much room the data disk has");
                None
            }
        }
    }

    /// A write found no room, whatever the last look said.
    pub(crate) fn found_full(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    pub(crate) fn full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }
}
