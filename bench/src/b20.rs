//! B20: cold start to the first durable point, against spawning `/bin/true`.
//!
//! A start is: spawn the release binary with the demo plant on an empty folder, until the first record of
//! `telemetry.clean` can be fetched. A record can only be fetched once it is on disk. Making and removing the folder is
//! outside the measurement; the page cache is warm, the binary has run before.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::bail;
use stream::Topic;
use stream::topics::PARTITIONS;

use crate::gateway::{Addresses, launch, linked, stop};
use crate::noise::Guard;
use crate::record::Row;
use crate::slices::{self, Plan};
use crate::stats::float;
use crate::{Options, clock, fetch};

const START_MAX: Duration = Duration::from_secs(60);
/// `/bin/true` runs so often in one slice; its time is that of one.
const TRUE_PER_SLICE: u32 = 50;

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut ours = || first_point(options);
    let mut peer = || {
        let begin = clock::now();
        for _ in 0..TRUE_PER_SLICE {
            Command::new("/bin/true").status()?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1000.0 / f64::from(TRUE_PER_SLICE))
    };
    let pairs = options.pairs.unwrap_or(20);
    let plan = Plan { pairs, warm_up_max: 3, guard: Guard::new(false), unit: "ms" };
    let outcome = slices::paired(&plan, &mut ours, &mut peer)?;
    let name = "cold start to the first durable point / spawning /bin/true";
    let row = Row::paired("B20", name, &options.commit, &outcome, "ms")
        .set("first_point_ms", crate::record::rounded(outcome.ours))
        .set("plant", "up --demo: simulated machines of three protocols, all in the measured start")
        .set("log", "empty");
    Ok(vec![row])
}

/// Milliseconds from spawn to the first fetchable record of the clean topic.
fn first_point(options: &Options) -> anyhow::Result<f64> {
    let folder = tempfile::Builder::new().prefix("sf-bench-").tempdir()?;
    let at = Addresses::free()?;
    let topic = Topic::TelemetryClean.name();
    let begin = clock::now();
    let mut child = linked(&options.program)
        .args(["up", "--demo", "--data-dir"])
        .arg(folder.path())
        .args(["--console", &at.console.to_string(), "--kafka", &at.kafka.to_string()])
        .args(["--registry", &at.registry.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    launch(&mut child)?;
    let mut bytes = 0;
    let deadline = begin + START_MAX;
    while bytes == 0 && clock::now() < deadline && matches!(child.try_wait(), Ok(None)) {
        bytes = fetch::bytes_in(at.kafka, topic, PARTITIONS, Duration::from_millis(250));
        if bytes == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let elapsed = begin.elapsed();
    stop(&mut child);
    if bytes == 0 {
        bail!("no record of {topic} after {elapsed:?}");
    }
    Ok(float(u64::try_from(elapsed.as_micros())?) / 1000.0)
}
