//! Reading topics: positions the reader owns, commits it decides, and gaps it is told about.
//!
//! A position that is no longer on disk is never skipped silently (OFF-12): it becomes a [`Gap`], and reading goes on at
//! the first offset there is.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::client::{Consumer, Error, Position, Record, Settings};

use crate::Topic;
use crate::topics::PARTITIONS;

/// Where to begin.
#[derive(Debug, Clone)]
pub enum Start {
    /// Where the group committed, at the first record there is where it never did.
    Committed,
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// Exactly here; partitions not named begin at the first record there is.
    At(Vec<Position>),
}

/// Records that were gone before they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub topic: String,
    pub partition: i32,
    /// First missing offset.
    pub from: i64,
    /// First offset that is there.
    pub to: i64,
}

/// A reader of all partitions of some topics.
#[derive(Debug)]
pub struct Subscription {
    consumer: Consumer,
    topics: Vec<Topic>,
    /// Next offset to read, by topic and partition.
    next: BTreeMap<(&'static str, i32), i64>,
    gaps: Vec<Gap>,
}

impl Subscription {
    /// Opens the consumer and finds the positions; fails when the stream does not answer in time, so retry it.
    pub fn open(settings: &Settings, group: &str, topics: &[Topic], start: &Start) -> Result<Self, Error> {
        Self::over(Consumer::open(settings, group)?, topics, start)
    }

    /// The same over a consumer that is open already; what it was assigned to before is over.
    pub fn over(consumer: Consumer, topics: &[Topic], start: &Start) -> Result<Self, Error> {
        let names: Vec<(&str, i32)> = topics.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
        let starts = consumer.starts(&names)?;
        let chosen = match start {
            Start::Earliest => Vec::new(),
            Start::Latest => consumer.ends(&names)?,
            Start::At(positions) => positions.clone(),
            Start::Committed => {
                let mut committed = Vec::new();
                for topic in topics {
                    committed.extend(consumer.committed(topic.name(), PARTITIONS)?);
                }
                committed
            }
        };
        let mut subscription = Self { consumer, topics: topics.to_vec(), next: BTreeMap::new(), gaps: Vec::new() };
        for topic in topics {
            for partition in 0..PARTITIONS {
                let find = |list: &[Position]| {
                    list.iter().find(|p| p.topic == topic.name() && p.partition == partition).map(|p| p.offset)
                };
                let first = find(&starts).unwrap_or(0);
                let offset = find(&chosen).unwrap_or(first);
                subscription.next.insert((topic.name(), partition), offset);
            }
        }
        subscription.settle(&starts)?;
        Ok(subscription)
    }

    /// Moves positions that fell behind the start of their log, remembers the gaps, and assigns.
    fn settle(&mut self, starts: &[Position]) -> Result<(), Error> {
        for start in starts {
            let Some(topic) = self.topics.iter().find(|topic| topic.name() == start.topic) else { continue };
            let Some(next) = self.next.get_mut(&(topic.name(), start.partition)) else { continue };
            if *next < start.offset {
                self.gaps.push(Gap {
                    topic: start.topic.clone(),
                    partition: start.partition,
                    from: *next,
                    to: start.offset,
                });
                *next = start.offset;
            }
        }
        self.consumer.assign(&self.positions())
    }

    /// Hands records to `each`, see [`Consumer::poll`]; positions advance past every record handed out.
    pub fn poll(
        &mut self,
        records_max: usize,
        wait: Duration,
        linger: Duration,
        mut each: impl FnMut(Record<'_>),
    ) -> Result<usize, Error> {
        let next = &mut self.next;
        let topics = &self.topics;
        let mut seen: (&'static str, i32, i64) = ("", -1, -1); // records come in runs of one partition
        let result = self.consumer.poll(records_max, wait, linger, |record| {
            if seen.0 != record.topic() || seen.1 != record.partition() {
                if seen.1 >= 0 {
                    next.insert((seen.0, seen.1), seen.2 + 1);
                }
                let name = topics.iter().map(|topic| topic.name()).find(|name| *name == record.topic());
                seen = (name.unwrap_or(""), record.partition(), record.offset());
            }
            seen.2 = record.offset();
            each(record);
        });
        if seen.1 >= 0 {
            next.insert((seen.0, seen.1), seen.2 + 1);
        }
        match result {
            Err(Error::OffsetOutOfRange { .. }) => {
                let names: Vec<(&str, i32)> = self.topics.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
                let starts = self.consumer.starts(&names)?;
                self.settle(&starts)?;
                Ok(0)
            }
            other => other,
        }
    }

    /// The next offset of every partition.
    pub fn positions(&self) -> Vec<Position> {
        let position = |((topic, partition), offset): (&(&'static str, i32), &i64)| Position {
            topic: (*topic).to_owned(),
            partition: *partition,
            offset: *offset,
            metadata: String::new(),
        };
        self.next.iter().map(position).collect()
    }

    /// Next offset of one partition.
    pub fn position(&self, topic: Topic, partition: i32) -> Option<i64> {
        self.next.get(&(topic.name(), partition)).copied()
    }

    /// Starts over at these positions.
    pub fn seek(&mut self, positions: &[Position]) -> Result<(), Error> {
        for position in positions {
            if let Some(topic) = Topic::by_name(&position.topic) {
                self.next.insert((topic.name(), position.partition), position.offset);
            }
        }
        self.consumer.assign(&self.positions())
    }

    /// What was gone before it could be read, since the last call.
    pub fn take_gaps(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.gaps)
    }

    /// Stores positions durably; call it only after what came before them is safe elsewhere.
    pub fn commit(&self, positions: &[Position]) -> Result<(), Error> {
        self.consumer.commit(positions)
    }

    /// Records between the positions and the ends.
    pub fn lag(&self) -> Result<i64, Error> {
        let names: Vec<(&str, i32)> = self.topics.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
        let ends = self.consumer.ends(&names)?;
        let behind = |end: &Position| {
            let topic = Topic::by_name(&end.topic)?;
            let next = self.position(topic, end.partition)?;
            Some((end.offset - next).max(0))
        };
        Ok(ends.iter().filter_map(behind).sum())
    }

    pub fn consumer(&self) -> &Consumer {
        &self.consumer
    }
}
