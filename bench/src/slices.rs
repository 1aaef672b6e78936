//! The paired run: two programs by turns, in random order, slice by slice, within one process run.
//!
//! Invariant: the ratio of a pair is only made of two slices that followed each other; a pair with noise in either
//! slice is measured, shown and left out of the verdict.

use anyhow::Context;

use crate::noise::{Guard, Noise};
use crate::stats::{Estimate, Random};
use crate::{noise, say, stats};

/// Quiet pairs a verdict needs.
const QUIET_PAIRS_MIN: usize = 5;

/// One measurement: larger or smaller is better, whatever the benchmark says.
pub type Measure<'a> = dyn FnMut() -> anyhow::Result<f64> + 'a;

/// How a paired run goes.
#[derive(Debug, Clone)]
pub struct Plan {
    pub pairs: usize,
    /// Slices at most before the pairs begin; they stop when five in a row agree within 5 %.
    pub warm_up_max: usize,
    pub guard: Guard,
    /// Name of the figure, for the lines a person reads.
    pub unit: &'static str,
}

/// What came out.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Over the quiet pairs when there is a verdict, over all pairs otherwise.
    pub ratio: Estimate,
    pub verdict: Result<(), String>,
    pub pairs: usize,
    pub quiet_pairs: usize,
    pub noise: Noise,
    /// Medians of the two sides, for people; the ratio is not made of them.
    pub ours: f64,
    pub peer: f64,
}

/// Runs both by turns.
pub fn paired(plan: &Plan, ours: &mut Measure<'_>, peer: &mut Measure<'_>) -> anyhow::Result<Outcome> {
    warm_up("ours", plan, ours)?;
    warm_up("peer", plan, peer)?;
    let mut random = Random::new(0x0b5e_55ed);
    let (mut all, mut quiet, mut noises) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=plan.pairs {
        let ours_first = random.coin();
        let before = plan.guard.moment();
        let first = if ours_first { ours()? } else { peer()? };
        let first_noise = plan.guard.since(&before);
        let before = plan.guard.moment();
        let second = if ours_first { peer()? } else { ours()? };
        let second_noise = plan.guard.since(&before);
        let (a, b) = if ours_first { (first, second) } else { (second, first) };
        let pair_quiet = plan.guard.quiet(&first_noise) && plan.guard.quiet(&second_noise);
        say::progress(&format!(
            "pair {pair}/{}: ours {a:.1}, peer {b:.1} {}, ratio {:.3}{}",
            plan.pairs,
            plan.unit,
            a / b,
            if pair_quiet { "" } else { "  (noisy, left out)" }
        ));
        noises.extend([first_noise, second_noise]);
        all.push((a, b));
        if pair_quiet {
            quiet.push((a, b));
        }
    }
    outcome(&all, &quiet, &noises)
}

fn warm_up(who: &str, plan: &Plan, measure: &mut Measure<'_>) -> anyhow::Result<()> {
    let mut values = Vec::new();
    while values.len() < plan.warm_up_max && !stats::settled(&values) {
        values.push(measure()?);
    }
    if let (Some(cold), Some(warm)) = (values.first(), values.last()) {
        say::progress(&format!("{who}: cold {cold:.1}, warm {warm:.1} {} after {} slices", plan.unit, values.len()));
    }
    Ok(())
}

fn outcome(all: &[(f64, f64)], quiet: &[(f64, f64)], noises: &[Noise]) -> anyhow::Result<Outcome> {
    let noise = noise::typical(noises);
    let enough = quiet.len() >= QUIET_PAIRS_MIN.min(all.len()) && quiet.len() * 2 >= all.len();
    let chosen = if enough { quiet } else { all };
    let side = |pick: fn(&(f64, f64)) -> f64| stats::median(&chosen.iter().map(pick).collect::<Vec<_>>());
    Ok(Outcome {
        ratio: stats::estimate(&stats::ratios(chosen.iter().copied())).context("no pair gave a ratio")?,
        verdict: if enough { Ok(()) } else { Err(noise::no_verdict(quiet.len(), all.len(), &noise)) },
        pairs: all.len(),
        quiet_pairs: quiet.len(),
        noise,
        ours: side(|pair| pair.0).unwrap_or_default(),
        peer: side(|pair| pair.1).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noisy_pairs_do_not_count_while_enough_are_quiet() {
        let all: Vec<(f64, f64)> = [vec![(1.0, 2.0); 8], vec![(9.0, 1.0); 4]].concat();
        let outcome = outcome(&all, &all[..8], &[Noise::default()]).unwrap();
        assert_eq!((outcome.ratio.median, outcome.quiet_pairs, outcome.verdict.is_ok()), (0.5, 8, true));
    }

    #[test]
    fn a_busy_machine_gets_no_verdict() {
        let all = vec![(1.0, 2.0); 12];
        let outcome = outcome(&all, &all[..5], &[Noise { foreign: 0.5, ..Noise::default() }]).unwrap();
        assert!(outcome.verdict.unwrap_err().starts_with("no verdict: machine busy (5 of 12"));
    }

    #[test]
    fn both_sides_run_equally_often_in_an_order_that_changes() {
        let order = std::cell::RefCell::new(String::new());
        let plan = Plan { pairs: 20, warm_up_max: 0, guard: Guard::new(false), unit: "" };
        let mut ours = || {
            order.borrow_mut().push('a');
            Ok(1.0)
        };
        let mut peer = || {
            order.borrow_mut().push('b');
            Ok(1.0)
        };
        paired(&plan, &mut ours, &mut peer).unwrap();
        let order = order.into_inner();
        assert_eq!(order.matches('a').count(), 20);
        assert!(order.contains("aa") && order.contains("bb"), "{order}");
    }
}
