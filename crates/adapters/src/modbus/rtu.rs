//! Modbus RTU: one request at a time on a serial line, or through a TCP port to one (MB-27, MB-30 to MB-33).
//!
//! Nothing in an answer tells which request it belongs to. So after a request that was not answered cleanly nothing may
//! be left of it before the next: a TCP connection is made anew, on a serial line the line is listened to for as long
//! again. A frame is known by its length and checksum; gaps inside it mean nothing (MB-31).

use std::io;
use std::time::Duration;

use modbus::rtu::{self, Look};
use modbus::{Line, Read};
use model::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{self, Outcome, Silence, discard};
use super::serial::Port;
use super::transport::{ConnectionPlan, Way};
use crate::adapter::LinkError;

/// A frame of unknown length has ended when nothing came for this long; USB adapters deliver every 16 ms.
const END_OF_FRAME: Duration = Duration::from_millis(50);
/// Bytes of one answer that are kept; more is noise.
const ANSWER_MAX: usize = 1024;

#[derive(Debug)]
enum Stream {
    /// While the connection is made anew.
    Closed,
    Tcp(TcpStream),
    Serial(Port),
}

/// An open connection or port.
#[derive(Debug)]
pub struct Connection {
    plan: ConnectionPlan,
    stream: Stream,
    target: String,
    line: Option<Line>,
    /// The last byte in either direction.
    busy_until: Instant,
    /// An answer to an earlier request may come until then.
    late_until: Option<Instant>,
    is_stale: bool,
    silence: Silence,
    last_heard: Instant,
}

/// Why there is no frame.
enum Fault {
    Timeout,
    Short,
    Checksum,
    Collision,
}

impl Connection {
    /// Opens the port, or connects.
    pub async fn open(plan: &ConnectionPlan) -> Result<Self, LinkError> {
        let now = Instant::now();
        let line = match &plan.way {
            Way::Tcp { .. } => None,
            Way::Serial(serial) => Some(serial.line),
        };
        Ok(Self {
            stream: open(plan).await?,
            target: plan.target(),
            line,
            busy_until: now,
            late_until: None,
            is_stale: false,
            silence: Silence::default(),
            last_heard: now,
            plan: plan.clone(),
        })
    }

    /// An error if too many requests in a row went unanswered.
    pub fn check_alive(&self) -> Result<(), LinkError> {
        let Some(timeouts) = self.silence.is_too_long(&self.plan) else { return Ok(()) };
        Err(LinkError::Silent { target: self.target.clone(), timeouts })
    }

    /// When a device last said something.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Sends one read after the other.
    pub async fn request(
        &mut self,
        reads: &[Read],
        clock: &dyn Clock,
        discarded: &mut Vec<&'static str>,
    ) -> Result<Vec<Outcome>, LinkError> {
        let mut outcomes = Vec::with_capacity(reads.len());
        for read in reads {
            outcomes.push(self.one(read, clock, discarded).await?);
            self.count_troubles(discarded);
        }
        Ok(outcomes)
    }

    async fn one(
        &mut self,
        read: &Read,
        clock: &dyn Clock,
        discarded: &mut Vec<&'static str>,
    ) -> Result<Outcome, LinkError> {
        if !self.settle(discarded).await? {
            self.silence.add(read.unit());
            return Ok(Outcome::Timeout);
        }
        let mut out = Vec::with_capacity(rtu::REQUEST_LENGTH);
        rtu::encode_read(read, &mut out);
        let sent_at = Instant::now();
        let under_way = self.line.map_or(Duration::ZERO, |line| {
            line.transmission(rtu::REQUEST_LENGTH) + line.transmission(rtu::reply_length(read))
        });
        let deadline = sent_at + self.plan.response_timeout + under_way;
        match tokio::time::timeout_at(deadline, self.write(&out)).await {
            Ok(written) => written?,
            Err(_) => return Err(LinkError::Silent { target: self.target.clone(), timeouts: 1 }),
        }
        let echo: &[u8] = if self.plan.echo { &out } else { &[] };
        let mut bytes = Vec::with_capacity(rtu::FRAME_MAX);
        let received = match self.receive(&mut bytes, echo, deadline).await? {
            Ok(()) => match rtu::look(&bytes) {
                Look::Whole(frame) => Ok(frame),
                Look::WrongChecksum => Err(Fault::Checksum),
                Look::More { .. } => rtu::whole(&bytes).ok_or(Fault::Checksum),
            },
            Err(fault) => Err(fault),
        };
        let frame = match received {
            Ok(frame) => frame,
            Err(fault) => {
                discarded.push(match fault {
                    Fault::Timeout => discard::TIMEOUT,
                    Fault::Short => discard::SHORT,
                    Fault::Checksum => discard::CRC,
                    Fault::Collision => discard::COLLISION,
                });
                // Where fewer bytes came than an answer has, or only the own ones, the answer may still come.
                let is_echo = bytes.starts_with(&out);
                if is_echo {
                    let hint = "the own request comes back: set echo to true";
                    tracing::warn!(target = self.target, hint, "the answer is not one");
                }
                self.distrust(is_echo || bytes.len() < rtu::reply_length(read));
                self.silence.add(read.unit());
                return Ok(Outcome::Timeout);
            }
        };
        if frame.unit != read.unit() {
            discarded.push(discard::WRONG_UNIT);
            self.distrust(true);
            self.silence.add(read.unit());
            return Ok(Outcome::Timeout);
        }
        let now = Instant::now();
        (self.silence, self.last_heard) = (Silence::default(), now);
        Ok(match read.decode(frame.unit, frame.pdu) {
            Ok(answer) => Outcome::Answer { answer, at: clock.now(), round_trip: now - sent_at },
            Err(error) => {
                tracing::debug!(%error, target = self.target, "malformed reply");
                discarded.push(discard::DECODE_ERROR);
                self.distrust(true);
                Outcome::Malformed(error)
            }
        })
    }

    /// The request has no clean answer; `may_come` is true if one may still be under way.
    fn distrust(&mut self, may_come: bool) {
        if self.line.is_none() {
            self.is_stale = true;
        } else if may_come {
            self.late_until = Some(Instant::now() + self.plan.response_timeout);
        }
    }

    /// Throws away what nobody asked for and waits until the line may be used. False if it is never silent.
    async fn settle(&mut self, discarded: &mut Vec<&'static str>) -> Result<bool, LinkError> {
        if self.is_stale {
            self.stream = Stream::Closed; // many converters take one connection only, so this one is closed first
            self.stream = open(&self.plan).await?;
            self.is_stale = false;
        }
        let gap = self.line.map_or(Duration::ZERO, Line::silence) + self.plan.inter_frame;
        let give_up = Instant::now() + self.plan.response_timeout * 2;
        let mut chunk = [0u8; 256];
        let mut noise = false;
        let is_free = loop {
            let mut came = self.take(&mut chunk)?;
            let now = Instant::now();
            let free = (self.busy_until + gap).max(self.late_until.unwrap_or(now));
            if came == 0 && now >= free {
                break true;
            }
            if now >= give_up {
                break false;
            }
            if came == 0
                && let Ok(length) = tokio::time::timeout_at(free.min(give_up), self.read(&mut chunk)).await
            {
                came = length?;
            }
            if came > 0 {
                noise = true;
                self.busy_until = Instant::now();
                // The late answer is here, or part of it: from now on silence tells its end.
                if let Some(until) = &mut self.late_until {
                    *until = (*until).min(self.busy_until + END_OF_FRAME + gap);
                }
            }
        };
        if noise {
            discarded.push(discard::NOISE);
        }
        if is_free {
            self.late_until = None;
        }
        Ok(is_free)
    }

    /// What has come in already; asks the system itself, which may know of bytes the runtime has not noticed yet.
    fn take(&mut self, chunk: &mut [u8]) -> Result<usize, LinkError> {
        let taken = match &self.stream {
            Stream::Tcp(stream) => connection::take(stream, chunk),
            Stream::Serial(port) => port.take(chunk),
            Stream::Closed => Ok(0),
        };
        match taken {
            Ok(0) => Err(LinkError::Closed { target: self.target.clone() }),
            Ok(length) => Ok(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(source) => Err(self.broken(source)),
        }
    }

    /// Collects an answer until it is whole, behind the echo of the request where there is one.
    async fn receive(
        &mut self,
        bytes: &mut Vec<u8>,
        echo: &[u8],
        deadline: Instant,
    ) -> Result<Result<(), Fault>, LinkError> {
        let mut chunk = [0u8; 512];
        let mut to_strip = echo;
        loop {
            let length_known = match rtu::look(bytes) {
                Look::Whole(_) | Look::WrongChecksum => return Ok(Ok(())),
                Look::More { length } => length.is_some() || bytes.len() < 2 || (1..=4).contains(&bytes[1]),
            };
            if bytes.len() > ANSWER_MAX {
                return Ok(Err(Fault::Checksum));
            }
            let until = if length_known { deadline } else { deadline.min(Instant::now() + END_OF_FRAME) };
            let Ok(length) = tokio::time::timeout_at(until, self.read(&mut chunk)).await else {
                return Ok(match (bytes.is_empty(), length_known) {
                    (true, _) => Err(Fault::Timeout),
                    (false, true) => Err(Fault::Short),
                    (false, false) => Ok(()),
                });
            };
            let mut came = &chunk[..length?];
            self.busy_until = Instant::now();
            let own = came.len().min(to_strip.len());
            if came[..own] != to_strip[..own] {
                return Ok(Err(Fault::Collision));
            }
            (came, to_strip) = (&came[own..], &to_strip[own..]);
            bytes.extend_from_slice(came);
        }
    }

    async fn read(&mut self, chunk: &mut [u8]) -> Result<usize, LinkError> {
        let read = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(chunk).await,
            Stream::Serial(port) => port.read(chunk).await,
            Stream::Closed => Ok(0),
        };
        match read {
            Ok(0) => Err(LinkError::Closed { target: self.target.clone() }),
            Ok(length) => Ok(length),
            Err(source) => Err(self.broken(source)),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let written = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Serial(port) => port.write_all(bytes).await,
            Stream::Closed => Err(io::ErrorKind::NotConnected.into()),
        };
        let on_the_wire = self.line.map_or(Duration::ZERO, |line| line.transmission(bytes.len()));
        self.busy_until = Instant::now() + on_the_wire;
        written.map_err(|source| self.broken(source))
    }

    /// Broken characters the driver counted; one is worth a count, whatever came of the frame.
    fn count_troubles(&mut self, discarded: &mut Vec<&'static str>) {
        let Stream::Serial(port) = &mut self.stream else { return };
        let troubles = port.new_troubles();
        for (count, name) in [
            (troubles.parity, discard::PARITY),
            (troubles.framing, discard::FRAMING),
            (troubles.overrun, discard::OVERRUN),
        ] {
            let count = usize::try_from(count).unwrap_or_default().min(rtu::FRAME_MAX);
            discarded.extend(std::iter::repeat_n(name, count));
        }
    }

    fn broken(&self, source: io::Error) -> LinkError {
        LinkError::Broken { target: self.target.clone(), source }
    }
}

async fn open(plan: &ConnectionPlan) -> Result<Stream, LinkError> {
    Ok(match &plan.way {
        Way::Tcp { host, port } => Stream::Tcp(connection::connect(plan, host, *port).await?),
        Way::Serial(serial) => Stream::Serial(Port::open(serial)?),
    })
}
