//! Settings of the `alert_router` sink as written; [`super::plan`] reads and checks them.

use std::collections::BTreeMap;

use config::{Kind, Spec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::SecretReference;

/// The type as the catalog lists it.
pub const SPEC: Spec = Spec {
    kind: Kind::Sink,
    type_name: "alert_router",
    summary: "Tells people of alarms: webhook, Slack, Teams, PagerDuty, e-mail, SMS.",
    schema: || schemars::schema_for!(RouterSettings).to_value(),
    validate: |value, pointer| super::plan::plan(value, pointer).err().unwrap_or_default(),
    points: |_| None,
    table: None,
    claim: |_| None,
};

/// Settings as written. Lengths of time are texts such as `30s`, `15min`, `2h`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSettings {
    /// Name of this sink on the gateway.
    pub sink_id: String,
    /// `alert_router`.
    pub sink_type: String,
    /// Name of the plant in messages; the gateway's name when absent.
    pub site: Option<String>,
    /// IANA time zone of the plant, for example `Europe/Berlin`; `UTC` when absent.
    pub time_zone: Option<String>,
    /// Where a person sees the alarms, for example `https://console.example.com/alarms`; part of every message.
    pub link: Option<String>,
    /// Who can be told, by name.
    pub destinations: BTreeMap<String, DestinationSettings>,
    /// Who is told of what. The first route that fits counts, further ones only behind `continue`. Together, routes
    /// without conditions must take every severity.
    pub routes: Vec<RouteSettings>,
    /// Calls older than this are summed up instead of made one by one; 15min by default.
    pub old_after: Option<String>,
    /// Tells a watcher elsewhere that the router lives.
    pub heartbeat: Option<HeartbeatSettings>,
    /// Hosts that may be sent to, with `*`; all when absent.
    pub allow_hosts: Option<Vec<String>>,
    /// Networks that may be sent to although they are closed otherwise (this machine, link-local), for example
    /// `127.0.0.0/8` for a mail server on the gateway.
    pub allow_networks: Option<Vec<String>>,
    /// Address of the stream; a gateway fills it in.
    pub kafka_bootstrap: Option<String>,
    /// Address of the gateway's own schema registry; a gateway fills it in.
    pub schema_registry: Option<String>,
}

/// Which alarms, and who is told.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSettings {
    /// For messages and dry runs; `route-1` and so on when absent.
    pub name: Option<String>,
    /// One severity or several; all when absent.
    pub severity: Option<OneOrMany>,
    /// Area of the plant, with `*`.
    pub area: Option<String>,
    /// Asset, with `*`.
    pub asset: Option<String>,
    /// Group of the alarm rule, with `*`.
    pub group: Option<String>,
    /// What is told: `activated` (also when an alarm is announced again), `acked`, `cleared`, `escalated`, `shelved`.
    /// `activated` when absent; PagerDuty is always told the end of what it was told the beginning of.
    pub transitions: Option<Vec<String>>,
    /// The route holds at these hours only.
    pub schedule: Option<HoursSettings>,
    /// Names of destinations.
    pub destinations: Vec<String>,
    /// Collect and tell once per interval, for example `15min`; never for CRITICAL.
    pub digest_interval: Option<String>,
    /// Tell what comes together in one message; never for CRITICAL.
    pub group_by: Option<Vec<String>>,
    /// How long the first alarm of a group waits for company; 30s by default.
    pub group_wait: Option<String>,
    /// How long until the next message of the same group; 5min by default.
    pub group_interval: Option<String>,
    /// Who is called when nobody acknowledges.
    pub escalation: Option<Vec<StepSettings>>,
    /// Begin again at the first step this long after the last one; not when absent.
    pub escalation_repeat: Option<String>,
    /// An alarm whose condition went calls nobody any more; false by default.
    pub escalation_stops_on_clear: Option<bool>,
    /// Look at further routes, too.
    #[serde(rename = "continue")]
    pub goes_on: Option<bool>,
}

/// One severity or several.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// One step of an escalation.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// Time since the activation was told.
    pub after: String,
    /// Names of destinations.
    pub destinations: Vec<String>,
}

/// Hours of the week.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoursSettings {
    /// `22:00`; over midnight when later than `to`.
    pub from: String,
    /// `06:00`.
    pub to: String,
    /// `mon` to `sun`; every day when absent. Hours over midnight belong to the day on which they begin.
    pub days: Option<Vec<String>>,
    /// The plant's time zone when absent.
    pub time_zone: Option<String>,
}

/// When a destination is left in peace. LOW and MEDIUM are told in one message at the end; CRITICAL is always told.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietSettings {
    /// `22:00`; over midnight when later than `to`.
    pub from: String,
    /// `06:00`.
    pub to: String,
    /// `mon` to `sun`; every day when absent. Hours over midnight belong to the day on which they begin.
    pub days: Option<Vec<String>>,
    /// The plant's time zone when absent.
    pub time_zone: Option<String>,
    /// HIGH waits, too; false by default.
    pub defer_high: Option<bool>,
}

/// Tells a watcher elsewhere that the router lives; silence alarms the watcher.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatSettings {
    /// Asked with GET.
    pub url: Address,
    /// 5min by default.
    pub every: Option<String>,
}

/// An address, or a reference to a secret where the address itself is one.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Address {
    Plain(String),
    Secret(SecretReference),
}

/// Somebody who can be told.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationSettings {
    /// `webhook`, `slack`, `teams`, `pagerduty`, `email` or `sms`.
    #[serde(rename = "type")]
    pub kind: ChannelKind,
    /// Told instead when this one cannot be.
    pub fallback: Option<String>,
    /// How long is tried; 1h for SMS, 24h for others by default.
    pub give_up_after: Option<String>,
    /// When this one is left in peace.
    pub quiet_hours: Option<QuietSettings>,
    /// More calls than this in 10 minutes (SMS: in an hour) are summed up; 10 by default.
    #[schemars(range(min = 1, max = 1000))]
    pub flood_max: Option<u32>,

    /// `webhook`, `slack`, `teams`: where to; `pagerduty`: another events address; `sms`: the provider's address.
    pub url: Option<Address>,
    /// `webhook`: signs what is sent (header `X-SF-Signature`).
    pub signing_key: Option<SecretReference>,
    /// `pagerduty`: the integration key of 32 characters.
    pub routing_key: Option<SecretReference>,

    /// `email`: the mail server.
    pub host: Option<String>,
    /// `email`: 587 with `starttls` and 465 with `implicit` by default.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u32>,
    /// `email`: `starttls` (default) or `implicit`. Mail never travels in clear text.
    pub tls: Option<MailTls>,
    /// `email`: PEM file with the authority that signed the server's certificate; those of the system when absent.
    pub ca_file: Option<String>,
    /// `email`, `sms`: the login.
    pub username: Option<String>,
    /// `email`, `sms`: its password.
    pub password: Option<SecretReference>,
    /// `email`: the sender's address; `sms`: the sender's number or name.
    pub from: Option<String>,
    /// `email`: addresses; `sms`: numbers in E.164, `+49151...`.
    pub to: Option<Vec<String>>,
    /// `sms`: `twilio`, or `json` for a POST of `{"to", "from", "text"}` to `url`.
    pub provider: Option<SmsProvider>,
}

/// How people are told.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    Webhook,
    Slack,
    Teams,
    Pagerduty,
    Email,
    Sms,
}

/// TLS of a mail server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    Starttls,
    Implicit,
}

/// Who sends an SMS.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsProvider {
    Twilio,
    Json,
}
