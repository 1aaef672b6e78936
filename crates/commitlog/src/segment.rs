//! One segment: its file names, the figures kept about it, and the scanner that decides which bytes are batches.
//!
//! Invariant: a batch counts only if its header is sane, its base offset is exactly the expected one, its leader epoch
//! is ours and its CRC32C matches. So zeros, garbage and the bytes of a former life of the disk are never records.
//! Where the figures come from: `log.rs` (appending), `recovery.rs` (scanning, footers).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::batch::{self, BatchError, Header, Marker};
use crate::index::{Entry, Footer, MaxTimestamp};
use crate::num::{to_u64, to_usize};
use crate::producers::Producers;
use crate::transactions::Aborted;
use crate::vfs::VfsFile;

/// Bytes the scanner reads at once. Larger batches are checked piece by piece.
pub(crate) const WINDOW_BYTES: usize = 256 * 1024;

/// `<20 digits>.<extension>` in `dir`.
pub(crate) fn path(dir: &Path, base: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}.{extension}"))
}

/// The base offset in a name of the form `<20 digits>.<extension>`.
pub(crate) fn parse_name(name: &str, extension: &str) -> Option<i64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    if digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The segment's records.
pub(crate) const LOG: &str = "log";
/// Footer and index of a closed segment.
pub(crate) const INDEX: &str = "index";
/// The same for the last segment of a log that was closed in an orderly way.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// Intact batches of a damaged segment, on their way to become segments again.
pub(crate) const SALVAGE: &str = "salvage";

/// Figures of a stretch of batches that grows at its end.
#[derive(Debug, Clone)]
pub(crate) struct Meta {
    pub(crate) base: i64,
    pub(crate) next: i64,
    pub(crate) len: u64,
    pub(crate) max: Option<MaxTimestamp>,
    pub(crate) entries: Vec<Entry>,
    /// Aborted transactions whose markers are among the batches.
    pub(crate) aborted: Vec<Aborted>,
    unindexed: u64,
}

impl Meta {
    pub(crate) fn new(base: i64) -> Self {
        Self { base, next: base, len: 0, max: None, entries: Vec::new(), aborted: Vec::new(), unindexed: 0 }
    }

    /// Goes on where a trusted footer ends.
    pub(crate) fn resume(footer: &Footer, entries: Vec<Entry>, aborted: Vec<Aborted>) -> Self {
        let indexed = entries.last().map_or(0, |entry| entry.position);
        let unindexed = footer.data_len.saturating_sub(indexed);
        let Footer { base, next, data_len: len, max, .. } = *footer;
        Self { base, next, len, max, entries, aborted, unindexed }
    }

    /// The footer of a segment that holds these batches in a file of `file_len` bytes.
    pub(crate) fn footer(&self, file_len: u64, created_ms: i64) -> Footer {
        let (base, next, data_len, max) = (self.base, self.next, self.len, self.max);
        Footer { base, next, data_len, file_len, max, created_ms, aborted: self.aborted.len() }
    }

    /// Counts one more batch, which stands at `self.len` and has its final offsets.
    pub(crate) fn add(&mut self, header: &Header, index_interval_bytes: u32) {
        let size = to_u64(header.size());
        if self.unindexed >= u64::from(index_interval_bytes) {
            let max_timestamp_before = self.max.map_or(i64::MIN, |max| max.timestamp);
            self.entries.push(Entry { offset: header.base_offset, position: self.len, max_timestamp_before });
            self.unindexed = 0;
        }
        if header.max_timestamp >= 0 && self.max.is_none_or(|max| header.max_timestamp > max.timestamp) {
            self.max = Some(MaxTimestamp { timestamp: header.max_timestamp, batch_offset: header.base_offset });
        }
        self.unindexed += size;
        self.len += size;
        self.next = header.next_offset();
    }
}

/// A segment that takes no more appends.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) footer: Footer,
    /// What its index file will hold; `None` once that file is durable.
    pub(crate) unsettled: Mutex<Option<Unsettled>>,
}

/// A closed segment whose index file is not durable yet.
#[derive(Debug, Clone)]
pub(crate) struct Unsettled {
    pub(crate) file: Arc<dyn VfsFile>,
    /// Whether the data is known to be durable, so that only the index file is missing.
    pub(crate) synced: bool,
    pub(crate) entries: Arc<Vec<Entry>>,
    pub(crate) aborted: Arc<Vec<Aborted>>,
    pub(crate) producers: Arc<Producers>,
}

impl Segment {
    pub(crate) fn settled(footer: Footer) -> Arc<Self> {
        Arc::new(Self { footer, unsettled: Mutex::new(None) })
    }

    /// The batches of `meta` in `file`, which has `file_len` bytes; `producers` are the states behind them.
    pub(crate) fn closing(
        meta: Meta,
        file: Arc<dyn VfsFile>,
        file_len: u64,
        created_ms: i64,
        producers: Producers,
    ) -> Arc<Self> {
        let footer = meta.footer(file_len, created_ms);
        let (entries, aborted) = (Arc::new(meta.entries), Arc::new(meta.aborted));
        let unsettled = Unsettled { file, synced: false, entries, aborted, producers: Arc::new(producers) };
        Arc::new(Self { footer, unsettled: Mutex::new(Some(unsettled)) })
    }
}

/// Reads a file through one bounded buffer.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn VfsFile,
    end: u64,
    start: u64,
    filled: usize,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    /// Shows the bytes of `file` below `end`.
    pub(crate) fn new(file: &'a dyn VfsFile, end: u64) -> Self {
        Self { file, end, start: 0, filled: 0, buffer: Vec::new() }
    }

    /// The bytes from `position` on: at least `need` (no more than the window holds) unless the file ends before.
    pub(crate) fn at(&mut self, position: u64, need: usize) -> io::Result<&[u8]> {
        let available = to_usize(self.end.saturating_sub(position).min(to_u64(WINDOW_BYTES)));
        let wanted = need.min(available);
        let inside = position >= self.start && position + to_u64(wanted) <= self.start + to_u64(self.filled);
        if !inside {
            if self.buffer.is_empty() {
                self.buffer = vec![0; to_usize(self.end.min(to_u64(WINDOW_BYTES)))];
            }
            let capacity = available.min(self.buffer.len());
            self.filled = 0;
            self.filled = self.file.read_at(&mut self.buffer[..capacity], position)?;
            self.start = position;
        }
        let skip = to_usize(position - self.start).min(self.filled);
        Ok(&self.buffer[skip..self.filled])
    }

    /// What the control batch at `position` ends.
    fn marker(&mut self, position: u64, header: &Header) -> io::Result<Option<Marker>> {
        Ok(batch::marker(self.at(position, header.size())?))
    }

    /// Checks header, length and checksum of the batch at `position`; its place in the log is the caller's business.
    pub(crate) fn check(&mut self, position: u64) -> io::Result<Result<Header, BatchError>> {
        let end = self.end;
        let head = self.at(position, batch::HEADER_BYTES)?;
        let header = match Header::parse(head) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = batch::fits(&header, end - position) {
            return Ok(Err(error));
        }
        let batch_end = position + to_u64(header.size());
        let mut at = position + to_u64(batch::crc_start());
        let mut computed = 0;
        while at < batch_end {
            let rest = to_usize((batch_end - at).min(to_u64(WINDOW_BYTES)));
            let piece = self.at(at, rest)?;
            let piece = &piece[..rest.min(piece.len())];
            if piece.is_empty() {
                return Ok(Err(BatchError::Truncated { need: to_u64(header.size()), have: at - position }));
            }
            computed = crc32c::crc32c_append(computed, piece);
            at += to_u64(piece.len());
        }
        let intact = computed == header.crc;
        Ok(if intact { Ok(header) } else { Err(BatchError::Crc { stored: header.crc, computed }) })
    }
}

/// Extends `meta` by the valid batches that follow it in `file`, up to `end` bytes and offset `bound`. `visit` sees each
/// of them, with what it ends if it is a marker, and says which transaction was aborted by it.
///
/// Returns what stopped it before `end`, if anything did.
pub(crate) fn scan(
    file: &dyn VfsFile,
    end: u64,
    bound: i64,
    meta: &mut Meta,
    index_interval_bytes: u32,
    mut visit: impl FnMut(&Header, Option<Marker>) -> Option<Aborted>,
) -> io::Result<Option<BatchError>> {
    let mut window = Window::new(file, end);
    while meta.len < end {
        let checked = window.check(meta.len)?.and_then(|header| {
            header.expect_at(meta.next)?;
            let beyond = header.next_offset() > bound || header.last_offset() == i64::MAX;
            if beyond { Err(BatchError::Offset { found: header.next_offset(), expected: bound }) } else { Ok(header) }
        });
        match checked {
            Ok(header) => {
                let marker = if header.control() { window.marker(meta.len, &header)? } else { None };
                meta.aborted.extend(visit(&header, marker));
                meta.add(&header, index_interval_bytes);
            }
            Err(stopped_by) => return Ok(Some(stopped_by)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(path(Path::new("t-0"), 42, LOG), Path::new("t-0/00000000000000000042.log"));
        assert_eq!(parse_name("00000000000000000042.log", LOG), Some(42));
        for foreign in ["42.log", "00000000000000000042.log.cut", "0000000000000000004x.log", "start-offset"] {
            assert_eq!(parse_name(foreign, LOG), None, "{foreign}");
        }
        assert_eq!(parse_name("99999999999999999999.log", LOG), None); // larger than any offset
    }

    // STR-01: the index is sparse, and remembers the time before each entry.
    #[test]
    fn one_entry_per_interval() {
        let batch = batch::Builder::new(50).record(50, &[0; 100]).build();
        let size = to_u64(batch.len());
        let mut meta = Meta::new(7);
        for offset in 7..27 {
            let mut placed = batch.clone();
            batch::place(&mut placed, offset);
            meta.add(&Header::parse(&placed).unwrap(), u32::try_from(size * 5).unwrap());
        }
        let found: Vec<(i64, u64)> = meta.entries.iter().map(|entry| (entry.offset, entry.position)).collect();
        assert_eq!(found, [(12, size * 5), (17, size * 10), (22, size * 15)]);
        assert!(meta.entries.iter().all(|entry| entry.max_timestamp_before == 50));
        assert_eq!((meta.next, meta.len), (27, size * 20));
    }
}
