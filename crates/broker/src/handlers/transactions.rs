//! Producers with an id and their transactions: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit,
//! EndTxn, DescribeTransactions, ListTransactions.
//!
//! The decisions are those of `transactions/state.rs`; this file translates. A fenced producer is told so by a code of
//! its own only in the versions that know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState as DescribedTransaction};
use kafka_protocol::messages::list_transactions_response::TransactionState as ListedTransaction;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestPartition;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::timeout;

use super::{result_code, text};
use crate::commit::Ticket;
use crate::coordinator::{Committed, Speaker};
use crate::core::{Core, coordinator_error_code};
use crate::dispatch::Call;
use crate::limits::{ENDING_WAIT_MAX, OFFSET_NOTE_BYTES_MAX, TRANSACTIONAL_ID_BYTES_MAX};
use crate::topics::{OFFSETS_TOPIC, is_internal};
use crate::transactions::{Answer, Place, Request, Transaction, Who};

/// Where offsets of all groups are written.
fn offsets_place() -> Place {
    (OFFSETS_TOPIC.to_owned(), 0)
}

fn who(producer_id: ProducerId, epoch: i16) -> Who {
    Who { producer_id: producer_id.0, epoch }
}

fn check_id(id: &str) -> Result<(), ResponseError> {
    if id.is_empty() || id.len() > TRANSACTIONAL_ID_BYTES_MAX { Err(ResponseError::InvalidRequest) } else { Ok(()) }
}

/// Hands a request to a transactional id and waits until what it decided is durable.
async fn decide(core: &Core, id: &str, request: Request) -> Result<Answer, ResponseError> {
    check_id(id)?;
    let (answer, ticket) = core.transactions.step(id, request)?;
    if let Answer::Refused(error) = answer {
        return Err(error); // it may have fenced somebody: that becomes durable with the markers
    }
    durable(ticket).await?;
    Ok(answer)
}

async fn durable(ticket: Option<Ticket>) -> Result<(), ResponseError> {
    let Some(ticket) = ticket else { return Ok(()) };
    ticket.durable().await.map_err(|error| coordinator_error_code(&error))
}

/// Versions before `since` know fenced producers only by their epoch.
fn fenced<T>(result: Result<T, ResponseError>, version: i16, since: i16) -> Result<T, ResponseError> {
    result.map_err(|error| match error {
        ResponseError::ProducerFenced if version < since => ResponseError::InvalidProducerEpoch,
        other => other,
    })
}

pub(crate) async fn init_producer_id(
    core: Arc<Core>,
    call: Call,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let ready = fenced(init(&core, &request).await, call.version, 4);
    core.metrics.count_error(call.api, result_code(&ready));
    let response = InitProducerIdResponse::default().with_error_code(result_code(&ready));
    let Who { producer_id, epoch } = ready.unwrap_or(Who { producer_id: -1, epoch: -1 });
    response.with_producer_id(ProducerId(producer_id)).with_producer_epoch(epoch)
}

/// An idempotent producer gets an id of its own each time; one with a transactional id continues under it.
async fn init(core: &Core, request: &InitProducerIdRequest) -> Result<Who, ResponseError> {
    let was = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (producer_id, epoch) if producer_id >= 0 && epoch >= 0 => Some(Who { producer_id, epoch }),
        _ => return Err(ResponseError::InvalidRequest),
    };
    let fresh_id = core.producer_ids.take().map_err(|error| {
        tracing::error!(error = %daemon::report(&error), "cannot reserve producer ids");
        ResponseError::CoordinatorNotAvailable
    })?;
    let Some(id) = &request.transactional_id else { return Ok(Who { producer_id: fresh_id, epoch: 0 }) };
    let timeout_ms = request.transaction_timeout_ms;
    match decide(core, id, Request::Init { timeout_ms, was, fresh_id }).await? {
        Answer::Ready(who) => Ok(who),
        _ => Err(ResponseError::UnknownServerError),
    }
}

pub(crate) async fn add_partitions(
    core: Arc<Core>,
    call: Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if call.version < 4 {
        let who = who(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch);
        let topics = request.v3_and_below_topics;
        let results = add(&core, &call, &request.v3_and_below_transactional_id, who, topics, false).await;
        return AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results);
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for one in request.transactions {
        let who = who(one.producer_id, one.producer_epoch);
        let topics = add(&core, &call, &one.transactional_id, who, one.topics, one.verify_only).await;
        let result = AddPartitionsToTxnResult::default().with_transactional_id(one.transactional_id);
        results.push(result.with_topic_results(topics));
    }
    AddPartitionsToTxnResponse::default().with_results_by_transaction(results)
}

/// Adds all of the partitions or none, or says which of them the transaction has.
async fn add(
    core: &Core,
    call: &Call,
    id: &TransactionalId,
    who: Who,
    topics: Vec<AddPartitionsToTxnTopic>,
    verify_only: bool,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let places: Vec<Place> = topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.to_string(), *partition)))
        .collect();
    let missing = |place: &Place| {
        let topic = core.topics.get(&place.0);
        match topic.as_ref().and_then(|topic| topic.partition(place.1)) {
            _ if is_internal(&place.0) => Some(ResponseError::InvalidTopicException),
            None => Some(ResponseError::UnknownTopicOrPartition),
            Some(_) => None,
        }
    };
    let codes: Vec<Option<ResponseError>> = if verify_only {
        let admitted = |place: &Place| core.transactions.inside(id, who, place, || ()).err();
        let abortable = |error| match error {
            ResponseError::InvalidTxnState => ResponseError::TransactionAbortable,
            other => other,
        };
        places.iter().map(|place| admitted(place).map(abortable)).collect()
    } else if places.iter().any(|place| missing(place).is_some()) {
        places.iter().map(|place| missing(place).or(Some(ResponseError::OperationNotAttempted))).collect()
    } else {
        let added = decide(core, id, Request::Add { who, partitions: places.clone() }).await;
        let error = fenced(added, call.version, 2).err();
        places.iter().map(|_| error).collect()
    };
    let mut codes = codes.into_iter().map(|error| error.map_or(0, |error| error.code()));
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        let result = |(partition, code)| {
            core.metrics.count_error(call.api, code);
            AddPartitionsToTxnPartitionResult::default().with_partition_index(partition).with_partition_error_code(code)
        };
        let partitions = topic.partitions.into_iter().zip(codes.by_ref()).map(result).collect();
        let result = AddPartitionsToTxnTopicResult::default().with_name(topic.name);
        results.push(result.with_results_by_partition(partitions));
    }
    results
}

pub(crate) async fn add_offsets(
    core: Arc<Core>,
    call: Call,
    request: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let who = who(request.producer_id, request.producer_epoch);
    let added = if request.group_id.is_empty() {
        Err(ResponseError::InvalidGroupId)
    } else {
        decide(&core, &request.transactional_id, Request::Add { who, partitions: vec![offsets_place()] }).await
    };
    let code = result_code(&fenced(added, call.version, 2));
    core.metrics.count_error(call.api, code);
    AddOffsetsToTxnResponse::default().with_error_code(code)
}

pub(crate) async fn end(core: Arc<Core>, call: Call, request: EndTxnRequest) -> EndTxnResponse {
    let code = result_code(&fenced(end_one(&core, &request).await, call.version, 2));
    core.metrics.count_error(call.api, code);
    EndTxnResponse::default().with_error_code(code)
}

/// Answers when the markers are durable, so that the producer's next transaction need not wait.
async fn end_one(core: &Core, request: &EndTxnRequest) -> Result<(), ResponseError> {
    let who = who(request.producer_id, request.producer_epoch);
    let id: &str = &request.transactional_id;
    let answer = decide(core, id, Request::End { who, commit: request.committed }).await?;
    if answer != Answer::Ending {
        return Ok(());
    }
    tokio::select! { // cancel-safe: both arms only wait, the end is carried out in any case
        settled = timeout(ENDING_WAIT_MAX, core.transactions.settled(id)) => {
            settled.map_err(|_| ResponseError::ConcurrentTransactions)
        }
        () = core.committer.failure().raised() => Err(ResponseError::CoordinatorNotAvailable),
    }
}

pub(crate) async fn commit_offsets(
    core: Arc<Core>,
    call: Call,
    request: TxnOffsetCommitRequest,
) -> TxnOffsetCommitResponse {
    let mut accepted = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for part in &topic.partitions {
            let checked = check_offset(&core, &topic.name, part);
            let code = result_code(&checked);
            accepted.extend(checked.ok().map(|committed| (topic.name.to_string(), part.partition_index, committed)));
            let answer = TxnOffsetCommitResponsePartition::default().with_partition_index(part.partition_index);
            answers.push(answer.with_error_code(code));
        }
        topics.push(TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(answers));
    }
    let code = result_code(&store_offsets(&core, &call, &request, accepted).await);
    for answer in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if answer.error_code == 0 {
            answer.error_code = code;
        }
        core.metrics.count_error(call.api, answer.error_code);
    }
    TxnOffsetCommitResponse::default().with_topics(topics)
}

fn check_offset(
    core: &Core,
    topic: &TopicName,
    part: &TxnOffsetCommitRequestPartition,
) -> Result<Committed, ResponseError> {
    let known = core.topics.get(topic);
    if known.as_ref().and_then(|topic| topic.partition(part.partition_index)).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let note = part.committed_metadata.as_ref().map_or("", |note| note.as_str());
    if note.len() > OFFSET_NOTE_BYTES_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(Committed {
        offset: part.committed_offset,
        leader_epoch: part.committed_leader_epoch,
        metadata: note.to_owned(),
        time_ms: core.clock.now_ms(),
    })
}

/// Writes the offsets under the lock of the transaction and that of the group.
async fn store_offsets(
    core: &Core,
    call: &Call,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<(String, i32, Committed)>,
) -> Result<(), ResponseError> {
    let producer = who(request.producer_id, request.producer_epoch);
    let speaker = Speaker {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation: request.generation_id,
        knows_epochs: true, // the field has meant a member epoch as well in all versions that have it
    };
    let group: &str = &request.group_id;
    let written = core.transactions.inside(&request.transactional_id, producer, &offsets_place(), || {
        core.groups.commit_in_transaction(group, &speaker, || {
            core.offsets.commit_pending(group, (producer.producer_id, producer.epoch), offsets)
        })
    });
    let ticket = written.map_err(|error| match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        ResponseError::InvalidTxnState if call.version >= 4 => ResponseError::TransactionAbortable,
        other => other,
    })???;
    durable(ticket).await
}

pub(crate) async fn describe(
    core: Arc<Core>,
    call: Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let one = |id: TransactionalId| {
        let described = DescribedTransaction::default().with_transactional_id(id.clone());
        match core.transactions.describe(&id) {
            Some(transaction) => describe_one(described, &transaction),
            None => {
                let code = ResponseError::TransactionalIdNotFound.code();
                core.metrics.count_error(call.api, code);
                described.with_error_code(code)
            }
        }
    };
    DescribeTransactionsResponse::default()
        .with_transaction_states(request.transactional_ids.into_iter().map(one).collect())
}

fn describe_one(described: DescribedTransaction, transaction: &Transaction) -> DescribedTransaction {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &transaction.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topic = |(name, partitions): (&str, Vec<i32>)| {
        TopicData::default().with_topic(TopicName(text(name))).with_partitions(partitions)
    };
    described
        .with_transaction_state(StrBytes::from_static_str(transaction.phase.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.started_ms)
        .with_producer_id(ProducerId(transaction.producer_id))
        .with_producer_epoch(transaction.epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}

pub(crate) async fn list(core: Arc<Core>, call: Call, request: ListTransactionsRequest) -> ListTransactionsResponse {
    const STATES: [&str; 8] = [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ];
    let (known, unknown): (Vec<StrBytes>, Vec<StrBytes>) =
        request.state_filters.into_iter().partition(|state| STATES.contains(&state.as_str()));
    if known.is_empty() && !unknown.is_empty() {
        return ListTransactionsResponse::default().with_unknown_state_filters(unknown);
    }
    let now_ms = core.clock.now_ms();
    let duration_ms = if call.version >= 1 { request.duration_filter } else { -1 };
    let wanted = |transaction: &Transaction| {
        let (phase, id) = (transaction.phase.name(), ProducerId(transaction.producer_id));
        let lasts_ms = now_ms.saturating_sub(transaction.started_ms);
        (known.is_empty() || known.iter().any(|state| state.as_str() == phase))
            && (request.producer_id_filters.is_empty() || request.producer_id_filters.contains(&id))
            && (duration_ms < 0 || (transaction.started_ms >= 0 && lasts_ms > duration_ms))
    };
    let mut listed: Vec<(String, Transaction)> = core.transactions.all();
    listed.retain(|(_, transaction)| wanted(transaction));
    listed.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let entry = |(id, transaction): (String, Transaction)| {
        ListedTransaction::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(ProducerId(transaction.producer_id))
            .with_transaction_state(StrBytes::from_static_str(transaction.phase.name()))
    };
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown)
        .with_transaction_states(listed.into_iter().map(entry).collect())
}
