//! Produce.
//!
//! Batches are stored as they come; only their headers are read, and the keys of what a compacted topic gets. What a
//! request brings is written while the request is read, in order; the answer follows when the disk has it. Records of a
//! transaction are written under its lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use commitlog::batch::{Batches, Header};
use kafka::protocol::decode_request;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::access::enforce::{self, Verdict};
use crate::access::throttle::Bill;
use crate::codec::Codecs;
use crate::core::{Core, log_error_code, sync_error_code};
use crate::dispatch::{Call, Refused, Reply, encode};
use crate::partition::Partition;
use crate::topics::Topic;
use crate::transactions::Who;

/// Writes what the request brings. `scratch` is the connection's buffer for the bytes whose headers are patched.
pub(crate) fn begin(core: &Arc<Core>, call: &Call, mut body: Bytes, scratch: &mut Vec<u8>) -> Result<Reply, Refused> {
    let size = body.len();
    let decoded = decode_request(&mut body, call.version);
    let mut request: ProduceRequest = decoded.map_err(|source| Refused::Malformed { source })?;
    let bill = Bill::of(core, call);
    let verdict = enforce::judge(core, &call.peer, call.version, &mut request);
    let refusal = refuse(core, &request);
    let mut written = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for data in &request.topic_data {
        responses.push(write_topic(core, call, &request, data, refusal, &mut written, scratch));
    }
    let mut response = ProduceResponse::default().with_responses(responses);
    match verdict {
        Verdict::Refuse(refused) => response = refused,
        Verdict::Amend(amendment) => amendment(&mut response),
        Verdict::Pass => {}
    }
    bill.charge_produce(&mut response, size);
    if request.acks == 0 {
        let mut codes = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        if let Some(failed) = codes.find(|partition| partition.error_code != 0) {
            // there is no answer to put it in: the closed connection tells the client
            let code = ResponseError::try_from_code(failed.error_code).unwrap_or(ResponseError::UnknownServerError);
            return Err(Refused::Unacknowledged { code });
        }
        drop(core.acknowledge(&written)); // synced soon, waited for by nobody
        return Ok(Reply::Nothing);
    }
    let (api, version, correlation_id) = (call.api, call.version, call.correlation_id);
    let Some(ticket) = core.acknowledge(&written) else {
        return encode(api, version, correlation_id, &response).map(Reply::Now);
    };
    let core = Arc::clone(core);
    Ok(Reply::Later(Box::pin(async move {
        let mut response = response;
        if let Err(error) = ticket.durable().await {
            let code = sync_error_code(&error).code();
            for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
                if partition.error_code == 0 {
                    core.metrics.count_error(api, code);
                    partition.error_code = code;
                    partition.base_offset = -1;
                }
            }
        }
        encode(api, version, correlation_id, &response)
    })))
}

/// What is wrong with the request as a whole.
fn refuse(core: &Core, request: &ProduceRequest) -> Option<ResponseError> {
    if !(-1..=1).contains(&request.acks) {
        return Some(ResponseError::InvalidRequiredAcks);
    }
    if core.committer.failure().reason().is_some() {
        return Some(ResponseError::KafkaStorageError);
    }
    None
}

fn write_topic(
    core: &Core,
    call: &Call,
    request: &ProduceRequest,
    data: &TopicProduceData,
    refusal: Option<ResponseError>,
    written: &mut Vec<Arc<Partition>>,
    scratch: &mut Vec<u8>,
) -> TopicProduceResponse {
    let by_id = call.version >= 13;
    let topic = if by_id { core.topics.by_id(data.topic_id) } else { core.topics.get(&data.name) };
    let missing = if by_id { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition };
    let topic = topic.ok_or(missing);
    let mut answers = Vec::with_capacity(data.partition_data.len());
    for part in &data.partition_data {
        let mut answer = PartitionProduceResponse::default().with_index(part.index);
        let keyless = match &topic {
            Ok(topic) if refusal.is_none() && topic.config.compacted() => {
                keyless(part.records.as_deref().unwrap_or_default())
            }
            _ => Vec::new(),
        };
        let stored = match (refusal, &topic) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(*error),
            (None, Ok(_)) if !keyless.is_empty() => Err(ResponseError::InvalidRecord),
            (None, Ok(topic)) => write(core, call, request, topic, part, scratch),
        };
        answers.push(match stored {
            Ok((partition, base_offset)) => {
                let start = partition.log.start_offset();
                written.push(partition);
                answer.with_base_offset(base_offset).with_log_start_offset(start)
            }
            Err(error) => {
                core.metrics.count_error(call.api, error.code());
                if !keyless.is_empty() && call.version >= 8 {
                    answer.error_message = Some(StrBytes::from_static_str("records of a compacted topic need keys"));
                    answer.record_errors = keyless;
                }
                answer.with_error_code(error.code()).with_base_offset(-1)
            }
        });
    }
    TopicProduceResponse::default()
        .with_name(data.name.clone())
        .with_topic_id(data.topic_id)
        .with_partition_responses(answers)
}

fn write(
    core: &Core,
    call: &Call,
    request: &ProduceRequest,
    topic: &Topic,
    part: &PartitionProduceData,
    scratch: &mut Vec<u8>,
) -> Result<(Arc<Partition>, i64), ResponseError> {
    let partition = topic.partition(part.index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    if topic.internal() {
        return Err(ResponseError::InvalidTopicException);
    }
    if !core.disk.takes(&topic.name) {
        return Err(ResponseError::NotEnoughReplicas);
    }
    let records = part.records.as_ref().filter(|records| !records.is_empty()).ok_or(ResponseError::InvalidRecord)?;
    let producer = producer(records)?;
    scratch.clear();
    scratch.extend_from_slice(records);
    let begun = Instant::now();
    let mut append = || partition.log.append(scratch);
    let appended = match producer {
        None => append(),
        Some(who) => {
            let id = request.transactional_id.as_ref().ok_or(ResponseError::TransactionalIdAuthorizationFailed)?;
            let place = (topic.name.to_string(), part.index);
            let inside = core.transactions.inside(id, who, &place, append);
            inside.map_err(|error| outside(error, call.version))?
        }
    };
    core.metrics.append_seconds.observe(begun.elapsed().as_secs_f64());
    match appended {
        Ok(appended) => {
            partition.received_bytes.fetch_add(u64::try_from(appended.bytes).unwrap_or(0), Ordering::Relaxed);
            Ok((Arc::clone(partition), appended.duplicate.unwrap_or(appended.base_offset)))
        }
        Err(error) => {
            if error.no_space() {
                core.disk.found_full();
            } else if matches!(error, commitlog::Error::Io { .. }) {
                let (topic, partition) = (topic.name.as_str(), partition.index);
                tracing::error!(topic, partition, error = %daemon::report(&error), "cannot write records");
            } else {
                let (topic, partition) = (topic.name.as_str(), partition.index);
                tracing::debug!(topic, partition, error = %daemon::report(&error), "records were refused");
            }
            Err(log_error_code(&error))
        }
    }
}

/// The records that a compacted topic refuses, of the first batch that has any.
fn keyless(records: &[u8]) -> Vec<BatchIndexAndErrorMessage> {
    let without = Batches::new(records).flatten().map(|(header, batch)| commitlog::keyless(&header, batch, &Codecs));
    let why = || Some(StrBytes::from_static_str("it has no key"));
    let wrong =
        |index| BatchIndexAndErrorMessage::default().with_batch_index(index).with_batch_index_error_message(why());
    without.filter(|indices| !indices.is_empty()).take(1).flatten().map(wrong).collect()
}

/// Whose transaction the records belong to; refuses what no client may write. What is malformed is judged by the log.
fn producer(records: &[u8]) -> Result<Option<Who>, ResponseError> {
    let mut producer = None;
    for (header, _) in Batches::new(records).flatten() {
        let Header { producer_id, producer_epoch: epoch, base_sequence, .. } = header;
        let numbered = producer_id >= 0 && epoch >= 0 && base_sequence >= 0;
        if header.control() || (producer_id >= 0 && !numbered) || (header.transactional() && !numbered) {
            return Err(ResponseError::InvalidRecord);
        }
        if header.transactional() && *producer.get_or_insert(Who { producer_id, epoch }) != (Who { producer_id, epoch })
        {
            return Err(ResponseError::InvalidRecord); // one request, one producer
        }
    }
    Ok(producer)
}

/// The code for records that no open transaction of their producer admits. From version 11 on a client can tell one that
/// it may abort from one that it may not.
fn outside(error: ResponseError, version: i16) -> ResponseError {
    match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        ResponseError::InvalidTxnState if version >= 11 => ResponseError::TransactionAbortable,
        other => other,
    }
}
