//! How a destination is reached: the settings of its type, checked. Secrets are names here; [`Secrets`] has the values.

use config::{Object, Problem};
use daemon::launch::Secret;
use reqwest::Url;

use super::guard::Guard;
use crate::common::secret;

/// PagerDuty's address for events; the EU has another one.
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";
const TWILIO_URL: &str = "https://api.twilio.com";
const TYPES: [&str; 6] = ["webhook", "slack", "teams", "pagerduty", "email", "sms"];
/// Keys that belong to some types only, with those types.
const KEYS: [(&str, &[&str]); 12] = [
    ("url", &["webhook", "slack", "teams", "pagerduty", "sms"]),
    ("signing_key", &["webhook"]),
    ("routing_key", &["pagerduty"]),
    ("host", &["email"]),
    ("port", &["email"]),
    ("tls", &["email"]),
    ("ca_file", &["email"]),
    ("username", &["email", "sms"]),
    ("password", &["email", "sms"]),
    ("from", &["email", "sms"]),
    ("to", &["email", "sms"]),
    ("provider", &["sms"]),
];
const RECIPIENTS_MAX: usize = 50;

/// An address, or the name of the secret that is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    Plain(String),
    Secret(String),
}

/// How people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    Webhook { url: Link, signing_key: Option<String> },
    Slack { url: Link },
    Teams { url: Link },
    PagerDuty { url: Link, routing_key: String },
    Email(Email),
    Sms(Sms),
}

/// A mail server and who gets the mail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Email {
    pub host: String,
    pub port: u16,
    /// TLS from the first byte, rather than behind STARTTLS.
    pub implicit_tls: bool,
    pub ca_file: Option<String>,
    /// User name and the name of the password's secret.
    pub login: Option<(String, String)>,
    pub from: String,
    pub to: Vec<String>,
}

/// A provider of short messages and who gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sms {
    pub url: Link,
    pub twilio: bool,
    pub login: Option<(String, String)>,
    pub from: String,
    /// E.164.
    pub to: Vec<String>,
}

/// Where the values of secrets come from.
pub type Secrets<'s> = dyn Fn(&str) -> Option<Secret> + 's;

impl Link {
    /// Reads an address or a reference; a literal address must be one that may be sent to.
    pub fn read(object: &mut Object<'_>, key: &'static str, guard: &Guard) -> Option<Self> {
        let value = object.value(key)?;
        if value.is_object() {
            return secret(object, key).map(Self::Secret);
        }
        let text = object.text(key)?;
        if let Err(reason) = check_url(text, guard) {
            object.problem(key, "bad_url", reason, "https://host/path");
        }
        Some(Self::Plain(text.to_owned()))
    }

    /// The address itself; an error is a sentence about this destination.
    pub fn resolve(&self, secrets: &Secrets<'_>, guard: &Guard) -> Result<Url, String> {
        match self {
            Self::Plain(text) => check_url(text, guard),
            Self::Secret(name) => {
                let value = secrets(name).ok_or_else(|| format!("the secret {name:?} is not stored"))?;
                check_url(value.reveal().trim(), guard).map_err(|reason| format!("the secret {name:?} {reason}"))
            }
        }
    }
}

/// An address that may be sent to: `https`, and `http` only into networks that were opened on purpose. The reason never
/// repeats the address, which may be a secret.
fn check_url(text: &str, guard: &Guard) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not an address: {error}"))?;
    let host = url.host_str().unwrap_or_default().to_owned();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err("must begin with https://".to_owned());
    }
    if let Some(reason) = guard.refuses_host(&host) {
        return Err(format!("is refused: {reason}"));
    }
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    if url.scheme() == "http" && !literal.is_some_and(|address| guard.opens(address)) {
        return Err("must begin with https://, or its address be in allow_networks".to_owned());
    }
    Ok(url)
}

impl Channel {
    /// The word in settings and metrics.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Slack { .. } => "slack",
            Self::Teams { .. } => "teams",
            Self::PagerDuty { .. } => "pagerduty",
            Self::Email(_) => "email",
            Self::Sms(_) => "sms",
        }
    }

    /// The receiver keeps one incident per occurrence, so it is told its end, too, and never several in one message.
    pub const fn keeps_incidents(&self) -> bool {
        matches!(self, Self::PagerDuty { .. })
    }

    /// Shortest time between two messages, in microseconds. Slack takes one per second and webhook.
    pub const fn pace(&self) -> i64 {
        match self {
            Self::Slack { .. } | Self::Teams { .. } => 1_000_000,
            _ => 0,
        }
    }

    /// Reads the settings of a destination; what is missing is reported and filled with nothing.
    pub fn read(object: &mut Object<'_>, guard: &Guard) -> Self {
        object.required_text("type");
        let kind = object.word("type", &TYPES);
        let Some(kind) = kind else {
            for (key, _) in KEYS {
                object.value(key); // no second complaint about them
            }
            return Self::Slack { url: Link::Plain(String::new()) };
        };
        for (key, kinds) in KEYS {
            if object.value(key).is_some() && !kinds.contains(&kind) {
                object.problem(key, "other_type", format!("belongs to {}, not to {kind}", kinds.join(", ")), "");
            }
        }
        match kind {
            "webhook" => {
                let url = required_link(object, guard);
                Self::Webhook { url, signing_key: secret(object, "signing_key") }
            }
            "slack" => Self::Slack { url: required_link(object, guard) },
            "teams" => Self::Teams { url: required_link(object, guard) },
            "pagerduty" => {
                let url = Link::read(object, "url", guard).unwrap_or_else(|| Link::Plain(PAGERDUTY_URL.to_owned()));
                let routing_key = secret(object, "routing_key");
                if object.value("routing_key").is_none() {
                    let hint = "the integration key of the service, as a reference to a secret";
                    object.problem("routing_key", "missing", "is missing", hint);
                }
                Self::PagerDuty { url, routing_key: routing_key.unwrap_or_default() }
            }
            "email" => Self::Email(read_email(object, guard)),
            _ => Self::Sms(read_sms(object, guard)),
        }
    }
}

fn required_link(object: &mut Object<'_>, guard: &Guard) -> Link {
    if object.value("url").is_none() {
        object.problem("url", "missing", "is missing", "an address, or {\"secret\": \"name\"}");
    }
    Link::read(object, "url", guard).unwrap_or_else(|| Link::Plain(String::new()))
}

fn read_login(object: &mut Object<'_>) -> Option<(String, String)> {
    let username = object.text("username").map(str::to_owned);
    let password = secret(object, "password");
    if username.is_some() != object.value("password").is_some() {
        let missing = if username.is_some() { "password" } else { "username" };
        object.problem(missing, "missing", "is missing, a login has both", "");
    }
    Some((username?, password?))
}

fn read_email(object: &mut Object<'_>, guard: &Guard) -> Email {
    let host = object.required_text("host").unwrap_or_default().to_owned();
    if let Some(reason) = guard.refuses_host(&host).filter(|_| !host.is_empty()) {
        object.problem("host", "refused", format!("is refused: {reason}"), "");
    }
    let implicit_tls = object.word("tls", &["starttls", "implicit"]) == Some("implicit");
    let default_port = if implicit_tls { 465 } else { 587 };
    let port = object.integer("port", 1, 65_535).and_then(|port| u16::try_from(port).ok()).unwrap_or(default_port);
    let from = object.required_text("from").unwrap_or_default().to_owned();
    if !from.is_empty() && !is_mail_address(&from) {
        object.problem("from", "bad_address", format!("{from:?} is not a mail address"), "");
    }
    let to = read_recipients(object, is_mail_address, "is not a mail address");
    let ca_file = object.text("ca_file").map(str::to_owned);
    Email { host, port, implicit_tls, ca_file, login: read_login(object), from, to }
}

fn read_sms(object: &mut Object<'_>, guard: &Guard) -> Sms {
    let twilio = object.word("provider", &["twilio", "json"]) != Some("json");
    let url = match (twilio, Link::read(object, "url", guard)) {
        (_, Some(url)) => url,
        (true, None) => Link::Plain(TWILIO_URL.to_owned()),
        (false, None) => {
            object.problem("url", "missing", "is missing, the address of the provider", "");
            Link::Plain(String::new())
        }
    };
    let login = read_login(object);
    if twilio && login.is_none() && object.value("username").is_none() {
        object.problem("username", "missing", "is missing: the account's SID, with the token as password", "");
    }
    let from = object.required_text("from").unwrap_or_default().to_owned();
    let to = read_recipients(object, is_e164, "is not a number in E.164, for example +4915112345678");
    Sms { url, twilio, login, from, to }
}

fn read_recipients(object: &mut Object<'_>, fits: fn(&str) -> bool, complaint: &str) -> Vec<String> {
    let mut recipients = Vec::new();
    for (i, item) in object.list("to").into_iter().flatten().enumerate() {
        match item.as_str().filter(|text| fits(text)) {
            Some(text) => recipients.push(text.to_owned()),
            None => {
                let pointer = format!("{}/{i}", object.at("to"));
                object.extend([Problem::new(pointer, "bad_address", format!("{item} {complaint}"), "")]);
            }
        }
    }
    let count = object.list("to").map_or(0, Vec::len);
    if count == 0 || count > RECIPIENTS_MAX {
        object.problem("to", "bad_count", format!("has {count} entries, 1 to {RECIPIENTS_MAX} are possible"), "");
    }
    recipients
}

/// Rough on purpose: what goes into a header must hold no control character and one `@`; the server knows the rest.
fn is_mail_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';' | ':' | '"' | '(' | ')' | '\\');
    let parts = text.split_once('@');
    text.len() <= 254
        && text.chars().all(plain)
        && parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
}

/// E.164: a plus and 7 to 15 digits.
fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
    })
}
