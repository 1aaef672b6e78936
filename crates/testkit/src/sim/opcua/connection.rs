//! One connection of a client, from its greeting to its end.
//!
//! Invariant: a connection ends when the server starts anew or is switched off, and its session stays for its timeout.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use opcua_core::ResponseMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::channel::{Channel, Defect, Incoming};
use super::fault::Fault;
use super::service::Asking;
use super::{Seen, Shared};

/// Bytes that wait to be sent; with more of them nothing is read.
const OUTBOX_MAX: usize = 1024 * 1024;

/// Why a connection goes on or ends.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Close,
}

struct Client<'s> {
    shared: &'s Arc<Shared>,
    /// Number of the connection.
    number: u64,
    channel: Channel,
    wake: Arc<Notify>,
    out: BytesMut,
}

/// Serves a connection to its end.
pub(super) async fn serve(mut stream: TcpStream, shared: &Arc<Shared>, number: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let channel = Channel::new(u32::try_from(number % u64::from(u32::MAX)).unwrap_or_default().max(1));
    let wake = Arc::new(Notify::new());
    let mut client = Client { shared, number, channel, wake: Arc::clone(&wake), out: BytesMut::new() };
    let mut inbox = BytesMut::with_capacity(8192);
    let (mut reader, mut writer) = stream.split();
    loop {
        while client.out.len() < OUTBOX_MAX {
            match client.channel.take(&mut inbox, &mut client.out) {
                Ok(None) => break,
                Ok(Some(incoming)) => {
                    if client.handle(incoming).await? == Next::Close {
                        return Ok(());
                    }
                }
                Err(defect) => {
                    tracing::info!(%defect, "a client breaks the protocol and is disconnected");
                    Channel::end(&defect, &mut client.out);
                    return writer.write_all(&client.out).await;
                }
            }
        }
        client.fetch()?;
        tokio::select! { // reading and writing into buffers and waiting to be woken lose nothing when dropped
            read = reader.read_buf(&mut inbox), if client.out.len() < OUTBOX_MAX => {
                if read? == 0 {
                    return Ok(());
                }
            }
            written = writer.write_buf(&mut client.out), if !client.out.is_empty() => {
                written?;
            }
            () = wake.notified() => {}
        }
    }
}

fn broken(defect: Defect) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, defect)
}

impl Client<'_> {
    async fn handle(&mut self, incoming: Incoming) -> io::Result<Next> {
        let (id, message) = match incoming {
            Incoming::Handled => return Ok(Next::Continue),
            Incoming::Goodbye => return Ok(Next::Close),
            Incoming::Request { id, message } => (id, message),
        };
        let service = message.type_name();
        let fault = self.shared.fault(service);
        self.shared.remember(Seen { connection: self.number, service });
        let refused = match fault {
            Some(Fault::Close) => return Ok(Next::Close),
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                None
            }
            Some(Fault::Refuse(status)) => Some(status),
            _ => None,
        };
        let asking = Asking { connection: self.number, wake: &self.wake, id, now: Instant::now() };
        let answer = match refused {
            Some(status) => Some(super::service::refusal(message.request_header(), status)),
            None => self.shared.state().answer(&asking, message),
        };
        if let Some(answer) = answer {
            self.send(id, &answer)?;
        }
        Ok(Next::Continue)
    }

    fn send(&mut self, id: u32, answer: &ResponseMessage) -> io::Result<()> {
        self.channel.send(id, answer, &mut self.out).map_err(broken)
    }

    /// Takes what is to be told out of the sessions of this connection.
    fn fetch(&mut self) -> io::Result<()> {
        let answers = self.shared.state().take_for(self.number);
        for (id, answer) in answers {
            self.send(id, &answer)?;
        }
        Ok(())
    }
}
