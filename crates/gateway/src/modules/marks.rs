//! Where to begin after a start: the group's commits, the marks they carry, and what the outputs hold behind the marks.
//!
//! A mark is a place in an output partition behind which everything lies that was derived from uncommitted input. It
//! travels as text in the commit's metadata, `topic=offset` pairs, so that it is exactly as durable as the commit.

use std::time::Duration;

use kafka::client::{Consumer, Error, Position, Record, Settings};
use stream::Topic;
use stream::topics::PARTITIONS;
use tokio::time::Instant;

/// Partitions of every topic, as an index bound.
pub(super) const LANES: usize = PARTITIONS.unsigned_abs() as usize;
/// Records looked at per output partition when there is no commit to say where to begin.
const LOOK_BACK_MAX: i64 = 200_000;
/// How long the outputs may stay silent while they are read back.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// One partition of an input as it is at the start.
#[derive(Debug, Clone)]
pub(super) struct Begin {
    /// Next offset the group committed; `None` when it never did, or for a log that is not this one any more.
    pub(super) committed: Option<i64>,
    /// Text of the commit.
    pub(super) metadata: String,
    /// First offset on disk.
    pub(super) first: i64,
    /// Next offset to be written.
    pub(super) end: i64,
}

/// The place of a partition in lists of [`LANES`]; partitions beyond do not exist in our topics.
pub(super) fn lane(partition: i32) -> Option<usize> {
    usize::try_from(partition).ok().filter(|lane| *lane < LANES)
}

/// The partition of a place in such a list.
pub(super) fn partition(lane: usize) -> i32 {
    i32::try_from(lane).expect("there are twelve lanes")
}

/// Offsets by lane from a list of positions of `topic`.
pub(super) fn by_lane(positions: &[Position], topic: Topic) -> [i64; LANES] {
    let mut offsets = [0; LANES];
    for position in positions.iter().filter(|position| position.topic == topic.name()) {
        if let Some(lane) = lane(position.partition) {
            offsets[lane] = position.offset;
        }
    }
    offsets
}

/// Reads where the group stands in `topic`.
pub(super) fn begins(consumer: &Consumer, topic: Topic) -> Result<Vec<Begin>, Error> {
    let names = [(topic.name(), PARTITIONS)];
    let (first, end) = (by_lane(&consumer.starts(&names)?, topic), by_lane(&consumer.ends(&names)?, topic));
    let committed = consumer.committed(topic.name(), PARTITIONS)?;
    let begin = |at: usize| {
        let known = committed.iter().find(|position| lane(position.partition) == Some(at));
        let known = known.filter(|position| {
            let same_log = position.offset <= end[at];
            if !same_log {
                tracing::warn!(
                    topic = topic.name(),
                    partition = position.partition,
                    committed = position.offset,
                    end = end[at],
                    "the log ends before the committed offset, so it is another one: reading it from its start"
                );
            }
            same_log
        });
        Begin {
            committed: known.map(|position| position.offset),
            metadata: known.map(|position| position.metadata.clone()).unwrap_or_default(),
            first: first[at],
            end: end[at],
        }
    };
    Ok((0..LANES).map(begin).collect())
}

/// Writes marks as the text of a commit.
pub(super) fn write(marks: &[(&str, i64)]) -> String {
    let mut text = String::new();
    for (name, offset) in marks {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(name);
        text.push('=');
        stream::publisher::push_number(&mut text, *offset);
    }
    text
}

/// Reads one mark out of a commit's text.
pub(super) fn read(text: &str, name: &str) -> Option<i64> {
    text.split(' ').find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name)?.1.parse().ok())
}

/// Hands every record of `topic` from `marks` on, up to where it ends now, to `each`. Without a mark a bounded number of
/// the newest records is looked at.
pub(super) fn look_back(
    settings: &Settings,
    topic: Topic,
    marks: &[Option<i64>],
    mut each: impl FnMut(usize, &Record<'_>),
) -> Result<(), Error> {
    let consumer = Consumer::open(settings, "sf-look-back")?;
    let names = [(topic.name(), PARTITIONS)];
    let (first, end) = (by_lane(&consumer.starts(&names)?, topic), by_lane(&consumer.ends(&names)?, topic));
    let mut missing = [false; LANES];
    let mut positions = Vec::new();
    for at in 0..LANES {
        let mark = marks.get(at).copied().flatten().filter(|mark| *mark <= end[at]);
        let from = mark.unwrap_or(end[at] - LOOK_BACK_MAX).max(first[at]);
        if from < end[at] {
            missing[at] = true;
            positions.push(Position {
                topic: topic.name().to_owned(),
                partition: partition(at),
                offset: from,
                metadata: String::new(),
            });
        }
    }
    if positions.is_empty() {
        return Ok(());
    }
    consumer.assign(&positions)?;
    let mut heard = Instant::now();
    while missing.contains(&true) {
        let count = consumer.poll(4096, Duration::from_millis(200), Duration::ZERO, |record| {
            let Some(at) = lane(record.partition()) else { return };
            each(at, &record);
            if record.offset() + 1 >= end[at] {
                missing[at] = false;
            }
        })?;
        if count > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE_MAX {
            let reason = format!("the newest records of {} did not arrive", topic.name());
            return Err(Error::NotDelivered { reason });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_round_trip_and_strange_text_holds_none() {
        let text = write(&[("telemetry.clean", 17), ("dlq.telemetry", 0), ("newest", -5)]);
        assert_eq!(text, "telemetry.clean=17 dlq.telemetry=0 newest=-5");
        assert_eq!(read(&text, "telemetry.clean"), Some(17));
        assert_eq!(read(&text, "newest"), Some(-5));
        assert_eq!(read(&text, "clean"), None);
        assert_eq!(read("", "newest"), None);
        assert_eq!(read("newest=rubbish newest", "newest"), None);
    }
}
