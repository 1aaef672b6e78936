//! A Modbus device in this process: several units behind one address, any register content, faults on demand.
//! On the wire it is a Modbus TCP device, a serial line behind a TCP port, or a serial port of this machine.
//!
//! The server answers from a [`Model`], a function of request and time, and bends each answer as the [`fault::Script`]
//! says. It can be switched off and on again without losing its address, as a device can.
//!
//! Where to look next: [`fault`] for what can go wrong, [`rtu`] for serial lines, [`memory`] for registers a test sets, [`load`] for many floats.

pub mod fault;
pub mod load;
pub mod memory;
mod rtu;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::modbus::{Data, Deframer, Exception, Read, Table, frame, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plant::Plant;
use fault::{Fault, Rule, Script};
use load::Load;
pub use memory::Memory;

/// Open connections; one more is closed at once, as small devices do.
pub const CONNECTIONS_MAX: usize = 64;
/// Requests remembered for [`Simulator::requests`]; the oldest is forgotten first.
const REQUESTS_MAX: usize = 100_000;
/// How long to wait after the operating system refused a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a simulated device holds.
pub trait Model: Send + Sync + fmt::Debug {
    /// Answers a read `t_ms` milliseconds after the simulator started. The data has exactly `read.count()` items.
    fn read(&self, read: Read, t_ms: u64) -> Result<Data, Exception>;
}

/// Settings of `streamforge sim modbus`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address to listen on; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:5020")]
    pub listen: SocketAddr,
    /// How requests are wrapped: mbap is Modbus TCP, rtu-over-tcp a serial line behind the port
    #[arg(long, value_enum, default_value_t = Framing::Mbap)]
    pub framing: Framing,
    /// Serve a serial port of this machine instead of a TCP port, a pseudo terminal whose path is logged
    #[arg(long, conflicts_with = "framing")]
    pub serial: bool,
    /// Misbehave: delay=200, drop, exception=2, checksum, echo, chunks, size=50, ...; /N for one in N requests, @U for unit U
    #[arg(long = "fault", value_name = "FAULT[=VALUE][/N][@U]")]
    pub faults: Vec<Rule>,
    /// Further units for load tests, from unit 101 upwards.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub load_units: u8,
    /// Float registers of each load unit: float32 values from holding register 1.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=32_768))]
    pub load_points: u16,
}

/// How requests and replies are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Framing {
    /// The header of Modbus TCP.
    Mbap,
    /// Unit id and checksum, as on a serial line.
    RtuOverTcp,
}

/// Why a simulator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no pseudo terminal to be had.
    #[error("cannot make a serial port")]
    Serial {
        /// What the system said.
        source: io::Error,
    },
    /// The address is taken or not ours.
    #[error("cannot listen on {address} as a Modbus device")]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs the demo plant, and load units if asked for, until `stop`.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), Error> {
    let plant = Plant::new();
    let load = Load { first_unit: 101, units: options.load_units, points: options.load_points };
    let model = Arc::new(PlantAndLoad { plant, load });
    let simulator = if options.serial {
        Simulator::serial(model)?
    } else {
        Simulator::start_as(options.listen, model, options.framing).await?
    };
    for rule in options.faults {
        simulator.script(rule);
    }
    if let Some(port) = simulator.port() {
        tracing::info!(port = %port.display(), units = "1, 2, 3", "simulating a Modbus plant on a serial line");
        stop.cancelled().await;
        return Ok(());
    }
    tracing::info!(address = %simulator.address(), units = "1, 2, 3", load_units = options.load_units, "simulating a Modbus plant");
    stop.cancelled().await;
    Ok(())
}

/// The demo plant with load units beside it.
#[derive(Debug)]
struct PlantAndLoad {
    plant: Plant,
    load: Load,
}

impl Model for PlantAndLoad {
    fn read(&self, read: Read, t_ms: u64) -> Result<Data, Exception> {
        if self.load.has(read.unit()) { self.load.read(read, t_ms) } else { self.plant.read(read, t_ms) }
    }
}

/// A request the simulator saw, well formed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Milliseconds since the simulator started.
    pub t_ms: u64,
    /// Transaction id.
    pub transaction: u16,
    /// Unit id.
    pub unit: u8,
    /// Function code and what follows.
    pub pdu: Vec<u8>,
}

impl Seen {
    /// The read it asks for, if it is one.
    pub fn read(&self) -> Option<Read> {
        server::decode(self.unit, &self.pdu).ok()
    }
}

/// A running simulator; dropping it closes its port and all connections.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Owns the accept loop, which owns the connections.
    _tasks: JoinSet<()>,
    port: Option<rtu::Port>,
}

#[derive(Debug)]
struct Shared {
    model: Arc<dyn Model>,
    script: Mutex<Script>,
    seen: Mutex<std::collections::VecDeque<Seen>>,
    connections: AtomicUsize,
    offline: AtomicBool,
    power: tokio::sync::Notify,
    started: Instant,
}

impl Simulator {
    /// Listens and answers from `model`.
    pub async fn start(listen: SocketAddr, model: Arc<dyn Model>) -> Result<Self, Error> {
        Self::start_as(listen, model, Framing::Mbap).await
    }

    /// The same on a serial port of this machine, see [`Simulator::port`].
    pub fn serial(model: Arc<dyn Model>) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(model));
        let port = rtu::Port::open(Arc::clone(&shared)).map_err(|source| Error::Serial { source })?;
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Ok(Self { address, shared, _tasks: JoinSet::new(), port: Some(port) })
    }

    /// Path of the serial port, if it is one.
    pub fn port(&self) -> Option<&std::path::Path> {
        self.port.as_ref().map(rtu::Port::path)
    }

    /// Listens and answers from `model`, with one framing or the other.
    pub async fn start_as(listen: SocketAddr, model: Arc<dyn Model>, framing: Framing) -> Result<Self, Error> {
        let failed = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared::new(model));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared), framing));
        Ok(Self { address, shared, _tasks: tasks, port: None })
    }

    /// On a free port of this machine.
    pub async fn local(model: Arc<dyn Model>) -> Result<Self, Error> {
        Self::start(SocketAddr::from(([127, 0, 0, 1], 0)), model).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a rule; earlier rules win.
    pub fn script(&self, rule: Rule) {
        lock(&self.shared.script).push(rule);
    }

    /// Forgets all rules: the device behaves again.
    pub fn behave(&self) {
        lock(&self.shared.script).clear();
    }

    /// Switches the device off (connections are reset, new ones refused by reset) or on again.
    pub fn set_offline(&self, offline: bool) {
        self.shared.offline.store(offline, Ordering::SeqCst);
        self.shared.power.notify_waiters();
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.seen).iter().cloned().collect()
    }

    /// Number of requests remembered so far.
    pub fn request_count(&self) -> usize {
        lock(&self.shared.seen).len()
    }

    /// Connections accepted so far, also those closed again.
    pub fn connection_count(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn new(model: Arc<dyn Model>) -> Self {
        Self {
            model,
            script: Mutex::default(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            offline: AtomicBool::new(false),
            power: tokio::sync::Notify::new(),
            started: Instant::now(),
        }
    }

    fn t_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn remember(&self, seen: Seen) {
        let mut all = lock(&self.seen);
        if all.len() == REQUESTS_MAX {
            all.pop_front();
        }
        all.push_back(seen);
    }

    /// The reply a device without faults gives.
    fn reply(&self, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let function = pdu.first().copied().unwrap_or_default();
        let answered = server::decode(unit, pdu).and_then(|read| {
            let data = self.model.read(read, self.t_ms())?;
            Ok((read, data))
        });
        match answered {
            Ok((read, Data::Registers(registers))) => server::registers(read.table(), &registers),
            Ok((read, Data::Bits(bits))) => server::bits(read.table(), &bits),
            Err(exception) => server::exception(function, exception).to_vec(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, framing: Framing) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if shared.offline.load(Ordering::SeqCst) {
            reset(&stream);
            continue;
        }
        if connections.len() >= CONNECTIONS_MAX {
            continue;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let served = match framing {
                Framing::Mbap => serve(stream, &shared).await,
                Framing::RtuOverTcp => rtu::serve(stream, &shared).await,
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a client went away");
            }
        });
    }
}

/// Makes the coming close of the connection a reset.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "the connection will end politely instead of by reset");
    }
}

/// Why serving a connection goes on or ends.
enum Next {
    Continue,
    Close,
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut deframer = Deframer::new();
    let mut chunk = [0u8; 1024];
    let mut held = Vec::new();
    loop {
        let switched = shared.power.notified();
        if shared.offline.load(Ordering::SeqCst) {
            reset(&stream);
            return Ok(());
        }
        let length = tokio::select! { // cancel-safe: `read` takes bytes only when it is ready
            length = stream.read(&mut chunk) => length?,
            () = switched => continue,
        };
        if length == 0 {
            return Ok(());
        }
        deframer.push(&chunk[..length]);
        while let Ok(Some(request)) = deframer.next_frame() {
            let seen = Seen {
                t_ms: shared.t_ms(),
                transaction: request.transaction,
                unit: request.unit,
                pdu: request.pdu.to_vec(),
            };
            shared.remember(seen.clone());
            match answer(&mut stream, shared, &seen, &mut held).await? {
                Next::Continue => {}
                Next::Close => return Ok(()),
            }
        }
    }
}

/// Answers one request as the script says; `held` keeps a reply that shall travel with the next one.
async fn answer(stream: &mut TcpStream, shared: &Shared, seen: &Seen, held: &mut Vec<u8>) -> io::Result<Next> {
    let fault = lock(&shared.script).next(seen);
    let mut pdu = shared.reply(seen.unit, &seen.pdu);
    let function = seen.pdu.first().copied().unwrap_or_default();
    let (mut transaction, mut unit) = (seen.transaction, seen.unit);
    match &fault {
        Some(Fault::Drop) => return Ok(Next::Continue),
        Some(Fault::Mute(registers)) if Fault::is_too_large(seen, *registers) => return Ok(Next::Continue),
        Some(Fault::Reset) => {
            reset(stream);
            return Ok(Next::Close);
        }
        Some(Fault::Close) => return Ok(Next::Close),
        Some(Fault::Freeze) => {
            // Half-open: the socket stays, nobody is behind it any more.
            shared.power.notified().await;
            return Ok(Next::Close);
        }
        Some(Fault::Delay(wait)) => tokio::time::sleep(*wait).await,
        Some(Fault::Transaction(add)) => transaction = transaction.wrapping_add(*add),
        Some(Fault::Unit(other)) => unit = *other,
        Some(Fault::Function(other)) => {
            if let Some(first) = pdu.first_mut() {
                *first = *other;
            }
        }
        Some(Fault::Short(bytes)) => shorten(&mut pdu, *bytes),
        Some(Fault::Exception(exception)) => pdu = server::exception(function, *exception).to_vec(),
        Some(Fault::SizeLimit(registers)) if Fault::is_too_large(seen, *registers) => {
            pdu = server::exception(function, Exception::ILLEGAL_VALUE).to_vec();
        }
        Some(Fault::Garbage(bytes)) => {
            stream.write_all(bytes).await?;
            return Ok(Next::Continue);
        }
        Some(
            Fault::Split(_)
            | Fault::Mute(_)
            | Fault::SizeLimit(_)
            | Fault::Chunks(..)
            | Fault::HoldForNext
            | Fault::Checksum
            | Fault::Echo
            | Fault::Half,
        )
        | None => {}
    }
    frame::encode(transaction, unit, &pdu, held);
    match fault {
        Some(Fault::HoldForNext) => {}
        Some(Fault::Split(pause)) => send_in_pieces(stream, held, 1, pause).await?,
        Some(Fault::Chunks(size, pause)) => send_in_pieces(stream, held, size, pause).await?,
        Some(Fault::Half) => {
            held.truncate(held.len() / 2);
            stream.write_all(held).await?;
            held.clear();
        }
        _ => {
            stream.write_all(held).await?;
            held.clear();
        }
    }
    Ok(Next::Continue)
}

async fn send_in_pieces(stream: &mut TcpStream, held: &mut Vec<u8>, size: usize, pause: Duration) -> io::Result<()> {
    for piece in std::mem::take(held).chunks(size.max(1)) {
        stream.write_all(piece).await?;
        stream.flush().await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Takes data bytes away and lowers the byte count with them: a well-formed reply of the wrong size.
fn shorten(pdu: &mut Vec<u8>, bytes: u8) {
    pdu.truncate(pdu.len().saturating_sub(usize::from(bytes)).max(2));
    let left = pdu.len().saturating_sub(2);
    if let Some(count) = pdu.get_mut(1) {
        *count = u8::try_from(left).unwrap_or(u8::MAX);
    }
}

/// Cuts a read out of a table's content; "illegal address" if it reaches past the end.
pub(crate) fn cut<T: Copy>(items: &[T], read: Read) -> Result<Vec<T>, Exception> {
    let start = usize::from(read.offset());
    let end = start + usize::from(read.count());
    items.get(start..end).map(<[T]>::to_vec).ok_or(Exception::ILLEGAL_ADDRESS)
}

/// The four tables of a unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// Coils from offset 0.
    pub coils: Vec<bool>,
    /// Discrete inputs from offset 0.
    pub discrete: Vec<bool>,
    /// Input registers from offset 0.
    pub input: Vec<u16>,
    /// Holding registers from offset 0.
    pub holding: Vec<u16>,
}

impl Image {
    /// Answers a read from this content.
    pub fn read(&self, read: Read) -> Result<Data, Exception> {
        match read.table() {
            Table::Coil => cut(&self.coils, read).map(Data::Bits),
            Table::DiscreteInput => cut(&self.discrete, read).map(Data::Bits),
            Table::InputRegister => cut(&self.input, read).map(Data::Registers),
            Table::HoldingRegister => cut(&self.holding, read).map(Data::Registers),
        }
    }

    /// Puts registers at an offset, growing the table as needed.
    pub fn put(&mut self, table: Table, offset: u16, registers: &[u16]) {
        let items = if table == Table::InputRegister { &mut self.input } else { &mut self.holding };
        put(items, offset, registers);
    }

    /// Puts bits at an offset, growing the table as needed.
    pub fn put_bits(&mut self, table: Table, offset: u16, bits: &[bool]) {
        let items = if table == Table::DiscreteInput { &mut self.discrete } else { &mut self.coils };
        put(items, offset, bits);
    }
}

fn put<T: Copy + Default>(items: &mut Vec<T>, offset: u16, values: &[T]) {
    let start = usize::from(offset);
    let end = start + values.len();
    if items.len() < end {
        items.resize(end, T::default());
    }
    items[start..end].copy_from_slice(values);
}
