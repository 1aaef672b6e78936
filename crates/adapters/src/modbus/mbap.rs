//! Modbus TCP: requests and answers with a transaction id.
//!
//! An answer is matched by its id. For gateways that do not echo it ([`ConnectionPlan::ignore_transaction_id`], MB-23)
//! one request is under way at a time, what came before it is thrown away, and after a request without an answer the
//! connection is made anew: a late answer must never be taken for that of the next request.

use modbus::{Data, Deframer, Exception, Exchange, Read, Verdict, frame};
use model::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{self, Outcome, Silence, discard};
use super::transport::{ConnectionPlan, Way};
use crate::adapter::LinkError;

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    plan: ConnectionPlan,
    /// `None` while the connection is made anew.
    stream: Option<TcpStream>,
    target: String,
    exchange: Exchange,
    /// The request whose answer is taken whatever its id, and the id it was sent with.
    alone: Option<(u16, Read)>,
    /// A late answer without an id may come: only a new connection is safe.
    is_stale: bool,
    deframer: Deframer,
    out: Vec<u8>,
    silence: Silence,
    last_heard: Instant,
}

impl Connection {
    /// Connects.
    pub async fn open(plan: &ConnectionPlan) -> Result<Self, LinkError> {
        Ok(Self {
            stream: Some(stream(plan).await?),
            target: plan.target(),
            exchange: Exchange::new(),
            alone: None,
            is_stale: false,
            deframer: Deframer::new(),
            out: Vec::with_capacity(64),
            silence: Silence::default(),
            last_heard: Instant::now(),
            plan: plan.clone(),
        })
    }

    /// An error if too many requests in a row went unanswered.
    pub fn check_alive(&self) -> Result<(), LinkError> {
        let Some(timeouts) = self.silence.is_too_long(&self.plan) else { return Ok(()) };
        Err(LinkError::Silent { target: self.target.clone(), timeouts })
    }

    /// When the device last said something.
    pub fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Sends all reads at once and waits for their answers, each within the response timeout of the one before.
    pub async fn request(
        &mut self,
        reads: &[Read],
        clock: &dyn Clock,
        discarded: &mut Vec<&'static str>,
    ) -> Result<Vec<Outcome>, LinkError> {
        if self.plan.ignore_transaction_id {
            self.drain(discarded).await?;
        }
        self.out.clear();
        let mut waiting: Vec<Option<u16>> = Vec::with_capacity(reads.len());
        for read in reads {
            let transaction = self.exchange.begin(*read);
            if let Some(transaction) = transaction {
                frame::encode_read(transaction, read, &mut self.out);
                self.alone = self.plan.ignore_transaction_id.then_some((transaction, *read));
            }
            waiting.push(transaction);
        }
        let mut outcomes = vec![Outcome::Timeout; reads.len()];
        let sent_at = Instant::now();
        let mut deadline = sent_at + self.plan.response_timeout;
        let Some(stream) = &mut self.stream else { return Err(self.closed()) };
        match tokio::time::timeout_at(deadline, stream.write_all(&self.out)).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => return Err(self.broken(source)),
            Err(_) => return Err(LinkError::Silent { target: self.target.clone(), timeouts: 1 }),
        }
        while waiting.iter().any(Option::is_some) {
            match self.next_verdict(deadline).await? {
                None => break,
                Some(Verdict::Reply { transaction, outcome }) => {
                    let now = Instant::now();
                    (self.silence, self.last_heard) = (Silence::default(), now);
                    deadline = now + self.plan.response_timeout;
                    let place = waiting.iter().position(|id| *id == Some(transaction));
                    let Some(place) = place else { continue };
                    waiting[place] = None;
                    outcomes[place] = self.judge(outcome, sent_at, clock, discarded);
                }
                Some(Verdict::Late { .. }) => {
                    (self.silence, self.last_heard) = (Silence::default(), Instant::now());
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
        for (transaction, read) in waiting.into_iter().zip(reads) {
            if let Some(transaction) = transaction {
                self.exchange.abandon(transaction);
                self.silence.add(read.unit());
                self.is_stale = true;
            }
        }
        Ok(outcomes)
    }

    fn judge(
        &mut self,
        outcome: Result<Result<Data, Exception>, modbus::Error>,
        sent_at: Instant,
        clock: &dyn Clock,
        discarded: &mut Vec<&'static str>,
    ) -> Outcome {
        match outcome {
            Ok(answer) => Outcome::Answer { answer, at: clock.now(), round_trip: self.last_heard - sent_at },
            Err(error) => {
                tracing::debug!(%error, target = self.target, "malformed reply");
                discarded.push(discard::DECODE_ERROR);
                self.is_stale = true; // the proper answer may still come
                Outcome::Malformed(error)
            }
        }
    }

    /// The next frame and what it means; `None` at the deadline.
    async fn next_verdict(&mut self, deadline: Instant) -> Result<Option<Verdict>, LinkError> {
        let mut chunk = [0u8; 512];
        loop {
            match self.deframer.next_frame() {
                Ok(Some(frame)) => {
                    let Some((transaction, read)) = self.alone.take() else {
                        return Ok(Some(self.exchange.receive(&frame)));
                    };
                    self.exchange.abandon(transaction);
                    let outcome = read.decode(frame.unit, frame.pdu);
                    return Ok(Some(Verdict::Reply { transaction, outcome }));
                }
                Ok(None) => {}
                Err(error) => {
                    return Err(LinkError::OutOfStep { target: self.target.clone(), what: error.to_string() });
                }
            }
            let Some(stream) = &mut self.stream else { return Err(self.closed()) };
            let length = match tokio::time::timeout_at(deadline, stream.read(&mut chunk)).await {
                Err(_) => return Ok(None),
                Ok(Ok(0)) => return Err(self.closed()),
                Ok(Ok(length)) => length,
                Ok(Err(source)) => return Err(self.broken(source)),
            };
            self.deframer.push(&chunk[..length]);
        }
    }

    /// Nothing of before may be left when the next answer is taken whatever its id (MB-23).
    async fn drain(&mut self, discarded: &mut Vec<&'static str>) -> Result<(), LinkError> {
        if self.is_stale {
            self.stream = None; // many devices take one connection only, so this one is closed first
            self.stream = Some(stream(&self.plan).await?);
            (self.deframer, self.is_stale) = (Deframer::new(), false);
        }
        let mut chunk = [0u8; 512];
        let mut drained = self.deframer.pending_bytes() > 0;
        self.deframer = Deframer::new();
        let Some(stream) = &self.stream else { return Err(self.closed()) };
        loop {
            match connection::take(stream, &mut chunk) {
                Ok(0) => return Err(self.closed()),
                Ok(_) => drained = true,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(source) => return Err(self.broken(source)),
            }
        }
        if drained {
            discarded.push(discard::UNATTRIBUTABLE);
        }
        Ok(())
    }

    fn closed(&self) -> LinkError {
        LinkError::Closed { target: self.target.clone() }
    }

    fn broken(&self, source: std::io::Error) -> LinkError {
        LinkError::Broken { target: self.target.clone(), source }
    }
}

async fn stream(plan: &ConnectionPlan) -> Result<TcpStream, LinkError> {
    match &plan.way {
        Way::Tcp { host, port } => connection::connect(plan, host, *port).await,
        Way::Serial(_) => Err(LinkError::Setup { target: plan.target(), what: "this framing needs TCP".to_owned() }),
    }
}
