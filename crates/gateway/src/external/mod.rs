//! The stream is somebody else's: what children are told to get in, and whether it keeps what we promise (STR-30).
//!
//! The check asks once the topics are there, then every ten minutes, since others administer that cluster. What it finds
//! is judged in `judge.rs`, a pure function, and shown on the status page.

mod judge;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::External;
use config::external::{Mechanism, Sasl};
use daemon::report;
use kafka::client::Settings;
use kafka::client::inspect::inspect;
use model::Health;
use stream::access::{DescribedRegistry, DescribedSasl, DescribedTls, Description};
use stream::{StateTopic, Topic};
use tokio_util::sync::CancellationToken;

pub use judge::{Remark, Verdict, judge};

/// How often the cluster is looked at.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// How soon it is looked at again when it did not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What children are told.
pub fn describe(external: &External) -> Description {
    let sasl = external.sasl.clone().map(|sasl| match sasl {
        Sasl::Password { mechanism, login } => {
            let (username, password) = (login.username, login.password.0);
            match mechanism {
                Mechanism::Plain => DescribedSasl::Plain { username, password },
                Mechanism::ScramSha256 => DescribedSasl::ScramSha256 { username, password },
                Mechanism::ScramSha512 => DescribedSasl::ScramSha512 { username, password },
            }
        }
        Sasl::Token { token_url, client_id, client_secret, scope } => {
            DescribedSasl::Token { token_url, client_id, client_secret: client_secret.0, scope }
        }
    });
    let tls = external.tls.clone();
    Description {
        topic_prefix: external.topic_prefix.clone(),
        replication_factor: external.replication_factor,
        min_insync_replicas: external.min_insync_replicas,
        tls: tls.map(|tls| DescribedTls { ca_file: tls.ca_file, certificate: tls.certificate }),
        sasl,
        registry: DescribedRegistry {
            login: external.registry.login.clone().map(|login| (login.username, login.password.0)),
            ca_file: external.registry.ca_file.clone(),
        },
    }
}

fn all_names() -> Vec<&'static str> {
    Topic::ALL.iter().map(|topic| topic.name()).chain(StateTopic::ALL.iter().map(|topic| topic.name())).collect()
}

/// True when nothing has to be created.
pub async fn has_all_topics(settings: &Settings) -> bool {
    let names = all_names();
    inspect(settings, &names).await.is_ok_and(|facts| facts.topics.len() == names.len())
}

/// The newest verdict; empty in embedded mode.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<Option<Verdict>>>);

impl Watch {
    pub fn verdict(&self) -> Option<Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much the cluster takes from the gateway's health.
    pub fn health(&self) -> Health {
        self.verdict().map_or(Health::Healthy, |verdict| verdict.health())
    }

    /// What keeps the stream from being used at all, until the cluster is looked at.
    pub fn set_trouble(&self, text: String) {
        let remarks = vec![Remark { health: Health::Unhealthy, text }];
        self.set(Verdict { remarks, unknown: Vec::new() });
    }

    fn set(&self, verdict: Verdict) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    /// Looks at the cluster until `stop`; logs what is new.
    pub async fn run(self, settings: Settings, external: External, stop: CancellationToken) {
        let names = all_names();
        let mut told = Vec::new();
        loop {
            let pause = match inspect(&settings, &names).await {
                Ok(facts) => {
                    let verdict = judge(&facts, &external);
                    let remarks = verdict.texts();
                    for remark in remarks.iter().filter(|remark| !told.contains(*remark)) {
                        tracing::warn!(bootstrap = external.bootstrap, "external stream: {remark}");
                    }
                    told = remarks;
                    self.set(verdict);
                    LOOK_EVERY
                }
                Err(error) => {
                    tracing::debug!(error = %report(&error), "the external stream cannot be looked at");
                    LOOK_AGAIN
                }
            };
            tokio::select! { // cancel-safe: both arms only wait
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
