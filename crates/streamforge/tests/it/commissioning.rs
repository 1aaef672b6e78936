//! Looking at sources by the command line: what it prints, what it ends with, what it never shows.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;
use testkit::mosquitto::{self, Mosquitto};

use crate::harness::{PROGRAM, Simulator, free_address, not_run, python_available, say};

/// What is in memory beside one page.
const GROWTH_MAX_KIB: u64 = 4 * 1024;

fn run(arguments: &[&str], data: &Path) -> Output {
    Command::new(PROGRAM).args(arguments).arg("--data-dir").arg(data).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("a text")
}

/// Stores a secret as a person does.
fn store(name: &str, value: &str, data: &Path) {
    let mut child = Command::new(PROGRAM)
        .args(["ctl", "secret", "set", name, "--data-dir"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(value.as_bytes()).expect("it is read");
    assert!(child.wait().expect("it ends").success());
}

// G-10, ui 1.4
#[test]
fn a_password_is_named_on_the_command_line_and_never_shown() {
    if let Err(why) = mosquitto::available() {
        return not_run("probing a broker with a password", &why.to_string());
    }
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let users = folder.path().join("users");
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&users).args(["ada", "hunter2"]).status();
    assert!(made.expect("mosquitto_passwd runs").success());
    let more = format!("allow_anonymous false\npassword_file {}\n", users.display());
    let broker = Mosquitto::start(folder.path(), &more).unwrap();
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let ada = ["probe", &url, "--username", "ada", "--password-secret", "broker", "--seconds", "1"];
    let unknown = run(&[&ada[..], &["--allow-insecure"]].concat(), data.path());
    assert_eq!(unknown.status.code(), Some(64), "{unknown:?}");
    assert!(text(&unknown.stderr).contains("ctl secret set broker"), "{unknown:?}");
    store("broker", "hunter2", data.path());
    let clear = run(&ada, data.path());
    assert_eq!(clear.status.code(), Some(64), "in clear only on purpose: {clear:?}");
    let good = run(&[&ada[..], &["--allow-insecure", "--json"]].concat(), data.path());
    assert!(good.status.success(), "{good:?}");
    let report: Value = serde_json::from_slice(&good.stdout).expect("one object");
    assert_eq!((&report["ok"], &report["stages"][2]["name"]), (&true.into(), &"login".into()));
    store("broker", "hunter3", data.path());
    let wrong = run(&[&ada[..], &["--allow-insecure"]].concat(), data.path());
    assert_eq!(wrong.status.code(), Some(75));
    assert!(text(&wrong.stdout).contains("FAILED  login") && text(&wrong.stderr).contains("login failed"), "{wrong:?}");
    for output in [&unknown, &clear, &good, &wrong] {
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains("hunter"), "{all}");
    }
}

/// A document around adapters as `--points` prints them.
fn document(folder: &Path, adapters: &str) -> std::path::PathBuf {
    let file = folder.join("draft.yaml");
    std::fs::write(&file, format!("version: 1\ngateway_id: gw\nadapters:\n{adapters}")).expect("written");
    file
}

fn checked(file: &Path) -> String {
    let output = Command::new(PROGRAM).arg("check").arg(file).output().expect("the program starts");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", std::fs::read_to_string(file).expect("a text"));
    said
}

// ui 1.4, MQ-12, MQ-15
#[test]
fn what_was_heard_is_printed_as_a_document_that_is_good() {
    if let Err(why) = mosquitto::available() {
        return not_run("listening to a broker", &why.to_string());
    }
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = Mosquitto::start(folder.path(), "").unwrap();
    for press in ["press_7", "press_8"] {
        let payload = br#"{"ts":1769680800123,"t":21.5,"mode":"on"}"#;
        broker.publish(&format!("plant/{press}/state"), payload, &["-s", "-r"]).unwrap();
    }
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let tree = run(&["listen", &url, "plant/#", "--seconds", "1"], data.path());
    let shown = text(&tree.stdout);
    assert!(tree.status.success() && shown.contains("plant/{asset}/state  json  x2"), "{shown}");
    let points = run(&["listen", &url, "plant/#", "--seconds", "1", "--points"], data.path());
    let good = checked(&document(folder.path(), &text(&points.stdout)));
    assert!(good.contains("1 adapters"), "{good}");
    let other = run(&["listen", "opc.tcp://x"], data.path());
    assert!(other.status.code() == Some(64) && text(&other.stderr).contains("streamforge browse"), "{other:?}");
}

/// asyncua with a folder of as many variables as it is asked for.
struct Server {
    child: Child,
    stdin: ChildStdin,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let address = free_address();
        let mut child = Command::new(std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
            .arg("../adapters/tests/peers/opcua_server.py")
            .arg(address.port().to_string())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let stdin = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let url = format!("opc.tcp://127.0.0.1:{}/", address.port());
        let mut server = Self { child, stdin, output, url };
        server.wait("ready");
        server
    }

    fn wait(&mut self, wanted: &str) {
        let mut line = String::new();
        while line.trim() != wanted {
            line.clear();
            let read = self.output.read_line(&mut line).expect("it prints text");
            assert!(read > 0, "it ended before it said {wanted}");
        }
    }

    fn tell(&mut self, command: &str) {
        writeln!(self.stdin, "{command}").expect("it reads");
        self.wait("done");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line of its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

// UA-21: a hundred thousand nodes are walked in the memory of one page
#[test]
fn a_hundred_thousand_nodes_are_browsed_in_the_memory_of_one_page() {
    if let Err(why) = python_available(&["asyncua"]) {
        return not_run("browsing a hundred thousand nodes", &why);
    }
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["none", "pages=1000", "big=100000"]);
    server.tell(r#"{"do": "folder", "name": "Big"}"#);
    let mut child = Command::new(PROGRAM)
        .args(["browse", &server.url, "nsu=urn:test:line;s=Big", "--depth", "2", "--limit", "1000000"])
        .args(["--security-policy", "None", "--timeout-s", "60", "--json", "--data-dir"])
        .arg(data.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let (mut early, mut late, mut nodes, mut last) = (0, 0, 0_u64, String::new());
    for line in output.lines() {
        last = line.expect("a line");
        nodes += 1;
        match nodes {
            10_000 => early = resident_kib(child.id()),
            100_000 => late = resident_kib(child.id()),
            _ => {}
        }
    }
    assert!(child.wait().expect("it ends").success());
    let end: Value = serde_json::from_str(&last).expect("an object");
    assert_eq!((&end["told"], &end["more"]), (&100_001.into(), &false.into()), "{end}");
    say(&format!("browse: {early} KiB at 10,000 nodes, {late} KiB at 100,000"));
    assert!(late <= early + GROWTH_MAX_KIB, "from {early} to {late} KiB");
}

// UA-20, UA-21
#[test]
fn what_was_browsed_is_printed_as_a_document_that_is_good() {
    if let Err(why) = python_available(&["asyncua"]) {
        return not_run("browsing for points", &why);
    }
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Server::start(&["none"]);
    server.tell(r#"{"do": "folder", "name": "Line 1"}"#);
    server.tell(r#"{"do": "analog", "name": "Temp", "in": "Line 1", "value": 21.5, "unit": "°C", "range": [0, 150]}"#);
    let browse = ["browse", &server.url, "nsu=urn:test:line;s=Line 1", "--security-policy", "None"];
    let shown = run(&browse, data.path());
    let lines = text(&shown.stdout);
    assert!(shown.status.success(), "{shown:?}");
    let temp = lines.lines().find(|line| line.starts_with("  Temp ")).unwrap_or_else(|| panic!("{lines}"));
    let parts: Vec<&str> = temp.split_whitespace().collect();
    assert_eq!(parts, ["Temp", "variable", "Double", "21.5", "°C", "nsu=urn:test:line;s=Temp"]);
    let points = run(&[&browse[..], &["--points"]].concat(), data.path());
    let draft = text(&points.stdout);
    assert!(draft.contains("asset_id: \"line_1\"") && draft.contains("unit: \"°C\""), "{draft}");
    checked(&document(folder.path(), &draft));
}

/// Runs `preview` on a draft; its objects, one a line, and how it ended.
fn previewed(draft: &str, more: &[&str], data: &Path) -> (Vec<Value>, Output) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("draft.yaml");
    std::fs::write(&file, draft).expect("written");
    let arguments = [&["preview", file.to_str().expect("a text"), "--json", "--seconds", "3"][..], more].concat();
    let output = run(&arguments, data);
    let objects = text(&output.stdout).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    (objects, output)
}

fn value<'o>(objects: &'o [Value], parameter: &str) -> &'o Value {
    let found = objects.iter().find(|object| object["parameter"] == parameter);
    found.unwrap_or_else(|| panic!("no {parameter} in {objects:?}"))
}

// ui 1.4, step 6
#[test]
fn a_draft_for_modbus_shows_values_and_stops_by_itself() {
    let (device, data) = (Simulator::start(), tempfile::tempdir().unwrap());
    let draft = format!(
        "adapter_id: press\nadapter_type: modbus_tcp\nhost: 127.0.0.1\nport: {}\nasset_id: press_7\npoll_interval_ms: 200\npoints:\n\
         - {{ parameter: temperature, address: \"40001\", type: float32, unit: celsius }}\n\
         - {{ parameter: nothing, address: \"49999\", type: uint16 }}\n",
        device.port()
    );
    let (objects, output) = previewed(&draft, &[], data.path());
    assert!(output.status.success(), "{output:?}");
    let temperature = value(&objects, "temperature");
    assert_eq!((&temperature["unit"], &temperature["quality"]), (&"celsius".into(), &"GOOD".into()));
    assert!(temperature["value"].is_f64() && temperature["age_ms"].as_i64().expect("an age") < 3000, "{temperature}");
    let nothing = value(&objects, "nothing");
    assert_eq!((&nothing["value"], &nothing["quality"]), (&Value::Null, &"BAD".into()), "{nothing}");
    assert!(std::fs::read_dir(data.path()).expect("a folder").next().is_none(), "nothing is left in the data folder");
}

// G-06: every problem with its place, the reason and a hint, before anything is connected
#[test]
fn a_wrong_draft_is_told_with_its_place() {
    let data = tempfile::tempdir().unwrap();
    let draft = "adapters:\n- adapter_id: a\n  adapter_type: mqtt\n  url: mqtt://127.0.0.1:1\n  subscriptons: []\n";
    let (_, output) = previewed(draft, &[], data.path());
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("/adapters/0/subscriptons: is not a known key (did you mean \"subscriptions\"?)"), "{said}");
    assert!(said.contains("/adapters/0/url: would send everything readable"), "{said}");
}

// ui 1.4, step 6; G-01, MQ-02: nothing is published, and what is kept for the adapter stays kept
#[test]
fn a_draft_for_mqtt_takes_nothing_from_the_adapter_and_publishes_nothing() {
    if let Err(why) = mosquitto::available() {
        return not_run("previewing a broker", &why.to_string());
    }
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = Mosquitto::start(folder.path(), "").unwrap();
    broker.publish("plant/press_7/state", br#"{"t":21.5,"mode":1}"#, &["-s", "-r"]).unwrap();
    broker.publish("plant/press_8/state", b"{torn", &["-s", "-r"]).unwrap();
    let draft = format!(
        "- adapter_id: a\n  adapter_type: mqtt\n  url: mqtt://127.0.0.1:{}\n  allow_insecure: true\n  client_id: fixed\n  \
         status_topic: own/status\n  subscriptions:\n  - filter: $share/group/plant/+/state\n    topic: plant/{{asset}}/state\n    \
         fields: [{{ path: /t, parameter: t, unit: celsius }}]\n",
        broker.port()
    );
    let (objects, output) = previewed(&draft, &[], data.path());
    assert!(output.status.success(), "{output:?}");
    let seen = value(&objects, "t");
    assert_eq!(
        (&seen["asset_id"], &seen["value"], &seen["unit"]),
        (&"press_7".into(), &21.5.into(), &"celsius".into())
    );
    assert!(objects.iter().any(|object| object["payload"] == "{torn"), "{objects:?}");
    let log = broker.log();
    assert!(log.contains("as sf-preview-") && !log.contains("as fixed"), "{log}");
    assert!(!log.contains("Received PUBLISH from sf-preview") && !log.contains("$share"), "{log}");
    let dead =
        previewed(&draft.replace(&broker.port().to_string(), &free_address().port().to_string()), &[], data.path()).1;
    assert_eq!(dead.status.code(), Some(75));
    assert!(
        text(&dead.stderr).contains("no value came") && text(&dead.stderr).contains("streamforge probe"),
        "{dead:?}"
    );
}

// ui 1.4, step 6; UA-25
#[test]
fn what_was_browsed_is_previewed() {
    if let Err(why) = python_available(&["asyncua"]) {
        return not_run("previewing an OPC UA server", &why);
    }
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start(&["none"]);
    server.tell(r#"{"do": "analog", "name": "Temp", "value": 21.5, "unit": "°C", "range": [0, 150]}"#);
    let browse = ["browse", &server.url, "--security-policy", "None", "--points", "--asset", "Press 7"];
    let draft = text(&run(&browse, data.path()).stdout);
    let (objects, output) = previewed(&draft, &[], data.path());
    assert!(output.status.success(), "{output:?}\n{draft}");
    let temp = value(&objects, "temp");
    assert_eq!((&temp["asset_id"], &temp["value"], &temp["unit"]), (&"press_7".into(), &21.5.into(), &"°C".into()));
    assert_eq!(temp["quality"], "GOOD", "{temp}");
}
