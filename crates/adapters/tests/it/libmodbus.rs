//! Modbus against devices of libmodbus, over TCP and on a serial line.
//!
//! Needs `SF_TEST_EXTERNAL=1`, a C compiler, `pkg-config` and libmodbus with its headers; says `not run` otherwise.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use adapters::adapter::Adapter;
use adapters::sample::{Cycle, Value};
use model::reason;
use serde_json::{Value as Json, json};

use crate::serial::{not_run, values};
use crate::support::{build, poll};

const SOURCE: &str = "tests/peers/libmodbus_device.c";

/// Fails with the reason when tests against foreign programs are off or something to build the device is absent.
fn available() -> Result<(), String> {
    if std::env::var("SF_TEST_EXTERNAL").as_deref() != Ok("1") {
        return Err("SF_TEST_EXTERNAL=1 is not set".to_owned());
    }
    let works = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !works(Command::new("cc").arg("--version")) {
        return Err("there is no C compiler".to_owned());
    }
    if !works(Command::new("pkg-config").args(["--exists", "libmodbus"])) {
        return Err("libmodbus or pkg-config is not installed".to_owned());
    }
    Ok(())
}

/// A device of libmodbus, until dropped.
struct Device {
    child: Child,
    lines: Receiver<String>,
    /// Port or path.
    at: String,
    folder: tempfile::TempDir,
}

impl Device {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags = Command::new("pkg-config").args(["--cflags", "--libs", "libmodbus"]).output().unwrap();
        let flags = String::from_utf8(flags.stdout).unwrap();
        let program = folder.path().join("device");
        let output = Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&program)
            .arg(SOURCE)
            .args(flags.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (child, lines, at) = run(&program, arguments);
        Self { child, lines, at, folder }
    }

    /// Ends it as pulling the plug does.
    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Again where it was.
    fn again(&mut self) {
        (self.child, self.lines, self.at) = run(&self.folder.path().join("device"), &["tcp", &self.at]);
    }

    /// The function codes it was asked for.
    fn functions(&self) -> Vec<String> {
        let mut functions: Vec<String> = self.lines.try_iter().collect();
        functions.sort();
        functions
    }
}

fn run(program: &Path, arguments: &[&str]) -> (Child, Receiver<String>, String) {
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let at = first.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("the device says {first:?}")).to_owned();
    let (send, lines) = sync_channel(1000);
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    (child, lines, at)
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// All that the device holds, and one address it does not have.
fn settings(way: &Json) -> Json {
    let at = |parameter: String, table: &str, offset: usize, kind: &str| json!({"parameter": parameter, "address": {"table": table, "offset": offset}, "type": kind});
    let mut points = vec![at("f".to_owned(), "holding", 0, "float32")];
    points.extend((0..246).map(|n| at(format!("n{n}"), "holding", n + 2, "uint16")));
    points.extend((0..10).map(|n| at(format!("i{n}"), "input", n, "int16")));
    points.extend((0..3).map(|n| at(format!("c{n}"), "coil", n, "bool")));
    points.extend((0..3).map(|n| at(format!("d{n}"), "discrete", n, "bool")));
    points.push(at("count".to_owned(), "holding", 248, "uint32"));
    points.push(at("absent".to_owned(), "holding", 8999, "int16"));
    let mut settings = json!({"adapter_id": "a", "asset_id": "press", "unit_id": 17, "points": points});
    settings.as_object_mut().unwrap().extend(way.as_object().unwrap().clone());
    settings
}

/// Everything but the counter and the absent one.
fn held() -> Vec<Value> {
    let mut held = vec![Value::Float(85.4)];
    held.extend((1000..1246).map(Value::Int));
    held.extend((7..17).map(Value::Int));
    held.extend([false, true, false, true, false, true].map(Value::Bool));
    held
}

/// The counter after a poll.
fn check(cycle: &Cycle) -> i64 {
    assert_eq!(cycle.discarded, Vec::<&str>::new());
    let values = values(cycle);
    let (rest, [count, absent]) = values.split_last_chunk().unwrap();
    assert_eq!((rest, absent), (&held()[..], &Value::Null));
    let of_absent = cycle.samples.iter().find(|sample| sample.tag == held().len() + 1).unwrap();
    assert_eq!(of_absent.verdict.reason(), Some(reason::ADDRESS_INVALID));
    let Value::Int(count) = count else { panic!("{count:?}") };
    *count
}

async fn reads_all_of_it(device: &Device, way: &Json) {
    let mut adapter = build(&settings(way));
    adapter.connect().await.unwrap();
    let mut counts = Vec::new();
    for _ in 0..10 {
        let (cycle, well) = poll(&mut adapter).await;
        assert!(well);
        counts.push(check(&cycle));
    }
    // the 250 registers that are there come in two requests; what is not there is asked for at first only
    let steps: Vec<i64> = counts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps[1..].iter().all(|step| *step == 2), "{counts:?}");
    assert_eq!(device.functions(), ["function 1", "function 2", "function 3", "function 4"], "AC-030");
}

// AC-001, AC-012, AC-030, MB-02, MB-17, MB-20: all four tables, 125 registers at once, and a refusal
#[tokio::test]
async fn libmodbus_over_tcp() {
    if let Err(why) = available() {
        return not_run("libmodbus over TCP", &why);
    }
    let device = Device::start(&["tcp", "0"]);
    let port: u16 = device.at.parse().unwrap();
    let way = json!({"adapter_type": "modbus_tcp", "host": "127.0.0.1", "port": port});
    reads_all_of_it(&device, &way).await;
}

// MB-31, MB-34, AC-030
#[tokio::test]
async fn libmodbus_on_a_serial_line() {
    if let Err(why) = available() {
        return not_run("libmodbus on a serial line", &why);
    }
    let device = Device::start(&["rtu"]);
    let line = json!({"port": device.at, "baud": 115_200, "parity": "none", "stop_bits": 1});
    reads_all_of_it(&device, &json!({"adapter_type": "modbus_rtu", "serial": line})).await;
}

// MB-24, MB-25: nothing is remembered of the connection that was
#[tokio::test]
async fn libmodbus_that_was_away() {
    if let Err(why) = available() {
        return not_run("libmodbus that was away", &why);
    }
    let mut device = Device::start(&["tcp", "0"]);
    let port: u16 = device.at.parse().unwrap();
    let mut adapter = build(&settings(&json!({"adapter_type": "modbus_tcp", "host": "127.0.0.1", "port": port})));
    adapter.connect().await.unwrap();
    assert!(check(&poll(&mut adapter).await.0) > 0);
    device.end();
    let mut cycle = Cycle::new(adapter.devices().len());
    assert!(adapter.poll(0, &mut cycle).await.is_err(), "the connection is gone");
    assert!(adapter.connect().await.is_err(), "nobody is there");
    device.again();
    adapter.connect().await.unwrap();
    let count = check(&poll(&mut adapter).await.0);
    assert!((1..=3).contains(&count), "a device that has just been started: {count}");
}
