//! `streamforge sim modbus` read by mbpoll, which is built on libmodbus: over TCP and on a serial line.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use testkit::plant;
use testkit::sim::modbus::Image;

use crate::harness::{PROGRAM, Simulator, external, not_run, say};

/// The boiler of the demo plant.
const UNIT: u8 = 2;
/// The plant is looked for in its first so many milliseconds.
const STARTED_MS_MAX: u64 = 120_000;

fn available() -> Result<(), String> {
    external()?;
    Command::new("mbpoll").arg("-V").output().map(|_| ()).map_err(|error| format!("mbpoll: {error}"))
}

/// What mbpoll prints of one poll: the items in their order, or what it complains about.
fn mbpoll(way: &[&str], table: &str, first: u16, count: u16) -> Result<Vec<u16>, String> {
    let numbers = [UNIT.to_string(), (first + 1).to_string(), count.to_string()];
    let output = Command::new("mbpoll")
        .args(["-1", "-q", "-o", "5", "-a", &numbers[0], "-r", &numbers[1], "-c", &numbers[2], "-t", table])
        .args(way)
        .output()
        .expect("mbpoll starts");
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let item = |line: &str| {
        let (_, item) = line.strip_prefix('[')?.split_once("]:")?;
        let item = item.trim();
        let parsed = item.strip_prefix("0x").map_or_else(|| item.parse(), |hex| u16::from_str_radix(hex, 16));
        Some(parsed.unwrap_or_else(|_| panic!("{line:?} of {text}")))
    };
    Ok(text.lines().filter_map(item).collect())
}

type Take = fn(Image) -> Vec<u16>;

fn bits(bits: Vec<bool>) -> Vec<u16> {
    bits.into_iter().map(u16::from).collect()
}

/// The tables: mbpoll's name for them, and what the plant holds in them.
const TABLES: [(&str, Take); 4] = [
    ("4:hex", |image| image.holding),
    ("3:hex", |image| image.input),
    ("1", |image| bits(image.discrete)),
    ("0", |image| bits(image.coils)),
];

fn plant(t_ms: u64) -> Image {
    plant::registers(UNIT, t_ms).expect("the boiler")
}

/// Each table twice: what is printed is the plant of one moment, and time goes on in it.
fn reads_the_plant(name: &str, way: &[&str]) {
    let (mut last, mut polls, mut items) = (0, 0, 0);
    for (table, take) in TABLES.into_iter().chain(TABLES) {
        let Ok(count @ 1..) = u16::try_from(take(plant(0)).len()) else { continue };
        let read = mbpoll(way, table, 0, count).unwrap_or_else(|error| panic!("{table}: {error}"));
        let found = (last..STARTED_MS_MAX).find(|t_ms| take(plant(*t_ms)) == read);
        last = found.unwrap_or_else(|| panic!("the plant never held {read:?} after {last} ms"));
        (polls, items) = (polls + 1, items + read.len());
    }
    assert!(polls >= 4 && last > 0, "{polls} polls, the last at {last} ms");
    let refused = mbpoll(way, "4:hex", 9000, 1).expect_err("there is no such register");
    assert!(refused.contains("Illegal data address"), "{refused}");
    say(&format!("mbpoll {name}: {items} items in {polls} polls, the last of the plant at {last} ms"));
}

// MB-44, AC-001: the simulator is a device for somebody else's client, too
#[test]
fn mbpoll_reads_the_simulated_plant_over_tcp() {
    if let Err(why) = available() {
        return not_run("mbpoll over TCP", &why);
    }
    let simulator = Simulator::start();
    let port = simulator.port().to_string();
    reads_the_plant("over TCP", &["-m", "tcp", "-p", &port, "127.0.0.1"]);
}

/// The simulator on a pseudo terminal, until dropped.
struct Serial {
    child: Child,
    path: String,
}

impl Serial {
    fn start() -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["sim", "modbus", "--serial"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the simulator starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let place = |line: String| {
            let (_, rest) = line.split_once("/dev/pts/")?;
            Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
        };
        let number = lines.by_ref().map_while(Result::ok).find_map(place).expect("the path of its port");
        // nobody reads on; the pipe stays open all the same
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, path: format!("/dev/pts/{number}") }
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

// MB-30, MB-31, MB-44
#[test]
fn mbpoll_reads_the_simulated_plant_on_a_serial_line() {
    if let Err(why) = available() {
        return not_run("mbpoll on a serial line", &why);
    }
    let serial = Serial::start();
    reads_the_plant("on a serial line", &["-m", "rtu", "-b", "115200", "-P", "none", &serial.path]);
}
