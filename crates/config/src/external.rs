//! An external stream: somebody else's Kafka-compatible cluster and registry, and how a gateway gets in (STR-30).
//!
//! ```yaml
//! stream:
//!   mode: external
//!   bootstrap: "k1.plant:9093,k2.plant:9093"
//!   registry_url: "https://registry.plant:8081"
//!   topic_prefix: "plant7."
//!   replication_factor: 3
//!   min_insync_replicas: 2
//!   tls: { ca_file: /etc/streamforge/ca.pem }
//!   sasl: { mechanism: scram_sha_512, username: gw-line-1, password: { secret: kafka } }
//! ```

use std::path::PathBuf;

use serde_json::Value;

use crate::{Object, SecretRef};

/// Topic names have 249 characters at most; ours need a part of them.
const PREFIX_CHARS_MAX: usize = 100;
const MECHANISMS: [&str; 4] = ["plain", "scram_sha_256", "scram_sha_512", "oauthbearer"];

/// Where the stream is and how to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// `host:port[,host:port]`.
    pub bootstrap: String,
    pub registry: Registry,
    /// Before every topic, consumer group and subject of this gateway, so that several share a cluster.
    pub topic_prefix: String,
    /// Copies of each topic that is created; the cluster's default when absent.
    pub replication_factor: Option<i32>,
    /// `min.insync.replicas` of each topic that is created; the cluster's default when absent.
    pub min_insync_replicas: Option<i32>,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

/// The schema registry that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    pub url: String,
    /// For HTTP basic authentication.
    pub login: Option<Login>,
    /// Certificates of the authority that signed the registry's; those of the system when absent.
    pub ca_file: Option<PathBuf>,
}

/// A name and its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: SecretRef,
}

/// TLS to the brokers; their certificates and host names are always checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authority that signed the brokers'; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key, where the cluster asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How we prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sasl {
    Password {
        mechanism: Mechanism,
        login: Login,
    },
    /// OAUTHBEARER with tokens from an OpenID provider (client credentials).
    Token {
        token_url: String,
        client_id: String,
        client_secret: SecretRef,
        scope: Option<String>,
    },
}

/// A mechanism with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl External {
    /// Reads what belongs to `mode: external`, or to a sink that writes to such a cluster; problems stay in `object`.
    pub fn read(object: &mut Object<'_>) -> Self {
        let bootstrap = object.required_text("bootstrap").unwrap_or_default().to_owned();
        let registry = read_registry(object);
        let topic_prefix = object.text("topic_prefix").unwrap_or_default().to_owned();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic_prefix.len() > PREFIX_CHARS_MAX || !topic_prefix.chars().all(allowed) {
            let hint = format!("letters, digits, . _ and -, at most {PREFIX_CHARS_MAX}, for example \"plant7.\"");
            object.problem("topic_prefix", "bad_name", format!("{topic_prefix:?} cannot begin a topic name"), hint);
        }
        let replication_factor = read_count(object, "replication_factor");
        let min_insync_replicas = read_count(object, "min_insync_replicas");
        if let (Some(copies), Some(insync)) = (replication_factor, min_insync_replicas)
            && insync > copies
        {
            let message = format!("{insync} copies in sync cannot be had from {copies}");
            object.problem("min_insync_replicas", "out_of_range", message, "one less than replication_factor is usual");
        }
        let tls = object.value("tls").map(|value| read_tls(value, &object.at("tls"), object));
        let sasl = match object.value("sasl") {
            Some(value) => read_sasl(value, &object.at("sasl"), tls.is_some(), object),
            None => None,
        };
        Self { bootstrap, registry, topic_prefix, replication_factor, min_insync_replicas, tls, sasl }
    }

    /// Names of all secrets it refers to.
    pub fn secrets(&self) -> Vec<String> {
        let sasl = self.sasl.as_ref().map(|sasl| match sasl {
            Sasl::Password { login, .. } => &login.password,
            Sasl::Token { client_secret, .. } => client_secret,
        });
        let registry = self.registry.login.as_ref().map(|login| &login.password);
        sasl.into_iter().chain(registry).map(|secret| secret.0.clone()).collect()
    }
}

fn read_count(object: &mut Object<'_>, key: &'static str) -> Option<i32> {
    object.integer(key, 1, 99).map(|count| i32::try_from(count).expect("checked above"))
}

fn read_path(object: &mut Object<'_>, key: &'static str) -> Option<PathBuf> {
    object.text(key).map(PathBuf::from)
}

fn read_secret(object: &mut Object<'_>, key: &'static str) -> Option<SecretRef> {
    let Some(value) = object.value(key) else {
        object.problem(key, "missing", "is missing", "");
        return None;
    };
    match SecretRef::read(value, &object.at(key)) {
        Ok(secret) => Some(secret),
        Err(problem) => {
            object.extend([problem]);
            None
        }
    }
}

fn read_login(object: &mut Object<'_>) -> Option<Login> {
    let username = object.required_text("username").map(str::to_owned);
    let password = read_secret(object, "password");
    Some(Login { username: username?, password: password? })
}

/// `registry_url` alone, or with `registry: { username, password, ca_file }`.
fn read_registry(stream: &mut Object<'_>) -> Registry {
    let url = stream.required_text("registry_url").unwrap_or_default().to_owned();
    let Some(value) = stream.value("registry") else { return Registry { url, login: None, ca_file: None } };
    let mut object = Object::new(value, &stream.at("registry"));
    let ca_file = read_path(&mut object, "ca_file");
    let wants_login = object.value("username").is_some() || object.value("password").is_some();
    let login = if wants_login { read_login(&mut object) } else { None };
    if login.is_some() && !is_private(&url) {
        let hint = "write registry_url with https://";
        object.problem("password", "not_secure", "would travel in clear text", hint);
    }
    stream.extend(object.finish());
    Registry { url, login, ca_file }
}

fn read_tls(value: &Value, pointer: &str, stream: &mut Object<'_>) -> Tls {
    let mut object = Object::new(value, pointer);
    let ca_file = read_path(&mut object, "ca_file");
    let certificate = match (read_path(&mut object, "certificate_file"), read_path(&mut object, "key_file")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            object.problem("key_file", "missing", "is missing", "a certificate needs its key");
            None
        }
        (None, Some(_)) => {
            object.problem("certificate_file", "missing", "is missing", "a key needs its certificate");
            None
        }
    };
    stream.extend(object.finish());
    Tls { ca_file, certificate }
}

fn read_sasl(value: &Value, pointer: &str, encrypted: bool, stream: &mut Object<'_>) -> Option<Sasl> {
    let mut object = Object::new(value, pointer);
    if object.value("mechanism").is_none() {
        object.problem("mechanism", "missing", "is missing", format!("one of {}", MECHANISMS.join(", ")));
    }
    let mechanism = object.word("mechanism", &MECHANISMS);
    if !encrypted && matches!(mechanism, Some("plain" | "oauthbearer")) {
        let hint = "add tls: {} beside sasl, or use a scram mechanism";
        object.problem("mechanism", "not_secure", "would send what it proves itself with in clear text", hint);
    }
    let sasl = match mechanism {
        Some("oauthbearer") => read_token(&mut object),
        Some(word) => {
            let mechanism = match word {
                "scram_sha_256" => Mechanism::ScramSha256,
                "scram_sha_512" => Mechanism::ScramSha512,
                _ => Mechanism::Plain,
            };
            read_login(&mut object).map(|login| Sasl::Password { mechanism, login })
        }
        None => None,
    };
    stream.extend(object.finish());
    sasl
}

fn read_token(object: &mut Object<'_>) -> Option<Sasl> {
    let token_url = object.required_text("token_url").map(str::to_owned);
    if token_url.as_deref().is_some_and(|url| !is_private(url)) {
        object.problem("token_url", "not_secure", "would send the client's secret in clear text", "use https://");
    }
    let client_id = object.required_text("client_id").map(str::to_owned);
    let client_secret = read_secret(object, "client_secret");
    let scope = object.text("scope").map(str::to_owned);
    Some(Sasl::Token { token_url: token_url?, client_id: client_id?, client_secret: client_secret?, scope })
}

/// Nobody between us and that address reads along: encrypted, or on this machine.
fn is_private(url: &str) -> bool {
    ["https://", "http://127.0.0.1:", "http://127.0.0.1/", "http://[::1]:", "http://localhost:", "http://localhost/"]
        .iter()
        .any(|begin| url.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> (External, Vec<String>) {
        let mut object = Object::new(value, "/stream");
        object.text("mode");
        let external = External::read(&mut object);
        (external, object.finish().iter().map(ToString::to_string).collect())
    }

    // STR-30
    #[test]
    fn all_that_a_cluster_may_ask_for_is_read() {
        let (external, problems) = read(&json!({
            "mode": "external", "bootstrap": "k1:9093", "registry_url": "https://r:8081", "topic_prefix": "plant7.",
            "replication_factor": 3, "min_insync_replicas": 2,
            "tls": { "ca_file": "/ca.pem", "certificate_file": "/c.pem", "key_file": "/k.pem" },
            "sasl": { "mechanism": "scram_sha_512", "username": "gw", "password": { "secret": "kafka" } },
            "registry": { "username": "gw", "password": { "secret": "registry" }, "ca_file": "/ca.pem" },
        }));
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(external.secrets(), ["kafka", "registry"]);
        assert_eq!((external.replication_factor, external.min_insync_replicas), (Some(3), Some(2)));
        assert!(matches!(external.sasl, Some(Sasl::Password { mechanism: Mechanism::ScramSha512, .. })));
    }

    // STR-30
    #[test]
    fn what_would_travel_in_clear_text_is_refused() {
        let stream = |sasl: Value| json!({ "bootstrap": "k1:9092", "registry_url": "http://r:8081", "sasl": sasl });
        let password = json!({ "secret": "kafka" });
        let (_, problems) = read(&stream(json!({ "mechanism": "plain", "username": "gw", "password": password })));
        assert!(problems.iter().any(|p| p.starts_with("/stream/sasl/mechanism: would send")), "{problems:?}");
        let (_, problems) =
            read(&stream(json!({ "mechanism": "scram_sha_256", "username": "gw", "password": "hunter2" })));
        assert!(problems.iter().any(|p| p.starts_with("/stream/sasl/password: must be a reference")), "{problems:?}");
        let (_, problems) =
            read(&stream(json!({ "mechanism": "scram_sha_256", "username": "gw", "password": password })));
        assert_eq!(problems, Vec::<String>::new());
        let token = json!({
            "mechanism": "oauthbearer", "token_url": "http://idp/token", "client_id": "gw", "client_secret": password,
        });
        let (_, problems) = read(&stream(token));
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    // STR-30
    #[test]
    fn names_and_counts_that_no_cluster_takes_are_refused() {
        let (_, problems) = read(&json!({
            "bootstrap": "k1:9092", "registry_url": "http://r:8081", "topic_prefix": "a b",
            "replication_factor": 1, "min_insync_replicas": 2, "tls": { "key_file": "/k.pem" },
        }));
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
