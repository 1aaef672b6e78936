//! Producer ids: handed out once, never again, also not after a restart.
//!
//! Ids are reserved on disk in blocks; a restart begins behind the last reserved block, so at most one block is lost.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use commitlog::Vfs;
use commitlog::state_file::{self, Generation};

use crate::Error;

/// Ids reserved by one write of the state file.
const BLOCK: i64 = 1_000;
/// Name of the state file in the data folder.
const FILE: &str = "producer-ids.state";

/// Hands out producer ids.
#[derive(Debug)]
pub(crate) struct ProducerIds {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: i64,
    reserved: i64,
}

impl ProducerIds {
    /// Goes on behind what was reserved before, and behind `seen`, the largest id found in any log.
    pub(crate) fn open(data_dir: &std::path::Path, vfs: Arc<dyn Vfs>, seen: Option<i64>) -> Result<Self, Error> {
        let path = data_dir.join(FILE);
        let read = state_file::read(&*vfs, &path);
        let read = read.map_err(|source| Error::State { action: "read", path: path.clone(), source })?;
        let stored = match read {
            None => 0,
            Some((bytes, generation)) => {
                let number: i64 = serde_json::from_slice(&bytes)
                    .map_err(|source| Error::StateContent { path: path.clone(), source })?;
                // the copy before the newest does not know the block reserved last
                if generation == Generation::Previous { number.saturating_add(BLOCK) } else { number }
            }
        };
        let next = stored.max(seen.map_or(0, |id| id.saturating_add(1)));
        Ok(Self { vfs, path, inner: Mutex::new(Inner { next, reserved: next }) })
    }

    /// An id that nobody has or had.
    pub(crate) fn take(&self) -> Result<i64, Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.next >= inner.reserved {
            let reserved = inner.next.saturating_add(BLOCK);
            let written = state_file::write(&*self.vfs, &self.path, reserved.to_string().as_bytes());
            written.map_err(|source| Error::State { action: "write", path: self.path.clone(), source })?;
            inner.reserved = reserved;
        }
        let id = inner.next;
        inner.next += 1;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use commitlog::RealVfs;

    // STR-11
    #[test]
    fn ids_are_not_reused_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = |seen| ProducerIds::open(dir.path(), Arc::new(RealVfs), seen).unwrap();
        let first = open(None);
        let mut last = -1;
        for _ in 0..BLOCK + 5 {
            let id = first.take().unwrap();
            assert!(id > last);
            last = id;
        }
        drop(first);
        let second = open(None).take().unwrap();
        assert!(second > last, "{second} after {last}");
        assert!(open(Some(1_000_000)).take().unwrap() > 1_000_000);
    }

    #[test]
    fn a_damaged_state_file_does_not_bring_old_ids_back() {
        let dir = tempfile::tempdir().unwrap();
        let open = || ProducerIds::open(dir.path(), Arc::new(RealVfs), None).unwrap();
        let mut last = 0;
        for _ in 0..3 {
            last = open().take().unwrap();
        }
        std::fs::write(dir.path().join(FILE), b"garbage").unwrap();
        assert!(open().take().unwrap() > last);
    }
}
