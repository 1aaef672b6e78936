//! A wire between an adapter and its peer: passes bytes on, keeps them, and can be cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What went over one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// By the adapter.
    pub(crate) sent: Vec<u8>,
    /// By its peer.
    pub(crate) received: Vec<u8>,
}

/// Nobody gets in while it is closed, and what is open then is cut.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    open: Arc<watch::Sender<bool>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// To a peer on this machine.
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(watch::Sender::new(true));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(let_in(listener, port, Arc::clone(&open), Arc::clone(&heard)));
        Self { address, open, heard, _tasks: tasks }
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// By connection, in the order of their beginning.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

async fn let_in(listener: TcpListener, port: u16, open: Arc<watch::Sender<bool>>, heard: Arc<Mutex<Vec<Heard>>>) {
    let mut passing = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let mut closed = open.subscribe();
        if !*closed.borrow() {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let number = {
            let mut heard = heard.lock().unwrap();
            heard.push(Heard::default());
            heard.len() - 1
        };
        let kept = Arc::clone(&heard);
        passing.spawn(async move {
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let up = pass(from_near, to_far, |bytes| kept.lock().unwrap()[number].sent.extend_from_slice(bytes));
            let down = pass(from_far, to_near, |bytes| kept.lock().unwrap()[number].received.extend_from_slice(bytes));
            tokio::select! { // a cut wire carries nothing more
                _ = async { tokio::join!(up, down) } => {}
                _ = closed.wait_for(|open| !*open) => {}
            }
        });
    }
}

/// Kept before it is passed on: who sees an answer finds the question here.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut keep: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        keep(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    drop(to.shutdown().await);
}
