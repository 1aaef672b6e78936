//! The settings every adapter has: who it is and where its readings go.

use config::{Kind, Object};
use model::AssetId;
use stream::{Topic, message::Schema};

/// Port of a registry whose address is not given.
const REGISTRY_PORT: u16 = 8081;

/// As read; the ids are normalised already.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    pub adapter_id: String,
    pub asset_id: Option<String>,
    pub asset_path: Option<String>,
    /// `host:port[,host:port]`; handed in by whoever starts the process, so it may be absent in a document.
    pub kafka_bootstrap: Option<String>,
    pub schema_registry: Option<String>,
    pub config_revision: Option<String>,
    pub topic: Topic,
}

impl Common {
    /// Reads the common keys of an adapter's settings.
    pub fn read(object: &mut Object<'_>) -> Self {
        let adapter_id = name(object, Kind::Adapter.id_key(), true).unwrap_or_default();
        object.required_text(Kind::Adapter.type_key());
        let asset_id = name(object, "asset_id", false);
        let asset_path = object.text("asset_path").map(str::to_owned);
        if asset_path.as_ref().is_some_and(|path| path.len() > 512) {
            object.problem("asset_path", "too_long", "is longer than 512 bytes", "");
        }
        let topic = match object.text("topic") {
            None => Topic::TelemetryRaw,
            Some(text) => match Topic::by_name(text).filter(|topic| topic.schema() == Schema::Telemetry) {
                Some(topic) => topic,
                None => {
                    let hint = format!("adapters write to {}", Topic::TelemetryRaw.name());
                    object.problem("topic", "unknown_topic", format!("{text:?} does not hold readings"), hint);
                    Topic::TelemetryRaw
                }
            },
        };
        Self {
            adapter_id,
            asset_id,
            asset_path,
            kafka_bootstrap: object.text("kafka_bootstrap").map(str::to_owned),
            schema_registry: object.text("schema_registry").map(str::to_owned),
            config_revision: object.text("config_revision").map(str::to_owned),
            topic,
        }
    }

    /// Where the schema registry is: as set, else as the process was told, else beside the first broker on the usual
    /// port, as the published example has it.
    pub fn registry(&self, bootstrap: &str, told: Option<&str>) -> String {
        if let Some(url) = self.schema_registry.as_deref().or(told) {
            return url.to_owned();
        }
        let first = bootstrap.split(',').next().unwrap_or_default().trim();
        let host = first.rsplit_once(':').map_or(first, |(host, _)| host);
        format!("http://{host}:{REGISTRY_PORT}")
    }
}

/// A name after the project's grammar; a problem if it cannot be one.
pub fn name(object: &mut Object<'_>, key: &'static str, required: bool) -> Option<String> {
    let text = if required { object.required_text(key)? } else { object.text(key)? };
    match AssetId::new(text) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(invalid) => {
            object.problem(key, "bad_name", invalid.to_string(), "");
            None
        }
    }
}
