//! From a frame to its handler: header, version check, decoding, and the answer's encoding.
//!
//! Look next at `apis.rs` for what is spoken and at `handlers/` for one file per group of APIs.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka::protocol::{self, decode_header, decode_request, encode_response};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::access::enforce::{self, Guarded, Verdict};
use crate::access::peer::Peer;
use crate::access::throttle;
use crate::apis;
use crate::core::Core;
use crate::handlers::{
    acls, admin, cluster, configs, consumer_groups, credentials, fetch, fetch_answer, groups, list_offsets, offsets,
    partitions, produce, quotas, records, sasl, transactions,
};
use crate::outgoing::Frame;
use crate::unsupported;

/// What a handler knows about the request it serves, beside its body.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) address: IpAddr,
    pub(crate) peer: Arc<Peer>,
}

impl Call {
    /// The host and port that the client of this connection is told to connect to.
    pub(crate) fn told(&self) -> (StrBytes, i32) {
        (self.peer.endpoint.host.clone(), self.peer.endpoint.port)
    }
}

/// An answer, now or later.
pub(crate) enum Reply {
    Now(Frame),
    Later(Answering),
    /// Produce with acks=0 has no answer.
    Nothing,
}

/// A request that closes its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("api {key} version {version} is not spoken here")]
    Unsupported { key: i16, version: i16 },
    #[error("a connection asks for {api}, but {reason}")]
    Barred { api: &'static str, reason: &'static str },
    #[error("a request cannot be read")]
    Malformed { source: protocol::Error },
    #[error("an answer to {api} version {version} cannot be written")]
    Answer { api: &'static str, version: i16, source: protocol::Error },
    #[error("records sent without acknowledge were not stored: {code}")]
    Unacknowledged { code: ResponseError },
}

/// Reads the header, and begins what the request asks for. Produce requests are written before this returns.
pub(crate) fn begin(
    core: &Arc<Core>,
    peer: &Arc<Peer>,
    mut frame: Bytes,
    scratch: &mut Vec<u8>,
) -> Result<Reply, Refused> {
    let malformed = |source| Refused::Malformed { source };
    let head = protocol::head(&frame).map_err(malformed)?;
    let unsupported = || {
        let answer = unsupported::answer(head).filter(|_| peer.barred().is_none());
        answer
            .map(|answer| Reply::Now(answer.into()))
            .ok_or(Refused::Unsupported { key: head.api_key, version: head.version })
    };
    let Some(api) = apis::find(head.api_key) else { return unsupported() };
    let begun = Instant::now();
    if let Some(figures) = core.metrics.api(api.key) {
        figures.begun(frame.len());
    }
    if !(api.min..=api.max).contains(&head.version) {
        if api.key == ApiKey::ApiVersions {
            // whatever version was asked for: version 0 can be read by all, and says what to come back with
            let answer = cluster::api_versions(Some(ResponseError::UnsupportedVersion));
            return encode(ApiKey::ApiVersions, 0, head.correlation_id, &answer).map(Reply::Now);
        }
        return unsupported();
    }
    let of_a_login = matches!(api.key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
    if (!of_a_login || peer.failed())
        && let Some(reason) = peer.barred()
    {
        return Err(Refused::Barred { api: api.name, reason });
    }
    let header = decode_header(&mut frame).map_err(malformed)?;
    let call = Call {
        api: api.key,
        version: head.version,
        correlation_id: head.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
        address: peer.address,
        peer: Arc::clone(peer),
    };
    let reply = if api.key == ApiKey::Produce {
        produce::begin(core, &call, frame, scratch)?
    } else {
        Reply::Later(later(Arc::clone(core), call, frame))
    };
    Ok(measured(core, api.key, begun, reply))
}

/// Has the time and the size of an answer counted when it is ready.
fn measured(core: &Arc<Core>, api: ApiKey, begun: Instant, reply: Reply) -> Reply {
    let core = Arc::clone(core);
    let count = move |bytes: usize| {
        if let Some(figures) = core.metrics.api(api) {
            figures.answered(begun.elapsed(), bytes);
        }
    };
    match reply {
        Reply::Later(answer) => Reply::Later(Box::pin(async move {
            let answer = answer.await;
            count(answer.as_ref().map_or(0, Frame::size));
            answer
        })),
        Reply::Now(answer) => {
            count(answer.size());
            Reply::Now(answer)
        }
        Reply::Nothing => {
            count(0);
            Reply::Nothing
        }
    }
}

pub(crate) type Answering = Pin<Box<dyn Future<Output = Result<Frame, Refused>> + Send>>;

fn later(core: Arc<Core>, call: Call, body: Bytes) -> Answering {
    match call.api {
        ApiKey::Fetch => answer_as(core, call, body, fetch::fetch, fetch_answer::frame),
        ApiKey::ListOffsets => answer(core, call, body, list_offsets::list_offsets),
        ApiKey::OffsetForLeaderEpoch => answer(core, call, body, list_offsets::offset_for_leader_epoch),
        ApiKey::Metadata => answer(core, call, body, cluster::metadata),
        ApiKey::DescribeCluster => answer(core, call, body, cluster::describe_cluster),
        ApiKey::DescribeTopicPartitions => answer(core, call, body, partitions::describe_topic_partitions),
        ApiKey::DescribeProducers => answer(core, call, body, partitions::describe_producers),
        ApiKey::ElectLeaders => answer(core, call, body, partitions::elect_leaders),
        ApiKey::ListPartitionReassignments => answer(core, call, body, partitions::list_partition_reassignments),
        ApiKey::FindCoordinator => answer(core, call, body, cluster::find_coordinator),
        ApiKey::OffsetCommit => answer(core, call, body, offsets::commit),
        ApiKey::OffsetFetch => answer(core, call, body, offsets::fetch),
        ApiKey::OffsetDelete => answer(core, call, body, offsets::delete),
        ApiKey::JoinGroup => answer(core, call, body, groups::join),
        ApiKey::SyncGroup => answer(core, call, body, groups::sync),
        ApiKey::Heartbeat => answer(core, call, body, groups::heartbeat),
        ApiKey::LeaveGroup => answer(core, call, body, groups::leave),
        ApiKey::DescribeGroups => answer(core, call, body, groups::describe),
        ApiKey::ListGroups => answer(core, call, body, groups::list),
        ApiKey::DeleteGroups => answer(core, call, body, groups::delete),
        ApiKey::ConsumerGroupHeartbeat => answer(core, call, body, consumer_groups::heartbeat),
        ApiKey::ConsumerGroupDescribe => answer(core, call, body, consumer_groups::describe),
        ApiKey::CreateTopics => answer(core, call, body, admin::create_topics),
        ApiKey::DeleteTopics => answer(core, call, body, admin::delete_topics),
        ApiKey::CreatePartitions => answer(core, call, body, admin::create_partitions),
        ApiKey::DescribeConfigs => answer(core, call, body, configs::describe),
        ApiKey::AlterConfigs => answer(core, call, body, configs::alter),
        ApiKey::IncrementalAlterConfigs => answer(core, call, body, configs::alter_incrementally),
        ApiKey::ListConfigResources => answer(core, call, body, configs::list_resources),
        ApiKey::DeleteRecords => answer(core, call, body, records::delete),
        ApiKey::DescribeLogDirs => answer(core, call, body, records::describe_log_dirs),
        ApiKey::InitProducerId => answer(core, call, body, transactions::init_producer_id),
        ApiKey::AddPartitionsToTxn => answer(core, call, body, transactions::add_partitions),
        ApiKey::AddOffsetsToTxn => answer(core, call, body, transactions::add_offsets),
        ApiKey::EndTxn => answer(core, call, body, transactions::end),
        ApiKey::TxnOffsetCommit => answer(core, call, body, transactions::commit_offsets),
        ApiKey::DescribeTransactions => answer(core, call, body, transactions::describe),
        ApiKey::ListTransactions => answer(core, call, body, transactions::list),
        ApiKey::SaslHandshake => answer(core, call, body, sasl::handshake),
        ApiKey::SaslAuthenticate => answer(core, call, body, sasl::authenticate),
        ApiKey::DescribeAcls => answer(core, call, body, acls::describe),
        ApiKey::CreateAcls => answer(core, call, body, acls::create),
        ApiKey::DeleteAcls => answer(core, call, body, acls::delete),
        ApiKey::DescribeUserScramCredentials => answer(core, call, body, credentials::describe),
        ApiKey::AlterUserScramCredentials => answer(core, call, body, credentials::alter),
        ApiKey::DescribeClientQuotas => answer(core, call, body, quotas::describe),
        ApiKey::AlterClientQuotas => answer(core, call, body, quotas::alter),
        // ApiVersions, and nothing else: `apis::find` has let through only what its table holds
        _ => Box::pin(async move { encode(call.api, call.version, call.correlation_id, &cluster::api_versions(None)) }),
    }
}

/// What a handler gives: the answer to encode, and whatever has to be sent beside it.
pub(crate) trait Answer<T>: From<T> {
    fn response(&mut self) -> &mut T;

    /// Bytes of records that are sent beside the encoded answer.
    fn stored_bytes(&self) -> usize {
        0
    }
}

impl<T> Answer<T> for T {
    fn response(&mut self) -> &mut T {
        self
    }
}

/// Decodes, handles, encodes.
fn answer<R, F>(
    core: Arc<Core>,
    call: Call,
    body: Bytes,
    handler: impl FnOnce(Arc<Core>, Call, R) -> F + Send + 'static,
) -> Answering
where
    R: Guarded + Send + 'static,
    R::Response: Send,
    F: Future<Output = R::Response> + Send,
{
    answer_as(core, call, body, handler, |api, version, correlation_id, response| {
        encode(api, version, correlation_id, &response)
    })
}

/// The same for an answer with an encoding of its own.
fn answer_as<R, F>(
    core: Arc<Core>,
    call: Call,
    mut body: Bytes,
    handler: impl FnOnce(Arc<Core>, Call, R) -> F + Send + 'static,
    encode: impl FnOnce(ApiKey, i16, i32, F::Output) -> Result<Frame, Refused> + Send + 'static,
) -> Answering
where
    R: Guarded + Send + 'static,
    R::Response: Send,
    F: Future<Output: Answer<R::Response> + Send> + Send,
{
    Box::pin(async move {
        let (api, version, correlation_id) = (call.api, call.version, call.correlation_id);
        let mut request: R = decode_request(&mut body, version).map_err(|source| Refused::Malformed { source })?;
        drop(body); // names and member data keep what they need of it alive
        let bill = throttle::Bill::of(&core, &call);
        let amendment = match enforce::judge(&core, &call.peer, version, &mut request) {
            Verdict::Refuse(mut response) => {
                bill.charge::<R>(&mut response, Duration::ZERO, 0);
                return encode(api, version, correlation_id, response.into());
            }
            Verdict::Amend(amendment) => Some(amendment),
            Verdict::Pass => None,
        };
        let (mut answer, taken) = throttle::timed(handler(core, call, request)).await;
        if let Some(amendment) = amendment {
            amendment(answer.response());
        }
        let stored_bytes = answer.stored_bytes();
        bill.charge::<R>(answer.response(), taken, stored_bytes);
        encode(api, version, correlation_id, answer)
    })
}

/// A whole answer frame.
pub(crate) fn encode<R: kafka_protocol::protocol::Encodable>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Frame, Refused> {
    let encoded = encode_response(api, version, correlation_id, response);
    encoded.map(Frame::from).map_err(|source| not_encoded(api, version, source))
}

pub(crate) fn not_encoded(api: ApiKey, version: i16, source: protocol::Error) -> Refused {
    let api = crate::metrics::api_name(api);
    tracing::error!(api, version, error = %source, "an answer cannot be encoded");
    Refused::Answer { api, version, source }
}
