//! Writing a compacted segment and putting it in the place of those it replaces.
//!
//! Order of an exchange, with a sync of the folder after each of the first three steps: 0. the new file is whole and
//! synced under `<base>.compact`; 1. the index of the first replaced segment goes, since it would describe other
//! bytes; 2. the new file takes the name of the first replaced segment; 3. the other replaced segments go, one after
//! the other; 4. the index is written, by the next sync as for any closed segment. A power cut between 2 and 3 leaves
//! segments whose records the new one also holds: recovery reads it up to the next name and goes on there. That is
//! why no filler crosses the end of a replaced segment.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{COMPACT, MARKS_FILE, Marks};
use crate::batch::{self, Header};
use crate::error::Error;
use crate::log::{Condition, Log, lock};
use crate::num::to_u64;
use crate::producers::Producers;
use crate::recovery::producers_behind;
use crate::segment::{self, Meta, Segment};
use crate::state_file;
use crate::sync::SyncFailure;
use crate::transactions::Aborted;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes collected before they are written.
const WRITE_BYTES: usize = 256 * 1024;

/// A segment being written.
pub(crate) struct Output {
    file: Arc<dyn VfsFile>,
    meta: Meta,
    interval: u32,
    buffer: Vec<u8>,
    written: u64,
    /// As they are at its end.
    producers: Producers,
    /// Offsets that are gone and have no filler yet, inclusive.
    gone: Option<(i64, i64)>,
}

impl Output {
    pub(crate) fn create(
        vfs: &dyn Vfs,
        dir: &Path,
        base: i64,
        interval: u32,
        producers: Producers,
    ) -> Result<Self, Error> {
        let path = segment::path(dir, base, COMPACT);
        let file = vfs.open(&path, OpenMode::Replace).map_err(Error::io("create", &path))?;
        Ok(Self { file, meta: Meta::new(base), interval, buffer: Vec::new(), written: 0, producers, gone: None })
    }

    /// Takes over what the index of a replaced segment says of aborted transactions: their batches all stay.
    pub(crate) fn aborted(&mut self, aborted: &[Aborted]) {
        self.meta.aborted.extend_from_slice(aborted);
    }

    /// Adds a batch.
    pub(crate) fn put(&mut self, header: &Header, batch: &[u8]) -> io::Result<()> {
        self.fill()?;
        self.append(header, &batch[..header.size()])
    }

    /// Leaves these offsets out.
    pub(crate) fn skip(&mut self, first: i64, last: i64) -> io::Result<()> {
        match &mut self.gone {
            Some((from, to)) if i32::try_from(last - *from).is_ok() => *to = last,
            _ => {
                self.fill()?;
                self.gone = Some((first, last));
            }
        }
        Ok(())
    }

    /// The end of a replaced segment, which no filler crosses.
    pub(crate) fn end_source(&mut self) -> io::Result<()> {
        self.fill()
    }

    fn fill(&mut self) -> io::Result<()> {
        let Some((first, last)) = self.gone.take() else { return Ok(()) };
        let filler = batch::filler(first, last);
        let header = Header::parse(&filler).map_err(io::Error::other)?;
        self.append(&header, &filler)
    }

    fn append(&mut self, header: &Header, batch: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(batch);
        self.meta.add(header, self.interval);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += to_u64(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    pub(crate) fn len(&self) -> u64 {
        self.meta.len
    }

    /// Makes the file whole and durable.
    pub(crate) fn finish(mut self, dir: &Path) -> Result<Self, SyncFailure> {
        let path = segment::path(dir, self.meta.base, COMPACT);
        self.flush().map_err(Error::io("write", &path)).map_err(SyncFailure::Other)?;
        self.file.sync_data().map_err(Error::io("sync", &path)).map_err(SyncFailure::Sync)?;
        Ok(self)
    }
}

/// The newest batch of each producer, by its id. Its header stays even when its records go, so that a scan finds the
/// same producers as the index.
pub(crate) fn newest_batches(producers: &Producers) -> HashMap<i64, i64> {
    let states = producers.snapshot().into_iter();
    states.filter_map(|state| Some((state.producer_id, state.batches.last()?.base_offset))).collect()
}

impl Log {
    /// Producers at the end of `group`: as its last index file says, or found by a scan where that file is damaged.
    pub(crate) fn producers_behind(&self, group: &[Arc<Segment>]) -> Result<Producers, Error> {
        let mut segments: Vec<Arc<Segment>> = {
            let state = self.state();
            state.closed.iter().take_while(|segment| segment.footer.next <= group[0].footer.base).cloned().collect()
        };
        segments.extend_from_slice(group);
        producers_behind(&*self.vfs, &self.dir, &segments, self.clock.now_ms())
    }

    /// Puts `output` in the place of `group`. False when the log has changed there meanwhile; then nothing is done.
    pub(crate) fn exchange(
        &self,
        group: &[Arc<Segment>],
        output: Output,
        leftovers: &mut VecDeque<i64>,
    ) -> Result<bool, Error> {
        let exchanged = {
            let _one_at_a_time = lock(&self.maintenance);
            self.exchange_under_maintenance(group, output, leftovers)
        };
        let base = group[0].footer.base;
        if !matches!(exchanged, Ok(true)) {
            drop(self.vfs.remove(&segment::path(&self.dir, base, COMPACT))); // or the next start does
            return exchanged;
        }
        self.remove_replaced(leftovers)?;
        self.sync()?; // writes the index
        Ok(true)
    }

    fn exchange_under_maintenance(
        &self,
        group: &[Arc<Segment>],
        output: Output,
        leftovers: &mut VecDeque<i64>,
    ) -> Result<bool, Error> {
        let (first, last) = (&group[0].footer, &group[group.len() - 1].footer);
        {
            let state = self.state();
            self.check_open(&state)?;
            let from = state.closed.partition_point(|segment| segment.footer.base < first.base);
            let there = state.closed.range(from.min(state.closed.len())..).take(group.len());
            if !there.clone().map(Arc::as_ptr).eq(group.iter().map(Arc::as_ptr)) || output.meta.next != last.next {
                return Ok(false);
            }
        }
        let path = segment::path(&self.dir, first.base, segment::LOG);
        self.remove_if_there(first.base, segment::INDEX)?;
        self.state().names.change();
        self.sync_names_or_stop()?;
        let written = segment::path(&self.dir, first.base, COMPACT);
        self.vfs.rename(&written, &path).map_err(Error::io("rename", &written))?;
        let Output { file, meta, producers, .. } = output;
        let len = meta.len;
        let segment = Segment::closing(meta, file, len, last.created_ms, producers);
        {
            let mut state = self.state();
            state.names.change();
            let from = state.closed.partition_point(|segment| segment.footer.base < first.base);
            state.closed.drain(from..from + group.len());
            state.closed.insert(from, Arc::clone(&segment));
            state.unsettled.push(segment);
        }
        for segment in group {
            lock(&self.cache).forget(segment.footer.base);
        }
        self.sync_names_or_stop()?;
        leftovers.extend(group.iter().skip(1).map(|segment| segment.footer.base));
        Ok(true)
    }

    /// Unlinks segments whose records another one holds, oldest first and each for good before the next: recovery reads
    /// the new segment up to the first of them, so none behind that one may be missing.
    pub(crate) fn remove_replaced(&self, leftovers: &mut VecDeque<i64>) -> Result<(), Error> {
        while let Some(base) = leftovers.front() {
            for extension in [segment::LOG, segment::INDEX] {
                self.remove_if_there(*base, extension)?;
            }
            self.state().names.change();
            self.sync_names_or_stop()?;
            leftovers.pop_front();
        }
        Ok(())
    }

    /// Makes the marks durable.
    pub(crate) fn write_marks(&self, marks: &Marks) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.maintenance);
        self.check_open(&self.state())?;
        let path = self.dir.join(MARKS_FILE);
        state_file::replace(&*self.vfs, &path, &marks.encode()).map_err(Error::io("write", &path))?;
        self.sync_names_or_stop()
    }

    /// A failed sync of any file of the log stops it (STR-03).
    pub(crate) fn stop_if_unsynced(&self, failure: SyncFailure) -> Error {
        if matches!(failure, SyncFailure::Sync(_)) {
            self.state().condition = Condition::Stopped;
        }
        failure.into_error()
    }

    fn remove_if_there(&self, base: i64, extension: &str) -> Result<(), Error> {
        let path = segment::path(&self.dir, base, extension);
        match self.vfs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}
