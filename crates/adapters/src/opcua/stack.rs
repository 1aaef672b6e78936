//! The library's types and its secure channel; with `trust.rs` the only place that names its crates.
//!
//! Only the codec, the crypto and the channel's arithmetic are the library's (docs/adr/0019-opcua-session.md): bytes go in,
//! messages come out, nothing here waits or knows a socket. Invariants:
//! - An answer that opens the channel is taken only with the policy and the certificate we asked for.
//! - Whatever bytes come, the result is a message or a [`Defect`], never a panic (G-08).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use opcua_core::comms::chunker::Chunker;
use opcua_core::comms::message_chunk::{MessageChunk, MessageChunkHeader, MessageIsFinalType};
use opcua_core::comms::secure_channel::{Role, SecureChannel};
use opcua_core::comms::security_header::SecurityHeader;
use opcua_core::comms::sequence_number::SequenceNumberHandle;
use opcua_core::comms::tcp_types::{AcknowledgeMessage, ErrorMessage, HelloMessage};
use opcua_core::sync::RwLock;
use opcua_crypto::CertificateStore;
use opcua_types::{
    CloseSecureChannelRequest, ContextOwned, DecodingOptions, OpenSecureChannelRequest, SecurityTokenRequestType,
    SimpleBinaryDecodable, SimpleBinaryEncodable,
};

pub use opcua_core::{RequestMessage, ResponseMessage};
pub use opcua_crypto::{PrivateKey, SecurityPolicy, X509};
pub use opcua_types::{
    ActivateSessionRequest, AnonymousIdentityToken, ApplicationDescription, ApplicationType, AttributeId,
    BrowseDescription, BrowseDirection, BrowseNextRequest, BrowsePath, BrowsePathResult, BrowseRequest, BrowseResult,
    ByteString, CallMethodRequest, CallRequest, CloseSessionRequest, ContentFilter, ContentFilterElement,
    CreateMonitoredItemsRequest, CreateSessionRequest, CreateSubscriptionRequest, DataChangeFilter,
    DataChangeNotification, DataChangeTrigger, DataValue, DateTime, DeleteSubscriptionsRequest, EUInformation,
    ElementOperand, EndpointDescription, EventFilter, EventNotificationList, ExtensionObject, FilterOperator,
    GetEndpointsRequest, Guid, HistoryData, HistoryReadRequest, HistoryReadResult, HistoryReadValueId, Identifier,
    LiteralOperand, LocalizedText, MessageSecurityMode, MethodId, MonitoredItemCreateRequest,
    MonitoredItemCreateResult, MonitoringMode, MonitoringParameters, NodeClass, NodeId, NotificationMessage,
    NumericRange, ObjectId, ObjectTypeId, PublishRequest, QualifiedName, Range, ReadRawModifiedDetails, ReadRequest,
    ReadValueId, ReferenceDescription, RelativePath, RelativePathElement, RepublishRequest, RequestHeader,
    ResponseHeader, ServerStatusDataType, SignatureData, SimpleAttributeOperand, StatusChangeNotification, StatusCode,
    SubscriptionAcknowledgement, TimestampsToReturn, TransferSubscriptionsRequest,
    TranslateBrowsePathsToNodeIdsRequest, UAString, UserNameIdentityToken, UserTokenPolicy, UserTokenType, Variant,
    X509IdentityToken,
};

/// Largest chunk we take and send, in bytes; a server may ask for smaller ones.
const CHUNK_BYTES: usize = 64 * 1024;
/// Largest message we take, in bytes; a larger one ends the connection.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Chunks of one message; more end the connection.
const CHUNKS_MAX: usize = 4096;
/// Elements of an array in a message; a longer one makes the message undecodable.
const ARRAY_MAX: usize = 100_000;
/// Bytes of a text or byte string in a message; a longer one makes the message undecodable.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages whose chunks are coming in; more than a server was asked for end the connection.
const OPEN_MESSAGES_MAX: usize = 256;
/// Room that signing and padding may take in a chunk.
const SECURITY_BYTES: usize = 4096;
/// Message header: kind, finality, size.
const HEADER_BYTES: usize = 8;
/// How long we ask a security token to live; the server may say less (UA-07).
const TOKEN_LIFETIME_MS: u32 = 3_600_000;

/// The bytes make no sense, or must not be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Defect {
    pub what: String,
}

impl Defect {
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// The server took our greeting.
    Acknowledged,
    /// The channel is open, or has a new token; it is to be renewed after so long.
    Opened { renew_after: Duration },
    /// The answer to a request.
    Response { request: u32, message: ResponseMessage },
    /// An answer that cannot be understood; the connection is still in step.
    Undecodable { request: u32, why: String },
    /// The server ends the connection.
    Ended { status: StatusCode, reason: String },
}

/// What the channel is made with.
#[derive(Debug, Clone)]
pub struct Security {
    pub policy: SecurityPolicy,
    pub mode: MessageSecurityMode,
    /// Of the server, one certificate; empty without security.
    pub server_certificate: ByteString,
}

impl Security {
    /// Nothing signed, nothing encrypted.
    pub fn none() -> Self {
        Self { policy: SecurityPolicy::None, mode: MessageSecurityMode::None, server_certificate: ByteString::null() }
    }

    fn is_secure(&self) -> bool {
        self.policy != SecurityPolicy::None
    }
}

#[derive(Debug, Default)]
struct Parts {
    chunks: Vec<MessageChunk>,
    bytes: usize,
}

/// A secure channel without its socket.
#[derive(Debug)]
pub struct Channel {
    secure: SecureChannel,
    security: Security,
    /// Of the channel's messages to the server.
    sequence: SequenceNumberHandle,
    /// Of the server's chunks, the last one.
    last_heard: Option<u32>,
    last_request: u32,
    /// Largest chunk and message the server takes; 0 is no limit.
    send_chunk: usize,
    send_message: usize,
    send_chunks: usize,
    opening: Option<u32>,
    parts: HashMap<u32, Parts>,
    token: NodeId,
}

impl Channel {
    /// Not open yet. Our own certificate and key are read from the folder `pki`.
    pub fn new(pki: &Path, security: Security) -> Result<Self, Defect> {
        let options = DecodingOptions {
            max_message_size: MESSAGE_BYTES_MAX,
            max_chunk_count: CHUNKS_MAX,
            max_string_length: TEXT_BYTES_MAX,
            max_byte_string_length: TEXT_BYTES_MAX,
            max_array_length: ARRAY_MAX,
            ..DecodingOptions::default()
        };
        let context = Arc::new(RwLock::new(ContextOwned::new_default(opcua_types::NamespaceMap::new(), options)));
        let store = Arc::new(RwLock::new(CertificateStore::new(pki)));
        let mut secure = SecureChannel::new(store, Role::Client, context);
        secure.set_security_policy(security.policy);
        secure.set_security_mode(security.mode);
        let remote = secure.set_remote_cert_from_byte_string(&security.server_certificate);
        remote.map_err(|error| Defect::new(format!("the server's certificate cannot be read: {error}")))?;
        if security.is_secure() && secure.cert().is_none() {
            return Err(Defect::new("our own certificate cannot be read"));
        }
        let sequence = SequenceNumberHandle::new(security.policy.legacy_sequence_numbers());
        Ok(Self {
            secure,
            sequence,
            security,
            last_heard: None,
            last_request: 0,
            send_chunk: CHUNK_BYTES,
            send_message: 0,
            send_chunks: 0,
            opening: None,
            parts: HashMap::new(),
            token: NodeId::null(),
        })
    }

    /// The session that further requests belong to.
    pub fn set_token(&mut self, token: NodeId) {
        self.token = token;
    }

    pub fn security(&self) -> &Security {
        &self.security
    }

    /// The first message.
    pub fn hello(&self, endpoint_url: &str, out: &mut BytesMut) {
        let hello = HelloMessage::new(endpoint_url, CHUNK_BYTES, CHUNK_BYTES, MESSAGE_BYTES_MAX, CHUNKS_MAX);
        out.extend_from_slice(&hello.encode_to_vec());
    }

    /// Asks to open the channel, or to give it a new token.
    pub fn open(&mut self, renew: bool, out: &mut BytesMut) -> Result<(), Defect> {
        let nonce = self.security.policy.random_nonce();
        self.secure.set_local_nonce(nonce.as_ref());
        let kind = if renew { SecurityTokenRequestType::Renew } else { SecurityTokenRequestType::Issue };
        let mode = self.security.mode;
        let request = self.send(out, |request_header| {
            OpenSecureChannelRequest {
                request_header,
                client_protocol_version: 0,
                request_type: kind,
                security_mode: mode,
                client_nonce: nonce,
                requested_lifetime: TOKEN_LIFETIME_MS,
            }
            .into()
        })?;
        self.opening = Some(request);
        Ok(())
    }

    /// Ends the channel; nothing comes back.
    pub fn close(&mut self, out: &mut BytesMut) -> Result<(), Defect> {
        self.send(out, |request_header| CloseSecureChannelRequest { request_header }.into()).map(|_| ())
    }

    /// Writes a request; returns its number.
    pub fn send(
        &mut self,
        out: &mut BytesMut,
        build: impl FnOnce(RequestHeader) -> RequestMessage,
    ) -> Result<u32, Defect> {
        self.last_request = self.last_request.wrapping_add(1).max(1);
        let request = self.last_request;
        let header = RequestHeader {
            authentication_token: self.token.clone(),
            timestamp: DateTime::now(),
            request_handle: request,
            ..RequestHeader::default()
        };
        let message = build(header);
        let guarded = catch_unwind(AssertUnwindSafe(|| self.encode(request, &message, out)));
        guarded.unwrap_or_else(|_| Err(Defect::new("a request cannot be written")))?;
        Ok(request)
    }

    fn encode(&mut self, request: u32, message: &RequestMessage, out: &mut BytesMut) -> Result<(), Defect> {
        let defect = |error: &dyn std::fmt::Display| Defect::new(format!("a request cannot be written: {error}"));
        let (size, limit) = (self.send_chunk, self.send_message);
        let chunks = Chunker::encode(self.sequence.clone(), request, limit, size, &self.secure, message);
        let chunks = chunks.map_err(|error| defect(&error))?;
        if self.send_chunks > 0 && chunks.len() > self.send_chunks {
            return Err(Defect::new(format!(
                "a request needs {} chunks, the server takes {}",
                chunks.len(),
                self.send_chunks
            )));
        }
        self.sequence.increment(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        let mut sealed = vec![0; size + SECURITY_BYTES];
        for chunk in &chunks {
            let length = self.secure.apply_security(chunk, &mut sealed).map_err(|status| defect(&status))?;
            out.extend_from_slice(&sealed[..length]);
        }
        Ok(())
    }

    /// Takes one message out of the buffer; none if it is not complete.
    pub fn take(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Defect> {
        loop {
            if buffer.len() < HEADER_BYTES {
                return Ok(None);
            }
            let size = usize::try_from((&buffer[4..8]).get_u32_le()).unwrap_or(usize::MAX);
            if !(HEADER_BYTES..=CHUNK_BYTES).contains(&size) {
                return Err(Defect::new(format!("a message of {size} bytes, we take up to {CHUNK_BYTES}")));
            }
            if buffer.len() < size {
                return Ok(None);
            }
            let bytes = buffer.split_to(size).freeze();
            let taken = catch_unwind(AssertUnwindSafe(|| self.understand(bytes)));
            let taken = taken.unwrap_or_else(|_| Err(Defect::new("a message breaks the protocol")))?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
    }

    fn understand(&mut self, bytes: Bytes) -> Result<Option<Incoming>, Defect> {
        let options = DecodingOptions::default();
        match &bytes[..3] {
            b"ACK" => {
                let read = AcknowledgeMessage::decode(&mut &bytes[..], &options);
                let read = read.map_err(|error| Defect::new(format!("the greeting cannot be read: {error}")))?;
                let limit = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
                self.send_chunk = limit(read.receive_buffer_size).clamp(8192, CHUNK_BYTES);
                self.send_message = limit(read.max_message_size);
                self.send_chunks = limit(read.max_chunk_count);
                Ok(Some(Incoming::Acknowledged))
            }
            b"ERR" => {
                let read = ErrorMessage::decode(&mut &bytes[..], &options);
                let read = read.map_err(|error| Defect::new(format!("an error cannot be read: {error}")))?;
                Ok(Some(Incoming::Ended { status: read.error, reason: clean(read.reason.as_ref()) }))
            }
            b"MSG" | b"OPN" | b"CLO" => self.chunk(bytes),
            other => Err(Defect::new(format!("this is no OPC UA: {:?}", String::from_utf8_lossy(other)))),
        }
    }

    fn chunk(&mut self, bytes: Bytes) -> Result<Option<Incoming>, Defect> {
        let unreadable = |error: opcua_types::Error| Defect::new(format!("a chunk cannot be read: {error}"));
        self.check_opening(&bytes)?;
        let chunk = self.secure.verify_and_remove_security(bytes).map_err(unreadable)?;
        let info = chunk.chunk_info(&self.secure).map_err(unreadable)?;
        self.check_order(info.sequence_header.sequence_number)?;
        let request = info.sequence_header.request_id;
        match info.message_header.is_final {
            MessageIsFinalType::FinalError => {
                self.parts.remove(&request);
                let said = chunk.final_error_body(&info, &self.secure.decoding_options());
                let why = match said {
                    Ok(said) => format!("{}: {}", said.status, clean(said.reason.as_ref())),
                    Err(_) => "the server gave up in the middle of it".to_owned(),
                };
                Ok(Some(Incoming::Undecodable { request, why }))
            }
            finality => {
                if self.parts.len() >= OPEN_MESSAGES_MAX && !self.parts.contains_key(&request) {
                    return Err(Defect::new("more messages are begun than were asked for"));
                }
                let parts = self.parts.entry(request).or_default();
                parts.bytes += chunk.data.len();
                parts.chunks.push(chunk);
                if parts.bytes > MESSAGE_BYTES_MAX || parts.chunks.len() > CHUNKS_MAX {
                    return Err(Defect::new("a message is larger than was agreed"));
                }
                if finality == MessageIsFinalType::Intermediate {
                    return Ok(None);
                }
                let parts = self.parts.remove(&request).unwrap_or_default();
                self.message(request, &parts.chunks).map(Some)
            }
        }
    }

    fn message(&mut self, request: u32, chunks: &[MessageChunk]) -> Result<Incoming, Defect> {
        let valid = Chunker::validate_chunks(&self.secure, chunks);
        valid.map_err(|error| Defect::new(format!("a message of another channel: {error}")))?;
        match Chunker::decode::<ResponseMessage>(chunks, &self.secure, None) {
            Err(error) => Ok(Incoming::Undecodable { request, why: error.to_string() }),
            Ok(ResponseMessage::OpenSecureChannel(answer)) => {
                if self.opening.take() != Some(request) {
                    return Err(Defect::new("a channel is opened that nobody asked for"));
                }
                let status = answer.response_header.service_result;
                if status.is_bad() {
                    return Ok(Incoming::Ended { status, reason: "the channel is not opened".to_owned() });
                }
                let known = self.secure.secure_channel_id();
                let mut token = answer.security_token;
                if known != 0 && known != token.channel_id {
                    return Err(Defect::new("the channel has another number all at once"));
                }
                // what the server's clock says must not decide when our keys expire
                token.created_at = DateTime::now();
                let renew_after = Duration::from_millis(u64::from(token.revised_lifetime) * 3 / 4);
                self.secure.set_security_token(token);
                if self.security.is_secure() {
                    let nonce = &answer.server_nonce;
                    let keys = self.secure.validate_secure_channel_nonce_length(nonce);
                    let keys = keys.and_then(|()| self.secure.set_remote_nonce_from_byte_string(nonce));
                    keys.map_err(|error| Defect::new(error.to_string()))?;
                    self.secure.derive_keys();
                }
                Ok(Incoming::Opened { renew_after: renew_after.max(Duration::from_secs(1)) })
            }
            Ok(message) => Ok(Incoming::Response { request, message }),
        }
    }

    /// An answer that opens the channel says in clear with what it is sealed: it must be what we asked for.
    fn check_opening(&self, bytes: &Bytes) -> Result<(), Defect> {
        if &bytes[..3] != b"OPN" {
            return Ok(());
        }
        let options = DecodingOptions::default();
        let mut stream = &bytes[..];
        let unreadable = |error: opcua_types::Error| Defect::new(format!("a header cannot be read: {error}"));
        MessageChunkHeader::decode(&mut stream, &options).map_err(unreadable)?;
        let header = SecurityHeader::decode_from_stream(&mut stream, true, &options).map_err(unreadable)?;
        let SecurityHeader::Asymmetric(header) = header else { return Err(Defect::new("a header of the wrong kind")) };
        if header.security_policy_uri.as_ref() != self.security.policy.to_uri() {
            return Err(Defect::new(format!(
                "the channel is opened with {} instead of {}",
                header.security_policy_uri, self.security.policy
            )));
        }
        if self.security.is_secure() && header.sender_certificate != self.security.server_certificate {
            return Err(Defect::new("the channel is opened with another certificate than the endpoint's"));
        }
        Ok(())
    }

    fn check_order(&mut self, number: u32) -> Result<(), Defect> {
        let follows = match self.last_heard {
            None => true,
            // by policy the numbers start again anywhere below 1024, or at 0
            Some(last) => number == last.wrapping_add(1) || (last >= u32::MAX - 1024 && number < 1024),
        };
        if !follows {
            return Err(Defect::new("a chunk is missing or was repeated"));
        }
        self.last_heard = Some(number);
        Ok(())
    }
}

/// Text from the server for a person: short, without control characters (G-11).
pub fn clean(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

/// The first certificate of what may be a chain, in DER.
pub fn leaf(chain: &[u8]) -> &[u8] {
    let length = match chain {
        [0x30, short, ..] if *short < 0x80 => usize::from(*short) + 2,
        [0x30, 0x81, a, ..] => usize::from(*a) + 3,
        [0x30, 0x82, a, b, ..] => usize::from(u16::from_be_bytes([*a, *b])) + 4,
        _ => chain.len(),
    };
    &chain[..length.min(chain.len())]
}

/// Proves that we hold the key: over the server's certificate and its newest nonce.
pub fn sign(
    key: &PrivateKey,
    policy: SecurityPolicy,
    certificate: &ByteString,
    nonce: &ByteString,
) -> Result<SignatureData, Defect> {
    opcua_crypto::create_signature_data(key, policy, certificate, nonce).map_err(|error| Defect::new(error.to_string()))
}

/// True if the server proved that it holds the key of its certificate.
pub fn is_signed_by(
    server: &X509,
    signature: &SignatureData,
    policy: SecurityPolicy,
    own: &X509,
    nonce: &ByteString,
) -> bool {
    let verify = || opcua_crypto::verify_signature_data(signature, policy, server, own, nonce.as_ref()).is_ok();
    catch_unwind(AssertUnwindSafe(verify)).unwrap_or(false)
}

/// A password as the policy of the token wants it; never in clear over a channel that is in clear (UA-03).
pub fn seal_password(
    security: &Security,
    token: &UserTokenPolicy,
    nonce: &ByteString,
    certificate: Option<&X509>,
    password: &str,
) -> Result<(ByteString, UAString), Defect> {
    let by_token = !token.security_policy_uri.is_empty()
        && SecurityPolicy::from_uri(token.security_policy_uri.as_ref()) != SecurityPolicy::None;
    if security.policy == SecurityPolicy::None && !by_token {
        return Err(Defect::new("the password would go over the network in clear"));
    }
    if by_token && certificate.is_none() {
        return Err(Defect::new("the server shows no certificate to encrypt the password for"));
    }
    let certificate = certificate.cloned();
    let seal = || {
        let bytes = password.as_bytes();
        opcua_crypto::legacy_encrypt_secret(security.policy, security.mode, token, nonce.as_ref(), &certificate, bytes)
    };
    let sealed = catch_unwind(AssertUnwindSafe(seal)).map_err(|_| Defect::new("the password cannot be encrypted"))?;
    let sealed =
        sealed.map_err(|error| Defect::new(format!("the password cannot be encrypted: {}", error.status())))?;
    Ok((sealed.secret, sealed.encryption_algorithm))
}

/// Random bytes.
pub fn nonce() -> ByteString {
    opcua_crypto::random::byte_string(32)
}

/// Microseconds since 1970; none for the time that means no time.
pub fn micros(time: &DateTime) -> Option<i64> {
    (!time.is_null()).then(|| time.as_chrono().timestamp_micros())
}

/// The other way round.
pub fn date_time(micros: i64) -> DateTime {
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(DateTime::null, DateTime::from)
}

/// The name of a status: `BadNodeIdUnknown`.
pub fn name_of(status: StatusCode) -> String {
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> Channel {
        Channel::new(Path::new("/nonexistent"), Security::none()).unwrap()
    }

    // G-08
    #[test]
    fn bytes_that_are_no_protocol_are_a_defect() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            b"MSGF\x08\0\0\0",
            b"OPNF\x0c\0\0\0\x01\0\0\0",
            b"MSGF\x10\0\0\0\x01\0\0\0\x01\0\0\0",
            b"ACKF\x08\0\0\0",
            b"MSGC\xff\xff\xff\xff",
        ] {
            let mut buffer = BytesMut::from(bytes);
            assert!(channel().take(&mut buffer).is_err(), "{bytes:?}");
        }
        assert!(channel().take(&mut BytesMut::from(&b"ACKF"[..])).unwrap().is_none(), "more may come");
    }

    #[test]
    fn chunks_in_order_and_what_the_server_takes() {
        let mut channel = channel();
        for number in [7, 8, 9] {
            channel.check_order(number).unwrap();
        }
        assert!(channel.check_order(11).is_err());
        assert!(channel.check_order(9).is_err());
        channel.last_heard = Some(u32::MAX - 1024);
        channel.check_order(3).unwrap();
        let acknowledge = AcknowledgeMessage::new(0, 8192, 8192, 1_000_000, 3).encode_to_vec();
        assert!(matches!(channel.take(&mut BytesMut::from(&acknowledge[..])), Ok(Some(Incoming::Acknowledged))));
        assert_eq!((channel.send_chunk, channel.send_chunks), (8192, 3));
    }

    #[test]
    fn the_first_certificate_of_a_chain() {
        let long = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256], &[0x30, 3, 1, 1, 1]].concat();
        assert_eq!(leaf(&long).len(), 260);
        assert_eq!(leaf(&[0x30, 2, 1, 1, 9, 9]), [0x30, 2, 1, 1]);
        assert_eq!(leaf(&[0x30, 0x82]), [0x30, 0x82]);
        assert!(leaf(&[]).is_empty());
    }

    // UA-03, AC-033
    #[test]
    fn a_password_is_not_sent_in_clear() {
        let token = UserTokenPolicy { token_type: UserTokenType::UserName, ..UserTokenPolicy::default() };
        let sealed = seal_password(&Security::none(), &token, &ByteString::null(), None, "secret");
        assert!(sealed.is_err());
    }
}
