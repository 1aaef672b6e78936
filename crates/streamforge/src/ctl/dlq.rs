//! `ctl dlq`: dead letters of the gateway on this machine, and deciding about them.
//!
//! A command first freezes what it selects (a preview) and prints the counts; only with `--execute` it goes on with exactly
//! those letters. Long jobs run in the gateway: this program shows how far they are and may be ended meanwhile.

use std::time::Duration;

use clap::{Args, Subcommand};
use model::{Clock, SystemClock};
use serde_json::{Map, Value, json};

use super::local::{Local, LocalTarget};
use super::table::{Column, Table, clean};
use super::{print, when};
use crate::exit::{DAMAGED, Failure, TRY_AGAIN, USAGE};
use crate::say;

const PATH: &str = "/dead-letters";
/// How often a job is asked after.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Failed letters that are printed.
const FAILED_SHOWN: usize = 20;

/// Options of `ctl dlq`.
#[derive(Debug, Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    target: LocalTarget,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Count dead letters by their cause: reason, rule, adapter, asset
    Groups {
        #[command(flatten)]
        filter: Filter,
    },
    /// List dead letters, the newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Letters of one page, at most 1000
        #[arg(long, short = 'n', default_value_t = 50)]
        count: usize,
        /// Go on behind a page, with the mark printed at its end
        #[arg(long, value_name = "MARK")]
        before: Option<String>,
    },
    /// Show one letter: why it failed, what could be read, the exact bytes
    Show {
        /// Id, as the list prints it
        id: String,
    },
    /// Judge letters with the rules of today and print how many would pass; changes nothing
    DryRun {
        #[command(flatten)]
        select: Select,
    },
    /// Let letters into the clean readings as SUSPECT, with the value they have
    Approve {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        decide: Decide,
    },
    /// Keep letters out of the clean readings for good; needs --comment
    Reject {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        decide: Decide,
    },
    /// Judge letters with the rules of today; those that pass become clean readings
    Reprocess {
        #[command(flatten)]
        select: Select,
        #[command(flatten)]
        decide: Decide,
    },
    /// Show a job, or all of them
    Job {
        /// Id of the job
        id: Option<String>,
    },
    /// End a job; what it did stays done
    Cancel {
        /// Id of the job
        id: String,
    },
}

/// Which letters; each option narrows the selection.
#[derive(Debug, Args)]
struct Filter {
    /// Reason code, for example RANGE_HARD
    #[arg(long)]
    reason: Option<String>,
    /// Rule that rejected them
    #[arg(long)]
    rule: Option<String>,
    /// Adapter they came from
    #[arg(long)]
    adapter: Option<String>,
    /// Asset
    #[arg(long)]
    asset: Option<String>,
    /// Parameter
    #[arg(long)]
    parameter: Option<String>,
    /// NEW, APPROVED, REJECTED, REPROCESSED, STILL_FAILING, or OPEN for those to be decided about
    #[arg(long)]
    status: Option<String>,
    /// First failure at or after this time: RFC 3339, a date, or an age like 15m
    #[arg(long)]
    since: Option<String>,
    /// First failure before this time
    #[arg(long)]
    until: Option<String>,
}

impl Filter {
    fn pairs(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let time = |option: &str, text: &Option<String>| {
            let Some(text) = text else { return Ok(None) };
            let wrong = || Failure::new(USAGE, format!("--{option} {text}: this is not a time; write {}", when::FORMS));
            when::parse(text, SystemClock.now()).map(|time| Some(time.to_string())).ok_or_else(wrong)
        };
        let pairs = [
            ("reason", self.reason.clone()),
            ("rule", self.rule.clone()),
            ("adapter", self.adapter.clone()),
            ("asset", self.asset.clone()),
            ("parameter", self.parameter.clone()),
            ("status", self.status.as_ref().map(|status| status.to_uppercase())),
            ("since", time("since", &self.since)?),
            ("until", time("until", &self.until)?),
        ];
        Ok(pairs.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect())
    }
}

/// The letters a command is about: by id, by filter, or all that are open.
#[derive(Debug, Args)]
struct Select {
    /// Id of a letter; several times for more
    #[arg(long)]
    id: Vec<String>,
    /// Every letter that nobody has decided about
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: Filter,
}

impl Select {
    fn body(&self) -> Result<Value, Failure> {
        let pairs = self.filter.pairs()?;
        match (self.id.is_empty(), pairs.is_empty(), self.all) {
            (false, true, false) => Ok(json!({ "ids": self.id })),
            (true, false, false) | (true, true, true) => {
                let filter: Map<String, Value> =
                    pairs.into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
                Ok(json!({ "filter": filter }))
            }
            _ => Err(Failure::new(
                USAGE,
                "name letters by --id, by a filter such as --rule, or by --all; only one of them",
            )),
        }
    }
}

#[derive(Debug, Args)]
struct Decide {
    /// Do it; without this the command only prints what it would do
    #[arg(long)]
    execute: bool,
    /// Why, for the audit
    #[arg(long)]
    comment: Option<String>,
    /// Who decides, for the audit
    #[arg(long, env = "USER")]
    by: Option<String>,
    /// Names this command, so that it can be sent again after a lost answer
    #[arg(long)]
    command_id: Option<String>,
}

/// Runs the command.
pub(crate) async fn dlq(options: Dlq) -> Result<(), Failure> {
    let Dlq { action, target } = options;
    let local = target.open()?;
    let as_json = target.json;
    match action {
        Action::Groups { filter } => {
            let answer = local.get(&format!("{PATH}/groups"), &filter.pairs()?).await?;
            remarks(&answer);
            print(as_json, &groups(&answer), "no dead letters", || answer.clone());
        }
        Action::List { filter, count, before } => {
            let mut query = filter.pairs()?;
            query.push(("limit", count.to_string()));
            query.extend(before.map(|before| ("before", before)));
            let answer = local.get(PATH, &query).await?;
            remarks(&answer);
            print(as_json, &list(&answer), "no dead letters", || answer.clone());
            if let Some(next) = answer["next"].as_str() {
                say::note(&format!("there are more: --before {next}"));
            }
        }
        Action::Show { id } => {
            let answer = local.get(&format!("{PATH}/entry"), &[("id", id)]).await?;
            if as_json {
                say::line(&answer.to_string());
            } else {
                show("", &answer);
            }
        }
        Action::DryRun { select } => {
            let job = local.post(&format!("{PATH}/dry-run"), &select.body()?).await?;
            finish(&local, job, as_json).await?;
        }
        Action::Approve { select, decide } => decided(&local, "approve", &select, decide, as_json).await?,
        Action::Reject { select, decide } => {
            if decide.comment.as_deref().is_none_or(|comment| comment.trim().is_empty()) {
                return Err(Failure::new(USAGE, "say with --comment why the letters are rejected"));
            }
            decided(&local, "reject", &select, decide, as_json).await?;
        }
        Action::Reprocess { select, decide } => decided(&local, "reprocess", &select, decide, as_json).await?,
        Action::Job { id: Some(id) } => {
            let job = local.get(&format!("{PATH}/jobs/{id}"), &[]).await?;
            told(&job, as_json);
        }
        Action::Job { id: None } => {
            let answer = local.get(&format!("{PATH}/jobs"), &[]).await?;
            print(as_json, &jobs(&answer), "no jobs since the gateway started", || answer.clone());
        }
        Action::Cancel { id } => {
            let job = local.post(&format!("{PATH}/jobs/{id}/cancel"), &json!({})).await?;
            told(&job, as_json);
        }
    }
    Ok(())
}

/// Freezes the selection, says what it holds, and goes on with `--execute`.
async fn decided(local: &Local, verb: &str, select: &Select, decide: Decide, as_json: bool) -> Result<(), Failure> {
    let preview = local.post(&format!("{PATH}/preview"), &select.body()?).await?;
    let count = preview["count"].as_u64().unwrap_or(0);
    let more = match preview["more"].as_u64() {
        Some(more) if more > 0 => format!("; {more} more are left for a further command"),
        _ => String::new(),
    };
    if !decide.execute || count == 0 {
        let text = match count {
            0 => "no dead letter is selected".to_owned(),
            _ => format!("would {verb} {count} dead letters{more}; --execute does it"),
        };
        let body = json!({ "applied": false, "action": verb, "count": count, "selection": preview["selection"] });
        say::line(&if as_json { body.to_string() } else { text });
        return Ok(());
    }
    let body = json!({
        "token": preview["token"], "by": decide.by, "comment": decide.comment, "command_id": decide.command_id,
    });
    let job = local.post(&format!("{PATH}/{verb}"), &body).await?;
    finish(local, job, as_json).await
}

/// Follows a job to its end.
async fn finish(local: &Local, mut job: Value, as_json: bool) -> Result<(), Failure> {
    let mut progress = say::Progress::new();
    let id = job["job_id"].as_str().unwrap_or_default().to_owned();
    while job["finished_at"].is_null() {
        progress.at(&format!("{} of {} (job {id})", job["done"], job["total"]));
        tokio::time::sleep(ASK_EVERY).await;
        job = local.get(&format!("{PATH}/jobs/{id}"), &[]).await?;
    }
    drop(progress);
    told(&job, as_json);
    match job["state"].as_str() {
        Some("FAILED") => Err(Failure::new(TRY_AGAIN, text(&job["error"]))),
        _ if nothing_was_done(&job) => Err(Failure::new(DAMAGED, "not one letter was let through or put aside")),
        _ => Ok(()),
    }
}

/// A script must not take for done what failed for every letter. A dry run that finds nothing is an answer.
fn nothing_was_done(job: &Value) -> bool {
    let count = |key: &str| job[key].as_u64().unwrap_or(0);
    job["action"] != "dry_run" && count("failed") > 0 && count("ok") + count("already") == 0
}

/// A job for people.
fn told(job: &Value, as_json: bool) {
    if as_json {
        say::line(&job.to_string());
        return;
    }
    let (ok, already, failed) = (&job["ok"], &job["already"], &job["failed"]);
    let sentence = match job["action"].as_str() {
        Some("dry_run") => format!("{ok} would pass, {failed} fail again"),
        Some(action) => format!("{action}: {ok} done, {already} were already, {failed} failed"),
        None => String::new(),
    };
    say::line(&format!(
        "{sentence} ({} of {}, {}, job {})",
        job["done"],
        job["total"],
        text(&job["state"]),
        text(&job["job_id"])
    ));
    if let Value::Object(reasons) = &job["failed_by_reason"]
        && !reasons.is_empty()
    {
        let mut table = Table::new(&[Column::Text("WHY"), Column::Number("LETTERS")]);
        reasons.iter().for_each(|(reason, count)| table.row([reason.clone(), count.to_string()]));
        table.lines().iter().for_each(|line| say::line(line));
    }
    let failed = rows(&job["failed_entries"]);
    for row in failed.iter().take(FAILED_SHOWN) {
        say::line(&clean(&format!("  {}: {}", text(&row["dlq_id"]), text(&row["reason"]))));
    }
    if failed.len() > FAILED_SHOWN {
        say::note("more of them are in the answer to --json");
    }
}

fn groups(answer: &Value) -> Table {
    let mut table = Table::new(&[
        Column::Text("REASON"),
        Column::Text("RULE"),
        Column::Text("ADAPTER"),
        Column::Text("ASSET"),
        Column::Number("LETTERS"),
        Column::Number("OPEN"),
        Column::Text("FIRST"),
        Column::Text("LAST"),
    ]);
    for group in rows(&answer["groups"]) {
        let open: u64 = ["NEW", "STILL_FAILING"].iter().filter_map(|status| group["by_status"][status].as_u64()).sum();
        let names = ["reason", "rule_id", "adapter_id", "asset_id", "count"].map(|name| text(&group[name]));
        let times = ["first_failed_at", "last_failed_at"].map(|name| text(&group[name]));
        table.row(names.into_iter().chain([open.to_string()]).chain(times));
    }
    table
}

fn list(answer: &Value) -> Table {
    let columns = [
        ("dlq_id", Column::Text("ID")),
        ("status", Column::Text("STATUS")),
        ("reason", Column::Text("REASON")),
        ("asset_id", Column::Text("ASSET")),
        ("parameter", Column::Text("PARAMETER")),
        ("value", Column::Text("VALUE")),
        ("device_time", Column::Text("DEVICE TIME")),
        ("attempts", Column::Number("ATTEMPTS")),
    ];
    let mut table = Table::new(&columns.map(|(_, column)| column));
    for entry in rows(&answer["entries"]) {
        table.row(columns.map(|(name, _)| text(&entry[name])));
    }
    table
}

fn jobs(answer: &Value) -> Table {
    let columns = [
        ("job_id", Column::Text("JOB")),
        ("action", Column::Text("ACTION")),
        ("state", Column::Text("STATE")),
        ("by", Column::Text("BY")),
        ("total", Column::Number("LETTERS")),
        ("ok", Column::Number("DONE")),
        ("already", Column::Number("ALREADY")),
        ("failed", Column::Number("FAILED")),
        ("created_at", Column::Text("SINCE")),
    ];
    let mut table = Table::new(&columns.map(|(_, column)| column));
    for job in rows(&answer["jobs"]) {
        table.row(columns.map(|(name, _)| text(&job[name])));
    }
    table
}

/// Fields in lines, those of objects below their name.
fn show(indent: &str, value: &Value) {
    let Value::Object(fields) = value else { return };
    for (name, field) in fields {
        match field {
            Value::Null => {}
            Value::Object(_) => {
                say::line(&format!("{indent}{name}:"));
                show(&format!("{indent}  "), field);
            }
            _ => say::line(&clean(&format!("{indent}{name}: {}", text(field)))),
        }
    }
}

/// What an answer about many letters does not hold.
fn remarks(answer: &Value) {
    if answer["complete"] == false {
        say::note("the gateway is still reading its dead letters; some are missing here");
    }
    if let Some(count) = answer["not_indexed"].as_u64().filter(|count| *count > 0) {
        say::note(&format!("{count} older letters are in the stream and not in this answer"));
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(id: &[&str], all: bool, rule: Option<&str>) -> Select {
        let filter = Filter {
            reason: None,
            rule: rule.map(str::to_owned),
            adapter: None,
            asset: None,
            parameter: None,
            status: None,
            since: None,
            until: None,
        };
        Select { id: id.iter().map(|id| (*id).to_owned()).collect(), all, filter }
    }

    #[test]
    fn letters_are_selected_in_one_way() {
        assert_eq!(select(&["a", "b"], false, None).body().unwrap(), json!({ "ids": ["a", "b"] }));
        assert_eq!(select(&[], false, Some("r")).body().unwrap(), json!({ "filter": { "rule": "r" } }));
        assert_eq!(select(&[], true, None).body().unwrap(), json!({ "filter": {} }));
        for wrong in [select(&[], false, None), select(&["a"], true, None), select(&[], true, Some("r"))] {
            assert_eq!(wrong.body().unwrap_err().code, USAGE);
        }
    }

    #[test]
    fn groups_are_told_with_what_is_open() {
        let answer = json!({ "groups": [{
            "reason": "RANGE_HARD", "rule_id": "oven", "adapter_id": null, "asset_id": "oven\u{1b}", "count": 7,
            "by_status": { "NEW": 2, "STILL_FAILING": 1, "APPROVED": 4 }, "first_failed_at": "a", "last_failed_at": "b",
        }]});
        let lines = groups(&answer).lines();
        assert_eq!(
            lines[1].split_whitespace().collect::<Vec<_>>(),
            ["RANGE_HARD", "oven", "-", "oven\u{fffd}", "7", "3", "a", "b"]
        );
    }
}
