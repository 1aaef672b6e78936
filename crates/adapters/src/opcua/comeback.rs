//! Coming to a server, and coming back: channel, session, subscriptions, what was missed (UA-05, UA-11, UA-12).
//!
//! One attempt, top to bottom. The order is the standard's: a new channel, the old session on it, what the old subscriptions
//! still have; else a new session that takes them over; else new ones, and the next value of each point says that
//! something is missing.

use std::time::Duration;

use model::reason;
use tokio::time::Instant;

use super::adapter::{Link, OpcUaAdapter};
use super::connection::{CallError, Connection, LOGIN_WAIT, Target, is_login};
use super::endpoint::{Chosen, choose, differs};
use super::items::State;
use super::session::{Asker, Held, endpoints, link_error};
use super::stack::{NodeId, SecurityPolicy, StatusCode, X509, clean};
use super::subscription::{SILENCES_OF_SUBSCRIPTION, Step, Subscription};
use super::trust::{Expected, Refusal, days_left, facts};
use crate::adapter::LinkError;
use crate::notice::{CERTIFICATE_UNTRUSTED, Notice};
use crate::sample::Sample;

/// Longest wait after a login was refused (UA-03).
const LOGIN_WAIT_MAX: Duration = Duration::from_secs(900);
/// Notifications fetched before anybody hears; what is more is fetched later.
const STASH_MAX: usize = 1000;

/// Why there is no connection, in a word for health.
pub mod why {
    /// The server's certificate waits for a person.
    pub const CERT_UNTRUSTED: &str = "CERT_UNTRUSTED";
    /// The server's certificate is trusted and does not fit.
    pub const CERT_INVALID: &str = "CERT_INVALID";
    /// User or password.
    pub const AUTH: &str = "AUTH";
    /// No endpoint is what the settings ask for.
    pub const NO_ENDPOINT: &str = "NO_ENDPOINT";
}

/// A failed attempt.
#[derive(Debug)]
struct Failure {
    error: LinkError,
    reason: Option<&'static str>,
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self { error, reason: None }
    }
}

impl OpcUaAdapter {
    /// One attempt.
    pub(super) async fn come_back(&mut self) -> Result<(), LinkError> {
        let failure = match self.attempt().await {
            Ok(()) => {
                (self.login_wait, self.link_reason) = (Duration::ZERO, None);
                return Ok(());
            }
            Err(failure) => failure,
        };
        self.link_reason = failure.reason;
        if failure.reason != Some(why::AUTH) {
            self.login_wait = Duration::ZERO;
            // the next one of those that stand in for each other (UA-16)
            self.server = (self.server + 1) % self.plan.connection.servers.len();
            return Err(failure.error);
        }
        // an account may be locked after a few wrong passwords
        self.login_wait = (self.login_wait * 2).clamp(LOGIN_WAIT, LOGIN_WAIT_MAX);
        Err(match failure.error {
            LinkError::Refused { target, what, .. } => LinkError::Refused { target, what, wait_min: self.login_wait },
            other => other,
        })
    }

    async fn attempt(&mut self) -> Result<(), Failure> {
        let plan = self.plan.connection.clone();
        let server = plan.servers[self.server].clone();
        let name = format!("{}:{}", server.host, server.port);
        if plan.policy != SecurityPolicy::None {
            self.make_own(&name).await?;
        }
        let root = self.folders.root().to_owned();
        let mut target = Target {
            host: &server.host,
            port: server.port,
            url: &server.url,
            pki: &root,
            deadline: Instant::now() + plan.connect_timeout,
            timeout: plan.connect_timeout,
        };
        let found = endpoints(&target).await?;
        let chosen = choose(&found, &plan).map_err(|what| Failure {
            error: LinkError::Refused { target: name.clone(), what, wait_min: Duration::ZERO },
            reason: Some(why::NO_ENDPOINT),
        })?;
        let followed = super::config::parse_url(&chosen.url).ok();
        if differs(&server.url, &chosen.url) {
            tracing::info!(configured = server.url, returned = chosen.url, "the server calls itself something else");
        }
        let follows = followed.filter(|_| plan.follow_endpoint_url);
        if let Some((host, port)) = &follows {
            (target.host, target.port) = (host, *port);
        }
        self.trust(&chosen, target.host, &name)?;
        self.events.server_uri = clean(&chosen.application_uri);
        let mut connection = Connection::open(&target, chosen.security.clone()).await?;
        let deadline = target.deadline;
        let mut asker = Asker { connection: &mut connection, deadline };
        if !self.resume_session(&mut asker, &chosen, &name).await? {
            self.begin_session(&mut asker, &chosen, &server.url, &name).await?;
        }
        self.look_around(&mut asker, &name).await?;
        self.fetch_missed(&mut asker, &name).await?;
        self.subscribe(&mut asker, &name).await?;
        self.reads.fill(Instant::now());
        self.items_changed();
        self.events_connected();
        tracing::info!(target = name, policy = %plan.policy, subscriptions = self.held.as_ref().map_or(0, |held| held.subscriptions.len()), "a session");
        self.link = Some(Link {
            connection,
            pending: std::collections::HashMap::new(),
            outstanding: 0,
            publish_max: usize::MAX,
            refusals: 0,
            is_renewing: false,
            watches_server: self.watches_server(),
        });
        Ok(())
    }

    /// Our own certificate, made at the first need.
    async fn make_own(&mut self, target: &str) -> Result<(), LinkError> {
        if self.own.is_none() {
            let (folders, host, gateway) = (self.folders.clone(), self.host_name.clone(), self.gateway_id.clone());
            let made = tokio::task::spawn_blocking(move || folders.own(&host, &gateway)).await;
            let setup = |what: String| LinkError::Setup { target: target.to_owned(), what };
            let own = made.map_err(|error| setup(error.to_string()))?.map_err(|error| setup(daemon::report(&error)))?;
            let path = self.folders.root().join("own/cert.der");
            let thumbprint = facts(&own.certificate).thumbprint;
            tracing::info!(uri = own.application_uri, thumbprint, path = %path.display(), "our own certificate");
            self.own = Some(own);
        }
        if let Some(own) = &self.own {
            let days = days_left(&facts(&own.certificate), self.clock.now());
            self.note_expiry("our own", days);
        }
        Ok(())
    }

    fn note_expiry(&mut self, whose: &'static str, days: Option<i64>) {
        let Some(days) = days else {
            self.expiring.remove(whose);
            return;
        };
        let step = |days: i64| [1, 7, 30].into_iter().find(|step| days < *step);
        let before = self.expiring.insert(whose, days);
        if before.and_then(step) != step(days) {
            let message = format!("{whose} certificate ends in {days} days");
            let details = vec![("whose", whose.to_owned()), ("days", days.to_string())];
            self.notices.push(Notice { details, ..Notice::new(crate::notice::CERTIFICATE_EXPIRING, message) });
        }
    }

    /// UA-05, UA-06
    fn trust(&mut self, chosen: &Chosen, host: &str, target: &str) -> Result<(), Failure> {
        let plan = &self.plan.connection;
        if plan.policy == SecurityPolicy::None {
            return Ok(());
        }
        let refused = |what: String, reason: &'static str| Failure {
            error: LinkError::Untrusted { target: target.to_owned(), what },
            reason: Some(reason),
        };
        let Ok(certificate) = X509::from_byte_string(&chosen.security.server_certificate) else {
            return Err(refused("its certificate cannot be read".to_owned(), why::CERT_INVALID));
        };
        let known = facts(&certificate);
        let expected = Expected {
            policy: plan.policy,
            application_uri: &chosen.application_uri,
            host: plan.check_host_name.then_some(host),
            now: self.clock.now(),
        };
        let mut judged = self.folders.judge(&certificate, &expected);
        if judged == Err(Refusal::Unknown) && plan.dev_mode {
            tracing::warn!(thumbprint = known.thumbprint, "a certificate is trusted unseen: dev_mode");
            if let Err(error) = self.folders.trust_unseen(&certificate) {
                tracing::warn!(error = %daemon::report(&error), "it cannot be kept");
            }
            judged = self.folders.judge(&certificate, &expected);
        }
        match judged {
            Ok(()) => {
                self.note_expiry("the server's", days_left(&known, self.clock.now()));
                Ok(())
            }
            Err(Refusal::Unfit(what)) => {
                Err(refused(format!("its certificate does not fit: {what}"), why::CERT_INVALID))
            }
            Err(Refusal::Unknown) => {
                match self.folders.reject(&certificate) {
                    Ok(false) => {}
                    Ok(true) => self.notices.push(untrusted(target, &known, &chosen.application_uri)),
                    Err(error) => tracing::warn!(error = %daemon::report(&error), "the certificate cannot be kept"),
                }
                let rejected = self.folders.root().join("rejected").join(format!("{}.der", known.thumbprint));
                let (thumbprint, subject) = (known.thumbprint, known.subject);
                let what = format!(
                    "its certificate {thumbprint} of {subject} is not trusted; compare the thumbprint at the server, then move {} to trusted/",
                    rejected.display()
                );
                Err(refused(what, why::CERT_UNTRUSTED))
            }
        }
    }

    fn failure(target: &str, error: CallError) -> Failure {
        let reason = match &error {
            CallError::Refused(status) if is_login(*status) => Some(why::AUTH),
            _ => None,
        };
        Failure { error: link_error(target, error), reason }
    }

    /// The old session on the new channel; false if it is gone.
    async fn resume_session(&mut self, asker: &mut Asker<'_>, chosen: &Chosen, target: &str) -> Result<bool, Failure> {
        let Some(held) = self.held.as_mut().filter(|held| held.server == self.server && !held.token.is_null()) else {
            return Ok(false);
        };
        asker.connection.set_token(held.token.clone());
        let (own, password) = (self.own.as_ref(), self.password.as_deref());
        let nonce = held.nonce.clone();
        match asker.activate(chosen, &self.plan.connection, &nonce, own, password).await {
            Ok(nonce) => {
                held.nonce = nonce;
                Ok(true)
            }
            Err(CallError::Link(error)) => {
                // a server may hang up on it; the next attempt begins a new session
                held.token = NodeId::null();
                Err(error.into())
            }
            Err(CallError::Refused(status)) if is_login(status) => {
                Err(Self::failure(target, CallError::Refused(status)))
            }
            Err(error) => {
                tracing::info!(?error, "the session is gone");
                Ok(false)
            }
        }
    }

    /// A new session, which takes over what the old one had where the server does that.
    async fn begin_session(
        &mut self,
        asker: &mut Asker<'_>,
        chosen: &Chosen,
        url: &str,
        target: &str,
    ) -> Result<(), Failure> {
        asker.connection.set_token(NodeId::null());
        let plan = self.plan.connection.clone();
        let own = self.own.as_ref();
        let uri = own.map_or_else(
            || format!("urn:{}:streamforge:gw:{}", self.host_name, self.gateway_id),
            |own| own.application_uri.clone(),
        );
        let session = format!("streamforge/{}/{}", self.gateway_id, self.plan.common.adapter_id);
        let created = asker.create(chosen, &plan, url, own, (&uri, &session)).await;
        let (token, nonce, lives) = created.map_err(|error| Self::failure(target, error))?;
        if lives != plan.session_timeout {
            tracing::info!(asked = ?plan.session_timeout, revised = ?lives, "the server revises the session's life");
        }
        asker.connection.set_token(token.clone());
        let activated = asker.activate(chosen, &plan, &nonce, own, self.password.as_deref()).await;
        let nonce = activated.map_err(|error| Self::failure(target, error))?;
        let old = self.held.take();
        let is_same = old.as_ref().is_some_and(|old| old.server == self.server);
        let old: Vec<_> = old.into_iter().flat_map(|old| old.subscriptions).collect();
        let mut held = Held { token, nonce, server: self.server, start_time: None, subscriptions: Vec::new() };
        if !old.is_empty() && is_same {
            let ids: Vec<u32> = old.iter().map(|subscription| subscription.id).collect();
            let worked = match asker.transfer(ids).await {
                Ok(worked) => worked,
                Err(CallError::Link(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::info!(?error, "subscriptions cannot be taken over");
                    vec![false; old.len()]
                }
            };
            let is_kept = |(subscription, worked): &(Subscription, bool)| {
                *worked && subscription.silences < SILENCES_OF_SUBSCRIPTION
            };
            let (kept, gone): (Vec<_>, Vec<_>) = old.into_iter().zip(worked).partition(is_kept);
            held.subscriptions.extend(kept.into_iter().map(|(subscription, _)| subscription));
            let ids: Vec<u32> = gone.iter().map(|(subscription, _)| subscription.id).collect();
            if !ids.is_empty()
                && let Err(CallError::Link(error)) = asker.delete(ids).await
            {
                return Err(error.into());
            }
        }
        let kept: Vec<u32> = held.subscriptions.iter().map(|subscription| subscription.id).collect();
        self.ledger.keep(&kept);
        self.stash.retain(|(id, _)| kept.contains(id));
        self.held = Some(held);
        Ok(())
    }

    /// What the server is now, and where our points are in it (UA-12, UA-20).
    async fn look_around(&mut self, asker: &mut Asker<'_>, target: &str) -> Result<(), Failure> {
        let facts = asker.facts().await.map_err(|error| Self::failure(target, error))?;
        let now = Instant::now();
        let arrived = self.clock.now();
        if let Some(held) = &mut self.held {
            if held.start_time.is_some() && held.start_time != facts.start_time {
                self.held = None;
                return Err(asker.connection.out_of_step("it was started anew".to_owned()).into());
            }
            held.start_time = facts.start_time;
        }
        for (at, (item, point)) in self.items.iter_mut().zip(&self.plan.points).enumerate() {
            let node = point.node.resolve(&facts.namespaces);
            if node.is_none() && item.state != State::Homeless {
                item.refused(format!("the server has no namespace {}", point.node.namespace), now);
                item.state = State::Homeless;
                self.stash_samples.push(Sample::bad(at, reason::NAMESPACE_UNKNOWN, arrived));
            } else if node.is_some() && item.state == State::Homeless {
                item.works();
                item.want(now);
            }
            item.node = node;
        }
        self.place_event_items(&facts.namespaces, now);
        self.chunk = facts.items_per_call.max(1);
        self.facts = facts;
        Ok(())
    }

    /// What old subscriptions still have for us (UA-11).
    async fn fetch_missed(&mut self, asker: &mut Asker<'_>, target: &str) -> Result<(), Failure> {
        let ids: Vec<u32> =
            self.held.iter().flat_map(|held| &held.subscriptions).map(|subscription| subscription.id).collect();
        for id in ids {
            let Some(subscription) = self.subscription(id) else { continue };
            let mut wanted = Some(subscription.resume(Instant::now()));
            while let Some(number) = wanted.take().filter(|_| self.stash.len() < STASH_MAX) {
                let message = match asker.republish(id, number).await {
                    Ok(message) => message,
                    Err(CallError::Link(error)) => return Err(error.into()),
                    Err(CallError::Refused(status)) if is_gone(status) => {
                        tracing::info!(status = %status, "a subscription is gone");
                        self.ledger.forget(id);
                        if let Some(held) = &mut self.held {
                            held.subscriptions.retain(|subscription| subscription.id != id);
                        }
                        break;
                    }
                    Err(error) => {
                        tracing::info!(target, ?error, "the server does not send notifications again");
                        None
                    }
                };
                let Some(subscription) = self.subscription(id) else { break };
                for step in subscription.resumed(number, message) {
                    match step {
                        Step::Deliver(message) => self.stash.push_back((id, message)),
                        Step::Republish(number) => wanted = Some(number),
                        Step::Lost(count) => {
                            let mut notices = std::mem::take(&mut self.notices);
                            self.lost(id, count, &mut notices);
                            self.notices = notices;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A subscription for each interval that has none.
    async fn subscribe(&mut self, asker: &mut Asker<'_>, target: &str) -> Result<(), Failure> {
        let (now, arrived) = (Instant::now(), self.clock.now());
        self.cannot_subscribe = false;
        for (item, point) in self.items.iter_mut().zip(&self.plan.points) {
            item.polled = point.polled;
        }
        for (interval, publishing_ms) in self.intervals.clone().into_iter().enumerate() {
            let has_one = self.held.iter().flat_map(|held| &held.subscriptions).any(|one| one.interval == interval);
            let of_events = self.events.items.iter().any(|item| item.interval == interval);
            let is_wanted = of_events || self.items.iter().any(|item| item.interval == interval && !item.polled);
            if has_one || !is_wanted {
                continue;
            }
            let subscription = match asker.subscribe(interval, publishing_ms, &self.plan.connection).await {
                Ok(subscription) => subscription,
                Err(CallError::Refused(status)) if is_unknown_service(status) => {
                    tracing::warn!(status = %status, "the server has no subscriptions, points are read instead");
                    self.cannot_subscribe = true;
                    break;
                }
                Err(error) => return Err(Self::failure(target, error)),
            };
            for (at, item) in self.items.iter_mut().enumerate() {
                if item.interval == interval && !item.polled && item.state != State::Homeless {
                    // one that was refused keeps its wait
                    if item.error.is_none() {
                        item.want(now);
                    }
                    if item.gap {
                        self.filler.want(at, item.newest, arrived);
                    }
                }
            }
            self.want_event_items(interval, now);
            if let Some(held) = &mut self.held {
                held.subscriptions.push(subscription);
            }
        }
        if self.cannot_subscribe {
            for item in &mut self.items {
                item.polled = true;
            }
        }
        Ok(())
    }

    /// True if subscriptions that stayed have the server's own state among their items.
    fn watches_server(&self) -> bool {
        self.held.iter().flat_map(|held| &held.subscriptions).any(|subscription| subscription.expected() > 1)
    }
}

fn is_gone(status: StatusCode) -> bool {
    [StatusCode::BadSubscriptionIdInvalid, StatusCode::BadNoSubscription].contains(&status)
}

fn is_unknown_service(status: StatusCode) -> bool {
    [StatusCode::BadServiceUnsupported, StatusCode::BadNotImplemented, StatusCode::BadNotSupported].contains(&status)
}

/// UA-05: what a person needs to compare.
fn untrusted(target: &str, known: &super::trust::Facts, application_uri: &str) -> Notice {
    let message = format!("the certificate {} of {target} is not trusted", known.thumbprint);
    Notice {
        details: vec![
            ("target", target.to_owned()),
            ("thumbprint", known.thumbprint.clone()),
            ("subject", known.subject.clone()),
            ("not_before", known.not_before.clone()),
            ("not_after", known.not_after.clone()),
            ("application_uri", application_uri.to_owned()),
        ],
        ..Notice::new(CERTIFICATE_UNTRUSTED, message)
    }
}
