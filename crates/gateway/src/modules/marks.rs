//! Where to begin after a start: the group's commits, the marks they carry, and what the outputs hold behind the marks.
//!
//! A mark is a place in an output partition behind which everything lies that was derived from uncommitted input. It
//! travels as text in the commit's metadata, `topic=offset` pairs, so that it is exactly as durable as the commit.

use std::time::Duration;

use kafka::client::{Consumer, Error, Position, Record};
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

/// An output and its marks by lane.
pub(super) type Marked<'m> = (Topic, &'m [Option<i64>; LANES]);

/// Hands every record of the outputs from their marks on, up to where they end now, to `each`, with the place of its
/// output in `outputs` and its lane. Without a mark a bounded number of the newest records is looked at. `consumer` is
/// left assigned to what was looked at.
pub(super) fn look_back(
    consumer: &Consumer,
    outputs: &[Marked<'_>],
    mut each: impl FnMut(usize, usize, &Record<'_>),
) -> Result<(), Error> {
    let names: Vec<(&str, i32)> = outputs.iter().map(|(topic, _)| (topic.name(), PARTITIONS)).collect();
    let (starts, ends) = (consumer.starts(&names)?, consumer.ends(&names)?);
    // end of every partition with something to read, by output and lane
    let mut missing: Vec<[Option<i64>; LANES]> = vec![[None; LANES]; outputs.len()];
    let mut positions = Vec::new();
    for (missing, (topic, marks)) in missing.iter_mut().zip(outputs) {
        let (first, end) = (by_lane(&starts, *topic), by_lane(&ends, *topic));
        for at in 0..LANES {
            let mark = marks[at].filter(|mark| *mark <= end[at]);
            let from = mark.unwrap_or(end[at] - LOOK_BACK_MAX).max(first[at]);
            if from < end[at] {
                missing[at] = Some(end[at]);
                positions.push(Position {
                    topic: topic.name().to_owned(),
                    partition: partition(at),
                    offset: from,
                    metadata: String::new(),
                });
            }
        }
    }
    if positions.is_empty() {
        return Ok(());
    }
    consumer.assign(&positions)?;
    let mut heard = Instant::now();
    while missing.iter().flatten().any(Option::is_some) {
        let count = consumer.poll(4096, Duration::from_millis(200), Duration::ZERO, |record| {
            let output = outputs.iter().position(|(topic, _)| topic.name() == record.topic());
            let (Some(output), Some(at)) = (output, lane(record.partition())) else { return };
            each(output, at, &record);
            if missing[output][at].is_some_and(|end| record.offset() + 1 >= end) {
                missing[output][at] = None;
            }
        })?;
        if count > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > SILENCE_MAX {
            let silent = missing.iter().zip(outputs).find(|(missing, _)| missing.iter().any(Option::is_some));
            let topic = silent.map_or("the outputs", |(_, (topic, _))| topic.name());
            return Err(Error::NotDelivered { reason: format!("the newest records of {topic} did not arrive") });
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
