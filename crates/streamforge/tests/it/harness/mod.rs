//! What the end-to-end tests share: folders, ports, documents, gateways, readers of topics, foreign programs.
//!
//! Nothing here knows the inside of the product: it reads the status page, the topics, files that are contracts, and
//! signals processes by the ids that the status page shows.

mod broker;
mod cluster;
mod database;
mod gateway;
mod http;
mod ledger;
mod peers;
mod processes;
mod setup;
mod topics;

use std::io::Write;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use broker::{Broker, Printed, run, run_with_input};
pub(crate) use cluster::{Cluster, kafka_folder};
pub(crate) use database::{Database, rows_as_ledger};
pub(crate) use gateway::{Gateway, component, components, written};
pub(crate) use http::{get, post};
pub(crate) use ledger::{Acknowledged, Ledger};
pub(crate) use peers::{Peer, kcat_available, python, python_available};
pub(crate) use processes::{command_line, is_running, kill_9, proportional_set_kib, signal, with_text_in_environment};
pub(crate) use setup::{Setup, Simulator, free_address};
pub(crate) use topics::{Stored, each_record, read_all, telemetry_ledger};

/// How often conditions are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_streamforge");

/// True when tests against foreign programs are switched on.
pub(crate) fn external() -> Result<(), String> {
    match std::env::var("SF_TEST_EXTERNAL").as_deref() {
        Ok("1") => Ok(()),
        _ => Err("SF_TEST_EXTERNAL=1 is not set".to_owned()),
    }
}

/// Says aloud that something did not run. Goes around the capture of the test runner.
pub(crate) fn not_run(what: &str, why: &str) {
    say(&format!("not run: {what} ({why})"));
}

/// A line for the person who runs the tests, also when the test passes.
pub(crate) fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes a line");
}

/// A whole number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("the variable holds a whole number"))
}

/// Looks until `look` finds something; panics with its last reason at the deadline.
pub(crate) fn wait_for<T>(what: &str, at_most: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + at_most;
    loop {
        match look() {
            Ok(found) => return found,
            Err(reason) if Instant::now() >= deadline => panic!("{what}: not within {at_most:?}; {reason}"),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    }
}

/// Random numbers that a printed seed repeats.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From `SF_SEED`, or a new one; prints it.
    pub(crate) fn new(test: &str) -> Self {
        use std::hash::{BuildHasher, Hasher};
        let fresh = std::hash::RandomState::new().build_hasher().finish() % 1_000_000_007;
        let seed = number("SF_SEED", fresh);
        say(&format!("{test}: SF_SEED={seed}"));
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Uniform enough below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            let j = usize::try_from(self.below(i as u64 + 1)).expect("an index");
            list.swap(i, j);
        }
    }
}
