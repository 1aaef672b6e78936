//! `ctl ledger`: proves from the stream alone that nothing is lost silently (G-03, OFF-30), or names what is.
//!
//! [`gather`] reads the stream into [`facts`], [`prove`] compares, [`print`] says what came of it. Nothing is changed, and
//! the gateway may run meanwhile.

mod facts;
mod gather;
mod marks;
mod print;
mod prove;
mod raw;

use clap::Args;
use model::{Clock, SystemClock};
use tokio::runtime::Handle;

use super::scan::Range;
use super::target::Target;
use super::when;
use crate::exit::{DAMAGED, Failure, USAGE};
use crate::say;

/// Options of `ctl ledger`.
#[derive(Debug, Args)]
pub(crate) struct Ledger {
    /// Begin at this time: RFC 3339, a date, or an age like 15m; at the oldest record when absent
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// End before this time; at the newest record when absent
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only the readings of this adapter; topics and readers are shown whole
    #[arg(long)]
    adapter: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Runs the command.
pub(crate) fn ledger(options: &Ledger, runtime: &Handle) -> Result<(), Failure> {
    let now = SystemClock.now();
    let range = Range {
        from: when::option("--from", options.from.as_ref(), now)?,
        to: when::option("--to", options.to.as_ref(), now)?,
    };
    if let (Some(from), Some(to)) = (range.from, range.to)
        && from >= to
    {
        return Err(Failure::new(USAGE, format!("--from {from} is not before --to {to}")));
    }
    let facts = gather::gather(&options.target, runtime, range, options.adapter.as_deref(), now)?;
    let lines = prove::prove(&facts);
    if options.target.json {
        say::line(&print::object(&facts, &lines).to_string());
    } else {
        print::print(&facts, &lines);
    }
    match print::unexplained(&lines) {
        0 => Ok(()),
        count => Err(Failure::new(DAMAGED, format!("{} not accounted for", print::number(count)))),
    }
}
