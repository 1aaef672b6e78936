//! A connection of a person who looks at a broker: made in stages, with a clean session that ends with the look (ui 1.4).
//!
//! The client id is its own, so an adapter that listens beside it is not pushed out, and nothing that the broker keeps for
//! that adapter is taken. Nothing is published.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::codes;
use super::config::{BrokerPlan, TlsPlan};
use super::connection::{Connection, Stream};
use super::packet::{self, Ack, Hello, Incoming, Kept, Message, Refusal, Version, Welcome};
use super::tls;
use crate::adapter::LinkError;
use crate::commission::reach::{connect, resolve};
use crate::commission::stages::{Course, Failed, Words};
use crate::commission::text::shown;

/// What to try when nothing listens.
const WHEN_REFUSED: &str = "the broker is off, or it listens at another port: 1883 is usual in clear, 8883 with TLS";

/// Who looks, and where.
#[derive(Debug, Clone)]
pub struct Guest {
    pub plan: BrokerPlan,
    pub password: Option<String>,
}

/// An open connection.
#[derive(Debug)]
pub struct Visit {
    pub connection: Connection,
    pub version: Version,
    /// When the other side is to be asked whether it is there.
    ping_at: Instant,
    keep_alive: Duration,
}

/// What came in.
#[derive(Debug)]
pub enum Heard {
    Message(Message),
    /// A message over the limit was read past.
    TooLarge {
        topic: String,
        bytes: usize,
    },
    Subscribed(Result<u8, String>),
    /// The broker ends the connection.
    Goodbye(String),
}

impl Visit {
    pub fn subscribe(&mut self, filter: &str, qos: u8) -> Result<(), LinkError> {
        let mut out = BytesMut::new();
        let asked = packet::subscribe(self.version, 1, 0, filter, qos, Kept::Always, &mut out);
        asked.map_err(|defect| self.connection.out_of_step(&defect))?;
        self.connection.out.extend_from_slice(&out);
        Ok(())
    }

    /// The next thing of interest; none when the time is over. May be dropped at any time.
    pub async fn next(&mut self, deadline: Instant) -> Result<Option<Heard>, LinkError> {
        loop {
            if Instant::now() >= deadline {
                return Ok(None); // however much stands in the buffer
            }
            match self.connection.deframer.next_packet() {
                Err(defect) => return Err(self.connection.out_of_step(&defect)),
                Ok(Some(Incoming::Message(message))) => {
                    match message.qos {
                        1 => packet::ack(Ack::Received1, message.id, &mut self.connection.out),
                        2 => packet::ack(Ack::Received2, message.id, &mut self.connection.out),
                        _ => {}
                    }
                    return Ok(Some(Heard::Message(message)));
                }
                Ok(Some(Incoming::Release { id })) => packet::ack(Ack::Complete, id, &mut self.connection.out),
                Ok(Some(Incoming::Skipped { topic, bytes, .. })) => return Ok(Some(Heard::TooLarge { topic, bytes })),
                Ok(Some(Incoming::Subscribed { granted, .. })) => return Ok(Some(Heard::Subscribed(granted))),
                Ok(Some(Incoming::Goodbye { reason, .. })) => return Ok(Some(Heard::Goodbye(reason))),
                Ok(Some(Incoming::Welcome(_) | Incoming::Pong | Incoming::Other)) => {}
                Ok(None) => {
                    if Instant::now() >= self.ping_at {
                        packet::ping(&mut self.connection.out);
                        self.ping_at = Instant::now() + self.keep_alive;
                    }
                    tokio::select! { // cancel-safe: `proceed` is, the other only waits
                        proceeded = self.connection.proceed(true) => proceeded?,
                        () = tokio::time::sleep_until(deadline.min(self.ping_at)) => {}
                    }
                }
            }
        }
    }

    /// Says goodbye.
    pub async fn leave(mut self) {
        packet::goodbye(self.version, 0, &mut self.connection.out);
        drop(tokio::time::timeout(Duration::from_secs(1), self.connection.finish()).await);
    }
}

impl Guest {
    /// Connects and logs in, stage by stage.
    pub async fn enter(&self, course: &mut Course<'_>) -> Result<Visit, Failed> {
        let (plan, patience) = (&self.plan, self.plan.connect_timeout);
        let addresses = resolve(course, &plan.host, plan.port, patience).await?;
        let stream = connect(course, &addresses, patience, WHEN_REFUSED).await?;
        let stream = self.secure(course, stream).await?;
        let first = plan.version.unwrap_or(Version::V5);
        let (mut version, mut greeted) = (first, self.greet(stream, first).await);
        if first == Version::V5 && plan.version.is_none() && is_other_version(&greeted) {
            version = Version::V311;
            greeted = match self.again(&addresses).await {
                Ok(stream) => self.greet(stream, version).await,
                Err(error) => Err(error),
            };
        }
        let (connection, welcome) = match greeted {
            Ok(greeted) => greeted,
            Err(error) => return Err(course.fail("login", unanswered(&error, plan.tls.is_some()))),
        };
        if welcome.refused.is_some() {
            let (what, hint) = codes::greeting(version, welcome.code);
            let reason = welcome.reason.map_or_else(String::new, |reason| format!(" ({})", shown(&reason, 200)));
            let words = Words::new(format!("refused with code {:#04x}: {what}{reason}", welcome.code));
            return Err(course.fail("login", words.hint(hint)));
        }
        let by = if plan.username.is_some() { "the user is taken" } else { "it lets everybody in" };
        let words = Words::new(format!("welcome by version {}, {by}", version.as_str()));
        if plan.tls.is_none() {
            course.warn(
                "login",
                words.hint("not secure: everything can be read on the way, a password too; use mqtts://"),
            );
        } else {
            course.ok("login", words);
        }
        let seconds = u64::from(welcome.keep_alive_s.unwrap_or(plan.keep_alive_s)).max(2);
        let keep_alive = Duration::from_secs(seconds / 2);
        Ok(Visit { connection, version, ping_at: Instant::now() + keep_alive, keep_alive })
    }

    async fn greet(&self, stream: Box<dyn Stream>, version: Version) -> Result<(Connection, Welcome), LinkError> {
        let own = format!("sf-look-{}", std::process::id());
        let hello = Hello {
            client_id: self.plan.client_id.as_deref().unwrap_or(&own),
            clean: true,
            keep_alive_s: self.plan.keep_alive_s,
            session_expiry_s: 0,
            receive_max: self.plan.receive_max,
            packet_max: self.plan.packet_max,
            username: self.plan.username.as_deref(),
            password: self.password.as_deref(),
            will: None,
        };
        let deadline = Instant::now() + self.plan.connect_timeout;
        Connection::greet(stream, &self.plan, version, &hello, deadline).await
    }

    /// TLS where it is asked for.
    async fn secure(&self, course: &mut Course<'_>, stream: TcpStream) -> Result<Box<dyn Stream>, Failed> {
        let Some(plan) = &self.plan.tls else { return Ok(Box::new(stream)) };
        let deadline = Instant::now() + self.plan.connect_timeout;
        match handshake(plan, &self.plan.host, stream, deadline).await {
            Ok((stream, facts)) => {
                course.ok("tls", Words::new("the certificate is good").with(facts));
                Ok(stream)
            }
            Err(words) => Err(course.fail("tls", words)),
        }
    }

    /// Once more, for the other version; what worked before needs no words.
    async fn again(&self, addresses: &[SocketAddr]) -> Result<Box<dyn Stream>, LinkError> {
        let target = self.plan.target();
        let deadline = Instant::now() + self.plan.connect_timeout;
        let late = |_| LinkError::ConnectTimeout { target: self.plan.target(), timeout: self.plan.connect_timeout };
        let stream = timeout_at(deadline, TcpStream::connect(addresses)).await.map_err(late)?;
        let stream = stream.map_err(|source| LinkError::Connect { target: target.clone(), source })?;
        let Some(plan) = &self.plan.tls else { return Ok(Box::new(stream)) };
        let secured = handshake(plan, &self.plan.host, stream, deadline).await;
        secured.map(|(stream, _)| stream).map_err(|words| LinkError::Setup { target, what: words.detail })
    }
}

fn is_other_version(greeted: &Result<(Connection, Welcome), LinkError>) -> bool {
    match greeted {
        Ok((_, welcome)) => welcome.refused == Some(Refusal::Version),
        // a broker of old hangs up on a version it has never heard of
        Err(error) => error.is_hang_up(),
    }
}

/// What a greeting without an answer means.
fn unanswered(error: &LinkError, secure: bool) -> Words {
    if let LinkError::Broken { source, .. } = error
        && let Some(words) = tls_words(source)
    {
        return words;
    }
    let other = if secure { "no broker behind this TLS port" } else { "a port that wants TLS: try mqtts://, 8883" };
    match error {
        LinkError::Closed { .. } | LinkError::Broken { .. } => {
            Words::new("the broker hung up without a word").hint(format!("is it {other}?"))
        }
        LinkError::ConnectTimeout { timeout, .. } => {
            Words::new(format!("no answer to our greeting within {timeout:?}")).hint(format!("is it {other}?"))
        }
        LinkError::OutOfStep { what, .. } => Words::new(format!("the answer is no MQTT: {}", shown(what, 200)))
            .hint("something else listens at this port"),
        other => Words::new(daemon::report(other)),
    }
}

async fn handshake(
    plan: &TlsPlan,
    host: &str,
    stream: TcpStream,
    deadline: Instant,
) -> Result<(Box<dyn Stream>, Vec<String>), Words> {
    let (connector, name) = tls::connector(plan, host).map_err(Words::new)?;
    let secured = match timeout_at(deadline, connector.connect(name, stream)).await {
        Ok(secured) => secured.map_err(|error| failed_handshake(&error))?,
        Err(_) => {
            let words = Words::new("the handshake of TLS did not end in time");
            return Err(words.hint("is it a port without TLS? try mqtt://, 1883"));
        }
    };
    let (_, session) = secured.get_ref();
    let mut facts = Vec::new();
    if let Some(version) = session.protocol_version() {
        facts.push(format!("{version:?}"));
    }
    if let Some(first) = session.peer_certificates().and_then(<[_]>::first)
        && let Ok(parsed) = Certificate::from_der(first)
    {
        let made = &parsed.tbs_certificate;
        let validity = &made.validity;
        facts.push(format!(
            "of {}, by {}",
            shown(&made.subject.to_string(), 200),
            shown(&made.issuer.to_string(), 200)
        ));
        facts.push(format!("good from {} to {}", validity.not_before, validity.not_after));
    }
    Ok((Box::new(secured), facts))
}

fn failed_handshake(error: &io::Error) -> Words {
    tls_words(error).unwrap_or_else(|| {
        let words = Words::new(format!("the handshake of TLS broke: {error}"));
        words.hint("is it a port without TLS? try mqtt://, 1883")
    })
}

/// What an error of TLS means, and what to do (MQ-10).
fn tls_words(error: &io::Error) -> Option<Words> {
    let inner = error.get_ref()?;
    let tls = inner.downcast_ref::<TlsError>().or_else(|| inner.source()?.downcast_ref::<TlsError>())?;
    let (what, hint) = match tls {
        TlsError::InvalidCertificate(why) => return Some(certificate_words(why)),
        TlsError::AlertReceived(alert) => alert_words(*alert),
        TlsError::InvalidMessage(_) => {
            ("what listens there does not speak TLS".to_owned(), "try mqtt://, 1883, or another port")
        }
        TlsError::PeerIncompatible(why) => (
            format!("no version or cipher of TLS that both sides know: {why:?}"),
            "the broker must offer TLS 1.2 or 1.3",
        ),
        other => (format!("TLS failed: {other}"), ""),
    };
    Some(Words::new(what).hint(hint))
}

fn certificate_words(why: &CertificateError) -> Words {
    const CLOCKS: &str = "have it renewed; if it is not so old, check the clock of this machine";
    const NAME: &str = "use a name that it was made for as the host, or as server_name";
    let (what, hint) = match why {
        CertificateError::UnknownIssuer => (
            "is signed by an authority that this machine does not know".to_owned(),
            "give the certificate of that authority: --ca-file, in the adapter tls.ca_file",
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => ("has ended".to_owned(), CLOCKS),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not good yet".to_owned(), "check the clock of this machine")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names: Vec<String> = presented.iter().take(10).map(|name| shown(name, 100)).collect();
            (format!("was made for other names: {}", names.join(", ")), NAME)
        }
        CertificateError::NotValidForName => ("was made for another name".to_owned(), NAME),
        CertificateError::Revoked => ("was revoked".to_owned(), "have a new one made for the broker"),
        CertificateError::BadSignature => (
            "has a signature that does not fit".to_owned(),
            "the --ca-file is another authority with the same name, or the certificate is broken",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ("was not made for a server".to_owned(), "have one made with the usage serverAuth")
        }
        CertificateError::BadEncoding => ("cannot be read".to_owned(), ""),
        other => (
            format!("is not taken: {other:?}"),
            "a certificate that signed itself must not be marked as an authority: have one made by an authority",
        ),
    };
    Words::new(format!("the broker's certificate {what}")).hint(hint)
}

fn alert_words(alert: AlertDescription) -> (String, &'static str) {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => (
            "the broker wants a certificate of ours".to_owned(),
            "give one that its authority has signed: --cert-file and --key-file",
        ),
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::DecryptError => (
            format!("the broker does not take our certificate: {alert:?}"),
            "it must be signed by the authority that the broker trusts, and not have ended",
        ),
        AlertDescription::ProtocolVersion => {
            ("the broker knows only old versions of TLS".to_owned(), "it must offer TLS 1.2 or 1.3")
        }
        AlertDescription::UnrecognisedName => {
            ("the broker does not know the host name".to_owned(), "use the name it was set up with")
        }
        other => (format!("the broker ends TLS: {other:?}"), "look at the broker's log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: TlsError) -> Words {
        tls_words(&io::Error::new(io::ErrorKind::InvalidData, error)).unwrap()
    }

    // ui 1.4, row Handshake
    #[test]
    fn what_is_wrong_with_a_certificate() {
        let of = |why| words(TlsError::InvalidCertificate(why));
        let unknown = of(CertificateError::UnknownIssuer);
        assert!(unknown.detail.contains("does not know") && unknown.hint.unwrap().contains("--ca-file"));
        assert!(of(CertificateError::Expired).hint.unwrap().contains("clock"));
        assert!(of(CertificateError::NotValidForName).hint.unwrap().contains("server_name"));
        let wanted = words(TlsError::AlertReceived(AlertDescription::CertificateRequired));
        assert!(wanted.hint.unwrap().contains("--cert-file"));
        assert!(tls_words(&io::ErrorKind::ConnectionReset.into()).is_none());
    }

    // ui 1.4: 1883 or 8883
    #[test]
    fn a_port_of_the_other_kind_is_named() {
        let closed = LinkError::Closed { target: "b".to_owned() };
        assert!(unanswered(&closed, false).hint.unwrap().contains("mqtts://, 8883"));
        assert!(failed_handshake(&io::ErrorKind::UnexpectedEof.into()).hint.unwrap().contains("1883"));
    }
}
