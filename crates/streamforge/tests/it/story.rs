//! An operator's hour, from the command line alone: a plant hour that was recorded, into which things happen.
//!
//! A pressure sensor freezes, a temperature jumps for one reading, a motor really gets hot within a second, the clock of a
//! machine is set wrong, and a trip brings twelve alarms at once; a rule is too narrow and rejects good readings. Each is
//! looked for where an operator would, and what can be mended is mended.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use model::Timestamp;
use serde_json::{Value as Json, json};
use testkit::recording::{Point, Reader, Row, Writer};

use crate::harness::{Gateway, Setup, components, run, say, wait_for, written};

const MINUTE: i64 = 60_000;
const HOUR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testkit/recordings/plant-hour.jsonl.gz");
const BOILER: &str = "utilities_boiler_01";
const PUMP: &str = "utilities_pump_01";
const PRESS: &str = "line_1_press_01";
/// What the trip drives over its limits.
const TRIPPED: [(&str, &str); 12] = [
    (BOILER, "burner_load"),
    (BOILER, "drum_level"),
    (BOILER, "feedwater_flow"),
    (BOILER, "feedwater_temperature"),
    (BOILER, "flue_gas_oxygen"),
    (BOILER, "gas_flow"),
    (BOILER, "steam_flow"),
    (BOILER, "steam_temperature"),
    (BOILER, "conductivity"),
    (PRESS, "oil_temperature"),
    (PRESS, "oil_level"),
    (PRESS, "motor_current"),
];

/// The recording, in memory.
struct Hour {
    begin: Timestamp,
    points: Vec<Point>,
    rows: Vec<Row>,
}

impl Hour {
    fn read(path: &str) -> Self {
        let file = std::fs::File::open(path).expect("the recording is there");
        let mut reader = Reader::open(BufReader::new(GzDecoder::new(file))).expect("a recording");
        let mut rows = Vec::new();
        while let Some(row) = reader.row().expect("a reading") {
            rows.push(row);
        }
        Self { begin: reader.begin(), points: reader.points().to_vec(), rows }
    }

    fn write(&self, path: &Path) {
        let mut writer = Writer::create(Vec::new(), self.begin).expect("memory takes lines");
        for point in &self.points {
            writer.point(point).expect("memory takes lines");
        }
        for row in &self.rows {
            writer.row(row).expect("memory takes lines");
        }
        std::fs::File::create(path).and_then(|mut file| file.write_all(&writer.finish())).expect("the file is written");
    }

    fn point(&self, asset: &str, parameter: &str) -> usize {
        let is_it = |point: &Point| point.asset_id == asset && point.parameter == parameter;
        self.points.iter().position(is_it).unwrap_or_else(|| panic!("{asset} {parameter} is in the recording"))
    }

    fn values(&self, asset: &str, parameter: &str) -> impl Iterator<Item = f64> {
        let point = self.point(asset, parameter);
        self.rows.iter().filter(move |row| row.point == point).filter_map(|row| row.value.as_f64())
    }

    /// Smallest and largest value of a point.
    fn span(&self, asset: &str, parameter: &str) -> (f64, f64) {
        self.values(asset, parameter)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    }

    /// Changes the readings of a point from one minute to another.
    fn change(&mut self, asset: &str, parameter: &str, minutes: std::ops::Range<i64>, change: impl Fn(f64) -> f64) {
        let point = self.point(asset, parameter);
        let is_whole = self.points[point].value_type == model::ValueType::Int;
        for row in self.rows.iter_mut().filter(|row| row.point == point) {
            if minutes.contains(&(row.at_ms / MINUTE))
                && let Some(value) = row.value.as_f64()
            {
                #[expect(clippy::cast_possible_truncation, reason = "values of a plant are far below 2^53")]
                let whole = change(value) as i64;
                row.value = if is_whole { json!(whole) } else { json!(change(value)) };
            }
        }
    }

    fn happen(&mut self) {
        let frozen = self.values(BOILER, "steam_pressure").next().expect("a first value");
        self.change(BOILER, "steam_pressure", 10..16, |_| frozen);
        let flue_gas = self.point(BOILER, "flue_gas_temperature");
        let spike = self.rows.iter_mut().find(|row| row.point == flue_gas && row.at_ms >= 20 * MINUTE);
        let spike = spike.expect("a reading in minute 20");
        spike.value = json!(spike.value.as_f64().expect("a number") + 150.0);
        self.change(PUMP, "motor_temperature", 25..60, |value| value + 40.0);
        for (asset, parameter) in TRIPPED {
            let (_, high) = self.span(asset, parameter);
            self.change(asset, parameter, 45..46, |_| high * 2.0 + 1.0);
        }
        // a clock of its own, two hours ahead for a minute, then 20 min to the end
        for point in self.points.iter_mut().filter(|point| point.asset_id == PUMP) {
            model::time_source::DEVICE.clone_into(&mut point.time_source);
        }
        for row in &mut self.rows {
            if self.points[row.point].asset_id == PUMP {
                row.behind_ms -= match row.at_ms / MINUTE {
                    55 => 120 * MINUTE,
                    56.. => 20 * MINUTE,
                    _ => 0,
                };
            }
        }
    }
}

/// The document, with the rule that is too narrow as it is at first, or as it should be.
fn document(trips: &[f64; 12], tool_limit: f64, revision: i64) -> Setup {
    let mut rules = vec![
        json!({ "id": "frozen", "asset": BOILER, "parameter": "steam_pressure", "type": "quality",
          "reasons": ["FLATLINE"], "severity": "MEDIUM", "area": "site", "message": "the pressure sensor is frozen" }),
        json!({ "id": "jumps", "asset": BOILER, "parameter": "flue_gas_temperature", "type": "quality",
          "reasons": ["SPIKE"], "severity": "LOW", "area": "site", "message": "the flue gas sensor jumps" }),
        json!({ "id": "motor-hot", "asset": PUMP, "parameter": "motor_temperature", "type": "hi", "limit": 80,
          "hysteresis": 2, "severity": "HIGH", "area": "site", "message": "the motor is hot" }),
        json!({ "id": "clock", "asset": PUMP, "parameter": "flow", "type": "quality",
          "reasons": ["DEVICE_TIME_FUTURE"], "severity": "LOW", "area": "site", "message": "the pump's clock is wrong" }),
    ];
    for ((asset, parameter), high) in TRIPPED.into_iter().zip(trips) {
        rules.push(json!({ "id": format!("trip-{parameter}"), "asset": asset, "parameter": parameter, "type": "hi",
          "limit": high * 1.5 + 0.5, "severity": "LOW", "area": "site", "message": "above its limit" }));
    }
    Setup::new("gw-story").with(
        "validation",
        json!({ "unknown_points": "pass", "rules": [
            { "id": "pressure", "asset": BOILER, "parameter": "steam_pressure",
              "flatline": { "for_ms": 120_000, "epsilon": 0.000_1 } },
            { "id": "flue-gas", "asset": BOILER, "parameter": "flue_gas_temperature", "spike": { "k": 6, "deadband": 5 } },
            { "id": "motor", "asset": PUMP, "parameter": "motor_temperature", "rate_of_change": { "hard_per_s": 10 } },
            { "id": "tool", "asset": PRESS, "parameter": "tool_temperature", "revision": revision,
              "range": { "hard_hi": tool_limit } },
        ] }),
    )
    .with("alarms", json!({ "rules": rules }))
}

/// An operator's shell.
struct Shell<'s> {
    setup: &'s Setup,
}

impl Shell<'_> {
    /// Runs `streamforge ctl` against the gateway of this folder; the answer as JSON, by line.
    fn ctl(&self, arguments: &[&str]) -> Vec<Json> {
        let data = self.setup.data();
        let data = data.to_str().expect("a path");
        let (command, rest) = arguments.split_first().expect("a command");
        // what the gateway itself answers is found by its folder, in external mode too
        let of_gateway = self.setup.is_embedded() || matches!(*command, "dlq" | "alarms");
        let (kafka, registry) = (self.setup.kafka.to_string(), format!("http://{}", self.setup.registry));
        let place =
            if of_gateway { vec!["--data-dir", data] } else { vec!["--bootstrap", &kafka, "--registry", &registry] };
        let printed = run(&[&["ctl", command, "--json"], &*place, rest].concat());
        assert_eq!(printed.code, Some(0), "{arguments:?}: {printed:?}");
        printed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn one(&self, arguments: &[&str]) -> Json {
        self.ctl(arguments).remove(0)
    }

    /// Values of everything in a topic under a key, by parameter.
    fn topic(&self, topic: &str, key: &str) -> Vec<Json> {
        let records = self.ctl(&["tail", topic, "--from-beginning", "--key", key]);
        let mut values: Vec<Json> = records.into_iter().map(|mut record| record["value"].take()).collect();
        values.sort_by_key(|value| value["timestamps"]["gateway_time"].to_string());
        values
    }

    fn alarm(&self, id: &str) -> Json {
        let listed = self.one(&["alarms", "list", "--state", "all"]);
        let of_id = |alarm: &&Json| alarm["alarm_key"].as_str().is_some_and(|key| key.ends_with(&format!("/{id}")));
        let alarms = listed["alarms"].as_array().expect("a list");
        alarms.iter().find(of_id).unwrap_or_else(|| panic!("no alarm {id} in {listed}")).clone()
    }

    fn group(&self, rule: &str) -> Json {
        let answer = self.one(&["dlq", "groups", "--rule", rule]);
        let groups = answer["groups"].as_array().expect("groups");
        assert_eq!(groups.len(), 1, "{answer}");
        groups[0].clone()
    }
}

/// Runs of equal quality and reason of one parameter.
fn runs(values: &[Json], parameter: &str) -> Vec<(String, String, usize)> {
    let mut runs: Vec<(String, String, usize)> = Vec::new();
    for value in values.iter().filter(|value| value["parameter"] == parameter) {
        let [quality, reason] = ["quality", "quality_reason"].map(|key| value[key].as_str().unwrap_or("-").to_owned());
        match runs.last_mut() {
            Some((known, why, count)) if *known == quality && *why == reason => *count += 1,
            _ => runs.push((quality, reason, 1)),
        }
    }
    runs
}

fn names(runs: &[(String, String, usize)]) -> Vec<String> {
    runs.iter().map(|(quality, reason, _)| format!("{quality} {reason}")).collect()
}

fn ready(gateway: &Gateway) {
    gateway.wait("everything is well", |status| {
        // known only from a stream that runs: at the very start there is no part that could be unwell
        written(status, "telemetry.raw")?;
        match components(status).find(|part| part["health"] != "HEALTHY") {
            None => Ok(()),
            Some(part) => Err(part.to_string()),
        }
    });
}

/// Waits until everything is judged. The aggregator is not waited for: what held last goes on for minutes.
fn settle(gateway: &Gateway) {
    const CALM_LOOKS: u32 = 20;
    const JUDGED: [&str; 5] = ["telemetry.raw", "telemetry.clean", "dlq.telemetry", "events.clean", "alarms.clean"];
    let (mut calm, mut last) = (0, Vec::new());
    gateway.wait_at_most("everything is judged", Duration::from_secs(120), |status| {
        let lag = components(status).find(|part| part["name"] == "validator").map(|part| part["lag_records"].clone());
        let topics = status["topics"].as_array().into_iter().flatten();
        let written: Vec<Json> = topics
            .filter(|topic| JUDGED.iter().any(|name| topic["name"] == *name))
            .map(|topic| topic["written"].clone())
            .collect();
        calm = if lag == Some(json!(0)) && written == last { calm + 1 } else { 0 };
        last = written;
        if calm >= CALM_LOOKS { Ok(()) } else { Err(format!("lag {lag:?}, written {last:?}")) }
    });
}

fn replay(shell: &Shell<'_>, gateway: &Gateway, hour: &Hour, folder: &Path) {
    let file: PathBuf = folder.join("recording.jsonl");
    hour.write(&file);
    let answer = shell.one(&["replay", file.to_str().expect("a path"), "--gateway", "gw-story", "--execute"]);
    assert_eq!(answer["readings"], json!(hour.rows.len()), "{answer}");
    settle(gateway);
}

// AC-067, AC-068, AC-071, AC-081, AC-089, AC-104, VAL-20, VAL-42, VAL-43, VAL-44, REC-14
#[test]
fn an_operator_finds_and_mends_what_happened_in_an_hour() {
    let mut hour = Hour::read(HOUR);
    let (low, high) = hour.span(PRESS, "tool_temperature");
    let trips = TRIPPED.map(|(asset, parameter)| hour.span(asset, parameter).1);
    hour.happen();
    let mut setup = document(&trips, f64::midpoint(low, high), 1);
    let gateway = setup.start();
    ready(&gateway);
    let shell = Shell { setup: &setup };
    replay(&shell, &gateway, &hour, setup.root());

    let boiler = shell.topic("telemetry.clean", BOILER);
    let pressure = runs(&boiler, "steam_pressure");
    assert_eq!(names(&pressure), ["GOOD -", "SUSPECT FLATLINE", "GOOD -"]);
    assert!((220..=245).contains(&pressure[1].2), "four of the six minutes: {pressure:?}");
    let flue_gas = runs(&boiler, "flue_gas_temperature");
    assert_eq!(names(&flue_gas), ["GOOD -", "SUSPECT SPIKE", "GOOD -"]);
    assert_eq!(flue_gas[1].2, 1);

    let pump = shell.topic("telemetry.clean", PUMP);
    let motor = runs(&pump, "motor_temperature");
    assert_eq!(
        names(&motor),
        ["GOOD -", "SUSPECT ROC_SOFT", "GOOD -", "UNCERTAIN DEVICE_TIME_FUTURE", "GOOD -"],
        "two are rejected, the third is suspect, then it is the new level (AC-068)"
    );
    let letters = shell.one(&["dlq", "list", "--rule", "motor"]);
    assert_eq!((motor[1].2, letters["entries"].as_array().map(Vec::len)), (1, Some(2)), "{letters}");
    let events = shell.ctl(&["tail", "events.clean", "--from-beginning"]);
    let skews: Vec<&Json> = events.iter().filter(|event| event["value"]["event_type"] == "clock.skew").collect();
    assert_eq!(skews.len(), 1, "one alert, not one per reading (REC-14): {skews:?}");

    for (id, state) in [("frozen", "CLEARED"), ("jumps", "CLEARED"), ("clock", "CLEARED"), ("motor-hot", "ACTIVE")] {
        let alarm = shell.alarm(id);
        assert_eq!((alarm["state"].as_str(), alarm["acked"].as_bool()), (Some(state), Some(false)), "{alarm}");
    }
    let kpis = shell.one(&["alarms", "kpis"]);
    let site = kpis["areas"].as_array().expect("areas").iter().find(|area| area["area"] == "site").expect("the area");
    assert_eq!(site["floods"], 1, "{site}");
    let hot = shell.alarm("motor-hot");
    let occurrence = hot["occurrence_id"].as_str().expect("an occurrence");
    let acked = shell.one(&["alarms", "ack", occurrence, "--by", "ada"]);
    assert_eq!(acked["result"], "APPLIED", "{acked}");
    assert_eq!(shell.alarm("motor-hot")["state"], "ACKNOWLEDGED");

    // the two readings of the step were true
    let approved =
        shell.one(&["dlq", "approve", "--rule", "motor", "--by", "ada", "--comment", "it was hot", "--execute"]);
    assert_eq!((approved["ok"].as_u64(), approved["failed"].as_u64()), (Some(2), Some(0)), "{approved}");
    // the rule was wrong
    let rejected = shell.group("tool")["count"].as_u64().expect("a count");
    let dry = shell.one(&["dlq", "dry-run", "--rule", "tool"]);
    assert_eq!((dry["ok"].as_u64(), dry["failed"].as_u64()), (Some(0), Some(rejected)), "{dry}");
    let mended = document(&trips, high + 20.0, 2).document["validation"].clone();
    let before = gateway.status().expect("a status")["revision"].clone();
    setup.document["validation"] = mended;
    setup.write();
    gateway.wait("the mended rule is in force", |status| {
        if status["revision"] == before { Err(status["revision"].to_string()) } else { Ok(()) }
    });
    let shell = Shell { setup: &setup };
    let dry = wait_for("the dry run knows the rule", Duration::from_secs(20), || {
        let dry = shell.one(&["dlq", "dry-run", "--rule", "tool"]);
        if dry["ok"].as_u64() == Some(rejected) { Ok(dry) } else { Err(dry.to_string()) }
    });
    let job = shell.one(&["dlq", "reprocess", "--rule", "tool", "--by", "ada", "--execute"]);
    assert_eq!((job["ok"].as_u64(), job["failed"].as_u64()), (Some(rejected), Some(0)), "{job}");
    let again = shell.one(&["dlq", "reprocess", "--rule", "tool", "--by", "ada", "--execute"]);
    assert_eq!(again["count"], 0, "nothing is left to decide about: {again}");
    settle(&gateway);

    let press = shell.topic("telemetry.clean", PRESS);
    let tool: Vec<&Json> = press.iter().filter(|value| value["parameter"] == "tool_temperature").collect();
    let read = hour.values(PRESS, "tool_temperature").count();
    assert_eq!(tool.len(), read, "every reading of the tool is clean now, and once");
    let mended = tool.iter().filter(|value| value["flags"].to_string().contains("reprocessed")).count();
    assert_eq!(mended as u64, rejected);
    let motor = shell.topic("telemetry.clean", PUMP);
    let approved = motor.iter().filter(|value| value["quality_reason"] == "OPERATOR_APPROVED");
    assert_eq!(approved.count(), 2);

    // what would have happened with the mended rules, without touching anything
    let rules = setup.root().join("rules.json");
    let text = json!({ "validation": setup.document["validation"], "alarms": setup.document["alarms"] }).to_string();
    std::fs::write(&rules, text).expect("the file is written");
    let report = shell.one(&["backtest", "--rules", rules.to_str().expect("a path")]);
    let flagged: BTreeMap<String, u64> = report["flagged"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|flag| (flag["code"].as_str().expect("a code").to_owned(), flag["count"].as_u64().expect("a count")))
        .collect();
    assert_eq!(flagged.get("RANGE_HARD"), None, "{report}");
    assert_eq!(flagged.get("SPIKE"), Some(&1), "{report}");
    let ledger = shell.ctl(&["ledger"]);
    say(&format!(
        "story: {} readings, {rejected} rejected by the narrow rule and reprocessed; backtest {flagged:?}, {} alarms; dry run {}; \
         ledger {}",
        hour.rows.len(),
        report["alarms"],
        dry["ok"],
        ledger[0]["verdict"]
    ));
}

// ALM-10, AC-086
#[test]
fn twenty_active_alarms_are_told_once_over_a_restart() {
    let hour = Hour::read(HOUR);
    let mut few = Hour { begin: hour.begin, points: hour.points.clone(), rows: hour.rows };
    few.rows.retain(|row| row.at_ms < 5_000);
    let floats = few.points.iter().filter(|point| point.value_type == model::ValueType::Float).take(20);
    let rules: Vec<Json> = floats
        .map(|point| {
            let (low, _) = few.span(&point.asset_id, &point.parameter);
            json!({ "id": format!("low-{}", point.parameter), "asset": point.asset_id, "parameter": point.parameter,
              "type": "hi", "limit": low - 1.0, "severity": "LOW", "message": "above its limit" })
        })
        .collect();
    let setup = Setup::new("gw-restart")
        .with("validation", json!({ "unknown_points": "pass" }))
        .with("alarms", json!({ "rules": rules }));
    let shell = Shell { setup: &setup };
    let mut gateway = setup.start();
    ready(&gateway);
    replay(&shell, &gateway, &few, setup.root());
    let told = |shell: &Shell<'_>| shell.ctl(&["tail", "alarms.clean", "--from-beginning"]).len();
    let states = |shell: &Shell<'_>| -> Vec<(String, String, String)> {
        let listed = shell.one(&["alarms", "list"]);
        let text = |alarm: &Json, key: &str| alarm[key].as_str().unwrap_or_default().to_owned();
        let mut states: Vec<_> = listed["alarms"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|alarm| (text(alarm, "occurrence_id"), text(alarm, "state"), text(alarm, "activated_at")))
            .collect();
        states.sort();
        states
    };
    let before = (told(&shell), states(&shell));
    assert_eq!((before.0, before.1.len()), (20, 20), "{:?}", before.1);
    gateway.kill();
    let mut gateway = setup.start();
    ready(&gateway);
    // the same plant goes on: still above the limits
    replay(&shell, &gateway, &few, setup.root());
    assert_eq!((told(&shell), states(&shell)), before);
    gateway.stop("TERM");
    let gateway = setup.start();
    ready(&gateway);
    replay(&shell, &gateway, &few, setup.root());
    assert_eq!((told(&shell), states(&shell)), before);
}
