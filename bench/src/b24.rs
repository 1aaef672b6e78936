//! B24: CPU of the whole gateway at 10,000 points per second, the database not counted.

use anyhow::Context;

use crate::load::{self, Load};
use crate::noise::Guard;
use crate::record::{Row, rounded};
use crate::{Options, database, noise, stats};

const RATE: u64 = 10_000;

pub fn run(options: &Options) -> anyhow::Result<Vec<Row>> {
    let load = Load { rate: RATE, seconds: options.seconds.unwrap_or(60), every: 5 };
    let finding = load::measure(options, load)?;
    let guard = Guard::new(false);
    let stretches = finding.gateway_cores.iter().zip(&finding.noises);
    let quiet: Vec<f64> = stretches.filter(|(_, noise)| guard.quiet(noise)).map(|(cores, _)| *cores).collect();
    let enough = quiet.len() * 2 >= finding.gateway_cores.len();
    let chosen = if enough { &quiet } else { &finding.gateway_cores };
    let cores = stats::estimate(chosen).context("no stretch was measured")?;
    let mut row =
        Row::new("B24", "core-seconds per second at 10,000 points/s, whole gateway / one core", &options.commit, cores)
            .set("rate", RATE)
            .set("acked_per_s", rounded(finding.acked_per_second))
            .set("seconds", load.seconds)
            .set("period_ms", load::PERIOD_MS)
            .set("sink", "timescale into PostgreSQL")
            .set("database", "not counted")
            .set("postgresql", database::SETTINGS_SHORT);
    row.noise = noise::typical(&finding.noises);
    (row.offered, row.acked, row.delivered) = (Some(finding.offered), Some(finding.acked), Some(finding.delivered));
    if !enough {
        row.verdict = noise::no_verdict(quiet.len(), finding.gateway_cores.len(), &row.noise);
    }
    Ok(vec![row])
}
