//! From the first start to the first values, and from the last value to a clean end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stream::message::{aggregate, dead_letter, telemetry};
use stream::{Topic, avro};
use testkit::plant::demo_adapters;

use crate::harness::{
    Gateway, PROGRAM, Setup, Simulator, Stored, components, is_running, read_all, telemetry_ledger, wait_for,
};

const PUMP: &str = "utilities_pump_01";
const BAD_SENSOR: &str = "vibration_de";
/// Points of the Modbus devices of the demo plant.
const POINTS: u64 = 60;
/// Points of the whole demo plant: a point that is a list of four is four.
const ALL_POINTS: u64 = POINTS + DEMO_OTHERS;
/// Those of the machines that speak OPC UA, 18 with the list of four, and MQTT, 15.
const DEMO_OTHERS: u64 = 18 + 15;
/// Processes of the demo: broker, three simulators, six adapters, a sink.
const CHILDREN: usize = 11;
/// One point of each protocol and kind of message: asset, parameter, unit.
const SHOWN: [(&str, &str, &str); 4] = [
    ("line_2_filler_01", "tank_level", "percent"),
    ("line_1_press_01", "hydraulic_pressure", "bar"),
    ("utilities_compressor_01", "pressure", "bar"),
    ("demo.packaging.wrapper_01", "film_tension", "newton"),
];

fn demo_setup(simulator: &Simulator) -> Setup {
    let setup = Setup::new("gw-first");
    let archive = setup.root().join("archive");
    let rule =
        json!({ "id": "vibration", "asset": PUMP, "parameter": BAD_SENSOR, "range": { "hard_lo": 0, "hard_hi": 20 } });
    setup
        .with("adapters", demo_adapters(simulator.port()))
        .with("sinks", json!([{ "sink_id": "archive", "sink_type": "archive", "url": archive }]))
        .with("validation", json!({ "rules": [rule] }))
}

fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let found = paths.flat_map(|path| if path.is_dir() { parquet_files(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == "parquet")).collect()
}

/// The dead letters of the pump's bad sensor with a reason, each compared with the record it speaks of (VAL-40).
fn bad_values(setup: &Setup, reason: &str) -> usize {
    let letters = read_all(setup.kafka, Topic::DlqTelemetry);
    // read later, so that it holds every original
    let raw: HashMap<(i32, i64), Stored> = read_all(setup.kafka, Topic::TelemetryRaw)
        .into_iter()
        .map(|record| ((record.partition, record.offset), record))
        .collect();
    let mut found = 0;
    for record in letters {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let letter = dead_letter::decode(body).expect("a dead letter");
        let original = &raw[&(letter.partition, letter.offset)];
        assert_eq!(letter.topic, "telemetry.raw");
        assert_eq!(letter.payload, original.payload, "the exact bytes");
        assert_eq!(letter.key, original.key);
        assert_eq!(letter.timestamp_ms, original.timestamp_ms);
        assert_eq!(record.key, original.key, "a dead letter has the key of its asset");
        assert!(!letter.detail.is_empty(), "a sentence for a person");
        if letter.asset_id == Some(PUMP) && letter.parameter == Some(BAD_SENSOR) && letter.reason == reason {
            found += 1;
        }
    }
    found
}

// REC-03, REC-09, VAL-40, AC-009, AC-067, AGG-01
#[test]
fn a_demo_plant_shows_values_stores_them_and_goes_on_after_a_stop() {
    let simulator = Simulator::start();
    let mut setup = demo_setup(&simulator);
    let mut gateway = setup.start();
    gateway.wait("all points are on the status page", |status| {
        let points = status["points_total"].as_u64().unwrap_or(0);
        if points >= POINTS { Ok(()) } else { Err(format!("{points} points; {status}")) }
    });
    let value = gateway.wait("the boiler's values are shown", |status| {
        let rows = status["points"].as_array().into_iter().flatten();
        let row = rows.filter(|row| row["asset"] == "utilities_boiler_01").find(|row| row["quality"] == "GOOD");
        row.cloned().ok_or_else(|| "no GOOD value".to_owned())
    });
    assert!(!value["device_time"].as_str().unwrap_or_default().is_empty(), "{value}");
    gateway.wait_for_records("telemetry.clean", 2 * POINTS);
    gateway.wait_for_records("telemetry.1s", POINTS);
    gateway.wait("everything is well", |status| {
        let unwell: Vec<&Value> = components(status).filter(|part| part["health"] != "HEALTHY").collect();
        if unwell.is_empty() { Ok(()) } else { Err(format!("{unwell:?}")) }
    });
    // the spike comes in the 11th second of the simulator
    wait_for("the spike of the bad sensor is a dead letter", Duration::from_secs(60), || {
        let found = bad_values(&setup, "RANGE_HARD");
        if found > 0 { Ok(()) } else { Err("no dead letter".to_owned()) }
    });
    let clean = read_all(setup.kafka, Topic::TelemetryClean);
    for record in &clean {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let reading = telemetry::decode(body).expect("a reading");
        let beyond = reading.value.as_number().is_some_and(|number| number > 20.0);
        assert!(!(reading.asset_id == PUMP && reading.parameter == BAD_SENSOR && beyond), "{reading:?} is clean");
        assert_ne!(reading.quality, model::Quality::Bad, "{reading:?}");
    }
    for record in read_all(setup.kafka, Topic::Telemetry1s) {
        let (_, body) = avro::unframe(&record.payload).expect("framed");
        let window = aggregate::decode(body).expect("a window");
        assert_eq!(window.window_end.as_micros() - window.window_start.as_micros(), 1_000_000);
        assert_eq!(window.window_start.as_micros() % 1_000_000, 0, "aligned");
        assert!(window.partials.statistics.count > 0);
    }

    let before = gateway.descendants();
    let brokers = usize::from(setup.is_embedded());
    assert!(before.len() >= 4 + brokers, "three adapters, a sink and the broker, if it is ours: {before:?}");
    let code = gateway.stop("TERM");
    assert!(code.success(), "{code}\n{}", gateway.printed());
    assert!(before.iter().all(|pid| !is_running(*pid)), "a child outlived its gateway");
    let files = parquet_files(&setup.root().join("archive"));
    assert!(!files.is_empty(), "no parquet file after a clean stop");
    for file in &files {
        let bytes = std::fs::read(file).expect("a file");
        assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"), "{} is torn", file.display());
    }

    let gateway = setup.start();
    let stored = u64::try_from(clean.len()).expect("a count");
    gateway.wait_for_records("telemetry.clean", stored + POINTS);
    let raw = telemetry_ledger(setup.kafka, &[Topic::TelemetryRaw]);
    for adapter in ["adapter_press", "adapter_boiler", "adapter_pump"] {
        assert_eq!(raw.epochs(adapter).into_iter().collect::<Vec<_>>(), [1, 2], "{adapter}");
    }
    assert_eq!(raw.distinct(), raw.total(), "nothing is stored twice");
    raw.assert_contiguous("telemetry.raw", &crate::harness::Acknowledged::default());
    // the sensor gives no number in the 61st second
    wait_for("NaN of the bad sensor is a dead letter", Duration::from_secs(100), || {
        if bad_values(&setup, "NAN_INF") > 0 { Ok(()) } else { Err("no dead letter".to_owned()) }
    });
    setup.document["adapters"] = json!([]);
    setup.write();
    gateway.wait_until_drained(Duration::from_secs(60));
    let raw = telemetry_ledger(setup.kafka, &[Topic::TelemetryRaw]);
    let judged = telemetry_ledger(setup.kafka, &[Topic::TelemetryClean, Topic::DlqTelemetry]);
    raw.assert_each_once_in("telemetry.raw", &judged, "telemetry.clean and dlq.telemetry");
}

// The first promise of the command line: one command, values of every protocol, and Ctrl-C leaves nothing behind.
// UA-08, MQ-12, MQ-16
#[test]
fn ctrl_c_on_the_demo_leaves_no_process_behind() {
    let setup = Setup::new("demo");
    let mut command = Command::new(PROGRAM);
    command.args(["up", "--demo", "--console", &setup.console.to_string()]);
    command.args(["--kafka", &setup.kafka.to_string(), "--registry", &setup.registry.to_string()]);
    command.arg("--data-dir").arg(setup.data());
    let mut gateway = Gateway::start_as(command, &setup);
    gateway.wait("the demo shows its points", |status| {
        let points = status["points_total"].as_u64().unwrap_or(0);
        if points >= ALL_POINTS { Ok(()) } else { Err(format!("{points} points")) }
    });
    for (asset, parameter, unit) in SHOWN {
        gateway.wait(&format!("{asset}/{parameter} is shown"), |status| {
            let mut rows = status["points"].as_array().into_iter().flatten();
            let row = rows.find(|row| row["asset"] == asset && row["parameter"] == parameter).ok_or("no row")?;
            if row["quality"] == "GOOD" && row["unit"] == unit { Ok(()) } else { Err(row.to_string()) }
        });
    }
    gateway.wait("everything is well", |status| {
        let unwell: Vec<&Value> = components(status).filter(|part| part["health"] != "HEALTHY").collect();
        if unwell.is_empty() { Ok(()) } else { Err(format!("{unwell:?}")) }
    });
    let children = gateway.descendants();
    assert!(children.len() >= CHILDREN, "broker, simulators, adapters, a sink: {children:?}");
    let code = gateway.stop("INT");
    let printed = gateway.printed();
    assert!(code.success(), "{code}\n{printed}");
    assert!(children.iter().all(|pid| !is_running(*pid)), "a child outlived its gateway");
    assert_eq!(gateway.descendants(), Vec::<u32>::new());
    assert!(printed.contains(&format!("http://{}", setup.console)), "{printed}");
    assert!(printed.contains("Stopped."), "{printed}");
}
