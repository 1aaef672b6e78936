//! A device that somebody else wrote: every poll of it is in PostgreSQL, once, with the values of its registers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Database, Peer, Setup, components, free_address, not_run, number, python_available, say};

const UNIT: u8 = 7;
/// Coils 0 to 15: a counter in the first eight, its complement in the others.
const COILS: usize = 16;

fn points() -> Vec<Value> {
    let point = |parameter: &str, address: &str, kind: &str| json!({ "parameter": parameter, "address": address, "type": kind });
    let ordered = |parameter: &str, address: &str, order: &str| json!({ "parameter": parameter, "address": address, "type": "float32", "order": order });
    let mut points = vec![
        point("cycle", "40001", "uint32"),
        ordered("f_abcd", "40003", "ABCD"),
        ordered("f_cdab", "40005", "CDAB"),
        ordered("f_badc", "40007", "BADC"),
        ordered("f_dcba", "40009", "DCBA"),
        point("i16", "40011", "int16"),
        point("i32", "40012", "int32"),
        point("i64", "40014", "int64"),
        point("u64", "40018", "uint64"),
        point("u64_large", "40022", "uint64"),
        point("bit_0", "40026.0", "bit"),
        point("bit_3", "40026.3", "bit"),
        json!({ "parameter": "text", "address": "40027", "type": "string", "registers": 8 }),
    ];
    points.extend((0..COILS).map(|coil| point(&format!("coil_{coil:02}"), &format!("{:05}", coil + 1), "bool")));
    points
}

/// The value columns of a row: `value`, `value_int`, `value_bool`, `value_text`.
type Values = (Option<f64>, Option<i64>, Option<bool>, Option<String>);

/// What the registers held when the counter was `c`, as the row of each parameter.
fn expected(c: i64) -> BTreeMap<&'static str, Values> {
    let small = |c: i64| f64::from(i32::try_from(c).expect("a short test"));
    let float = |number: f64| (Some(number), None, None, None);
    #[expect(clippy::cast_precision_loss, reason = "the column holds what a double can")]
    let integer = |number: i64| (Some(number as f64), Some(number), None, None);
    #[expect(clippy::cast_precision_loss, reason = "rounded as the device's reader must round it")]
    let large = (u64::MAX - c.unsigned_abs()) as f64;
    let truth = |truth: bool| (None, None, Some(truth), None);
    let wrapped = i16::from_be_bytes(u16::try_from((c * 7) & 0xFFFF).expect("masked").to_be_bytes());
    BTreeMap::from([
        ("cycle", integer(c)),
        ("f_abcd", float(small(c) * 0.25)),
        ("f_cdab", float(small(c) * 0.5 + 1000.5)),
        ("f_badc", float(-small(c) * 0.25)),
        ("f_dcba", float(small(c) * 2.0 + 0.5)),
        ("i16", integer(wrapped.into())),
        ("i32", integer(-c * 1001)),
        ("i64", integer(-c * 1_000_000_007)),
        ("u64", integer(9_000_000_000_000_000_000 + c)),
        ("u64_large", float(large)), // AC-005: no negative number, rounded and marked
        ("bit_0", truth(c & 1 == 1)),
        ("bit_3", truth(c & 8 == 8)),
        ("text", (None, None, None, Some(format!("cycle {c:010}")))),
    ])
}

// AC-003, AC-004, AC-005, AC-010, MB-10, MB-19, MB-36, REC-03, I4
#[test]
fn every_poll_of_a_foreign_device_is_in_the_database_once() {
    if let Err(why) = python_available(&["pymodbus"]) {
        return not_run("pymodbus to PostgreSQL", &why);
    }
    let database = match Database::start() {
        Ok(database) => database,
        Err(why) => return not_run("pymodbus to PostgreSQL", &why),
    };
    let seconds = number("SF_SOAK_SECONDS", 20);
    let device = free_address();
    let server = Peer::start("pymodbus_server.py", &[device.port().to_string()]);
    let adapter = json!({
        "adapter_id": "adapter_foreign", "adapter_type": "modbus_tcp", "host": "127.0.0.1", "port": device.port(),
        "unit_id": UNIT, "asset_id": "foreign_01", "poll_interval_ms": 100, "points": points(),
    });
    let mut setup = Setup::new("gw-pymodbus")
        .with("adapters", vec![adapter])
        .with("sinks", vec![database.sink("historian")])
        .with("aggregation", json!({ "resolutions": ["1s"] }));
    let gateway = setup.start();
    gateway.wait_for_child("adapter_foreign", None);
    std::thread::sleep(Duration::from_secs(seconds)); // the length of the soak, not a wait for something
    setup.document["adapters"] = json!([]);
    setup.write();
    gateway.wait("the adapter is gone", |status| {
        if components(status).any(|part| part["role"] == "adapter") { Err("it runs".to_owned()) } else { Ok(()) }
    });
    let reads: Value = serde_json::from_str(server.stop().trim()).expect("the counters of the device");
    gateway.wait_until_drained(Duration::from_secs(60));

    let names: Vec<String> =
        points().iter().map(|point| point["parameter"].as_str().expect("a name").to_owned()).collect();
    let rows = database.query(
        "SELECT epoch, seq, parameter, value, value_int, value_bool, value_text, quality, quality_reason, \
         extract(epoch FROM time) FROM telemetry ORDER BY epoch, seq",
    );
    let polls = rows.len() / names.len();
    assert_eq!(rows.len(), polls * names.len(), "whole polls only");
    let mut last_coils = None;
    let mut first_cycle = 0;
    let mut times = Vec::new();
    for (number, poll) in rows.chunks(names.len()).enumerate() {
        let mut by_name: BTreeMap<&str, &Vec<String>> = BTreeMap::new();
        for (place, row) in poll.iter().enumerate() {
            assert_eq!(row[0], "1", "one start, one epoch");
            assert_eq!(row[1], (number * names.len() + place).to_string(), "no gap and nothing twice");
            by_name.insert(&row[2], row);
        }
        assert_eq!(by_name.len(), names.len(), "each point once in a poll");
        let cycle: i64 = by_name["cycle"][4].parse().expect("a counter");
        if number == 0 {
            first_cycle = cycle;
        }
        assert_eq!(cycle, first_cycle + i64::try_from(number).expect("a count"), "every read of the device is there");
        for (name, (value, integer, truth, text)) in expected(cycle) {
            let row = by_name[name];
            let place = format!("cycle {cycle}, {row:?}");
            assert_eq!(row[3].parse::<f64>().ok(), value, "{place}");
            assert_eq!(row[4].parse::<i64>().ok(), integer, "{place}");
            assert_eq!(row[5], truth.map_or("", |truth| if truth { "t" } else { "f" }), "{place}");
            assert_eq!(row[6], text.unwrap_or_default(), "{place}");
            let quality = if name == "u64_large" { ["SUSPECT", "PRECISION_LOSS"] } else { ["GOOD", ""] };
            assert_eq!(row[7..9], quality, "{place}");
        }
        times.push(by_name["cycle"][9].parse::<f64>().expect("a time"));
        let coils = (0..COILS).fold(0_u16, |bits, coil| {
            let set = by_name[format!("coil_{coil:02}").as_str()][5] == "t";
            bits | u16::from(set) << coil
        });
        let (low, high) = (coils & 0xFF, coils >> 8);
        assert_eq!(low ^ high, 0xFF, "coils of one answer belong together");
        if let Some(before) = last_coils {
            assert_eq!(low, (before + 1) & 0xFF, "every read of the coils is there");
        }
        last_coils = Some(low);
    }
    let total_reads = reads["holding"].as_i64().expect("a count");
    let last_cycle = first_cycle + i64::try_from(polls).expect("a count") - 1;
    // a poll under way at the stop is abandoned before it has a number
    assert!(first_cycle == 1 && total_reads - last_cycle <= 1, "cycles {first_cycle} to {last_cycle} of {reads}");
    assert_eq!(reads["other"], 0, "only reads of what is configured: {reads}");
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let span = times.last().expect("polls") - times[0];
    say(&format!(
        "pymodbus: {polls} polls x {} points = {} rows in {span:.1} s, longest pause between polls {longest:.3} s",
        names.len(),
        rows.len()
    ));
    database.assert_written_in_order();
}
