//! From the document to child processes: who shall run, with which arguments, environment and secrets.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use config::{Component, Document, StreamMode, secret};
use serde_json::Value;

use crate::identities;

/// What a child is for; decides how much its failure matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The embedded stream; without it nothing is durable.
    Broker,
    Adapter,
    Sink,
    /// Device simulators of the demo plant.
    Simulator,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Adapter => "adapter",
            Self::Sink => "sink",
            Self::Simulator => "simulator",
        }
    }
}

/// One child as it shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildPlan {
    /// Unique; also the component's name in logs and health.
    pub name: String,
    pub role: Role,
    /// For people: `modbus_tcp`, `timescale`.
    pub type_name: String,
    pub arguments: Vec<String>,
    pub environment: BTreeMap<String, String>,
    /// Names of the secrets it needs.
    pub secrets: Vec<String>,
    /// Its name in the embedded stream, when it has one; the password comes from the supervisor.
    pub user: Option<String>,
}

impl ChildPlan {
    /// Equal hashes mean: no need to restart.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.name, &self.arguments, &self.environment, &self.secrets, &self.user).hash(&mut hasher);
        hasher.finish()
    }
}

/// Where a gateway keeps its things.
#[derive(Debug, Clone)]
pub struct Folders {
    pub data: PathBuf,
}

impl Folders {
    pub fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// The broker's segments.
    pub fn stream(&self) -> PathBuf {
        self.data.join("stream")
    }

    /// Addresses of running processes.
    pub fn run(&self) -> PathBuf {
        self.data.join("run")
    }

    /// Cached configuration and schemas.
    pub fn config(&self) -> PathBuf {
        self.data.join("config")
    }

    /// Start counters and other small state.
    pub fn state(&self) -> PathBuf {
        self.data.join("state")
    }

    /// One file per secret, readable by the owner alone.
    pub fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }
}

/// What children are told of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAddresses {
    pub bootstrap: String,
    pub registry_url: String,
    /// What an external stream asks for besides, and the secrets that this names; the embedded one knows each process.
    pub access: Option<(String, Vec<String>)>,
}

/// The embedded broker's plan; none in external mode.
pub fn broker(document: &Document, folders: &Folders) -> Option<ChildPlan> {
    let StreamMode::Embedded { listen, registry_listen } = &document.stream else { return None };
    let arguments = vec![
        "broker".to_owned(),
        "--data-dir".to_owned(),
        folders.stream().display().to_string(),
        "--listen".to_owned(),
        listen.to_string(),
        "--registry-listen".to_owned(),
        registry_listen.to_string(),
        "--authorize".to_owned(),
    ];
    Some(ChildPlan {
        name: "broker".to_owned(),
        role: Role::Broker,
        type_name: "embedded".to_owned(),
        arguments,
        environment: common_environment(document, folders),
        secrets: Vec::new(),
        user: None,
    })
}

/// Adapters and sinks.
pub fn components(document: &Document, folders: &Folders, stream: &StreamAddresses) -> Vec<ChildPlan> {
    document.components.iter().map(|component| plan(component, document, folders, stream)).collect()
}

fn plan(component: &Component, document: &Document, folders: &Folders, stream: &StreamAddresses) -> ChildPlan {
    let (role, variable) = match component.kind {
        config::Kind::Adapter => (Role::Adapter, "ADAPTER_CONFIG"),
        config::Kind::Sink => (Role::Sink, "SINK_CONFIG"),
    };
    let mut settings = component.settings.clone();
    if let Value::Object(map) = &mut settings {
        // on a gateway the stream is the gateway's own, whatever a copied example says
        map.insert("kafka_bootstrap".to_owned(), stream.bootstrap.clone().into());
    }
    let mut environment = common_environment(document, folders);
    environment.insert(variable.to_owned(), settings.to_string());
    environment.insert("SF_SCHEMA_REGISTRY".to_owned(), stream.registry_url.clone());
    if role == Role::Adapter {
        // who stamps is started anew when this changes
        let clock = document.clock;
        environment.insert("SF_CLOCK_ASSUME_SYNCED".to_owned(), clock.assume_synced.to_string());
        environment.insert("SF_CLOCK_BOOT_HOLD_S".to_owned(), clock.boot_hold_s.to_string());
    }
    if matches!(role, Role::Sink | Role::Adapter) {
        environment.insert("SF_STATE_DIR".to_owned(), folders.state().display().to_string());
    }
    let mut secrets = secret::secrets_in(&component.settings);
    let user = if stream.access.is_none() { identities::user_of(role, &component.id) } else { None };
    if let Some((access, named)) = &stream.access {
        environment.insert("SF_STREAM_ACCESS".to_owned(), access.clone());
        secrets.extend(named.iter().cloned());
    } else if let Some(user) = &user {
        environment.insert("SF_STREAM_ACCESS".to_owned(), identities::describe(user).to_text());
    }
    ChildPlan {
        name: component.id.clone(),
        role,
        type_name: component.type_name.clone(),
        arguments: vec![role.as_str().to_owned(), "--id".to_owned(), component.id.clone()],
        environment,
        secrets,
        user,
    }
}

/// What every child is told.
pub fn common_environment(document: &Document, folders: &Folders) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::new();
    environment.insert("SF_GATEWAY_ID".to_owned(), document.gateway_id.clone());
    environment.insert("SF_RUN_DIR".to_owned(), folders.run().display().to_string());
    environment.insert("SF_SCHEMA_CACHE".to_owned(), folders.config().display().to_string());
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Catalog, Kind, Spec};

    fn document(text: &str) -> Document {
        let accept = |kind, type_name| Spec {
            kind,
            type_name,
            summary: "",
            schema: || Value::Null,
            validate: |_, _| Vec::new(),
            points: |_| None,
            table: None,
            claim: |_| None,
        };
        let catalog = Catalog::new([accept(Kind::Adapter, "modbus_tcp"), accept(Kind::Sink, "timescale")]);
        config::parse(text, &catalog).expect("a valid document")
    }

    #[test]
    fn only_what_changed_has_a_new_hash() {
        // G-07
        let folders = Folders::new(Path::new("/data"));
        let stream = StreamAddresses {
            bootstrap: "127.0.0.1:9092".to_owned(),
            registry_url: "http://127.0.0.1:8081".to_owned(),
            access: None,
        };
        let plans = |port| {
            let text = format!(
                "version: 1\ngateway_id: gw\nadapters:\n  - {{adapter_id: a, adapter_type: modbus_tcp, port: {port}}}\n  - {{adapter_id: b, adapter_type: modbus_tcp}}\n"
            );
            components(&document(&text), &folders, &stream)
        };
        let (before, after) = (plans(502), plans(503));
        assert_ne!(before[0].hash(), after[0].hash());
        assert_eq!(before[1].hash(), after[1].hash());
    }

    #[test]
    fn secrets_are_named_not_carried() {
        // G-10
        let text =
            "version: 1\ngateway_id: gw\nsinks:\n  - {sink_id: s, sink_type: timescale, password: {secret: pg}}\n";
        let folders = Folders::new(Path::new("/data"));
        let access = Some(("{}".to_owned(), vec!["kafka".to_owned()]));
        let stream = StreamAddresses { bootstrap: String::new(), registry_url: String::new(), access };
        let plans = components(&document(text), &folders, &stream);
        assert_eq!(plans[0].secrets, ["pg", "kafka"]);
        assert!(plans[0].environment["SINK_CONFIG"].contains("\"secret\":\"pg\""));
        assert_eq!(plans[0].environment["SF_STREAM_ACCESS"], "{}");
    }
}
