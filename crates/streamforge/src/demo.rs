//! The demo plant: a document for three simulated machines, and the child that simulates them.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use gateway::children::{ChildPlan, Role};
use serde_json::{Value, json};

use crate::commands::Up;
use crate::exit::{Failure, TRY_AGAIN};

/// What `--demo` runs.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) document: Value,
    pub(crate) simulator: ChildPlan,
}

/// Builds the demo for a data folder.
pub(crate) fn demo(options: &Up, data: &Path) -> Result<Demo, Failure> {
    let port =
        free_port().map_err(|error| Failure::new(TRY_AGAIN, format!("no port is free for the simulators: {error}")))?;
    let listen = format!("127.0.0.1:{port}");
    let document = json!({
        "version": 1,
        "gateway_id": "demo",
        "console": { "listen": options.console },
        "stream": { "mode": "embedded", "listen": options.kafka, "registry_listen": options.registry },
        "adapters": testkit::plant::demo_adapters(port),
        "sinks": [ { "sink_id": "archive", "sink_type": "archive", "url": data.join("archive").display().to_string() } ],
        "validation": { "rules": rules() },
        "aggregation": { "resolutions": ["1s", "1min", "1hour"] },
    });
    let mut environment = BTreeMap::new();
    environment.insert("SF_GATEWAY_ID".to_owned(), "demo".to_owned());
    environment.insert("SF_RUN_DIR".to_owned(), data.join("run").display().to_string());
    let simulator = ChildPlan {
        name: "sim".to_owned(),
        role: Role::Simulator,
        type_name: "modbus".to_owned(),
        arguments: vec!["sim".to_owned(), "modbus".to_owned(), "--listen".to_owned(), listen],
        environment,
        secrets: Vec::new(),
        user: None,
    };
    Ok(Demo { document, simulator })
}

/// What the demo plant's readings are held against; the pump's bad sensor breaks these.
fn rules() -> Value {
    json!([
        { "id": "pump-vibration", "asset": "utilities_pump_01", "parameter": "vibration_*",
          "range": { "hard_lo": 0, "hard_hi": 50, "soft_hi": 7.1 }, "rate_of_change": { "soft_per_s": 4 } },
        { "id": "pump-bearing", "asset": "utilities_pump_01", "parameter": "bearing_temperature_*",
          "range": { "hard_lo": -40, "hard_hi": 200, "soft_hi": 90 }, "rate_of_change": { "hard_per_s": 10 } },
        { "id": "steam-pressure", "asset": "utilities_boiler_01", "parameter": "steam_pressure", "range": { "hard_lo": 0, "hard_hi": 25 } },
        { "id": "press-arrives", "asset": "line_1_press_01", "expected_interval_ms": 500 },
        { "id": "utilities-arrive", "asset": "utilities_*", "expected_interval_ms": 1000 },
    ])
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
