//! Fetching: stored batches as a stretch of a file, so that the kernel can send them without a copy through this process.
//!
//! A stretch is given out only where its ends are known batch boundaries (a place remembered from the last read, an index
//! entry, the end of the data) and its bytes are known to be good: this process wrote them, or a read has checked them,
//! and not longer ago than [`TRUSTED_MS`]. Everything else goes through [`Log::read`], which checks and then remembers;
//! so bit rot is found by the first reader after a start or a day, and by clients' own checksums at any time.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::batch::{Batches, HEADER_BYTES, Header};
use crate::error::Error;
use crate::log::{Log, lock};
use crate::num::{to_u64, to_usize};
use crate::read::{Hint, Located, seek};
use crate::vfs::VfsFile;

/// Below this many bytes a copy costs less than one more call of the kernel.
const SLICE_BYTES_MIN: u64 = 16 * 1024;
/// Bytes that were written or checked longer ago are checked again, milliseconds.
const TRUSTED_MS: i64 = 24 * 3_600 * 1_000;
/// Stretches remembered as checked; on reaching it the oldest is forgotten, and checked again when it is read again.
const CHECKED_MAX: usize = 8;

/// Whole batches, in memory or still in their file.
#[derive(Debug)]
pub enum Fetched {
    Copied(Vec<u8>),
    Stored(FileSlice),
}

/// A stretch of a segment. Holds its file open, so it stays readable when the segment is trimmed away.
#[derive(Debug, Clone)]
pub struct FileSlice {
    file: Arc<dyn VfsFile>,
    position: u64,
    size: usize,
    next_offset: i64,
}

impl FileSlice {
    /// Bytes of it; never zero.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Lets the kernel send what follows the first `sent` bytes to a socket; returns how many bytes that one took.
    /// `WouldBlock` when it takes none now, `UnexpectedEof` when the file has become shorter.
    pub fn send_to(&self, socket: BorrowedFd<'_>, sent: usize) -> io::Result<usize> {
        let count = self.file.send_to(socket, self.position + to_u64(sent), self.size.saturating_sub(sent))?;
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }

    /// A copy, for where the kernel cannot send it.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.size];
        let count = self.file.read_at(&mut bytes, self.position)?;
        if count < bytes.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
    }
}

impl Fetched {
    /// Bytes of the batches.
    pub fn size(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Stored(slice) => slice.size(),
        }
    }

    /// The offset behind the last batch; `None` when there is none.
    pub fn next_offset(&self) -> Option<i64> {
        match self {
            Self::Copied(bytes) => Batches::new(bytes).flatten().last().map(|(header, _)| header.next_offset()),
            Self::Stored(slice) => Some(slice.next_offset),
        }
    }
}

/// Where a read has checked the bytes of a segment.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) base: i64,
    bytes: Range<u64>,
    at_ms: i64,
}

impl Checked {
    /// Takes a stretch into a bounded list. One that touches another of its segment is joined to it and has its age.
    pub(crate) fn add(list: &mut Vec<Self>, base: i64, bytes: Range<u64>, now_ms: i64) {
        list.retain(|known| known.trusted(now_ms));
        let touched = list
            .iter_mut()
            .find(|known| known.base == base && known.bytes.start <= bytes.end && bytes.start <= known.bytes.end);
        if let Some(known) = touched {
            known.bytes = known.bytes.start.min(bytes.start)..known.bytes.end.max(bytes.end);
            return;
        }
        if list.len() == CHECKED_MAX {
            list.remove(0);
        }
        list.push(Self { base, bytes, at_ms: now_ms });
    }

    fn trusted(&self, now_ms: i64) -> bool {
        (0..TRUSTED_MS).contains(&now_ms.saturating_sub(self.at_ms))
    }

    /// Where the stretch that holds a position ends.
    fn end(list: &[Self], base: i64, position: u64, now_ms: i64) -> Option<u64> {
        let holds = |known: &&Self| known.base == base && known.bytes.contains(&position) && known.trusted(now_ms);
        list.iter().find(holds).map(|known| known.bytes.end)
    }
}

impl Log {
    /// What [`Log::read`] returns, or the same kind of stretch without reading it; that one may end before `max_bytes`.
    pub fn fetch(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        limit_offset: i64,
    ) -> Result<Fetched, Error> {
        match self.slice(offset, max_bytes, limit_offset) {
            Some(slice) => Ok(Fetched::Stored(slice)),
            None => self.read(offset, max_bytes, at_least_one, limit_offset).map(Fetched::Copied),
        }
    }

    /// `None` where a slice is not possible, not worth it, or fails; the read that follows then says why.
    fn slice(&self, offset: i64, max_bytes: usize, limit_offset: i64) -> Option<FileSlice> {
        if to_u64(max_bytes) < SLICE_BYTES_MIN {
            return None;
        }
        let (located, created_ms, limit) = {
            let state = self.state();
            let limit = limit_offset.min(state.next);
            if offset < state.start || offset >= limit {
                return None;
            }
            let located = crate::read::locate(&state, offset)?;
            let created_ms = match &located {
                Located::Closed(segment) => segment.footer.created_ms,
                Located::Ready(_) => state.active.as_ref()?.created_ms,
            };
            (located, created_ms, limit)
        };
        let closed = match &located {
            Located::Closed(segment) => Some(Arc::clone(segment)),
            Located::Ready(_) => None,
        };
        let place = self.place(located, offset).ok()?;
        if !place.file.sends() {
            return None;
        }
        let wanted = offset.max(place.base); // in a hole: the first batch behind it
        let now_ms = self.clock.now_ms();
        let known = lock(&self.cache).hint(wanted, place.base).filter(|position| *position < place.len);
        let (first, position) = match known {
            Some(position) => (wanted, position),
            None => seek(&place, wanted).ok()?,
        };
        let fresh = first >= self.opened_at && (0..TRUSTED_MS).contains(&now_ms.saturating_sub(created_ms));
        let trusted = if fresh {
            Some(place.len)
        } else {
            Checked::end(&lock(&self.cache).checked, place.base, position, now_ms)
        };
        let bound = trusted?.min(position + to_u64(max_bytes));

        let (end, next_offset) = if place.next <= limit && place.len <= bound {
            (place.len, place.next)
        } else {
            let last = |entries: &[crate::index::Entry]| {
                let count = entries.partition_point(|entry| entry.position <= bound && entry.offset <= limit);
                entries[..count].last().map(|entry| (entry.position, entry.offset))
            };
            match closed {
                Some(segment) => last(&self.open_segment(&segment).ok()?.entries)?,
                None => {
                    let state = self.state();
                    last(&state.active.as_ref().filter(|active| active.meta.base == place.base)?.meta.entries)?
                }
            }
        };
        let size = end.checked_sub(position).filter(|size| *size >= SLICE_BYTES_MIN)?;
        // a place remembered from before the segment was compacted names no batch, or another one
        let starts_at = |position, offset| {
            let mut head = [0; HEADER_BYTES];
            let read = place.file.read_at(&mut head, position);
            read.is_ok_and(|count| count == head.len())
                && Header::parse(&head).is_ok_and(|header| header.base_offset == offset)
        };
        if !starts_at(position, first) || (end < place.len && !starts_at(end, next_offset)) {
            return None;
        }
        if next_offset < place.next {
            let hint = Hint { offset: next_offset, base: place.base, position: end };
            lock(&self.cache).remember(wanted, hint);
        }
        Some(FileSlice { file: place.file, position, size: to_usize(size), next_offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_stretches_join_expire_and_are_limited() {
        let mut list = Vec::new();
        Checked::add(&mut list, 7, 0..100, 1_000);
        Checked::add(&mut list, 7, 100..200, 2_000);
        Checked::add(&mut list, 8, 200..300, 2_000);
        assert_eq!(Checked::end(&list, 7, 0, 3_000), Some(200));
        assert_eq!(Checked::end(&list, 7, 200, 3_000), None);
        assert_eq!(Checked::end(&list, 8, 250, 3_000), Some(300));
        assert_eq!(Checked::end(&list, 7, 0, 1_000 + TRUSTED_MS), None, "joined bytes are as old as the oldest");
        assert_eq!(Checked::end(&list, 7, 0, 0), None, "a clock that went back proves nothing");
        for base in 10..10 + i64::try_from(CHECKED_MAX).unwrap() {
            Checked::add(&mut list, base, 0..1, 3_000);
        }
        assert_eq!(list.len(), CHECKED_MAX);
        assert_eq!(Checked::end(&list, 7, 0, 3_000), None);
    }
}
