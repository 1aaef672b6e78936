//! The database is away: the breaker opens, nothing else notices, nothing is lost, and afterwards all of it arrives.

use std::time::Duration;

use serde_json::{Value, json};
use stream::Topic;
use tokio::time::Instant;

use crate::harness::{
    Database, Setup, component, components, not_run, number, rows_as_ledger, say, telemetry_ledger, written,
};

const SINK: &str = "historian";

// F18, F19, R-09, I4, I7
#[test]
fn an_outage_of_the_database_loses_nothing_and_touches_nobody_else() {
    let database = match Database::start() {
        Ok(database) => database,
        Err(why) => return not_run("outage of PostgreSQL", &why),
    };
    let outage = Duration::from_secs(number("SF_OUTAGE_SECONDS", 40));
    let adapter = json!({
        "adapter_id": "load", "adapter_type": "simulated", "asset_id": "load", "points": 100, "assets": 5,
        "poll_interval_ms": 100,
    });
    let setup = Setup::new("gw-outage").with("aggregation", json!({ "resolutions": ["1s"] }));
    let archive = json!({ "sink_id": "archive", "sink_type": "archive", "url": setup.root().join("archive") });
    let mut setup = setup.with("adapters", vec![adapter]).with("sinks", vec![database.sink(SINK), archive]);
    let gateway = setup.start();
    let sink_pid = gateway.wait_for_child(SINK, None);
    let others: Vec<(String, u32)> = ["broker", "adapter", "sink"]
        .iter()
        .filter(|role| setup.is_embedded() || **role != "broker")
        .flat_map(|role| {
            gateway.wait(&format!("a {role} runs"), |_| {
                let found = gateway.children(role);
                if found.is_empty() { Err("none".to_owned()) } else { Ok(found) }
            })
        })
        .filter(|(name, _)| name != SINK)
        .collect();
    gateway.wait_for_records("telemetry.clean", 3000);
    gateway.wait("rows arrive", |_| {
        let rows = database.number("SELECT count(*) FROM telemetry");
        if rows > 1000 { Ok(()) } else { Err(format!("{rows} rows")) }
    });

    database.stop();
    let begin = Instant::now();
    let clean_before = gateway.wait("figures", |status| written(status, "telemetry.clean"));
    gateway.wait_at_most("the breaker opens", outage.max(Duration::from_secs(30)), |status| {
        let part = component(status, SINK)?;
        let open = part["breaker"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("open"));
        if open && part["health"] == "UNHEALTHY" { Ok(()) } else { Err(part.to_string()) }
    });
    let opened_after = begin.elapsed();
    while begin.elapsed() < outage {
        let status = gateway.status().expect("the status page answers during the outage");
        let hurt: Vec<&Value> =
            components(&status).filter(|part| part["name"] != SINK && part["health"] != "HEALTHY").collect();
        assert!(hurt.is_empty(), "the outage of one sink is felt by {hurt:?}");
        assert_eq!(status["health"], "DEGRADED", "{}", status["reason"]);
        std::thread::sleep(Duration::from_millis(500));
    }
    let clean_during = gateway.wait("figures", |status| written(status, "telemetry.clean"));
    assert!(clean_during > clean_before + 1000, "readings go on during the outage: {clean_before} to {clean_during}");
    for (name, pid) in &others {
        assert_eq!(gateway.wait_for_child(name, None), *pid, "{name} was restarted");
    }
    assert_eq!(gateway.children("sink").iter().find(|(name, _)| name == SINK).map(|(_, pid)| *pid), Some(sink_pid));

    database.start_again();
    let back = Instant::now();
    gateway.wait_at_most("the sink has caught up", Duration::from_secs(120), |status| {
        let part = component(status, SINK)?;
        let well = part["health"] == "HEALTHY" && part["lag_records"].as_i64().is_some_and(|lag| lag < 2000);
        if well { Ok(()) } else { Err(part.to_string()) }
    });
    let caught_up_after = back.elapsed();
    setup.document["adapters"] = json!([]);
    setup.write();
    gateway.wait("the adapter is gone", |status| {
        if components(status).any(|part| part["role"] == "adapter") { Err("it runs".to_owned()) } else { Ok(()) }
    });
    gateway.wait_until_drained(Duration::from_secs(120));
    let clean = telemetry_ledger(setup.kafka, &[Topic::TelemetryClean]);
    clean.assert_each_once_in("telemetry.clean", &rows_as_ledger(&database), "PostgreSQL");
    database.assert_written_in_order();
    say(&format!(
        "outage of {outage:?}: breaker open after {opened_after:.1?}, caught up {caught_up_after:.1?} after the return, \
         {} readings",
        clean.total()
    ));
}
