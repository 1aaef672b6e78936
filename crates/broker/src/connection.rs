//! One client connection: frames in, answers out, in the order of the requests.
//!
//! Reading and answering are two loops in one task. A produce request is written to its logs as soon as it is read, its
//! answer waits for the disk in the queue of answers; everything else runs when it reaches the head of that queue, so
//! the requests of one connection see each other's effects in order.
//! Invariants: never more than [`REQUESTS_IN_FLIGHT_MAX`] unanswered requests; no buffer grows before its bytes are
//! admitted by the broker's budget for frames; a client that is slow, silent or malformed is closed with a reason.

use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use kafka::protocol::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::access::peer::Peer;
use crate::core::Core;
use crate::dispatch::{self, Reply};
use crate::handlers::sasl;
use crate::limits::{
    DRAIN_DEADLINE, FIRST_FRAME_BYTES_MAX, FRAME_DEADLINE, IDLE_DEADLINE, LOGIN_DEADLINE, LOGIN_FRAME_BYTES_MAX,
    REQUESTS_IN_FLIGHT_MAX, STOP_DRAIN_DEADLINE, WRITE_DEADLINE,
};
use crate::outgoing::{self, Outgoing};
use crate::places::Place;

/// Bytes a buffer grows by at a time, so that a frame takes memory as it arrives and not as it is announced.
const READ_STEP: usize = 256 * 1024;
/// A buffer that grew beyond this for one frame is given back afterwards.
const BUFFER_KEPT: usize = 1024 * 1024;
/// Buffers of a connection that is silent for longer are given back.
const BUFFERS_KEPT: Duration = Duration::from_secs(1);
/// Bytes that the first read after a silence takes; they arrive on the stack, so that waiting for them needs no buffer.
const FIRST_READ: usize = 4096;

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("a frame of {bytes} bytes is not between {FRAME_BYTES_MIN} and {limit}")]
    FrameSize { bytes: i64, limit: usize },
    #[error("nothing was received for {} s", after.as_secs())]
    Silent { after: Duration },
    #[error("TLS and login took longer than {} s", LOGIN_DEADLINE.as_secs())]
    LoginTooSlow,
    #[error("too many connections have not logged in yet")]
    LobbyFull,
    #[error("its user has too many connections")]
    TooManyOfUser,
    #[error("the login failed")]
    LoginFailed,
    #[error("TLS failed")]
    Tls(#[source] io::Error),
    #[error("the name in the client's certificate cannot be read")]
    Nameless,
    #[error("an answer was not taken for {} s", WRITE_DEADLINE.as_secs())]
    NotReading,
    #[error(transparent)]
    Request(#[from] dispatch::Refused),
    #[error("the broker is stopping")]
    Stopping,
}

/// Bytes of frames that all connections together may hold.
#[derive(Debug)]
pub(crate) struct FrameBudget(Arc<Semaphore>);

/// One permit of the budget.
const BUDGET_UNIT: usize = 1024;

impl FrameBudget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / BUDGET_UNIT)))
    }
}

/// A place among those who have not logged in yet, and when their time is over.
pub(crate) type Lobby = (Place<IpAddr>, Instant);

/// Serves a connection until either side ends it. `lobby` is there for a peer that has to log in first.
pub(crate) async fn serve<R, W>(
    core: Arc<Core>,
    budget: Arc<FrameBudget>,
    peer: Arc<Peer>,
    (mut reader, mut writer): (R, W),
    lobby: Option<Lobby>,
    stop: CancellationToken,
) -> Result<(), Ended>
where
    R: AsyncRead + Unpin,
    W: Outgoing,
{
    let mut buffer = BytesMut::new();
    if let Some((place, deadline)) = lobby {
        tokio::select! { // cancel-safe: the connection ends when the broker stops
            logged_in = timeout_at(deadline, log_in(&core, &peer, &mut reader, &mut writer, &mut buffer)) => {
                if !logged_in.map_err(|_| Ended::LoginTooSlow)?? {
                    return Ok(());
                }
            }
            () = stop.cancelled() => return Err(Ended::Stopping),
        }
        drop(place);
    }
    let (sender, receiver) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
    let read = read_loop(Arc::clone(&core), budget, peer, reader, buffer, sender);
    let mut write = std::pin::pin!(write_loop(core, writer, receiver));
    // the reading is dropped with this statement, and with it the sender: the writing ends when all is answered
    let outcome = tokio::select! { // cancel-safe: whichever ends decides about the other
        ended = &mut write => return ended,
        ended = read => ended,
        () = stop.cancelled() => Err(Ended::Stopping),
    };
    let stopped = async {
        stop.cancelled().await;
        sleep(STOP_DRAIN_DEADLINE).await;
    };
    tokio::select! { // what was accepted is still answered, but not for ever
        written = write => outcome.and(written),
        () = sleep(DRAIN_DEADLINE) => outcome,
        () = stopped => outcome,
    }
}

/// One message at a time until the peer is known; false when it left before.
async fn log_in<R: AsyncRead + Unpin, W: Outgoing>(
    core: &Arc<Core>,
    peer: &Arc<Peer>,
    reader: &mut R,
    writer: &mut W,
    buffer: &mut BytesMut,
) -> Result<bool, Ended> {
    while !peer.admitted() {
        if !fill(reader, buffer, 4).await? {
            return Ok(false);
        }
        let announced = buffer.get_i32();
        let limit = LOGIN_FRAME_BYTES_MAX;
        let size = usize::try_from(announced).ok().filter(|size| *size <= limit);
        let Some(size) = size else {
            core.metrics.requests_refused.inc();
            return Err(Ended::FrameSize { bytes: i64::from(announced), limit });
        };
        if !fill(reader, buffer, size).await? && size > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let frame = buffer.split_to(size).freeze();
        if peer.login().bare {
            // the form of before Kafka 1.0: messages without a request around them, and no answer to a failure
            let Ok(Some(message)) = sasl::step(core, peer, &frame).await else { return Err(Ended::LoginFailed) };
            let size = i32::try_from(message.len()).unwrap_or_default();
            writer.write_all(&size.to_be_bytes()).await?;
            writer.write_all(&message).await?;
            writer.flush().await?;
            continue;
        }
        let begun = dispatch::begin(core, peer, frame, &mut Vec::new());
        let reply = begun.inspect_err(|_| {
            core.metrics.requests_refused.inc();
        })?;
        let answer = match reply {
            Reply::Now(answer) => answer,
            Reply::Later(answer) => answer.await?,
            Reply::Nothing => continue,
        };
        outgoing::send(writer, &answer).await?;
        if peer.failed() {
            return Err(Ended::LoginFailed);
        }
    }
    Ok(true)
}

async fn read_loop<R: AsyncRead + Unpin>(
    core: Arc<Core>,
    budget: Arc<FrameBudget>,
    peer: Arc<Peer>,
    mut reader: R,
    mut buffer: BytesMut,
    answers: mpsc::Sender<Reply>,
) -> Result<(), Ended> {
    let mut scratch = Vec::new();
    let mut limit = FIRST_FRAME_BYTES_MAX;
    loop {
        // a slot for the answer first: a full queue stops the reading
        let Ok(slot) = answers.reserve().await else { return Ok(()) };
        if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT {
            buffer = BytesMut::new();
        }
        let mut begun = timeout(BUFFERS_KEPT, fill(&mut reader, &mut buffer, 4)).await;
        if begun.is_err() {
            // a silent connection holds no memory beyond its task
            if buffer.is_empty() {
                buffer = BytesMut::new();
            }
            scratch = Vec::new();
            begun = timeout(IDLE_DEADLINE, fill(&mut reader, &mut buffer, 4)).await;
        }
        if !begun.map_err(|_| Ended::Silent { after: IDLE_DEADLINE })?? {
            return Ok(());
        }
        let announced = buffer.get_i32();
        let wrong = || Ended::FrameSize { bytes: i64::from(announced), limit };
        let size = usize::try_from(announced).map_err(|_| wrong())?;
        if !(FRAME_BYTES_MIN..=limit).contains(&size) {
            core.metrics.requests_refused.inc();
            return Err(wrong());
        }
        // before the frame takes any room
        while let Some(until) = peer.muted_until().filter(|until| *until > Instant::now()) {
            sleep_until(until).await;
        }
        let units = u32::try_from(size.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        let Ok(admitted) = budget.0.acquire_many(units).await else { return Err(Ended::Stopping) };
        let filled = timeout(FRAME_DEADLINE, fill(&mut reader, &mut buffer, size)).await;
        if !filled.map_err(|_| Ended::Silent { after: FRAME_DEADLINE })?? {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let frame = buffer.split_to(size).freeze();
        core.metrics.bytes_in.inc_by(u64::try_from(size).unwrap_or_default() + 4);
        let reply = dispatch::begin(&core, &peer, frame, &mut scratch).inspect_err(|_| {
            core.metrics.requests_refused.inc();
        })?;
        drop(admitted);
        if scratch.capacity() > BUFFER_KEPT {
            scratch = Vec::new();
        }
        limit = FRAME_BYTES_MAX;
        slot.send(reply);
    }
}

/// Reads until the buffer holds `size` bytes; false when the client closed before the first of them.
async fn fill<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut BytesMut, size: usize) -> Result<bool, Ended> {
    while buffer.len() < size {
        let missing = size - buffer.len();
        let read = if buffer.capacity() == 0 {
            first_read(reader, buffer).await?
        } else {
            buffer.reserve(missing.clamp(4096, READ_STEP));
            reader.read_buf(buffer).await?
        };
        if read == 0 {
            if buffer.is_empty() {
                return Ok(false);
            }
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(true)
}

async fn first_read<R: AsyncRead + Unpin>(reader: &mut R, buffer: &mut BytesMut) -> io::Result<usize> {
    std::future::poll_fn(|context| {
        let mut bytes = [MaybeUninit::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut *reader).poll_read(context, &mut read))?;
        buffer.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}

async fn write_loop<W: Outgoing>(
    core: Arc<Core>,
    mut writer: W,
    mut answers: mpsc::Receiver<Reply>,
) -> Result<(), Ended> {
    while let Some(reply) = answers.recv().await {
        let answer = match reply {
            Reply::Now(answer) => Some(answer),
            Reply::Later(answer) => Some(answer.await?),
            Reply::Nothing => None,
        };
        if let Some(answer) = answer {
            let sent = timeout(WRITE_DEADLINE, outgoing::send(&mut writer, &answer)).await;
            let sent = sent.map_err(|_| Ended::NotReading)??;
            core.metrics.bytes_out.inc_by(u64::try_from(sent.bytes).unwrap_or_default());
            core.metrics.bytes_out_of_files.inc_by(u64::try_from(sent.from_files).unwrap_or_default());
        }
    }
    Ok(())
}
