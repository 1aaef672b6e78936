//! A batch: records copied out of the fetch buffer into one arena that is used again and again.
//!
//! The copy buys independence: a batch survives reconnects, can be written twice and can be bisected, while the fetch
//! buffer moves on. No record costs an allocation; the arena grows to the batch limit once and stays.
//!
//! Invariants: records keep the order in which they were read; an excluded record (it went to the dead letters) keeps
//! its place, because the position behind it is still confirmed.

use stream::Topic;

/// A place in a partition; as a position it names the next offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
}

/// One record as it was on the stream, borrowed from the batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'b> {
    pub place: Place,
    /// Kafka timestamp in milliseconds (the gateway time of our own records), -1 when there was none.
    pub timestamp_ms: i64,
    pub key: &'b [u8],
    /// Empty for a tombstone.
    pub payload: &'b [u8],
    /// Empty unless the sink asked for headers, see [`crate::sink::Sink::HEADERS`].
    pub headers: Headers<'b>,
}

/// Headers of a record, in their order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'b> {
    packed: &'b [u8],
}

impl<'b> Headers<'b> {
    /// Names and values.
    pub fn iter(self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        let mut packed = self.packed;
        std::iter::from_fn(move || {
            let (name, rest) = take_part(packed)?;
            let (value, rest) = take_part(rest)?;
            packed = rest;
            Some((std::str::from_utf8(name).unwrap_or_default(), value))
        })
    }
}

/// Appends a part behind its length.
fn put_part(out: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("a part of a record is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(part);
}

fn take_part(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = packed.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

#[derive(Debug)]
struct Stored {
    place: Place,
    timestamp_ms: i64,
    /// The key begins here, behind it the payload, behind that the headers up to where the next record begins.
    begin: usize,
    key_length: usize,
    payload_length: usize,
    excluded: bool,
}

/// Records in hand.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Stored>,
    /// Behind the last record of each partition.
    ends: Vec<Place>,
    last_end: usize,
    oldest_ms: Option<i64>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a copy of a record without its headers.
    pub fn push(&mut self, place: Place, timestamp_ms: i64, key: &[u8], payload: &[u8]) {
        self.push_with(place, timestamp_ms, key, payload, std::iter::empty());
    }

    /// Takes a copy of a record.
    pub fn push_with<'h>(
        &mut self,
        place: Place,
        timestamp_ms: i64,
        key: &[u8],
        payload: &[u8],
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) {
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(payload);
        for (name, value) in headers {
            put_part(&mut self.bytes, name.as_bytes());
            put_part(&mut self.bytes, value);
        }
        let (key_length, payload_length) = (key.len(), payload.len());
        self.records.push(Stored { place, timestamp_ms, begin, key_length, payload_length, excluded: false });
        let end = Place { offset: place.offset + 1, ..place };
        let same = |other: &Place| other.topic == place.topic && other.partition == place.partition;
        // records come in runs of one partition
        if !self.ends.get(self.last_end).is_some_and(same) {
            self.last_end = self.ends.iter().position(same).unwrap_or_else(|| {
                self.ends.push(end);
                self.ends.len() - 1
            });
        }
        self.ends[self.last_end] = end;
        if timestamp_ms >= 0 {
            self.oldest_ms = Some(self.oldest_ms.map_or(timestamp_ms, |oldest| oldest.min(timestamp_ms)));
        }
    }

    /// Forgets all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.ends.clear();
        self.last_end = 0;
        self.oldest_ms = None;
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Records, excluded ones included.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Bytes of keys, payloads and headers.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Smallest Kafka timestamp in milliseconds, when any record had one.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.oldest_ms
    }

    /// The record at `index`.
    pub fn record(&self, index: usize) -> Option<Record<'_>> {
        let stored = self.records.get(index)?;
        let end = self.records.get(index + 1).map_or(self.bytes.len(), |next| next.begin);
        let (key, rest) = self.bytes[stored.begin..end].split_at(stored.key_length);
        let (payload, packed) = rest.split_at(stored.payload_length);
        let headers = Headers { packed };
        Some(Record { place: stored.place, timestamp_ms: stored.timestamp_ms, key, payload, headers })
    }

    /// Records that are not excluded, with their indexes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        let included = self.records.iter().enumerate().filter(|(_, stored)| !stored.excluded);
        included.filter_map(|(index, _)| Some((index, self.record(index)?)))
    }

    /// Leaves a record out from now on.
    pub fn exclude(&mut self, index: usize) {
        if let Some(stored) = self.records.get_mut(index) {
            stored.excluded = true;
        }
    }

    pub fn is_excluded(&self, index: usize) -> bool {
        self.records.get(index).is_some_and(|stored| stored.excluded)
    }

    /// The position behind the last record of each partition, excluded records included.
    pub fn ends(&self) -> &[Place] {
        &self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32, offset: i64) -> Place {
        Place { topic: Topic::TelemetryClean, partition, offset }
    }

    #[test]
    fn records_come_back_as_they_went_in_and_excluded_ones_still_move_the_position() {
        let mut batch = Batch::new();
        batch.push(place(0, 7), 30, b"a", b"first");
        batch.push(place(1, 0), 10, b"", b"");
        batch.push(place(0, 9), -1, b"key", b"third");
        batch.exclude(2);
        let seen: Vec<_> = batch.iter().map(|(i, r)| (i, r.place.offset, r.key.to_vec(), r.payload.to_vec())).collect();
        assert_eq!(seen, [(0, 7, b"a".to_vec(), b"first".to_vec()), (1, 0, vec![], vec![])]);
        assert_eq!(batch.ends(), [place(0, 10), place(1, 1)]);
        assert_eq!(batch.oldest_ms(), Some(10));
        batch.push_with(place(0, 10), 1, b"k", b"", [("sf-class", &b"EVENT"[..]), ("empty", b"")].into_iter());
        let record = batch.record(3).unwrap();
        assert_eq!((record.key, record.payload), (&b"k"[..], &b""[..]));
        assert_eq!(record.headers.iter().collect::<Vec<_>>(), [("sf-class", &b"EVENT"[..]), ("empty", b"")]);
        assert_eq!(batch.record(0).unwrap().headers.iter().count(), 0);
        batch.clear();
        assert!(batch.is_empty() && batch.ends().is_empty() && batch.iter().next().is_none());
    }
}
