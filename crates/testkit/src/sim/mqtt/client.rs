//! A small MQTT 3.1.1 client: what the simulated machines publish with.
//!
//! It does not reconnect and does not keep anything: when a connection ends, what was unacknowledged is forgotten, as with
//! the cheap devices it stands for. At most [`UNACKED_MAX`] messages wait for their acknowledgement; then the connection
//! counts as broken.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use mqtt311::mqttbytes::v4::{Connect, ConnectReturnCode, Packet, PubAck, Publish, Subscribe};
use mqtt311::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Unacknowledged messages; one more and the connection is given up.
pub const UNACKED_MAX: usize = 1_000;
/// Largest packet that is taken.
const PACKET_MAX: usize = 1024 * 1024;
/// How long a broker may take to let us in.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to a broker.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    inbox: BytesMut,
    last_id: u16,
    unacked: usize,
    /// The broker knew our session.
    pub session_present: bool,
}

impl Client {
    /// Connects to `host:port` and is let in.
    pub async fn connect(broker: &str, greeting: &Connect) -> io::Result<Self> {
        let connecting = async {
            let stream = TcpStream::connect(broker).await?;
            stream.set_nodelay(true)?;
            let inbox = BytesMut::with_capacity(4096);
            let mut client = Self { stream, inbox, last_id: 0, unacked: 0, session_present: false };
            client.send(&Packet::Connect(greeting.clone())).await?;
            match client.next().await? {
                Packet::ConnAck(answer) if answer.code == ConnectReturnCode::Success => {
                    client.session_present = answer.session_present;
                    Ok(client)
                }
                other => Err(io::Error::other(format!("the broker does not let us in: {other:?}"))),
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Sends a packet.
    pub async fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut out = BytesMut::new();
        packet.write(&mut out, PACKET_MAX).map_err(io::Error::other)?;
        self.stream.write_all(&out).await
    }

    /// Publishes a message.
    pub async fn publish(&mut self, topic: &str, payload: Vec<u8>, qos: QoS, retain: bool) -> io::Result<()> {
        let mut packet = Publish::new(topic, qos, payload);
        packet.retain = retain;
        if qos != QoS::AtMostOnce {
            if self.unacked >= UNACKED_MAX {
                return Err(io::Error::other(format!("{UNACKED_MAX} messages are not acknowledged")));
            }
            self.unacked += 1;
            self.last_id = self.last_id.wrapping_add(1).max(1);
            packet.pkid = self.last_id;
        }
        self.send(&Packet::Publish(packet)).await
    }

    /// Asks for messages; the answer comes by [`Client::next`].
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> io::Result<()> {
        let mut packet = Subscribe::new(filter, qos);
        self.last_id = self.last_id.wrapping_add(1).max(1);
        packet.pkid = self.last_id;
        self.send(&Packet::Subscribe(packet)).await
    }

    /// The next packet; messages are not acknowledged by this. Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> io::Result<Packet> {
        loop {
            match Packet::read(&mut self.inbox, PACKET_MAX) {
                Ok(packet) => {
                    if matches!(packet, Packet::PubAck(_)) {
                        self.unacked = self.unacked.saturating_sub(1);
                    }
                    return Ok(packet);
                }
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Acknowledges a message.
    pub async fn acknowledge(&mut self, id: u16) -> io::Result<()> {
        self.send(&Packet::PubAck(PubAck::new(id))).await
    }
}
