//! Packets of both protocol versions as one set of words, and back: the only file that knows the codec's types.
//!
//! Pure. Framing is done here, so that the length of a packet is known, and held against the limit, before its bytes are.
//! A packet over the limit is either the end of the conversation (version 5 was told the limit; and anything huge) or, in
//! 3.1.1, read past with its id kept, so that it is acknowledged and does not come again for ever (MQ-06, MQ-08).
//!
//! Long because: each word of one version stands beside the same word of the other.

use bytes::{Buf, Bytes, BytesMut};

/// Larger packets are not even read past; the connection ends.
pub const SKIPPED_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a skipped packet that may stand before its id: topic and its length.
const SKIPPED_HEAD_MAX: usize = 2 + 65_535 + 2;

/// Protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V311,
    V5,
}

impl Version {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

/// What is said at the beginning.
#[derive(Debug, Clone)]
pub struct Hello<'a> {
    pub client_id: &'a str,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub session_expiry_s: u32,
    pub receive_max: u16,
    pub packet_max: u32,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
    /// Topic and payload of a retained last will.
    pub will: Option<(&'a str, &'a str)>,
}

/// Whether a broker sends what it kept when somebody subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Always,
    Never,
}

/// A received message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    /// 0 for quality of service 0.
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
    pub content_type: Option<String>,
    /// At most [`super::config::USER_PROPERTIES_MAX`].
    pub user: Vec<(String, String)>,
    /// The subscriptions it matched, where the broker says so.
    pub subscriptions: Vec<usize>,
}

/// What the other side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    Welcome(Welcome),
    Message(Message),
    /// A message over the limit: its bytes are read past.
    Skipped {
        topic: String,
        id: u16,
        qos: u8,
        bytes: usize,
    },
    Release {
        id: u16,
    },
    Subscribed {
        id: u16,
        granted: Result<u8, String>,
    },
    Pong,
    Goodbye {
        taken_over: bool,
        reason: String,
    },
    /// Nothing a subscriber acts on.
    Other,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Welcome {
    pub session_present: bool,
    pub refused: Option<Refusal>,
    /// As it came; what it means depends on the version.
    pub code: u8,
    pub reason: Option<String>,
    pub keep_alive_s: Option<u16>,
}

/// Why we are not welcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Version,
    /// User, password, access list.
    Login,
    ClientId,
    /// Anything that may pass.
    Busy(&'static str),
}

/// Why the bytes end the conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    #[error("a packet of {bytes} bytes, {max} are taken")]
    TooLarge { bytes: usize, max: usize },
    #[error("a malformed packet: {0}")]
    Malformed(String),
}

/// An acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    Received1,
    Received2,
    Complete,
}

/// Cuts the bytes of a connection into packets.
#[derive(Debug)]
pub struct Deframer {
    pub buffer: BytesMut,
    version: Version,
    max: usize,
    /// Bytes still to be read past.
    skip: usize,
}

impl Deframer {
    pub fn new(version: Version, max: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(4096), version, max, skip: 0 }
    }

    /// The next packet; `None` when more bytes are needed.
    pub fn next_packet(&mut self) -> Result<Option<Incoming>, Defect> {
        if self.skip > 0 {
            let now = self.skip.min(self.buffer.len());
            self.buffer.advance(now);
            self.skip -= now;
            if self.skip > 0 {
                return Ok(None);
            }
        }
        let Some((first, head, length)) = fixed_header(&self.buffer)? else { return Ok(None) };
        let whole = head + length;
        if whole > self.max {
            let is_publish = first >> 4 == 3;
            if self.version == Version::V5 || whole > SKIPPED_MAX || !is_publish {
                return Err(Defect::TooLarge { bytes: whole, max: self.max });
            }
            return self.skip_publish(first, head, whole);
        }
        if self.buffer.len() < whole {
            self.buffer.reserve(whole - self.buffer.len());
            return Ok(None);
        }
        let mut packet = self.buffer.split_to(whole);
        let code = packet.get(head + 1).copied().unwrap_or_default();
        let incoming = match self.version {
            Version::V311 => v311::read(&mut packet),
            Version::V5 => v5::read(&mut packet),
        };
        incoming.map(|incoming| match incoming {
            Incoming::Welcome(welcome) => Some(Incoming::Welcome(Welcome { code, ..welcome })),
            other => Some(other),
        })
    }

    fn skip_publish(&mut self, first: u8, head: usize, whole: usize) -> Result<Option<Incoming>, Defect> {
        let qos = first >> 1 & 3;
        let Some(length) = self.buffer.get(head..head + 2) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let id_at = head + 2 + length;
        let end = if qos > 0 { id_at + 2 } else { id_at };
        if end > whole || end - head > SKIPPED_HEAD_MAX {
            return Err(Defect::Malformed("its topic is longer than itself".to_owned()));
        }
        if self.buffer.len() < end {
            return Ok(None);
        }
        let topic = String::from_utf8_lossy(&self.buffer[head + 2..id_at]).into_owned();
        let id = if qos > 0 { u16::from_be_bytes([self.buffer[id_at], self.buffer[id_at + 1]]) } else { 0 };
        self.skip = whole;
        let now = self.buffer.len().min(whole);
        self.buffer.advance(now);
        self.skip -= now;
        Ok(Some(Incoming::Skipped { topic, id, qos, bytes: whole }))
    }
}

/// First byte, length of the fixed header, remaining length; `None` when more bytes are needed.
fn fixed_header(bytes: &[u8]) -> Result<Option<(u8, usize, usize)>, Defect> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    let mut length = 0;
    for (place, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((*first, 2 + place, length)));
        }
    }
    if rest.len() >= 4 { Err(Defect::Malformed("its length has five bytes".to_owned())) } else { Ok(None) }
}

/// Appends the first packet of a connection.
pub fn hello(version: Version, hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), Defect> {
    match version {
        Version::V311 => v311::hello(hello, out),
        Version::V5 => v5::hello(hello, out),
    }
}

/// Appends a subscription; `place` is what messages name it by, from 0.
pub fn subscribe(
    version: Version,
    id: u16,
    place: usize,
    filter: &str,
    qos: u8,
    kept: Kept,
    out: &mut BytesMut,
) -> Result<(), Defect> {
    match version {
        Version::V311 => v311::subscribe(id, filter, qos, out),
        Version::V5 => v5::subscribe(id, place, filter, qos, kept, out),
    }
}

/// Appends a message of quality of service 0.
pub fn publish(version: Version, topic: &str, payload: &[u8], retain: bool, out: &mut BytesMut) -> Result<(), Defect> {
    match version {
        Version::V311 => v311::publish(topic, payload, retain, out),
        Version::V5 => v5::publish(topic, payload, retain, out),
    }
}

/// Appends an acknowledgement: the same four bytes in both versions.
pub fn ack(ack: Ack, id: u16, out: &mut BytesMut) {
    let first = match ack {
        Ack::Received1 => 0x40,
        Ack::Received2 => 0x50,
        Ack::Complete => 0x70,
    };
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[first, 2, high, low]);
}

/// Appends the question whether the other side is there.
pub fn ping(out: &mut BytesMut) {
    out.extend_from_slice(&[0xC0, 0]);
}

/// Appends the end of the conversation; `code` is version 5's.
pub fn goodbye(version: Version, code: u8, out: &mut BytesMut) {
    match version {
        Version::V5 if code != 0 => out.extend_from_slice(&[0xE0, 1, code]),
        _ => out.extend_from_slice(&[0xE0, 0]),
    }
}

/// Reason code of version 5 for a defect.
pub fn code_of(defect: &Defect) -> u8 {
    match defect {
        Defect::TooLarge { .. } => 0x95,
        Defect::Malformed(_) => 0x81,
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Defect {
    Defect::Malformed(error.to_string())
}

fn topic_of(topic: &Bytes) -> Result<String, Defect> {
    let text = std::str::from_utf8(topic).map_err(|error| malformed(&error))?;
    if text.contains(['\0', '+', '#']) {
        return Err(Defect::Malformed("its topic has a wildcard or a zero in it".to_owned()));
    }
    Ok(text.to_owned())
}

mod v311 {
    use bytes::BytesMut;
    use mqtt311::mqttbytes::v4::{
        Connect, ConnectAuth, ConnectReturnCode, LastWill, Packet, Publish, Subscribe, SubscribeFilter,
        SubscribeReasonCode,
    };
    use mqtt311::mqttbytes::{QoS, qos as qos_of};

    use super::{Defect, Hello, Incoming, Message, Refusal, Welcome, malformed, topic_of};

    pub(super) fn read(packet: &mut BytesMut) -> Result<Incoming, Defect> {
        let length = packet.len();
        Ok(match Packet::read(packet, length).map_err(|error| malformed(&error))? {
            Packet::ConnAck(answer) => Incoming::Welcome(Welcome {
                session_present: answer.session_present,
                refused: match answer.code {
                    ConnectReturnCode::Success => None,
                    ConnectReturnCode::RefusedProtocolVersion => Some(Refusal::Version),
                    ConnectReturnCode::BadClientId => Some(Refusal::ClientId),
                    ConnectReturnCode::ServiceUnavailable => Some(Refusal::Busy("it is not available")),
                    ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized => Some(Refusal::Login),
                },
                ..Welcome::default()
            }),
            Packet::Publish(publish) => Incoming::Message(Message {
                topic: topic_of(&publish.topic)?,
                payload: publish.payload,
                qos: publish.qos as u8,
                id: publish.pkid,
                dup: publish.dup,
                retain: publish.retain,
                content_type: None,
                user: Vec::new(),
                subscriptions: Vec::new(),
            }),
            Packet::PubRel(release) => Incoming::Release { id: release.pkid },
            Packet::SubAck(answer) => {
                let granted = match answer.return_codes.first() {
                    Some(SubscribeReasonCode::Success(qos)) => Ok(*qos as u8),
                    Some(SubscribeReasonCode::Failure) | None => Err("0x80 refused".to_owned()),
                };
                Incoming::Subscribed { id: answer.pkid, granted }
            }
            Packet::PingResp => Incoming::Pong,
            _ => Incoming::Other,
        })
    }

    pub(super) fn hello(hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), Defect> {
        let mut connect = Connect::new(hello.client_id);
        connect.keep_alive = hello.keep_alive_s;
        connect.clean_session = hello.clean;
        connect.auth = match (hello.username, hello.password) {
            (Some(username), Some(password)) => ConnectAuth::UsernamePassword {
                username: username.to_owned(),
                password: password.as_bytes().to_vec().into(),
            },
            (Some(username), None) => ConnectAuth::Username { username: username.to_owned() },
            (None, _) => ConnectAuth::None,
        };
        connect.last_will =
            hello.will.map(|(topic, payload)| LastWill::new(topic, payload.as_bytes(), QoS::AtLeastOnce, true));
        connect.write(out).map(|_| ()).map_err(|error| malformed(&error))
    }

    pub(super) fn subscribe(id: u16, filter: &str, qos: u8, out: &mut BytesMut) -> Result<(), Defect> {
        let qos = qos_of(qos).map_err(|error| malformed(&error))?;
        let packet = Subscribe { pkid: id, filters: vec![SubscribeFilter::new(filter.to_owned(), qos)] };
        packet.write(out).map(|_| ()).map_err(|error| malformed(&error))
    }

    pub(super) fn publish(topic: &str, payload: &[u8], retain: bool, out: &mut BytesMut) -> Result<(), Defect> {
        let mut packet = Publish::new(topic, QoS::AtMostOnce, payload);
        packet.retain = retain;
        packet.write(out).map(|_| ()).map_err(|error| malformed(&error))
    }
}

mod v5 {
    use bytes::BytesMut;
    use mqtt5::mqttbytes::v5::{
        Connect, ConnectAuth, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, LastWill, Packet, Publish,
        RetainForwardRule, Subscribe, SubscribeFilter, SubscribeProperties, SubscribeReasonCode,
    };
    use mqtt5::mqttbytes::{QoS, qos as qos_of};

    use super::{Defect, Hello, Incoming, Kept, Message, Refusal, Welcome, malformed, topic_of};
    use crate::mqtt::config::USER_PROPERTIES_MAX;

    pub(super) fn read(packet: &mut BytesMut) -> Result<Incoming, Defect> {
        // a broker that knows only the old version answers in it
        if let [0x20, 2, flags, code] = packet[..] {
            let refused = match code {
                0 => None,
                1 => Some(Refusal::Version),
                2 => Some(Refusal::ClientId),
                4 | 5 => Some(Refusal::Login),
                _ => Some(Refusal::Busy("it answers as version 3.1.1 does")),
            };
            return Ok(Incoming::Welcome(Welcome { session_present: flags & 1 == 1, refused, ..Welcome::default() }));
        }
        // the codec asks for the length of properties that the protocol lets a goodbye leave out
        if let [0xE0, 1, code] = packet[..] {
            *packet = BytesMut::from(&[0xE0, 2, code, 0][..]);
        }
        Ok(match Packet::read(packet, None).map_err(|error| malformed(&error))? {
            Packet::ConnAck(answer) => {
                let properties = answer.properties;
                Incoming::Welcome(Welcome {
                    session_present: answer.session_present,
                    refused: refusal(answer.code),
                    code: 0,
                    reason: properties.as_ref().and_then(|properties| properties.reason_string.clone()),
                    keep_alive_s: properties.and_then(|properties| properties.server_keep_alive),
                })
            }
            Packet::Publish(publish) => message(publish)?,
            Packet::PubRel(release) => Incoming::Release { id: release.pkid },
            Packet::SubAck(answer) => {
                let granted = match answer.return_codes.first() {
                    Some(SubscribeReasonCode::Success(qos)) => Ok(*qos as u8),
                    Some(code) => Err(format!("{} {}", subscribe_code(*code), words(&format!("{code:?}")))),
                    None => Err("no code".to_owned()),
                };
                Incoming::Subscribed { id: answer.pkid, granted }
            }
            Packet::PingResp => Incoming::Pong,
            Packet::Disconnect(end) => {
                let said = end.properties.and_then(|properties| properties.reason_string);
                Incoming::Goodbye {
                    taken_over: end.reason_code == DisconnectReasonCode::SessionTakenOver,
                    reason: said.unwrap_or_else(|| words(&format!("{:?}", end.reason_code))),
                }
            }
            _ => Incoming::Other,
        })
    }

    fn message(publish: Publish) -> Result<Incoming, Defect> {
        let topic = topic_of(&publish.topic)?;
        let properties = publish.properties.unwrap_or_default();
        // we have announced that we take no aliases (MQ-08)
        if topic.is_empty() || properties.topic_alias.is_some() {
            return Err(Defect::Malformed("it names its topic by an alias, none are taken".to_owned()));
        }
        let mut user = properties.user_properties;
        user.truncate(USER_PROPERTIES_MAX);
        Ok(Incoming::Message(Message {
            topic,
            payload: publish.payload,
            qos: publish.qos as u8,
            id: publish.pkid,
            dup: publish.dup,
            retain: publish.retain,
            content_type: properties.content_type,
            user,
            subscriptions: properties.subscription_identifiers.iter().filter_map(|id| id.checked_sub(1)).collect(),
        }))
    }

    fn refusal(code: ConnectReturnCode) -> Option<Refusal> {
        Some(match code {
            ConnectReturnCode::Success => return None,
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion => {
                Refusal::Version
            }
            ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => Refusal::ClientId,
            ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::Banned
            | ConnectReturnCode::BadAuthenticationMethod => Refusal::Login,
            ConnectReturnCode::UseAnotherServer | ConnectReturnCode::ServerMoved => {
                Refusal::Busy("it names another server; that is not followed")
            }
            ConnectReturnCode::ServerBusy | ConnectReturnCode::ConnectionRateExceeded => Refusal::Busy("it is busy"),
            ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => {
                Refusal::Busy("it is not available")
            }
            ConnectReturnCode::QuotaExceeded => Refusal::Busy("a quota is used up"),
            _ => Refusal::Busy("it does not accept the connection"),
        })
    }

    fn subscribe_code(code: SubscribeReasonCode) -> &'static str {
        match code {
            SubscribeReasonCode::Success(_) => "0x00",
            SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => "0x80",
            SubscribeReasonCode::ImplementationSpecific => "0x83",
            SubscribeReasonCode::NotAuthorized => "0x87",
            SubscribeReasonCode::TopicFilterInvalid => "0x8F",
            SubscribeReasonCode::PkidInUse => "0x91",
            SubscribeReasonCode::QuotaExceeded => "0x97",
            SubscribeReasonCode::SharedSubscriptionsNotSupported => "0x9E",
            SubscribeReasonCode::SubscriptionIdNotSupported => "0xA1",
            SubscribeReasonCode::WildcardSubscriptionsNotSupported => "0xA2",
        }
    }

    /// `NotAuthorized` as a person writes it.
    fn words(name: &str) -> String {
        let mut text = String::with_capacity(name.len() + 4);
        for (place, letter) in name.chars().enumerate() {
            if letter.is_uppercase() && place > 0 {
                text.push(' ');
            }
            text.extend(letter.to_lowercase());
        }
        text
    }

    pub(super) fn hello(hello: &Hello<'_>, out: &mut BytesMut) -> Result<(), Defect> {
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(if hello.clean { 0 } else { hello.session_expiry_s });
        properties.receive_maximum = Some(hello.receive_max);
        properties.max_packet_size = Some(hello.packet_max);
        properties.topic_alias_max = Some(0);
        let connect = Connect {
            keep_alive: hello.keep_alive_s,
            client_id: hello.client_id.to_owned(),
            clean_start: hello.clean,
            properties: Some(properties),
        };
        let password = hello.password.map(|password| password.as_bytes().to_vec().into());
        let auth = match (hello.username.map(str::to_owned), password) {
            (Some(username), Some(password)) => ConnectAuth::UsernamePassword { username, password },
            (Some(username), None) => ConnectAuth::Username { username },
            (None, Some(password)) => ConnectAuth::Password { password },
            (None, None) => ConnectAuth::None,
        };
        let will = hello.will.map(|(topic, payload)| LastWill::new(topic, payload, QoS::AtLeastOnce, true, None));
        connect.write(&will, &auth, out).map(|_| ()).map_err(|error| malformed(&error))
    }

    pub(super) fn subscribe(
        id: u16,
        place: usize,
        filter: &str,
        qos: u8,
        kept: Kept,
        out: &mut BytesMut,
    ) -> Result<(), Defect> {
        let qos = qos_of(qos).map_err(|error| malformed(&error))?;
        let mut wanted = SubscribeFilter::new(filter, qos);
        wanted.retain_forward_rule = match kept {
            Kept::Always => RetainForwardRule::OnEverySubscribe,
            Kept::Never => RetainForwardRule::Never,
        };
        let properties = SubscribeProperties { id: Some(place + 1), user_properties: Vec::new() };
        let packet = Subscribe { pkid: id, filters: vec![wanted], properties: Some(properties) };
        packet.write(out).map(|_| ()).map_err(|error| malformed(&error))
    }

    pub(super) fn publish(topic: &str, payload: &[u8], retain: bool, out: &mut BytesMut) -> Result<(), Defect> {
        let mut packet = Publish::new(topic, QoS::AtMostOnce, payload.to_vec(), None);
        packet.retain = retain;
        packet.write(out).map(|_| ()).map_err(|error| malformed(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(version: Version, max: usize, bytes: &[u8]) -> Result<Vec<Incoming>, Defect> {
        let mut deframer = Deframer::new(version, max);
        let mut out = Vec::new();
        for byte in bytes {
            deframer.buffer.extend_from_slice(&[*byte]);
            while let Some(packet) = deframer.next_packet()? {
                out.push(packet);
            }
        }
        Ok(out)
    }

    #[test]
    fn messages_byte_by_byte_in_both_versions() {
        for version in [Version::V311, Version::V5] {
            let mut out = BytesMut::new();
            publish(version, "a/b", b"21.5", true, &mut out).unwrap();
            out.extend_from_slice(&[0xD0, 0]);
            let [Incoming::Message(message), Incoming::Pong] = &fed(version, 1000, &out).unwrap()[..] else {
                panic!("a message and a pong")
            };
            assert_eq!((message.topic.as_str(), &message.payload[..], message.retain), ("a/b", &b"21.5"[..], true));
        }
    }

    // MQ-08, 43 of the security table
    #[test]
    fn what_is_too_large_or_torn_ends_or_is_read_past_and_nothing_is_kept() {
        let large = [&[0x32, 0x90, 0x4E, 0, 1, b't', 0, 9][..], &[7; 10_000 - 5], &[0xD0, 0]].concat();
        let skipped = Incoming::Skipped { topic: "t".to_owned(), id: 9, qos: 1, bytes: 10_003 };
        assert_eq!(fed(Version::V311, 1000, &large).unwrap(), [skipped, Incoming::Pong]);
        assert!(matches!(fed(Version::V5, 1000, &large), Err(Defect::TooLarge { bytes: 10_003, .. })));
        // 256 MB, and a length of five bytes
        assert!(matches!(fed(Version::V311, 1000, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), Err(Defect::TooLarge { .. })));
        assert!(matches!(fed(Version::V311, 1000, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Err(Defect::Malformed(_))));
        for topic in [&b"a\xFF"[..], b"a\0", b"a/+", b"#"] {
            let bytes = [&[0x30, u8::try_from(topic.len()).unwrap() + 2, 0, u8::try_from(topic.len()).unwrap()], topic]
                .concat();
            assert!(matches!(fed(Version::V311, 1000, &bytes), Err(Defect::Malformed(_))), "{topic:?}");
        }
    }

    // MQ-01
    #[test]
    fn a_goodbye_says_why_with_and_without_properties() {
        let expected = Incoming::Goodbye { taken_over: true, reason: "session taken over".to_owned() };
        for bytes in [&[0xE0, 1, 0x8E][..], &[0xE0, 2, 0x8E, 0]] {
            assert_eq!(fed(Version::V5, 1000, bytes).unwrap(), std::slice::from_ref(&expected));
        }
    }

    #[test]
    fn an_old_broker_is_understood() {
        let expected = Welcome { refused: Some(Refusal::Version), code: 1, ..Welcome::default() };
        assert_eq!(fed(Version::V5, 1000, &[0x20, 2, 0, 1]).unwrap(), [Incoming::Welcome(expected)]);
    }

    // AC-102
    #[test]
    fn random_bytes_never_panic() {
        let mut state = 88_172_645_463_325_252_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..40_000_u64 {
            let version = if round % 2 == 0 { Version::V311 } else { Version::V5 };
            let length = usize::try_from(random() % 60).unwrap();
            let mut bytes: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
            if length > 2 && round % 3 > 0 {
                bytes[1] = u8::try_from(length - 2).unwrap();
            }
            let mut deframer = Deframer::new(version, 64);
            deframer.buffer.extend_from_slice(&bytes);
            while let Ok(Some(_)) = deframer.next_packet() {}
        }
    }
}
