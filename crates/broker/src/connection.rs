//! One client connection: frames in, answers out, in the order of the requests.
//!
//! Reading and answering are two loops in one task. A produce request is written to its logs as soon as it is read, its
//! answer waits for the disk in the queue of answers; everything else runs when it reaches the head of that queue, so
//! the requests of one connection see each other's effects in order.
//! Invariants: never more than [`REQUESTS_IN_FLIGHT_MAX`] unanswered requests; no buffer grows before its bytes are
//! admitted by the broker's budget for frames; a client that is slow, silent or malformed is closed with a reason.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka::protocol::{FRAME_BYTES_MAX, FRAME_BYTES_MIN};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::dispatch::{self, Peer, Reply};
use crate::limits::{
    DRAIN_DEADLINE, FIRST_FRAME_BYTES_MAX, FRAME_DEADLINE, IDLE_DEADLINE, REQUESTS_IN_FLIGHT_MAX, WRITE_DEADLINE,
};

/// Bytes a buffer grows by at a time, so that a frame takes memory as it arrives and not as it is announced.
const READ_STEP: usize = 256 * 1024;
/// A buffer that grew beyond this for one frame is given back afterwards.
const BUFFER_KEPT: usize = 1024 * 1024;

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("a frame of {bytes} bytes is not between {FRAME_BYTES_MIN} and {limit}")]
    FrameSize { bytes: i64, limit: usize },
    #[error("nothing was received for {} s", after.as_secs())]
    Silent { after: Duration },
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

/// Serves a connection until either side ends it.
pub(crate) async fn serve<R, W>(
    core: Arc<Core>,
    budget: Arc<FrameBudget>,
    address: IpAddr,
    reader: R,
    writer: W,
    stop: CancellationToken,
) -> Result<(), Ended>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (sender, receiver) = mpsc::channel(REQUESTS_IN_FLIGHT_MAX);
    let peer = Peer { address };
    let mut read = std::pin::pin!(read_loop(Arc::clone(&core), budget, peer, reader, sender));
    let mut write = std::pin::pin!(write_loop(core, writer, receiver));
    let outcome = tokio::select! { // cancel-safe: whichever ends decides about the other
        ended = &mut write => return ended,
        ended = &mut read => ended,
        () = stop.cancelled() => Err(Ended::Stopping),
    };
    // what was accepted is still answered, but not for ever
    match timeout(DRAIN_DEADLINE, write).await {
        Ok(written) => outcome.and(written),
        Err(_) => outcome,
    }
}

async fn read_loop<R: AsyncRead + Unpin>(
    core: Arc<Core>,
    budget: Arc<FrameBudget>,
    peer: Peer,
    mut reader: R,
    answers: mpsc::Sender<Reply>,
) -> Result<(), Ended> {
    let mut buffer = BytesMut::new();
    let mut scratch = Vec::new();
    let mut limit = FIRST_FRAME_BYTES_MAX;
    loop {
        // a slot for the answer first: a full queue stops the reading
        let Ok(slot) = answers.reserve().await else { return Ok(()) };
        if buffer.is_empty() && buffer.capacity() > BUFFER_KEPT {
            buffer = BytesMut::new();
        }
        let begun = timeout(IDLE_DEADLINE, fill(&mut reader, &mut buffer, 4)).await;
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
        buffer.reserve(missing.clamp(4096, READ_STEP));
        if reader.read_buf(buffer).await? == 0 {
            if buffer.is_empty() {
                return Ok(false);
            }
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    Ok(true)
}

async fn write_loop<W: AsyncWrite + Unpin>(
    core: Arc<Core>,
    mut writer: W,
    mut answers: mpsc::Receiver<Reply>,
) -> Result<(), Ended> {
    while let Some(reply) = answers.recv().await {
        let answer: Option<Bytes> = match reply {
            Reply::Now(answer) => Some(answer),
            Reply::Later(answer) => Some(answer.await?),
            Reply::Nothing => None,
        };
        if let Some(answer) = answer {
            timeout(WRITE_DEADLINE, writer.write_all(&answer)).await.map_err(|_| Ended::NotReading)??;
            core.metrics.bytes_out.inc_by(u64::try_from(answer.len()).unwrap_or_default());
        }
    }
    Ok(())
}
