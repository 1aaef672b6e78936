//! Compaction: of each key a log keeps the newest value, and offsets stay what they were (STR-05).
//!
//! A pass reads the keys of what was appended since the last one (as many as fit into [`KEY_BYTES_MAX`]), then rewrites
//! the closed segments up to there without the records that a newer one has replaced. It runs beside appends, reads and
//! syncs; only the exchange of a file takes the `maintenance` lock. The active segment is never touched.
//!
//! Invariants:
//! - Inside a segment offsets have no holes (`segment.rs`): where batches are gone stands an empty one that spans their
//!   offsets, so everything that reads, checks or recovers a log works on a compacted one unchanged.
//! - A tombstone goes only when `delete_retention_ms` has passed since the first pass that saw it, and only when
//!   nothing before it was left unread: batches of transactions and batches that cannot be unpacked stay as they are.
//! - A file is complete and synced before it takes the place of another, and then covers all that it replaces. A crash
//!   anywhere leaves the old segment, or the new one, or the new one beside leftovers that hold the same records.
//!
//! Which records stay is decided in `filter.rs`, how files are written and exchanged in `rewrite.rs`, what is
//! remembered between passes in `marks.rs`.

mod filter;
mod marks;
mod rewrite;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::batch::Header;
use crate::error::Error;
use crate::log::{Log, lock};
use crate::num::to_u64;
use crate::recovery::Damage;
use crate::segment::{self, Segment, Window};
use crate::vfs::{OpenMode, Vfs, VfsFile};
pub use filter::keyless;
use filter::{Filter, Latest};
pub(crate) use marks::MARKS_FILE;
use marks::Marks;
use rewrite::Output;

/// Memory for the keys of one pass, with their table. What does not fit is left to the next pass, which begins there.
pub const KEY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of records that one compressed batch may unpack to. A batch with more stays as it is.
pub const UNPACKED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Extension of a segment that is being written anew.
pub(crate) const COMPACT: &str = "compact";

/// Unpacks and packs the records of a batch. This crate knows bytes only; whoever knows the methods brings them.
pub trait Codec: Send + Sync + Debug {
    /// The records of a batch with this compression (the lowest three bits of its attributes); `None` when they
    /// cannot be unpacked or are more than `limit` bytes.
    fn unpack(&self, compression: i16, records: &[u8], limit: usize) -> Option<Vec<u8>>;
    /// The records packed the same way; `None` when that cannot be done.
    fn pack(&self, compression: i16, records: &[u8]) -> Option<Vec<u8>>;
}

/// No compression at all: compressed batches stay as they are.
#[derive(Debug, Default, Clone, Copy)]
pub struct Uncompressed;

impl Codec for Uncompressed {
    fn unpack(&self, _compression: i16, _records: &[u8], _limit: usize) -> Option<Vec<u8>> {
        None
    }

    fn pack(&self, _compression: i16, _records: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// What a call of [`Log::compact`] has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments that were written anew or merged into another.
    pub segments: usize,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes now.
    pub bytes_after: u64,
    /// Below this offset each key has one value, but for what stays as it is.
    pub clean_offset: i64,
}

/// What one log remembers about its compaction while it is open; one pass runs at a time.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    marks: Option<Marks>,
    /// Replaced segments that could not be unlinked. They go before anything else is rewritten.
    leftovers: VecDeque<i64>,
}

impl Log {
    /// Removes values that newer ones of the same key have replaced, when enough of the closed segments was not
    /// compacted yet (`compact_from_permille`). Does nothing for a log that is not compacted, and nothing when there is too little to do.
    ///
    /// Reads and writes up to all of the log: for a thread that may block. Between segments it asks `go_on`, and leaves
    /// the pass unfinished when that says no.
    pub fn compact(&self, codec: &dyn Codec, now_ms: i64, go_on: &dyn Fn() -> bool) -> Result<Compacted, Error> {
        let mut compaction = lock(&self.compaction);
        let (segments, options, start) = {
            let state = self.state();
            self.check_open(&state)?;
            let settled = state.closed.iter().take_while(|segment| lock(&segment.unsettled).is_none());
            (settled.cloned().collect::<Vec<_>>(), state.options.clone(), state.start)
        };
        if !options.compact {
            return Ok(Compacted::default());
        }
        let mut marks = match &compaction.marks {
            Some(marks) => marks.clone(),
            None => Marks::read(&*self.vfs, &self.dir)?,
        };
        let nothing = Compacted { clean_offset: marks.clean, ..Compacted::default() };
        if !due(&segments, marks.clean, options.compact_from_permille) {
            return Ok(nothing);
        }
        self.remove_replaced(&mut compaction.leftovers)?;
        let Some((latest, end)) = self.newest(&segments, marks.clean, codec, go_on)? else { return Ok(nothing) };
        let mut filter = Filter::new(&latest, end, marks.droppable(now_ms, options.delete_retention_ms), codec);
        let mut done = nothing;
        let in_reach: Vec<Arc<Segment>> = segments.into_iter().filter(|segment| segment.footer.base < end).collect();
        for group in groups(&in_reach, options.segment_bytes) {
            self.check_open(&self.state())?;
            if !go_on() {
                return Ok(done);
            }
            if group.iter().any(|segment| segment.footer.next <= start) {
                continue; // on its way out by retention
            }
            if group.len() == 1 && !self.would_change(&group[0], &mut filter)? {
                continue;
            }
            let output = self.rewrite(group, &mut filter, options.index_interval_bytes)?;
            let (bytes_before, bytes_after) =
                (group.iter().map(|segment| segment.footer.file_len).sum::<u64>(), output.len());
            if !self.exchange(group, output, &mut compaction.leftovers)? {
                return Ok(done); // trimmed or repaired meanwhile: the next pass sees what there is then
            }
            done.segments += group.len();
            done.bytes_before += bytes_before;
            done.bytes_after += bytes_after;
        }
        marks.passed(end, now_ms, options.delete_retention_ms);
        self.write_marks(&marks)?;
        done.clean_offset = marks.clean;
        compaction.marks = Some(marks);
        Ok(done)
    }

    /// The newest offset of each key from `clean` on, and the offset up to which that is all. `None` when told to stop.
    fn newest(
        &self,
        segments: &[Arc<Segment>],
        clean: i64,
        codec: &dyn Codec,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Option<(Latest, i64)>, Error> {
        let mut latest = Latest::default();
        let mut end = clean;
        for segment in segments.iter().filter(|segment| segment.footer.next > clean) {
            if !go_on() {
                return Ok(None);
            }
            let full = self.each_batch(segment, |header, bytes| {
                if header.next_offset() <= clean {
                    return Ok(ControlFlow::Continue(()));
                }
                if latest.bytes() >= KEY_BYTES_MAX {
                    return Ok(ControlFlow::Break(()));
                }
                latest.add(header, bytes, codec);
                end = header.next_offset();
                Ok(ControlFlow::Continue(()))
            })?;
            if full.is_break() {
                break;
            }
        }
        Ok(Some((latest, end)))
    }

    /// Whether a rewrite would leave anything out.
    fn would_change(&self, segment: &Segment, filter: &mut Filter<'_>) -> Result<bool, Error> {
        let found = self.each_batch(segment, |header, bytes| {
            Ok(if filter.stays_whole(header, bytes) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(found.is_break())
    }

    /// Writes one segment that holds what stays of all in `group`; not in place yet.
    fn rewrite(&self, group: &[Arc<Segment>], filter: &mut Filter<'_>, interval: u32) -> Result<Output, Error> {
        let producers = self.producers_behind(group)?;
        let newest = rewrite::newest_batches(&producers);
        let base = group[0].footer.base;
        let mut output = Output::create(&*self.vfs, &self.dir, base, interval, producers)?;
        for segment in group {
            let all = self.each_batch(segment, |header, bytes| {
                let keep_header = newest.get(&header.producer_id) == Some(&header.base_offset);
                filter.apply(header, bytes, keep_header, &mut output).map(ControlFlow::Continue)
            })?;
            debug_assert!(all.is_continue());
            output.aborted(&self.aborted_of(segment)?);
            output.end_source().map_err(Error::io("write", &segment::path(&self.dir, base, COMPACT)))?;
        }
        output.finish(&self.dir).map_err(|failure| self.stop_if_unsynced(failure))
    }

    /// Visits the batches of a closed segment, each checked as a reader would.
    fn each_batch(
        &self,
        segment: &Segment,
        mut visit: impl FnMut(&Header, &[u8]) -> io::Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>, Error> {
        let footer = &segment.footer;
        let path = segment::path(&self.dir, footer.base, segment::LOG);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let mut window = Window::new(&*file, footer.data_len);
        let (mut position, mut expected, mut large) = (0, footer.base, Vec::new());
        while position < footer.data_len {
            let checked = window.check(position).map_err(Error::io("read", &path))?;
            let placed = checked.and_then(|header| header.expect_at(expected).map(|()| header));
            let Ok(header) = placed else {
                // Found again by the first reader, which repairs it; compaction does not go over a hole.
                let Damage { first_offset, last_offset, path } =
                    Damage { first_offset: expected, last_offset: footer.next - 1, path };
                return Err(Error::Damaged { first_offset, last_offset, path });
            };
            let bytes = whole(&mut window, &*file, position, header.size(), &mut large);
            let flow = bytes.and_then(|bytes| visit(&header, bytes)).map_err(Error::io("compact", &path))?;
            if flow.is_break() {
                return Ok(flow);
            }
            position += to_u64(header.size());
            expected = header.next_offset();
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The bytes of a batch: from the window, or read into `large` where it does not fit.
fn whole<'a>(
    window: &'a mut Window<'_>,
    file: &dyn VfsFile,
    position: u64,
    size: usize,
    large: &'a mut Vec<u8>,
) -> io::Result<&'a [u8]> {
    if size <= segment::WINDOW_BYTES {
        let bytes = window.at(position, size)?;
        return bytes.get(..size).ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
    }
    large.resize(size, 0);
    if file.read_at(large, position)? < size { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(large) }
}

/// Whether a pass is worth it: so many thousandths of the bytes are new.
fn due(segments: &[Arc<Segment>], clean: i64, from_permille: u16) -> bool {
    let bytes = |segment: &&Arc<Segment>| segment.footer.file_len;
    let all: u64 = segments.iter().map(|segment| bytes(&segment)).sum();
    let dirty: u64 = segments.iter().filter(|segment| segment.footer.next > clean).map(|segment| bytes(&segment)).sum();
    dirty > 0 && dirty.saturating_mul(1_000) >= all.saturating_mul(u64::from(from_permille))
}

/// Neighbours that fit into one segment together.
fn groups(segments: &[Arc<Segment>], segment_bytes: u64) -> Vec<&[Arc<Segment>]> {
    let mut groups = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, segment) in segments.iter().enumerate() {
        let gap = index > first && segments[index - 1].footer.next != segment.footer.base;
        if index > first && (gap || bytes + segment.footer.data_len > segment_bytes) {
            groups.push(&segments[first..index]);
            (first, bytes) = (index, 0);
        }
        bytes += segment.footer.data_len;
    }
    if first < segments.len() {
        groups.push(&segments[first..]);
    }
    groups
}

/// Removes what an interrupted pass was writing. Nothing refers to it.
pub(crate) fn discard_unfinished(vfs: &dyn Vfs, dir: &Path, names: &[String]) -> Result<(), Error> {
    for base in names.iter().filter_map(|name| segment::parse_name(name, COMPACT)) {
        let path = segment::path(dir, base, COMPACT);
        vfs.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}
