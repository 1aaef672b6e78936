//! One connection to a server: opened, greeted, read and written; no state of the session and no patience.
//!
//! Invariant: [`Connection::proceed`] may be dropped at any time without losing a byte (law 7 of the adapter): what was read
//! stands in `input`, what is to be written stays in `out` until it was.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::stack::{Channel, Incoming, NodeId, RequestHeader, RequestMessage, ResponseMessage, Security, StatusCode};
use crate::adapter::LinkError;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// A login that is refused is not tried again sooner (UA-03).
pub const LOGIN_WAIT: Duration = Duration::from_secs(60);
/// Answers nobody waits for yet while one is waited for; more end the connection.
const INBOX_MAX: usize = 1000;

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    pub host: &'a str,
    pub port: u16,
    /// Named in the greeting.
    pub url: &'a str,
    pub pki: &'a Path,
    pub deadline: Instant,
    /// The whole time there was, for messages.
    pub timeout: Duration,
}

/// An open channel.
#[derive(Debug)]
pub struct Connection {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    channel: Channel,
    input: BytesMut,
    out: BytesMut,
    inbox: VecDeque<Incoming>,
    target: String,
    /// When the channel is to be given a new token (UA-07).
    pub renew_at: Instant,
}

/// Why a question has no answer.
#[derive(Debug)]
pub enum CallError {
    /// The connection is of no use any more.
    Link(LinkError),
    /// The server says no.
    Refused(StatusCode),
    /// The answer cannot be understood.
    Undecodable(String),
}

impl From<LinkError> for CallError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl Connection {
    /// Connects, greets and opens the channel.
    pub async fn open(target: &Target<'_>, security: Security) -> Result<Self, LinkError> {
        let name = format!("{}:{}", target.host, target.port);
        let late = || LinkError::ConnectTimeout { target: name.clone(), timeout: target.timeout };
        let connecting = TcpStream::connect((target.host, target.port));
        let stream = tokio::time::timeout_at(target.deadline, connecting)
            .await
            .map_err(|_| late())?
            .map_err(|source| LinkError::Connect { target: name.clone(), source })?;
        let mut connection = Self::over(stream, target, security)?;
        let greeting = async {
            connection.greet(target.url).await?;
            connection.open_channel().await
        };
        tokio::time::timeout_at(target.deadline, greeting).await.map_err(|_| late())??;
        Ok(connection)
    }

    /// Over a socket that is connected already; nothing is said yet.
    pub fn over(stream: TcpStream, target: &Target<'_>, security: Security) -> Result<Self, LinkError> {
        let name = format!("{}:{}", target.host, target.port);
        stream.set_nodelay(true).map_err(|source| LinkError::Connect { target: name.clone(), source })?;
        let (reader, writer) = stream.into_split();
        let channel = Channel::new(target.pki, security)
            .map_err(|defect| LinkError::Setup { target: name.clone(), what: defect.what })?;
        Ok(Self {
            reader,
            writer,
            channel,
            input: BytesMut::new(),
            out: BytesMut::new(),
            inbox: VecDeque::new(),
            target: name,
            renew_at: Instant::now(),
        })
    }

    /// Says hello.
    pub async fn greet(&mut self, url: &str) -> Result<(), LinkError> {
        self.channel.hello(url, &mut self.out);
        match self.wait().await? {
            Incoming::Acknowledged => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Opens the channel, after the greeting.
    pub async fn open_channel(&mut self) -> Result<(), LinkError> {
        self.renew(false)?;
        match self.wait().await? {
            Incoming::Opened { renew_after } => {
                self.renew_at = Instant::now() + renew_after;
                Ok(())
            }
            // some servers answer with a fault where others end the connection: both say why
            Incoming::Response { message, .. } if message.response_header().service_result.is_bad() => {
                Err(self.ended(message.response_header().service_result, ""))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// Opens the channel, or asks for a new token.
    pub fn renew(&mut self, again: bool) -> Result<(), LinkError> {
        let asked = self.channel.open(again, &mut self.out);
        asked.map_err(|defect| LinkError::Setup { target: self.target.clone(), what: defect.what })
    }

    /// The session that further requests belong to.
    pub fn set_token(&mut self, token: NodeId) {
        self.channel.set_token(token);
    }

    pub fn security(&self) -> &Security {
        self.channel.security()
    }

    pub fn target(&self) -> &str {
        &self.target
    }

    /// Writes a request for later; its answer comes by [`Self::next_message`].
    pub fn send(&mut self, build: impl FnOnce(RequestHeader) -> RequestMessage) -> Result<u32, LinkError> {
        self.channel.send(&mut self.out, build).map_err(|defect| self.out_of_step(defect.what))
    }

    /// Asks and waits for the answer; what else comes meanwhile stays for [`Self::next_message`].
    pub async fn call(
        &mut self,
        deadline: Instant,
        build: impl FnOnce(RequestHeader) -> RequestMessage,
    ) -> Result<ResponseMessage, CallError> {
        let asked = self.send(build)?;
        let silent = LinkError::Silent { target: self.target.clone(), timeouts: 1 };
        let answering = async {
            loop {
                match self.wait().await? {
                    Incoming::Response { request, message } if request == asked => return Ok(message),
                    Incoming::Undecodable { request, why } if request == asked => {
                        return Err(CallError::Undecodable(why));
                    }
                    other => {
                        if self.inbox.len() >= INBOX_MAX {
                            return Err(self.out_of_step("it sends what nobody asked for".to_owned()).into());
                        }
                        self.inbox.push_back(other);
                    }
                }
            }
        };
        let message = tokio::time::timeout_at(deadline, answering).await.map_err(|_| silent)??;
        let status = message.response_header().service_result;
        if status.is_bad() { Err(CallError::Refused(status)) } else { Ok(message) }
    }

    /// The next message of the socket.
    async fn wait(&mut self) -> Result<Incoming, LinkError> {
        loop {
            if let Some(incoming) = self.take()? {
                return Ok(incoming);
            }
            self.proceed().await?;
        }
    }

    fn take(&mut self) -> Result<Option<Incoming>, LinkError> {
        let taken = self.channel.take(&mut self.input);
        match taken.map_err(|defect| self.out_of_step(defect.what))? {
            Some(Incoming::Ended { status, reason }) => Err(self.ended(status, &reason)),
            other => Ok(other),
        }
    }

    /// What is here already.
    pub fn next_message(&mut self) -> Result<Option<Incoming>, LinkError> {
        match self.inbox.pop_front() {
            Some(incoming) => Ok(Some(incoming)),
            None => self.take(),
        }
    }

    /// Sends and reads, whichever can be done.
    pub async fn proceed(&mut self) -> Result<(), LinkError> {
        let Self { reader, writer, input, out, target, .. } = self;
        input.reserve(READ_BYTES.min(8192));
        let broken = |source| LinkError::Broken { target: target.clone(), source };
        tokio::select! { // cancel-safe: bytes move one way or stay where they are
            wrote = writer.write_buf(out), if out.has_remaining() => match wrote {
                Ok(0) => Err(LinkError::Closed { target: target.clone() }),
                Ok(_) => Ok(()),
                Err(source) => Err(broken(source)),
            },
            read = reader.read_buf(input) => match read {
                Ok(0) => Err(LinkError::Closed { target: target.clone() }),
                Ok(_) => Ok(()),
                Err(source) => Err(broken(source)),
            },
        }
    }

    /// Ends the channel politely.
    pub async fn finish(mut self) {
        if self.channel.close(&mut self.out).is_ok() {
            while self.out.has_remaining() && self.writer.write_buf(&mut self.out).await.is_ok_and(|count| count > 0) {}
        }
        drop(self.writer.shutdown().await);
    }

    pub fn out_of_step(&self, what: String) -> LinkError {
        LinkError::OutOfStep { target: self.target.clone(), what }
    }

    fn unexpected(&self, incoming: &Incoming) -> LinkError {
        match incoming {
            Incoming::Undecodable { why, .. } => self.out_of_step(why.clone()),
            other => self.out_of_step(format!("it answers the greeting with {other:.100?}")),
        }
    }

    fn ended(&self, status: StatusCode, reason: &str) -> LinkError {
        refusal(&self.target, status, reason)
    }
}

/// What a refusal of the server means for us: what to try, and how long to stay away.
pub fn refusal(target: &str, status: StatusCode, reason: &str) -> LinkError {
    let code = status.to_string();
    let (hint, wait_min) = match code.as_str() {
        "BadUserAccessDenied" | "BadIdentityTokenRejected" | "BadIdentityTokenInvalid" => {
            ("the login is refused: check user and password at the server", LOGIN_WAIT)
        }
        "BadCertificateTimeInvalid" | "BadInvalidTimestamp" => ("check gateway and server clock", Duration::ZERO),
        "BadSecurityChecksFailed" | "BadCertificateUntrusted" | "BadCertificateInvalid" | "BadNoValidCertificates" => {
            ("the server does not trust our certificate: trust own/cert.der there", Duration::ZERO)
        }
        "BadCertificateUriInvalid" => ("our certificate does not name our application", Duration::ZERO),
        "BadTooManySessions" | "BadTooManySubscriptions" => {
            ("the server has no room: end other clients, or raise its limits", LOGIN_WAIT)
        }
        "BadSecurityPolicyRejected" | "BadSecurityModeRejected" => {
            ("the server does not take this security_policy", Duration::ZERO)
        }
        "BadTcpEndpointUrlInvalid" => ("the server does not know this path: check url", Duration::ZERO),
        _ => ("", Duration::ZERO),
    };
    let reason = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    LinkError::Refused { target: target.to_owned(), what: format!("{code}{reason}{hint}"), wait_min }
}

/// True if it is the login that is refused.
pub fn is_login(status: StatusCode) -> bool {
    let code = status.to_string();
    ["BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid"].contains(&code.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    // UA-03, UA-06: no hint ever says to switch a check off
    #[test]
    fn a_refusal_says_what_to_try() {
        let said = |status: StatusCode| refusal("plc:4840", status, "");
        let clock = said(StatusCode::BadCertificateTimeInvalid).to_string();
        assert_eq!(clock, "plc:4840 refused: BadCertificateTimeInvalid; check gateway and server clock");
        assert_eq!(said(StatusCode::BadUserAccessDenied).wait_min(), LOGIN_WAIT);
        assert!(is_login(StatusCode::BadIdentityTokenRejected) && !is_login(StatusCode::BadTimeout));
        assert_eq!(said(StatusCode::BadTimeout).to_string(), "plc:4840 refused: BadTimeout");
    }
}
