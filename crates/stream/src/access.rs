//! How a stream is reached beyond its address, as the runtime tells its children: everything but the secrets, which are
//! named here and travel with the launch line.
//!
//! The embedded stream needs nothing of this: no text means [`Connection::default`].

use std::path::PathBuf;
use std::sync::Arc;

use kafka::client::access::{Password, Sasl, Tls};
use kafka::client::{Access, Settings};
use serde::{Deserialize, Serialize};

use crate::Schemas;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the description of the stream cannot be read")]
    Syntax(#[source] serde_json::Error),
    #[error("the secret {0:?} was not handed to this process; store it with `streamforge ctl secret set {0}`")]
    NoSecret(String),
    #[error(
        "stream asks for {0}, which the Kafka client in this program was built without; \
         reach the cluster over a listener that does not need it"
    )]
    NotBuilt(&'static str),
    #[error("the certificates in {path} cannot be read")]
    Certificates { path: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// The description. Secrets are names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Description {
    pub topic_prefix: String,
    pub replication_factor: Option<i32>,
    pub min_insync_replicas: Option<i32>,
    pub tls: Option<DescribedTls>,
    pub sasl: Option<DescribedSasl>,
    pub registry: DescribedRegistry,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DescribedTls {
    pub ca_file: Option<PathBuf>,
    pub certificate: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DescribedSasl {
    Plain { username: String, password: String },
    ScramSha256 { username: String, password: String },
    ScramSha512 { username: String, password: String },
    Token { token_url: String, client_id: String, client_secret: String, scope: Option<String> },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DescribedRegistry {
    /// User name and the name of the password.
    pub login: Option<(String, String)>,
    pub ca_file: Option<PathBuf>,
}

impl Description {
    /// As it travels.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers are JSON")
    }

    /// Puts the secrets in their places.
    pub fn resolve(self, secret: impl Fn(&str) -> Option<String>) -> Result<Connection, Error> {
        let find = |name: String| secret(&name).map(Password::new).ok_or(Error::NoSecret(name));
        let password =
            |mechanism, username, name| find(name).map(|password| Sasl::Password { mechanism, username, password });
        let sasl = match self.sasl {
            None => None,
            Some(DescribedSasl::Plain { username, password: name }) => Some(password("PLAIN", username, name)?),
            Some(DescribedSasl::ScramSha256 { username, password: name }) => {
                Some(password("SCRAM-SHA-256", username, name)?)
            }
            Some(DescribedSasl::ScramSha512 { username, password: name }) => {
                Some(password("SCRAM-SHA-512", username, name)?)
            }
            Some(DescribedSasl::Token { token_url, client_id, client_secret, scope }) => {
                Some(Sasl::Token { token_url, client_id, client_secret: find(client_secret)?, scope })
            }
        };
        let registry = RegistryAccess {
            subject_prefix: self.topic_prefix.clone(),
            login: match self.registry.login {
                None => None,
                Some((username, name)) => Some((username, secret(&name).ok_or(Error::NoSecret(name))?)),
            },
            ca_file: self.registry.ca_file,
        };
        let access = Access {
            prefix: self.topic_prefix,
            replication_factor: self.replication_factor,
            min_insync_replicas: self.min_insync_replicas,
            tls: self.tls.map(|tls| Tls { ca_file: tls.ca_file, certificate: tls.certificate }),
            sasl,
        };
        Ok(Connection { access: Arc::new(access), registry })
    }
}

/// How the registry is reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct RegistryAccess {
    /// Subjects follow the names of the topics.
    pub(crate) subject_prefix: String,
    pub(crate) login: Option<(String, String)>,
    pub(crate) ca_file: Option<PathBuf>,
}

impl std::fmt::Debug for RegistryAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("RegistryAccess").field("user", &user).field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

/// What clients of one stream are made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    access: Arc<Access>,
    registry: RegistryAccess,
}

impl Connection {
    /// From the text a process was started with; no text is the embedded stream.
    pub fn from_launch(text: Option<&str>, secret: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        match text {
            None => Ok(Self::default()),
            Some(text) => {
                let connection = serde_json::from_str::<Description>(text).map_err(Error::Syntax)?.resolve(secret)?;
                connection.access.missing().map_or(Ok(connection), |missing| Err(Error::NotBuilt(missing)))
            }
        }
    }

    /// Settings for a Kafka client.
    pub fn settings(&self, bootstrap: &str, client_id: &str) -> Settings {
        Settings::new(bootstrap, client_id).with_access(Arc::clone(&self.access))
    }

    /// A client for the registry.
    pub fn schemas(&self, url: &str, cache_dir: Option<PathBuf>) -> Result<Schemas, Error> {
        Schemas::with_access(url, cache_dir, &self.registry)
    }

    pub fn access(&self) -> &Access {
        &self.access
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            topic_prefix: "plant7.".to_owned(),
            replication_factor: Some(3),
            tls: Some(DescribedTls::default()),
            sasl: Some(DescribedSasl::ScramSha512 { username: "gw".to_owned(), password: "kafka".to_owned() }),
            registry: DescribedRegistry { login: Some(("gw".to_owned(), "registry".to_owned())), ca_file: None },
            ..Description::default()
        }
    }

    // STR-30, G-10
    #[test]
    fn a_description_round_trips_and_takes_secrets_at_the_end_of_the_way() {
        let text = description().to_text();
        assert!(!text.contains("hunter2"));
        let described: Description = serde_json::from_str(&text).unwrap();
        let connection = described.resolve(|name| Some(format!("hunter2-{name}"))).unwrap();
        assert_eq!(connection.access().prefix, "plant7.");
        assert!(matches!(&connection.access().sasl, Some(Sasl::Password { mechanism: "SCRAM-SHA-512", password, .. })
            if *password == Password::new("hunter2-kafka")));
        assert!(!format!("{connection:?}").contains("hunter2"));
        let missing = Connection::from_launch(Some(&text), |_| None).unwrap_err();
        assert!(missing.to_string().contains("ctl secret set kafka"), "{missing}");
    }

    #[test]
    fn no_text_is_the_embedded_stream() {
        assert_eq!(Connection::from_launch(None, |_| None).unwrap(), Connection::default());
        assert_eq!(Connection::default().access().replication_factor, Some(1));
    }
}
