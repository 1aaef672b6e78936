//! Where a host reads: the stream, or in tests a list in memory.
//!
//! Nothing here decides. Positions are chosen by the sink's [`Resume`], commits by the host.

use std::time::Duration;

use kafka::client::{Consumer, Position, Settings};
use stream::Topic;
use stream::subscription::{Gap, Start, Subscription};
use stream::topics::PARTITIONS;

use crate::batch::{Batch, Place};
use crate::error::StreamError;
use crate::sink::Resume;

/// A reader of some topics with positions chosen from outside.
pub trait Source {
    /// Begins reading where `resume` says ([`Resume::Continue`] never comes here); forgets what was read ahead.
    fn open(&mut self, resume: &Resume) -> Result<(), StreamError>;

    /// Adds up to `records_max` records to the batch: waits up to `wait` for the first, then takes what is there.
    fn poll(&mut self, batch: &mut Batch, records_max: usize, wait: Duration) -> Result<usize, StreamError>;

    /// Next offset to read of every partition.
    fn positions(&self) -> Vec<Place>;

    /// Next offset to be written of every partition.
    fn ends(&self) -> Result<Vec<Place>, StreamError>;

    /// Stores positions for the consumer group.
    fn commit(&mut self, places: &[Place]) -> Result<(), StreamError>;

    /// Records that were gone before they could be read, since the last call (OFF-12).
    fn take_gaps(&mut self) -> Vec<Gap>;
}

/// The consumer group in which a sink commits.
pub fn group(sink_id: &str) -> String {
    format!("sf-sink-{sink_id}")
}

/// The real stream.
#[derive(Debug)]
pub struct StreamSource {
    settings: Settings,
    group: String,
    topics: Vec<Topic>,
    /// Batches carry headers.
    headers: bool,
    subscription: Option<Subscription>,
}

impl StreamSource {
    pub fn new(settings: Settings, sink_id: &str, topics: &[Topic]) -> Self {
        Self { settings, group: group(sink_id), topics: topics.to_vec(), headers: false, subscription: None }
    }

    /// The same with batches that carry the records' headers.
    #[must_use]
    pub fn with_headers(self, headers: bool) -> Self {
        Self { headers, ..self }
    }

    /// These positions, and what the group committed for other partitions.
    fn or_committed(&self, consumer: &Consumer, places: &[Place]) -> Result<Vec<Position>, kafka::client::Error> {
        let mut positions: Vec<Position> = places.iter().map(position).collect();
        for topic in &self.topics {
            let committed = consumer.committed(topic.name(), PARTITIONS)?;
            let named =
                |at: &Position| places.iter().any(|place| place.topic == *topic && place.partition == at.partition);
            positions.extend(committed.into_iter().filter(|at| !named(at)));
        }
        Ok(positions)
    }

    fn subscription(&self) -> Option<&Subscription> {
        self.subscription.as_ref()
    }
}

impl Source for StreamSource {
    fn open(&mut self, resume: &Resume) -> Result<(), StreamError> {
        let failed = |source| StreamError::Read { source };
        self.subscription = None; // its read-ahead belongs to positions that no longer hold
        let consumer = Consumer::open(&self.settings, &self.group).map_err(failed)?;
        let start = match resume {
            Resume::At(places) => Start::At(places.iter().map(position).collect()),
            Resume::AtOrCommitted(places) => Start::At(self.or_committed(&consumer, places).map_err(failed)?),
            Resume::Committed | Resume::Continue => Start::Committed,
        };
        let mut subscription = Subscription::over(consumer, &self.topics, &start).map_err(failed)?;
        let names: Vec<(&str, i32)> = self.topics.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
        let ends = subscription.consumer().ends(&names).map_err(failed)?;
        let ahead: Vec<Position> = subscription
            .positions()
            .into_iter()
            .filter(|at| {
                ends.iter().any(|end| end.topic == at.topic && end.partition == at.partition && end.offset < at.offset)
            })
            .collect();
        if !ahead.is_empty() {
            // the stream was made anew (OFF-31): everything in it is unread
            tracing::warn!(
                partitions = ahead.len(),
                "positions lie behind the end of the stream, it was made anew; reading it from its start"
            );
            let starts = subscription.consumer().starts(&names).map_err(failed)?;
            let restart: Vec<Position> = starts
                .into_iter()
                .filter(|start| ahead.iter().any(|at| at.topic == start.topic && at.partition == start.partition))
                .collect();
            subscription.seek(&restart).map_err(failed)?;
        }
        self.subscription = Some(subscription);
        Ok(())
    }

    fn poll(&mut self, batch: &mut Batch, records_max: usize, wait: Duration) -> Result<usize, StreamError> {
        let Some(subscription) = &mut self.subscription else { return Ok(0) };
        let (topics, headers) = (&self.topics, self.headers);
        let mut last: Option<Topic> = None;
        let taken = subscription.poll(records_max, wait, Duration::ZERO, |record| {
            if last.is_none_or(|topic| topic.name() != record.topic()) {
                last = topics.iter().copied().find(|topic| topic.name() == record.topic());
            }
            let Some(topic) = last else { return };
            let place = Place { topic, partition: record.partition(), offset: record.offset() };
            let payload = record.payload().unwrap_or_default();
            if headers {
                batch.push_with(place, record.timestamp_ms(), record.key(), payload, record.headers());
            } else {
                batch.push(place, record.timestamp_ms(), record.key(), payload);
            }
        });
        taken.map_err(|source| StreamError::Read { source })
    }

    fn positions(&self) -> Vec<Place> {
        self.subscription().map(|subscription| places(&subscription.positions())).unwrap_or_default()
    }

    fn ends(&self) -> Result<Vec<Place>, StreamError> {
        let Some(subscription) = self.subscription() else { return Ok(Vec::new()) };
        let names: Vec<(&str, i32)> = self.topics.iter().map(|topic| (topic.name(), PARTITIONS)).collect();
        subscription.consumer().ends(&names).map(|ends| places(&ends)).map_err(|source| StreamError::Read { source })
    }

    fn commit(&mut self, committed: &[Place]) -> Result<(), StreamError> {
        let Some(subscription) = self.subscription() else { return Ok(()) };
        let positions: Vec<Position> = committed.iter().map(position).collect();
        subscription.commit(&positions).map_err(|source| StreamError::Read { source })
    }

    fn take_gaps(&mut self) -> Vec<Gap> {
        self.subscription.as_mut().map(Subscription::take_gaps).unwrap_or_default()
    }
}

fn position(place: &Place) -> Position {
    Position {
        topic: place.topic.name().to_owned(),
        partition: place.partition,
        offset: place.offset,
        metadata: String::new(),
    }
}

fn places(positions: &[Position]) -> Vec<Place> {
    let place =
        |at: &Position| Some(Place { topic: Topic::by_name(&at.topic)?, partition: at.partition, offset: at.offset });
    positions.iter().filter_map(place).collect()
}
