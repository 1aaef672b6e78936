//! One TCP connection to a device: sends reads, waits for their answers, throws away what answers nothing.
//!
//! Invariant: an answer is only ever matched by transaction id and only after the strict checks of the protocol crate
//! (MB-02, MB-22). No retries and no reconnecting here; a connection that is of no use says so once and is dropped.

use std::time::Duration;

use modbus::{Data, Deframer, Exception, Exchange, Read, Verdict, frame};
use model::{Clock, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::config::ConnectionPlan;
use crate::adapter::LinkError;

/// Requests in a row without an answer before the connection counts as half-open (MB-24).
pub const TIMEOUTS_MAX: u32 = 3;
/// Keep-alive: first probe after this idle time, then one each interval, this many.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;
/// Sent data that is not acknowledged for this long ends the connection.
const USER_TIMEOUT_MS: u32 = 15_000;

/// Names under which thrown-away replies are counted.
pub mod discard {
    /// The reply to a request that was given up.
    pub const LATE_REPLY: &str = "LATE_REPLY";
    /// A reply to nothing we asked.
    pub const UNATTRIBUTABLE: &str = "UNATTRIBUTABLE_REPLY";
    /// A reply that breaks the protocol.
    pub const DECODE_ERROR: &str = model::reason::DECODE_ERROR;
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
    /// No answer in time.
    Timeout,
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    target: String,
    response_timeout: Duration,
    exchange: Exchange,
    deframer: Deframer,
    out: Vec<u8>,
    timeouts_in_a_row: u32,
    last_heard: Instant,
}

impl Connection {
    /// Resolves the name anew and connects (MB-25).
    pub async fn open(plan: &ConnectionPlan) -> Result<Self, LinkError> {
        let target = format!("{}:{}", plan.host, plan.port);
        let connecting = TcpStream::connect((plan.host.as_str(), plan.port));
        let stream = match tokio::time::timeout(plan.connect_timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(LinkError::Connect { target, source }),
            Err(_) => return Err(LinkError::ConnectTimeout { target, timeout: plan.connect_timeout }),
        };
        if let Err(error) = watch_for_silence(&stream) {
            tracing::warn!(%error, target, "the system will not notice by itself when the device vanishes");
        }
        Ok(Self {
            stream,
            target,
            response_timeout: plan.response_timeout,
            exchange: Exchange::new(),
            deframer: Deframer::new(),
            out: Vec::with_capacity(64),
            timeouts_in_a_row: 0,
            last_heard: Instant::now(),
        })
    }

    /// An error if too many requests in a row went unanswered.
    pub fn check_alive(&self) -> Result<(), LinkError> {
        if self.timeouts_in_a_row < TIMEOUTS_MAX {
            return Ok(());
        }
        Err(LinkError::Silent { target: self.target.clone(), timeouts: self.timeouts_in_a_row })
    }

    /// When the device last said something.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Sends all reads at once and waits for their answers, each within the response timeout of the one before.
    ///
    /// The outcomes stand in the order of the reads. An error means the connection is of no use any more.
    pub async fn request(
        &mut self,
        reads: &[Read],
        clock: &dyn Clock,
        discarded: &mut Vec<&'static str>,
    ) -> Result<Vec<Outcome>, LinkError> {
        self.out.clear();
        let mut waiting: Vec<Option<u16>> = Vec::with_capacity(reads.len());
        for read in reads {
            let transaction = self.exchange.begin(*read);
            if let Some(transaction) = transaction {
                frame::encode_read(transaction, read, &mut self.out);
            }
            waiting.push(transaction);
        }
        let mut outcomes = vec![Outcome::Timeout; reads.len()];
        let sent_at = Instant::now();
        let mut deadline = sent_at + self.response_timeout;
        match tokio::time::timeout_at(deadline, self.stream.write_all(&self.out)).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Err(self.broken(source)),
            Err(_) => return Err(LinkError::Silent { target: self.target.clone(), timeouts: 1 }),
        }
        while waiting.iter().any(Option::is_some) {
            match self.next_verdict(deadline).await? {
                None => break,
                Some(Verdict::Reply { transaction, outcome }) => {
                    let now = Instant::now();
                    (self.timeouts_in_a_row, self.last_heard) = (0, now);
                    deadline = now + self.response_timeout;
                    let place = waiting.iter().position(|id| *id == Some(transaction));
                    let Some(place) = place else { continue };
                    waiting[place] = None;
                    outcomes[place] = match outcome {
                        Ok(answer) => Outcome::Answer { answer, at: clock.now(), round_trip: now - sent_at },
                        Err(error) => {
                            tracing::debug!(%error, target = self.target, "malformed reply");
                            discarded.push(discard::DECODE_ERROR);
                            Outcome::Malformed(error)
                        }
                    };
                }
                Some(Verdict::Late { .. }) => {
                    (self.timeouts_in_a_row, self.last_heard) = (0, Instant::now());
                    discarded.push(discard::LATE_REPLY);
                }
                Some(Verdict::Unattributable { .. }) => discarded.push(discard::UNATTRIBUTABLE),
                Some(Verdict::Close { transaction }) => {
                    discarded.push(discard::UNATTRIBUTABLE);
                    let what = format!("second reply in a row that nobody asked for, transaction {transaction}");
                    return Err(LinkError::OutOfStep { target: self.target.clone(), what });
                }
            }
        }
        for transaction in waiting.into_iter().flatten() {
            self.exchange.abandon(transaction);
            self.timeouts_in_a_row += 1;
        }
        Ok(outcomes)
    }

    /// The next frame and what it means; `None` at the deadline.
    async fn next_verdict(&mut self, deadline: Instant) -> Result<Option<Verdict>, LinkError> {
        let mut chunk = [0u8; 512];
        loop {
            match self.deframer.next_frame() {
                Ok(Some(frame)) => return Ok(Some(self.exchange.receive(&frame))),
                Ok(None) => {}
                Err(error) => {
                    return Err(LinkError::OutOfStep { target: self.target.clone(), what: error.to_string() });
                }
            }
            let length = match tokio::time::timeout_at(deadline, self.stream.read(&mut chunk)).await {
                Err(_) => return Ok(None),
                Ok(Ok(0)) => return Err(LinkError::Closed { target: self.target.clone() }),
                Ok(Ok(length)) => length,
                Ok(Err(source)) => return Err(self.broken(source)),
            };
            self.deframer.push(&chunk[..length]);
        }
    }

    fn broken(&self, source: std::io::Error) -> LinkError {
        LinkError::Broken { target: self.target.clone(), source }
    }
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
