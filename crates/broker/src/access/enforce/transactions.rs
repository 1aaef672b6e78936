//! Transactions: whoever writes in one asks for WRITE on its id, and for what it touches as anybody else does.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, ListTransactionsRequest,
    ListTransactionsResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};

use super::{
    Asking, CLUSTER_DENIED, GROUP_DENIED, Guarded, TOPIC_DENIED, TRANSACTION_DENIED, Verdict, tells_throttling,
};
use crate::access::rules::{Operation, Resource};

fn not_added(topic: &AddPartitionsToTxnTopic, code: i16) -> AddPartitionsToTxnTopicResult {
    let parts = topic.partitions.iter().map(|index| {
        AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code)
    });
    AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(parts.collect())
}

impl Guarded for AddPartitionsToTxnRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<AddPartitionsToTxnResponse> {
        if asking.version >= 4 {
            // the form that brokers use among themselves
            if asking.cluster(Operation::ClusterAction) {
                return Verdict::Pass;
            }
            return Verdict::Refuse(AddPartitionsToTxnResponse::default().with_error_code(CLUSTER_DENIED));
        }
        let topics = &self.v3_and_below_topics;
        let known = asking.transaction(Operation::Write, &self.v3_and_below_transactional_id);
        let allowed = |topic: &AddPartitionsToTxnTopic| asking.topic(Operation::Write, &topic.name);
        if known && topics.iter().all(allowed) {
            return Verdict::Pass;
        }
        // all partitions of one request are added, or none
        let code = |topic: &AddPartitionsToTxnTopic| match (known, allowed(topic)) {
            (false, _) => TRANSACTION_DENIED,
            (true, false) => TOPIC_DENIED,
            (true, true) => ResponseError::OperationNotAttempted.code(),
        };
        let results = topics.iter().map(|topic| not_added(topic, code(topic))).collect();
        Verdict::Refuse(AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results))
    }

    tells_throttling!();
}

impl Guarded for AddOffsetsToTxnRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<AddOffsetsToTxnResponse> {
        let refused = |code| Verdict::Refuse(AddOffsetsToTxnResponse::default().with_error_code(code));
        if !asking.transaction(Operation::Write, &self.transactional_id) {
            return refused(TRANSACTION_DENIED);
        }
        if asking.group(Operation::Read, &self.group_id) { Verdict::Pass } else { refused(GROUP_DENIED) }
    }

    tells_throttling!();
}

impl Guarded for EndTxnRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<EndTxnResponse> {
        if asking.transaction(Operation::Write, &self.transactional_id) {
            return Verdict::Pass;
        }
        Verdict::Refuse(EndTxnResponse::default().with_error_code(TRANSACTION_DENIED))
    }

    tells_throttling!();
}

fn not_committed(topic: TxnOffsetCommitRequestTopic, code: i16) -> TxnOffsetCommitResponseTopic {
    let parts = topic.partitions.iter().map(|part| {
        TxnOffsetCommitResponsePartition::default().with_partition_index(part.partition_index).with_error_code(code)
    });
    TxnOffsetCommitResponseTopic::default().with_partitions(parts.collect()).with_name(topic.name)
}

impl Guarded for TxnOffsetCommitRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<TxnOffsetCommitResponse> {
        let code = if !asking.transaction(Operation::Write, &self.transactional_id) {
            TRANSACTION_DENIED
        } else if !asking.group(Operation::Read, &self.group_id) {
            GROUP_DENIED
        } else {
            let denied = asking.take_out(&mut self.topics, |topic| asking.topic(Operation::Read, &topic.name));
            return Verdict::unless_empty(denied, |answer: &mut TxnOffsetCommitResponse, denied| {
                answer.topics.extend(denied.into_iter().map(|topic| not_committed(topic, TOPIC_DENIED)));
            });
        };
        let all = std::mem::take(&mut self.topics).into_iter().map(|topic| not_committed(topic, code));
        Verdict::Refuse(TxnOffsetCommitResponse::default().with_topics(all.collect()))
    }

    tells_throttling!();
}

impl Guarded for DescribeTransactionsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<DescribeTransactionsResponse> {
        let denied = asking.take_out(&mut self.transactional_ids, |id| asking.transaction(Operation::Describe, id));
        let rights = asking.keep();
        Verdict::amend(move |answer: &mut DescribeTransactionsResponse| {
            for state in &mut answer.transaction_states {
                state.topics.retain(|topic| rights.may(Operation::Describe, Resource::Topic, &topic.topic));
            }
            let refused =
                |id| TransactionState::default().with_transactional_id(id).with_error_code(TRANSACTION_DENIED);
            answer.transaction_states.extend(denied.into_iter().map(refused));
        })
    }

    tells_throttling!();
}

impl Guarded for ListTransactionsRequest {
    fn guard(&mut self, asking: &Asking<'_>) -> Verdict<ListTransactionsResponse> {
        let rights = asking.keep();
        Verdict::amend(move |answer: &mut ListTransactionsResponse| {
            let known = |id: &str| rights.may(Operation::Describe, Resource::TransactionalId, id);
            answer.transaction_states.retain(|state| known(&state.transactional_id));
        })
    }

    tells_throttling!();
}
