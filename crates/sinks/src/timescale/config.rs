//! Settings of the `timescale` sink.

use std::path::PathBuf;
use std::time::Duration;

use config::{Kind, Object, Problem, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stream::Topic;
use tokio_postgres::config::Host;

use crate::common::{Common, SecretReference, limit, secret};
use crate::host::BatchLimits;

pub const SPEC: Spec = Spec {
    kind: Kind::Sink,
    type_name: "timescale",
    summary: "Writes readings, windows and events into PostgreSQL or TimescaleDB, exactly once.",
    schema: || schemars::schema_for!(TimescaleSettings).to_value(),
    validate: |value, pointer| plan(value, pointer).err().unwrap_or_default(),
    points: |_| None,
    table: None,
    claim: |_| None,
};

/// Topics this sink has tables for; all of them by default.
pub const TOPICS: [Topic; 5] =
    [Topic::TelemetryClean, Topic::Telemetry1s, Topic::Telemetry1min, Topic::Telemetry1hour, Topic::EventsClean];

const ROWS_DEFAULT: usize = 20_000;
const BYTES_DEFAULT: usize = 8 * 1024 * 1024;
const WAIT_MS_DEFAULT: u64 = 50;
/// Identifiers of PostgreSQL are cut behind this.
const IDENTIFIER_LENGTH_MAX: usize = 63;

/// Settings as written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimescaleSettings {
    /// Name of this sink on the gateway.
    pub sink_id: String,
    /// `timescale`.
    pub sink_type: String,
    /// `postgres://user@host:port/database`, without the password. `?sslmode=` may be `disable`, `require`, `verify-ca`
    /// or `verify-full`; everything but `disable` checks the certificate and the host name.
    pub url: String,
    /// The password, as a reference to a secret.
    pub password: Option<SecretReference>,
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca_file: Option<String>,
    /// Send readings and password unencrypted to a host that is not this machine.
    #[serde(default)]
    pub allow_plaintext: bool,
    /// Which topics to write; all that have a table by default.
    pub topics: Option<Vec<String>>,
    /// Schema of the tables.
    pub schema: Option<String>,
    /// Most rows in one transaction.
    #[schemars(range(min = 1, max = 200_000))]
    pub batch_max_rows: Option<u32>,
    /// Most bytes in one transaction.
    #[schemars(range(min = 65_536, max = 67_108_864))]
    pub batch_max_bytes: Option<u32>,
    /// How long the first record of a batch waits for company, in milliseconds.
    #[schemars(range(min = 0, max = 5000))]
    pub batch_wait_ms: Option<u32>,
    /// Address of the stream; a gateway fills it in.
    pub kafka_bootstrap: Option<String>,
    /// Address of the schema registry; a gateway fills it in.
    pub schema_registry: Option<String>,
}

/// How bytes travel to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    Plain,
    /// Certificate and host name are checked, against `ca_file` or the system's authorities.
    Tls {
        ca_file: Option<PathBuf>,
    },
}

/// Settings as checked.
#[derive(Debug, Clone)]
pub struct TimescalePlan {
    pub common: Common,
    pub limits: BatchLimits,
    /// Without password.
    pub database: tokio_postgres::Config,
    /// `host:port/database`, for people.
    pub target: String,
    pub transport: Transport,
    /// The operator allowed plain text over the network.
    pub plaintext_over_network: bool,
    /// Name of the secret.
    pub password: Option<String>,
    /// Schema of the tables, a plain lower-case identifier.
    pub schema: String,
}

/// Checks the settings that stand at `pointer`; every problem at once.
pub fn plan(value: &Value, pointer: &str) -> Result<TimescalePlan, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let common = Common::read(&mut object, &TOPICS, &TOPICS);
    let password = secret(&mut object, "password");
    let ca_file = object.text("ca_file").map(PathBuf::from);
    let allow_plaintext = object.boolean("allow_plaintext").unwrap_or(false);
    let address = object.required_text("url").and_then(|url| read_url(&mut object, url, ca_file, allow_plaintext));
    let schema = object.text("schema").unwrap_or("public");
    if !is_identifier(schema) {
        let message = format!("{schema:?} is not a schema name");
        let hint = "a to z, 0 to 9 and _, beginning with a letter or _, at most 63, not beginning with pg_";
        object.problem("schema", "bad_name", message, hint);
    }
    let limits = BatchLimits {
        rows_max: limit(&mut object, "batch_max_rows", 1, 200_000, ROWS_DEFAULT),
        bytes_max: limit(&mut object, "batch_max_bytes", 65_536, 67_108_864, BYTES_DEFAULT),
        wait: Duration::from_millis(limit(&mut object, "batch_wait_ms", 0, 5000, WAIT_MS_DEFAULT)),
    };
    let schema = schema.to_owned();
    let problems = object.finish();
    match address {
        Some(address) if problems.is_empty() => Ok(TimescalePlan {
            common,
            limits,
            database: address.database,
            target: address.target,
            transport: address.transport,
            plaintext_over_network: address.plaintext_over_network,
            password,
            schema,
        }),
        _ => Err(problems),
    }
}

struct Address {
    database: tokio_postgres::Config,
    target: String,
    transport: Transport,
    plaintext_over_network: bool,
}

fn read_url(object: &mut Object<'_>, url: &str, ca_file: Option<PathBuf>, allow_plaintext: bool) -> Option<Address> {
    let (url, sslmode) = take_sslmode(url);
    let example = "for example postgres://historian@db.plant.local:5432/plant";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        object.problem("url", "bad_url", "must begin with postgres://", example);
        return None;
    }
    let database: tokio_postgres::Config = match url.parse() {
        Ok(database) => database,
        Err(_) => {
            // the parser's own message may quote what stands where a password would
            object.problem("url", "bad_url", "is not a PostgreSQL URL", example);
            return None;
        }
    };
    if database.get_password().is_some() {
        let hint = "take it out and set password: {\"secret\": \"some-name\"}";
        object.problem("url", "secret_in_clear", "must not hold the password", hint);
        return None;
    }
    let (Some(_), Some(dbname), [host]) = (database.get_user(), database.get_dbname(), database.get_hosts()) else {
        object.problem("url", "bad_url", "must name a user, one host and a database", example);
        return None;
    };
    let (host, local) = match host {
        Host::Tcp(name) => (name.clone(), is_loopback(name)),
        Host::Unix(path) => (path.display().to_string(), true),
    };
    let port = database.get_ports().first().copied().unwrap_or(5432);
    let target = format!("postgres://{host}:{port}/{dbname}");
    let transport = match sslmode.as_deref() {
        None if local && ca_file.is_none() => Transport::Plain,
        None if allow_plaintext => Transport::Plain,
        Some("disable") if local || allow_plaintext => Transport::Plain,
        None | Some("require" | "verify-ca" | "verify-full") => Transport::Tls { ca_file },
        Some("disable") => {
            let hint = "take sslmode out, or set allow_plaintext: true to send readings and password unencrypted";
            object.problem("url", "plaintext", format!("sslmode=disable to {host} is not allowed"), hint);
            return None;
        }
        Some(other) => {
            let message = format!("sslmode={other} may fall back to plain text or is unknown");
            object.problem("url", "bad_sslmode", message, "use disable, require, verify-ca or verify-full");
            return None;
        }
    };
    let plaintext_over_network = transport == Transport::Plain && !local;
    Some(Address { database, target, transport, plaintext_over_network })
}

/// Splits `sslmode` off: its words mean more here than in the driver.
fn take_sslmode(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut mode = None;
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.strip_prefix("sslmode=") {
            Some(value) => {
                mode = Some(value.to_owned());
                false
            }
            None => true,
        })
        .collect();
    if kept.is_empty() { (base.to_owned(), mode) } else { (format!("{base}?{}", kept.join("&")), mode) }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let goes_on = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    begins && goes_on && text.len() <= IDENTIFIER_LENGTH_MAX && !text.starts_with("pg_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(url: &str) -> Value {
        json!({"sink_id": "db", "sink_type": "timescale", "url": url})
    }

    fn codes(value: &Value) -> Vec<&'static str> {
        plan(value, "/sinks/0").err().unwrap_or_default().iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn plain_text_only_on_this_machine_or_when_allowed() {
        for url in ["postgres://u@localhost/d", "postgres://u@127.0.0.1:5433/d", "postgres://u@%2Ftmp%2Fx/d"] {
            assert_eq!(plan(&settings(url), "").unwrap().transport, Transport::Plain, "{url}");
        }
        let far = plan(&settings("postgres://u@db.plant/d"), "").unwrap();
        assert_eq!(far.transport, Transport::Tls { ca_file: None });
        assert_eq!(codes(&settings("postgres://u@db.plant/d?sslmode=disable")), ["plaintext"]);
        assert_eq!(codes(&settings("postgres://u@db.plant/d?sslmode=prefer")), ["bad_sslmode"]);
        let mut allowed = settings("postgres://u@db.plant/d?sslmode=disable&application_name=x");
        allowed["allow_plaintext"] = json!(true);
        let allowed = plan(&allowed, "").unwrap();
        assert!(allowed.transport == Transport::Plain && allowed.plaintext_over_network);
        let near = plan(&settings("postgres://u@127.0.0.1/d?sslmode=verify-full"), "").unwrap();
        assert_eq!(near.transport, Transport::Tls { ca_file: None });
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        // G-10
        let problems = plan(&settings("postgres://u:hunter2@localhost/d"), "").unwrap_err();
        assert_eq!(problems[0].code, "secret_in_clear");
        assert!(!problems.iter().any(|problem| problem.to_string().contains("hunter2")));
    }

    #[test]
    fn every_problem_is_reported() {
        // G-06
        let mut value = settings("mysql://x");
        value["topics"] = json!(["telemetry.clean", "telemetry.raw", "telemetry.clean"]);
        value["schema"] = json!("Robert'); DROP");
        value["batch_max_rows"] = json!(0);
        value["batchwait"] = json!(1);
        let mut found = codes(&value);
        found.sort_unstable();
        assert_eq!(found, ["bad_name", "bad_url", "duplicate", "out_of_range", "unknown_key", "unknown_topic"]);
    }

    #[test]
    fn the_example_of_the_document_is_complete() {
        let value = json!({
            "sink_id": "historian", "sink_type": "timescale", "url": "postgres://historian@db.plant:5432/plant?sslmode=verify-full",
            "password": {"secret": "historian"}, "ca_file": "/etc/plant/ca.pem", "topics": ["telemetry.clean", "events.clean"],
            "schema": "plant", "batch_max_rows": 50000, "batch_max_bytes": 16_777_216, "batch_wait_ms": 20,
            "kafka_bootstrap": "127.0.0.1:9092", "schema_registry": "http://127.0.0.1:8081",
        });
        let plan = plan(&value, "").unwrap();
        assert_eq!(plan.target, "postgres://db.plant:5432/plant");
        assert_eq!(plan.password.as_deref(), Some("historian"));
        serde_json::from_value::<TimescaleSettings>(value).unwrap();
    }
}
