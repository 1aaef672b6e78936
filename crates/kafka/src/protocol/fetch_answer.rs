//! The answer to a fetch in pieces, so that stored records need not be copied into it.
//!
//! A partition's records are the last field of its part of the answer; everything before them is the codec's, and is
//! encoded with empty records. What follows is their length, and then either bytes that are at hand or a gap that the
//! sender fills from a file.
//! Invariant: with all gaps filled the pieces are, byte for byte, what the codec would have made (see the test).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchResponse, ResponseHeader};
use kafka_protocol::protocol::Encodable;

use super::Error;

/// First version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;

/// A stretch of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Bytes(Bytes),
    /// So many bytes of records that the sender has elsewhere; never zero.
    Gap(usize),
}

/// A whole answer frame, length prefix included. A partition without records (`None`) has a gap instead; `gap` is asked
/// how many bytes the sender will put into it.
pub fn encode_fetch(
    version: i16,
    correlation_id: i32,
    response: &FetchResponse,
    mut gap: impl FnMut(&FetchableTopicResponse, &PartitionData) -> usize,
) -> Result<Vec<Piece>, Error> {
    let mut answer = Answer { version, flexible: version >= FLEXIBLE, pieces: Vec::new(), tail: BytesMut::new() };
    answer.tail.put_i32(0); // the length, known at the end
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    answer.codec(&header, i16::from(answer.flexible))?;
    answer.tail.put_i32(response.throttle_time_ms);
    if version >= 7 {
        answer.tail.put_i16(response.error_code);
        answer.tail.put_i32(response.session_id);
    }
    answer.count(response.responses.len())?;
    for topic in &response.responses {
        answer.topic(topic, &mut gap)?;
    }
    answer.no_tags();
    answer.finish()
}

struct Answer {
    version: i16,
    flexible: bool,
    pieces: Vec<Piece>,
    tail: BytesMut,
}

impl Answer {
    fn codec(&mut self, message: &impl Encodable, version: i16) -> Result<(), Error> {
        message.encode(&mut self.tail, version).map_err(|error| Error::Encode { reason: error.to_string() })
    }

    fn topic(
        &mut self,
        topic: &FetchableTopicResponse,
        gap: &mut impl FnMut(&FetchableTopicResponse, &PartitionData) -> usize,
    ) -> Result<(), Error> {
        if self.version >= TOPIC_IDS {
            self.tail.put_slice(topic.topic_id.as_bytes());
        } else if self.flexible {
            self.count(topic.topic.len())?;
            self.tail.put_slice(topic.topic.as_bytes());
        } else {
            let length = i16::try_from(topic.topic.len());
            self.tail.put_i16(length.map_err(|error| Error::Encode { reason: error.to_string() })?);
            self.tail.put_slice(topic.topic.as_bytes());
        }
        self.count(topic.partitions.len())?;
        for partition in &topic.partitions {
            let gap = if partition.records.is_none() { gap(topic, partition) } else { 0 };
            self.partition(partition, gap)?;
        }
        self.no_tags();
        Ok(())
    }

    fn partition(&mut self, partition: &PartitionData, gap: usize) -> Result<(), Error> {
        let records = partition.records.clone().unwrap_or_default();
        let size = if gap > 0 { gap } else { records.len() };
        // with empty records the codec ends with their length, and with the end of the tagged fields
        let bare = partition.clone().with_records(Some(Bytes::new()));
        self.codec(&bare, self.version)?;
        let end: &[u8] = if self.flexible { &[1, 0] } else { &[0; 4] };
        if !self.tail.ends_with(end) {
            return Err(Error::Encode { reason: "records are not the last field of a partition".to_owned() });
        }
        self.tail.truncate(self.tail.len() - end.len());
        self.count(size)?;
        if gap > 0 {
            self.flush();
            self.pieces.push(Piece::Gap(gap));
        } else if !records.is_empty() {
            self.flush();
            self.pieces.push(Piece::Bytes(records));
        }
        self.no_tags();
        Ok(())
    }

    /// The length of an array, a compact string or records.
    fn count(&mut self, count: usize) -> Result<(), Error> {
        let count = i32::try_from(count).map_err(|error| Error::Encode { reason: error.to_string() })?;
        if !self.flexible {
            self.tail.put_i32(count);
            return Ok(());
        }
        let mut rest = count.unsigned_abs() + 1;
        while rest >= 0x80 {
            self.tail.put_u8(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
            rest >>= 7;
        }
        self.tail.put_u8(u8::try_from(rest).expect("seven bits"));
        Ok(())
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.tail.put_u8(0);
        }
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(Piece::Bytes(self.tail.split().freeze()));
        }
    }

    /// Puts the length in front.
    fn finish(mut self) -> Result<Vec<Piece>, Error> {
        self.flush();
        let sizes = self.pieces.iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Gap(size) => *size,
        });
        let size =
            i32::try_from(sizes.sum::<usize>() - 4).map_err(|error| Error::Encode { reason: error.to_string() })?;
        if let Some(Piece::Bytes(first)) = self.pieces.first_mut() {
            let mut bytes = BytesMut::from(std::mem::take(first));
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            *first = bytes.freeze();
        }
        Ok(self.pieces)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::AbortedTransaction;
    use kafka_protocol::messages::{ApiKey, ProducerId, TopicName};
    use kafka_protocol::protocol::StrBytes;

    use super::*;

    fn partition(index: i32, version: i16) -> PartitionData {
        let aborted = AbortedTransaction::default().with_producer_id(ProducerId(9)).with_first_offset(4);
        let partition = PartitionData::default()
            .with_partition_index(index)
            .with_high_watermark(77)
            .with_last_stable_offset(70)
            .with_log_start_offset(if version >= 5 { 3 } else { -1 })
            .with_aborted_transactions((index % 2 == 0).then(|| vec![aborted]));
        if version >= 11 { partition.with_preferred_read_replica((-1).into()) } else { partition }
    }

    fn answer(version: i16, records: &[Option<Vec<u8>>]) -> FetchResponse {
        let topic = |name: &'static str, records: &[Option<Vec<u8>>]| {
            let partitions = (0..).zip(records);
            let partitions = partitions
                .map(|(index, records)| partition(index, version).with_records(records.clone().map(Bytes::from)));
            let topic = FetchableTopicResponse::default().with_partitions(partitions.collect());
            if version >= TOPIC_IDS {
                topic.with_topic_id(uuid::Uuid::from_u128(name.len() as u128))
            } else {
                topic.with_topic(TopicName(StrBytes::from_static_str(name)))
            }
        };
        let response = FetchResponse::default()
            .with_throttle_time_ms(5)
            .with_responses(vec![topic("telemetry.clean", &records[..2]), topic("events", &records[2..])]);
        if version >= 7 { response.with_session_id(41) } else { response }
    }

    // STR-08, STR-10
    #[test]
    fn the_pieces_are_what_the_codec_makes() {
        let records = [vec![1; 300], Vec::new(), vec![3; 20_000], vec![4; 5]];
        let all = records.clone().map(Some);
        for version in 4..=18 {
            let whole = answer(version, &all);
            let expected = super::super::encode_response(ApiKey::Fetch, version, 17, &whole).unwrap();
            for cut_out in 0_u8..16 {
                let cut = |index: &usize| cut_out >> index & 1 == 1;
                let kept: Vec<_> = (0..4).map(|index| (!cut(&index)).then(|| records[index].clone())).collect();
                let mut sizes = (0..4).filter(cut).map(|index| records[index].len());
                let pieces = encode_fetch(version, 17, &answer(version, &kept), |_, _| sizes.next().unwrap()).unwrap();
                let mut fill = (0..4).filter(cut).map(|index| &records[index]).filter(|records| !records.is_empty());
                let made: Vec<u8> = pieces
                    .iter()
                    .flat_map(|piece| match piece {
                        Piece::Bytes(bytes) => bytes.to_vec(),
                        Piece::Gap(size) => {
                            let records = fill.next().unwrap();
                            assert_eq!(records.len(), *size);
                            records.clone()
                        }
                    })
                    .collect();
                assert!(made == expected, "version {version}, gaps {cut_out:b}");
            }
        }
    }

    #[test]
    fn an_error_answer_has_no_pieces_but_one() {
        let response = FetchResponse::default().with_error_code(70);
        let pieces = encode_fetch(12, 1, &response, |_, _| 0).unwrap();
        let expected = super::super::encode_response(ApiKey::Fetch, 12, 1, &response).unwrap();
        assert_eq!(pieces, [Piece::Bytes(expected)]);
    }
}
