//! The answer to a fetch and the stored batches that are sent with it.
//!
//! A partition whose records stay in their file has no records in the answer (`None`), and a slice here. Slices stand in
//! the order of their partitions, so whoever takes partitions out of an answer or adds some need not know of them.

use std::collections::VecDeque;

use bytes::Bytes;
use commitlog::{Fetched, FileSlice};
use kafka::protocol::{Piece, encode_fetch};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{ApiKey, FetchResponse, TopicName};
use uuid::Uuid;

use crate::dispatch::{Answer, Refused, not_encoded};
use crate::outgoing::{Frame, Part};

/// A response with its slices.
pub(crate) struct FetchAnswer {
    pub(crate) response: FetchResponse,
    pub(crate) slices: Slices,
}

/// Stored batches of an answer, in the order of its partitions.
#[derive(Default)]
pub(crate) struct Slices(VecDeque<Slice>);

struct Slice {
    topic: TopicName,
    topic_id: Uuid,
    partition: i32,
    stored: FileSlice,
}

impl Slices {
    /// What goes into the partition's part of the response.
    pub(crate) fn keep(&mut self, topic: &FetchableTopicResponse, partition: i32, fetched: Fetched) -> Option<Bytes> {
        match fetched {
            Fetched::Copied(bytes) => Some(Bytes::from(bytes)),
            Fetched::Stored(stored) => {
                let (topic, topic_id) = (topic.topic.clone(), topic.topic_id);
                self.0.push_back(Slice { topic, topic_id, partition, stored });
                None
            }
        }
    }

    /// The slice of a partition; those before it belong to partitions that are no longer in the answer.
    fn take(&mut self, topic: &FetchableTopicResponse, partition: &PartitionData) -> Option<FileSlice> {
        let found = self.0.iter().position(|slice| {
            slice.partition == partition.partition_index
                && slice.topic == topic.topic
                && slice.topic_id == topic.topic_id
        })?;
        self.0.drain(..found);
        self.0.pop_front().map(|slice| slice.stored)
    }
}

impl From<FetchResponse> for FetchAnswer {
    fn from(response: FetchResponse) -> Self {
        Self { response, slices: Slices::default() }
    }
}

impl Answer<FetchResponse> for FetchAnswer {
    fn response(&mut self) -> &mut FetchResponse {
        &mut self.response
    }

    fn stored_bytes(&self) -> usize {
        self.slices.0.iter().map(|slice| slice.stored.size()).sum()
    }
}

/// The whole frame.
pub(crate) fn frame(api: ApiKey, version: i16, correlation_id: i32, answer: FetchAnswer) -> Result<Frame, Refused> {
    let FetchAnswer { response, mut slices } = answer;
    let mut stored = VecDeque::new();
    let pieces = encode_fetch(version, correlation_id, &response, |topic, partition| {
        let slice = slices.take(topic, partition);
        let size = slice.as_ref().map_or(0, FileSlice::size);
        stored.extend(slice);
        size
    });
    let pieces = pieces.map_err(|source| not_encoded(api, version, source))?;
    let parts = pieces.into_iter().filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(Part::Bytes(bytes)),
        Piece::Gap(_) => stored.pop_front().map(Part::Stored), // one was counted for every gap
    });
    Ok(Frame::Parts(parts.collect()))
}
