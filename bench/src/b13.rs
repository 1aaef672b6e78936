//! B13: Modbus requests per second, ours against libmodbus and against pymodbus.
//!
//! One libmodbus server serves all three clients; server and clients share one core, so a request costs what it costs
//! and no wake-up across cores hides it. Every slice proves equal work by the sum of the registers it read.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};

use crate::noise::Guard;
use crate::record::Row;
use crate::slices::{self, Plan};
use crate::stats::float;
use crate::{Options, say};

/// Registers per request.
const REGISTERS: u16 = 100;
/// Core of both ends.
const CORE: &str = "0";
const SLICE_MS: u64 = 200;

/// A process that runs slices on demand.
struct Looper {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Looper {
    fn start(program: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", CORE, program])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let commands = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { child, commands, answers })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("it ended: {}", self.child.wait()?);
        }
        Ok(line)
    }

    /// Requests per second over one slice.
    fn slice(&mut self) -> anyhow::Result<f64> {
        writeln!(self.commands, "{SLICE_MS}")?;
        let line = self.line()?;
        let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [count, nanoseconds, sum] = numbers[..] else { bail!("not an answer: {line:?}") };
        let expected: u64 = (0..u64::from(REGISTERS)).map(|register| register * 7 + 3).sum();
        if sum != count * expected {
            bail!("{count} requests read {sum} in sum instead of {}", count * expected);
        }
        Ok(float(count) / (float(nanoseconds) / 1e9))
    }
}

impl Drop for Looper {
    fn drop(&mut self) {
        if self.child.kill().and_then(|()| self.child.wait()).is_err() {
            say::progress("a peer had ended by itself");
        }
    }
}

/// Runs it; the rows are in the order they shall be read.
pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let peers = options.peers.as_deref().context("B13 needs --peers, the folder of the compiled C programs")?;
    let path = |name: &str| peers.join(name).display().to_string();
    let mut server = Looper::start(&path("libmodbus_server"), &[])?;
    let port: u16 = server.line()?.trim().parse()?;
    let arguments = [port.to_string(), REGISTERS.to_string()];
    let own = std::env::current_exe()?.display().to_string();
    let our_arguments = [vec!["modbus-client".to_owned()], arguments.to_vec()].concat();
    let mut rows = Vec::new();
    let pairs = options.pairs.unwrap_or(60);

    let mut ours = Looper::start(&own, &our_arguments)?;
    let mut libmodbus = Looper::start(&path("libmodbus_loop"), &arguments)?;
    // the harness sleeps while a slice runs, but server and client take turns on one core: pressure is their own
    let plan = Plan { pairs, warm_up_max: 50, guard: Guard::new(false), unit: "requests/s" };
    let outcome = slices::paired(&plan, &mut || ours.slice(), &mut || libmodbus.slice())?;
    let name = "Modbus requests/s / libmodbus";
    rows.push(described(Row::paired("B13", name, &options.commit, &outcome, "requests/s"), "libmodbus, C loop"));
    drop(libmodbus);

    let mut one_thread = Looper::start(&own, &[our_arguments.clone(), vec!["--one-thread".to_owned()]].concat())?;
    let short = Plan { pairs: pairs.min(30), ..plan };
    let outcome = slices::paired(&short, &mut || one_thread.slice(), &mut || ours.slice())?;
    let name = "Modbus requests/s on a runtime of one thread / on the adapter's runtime";
    let row = Row::paired("B13", name, &options.commit, &outcome, "requests/s");
    rows.push(described(row, "our own client, as the adapter's process runs it"));
    drop(one_thread);

    match options.python.as_deref() {
        Some(python) if has_pymodbus(python) => {
            let script = options.folder.join("peers").join("pymodbus_loop.py").display().to_string();
            let arguments = [vec![script], arguments.to_vec()].concat();
            let mut pymodbus = Looper::start(&python.display().to_string(), &arguments)?;
            let outcome = slices::paired(&short, &mut || ours.slice(), &mut || pymodbus.slice())?;
            let name = "Modbus requests/s / pymodbus";
            rows.push(described(
                Row::paired("B13", name, &options.commit, &outcome, "requests/s"),
                "pymodbus, blocking client",
            ));
        }
        _ => say::line("not run: B13 against pymodbus, the module is not installed"),
    }
    Ok(rows)
}

fn described(row: Row, peer: &str) -> Row {
    row.set("peer_program", peer)
        .set("registers_per_request", REGISTERS)
        .set("slice_ms", SLICE_MS)
        .set("server", "libmodbus, C")
        .set("client", "the adapter's connection over tokio, in the main task of a runtime with one worker")
        .set("pinned", "both ends on one core")
        .set("outstanding", 1)
}

fn has_pymodbus(python: &Path) -> bool {
    let output = Command::new(python).args(["-c", "import pymodbus"]).output();
    output.is_ok_and(|output| output.status.success())
}
