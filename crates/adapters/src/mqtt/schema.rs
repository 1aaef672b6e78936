//! The settings as forms and manuals see them: a JSON Schema made from these types.
//!
//! The types only describe; [`super::config`] and [`super::mapping`] read the settings, so that they can report every
//! problem at once. A test in [`crate::catalog`] keeps both from drifting apart.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// The schema of all settings.
pub fn schema() -> Value {
    schemars::schema_for!(MqttSettings).to_value()
}

/// Settings of an MQTT adapter: either `subscriptions` or `sparkplug`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MqttSettings {
    /// Name of this adapter.
    pub adapter_id: String,
    /// `mqtt`.
    pub adapter_type: String,
    /// `mqtts://host:8883`, or `mqtt://host:1883` together with `allow_insecure`.
    pub url: String,
    /// Send everything readable, also a password, over a network that is trusted.
    #[schemars(extend("default" = false))]
    pub allow_insecure: Option<bool>,
    /// Certificates, for `mqtts`.
    pub tls: Option<TlsSettings>,
    /// Protocol version; `auto` is 5, and 3.1.1 where the broker refuses it.
    pub version: Option<VersionName>,
    /// Name of the session at the broker. Made of the names of gateway and adapter when absent; two clients with one name
    /// take the connection away from each other.
    #[schemars(length(min = 1, max = 256))]
    pub client_id: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<SecretSettings>,
    /// How long connecting may take, in milliseconds.
    #[schemars(range(min = 100, max = 60_000), extend("default" = 5000))]
    pub connect_timeout_ms: Option<u64>,
    /// Longest silence before the broker is asked whether it is there, in seconds.
    #[schemars(range(min = 5, max = 3600), extend("default" = 30))]
    pub keep_alive_s: Option<u16>,
    /// How long the broker keeps messages for us while we are away, in seconds (version 5).
    #[schemars(range(min = 60, max = 31_536_000), extend("default" = 604_800))]
    pub session_expiry_s: Option<u32>,
    /// Messages received and not yet durable; then the broker waits.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    pub receive_maximum: Option<u16>,
    /// Largest message, in bytes; a larger one is passed over and counted.
    #[schemars(range(min = 1024, max = 16_777_216), extend("default" = 1_048_576))]
    pub max_packet_bytes: Option<u32>,
    /// Topic for `online` and, as last will, `offline`, both retained. Nothing is published when absent.
    pub status_topic: Option<String>,
    /// The thing in the plant, where no subscription and no topic names one.
    pub asset_id: Option<String>,
    /// ISA-95 path of the assets, where the topic does not say it: enterprise/site/area/line/cell.
    pub asset_path: Option<String>,
    /// Filters, and what their messages are.
    pub subscriptions: Option<Vec<SubscriptionSettings>>,
    /// Sparkplug B, instead of subscriptions.
    pub sparkplug: Option<SparkplugSettings>,
    /// Address of the gateway's stream; filled in by the gateway.
    pub kafka_bootstrap: Option<String>,
    /// Address of the schema registry; filled in by the gateway.
    pub schema_registry: Option<String>,
    /// Topic for the readings.
    #[schemars(extend("default" = stream::Topic::TelemetryRaw.name()))]
    pub topic: Option<String>,
    /// Revision of the configuration this is part of; filled in by the gateway.
    pub config_revision: Option<String>,
}

/// Certificates; the files are read anew at each connect. Certificate and host name of the broker are always checked.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificate authorities (PEM); those of the system when absent.
    pub ca_file: Option<String>,
    /// Our own certificate with its chain (PEM).
    pub cert_file: Option<String>,
    /// The private key to it (PEM).
    pub key_file: Option<String>,
    /// Name the broker's certificate must have, where it differs from the host.
    pub server_name: Option<String>,
    /// Protocol names offered, for brokers behind a shared port.
    pub alpn: Option<Vec<String>>,
}

/// A reference to a secret.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SecretSettings {
    /// Name of the secret.
    pub secret: String,
}

/// A filter, and what its messages are.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SubscriptionSettings {
    /// + stands for one level, # for everything below and must come last. Example: plant/+/telemetry/#.
    pub filter: String,
    /// 0 may lose messages, 1 may repeat them, 2 is exact but slower. 1 suits most plants.
    #[schemars(range(min = 0, max = 2), extend("default" = 1))]
    pub qos: Option<u8>,
    /// What to do with messages the broker keeps for whoever subscribes.
    pub retained: Option<RetainedName>,
    /// What the levels of the topic say: `plant/{area}/{asset}/{param}`; `{}` is any level, `{asset#}` the rest. Known
    /// names are enterprise, site, area, line, cell, asset, param.
    pub topic: Option<String>,
    /// The thing in the plant, where the topic does not name it.
    pub asset_id: Option<String>,
    /// Globs of assets that are taken; all when absent.
    pub allow: Option<Vec<String>>,
    /// Globs of assets that are not.
    pub deny: Option<Vec<String>>,
    /// How a payload is read.
    pub payload: Option<PayloadName>,
    /// The payload is packed with gzip.
    #[schemars(extend("default" = false))]
    pub gzip: Option<bool>,
    /// Character between the values of a table.
    #[schemars(length(min = 1, max = 1), extend("default" = ","))]
    pub delimiter: Option<String>,
    /// The first line of a table holds the names of its columns.
    #[schemars(extend("default" = true))]
    pub header: Option<bool>,
    /// Stamp of the whole payload. Without one the moment of arrival counts.
    pub time: Option<StampSettings>,
    /// From places in the payload to points. For a plain payload whose topic names `{param}` there need be none.
    pub fields: Option<Vec<FieldSettings>>,
}

/// A stamp in the payload; its format is never guessed.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct StampSettings {
    /// `/ts` or `$.ts`; for a table the column as `/name`.
    pub path: Option<String>,
    /// How it is written.
    pub format: FormatName,
    /// For format pattern: `%Y-%m-%d %H:%M:%S`.
    pub pattern: Option<String>,
    /// IANA zone of a stamp that does not say its own: Europe/Berlin.
    pub zone: Option<String>,
}

/// From a place in the payload to a point.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct FieldSettings {
    /// JSON: `/a/b/0` or `$.a.b[0]`; with one `*` each element of a list is a point of its own.
    pub path: Option<String>,
    /// Table: name of the column, or its number from 0.
    pub column: Option<Value>,
    /// Bytes: place of the first one, from 0.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub at: Option<u32>,
    /// Bytes: their type.
    pub data: Option<DataName>,
    /// Bytes: which end comes first.
    pub endian: Option<EndianName>,
    /// Bytes: one bit of them, 0 is the least significant.
    #[schemars(range(min = 0, max = 63))]
    pub bit: Option<u8>,
    /// Name of the measured quantity; `{param}` stands for the level of the topic.
    pub parameter: Option<String>,
    /// Where the name stands in an element of a list; counted when absent.
    pub name: Option<String>,
    /// Type of the values.
    #[schemars(rename = "type")]
    pub type_name: Option<TypeName>,
    /// Engineering unit.
    #[schemars(length(max = 32))]
    pub unit: Option<String>,
    /// Where the payload says the unit.
    pub unit_path: Option<String>,
    /// Where the payload says what the value is worth: good, bad, a number of OPC, or a truth.
    pub quality_path: Option<String>,
    /// Value = raw x scale + offset. Example: raw 853, scale 0.1 gives 85.3.
    pub scale: Option<f64>,
    /// Added after the factor.
    pub offset: Option<f64>,
    /// A text may be a number or a truth.
    #[schemars(extend("default" = false))]
    pub coerce: Option<bool>,
    /// Numbers in texts have a decimal comma.
    #[schemars(extend("default" = false))]
    pub decimal_comma: Option<bool>,
    /// Where the number stands in a text, as a regular expression; its first group counts.
    pub pattern: Option<String>,
    /// Texts of an enumeration, by value.
    pub states: Option<BTreeMap<String, String>>,
    /// Words that mean true; true, on, yes, 1 when absent.
    pub true_words: Option<Vec<String>>,
    /// Words that mean false; false, off, no, 0 when absent.
    pub false_words: Option<Vec<String>>,
    /// Stamp of this value, where it has its own.
    pub time: Option<StampSettings>,
    /// Telemetry, event or alarm.
    pub class: Option<ClassName>,
}

/// Sparkplug B as a host that only listens.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SparkplugSettings {
    /// Groups to listen to; + alone means all.
    pub groups: Vec<String>,
    /// Globs of edge nodes; all when absent.
    pub edge_nodes: Option<Vec<String>>,
    /// Ask an edge node for its births when something was missed; the only thing that is ever published.
    #[schemars(extend("default" = true))]
    pub rebirth: Option<bool>,
    /// How long a message may be overtaken by later ones, in milliseconds.
    #[schemars(range(min = 0, max = 60_000), extend("default" = 5000))]
    pub reorder_ms: Option<u64>,
}

/// Protocol versions.
#[derive(Debug, JsonSchema)]
pub enum VersionName {
    #[schemars(rename = "auto")]
    Auto,
    #[schemars(rename = "5")]
    V5,
    #[schemars(rename = "3.1.1")]
    V311,
}

/// What to do with kept messages.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum RetainedName {
    /// The state at the start of listening (default).
    Initial,
    /// Like any other message.
    Use,
    /// Not at all.
    Ignore,
}

/// Payloads.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum PayloadName {
    Json,
    Number,
    Boolean,
    Text,
    Csv,
    Binary,
}

/// Formats of a stamp.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum FormatName {
    EpochS,
    EpochMs,
    EpochUs,
    EpochNs,
    Rfc3339,
    Pattern,
}

/// Types of values.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum TypeName {
    Float,
    Int,
    Bool,
    String,
}

/// Types of bytes.
#[derive(Debug, JsonSchema)]
pub struct DataName(#[schemars(extend("enum" = super::binary::TYPES))] pub String);

/// Ends.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum EndianName {
    Big,
    Little,
}

/// Classes.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ClassName {
    Telemetry,
    Event,
    Alarm,
}
