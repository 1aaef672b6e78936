//! Telling the service manager how this process is, as systemd's `Type=notify` asks for.
//!
//! Without `NOTIFY_SOCKET` nothing happens, and neither does in a child of a gateway: its manager is the gateway.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::launch::PARENT_PIPE_VARIABLE;

/// Names the service manager's socket; an abstract one begins with `@`.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Everything is served.
pub fn ready() {
    tell("READY=1");
}

/// The stop has begun.
pub fn stopping() {
    tell("STOPPING=1");
}

/// A manager that cannot be told is no reason to stop; it will say itself what it misses.
fn tell(state: &str) {
    let supervised = std::env::var_os(PARENT_PIPE_VARIABLE).is_some();
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE).filter(|_| !supervised) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, state, "the service manager cannot be told");
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_through_a_path_and_through_an_abstract_name() {
        let name = format!("streamforge-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let by_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut bytes = [0; 32];
        for (socket, text) in [(by_path, "READY=1"), (by_name, "STOPPING=1")] {
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], text.as_bytes());
        }
        assert!(send(path.as_os_str(), "READY=1").is_err(), "nobody listens there any more");
    }
}
