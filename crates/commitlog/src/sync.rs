//! Making a log durable: what is synced, in which order, and what a failure means.
//!
//! Order of one sync: data of closed segments, data of the active one, index files, names in the folder; only then is
//! anything reported durable. An index file that exists therefore proves that its segment had been synced, which is how
//! recovery tells damage from a power cut. After a failed fsync nothing is known about what it should have written, so the
//! log stops for good (STR-03); any other failure leaves it as it was and may be tried again.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::error::Error;
use crate::index;
use crate::log::{Condition, Log, lock};
use crate::num::to_u64;
use crate::segment::{self, Segment};
use crate::vfs::{OpenMode, Vfs, VfsFile};

pub(crate) type DurableCallback = Arc<dyn Fn() + Send + Sync>;

/// Counts changes of names in a folder, so that a sync that started earlier does not vouch for later ones.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Names {
    changed: u64,
    synced: u64,
}

impl Names {
    pub(crate) fn change(&mut self) {
        self.changed += 1;
    }

    pub(crate) fn dirty(self) -> bool {
        self.changed > self.synced
    }

    /// Takes note of a successful sync that started when `at_start` was the state.
    pub(crate) fn sync(&mut self, at_start: Names) {
        self.synced = self.synced.max(at_start.changed);
    }
}

/// Tells an fsync error, after which nothing is known any more, from one that leaves things as they were.
pub(crate) enum SyncFailure {
    Sync(Error),
    Other(Error),
}

impl SyncFailure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            SyncFailure::Sync(error) | SyncFailure::Other(error) => error,
        }
    }
}

impl Log {
    /// Makes everything appended so far durable and returns the offset up to which the log is.
    ///
    /// Appends and reads go on meanwhile. After a failed fsync the log has stopped for good (STR-03); an error of which
    /// [`Error::no_space`] is true leaves it as it was and may pass.
    pub fn sync(&self) -> Result<i64, Error> {
        let _one_at_a_time = lock(&self.maintenance);
        self.sync_under_maintenance()?;
        Ok(self.durable_offset())
    }

    /// Syncs, leaves a checkpoint so that the next start scans nothing, and refuses appends from now on.
    pub fn close(&self) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.maintenance);
        self.check_open(&self.state())?;
        self.sync_under_maintenance()?;
        let mut state = self.state();
        state.condition = Condition::Closed;
        let Some(active) = &state.active else { return Ok(()) };
        let bytes = index::encode(&active.footer(), &active.meta.entries, &active.meta.aborted, &state.producers);
        let path = segment::path(&self.dir, active.meta.base, segment::CHECKPOINT);
        drop(state);
        if holds(&*self.vfs, &path, &bytes) {
            return Ok(()); // nothing was appended since the close before; a stop need not wait for the disk again
        }
        write_synced(&*self.vfs, &path, &bytes)?;
        self.vfs.sync_dir(&self.dir).map_err(Error::io("sync folder", &self.dir))
    }

    /// The first sync after recovery. On a full disk the index files have to wait for the next one, but the data is
    /// synced before them and has been there all along: readers must see it.
    pub(crate) fn sync_recovered(&self) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.maintenance);
        match self.sync_under_maintenance() {
            Err(error) if error.no_space() => {
                self.sync_names().map_err(SyncFailure::into_error)?;
                self.durable.store(self.state().next, Ordering::Release);
                Ok(())
            }
            synced => synced,
        }
    }

    /// See [`Log::sync`]. Tells whoever waits when the durable offset has advanced.
    pub(crate) fn sync_under_maintenance(&self) -> Result<(), Error> {
        let (unsettled, active, names, end) = {
            let mut state = self.state();
            if state.condition == Condition::Stopped {
                return Err(Error::Stopped { path: self.dir.clone() });
            }
            let active = state.active.as_ref().filter(|_| state.active_dirty);
            let active = active.map(|active| (Arc::clone(&active.file), active.meta.base));
            state.active_dirty = false;
            (state.unsettled.clone(), active, state.names, state.next)
        };
        let outcome = self.sync_parts(&unsettled, active.as_ref(), names.dirty());
        let mut state = self.state();
        match outcome {
            Ok(()) => {
                state.unsettled.drain(..unsettled.len());
                state.names.sync(names);
                let before = self.durable.swap(end, Ordering::AcqRel);
                drop(state);
                if before < end {
                    let callback = self.on_durable.read().unwrap_or_else(PoisonError::into_inner).clone();
                    if let Some(callback) = callback {
                        callback();
                    }
                }
                Ok(())
            }
            Err(SyncFailure::Sync(error)) => {
                state.condition = Condition::Stopped;
                Err(error)
            }
            Err(SyncFailure::Other(error)) => {
                state.active_dirty |= active.is_some();
                state.names.change(); // index files may have been created
                Err(error)
            }
        }
    }

    fn sync_parts(
        &self,
        unsettled: &[Arc<Segment>],
        active: Option<&(Arc<dyn VfsFile>, i64)>,
        names: bool,
    ) -> Result<(), SyncFailure> {
        for segment in unsettled {
            self.sync_segment(segment)?;
        }
        if let Some((file, base)) = active {
            let path = segment::path(&self.dir, *base, segment::LOG);
            file.sync_data().map_err(Error::io("sync", &path)).map_err(SyncFailure::Sync)?;
        }
        for segment in unsettled {
            self.write_index(segment)?;
        }
        if names || !unsettled.is_empty() {
            self.sync_names()?;
        }
        // Only now: until its name is durable the index file might be gone after a power cut.
        for segment in unsettled {
            *lock(&segment.unsettled) = None;
        }
        Ok(())
    }

    pub(crate) fn sync_names(&self) -> Result<(), SyncFailure> {
        self.vfs.sync_dir(&self.dir).map_err(Error::io("sync folder", &self.dir)).map_err(SyncFailure::Sync)
    }

    /// Makes the names in the folder durable. They are those of the segments, too, so a failure stops the log.
    pub(crate) fn sync_names_or_stop(&self) -> Result<(), Error> {
        let names = self.state().names;
        let synced = self.sync_names().map_err(SyncFailure::into_error);
        match &synced {
            Ok(()) => self.state().names.sync(names),
            Err(_) => self.state().condition = Condition::Stopped,
        }
        synced
    }

    /// Makes the data of a closed segment durable.
    fn sync_segment(&self, segment: &Segment) -> Result<(), SyncFailure> {
        let file = match lock(&segment.unsettled).as_ref() {
            Some(unsettled) if !unsettled.synced => Arc::clone(&unsettled.file),
            _ => return Ok(()),
        };
        let path = segment::path(&self.dir, segment.footer.base, segment::LOG);
        file.sync_data().map_err(Error::io("sync", &path)).map_err(SyncFailure::Sync)?;
        if let Some(unsettled) = lock(&segment.unsettled).as_mut() {
            unsettled.synced = true;
        }
        Ok(())
    }

    /// Writes the index file of a closed segment whose data is durable. The order matters: an index file that exists, in
    /// whatever condition, proves to recovery that its segment had been synced.
    fn write_index(&self, segment: &Segment) -> Result<(), SyncFailure> {
        let Some(unsettled) = lock(&segment.unsettled).clone() else { return Ok(()) };
        let path = segment::path(&self.dir, segment.footer.base, segment::INDEX);
        let bytes = index::encode(&segment.footer, &unsettled.entries, &unsettled.aborted, &unsettled.producers);
        let file = self.vfs.open(&path, OpenMode::Replace).map_err(Error::io("create", &path));
        let file = file.map_err(SyncFailure::Other)?;
        file.write_at(&bytes, 0).map_err(Error::io("write", &path)).map_err(SyncFailure::Other)?;
        file.sync_data().map_err(Error::io("sync", &path)).map_err(SyncFailure::Sync)
    }
}

/// Whether a file holds these bytes and nothing else; not being able to tell is a no.
fn holds(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> bool {
    let read = || -> std::io::Result<bool> {
        let file = vfs.open(path, OpenMode::Read)?;
        if file.len()? != to_u64(bytes.len()) {
            return Ok(false);
        }
        let mut there = vec![0; bytes.len()];
        let count = file.read_at(&mut there, 0)?;
        Ok(there.get(..count) == Some(bytes))
    };
    read().unwrap_or(false)
}

/// Writes a whole derived file and syncs it; its name is not durable yet.
pub(crate) fn write_synced(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let file = vfs.open(path, OpenMode::Replace).map_err(Error::io("create", path))?;
    file.write_at(bytes, 0).map_err(Error::io("write", path))?;
    file.sync_data().map_err(Error::io("sync", path))
}
