//! The way out: HTTP and mail, to hosts and addresses that may be sent to. One attempt, no patience.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::launch::Secret;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use model::Clock;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url};

use super::channel::{Channel, Email, Secrets, Sms};
use super::dispatch::Outcome;
use super::guard::Guard;
use super::message::{Answer, Letterhead, Request, email, judge, pagerduty, slack, sms, teams, webhook};
use super::plan::Plan;
use super::state::Item;
use crate::authorities;

/// A receiver has so long to answer (RTE-09).
const ANSWER_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// More of an answer is not read.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Messages whose recipients are remembered; further ones may reach somebody twice after a failure.
const PARTLY_SENT_MAX: usize = 1_000;
/// A destination with the values of its secrets.
#[derive(Debug)]
enum Target {
    Webhook { url: Url, signing_key: Option<Secret> },
    Slack { url: Url },
    Teams { url: Url },
    PagerDuty { url: Url, routing_key: Secret },
    Email { email: Email, password: Option<Secret> },
    Sms { url: Url, sms: Sms, login: Option<(String, Secret)> },
}

/// Everything needed to send.
#[derive(Debug)]
pub struct Sender {
    client: Client,
    guard: Guard,
    head: Letterhead,
    targets: Vec<Target>,
    heartbeat: Option<Url>,
    clock: Arc<dyn Clock>,
    /// Recipients that have a message already which others do not have yet.
    partly_sent: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

/// An address that is closed; the reason is for people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Closed(String);

/// Why a destination cannot be used at all: its name, and the reason.
pub type Unusable = (String, String);

impl Sender {
    /// Puts the secrets in; what is wrong with a destination is told with its name.
    pub fn new(
        plan: &Plan,
        gateway: &str,
        secrets: &Secrets<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Vec<Unusable>> {
        let mut targets = Vec::new();
        let mut unusable = Vec::new();
        for to in &plan.destinations {
            match target(&to.channel, secrets, &plan.guard) {
                Ok(target) => targets.push(target),
                Err(reason) => unusable.push((to.name.clone(), reason)),
            }
        }
        let heartbeat = plan.heartbeat.as_ref().map(|beat| beat.url.resolve(secrets, &plan.guard)).transpose();
        let heartbeat = heartbeat.unwrap_or_else(|reason| {
            unusable.push(("heartbeat".to_owned(), reason));
            None
        });
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none()) // a redirect could lead anywhere
            .no_proxy()
            .connect_timeout(CONNECT_MAX)
            .timeout(ANSWER_MAX)
            .user_agent(concat!("streamforge/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(GuardedResolver(plan.guard.clone())))
            .build();
        let client = match client {
            Ok(client) if unusable.is_empty() => client,
            Ok(_) => return Err(unusable),
            Err(error) => return Err(vec![("https".to_owned(), daemon::report(&error))]),
        };
        let head = Letterhead {
            site: plan.site.clone().unwrap_or_else(|| gateway.to_owned()),
            gateway: gateway.to_owned(),
            zone: plan.zone,
            link: plan.link.clone(),
        };
        let partly_sent = Mutex::default();
        Ok(Self { client, guard: plan.guard.clone(), head, targets, heartbeat, clock, partly_sent })
    }

    pub fn letterhead(&self) -> &Letterhead {
        &self.head
    }

    /// One attempt to bring a message to a destination, which is an index of the plan.
    pub async fn send(&self, destination: usize, item: &Item) -> Outcome {
        let Some(target) = self.targets.get(destination) else {
            return Outcome::Refused { reason: "there is no such destination".to_owned() };
        };
        let head = &self.head;
        match target {
            Target::Webhook { url, signing_key } => {
                let sent_at_s = self.clock.now().as_millis() / 1000;
                let request = webhook::request(item, head, signing_key.as_ref().map(Secret::reveal), sent_at_s);
                self.post(url, request, None).await.map_or_else(|outcome| outcome, |answer| judge(&answer))
            }
            Target::Slack { url } => {
                let request = slack::request(item, head);
                self.post(url, request, None).await.map_or_else(|outcome| outcome, |answer| slack::outcome(&answer))
            }
            Target::Teams { url } => {
                let request = teams::request(item, head);
                self.post(url, request, None).await.map_or_else(|outcome| outcome, |answer| judge(&answer))
            }
            Target::PagerDuty { url, routing_key } => {
                let request = pagerduty::request(item, head, routing_key.reveal());
                self.post(url, request, None).await.map_or_else(|outcome| outcome, |answer| judge(&answer))
            }
            Target::Sms { url, sms, login } => {
                let text = sms::message(item, head);
                let login = login.as_ref();
                let one = |to: String| {
                    let request = sms::request(&text, &to, sms);
                    async move {
                        self.post(url, request, login).await.map_or_else(|outcome| outcome, |answer| judge(&answer))
                    }
                };
                self.each(item, &sms.to, one).await
            }
            Target::Email { email, password } => {
                let mail = email::mail(item, head);
                let mail = &mail;
                self.each(item, &email.to, |to| self.mail(email, password.as_ref(), mail, to)).await
            }
        }
    }

    /// Tells the watcher that the router lives.
    pub async fn beat(&self) -> Result<(), String> {
        let Some(url) = &self.heartbeat else { return Ok(()) };
        let answer = self.client.get(url.clone()).send().await.and_then(reqwest::Response::error_for_status);
        answer.map(|_| ()).map_err(|error| daemon::report(&error.without_url()))
    }

    async fn post(&self, url: &Url, request: Request, login: Option<&(String, Secret)>) -> Result<Answer, Outcome> {
        let mut builder = self.client.post(url.clone()).header("content-type", request.content_type).body(request.body);
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        if let Some((user, password)) = login {
            builder = builder.basic_auth(user, Some(password.reveal()));
        }
        let mut response = builder.send().await.map_err(not_sent)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| seconds(text, self.clock.now().as_millis() / 1000));
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() >= ANSWER_BYTES_MAX {
                break;
            }
        }
        body.truncate(ANSWER_BYTES_MAX);
        Ok(Answer { status, retry_after, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Sends to each recipient that does not have the message yet, and says what became of the whole.
    async fn each<F: Future<Output = Outcome>>(
        &self,
        item: &Item,
        recipients: &[String],
        one: impl Fn(String) -> F,
    ) -> Outcome {
        let mut have = self.partly_sent().remove(&item.id).unwrap_or_default();
        let (mut later, mut refused) = (None, Vec::new());
        for to in recipients.iter().filter(|to| !have.contains(*to)).cloned().collect::<Vec<_>>() {
            match one(to.clone()).await {
                Outcome::Delivered => {
                    have.insert(to);
                }
                Outcome::Refused { reason } => refused.push(format!("{to}: {reason}")),
                Outcome::Later { reason, after } => {
                    later = Some(Outcome::Later { reason: format!("{to}: {reason}"), after });
                }
            }
        }
        if let Some(later) = later {
            let mut partly_sent = self.partly_sent();
            if partly_sent.len() < PARTLY_SENT_MAX {
                partly_sent.insert(item.id.clone(), have);
            }
            return later;
        }
        if refused.is_empty() { Outcome::Delivered } else { Outcome::Refused { reason: refused.join("; ") } }
    }

    fn partly_sent(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, BTreeSet<String>>> {
        self.partly_sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn mail(&self, email: &Email, password: Option<&Secret>, mail: &email::Mail, to: String) -> Outcome {
        let later = |reason: String| Outcome::Later { reason, after: None };
        let refused = |reason: String| Outcome::Refused { reason };
        let message = match compose(email, mail, &to) {
            Ok(message) => message,
            Err(error) => return refused(format!("the mail cannot be made: {error}")),
        };
        let address = match open_address(&self.guard, &email.host, email.port).await {
            Ok(address) => address,
            Err(Ok(closed)) => return refused(closed.to_string()),
            Err(Err(error)) => return later(format!("{} is not found: {error}", email.host)),
        };
        let tls = match tls(email) {
            Ok(tls) => tls,
            Err(reason) => return later(reason),
        };
        let tls = if email.implicit_tls { Tls::Wrapper(tls) } else { Tls::Required(tls) };
        // the address that was looked at, not the name again, which may mean another one by now
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
            .port(email.port)
            .timeout(Some(ANSWER_MAX))
            .hello_name(ClientId::Domain("gateway.streamforge.invalid".to_owned()))
            .tls(tls);
        if let (Some((user, _)), Some(password)) = (&email.login, password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.reveal().to_owned()));
        }
        let transport: AsyncSmtpTransport<Tokio1Executor> = builder.build();
        let sent = tokio::time::timeout(2 * ANSWER_MAX, transport.send(message)).await;
        match sent {
            Ok(Ok(_)) => Outcome::Delivered,
            Ok(Err(error)) if error.is_permanent() => refused(daemon::report(&error)),
            Ok(Err(error)) => later(daemon::report(&error)),
            Err(_) => later(format!("{} did not answer within {} s", email.host, 2 * ANSWER_MAX.as_secs())),
        }
    }
}

fn target(channel: &Channel, secrets: &Secrets<'_>, guard: &Guard) -> Result<Target, String> {
    let secret = |name: &str| {
        let hint = format!("store it with `streamforge ctl secret set {name}`");
        secrets(name).ok_or_else(|| format!("the secret {name:?} is not stored; {hint}"))
    };
    Ok(match channel {
        Channel::Webhook { url, signing_key } => {
            let signing_key = signing_key.as_deref().map(secret).transpose()?;
            Target::Webhook { url: url.resolve(secrets, guard)?, signing_key }
        }
        Channel::Slack { url } => Target::Slack { url: url.resolve(secrets, guard)? },
        Channel::Teams { url } => Target::Teams { url: url.resolve(secrets, guard)? },
        Channel::PagerDuty { url, routing_key } => {
            Target::PagerDuty { url: url.resolve(secrets, guard)?, routing_key: secret(routing_key)? }
        }
        Channel::Email(email) => {
            let password = email.login.as_ref().map(|(_, name)| secret(name)).transpose()?;
            Target::Email { email: email.clone(), password }
        }
        Channel::Sms(sms) => {
            let login = match &sms.login {
                Some((user, name)) => Some((user.clone(), secret(name)?)),
                None => None,
            };
            let mut url = sms.url.resolve(secrets, guard)?;
            if let (true, Some((account, _))) = (sms.twilio, &login) {
                let path = sms::twilio_path(account);
                url = url.join(&format!("/{path}")).map_err(|error| format!("is not an address: {error}"))?;
            }
            Target::Sms { url, sms: sms.clone(), login }
        }
    })
}

/// Errors of reqwest hold the address, which may be a secret.
fn not_sent(error: reqwest::Error) -> Outcome {
    let error = error.without_url();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(closed) = inner.downcast_ref::<Closed>() {
            return Outcome::Refused { reason: closed.to_string() };
        }
        source = inner.source();
    }
    let reason = daemon::report(&error);
    if error.is_builder() { Outcome::Refused { reason } } else { Outcome::Later { reason, after: None } }
}

/// `Retry-After` in seconds: a number, or a date (RFC 9110, section 10.2.3).
fn seconds(text: &str, now_s: i64) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let date = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
    u64::try_from(date.timestamp() - now_s).ok()
}

fn compose(email: &Email, mail: &email::Mail, to: &str) -> Result<Message, Box<dyn std::error::Error + Send + Sync>> {
    let mut builder = Message::builder()
        .from(email.from.parse()?)
        .to(to.parse()?)
        .subject(&mail.subject)
        .message_id(Some(mail.message_id.clone()));
    if let Some(references) = &mail.references {
        builder = builder.references(references.clone());
    }
    let part = |kind, body: &str| SinglePart::builder().header(kind).body(body.to_owned());
    let parts = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, &mail.text))
        .singlepart(part(ContentType::TEXT_HTML, &mail.html));
    let mut message = builder.multipart(parts)?;
    let headers = message.headers_mut();
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted"); // RFC 3834: no absence notes in return
    headers.insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
    if mail.urgent {
        let priority = HeaderName::new_from_ascii_str("X-Priority");
        headers.insert_raw(HeaderValue::new(priority, "1".to_owned()));
    }
    Ok(message)
}

fn tls(email: &Email) -> Result<TlsParameters, String> {
    let broken = |error: String| format!("TLS cannot be set up: {error}");
    let mut builder = TlsParameters::builder(email.host.clone()).certificate_store(CertificateStore::None);
    for authority in
        authorities::read(email.ca_file.as_deref().map(Path::new)).map_err(|error| broken(daemon::report(&error)))?
    {
        let certificate = Certificate::from_der(authority.to_vec()).map_err(|error| broken(daemon::report(&error)))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build_rustls().map_err(|error| broken(daemon::report(&error)))
}

/// The first address of a host, when none of its addresses is closed.
async fn open_address(guard: &Guard, host: &str, port: u16) -> Result<SocketAddr, Result<Closed, std::io::Error>> {
    if let Some(reason) = guard.refuses_host(host) {
        return Err(Ok(Closed(reason)));
    }
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await.map_err(Err)?.collect();
    if let Some(reason) = addresses.iter().find_map(|address| guard.refuses(address.ip())) {
        return Err(Ok(Closed(format!("{host} is closed: {reason}"))));
    }
    addresses.first().copied().ok_or_else(|| Err(std::io::ErrorKind::NotFound.into()))
}

/// Resolves names and refuses those that lead to a closed address.
#[derive(Debug)]
struct GuardedResolver(Guard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            if let Some(reason) = guard.refuses_host(&host) {
                return Err(Closed(reason).into());
            }
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            if let Some(reason) = addresses.iter().find_map(|address| guard.refuses(address.ip())) {
                return Err(Closed(format!("{host} is closed: {reason}")).into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_asked_for_in_seconds_or_until_a_date() {
        assert_eq!(seconds(" 30 ", 0), Some(30));
        assert_eq!(seconds("Fri, 06 Mar 2026 14:05:39 GMT", 1_772_805_909), Some(30));
        assert_eq!(seconds("Fri, 06 Mar 2026 14:05:09 GMT", 1_772_805_939), None, "in the past");
        assert_eq!(seconds("soon", 0), None);
    }

    #[test]
    fn a_hostile_subject_makes_no_header() {
        // AC-094
        use super::super::message::samples;
        use super::super::notice::Transition;
        let mail = email::mail(&samples::item(samples::hostile(), Transition::Activated), &samples::letterhead());
        let email = Email { from: "gw@plant.example".to_owned(), ..Email::default() };
        let bytes = compose(&email, &mail, "op@plant.example").unwrap().formatted();
        let text = String::from_utf8(bytes).unwrap();
        let headers = text.split("\r\n\r\n").next().unwrap().to_owned();
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
        assert!(headers.contains("Auto-Submitted: auto-generated"), "{headers}");
        assert!(headers.contains("X-Priority: 1"), "{headers}");
    }
}
