//! What the machines of the demo plant measure that are not Modbus devices: the same signals, told by name.
//!
//! One table per machine; the simulators serve it, and the settings of the adapters that read it are made from it, so they
//! cannot disagree.

use serde_json::{Value, json};

use super::signal::{Moment, PRESS_CYCLE_S, press_load};

/// How a value is coded in its device.
#[derive(Debug, Clone, Copy)]
pub enum Coding {
    /// Single precision.
    Float,
    /// Double precision.
    Double,
    /// Sixteen bits with a sign.
    Int,
    /// Thirty-two bits without a sign.
    Count,
    /// A number with a meaning per value, 0 and up.
    State(&'static [&'static str]),
    /// True when the signal is above 0.5.
    Bool,
    /// Characters that do not change.
    Text(&'static str),
    /// So many doubles, each a little behind the one before it.
    Array(u8),
}

/// One signal of a machine.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Its name, at the device and in the settings.
    pub parameter: &'static str,
    /// Unit as the gateway writes it; empty for none.
    pub unit: &'static str,
    /// How it is coded.
    pub coding: Coding,
    /// Lowest and highest value of the instrument, where it has one.
    pub range: Option<(f64, f64)>,
    /// How it moves.
    pub signal: fn(Moment) -> f64,
}

/// A machine.
#[derive(Debug, Clone, Copy)]
pub struct Thing {
    /// Its name at the device.
    pub name: &'static str,
    /// Its asset.
    pub asset_id: &'static str,
    /// Where in the plant it stands.
    pub area: &'static str,
    /// What it measures.
    pub points: &'static [Point],
}

const fn point(parameter: &'static str, unit: &'static str, coding: Coding, signal: fn(Moment) -> f64) -> Point {
    Point { parameter, unit, coding, range: None, signal }
}

const fn measured(parameter: &'static str, unit: &'static str, range: (f64, f64), signal: fn(Moment) -> f64) -> Point {
    Point { parameter, unit, coding: Coding::Double, range: Some(range), signal }
}

/// Seconds from one filled bottle to the next.
const BOTTLE_S: u32 = 2;

/// Machines that publish JSON over MQTT, 9 points.
pub const FLEET: &[Thing] = &[
    Thing {
        name: "compressor",
        asset_id: "utilities_compressor_01",
        area: "utilities",
        points: &[
            point("pressure", "bar", Coding::Double, |t| 7.4 + 0.35 * t.wave(45.0, 0.0) + 0.02 * t.noise(201)),
            point("flow", "cubic_meter_per_hour", Coding::Double, |t| {
                412.0 + 60.0 * press_load(t) + 4.0 * t.noise(202)
            }),
            point("oil_temperature", "celsius", Coding::Double, |t| {
                24.0 + 55.0 * t.warm_up(600.0) + 1.5 * t.wave(300.0, 1.0) + 0.1 * t.noise(203)
            }),
            point("state", "", Coding::State(COMPRESSOR_STATES), |t| if t.wave(45.0, 0.0) > 0.8 { 1.0 } else { 2.0 }),
            point("energy_total", "kilowatt_hour", Coding::Count, |t| (48_200.0 + t.seconds() * 0.0125).floor()),
        ],
    },
    Thing {
        name: "climate",
        asset_id: "hall_1_climate_01",
        area: "hall_1",
        points: &[
            point("temperature", "celsius", Coding::Double, |t| 21.5 + 0.8 * t.wave(900.0, 0.0) + 0.05 * t.noise(211)),
            point("humidity", "percent", Coding::Double, |t| 46.0 + 4.0 * t.wave(1300.0, 0.7) + 0.3 * t.noise(212)),
            point("co2", "ppm", Coding::Int, |t| 620.0 + 140.0 * t.wave(1800.0, 2.0) + 6.0 * t.noise(213)),
            point("gate_open", "", Coding::Bool, |t| if t.within(90) < 12.0 { 1.0 } else { 0.0 }),
        ],
    },
];

const COMPRESSOR_STATES: &[&str] = &["stopped", "idle", "loaded"];

/// The device of the Sparkplug B edge node, 6 points; its asset is made of the names on the wire.
pub const WRAPPER: &[Point] = &[
    point("speed", "packs_per_minute", Coding::Double, |t| 38.0 + 2.0 * t.wave(70.0, 0.0) + 0.3 * t.noise(221)),
    point("film_tension", "newton", Coding::Float, |t| 112.0 + 6.0 * t.wave(24.0, 0.4) + 0.8 * t.noise(222)),
    point("sealing_temperature", "celsius", Coding::Float, |t| 148.0 + 1.2 * t.wave(55.0, 1.1) + 0.2 * t.noise(223)),
    point("packs_total", "packs", Coding::Count, |t| 73_100.0 + (t.seconds() * 0.63).floor()),
    point("film_end", "", Coding::Bool, |t| if t.within(240) < 15.0 { 1.0 } else { 0.0 }),
    point("recipe", "", Coding::Text("6-PACK 0.5 L"), |_t| 0.0),
];

/// Machines of the OPC UA server, 15 points.
pub const LINE: &[Thing] = &[
    Thing {
        name: "Filler",
        asset_id: "line_2_filler_01",
        area: "line_2",
        points: &[
            measured("fill_volume", "millilitre", (0.0, 600.0), |t| {
                500.0 + 0.8 * t.wave(31.0, 0.0) + 0.4 * t.noise(231)
            }),
            measured("tank_level", "percent", (0.0, 100.0), |t| 90.0 - 65.0 * t.within(300) / 300.0),
            measured("product_temperature", "celsius", (-20.0, 120.0), |t| {
                4.2 + 0.6 * t.wave(210.0, 0.5) + 0.05 * t.noise(232)
            }),
            point("flow", "litre_per_minute", Coding::Float, |t| 15.0 + 0.9 * t.wave(31.0, 0.3) + 0.1 * t.noise(233)),
            point("bottles_total", "bottles", Coding::Count, |t| 501_000.0 + t.turns(BOTTLE_S)),
            point("rejects_total", "bottles", Coding::Count, |t| 1_204.0 + t.turns(BOTTLE_S * 40)),
            point("state", "", Coding::State(FILLER_STATES), |t| if t.within(180) < 10.0 { 1.0 } else { 2.0 }),
            point("running", "", Coding::Bool, |t| if t.within(180) < 10.0 { 0.0 } else { 1.0 }),
            point("batch", "", Coding::Text("B-2026-0417"), |_t| 0.0),
            point("nozzle_pressure", "bar", Coding::Array(4), |t| 2.1 + 0.15 * t.wave(8.0, 0.0) + 0.01 * t.noise(234)),
        ],
    },
    Thing {
        name: "Capper",
        asset_id: "line_2_capper_01",
        area: "line_2",
        points: &[
            measured("torque", "newton_meter", (0.0, 5.0), |t| 1.9 + 0.08 * t.wave(13.0, 0.0) + 0.04 * t.noise(241)),
            point("speed", "per_minute", Coding::Int, |t| 300.0 + 6.0 * t.wave(60.0, 0.0) + t.noise(242)),
            point("caps_total", "caps", Coding::Count, |t| 500_870.0 + t.turns(BOTTLE_S)),
            point("hopper_low", "", Coding::Bool, |t| if t.within(150) > 130.0 { 1.0 } else { 0.0 }),
            point("motor_temperature", "celsius", Coding::Float, |t| {
                23.0 + 31.0 * t.warm_up(400.0) + 2.0 * t.wave(f64::from(PRESS_CYCLE_S) * 9.0, 0.0) + 0.1 * t.noise(243)
            }),
        ],
    },
];

const FILLER_STATES: &[&str] = &["stopped", "rinsing", "filling", "fault"];

/// Namespace of the nodes of [`LINE`].
pub const LINE_URI: &str = "urn:streamforge:sim:line";

/// The name of a point's node in [`LINE_URI`]: `Filler.tank_level`.
pub fn node_name(thing: &Thing, point: &Point) -> String {
    format!("{}.{}", thing.name, point.parameter)
}

/// Settings of the adapter that reads the simulated OPC UA server at a port of this machine.
pub fn opcua_adapter(port: u16) -> Value {
    let points = LINE.iter().flat_map(|thing| thing.points.iter().map(move |point| line_point(thing, point)));
    json!({
        "adapter_id": "adapter_filling_line",
        "adapter_type": "opcua",
        "url": format!("opc.tcp://127.0.0.1:{port}"),
        "security_policy": "None",
        "allow_insecure": true,
        "asset_path": "demo/hall_2/line_2",
        "publishing_interval_ms": 1000,
        "points": points.collect::<Vec<_>>(),
    })
}

fn line_point(thing: &Thing, point: &Point) -> Value {
    let mut settings = json!({
        "node": format!("nsu={LINE_URI};s={}", node_name(thing, point)),
        "parameter": point.parameter,
        "asset_id": thing.asset_id,
    });
    describe(point, &mut settings);
    if let Coding::Array(_) = point.coding {
        settings["array"] = json!({ "type": "explode" });
    }
    settings
}

/// Type, unit and states as settings.
fn describe(point: &Point, settings: &mut Value) {
    match point.coding {
        Coding::Float | Coding::Double | Coding::Array(_) => {}
        Coding::Int | Coding::Count => settings["type"] = json!("int"),
        Coding::State(states) => {
            settings["type"] = json!("int");
            let labels = states.iter().enumerate().map(|(code, label)| (code.to_string(), json!(label)));
            settings["states"] = Value::Object(labels.collect());
        }
        Coding::Bool => settings["type"] = json!("bool"),
        Coding::Text(_) => settings["type"] = json!("string"),
    }
    if !point.unit.is_empty() {
        settings["unit"] = json!(point.unit);
    }
}

/// Settings of the adapters that listen to the simulated fleet at a broker's port: JSON, and Sparkplug B.
pub fn mqtt_adapters(port: u16) -> [Value; 2] {
    let url = format!("mqtt://127.0.0.1:{port}");
    let subscription = |thing: &Thing| {
        let field = |point: &Point| {
            let mut field = json!({ "path": format!("/{}", point.parameter), "parameter": point.parameter });
            describe(point, &mut field);
            field
        };
        json!({
            "filter": crate::sim::mqtt::fleet::topic(thing),
            "topic": "plant/{area}/{asset}/state",
            "payload": "json",
            "time": { "path": "/ts", "format": "epoch_ms" },
            "fields": thing.points.iter().map(field).collect::<Vec<_>>(),
        })
    };
    [
        json!({
            "adapter_id": "adapter_fleet",
            "adapter_type": "mqtt",
            "url": url,
            "allow_insecure": true,
            "subscriptions": FLEET.iter().map(subscription).collect::<Vec<_>>(),
        }),
        json!({
            "adapter_id": "adapter_packaging",
            "adapter_type": "mqtt",
            "url": url,
            "allow_insecure": true,
            "asset_path": "demo/hall_2/packaging",
            "sparkplug": { "groups": [crate::sim::mqtt::edge::GROUP] },
        }),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn thirty_points_each_named_once_and_all_of_them_move_or_stand_on_purpose() {
        let machines = FLEET.iter().chain(LINE).map(|thing| thing.points).chain([WRAPPER]);
        let mut count = 0;
        for points in machines {
            let names: BTreeSet<&str> = points.iter().map(|point| point.parameter).collect();
            assert_eq!(names.len(), points.len());
            count += points.len();
            for point in points {
                let values: Vec<f64> = (0..600).map(|second| (point.signal)(Moment::at_ms(second * 1000))).collect();
                assert!(values.iter().all(|value| value.is_finite()), "{}", point.parameter);
                let moves = values.iter().any(|value| *value != values[0]);
                assert_eq!(moves, !matches!(point.coding, Coding::Text(_)), "{}", point.parameter);
                if let Some((low, high)) = point.range {
                    assert!(values.iter().all(|value| (low..=high).contains(value)), "{}", point.parameter);
                }
                if matches!(point.coding, Coding::Count) {
                    assert!(values.is_sorted(), "{}", point.parameter);
                }
            }
        }
        assert_eq!(count, 30);
    }
}
