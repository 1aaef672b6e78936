//! B1: points per second end to end, from the adapter to committed rows in PostgreSQL, against raw binary `COPY` of the
//! very same rows into a table of the same layout.
//!
//! A slice of ours: the adapter is added to the running gateway's document, makes points up for some seconds at a rate
//! above what the gateway can do or at the rate given, is taken out again, and the slice ends when the last point is a
//! committed row. So the pipeline is empty at both ends of a slice, everything offered is delivered inside it, and a
//! backlog cannot flatter. The clock starts with the first record in the raw stream.
//!
//! A slice of the peer: the rows of an earlier slice of ours, taken from the table as one binary `COPY`, go into a twin
//! of the table (same columns, same indexes, same server, same settings) in transactions of the sink's batch size. Equal
//! work to the byte; preparing the bytes is not measured, which favours the peer. Meanwhile the gateway runs idle.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use stream::Topic;

use crate::database::{self, Database, split_rows};
use crate::gateway::{Gateway, Plant};
use crate::load::{self, ADAPTER, PERIOD_MS};
use crate::noise::Guard;
use crate::record::{Row, rounded};
use crate::slices::{self, Plan};
use crate::stats::{self, float};
use crate::{Options, clock, http, say};

/// Points per second offered while a slice is fed; above what two cores can carry.
const RATE: u64 = 150_000;
/// How long a slice is fed.
const FEED: Duration = Duration::from_secs(5);
/// Rows in one transaction, the sink's own default.
const BATCH_ROWS: u64 = 20_000;
/// A backlog shorter than this many seconds means the rate offered was the limit, not the machine.
const DRAIN_MIN: f64 = 0.5;
const WAIT_MAX: Duration = Duration::from_secs(120);

/// What both sides share.
struct Bench {
    database: Database,
    gateway: Gateway,
    plant: Plant,
    /// Rows of slices of ours the peer has not copied yet.
    captured: RefCell<VecDeque<Vec<Bytes>>>,
    counted: RefCell<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    acked: u64,
    delivered: u64,
    lost: u64,
    /// Seconds from the last point fed to the last row visible, summed.
    drain: Vec<f64>,
}

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let rate = options.rate.unwrap_or(RATE);
    let database = Database::start()?;
    let plant = load::plant(rate, &database.url());
    let without = Plant { adapters: Vec::new(), sinks: plant.sinks.clone() };
    let gateway = Gateway::start(&options.program, &without)?;
    let mut guard = Guard::new(false);
    guard.roots.extend(database.pid());
    let bench = Bench { database, gateway, plant, captured: RefCell::default(), counted: RefCell::default() };
    let prepared = clock::wait_until(WAIT_MAX, Duration::from_millis(100), || {
        bench.database.number("SELECT count(*) FROM telemetry").is_ok()
    });
    if !prepared {
        bail!("the sink made no table; the gateway said:\n{}", bench.gateway.output());
    }
    bench.database.execute("CREATE TABLE raw_copy (LIKE telemetry INCLUDING ALL)")?;
    say::progress(&format!("indexes of the twin: {}", bench.indexes()?));
    bench.ours()?; // rows for the peer's first slice, and the warm-up of ours
    bench.peer()?;
    bench.ours()?;
    *bench.counted.borrow_mut() = Counts::default();
    let plan = Plan { pairs: options.pairs.unwrap_or(8), warm_up_max: 0, guard, unit: "points/s" };
    let outcome = slices::paired(&plan, &mut || bench.ours(), &mut || bench.peer())?;
    let counted = bench.counted.borrow();
    let drain = stats::median(&counted.drain).unwrap_or_default();
    if drain < DRAIN_MIN {
        say::line(
            "B1: the pipeline kept up with what it was offered, so the ratio is too low: repeat with a higher --rate",
        );
    }
    let name = "points/s end to end into PostgreSQL / rows/s of raw binary COPY";
    let mut row = Row::paired("B1", name, &options.commit, &outcome, "points/s")
        .set("rate_while_fed", rate)
        .set("feed_s", FEED.as_secs())
        .set("drain_s", rounded(drain))
        .set("limited_by", if drain < DRAIN_MIN { "the rate offered" } else { "the machine" })
        .set("period_ms", PERIOD_MS)
        .set("batch_rows", BATCH_ROWS)
        .set("lost", counted.lost)
        .set("postgresql", database::SETTINGS_SHORT)
        .set("peer_program", "binary COPY of the same rows, bytes ready in memory, tokio-postgres")
        .set("aggregates", "1s, 1min and 1hour are made and written in ours only");
    row.acked = Some(counted.acked);
    row.delivered = Some(counted.delivered);
    Ok(vec![row])
}

impl Bench {
    fn raw(&self) -> anyhow::Result<u64> {
        Ok(self.gateway.written(&[Topic::TelemetryRaw])?[0])
    }

    fn committed(&self) -> u64 {
        self.database.committed(Topic::TelemetryClean.name())
    }

    fn indexes(&self) -> anyhow::Result<String> {
        self.database.text("SELECT string_agg(indexdef, '; ') FROM pg_indexes WHERE tablename = 'raw_copy'")
    }

    /// Points per second of one slice, fed and drained.
    fn ours(&self) -> anyhow::Result<f64> {
        let rows_before = self.committed();
        let raw_before = self.raw()?;
        self.database.execute("CHECKPOINT")?; // neither side pays for the other's pages
        self.gateway.change(&self.plant)?;
        let started =
            clock::wait_until(WAIT_MAX, Duration::from_millis(2), || self.raw().is_ok_and(|raw| raw > raw_before));
        if !started {
            bail!("the adapter made no points; the gateway said:\n{}", self.gateway.output());
        }
        let begin = clock::now();
        std::thread::sleep(FEED);
        let lost = self.gateway.metrics(ADAPTER).map(|text| http::metric(&text, "sf_loss_records_total"));
        self.gateway.change(&Plant { adapters: Vec::new(), sinks: self.plant.sinks.clone() })?;
        let (end, fed, raw) = self.drained()?;
        let (acked, delivered) = (raw - raw_before, self.committed() - rows_before);
        if acked != delivered {
            bail!("{acked} records acknowledged, {delivered} rows delivered");
        }
        let mut counted = self.counted.borrow_mut();
        counted.acked += acked;
        counted.delivered += delivered;
        counted.lost += format!("{:.0}", lost.unwrap_or_default()).parse::<u64>().unwrap_or_default();
        counted.drain.push(end.duration_since(fed).as_secs_f64());
        drop(counted);
        self.capture(delivered)?;
        Ok(float(delivered) / end.duration_since(begin).as_secs_f64())
    }

    /// Waits for the last row: when it was committed, when the last record came into the raw stream, and its count.
    fn drained(&self) -> anyhow::Result<(Instant, Instant, u64)> {
        let deadline = clock::now() + WAIT_MAX;
        let (mut raw, mut raw_at) = (0, clock::now());
        let (mut rows, mut rows_at) = (0, clock::now());
        loop {
            let (raw_now, rows_now) = (self.raw()?, self.committed());
            let now = clock::now();
            if raw_now != raw {
                (raw, raw_at) = (raw_now, now);
            }
            if rows_now != rows {
                (rows, rows_at) = (rows_now, now);
            }
            let gone = self.gateway.metrics(ADAPTER).is_err(); // the adapter's process has ended
            if gone && raw == rows && now.duration_since(raw_at) > Duration::from_millis(500) {
                return Ok((rows_at, raw_at, raw));
            }
            if now >= deadline {
                bail!("not drained: {raw} records in raw, {rows} rows; the gateway said:\n{}", self.gateway.output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes the rows of the slice that just ended for the peer, in the order the sink wrote them, and makes the table as empty as its twin.
    fn capture(&self, expected: u64) -> anyhow::Result<()> {
        let rows = self.database.number("SELECT count(*) FROM telemetry")?;
        if rows != expected {
            bail!("{rows} rows in the table, {expected} delivered");
        }
        let copy = self.database.copy_out("SELECT * FROM telemetry")?;
        self.captured.borrow_mut().push_back(split_rows(&copy, BATCH_ROWS)?);
        self.database.execute("TRUNCATE telemetry, telemetry_1s, telemetry_1min, telemetry_1hour")
    }

    /// Rows per second of raw COPY.
    fn peer(&self) -> anyhow::Result<f64> {
        let batches = self.captured.borrow_mut().pop_front().context("no rows were captured")?;
        self.database.execute("TRUNCATE raw_copy; CHECKPOINT")?;
        let begin = clock::now();
        for batch in &batches {
            self.database.copy_in("raw_copy", batch)?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let rows = self.database.number("SELECT count(*) FROM raw_copy")?;
        Ok(float(rows) / seconds)
    }
}
