//! B17: what a message costs the MQTT adapter, against what it costs mosquitto, which hands it over.
//!
//! Everything travels at quality of service 1: publisher to mosquitto, mosquitto to the adapter, and the adapter
//! acknowledges behind the stream. Each message becomes three readings. Both processes are measured over the same
//! messages, so neighbours on the machine meet both; what the stream's broker takes stands beside.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use stream::Topic;

use crate::gateway::{Gateway, Plant, free_address};
use crate::noise::{self, Guard};
use crate::record::{Row, rounded};
use crate::stats::float;
use crate::{Options, clock, proc, say, stats};

const ADAPTER: &str = "ingest";
const TOPIC: &str = "plant/press";
/// Messages per second, sent in bunches.
const RATE: u64 = 2_000;
const BUNCH: u64 = 20;
const FIELDS: u64 = 3;
/// Stretches of so many seconds, each with a ratio of its own.
const STRETCH_S: u64 = 5;
const READY_MAX: Duration = Duration::from_secs(60);

/// A mosquitto of our own with its defaults, but for a queue that drops nothing.
struct Mosquitto {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    fn start() -> anyhow::Result<Option<Self>> {
        let places = ["mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"];
        let runs = |program: &&str| Command::new(program).arg("-h").output().is_ok();
        let Some(program) = places.into_iter().find(runs).map(PathBuf::from) else { return Ok(None) };
        let (folder, port) = (tempfile::tempdir()?, free_address()?.port());
        let file = folder.path().join("mosquitto.conf");
        fs::write(
            &file,
            format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_dest none\n"),
        )?;
        let child = Command::new(program).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let broker = Self { child, port, _folder: folder };
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        if !clock::wait_until(READY_MAX, Duration::from_millis(20), listens) {
            bail!("mosquitto does not start");
        }
        Ok(Some(broker))
    }

    fn ticks(&self) -> anyhow::Result<u64> {
        Ok(proc::one(self.child.id()).context("mosquitto has ended")?.ticks)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// `mosquitto_pub`, which publishes a line as a message.
struct Publisher {
    child: Child,
    lines: Option<ChildStdin>,
    sent: u64,
}

impl Publisher {
    fn start(port: u16) -> anyhow::Result<Self> {
        let mut child = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-t", TOPIC, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start mosquitto_pub")?;
        let lines = child.stdin.take();
        Ok(Self { child, lines, sent: 0 })
    }

    /// Publishes at the rate for so many seconds.
    fn publish(&mut self, seconds: u64) -> anyhow::Result<()> {
        let lines = self.lines.as_mut().context("it is open")?;
        let begin = clock::now();
        for bunch in 0..seconds * RATE / BUNCH {
            let mut text = Vec::new();
            for _ in 0..BUNCH {
                self.sent += 1;
                let (n, time) = (self.sent, 1_769_680_800_000 + self.sent);
                writeln!(text, "{{\"ts\":{time},\"t\":{}.5,\"p\":{}.25,\"n\":{n}}}", n % 90, n % 7)?;
            }
            lines.write_all(&text)?;
            let due = Duration::from_micros((bunch + 1) * BUNCH * 1_000_000 / RATE);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
        Ok(())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.lines = None;
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    if child.kill().and_then(|()| child.wait()).is_err() {
        say::progress("a peer had ended by itself");
    }
}

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let Some(mosquitto) = Mosquitto::start()? else {
        say::line("not run: B17, mosquitto is not installed");
        return Ok(Vec::new());
    };
    let mut publisher = Publisher::start(mosquitto.port)?;
    let field = |name: &str| json!({ "path": format!("/{name}"), "parameter": name });
    let adapter = json!({
        "adapter_id": ADAPTER, "adapter_type": "mqtt", "asset_id": "load",
        "url": format!("mqtt://127.0.0.1:{}", mosquitto.port), "allow_insecure": true,
        "subscriptions": [{ "filter": TOPIC, "payload": "json", "fields": [field("t"), field("p"), field("n")],
                            "time": { "path": "/ts", "format": "epoch_ms" } }],
    });
    let gateway = Gateway::start(&options.program, &Plant { adapters: vec![adapter], sinks: Vec::new() })?;
    let stored = || gateway.written(&[Topic::TelemetryRaw]).map_or(0, |ends| ends[0]);
    let flowing =
        clock::wait_until(READY_MAX, Duration::from_millis(10), || publisher.publish(1).is_ok() && stored() > 0);
    if !flowing {
        bail!("no message arrives; the gateway said:\n{}", gateway.output());
    }
    publisher.publish(STRETCH_S)?;
    let (missed, mut guard) = (publisher.sent * FIELDS, Guard::new(true));
    guard.roots.push(mosquitto.child.id());
    let missed = missed - settled(&stored, publisher.sent * FIELDS);
    let (mut ratios, mut noises, mut costs) = (Vec::new(), Vec::new(), [0.0; 3]);
    let stretches = options.seconds.unwrap_or(60) / STRETCH_S;
    for _ in 0..stretches {
        let moment = guard.moment();
        let look = || anyhow::Ok([ticks(&gateway, ADAPTER), ticks(&gateway, "broker"), mosquitto.ticks()?]);
        let before = look()?;
        publisher.publish(STRETCH_S)?;
        let all = settled(&stored, publisher.sent * FIELDS - missed);
        if all != publisher.sent * FIELDS - missed {
            bail!("{all} readings are stored instead of {}", publisher.sent * FIELDS - missed);
        }
        let taken = look()?;
        let taken: Vec<f64> = taken.iter().zip(before).map(|(now, then)| float(now - then)).collect();
        ratios.push(taken[0] / taken[2]);
        for (cost, taken) in costs.iter_mut().zip(&taken) {
            *cost += taken / proc::ticks_per_second() * 1e6 / float(RATE * STRETCH_S * stretches);
        }
        noises.push(guard.since(&moment));
    }
    let estimate = stats::estimate(&ratios).context("nothing was measured")?;
    let mut row = Row::new("B17", "CPU per message: MQTT adapter / mosquitto", &options.commit, estimate)
        .set("rate", RATE)
        .set("qos", 1)
        .set("readings_per_message", FIELDS)
        .set("adapter_us", rounded(costs[0]))
        .set("stream_broker_us", rounded(costs[1]))
        .set("mosquitto_us", rounded(costs[2]))
        .set("messages", RATE * STRETCH_S * stretches);
    row.noise = noise::typical(&noises);
    Ok(vec![row])
}

/// Readings in the stream once no more are missing, or none came for long.
fn settled(stored: &impl Fn() -> u64, wanted: u64) -> u64 {
    clock::wait_until(Duration::from_secs(10), Duration::from_millis(20), || stored() >= wanted);
    stored()
}

fn ticks(gateway: &Gateway, label: &str) -> u64 {
    gateway.processes().iter().filter(|(name, _)| name.contains(label)).map(|(_, process)| process.ticks).sum()
}
