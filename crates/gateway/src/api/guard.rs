//! Who may ask: whoever can read the data folder (the token), from a page or program of this machine (the name asked for).
//!
//! The token is made at every start and left in the folder of running processes for the owner alone. It travels in a
//! header that no foreign page can set, and the host name is compared, so that a name that was pointed at this machine
//! (DNS rebinding) reaches nothing.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use daemon::identity::{self, Components, NoRandomness};
use daemon::launch::Secret;
use serde::{Deserialize, Serialize};

use super::Problem;

/// The kind of user the token belongs to; it is known here and nowhere else.
const KIND: &str = "sf-api";
/// Where the address and the token are left, below the folder of running processes.
const FILE: &str = "api.json";

/// Where the API of a running gateway is, and what lets a request in.
#[derive(Debug, Serialize, Deserialize)]
pub struct Access {
    pub url: String,
    pub token: Secret,
}

/// Lets requests in.
#[derive(Debug, Clone)]
pub struct Guard {
    key: Arc<Components>,
    user: Arc<str>,
    /// Where the server listens, once it does.
    address: Arc<OnceLock<SocketAddr>>,
}

impl Guard {
    /// With a new token.
    pub fn new() -> Result<Self, NoRandomness> {
        let key = Components::new(BTreeMap::from([(KIND.to_owned(), Vec::new())]), Vec::new())?;
        Ok(Self { key: Arc::new(key), user: identity::user(KIND, "local").into(), address: Arc::default() })
    }

    pub fn token(&self) -> Secret {
        self.key.password(&self.user)
    }

    /// Takes in where the server listens and leaves address and token in `run`, for the owner of the folder alone.
    pub fn leave(&self, run: &Path, address: SocketAddr) -> io::Result<()> {
        self.address.get_or_init(|| address);
        let access = Access { url: format!("http://{}", reachable(address)), token: self.token() };
        let text = serde_json::to_vec(&access)?;
        let (path, new) = (run.join(FILE), run.join("api.json.new"));
        // one that a crash left may have another mode
        std::fs::remove_file(&new).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&text)?;
        std::fs::rename(new, path)
    }

    /// Whether a request with these headers may go on.
    pub fn judge(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        if !self.is_ours(host) {
            let detail = "this API is for this machine: ask for it as 127.0.0.1 or localhost";
            return Err(Problem::new(StatusCode::FORBIDDEN, "WRONG_HOST", detail));
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = given.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if token.is_none_or(|(_, token)| !self.key.fits(&self.user, token.trim().as_bytes())) {
            let detail = "the token is missing or wrong; it is in run/api.json of the data folder";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", detail));
        }
        Ok(())
    }

    /// Whether a `Host` header names this machine's loopback, or the very address that is listened on.
    fn is_ours(&self, host: &str) -> bool {
        let own = self.address.get().is_some_and(|address| host == address.to_string());
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, _)) => name,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let loopback = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        own || loopback || name.eq_ignore_ascii_case("localhost")
    }
}

/// The middleware of every route.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.judge(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// What a running gateway left in its data folder; `None` when there is nothing that can be read.
pub fn access(data: &Path) -> Option<Access> {
    let text = std::fs::read(data.join("run").join(FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Takes the token of a gateway away that has ended.
pub(crate) fn remove(run: &Path) {
    crate::remove_stale(&run.join(FILE));
}

fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn headers(host: &str, authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    // G-10, security D.1
    #[test]
    fn only_this_machine_with_the_token_of_this_start_gets_in() {
        let guard = Guard::new().unwrap();
        let bearer = format!("Bearer {}", guard.token().reveal());
        let status = |host: &str, given: &str| guard.judge(&headers(host, given)).err().map(|p| p.status().as_u16());
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.1"] {
            assert_eq!(status(host, &bearer), None, "{host}");
            assert_eq!(status(host, "Bearer 00"), Some(401), "{host}");
            assert_eq!(status(host, ""), Some(401), "{host}");
        }
        let other = format!("Bearer {}", Guard::new().unwrap().token().reveal());
        assert_eq!(status("localhost", &other), Some(401), "another start, another token");
        assert_eq!(status("localhost", guard.token().reveal()), Some(401), "no scheme");
        for host in ["evil.example:8080", "127.0.0.1.evil.example", "192.168.1.5:8080", "", "[fe80::1]:80"] {
            assert_eq!(status(host, &bearer), Some(403), "{host}");
        }
    }

    // G-10
    #[test]
    fn the_token_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::write(run.join("api.json.new"), "left by a crash").unwrap();
        let guard = Guard::new().unwrap();
        guard.leave(&run, "0.0.0.0:8080".parse().unwrap()).unwrap();
        let mode = std::fs::metadata(run.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let access = access(dir.path()).unwrap();
        assert_eq!(access.url, "http://127.0.0.1:8080");
        let bearer = format!("Bearer {}", access.token.reveal());
        assert_eq!(guard.judge(&headers("localhost", &bearer)), Ok(()));
    }
}
