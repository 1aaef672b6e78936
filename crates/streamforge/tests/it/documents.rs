//! Documents: the published example runs unchanged, a broken one is explained and never replaces a running one.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::plant::demo_adapters;

use crate::harness::{
    Gateway, PROGRAM, Setup, Simulator, component, free_address, get, not_run, say, signal, wait_for,
};

/// The architecture document's example, character by character.
const EXAMPLE: &str = include_str!("../data/adapter-config.json");

fn example() -> Value {
    serde_json::from_str(EXAMPLE).expect("JSON")
}

// MB-43
#[test]
fn the_published_example_is_accepted_unchanged() {
    let setup = Setup::new("gw-example").with("adapters", vec![example()]);
    setup.write();
    let output = Command::new(PROGRAM).arg("check").arg(setup.document_file()).output().expect("the program runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("1 adapters"), "{printed}");

    let admin = free_address();
    let mut adapter = Command::new(PROGRAM)
        .args(["adapter", "--id", "adapter_modbus_001"])
        .env("ADAPTER_CONFIG", EXAMPLE)
        .env("SF_ADMIN_LISTEN", admin.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the adapter starts");
    let health = |path: &str| get(&admin.to_string(), path);
    wait_for("the adapter answers", Duration::from_secs(30), || health("/health").map(|_| ()));
    // neither the device nor the stream is there: it says so and lives on (G-09)
    let worse = wait_for("the adapter says that it is not well", Duration::from_secs(40), || {
        let (code, body) = health("/health")?;
        let body: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        let well = body["status"].as_str().is_none_or(|status| status.eq_ignore_ascii_case("healthy"));
        if code == 200 && !well { Ok(body) } else { Err(body.to_string()) }
    });
    assert_eq!(health("/health/live").expect("an answer").0, 200, "{worse}");
    assert_eq!(health("/health/ready").expect("an answer").0, 503, "nothing can be stored: {worse}");
    assert!(adapter.try_wait().expect("a state").is_none(), "it ended");
    signal(adapter.id(), "TERM");
    wait_for("the adapter ends", Duration::from_secs(20), || {
        adapter.try_wait().ok().flatten().ok_or_else(|| "it runs on".to_owned())
    });
}

/// A network namespace in which 192.168.1.50 is this machine and `kafka` is its loopback.
struct Plant {
    name: String,
}

impl Plant {
    fn new() -> Result<Self, String> {
        let name = format!("sf-e2e-{}", std::process::id());
        let plant = Self { name };
        ip(&["netns", "add", &plant.name])?;
        let hosts = format!("/etc/netns/{}", plant.name);
        std::fs::create_dir_all(&hosts).map_err(|error| error.to_string())?;
        std::fs::write(format!("{hosts}/hosts"), "127.0.0.1 localhost kafka\n").map_err(|error| error.to_string())?;
        ip(&["-n", &plant.name, "link", "set", "lo", "up"])?;
        ip(&["-n", &plant.name, "addr", "add", "192.168.1.50/32", "dev", "lo"])?;
        Ok(plant)
    }

    /// The program, run inside.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, PROGRAM]).args(arguments);
        command
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.name]) {
            say(&format!("the network namespace stays behind: {error}"));
        }
        drop(std::fs::remove_dir_all(format!("/etc/netns/{}", self.name)));
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {}: {text}", arguments.join(" "))) }
}

/// A process that is killed when the test ends. `ip netns exec` becomes the program, so its id is the program's.
struct Running(std::process::Child);

impl Running {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("a process starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            signal(self.0.id(), "TERM");
        }
        drop(self.0.wait());
    }
}

// the document's own words: host 192.168.1.50, kafka:9092, asset line_1_sensor_01, every second
#[test]
fn the_published_example_runs_against_a_device() {
    let plant = match Plant::new() {
        Ok(plant) => plant,
        Err(why) => return not_run("the published example in a network of its own", &why),
    };
    let setup = Setup::new("gw-plant")
        .with("console", json!({ "listen": "127.0.0.1:8080" }))
        .with("stream", json!({ "mode": "embedded", "listen": "127.0.0.1:9092", "registry_listen": "127.0.0.1:8081" }));
    setup.write();
    let _device = Running::start(plant.command(&["sim", "modbus", "--listen", "192.168.1.50:502"]));
    let (document, data) = (setup.document_file().display().to_string(), setup.data().display().to_string());
    let _gateway = Running::start(plant.command(&["gateway", "--config", &document, "--data-dir", &data]));
    let topics = || {
        let output = plant.command(&["ctl", "topics"]).output().expect("the program runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    wait_for("the stream is there", Duration::from_secs(60), || {
        let printed = topics();
        if printed.contains("telemetry.clean") { Ok(()) } else { Err(printed) }
    });
    let mut adapter = plant.command(&["adapter", "--id", "adapter_modbus_001"]);
    adapter.env("ADAPTER_CONFIG", EXAMPLE);
    let _adapter = Running::start(adapter);
    wait_for("three readings are clean", Duration::from_secs(60), || {
        let printed = topics();
        let row = printed.lines().find(|line| line.starts_with("telemetry.clean ")).unwrap_or_default();
        let count: u64 = row.split_whitespace().nth(2).and_then(|count| count.parse().ok()).unwrap_or(0);
        if count >= 3 { Ok(()) } else { Err(printed) }
    });
    let output = plant
        .command(&["ctl", "tail", "telemetry.clean", "--from-beginning", "-n", "3"])
        .output()
        .expect("the program runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut times = Vec::new();
    for line in printed.lines() {
        let (place, body) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let reading: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(place.starts_with("10/"), "line_1_sensor_01 lives in partition 10 (AC-063): {line}");
        for (pointer, wanted) in [
            ("/asset_id", "line_1_sensor_01"),
            ("/parameter", "temperature"),
            ("/unit", "celsius"),
            ("/quality", "GOOD"),
            ("/classification", "TELEMETRY"),
            ("/metadata/adapter_id", "adapter_modbus_001"),
        ] {
            assert_eq!(reading.pointer(pointer).and_then(Value::as_str), Some(wanted), "{pointer} of {line}");
        }
        assert!(reading["value"].is_number(), "{line}");
        assert!(reading.pointer("/metadata/adapter_version").is_some_and(Value::is_string), "{line}");
        times.push(reading.pointer("/timestamps/device_time").and_then(Value::as_str).expect("a time").to_owned());
    }
    assert_eq!(times.len(), 3, "{printed}");
    assert!(times.is_sorted(), "{times:?}");
}

// G-06, AC-002, AC-066
#[test]
fn every_problem_of_a_broken_document_is_printed_with_its_path() {
    let setup = Setup::new("gw-broken");
    let adapter = json!({
        "adapter_id": "a", "adapter_type": "modbus_tcp", "host": "10.0.0.1", "asset_id": "a", "prot": 502,
        "points": [
            { "parameter": "p1", "address": 40001, "type": "float32" },
            { "parameter": "p2", "address": "40000", "type": "float32" },
            { "parameter": "p3", "address": "465537", "type": "float32" },
            { "parameter": "p4", "address": { "table": "holding", "offset": 65535 }, "type": "float32" },
        ],
    });
    let rule = json!({ "id": "r", "range": { "hard_lo": 0, "hard_hi": 100, "soft_lo": -10, "soft_hi": 110 } });
    let setup = setup
        .with("adapters", vec![adapter])
        .with("sinks", json!([{ "sink_id": "s", "sink_type": "timescal", "url": "postgres://x" }]))
        .with("validation", json!({ "rules": [rule] }))
        .with("colour", "blue");
    setup.write();
    let wanted = [
        "/adapters/0/prot",
        "/adapters/0/points/0/address",
        "/adapters/0/points/1/address",
        "/adapters/0/points/2/address",
        "/adapters/0/points/3/address",
        "/sinks/0/sink_type",
        "/validation/rules/0/range",
        "/colour",
    ];
    let output = Command::new(PROGRAM).arg("check").arg(setup.document_file()).output().expect("the program runs");
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(78), "{printed}");
    for path in wanted {
        assert!(printed.lines().any(|line| line.starts_with(path)), "{path} is not mentioned:\n{printed}");
    }
    let ranges = printed.lines().filter(|line| line.starts_with("/validation/rules/0/range")).count();
    assert_eq!(ranges, 2, "both crossed limits are named:\n{printed}");

    // a gateway that never had a good document does not start with a bad one, and says the same
    let mut gateway = Gateway::start(&setup);
    let code = gateway.wait_for_end();
    let printed = gateway.printed();
    assert_eq!(code, Some(78), "{printed}");
    for path in wanted {
        assert!(printed.contains(path), "{path} is not mentioned:\n{printed}");
    }
}

// G-06, G-07, F27
#[test]
fn a_broken_document_never_replaces_the_running_one_and_a_mended_one_restarts_only_what_changed() {
    let simulator = Simulator::start();
    let mut setup = Setup::new("gw-edit").with("adapters", demo_adapters(simulator.port()));
    let gateway = setup.start();
    let broker = setup.is_embedded().then_some("broker");
    let pids = || -> Vec<u32> {
        let names = ["adapter_press", "adapter_boiler", "adapter_pump"].into_iter().chain(broker);
        names.map(|name| gateway.wait_for_child(name, None)).collect()
    };
    let before = pids();
    let revision = gateway.wait("a revision is shown", |status| Ok(status["revision"].clone()));
    let clean = gateway.wait_for_records("telemetry.clean", 120);

    for broken in
        ["{ \"version\": 1, ", "{\"version\":1,\"gateway_id\":\"gw-edit\",\"adapters\":[{\"adapter_id\":\"x\"}]}"]
    {
        setup.write_text(broken);
        gateway.wait("the rejection is shown", |status| {
            let problems = status["rejected"]["problems"].as_array().map_or(0, Vec::len);
            let about_this = broken.len() < 30 || status["rejected"].to_string().contains("/adapters/0/adapter_type");
            if problems > 0 && about_this { Ok(()) } else { Err(status["rejected"].to_string()) }
        });
        assert_eq!(pids(), before, "a bad document restarted something");
    }
    gateway.wait("the old revision runs", |status| {
        if status["revision"] == revision { Ok(()) } else { Err(status["revision"].to_string()) }
    });
    gateway.wait_for_records("telemetry.clean", clean + 120);

    setup.document["adapters"][1]["groups"]["default"]["period_ms"] = json!(700);
    setup.write();
    gateway.wait("the mended document is taken over", |status| {
        let taken = status["rejected"].is_null() && status["revision"] != revision;
        let boiler = component(status, "adapter_boiler")?;
        let other = boiler["pid"].as_u64().is_some_and(|pid| pid != u64::from(before[1]));
        if taken && other { Ok(()) } else { Err(format!("{} {boiler}", status["rejected"])) }
    });
    let after = pids();
    assert_eq!((before[0], &before[2..]), (after[0], &after[2..]), "only the changed adapter restarts");
    assert_ne!(before[1], after[1]);
    let clean = gateway.wait("figures", |status| crate::harness::written(status, "telemetry.clean"));
    gateway.wait_for_records("telemetry.clean", clean + 120);
}
