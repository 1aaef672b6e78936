//! A serial port: opened for this process alone, in raw mode, read and written without blocking a thread.
//!
//! Timing is not done here; see [`super::rtu`]. What the driver counts as broken characters can be asked for.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::termios::{self, ControlModes, OptionalActions, QueueSelector, SpecialCodeIndex};
use tokio::io::unix::AsyncFd;

use super::transport::{Parity, Rs485, SerialPlan};
use crate::adapter::LinkError;

/// An open port. Dropping it lets others have it.
#[derive(Debug)]
pub struct Port {
    fd: AsyncFd<OwnedFd>,
    seen: Troubles,
}

/// Broken characters since the driver began to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Troubles {
    pub parity: i32,
    pub framing: i32,
    pub overrun: i32,
}

impl Port {
    /// Opens the port for this process alone and sets the line.
    pub fn open(plan: &SerialPlan) -> Result<Self, LinkError> {
        let failed = |source: io::Error| LinkError::Connect { target: plan.path.clone(), source };
        let setup = |what: String| LinkError::Setup { target: plan.path.clone(), what };
        // Not the process's terminal, and no waiting for a carrier that RS-485 does not have.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&*plan.path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| setup("another process uses this port".to_owned()))?;
        if !termios::isatty(&fd) {
            return Err(setup("this is no serial port".to_owned()));
        }
        termios::ioctl_tiocexcl(&fd).map_err(|error| failed(error.into()))?;
        set_line(&fd, plan).map_err(|error| setup(format!("the port does not take these settings: {error}")))?;
        if let Some(rs485) = plan.rs485 {
            system::set_rs485(&fd, rs485)
                .map_err(|error| setup(format!("its driver has no RS-485 mode ({error}); leave rs485 out")))?;
        }
        // What came in before nobody asked for.
        termios::tcflush(&fd, QueueSelector::IOFlush).map_err(|error| failed(error.into()))?;
        let seen = system::troubles(&fd).unwrap_or_default();
        Ok(Self { fd: system::watch(fd).map_err(failed)?, seen })
    }

    /// Bytes that have come in; 0 means that the port is gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *buffer)?)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// What has come in already, without waiting.
    pub fn take(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.fd.get_ref(), buffer)?)
    }

    /// Hands all bytes to the driver.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.fd.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => bytes = &bytes[count..],
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Broken characters since the last call; none where the driver does not count.
    pub fn new_troubles(&mut self) -> Troubles {
        let Ok(now) = system::troubles(self.fd.get_ref()) else { return Troubles::default() };
        let before = std::mem::replace(&mut self.seen, now);
        let more = |now: i32, before: i32| now.wrapping_sub(before).max(0);
        Troubles {
            parity: more(now.parity, before.parity),
            framing: more(now.framing, before.framing),
            overrun: more(now.overrun, before.overrun),
        }
    }
}

impl Drop for Port {
    /// Closing a port waits for what it has not sent, and where somebody else holds it open it stays exclusive.
    fn drop(&mut self) {
        let fd = self.fd.get_ref();
        // A port that was unplugged takes neither; nothing is left to do then.
        let _gone = (termios::tcflush(fd, QueueSelector::OFlush), termios::ioctl_tiocnxcl(fd));
    }
}

fn set_line(fd: impl AsFd, plan: &SerialPlan) -> rustix::io::Result<()> {
    let mut line = termios::tcgetattr(&fd)?;
    line.make_raw();
    line.control_modes |= ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL;
    line.control_modes.set(ControlModes::PARENB, plan.parity != Parity::None);
    line.control_modes.set(ControlModes::PARODD, plan.parity == Parity::Odd);
    line.control_modes.set(ControlModes::CSTOPB, plan.two_stop_bits);
    line.control_modes.remove(ControlModes::CRTSCTS);
    // A character with wrong parity comes as NUL, so that the checksum sees it.
    line.input_modes.set(termios::InputModes::INPCK, plan.parity != Parity::None);
    line.special_codes[SpecialCodeIndex::VMIN] = 1;
    line.special_codes[SpecialCodeIndex::VTIME] = 0;
    line.set_speed(plan.line.baud)?;
    termios::tcsetattr(&fd, OptionalActions::Now, &line)
}

/// What the system's library has no call for.
#[expect(unsafe_code, reason = "RS-485 mode and error counters are to be had from ioctl(2) alone")]
mod system {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::io::Result;
    use rustix::ioctl::{Getter, Updater, ioctl};
    use tokio::io::unix::AsyncFd;

    use super::{Rs485, Troubles};

    const TIOCSRS485: rustix::ioctl::Opcode = 0x542F;
    const TIOCGICOUNT: rustix::ioctl::Opcode = 0x545D;
    /// Mode on, and the transmitter follows RTS while sending.
    const ENABLED_RTS_ON_SEND: u32 = 1 | 2;

    pub(super) fn watch(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: an `OwnedFd` names the same open file until it is dropped, which `AsyncFd` does after it has stopped
        // watching it.
        unsafe { AsyncFd::register(fd) }.map_err(Into::into)
    }

    pub(super) fn set_rs485(fd: impl AsFd, rs485: Rs485) -> Result<()> {
        // struct serial_rs485: flags, delay before and after in milliseconds, five words of padding
        let mut settings: [u32; 8] = [ENABLED_RTS_ON_SEND, rs485.delay_before_ms, rs485.delay_after_ms, 0, 0, 0, 0, 0];
        // SAFETY: the argument has the size and layout of `struct serial_rs485`, which the kernel reads and writes.
        unsafe { ioctl(fd, Updater::<TIOCSRS485, [u32; 8]>::new(&mut settings)) }
    }

    pub(super) fn troubles(fd: impl AsFd) -> Result<Troubles> {
        // SAFETY: the argument has the size and layout of `struct serial_icounter_struct`: eleven counters, nine spare.
        let counters = unsafe { ioctl(fd, Getter::<TIOCGICOUNT, [i32; 20]>::new()) }?;
        Ok(Troubles { framing: counters[6], overrun: counters[7], parity: counters[8] })
    }
}
