//! One connection for questions of administration: a request, its answer, nothing in flight beside it.
//!
//! librdkafka serves the data path. It has no call for the sizes of logs, for all offsets of a group or for changes of
//! single settings, and it says little of why a request was refused; those few requests are spoken here. The version of
//! each is the newest that both sides know.
//! Invariants: an answer longer than [`ANSWER_BYTES_MAX`] or with another correlation id ends the connection; every
//! question ends within [`ANSWER_DEADLINE`].

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::access::Sasl;
use super::{Access, Error};

/// Longest answer, in bytes; a longer one ends the connection. What is no Kafka broker announces more at once.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Time to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Time for an answer; creating many partitions takes a broker longest.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Version of ApiVersions that every broker answers.
const FIRST_VERSION: i16 = 0;

/// A connection to one broker.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    address: String,
    client_id: StrBytes,
    /// What the broker speaks: oldest and newest version by API.
    versions: BTreeMap<i16, (i16, i16)>,
    correlation_id: i32,
}

impl Connection {
    /// Connects, asks what is spoken at the other end, and logs in where that is asked for.
    pub(super) async fn open(address: &str, client_id: &str, access: &Access) -> Result<Self, Error> {
        let failed = |source| Error::Connect { address: address.to_owned(), source };
        let connecting = timeout(CONNECT_DEADLINE, TcpStream::connect(address));
        let stream = connecting.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let client_id = StrBytes::from_string(client_id.to_owned());
        let versions = BTreeMap::new();
        let mut connection = Self { stream, address: address.to_owned(), client_id, versions, correlation_id: 0 };
        let answer = connection.exchange(&ApiVersionsRequest::default(), FIRST_VERSION).await?;
        connection.versions =
            answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        connection.log_in(access).await?;
        Ok(connection)
    }

    /// PLAIN alone, which is what the embedded broker takes on the loopback interface.
    async fn log_in(&mut self, access: &Access) -> Result<(), Error> {
        let refused = |code: i16, reason: String| {
            let code = ResponseError::try_from_code(code).unwrap_or(ResponseError::SaslAuthenticationFailed);
            Err(Error::Refused { what: "the login".to_owned(), code, reason })
        };
        let (user, password) = match &access.sasl {
            None => return Ok(()),
            Some(Sasl::Password { mechanism: "PLAIN", username, password }) if access.tls.is_none() => {
                (username, password.reveal())
            }
            Some(_) => {
                let code = ResponseError::UnsupportedSaslMechanism.code();
                return refused(code, "administration speaks SASL PLAIN without TLS only".to_owned());
            }
        };
        let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
        let answer = self.ask(&handshake, 1).await?;
        if answer.error_code != 0 {
            return refused(answer.error_code, "the broker does not offer PLAIN here".to_owned());
        }
        let token = Bytes::from(format!("\0{user}\0{password}"));
        let answer = self.ask(&SaslAuthenticateRequest::default().with_auth_bytes(token), 1).await?;
        if answer.error_code != 0 {
            return refused(answer.error_code, answer.error_message.map(|text| text.to_string()).unwrap_or_default());
        }
        Ok(())
    }

    /// Sends a request in the newest version up to `newest` that both sides know, and waits for the answer.
    ///
    /// `newest` is the version whose fields the caller fills in and reads.
    pub(super) async fn ask<R: Request>(&mut self, request: &R, newest: i16) -> Result<R::Response, Error> {
        let spoken = self.versions.get(&R::KEY).copied();
        let version = spoken.and_then(|(oldest_there, newest_there)| {
            let version = newest.min(newest_there).min(R::VERSIONS.max);
            (version >= oldest_there.max(R::VERSIONS.min)).then_some(version)
        });
        let Some(version) = version else {
            return Err(Error::NotSpoken { address: self.address.clone(), api: api_name(R::KEY) });
        };
        self.exchange(request, version).await
    }

    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, Error> {
        let frame = self.frame(request, version)?;
        let answered = timeout(ANSWER_DEADLINE, self.round_trip(&frame)).await;
        let answer = answered.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let mut answer =
            answer.map_err(|source| Error::Ask { address: self.address.clone(), api: api_name(R::KEY), source })?;
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version));
        let header = header.map_err(|error| self.unreadable::<R>(&error))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.unreadable::<R>(&"it answers another request"));
        }
        R::Response::decode(&mut answer, version).map_err(|error| self.unreadable::<R>(&error))
    }

    fn frame<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(self.client_id.clone()));
        let mut body = BytesMut::new();
        let encoded = header.encode(&mut body, R::header_version(version));
        encoded.and_then(|()| request.encode(&mut body, version)).map_err(|error| self.unreadable::<R>(&error))?;
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.put_i32(i32::try_from(body.len()).unwrap_or(i32::MAX));
        frame.extend_from_slice(&body);
        Ok(frame.freeze())
    }

    async fn round_trip(&mut self, frame: &[u8]) -> std::io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let announced = self.stream.read_i32().await?;
        let length = usize::try_from(announced).ok().filter(|length| (4..=ANSWER_BYTES_MAX).contains(length));
        let Some(length) = length else {
            return Err(std::io::Error::other("the answer is not a Kafka broker's; is this the right port?"));
        };
        // the memory grows with what arrives, not with what was announced
        let mut answer = BytesMut::new();
        while answer.len() < length {
            let mut rest = (&mut self.stream).take((length - answer.len()) as u64);
            if rest.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(answer.freeze())
    }

    fn unreadable<R: Request>(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::Unreadable { address: self.address.clone(), api: api_name(R::KEY), reason: reason.to_string() }
    }
}

fn api_name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| key.to_string(), |api| format!("{api:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::MetadataRequest;
    use tokio::net::TcpListener;

    /// Serves one connection with these bytes, whatever is asked.
    async fn server(answer: &'static [u8]) -> (String, tokio::task::JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            assert!(stream.read(&mut asked).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
        });
        (address, task)
    }

    #[tokio::test]
    async fn a_server_of_another_kind_is_recognised() {
        let (address, _task) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let error = Connection::open(&address, "test", &Access::default()).await.unwrap_err();
        assert!(matches!(&error, Error::Ask { source, .. } if source.to_string().contains("right port")), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_to_another_request_is_refused() {
        let (address, _task) = server(&[0, 0, 0, 10, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0]).await;
        let error = Connection::open(&address, "test", &Access::default()).await.unwrap_err();
        assert!(matches!(&error, Error::Unreadable { reason, .. } if reason.contains("another request")), "{error:?}");
    }

    #[tokio::test]
    async fn what_the_broker_does_not_speak_is_not_asked() {
        // correlation id 1, no error, one API: key 3, versions 40 to 41
        let (address, _task) = server(&[0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 3, 0, 40, 0, 41]).await;
        let mut connection = Connection::open(&address, "test", &Access::default()).await.unwrap();
        let error = connection.ask(&MetadataRequest::default(), 9).await.unwrap_err();
        assert!(matches!(error, Error::NotSpoken { .. }), "{error:?}");
    }
}
