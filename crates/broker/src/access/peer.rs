//! Who is at the other end of a connection: its listener, its name, and how far it may go.
//!
//! Invariant: a name is given once, by a certificate or a login, and never changes while the connection lives.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::listener::{Admission, Endpoint, FIRST};
use super::rules::{Rule, Who};
use super::sasl::Exchange;
use super::{Kept, subject};
use crate::places::{Place, Places};

/// Who has not said who it is.
static ANONYMOUS: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("User:ANONYMOUS"));

/// One connection's identity.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) endpoint: Arc<Endpoint>,
    principal: OnceLock<Arc<str>>,
    login: Mutex<Login>,
    /// Its place among the connections of its user.
    seat: OnceLock<Place<Arc<str>>>,
    muted_until: Mutex<Option<Instant>>,
    /// Access rules refused something already.
    denied: AtomicBool,
    chosen: Mutex<Option<Chosen>>,
}

/// The rules that are about a peer, so that each request looks at these alone.
#[derive(Debug)]
struct Chosen {
    /// What they were chosen from; it is let go when rules change while the peer is silent.
    from: Weak<Kept>,
    principal: Arc<str>,
    rules: Arc<[Rule]>,
}

/// Where the login stands.
#[derive(Debug, Default)]
pub(crate) struct Login {
    pub(crate) exchange: Exchange,
    /// The client chose the old way: bare tokens follow instead of requests.
    pub(crate) bare: bool,
    /// It was refused; the connection serves nothing more.
    failed: bool,
    /// When a login has to be repeated.
    expires: Option<Instant>,
}

impl Peer {
    /// A peer that is named by its certificate, or needs no name; where it has to log in, it waits for that.
    ///
    /// `None` when a certificate was shown whose name cannot be read.
    pub(crate) fn new(address: IpAddr, endpoint: Arc<Endpoint>, certificate: Option<&[u8]>) -> Option<Arc<Self>> {
        let principal = OnceLock::new();
        if endpoint.admission != Admission::LoggedIn
            && let Some(certificate) = certificate
        {
            let name = format!("User:{}", subject::name(certificate)?);
            principal.get_or_init(|| Arc::from(name));
        }
        Some(Arc::new(Self {
            address,
            endpoint,
            principal,
            login: Mutex::default(),
            seat: OnceLock::new(),
            muted_until: Mutex::default(),
            denied: AtomicBool::new(false),
            chosen: Mutex::default(),
        }))
    }

    pub(crate) fn principal(&self) -> Arc<str> {
        Arc::clone(self.principal.get().unwrap_or(&ANONYMOUS))
    }

    /// Whether it said who it is.
    pub(crate) fn named(&self) -> bool {
        self.principal.get().is_some()
    }

    /// A program of this machine that came through the door that is always there and did not say who it is.
    pub(crate) fn is_local(&self) -> bool {
        !self.named() && self.address.is_loopback() && self.endpoint.name == FIRST
    }

    /// Whether it may ask for anything at all.
    pub(crate) fn admitted(&self) -> bool {
        self.named() || self.endpoint.admission != Admission::LoggedIn
    }

    pub(crate) fn login(&self) -> std::sync::MutexGuard<'_, Login> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The login succeeded, or was repeated; false when somebody else logged in on this connection before.
    pub(crate) fn admit(&self, user: &str, lifetime: Option<Duration>) -> bool {
        let name = format!("User:{user}");
        let known = self.principal.get_or_init(|| Arc::from(name.as_str()));
        if **known != *name {
            return false;
        }
        self.login().expires = lifetime.map(|lifetime| Instant::now() + lifetime);
        true
    }

    pub(crate) fn fail(&self) {
        self.login().failed = true;
    }

    /// Why requests are not served now, apart from those of a login.
    pub(crate) fn barred(&self) -> Option<&'static str> {
        let login = self.login();
        if login.failed {
            return Some("its login failed");
        }
        if !self.admitted() {
            return Some("it has not logged in");
        }
        login.expires.is_some_and(|expires| expires <= Instant::now()).then_some("its login has expired")
    }

    pub(crate) fn failed(&self) -> bool {
        self.login().failed
    }

    /// Takes a place among the connections of its user; false when there is none.
    pub(crate) fn seat(&self, seats: &Arc<Places<Arc<str>>>) -> bool {
        self.seat.get().is_some()
            || Places::take(seats, &self.principal()).is_ok_and(|seat| self.seat.set(seat).is_ok())
    }

    /// The rules that are about this peer, chosen again when they or its name have changed.
    pub(super) fn rules(&self, kept: &Arc<Kept>, principal: &Arc<str>) -> Arc<[Rule]> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = &*chosen
            && chosen.from.as_ptr() == Arc::as_ptr(kept)
            && Arc::ptr_eq(&chosen.principal, principal)
        {
            return Arc::clone(&chosen.rules);
        }
        let who = Who { principal, address: self.address };
        let rules: Arc<[Rule]> = kept.rules.iter().filter(|rule| rule.is_for(&who)).cloned().collect();
        let from = Arc::downgrade(kept);
        *chosen = Some(Chosen { from, principal: Arc::clone(principal), rules: Arc::clone(&rules) });
        rules
    }

    /// True the first time.
    pub(crate) fn first_denial(&self) -> bool {
        !self.denied.swap(true, Ordering::Relaxed)
    }

    /// Stops reading from this connection for a while.
    pub(crate) fn mute(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut muted = self.muted_until.lock().unwrap_or_else(PoisonError::into_inner);
        *muted = Some(muted.map_or(until, |before| before.max(until)));
    }

    /// Until when nothing is read.
    pub(crate) fn muted_until(&self) -> Option<Instant> {
        *self.muted_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
