//! Offsets and sizes: where partitions begin and end, what lies at a time, how many bytes are on disk.

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DescribeLogDirsRequest, ListOffsetsRequest, TopicName};

use super::{Admin, TopicDescription, checked, text};
use crate::client::Error;

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first record there is.
    Earliest,
    /// Behind the last record.
    Latest,
    /// The record with the largest timestamp.
    Newest,
    /// The first record with this timestamp or a later one, in milliseconds.
    Time(i64),
}

impl At {
    /// The protocol's number for it.
    const fn number(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::Newest => -3,
            Self::Time(ms) => ms,
        }
    }
}

/// What was found at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub topic: String,
    pub partition: i32,
    /// `None` when no record is there, for example none that new.
    pub offset: Option<i64>,
    /// Of the record found, in milliseconds; `None` where the broker does not say.
    pub timestamp_ms: Option<i64>,
}

impl Admin {
    /// Finds a place in all partitions of the topics; sorted by topic and partition.
    pub async fn offsets(&mut self, topics: &[TopicDescription], at: At) -> Result<Vec<Found>, Error> {
        // every partition is asked of its leader
        let mut by_leader: BTreeMap<i32, Vec<ListOffsetsTopic>> = BTreeMap::new();
        for topic in topics {
            for partition in &topic.partitions {
                let asked = ListOffsetsPartition::default()
                    .with_partition_index(partition.index)
                    .with_timestamp(at.number())
                    .with_current_leader_epoch(-1);
                let of_leader = by_leader.entry(partition.leader).or_default();
                match of_leader.last_mut() {
                    Some(last) if *last.name.0 == *topic.name => last.partitions.push(asked),
                    _ => of_leader.push(
                        ListOffsetsTopic::default()
                            .with_name(TopicName(text(&topic.name)))
                            .with_partitions(vec![asked]),
                    ),
                }
            }
        }
        let mut found = Vec::new();
        for (leader, topics) in by_leader {
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics);
            let answer = self.node(leader).await?.ask(&request, 7).await?;
            for topic in answer.topics {
                for partition in topic.partitions {
                    let index = partition.partition_index;
                    checked(partition.error_code, None, || {
                        format!("asking for offsets of partition {index} of topic {}", topic.name.0)
                    })?;
                    found.push(Found {
                        topic: topic.name.to_string(),
                        partition: index,
                        offset: Some(partition.offset).filter(|offset| *offset >= 0),
                        timestamp_ms: Some(partition.timestamp).filter(|timestamp| *timestamp >= 0),
                    });
                }
            }
        }
        found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(found)
    }

    /// Bytes on disk by topic and partition; with several replicas the largest of them.
    pub async fn sizes(&mut self) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let mut sizes = BTreeMap::new();
        for node in self.nodes.keys().copied().collect::<Vec<i32>>() {
            let request = DescribeLogDirsRequest::default().with_topics(None);
            let answer = self.node(node).await?.ask(&request, 4).await?;
            for result in answer.results {
                checked(result.error_code, None, || format!("asking for the sizes in {}", result.log_dir))?;
                for topic in result.topics {
                    for partition in topic.partitions.iter().filter(|partition| !partition.is_future_key) {
                        let size = sizes.entry((topic.name.to_string(), partition.partition_index)).or_insert(0);
                        *size = partition.partition_size.max(*size);
                    }
                }
            }
        }
        Ok(sizes)
    }
}
