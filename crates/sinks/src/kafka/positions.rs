//! What the target remembers for us: how far each partition of our topics got, and who wrote last.
//!
//! Kept as a commit of a consumer group of the target, on partition 0 of each topic there, in the commit's metadata:
//!
//! ```text
//! sf1 1f3a...9c 0:4711 3:815      who wrote last, then partition:position of our topic
//! ```
//!
//! Text, because a topic of the target may have fewer partitions than ours and a group cannot commit for a partition that
//! is not there. The offset of the commit is the sum of the positions; it says nothing but that something moved.
//!
//! Every commit holds everything: a group forgets each of its commits for itself when it gets old, and a quiet topic must
//! not be forgotten while another one flows.

use std::collections::BTreeMap;
use std::fmt::Write;

use kafka::client::Position;
use stream::Topic;

use crate::batch::Place;

const MARK: &str = "sf1";

/// Tells one process from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer(pub u64);

/// The metadata is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the consumer group has a commit on {topic} that is not a position of a sink: {metadata:?}")]
pub struct Unreadable {
    /// The topic at the target.
    pub topic: String,
    /// What was found in the place of a position.
    pub metadata: String,
}

/// Next offset of each partition of our topics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(BTreeMap<(Topic, i32), i64>);

impl Positions {
    /// Reads commits of partition 0 of the topics with these names at the target; the writer is the one of the last commit.
    pub fn read(committed: &[Position], names: &BTreeMap<Topic, String>) -> Result<(Self, Option<Writer>), Unreadable> {
        let (mut positions, mut writer) = (Self::default(), None);
        for (topic, name) in names {
            let Some(commit) = committed.iter().find(|commit| commit.topic == *name && commit.partition == 0) else {
                continue;
            };
            let unreadable = || Unreadable { topic: name.clone(), metadata: commit.metadata.clone() };
            let (by, offsets) = parse(&commit.metadata).ok_or_else(unreadable)?;
            writer = Some(by);
            positions.0.extend(offsets.into_iter().map(|(partition, offset)| ((*topic, partition), offset)));
        }
        Ok((positions, writer))
    }

    /// Moves on.
    pub fn advance(&mut self, ends: &[Place]) {
        for end in ends {
            self.0.insert((end.topic, end.partition), end.offset);
        }
    }

    /// As the host asks for them.
    pub fn places(&self) -> Vec<Place> {
        let place = |((topic, partition), offset): (&(Topic, i32), &i64)| Place {
            topic: *topic,
            partition: *partition,
            offset: *offset,
        };
        self.0.iter().map(place).collect()
    }

    /// What is committed for them.
    pub fn to_commits(&self, names: &BTreeMap<Topic, String>, writer: Writer) -> Vec<Position> {
        let mut commits = Vec::new();
        for (topic, name) in names {
            let (mut metadata, mut sum) = (format!("{MARK} {:016x}", writer.0), 0_i64);
            for ((_, partition), offset) in self.0.range((*topic, i32::MIN)..=(*topic, i32::MAX)) {
                write!(metadata, " {partition}:{offset}").expect("a text takes text");
                sum = sum.saturating_add(*offset);
            }
            commits.push(Position { topic: name.clone(), partition: 0, offset: sum.max(0), metadata });
        }
        commits
    }
}

fn parse(metadata: &str) -> Option<(Writer, Vec<(i32, i64)>)> {
    let mut words = metadata.split(' ');
    if words.next() != Some(MARK) {
        return None;
    }
    let writer = Writer(u64::from_str_radix(words.next()?, 16).ok()?);
    let pair = |word: &str| {
        let (partition, offset) = word.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    Some((writer, words.map(pair).collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> BTreeMap<Topic, String> {
        [(Topic::TelemetryClean, "hq.clean".to_owned()), (Topic::Audit, "hq.audit".to_owned())].into()
    }

    #[test]
    fn positions_round_trip_through_commits() {
        let mut positions = Positions::default();
        let place = |topic, partition, offset| Place { topic, partition, offset };
        positions.advance(&[place(Topic::TelemetryClean, 11, 7), place(Topic::Audit, 0, 3)]);
        positions.advance(&[place(Topic::TelemetryClean, 11, 9), place(Topic::TelemetryClean, 2, i64::MAX)]);
        let commits = positions.to_commits(&names(), Writer(0xab));
        assert_eq!(commits.len(), 2);
        assert_eq!(Positions::read(&commits, &names()).unwrap(), (positions.clone(), Some(Writer(0xab))));
        assert_eq!(positions.places().len(), 3);
        let nothing = Positions::default().to_commits(&names(), Writer(1));
        assert_eq!(Positions::read(&nothing, &names()).unwrap(), (Positions::default(), Some(Writer(1))));
        assert_eq!(Positions::read(&[], &names()).unwrap(), (Positions::default(), None));
    }

    // the metadata of a commit has 4096 bytes at the target
    #[test]
    fn the_longest_metadata_fits() {
        let mut positions = Positions::default();
        for partition in 0..stream::topics::PARTITIONS {
            positions.advance(&[Place { topic: Topic::Audit, partition, offset: i64::MAX }]);
        }
        let longest = positions.to_commits(&names(), Writer(u64::MAX)).into_iter().map(|c| c.metadata.len()).max();
        assert!(longest < Some(400), "{longest:?}");
    }

    #[test]
    fn a_commit_of_somebody_else_is_not_taken_for_a_position() {
        for metadata in ["", "consumer-7", "sf1 zz", "sf1 ab 3", "sf1 ab 3:x", "sf2 ab"] {
            let commit =
                Position { topic: "hq.clean".to_owned(), partition: 0, offset: 5, metadata: metadata.to_owned() };
            assert_eq!(Positions::read(&[commit], &names()).unwrap_err().metadata, metadata);
        }
    }
}
