//! How a client gets into a cluster that is not ours: TLS, SASL, names in front of ours, and how topics are made there.
//!
//! [`Access::default`] is the embedded broker: no TLS, no SASL, plain names, one copy of each topic.

use std::fmt;
use std::path::PathBuf;

use rdkafka::ClientConfig;

/// Longest name of a topic in Kafka.
pub(super) const TOPIC_BYTES_MAX: usize = 249;
/// Kafka's word for "as the cluster's own setting has it".
const CLUSTERS_DEFAULT: i32 = -1;

/// A value that must not appear in logs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself; only at the rim that needs it.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// TLS to the brokers; certificate and host name are always checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authority that signed the brokers'; those of the system when absent.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How the client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sasl {
    /// `mechanism` in Kafka's spelling: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    Password { mechanism: &'static str, username: String, password: Password },
    /// OAUTHBEARER; tokens come from an OpenID provider in exchange for the client's secret.
    Token { token_url: String, client_id: String, client_secret: Password, scope: Option<String> },
}

/// Everything about a cluster but its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Before every topic and group. Callers never see it: they name topics without it and are told topics without it.
    pub prefix: String,
    /// Copies of a topic that is created; the cluster's default when `None`.
    pub replication_factor: Option<i32>,
    /// `min.insync.replicas` of a topic that is created; the cluster's default when `None`.
    pub min_insync_replicas: Option<i32>,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

impl Default for Access {
    fn default() -> Self {
        Self { prefix: String::new(), replication_factor: Some(1), min_insync_replicas: None, tls: None, sasl: None }
    }
}

impl Access {
    /// A name and its password, for a broker on this machine.
    pub fn of(user: &str, password: &str) -> Self {
        let (username, password) = (user.to_owned(), Password::new(password));
        Self { sasl: Some(Sasl::Password { mechanism: "PLAIN", username, password }), ..Self::default() }
    }

    /// A name as the cluster knows it.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What this asks for and the client library in this program does not have.
    ///
    /// The library tells its features itself: TLS and SCRAM need it built with OpenSSL.
    pub fn missing(&self) -> Option<&'static str> {
        let config = ClientConfig::new();
        let features = config.create_native_config().and_then(|native| native.get("builtin.features"));
        self.missing_of(&features.unwrap_or_default())
    }

    fn missing_of(&self, features: &str) -> Option<&'static str> {
        let has = |feature: &str| features.split(',').any(|found| found.trim() == feature);
        let sasl = self.sasl.as_ref().map(|sasl| match sasl {
            Sasl::Password { mechanism: "PLAIN", .. } => ("sasl_plain", "SASL PLAIN"),
            Sasl::Password { .. } => ("sasl_scram", "SASL SCRAM"),
            Sasl::Token { .. } => ("oidc", "SASL OAUTHBEARER"),
        });
        let tls = self.tls.as_ref().map(|_| ("ssl", "TLS"));
        tls.into_iter().chain(sasl).find(|(feature, _)| !has(feature)).map(|(_, name)| name)
    }

    /// The number that CreateTopics carries.
    pub(super) fn replication(&self) -> i32 {
        self.replication_factor.unwrap_or(CLUSTERS_DEFAULT)
    }

    /// Adds what librdkafka has to know.
    pub(super) fn apply(&self, config: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => return,
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            if let Some(file) = &tls.ca_file {
                config.set("ssl.ca.location", file.display().to_string());
                // the provider of tokens is signed by the same authority, or by one that the system trusts
                config.set("https.ca.location", file.display().to_string());
            } else {
                // the folders of all distributions, not only that of the one where the library was built
                config.set("ssl.ca.location", "probe");
                config.set("https.ca.location", "probe");
            }
            if let Some((certificate, key)) = &tls.certificate {
                config.set("ssl.certificate.location", certificate.display().to_string());
                config.set("ssl.key.location", key.display().to_string());
            }
        }
        match &self.sasl {
            None => {}
            Some(Sasl::Password { mechanism, username, password }) => {
                config.set("sasl.mechanism", *mechanism);
                config.set("sasl.username", username);
                config.set("sasl.password", &password.0);
            }
            Some(Sasl::Token { token_url, client_id, client_secret, scope }) => {
                config.set("sasl.mechanism", "OAUTHBEARER");
                config.set("sasl.oauthbearer.method", "oidc");
                config.set("sasl.oauthbearer.token.endpoint.url", token_url);
                config.set("sasl.oauthbearer.client.id", client_id);
                config.set("sasl.oauthbearer.client.secret", &client_secret.0);
                if let Some(scope) = scope {
                    config.set("sasl.oauthbearer.scope", scope);
                }
            }
        }
    }
}

/// A topic's full name, made without an allocation: it is needed once per record.
pub(super) struct FullName {
    bytes: [u8; TOPIC_BYTES_MAX],
    length: usize,
}

impl FullName {
    /// `None` when it would be longer than Kafka allows.
    pub(super) fn new(prefix: &str, topic: &str) -> Option<Self> {
        let mut name = Self { bytes: [0; TOPIC_BYTES_MAX], length: prefix.len() + topic.len() };
        name.bytes.get_mut(..prefix.len())?.copy_from_slice(prefix.as_bytes());
        name.bytes.get_mut(prefix.len()..name.length)?.copy_from_slice(topic.as_bytes());
        Some(name)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("made of two texts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_are_prefix_and_topic() {
        assert_eq!(FullName::new("plant7.", "telemetry.raw").unwrap().as_str(), "plant7.telemetry.raw");
        assert_eq!(FullName::new("", "audit").unwrap().as_str(), "audit");
        assert!(FullName::new(&"p".repeat(240), "telemetry.raw").is_none());
    }

    // STR-30
    #[test]
    fn the_protocol_follows_from_what_is_asked_for() {
        let sasl = Sasl::Password {
            mechanism: "SCRAM-SHA-256",
            username: "gw".to_owned(),
            password: Password::new("hunter2"),
        };
        for (tls, sasl, protocol) in [
            (None, None, None),
            (Some(Tls::default()), None, Some("ssl")),
            (None, Some(sasl.clone()), Some("sasl_plaintext")),
            (Some(Tls::default()), Some(sasl.clone()), Some("sasl_ssl")),
        ] {
            let mut config = ClientConfig::new();
            Access { tls, sasl, ..Access::default() }.apply(&mut config);
            assert_eq!(config.get("security.protocol"), protocol);
        }
        assert!(!format!("{sasl:?}").contains("hunter2"), "G-10");
    }

    // STR-30
    #[test]
    fn the_library_was_built_with_all_that_a_cluster_may_ask_for() {
        let sasl = Sasl::Token {
            token_url: "https://idp.plant/token".to_owned(),
            client_id: "gw".to_owned(),
            client_secret: Password::new("hunter2"),
            scope: Some("kafka".to_owned()),
        };
        let access = Access { tls: Some(Tls::default()), sasl: Some(sasl), ..Access::default() };
        assert_eq!(access.missing(), None);
        let mut config = ClientConfig::new();
        access.apply(&mut config);
        config.create_native_config().expect("every setting is known");
        let sasl = Sasl::Password {
            mechanism: "SCRAM-SHA-512",
            username: "gw".to_owned(),
            password: Password::new("hunter2"),
        };
        assert_eq!(Access { sasl: Some(sasl), ..access }.missing(), None);
    }

    // STR-30
    #[test]
    fn what_the_library_cannot_do_is_named() {
        let access = |tls: Option<Tls>, mechanism| {
            let password = Password::new("hunter2");
            let sasl = Some(Sasl::Password { mechanism, username: "gw".to_owned(), password });
            Access { tls, sasl, ..Access::default() }
        };
        let plain = "gzip,snappy,sasl,sasl_plain,zstd";
        assert_eq!(Access::default().missing_of(""), None);
        assert_eq!(Access::default().missing(), None);
        assert_eq!(access(None, "PLAIN").missing_of(plain), None);
        assert_eq!(access(None, "SCRAM-SHA-256").missing_of(plain), Some("SASL SCRAM"));
        assert_eq!(access(Some(Tls::default()), "PLAIN").missing_of(plain), Some("TLS"));
        assert_eq!(access(Some(Tls::default()), "SCRAM-SHA-512").missing_of("ssl, sasl_scram"), None);
    }
}
