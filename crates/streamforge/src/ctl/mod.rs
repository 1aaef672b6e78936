//! `ctl`: looking at a stream and administering it. One file per command.
//!
//! Every command works on any Kafka-compatible broker (`target.rs` says which), prints tables for people (`table.rs`) and
//! JSON for scripts, and changes nothing without `--execute`. Results go to standard output, everything else to standard
//! error.

mod alarms;
mod alerts;
mod backtest;
mod configs;
mod dlq;
mod groups;
mod ledger;
mod local;
mod produce;
mod record;
mod replay;
mod reset_offsets;
mod scan;
mod secret;
mod table;
mod tail;
mod target;
mod topics;
mod user;
mod verify;
mod when;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::exit::{Failure, USAGE};
use crate::{roles, say};
use table::Table;
use target::Target;

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Ctl {
    /// List, describe, create, change and delete topics
    Topics(topics::Topics),
    /// List, describe and delete consumer groups
    Groups(groups::Groups),
    /// Print the records of a topic, decoded
    Tail(tail::Tail),
    /// Write records to a topic, from standard input or a file
    Produce(produce::Produce),
    /// Keep readings of the stream in a file, to be played again
    Record(record::Record),
    /// Play a recording into the stream; prints the plan unless --execute is given
    Replay(replay::Replay),
    /// Move what a group has committed; prints the plan unless --execute is given
    ResetOffsets(reset_offsets::ResetOffsets),
    /// Prove that nothing is lost silently: what was read, stored, delivered; exit code 65 when something is missing
    Ledger(ledger::Ledger),
    /// Show settings of a topic or of the broker
    Configs(configs::Configs),
    /// Look at the dead letters of the gateway on this machine and decide about them
    Dlq(dlq::Dlq),
    /// Check a data folder offline: what is intact, what is lost; exit code 65 when records are lost
    Verify(verify::Verify),
    /// List alarms and their figures; acknowledge, shelve, take out of service
    Alarms(alarms::Alarms),
    /// Show who would be told of an alarm; send a test message
    Alerts(alerts::Alerts),
    /// Run stored readings through other rules: what would have been flagged; changes nothing
    Backtest(backtest::Backtest),
    /// Store a secret for the components of a gateway
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Store or remove a user of the embedded stream while it does not run
    #[command(subcommand)]
    User(user::User),
}

/// Runs a command.
pub(crate) fn run(command: Ctl) -> Result<(), Failure> {
    match command {
        Ctl::Secret(options) => secret::secret(options),
        Ctl::User(options) => user::user(options),
        Ctl::Verify(options) => verify::verify(options),
        asking => {
            let runtime = roles::runtime(1)?;
            let handle = runtime.handle().clone();
            match asking {
                Ctl::Alarms(options) => runtime.block_on(alarms::alarms(options)),
                Ctl::Alerts(options) => runtime.block_on(alerts::alerts(options)),
                Ctl::Topics(options) => runtime.block_on(topics::topics(options)),
                Ctl::Groups(options) => runtime.block_on(groups::groups(options)),
                Ctl::Configs(options) => runtime.block_on(configs::configs(options)),
                Ctl::ResetOffsets(options) => runtime.block_on(reset_offsets::reset_offsets(options)),
                Ctl::Dlq(options) => runtime.block_on(dlq::dlq(options)),
                Ctl::Ledger(options) => ledger::ledger(&options, &handle),
                Ctl::Tail(options) => tail::tail(&options, &handle),
                Ctl::Produce(options) => produce::produce(&options, &handle),
                Ctl::Record(options) => record::record(&options, &handle),
                Ctl::Replay(options) => replay::replay(&options, &handle),
                Ctl::Backtest(options) => backtest::backtest(&options, &handle),
                Ctl::Secret(_) | Ctl::User(_) | Ctl::Verify(_) => Ok(()), // ran above, without a runtime
            }
        }
    }
}

/// A table for people, with a sentence when it has no rows; the same as JSON for scripts.
fn print_table(target: &Target, table: &Table, when_empty: &str, json: impl FnOnce() -> Value) {
    print(target.json, table, when_empty, json);
}

fn print(as_json: bool, table: &Table, when_empty: &str, json: impl FnOnce() -> Value) {
    if as_json {
        say::line(&json().to_string());
    } else if table.is_empty() {
        say::line(when_empty);
    } else {
        table.lines().iter().for_each(|line| say::line(line));
    }
}

/// What came of a command: a sentence for people, an object for scripts.
fn outcome(target: &Target, json: &Value, text: &str) {
    say::line(&if target.json { json.to_string() } else { text.to_owned() });
}

/// A change that was made.
fn applied(target: &Target, text: &str) {
    outcome(target, &json!({ "applied": true, "change": text }), text);
}

/// Names shown of those there are.
const NAMES_SHOWN: usize = 20;

/// The failure of a command that names something the stream does not have.
fn unknown<'n>(kind: &str, name: &str, there: impl Iterator<Item = &'n str>) -> Failure {
    let names: Vec<&str> = there.collect();
    let hint = match config::read::suggest(name, &names) {
        hint if hint.is_empty() => String::new(),
        hint => format!(", {hint}"),
    };
    let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
    let text = match names.len().checked_sub(NAMES_SHOWN) {
        _ if names.is_empty() => format!("there is no {kind} {name:?}, and no other"),
        None | Some(0) => format!("there is no {kind} {name:?}{hint}; {kind}s: {shown}"),
        Some(more) => format!("there is no {kind} {name:?}{hint}; {kind}s: {shown} and {more} more"),
    };
    Failure::new(USAGE, text)
}

/// True with `--execute`. Otherwise says what would be done.
fn only_with_execute(target: &Target, execute: bool, plan: &str) -> bool {
    if !execute {
        outcome(target, &json!({ "applied": false, "change": plan }), &format!("would {plan}; --execute does it"));
    }
    execute
}
