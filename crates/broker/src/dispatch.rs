//! From a frame to its handler: header, version check, decoding, and the answer's encoding.
//!
//! Look next at `apis.rs` for what is spoken and at `handlers/` for one file per group of APIs.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use kafka::protocol::{self, decode_header, decode_request, encode_response};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request;

use crate::apis;
use crate::core::Core;
use crate::handlers::{admin, cluster, configs, fetch, groups, list_offsets, offsets, produce, records};
use crate::metrics::ApiLabel;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
}

/// What a handler knows about the request it serves, beside its body.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) address: IpAddr,
}

/// An answer, now or later.
pub(crate) enum Reply {
    Now(Bytes),
    Later(Pin<Box<dyn Future<Output = Result<Bytes, Refused>> + Send>>),
    /// Produce with acks=0 has no answer.
    Nothing,
}

/// A request that closes its connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("api {key} version {version} is not spoken here")]
    Unsupported { key: i16, version: i16 },
    #[error("a request cannot be read")]
    Malformed { source: protocol::Error },
    #[error("an answer to {api} version {version} cannot be written")]
    Answer { api: &'static str, version: i16, source: protocol::Error },
    #[error("records sent without acknowledge were not stored: {code}")]
    Unacknowledged { code: ResponseError },
}

/// Reads the header, and begins what the request asks for. Produce requests are written before this returns.
pub(crate) fn begin(core: &Arc<Core>, peer: &Peer, mut frame: Bytes, scratch: &mut Vec<u8>) -> Result<Reply, Refused> {
    let malformed = |source| Refused::Malformed { source };
    let head = protocol::head(&frame).map_err(malformed)?;
    let Some(api) = apis::find(head.api_key) else {
        return Err(Refused::Unsupported { key: head.api_key, version: head.version });
    };
    core.metrics.requests.get_or_create(&ApiLabel { api: api.name }).inc();
    if !(api.min..=api.max).contains(&head.version) {
        if api.key == ApiKey::ApiVersions {
            // whatever version was asked for: version 0 can be read by all, and says what to come back with
            let answer = cluster::api_versions(Some(ResponseError::UnsupportedVersion));
            return encode(ApiKey::ApiVersions, 0, head.correlation_id, &answer).map(Reply::Now);
        }
        return Err(Refused::Unsupported { key: head.api_key, version: head.version });
    }
    let header = decode_header(&mut frame).map_err(malformed)?;
    let call = Call {
        api: api.key,
        version: head.version,
        correlation_id: head.correlation_id,
        client_id: header.client_id.map(|id| id.to_string()).unwrap_or_default(),
        address: peer.address,
    };
    if api.key == ApiKey::Produce {
        return produce::begin(core, &call, frame, scratch);
    }
    Ok(Reply::Later(later(Arc::clone(core), call, frame)))
}

type Answering = Pin<Box<dyn Future<Output = Result<Bytes, Refused>> + Send>>;

fn later(core: Arc<Core>, call: Call, body: Bytes) -> Answering {
    match call.api {
        ApiKey::Fetch => answer(core, call, body, fetch::fetch),
        ApiKey::ListOffsets => answer(core, call, body, list_offsets::list_offsets),
        ApiKey::OffsetForLeaderEpoch => answer(core, call, body, list_offsets::offset_for_leader_epoch),
        ApiKey::Metadata => answer(core, call, body, cluster::metadata),
        ApiKey::DescribeCluster => answer(core, call, body, cluster::describe_cluster),
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
        ApiKey::CreateTopics => answer(core, call, body, admin::create_topics),
        ApiKey::DeleteTopics => answer(core, call, body, admin::delete_topics),
        ApiKey::CreatePartitions => answer(core, call, body, admin::create_partitions),
        ApiKey::DescribeConfigs => answer(core, call, body, configs::describe),
        ApiKey::AlterConfigs => answer(core, call, body, configs::alter),
        ApiKey::IncrementalAlterConfigs => answer(core, call, body, configs::alter_incrementally),
        ApiKey::DeleteRecords => answer(core, call, body, records::delete),
        ApiKey::DescribeLogDirs => answer(core, call, body, records::describe_log_dirs),
        ApiKey::InitProducerId => answer(core, call, body, produce::init_producer_id),
        // ApiVersions, and nothing else: `apis::find` has let through only what its table holds
        _ => Box::pin(async move { encode(call.api, call.version, call.correlation_id, &cluster::api_versions(None)) }),
    }
}

/// Decodes, handles, encodes.
fn answer<R, F>(
    core: Arc<Core>,
    call: Call,
    mut body: Bytes,
    handler: impl FnOnce(Arc<Core>, Call, R) -> F + Send + 'static,
) -> Answering
where
    R: Request + Send + 'static,
    R::Response: Send,
    F: Future<Output = R::Response> + Send,
{
    Box::pin(async move {
        let (api, version, correlation_id) = (call.api, call.version, call.correlation_id);
        let request: R = decode_request(&mut body, version).map_err(|source| Refused::Malformed { source })?;
        drop(body); // names and member data keep what they need of it alive
        let response = handler(core, call, request).await;
        encode(api, version, correlation_id, &response)
    })
}

/// A whole answer frame.
pub(crate) fn encode<R: kafka_protocol::protocol::Encodable>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &R,
) -> Result<Bytes, Refused> {
    encode_response(api, version, correlation_id, response).map_err(|source| {
        let api = crate::metrics::api_name(api);
        tracing::error!(api, version, error = %source, "an answer cannot be encoded");
        Refused::Answer { api, version, source }
    })
}
