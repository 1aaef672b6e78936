//! The server's end of a channel without its socket: bytes in, requests out, and back.
//!
//! Invariant: whatever bytes come, the result is a request or a [`Defect`]. Only the security policy None is spoken.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use opcua_core::comms::chunker::Chunker;
use opcua_core::comms::message_chunk::{MessageChunk, MessageIsFinalType};
use opcua_core::comms::secure_channel::{Role, SecureChannel};
use opcua_core::comms::sequence_number::SequenceNumberHandle;
use opcua_core::comms::tcp_types::{AcknowledgeMessage, ErrorMessage, HelloMessage};
use opcua_core::sync::RwLock;
use opcua_core::{RequestMessage, ResponseMessage};
use opcua_crypto::{CertificateStore, SecurityPolicy};
use opcua_types::{
    ByteString, ChannelSecurityToken, ContextOwned, DateTime, DecodingOptions, MessageSecurityMode, NamespaceMap,
    OpenSecureChannelRequest, OpenSecureChannelResponse, ResponseHeader, SimpleBinaryDecodable, SimpleBinaryEncodable,
    StatusCode,
};

/// Largest chunk taken and sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// Largest message taken.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Chunks of one message.
const CHUNKS_MAX: usize = 128;
/// Message header: kind, finality, size.
const HEADER_BYTES: usize = 8;
/// Longest life of a token, in milliseconds.
const TOKEN_LIFETIME_MS: u32 = 3_600_000;

/// The bytes make no sense; the connection ends with this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct Defect {
    pub(super) status: StatusCode,
    pub(super) what: String,
}

fn defect(status: StatusCode, what: impl Into<String>) -> Defect {
    Defect { status, what: what.into() }
}

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    /// Answered already: greeting, or the opening of the channel.
    Handled,
    Request {
        id: u32,
        message: RequestMessage,
    },
    Goodbye,
}

/// A channel.
#[derive(Debug)]
pub(super) struct Channel {
    secure: SecureChannel,
    sequence: SequenceNumberHandle,
    number: u32,
    token: u32,
    parts: Vec<MessageChunk>,
    parts_bytes: usize,
    send_chunk: usize,
}

impl Channel {
    /// Not open yet.
    pub(super) fn new(number: u32) -> Self {
        let options = DecodingOptions {
            max_message_size: MESSAGE_BYTES_MAX,
            max_chunk_count: CHUNKS_MAX,
            ..DecodingOptions::default()
        };
        let context = Arc::new(RwLock::new(ContextOwned::new_default(NamespaceMap::new(), options)));
        // there is none: nothing is signed
        let store = Arc::new(RwLock::new(CertificateStore::new(Path::new("/nonexistent"))));
        let mut secure = SecureChannel::new(store, Role::Server, context);
        secure.set_security_policy(SecurityPolicy::None);
        secure.set_security_mode(MessageSecurityMode::None);
        Self {
            secure,
            sequence: SequenceNumberHandle::new(true),
            number,
            token: 0,
            parts: Vec::new(),
            parts_bytes: 0,
            send_chunk: CHUNK_BYTES,
        }
    }

    /// Takes one message out of the buffer; `None` when it is not complete.
    pub(super) fn take(&mut self, buffer: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Incoming>, Defect> {
        loop {
            if buffer.len() < HEADER_BYTES {
                return Ok(None);
            }
            let size = usize::try_from((&buffer[4..8]).get_u32_le()).unwrap_or(usize::MAX);
            if !(HEADER_BYTES..=CHUNK_BYTES).contains(&size) {
                return Err(defect(StatusCode::BadTcpMessageTooLarge, format!("a chunk of {size} bytes")));
            }
            if buffer.len() < size {
                return Ok(None);
            }
            let bytes = buffer.split_to(size).freeze();
            if let Some(incoming) = self.understand(bytes, out)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn understand(&mut self, bytes: Bytes, out: &mut BytesMut) -> Result<Option<Incoming>, Defect> {
        match &bytes[..3] {
            b"HEL" => {
                let hello = HelloMessage::decode(&mut &bytes[..], &DecodingOptions::default());
                let hello = hello.map_err(|error| defect(StatusCode::BadTcpInternalError, error.to_string()))?;
                self.send_chunk =
                    usize::try_from(hello.receive_buffer_size).unwrap_or(CHUNK_BYTES).clamp(8192, CHUNK_BYTES);
                let ours = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
                let (chunk, message, chunks) = (ours(CHUNK_BYTES), ours(MESSAGE_BYTES_MAX), ours(CHUNKS_MAX));
                let answer = AcknowledgeMessage::new(0, chunk, chunk, message, chunks);
                out.extend_from_slice(&answer.encode_to_vec());
                Ok(Some(Incoming::Handled))
            }
            b"CLO" => Ok(Some(Incoming::Goodbye)),
            b"MSG" | b"OPN" => self.chunk(bytes, out),
            _ => Err(defect(StatusCode::BadTcpMessageTypeInvalid, "this is no OPC UA")),
        }
    }

    fn chunk(&mut self, bytes: Bytes, out: &mut BytesMut) -> Result<Option<Incoming>, Defect> {
        let unreadable = |error: opcua_types::Error| defect(StatusCode::BadDecodingError, error.to_string());
        let chunk = self.secure.verify_and_remove_security_server(bytes).map_err(unreadable)?;
        if self.secure.security_policy() != SecurityPolicy::None {
            return Err(defect(StatusCode::BadSecurityPolicyRejected, "only the security policy None is spoken"));
        }
        let info = chunk.chunk_info(&self.secure).map_err(unreadable)?;
        let id = info.sequence_header.request_id;
        self.parts_bytes += chunk.data.len();
        self.parts.push(chunk);
        if self.parts.len() > CHUNKS_MAX || self.parts_bytes > MESSAGE_BYTES_MAX {
            return Err(defect(StatusCode::BadRequestTooLarge, "a message is larger than was agreed"));
        }
        if info.message_header.is_final == MessageIsFinalType::Intermediate {
            return Ok(None);
        }
        let parts = std::mem::take(&mut self.parts);
        self.parts_bytes = 0;
        if info.message_header.is_final == MessageIsFinalType::FinalError {
            return Ok(None); // the client gave up in the middle of it
        }
        let message = Chunker::decode::<RequestMessage>(&parts, &self.secure, None).map_err(unreadable)?;
        if let RequestMessage::OpenSecureChannel(request) = message {
            self.open(id, &request, out)?;
            return Ok(Some(Incoming::Handled));
        }
        Ok(Some(Incoming::Request { id, message }))
    }

    /// Opens it, or gives it a new token.
    fn open(&mut self, id: u32, request: &OpenSecureChannelRequest, out: &mut BytesMut) -> Result<(), Defect> {
        if request.security_mode != MessageSecurityMode::None {
            return Err(defect(StatusCode::BadSecurityModeRejected, "only the security mode None is spoken"));
        }
        self.token += 1;
        let token = ChannelSecurityToken {
            channel_id: self.number,
            token_id: self.token,
            created_at: DateTime::now(),
            revised_lifetime: request.requested_lifetime.clamp(10_000, TOKEN_LIFETIME_MS),
        };
        self.secure.set_security_token(token.clone());
        let answer = OpenSecureChannelResponse {
            response_header: ResponseHeader::new_good(&request.request_header),
            server_protocol_version: 0,
            security_token: token,
            server_nonce: ByteString::null(),
        };
        self.send(id, &answer.into(), out)
    }

    /// Writes an answer.
    pub(super) fn send(&mut self, id: u32, message: &ResponseMessage, out: &mut BytesMut) -> Result<(), Defect> {
        let unwritable = |error: &dyn std::fmt::Display| defect(StatusCode::BadEncodingError, error.to_string());
        let chunks = Chunker::encode(self.sequence.clone(), id, 0, self.send_chunk, &self.secure, message);
        let chunks = chunks.map_err(|error| unwritable(&error))?;
        self.sequence.increment(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        let mut sealed = vec![0; self.send_chunk + 4096];
        for chunk in &chunks {
            let length = self.secure.apply_security(chunk, &mut sealed).map_err(|status| unwritable(&status))?;
            out.extend_from_slice(&sealed[..length]);
        }
        Ok(())
    }

    /// Writes why the connection ends.
    pub(super) fn end(defect: &Defect, out: &mut BytesMut) {
        out.extend_from_slice(&ErrorMessage::new(defect.status, &defect.what).encode_to_vec());
    }
}
