//! Gathers records into files and puts them, whole, where they belong.
//!
//! Invariants: see the three rules in [`super`]. Between calls a record is in the host's batch, in an open file, in a
//! closed file that waits to be put, or safe; a failed put changes nothing but the wait.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use model::Health;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::errors::ParquetError;
use stream::Topic;
use stream::avro::unframe;
use stream::message::telemetry;

use super::config::{ArchivePlan, Roll};
use super::names::{self, FileName};
use super::parquet::ParquetFile;
use super::store::{self, Keys};
use crate::batch::{Batch, Place, Record};
use crate::dead_letters::reason;
use crate::error::TargetError;
use crate::sink::{Outcome, Refusal, Resume, Sink, Standing};

/// Memory of all open files together; beyond it the largest is closed before its time.
pub const GATHERED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A row group is compressed with this many rows or bytes, whichever comes first; a reader takes one at a time.
const GROUP_ROWS: usize = 20_000;
const GROUP_BYTES: usize = 4 * 1024 * 1024;

/// A partition of a topic.
type Lane = (Topic, i32);

/// A file that still grows.
#[derive(Debug)]
struct OpenFile {
    first: i64,
    first_ms: i64,
    /// Number of the day its first record is of.
    day: i64,
    next: i64,
    rows: usize,
    /// When it was begun on the host's clock; the first settle after that fills it in.
    begun_ms: Option<u64>,
    file: ParquetFile,
    /// Avro bodies of the row group to come, and where each ends.
    arena: Vec<u8>,
    ends: Vec<usize>,
}

/// A file that is complete and waits to be put.
#[derive(Debug)]
struct ClosedFile {
    name: FileName,
    bytes: Bytes,
}

/// The sink.
#[derive(Debug)]
pub struct ArchiveSink {
    plan: ArchivePlan,
    keys: Keys,
    store: Option<Arc<dyn ObjectStore>>,
    open: BTreeMap<Lane, OpenFile>,
    closed: VecDeque<ClosedFile>,
    /// Below these offsets a former process archived everything.
    archived_below: BTreeMap<Lane, i64>,
    /// Lanes for which the store needs not be asked any more.
    settled: BTreeSet<Lane>,
    /// Became safe and not handed out yet.
    confirmed: Vec<Place>,
    files: u64,
}

impl ArchiveSink {
    pub fn new(plan: ArchivePlan, keys: Keys) -> Self {
        Self {
            plan,
            keys,
            store: None,
            open: BTreeMap::new(),
            closed: VecDeque::new(),
            archived_below: BTreeMap::new(),
            settled: BTreeSet::new(),
            confirmed: Vec::new(),
            files: 0,
        }
    }

    fn failed(&self, doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TargetError {
        TargetError::Failed { target: self.plan.target.clone(), doing, source: source.into() }
    }

    /// Forgets everything gathered, so that the next session begins where the group committed. For errors that must not
    /// happen: they would leave half a batch behind.
    fn give_up(&mut self, error: ParquetError) -> TargetError {
        *self = Self::new(self.plan.clone(), self.keys.clone());
        self.failed("writing a file", error)
    }

    fn store(&self) -> Result<Arc<dyn ObjectStore>, TargetError> {
        self.store.clone().ok_or_else(|| TargetError::NotConnected { target: self.plan.target.clone() })
    }

    /// Asks the store, for every lane that begins, how far a former process got (rule 3).
    async fn look_back(&mut self, batch: &Batch) -> Result<(), TargetError> {
        let store = self.store()?;
        for (_, record) in batch.iter() {
            let lane = (record.place.topic, record.place.partition);
            let below = self.archived_below.get(&lane).copied().unwrap_or(i64::MIN);
            if self.settled.contains(&lane) || record.place.offset < below {
                continue;
            }
            match find(store.as_ref(), &record).await.map_err(|e| self.failed("listing files", e))? {
                Some(next) => {
                    tracing::info!(
                        topic = lane.0.name(),
                        partition = lane.1,
                        from = record.place.offset,
                        to = next,
                        "already archived"
                    );
                    self.archived_below.insert(lane, next);
                    self.confirmed.push(Place { offset: next, ..record.place });
                }
                None => {
                    self.settled.insert(lane);
                }
            }
        }
        Ok(())
    }

    /// Adds a record to its lane's file, closing what is full.
    fn add(&mut self, record: &Record<'_>) -> Result<(), ParquetError> {
        let lane = (record.place.topic, record.place.partition);
        let Ok((_, body)) = unframe(record.payload) else { return Ok(()) }; // write() has decoded it already
        let timestamp_ms = record.timestamp_ms.max(0);
        // a file belongs to one day; a record that is late for an earlier day stays in the file that is open
        let new_day = self.open.get(&lane).is_some_and(|open| names::day_number(timestamp_ms) > open.day);
        if new_day {
            self.close(lane)?;
        }
        let open = match self.open.entry(lane) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(OpenFile {
                first: record.place.offset,
                first_ms: timestamp_ms,
                day: names::day_number(timestamp_ms),
                next: record.place.offset,
                rows: 0,
                begun_ms: None,
                file: ParquetFile::new()?,
                arena: Vec::new(),
                ends: Vec::new(),
            }),
        };
        open.arena.extend_from_slice(body);
        open.ends.push(open.arena.len());
        open.rows += 1;
        open.next = record.place.offset + 1;
        if open.ends.len() >= GROUP_ROWS || open.arena.len() >= GROUP_BYTES {
            open.compress()?;
        }
        if open.is_full(&self.plan.roll) {
            self.close(lane)?;
        }
        Ok(())
    }

    /// Closes a lane's file; from here on its name and its bytes are fixed (rule 1).
    fn close(&mut self, lane: Lane) -> Result<(), ParquetError> {
        let Some(mut open) = self.open.remove(&lane) else { return Ok(()) };
        open.compress()?;
        let (topic, partition) = lane;
        let name = FileName { topic, partition, first: open.first, first_ms: open.first_ms, next: open.next };
        let notes = [
            ("sf.topic", topic.name().to_owned()),
            ("sf.partition", partition.to_string()),
            ("sf.first_offset", open.first.to_string()),
            ("sf.next_offset", open.next.to_string()),
        ];
        let bytes = open.file.finish(&notes)?;
        self.closed.push_back(ClosedFile { name, bytes });
        Ok(())
    }

    /// Closes what is old, what is too much, or everything.
    fn close_due(&mut self, now_ms: u64, all: bool) -> Result<(), ParquetError> {
        let max_age_ms = u64::try_from(self.plan.roll.max_age.as_millis()).unwrap_or(u64::MAX);
        let mut due = Vec::new();
        for (lane, open) in &mut self.open {
            let begun_ms = *open.begun_ms.get_or_insert(now_ms);
            if all || now_ms.saturating_sub(begun_ms) >= max_age_ms {
                due.push(*lane);
            }
        }
        for lane in due {
            self.close(lane)?;
        }
        while self.open.values().map(OpenFile::bytes).sum::<usize>() > GATHERED_BYTES_MAX {
            let largest = self.open.iter().max_by_key(|(_, open)| open.bytes()).map(|(lane, _)| *lane);
            let Some(lane) = largest else { break };
            self.close(lane)?;
        }
        Ok(())
    }

    /// Puts closed files in their order; a file counts as safe when its put returned (rule 2).
    async fn put_closed(&mut self) -> Result<(), TargetError> {
        let store = self.store()?;
        while let Some(file) = self.closed.front() {
            let path = file.name.path();
            let payload = PutPayload::from_bytes(file.bytes.clone());
            store.put(&Path::from(path.as_str()), payload).await.map_err(|e| self.failed("putting a file", e))?;
            let FileName { topic, partition, next, .. } = file.name;
            tracing::debug!(path, bytes = file.bytes.len(), "file put");
            self.closed.pop_front();
            self.files += 1;
            self.confirmed.push(Place { topic, partition, offset: next });
        }
        Ok(())
    }
}

impl OpenFile {
    /// Memory it takes.
    fn bytes(&self) -> usize {
        self.arena.len() + self.file.bytes()
    }

    fn is_full(&self, roll: &Roll) -> bool {
        // bodies compress about five to one; judged so, a file ends near its limit without being compressed to find out
        self.rows >= roll.max_rows || self.file.bytes() + self.arena.len() / 5 >= roll.max_bytes
    }

    /// Turns the gathered records into a row group.
    fn compress(&mut self) -> Result<(), ParquetError> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let arena = Bytes::from(std::mem::take(&mut self.arena));
        let mut readings = Vec::with_capacity(self.ends.len());
        let mut begin = 0;
        for end in self.ends.drain(..) {
            let reading =
                telemetry::decode(&arena[begin..end]).map_err(|error| ParquetError::External(Box::new(error)))?;
            readings.push(reading);
            begin = end;
        }
        self.file.write(&arena, &readings)
    }
}

impl Sink for ArchiveSink {
    async fn connect(&mut self, _topics: &[Topic]) -> Result<Resume, TargetError> {
        let again = self.store.is_some();
        let store = store::open(&self.plan.root, &self.keys).map_err(|e| self.failed("opening the archive", e))?;
        // one real question, so that a store that is away is noticed here
        let mut listing = store.list(Some(&Path::from("sf-probe")));
        listing.try_next().await.map_err(|e| self.failed("asking the archive", e))?;
        self.store = Some(store);
        Ok(if again { Resume::Continue } else { Resume::Committed })
    }

    async fn write(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        let mut refusals = Vec::new();
        for (index, record) in batch.iter() {
            let decoded = unframe(record.payload).and_then(|(_, body)| telemetry::decode(body).map(|_| ()));
            if let Err(error) = decoded {
                refusals.push(Refusal { index, reason: reason::DECODE_ERROR, detail: error.to_string() });
            }
        }
        if !refusals.is_empty() {
            return Ok(Outcome::Refused(refusals));
        }
        self.look_back(batch).await?;
        for (_, record) in batch.iter() {
            let lane = (record.place.topic, record.place.partition);
            if self.archived_below.get(&lane).is_some_and(|below| record.place.offset < *below) {
                continue;
            }
            if let Err(error) = self.add(&record) {
                return Err(self.give_up(error));
            }
        }
        for end in batch.ends() {
            // records at the end may be excluded: the file, or the position itself, passes them
            let lane = (end.topic, end.partition);
            let archived = self.archived_below.get(&lane).copied().unwrap_or(i64::MIN);
            let waits = self.closed.iter().rev().find(|file| (file.name.topic, file.name.partition) == lane);
            match self.open.get_mut(&lane) {
                Some(open) => open.next = end.offset,
                None if waits.is_none() && archived < end.offset => self.confirmed.push(*end),
                None => {}
            }
        }
        Ok(Outcome::Taken { confirmed: std::mem::take(&mut self.confirmed) })
    }

    async fn settle(&mut self, now_ms: u64, close: bool) -> Result<Vec<Place>, TargetError> {
        if let Err(error) = self.close_due(now_ms, close) {
            return Err(self.give_up(error));
        }
        self.put_closed().await?;
        Ok(std::mem::take(&mut self.confirmed))
    }

    fn standing(&self) -> Standing {
        let details = vec![
            ("open_files", self.open.len().into()),
            ("gathered_rows", self.open.values().map(|open| open.rows).sum::<usize>().into()),
            ("files_written", self.files.into()),
        ];
        Standing { target: self.plan.target.clone(), health: Health::Healthy, reason: String::new(), details }
    }
}

/// The end of the file that begins with this very record, when the store has one.
async fn find(store: &dyn ObjectStore, record: &Record<'_>) -> Result<Option<i64>, object_store::Error> {
    let first_ms = record.timestamp_ms.max(0);
    let folder = Path::from(names::folder(record.place.topic, first_ms));
    let beginning = names::beginning(record.place.partition, record.place.offset, first_ms);
    let after = Path::from(format!("{folder}/{beginning}"));
    let mut listing = store.list_with_offset(Some(&folder), &after);
    let mut next = None;
    while let Some(object) = listing.try_next().await? {
        let file = object.location.filename().unwrap_or_default();
        next = next.max(names::next_of(file, &beginning));
    }
    Ok(next)
}
