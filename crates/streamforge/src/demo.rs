//! The demo plant: a document for simulated machines, and the children that simulate them, one for each protocol.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use gateway::children::{ChildPlan, Role};
use serde_json::{Value, json};

use crate::commands::Up;
use crate::exit::{Failure, TRY_AGAIN};
use crate::simulate;

/// What `--demo` runs.
#[derive(Debug)]
pub(crate) struct Demo {
    pub(crate) document: Value,
    pub(crate) simulators: Vec<ChildPlan>,
}

/// Builds the demo for a data folder.
pub(crate) fn demo(options: &Up, data: &Path) -> Result<Demo, Failure> {
    let [modbus, opcua, mqtt] = free_ports()
        .map_err(|error| Failure::new(TRY_AGAIN, format!("no port is free for the simulators: {error}")))?;
    let mut adapters = testkit::plant::demo_adapters(modbus);
    adapters.push(testkit::plant::points::opcua_adapter(opcua));
    adapters.extend(testkit::plant::points::mqtt_adapters(mqtt));
    let document = json!({
        "version": 1,
        "gateway_id": "demo",
        "console": { "listen": options.console },
        "stream": { "mode": "embedded", "listen": options.kafka, "registry_listen": options.registry },
        "adapters": adapters,
        "sinks": [ { "sink_id": "archive", "sink_type": "archive", "url": data.join("archive").display().to_string() } ],
        "validation": { "rules": rules() },
        "alarms": { "rules": alarms() },
        "aggregation": { "resolutions": ["1s", "1min", "1hour"], "points": aggregated() },
    });
    let mut environment = BTreeMap::new();
    environment.insert("SF_GATEWAY_ID".to_owned(), "demo".to_owned());
    environment.insert("SF_RUN_DIR".to_owned(), data.join("run").display().to_string());
    let simulator = |name: &str, protocol: &str, port: u16| ChildPlan {
        name: name.to_owned(),
        role: Role::Simulator,
        type_name: protocol.to_owned(),
        arguments: ["sim", protocol, "--listen", &format!("127.0.0.1:{port}")].map(str::to_owned).to_vec(),
        environment: environment.clone(),
        secrets: Vec::new(),
        user: None,
    };
    let simulators = vec![
        simulator(simulate::MODBUS, "modbus", modbus),
        simulator(simulate::OPCUA, "opcua", opcua),
        simulator(simulate::MQTT, "mqtt", mqtt),
    ];
    Ok(Demo { document, simulators })
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
        { "id": "compressor-pressure", "asset": "utilities_compressor_01", "parameter": "pressure",
          "range": { "hard_lo": 0, "hard_hi": 16 } },
        { "id": "utilities-arrive", "asset": "utilities_*", "expected_interval_ms": 1000 },
    ])
}

/// What the demo plant's operator is told of.
fn alarms() -> Value {
    json!([
        { "id": "devices", "type": "communication", "severity": "HIGH", "message": "A machine does not answer",
          "action": "Look at the cable, the switch and the machine's power", "area": "site" },
        { "id": "tool-hot", "asset": "line_1_press_01", "parameter": "tool_temperature", "type": "hi", "limit": 128,
          "hysteresis": 1, "on_delay_ms": 5000, "off_delay_ms": 5000, "severity": "LOW", "area": "press",
          "message": "The tool of the press is hot", "consequence": "Parts stick", "action": "Check the cooling water" },
        { "id": "guard-open", "asset": "line_1_press_01", "parameter": "guard_closed", "type": "discrete",
          "expected": true, "severity": "MEDIUM", "area": "press", "message": "The guard of the press is open" },
        { "id": "low-water", "asset": "utilities_boiler_01", "parameter": "low_water", "type": "discrete",
          "expected": false, "severity": "CRITICAL", "area": "boiler", "message": "The boiler is short of water",
          "consequence": "The burner trips", "action": "Check the feed pump and the valve before it" },
        { "id": "steam-pressure-high", "asset": "utilities_boiler_01", "parameter": "steam_pressure", "type": "hi",
          "limit": 10.5, "hysteresis": 0.2, "on_delay_ms": 15000, "severity": "HIGH", "area": "boiler",
          "message": "The steam pressure is high", "action": "Lower the burner's load" },
        { "id": "pump-bearing-hot", "asset": "utilities_pump_01", "parameter": "bearing_temperature_de", "type": "hi",
          "limit": 80, "hysteresis": 2, "on_delay_ms": 5000, "severity": "MEDIUM", "area": "pump",
          "message": "The bearing of the pump is hot", "action": "Check the lubrication" },
        { "id": "compressor-pressure-low", "asset": "utilities_compressor_01", "parameter": "pressure", "type": "lo",
          "limit": 7.1, "hysteresis": 0.1, "on_delay_ms": 3000, "severity": "MEDIUM", "area": "compressor",
          "message": "The compressed air is low", "action": "Look for a leak, or start the second compressor" },
        { "id": "filler-tank-low", "asset": "line_2_filler_01", "parameter": "tank_level", "type": "lo",
          "limit": 30, "hysteresis": 2, "on_delay_ms": 2000, "severity": "MEDIUM", "area": "filling",
          "message": "The tank of the filler runs empty", "consequence": "The line stops", "action": "Open the feed" },
        { "id": "capper-hopper-low", "asset": "line_2_capper_01", "parameter": "hopper_low", "type": "discrete",
          "expected": false, "severity": "LOW", "area": "filling", "message": "The capper is short of caps",
          "action": "Fill the hopper" },
        { "id": "film-end", "asset": "demo.packaging.wrapper_01", "parameter": "film_end", "type": "discrete",
          "expected": false, "severity": "MEDIUM", "area": "packaging", "message": "The wrapping machine is out of film",
          "consequence": "Packs pile up", "action": "Put in a new roll" },
        { "id": "pump-sensor", "asset": "utilities_pump_01", "parameter": "vibration_de", "type": "quality",
          "severity": "LOW", "area": "pump", "off_delay_ms": 30_000,
          "message": "The vibration sensor of the pump gives values that cannot be",
          "action": "Check the sensor and its cable" },
    ])
}

/// What is counted, and what is averaged over time because it seldom changes.
fn aggregated() -> Value {
    json!([
        { "asset": "*", "parameter": "*_total", "kind": "counter", "expected_interval_ms": 1000 },
        { "asset": "line_1_press_01", "parameter": "state", "kind": "enum" },
        { "asset": "utilities_boiler_01", "parameter": "burner_state", "kind": "enum" },
        { "asset": "utilities_compressor_01", "parameter": "state", "kind": "enum" },
        { "asset": "line_2_filler_01", "parameter": "state", "kind": "enum" },
        { "asset": "utilities_boiler_01", "parameter": "pressure_setpoint", "avg_method": "time_weighted" },
    ])
}

/// Ports that nobody listens on, each another one.
fn free_ports<const COUNT: usize>() -> std::io::Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    // all are held until the last is found
    let mut held = Vec::with_capacity(COUNT);
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
