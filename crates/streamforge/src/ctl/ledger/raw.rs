//! `telemetry.raw` record by record: which numbers are there, and which records have no outcome.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use kafka::client::Record;
use model::{Reading, Value};
use stream::message::telemetry;
use stream::{avro, header};

use super::super::scan::{Range, Span};
use super::facts::{Adapter, Epoch, Fate, NAMED_MAX, Outcomes};
use super::marks::{Hole, Marks, PIECES_MAX};
use crate::exit::{Failure, USAGE};

/// Adapters, and starts of them, that are told apart; beyond, the command refuses and asks for a shorter range.
const EPOCHS_MAX: usize = 100_000;
/// Points whose newest readings are remembered to know duplicates, 0.6 KiB each; duplicates of others count as missing.
const POINTS_MAX: usize = 300_000;
/// Readings remembered per point, as many as the validator does (VAL-22).
const REMEMBERED_MAX: usize = 64;
/// How old a number must be before its absence is certain, milliseconds: the delivery timeout of producers (REC-11).
const ON_THE_WAY_MS: i64 = 120_000;
/// Numbers that an adapter may have on the way: sixteen batches of five thousand.
const ON_THE_WAY_NUMBERS: i64 = 80_000;

/// What is known before the first record of `telemetry.raw` is read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Offsets by partition with a record in `telemetry.clean`, and in `dlq.telemetry`.
    pub(super) clean: HashMap<i32, Marks>,
    pub(super) letters: HashMap<i32, Marks>,
    /// What the validator committed.
    pub(super) committed: HashMap<i32, i64>,
    pub(super) spans: Vec<Span>,
    /// Only this adapter.
    pub(super) adapter: Option<String>,
    pub(super) range: Range,
    pub(super) now_ms: i64,
}

/// The book that is kept while records go by.
pub(super) struct Book {
    known: Known,
    index: HashMap<String, usize>,
    adapters: Vec<Entry>,
    epochs: usize,
    points: HashMap<u64, VecDeque<u64>>,
    hasher: RandomState,
    /// Gateway time of the first record that is left of every partition.
    first_ms: HashMap<i32, i64>,
    /// Records at offsets within the range.
    pub(super) read: u64,
    since_check: u32,
}

#[derive(Default)]
struct Entry {
    outcomes: Outcomes,
    epochs: BTreeMap<i64, Sequence>,
    /// First place that is left in every partition, epoch and number.
    first: HashMap<i32, (i64, i64)>,
}

#[derive(Default)]
struct Sequence {
    marks: Marks,
    repeated: u64,
    /// Of the records within the range.
    bounds: Option<Bounds>,
}

struct Bounds {
    low: i64,
    high: i64,
    first_ms: i64,
    last_ms: i64,
}

/// Adapter, epoch and number out of `gateway/adapter/epoch/seq`.
fn record_id(value: &[u8]) -> Option<(&str, i64, i64)> {
    let mut parts = std::str::from_utf8(value).ok()?.rsplitn(3, '/');
    let (seq, epoch, names) = (parts.next()?, parts.next()?, parts.next()?);
    let (_, adapter) = names.split_once('/')?;
    Some((adapter, epoch.parse().ok()?, seq.parse().ok()?))
}

impl Book {
    pub(super) fn new(known: Known) -> Self {
        Self {
            known,
            index: HashMap::new(),
            adapters: Vec::new(),
            epochs: 0,
            points: HashMap::new(),
            hasher: RandomState::new(),
            first_ms: HashMap::new(),
            read: 0,
            since_check: 0,
        }
    }

    /// Takes the next record of a partition.
    pub(super) fn take(&mut self, record: &Record<'_>) -> Result<(), Failure> {
        let reading = record.payload().and_then(|payload| avro::unframe(payload).ok());
        let reading = reading.and_then(|(_, body)| telemetry::decode(body).ok());
        let named = record.header(header::RECORD_ID).and_then(record_id);
        let named = named.or_else(|| {
            reading.as_ref().and_then(|reading| Some((reading.metadata.get("adapter_id")?, reading.epoch, reading.seq)))
        });
        self.note(record.partition(), record.offset(), record.timestamp_ms(), named, reading.as_ref())
    }

    fn note(
        &mut self,
        partition: i32,
        offset: i64,
        timestamp_ms: i64,
        named: Option<(&str, i64, i64)>,
        reading: Option<&Reading<'_>>,
    ) -> Result<(), Failure> {
        self.check()?;
        self.first_ms.entry(partition).or_insert(timestamp_ms);
        let here = self.known.spans.iter().any(|span| span.partition == partition && span.holds(offset));
        self.read += u64::from(here);
        let within = self.known.range.holds(timestamp_ms);
        let id = named.map_or("", |(adapter, ..)| adapter);
        let at = match self.index.get(id) {
            Some(at) => *at,
            None => {
                self.index.insert(id.to_owned(), self.adapters.len());
                self.adapters.push(Entry::default());
                self.adapters.len() - 1
            }
        };
        if self.known.adapter.as_ref().is_some_and(|wanted| wanted != id) {
            return Ok(());
        }
        if let Some((_, epoch, seq)) = named {
            self.number(at, partition, (epoch, seq), within.then_some(timestamp_ms));
        }
        let has = |marks: &HashMap<i32, Marks>| marks.get(&partition).is_some_and(|marks| marks.has(offset));
        let (clean, rejected) = (has(&self.known.clean), has(&self.known.letters));
        let again = reading.is_some_and(|reading| self.seen(partition, reading, !rejected));
        if within {
            let outcomes = &mut self.adapters[at].outcomes;
            outcomes.records += 1;
            let judged = self.known.committed.get(&partition).is_some_and(|committed| offset < *committed);
            match () {
                () if clean => outcomes.clean += 1,
                () if rejected => outcomes.rejected += 1,
                () if again => outcomes.duplicates += 1,
                () if !judged => outcomes.pending += 1,
                () => {
                    outcomes.without += 1;
                    if outcomes.places.len() < NAMED_MAX {
                        outcomes.places.push((partition, offset));
                    }
                }
            }
        }
        Ok(())
    }

    fn number(&mut self, at: usize, partition: i32, place: (i64, i64), within_ms: Option<i64>) {
        let entry = &mut self.adapters[at];
        entry.first.entry(partition).or_insert(place);
        let epochs = entry.epochs.len();
        let sequence = entry.epochs.entry(place.0).or_default();
        let new = sequence.marks.set(place.1);
        if let Some(ms) = within_ms {
            sequence.repeated += u64::from(!new);
            let seq = place.1;
            let bounds = sequence.bounds.get_or_insert(Bounds { low: seq, high: seq, first_ms: ms, last_ms: ms });
            (bounds.low, bounds.high) = (bounds.low.min(seq), bounds.high.max(seq));
            (bounds.first_ms, bounds.last_ms) = (bounds.first_ms.min(ms), bounds.last_ms.max(ms));
        }
        self.epochs += entry.epochs.len() - epochs;
    }

    /// True when the point has told the same before; remembers it otherwise.
    fn seen(&mut self, partition: i32, reading: &Reading<'_>, remember: bool) -> bool {
        let value = match reading.value {
            Value::Null => (0, 0, ""),
            Value::Float(number) => (1, number.to_bits(), ""),
            Value::Int(number) => (2, number.cast_unsigned(), ""),
            Value::Bool(truth) => (3, u64::from(truth), ""),
            Value::Text(text) => (4, 0, text),
        };
        let point = self.hasher.hash_one((partition, reading.asset_id, reading.parameter));
        let told = self.hasher.hash_one((reading.device_time.as_micros(), reading.quality.as_str(), value));
        let known = self.points.len();
        let ring = match self.points.entry(point) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(_) if known >= POINTS_MAX => return false,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(VecDeque::new()),
        };
        let again = ring.contains(&told);
        if !again && remember {
            if ring.len() == REMEMBERED_MAX {
                ring.pop_front();
            }
            ring.push_back(told);
        }
        again
    }

    /// Refuses when the numbers are so scattered that memory would not do.
    fn check(&mut self) -> Result<(), Failure> {
        self.since_check += 1;
        if self.since_check < 100_000 && self.epochs.max(self.adapters.len()) <= EPOCHS_MAX {
            return Ok(());
        }
        self.since_check = 0;
        let sequences = self.adapters.iter().flat_map(|entry| entry.epochs.values());
        let pieces: usize = sequences.map(|sequence| sequence.marks.pieces()).sum();
        if pieces > PIECES_MAX || self.epochs.max(self.adapters.len()) > EPOCHS_MAX {
            let text = "there are too many sequences to hold them in memory; give a shorter range with --from and --to, \
                or one adapter with --adapter";
            return Err(Failure::new(USAGE, text));
        }
        Ok(())
    }

    /// Takes a record behind the range, which may fill a hole; true when no hole is left that may be on its way.
    pub(super) fn take_late(&mut self, record: &Record<'_>) -> bool {
        if let Some((adapter, epoch, seq)) = record.header(header::RECORD_ID).and_then(record_id)
            && let Some(at) = self.index.get(adapter)
            && let Some(sequence) = self.adapters[*at].epochs.get_mut(&epoch)
            && sequence.bounds.as_ref().is_some_and(|bounds| seq <= bounds.high)
        {
            return sequence.marks.set(seq) && !self.is_unsettled();
        }
        false
    }

    /// True while a number is missing that may be on its way.
    pub(super) fn is_unsettled(&self) -> bool {
        self.adapters.iter().flat_map(|entry| entry.epochs.values()).any(|sequence| {
            sequence.bounds.as_ref().is_some_and(|bounds| {
                bounds.last_ms > self.known.now_ms - ON_THE_WAY_MS
                    && !sequence.marks.holes(bounds.low.max(bounds.high - ON_THE_WAY_NUMBERS), bounds.high).is_empty()
            })
        })
    }

    /// Adapters that were seen.
    pub(super) fn names(&self) -> Vec<&str> {
        self.index.keys().map(String::as_str).collect()
    }

    /// What was found.
    pub(super) fn close(mut self) -> Vec<Adapter> {
        let mut index: Vec<(String, usize)> = std::mem::take(&mut self.index).into_iter().collect();
        index.sort();
        let wanted = |id: &String| self.known.adapter.as_ref().is_none_or(|wanted| wanted == id);
        let adapters = index.into_iter().filter(|(id, _)| wanted(id)).map(|(id, at)| {
            let entry = &self.adapters[at];
            let newest = entry.epochs.keys().next_back().copied();
            let epochs = entry.epochs.iter().filter_map(|(epoch, sequence)| {
                let bounds = sequence.bounds.as_ref()?;
                let from = if self.known.range.is_part() { bounds.low } else { 0 };
                let to = bounds.high + 1;
                let is_newest = newest == Some(*epoch);
                let fated = |hole: Hole| (hole, self.fate(entry, (*epoch, bounds), is_newest, hole));
                Some(Epoch {
                    number: *epoch,
                    from,
                    to,
                    present: sequence.marks.count_within(from, to),
                    repeated: sequence.repeated,
                    first_ms: bounds.first_ms,
                    last_ms: bounds.last_ms,
                    holes: sequence.marks.holes(from, to).into_iter().map(fated).collect(),
                })
            });
            let epochs: Vec<Epoch> = epochs.collect();
            Adapter { id, epochs, outcomes: entry.outcomes.clone() }
        });
        adapters.filter(|adapter| adapter.outcomes.records > 0).collect()
    }

    fn fate(&self, entry: &Entry, (epoch, bounds): (i64, &Bounds), is_newest: bool, hole: Hole) -> Fate {
        let young = is_newest && bounds.last_ms > self.known.now_ms - ON_THE_WAY_MS;
        if young && hole.from > bounds.high - ON_THE_WAY_NUMBERS {
            return Fate::OnTheWay;
        }
        // a partition that lost its beginning held what came before its first record
        let mut evicted = self.known.spans.iter().filter(|span| span.start > 0 && span.read_from == span.start);
        let evictable = evicted.any(|span| match entry.first.get(&span.partition) {
            Some(first) => (epoch, hole.from) < *first,
            None => self.first_ms.get(&span.partition).is_none_or(|first| bounds.first_ms < *first),
        });
        if evictable { Fate::Evictable } else { Fate::Open }
    }
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    const NOW_MS: i64 = 1_000_000_000;
    const OLD_MS: i64 = NOW_MS - 600_000;

    fn book(start: i64, judged: &[i64], committed: i64) -> Book {
        let mut clean = Marks::default();
        assert!(judged.iter().all(|offset| clean.set(*offset)));
        let span = Span { partition: 0, start, end: 100, from: start, to: 100, read_from: start };
        Book::new(Known {
            clean: HashMap::from([(0, clean)]),
            committed: HashMap::from([(0, committed)]),
            spans: vec![span],
            now_ms: NOW_MS,
            ..Known::default()
        })
    }

    fn reading(time: i64, value: f64) -> Reading<'static> {
        let time = Timestamp::from_millis(time);
        Reading {
            asset_id: "press",
            asset_path: None,
            parameter: "force",
            value: Value::Float(value),
            value_type: model::ValueType::Float,
            value_label: None,
            unit: None,
            quality: model::Quality::Good,
            quality_reason: None,
            reasons: model::TextList::default(),
            classification: model::Classification::Telemetry,
            device_time: time,
            gateway_time: time,
            time_source: model::time_source::GATEWAY,
            clock_state: "SYNCED",
            clock_skew_ms: None,
            epoch: 1,
            seq: 0,
            flags: model::TextList::default(),
            metadata: model::TextMap::default(),
            tags: model::TextMap::default(),
        }
    }

    // REC-16, OFF-30
    #[test]
    fn a_record_without_outcome_is_a_duplicate_only_when_it_says_the_same_again() {
        let mut book = book(0, &[0, 1], 4);
        for (offset, time, value) in [(0, 1, 1.0), (1, 2, 1.0), (2, 1, 1.0), (3, 1, 2.0), (4, 9, 9.0)] {
            let named = Some(("press", 1, offset));
            book.note(0, offset, OLD_MS, named, Some(&reading(time, value))).unwrap();
        }
        let found = book.close().remove(0).outcomes;
        assert_eq!((found.clean, found.duplicates, found.pending, found.without), (2, 1, 1, 1));
        assert_eq!(found.places, [(0, 3)], "another value is no duplicate; offset 4 is not committed yet");
    }

    // REC-03
    #[test]
    fn numbers_begin_at_0_and_are_the_adapters_own() {
        let mut book = book(0, &[], 0);
        for (offset, (id, epoch, seq)) in
            [("a", 1, 1), ("a", 1, 3), ("a", 1, 3), ("a", 2, 0), ("b", 1, 0)].into_iter().enumerate()
        {
            book.note(0, i64::try_from(offset).unwrap(), OLD_MS, Some((id, epoch, seq)), None).unwrap();
        }
        let found = book.close();
        let epoch = &found[0].epochs[0];
        let holes: Vec<(i64, i64, Fate)> = epoch.holes.iter().map(|(hole, fate)| (hole.from, hole.to, *fate)).collect();
        assert_eq!(holes, [(0, 1, Fate::Open), (2, 3, Fate::Open)], "a new epoch is no gap, its beginning is 0");
        assert_eq!((epoch.present, epoch.repeated, epoch.to), (2, 1, 4));
        assert!(found[0].epochs[1].holes.is_empty() && found[1].epochs[0].holes.is_empty());
    }

    // OFF-20, REC-11
    #[test]
    fn holes_before_an_eviction_and_holes_that_are_young_are_not_certain() {
        let fates = |start: i64, ms: i64| -> Vec<Fate> {
            let mut book = book(start, &[], 0);
            for (offset, seq) in [(50, 10), (51, 12)] {
                book.note(0, offset, ms, Some(("a", 1, seq)), None).unwrap();
            }
            book.close()[0].epochs[0].holes.iter().map(|(_, fate)| *fate).collect()
        };
        assert_eq!(fates(50, OLD_MS), [Fate::Evictable, Fate::Open]);
        assert_eq!(fates(0, OLD_MS), [Fate::Open, Fate::Open]);
        assert_eq!(fates(0, NOW_MS - 1000), [Fate::OnTheWay, Fate::OnTheWay]);
    }

    #[test]
    fn a_record_names_its_adapter() {
        assert_eq!(record_id(b"gw/press/7/120"), Some(("press", 7, 120)));
        assert_eq!(record_id(b"gw/press/7/x"), None);
        assert_eq!(record_id(b"rubbish"), None);
    }
}
