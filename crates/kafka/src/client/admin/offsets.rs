//! Offsets and sizes: where partitions begin and end, what lies at a time, how many bytes are on disk.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, DescribeLogDirsRequest, ListOffsetsRequest, TopicName};

use super::{Admin, TopicDescription, checked, text};
use crate::client::Error;

/// Partitions whose leader is not there yet, as after a start of their broker, are asked for again this often ...
const LEADER_TRIES: u32 = 40;
/// ... with this pause.
const LEADER_PAUSE: Duration = Duration::from_millis(250);

/// Whether a partition has no leader, or another than was thought: that passes by itself.
fn leader_moves(error: &Error) -> bool {
    let Error::Refused { code, .. } = error else { return false };
    matches!(
        code,
        ResponseError::NotLeaderOrFollower
            | ResponseError::LeaderNotAvailable
            | ResponseError::FencedLeaderEpoch
            | ResponseError::OffsetNotAvailable
    )
}

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
    /// Finds a place in all partitions of the topics; sorted by topic and partition. Waits for leaders that are on their way.
    pub async fn offsets(&mut self, topics: &[TopicDescription], at: At) -> Result<Vec<Found>, Error> {
        let mut found = self.offsets_now(topics, at).await;
        for _ in 0..LEADER_TRIES {
            if !found.as_ref().is_err_and(leader_moves) {
                break;
            }
            tokio::time::sleep(LEADER_PAUSE).await;
            let mut leaders = self.topics().await?;
            leaders.retain(|topic| topics.iter().any(|wanted| wanted.name == topic.name));
            found = self.offsets_now(&leaders, at).await;
        }
        found
    }

    async fn offsets_now(&mut self, topics: &[TopicDescription], at: At) -> Result<Vec<Found>, Error> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, ListOffsetsResponse, MetadataResponse};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::client::Settings;
    use crate::protocol::{self, Head, encode_response};

    /// What a broker says that has just started: one topic, whose leader it becomes with the third question.
    fn answer(head: Head, asked: &mut u32) -> Bytes {
        let api = ApiKey::try_from(head.api_key).unwrap();
        let (version, id) = (head.version, head.correlation_id);
        match api {
            ApiKey::ApiVersions => {
                let row = |key: ApiKey, max| ApiVersion::default().with_api_key(key as i16).with_max_version(max);
                let rows = vec![row(ApiKey::ApiVersions, 0), row(ApiKey::Metadata, 9), row(ApiKey::ListOffsets, 7)];
                encode_response(api, version, id, &ApiVersionsResponse::default().with_api_keys(rows))
            }
            ApiKey::Metadata => {
                let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1));
                let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1));
                let topic = MetadataResponseTopic::default().with_name(Some(TopicName(text("t"))));
                let topic = topic.with_partitions(vec![partition]);
                let response = MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic]);
                encode_response(api, version, id, &response)
            }
            _ => {
                *asked += 1;
                let code = if *asked < 3 { ResponseError::NotLeaderOrFollower.code() } else { 0 };
                let partition = ListOffsetsPartitionResponse::default().with_error_code(code).with_offset(7);
                let topic = ListOffsetsTopicResponse::default().with_name(TopicName(text("t")));
                let response = ListOffsetsResponse::default().with_topics(vec![topic.with_partitions(vec![partition])]);
                encode_response(api, version, id, &response)
            }
        }
        .unwrap()
    }

    async fn serve(mut stream: TcpStream) {
        let mut asked = 0;
        while let Ok(length) = stream.read_i32().await {
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await.unwrap();
            let answer = answer(protocol::head(&frame).unwrap(), &mut asked);
            stream.write_all(&answer).await.unwrap();
        }
    }

    // STR-30: an Apache Kafka that has just started has topics before it leads them
    #[tokio::test]
    async fn a_leader_that_is_on_its_way_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { serve(listener.accept().await.unwrap().0).await });
        let mut admin = Admin::connect(&Settings::new(&address, "test")).await.unwrap();
        let topics = admin.topics().await.unwrap();
        let found = admin.offsets(&topics, At::Latest).await.unwrap();
        assert_eq!(found.iter().map(|found| found.offset).collect::<Vec<_>>(), [Some(7)]);
    }

    #[test]
    fn other_refusals_are_final() {
        let refused = |code| Error::Refused { what: String::new(), code, reason: String::new() };
        assert!(leader_moves(&refused(ResponseError::NotLeaderOrFollower)));
        assert!(!leader_moves(&refused(ResponseError::TopicAuthorizationFailed)));
    }
}
