//! Consumer groups: who is in them, what they have committed, moving and deleting what they committed.

use std::time::Duration;

use bytes::{Buf, TryGetError};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId,
    ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, TopicName,
};

use super::{Admin, checked, text};
use crate::client::{Error, Position};

/// A coordinator that is not there yet is asked for again this often ...
const COORDINATOR_TRIES: u32 = 20;
/// ... with this pause.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(250);

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub id: String,
    /// Empty when the broker is too old to say.
    pub state: String,
    /// What its members speak among themselves; `consumer` for consumers, empty for offsets without members.
    pub protocol_type: String,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub id: String,
    /// `Dead` when there is no such group.
    pub state: String,
    /// How partitions are shared out.
    pub protocol: String,
    /// Nobody has joined it: who commits chooses its partitions itself, and whether it runs cannot be told.
    pub by_position: bool,
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub id: String,
    /// The name of a static member.
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    /// Topics and partitions assigned to it.
    pub partitions: Vec<(String, i32)>,
}

impl GroupDescription {
    /// Neither members nor offsets were ever there, or they are gone.
    pub fn is_dead(&self) -> bool {
        self.state.eq_ignore_ascii_case("dead")
    }
}

impl Admin {
    /// All groups by name.
    pub async fn groups(&mut self) -> Result<Vec<GroupListing>, Error> {
        let mut groups = Vec::new();
        for node in self.nodes.keys().copied().collect::<Vec<i32>>() {
            let answer = self.node(node).await?.ask(&ListGroupsRequest::default(), 5).await?;
            checked(answer.error_code, None, || "listing groups".to_owned())?;
            groups.extend(answer.groups.into_iter().map(|group| GroupListing {
                id: group.group_id.to_string(),
                state: group.group_state.to_string(),
                protocol_type: group.protocol_type.to_string(),
            }));
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        groups.dedup_by(|a, b| a.id == b.id);
        Ok(groups)
    }

    /// The node that keeps a group.
    async fn coordinator(&mut self, group: &str) -> Result<i32, Error> {
        let mut attempts = 0;
        loop {
            let request = FindCoordinatorRequest::default().with_key(text(group)).with_key_type(0);
            let answer = self.first.ask(&request, 3).await?;
            // the first question after a cluster's birth makes it create the place for offsets
            let later = answer.error_code == ResponseError::CoordinatorNotAvailable.code();
            if later && attempts < COORDINATOR_TRIES {
                attempts += 1;
                tokio::time::sleep(COORDINATOR_PAUSE).await;
                continue;
            }
            let message = answer.error_message.as_ref();
            checked(answer.error_code, message, || format!("asking for the coordinator of group {group}"))?;
            return Ok(answer.node_id.0);
        }
    }

    /// A group as it is now; a group that does not exist is dead.
    pub async fn group(&mut self, id: &str) -> Result<GroupDescription, Error> {
        let node = self.coordinator(id).await?;
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(id))]);
        let answer = self.node(node).await?.ask(&request, 5).await?;
        let described = answer.groups.into_iter().next().unwrap_or_default();
        let unknown = described.error_code == ResponseError::GroupIdNotFound.code();
        if !unknown {
            checked(described.error_code, described.error_message.as_ref(), || format!("describing group {id}"))?;
        }
        if unknown || described.group_state.eq_ignore_ascii_case("dead") {
            let dead = GroupDescription {
                id: id.to_owned(),
                state: "Dead".to_owned(),
                protocol: String::new(),
                by_position: false,
                members: vec![],
            };
            return Ok(self.group_of_new_kind(node, id).await?.unwrap_or(dead));
        }
        let members = described.members.into_iter().map(|member| MemberDescription {
            id: member.member_id.to_string(),
            instance_id: member.group_instance_id.map(|id| id.to_string()),
            client_id: member.client_id.to_string(),
            host: host(&member.client_host),
            partitions: assignment(&member.member_assignment),
        });
        let mut members: Vec<MemberDescription> = members.collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let (state, protocol) = (described.group_state.to_string(), described.protocol_data.to_string());
        let by_position = described.protocol_type.is_empty() && state.eq_ignore_ascii_case("empty");
        Ok(GroupDescription { id: id.to_owned(), state, protocol, by_position, members })
    }

    /// A group of the protocol in which the broker shares out partitions; `None` when there is none of that name.
    async fn group_of_new_kind(&mut self, node: i32, id: &str) -> Result<Option<GroupDescription>, Error> {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(id))]);
        let answer = match self.node(node).await?.ask(&request, 1).await {
            Err(Error::NotSpoken { .. }) => return Ok(None),
            answer => answer?,
        };
        let Some(described) = answer.groups.into_iter().next() else { return Ok(None) };
        if described.error_code == ResponseError::GroupIdNotFound.code() {
            return Ok(None);
        }
        checked(described.error_code, described.error_message.as_ref(), || format!("describing group {id}"))?;
        let mut members = Vec::with_capacity(described.members.len());
        for member in described.members {
            let topics = member.assignment.topic_partitions.iter();
            let partitions = topics
                .flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_name.to_string(), *index)))
                .collect();
            members.push(MemberDescription {
                id: member.member_id.to_string(),
                instance_id: member.instance_id.map(|id| id.to_string()),
                client_id: member.client_id.to_string(),
                host: host(&member.client_host),
                partitions,
            });
        }
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let (state, protocol) = (described.group_state.to_string(), described.assignor_name.to_string());
        Ok(Some(GroupDescription { id: id.to_owned(), state, protocol, by_position: false, members }))
    }

    /// All that a group has committed, by topic and partition.
    pub async fn committed(&mut self, group: &str) -> Result<Vec<Position>, Error> {
        let node = self.coordinator(group).await?;
        let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(None);
        let answer = self.node(node).await?.ask(&request, 7).await?;
        checked(answer.error_code, None, || format!("asking for the offsets of group {group}"))?;
        let mut positions = Vec::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let index = partition.partition_index;
                checked(partition.error_code, None, || {
                    format!("asking for the offset of group {group} in partition {index} of topic {}", topic.name.0)
                })?;
                if partition.committed_offset >= 0 {
                    positions.push(Position {
                        topic: topic.name.to_string(),
                        partition: index,
                        offset: partition.committed_offset,
                        metadata: partition.metadata.map(|text| text.to_string()).unwrap_or_default(),
                    });
                }
            }
        }
        positions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(positions)
    }

    /// Commits for a group from outside; brokers refuse it while the group has members.
    pub async fn commit(&mut self, group: &str, positions: &[Position]) -> Result<(), Error> {
        let node = self.coordinator(group).await?;
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for position in positions {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(position.partition)
                .with_committed_offset(position.offset)
                .with_committed_metadata(Some(text(&position.metadata)));
            match topics.last_mut() {
                Some(last) if *last.name.0 == *position.topic => last.partitions.push(partition),
                _ => topics.push(
                    OffsetCommitRequestTopic::default()
                        .with_name(TopicName(text(&position.topic)))
                        .with_partitions(vec![partition]),
                ),
            }
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics);
        let answer = self.node(node).await?.ask(&request, 8).await?;
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let index = partition.partition_index;
                checked(partition.error_code, None, || {
                    format!("moving group {group} in partition {index} of topic {}", topic.name.0)
                })?;
            }
        }
        Ok(())
    }

    /// Deletes a group with its offsets; brokers refuse it while the group has members.
    pub async fn delete_group(&mut self, group: &str) -> Result<(), Error> {
        let node = self.coordinator(group).await?;
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(group))]);
        let answer = self.node(node).await?.ask(&request, 2).await?;
        for result in &answer.results {
            checked(result.error_code, None, || format!("deleting group {group}"))?;
        }
        Ok(())
    }
}

/// Apache Kafka writes addresses with a slash in front.
fn host(host: &str) -> String {
    host.trim_start_matches('/').to_owned()
}

/// The partitions of a classic member. Its data is the consumers' own affair and may be anything: what does not read as
/// an assignment is none, and nothing is reserved for what is only announced.
fn assignment(data: &[u8]) -> Vec<(String, i32)> {
    read_assignment(data).unwrap_or_default()
}

fn read_assignment(mut data: &[u8]) -> Result<Vec<(String, i32)>, TryGetError> {
    let _version = data.try_get_i16()?;
    let mut partitions = Vec::new();
    for _ in 0..data.try_get_i32()? {
        let length = usize::try_from(data.try_get_i16()?).unwrap_or(0);
        let Some((topic, rest)) = data.split_at_checked(length) else { return Ok(Vec::new()) };
        data = rest;
        let topic = String::from_utf8_lossy(topic);
        for _ in 0..data.try_get_i32()? {
            partitions.push((topic.clone().into_owned(), data.try_get_i32()?));
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_of_consumers_are_read_and_others_left_alone() {
        // version 0, one topic "t" with partitions 0 and 3, no user data
        let data = [0, 0, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(assignment(&data), [("t".to_owned(), 0), ("t".to_owned(), 3)]);
        assert_eq!(assignment(b"\x00\x00x"), []);
        assert_eq!(assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), [], "a length that lies");
        assert_eq!(assignment(&[]), []);
    }

    #[test]
    fn hosts_lose_their_slash() {
        assert_eq!(host("/127.0.0.1"), "127.0.0.1");
        assert_eq!(host("plc.example"), "plc.example");
    }
}
