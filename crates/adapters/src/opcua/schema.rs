//! The settings as forms and manuals see them: a JSON Schema made from these types.
//!
//! The types only describe; [`super::config`] and [`super::point`] read the settings, so that they can report every problem
//! at once. A test in [`crate::catalog`] keeps both from drifting apart.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

/// The schema of all settings.
pub fn schema() -> Value {
    schemars::schema_for!(OpcUaSettings).to_value()
}

/// Settings of an OPC UA adapter.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct OpcUaSettings {
    /// Name of this adapter.
    pub adapter_id: String,
    /// `opcua`.
    pub adapter_type: String,
    /// `opc.tcp://host:4840/path`.
    pub url: String,
    /// Servers that stand in for the first one, tried in this order when it cannot be reached.
    pub standby_urls: Option<Vec<String>>,
    /// How messages are signed and encrypted. The server must offer exactly this; nothing weaker is taken by itself.
    pub security_policy: Option<PolicyName>,
    /// Whether they are only signed; sign_and_encrypt when absent.
    pub security_mode: Option<ModeName>,
    /// Use no security at all, over a network that is trusted.
    #[schemars(extend("default" = false))]
    pub allow_insecure: Option<bool>,
    /// Use Basic256 or Basic128Rsa15, for a server that knows nothing better.
    #[schemars(extend("default" = false))]
    pub allow_deprecated: Option<bool>,
    /// Who logs in; anonymous when absent.
    pub login: Option<LoginSettings>,
    /// Connect to the address the server says, not to `url`.
    #[schemars(extend("default" = false))]
    pub follow_endpoint_url: Option<bool>,
    /// The server's certificate must be made for the host in `url`.
    #[schemars(extend("default" = true))]
    pub check_host_name: Option<bool>,
    /// Trust every certificate. For a desk, not for a plant.
    #[schemars(extend("default" = false))]
    pub dev_mode: Option<bool>,
    /// How long connecting may take, until subscriptions are there, in milliseconds.
    #[schemars(range(min = 500, max = 120_000), extend("default" = 15_000))]
    pub connect_timeout_ms: Option<u64>,
    /// How long the server keeps the session without a word of ours, in milliseconds. The server may say less.
    #[schemars(range(min = 10_000, max = 86_400_000), extend("default" = 600_000))]
    pub session_timeout_ms: Option<u64>,
    /// How long the server keeps subscriptions, and what they hold, while we are away, in milliseconds.
    #[schemars(range(min = 10_000, max = 86_400_000), extend("default" = 600_000))]
    pub subscription_lifetime_ms: Option<u64>,
    /// Longest silence of a subscription, in milliseconds.
    #[schemars(range(min = 1000, max = 60_000), extend("default" = 5000))]
    pub keep_alive_ms: Option<u64>,
    /// How often the server sends what changed, in milliseconds; each different interval is a subscription.
    #[schemars(range(min = 50, max = 3_600_000), extend("default" = 1000))]
    pub publishing_interval_ms: Option<u32>,
    /// How often the server looks at a point, in milliseconds; 0 is as fast as it can, -1 the publishing interval.
    #[schemars(extend("default" = -1))]
    pub sampling_interval_ms: Option<f64>,
    /// Be told what changes (default), or read again and again.
    pub mode: Option<ReadName>,
    /// Fetch what was missed from the server's history after an outage; not when absent.
    pub back_fill: Option<BackFillSettings>,
    /// The thing in the plant, where a point does not name one.
    pub asset_id: Option<String>,
    /// ISA-95 path of the assets: enterprise/site/area/line/cell.
    pub asset_path: Option<String>,
    /// What is read; may be left out where there are events.
    #[schemars(length(max = 100_000))]
    pub points: Option<Vec<PointSettings>>,
    /// Events of the server and its conditions, which become alarms; none when absent. `[{}]` is all the server tells.
    #[schemars(length(max = 64))]
    pub events: Option<Vec<EventSettings>>,
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

/// Who logs in.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct LoginSettings {
    /// How.
    #[schemars(rename = "type")]
    pub type_name: LoginName,
    /// For username: the name.
    pub username: Option<String>,
    /// For username: the password. It is never sent in clear.
    pub password: Option<SecretSettings>,
    /// For certificate: its file, PEM or DER.
    pub cert_file: Option<String>,
    /// For certificate: the private key to it, PEM.
    pub key_file: Option<String>,
}

/// A reference to a secret.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SecretSettings {
    /// Name of the secret.
    pub secret: String,
}

/// What was missed is read from the server's history.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct BackFillSettings {
    /// Nothing older is asked for: 6h, 2d.
    #[schemars(extend("default" = "1d"))]
    pub reach: Option<String>,
    /// Values taken in one second, so that what is new is not held up.
    #[schemars(range(min = 10, max = 100_000), extend("default" = 1000))]
    pub values_per_second: Option<u32>,
}

/// A node, and what becomes of it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PointSettings {
    /// `nsu=urn:vendor:device;s=Name`, or `;i=` number, `;g=` GUID, `;b=` base64. The namespace is named by its address: its
    /// number changes with each start of a server.
    pub node: String,
    /// Name of the measured quantity.
    pub parameter: String,
    /// The thing in the plant.
    pub asset_id: Option<String>,
    /// Type of the values; another one is BAD.
    #[schemars(rename = "type")]
    pub type_name: Option<TypeName>,
    /// Engineering unit.
    #[schemars(length(max = 32))]
    pub unit: Option<String>,
    /// Telemetry, event or alarm.
    pub class: Option<ClassName>,
    /// As for the adapter.
    #[schemars(range(min = 50, max = 3_600_000))]
    pub publishing_interval_ms: Option<u32>,
    /// As for the adapter.
    pub sampling_interval_ms: Option<f64>,
    /// As for the adapter.
    pub mode: Option<ReadName>,
    /// Values the server keeps between two notifications; made of the intervals when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue_size: Option<u32>,
    /// What makes the server report a point; status_value when absent.
    pub trigger: Option<TriggerName>,
    /// Changes that are not worth reporting.
    pub deadband: Option<DeadbandSettings>,
    /// What becomes of an array.
    pub array: Option<ArraySettings>,
    /// Value = raw x scale + offset.
    pub scale: Option<f64>,
    /// Added after the factor.
    pub offset: Option<f64>,
    /// Texts of an enumeration, by value.
    pub states: Option<BTreeMap<String, String>>,
}

/// A node that notifies of events, and what is wanted of it.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EventSettings {
    /// The notifier, written as the node of a point: an area or a machine. The server itself notifies of everything.
    #[schemars(extend("default" = "i=2253"))]
    pub node: Option<String>,
    /// The asset of its events and alarms; that of the adapter when absent, else the adapter's own name.
    pub asset_id: Option<String>,
    /// As for the adapter.
    #[schemars(range(min = 50, max = 3_600_000))]
    pub publishing_interval_ms: Option<u32>,
    /// Events the server keeps between two notifications; as many as it can when absent.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue_size: Option<u32>,
    /// Less severe events are left out; states of conditions that are held never are.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub min_severity: Option<u16>,
    /// Only events of these types and their subtypes; all when absent.
    #[schemars(length(max = 32))]
    pub types: Option<Vec<String>>,
    /// Further fields of its events by their browse names, `nsu=urn:vendor:types;Order/Number`; details `field.<name>`.
    pub fields: Option<BTreeMap<String, String>>,
    /// Conditions become alarms, and the server is asked to tell them again after a gap (`ConditionRefresh`).
    #[schemars(extend("default" = true))]
    pub alarms: Option<bool>,
    /// How severe is how severe.
    pub severities: Option<SeveritySettings>,
}

/// The lowest severity of the server, of 1 to 1000, that counts so; 1001 is never. Below medium it is LOW.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SeveritySettings {
    /// MEDIUM.
    #[schemars(range(min = 1, max = 1001), extend("default" = 251))]
    pub medium: Option<u16>,
    /// HIGH.
    #[schemars(range(min = 1, max = 1001), extend("default" = 501))]
    pub high: Option<u16>,
    /// CRITICAL.
    #[schemars(range(min = 1, max = 1001), extend("default" = 751))]
    pub critical: Option<u16>,
}

/// Changes that are not worth reporting; done here where the server cannot.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DeadbandSettings {
    /// In the unit of the value, or in percent of the node's range.
    #[schemars(rename = "type")]
    pub type_name: DeadbandName,
    /// How much.
    pub value: f64,
}

/// What becomes of an array.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ArraySettings {
    /// One element, each as a parameter of its own (`name.3`, up to 1000), or all as a text.
    #[schemars(rename = "type")]
    pub type_name: ArrayName,
    /// For index: which one, from 0.
    pub index: Option<u32>,
}

/// Policies.
#[derive(Debug, JsonSchema)]
pub struct PolicyName(#[schemars(extend("enum" = super::config::POLICIES, "default" = "Basic256Sha256"))] pub String);

/// Modes.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ModeName {
    None,
    Sign,
    SignAndEncrypt,
}

/// Ways to log in.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum LoginName {
    Anonymous,
    Username,
    Certificate,
}

/// Ways to read.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ReadName {
    Subscribe,
    Read,
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

/// Classes.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ClassName {
    Telemetry,
    Event,
    Alarm,
}

/// Triggers.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum TriggerName {
    Status,
    StatusValue,
    StatusValueTimestamp,
}

/// Deadbands.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum DeadbandName {
    Absolute,
    Percent,
}

/// Arrays.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum ArrayName {
    Index,
    Explode,
    Json,
}
