//! A client that does as it is told: typed requests over one connection, SCRAM and PLAIN by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::text;
use crate::support::PATIENCE;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(super) struct Client {
    stream: Box<dyn Stream>,
    correlation_id: i32,
    /// What it calls itself.
    pub(super) name: &'static str,
}

/// The code and the text of a login that failed.
pub(super) type Refused = (i16, String);

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::over(Box::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Over TLS. With TLS 1.3 a client learns late that its certificate was refused: with its first request.
    pub(super) async fn connect_tls(address: SocketAddr, config: ClientConfig) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self::over(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)))
    }

    pub(super) fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, correlation_id: 0, name: "it" }
    }

    /// Asks and waits for the answer.
    pub(super) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.try_call(version, request).await.expect("an answer")
    }

    /// The same when the connection may be closed instead.
    pub(super) async fn try_call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    pub(super) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text(self.name)));
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, R::header_version(version)).unwrap();
        request.encode(&mut bytes, version).unwrap();
        self.send_bytes(&bytes).await;
    }

    /// One frame; a connection that is closed already is found out by the reading.
    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let size = i32::try_from(bytes.len()).unwrap().to_be_bytes();
        drop(self.stream.write_all(&[&size, bytes].concat()).await);
        drop(self.stream.flush().await);
    }

    async fn receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut bytes = Bytes::from(self.receive_bytes().await?);
        let header = ResponseHeader::decode(&mut bytes, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation_id);
        let answer = R::Response::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "{} bytes too many", bytes.len());
        Some(answer)
    }

    /// One frame, or `None` when the connection is closed.
    pub(super) async fn receive_bytes(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let size = self.stream.read_i32().await.ok()?;
            let mut bytes = vec![0; usize::try_from(size).unwrap()];
            self.stream.read_exact(&mut bytes).await.ok()?;
            Some(bytes)
        };
        timeout(PATIENCE, read).await.expect("an answer or the end")
    }

    pub(super) async fn closed(&mut self) -> bool {
        self.receive_bytes().await.is_none()
    }

    pub(super) async fn handshake(&mut self, mechanism: &'static str) -> SaslHandshakeResponse {
        self.call(1, &SaslHandshakeRequest::default().with_mechanism(text(mechanism))).await
    }

    /// One message of a login; the answer's message.
    pub(super) async fn authenticate(&mut self, message: impl Into<Vec<u8>>) -> Result<Vec<u8>, Refused> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message.into()));
        let answer = self.call(2, &request).await;
        if answer.error_code == 0 {
            return Ok(answer.auth_bytes.to_vec());
        }
        Err((answer.error_code, answer.error_message.unwrap_or_default().to_string()))
    }

    pub(super) async fn plain(&mut self, user: &str, password: &str) -> Result<(), Refused> {
        assert_eq!(self.handshake("PLAIN").await.error_code, 0);
        self.authenticate(format!("\0{user}\0{password}")).await.map(|_| ())
    }

    pub(super) async fn scram(&mut self, hash: scram::Hash, user: &str, password: &str) -> Result<(), Refused> {
        assert_eq!(self.handshake(hash.mechanism()).await.error_code, 0);
        let first = format!("n={user},r=abcdefgh");
        let challenge = self.authenticate(format!("n,,{first}")).await?;
        let challenge = String::from_utf8(challenge).unwrap();
        let (last, signature) = hash.answer(password, &first, &challenge);
        let verdict = self.authenticate(last).await?;
        assert_eq!(String::from_utf8(verdict).unwrap(), format!("v={signature}"), "the broker proves itself, too");
        Ok(())
    }
}

/// The client's side of SCRAM, written from RFC 5802.
pub(super) mod scram {
    use std::num::NonZeroU32;

    use aws_lc_rs::{digest, hmac, pbkdf2};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use bytes::Bytes;
    use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;

    use crate::access::text;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in crate::access) enum Hash {
        Sha256,
        Sha512,
    }

    impl Hash {
        pub(in crate::access) fn mechanism(self) -> &'static str {
            if self == Self::Sha256 { "SCRAM-SHA-256" } else { "SCRAM-SHA-512" }
        }

        fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
            let (algorithm, size) = match self {
                Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
                Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
            };
            let mut salted = vec![0; size];
            pbkdf2::derive(algorithm, NonZeroU32::new(iterations).unwrap(), salt, password.as_bytes(), &mut salted);
            salted
        }

        fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
            let algorithm = if self == Self::Sha256 { hmac::HMAC_SHA256 } else { hmac::HMAC_SHA512 };
            hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
        }

        /// The last message, and the signature that the broker has to answer with.
        pub(super) fn answer(self, password: &str, first: &str, challenge: &str) -> (String, String) {
            let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
            let salt = BASE64.decode(part("s=")).unwrap();
            let salted = self.salted(password, &salt, part("i=").parse().unwrap());
            let without_proof = format!("c=biws,r={}", part("r="));
            let signed = format!("{first},{challenge},{without_proof}");
            let client_key = self.hmac(&salted, b"Client Key");
            let algorithm = if self == Self::Sha256 { &digest::SHA256 } else { &digest::SHA512 };
            let stored_key = digest::digest(algorithm, &client_key);
            let signature = self.hmac(stored_key.as_ref(), signed.as_bytes());
            let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
            let server = self.hmac(&self.hmac(&salted, b"Server Key"), signed.as_bytes());
            (format!("{without_proof},p={}", BASE64.encode(proof)), BASE64.encode(server))
        }
    }

    /// What an administrator's client makes of a password (SCRAM-SHA-256).
    pub(in crate::access) fn upsertion(user: &str, password: &str, iterations: u32) -> ScramCredentialUpsertion {
        let salt = b"0123456789abcdef";
        ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(1)
            .with_iterations(i32::try_from(iterations).unwrap())
            .with_salt(Bytes::from_static(salt))
            .with_salted_password(Bytes::from(Hash::Sha256.salted(password, salt, iterations)))
    }
}
