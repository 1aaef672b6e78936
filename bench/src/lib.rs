//! Benchmarks. Every figure is a ratio taken in one run: the machines are shared and noisy, so an absolute time alone
//! means nothing.
//!
//! The method: `slices.rs` runs ours and the peer by turns, `stats.rs` makes a median and an interval of the paired
//! ratios, `noise.rs` says which slices others spoilt, `record.rs` appends the line. One file per benchmark. Never run
//! as a test: a busy machine gets "no verdict", not a failure.

pub mod b01;
pub mod b05;
pub mod b07;
pub mod b08;
pub mod b13;
pub mod b15;
pub mod b17;
pub mod b20;
pub mod b21;
pub mod b24;
pub mod clock;
pub mod consume;
pub mod curves;
pub mod database;
pub mod fetch;
pub mod frame;
pub mod gateway;
pub mod http;
pub mod load;
pub mod modbus_client;
pub mod node;
pub mod noise;
pub mod plot;
pub mod proc;
pub mod produce;
pub mod record;
pub mod say;
pub mod slices;
pub mod stats;
pub mod table;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures StreamForge; `bench/run.sh` builds everything and calls this.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub struct CommandLine {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub benchmark: Benchmark,
}

/// What every benchmark may need.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The release binary to measure
    #[arg(long, env = "SF_BENCH_PROGRAM", default_value = "target/release/streamforge")]
    pub program: PathBuf,
    /// This folder of the repository
    #[arg(long, env = "SF_BENCH_FOLDER", default_value = "bench")]
    pub folder: PathBuf,
    /// Results file; results/results.jsonl of the folder when absent
    #[arg(long, env = "SF_BENCH_RESULTS")]
    pub results: Option<PathBuf>,
    /// Commit that is measured
    #[arg(long, env = "SF_BENCH_COMMIT", default_value = "unknown")]
    pub commit: String,
    /// Folder of the compiled C programs
    #[arg(long, env = "SF_BENCH_PEERS")]
    pub peers: Option<PathBuf>,
    /// A Python that has pymodbus
    #[arg(long, env = "SF_BENCH_PYTHON")]
    pub python: Option<PathBuf>,
    /// Folder into which Kafka is fetched
    #[arg(long, env = "SF_BENCH_KAFKA")]
    pub kafka: Option<PathBuf>,
    /// Pairs of slices
    #[arg(long)]
    pub pairs: Option<usize>,
    /// Points per second offered (load, B1)
    #[arg(long)]
    pub rate: Option<u64>,
    /// Length of the run (load, B15, B17, B24)
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Settle time before memory is read (B21), in seconds; 600 for figures to publish
    #[arg(long)]
    pub settle: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Benchmark {
    /// Points per second end to end into PostgreSQL, against raw COPY
    B1,
    /// Produce throughput with fsync, against Kafka with flush.messages=1
    B5,
    /// Produce throughput from the page cache, against Kafka
    B6,
    /// Latency at 20 MB/s, against Kafka
    B7,
    /// Consuming, against a loopback stream and Kafka
    B8,
    /// Modbus requests per second, against libmodbus and pymodbus
    B13,
    /// Polls on time with 1,000 devices, some dead and some slow
    B15,
    /// CPU per MQTT message, against mosquitto
    B17,
    /// Cold start to the first durable point
    B20,
    /// Memory
    B21,
    /// CPU at 10,000 points per second
    B24,
    /// Growth with partitions: throughput and memory, 12 to 1,200
    CurvePartitions,
    /// Growth with retention: latency while segments are deleted
    CurveRetention,
    /// Growth with the log: start after kill -9, 1 to 50 GB
    CurveRecovery,
    /// A steady load: does the lag grow, and where does the time go?
    Load,
    /// Print the newest results as a table
    Table,
    /// Our side of B13
    #[command(hide = true)]
    ModbusClient {
        port: u16,
        registers: u16,
        #[arg(long)]
        one_thread: bool,
    },
}

/// Runs a benchmark, appends its lines and prints its ratios last.
pub fn run(CommandLine { options, benchmark }: CommandLine) -> anyhow::Result<()> {
    let results = options.results.clone().unwrap_or_else(|| options.folder.join("results").join("results.jsonl"));
    let rows = match benchmark {
        Benchmark::B1 => b01::run(&options),
        Benchmark::B5 => b05::run(&options, node::Acknowledge::AfterSync),
        Benchmark::B6 => b05::run(&options, node::Acknowledge::FromCache),
        Benchmark::B7 => b07::run(&options),
        Benchmark::B8 => b08::run(&options),
        Benchmark::B13 => b13::run(&options),
        Benchmark::B15 => b15::run(&options),
        Benchmark::B17 => b17::run(&options),
        Benchmark::B20 => b20::run(&options),
        Benchmark::B21 => b21::run(&options),
        Benchmark::B24 => b24::run(&options),
        Benchmark::CurvePartitions => curves::partitions(&options),
        Benchmark::CurveRetention => curves::retention(&options),
        Benchmark::CurveRecovery => curves::recovery(&options),
        Benchmark::Load => {
            let load =
                load::Load { rate: options.rate.unwrap_or(50_000), seconds: options.seconds.unwrap_or(300), every: 5 };
            load::run(&options, load)
        }
        Benchmark::Table => return table::print(&results),
        Benchmark::ModbusClient { port, registers, one_thread } => {
            return modbus_client::run(port, registers, one_thread);
        }
    }?;
    for row in &rows {
        row.append(&results)?;
    }
    for row in &rows {
        say::line(&row.sentence());
    }
    Ok(())
}
