//! Figures of an idle demo gateway. They are printed, never judged: a busy machine must not fail a test.

use std::time::Duration;

use serde_json::json;
use testkit::plant::demo_adapters;
use tokio::time::Instant;

use crate::harness::{Setup, Simulator, proportional_set_kib, say, written};

// R-10 of the promises: it runs where others cannot
#[test]
fn memory_and_time_to_the_first_durable_point_can_be_read() {
    let simulator = Simulator::start();
    let setup = Setup::new("gw-resources");
    let archive = json!({ "sink_id": "archive", "sink_type": "archive", "url": setup.root().join("archive") });
    let setup = setup.with("adapters", demo_adapters(simulator.port())).with("sinks", vec![archive]);
    let begin = Instant::now();
    let gateway = setup.start();
    let mut page = None;
    let first = gateway.wait("the first point is durable", |status| {
        page.get_or_insert_with(|| begin.elapsed());
        if written(status, "telemetry.raw")? > 0 { Ok(begin.elapsed()) } else { Err("no record".to_owned()) }
    });
    gateway.wait_for_records("telemetry.clean", 300);
    std::thread::sleep(Duration::from_secs(3)); // an idle gateway is looked at, not a starting one
    let mut pids = vec![("runtime".to_owned(), gateway.pid())];
    for role in ["broker", "adapter", "sink"] {
        pids.extend(gateway.children(role));
    }
    let brokers = usize::from(setup.is_embedded());
    assert!(pids.len() >= 5 + brokers, "runtime, three adapters, a sink and the broker, if it is ours: {pids:?}");
    let mut total = 0;
    let mut lines = Vec::new();
    for (name, pid) in &pids {
        let kib = proportional_set_kib(*pid).expect("the system tells the memory of a process");
        total += kib;
        lines.push(format!("{name} {:.1} MiB", mebibytes(kib)));
    }
    say(&format!(
        "resources: status page after {:.2?}, first durable point seen after {first:.2?}; PSS {:.1} MiB ({})",
        page.unwrap_or_default(),
        mebibytes(total),
        lines.join(", ")
    ));
}

fn mebibytes(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).expect("less than 4 TiB")) / 1024.0
}
