//! Settings of an OPC UA adapter: read, checked and turned into a plan, once.
//!
//! Pure. Every problem is reported with its place. The points are read in [`super::point`].

use std::path::PathBuf;
use std::time::Duration;

use ::config::{Object, Problem, SecretRef};
use serde_json::Value;

use super::endpoint::is_deprecated;
use super::events::settings::{self, Source};
use super::point::{self, Point};
use super::stack::SecurityPolicy;
use crate::common::Common;

/// Points of one adapter; more are refused.
pub const POINTS_MAX: usize = 100_000;
/// Publishing intervals of one adapter, each a subscription at the server, which allow few.
pub const INTERVALS_MAX: usize = 8;
/// Servers that stand in for each other.
const SERVERS_MAX: usize = 8;
/// Names of the policies, as the standard has them.
pub const POLICIES: [&str; 6] =
    ["None", "Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "Basic256", "Basic128Rsa15"];

/// Everything an adapter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub common: Common,
    pub connection: ConnectionPlan,
    /// Empty where only events are wanted.
    pub points: Vec<Point>,
    pub events: Vec<Source>,
    pub back_fill: Option<BackFill>,
}

/// How to reach the server, and what to agree on.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "settings that do not depend on each other")]
pub struct ConnectionPlan {
    /// In the order in which they are tried; never empty.
    pub servers: Vec<Server>,
    pub policy: SecurityPolicy,
    pub mode: Mode,
    pub login: Login,
    pub allow_deprecated: bool,
    /// Connect where the server says, not where the settings say.
    pub follow_endpoint_url: bool,
    pub check_host_name: bool,
    /// Trust every certificate; for a desk, not for a plant.
    pub dev_mode: bool,
    pub connect_timeout: Duration,
    pub session_timeout: Duration,
    /// How long the server keeps subscriptions of a client that is away.
    pub subscription_lifetime: Duration,
    /// Longest silence of a subscription.
    pub keep_alive: Duration,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub url: String,
    pub host: String,
    pub port: u16,
}

/// How messages are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    None,
    Sign,
    SignAndEncrypt,
}

impl Mode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sign => "sign",
            Self::SignAndEncrypt => "sign_and_encrypt",
        }
    }
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    Anonymous,
    UserName { username: String, password: SecretRef },
    Certificate { cert_file: PathBuf, key_file: PathBuf },
}

impl Login {
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::UserName { .. } => "username",
            Self::Certificate { .. } => "certificate",
        }
    }
}

/// Reading what was missed from the server's history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackFill {
    /// Nothing older than this is asked for.
    pub reach: Duration,
    /// Values taken in one second, so that what is new is not held up.
    pub values_per_second: u32,
}

/// Reads settings that stand at `pointer` of a document.
pub fn plan(value: &Value, pointer: &str) -> Result<Plan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object);
    let connection = read_connection(&mut object);
    let back_fill = read_back_fill(&mut object);
    let (points, events) = read_sources(&mut object, &common);
    let of_events = events.iter().map(|source| u64::from(source.publishing_ms));
    let slowest = points.iter().map(|point| u64::from(point.publishing_ms)).chain(of_events).max().unwrap_or_default();
    if connection.as_ref().is_some_and(|connection| connection.session_timeout < Duration::from_millis(slowest * 2)) {
        let message =
            format!("is shorter than two publishing intervals of {slowest} ms: the server would end the session");
        object.problem("session_timeout_ms", "contradiction", message, "give it at least twice the longest interval");
    }
    let problems = object.finish();
    match connection {
        Some(connection) if problems.is_empty() => Ok(Plan { common, connection, points, events, back_fill }),
        _ => Err(problems),
    }
}

/// Reads the settings of the connection alone: for a look at a server there are no points yet.
pub fn connection(value: &Value) -> Result<ConnectionPlan, Vec<Problem>> {
    let mut object = Object::new(value, "");
    let connection = read_connection(&mut object);
    let problems = object.finish();
    match connection {
        Some(connection) if problems.is_empty() => Ok(connection),
        _ => Err(problems),
    }
}

fn read_connection(object: &mut Object<'_>) -> Option<ConnectionPlan> {
    let mut servers = Vec::new();
    if let Some(url) = object.required_text("url") {
        servers.extend(read_server(object, "url", url));
    }
    for (place, value) in object.list("standby_urls").into_iter().flatten().enumerate() {
        let key = format!("standby_urls/{place}");
        match value.as_str() {
            Some(_) if place + 1 >= SERVERS_MAX => {
                object.extend([Problem::new(
                    format!("{}/{place}", object.at("standby_urls")),
                    "too_many",
                    format!("{SERVERS_MAX} servers are possible"),
                    "",
                )]);
                break;
            }
            Some(url) => servers.extend(read_server(object, &key, url)),
            None => {
                let pointer = format!("{}/{place}", object.at("standby_urls"));
                object.extend([Problem::new(pointer, "wrong_type", "must be a text", "")]);
            }
        }
    }
    let policy = object.word("security_policy", &POLICIES).unwrap_or("Basic256Sha256");
    let policy = policy_of(policy);
    let mode_word = object.word("security_mode", &["none", "sign", "sign_and_encrypt"]);
    let mode = match mode_word {
        Some("none") => Mode::None,
        Some("sign") => Mode::Sign,
        None if policy == SecurityPolicy::None => Mode::None,
        Some(_) | None => Mode::SignAndEncrypt,
    };
    if (policy == SecurityPolicy::None) != (mode == Mode::None) {
        let hint = "leave security_mode out, or give both a security";
        object.problem("security_mode", "contradiction", "does not go with security_policy", hint);
    }
    let allow_insecure = object.boolean("allow_insecure").unwrap_or(false);
    if policy == SecurityPolicy::None && !allow_insecure {
        let hint = "use Basic256Sha256, or set allow_insecure: true where the network is trusted";
        object.problem("security_policy", "insecure", "would send everything readable and changeable", hint);
    }
    let allow_deprecated = object.boolean("allow_deprecated").unwrap_or(false);
    if is_deprecated(policy) && !allow_deprecated {
        let hint = "use Basic256Sha256, or set allow_deprecated: true for a server that knows nothing better";
        object.problem("security_policy", "deprecated", "is not safe any more", hint);
    }
    let login = read_login(object);
    if mode == Mode::None && !matches!(login, None | Some(Login::Anonymous)) {
        // nobody has looked at the server's certificate then, so sealing a password for it protects nothing
        let hint = "use Basic256Sha256, or log in anonymous";
        object.problem("login", "contradiction", "by password or certificate needs a security_policy", hint);
    }
    let millis = |object: &mut Object<'_>, key, min, max, default: u64| {
        let number = object.integer(key, min, max).and_then(|number| u64::try_from(number).ok());
        Duration::from_millis(number.unwrap_or(default))
    };
    Some(ConnectionPlan {
        policy,
        mode,
        login: login.unwrap_or(Login::Anonymous),
        allow_deprecated,
        follow_endpoint_url: object.boolean("follow_endpoint_url").unwrap_or(false),
        check_host_name: object.boolean("check_host_name").unwrap_or(true),
        dev_mode: object.boolean("dev_mode").unwrap_or(false),
        connect_timeout: millis(object, "connect_timeout_ms", 500, 120_000, 15_000),
        session_timeout: millis(object, "session_timeout_ms", 10_000, 86_400_000, 600_000),
        subscription_lifetime: millis(object, "subscription_lifetime_ms", 10_000, 86_400_000, 600_000),
        keep_alive: millis(object, "keep_alive_ms", 1_000, 60_000, 5_000),
        servers: if servers.is_empty() { return None } else { servers },
    })
}

pub fn policy_of(name: &str) -> SecurityPolicy {
    match name {
        "None" => SecurityPolicy::None,
        "Aes128_Sha256_RsaOaep" => SecurityPolicy::Aes128Sha256RsaOaep,
        "Aes256_Sha256_RsaPss" => SecurityPolicy::Aes256Sha256RsaPss,
        "Basic256" => SecurityPolicy::Basic256,
        "Basic128Rsa15" => SecurityPolicy::Basic128Rsa15,
        _ => SecurityPolicy::Basic256Sha256,
    }
}

fn read_server(object: &mut Object<'_>, key: &str, url: &str) -> Option<Server> {
    let refuse = |object: &mut Object<'_>, message: String| {
        let pointer = key
            .split('/')
            .fold(object.at(""), |path, part| format!("{path}{}{part}", if path.ends_with('/') { "" } else { "/" }));
        object.extend([Problem::new(pointer, "bad_url", message, "write opc.tcp://host:4840/path")]);
        None
    };
    match parse_url(url) {
        Ok((host, port)) => Some(Server { url: url.to_owned(), host, port }),
        Err(message) => refuse(object, message),
    }
}

/// Host and port of `opc.tcp://host:4840/path`.
pub fn parse_url(url: &str) -> Result<(String, u16), String> {
    let rest = url.strip_prefix("opc.tcp://").ok_or("is no opc.tcp:// address")?;
    if url.len() > 2048 || url.contains(|char: char| char.is_control() || char.is_whitespace()) {
        return Err("is too long or holds blanks".to_owned());
    }
    let address = rest.split(['/', '?']).next().unwrap_or_default();
    if address.contains('@') {
        return Err("holds a user; give it as login".to_owned());
    }
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => address.rsplit_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    let port = match port {
        None => 4840,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is no port"))?,
    };
    Ok((host.to_owned(), port))
}

fn read_login(object: &mut Object<'_>) -> Option<Login> {
    let value = object.value("login")?;
    let mut login = Object::new(value, &object.at("login"));
    login.required_text("type");
    let read = match login.word("type", &["anonymous", "username", "certificate"]) {
        Some("username") => {
            let username = login.required_text("username").map(str::to_owned);
            let password = match login.value("password") {
                None => {
                    login.problem("password", "missing", "is missing", "{\"secret\": \"some-name\"}");
                    None
                }
                Some(value) => match SecretRef::read(value, &login.at("password")) {
                    Ok(secret) => Some(secret),
                    Err(problem) => {
                        login.extend([problem]);
                        None
                    }
                },
            };
            username.zip(password).map(|(username, password)| Login::UserName { username, password })
        }
        Some("certificate") => {
            let cert_file = login.required_text("cert_file").map(PathBuf::from);
            let key_file = login.required_text("key_file").map(PathBuf::from);
            cert_file.zip(key_file).map(|(cert_file, key_file)| Login::Certificate { cert_file, key_file })
        }
        _ => Some(Login::Anonymous),
    };
    object.extend(login.finish());
    read
}

fn read_back_fill(object: &mut Object<'_>) -> Option<BackFill> {
    let value = object.value("back_fill")?;
    let mut fill = Object::new(value, &object.at("back_fill"));
    let reach = fill.duration_ms("reach", 60_000, 31 * 86_400_000).unwrap_or(86_400_000);
    let rate = fill.integer("values_per_second", 10, 100_000).unwrap_or(1000);
    object.extend(fill.finish());
    Some(BackFill {
        reach: Duration::from_millis(u64::try_from(reach).unwrap_or_default()),
        values_per_second: u32::try_from(rate).unwrap_or(1000),
    })
}

/// Points and event sources: at least one of either, on a handful of intervals.
fn read_sources(object: &mut Object<'_>, common: &Common) -> (Vec<Point>, Vec<Source>) {
    let defaults = point::Defaults::read(object);
    let events = settings::read(object, common, defaults.publishing_ms);
    let asks_events = object.list("events").is_some_and(|list| !list.is_empty());
    let mut intervals = std::collections::BTreeSet::new();
    intervals.extend(events.iter().map(|source| (source.publishing_ms, false)));
    let points = read_points(object, common, &defaults, asks_events, &mut intervals);
    if intervals.len() > INTERVALS_MAX {
        let message = format!("{} different intervals, {INTERVALS_MAX} are possible", intervals.len());
        object.problem("points", "too_many", message, "each is a subscription, and servers allow few");
    }
    (points, events)
}

fn read_points(
    object: &mut Object<'_>,
    common: &Common,
    defaults: &point::Defaults,
    may_be_none: bool,
    intervals: &mut std::collections::BTreeSet<(u32, bool)>,
) -> Vec<Point> {
    let Some(list) = object.list("points").filter(|list| !list.is_empty()) else {
        if !may_be_none && object.value("points").is_none_or(Value::is_array) {
            let hint = "name points, or events: [{}] for the events of the server";
            object.problem("points", "missing", "holds nothing to read", hint);
        }
        return Vec::new();
    };
    if list.len() > POINTS_MAX {
        let message = format!("{} points, {POINTS_MAX} are possible", list.len());
        object.problem("points", "too_many", message, "use a second adapter");
        return Vec::new();
    }
    let mut points: Vec<Point> = Vec::with_capacity(list.len());
    let mut names = std::collections::HashMap::new();
    for (place, value) in list.iter().enumerate() {
        let pointer = format!("{}/{place}", object.at("points"));
        match point::read(value, &pointer, defaults, common) {
            Err(problems) => object.extend(problems),
            Ok(point) => {
                let name = (point.asset_id.clone(), point.parameter.clone());
                if let Some(other) = names.insert(name, place) {
                    let message = format!("is the asset and parameter of point {other} too");
                    object.extend([Problem::new(format!("{pointer}/parameter"), "duplicate", message, "")]);
                }
                intervals.insert((point.publishing_ms, point.polled));
                points.push(point);
            }
        }
    }
    points
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn settings(more: &Value) -> Value {
        let mut settings = json!({
            "adapter_id": "line", "adapter_type": "opcua", "url": "opc.tcp://plc:4840", "asset_id": "press",
            "points": [{"node": "nsu=urn:x;s=Temp", "parameter": "temp"}],
        });
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings
    }

    pub(crate) fn connection(more: &Value) -> ConnectionPlan {
        plan(&settings(more), "").unwrap().connection
    }

    fn problems(more: &Value) -> Vec<String> {
        plan(&settings(more), "/a").unwrap_err().iter().map(ToString::to_string).collect()
    }

    // UA-02: safe unless somebody says otherwise
    #[test]
    fn what_is_not_said_is_safe() {
        let plan = connection(&json!({}));
        assert_eq!((plan.policy, plan.mode), (SecurityPolicy::Basic256Sha256, Mode::SignAndEncrypt));
        assert!(plan.check_host_name && !plan.dev_mode && !plan.allow_deprecated && !plan.follow_endpoint_url);
        assert_eq!((plan.servers[0].host.as_str(), plan.servers[0].port), ("plc", 4840));
        let insecure = connection(&json!({"security_policy": "None", "allow_insecure": true}));
        assert_eq!(insecure.mode, Mode::None);
        let standby = connection(&json!({"standby_urls": ["opc.tcp://b:4841/x"]}));
        assert_eq!(standby.servers[1].port, 4841);
    }

    // UA-02, UA-03, G-06: all at once, each with its place and a way out
    #[test]
    fn what_is_unsafe_or_wrong_is_told_with_its_place() {
        let said = problems(&json!({
            "url": "http://plc", "security_policy": "None", "security_mode": "sign", "login": {"type": "username",
            "username": "ada", "password": "clear"}, "standby_urls": ["opc.tcp://"], "pointz": [],
        }));
        for (start, part) in [
            ("/a/url: is no opc.tcp:// address", ""),
            ("/a/standby_urls/0: names no host", ""),
            ("/a/security_policy: would send everything readable", "allow_insecure"),
            ("/a/security_mode: does not go with security_policy", ""),
            ("/a/login/password: must be a reference to a secret", ""),
            ("/a/pointz: is not a known key", "points"),
        ] {
            assert!(said.iter().any(|line| line.starts_with(start) && line.contains(part)), "{start} in {said:#?}");
        }
        let user = json!({"type": "username", "username": "ada", "password": {"secret": "p"}});
        let clear = problems(&json!({"security_policy": "None", "allow_insecure": true, "login": user}));
        assert!(clear[0].starts_with("/a/login: by password or certificate needs"), "{clear:?}");
        let slow = problems(&json!({"publishing_interval_ms": 600_000}));
        assert!(slow[0].starts_with("/a/session_timeout_ms: is shorter than two"), "{slow:?}");
        let old = problems(&json!({"security_policy": "Basic128Rsa15"}));
        assert!(old[0].starts_with("/a/security_policy: is not safe any more"), "{old:?}");
        assert!(plan(&settings(&json!({"security_policy": "Basic256", "allow_deprecated": true})), "").is_ok());
        assert!(problems(&json!({"points": []}))[0].contains("holds nothing to read"));
    }

    #[test]
    fn points_are_told_apart_by_asset_and_parameter() {
        let point = |node: &str| json!({"node": node, "parameter": "temp"});
        let said = problems(&json!({"points": [point("nsu=urn:x;s=a"), point("nsu=urn:x;s=b"), point("ns=2;s=c")]}));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(
            said.iter().any(|line| line.starts_with("/a/points/1/parameter: is the asset and parameter of point 0"))
        );
        assert!(said.iter().any(|line| line.starts_with("/a/points/2/node: names its namespace by number")));
    }
}
