//! One connection to a broker: opened, greeted, read and written; no state of the protocol and no patience.
//!
//! Invariant: reading and writing may be dropped at any time without losing a byte (law 7 of the adapter): what was read
//! stands in the deframer, what is to be written stays in `out` until it was.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::config::BrokerPlan;
use super::packet::{self, Deframer, Hello, Incoming, Refusal, Version, Welcome};
use super::tls;
use crate::adapter::LinkError;

/// A user, password or access list that does not fit is not tried again sooner (MQ-10).
const LOGIN_WAIT: Duration = Duration::from_secs(60);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// What the protocol is spoken over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open and greeted connection.
pub struct Connection {
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    pub deframer: Deframer,
    pub out: BytesMut,
    is_dirty: bool,
    target: String,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("target", &self.target).finish_non_exhaustive()
    }
}

/// How a greeting ended.
#[derive(Debug)]
pub enum Greeted {
    Welcome(Box<Connection>, Welcome),
    /// The broker does not speak this version.
    OtherVersion,
}

impl Connection {
    /// Connects and greets, within the plan's timeout.
    pub async fn open(plan: &BrokerPlan, version: Version, hello: &Hello<'_>) -> Result<Greeted, LinkError> {
        let target = plan.target();
        let late = |_| LinkError::ConnectTimeout { target: plan.target(), timeout: plan.connect_timeout };
        let deadline = Instant::now() + plan.connect_timeout;
        let tcp = tokio::time::timeout_at(deadline, TcpStream::connect((plan.host.as_str(), plan.port)))
            .await
            .map_err(late)?
            .map_err(|source| LinkError::Connect { target: target.clone(), source })?;
        tcp.set_nodelay(true).map_err(|source| LinkError::Connect { target: target.clone(), source })?;
        let stream: Box<dyn Stream> = match &plan.tls {
            None => Box::new(tcp),
            Some(tls_plan) => {
                let (connector, name) = tls::connector(tls_plan, &plan.host)
                    .map_err(|what| LinkError::Setup { target: target.clone(), what })?;
                let secured = tokio::time::timeout_at(deadline, connector.connect(name, tcp)).await.map_err(late)?;
                Box::new(secured.map_err(|source| LinkError::Connect { target: target.clone(), source })?)
            }
        };
        let (connection, answer) = match Self::greet(stream, plan, version, hello, deadline).await {
            // a broker of old hangs up on a version it has never heard of
            Err(error) if version == Version::V5 && plan.version.is_none() && error.is_hang_up() => {
                return Ok(Greeted::OtherVersion);
            }
            greeted => greeted?,
        };
        match answer.refused {
            None => Ok(Greeted::Welcome(Box::new(connection), answer)),
            Some(Refusal::Version) if version == Version::V5 && plan.version.is_none() => Ok(Greeted::OtherVersion),
            Some(refusal) => Err(connection.refused(refusal, &answer)),
        }
    }

    /// Says hello over what is connected already, and waits for the answer, whatever it is.
    pub async fn greet(
        stream: Box<dyn Stream>,
        plan: &BrokerPlan,
        version: Version,
        hello: &Hello<'_>,
        deadline: Instant,
    ) -> Result<(Self, Welcome), LinkError> {
        let late = |_| LinkError::ConnectTimeout { target: plan.target(), timeout: plan.connect_timeout };
        let (reader, writer) = tokio::io::split(stream);
        let limit = usize::try_from(hello.packet_max).unwrap_or(usize::MAX);
        let deframer = Deframer::new(version, limit);
        let target = plan.target();
        let mut connection = Self { reader, writer, deframer, out: BytesMut::new(), is_dirty: false, target };
        packet::hello(version, hello, &mut connection.out).map_err(|defect| connection.out_of_step(&defect))?;
        let greeting = async {
            connection.flush().await?;
            connection.answer().await
        };
        let answer = tokio::time::timeout_at(deadline, greeting).await.map_err(late)??;
        Ok((connection, answer))
    }

    async fn answer(&mut self) -> Result<Welcome, LinkError> {
        loop {
            match self.deframer.next_packet() {
                Ok(Some(Incoming::Welcome(welcome))) => return Ok(welcome),
                Ok(Some(_)) => return Err(self.confused("it speaks before it has said welcome".to_owned())),
                Ok(None) => self.read().await?,
                Err(defect) => return Err(self.out_of_step(&defect)),
            }
        }
    }

    fn refused(&self, refusal: Refusal, answer: &Welcome) -> LinkError {
        let (what, wait_min) = match refusal {
            Refusal::Version => ("it does not speak this version; set version: auto".to_owned(), Duration::ZERO),
            Refusal::Login => {
                ("not authorised; check user, password and the broker's access list".to_owned(), LOGIN_WAIT)
            }
            Refusal::ClientId => ("it does not take the client id".to_owned(), LOGIN_WAIT),
            Refusal::Busy(what) => (what.to_owned(), Duration::ZERO),
        };
        let what = match &answer.reason {
            Some(reason) => format!("{what} ({reason:.200})"),
            None => what,
        };
        LinkError::Refused { target: self.target.clone(), what, wait_min }
    }

    /// Reads what there is.
    pub async fn read(&mut self) -> Result<(), LinkError> {
        self.deframer.buffer.reserve(READ_BYTES.min(4096));
        match self.reader.read_buf(&mut self.deframer.buffer).await {
            Ok(0) => Err(LinkError::Closed { target: self.target.clone() }),
            Ok(_) => Ok(()),
            Err(source) => Err(LinkError::Broken { target: self.target.clone(), source }),
        }
    }

    /// True if something is to be sent.
    pub fn has_to_write(&self) -> bool {
        self.is_dirty || !self.out.is_empty()
    }

    /// Sends everything.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        flush(&mut self.writer, &mut self.out, &mut self.is_dirty, &self.target).await
    }

    /// Sends everything and waits until the other side has hung up: a socket that is closed with bytes unread takes back
    /// what it had sent last.
    pub async fn finish(mut self) -> Result<(), LinkError> {
        self.flush().await?;
        let broken = |source| LinkError::Broken { target: self.target.clone(), source };
        self.writer.shutdown().await.map_err(broken)?;
        loop {
            self.deframer.buffer.clear();
            if self.reader.read_buf(&mut self.deframer.buffer).await.map_err(broken)? == 0 {
                return Ok(());
            }
        }
    }

    /// Sends, and reads when that is wanted, whichever can be done.
    pub async fn proceed(&mut self, may_read: bool) -> Result<(), LinkError> {
        let Self { reader, writer, deframer, out, is_dirty, target } = self;
        let writes = *is_dirty || !out.is_empty();
        deframer.buffer.reserve(READ_BYTES.min(4096));
        tokio::select! { // cancel-safe: bytes move one way or stay where they are
            wrote = flush(writer, out, is_dirty, target), if writes => wrote,
            read = reader.read_buf(&mut deframer.buffer), if may_read => match read {
                Ok(0) => Err(LinkError::Closed { target: target.clone() }),
                Ok(_) => Ok(()),
                Err(source) => Err(LinkError::Broken { target: target.clone(), source }),
            },
            else => std::future::pending().await,
        }
    }

    /// The bytes make no sense any more.
    pub fn out_of_step(&self, defect: &packet::Defect) -> LinkError {
        self.confused(defect.to_string())
    }

    pub fn confused(&self, what: String) -> LinkError {
        LinkError::OutOfStep { target: self.target.clone(), what }
    }

    pub fn target(&self) -> &str {
        &self.target
    }
}

async fn flush(
    writer: &mut WriteHalf<Box<dyn Stream>>,
    out: &mut BytesMut,
    is_dirty: &mut bool,
    target: &str,
) -> Result<(), LinkError> {
    let broken = |source| LinkError::Broken { target: target.to_owned(), source };
    while !out.is_empty() {
        *is_dirty = true;
        if writer.write_buf(out).await.map_err(broken)? == 0 {
            return Err(LinkError::Closed { target: target.to_owned() });
        }
    }
    writer.flush().await.map_err(broken)?;
    *is_dirty = false;
    Ok(())
}
