//! A wire between adapter and broker that a test listens on, cuts, and takes acknowledgements from.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Default)]
struct Shared {
    /// Packets the adapter sent: first byte and the rest.
    sent: Mutex<Vec<Vec<u8>>>,
    swallow_acks: AtomicBool,
    connections: AtomicUsize,
    cut: Mutex<CancellationToken>,
}

/// The wire.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(broker_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let of_task = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut wires = JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                let Ok(to) = TcpStream::connect(("127.0.0.1", broker_port)).await else { continue };
                of_task.connections.fetch_add(1, Ordering::SeqCst);
                let cut = of_task.cut.lock().unwrap().clone();
                wires.spawn(wire(from, to, Arc::clone(&of_task), cut));
            }
        });
        Self { shared, address, _tasks: tasks }
    }

    /// Every packet the adapter sent, over all connections.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.shared.sent.lock().unwrap().clone()
    }

    /// Packet ids of the acknowledgements so far.
    pub(crate) fn acknowledged(&self) -> Vec<u16> {
        let sent = self.sent();
        let acks = sent.iter().filter(|packet| packet[0] == 0x40);
        acks.map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect()
    }

    /// While set, acknowledgements do not reach the broker.
    pub(crate) fn swallow_acks(&self, swallow: bool) {
        self.shared.swallow_acks.store(swallow, Ordering::SeqCst);
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts all connections; new ones are possible.
    pub(crate) fn cut(&self) {
        let mut cut = self.shared.cut.lock().unwrap();
        cut.cancel();
        *cut = CancellationToken::new();
    }
}

async fn wire(from: TcpStream, to: TcpStream, shared: Arc<Shared>, cut: CancellationToken) {
    let (mut from_read, mut from_write) = from.into_split();
    let (mut to_read, mut to_write) = to.into_split();
    let up = async {
        let mut buffer = Vec::new();
        while from_read.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            while let Some(packet) = split(&mut buffer) {
                let is_ack = [0x40, 0x50, 0x70].contains(&(packet[0] & 0xF0));
                let swallow = is_ack && shared.swallow_acks.load(Ordering::SeqCst);
                if !swallow && to_write.write_all(&packet).await.is_err() {
                    return;
                }
                shared.sent.lock().unwrap().push(packet);
            }
        }
    };
    let down = async { drop(tokio::io::copy(&mut to_read, &mut from_write).await) };
    tokio::select! { // a cut wire carries nothing more
        () = up => {}
        () = down => {}
        () = cut.cancelled() => {}
    }
}

/// The first whole packet of a buffer.
fn split(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut length = 0;
    for place in 0..4 {
        let byte = *buffer.get(1 + place)?;
        length |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            let whole = 2 + place + length;
            return (buffer.len() >= whole).then(|| buffer.drain(..whole).collect());
        }
    }
    None
}
