//! Settings of the `kafka` sink.

use std::collections::BTreeMap;
use std::time::Duration;

use config::external::{Mechanism, Sasl};
use config::{External, Kind, Object, Problem, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stream::Topic;
use stream::access::{DescribedRegistry, DescribedSasl, DescribedTls, Description};

use crate::common::{Common, SecretReference, limit};
use crate::host::BatchLimits;

/// The type as the catalog lists it.
pub const SPEC: Spec = Spec {
    kind: Kind::Sink,
    type_name: "kafka",
    summary: "Replicates topics to another Kafka-compatible cluster and its schema registry, exactly once.",
    schema: || schemars::schema_for!(KafkaSettings).to_value(),
    validate: |value, pointer| plan(value, pointer).err().unwrap_or_default(),
    points: |_| None,
    table: None,
    claim: |_| None,
};

/// Topics this sink replicates; the first six by default.
pub const TOPICS: [Topic; 14] = [
    Topic::TelemetryClean,
    Topic::Telemetry1s,
    Topic::Telemetry1min,
    Topic::Telemetry1hour,
    Topic::EventsClean,
    Topic::AlarmsClean,
    Topic::TelemetryRaw,
    Topic::EventsRaw,
    Topic::AlarmsRaw,
    Topic::DlqTelemetry,
    Topic::DlqEvents,
    Topic::DlqAlarms,
    Topic::DlqAlerts,
    Topic::Audit,
];
const TOPICS_DEFAULT: usize = 6;

const ROWS_DEFAULT: usize = 10_000;
const BYTES_DEFAULT: usize = 4 * 1024 * 1024;
const WAIT_MS_DEFAULT: u64 = 100;
/// Longest name of a topic in Kafka.
const TOPIC_BYTES_MAX: usize = 249;
const COMPRESSIONS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Settings as written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Name of this sink on the gateway.
    pub sink_id: String,
    /// `kafka`.
    pub sink_type: String,
    /// Brokers of the target to begin with, `host:port`, separated by commas.
    pub bootstrap: String,
    /// The target's schema registry, for example `https://registry.example.com:8081`.
    pub registry_url: String,
    /// How the target's registry is entered, when it asks for more.
    pub registry: Option<RegistrySettings>,
    /// TLS to the brokers; `{}` trusts the authorities that the system trusts.
    pub tls: Option<TlsSettings>,
    /// How the gateway proves who it is.
    pub sasl: Option<SaslSettings>,
    /// Which topics to replicate; by default `telemetry.clean`, the windows, `events.clean` and `alarms.clean`.
    pub topics: Option<Vec<String>>,
    /// Before the name of every topic at the target, for example `plant7.`; also before the consumer group and the
    /// transactional id.
    pub topic_prefix: Option<String>,
    /// Whole names at the target for some topics, by the name they have here; no prefix is added to them.
    pub topic_names: Option<BTreeMap<String, String>>,
    /// Copies of each topic that is created at the target; the cluster's default when absent.
    #[schemars(range(min = 1, max = 99))]
    pub replication_factor: Option<u32>,
    /// `min.insync.replicas` of each topic that is created at the target; the cluster's default when absent.
    #[schemars(range(min = 1, max = 99))]
    pub min_insync_replicas: Option<u32>,
    /// `zstd` by default.
    pub compression: Option<Compression>,
    /// Most records in one transaction.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_max_records: Option<u32>,
    /// Most bytes in one transaction.
    #[schemars(range(min = 65_536, max = 16_777_216))]
    pub batch_max_bytes: Option<u32>,
    /// How long the first record of a transaction waits for company, in milliseconds.
    #[schemars(range(min = 0, max = 5000))]
    pub batch_wait_ms: Option<u32>,
    /// Address of the stream; a gateway fills it in.
    pub kafka_bootstrap: Option<String>,
    /// Address of the gateway's own schema registry; a gateway fills it in.
    pub schema_registry: Option<String>,
}

/// How records are compressed on their way.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Entering a registry.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// For HTTP basic authentication; needs `https://` in `registry_url`.
    pub username: Option<String>,
    /// The password, as a reference to a secret.
    pub password: Option<SecretReference>,
    /// PEM file with the authority that signed the registry's certificate; those of the system when absent.
    pub ca_file: Option<String>,
}

/// TLS to the brokers. Certificates and host names are always checked.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file with the authority that signed the brokers' certificates; those of the system when absent.
    pub ca_file: Option<String>,
    /// The gateway's own certificate, where the cluster asks for one.
    pub certificate_file: Option<String>,
    /// The key of that certificate.
    pub key_file: Option<String>,
}

/// How the gateway proves who it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslSettings {
    /// `plain` and `oauthbearer` need `tls`.
    pub mechanism: SaslMechanism,
    /// For `plain` and `scram_sha_*`.
    pub username: Option<String>,
    /// For `plain` and `scram_sha_*`, as a reference to a secret.
    pub password: Option<SecretReference>,
    /// For `oauthbearer`: where the OpenID provider gives tokens.
    pub token_url: Option<String>,
    /// For `oauthbearer`.
    pub client_id: Option<String>,
    /// For `oauthbearer`, as a reference to a secret.
    pub client_secret: Option<SecretReference>,
    /// For `oauthbearer`, where the provider asks for it.
    pub scope: Option<String>,
}

/// SASL mechanisms.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
    Oauthbearer,
}

/// Settings as checked.
#[derive(Debug, Clone)]
pub struct KafkaPlan {
    /// What every sink has.
    pub common: Common,
    /// When a transaction is full.
    pub limits: BatchLimits,
    /// Where the target is and how to get in.
    pub cluster: External,
    /// Name at the target of every topic of [`Common::topics`]; no two are the same.
    pub names: BTreeMap<Topic, String>,
    /// In librdkafka's spelling.
    pub compression: &'static str,
}

impl KafkaPlan {
    /// What a client is made with; secrets are still names. Names of topics are whole in [`Self::names`], so the client
    /// adds nothing to them.
    pub fn description(&self) -> Description {
        let cluster = self.cluster.clone();
        let sasl = cluster.sasl.map(|sasl| match sasl {
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
        let login = cluster.registry.login.map(|login| (login.username, login.password.0));
        Description {
            topic_prefix: String::new(),
            replication_factor: cluster.replication_factor,
            min_insync_replicas: cluster.min_insync_replicas,
            tls: cluster.tls.map(|tls| DescribedTls { ca_file: tls.ca_file, certificate: tls.certificate }),
            sasl,
            registry: DescribedRegistry { login, ca_file: cluster.registry.ca_file },
        }
    }
}

/// Checks the settings that stand at `pointer`; every problem at once.
pub fn plan(value: &Value, pointer: &str) -> Result<KafkaPlan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object, &TOPICS, &TOPICS[..TOPICS_DEFAULT]);
    let cluster = External::read(&mut object);
    let names = read_names(&mut object, &common.topics, &cluster.topic_prefix);
    let compression = object.word("compression", &COMPRESSIONS).unwrap_or("zstd");
    let limits = BatchLimits {
        rows_max: limit(&mut object, "batch_max_records", 1, 100_000, ROWS_DEFAULT),
        bytes_max: limit(&mut object, "batch_max_bytes", 65_536, 16_777_216, BYTES_DEFAULT),
        wait: Duration::from_millis(limit(&mut object, "batch_wait_ms", 0, 5000, WAIT_MS_DEFAULT)),
    };
    let onto_itself = common.kafka_bootstrap.as_ref() == Some(&cluster.bootstrap)
        && names.iter().any(|(topic, name)| topic.name() == name);
    if onto_itself {
        let hint = "give the topics other names there with topic_prefix";
        object.problem(
            "bootstrap",
            "same_stream",
            "is the stream of this gateway, its topics would feed themselves",
            hint,
        );
    }
    let problems = object.finish();
    if problems.is_empty() { Ok(KafkaPlan { common, limits, cluster, names, compression }) } else { Err(problems) }
}

/// The names at the target. Two topics under one name would share a subject and positions, so that is a problem.
fn read_names(object: &mut Object<'_>, topics: &[Topic], prefix: &str) -> BTreeMap<Topic, String> {
    let mut names: BTreeMap<Topic, String> =
        topics.iter().map(|topic| (*topic, format!("{prefix}{}", topic.name()))).collect();
    if let Some(wanted) = object.object("topic_names") {
        let known: Vec<&str> = topics.iter().map(|topic| topic.name()).collect();
        for (key, name) in wanted {
            let pointer = format!("{}/{}", object.at("topic_names"), config::read::token(key));
            let problem = |code, message: String, hint: String| Problem::new(pointer.clone(), code, message, hint);
            let Some(topic) = Topic::by_name(key).filter(|topic| names.contains_key(topic)) else {
                let message = format!("{key:?} is not a topic that this sink replicates");
                object.extend([problem("unknown_topic", message, config::read::suggest(key, &known))]);
                continue;
            };
            match name.as_str().filter(|name| is_topic_name(name)) {
                Some(name) => {
                    names.insert(topic, name.to_owned());
                }
                None => {
                    let hint = format!("letters, digits, . _ and -, at most {TOPIC_BYTES_MAX}");
                    object.extend([problem("bad_name", format!("{name} is not the name of a topic"), hint)]);
                }
            }
        }
    }
    let mut seen: BTreeMap<&str, Topic> = BTreeMap::new();
    let mut twice = Vec::new();
    for (topic, name) in &names {
        if let Some(other) = seen.insert(name, *topic) {
            twice.push(format!("{} and {} would both be {name:?} there", other.name(), topic.name()));
        }
    }
    for message in twice {
        object.problem("topic_names", "duplicate", message, "each topic needs a name of its own");
    }
    names
}

fn is_topic_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=TOPIC_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(more: &Value) -> Value {
        let mut settings = json!({
            "sink_id": "hq", "sink_type": "kafka", "bootstrap": "k1.hq:9093", "registry_url": "https://registry.hq:8081",
        });
        let more = more.as_object().cloned().unwrap_or_default();
        settings.as_object_mut().unwrap().extend(more);
        settings
    }

    fn problems(more: &Value) -> Vec<String> {
        plan(&settings(more), "").err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_have_the_prefix_or_are_whole() {
        let plan = plan(
            &settings(&json!({
                "topics": ["telemetry.clean", "audit"], "topic_prefix": "plant7.",
                "topic_names": { "audit": "plant7-trail" }, "compression": "lz4",
            })),
            "",
        )
        .unwrap();
        let names: Vec<&str> = plan.names.values().map(String::as_str).collect();
        assert_eq!((names, plan.compression), (vec!["plant7.telemetry.clean", "plant7-trail"], "lz4"));
        assert_eq!(plan.description().topic_prefix, "");
    }

    #[test]
    fn what_cannot_be_written_is_named_with_its_place() {
        let found = problems(&json!({
            "topics": ["telemetry.clean", "telemetry.1s"],
            "topic_names": { "telemetry.1s": "telemetry.clean", "telemetry.clear": "x", "telemetry.clean": "telemetry.clean" },
            "compression": "rar",
        }));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|p| p.starts_with("/topic_names/telemetry.clear: ") && p.contains("telemetry.clean")));
        assert!(found.iter().any(|p| p.starts_with("/topic_names: ") && p.contains("would both be")));
        let found = problems(&json!({ "topic_names": { "telemetry.clean": "a b" }, "topics": ["control.commands"] }));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    // STR-30, G-10: what holds for a stream of somebody else holds here
    #[test]
    fn what_would_travel_in_clear_text_is_refused() {
        let password = json!({ "secret": "hq" });
        let plain = json!({ "mechanism": "plain", "username": "gw", "password": password });
        assert_eq!(problems(&json!({ "sasl": plain, "tls": {} })), Vec::<String>::new());
        assert!(problems(&json!({ "sasl": plain }))[0].starts_with("/sasl/mechanism: would send"));
        let clear = json!({ "mechanism": "scram_sha_512", "username": "gw", "password": "hunter2" });
        let found = problems(&json!({ "sasl": clear }));
        assert!(
            found[0].starts_with("/sasl/password: must be a reference") && !found[0].contains("hunter2"),
            "{found:?}"
        );
    }

    #[test]
    fn a_gateway_does_not_feed_its_own_topics() {
        let own = json!({ "kafka_bootstrap": "k1.hq:9093" });
        assert!(problems(&own)[0].starts_with("/bootstrap: is the stream of this gateway"));
        let renamed = json!({ "kafka_bootstrap": "k1.hq:9093", "topic_prefix": "copy." });
        assert_eq!(problems(&renamed), Vec::<String>::new());
    }
}
