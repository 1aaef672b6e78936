//! `kill -9` of every kind of process at random moments under load: nothing acknowledged is lost, nothing is doubled.

use std::time::Duration;

use serde_json::json;
use stream::Topic;
use tokio::time::Instant;

use crate::harness::{
    Acknowledged, Database, Gateway, Ledger, Random, Setup, command_line, component, components, is_running, kill_9,
    not_run, number, rows_as_ledger, say, telemetry_ledger, wait_for, written,
};

/// Load: readings per second of both adapters together.
const ADAPTERS: [(&str, u64, u64, u64); 2] = [("load_fast", 200, 7, 100), ("load_slow", 500, 13, 500)];
const SINK: &str = "historian";
/// How long a child may outlive its runtime: it has to hand over what it holds.
const ORPHAN_LIFE_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy)]
enum Victim {
    Broker,
    Adapter,
    Sink,
    Runtime,
}

fn setup(database: Option<&Database>) -> Setup {
    let adapter = |(id, points, assets, period): (&str, u64, u64, u64)| {
        json!({
            "adapter_id": id, "adapter_type": "simulated", "asset_id": id, "points": points, "assets": assets,
            "poll_interval_ms": period,
        })
    };
    let setup = Setup::new("gw-kills").with("aggregation", json!({ "resolutions": ["1s"] }));
    let sink = match database {
        Some(database) => database.sink(SINK),
        None => json!({ "sink_id": SINK, "sink_type": "archive", "url": setup.root().join("archive") }),
    };
    setup.with("adapters", ADAPTERS.map(adapter).to_vec()).with("sinks", vec![sink])
}

/// Asks each adapter how much was acknowledged to it, and its start counter from the runtime's own file.
fn note_acknowledged(gateway: &Gateway, setup: &Setup, notes: &mut Acknowledged) {
    for (id, ..) in ADAPTERS {
        let Some(epoch) = epoch_of(setup, id) else { continue };
        let Ok(text) = gateway.metrics(id) else { continue };
        let Some(count) = metric(&text, "sf_records_acknowledged_total") else { continue };
        // the file may be a step ahead of the process that answers: then the number is of the epoch before
        if epoch_of(setup, id) == Some(epoch) && gateway.children("adapter").iter().any(|(name, _)| name == id) {
            let note = notes.0.entry((id.to_owned(), epoch)).or_default();
            *note = count.max(*note);
        }
    }
}

fn epoch_of(setup: &Setup, adapter: &str) -> Option<i64> {
    let bytes = daemon::state_file::read(&setup.data().join("state/epochs.json")).ok()??;
    let counters: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    counters[adapter].as_i64()
}

fn metric(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let value: f64 = line.rsplit_once(' ')?.1.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of a few thousands")]
    let count = value as usize;
    Some(count)
}

fn wait_until_all_run(gateway: &Gateway, setup: &Setup) {
    if setup.is_embedded() {
        gateway.wait_for_child("broker", None);
    }
    gateway.wait_for_child(SINK, None);
    for (id, ..) in ADAPTERS {
        gateway.wait_for_child(id, None);
    }
    let raw = gateway.wait("readings are stored", |status| written(status, "telemetry.raw"));
    gateway.wait_for_records("telemetry.raw", raw + 500);
    let clean = gateway.wait("readings are judged", |status| written(status, "telemetry.clean"));
    gateway.wait_for_records("telemetry.clean", clean + 500);
}

/// Kills the runtime and starts another at once, as a service manager does. What the dead one left must go by itself.
fn kill_runtime(gateway: &mut Gateway, setup: &Setup) -> Gateway {
    let mut orphans: Vec<(u32, String)> =
        gateway.descendants().into_iter().map(|pid| (pid, command_line(pid))).collect();
    gateway.kill();
    let begin = Instant::now();
    let next = Gateway::start(setup);
    wait_for("the children of the killed runtime go", ORPHAN_LIFE_MAX, || {
        let gone = orphans.extract_if(.., |(pid, _)| !is_running(*pid));
        for (_, name) in gone.filter(|_| begin.elapsed() > Duration::from_secs(5)) {
            say(&format!("an orphan took {:.1?} to end: {name}", begin.elapsed()));
        }
        if orphans.is_empty() { Ok(()) } else { Err(format!("{orphans:?}")) }
    });
    next
}

// F4: broker, adapters and sinks see the end of their parent at once, each waits for nobody, and a successor finds the
// folder free
#[test]
fn a_killed_gateway_leaves_nobody_behind() {
    let setup = setup(None);
    let mut gateway = setup.start();
    wait_until_all_run(&gateway, &setup);
    let orphans = gateway.descendants();
    let brokers = usize::from(setup.is_embedded());
    assert!(orphans.len() >= 3 + brokers, "two adapters, a sink and the broker, if it is ours: {orphans:?}");
    gateway.kill();
    let begin = Instant::now();
    wait_for("the children of the killed runtime go", ORPHAN_LIFE_MAX, || {
        let left: Vec<String> = orphans.iter().filter(|pid| is_running(**pid)).map(|pid| command_line(*pid)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    say(&format!("the last child of a killed gateway was gone after {:.1?}", begin.elapsed()));
}

/// Stops the load and waits until everything has reached its end.
fn quiesce(gateway: &Gateway, setup: &mut Setup) {
    setup.document["adapters"] = json!([]);
    setup.write();
    gateway.wait("the adapters are gone", |status| {
        if components(status).any(|part| part["role"] == "adapter") { Err("they run".to_owned()) } else { Ok(()) }
    });
    gateway.wait_until_drained(Duration::from_secs(180));
}

/// Everything that must hold after any history of crashes.
fn check(setup: &Setup, database: Option<&Database>, acknowledged: &Acknowledged) -> Ledger {
    let raw = telemetry_ledger(setup.kafka, &[Topic::TelemetryRaw]);
    let judged = telemetry_ledger(setup.kafka, &[Topic::TelemetryClean, Topic::DlqTelemetry]);
    if let Some(database) = database {
        let clean = telemetry_ledger(setup.kafka, &[Topic::TelemetryClean]);
        let rows = rows_as_ledger(database);
        say(&format!(
            "raw {} ({} with repetitions), clean or dead letter {}, rows {}",
            raw.distinct(),
            raw.total(),
            judged.total(),
            rows.total()
        ));
        clean.assert_each_once_in("telemetry.clean", &rows, "PostgreSQL");
        database.assert_written_in_order();
    } else {
        say(&format!(
            "raw {} ({} with repetitions), clean or dead letter {}",
            raw.distinct(),
            raw.total(),
            judged.total()
        ));
    }
    raw.assert_each_once_in("telemetry.raw", &judged, "telemetry.clean and dlq.telemetry");
    raw.assert_contiguous("telemetry.raw", acknowledged);
    raw
}

// F1, F2, F3, F4, F5, I1, I2, I3, I4, I7, REC-03, REC-13
#[test]
fn no_kill_loses_or_doubles_what_was_acknowledged() {
    let mut random = Random::new("kills");
    let rounds = number("SF_KILLS", 2);
    let database = match Database::start() {
        Ok(database) => Some(database),
        Err(why) => {
            not_run("kills with PostgreSQL at the end", &why);
            None
        }
    };
    let mut setup = setup(database.as_ref());
    let mut gateway = setup.start();
    wait_until_all_run(&gateway, &setup);
    let mut acknowledged = Acknowledged::default();
    for round in 1..=rounds {
        let mut victims = vec![Victim::Adapter, Victim::Sink, Victim::Runtime];
        if setup.is_embedded() {
            victims.push(Victim::Broker);
        }
        random.shuffle(&mut victims);
        for victim in victims {
            std::thread::sleep(Duration::from_millis(300 + random.below(2500))); // the random moment
            note_acknowledged(&gateway, &setup, &mut acknowledged);
            let name = match victim {
                Victim::Broker => "broker",
                Victim::Adapter => ADAPTERS[usize::from(random.below(2) == 1)].0,
                Victim::Sink => SINK,
                Victim::Runtime => "runtime",
            };
            if matches!(victim, Victim::Runtime) {
                gateway = kill_runtime(&mut gateway, &setup);
            } else {
                let pid = gateway.wait_for_child(name, None);
                kill_9(pid);
                gateway.wait(&format!("another {name} runs"), |status| {
                    let part = component(status, name)?;
                    let other = part["pid"].as_u64().filter(|now| *now != u64::from(pid));
                    other.map(|_| ()).ok_or_else(|| part.to_string())
                });
            }
            say(&format!("round {round} of {rounds}: killed {name}"));
            wait_until_all_run(&gateway, &setup);
        }
    }
    note_acknowledged(&gateway, &setup, &mut acknowledged);
    quiesce(&gateway, &mut setup);
    let last: Vec<(String, i64)> =
        ADAPTERS.iter().filter_map(|(id, ..)| Some(((*id).to_owned(), epoch_of(&setup, id)?))).collect();
    // the last start of each adapter ended well: all it numbered must be there
    acknowledged.0.retain(|key, _| !last.contains(key));
    let raw = check(&setup, database.as_ref(), &acknowledged);
    for (adapter, epoch) in &last {
        assert_eq!(raw.epochs(adapter).last(), Some(epoch), "the last epoch of {adapter} is in the topic");
    }
}
