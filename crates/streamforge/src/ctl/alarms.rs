//! `ctl alarms`: the alarms of the gateway on this machine, and what people do about them.
//!
//! The journal is a topic: `ctl tail alarms.clean` prints it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::local::{Local, LocalTarget};
use super::print;
use super::table::{Column, Table, clean, duration_ms};
use crate::exit::{DAMAGED, Failure, USAGE};
use crate::say;

const PATH: &str = "/alarms";
const UNITS: [(&str, i64); 4] = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Options of `ctl alarms`.
#[derive(Debug, Args)]
pub(crate) struct Alarms {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    target: LocalTarget,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the alarms a person should see; --state all lists every one
    List {
        /// ACTIVE, ACKNOWLEDGED, CLEARED, SUPPRESSED or all
        #[arg(long)]
        state: Option<String>,
        #[arg(long)]
        asset: Option<String>,
        /// LOW, MEDIUM, HIGH or CRITICAL
        #[arg(long)]
        severity: Option<String>,
    },
    /// Figures of every area: alarms per ten minutes and per day, floods, chattering, stale ones
    Kpis,
    /// Acknowledge one occurrence, as the list names it
    Ack {
        #[command(flatten)]
        who: Who,
        /// A remark for the journal
        #[arg(long)]
        comment: Option<String>,
    },
    /// Shelve an alarm for a time; it comes back by itself
    Shelve {
        #[command(flatten)]
        who: Who,
        /// How long: 30m, 2h
        #[arg(long = "for", value_name = "TIME")]
        duration: String,
        /// Why
        #[arg(long)]
        reason: String,
        /// End already when the condition goes
        #[arg(long)]
        one_shot: bool,
    },
    /// Shelve for as long as is allowed
    Suppress {
        #[command(flatten)]
        who: Who,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Take an alarm off the shelf
    Unshelve {
        #[command(flatten)]
        who: Who,
    },
    /// Take an alarm out of service; for engineers
    OutOfService {
        #[command(flatten)]
        who: Who,
        /// Why, or the work order
        #[arg(long)]
        reason: String,
    },
    /// Put an alarm back into service; for engineers
    ReturnToService {
        #[command(flatten)]
        who: Who,
    },
    /// End a latched alarm whose condition is gone and that is acknowledged
    Reset {
        #[command(flatten)]
        who: Who,
    },
    /// Add a remark to the journal
    Comment {
        #[command(flatten)]
        who: Who,
        #[arg(long)]
        comment: String,
    },
}

/// Which alarm, and who.
#[derive(Debug, Args)]
struct Who {
    /// Occurrence (gateway/asset/alarm/number) or alarm (gateway/asset/alarm), as the list names it
    target: String,
    /// Your name, for the journal
    #[arg(long, env = "USER", default_value = "local operator")]
    by: String,
    /// operator or engineer
    #[arg(long, default_value = "operator")]
    role: String,
}

/// Runs the command.
pub(crate) async fn alarms(options: Alarms) -> Result<(), Failure> {
    let local = options.target.open()?;
    let as_json = options.target.json;
    let command = |action: &str, who: Who, more: Value| {
        let mut body = json!({ "action": action, "target": who.target, "by": who.by, "role": who.role });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        body
    };
    let body = match options.action {
        Action::List { state, asset, severity } => {
            let filter = [("state", state), ("asset", asset), ("severity", severity)];
            let query: Vec<(&str, String)> =
                filter.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            return list(&local, as_json, &query).await;
        }
        Action::Kpis => return kpis(&local, as_json).await,
        Action::Ack { who, comment } => command("ack", who, json!({ "comment": comment.unwrap_or_default() })),
        Action::Shelve { who, duration, reason, one_shot } => {
            let wrong = || Failure::new(USAGE, format!("--for {duration}: write for example 30m, 2h or 90s"));
            let ms = milliseconds(&duration).ok_or_else(wrong)?;
            command("shelve", who, json!({ "duration_ms": ms, "comment": reason, "one_shot": one_shot }))
        }
        Action::Suppress { who, reason } => command("suppress", who, json!({ "comment": reason })),
        Action::Unshelve { who } => command("unshelve", who, Value::Null),
        Action::OutOfService { who, reason } => command("out_of_service", who, json!({ "comment": reason })),
        Action::ReturnToService { who } => command("return_to_service", who, Value::Null),
        Action::Reset { who } => command("reset", who, Value::Null),
        Action::Comment { who, comment } => command("comment", who, json!({ "comment": comment })),
    };
    let answer = local.post(&format!("{PATH}/commands"), &body).await?;
    let result = answer["result"].as_str().unwrap_or_default();
    let text = match answer["reason"].as_str() {
        Some(reason) => format!("{result}: {reason}"),
        None => result.to_owned(),
    };
    let done = matches!(result, "APPLIED" | "ALREADY");
    if as_json {
        say::line(&answer.to_string());
    } else if done {
        say::line(&text);
    }
    if done { Ok(()) } else { Err(Failure::new(DAMAGED, text)) }
}

fn milliseconds(text: &str) -> Option<i64> {
    UNITS.iter().find_map(|(unit, ms)| Some(i64::from(text.strip_suffix(unit)?.parse::<u32>().ok()?) * ms))
}

async fn list(local: &Local, as_json: bool, query: &[(&str, String)]) -> Result<(), Failure> {
    let answer = local.get(PATH, query).await?;
    let mut table = Table::new(&[
        Column::Text("STATE"),
        Column::Text("SEVERITY"),
        Column::Text("OCCURRENCE"),
        Column::Text("VALUE"),
        Column::Text("LIMIT"),
        Column::Text("QUALITY"),
        Column::Text("SINCE"),
        Column::Text("MESSAGE -> WHAT TO DO"),
    ]);
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => other.to_string(),
    };
    for alarm in answer["alarms"].as_array().into_iter().flatten() {
        let mut state = text(&alarm["state"]);
        if alarm["state"] == "CLEARED" && alarm["acked"] == false {
            state.push_str(", not acknowledged");
        }
        if let Some(left) = alarm["shelved_for_ms"].as_i64() {
            state = format!("{state}, shelved for {}", duration_ms(left));
        } else if let Some(kind) = alarm["suppression_kind"].as_str() {
            state = format!("{state}, {kind}");
        }
        if alarm["chattering"] == true {
            state.push_str(", chattering");
        }
        let mut value = format!("{} {}", text(&alarm["value"]), text(&alarm["unit"]));
        let mut message = text(&alarm["message"]);
        if alarm["type"] == "SYSTEM" {
            // a sentence, which belongs to the message
            message = format!("{message}: {}", std::mem::take(&mut value).trim_end());
        }
        if let Some(action) = alarm["action"].as_str() {
            message = format!("{message} -> {}", clean(action));
        }
        table.row([
            state,
            text(&alarm["severity"]),
            text(&alarm["occurrence_id"]),
            value.trim_end().to_owned(),
            text(&alarm["limit"]),
            text(&alarm["quality"]),
            text(&alarm["activated_at"]),
            message,
        ]);
    }
    print(as_json, &table, "no alarm needs attention; --state all lists every one", || answer.clone());
    Ok(())
}

async fn kpis(local: &Local, as_json: bool) -> Result<(), Failure> {
    let answer = local.get(&format!("{PATH}/kpis"), &[]).await?;
    let mut table = Table::new(&[
        Column::Text("AREA"),
        Column::Number("LAST 10 MIN"),
        Column::Number("PER 10 MIN"),
        Column::Number("PER DAY"),
        Column::Text("FLOOD"),
        Column::Number("FLOODS"),
        Column::Number("STALE"),
        Column::Number("CHATTERING"),
        Column::Number("SUPPRESSED"),
    ]);
    for area in answer["areas"].as_array().into_iter().flatten() {
        let rounded = |key: &str| format!("{:.1}", area[key].as_f64().unwrap_or_default());
        table.row([
            clean(area["area"].as_str().unwrap_or_default()),
            area["last_10min"].to_string(),
            rounded("per_10min"),
            rounded("per_day"),
            if area["in_flood"] == true { "now".to_owned() } else { "no".to_owned() },
            area["floods"].to_string(),
            area["stale"].to_string(),
            area["chattering"].to_string(),
            area["suppressed"].to_string(),
        ]);
    }
    print(as_json, &table, "no alarm rules are configured", || answer.clone());
    Ok(())
}
