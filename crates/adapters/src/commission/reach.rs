//! The first two stages of every test over a network: the name, and the port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::stages::{Course, Failed, Words};
use super::text::shown;

/// Addresses of one name that are tried; further ones are left out.
const ADDRESSES_MAX: usize = 8;

/// Finds the addresses of a name.
pub async fn resolve(
    course: &mut Course<'_>,
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<Vec<SocketAddr>, Failed> {
    let name = shown(host, 253);
    let hint = "the name is not known on this machine: look for a typing error, or use the address";
    let looked = tokio::time::timeout(patience, tokio::net::lookup_host((host, port))).await;
    let found: Vec<SocketAddr> = match looked {
        Ok(Ok(found)) => found.take(ADDRESSES_MAX).collect(),
        Ok(Err(error)) => {
            return Err(course.fail("resolve", Words::new(format!("{name} has no address: {error}")).hint(hint)));
        }
        Err(_) => {
            let words = Words::new(format!("nobody said the address of {name} within {patience:?}"));
            return Err(course.fail("resolve", words.hint("the name servers do not answer: use the address")));
        }
    };
    if found.is_empty() {
        return Err(course.fail("resolve", Words::new(format!("{name} has no address")).hint(hint)));
    }
    let list: Vec<String> = found.iter().map(|address| address.ip().to_string()).collect();
    course.ok("resolve", Words::new(format!("{name} is {}", list.join(", "))));
    Ok(found)
}

/// Connects to the first address that answers.
pub async fn connect(
    course: &mut Course<'_>,
    addresses: &[SocketAddr],
    patience: Duration,
    when_refused: &str,
) -> Result<TcpStream, Failed> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    for address in addresses {
        match timeout_at(deadline, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                course.ok("connect", Words::new(format!("{address} takes connections")));
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some((*address, error)),
            Err(_) => {
                last = Some((*address, io::ErrorKind::TimedOut.into()));
                break;
            }
        }
    }
    let Some((address, error)) = last else {
        return Err(course.fail("connect", Words::new("there is no address to connect to")));
    };
    let (what, hint) = refusal(&error, patience, when_refused);
    Err(course.fail("connect", Words::new(format!("{address} {what}")).hint(hint)))
}

/// What an error of the network means, and what to try.
fn refusal(error: &io::Error, patience: Duration, when_refused: &str) -> (String, String) {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ("refuses: nothing listens there".to_owned(), when_refused.to_owned()),
        io::ErrorKind::TimedOut => (
            format!("did not answer within {patience:?}"),
            "the machine is off, or the route, a VLAN or a firewall is in the way".to_owned(),
        ),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => (
            format!("cannot be reached: {error}"),
            "there is no way to it from here: look at address, cable, VLAN and gateway of this machine".to_owned(),
        ),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => (
            "hung up at once".to_owned(),
            "it takes no more connections, or a firewall cuts them: end other clients".to_owned(),
        ),
        _ => (format!("cannot be connected to: {error}"), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ui 1.4, row Connect
    #[test]
    fn each_refusal_says_what_to_try() {
        let of = |kind: io::ErrorKind| refusal(&kind.into(), Duration::from_secs(3), "1883 or 8883?");
        assert_eq!(of(io::ErrorKind::ConnectionRefused).1, "1883 or 8883?");
        assert_eq!(of(io::ErrorKind::TimedOut).0, "did not answer within 3s");
        assert!(of(io::ErrorKind::TimedOut).1.contains("firewall"));
        assert!(of(io::ErrorKind::HostUnreachable).1.contains("VLAN"));
    }
}
