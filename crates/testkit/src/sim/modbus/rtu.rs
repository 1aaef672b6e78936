//! The simulated device on a serial line: through a TCP port, or on a pseudo terminal as if it were a serial port.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ::modbus::{Exception, rtu, server};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fault::Fault;
use super::{Seen, Shared, lock, reset, shorten};

/// How long the thread of a port waits before it looks whether it shall end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A piece of an answer.
enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Reset,
    Close,
    Freeze,
}

/// What to do about a request, as the script says.
fn steps(shared: &Shared, seen: &Seen, request: &[u8]) -> Vec<Step> {
    let fault = lock(&shared.script).next(seen);
    let mut pdu = shared.reply(seen.unit, &seen.pdu);
    let mut unit = seen.unit;
    let function = seen.pdu.first().copied().unwrap_or_default();
    match &fault {
        Some(Fault::Drop | Fault::HoldForNext) => return Vec::new(),
        Some(Fault::Mute(registers)) if Fault::is_too_large(seen, *registers) => return Vec::new(),
        Some(Fault::Reset) => return vec![Step::Reset],
        Some(Fault::Close) => return vec![Step::Close],
        Some(Fault::Freeze) => return vec![Step::Freeze],
        Some(Fault::Garbage(bytes)) => return vec![Step::Send(bytes.clone())],
        Some(Fault::Unit(other)) => unit = *other,
        Some(Fault::Function(other)) => pdu[0] = *other,
        Some(Fault::Short(bytes)) => shorten(&mut pdu, *bytes),
        Some(Fault::Exception(exception)) => pdu = server::exception(function, *exception).to_vec(),
        Some(Fault::SizeLimit(registers)) if Fault::is_too_large(seen, *registers) => {
            pdu = server::exception(function, Exception::ILLEGAL_VALUE).to_vec();
        }
        _ => {}
    }
    let mut frame = Vec::with_capacity(rtu::FRAME_MAX);
    rtu::encode(unit, &pdu, &mut frame);
    match fault {
        Some(Fault::Delay(wait)) => vec![Step::Wait(wait), Step::Send(frame)],
        Some(Fault::Split(pause)) => pieces(&frame, 1, pause),
        Some(Fault::Chunks(size, pause)) => pieces(&frame, size, pause),
        Some(Fault::Echo) => {
            vec![Step::Send(request.to_vec()), Step::Wait(Duration::from_millis(10)), Step::Send(frame)]
        }
        Some(Fault::Half) => {
            frame.truncate(frame.len() / 2);
            vec![Step::Send(frame)]
        }
        Some(Fault::Checksum) => {
            if let Some(last) = frame.last_mut() {
                *last ^= 0xFF;
            }
            vec![Step::Send(frame)]
        }
        _ => vec![Step::Send(frame)],
    }
}

fn pieces(frame: &[u8], size: usize, pause: Duration) -> Vec<Step> {
    frame.chunks(size.max(1)).flat_map(|piece| [Step::Send(piece.to_vec()), Step::Wait(pause)]).collect()
}

/// Takes whole requests out of what came in; what is none is noise, as on a line.
fn requests(shared: &Shared, buffer: &mut Vec<u8>) -> Vec<(Seen, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((request, used)) = rtu::request(buffer) {
        let Ok(frame) = request else {
            buffer.clear();
            break;
        };
        // A serial line has no transaction id.
        let seen = Seen { t_ms: shared.t_ms(), transaction: 0, unit: frame.unit, pdu: frame.pdu.to_vec() };
        let bytes = buffer[..used].to_vec();
        buffer.drain(..used);
        shared.remember(seen.clone());
        found.push((seen, bytes));
    }
    found
}

/// Serves one connection.
pub(super) async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut chunk) = (Vec::new(), [0u8; 1024]);
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
        buffer.extend_from_slice(&chunk[..length]);
        for (seen, bytes) in requests(shared, &mut buffer) {
            for step in steps(shared, &seen, &bytes) {
                match step {
                    Step::Send(bytes) => stream.write_all(&bytes).await?,
                    Step::Wait(pause) => tokio::time::sleep(pause).await,
                    Step::Close => return Ok(()),
                    Step::Reset => {
                        reset(&stream);
                        return Ok(());
                    }
                    Step::Freeze => shared.power.notified().await,
                }
            }
        }
    }
}

/// A serial port with the device at its other end; dropping it unplugs the port.
#[derive(Debug)]
pub(super) struct Port {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Port {
    /// Makes a pseudo terminal and serves it from a thread of its own.
    pub(super) fn open(shared: Arc<Shared>) -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(ptsname(&master, Vec::new())?.to_string_lossy().into_owned());
        // Held open, or the other end would hang up whenever no client is there.
        let slave = File::options().read(true).write(true).open(&path)?;
        let mut line = tcgetattr(&slave)?;
        line.make_raw();
        tcsetattr(&slave, OptionalActions::Now, &line)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("serial-device".to_owned()).spawn(move || {
            let _held = slave;
            if let Err(error) = answer(master, &shared, &ends) {
                tracing::debug!(%error, "the simulated port ended");
            }
        })?;
        Ok(Self { path, stop, thread: Some(thread) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(master: OwnedFd, shared: &Shared, stop: &AtomicBool) -> io::Result<()> {
    let mut line = File::from(master);
    let (mut buffer, mut chunk) = (Vec::new(), [0u8; 1024]);
    while !stop.load(Ordering::SeqCst) {
        let mut waiting = [PollFd::new(&line, PollFlags::IN)];
        if rustix::event::poll(&mut waiting, Some(&LOOK))? == 0 {
            continue;
        }
        let length = line.read(&mut chunk)?;
        if shared.offline.load(Ordering::SeqCst) {
            continue;
        }
        buffer.extend_from_slice(&chunk[..length]);
        for (seen, bytes) in requests(shared, &mut buffer) {
            for step in steps(shared, &seen, &bytes) {
                match step {
                    Step::Send(bytes) => line.write_all(&bytes)?,
                    Step::Wait(pause) => std::thread::sleep(pause),
                    // A line can neither be closed nor reset.
                    Step::Close | Step::Reset | Step::Freeze => {}
                }
            }
        }
    }
    Ok(())
}
