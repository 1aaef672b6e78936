//! Modbus RTU: on a serial line that is a pair of pseudo terminals, and through a TCP port to one.
//!
//! The tests against pymodbus need `SF_TEST_EXTERNAL=1` and a Python with pymodbus and pyserial (`SF_PYTHON`); they say
//! `not run` otherwise.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adapters::adapter::Adapter;
use adapters::modbus::ModbusAdapter;
use adapters::sample::{Cycle, Value};
use modbus::Table;
use model::reason;
use serde_json::{Value as Json, json};
use testkit::sim::modbus::fault::{Fault, Rule};
use testkit::sim::modbus::{Framing, Memory, Simulator};

use crate::support::{build, poll, reasons};

/// The two ways to a line, for tests of what both do alike.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Serial,
    Tcp,
}

const BOTH: [Way; 2] = [Way::Serial, Way::Tcp];

/// A device of unit 1: 85.4 at offset 0, numbers from 1000 on behind it.
async fn line(way: Way) -> (Simulator, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let numbers: Vec<u16> = [0x42AA, 0xCCCD].into_iter().chain(1000..1200).collect();
    memory.holding(1, 0, &numbers);
    let model = Arc::<Memory>::clone(&memory);
    let simulator = match way {
        Way::Serial => Simulator::serial(model).unwrap(),
        Way::Tcp => {
            Simulator::start_as(SocketAddr::from(([127, 0, 0, 1], 0)), model, Framing::RtuOverTcp).await.unwrap()
        }
    };
    (simulator, memory)
}

/// Settings that read the float and three of the numbers, with `more` on top.
fn settings(simulator: &Simulator, more: &Json) -> Json {
    let mut settings = json!({
        "adapter_id": "adapter_1", "asset_id": "press", "response_timeout_ms": 400, "points": [
            {"parameter": "f", "address": "40001", "type": "float32"},
            {"parameter": "n0", "address": "40003", "type": "int16"},
            {"parameter": "n1", "address": "40004", "type": "int16"},
            {"parameter": "n2", "address": "40005", "type": "int16"},
        ],
    });
    match simulator.port() {
        Some(port) => {
            settings["adapter_type"] = json!("modbus_rtu");
            settings["serial"] = json!({"port": port, "baud": 115_200, "parity": "none", "stop_bits": 1});
        }
        None => {
            settings["adapter_type"] = json!("modbus_tcp");
            settings["host"] = json!("127.0.0.1");
            settings["port"] = json!(simulator.address().port());
            settings["framing"] = json!("rtu_over_tcp");
        }
    }
    for (key, value) in more.as_object().unwrap() {
        settings[key] = value.clone();
    }
    settings
}

async fn connected(simulator: &Simulator, more: &Json) -> ModbusAdapter {
    let mut adapter = build(&settings(simulator, more));
    adapter.connect().await.unwrap();
    adapter
}

pub(crate) fn values(cycle: &Cycle) -> Vec<Value> {
    let mut samples: Vec<_> = cycle.samples.iter().collect();
    samples.sort_by_key(|sample| sample.tag);
    samples.into_iter().map(|sample| sample.value.clone()).collect()
}

fn right() -> Vec<Value> {
    vec![Value::Float(85.4), Value::Int(1000), Value::Int(1001), Value::Int(1002)]
}

// AC-024, MB-31, MB-33
#[tokio::test]
async fn pieces_of_a_reply_and_a_wrong_checksum() {
    for way in BOTH {
        let (simulator, _memory) = line(way).await;
        simulator.script(Rule::every(Fault::Chunks(3, Duration::from_millis(16))).times(1));
        simulator.script(Rule::every(Fault::Checksum).times(1));
        let mut adapter = connected(&simulator, &json!({})).await;
        let (cycle, _) = poll(&mut adapter).await;
        assert_eq!((values(&cycle), cycle.discarded.len()), (right(), 0), "{way:?}: gaps inside a frame mean nothing");
        let (cycle, well) = poll(&mut adapter).await;
        assert_eq!((values(&cycle), well), (right(), true), "{way:?}: the repetition brings it");
        assert_eq!(cycle.discarded, ["CRC_ERROR"], "{way:?}");
        assert_eq!(simulator.request_count(), 3, "{way:?}");
        // Without ids only a new connection is sure to bring no late answer.
        assert_eq!(simulator.connection_count(), if way == Way::Tcp { 2 } else { 0 });
    }
}

// MB-33: each kind of trouble has its own counter, and the repetition brings the values.
#[tokio::test]
async fn troubles_are_told_apart() {
    for way in BOTH {
        for (fault, counter) in [
            (Fault::Unit(9), "WRONG_UNIT"),
            (Fault::Half, "SHORT_FRAME"),
            (Fault::Drop, "TIMEOUT"),
            (Fault::Function(4), "DECODE_ERROR"),
            (Fault::Short(2), "DECODE_ERROR"),
            (Fault::Garbage(b"HELLO, IS THERE ANYBODY?".to_vec()), "CRC_ERROR"),
        ] {
            let (simulator, _memory) = line(way).await;
            simulator.script(Rule::every(fault.clone()).times(1));
            let mut adapter = connected(&simulator, &json!({"response_timeout_ms": 100})).await;
            let (cycle, well) = poll(&mut adapter).await;
            assert_eq!((values(&cycle), well), (right(), true), "{way:?} {fault:?}");
            assert_eq!(cycle.discarded, [counter], "{way:?} {fault:?}");
        }
    }
}

// AC-025, MB-34
#[tokio::test]
async fn an_adapter_that_hears_itself() {
    let (simulator, _memory) = line(Way::Serial).await;
    simulator.script(Rule::every(Fault::Echo));
    let mut adapter = connected(&simulator, &json!({"echo": true})).await;
    for _ in 0..5 {
        let (cycle, _) = poll(&mut adapter).await;
        assert_eq!((values(&cycle), cycle.discarded.len()), (right(), 0));
    }
    drop(adapter);
    let deaf = json!({"echo": false, "retries": 0, "response_timeout_ms": 60});
    let mut adapter = connected(&simulator, &deaf).await;
    let mut counted = 0;
    for _ in 0..2 {
        let (cycle, _) = poll(&mut adapter).await;
        assert!(values(&cycle).iter().all(|value| *value == Value::Null), "no wrong data");
        counted += cycle.discarded.len();
    }
    assert!(counted >= 2, "each is counted");
    drop(adapter);
    // The setting is wrong the other way round: what comes back is not what was sent.
    simulator.behave();
    let mut adapter = connected(&simulator, &json!({"echo": true, "retries": 0, "response_timeout_ms": 60})).await;
    let (cycle, _) = poll(&mut adapter).await;
    assert_eq!((reasons(&cycle), cycle.discarded), (vec![reason::TIMEOUT; 4], vec!["COLLISION"]));
}

// AC-016 where no answer says to which request it belongs
#[tokio::test]
async fn late_replies_never_shift_the_values_of_a_line() {
    const POLLS: u16 = 30;
    for way in BOTH {
        let (simulator, memory) = line(way).await;
        let mut adapter = connected(&simulator, &json!({"response_timeout_ms": 50, "retries": 0})).await;
        let mut good = 0;
        for n in 0..POLLS {
            memory.holding(1, 2, &[n]);
            if n % 3 == 1 {
                simulator.script(Rule::every(Fault::Delay(Duration::from_millis(70))).times(1));
            }
            let (cycle, _) = poll(&mut adapter).await;
            match &values(&cycle)[..] {
                [_, Value::Int(value), ..] => {
                    assert_eq!(*value, i64::from(n), "{way:?}: the answer to an earlier request was taken");
                    good += 1;
                }
                other => assert!(other.iter().all(|value| *value == Value::Null), "{other:?}"),
            }
        }
        assert!(good >= POLLS / 3, "{way:?}: {good} of {POLLS} polls brought a value");
    }
}

// MB-29: three timeouts in a row, then the unit is left alone until its probe; its neighbours go on.
#[tokio::test]
async fn a_dead_unit_does_not_hold_up_the_line() {
    let (simulator, memory) = line(Way::Serial).await;
    memory.holding(5, 0, &[55]);
    simulator.script(Rule::every(Fault::Drop).unit(5));
    let mut value = settings(&simulator, &json!({"response_timeout_ms": 40, "retries": 1}));
    value["points"][1] = json!({"parameter": "dead", "address": "40001", "type": "int16", "unit_id": 5});
    let mut adapter = build(&value);
    adapter.connect().await.unwrap();
    for _ in 0..10 {
        let (cycle, well) = poll(&mut adapter).await;
        assert!(well, "a silent unit is no reason to close the port");
        let values = values(&cycle);
        assert_eq!((&values[0], &values[1], &values[3]), (&Value::Float(85.4), &Value::Null, &Value::Int(1002)));
    }
    let to_dead_unit = simulator.requests().iter().filter(|request| request.unit == 5).count();
    assert!((3..=4).contains(&to_dead_unit), "{to_dead_unit}");
}

// MB-35
#[tokio::test]
async fn a_port_is_for_one_process_and_may_be_unplugged() {
    let (simulator, _memory) = line(Way::Serial).await;
    let mut first = connected(&simulator, &json!({})).await;
    let mut second = build(&settings(&simulator, &json!({})));
    let refused = second.connect().await.unwrap_err().to_string();
    assert!(refused.contains("another process uses this port"), "{refused}");
    assert_eq!(values(&poll(&mut first).await.0), right());
    drop(first);
    second.connect().await.unwrap();
    assert_eq!(values(&poll(&mut second).await.0), right());
    drop(simulator);
    assert!(second.poll(0, &mut Cycle::new(1)).await.is_err());
    assert!(second.connect().await.is_err(), "the port is gone");
}

// MB-35
#[tokio::test]
async fn what_is_no_port_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut value = json!({"adapter_id": "a", "adapter_type": "modbus_rtu", "asset_id": "press",
        "serial": {"port": file.path()}, "points": [{"parameter": "p", "address": "40001", "type": "int16"}]});
    let error = build(&value).connect().await.unwrap_err().to_string();
    assert!(error.contains("this is no serial port"), "{error}");
    value["serial"]["port"] = json!("/dev/serial/by-id/nobody");
    assert!(build(&value).connect().await.is_err());
}

/// pymodbus on one of the two ways, until dropped.
struct Foreign(Child);

impl Foreign {
    fn start(arguments: [&str; 2]) -> Self {
        let mut child = Command::new(std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
            .arg("tests/peers/pymodbus_line.py")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert_eq!(first.trim(), "ready", "the device starts");
        Self(child)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Why the tests against pymodbus are not run.
fn absent() -> Option<String> {
    if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
        return Some("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let python = std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(&python).args(["-c", "import pymodbus, serial"]).output();
    let has_modules = output.is_ok_and(|output| output.status.success());
    (!has_modules).then(|| format!("{python} has no pymodbus or pyserial"))
}

/// What the foreign device holds, and one address it does not have.
fn foreign_settings(way: &Json) -> Json {
    let mut points = vec![json!({"parameter": "f", "address": "40001", "type": "float32"})];
    points.extend((0..123).map(|n| {
        let address = json!({"table": "holding", "offset": n + 2});
        json!({"parameter": format!("n{n}"), "address": address, "type": "uint16"})
    }));
    points.extend((0..3).map(|n| {
        let address = json!({"table": "discrete", "offset": n});
        json!({"parameter": format!("d{n}"), "address": address})
    }));
    points.push(json!({"parameter": "absent", "address": "49000", "type": "int16"}));
    let mut settings = json!({"adapter_id": "a", "asset_id": "press", "unit_id": 17, "points": points});
    settings.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
    settings
}

async fn reads_all_of_it(settings: &Json) {
    let mut adapter = build(settings);
    adapter.connect().await.unwrap();
    for _ in 0..5 {
        let (cycle, well) = poll(&mut adapter).await;
        assert!(well);
        assert_eq!(cycle.discarded, Vec::<&str>::new());
        let values = values(&cycle);
        assert_eq!(values[0], Value::Float(85.4));
        let numbers: Vec<Value> = (1000..1123).map(Value::Int).collect();
        assert_eq!(values[1..124], numbers);
        assert_eq!(values[124..], [Value::Bool(true), Value::Bool(false), Value::Bool(true), Value::Null]);
        let absent = cycle.samples.iter().find(|sample| sample.tag == 127).unwrap();
        assert_eq!(absent.verdict.reason(), Some(reason::ADDRESS_INVALID));
    }
}

pub(crate) fn not_run(what: &str, why: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "not run: {what} ({why})").expect("standard error takes a line");
}

// MB-27, MB-31, MB-34: requests of 125 registers and of bits, and a refusal, on a line somebody else serves
#[tokio::test]
async fn pymodbus_on_a_serial_line() {
    if let Some(why) = absent() {
        return not_run("pymodbus on a serial line", &why);
    }
    let folder = tempfile::tempdir().unwrap();
    let port = folder.path().join("line");
    let _device = Foreign::start(["serial", port.to_str().unwrap()]);
    let line = json!({"port": port, "baud": 115_200, "parity": "none", "stop_bits": 1});
    reads_all_of_it(&foreign_settings(&json!({"adapter_type": "modbus_rtu", "serial": line}))).await;
}

// MB-27
#[tokio::test]
async fn pymodbus_behind_a_converter() {
    if let Some(why) = absent() {
        return not_run("pymodbus behind a converter", &why);
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let _device = Foreign::start(["tcp", &port.to_string()]);
    let way = json!({"adapter_type": "modbus_tcp", "host": "127.0.0.1", "port": port, "framing": "rtu_over_tcp"});
    reads_all_of_it(&foreign_settings(&way)).await;
}

// MB-26: the tables of a line are asked for with the four reading functions only (AC-030)
#[tokio::test]
async fn only_reading_functions_go_out() {
    let (simulator, memory) = line(Way::Serial).await;
    memory.input(1, 0, &[7]);
    memory.bits(1, Table::Coil, 0, &[true]);
    memory.bits(1, Table::DiscreteInput, 0, &[true]);
    let mut value = settings(&simulator, &json!({}));
    for address in ["00001", "10001", "30001", "39999"] {
        let kind = if address.starts_with('3') { json!("int16") } else { json!("bool") };
        let point = json!({"parameter": format!("p{address}"), "address": address, "type": kind});
        value["points"].as_array_mut().unwrap().push(point);
    }
    let mut adapter = build(&value);
    adapter.connect().await.unwrap();
    for _ in 0..3 {
        poll(&mut adapter).await;
    }
    let mut functions: Vec<u8> = simulator.requests().iter().map(|request| request.pdu[0]).collect();
    functions.sort_unstable();
    functions.dedup();
    assert_eq!(functions, [1, 2, 3, 4]);
}
