//! The settings as forms and manuals see them.

use schemars::JsonSchema;
use serde_json::Value;

/// The schema of all settings.
pub fn schema() -> Value {
    schemars::schema_for!(SimulatedSettings).to_value()
}

/// Settings of an adapter that makes readings up.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SimulatedSettings {
    /// Name of this adapter.
    pub adapter_id: String,
    /// `simulated`.
    pub adapter_type: String,
    /// Name of the asset, or the beginning of the names of several.
    pub asset_id: Option<String>,
    /// ISA-95 path of the asset: enterprise/site/area/line/cell.
    pub asset_path: Option<String>,
    /// Readings per period.
    #[schemars(range(min = 1, max = 100_000), extend("default" = 100))]
    pub points: Option<u32>,
    /// Assets the points are spread over.
    #[schemars(range(min = 1, max = 1000), extend("default" = 1))]
    pub assets: Option<u32>,
    /// Period in milliseconds.
    #[schemars(range(min = 10, max = 86_400_000), extend("default" = 1000))]
    pub poll_interval_ms: Option<u64>,
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
