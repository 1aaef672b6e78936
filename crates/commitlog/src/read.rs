//! Reading: whole batches by offset, and offsets by time.
//!
//! Reads are positional and hold no lock while the disk works. Every batch that leaves here has been checked again: offset
//! chain, leader epoch and CRC32C; so bit rot in a closed segment is reported once with the exact offsets, the segment
//! is repaired (`salvage.rs`) and readers go on behind the hole. Buffers are bounded by what the caller asks for, or by
//! one batch.
//! Fetching without reading is in `slice.rs`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::batch::{self, BatchError, Batches, HEADER_BYTES, Header};
use crate::compact::Codec;
use crate::error::Error;
use crate::index::{self, Entry};
use crate::log::{Log, State, lock};
use crate::num::{to_u64, to_usize};
use crate::producers::Producers;
use crate::recovery::{Damage, Kept, producers_behind, read_index};
use crate::salvage;
use crate::segment::{self, Meta, Segment, Window};
use crate::slice::Checked;
use crate::times;
use crate::transactions::Aborted;
use crate::vfs::{OpenMode, VfsFile};

/// Closed segments kept open for readers; on reaching it the one opened first is closed.
const OPEN_SEGMENTS_MAX: usize = 2;
/// Places remembered where a sequential reader will go on; on reaching it the oldest is forgotten and that reader pays
/// for a search in the index.
const HINTS_MAX: usize = 16;
/// Bytes read at once when searching by time.
const TIME_SEARCH_BYTES: usize = 64 * 1024;

/// What readers have opened and found out.
#[derive(Debug, Default)]
pub(crate) struct ReadCache {
    hints: VecDeque<Hint>,
    segments: VecDeque<(i64, OpenSegment)>,
    pub(crate) checked: Vec<Checked>,
}

/// The batch with base offset `offset` starts at `position` of segment `base`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hint {
    pub(crate) offset: i64,
    pub(crate) base: i64,
    pub(crate) position: u64,
}

/// A closed segment, opened for reading.
#[derive(Debug, Clone)]
pub(crate) struct OpenSegment {
    file: Arc<dyn VfsFile>,
    pub(crate) entries: Arc<Vec<Entry>>,
    pub(crate) aborted: Arc<Vec<Aborted>>,
}

impl ReadCache {
    /// Forgets a segment that is gone or has changed.
    pub(crate) fn forget(&mut self, base: i64) {
        self.hints.retain(|hint| hint.base != base);
        self.segments.retain(|(cached, _)| *cached != base);
        self.checked.retain(|known| known.base != base);
    }

    pub(crate) fn hint(&self, offset: i64, base: i64) -> Option<u64> {
        let index = self.hints.iter().position(|hint| hint.offset == offset && hint.base == base)?;
        Some(self.hints[index].position)
    }

    pub(crate) fn remember(&mut self, consumed: i64, hint: Hint) {
        // The reader that came from `consumed` will not come back there; others may, and search again.
        self.hints.retain(|known| known.offset != consumed && known.offset != hint.offset);
        if self.hints.len() == HINTS_MAX {
            self.hints.pop_front();
        }
        self.hints.push_back(hint);
    }
}

/// A stretch of batches to read from: `base` names the segment, `offset` and `position` a batch start in it.
pub(crate) struct Place {
    pub(crate) base: i64,
    pub(crate) len: u64,
    pub(crate) next: i64,
    offset: i64,
    position: u64,
    pub(crate) file: Arc<dyn VfsFile>,
}

/// Where an offset lives, as far as it is known without touching the disk.
pub(crate) enum Located {
    Ready(Place),
    Closed(Arc<Segment>),
}

/// Stored bytes are not what they should be.
pub(crate) enum ReadFailure {
    Io(io::Error),
    Damaged,
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        ReadFailure::Io(error)
    }
}

impl From<BatchError> for ReadFailure {
    fn from(_: BatchError) -> Self {
        ReadFailure::Damaged
    }
}

impl Log {
    /// Whole batches starting with the one that contains `offset` (the next one, where offsets are missing), at most
    /// `max_bytes` of them, but at least one when `at_least_one`, and none that reaches past `limit_offset` (normally
    /// [`Log::durable_offset`]). Empty at the end of what may be read.
    pub fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool, limit_offset: i64) -> Result<Vec<u8>, Error> {
        let mut attempts_left = 3;
        loop {
            attempts_left -= 1;
            let (located, limit) = {
                let state = self.state();
                if offset < state.start || offset > state.next {
                    return Err(Error::OffsetOutOfRange { offset, start: state.start, end: state.next });
                }
                let limit = limit_offset.min(state.next);
                match locate(&state, offset) {
                    Some(located) if offset < limit => (located, limit),
                    _ => return Ok(Vec::new()),
                }
            };
            let place = match self.place(located, offset) {
                // Trimmed or repaired between the two steps: look again.
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && attempts_left > 0 => {
                    continue;
                }
                placed => placed?,
            };
            let base = place.base;
            match self.read_from(&place, offset, max_bytes, at_least_one, limit) {
                Ok(bytes) => return Ok(bytes),
                Err(ReadFailure::Io(source)) => {
                    return Err(Error::Io {
                        action: "read",
                        path: segment::path(&self.dir, base, segment::LOG),
                        source,
                    });
                }
                Err(ReadFailure::Damaged) if attempts_left > 0 => {
                    if let Some(damage) = self.repair(base, offset)? {
                        let Damage { first_offset, last_offset, path } = damage;
                        return Err(Error::Damaged { first_offset, last_offset, path });
                    }
                }
                Err(ReadFailure::Damaged) => {
                    let source = io::ErrorKind::InvalidData.into();
                    return Err(Error::Io {
                        action: "read",
                        path: segment::path(&self.dir, base, segment::LOG),
                        source,
                    });
                }
            }
        }
    }

    /// Offset and timestamp of the first durable record whose timestamp is at least `timestamp_ms`. Exact to the record;
    /// to the batch where `codec` cannot unpack it.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64, codec: &dyn Codec) -> Result<Option<(i64, i64)>, Error> {
        let durable = self.durable_offset();
        let mut from = self.start_offset();
        loop {
            let Some((segment, next)) = self.first_segment_reaching(timestamp_ms, from) else { return Ok(None) };
            let mut offset = self.time_floor(segment, timestamp_ms)?.max(from);
            while offset < next.min(durable) {
                let bytes = self.read(offset, TIME_SEARCH_BYTES, true, durable)?;
                if bytes.is_empty() {
                    return Ok(None);
                }
                for (header, bytes) in Batches::new(&bytes).flatten() {
                    offset = header.next_offset();
                    if header.max_timestamp >= timestamp_ms
                        && let Some(found) = times::find_timestamp(bytes, timestamp_ms, from, codec)
                    {
                        return Ok(Some(found));
                    }
                }
            }
            if offset >= durable {
                return Ok(None);
            }
            from = next;
        }
    }

    /// Offset and timestamp of the record with the largest timestamp; `None` in a log without timestamps. Exact like
    /// [`Self::offset_for_timestamp`].
    pub fn max_timestamp(&self, codec: &dyn Codec) -> Option<(i64, i64)> {
        let max = {
            let state = self.state();
            let closed = state.closed.iter().filter_map(|segment| segment.footer.max);
            let active = state.active.iter().filter_map(|active| active.meta.max);
            // The first of equals, so that the answer does not depend on where segments end.
            closed.chain(active).reduce(|best, max| if max.timestamp > best.timestamp { max } else { best })?
        };
        let batch = self.read(max.batch_offset, 1, true, i64::MAX).unwrap_or_default();
        let exact =
            times::find_timestamp(&batch, max.timestamp, 0, codec).filter(|(_, timestamp)| *timestamp == max.timestamp);
        Some(exact.unwrap_or((max.batch_offset, max.timestamp)))
    }

    pub(crate) fn place(&self, located: Located, offset: i64) -> Result<Place, Error> {
        let segment = match located {
            Located::Ready(place) => return Ok(place),
            Located::Closed(segment) => segment,
        };
        let footer = &segment.footer;
        let open = self.open_segment(&segment)?;
        let floor = index::floor_offset(&open.entries, offset);
        let (offset, position) = floor.map_or((footer.base, 0), |entry| (entry.offset, entry.position));
        Ok(Place { base: footer.base, len: footer.data_len, next: footer.next, offset, position, file: open.file })
    }

    pub(crate) fn open_segment(&self, segment: &Segment) -> Result<OpenSegment, Error> {
        if let Some(unsettled) = lock(&segment.unsettled).as_ref() {
            let file = Arc::clone(&unsettled.file);
            let (entries, aborted) = (Arc::clone(&unsettled.entries), Arc::clone(&unsettled.aborted));
            return Ok(OpenSegment { file, entries, aborted });
        }
        let base = segment.footer.base;
        if let Some((_, open)) = lock(&self.cache).segments.iter().find(|(cached, _)| *cached == base) {
            return Ok(open.clone());
        }
        let path = segment::path(&self.dir, base, segment::LOG);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let index = read_index(&*self.vfs, &segment::path(&self.dir, base, segment::INDEX))?;
        let (entries, aborted) = match index.filter(|(footer, _)| *footer == segment.footer) {
            Some((_, body)) => (body.entries, body.aborted),
            None => self.scan_index(&*file, segment)?,
        };
        let open = OpenSegment { file, entries: Arc::new(entries), aborted: Arc::new(aborted) };
        let mut cache = lock(&self.cache);
        if cache.segments.len() == OPEN_SEGMENTS_MAX {
            cache.segments.pop_front();
        }
        cache.segments.push_back((base, open.clone()));
        Ok(open)
    }

    /// What the index file of a segment held, when it has been damaged since the log was opened.
    fn scan_index(&self, file: &dyn VfsFile, segment: &Segment) -> Result<(Vec<Entry>, Vec<Aborted>), Error> {
        let base = segment.footer.base;
        let (before, interval) = {
            let state = self.state();
            let before = state.closed.iter().take_while(|before| before.footer.base < base);
            (before.map(Arc::clone).collect::<Vec<_>>(), state.options.index_interval_bytes)
        };
        let now_ms = self.clock.now_ms();
        let mut kept = if before.is_empty() {
            Kept::read(&*self.vfs, &self.dir, base)?
        } else {
            let producers = producers_behind(&*self.vfs, &self.dir, &before, now_ms)?;
            Kept { producers, ..Kept::default() }
        };
        let mut meta = Meta::new(base);
        meta.aborted = std::mem::take(&mut kept.aborted);
        let (end, bound) = (segment.footer.data_len, segment.footer.next);
        let scanned =
            segment::scan(file, end, bound, &mut meta, interval, |header, marker| kept.replay(header, marker, now_ms));
        scanned.map_err(Error::io("read", &segment::path(&self.dir, base, segment::LOG)))?;
        Ok((meta.entries, meta.aborted))
    }

    fn read_from(
        &self,
        place: &Place,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        limit: i64,
    ) -> Result<Vec<u8>, ReadFailure> {
        let wanted = offset.max(place.base); // in a hole: the first batch behind it
        let hint = lock(&self.cache).hint(wanted, place.base).filter(|position| *position < place.len);
        let (first, position) = match hint {
            Some(position) => (wanted, position),
            None => seek(place, wanted)?,
        };
        let available = place.len - position;
        let least = if at_least_one { HEADER_BYTES } else { 0 };
        let mut bytes = vec![0; to_usize(available.min(to_u64(max_bytes.max(least))))];
        if bytes.len() < HEADER_BYTES {
            return if at_least_one { Err(ReadFailure::Damaged) } else { Ok(Vec::new()) };
        }
        fill(&*place.file, &mut bytes, 0, position)?;
        let header = Header::parse(&bytes)?;
        let first_size = batch::fits(&header, available)?;
        if first_size > bytes.len() {
            if !at_least_one {
                return Ok(Vec::new());
            }
            let have = bytes.len();
            bytes.resize(first_size, 0);
            fill(&*place.file, &mut bytes, have, position)?;
        }
        let (whole, next) = whole_batches(&bytes, first, limit)?;
        bytes.truncate(whole);
        if whole > 0 {
            let end = position + to_u64(whole);
            let mut cache = lock(&self.cache);
            Checked::add(&mut cache.checked, place.base, position..end, self.clock.now_ms());
            if next < place.next {
                cache.remember(wanted, Hint { offset: next, base: place.base, position: end });
            }
        }
        Ok(bytes)
    }

    /// Sets a damaged segment aside and serves its intact batches again. Returns the damage at or behind `offset`; `None`
    /// when the segment turns out to be intact or somebody else has repaired it.
    fn repair(&self, base: i64, offset: i64) -> Result<Option<Damage>, Error> {
        let _one_at_a_time = lock(&self.maintenance);
        {
            let mut state = self.state();
            self.check_open(&state)?;
            if state.active.as_ref().is_some_and(|active| active.meta.base == base) {
                self.roll(&mut state, self.clock.now_ms())?;
            }
        }
        // The end of the log must not depend on the segment that is about to be taken apart.
        self.sync_under_maintenance()?;
        let (segment, interval, producers) = {
            let state = self.state();
            let segment = state.closed.iter().find(|segment| segment.footer.base == base).map(Arc::clone);
            (segment, state.options.index_interval_bytes, state.producers.clone())
        };
        let Some(segment) = segment else { return Ok(None) };
        let footer = segment.footer;
        let path = segment::path(&self.dir, base, segment::LOG);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let inspected = salvage::inspect(&*file, footer.data_len, base, footer.next, interval);
        let (runs, lost) = inspected.map_err(Error::io("read", &path))?;
        if lost.is_empty() {
            lock(&self.cache).forget(base);
            return Ok(None);
        }
        let index = read_index(&*self.vfs, &segment::path(&self.dir, base, segment::INDEX))?;
        let mut aborted = match &index {
            Some((_, body)) => body.aborted.clone(),
            None => self.open_segment(&segment).map(|open| (*open.aborted).clone()).unwrap_or_default(),
        };
        let producers = index.map_or(producers, |(_, body)| body.producers);
        // After a failure half-way the files await the next start, which finishes the repair; a failed sync stops the log.
        let replaced = salvage::replace(&*self.vfs, &self.dir, base, &*file, &runs);
        self.sync_names_or_stop()?;
        let aside = replaced?;
        lock(&self.cache).forget(base);
        let mut segments = Vec::with_capacity(runs.len());
        let last = runs.len().saturating_sub(1);
        for (position, run) in runs.into_iter().enumerate() {
            // what is known to be aborted stays so, also where its marker is among the lost
            let mut meta = run.meta;
            let count = aborted.partition_point(|one| position == last || one.marker_offset < meta.next);
            meta.aborted = aborted.drain(..count).collect();
            segments.push(self.adopt(meta, footer.created_ms, &producers)?);
        }
        let damages: Vec<Damage> = lost
            .into_iter()
            .map(|(first_offset, last_offset)| Damage { first_offset, last_offset, path: aside.clone() })
            .collect();
        let mut state = self.state();
        if let Some(index) = state.closed.iter().position(|segment| segment.footer.base == base) {
            state.closed.remove(index);
            for (position, segment) in segments.into_iter().enumerate() {
                state.unsettled.push(Arc::clone(&segment));
                state.closed.insert(index + position, segment);
            }
        }
        state.names.change();
        state.damages.extend(damages.iter().cloned());
        drop(state);
        self.sync_under_maintenance()?;
        Ok(damages.into_iter().find(|damage| damage.last_offset >= offset))
    }

    fn adopt(&self, meta: Meta, created_ms: i64, producers: &Producers) -> Result<Arc<Segment>, Error> {
        let path = segment::path(&self.dir, meta.base, segment::LOG);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(Error::io("open", &path))?;
        let len = meta.len;
        Ok(Segment::closing(meta, file, len, created_ms, producers.clone()))
    }

    /// The first segment with a record behind `from` that may be at or after `timestamp_ms`, and where it ends.
    fn first_segment_reaching(&self, timestamp_ms: i64, from: i64) -> Option<(Located, i64)> {
        let state = self.state();
        let reaches = |max: Option<index::MaxTimestamp>| max.is_some_and(|max| max.timestamp >= timestamp_ms);
        let mut closed = state.closed.iter();
        let closed = closed.find(|segment| segment.footer.next > from && reaches(segment.footer.max));
        if let Some(segment) = closed {
            return Some((Located::Closed(Arc::clone(segment)), segment.footer.next));
        }
        let active = state.active.as_ref()?;
        if active.meta.next <= from || !reaches(active.meta.max) {
            return None;
        }
        let floor = index::floor_timestamp(&active.meta.entries, timestamp_ms);
        let (offset, position) = floor.map_or((active.meta.base, 0), |entry| (entry.offset, entry.position));
        Some((Located::Ready(active_place(active, offset, position)), active.meta.next))
    }

    /// The offset at which a search for `timestamp_ms` in a segment starts.
    fn time_floor(&self, located: Located, timestamp_ms: i64) -> Result<i64, Error> {
        match located {
            Located::Ready(place) => Ok(place.offset),
            Located::Closed(segment) => {
                let open = self.open_segment(&segment)?;
                let floor = index::floor_timestamp(&open.entries, timestamp_ms);
                Ok(floor.map_or(segment.footer.base, |entry| entry.offset))
            }
        }
    }
}

fn active_place(active: &crate::log::Active, offset: i64, position: u64) -> Place {
    let (base, len, next) = (active.meta.base, active.meta.len, active.meta.next);
    Place { base, len, next, offset, position, file: Arc::clone(&active.file) }
}

/// The segment that holds `offset`, or the next one where that offset is missing.
pub(crate) fn locate(state: &State, offset: i64) -> Option<Located> {
    let index = state.closed.partition_point(|segment| segment.footer.next <= offset);
    if let Some(segment) = state.closed.get(index) {
        return Some(Located::Closed(Arc::clone(segment)));
    }
    let active = state.active.as_ref().filter(|active| active.meta.len > 0)?;
    let floor = index::floor_offset(&active.meta.entries, offset);
    let (offset, position) = floor.map_or((active.meta.base, 0), |entry| (entry.offset, entry.position));
    Some(Located::Ready(active_place(active, offset, position)))
}

/// Base offset and position of the batch that contains `offset`, walking the headers from a place at or before it.
pub(crate) fn seek(place: &Place, offset: i64) -> Result<(i64, u64), ReadFailure> {
    let mut window = Window::new(&*place.file, place.len);
    let (mut expected, mut position) = (place.offset, place.position);
    while position < place.len {
        let header = Header::parse(window.at(position, HEADER_BYTES)?)?;
        header.expect_at(expected)?;
        if header.last_offset() >= offset {
            return Ok((expected, position));
        }
        batch::fits(&header, place.len - position)?;
        expected = header.next_offset();
        position += to_u64(header.size());
    }
    Err(ReadFailure::Damaged)
}

/// Reads the bytes of `buffer` from `from` on; the buffer stands for the file from `position` on.
fn fill(file: &dyn VfsFile, buffer: &mut [u8], from: usize, position: u64) -> Result<(), ReadFailure> {
    let count = file.read_at(&mut buffer[from..], position + to_u64(from))?;
    if from + count == buffer.len() { Ok(()) } else { Err(ReadFailure::Damaged) }
}

/// Length of the intact whole batches at the start of `bytes` that end at or below `limit`, and the offset behind them.
/// Damage in the first batch is an error; in a later one it ends the answer, so that the next read reports it.
fn whole_batches(bytes: &[u8], first: i64, limit: i64) -> Result<(usize, i64), ReadFailure> {
    let mut expected = first;
    let mut end = 0;
    for item in Batches::new(bytes) {
        let checked = item.and_then(|(header, batch)| {
            header.expect_at(expected)?;
            batch::verify_crc(batch)?;
            Ok(header)
        });
        match checked {
            Ok(header) if header.next_offset() > limit => break,
            Ok(header) => {
                end += header.size();
                expected = header.next_offset();
            }
            Err(_) if end > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((end, expected))
}
