//! A connection to one or more devices, whatever the framing: sends reads, waits for their answers.
//!
//! Invariant: an answer is only ever taken for the request it belongs to, and only after the strict checks of the
//! protocol crate (MB-02, MB-22). No retries and no patience here; a connection that is of no use says so and is dropped.
//!
//! Where to look next: [`super::mbap`] for Modbus TCP, [`super::rtu`] for serial lines and what goes on like one.

use std::time::Duration;

use modbus::{Data, Exception, Read};
use model::{Clock, Timestamp};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::transport::{ConnectionPlan, Framing};
use super::{mbap, rtu};
use crate::adapter::LinkError;

/// Requests in a row without an answer before the connection counts as half-open (MB-24).
pub const TIMEOUTS_MAX: u32 = 3;
/// Keep-alive: first probe after this idle time, then one each interval, this many.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;
/// Sent data that is not acknowledged for this long ends the connection.
const USER_TIMEOUT_MS: u32 = 15_000;

/// Names under which thrown-away input is counted, and on a line without a header also the silences (MB-33).
pub mod discard {
    /// The reply to a request that was given up.
    pub const LATE_REPLY: &str = "LATE_REPLY";
    /// A reply to nothing we asked.
    pub const UNATTRIBUTABLE: &str = "UNATTRIBUTABLE_REPLY";
    /// A reply that breaks the protocol.
    pub const DECODE_ERROR: &str = model::reason::DECODE_ERROR;
    /// A frame with a wrong checksum.
    pub const CRC: &str = "CRC_ERROR";
    /// A frame that ended before its own length.
    pub const SHORT: &str = "SHORT_FRAME";
    /// A reply of another unit than the one asked.
    pub const WRONG_UNIT: &str = "WRONG_UNIT";
    /// No byte at all.
    pub const TIMEOUT: &str = model::reason::TIMEOUT;
    /// Bytes that came when none were due.
    pub const NOISE: &str = "NOISE";
    /// The own bytes came back changed: somebody else was sending.
    pub const COLLISION: &str = "COLLISION";
    /// What the driver of a serial port counts.
    pub const PARITY: &str = "PARITY_ERROR";
    pub const FRAMING: &str = "FRAMING_ERROR";
    pub const OVERRUN: &str = "OVERRUN";
}

/// What became of one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The device answered, with data or with a refusal.
    Answer {
        /// What it said.
        answer: Result<Data, Exception>,
        /// When the last byte was here.
        at: Timestamp,
        /// From sending to that moment.
        round_trip: Duration,
    },
    /// It answered something that is no answer to this request.
    Malformed(modbus::Error),
    /// No answer in time, or on a serial line nothing that could be read.
    Timeout,
}

/// An open connection.
#[derive(Debug)]
pub enum Connection {
    Mbap(Box<mbap::Connection>),
    Rtu(Box<rtu::Connection>),
}

impl Connection {
    /// Resolves the name anew and connects (MB-25), or opens the port.
    pub async fn open(plan: &ConnectionPlan) -> Result<Self, LinkError> {
        Ok(match plan.framing {
            Framing::Mbap => Self::Mbap(Box::new(mbap::Connection::open(plan).await?)),
            Framing::Rtu => Self::Rtu(Box::new(rtu::Connection::open(plan).await?)),
        })
    }

    /// Sends all reads and waits for their answers. The outcomes stand in the order of the reads; an error means that
    /// the connection is of no use any more.
    pub async fn request(
        &mut self,
        reads: &[Read],
        clock: &dyn Clock,
        discarded: &mut Vec<&'static str>,
    ) -> Result<Vec<Outcome>, LinkError> {
        match self {
            Self::Mbap(connection) => connection.request(reads, clock, discarded).await,
            Self::Rtu(connection) => connection.request(reads, clock, discarded).await,
        }
    }

    /// An error if too many requests in a row went unanswered.
    pub fn check_alive(&self) -> Result<(), LinkError> {
        match self {
            Self::Mbap(connection) => connection.check_alive(),
            Self::Rtu(connection) => connection.check_alive(),
        }
    }

    /// When a device last said something.
    pub fn last_heard(&self) -> Instant {
        match self {
            Self::Mbap(connection) => connection.last_heard(),
            Self::Rtu(connection) => connection.last_heard(),
        }
    }
}

/// How long nobody has answered. One silent unit among several is no proof against the connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence {
    timeouts: u32,
    unit: Option<u8>,
    several: bool,
}

impl Silence {
    /// Somebody said something.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// A unit did not answer.
    pub fn add(&mut self, unit: u8) {
        self.timeouts += 1;
        self.several |= self.unit.is_some_and(|other| other != unit);
        self.unit = Some(unit);
    }

    /// The number of requests without an answer, if that is enough to give the connection up.
    pub fn is_too_long(&self, plan: &ConnectionPlan) -> Option<u32> {
        let proof = !plan.several_units || self.several;
        (proof && self.timeouts >= TIMEOUTS_MAX && !plan.is_serial()).then_some(self.timeouts)
    }
}

/// What the system has received already, without waiting.
pub fn take(stream: &TcpStream, chunk: &mut [u8]) -> std::io::Result<usize> {
    let (length, _) = rustix::net::recv(stream, chunk, rustix::net::RecvFlags::DONTWAIT)?;
    Ok(length)
}

/// A TCP connection that notices when the other side is gone.
pub async fn connect(plan: &ConnectionPlan, host: &str, port: u16) -> Result<TcpStream, LinkError> {
    let target = plan.target();
    let connecting = TcpStream::connect((host, port));
    let stream = match tokio::time::timeout(plan.connect_timeout, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(LinkError::Connect { target, source }),
        Err(_) => return Err(LinkError::ConnectTimeout { target, timeout: plan.connect_timeout }),
    };
    if let Err(error) = watch_for_silence(&stream) {
        tracing::warn!(%error, target, "the system will not notice by itself when the device vanishes");
    }
    Ok(stream)
}

/// Lets the system find out that the other side is gone (MB-24).
fn watch_for_silence(stream: &TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // MB-24, MB-29
    #[test]
    fn one_silent_unit_among_several_does_not_end_the_connection() {
        let one = ConnectionPlan::tcp("plc".to_owned(), 502, Duration::from_secs(1));
        let several = ConnectionPlan { several_units: true, ..one.clone() };
        let mut silence = Silence::default();
        for timeouts in 1..=5 {
            silence.add(7);
            assert_eq!(silence.is_too_long(&one), (timeouts >= 3).then_some(timeouts));
            assert_eq!(silence.is_too_long(&several), None);
        }
        silence.add(8);
        assert_eq!(silence.is_too_long(&several), Some(6));
        silence.end();
        assert_eq!(silence.is_too_long(&one), None);
    }
}
