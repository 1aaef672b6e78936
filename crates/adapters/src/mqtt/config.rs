//! Settings of an MQTT adapter: read, checked and turned into a plan, once.
//!
//! Pure. Every problem is reported with its place. What a subscription makes of its messages is read in
//! [`super::mapping`], the settings of Sparkplug B in [`super::sparkplug::config`].

use std::path::PathBuf;
use std::time::Duration;

use ::config::{Object, Problem, SecretRef};
use serde_json::Value;

use super::mapping::{self, Subscription};
use super::packet::Version;
use super::sparkplug;
use super::topic;
use crate::common::Common;

/// Subscriptions of one adapter; more are refused.
pub const SUBSCRIPTIONS_MAX: usize = 100;
/// User properties of a message that are kept as tags; further ones are passed over.
pub const USER_PROPERTIES_MAX: usize = 20;

/// Everything an adapter needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub common: Common,
    pub broker: BrokerPlan,
    pub source: Source,
}

/// What the messages are.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Mapped(Vec<Subscription>),
    Sparkplug(sparkplug::config::Plan),
}

/// How to reach the broker, and what to agree on.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerPlan {
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsPlan>,
    /// Only this version; otherwise 5, and 3.1.1 where that is refused.
    pub version: Option<Version>,
    pub client_id: Option<String>,
    pub username: Option<String>,
    pub password: Option<SecretRef>,
    pub connect_timeout: Duration,
    pub keep_alive_s: u16,
    pub session_expiry_s: u32,
    pub receive_max: u16,
    pub packet_max: u32,
    /// Where `online` and `offline` are published, retained; off when absent (MQ-11).
    pub status_topic: Option<String>,
    /// The broker forgets us when the connection ends.
    pub clean: bool,
}

/// Files are read anew at each connect, so that a renewed certificate counts (MQ-10).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsPlan {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub server_name: Option<String>,
    pub alpn: Vec<String>,
}

impl BrokerPlan {
    /// `host:port`.
    pub fn target(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl Plan {
    /// For a look: a session of its own that the broker forgets, so that nothing kept for the adapter is taken; nothing is
    /// published, no births are asked for, and no share of a shared subscription is taken away from others.
    #[must_use]
    pub fn fleeting(mut self) -> Self {
        self.broker.client_id = Some(format!("sf-preview-{}", std::process::id()));
        self.broker.status_topic = None;
        self.broker.clean = true;
        match &mut self.source {
            Source::Sparkplug(plan) => plan.rebirth = false,
            Source::Mapped(subscriptions) => {
                for one in subscriptions {
                    one.filter = topic::unshared(&one.filter).0.to_owned();
                    one.shared = false;
                }
            }
        }
        self
    }
}

/// Reads settings that stand at `pointer` of a document.
pub fn plan(value: &Value, pointer: &str) -> Result<Plan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object);
    let broker = read_broker(&mut object);
    let sparkplug = object.value("sparkplug").map(|value| sparkplug::config::read(value, &object.at("sparkplug")));
    let list = object.list("subscriptions");
    let source = match (list, sparkplug) {
        (Some(_), Some(_)) => {
            let hint = "use two adapters: Sparkplug needs a clean session, subscriptions a lasting one";
            object.problem("sparkplug", "contradiction", "stands beside subscriptions", hint);
            Source::Mapped(Vec::new())
        }
        (None, Some((plan, problems))) => {
            object.extend(problems);
            Source::Sparkplug(plan)
        }
        (list, None) => Source::Mapped(read_subscriptions(&mut object, list, &common)),
    };
    let problems = object.finish();
    if problems.is_empty() { Ok(Plan { common, broker, source }) } else { Err(problems) }
}

/// Reads the settings of the broker alone: for a look at one there are no subscriptions yet.
pub fn broker(value: &Value) -> Result<BrokerPlan, Vec<Problem>> {
    let mut object = Object::new(value, "");
    let broker = read_broker(&mut object);
    let problems = object.finish();
    if problems.is_empty() { Ok(broker) } else { Err(problems) }
}

fn read_broker(object: &mut Object<'_>) -> BrokerPlan {
    let tls_value = object.value("tls");
    let url = object.required_text("url").unwrap_or_default();
    let (secure, host, port) = match parse_url(url) {
        Ok(parsed) => parsed,
        Err(message) => {
            if !url.is_empty() {
                object.problem("url", "bad_url", message, "write mqtts://host:8883 or mqtt://host:1883");
            }
            (true, String::new(), 8883)
        }
    };
    let allow_insecure = object.boolean("allow_insecure").unwrap_or(false);
    if !secure && !allow_insecure {
        let hint = "use mqtts://, or set allow_insecure: true where the network is trusted";
        object.problem("url", "insecure", "would send everything readable, a password too", hint);
    }
    let tls = if secure { Some(read_tls(object, tls_value)) } else { None };
    if !secure && tls_value.is_some() {
        object.problem("tls", "contradiction", "stands beside a url without TLS", "write mqtts://");
    }
    let version = match object.word("version", &["auto", "5", "3.1.1"]) {
        Some("5") => Some(Version::V5),
        Some("3.1.1") => Some(Version::V311),
        _ => None,
    };
    let password = object.value("password").map(|value| SecretRef::read(value, &object.at("password")));
    let password = match password {
        Some(Err(problem)) => {
            object.extend([problem]);
            None
        }
        Some(Ok(secret)) => Some(secret),
        None => None,
    };
    let username = object.text("username").map(str::to_owned);
    if password.is_some() && username.is_none() {
        object.problem("password", "contradiction", "stands without username", "");
    }
    let client_id = object.text("client_id").map(str::to_owned);
    if client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 256 || id.contains(char::is_control)) {
        object.problem("client_id", "bad_name", "has 1 to 256 characters", "leave it out: it is made of the names");
    }
    let status_topic = object.text("status_topic").map(str::to_owned);
    if let Some(topic) = &status_topic
        && (topic.is_empty() || topic.contains(['+', '#', '\0', '$']) || topic.starts_with("spBv1.0/"))
    {
        object.problem("status_topic", "bad_topic", "is no topic to publish to", "");
    }
    BrokerPlan {
        host,
        port,
        tls,
        version,
        client_id,
        username,
        password,
        connect_timeout: Duration::from_millis(number(object, "connect_timeout_ms", 100, 60_000, 5_000)),
        keep_alive_s: number(object, "keep_alive_s", 5, 3600, 30),
        session_expiry_s: number(object, "session_expiry_s", 60, 31_536_000, 7 * 24 * 3600),
        receive_max: number(object, "receive_maximum", 1, 10_000, 100),
        packet_max: number(object, "max_packet_bytes", 1024, 16 * 1024 * 1024, 1024 * 1024),
        status_topic,
        clean: false,
    }
}

pub(super) fn number<T: TryFrom<i64>>(object: &mut Object<'_>, key: &'static str, min: i64, max: i64, default: T) -> T {
    object.integer(key, min, max).and_then(|number| T::try_from(number).ok()).unwrap_or(default)
}

/// Whether TLS is asked for, host, port.
pub(super) fn parse_url(url: &str) -> Result<(bool, String, u16), String> {
    let (scheme, rest) = url.split_once("://").ok_or("has no scheme")?;
    let secure = match scheme {
        "mqtt" | "tcp" => false,
        "mqtts" | "ssl" => true,
        other => return Err(format!("{other:?} is not one of mqtt, mqtts")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '@']) {
        return Err("holds more than host and port".to_owned());
    }
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':')),
        None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    let port = match port {
        None => {
            if secure {
                8883
            } else {
                1883
            }
        }
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{port:?} is no port"))?,
    };
    Ok((secure, host.to_owned(), port))
}

fn read_tls(object: &mut Object<'_>, value: Option<&Value>) -> TlsPlan {
    let Some(value) = value else { return TlsPlan::default() };
    let mut tls = Object::new(value, &object.at("tls"));
    let file = |tls: &mut Object<'_>, key| tls.text(key).map(PathBuf::from);
    let plan = TlsPlan {
        ca_file: file(&mut tls, "ca_file"),
        cert_file: file(&mut tls, "cert_file"),
        key_file: file(&mut tls, "key_file"),
        server_name: tls.text("server_name").map(str::to_owned),
        alpn: tls.list("alpn").into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
    };
    if plan.cert_file.is_some() != plan.key_file.is_some() {
        tls.problem_here("contradiction", "needs cert_file and key_file together", "");
    }
    object.extend(tls.finish());
    plan
}

fn read_subscriptions(object: &mut Object<'_>, list: Option<&Vec<Value>>, common: &Common) -> Vec<Subscription> {
    let Some(list) = list.filter(|list| !list.is_empty()) else {
        if object.value("subscriptions").is_none_or(Value::is_array) {
            object.problem("subscriptions", "missing", "holds nothing to listen to", "or configure sparkplug");
        }
        return Vec::new();
    };
    if list.len() > SUBSCRIPTIONS_MAX {
        let message = format!("{} subscriptions, {SUBSCRIPTIONS_MAX} are possible", list.len());
        object.problem("subscriptions", "too_many", message, "use filters with + and #");
        return Vec::new();
    }
    let mut subscriptions: Vec<Subscription> = Vec::with_capacity(list.len());
    for (place, value) in list.iter().enumerate() {
        let pointer = format!("{}/{place}", object.at("subscriptions"));
        let (subscription, problems) = mapping::read(value, &pointer, common);
        object.extend(problems);
        if let Some(subscription) = subscription {
            if subscriptions.iter().any(|other| other.filter == subscription.filter) {
                let message = format!("{:?} is subscribed to twice", subscription.filter);
                object.extend([Problem::new(format!("{pointer}/filter"), "duplicate", message, "join their fields")]);
            }
            subscriptions.push(subscription);
        }
    }
    subscriptions
}

/// The filters to ask a broker for that answers a message once, however many filters mean it (version 3.1.1): those that
/// no other one covers, each with the highest quality of service of those it covers. Places of subscriptions.
pub fn widest(subscriptions: &[Subscription]) -> Vec<(usize, u8)> {
    let covered_by_other = |place: usize| {
        let narrow = &subscriptions[place];
        let covers = |(other, wide): (usize, &Subscription)| {
            let both = topic::covers(&wide.filter, &narrow.filter);
            let same = both && topic::covers(&narrow.filter, &wide.filter);
            other != place && !wide.shared && !narrow.shared && both && (!same || other < place)
        };
        subscriptions.iter().enumerate().any(covers)
    };
    let highest = |place: usize| {
        let wide = &subscriptions[place];
        let covered =
            subscriptions.iter().filter(|narrow| !narrow.shared && topic::covers(&wide.filter, &narrow.filter));
        covered.map(|narrow| narrow.qos).max().unwrap_or(wide.qos).max(wide.qos)
    };
    (0..subscriptions.len()).filter(|place| !covered_by_other(*place)).map(|place| (place, highest(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(more: &Value) -> Value {
        let mut settings = json!({
            "adapter_id": "line", "adapter_type": "mqtt", "url": "mqtts://broker", "asset_id": "press",
            "subscriptions": [{"filter": "plant/press", "payload": "json", "fields": [{"path": "/t", "parameter": "t"}]}],
        });
        for (key, value) in more.as_object().unwrap() {
            settings[key] = value.clone();
        }
        settings
    }

    fn problems(more: &Value) -> Vec<String> {
        plan(&settings(more), "").unwrap_err().iter().map(ToString::to_string).collect()
    }

    // MQ-10, MQ-03, G-06, G-10
    #[test]
    fn what_is_refused() {
        let plan = plan(&settings(&json!({})), "").unwrap();
        assert_eq!((plan.broker.port, plan.broker.keep_alive_s, plan.broker.receive_max), (8883, 30, 100));
        assert_eq!((plan.broker.session_expiry_s, plan.broker.packet_max), (604_800, 1_048_576));
        for (more, part) in [
            (json!({"url": "mqtt://broker"}), "/url: would send everything readable"),
            (json!({"url": "wss://broker"}), "is not one of mqtt, mqtts"),
            (json!({"url": "mqtts://u:p@broker"}), "more than host and port"),
            (json!({"password": "hunter2", "username": "u"}), "/password: must be a reference to a secret"),
            (json!({"tls": {"cert_file": "/c"}}), "needs cert_file and key_file together"),
            (json!({"subscriptions": []}), "/subscriptions: holds nothing to listen to"),
            (json!({"sparkplug": {"groups": ["g"]}}), "stands beside subscriptions"),
            (json!({"status_topic": "spBv1.0/STATE/x"}), "/status_topic"),
            (json!({"host": "broker"}), "/host: is not a known key"),
        ] {
            let found = problems(&more);
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:?}");
        }
        assert!(super::plan(&settings(&json!({"url": "mqtt://[::1]:1884", "allow_insecure": true})), "").is_ok());
    }

    // G-01, MQ-02, MQ-11, MQ-18: a look takes nothing from anybody and says nothing
    #[test]
    fn a_look_leaves_nothing_behind() {
        let shared = json!({"subscriptions": [{"filter": "$share/g/a/+", "fields": [{"path": "/t", "parameter": "t"}]}],
            "status_topic": "own/status", "client_id": "fixed"});
        let look = plan(&settings(&shared), "").unwrap().fleeting();
        let Source::Mapped(subscriptions) = &look.source else { panic!("mapped") };
        assert_eq!((subscriptions[0].filter.as_str(), subscriptions[0].shared), ("a/+", false));
        assert!(look.broker.clean && look.broker.status_topic.is_none());
        assert_ne!(look.broker.client_id.as_deref(), Some("fixed"));
        let mut edges = settings(&json!({"sparkplug": {"groups": ["g"]}}));
        edges.as_object_mut().unwrap().remove("subscriptions");
        let Source::Sparkplug(edges) = plan(&edges, "").unwrap().fleeting().source else { panic!("sparkplug") };
        assert!(!edges.rebirth);
    }

    // MQ-03
    #[test]
    fn a_broker_that_answers_once_is_asked_for_the_widest() {
        let subscription = |filter: &str, qos| json!({"filter": filter, "qos": qos, "payload": "json", "fields": [{"path": "/t", "parameter": "t"}]});
        let more = json!({"subscriptions": [
            subscription("a/+", 0), subscription("a/b", 1), subscription("+/b", 1), subscription("$share/g/a/b", 1),
        ]});
        let Source::Mapped(subscriptions) = plan(&settings(&more), "").unwrap().source else { panic!("mapped") };
        assert_eq!(widest(&subscriptions), [(0, 1), (2, 1), (3, 1)]);
    }
}
