//! A session of a person who looks at a server: made in stages, ended after the look (ui 1.4, UA-01 to UA-06).
//!
//! The same functions as the adapter's decide what is taken: the endpoint, the certificate, the login. What is different
//! is the patience: there is one attempt, and the first stage that fails says what to do. The session is its own, so an
//! adapter that runs beside it is not disturbed.

use std::net::SocketAddr;
use std::time::Duration;

use model::{Clock, SystemClock};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::config::{ConnectionPlan, parse_url};
use super::connection::{CallError, Connection, Target};
use super::endpoint::{Chosen, choose, described, differs};
use super::hints::{code_in, instead, logins, of_status};
use super::node::STANDARD;
use super::session::{Asker, ServerFacts, link_error};
use super::stack::{
    EndpointDescription, GetEndpointsRequest, Incoming, ResponseMessage, Security, SecurityPolicy, UAString, X509,
    clean, leaf, micros,
};
use super::trust::{Expected, Folders, Own, Refusal, days_left, facts};
use crate::adapter::LinkError;
use crate::commission::reach::{connect, resolve};
use crate::commission::stages::{Course, Failed, Words};

/// Endpoints that are shown.
const ENDPOINTS_SHOWN: usize = 32;
/// A clock that is further off makes certificates and messages invalid.
const SKEW_MAX_S: i64 = 300;
/// What to try when nothing listens.
const WHEN_REFUSED: &str = "the server is off, or it listens at another port: 4840 is usual, 49320 for Kepware, \
                            62541 for Ignition, 53530 for Prosys";

/// Who looks, and where.
#[derive(Debug, Clone)]
pub struct Guest {
    pub plan: ConnectionPlan,
    pub password: Option<String>,
    /// Certificates, those of the gateway.
    pub folders: Folders,
    pub host_name: String,
    pub gateway_id: String,
}

/// An open session.
#[derive(Debug)]
pub struct Visit {
    pub connection: Connection,
    pub facts: ServerFacts,
    /// For each answer.
    pub patience: Duration,
    /// What the server's maker is called.
    pub vendor: String,
    own_certificate: String,
    is_renewing: bool,
}

impl Visit {
    /// For the next question. A walk may take longer than the channel's token lives, so it is renewed on the way (UA-07).
    pub fn asker(&mut self) -> Asker<'_> {
        // what is wrong with the connection is said by the question
        while let Ok(Some(incoming)) = self.connection.next_message() {
            if let Incoming::Opened { renew_after } = incoming {
                self.connection.renew_at = Instant::now() + renew_after;
                self.is_renewing = false;
            }
        }
        if !self.is_renewing && Instant::now() >= self.connection.renew_at {
            self.is_renewing = self.connection.renew(true).is_ok();
        }
        Asker { deadline: Instant::now() + self.patience, connection: &mut self.connection }
    }

    /// A question without an answer, for a person.
    pub fn words(&self, error: CallError) -> Words {
        said(&link_error(self.connection.target(), error), &self.own_certificate, &self.vendor)
    }

    /// Ends the session.
    pub async fn leave(mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        let ending = async {
            if self.asker().close().await.is_err() {
                tracing::debug!("the server did not say goodbye");
            }
            self.connection.finish().await;
        };
        drop(timeout_at(deadline, ending).await);
    }
}

/// An error for a person: what the server said, and what to do.
fn said(error: &LinkError, own_certificate: &str, vendor: &str) -> Words {
    match error {
        LinkError::Refused { what, .. } if code_in(what).is_some() => {
            let code = code_in(what).unwrap_or_default();
            let what = what.split("; ").next().unwrap_or(what);
            Words::new(format!("the server refuses: {what}")).hint(of_status(code, own_certificate, vendor))
        }
        LinkError::OutOfStep { what, .. } => Words::new(what.clone())
            .hint("something else listens at this port, or a device between changes what is sent"),
        LinkError::Closed { .. } => Words::new("the server hung up without a word")
            .hint("something else listens at this port, or the server takes no more connections"),
        LinkError::Silent { .. } | LinkError::ConnectTimeout { .. } => Words::new("no answer came in time")
            .hint("something else listens at this port, or the server is overloaded"),
        other => Words::new(daemon::report(other)),
    }
}

impl Guest {
    /// Goes in, stage by stage.
    pub async fn enter(&self, course: &mut Course<'_>) -> Result<Visit, Failed> {
        let server = &self.plan.servers[0];
        let patience = self.plan.connect_timeout;
        let addresses = resolve(course, &server.host, server.port, patience).await?;
        let stream = connect(course, &addresses, patience, WHEN_REFUSED).await?;
        let target = Target {
            host: &server.host,
            port: server.port,
            url: &server.url,
            pki: self.folders.root(),
            deadline: Instant::now() + patience,
            timeout: patience,
        };
        let endpoints = self.endpoints(course, stream, &target).await?;
        let vendor = vendor(&endpoints);
        let chosen = match choose(&endpoints, &self.plan) {
            Ok(chosen) => chosen,
            Err(what) => {
                let fits = |one: &EndpointDescription| {
                    one.security_policy_uri.as_ref() == self.plan.policy.to_uri()
                        && one.security_mode == self.plan.mode.of_stack()
                };
                let hint = match endpoints.iter().find(|one| fits(one)) {
                    Some(one) => format!("this endpoint takes: {}", logins(one)),
                    None => instead(&endpoints),
                };
                return Err(course.fail("endpoint", Words::new(what).hint(hint)));
            }
        };
        let (host, port) = self.where_to(&chosen).unwrap_or((server.host.clone(), server.port));
        let mut words = Words::new(format!(
            "{}/{}, log in by {}",
            self.plan.policy,
            self.plan.mode.as_str(),
            self.plan.login.as_str()
        ));
        if differs(&server.url, &chosen.url) {
            words = words.with([format!("the server calls itself {}; {host}:{port} is used", chosen.url)]);
        }
        if self.plan.policy == SecurityPolicy::None {
            words = words.hint("not secure: everything can be read and changed on the way");
            course.warn("endpoint", words);
        } else {
            course.ok("endpoint", words);
        }
        let own = self.certificates(course, &chosen, &host).await?;
        let own_certificate = own.as_ref().map_or_else(String::new, |own| self.describe_own(own));
        let moved = (host.as_str(), port) != (server.host.as_str(), server.port);
        let addresses = if moved { resolve(course, &host, port, patience).await? } else { addresses };
        let fail = |course: &mut Course<'_>, name, error: LinkError| {
            Err(course.fail(name, said(&error, &own_certificate, &vendor)))
        };
        let target = Target { host: &host, port, deadline: Instant::now() + patience, ..target };
        let mut connection = match open(&target, &addresses, chosen.security.clone()).await {
            Ok(connection) => connection,
            Err(error) if error.is_hang_up() && own.is_some() => {
                // many servers do not even say that they do not trust us
                let hint = of_status("BadSecurityChecksFailed", &own_certificate, &vendor);
                let words = Words::new("the server hung up without a word, as many do that do not trust a client");
                return Err(course.fail("channel", words.hint(hint)));
            }
            Err(error) => return fail(course, "channel", error),
        };
        course.ok("channel", Words::new(format!("open with {}", self.plan.policy)));
        let mut asker = Asker { connection: &mut connection, deadline: Instant::now() + patience };
        let uri = own.as_ref().map_or_else(
            || format!("urn:{}:streamforge:gw:{}", self.host_name, self.gateway_id),
            |own| own.application_uri.clone(),
        );
        let name = format!("streamforge/{}/look", self.gateway_id);
        let created = asker.create(&chosen, &self.plan, &server.url, own.as_ref(), (&uri, &name)).await;
        let (token, nonce, lives) = match created {
            Ok(created) => created,
            Err(error) => {
                let error = link_error(asker.connection.target(), error);
                return fail(course, "session", error);
            }
        };
        course.ok("session", Words::new(format!("the server keeps it {} s without a word of ours", lives.as_secs())));
        asker.connection.set_token(token);
        let password = self.password.as_deref();
        if let Err(error) = asker.activate(&chosen, &self.plan, &nonce, own.as_ref(), password).await {
            let error = link_error(asker.connection.target(), error);
            return fail(course, "login", error);
        }
        course.ok("login", Words::new(format!("{} is taken", self.plan.login.as_str())));
        let facts = match asker.facts().await {
            Ok(facts) => facts,
            Err(error) => {
                let error = link_error(asker.connection.target(), error);
                return fail(course, "namespaces", error);
            }
        };
        let listed = facts.namespaces.iter().enumerate();
        let listed = listed.map(|(index, uri)| format!("{index}  {}", crate::commission::text::shown(uri, 200)));
        let count = facts.namespaces.iter().filter(|uri| *uri != STANDARD).count();
        let words = Words::new(format!("{count} beside the standard's; points name them by address, not by number"));
        course.ok("namespaces", words.with(listed));
        Ok(Visit { connection, facts, patience, vendor, own_certificate, is_renewing: false })
    }

    /// The greeting and the endpoints, over a channel without security that ends with the answer.
    async fn endpoints(
        &self,
        course: &mut Course<'_>,
        stream: TcpStream,
        target: &Target<'_>,
    ) -> Result<Vec<EndpointDescription>, Failed> {
        let late = || LinkError::ConnectTimeout { target: String::new(), timeout: target.timeout };
        let fail = |course: &mut Course<'_>, name, error| Err(course.fail(name, said(&error, "", "")));
        let mut connection = match Connection::over(stream, target, Security::none()) {
            Ok(connection) => connection,
            Err(error) => return fail(course, "hello", error),
        };
        match timeout_at(target.deadline, connection.greet(target.url)).await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => course.ok("hello", Words::new("it speaks OPC UA")),
            Err(error) => return fail(course, "hello", error),
        }
        let opened = timeout_at(target.deadline, connection.open_channel()).await.unwrap_or_else(|_| Err(late()));
        if let Err(error) = opened {
            return fail(course, "endpoints", error);
        }
        let url = target.url.to_owned();
        let asked = connection.call(target.deadline, |request_header| {
            GetEndpointsRequest { request_header, endpoint_url: UAString::from(url.as_str()), ..Default::default() }
                .into()
        });
        let answer = match asked.await {
            Ok(ResponseMessage::GetEndpoints(answer)) => answer,
            Ok(_) => {
                let error = connection.out_of_step("it answers something else than was asked".to_owned());
                return fail(course, "endpoints", error);
            }
            Err(error) => return fail(course, "endpoints", link_error(connection.target(), error)),
        };
        drop(timeout_at(target.deadline, connection.finish()).await);
        let endpoints = answer.endpoints.unwrap_or_default();
        let name = endpoints.first().map_or_else(String::new, |first| {
            let (name, uri) = (&first.server.application_name.text, &first.server.application_uri);
            format!(" of {} ({})", clean(name.as_ref()), clean(uri.as_ref()))
        });
        let words = Words::new(format!("{}{name}", endpoints.len())).with(list(&endpoints));
        let skew = micros(&answer.response_header.timestamp).map(|theirs| {
            // a difference of a second is the way of the message
            (theirs - SystemClock.now().as_micros()) / 1_000_000
        });
        match skew.filter(|skew| skew.abs() > SKEW_MAX_S) {
            Some(skew) => course.warn("endpoints", words.hint(skewed(skew))),
            None => course.ok("endpoints", words),
        }
        Ok(endpoints)
    }

    fn where_to(&self, chosen: &Chosen) -> Option<(String, u16)> {
        parse_url(&chosen.url).ok().filter(|_| self.plan.follow_endpoint_url)
    }

    fn describe_own(&self, own: &Own) -> String {
        let path = self.folders.root().join("own/cert.der");
        format!("{} (thumbprint {})", path.display(), facts(&own.certificate).thumbprint)
    }

    /// Ours, made at the first need, and the server's, which a person must have trusted (UA-05, UA-06).
    async fn certificates(&self, course: &mut Course<'_>, chosen: &Chosen, host: &str) -> Result<Option<Own>, Failed> {
        if self.plan.policy == SecurityPolicy::None {
            return Ok(None);
        }
        let (folders, name, gateway) = (self.folders.clone(), self.host_name.clone(), self.gateway_id.clone());
        let made = tokio::task::spawn_blocking(move || folders.own(&name, &gateway)).await;
        let own = match made {
            Ok(Ok(own)) => own,
            Ok(Err(error)) => {
                let hint = "run this as the user of the gateway, or name another folder with --data-dir";
                return Err(course.fail("certificate", Words::new(daemon::report(&error)).hint(hint)));
            }
            Err(error) => return Err(course.fail("certificate", Words::new(error.to_string()))),
        };
        let Ok(certificate) = X509::from_byte_string(&chosen.security.server_certificate) else {
            return Err(course.fail("certificate", Words::new("the server's certificate cannot be read")));
        };
        let known = facts(&certificate);
        let lines = [
            format!("the server's: {}, thumbprint {}", known.subject, known.thumbprint),
            format!("good from {} to {}", known.not_before, known.not_after),
            format!("ours: {}", self.describe_own(&own)),
        ];
        let now = SystemClock.now();
        let expected = Expected {
            policy: self.plan.policy,
            application_uri: &chosen.application_uri,
            host: self.plan.check_host_name.then_some(host),
            now,
        };
        match self.folders.judge(&certificate, &expected) {
            Ok(()) => {
                let words = Words::new("the server's certificate is trusted").with(lines);
                match days_left(&known, now) {
                    Some(days) => course.warn("certificate", words.hint(format!("it ends in {days} days"))),
                    None => course.ok("certificate", words),
                }
                Ok(Some(own))
            }
            Err(Refusal::Unfit(what)) => {
                let words = Words::new(format!("the server's certificate does not fit: {what}")).with(lines);
                Err(course.fail("certificate", words))
            }
            Err(Refusal::Unknown) => {
                let root = self.folders.root().display();
                let file = format!("{}.der", known.thumbprint);
                let hint = match self.folders.reject(&certificate) {
                    Ok(_) => format!(
                        "compare the thumbprint at the server; if it is the same, trust it:\n\
                         mv {root}/rejected/{file} {root}/trusted/"
                    ),
                    Err(error) => format!("it cannot be kept to be trusted: {}", daemon::report(&error)),
                };
                let words =
                    Words::new("nobody has said yet that the server's certificate is to be trusted").with(lines);
                Err(course.fail("certificate", words.hint(hint)))
            }
        }
    }
}

/// The channel of the session, to the first address that takes it.
async fn open(target: &Target<'_>, addresses: &[SocketAddr], security: Security) -> Result<Connection, LinkError> {
    let name = format!("{}:{}", target.host, target.port);
    let opening = async {
        let stream = TcpStream::connect(addresses).await;
        let stream = stream.map_err(|source| LinkError::Connect { target: name.clone(), source })?;
        let mut connection = Connection::over(stream, target, security)?;
        connection.greet(target.url).await?;
        connection.open_channel().await?;
        Ok(connection)
    };
    let late = |_| Err(LinkError::ConnectTimeout { target: name.clone(), timeout: target.timeout });
    timeout_at(target.deadline, opening).await.unwrap_or_else(late)
}

/// A line for each endpoint: policy, mode, logins, and until when its certificate is good.
fn list(endpoints: &[EndpointDescription]) -> Vec<String> {
    let line = |endpoint: &EndpointDescription| {
        let certificate = X509::from_der(leaf(endpoint.server_certificate.as_ref())).ok();
        let ends = certificate.map_or_else(String::new, |one| format!("  certificate until {}", facts(&one).not_after));
        format!("{:40}  {}{ends}", described(endpoint), logins(endpoint))
    };
    let mut lines: Vec<String> = endpoints.iter().take(ENDPOINTS_SHOWN).map(line).collect();
    if endpoints.len() > ENDPOINTS_SHOWN {
        lines.push(format!("and {} more", endpoints.len() - ENDPOINTS_SHOWN));
    }
    lines
}

/// What there is to know about who made the server.
fn vendor(endpoints: &[EndpointDescription]) -> String {
    let of = |endpoint: &EndpointDescription| {
        let server = &endpoint.server;
        format!("{} {} {}", server.product_uri, server.application_uri, server.application_name.text)
    };
    clean(&endpoints.first().map(of).unwrap_or_default())
}

/// What to say about clocks that differ (ui 1.4).
pub fn skewed(seconds: i64) -> String {
    let direction = if seconds > 0 { "ahead of" } else { "behind" };
    format!("the server's clock is {} s {direction} ours: set both by NTP, else certificates fail", seconds.abs())
}
