//! One client of the broker, from its greeting to its end.
//!
//! Invariant: reading and writing never wait for each other, so a client that stops reading is still heard when it pings;
//! one that is read from faster than it reads is not read any further.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt311::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, Publish, SubAck, SubscribeReasonCode,
    UnsubAck,
};
use mqtt311::mqttbytes::{Error, QoS, qos as qos_of, valid_filter, valid_topic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::broker::Shared;
use super::fault::{Asked, Fault};
use super::state::Message;

/// Largest packet; a larger one ends the connection.
const PACKET_MAX: usize = 1024 * 1024;
/// Bytes that wait to be sent; with more of them nothing is read and nothing taken from the session.
const OUTBOX_MAX: usize = 256 * 1024;
/// How long a new connection may take to greet.
const GREETING: Duration = Duration::from_secs(10);
/// Bytes of a client's name; a longer one is refused.
const NAME_MAX: usize = 256;
/// For a client that does not want to be watched.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why a connection goes on or ends.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    /// By a goodbye: no will.
    Goodbye,
    Close,
}

struct Client<'s> {
    name: String,
    shared: &'s Arc<Shared>,
    out: BytesMut,
}

/// Serves a connection to its end.
pub(super) async fn serve(mut stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbox = BytesMut::with_capacity(4096);
    let Some(greeting) = greeting(&mut stream, &mut inbox).await? else { return Ok(()) };
    let mut client = Client { name: greeting.client_id.clone(), shared, out: BytesMut::new() };
    let Some((connection, wake)) = client.welcome(&greeting).await else {
        return stream.write_all(&client.out).await;
    };
    // half as much again as the client promised
    let silence_max = match greeting.keep_alive {
        0 => FOREVER,
        seconds => Duration::from_millis(u64::from(seconds) * 1500),
    };
    let mut ending = Ending { shared, name: client.name.clone(), connection, said_goodbye: false };
    let result = client.converse(&mut stream, &mut inbox, connection, &wake, silence_max).await;
    ending.said_goodbye = matches!(result, Ok(Next::Goodbye));
    result.map(|_| ())
}

/// Leaves the session however the connection ends, also when its task is dropped.
struct Ending<'s> {
    shared: &'s Arc<Shared>,
    name: String,
    connection: u64,
    said_goodbye: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.state().leave(&self.name, self.connection, self.said_goodbye);
    }
}

/// The first packet; `None` when it is not a greeting we can answer any further.
async fn greeting(stream: &mut TcpStream, inbox: &mut BytesMut) -> io::Result<Option<Connect>> {
    let deadline = Instant::now() + GREETING;
    loop {
        match Packet::read(inbox, PACKET_MAX) {
            Ok(Packet::Connect(connect)) => return Ok(Some(connect)),
            Err(Error::InsufficientBytes(_)) => {}
            Err(Error::InvalidProtocolLevel(level)) => {
                tracing::info!(level, "a client speaks another version and is told to speak 3.1.1");
                let mut out = BytesMut::new();
                write(&Packet::ConnAck(ConnAck::new(ConnectReturnCode::RefusedProtocolVersion, false)), &mut out);
                stream.write_all(&out).await?;
                return Ok(None);
            }
            other => {
                tracing::info!(?other, "a connection does not begin with a greeting");
                return Ok(None);
            }
        }
        match tokio::time::timeout_at(deadline, stream.read_buf(inbox)).await {
            Ok(Ok(length)) if length > 0 => {}
            Ok(Err(error)) => return Err(error),
            _ => return Ok(None),
        }
    }
}

fn write(packet: &Packet, out: &mut BytesMut) {
    if let Err(error) = packet.write(out, usize::MAX) {
        tracing::warn!(%error, "a packet cannot be written and is left out");
    }
}

impl Client<'_> {
    fn send(&mut self, packet: &Packet) {
        write(packet, &mut self.out);
    }

    /// Answers a greeting; `None` when it is refused, with the refusal in the outbox.
    async fn welcome(&mut self, greeting: &Connect) -> Option<(u64, Arc<Notify>)> {
        let mut forgets = false;
        let refused = match self.shared.fault(&self.name, Asked::Greeting, "") {
            Some(Fault::Refuse(code)) => Some(return_code(code)),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                None
            }
            Some(Fault::Forget) => {
                forgets = true;
                None
            }
            _ => None,
        };
        let nameless = self.name.is_empty();
        let refused = refused.or_else(|| {
            let bad = self.name.len() > NAME_MAX || (nameless && !greeting.clean_session);
            bad.then_some(ConnectReturnCode::BadClientId)
        });
        let mut state = self.shared.state();
        if nameless {
            self.name = format!("auto-{}", state.counters.connections);
        }
        if forgets {
            state.forget(&self.name);
        }
        let admitted = match refused {
            None => state.admit(&self.name, greeting.clean_session, greeting.last_will.clone()),
            Some(_) => None,
        };
        drop(state);
        let Some(admitted) = admitted else {
            let code = refused.unwrap_or(ConnectReturnCode::ServiceUnavailable);
            tracing::info!(client = self.name, ?code, "a client is refused");
            self.send(&Packet::ConnAck(ConnAck::new(code, false)));
            return None;
        };
        self.shared.remember(&self.name, &Packet::Connect(greeting.clone()));
        self.send(&Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, admitted.present)));
        Some((admitted.connection, admitted.wake))
    }

    async fn converse(
        &mut self,
        stream: &mut TcpStream,
        inbox: &mut BytesMut,
        connection: u64,
        wake: &Notify,
        silence_max: Duration,
    ) -> io::Result<Next> {
        let (mut reader, mut writer) = stream.split();
        let mut heard = Instant::now();
        loop {
            loop {
                if self.out.len() >= OUTBOX_MAX {
                    break;
                }
                match Packet::read(inbox, PACKET_MAX) {
                    Ok(packet) => {
                        self.shared.remember(&self.name, &packet);
                        let next = self.take(packet).await;
                        if next != Next::Continue {
                            return Ok(next);
                        }
                    }
                    Err(Error::InsufficientBytes(_)) => break,
                    Err(error) => {
                        tracing::info!(client = self.name, %error, "a client breaks the protocol and is disconnected");
                        return Ok(Next::Close);
                    }
                }
            }
            if !self.fill(connection) {
                return Ok(Next::Close);
            }
            tokio::select! { // reading and writing into buffers and waiting to be woken lose nothing when dropped
                read = reader.read_buf(inbox), if self.out.len() < OUTBOX_MAX => {
                    if read? == 0 {
                        return Ok(Next::Close);
                    }
                    heard = Instant::now();
                }
                written = writer.write_buf(&mut self.out), if !self.out.is_empty() => {
                    written?;
                }
                () = wake.notified() => {}
                () = tokio::time::sleep_until(heard + silence_max) => {
                    tracing::info!(client = self.name, "a client is silent for longer than it promised");
                    return Ok(Next::Close);
                }
            }
        }
    }

    /// Takes from the session what there is room for; false when the session is somebody else's by now.
    fn fill(&mut self, connection: u64) -> bool {
        let mut state = self.shared.state();
        if !state.is_attached(&self.name, connection) {
            return false;
        }
        while self.out.len() < OUTBOX_MAX {
            let Some(packet) = state.next_for(&self.name) else { break };
            write(&packet, &mut self.out);
        }
        true
    }

    async fn take(&mut self, packet: Packet) -> Next {
        let asked = match &packet {
            Packet::Publish(_) => Asked::Message,
            Packet::PubAck(_) => Asked::Ack,
            Packet::PingReq => Asked::Ping,
            _ => Asked::Other,
        };
        let topic = match &packet {
            Packet::Publish(publish) => String::from_utf8_lossy(&publish.topic).into_owned(),
            _ => String::new(),
        };
        let fault = self.shared.fault(&self.name, asked, &topic);
        match fault {
            Some(Fault::Close) => return Next::Close,
            Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
            _ => {}
        }
        match packet {
            Packet::Publish(publish) => return self.message(publish, topic, fault.as_ref()),
            Packet::PubAck(ack) if fault != Some(Fault::Deaf) => {
                self.shared.state().acknowledge(&self.name, ack.pkid);
            }
            Packet::PubRel(release) => {
                self.shared.state().release(&self.name, release.pkid);
                self.send(&Packet::PubComp(PubComp::new(release.pkid)));
            }
            Packet::Subscribe(subscribe) => {
                let codes = subscribe.filters.iter().map(|filter| self.subscription(&filter.path, filter.qos as u8));
                let codes: Vec<SubscribeReasonCode> = codes.collect();
                self.send(&Packet::SubAck(SubAck::new(subscribe.pkid, codes)));
            }
            Packet::Unsubscribe(unsubscribe) => {
                for filter in &unsubscribe.topics {
                    self.shared.state().unsubscribe(&self.name, filter);
                }
                self.send(&Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid)));
            }
            Packet::PingReq if fault != Some(Fault::Mute) => self.send(&Packet::PingResp),
            Packet::PingReq | Packet::PubAck(_) => {}
            Packet::Disconnect => return Next::Goodbye,
            other => {
                tracing::info!(client = self.name, ?other, "a client sends what only a broker may");
                return Next::Close;
            }
        }
        Next::Continue
    }

    fn message(&mut self, publish: Publish, topic: String, fault: Option<&Fault>) -> Next {
        if !valid_topic(&topic) || topic.is_empty() {
            tracing::info!(client = self.name, topic, "a client publishes to what is no topic");
            return Next::Close;
        }
        let mut state = self.shared.state();
        let new = match publish.qos {
            QoS::ExactlyOnce => match state.hold(&self.name, publish.pkid) {
                Some(new) => new,
                None => return Next::Close,
            },
            _ => true,
        };
        if new {
            let qos = (publish.qos as u8).min(1);
            let message = Message { topic, payload: publish.payload, qos, retain: publish.retain };
            let copies = if let Some(Fault::Flood(count)) = fault { *count } else { 1 };
            state.counters.received += 1;
            for _ in 0..copies {
                state.route_times(&message, fault == Some(&Fault::Duplicate));
            }
        }
        drop(state);
        if fault == Some(&Fault::LoseAck) {
            return Next::Continue;
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send(&Packet::PubAck(PubAck::new(publish.pkid))),
            QoS::ExactlyOnce => self.send(&Packet::PubRec(PubRec::new(publish.pkid))),
        }
        Next::Continue
    }

    fn subscription(&self, filter: &str, qos: u8) -> SubscribeReasonCode {
        let refuse = |why: &str| {
            tracing::info!(client = self.name, filter, why, "a subscription is refused");
            SubscribeReasonCode::Failure
        };
        if self.shared.fault(&self.name, Asked::Subscription, filter) == Some(Fault::Subscription) {
            return refuse("the script says so");
        }
        if filter.starts_with("$share/") {
            return refuse("version 3.1.1 has no shared subscriptions");
        }
        if !valid_filter(filter) {
            return refuse("this is no filter");
        }
        let granted = self.shared.state().subscribe(&self.name, filter, qos);
        match granted.map(qos_of) {
            Some(Ok(qos)) => SubscribeReasonCode::Success(qos),
            _ => refuse("the client has too many"),
        }
    }
}

fn return_code(code: u8) -> ConnectReturnCode {
    match code {
        2 => ConnectReturnCode::BadClientId,
        4 => ConnectReturnCode::BadUserNamePassword,
        5 => ConnectReturnCode::NotAuthorized,
        _ => ConnectReturnCode::ServiceUnavailable,
    }
}
