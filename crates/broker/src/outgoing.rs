//! Answers on their way out: bytes at hand, and stored batches that the kernel takes from their file.
//!
//! Invariant: a frame leaves whole or its connection ends; its length is written before the first stored byte is.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use commitlog::FileSlice;
use tokio::io::{AsyncWrite, AsyncWriteExt, Interest, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio_rustls::server::TlsStream;

/// An answer with its length in front.
pub(crate) enum Frame {
    Whole(Bytes),
    Parts(Vec<Part>),
}

/// A stretch of a frame.
pub(crate) enum Part {
    Bytes(Bytes),
    Stored(FileSlice),
}

impl Frame {
    /// Bytes of it.
    pub(crate) fn size(&self) -> usize {
        let part = |part: &Part| match part {
            Part::Bytes(bytes) => bytes.len(),
            Part::Stored(slice) => slice.size(),
        };
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Parts(parts) => parts.iter().map(part).sum(),
        }
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

/// Where answers go.
pub(crate) trait Outgoing: AsyncWrite + Unpin {
    /// The socket, where bytes go to it as they are: not with TLS.
    fn socket(&self) -> Option<&TcpStream>;
}

impl Outgoing for OwnedWriteHalf {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self.as_ref())
    }
}

impl Outgoing for WriteHalf<TlsStream<TcpStream>> {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

/// Bytes of a frame.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) bytes: usize,
    /// Those among them that the kernel took from a file.
    pub(crate) from_files: usize,
}

/// Writes a frame.
pub(crate) async fn send<W: Outgoing>(writer: &mut W, frame: &Frame) -> io::Result<Sent> {
    let mut sent = Sent::default();
    match frame {
        Frame::Whole(bytes) => {
            writer.write_all(bytes).await?;
            sent.bytes += bytes.len();
        }
        Frame::Parts(parts) => {
            for part in parts {
                send_part(writer, part, &mut sent).await?;
            }
        }
    }
    writer.flush().await?; // nothing on a plain socket; TLS may hold back what the socket did not take
    Ok(sent)
}

async fn send_part<W: Outgoing>(writer: &mut W, part: &Part, sent: &mut Sent) -> io::Result<()> {
    let slice = match part {
        Part::Bytes(bytes) => {
            writer.write_all(bytes).await?;
            sent.bytes += bytes.len();
            return Ok(());
        }
        Part::Stored(slice) => slice,
    };
    sent.bytes += slice.size();
    let Some(socket) = writer.socket() else {
        return writer.write_all(&slice.read()?).await;
    };
    let mut done = 0;
    while done < slice.size() {
        done += socket.async_io(Interest::WRITABLE, || slice.send_to(socket.as_fd(), done)).await?;
    }
    sent.from_files += done;
    Ok(())
}
