//! Reading the stream as a whole: spans of topics, each record once, in an order in which nothing is missed.
//!
//! Commits are asked for first, then ends, then outcomes are read, then what they are outcomes of: whatever the commit
//! covers has its outcome below the ends. The stream may run meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::client::admin::{Admin, At, TopicDescription};
use kafka::client::{Consumer, Error, Position, Record};
use model::Timestamp;
use stream::Topic;
use tokio::time::Instant;

use super::target::{Target, failed};
use crate::exit::{Failure, TRY_AGAIN};
use crate::say;

/// Records asked for in one go.
const SLICE_RECORDS: usize = 10_000;
const LOOK: Duration = Duration::from_millis(200);
/// Without a record for this long from a stream that answers, nothing more comes: what is left cannot be read.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// What lies this close before the range is read too, microseconds: times of records are not in the order of their numbers.
const MARGIN_US: i64 = 60_000_000;
/// Topics of the sinks' dead letters begin so.
pub(super) const SINK_LETTERS: &str = "dlq.sink.";

/// The time looked at; open where there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Range {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
}

impl Range {
    /// True when only a part of the time is looked at.
    pub(super) fn is_part(self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    pub(super) fn holds(self, ms: i64) -> bool {
        self.from.is_none_or(|from| ms >= from.as_millis()) && self.to.is_none_or(|to| ms < to.as_millis())
    }
}

/// The part of a partition that is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) partition: i32,
    /// First offset on disk, next offset to be written.
    pub(super) start: i64,
    pub(super) end: i64,
    /// Offsets in the range looked at, as far as offsets follow time.
    pub(super) from: i64,
    pub(super) to: i64,
    /// Read from here up to the end: what is late lies behind the range.
    pub(super) read_from: i64,
}

impl Span {
    pub(super) fn holds(&self, offset: i64) -> bool {
        (self.from..self.to).contains(&offset)
    }
}

/// Spans by topic.
pub(super) type Spans = BTreeMap<String, Vec<Span>>;

/// Commits by group.
pub(super) async fn commits(admin: &mut Admin) -> Result<BTreeMap<String, Vec<Position>>, Failure> {
    let mut commits = BTreeMap::new();
    for group in admin.groups().await.map_err(|error| failed(&error))? {
        if group.id.starts_with("sf-") {
            let positions = admin.committed(&group.id).await.map_err(|error| failed(&error))?;
            commits.insert(group.id, positions);
        }
    }
    Ok(commits)
}

/// Finds the spans of all data topics.
pub(super) async fn spans(admin: &mut Admin, range: Range) -> Result<Spans, Failure> {
    let mut topics = admin.topics().await.map_err(|error| failed(&error))?;
    topics.retain(|topic| Topic::by_name(&topic.name).is_some() || topic.name.starts_with(SINK_LETTERS));
    let starts = places(admin, &topics, At::Earliest).await?;
    let at = |time: Option<Timestamp>, by: i64| time.map(|time| At::Time(time.plus_micros(by).as_millis()));
    let mut marks = Vec::new();
    for place in [at(range.from, 0), at(range.from, -MARGIN_US), at(range.to, 0)] {
        marks.push(match place {
            Some(place) => Some(places(admin, &topics, place).await?),
            None => None,
        });
    }
    // the ends last: a place found before lies below them
    let ends = places(admin, &topics, At::Latest).await?;
    let mut spans = Spans::new();
    for (key, end) in &ends {
        let start = starts.get(key).copied().unwrap_or(0);
        let mark = |number: usize, open: i64| match &marks[number] {
            Some(found) => found.get(key).copied().unwrap_or(*end).clamp(start, *end),
            None => open,
        };
        let (from, read_from) = (mark(0, start), mark(1, start));
        let to = mark(2, *end).max(from);
        let span = Span { partition: key.1, start, end: *end, from, to, read_from };
        spans.entry(key.0.clone()).or_default().push(span);
    }
    Ok(spans)
}

async fn places(
    admin: &mut Admin,
    topics: &[TopicDescription],
    at: At,
) -> Result<BTreeMap<(String, i32), i64>, Failure> {
    let found = admin.offsets(topics, at).await.map_err(|error| failed(&error))?;
    Ok(found.into_iter().filter_map(|found| Some(((found.topic, found.partition), found.offset?))).collect())
}

/// Reads topics, one after the other.
pub(super) struct Scan {
    consumer: Consumer,
    progress: say::Progress,
}

impl Scan {
    pub(super) fn open(target: &Target) -> Result<Self, Failure> {
        let consumer = Consumer::open(&target.settings(), "sf-ctl-scan").map_err(|error| failed(&error))?;
        Ok(Self { consumer, progress: say::Progress::new() })
    }

    /// Hands the records of `topic` to `each`: of every partition those from the first offset up to the second.
    pub(super) fn read(
        &mut self,
        topic: &str,
        parts: &[(i32, i64, i64)],
        mut each: impl FnMut(&Record<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut left: BTreeMap<i32, (i64, i64)> =
            parts.iter().filter(|(_, from, to)| from < to).map(|(at, from, to)| (*at, (*from, *to))).collect();
        let total: i64 = left.values().map(|(from, to)| to - from).sum();
        if left.is_empty() {
            return Ok(());
        }
        let position = |(partition, (from, _)): (&i32, &(i64, i64))| Position {
            topic: topic.to_owned(),
            partition: *partition,
            offset: *from,
            metadata: String::new(),
        };
        let positions: Vec<Position> = left.iter().map(position).collect();
        self.consumer.assign(&positions).map_err(|error| failed(&error))?;
        let mut heard = Instant::now();
        let mut done = 0_u64;
        while let Some(partition) = left.keys().next().copied() {
            let mut outcome = Ok(());
            let polled = self.consumer.poll(SLICE_RECORDS, LOOK, Duration::ZERO, |record| {
                let Some((_, to)) = left.get(&record.partition()).copied() else { return };
                if record.offset() < to && outcome.is_ok() {
                    done += 1;
                    outcome = each(&record);
                }
                if record.offset() + 1 >= to {
                    left.remove(&record.partition());
                }
            });
            outcome?;
            let count = polled.map_err(|error| moved(topic, &error))?;
            self.progress.at(&format!("{topic}: {done} of {total} records"));
            if count > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                // it answers, so what is left is not for readers
                self.consumer.watermarks(topic, partition).map_err(|error| failed(&error))?;
                break;
            }
        }
        Ok(())
    }

    /// Hands what follows the spans of `topic` to `each` until it says that it has enough, or the time is over.
    pub(super) fn follow(
        &mut self,
        topic: &str,
        parts: &[(i32, i64)],
        at_most: Duration,
        mut each: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<(), Failure> {
        let position = |(partition, offset): &(i32, i64)| Position {
            topic: topic.to_owned(),
            partition: *partition,
            offset: *offset,
            metadata: String::new(),
        };
        let positions: Vec<Position> = parts.iter().map(position).collect();
        self.consumer.assign(&positions).map_err(|error| failed(&error))?;
        let begin = Instant::now();
        let mut enough = false;
        while !enough && begin.elapsed() < at_most {
            self.progress.at(&format!("{topic}: waiting for what is on its way"));
            let polled = self.consumer.poll(SLICE_RECORDS, LOOK, Duration::ZERO, |record| enough |= each(&record));
            polled.map_err(|error| moved(topic, &error))?;
        }
        Ok(())
    }
}

fn moved(topic: &str, error: &Error) -> Failure {
    match error {
        Error::OffsetOutOfRange { .. } => {
            let text = format!("{topic} was evicted while it was read; run the command again");
            Failure::new(TRY_AGAIN, text)
        }
        error => failed(error),
    }
}
