//! One partition's log: appending, making durable, and the figures everybody asks for.
//!
//! Locks, in the order in which they may be taken: `compaction` (one pass at a time), `maintenance` (one sync, trim or
//! repair at a time, may wait for the disk), `unlinking` (one trimmed segment at a time), then `state` (never held across
//! anything slower than one buffered write). So appends and reads go on while a sync runs.
//!
//! Invariants: `start <= durable <= next`; closed segments are ascending and do not overlap; nothing in a segment is
//! reported durable before the data and the index file of every earlier segment and the names of all of them are.
//! Syncing is in `sync.rs`, group commit in `flush.rs`, reading in `read.rs`, fetching in `slice.rs`, trimming in `retention.rs`, opening in
//! `recovery.rs`.

use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::batch::{self, Batches};
use crate::clock::Clock;
use crate::compact::Compaction;
use crate::error::Error;
use crate::flush::FlushSlot;
use crate::index;
use crate::num::to_u64;
use crate::producers::{ProducerState, Producers, Staged};
use crate::read::ReadCache;
use crate::recovery::{self, Damage, Recovery};
use crate::segment::{self, Meta, Segment};
use crate::sync::{DurableCallback, Names};
use crate::transactions::{ABORTED_PER_SEGMENT_MAX, Unseen};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Settings of one log; may be changed while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment is closed before it would exceed this many bytes (a single larger batch gets one of its own).
    pub segment_bytes: u64,
    /// A segment is closed when an append finds it older than this many milliseconds.
    pub segment_ms: i64,
    /// Bytes between two index entries.
    pub index_interval_bytes: u32,
    /// Segments whose newest record is older than this are removed; `None` keeps them.
    pub retention_ms: Option<i64>,
    /// Oldest segments are removed while the rest still holds this many bytes; `None` keeps them.
    pub retention_bytes: Option<u64>,
    /// Larger batches are refused.
    pub max_batch_bytes: usize,
    /// [`Log::compact`] removes what a newer value of the same key has replaced.
    pub compact: bool,
    /// It does so when at least so many thousandths of the closed segments' bytes are new.
    pub compact_from_permille: u16,
    /// Tombstones are kept for this long after the first compaction that saw them, so that readers learn of them.
    pub delete_retention_ms: i64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 32 * 1024 * 1024,
            segment_ms: 24 * 3_600 * 1_000,
            index_interval_bytes: 64 * 1024,
            retention_ms: None,
            retention_bytes: None,
            max_batch_bytes: 1024 * 1024,
            compact: false,
            compact_from_permille: 500,
            delete_retention_ms: 24 * 3_600 * 1_000,
        }
    }
}

/// Where an append ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Largest timestamp of its batches, milliseconds; -1 for none.
    pub max_timestamp: i64,
    /// Bytes stored; 0 for a duplicate.
    pub bytes: usize,
    /// The original base offset when an idempotent producer repeated a stored batch. Nothing was stored now, but the
    /// original may not be durable yet: acknowledge it, too, only after a commit.
    pub duplicate: Option<i64>,
}

/// One partition. Share it as `Arc<Log>`.
pub struct Log {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) state: Mutex<State>,
    pub(crate) compaction: Mutex<Compaction>,
    pub(crate) maintenance: Mutex<()>,
    pub(crate) unlinking: Mutex<()>,
    pub(crate) cache: Mutex<ReadCache>,
    pub(crate) flush: Mutex<FlushSlot>,
    pub(crate) durable: AtomicI64,
    /// Records from here on were written by this process.
    pub(crate) opened_at: i64,
    pub(crate) on_durable: RwLock<Option<DurableCallback>>,
}

/// What the `state` lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: LogOptions,
    pub(crate) closed: VecDeque<Arc<Segment>>,
    pub(crate) active: Option<Active>,
    /// Closed segments whose index file is not durable yet, oldest first.
    pub(crate) unsettled: Vec<Arc<Segment>>,
    pub(crate) start: i64,
    pub(crate) next: i64,
    /// The active file holds bytes that no sync has covered.
    pub(crate) active_dirty: bool,
    /// Changes of names in the folder, and how many of them are durable.
    pub(crate) names: Names,
    pub(crate) producers: Producers,
    pub(crate) unseen: Unseen,
    pub(crate) condition: Condition,
    pub(crate) damages: Vec<Damage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Open,
    Stopped,
    Closed,
}

/// The segment that takes appends.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) meta: Meta,
    pub(crate) created_ms: i64,
}

impl Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.dir).field("durable", &self.durable).finish_non_exhaustive()
    }
}

/// Takes a lock. A panic under one of these locks is a bug that has already been reported; the state behind it is
/// changed only by assignments after the fallible part, so it is still sound.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Opens the log in `dir`, creating the folder when it is absent, and says what recovery found.
    ///
    /// Everything that [`Log::durable_offset`] covers afterwards has been synced.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: LogOptions,
    ) -> Result<(Arc<Log>, Recovery), Error> {
        let (state, recovery) = recovery::recover(&*vfs, &*clock, dir, options)?;
        let log = Arc::new(Log {
            vfs,
            clock,
            dir: dir.to_path_buf(),
            compaction: Mutex::default(),
            maintenance: Mutex::new(()),
            unlinking: Mutex::new(()),
            cache: Mutex::new(ReadCache::default()),
            flush: Mutex::new(FlushSlot::default()),
            durable: AtomicI64::new(state.start),
            opened_at: state.next,
            on_durable: RwLock::new(None),
            state: Mutex::new(state),
        });
        log.sync_recovered()?;
        Ok((log, recovery))
    }

    /// Folder of the log.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Appends one or more whole record batches, verbatim but for base offset and leader epoch, which are patched in
    /// place. Not durable until a commit of the `Flusher` (or [`Log::sync`]) has covered it.
    ///
    /// All or nothing: after an error none of the batches is in the log.
    pub fn append(&self, batches: &mut [u8]) -> Result<Appended, Error> {
        let max_batch_bytes = self.state().options.max_batch_bytes;
        let record_count = validate(batches, max_batch_bytes)?;

        let now_ms = self.clock.now_ms();
        let mut guard = self.state();
        let state = &mut *guard;
        self.check_open(state)?;
        let base_offset = state.next;
        let after = base_offset.checked_add(record_count).filter(|next| *next < i64::MAX);
        let next = after.ok_or(Error::OffsetOutOfRange { offset: base_offset, start: state.start, end: i64::MAX })?;

        let mut staged = Staged::default();
        let mut duplicates = None;
        let mut fresh = 0_usize;
        let mut offset = base_offset;
        let mut max_timestamp = -1;
        for item in Batches::new(batches) {
            let (header, bytes) = item.expect("validated above");
            let marker = if header.control() { batch::marker(bytes) } else { None };
            match state.producers.stage(&mut staged, &header, marker, offset, now_ms)? {
                Some(duplicate) => {
                    let first = duplicates.map_or(duplicate.base_offset, |(first, _)| first);
                    duplicates = Some((first, duplicate.last_offset));
                }
                None => fresh += 1,
            }
            offset += i64::from(header.last_offset_delta) + 1;
            max_timestamp = max_timestamp.max(header.max_timestamp);
        }
        if let Some((first, last)) = duplicates {
            if fresh > 0 {
                return Err(state.producers.mixed_retry(batches));
            }
            return Ok(Appended {
                base_offset: first,
                last_offset: last,
                max_timestamp,
                bytes: 0,
                duplicate: Some(first),
            });
        }
        place_all(batches, base_offset);

        self.make_room(state, to_u64(batches.len()), now_ms)?;
        let active = state.active.as_mut().expect("make_room leaves an active segment");
        if let Err(source) = active.file.write_at(batches, active.meta.len) {
            // Part of it may be in the file: take it out again, so that a shorter batch does not leave its end behind.
            if active.file.set_len(active.meta.len).is_err() {
                state.condition = Condition::Stopped;
            }
            state.active_dirty = true;
            let path = segment::path(&self.dir, active.meta.base, segment::LOG);
            return Err(Error::Io { action: "append to", path, source });
        }
        for item in Batches::new(batches) {
            let (header, _) = item.expect("validated above");
            active.meta.add(&header, state.options.index_interval_bytes);
        }
        if let Some(ended) = state.producers.apply(staged) {
            active.meta.aborted.extend(ended.aborted(state.producers.first_open()));
            state.unseen.push(ended, self.durable_offset());
        }
        state.active_dirty = true;
        state.next = next;
        Ok(Appended { base_offset, last_offset: next - 1, max_timestamp, bytes: batches.len(), duplicate: None })
    }

    /// Offset of the first record that is kept.
    pub fn start_offset(&self) -> i64 {
        self.state().start
    }

    /// Offset the next record will get.
    pub fn end_offset(&self) -> i64 {
        self.state().next
    }

    /// Everything below is fsynced: the high watermark.
    pub fn durable_offset(&self) -> i64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Bytes of all segments on disk.
    pub fn size_bytes(&self) -> u64 {
        let state = self.state();
        let closed: u64 = state.closed.iter().map(|segment| segment.footer.file_len).sum();
        closed + state.active.as_ref().map_or(0, |active| active.meta.len)
    }

    /// Number of segments, the active one included.
    pub fn segment_count(&self) -> usize {
        let state = self.state();
        state.closed.len() + usize::from(state.active.is_some())
    }

    /// The settings in force.
    pub fn options(&self) -> LogOptions {
        self.state().options.clone()
    }

    /// Changes the settings from the next operation on.
    pub fn set_options(&self, options: LogOptions) {
        self.state().options = options;
    }

    /// Producers known to this log, by id, with their open transactions.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.state().producers.snapshot()
    }

    /// Damage found since the log was opened, oldest first; what recovery found is in [`Recovery`].
    pub fn damages(&self) -> Vec<Damage> {
        self.state().damages.clone()
    }

    /// Installs the function that is called after [`Log::durable_offset`] has advanced: cheaply, on the syncing thread,
    /// with appends and reads going on. It must not sync, trim or close the log. A second call replaces the first function.
    pub fn on_durable(&self, f: Box<dyn Fn() + Send + Sync>) {
        *self.on_durable.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::from(f));
    }

    /// Refuses everything from now on, and unlinks nothing any more; for a topic that is being deleted. See [`remove_dir`].
    pub fn abandon(&self) {
        let _between_two_segments = lock(&self.unlinking);
        self.state().condition = Condition::Closed;
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(crate) fn check_open(&self, state: &State) -> Result<(), Error> {
        match state.condition {
            Condition::Open => Ok(()),
            Condition::Stopped => Err(Error::Stopped { path: self.dir.clone() }),
            Condition::Closed => Err(Error::Closed { path: self.dir.clone() }),
        }
    }

    /// Makes sure that there is an active segment with room for `bytes` more.
    fn make_room(&self, state: &mut State, bytes: u64, now_ms: i64) -> Result<(), Error> {
        let full = state.active.as_ref().is_some_and(|active| {
            let too_large = active.meta.len + bytes > state.options.segment_bytes;
            let too_old = now_ms.saturating_sub(active.created_ms) >= state.options.segment_ms;
            let too_many = active.meta.aborted.len() >= ABORTED_PER_SEGMENT_MAX;
            active.meta.len > 0 && (too_large || too_old || too_many)
        });
        if full || state.active.is_none() { self.roll(state, now_ms) } else { Ok(()) }
    }

    /// Closes the active segment, if there is one, and starts the next. On error nothing has changed.
    ///
    /// Names become durable in the order of the segments: one that is missing before a younger one is a loss, not a
    /// power cut. A sync normally has seen to that; only rolling faster than syncing pays for it here.
    pub(crate) fn roll(&self, state: &mut State, now_ms: i64) -> Result<(), Error> {
        if state.names.dirty() {
            if let Err(failure) = self.sync_names() {
                state.condition = Condition::Stopped;
                return Err(failure.into_error());
            }
            state.names.sync(state.names);
        }
        let path = segment::path(&self.dir, state.next, segment::LOG);
        let file = self.create_segment(&path)?;
        state.names.change();
        state.retire_active();
        state.active = Some(Active { file, meta: Meta::new(state.next), created_ms: now_ms });
        Ok(())
    }

    fn create_segment(&self, path: &Path) -> Result<Arc<dyn VfsFile>, Error> {
        match self.vfs.open(path, OpenMode::Create) {
            // Left behind by an attempt that failed half-way: ours if it is empty.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.vfs.open(path, OpenMode::Write).map_err(Error::io("open", path))?;
                if file.is_empty().map_err(Error::io("measure", path))? {
                    Ok(file)
                } else {
                    Err(Error::Io { action: "create", path: path.to_path_buf(), source: error })
                }
            }
            opened => opened.map_err(Error::io("create", path)),
        }
    }
}

impl Active {
    pub(crate) fn footer(&self) -> index::Footer {
        self.meta.footer(self.meta.len, self.created_ms)
    }
}

impl State {
    /// Turns the active segment into a closed, not yet settled one.
    pub(crate) fn retire_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        let len = active.meta.len;
        let segment = Segment::closing(active.meta, active.file, len, active.created_ms, self.producers.clone());
        self.unsettled.push(Arc::clone(&segment));
        self.closed.push_back(segment);
        self.active_dirty = false;
    }
}

fn place_all(batches: &mut [u8], base_offset: i64) {
    let mut rest = batches;
    let mut offset = base_offset;
    while !rest.is_empty() {
        let header = batch::Header::parse(rest).expect("validated before");
        let (batch, after) = rest.split_at_mut(header.size());
        batch::place(batch, offset);
        offset += i64::from(header.last_offset_delta) + 1;
        rest = after;
    }
}

/// Checks every batch and counts the records.
fn validate(batches: &[u8], max_batch_bytes: usize) -> Result<i64, Error> {
    let mut count = 0;
    let mut walk = Batches::new(batches);
    let mut position = 0;
    while let Some(item) = walk.next() {
        let checked = item.and_then(|(_, batch)| {
            let header = batch::verify(batch)?;
            Ok((header, batch.len()))
        });
        let (header, bytes) = checked.map_err(|source| Error::InvalidBatch { position, source })?;
        if bytes > max_batch_bytes {
            return Err(Error::BatchTooLarge { bytes, limit: max_batch_bytes });
        }
        count += i64::from(header.count);
        position = walk.position();
    }
    if count == 0 {
        let need = to_u64(batch::HEADER_BYTES);
        return Err(Error::InvalidBatch { position: 0, source: batch::BatchError::Truncated { need, have: 0 } });
    }
    Ok(count)
}

/// Removes the folder of a deleted log with everything in it, quarantined files included. Harmless to repeat.
pub fn remove_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    match vfs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => {
            for name in listed.map_err(Error::io("list", dir))? {
                let path = dir.join(name);
                vfs.remove(&path).map_err(Error::io("remove", &path))?;
            }
        }
    }
    vfs.remove_dir(dir).map_err(Error::io("remove", dir))?;
    let parent = dir.parent().unwrap_or(Path::new("."));
    vfs.sync_dir(parent).map_err(Error::io("sync folder", parent))
}
