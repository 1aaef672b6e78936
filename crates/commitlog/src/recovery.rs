//! Opening a log after any kind of stop: what is trusted, what is scanned, what is set aside.
//!
//! - A closed segment is trusted by its index file: checksum, base offset and length of the segment must match. Its data
//!   is not read; a flipped bit in it is found by the first reader (`read.rs`), which checks every batch.
//! - Without a valid index file it is scanned and the index rebuilt. If the scan ends early the segment is damaged when
//!   an index file of it or of a later segment exists (its data had been synced then), and repaired by `salvage.rs`;
//!   otherwise the power went before the first sync of the younger segments, nothing in them was ever acknowledged, and
//!   they are set aside so that no offset below the end is missing.
//! - Only the last segment is scanned in any case, from its checkpoint if there is one. A bad tail is cut: zeros are
//!   truncated, anything else stays in the file behind the recorded length, and appends go to a new segment.
//!
//! Invariants: nothing unreadable is deleted (I9); a crash at any line is harmless, since every step leads to a state
//! from which the same decisions follow; after two opens nothing changes any more.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch::{Header, Marker};
use crate::clock::Clock;
use crate::compact;
use crate::error::Error;
use crate::index::{self, Body, Footer};
use crate::log::{Active, Condition, LogOptions, State};
use crate::num::to_usize;
use crate::producers::Producers;
use crate::salvage;
use crate::segment::{self, Meta, Segment, Window};
use crate::state_file;
use crate::sync::{Names, write_synced};
use crate::transactions::{Aborted, Unseen};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Name of the state file that holds the log start offset.
pub(crate) const START_OFFSET_FILE: &str = "start-offset";

/// What opening a log has found.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// First offset of the log.
    pub start_offset: i64,
    /// Offset the next record will get.
    pub end_offset: i64,
    /// Segments found.
    pub segments: usize,
    /// Bytes read and checked; 0 after an orderly stop.
    pub scanned_bytes: u64,
    /// Index files that were missing or damaged and are written anew.
    pub rebuilt_indexes: usize,
    /// The bad tail that was cut off, if any.
    pub cut: Option<Cut>,
    /// Damaged segments that were set aside during this open, with the exact offsets lost.
    pub damages: Vec<Damage>,
    /// Offsets that the log does not hold although they lie between its start and its end, now and from earlier damage;
    /// inclusive.
    pub missing: Vec<(i64, i64)>,
    /// Files that were renamed because nothing in them had ever been acknowledged.
    pub set_aside: Vec<PathBuf>,
}

/// Stored records that can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// First offset lost.
    pub first_offset: i64,
    /// Last offset lost.
    pub last_offset: i64,
    /// The file with the original bytes.
    pub path: PathBuf,
}

/// A tail that was cut off the last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// Byte at which the bad tail starts.
    pub position: u64,
    /// Its length.
    pub bytes: u64,
    /// The offset a valid batch would have had there, which the next append gets.
    pub offset: i64,
    /// What is wrong with its first bytes.
    pub reason: String,
}

/// One pass over the folder.
struct Pass<'a> {
    vfs: &'a dyn Vfs,
    dir: &'a Path,
    options: &'a LogOptions,
    now_ms: i64,
    indexes: BTreeSet<i64>,
    checkpoints: BTreeSet<i64>,
    recovery: &'a mut Recovery,
    closed: VecDeque<Arc<Segment>>,
    unsettled: Vec<Arc<Segment>>,
    active: Option<Active>,
    active_dirty: bool,
    names: Names,
    producers: Producers,
}

/// What became of one segment that is not the last.
enum Closed {
    Kept,
    /// It was repaired: the folder has changed, start over.
    Repaired,
    /// It ends early and nothing behind it was ever acknowledged.
    EndsLog,
}

/// Brings the folder into a sound state and describes it.
pub(crate) fn recover(
    vfs: &dyn Vfs,
    clock: &dyn Clock,
    dir: &Path,
    options: LogOptions,
) -> Result<(State, Recovery), Error> {
    create_dir(vfs, dir)?;
    let mut recovery = Recovery::default();
    let names = vfs.list(dir).map_err(Error::io("list", dir))?;
    salvage::resume(vfs, dir, &names)?;
    compact::discard_unfinished(vfs, dir, &names)?;
    let mut names = Names::default();
    let start = read_start_offset(vfs, dir)?;
    loop {
        let mut pass = Pass {
            vfs,
            dir,
            options: &options,
            now_ms: clock.now_ms(),
            indexes: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
            recovery: &mut recovery,
            closed: VecDeque::new(),
            unsettled: Vec::new(),
            active: None,
            active_dirty: false,
            names,
            producers: Producers::default(),
        };
        if !pass.run(start.unwrap_or(0))? {
            names = pass.names;
            continue;
        }
        let (closed, unsettled, active) = (pass.closed, pass.unsettled, pass.active);
        let (active_dirty, names, producers) = (pass.active_dirty, pass.names, pass.producers);
        let mut state = State {
            options,
            closed,
            active,
            unsettled,
            start: start.unwrap_or(0),
            next: 0,
            active_dirty,
            names,
            producers,
            unseen: Unseen::default(),
            condition: Condition::Open,
            damages: Vec::new(),
        };
        finish(&mut state, &mut recovery, start.is_none() && start_file_exists(vfs, dir)?);
        return Ok((state, recovery));
    }
}

/// Fills in what follows from the segments: ends, holes, figures for the report.
fn finish(state: &mut State, recovery: &mut Recovery, start_unknown: bool) {
    let first = state.closed.front().map(|segment| segment.footer.base);
    let first = first.or(state.active.as_ref().map(|active| active.meta.base));
    if start_unknown {
        state.start = first.unwrap_or(0); // both copies of the start offset are damaged: serve what there is
    }
    let mut expected = state.start;
    let closed = state.closed.iter().map(|segment| (segment.footer.base, segment.footer.next));
    let active = state.active.iter().map(|active| (active.meta.base, active.meta.next));
    for (base, next) in closed.chain(active) {
        if base > expected {
            recovery.missing.push((expected, base - 1));
        }
        expected = expected.max(next);
    }
    state.next = expected;
    if state.active.as_ref().is_some_and(|active| active.meta.next < state.next) {
        state.retire_active(); // it ends before the log start: what comes next must not continue it
    }
    recovery.start_offset = state.start;
    recovery.end_offset = state.next;
    recovery.segments = state.closed.len() + usize::from(state.active.is_some());
}

impl Pass<'_> {
    /// Visits all segments; false when a repair has changed the folder and the pass must be repeated.
    fn run(&mut self, start: i64) -> Result<bool, Error> {
        let names = self.vfs.list(self.dir).map_err(Error::io("list", self.dir))?;
        let with = |extension| names.iter().filter_map(move |name| segment::parse_name(name, extension));
        let mut bases: Vec<i64> = with(segment::LOG).collect();
        self.indexes = with(segment::INDEX).collect();
        self.checkpoints = with(segment::CHECKPOINT).collect();

        // Segments wholly below the start were being deleted when the process stopped.
        let trimmed = bases.windows(2).take_while(|pair| pair[1] <= start).count();
        self.keep_producers(&bases[..bases.len().min(trimmed + 1)])?;
        for base in bases.drain(..trimmed) {
            self.remove(base, segment::LOG)?;
        }
        let orphans: Vec<i64> = self.indexes.iter().filter(|base| !bases.contains(base)).copied().collect();
        for base in orphans {
            self.remove(base, segment::INDEX)?;
            self.indexes.remove(&base);
        }
        if bases.is_empty() {
            return self.without_segments(start).map(|()| true);
        }
        let stale = self.checkpoints.iter().filter(|base| ![bases.first(), bases.last()].contains(&Some(*base)));
        let stale: Vec<i64> = stale.copied().collect();
        for base in stale {
            self.remove(base, segment::CHECKPOINT)?;
            self.checkpoints.remove(&base);
        }

        for (position, base) in bases.iter().enumerate() {
            let Some(next_base) = bases.get(position + 1) else {
                self.last(*base)?;
                break;
            };
            match self.closed(*base, *next_base)? {
                Closed::Kept => {}
                Closed::Repaired => return Ok(false),
                Closed::EndsLog => {
                    for later in &bases[position + 1..] {
                        let path = segment::path(self.dir, *later, segment::LOG);
                        self.recovery.set_aside.push(salvage::set_aside(self.vfs, &path, "cut")?);
                        self.names.change();
                        if self.checkpoints.remove(later) {
                            self.remove(*later, segment::CHECKPOINT)?;
                        }
                    }
                    self.last(*base)?;
                    break;
                }
            }
        }
        Ok(true)
    }

    /// What the segments before the last of `bases` say of producers, where no file behind them says it: they are about
    /// to be removed, so it is kept as the checkpoint of that last one (see `Log::keep_producers`).
    fn keep_producers(&mut self, bases: &[i64]) -> Result<(), Error> {
        let [going @ .., behind] = bases else { return Ok(()) };
        let told = self.indexes.range(behind..).next().is_some() || self.checkpoints.contains(behind);
        if going.is_empty() || told {
            return Ok(());
        }
        let mut segments = Vec::with_capacity(going.len());
        for pair in bases.windows(2) {
            let path = segment::path(self.dir, pair[0], segment::LOG);
            let file_len = self.vfs.len(&path).map_err(Error::io("measure", &path))?;
            let known = self.footer(pair[0])?.filter(|footer| footer.file_len == file_len && footer.next <= pair[1]);
            let whole =
                || Footer { next: pair[1], data_len: file_len, ..Meta::new(pair[0]).footer(file_len, self.now_ms) };
            segments.push(Segment::settled(known.unwrap_or_else(whole)));
        }
        let producers = producers_behind(self.vfs, self.dir, &segments, self.now_ms)?;
        if producers.is_empty() {
            return Ok(());
        }
        self.write_checkpoint(*behind, &producers)
    }

    /// No segment is left: the only one was set aside, as nothing in it had ever been acknowledged, and those before it
    /// were deleted. What those told of producers is the checkpoint of the segment that comes next.
    fn without_segments(&mut self, start: i64) -> Result<(), Error> {
        if let Some((_, body)) = self.whole_index(start, segment::CHECKPOINT)? {
            self.producers = body.producers;
            self.checkpoints.remove(&start);
        }
        for base in std::mem::take(&mut self.checkpoints) {
            self.remove(base, segment::CHECKPOINT)?;
        }
        Ok(())
    }

    /// Keeps what is known of producers before the segment `base`.
    fn write_checkpoint(&mut self, base: i64, producers: &Producers) -> Result<(), Error> {
        let path = segment::path(self.dir, base, segment::CHECKPOINT);
        let footer = Meta::new(base).footer(0, self.now_ms);
        write_synced(self.vfs, &path, &index::encode(&footer, &[], &[], producers))?;
        self.vfs.sync_dir(self.dir).map_err(Error::io("sync folder", self.dir))?;
        self.checkpoints.insert(base);
        Ok(())
    }

    fn remove(&mut self, base: i64, extension: &str) -> Result<(), Error> {
        let path = segment::path(self.dir, base, extension);
        self.names.change();
        self.vfs.remove(&path).map_err(Error::io("remove", &path))
    }

    /// A segment that is followed by another, which starts at `bound`.
    fn closed(&mut self, base: i64, bound: i64) -> Result<Closed, Error> {
        let path = segment::path(self.dir, base, segment::LOG);
        let file_len = self.vfs.len(&path).map_err(Error::io("measure", &path))?;
        let footer = self.footer(base)?.filter(|footer| footer.file_len == file_len && footer.next <= bound);
        if let Some(footer) = footer {
            self.closed.push_back(Segment::settled(footer));
            return Ok(Closed::Kept);
        }
        let file = self.vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let file_len = flush_and_forget(&*file, &path)?;
        let mut meta = Meta::new(base);
        let mut kept = self.kept(base)?;
        meta.aborted = std::mem::take(&mut kept.aborted);
        self.scan(&*file, &path, file_len, bound, &mut meta, &mut kept)?;
        if meta.next < bound && self.indexes.range(base..).next().is_none() {
            return Ok(Closed::EndsLog);
        }
        if meta.next < bound && meta.len < file_len {
            self.repair(base, bound, &*file, file_len)?;
            return Ok(Closed::Repaired);
        }
        self.recovery.rebuilt_indexes += 1;
        self.close(meta, file, file_len, kept.producers);
        Ok(Closed::Kept)
    }

    /// The youngest segment, the only one with an unsynced tail.
    fn last(&mut self, base: i64) -> Result<(), Error> {
        let path = segment::path(self.dir, base, segment::LOG);
        let file_len = self.vfs.len(&path).map_err(Error::io("measure", &path))?;
        if let Some((footer, body)) = self.whole_index(base, segment::INDEX)?.filter(|(f, _)| f.file_len == file_len) {
            self.closed.push_back(Segment::settled(footer));
            self.producers = body.producers;
            return Ok(());
        }
        if self.indexes.contains(&base) {
            self.remove(base, segment::INDEX)?; // it becomes the active segment again: its index must not exist
        }
        let file = self.vfs.open(&path, OpenMode::Write).map_err(Error::io("open", &path))?;
        let checkpoint = self.whole_index(base, segment::CHECKPOINT)?;
        let orderly = checkpoint.as_ref().is_some_and(|(footer, _)| footer.file_len == file_len);
        let file_len = if orderly { file_len } else { flush_and_forget(&*file, &path)? };
        let checkpoint = checkpoint.filter(|(footer, _)| footer.file_len <= file_len);
        if checkpoint.is_none() && self.checkpoints.contains(&base) {
            self.remove(base, segment::CHECKPOINT)?;
        }
        let (mut meta, mut kept, created_ms) = match checkpoint {
            Some((footer, body)) => {
                let Body { entries, aborted, producers } = body;
                (Meta::resume(&footer, entries, aborted), Kept { producers, ..Kept::default() }, footer.created_ms)
            }
            None => (Meta::new(base), self.kept(base)?, self.now_ms),
        };
        let stopped_by = self.scan(&*file, &path, file_len, i64::MAX, &mut meta, &mut kept)?;
        let producers = kept.producers;
        if let Some(reason) = stopped_by {
            let (position, bytes, offset) = (meta.len, file_len - meta.len, meta.next);
            self.recovery.cut = Some(Cut { path: path.clone(), position, bytes, offset, reason });
            if zeros(&*file, position, file_len).map_err(Error::io("read", &path))? {
                file.set_len(position).map_err(Error::io("cut", &path))?;
                self.active_dirty = true;
            } else if position == 0 {
                self.recovery.set_aside.push(salvage::set_aside(self.vfs, &path, "cut")?);
                self.names.change();
                self.producers = producers;
                return Ok(());
            } else {
                self.producers = producers.clone();
                self.close(meta, file, file_len, producers);
                return Ok(());
            }
        }
        self.producers = producers;
        self.active = Some(Active { file, meta, created_ms });
        Ok(())
    }

    /// Extends `meta` and `producers` by what a scan finds; says in words what stopped it.
    fn scan(
        &mut self,
        file: &dyn VfsFile,
        path: &Path,
        end: u64,
        bound: i64,
        meta: &mut Meta,
        kept: &mut Kept,
    ) -> Result<Option<String>, Error> {
        let from = meta.len;
        let interval = self.options.index_interval_bytes;
        let stopped_by =
            segment::scan(file, end, bound, meta, interval, |header, marker| kept.replay(header, marker, self.now_ms));
        self.recovery.scanned_bytes += end - from;
        Ok(stopped_by.map_err(Error::io("read", path))?.map(|reason| reason.to_string()))
    }

    /// Adds a closed segment whose index file has yet to be written.
    fn close(&mut self, meta: Meta, file: Arc<dyn VfsFile>, file_len: u64, producers: Producers) {
        let segment = Segment::closing(meta, file, file_len, self.now_ms, producers);
        self.unsettled.push(Arc::clone(&segment));
        self.closed.push_back(segment);
    }

    fn repair(&mut self, base: i64, bound: i64, file: &dyn VfsFile, file_len: u64) -> Result<(), Error> {
        let path = segment::path(self.dir, base, segment::LOG);
        let inspected = salvage::inspect(file, file_len, base, bound, self.options.index_interval_bytes);
        let (runs, lost) = inspected.map_err(Error::io("read", &path))?;
        let aside = salvage::replace(self.vfs, self.dir, base, file, &runs)?;
        self.names.change();
        let damages = lost.into_iter().map(|(first_offset, last_offset)| {
            let path = aside.clone();
            Damage { first_offset, last_offset, path }
        });
        self.recovery.damages.extend(damages);
        Ok(())
    }

    /// The fixed part of an index file, if it is valid and belongs to `base`.
    fn footer(&self, base: i64) -> Result<Option<Footer>, Error> {
        if !self.indexes.contains(&base) {
            return Ok(None);
        }
        let path = segment::path(self.dir, base, segment::INDEX);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let mut bytes = [0; index::FOOTER_BYTES];
        let count = file.read_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
        Ok(index::decode_footer(&bytes[..count]).filter(|footer| footer.base == base))
    }

    fn whole_index(&self, base: i64, extension: &str) -> Result<Option<(Footer, Body)>, Error> {
        let known = if extension == segment::INDEX { &self.indexes } else { &self.checkpoints };
        if !known.contains(&base) {
            return Ok(None);
        }
        let index = read_index(self.vfs, &segment::path(self.dir, base, extension))?;
        Ok(index.filter(|(footer, _)| footer.base == base))
    }

    /// Producer states at the end of the segments visited so far; for the first segment, `base`, what is kept of it.
    fn kept(&self, base: i64) -> Result<Kept, Error> {
        if self.closed.is_empty() {
            return Kept::read(self.vfs, self.dir, base);
        }
        let visited: Vec<Arc<Segment>> = self.closed.iter().map(Arc::clone).collect();
        let producers = producers_behind(self.vfs, self.dir, &visited, self.now_ms)?;
        Ok(Kept { producers, ..Kept::default() })
    }
}

/// Producer states at the end of closed segments that follow each other: those of the youngest readable index file,
/// and what a scan of the segments behind it adds.
pub(crate) fn producers_behind(
    vfs: &dyn Vfs,
    dir: &Path,
    segments: &[Arc<Segment>],
    now_ms: i64,
) -> Result<Producers, Error> {
    let Some(first) = segments.first() else { return Ok(Producers::default()) };
    let mut kept = Kept::read(vfs, dir, first.footer.base)?;
    let mut known = 0;
    for (position, segment) in segments.iter().enumerate().rev() {
        let unsettled = crate::log::lock(&segment.unsettled).as_ref().map(|unsettled| (*unsettled.producers).clone());
        let found = match unsettled {
            Some(producers) => Some(producers),
            None => {
                let index = read_index(vfs, &segment::path(dir, segment.footer.base, segment::INDEX))?;
                index.filter(|(footer, _)| *footer == segment.footer).map(|(_, body)| body.producers)
            }
        };
        if let Some(found) = found {
            (kept, known) = (Kept { producers: found, ..Kept::default() }, position + 1);
            break;
        }
    }
    for segment in &segments[known..] {
        let path = segment::path(dir, segment.footer.base, segment::LOG);
        let file = vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let (end, bound) = (segment.footer.data_len, segment.footer.next);
        let mut meta = Meta::new(segment.footer.base);
        let scanned = segment::scan(&*file, end, bound, &mut meta, u32::MAX, |header, marker| {
            kept.replay(header, marker, now_ms)
        });
        scanned.map_err(Error::io("read", &path))?;
    }
    Ok(kept.producers)
}

/// What is known of producers inside the first segment, before a scan.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) producers: Producers,
    /// Aborted transactions whose markers the segment holds below `next`.
    pub(crate) aborted: Vec<Aborted>,
    /// The batches below it are accounted for.
    pub(crate) next: i64,
}

impl Kept {
    /// From the checkpoint of the segment `base`, which the deletion of those before it or an orderly stop has left.
    pub(crate) fn read(vfs: &dyn Vfs, dir: &Path, base: i64) -> Result<Self, Error> {
        let checkpoint = read_index(vfs, &segment::path(dir, base, segment::CHECKPOINT))?;
        let kept = checkpoint.filter(|(footer, _)| footer.base == base);
        Ok(kept.map_or_else(Self::default, |(footer, body)| Self {
            producers: body.producers,
            aborted: body.aborted,
            next: footer.next,
        }))
    }

    /// Takes over a batch that a scan found; see [`Producers::replay`].
    pub(crate) fn replay(&mut self, header: &Header, marker: Option<Marker>, now_ms: i64) -> Option<Aborted> {
        if header.base_offset < self.next { None } else { self.producers.replay(header, marker, now_ms) }
    }
}

/// Reads a whole index file; `None` when it is missing or damaged.
pub(crate) fn read_index(vfs: &dyn Vfs, path: &Path) -> Result<Option<(Footer, Body)>, Error> {
    let file = match vfs.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::io("open", path))?,
    };
    let len = file.len().map_err(Error::io("measure", path))?;
    if len > index::FILE_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; to_usize(len)];
    let count = file.read_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    Ok(index::decode(&bytes[..count]))
}

/// Prepares a file for scanning: the scan must see the disk and not the cache, because after a failed sync the cache goes
/// on showing what never arrived (STR-03). Syncing first keeps what a killed process has written. Returns the length.
fn flush_and_forget(file: &dyn VfsFile, path: &Path) -> Result<u64, Error> {
    file.sync_data().map_err(Error::io("sync", path))?;
    file.drop_cache().map_err(Error::io("drop the cache of", path))?;
    file.len().map_err(Error::io("measure", path))
}

fn zeros(file: &dyn VfsFile, from: u64, end: u64) -> io::Result<bool> {
    let mut window = Window::new(file, end);
    let mut position = from;
    while position < end {
        let bytes = window.at(position, 1)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if bytes.is_empty() {
            break;
        }
        position += crate::num::to_u64(bytes.len());
    }
    Ok(true)
}

fn create_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors() {
        if ancestor.as_os_str().is_empty() || vfs.exists(ancestor).map_err(Error::io("look for", ancestor))? {
            break;
        }
        missing.push(ancestor);
    }
    if missing.is_empty() {
        return Ok(());
    }
    vfs.create_dir_all(dir).map_err(Error::io("create", dir))?;
    for created in missing {
        let parent = created.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        vfs.sync_dir(parent).map_err(Error::io("sync folder", parent))?;
    }
    Ok(())
}

pub(crate) fn read_start_offset(vfs: &dyn Vfs, dir: &Path) -> Result<Option<i64>, Error> {
    let path = dir.join(START_OFFSET_FILE);
    let read = state_file::read(vfs, &path).map_err(Error::io("read", &path))?;
    Ok(read.and_then(|(bytes, _)| Some(i64::from_be_bytes(bytes.try_into().ok()?))))
}

fn start_file_exists(vfs: &dyn Vfs, dir: &Path) -> Result<bool, Error> {
    let path = dir.join(START_OFFSET_FILE);
    state_file::exists(vfs, &path).map_err(Error::io("look for", &path))
}
