//! Looking at a partition folder without opening it: what is there, what is intact, what is lost.
//!
//! Invariant: nothing is written, renamed, synced or locked, so it may be run on a copy, a read-only disk or beside a
//! broker (whose unsynced tail it may then see half-written). Unlike recovery it reads every byte of every segment.
//! The rules for what counts as a batch are those of `segment.rs`; what recovery would do about a finding is in
//! `recovery.rs`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::compact::COMPACT;
use crate::error::Error;
use crate::index::Footer;
use crate::recovery::{self, read_index};
use crate::salvage;
use crate::segment::{self, Meta};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// What a partition folder holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// First offset of the log, as its state file says or as the first segment begins.
    pub start_offset: i64,
    /// Offset the next record would get.
    pub end_offset: i64,
    /// The segments, oldest first.
    pub segments: Vec<VerifiedSegment>,
    /// Offsets between start and end that no segment holds, inclusive: damage found here and damage of before.
    pub missing: Vec<(i64, i64)>,
    /// Files that recovery or a reader has set aside: originals of damaged segments and cut-off tails.
    pub set_aside: Vec<PathBuf>,
    /// Files of work that a stop has interrupted; the next start finishes or undoes it.
    pub unfinished: Vec<PathBuf>,
}

/// What one segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSegment {
    /// Its file.
    pub path: PathBuf,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset behind its last intact record.
    pub next_offset: i64,
    /// Intact batches.
    pub batches: u64,
    /// Records that those batches say they hold; fewer than offsets where the log was compacted.
    pub records: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Largest timestamp, milliseconds; `None` without any.
    pub max_timestamp: Option<i64>,
    /// State of its index file.
    pub index: IndexState,
    /// Stretches that are no batches although records should be there.
    pub damages: Vec<VerifiedDamage>,
    /// Bytes behind the last batch that never were acknowledged: what a crash leaves, not a loss.
    pub tail: Option<VerifiedTail>,
}

/// State of an index file, which can always be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// Its checksums hold and it describes this segment.
    Valid,
    /// There is none; usual for the youngest segment.
    Missing,
    /// Its checksums do not hold, or it describes something else.
    Invalid,
}

/// Records that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedDamage {
    /// First offset lost.
    pub first_offset: i64,
    /// Last offset lost.
    pub last_offset: i64,
    /// Byte at which the first stretch of unreadable bytes begins.
    pub position: u64,
    /// What is wrong there.
    pub reason: String,
}

/// Bytes behind the last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTail {
    /// Where they begin.
    pub position: u64,
    /// How many.
    pub bytes: u64,
    /// Why they are no batch.
    pub reason: String,
}

impl Verified {
    /// Whether every record between start and end can be read.
    pub fn intact(&self) -> bool {
        self.missing.is_empty() && self.segments.iter().all(|segment| segment.damages.is_empty())
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// Reads all of the log in `dir` and reports; changes nothing. An error means that something could not be looked at
/// (a missing folder, a disk that refuses to read), never that it was found damaged.
pub fn verify(vfs: &dyn Vfs, dir: &Path) -> Result<Verified, Error> {
    let names = vfs.list(dir).map_err(Error::io("list", dir))?;
    let mut verified = Verified::default();
    for name in &names {
        if name.contains(".log.") {
            verified.set_aside.push(dir.join(name));
        } else if [segment::SALVAGE, COMPACT].iter().any(|unfinished| name.ends_with(&format!(".{unfinished}"))) {
            verified.unfinished.push(dir.join(name));
        }
    }
    let indexes: BTreeSet<i64> = names.iter().filter_map(|name| segment::parse_name(name, segment::INDEX)).collect();
    let bases: Vec<i64> = names.iter().filter_map(|name| segment::parse_name(name, segment::LOG)).collect();
    let start = recovery::read_start_offset(vfs, dir)?;
    verified.start_offset = start.or(bases.first().copied()).unwrap_or(0);
    // As at a start: what lies wholly below the first offset is only waiting to be unlinked.
    let trimmed = bases.windows(2).take_while(|pair| pair[1] <= verified.start_offset).count();
    let bases = &bases[trimmed..];
    let mut expected = verified.start_offset;
    for (position, base) in bases.iter().enumerate() {
        let bound = bases.get(position + 1).copied();
        // Data that an index file of this or of a later segment vouches for had been synced.
        let synced = bound.is_some() && indexes.range(base..).next().is_some();
        let segment = verify_segment(vfs, dir, *base, bound.unwrap_or(i64::MAX), synced)?;
        let mut holes = segment.damages.iter().map(|damage| (damage.first_offset, damage.last_offset)).peekable();
        if segment.base_offset > expected && holes.peek().is_none_or(|hole| hole.0 > expected) {
            verified.missing.push((expected, segment.base_offset - 1));
        }
        verified.missing.extend(holes.filter(|hole| hole.1 >= verified.start_offset));
        let end = segment
            .damages
            .last()
            .map_or(segment.next_offset, |damage| segment.next_offset.max(damage.last_offset + 1));
        expected = expected.max(end);
        let ends_log = bound.is_some_and(|bound| !synced && segment.next_offset < bound);
        verified.segments.push(segment);
        if ends_log {
            // Nothing behind it was ever acknowledged: the next start sets it aside.
            let later = bases[position + 1..].iter().map(|base| segment::path(dir, *base, segment::LOG));
            verified.unfinished.extend(later);
            break;
        }
    }
    verified.end_offset = expected;
    Ok(verified)
}

/// Counts while a scan goes over batches.
#[derive(Default)]
struct Count {
    batches: u64,
    records: u64,
    starts: BTreeSet<(i64, u64)>,
}

fn verify_segment(vfs: &dyn Vfs, dir: &Path, base: i64, bound: i64, synced: bool) -> Result<VerifiedSegment, Error> {
    let path = segment::path(dir, base, segment::LOG);
    let file = vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
    let bytes = file.len().map_err(Error::io("measure", &path))?;
    let Described { state, footer, places } = described(vfs, dir, base, bytes)?;
    let end = footer.map_or(bytes, |footer| footer.data_len.min(bytes));
    let bound = footer.map_or(bound, |footer| footer.next.min(bound));
    let read = Error::io("read", &path);
    let (mut count, mut meta) = (Count::default(), Meta::new(base));
    let stopped_by = scan(&file, end, bound, &mut meta, &places, &mut count).map_err(read)?;
    let mut segment = VerifiedSegment {
        path: path.clone(),
        base_offset: base,
        next_offset: meta.next,
        batches: count.batches,
        records: count.records,
        bytes,
        max_timestamp: meta.max.map(|max| max.timestamp),
        index: state,
        damages: Vec::new(),
        tail: None,
    };
    let position = meta.len;
    let short = (footer.is_some() || synced) && meta.next < bound;
    if short {
        let reason = stopped_by.unwrap_or_else(|| format!("the file ends where offset {} should be", meta.next));
        look_behind(&file, end, bound, &mut segment, &places, &mut count, (position, &reason))
            .map_err(Error::io("read", &path))?;
    } else if position < bytes {
        let reason = stopped_by.unwrap_or_else(|| "cut off by an earlier recovery".to_owned());
        segment.tail = Some(VerifiedTail { position, bytes: bytes - position, reason });
    }
    // Entries that point beside batches would send readers astray.
    let reachable = segment.damages.is_empty();
    if state == IndexState::Valid && reachable && count.starts.len() != places.len() {
        segment.index = IndexState::Invalid;
    }
    Ok(segment)
}

/// Finds out what is lost and what is not behind the first unreadable byte.
fn look_behind(
    file: &Arc<dyn VfsFile>,
    end: u64,
    bound: i64,
    segment: &mut VerifiedSegment,
    wanted: &BTreeSet<(i64, u64)>,
    count: &mut Count,
    (position, reason): (u64, &str),
) -> io::Result<()> {
    let (runs, lost) = salvage::inspect(&**file, end, segment.base_offset, bound, u32::MAX)?;
    *count = Count::default();
    let mut max = None;
    for run in &runs {
        let mut meta = Meta::new(run.meta.base);
        meta.len = run.position;
        scan(file, run.position + run.meta.len, run.meta.next, &mut meta, wanted, count)?;
        max = max.max(run.meta.max.map(|max| max.timestamp));
        segment.next_offset = run.meta.next;
    }
    segment.batches = count.batches;
    segment.records = count.records;
    segment.max_timestamp = max;
    segment.damages = lost
        .into_iter()
        .map(|(first_offset, last_offset)| {
            let before = runs.iter().rfind(|run| run.meta.next <= first_offset);
            let position = before.map_or(0, |run| run.position + run.meta.len).max(position);
            VerifiedDamage { first_offset, last_offset, position, reason: reason.to_owned() }
        })
        .collect();
    Ok(())
}

/// Scans on from `meta`, counting, and says in words what stopped it.
fn scan(
    file: &Arc<dyn VfsFile>,
    end: u64,
    bound: i64,
    meta: &mut Meta,
    wanted: &BTreeSet<(i64, u64)>,
    count: &mut Count,
) -> io::Result<Option<String>> {
    let mut position = meta.len;
    let stopped_by = segment::scan(&**file, end, bound, meta, u32::MAX, |header, _| {
        count.batches += 1;
        count.records += u64::try_from(header.count).unwrap_or(0);
        let place = (header.base_offset, position);
        if wanted.contains(&place) {
            count.starts.insert(place);
        }
        position += crate::num::to_u64(header.size());
        None
    })?;
    Ok(stopped_by.map(|reason| reason.to_string()))
}

/// What an index file or a checkpoint says about a segment.
struct Described {
    state: IndexState,
    footer: Option<Footer>,
    places: BTreeSet<(i64, u64)>,
}

fn described(vfs: &dyn Vfs, dir: &Path, base: i64, bytes: u64) -> Result<Described, Error> {
    let mut described = Described { state: IndexState::Missing, footer: None, places: BTreeSet::new() };
    for extension in [segment::INDEX, segment::CHECKPOINT] {
        let path = segment::path(dir, base, extension);
        if !vfs.exists(&path).map_err(Error::io("look for", &path))? {
            continue;
        }
        let index = read_index(vfs, &path)?.filter(|(footer, _)| footer.base == base);
        // A checkpoint vouches for what it has seen; the segment may have grown since, and then nothing depends on it.
        let vouches = |footer: &Footer| extension == segment::INDEX || footer.file_len == bytes;
        match index.filter(|(footer, _)| vouches(footer)) {
            Some((footer, body)) => {
                described.state = if footer.file_len == bytes { IndexState::Valid } else { IndexState::Invalid };
                described.footer = Some(footer);
                described.places = body.entries.iter().map(|entry| (entry.offset, entry.position)).collect();
                return Ok(described);
            }
            None if extension == segment::INDEX => described.state = IndexState::Invalid,
            None => {}
        }
    }
    Ok(described)
}
