//! `ctl alerts`: who would be told of an alarm, and a test message to a destination (RTE-11). Reads the gateway document;
//! the gateway need not run.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use model::{Clock, Severity, SystemClock, Timestamp};
use serde_json::json;
use sinks::alert_router::dispatch::Outcome;
use sinks::alert_router::dry_run::{Question, Step, dry_run};
use sinks::alert_router::notice::Transition;
use sinks::alert_router::plan::{Plan, plan};
use sinks::alert_router::send::Sender;
use sinks::alert_router::state::{Content, Item};

use super::print;
use super::table::{Column, Table, clean};
use crate::exit::{BAD_CONFIG, DAMAGED, Failure, USAGE};
use crate::say;

/// Options of `ctl alerts`.
#[derive(Debug, Args)]
pub(crate) struct Alerts {
    #[command(subcommand)]
    action: Action,
    /// The gateway document; the one of the data folder when absent
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Data folder of the gateway, where its secrets are
    #[arg(long, global = true, env = "SF_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the alert router, where there are several
    #[arg(long, global = true)]
    sink: Option<String>,
    /// JSON for scripts
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show which routes an alarm would take, who is told and when; sends nothing
    Route {
        /// LOW, MEDIUM, HIGH or CRITICAL
        #[arg(long)]
        severity: String,
        #[arg(long, default_value = "some_asset")]
        asset: String,
        /// Area of the alarm's rule
        #[arg(long)]
        area: Option<String>,
        /// Group of the alarm's rule
        #[arg(long)]
        group: Option<String>,
        /// activated, acked, cleared, escalated or shelved
        #[arg(long, default_value = "activated")]
        transition: String,
        /// At this time, RFC 3339; now when absent
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Send a message marked TEST to a destination
    Test {
        /// Name of the destination
        destination: String,
    },
}

/// Runs the command.
pub(crate) async fn alerts(options: Alerts) -> Result<(), Failure> {
    let data = crate::up::data_dir(options.data_dir.clone(), false)?;
    let file = options.config.clone().unwrap_or_else(|| data.join("gateway.yaml"));
    let (gateway_id, plan) = read(&file, options.sink.as_deref())?;
    match options.action {
        Action::Route { severity, asset, area, group, transition, at } => {
            let question = Question {
                severity: word(&severity, "severity", Severity::parse(&severity.to_ascii_uppercase()))?,
                transition: word(&transition, "transition", parse_transition(&transition))?,
                at: match &at {
                    Some(text) => word(text, "time", Timestamp::parse_rfc3339(text))?,
                    None => SystemClock.now(),
                },
                asset,
                area,
                group,
            };
            let steps = dry_run(&plan, &question);
            show(options.json, &steps);
            Ok(())
        }
        Action::Test { destination } => {
            let folder = gateway::children::Folders::new(&data).secrets();
            test(&plan, &gateway_id, &destination, &folder, options.json).await
        }
    }
}

fn word<T>(text: &str, what: &str, parsed: Option<T>) -> Result<T, Failure> {
    parsed.ok_or_else(|| Failure::new(USAGE, format!("{text:?} is not a {what}; see --help")))
}

fn parse_transition(text: &str) -> Option<Transition> {
    let all =
        [Transition::Activated, Transition::Acked, Transition::Cleared, Transition::Escalated, Transition::Shelved];
    all.into_iter().find(|transition| transition.as_str() == text)
}

/// The gateway's name and the plan of its alert router.
fn read(file: &std::path::Path, sink: Option<&str>) -> Result<(String, Plan), Failure> {
    let unreadable =
        |error| Failure::new(USAGE, format!("{}: {error}; name the document with --config", file.display()));
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    let document = config::parse(&text, &crate::check::catalog()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {problem}")).collect();
        let head = format!("{} has {} problems:", file.display(), problems.len());
        Failure::new(BAD_CONFIG, format!("{head}\n{}", lines.join("\n")))
    })?;
    let type_name = sinks::alert_router::SPEC.type_name;
    let routers: Vec<_> = document
        .components
        .iter()
        .filter(|component| component.kind == config::Kind::Sink && component.type_name == type_name)
        .filter(|component| sink.is_none_or(|name| component.id == name))
        .collect();
    let [router] = routers[..] else {
        let names: Vec<&str> = routers.iter().map(|router| router.id.as_str()).collect();
        let text = match (names.is_empty(), sink) {
            (true, Some(name)) => format!("{} has no alert_router {name:?}", file.display()),
            (true, None) => format!("{} has no sink of type alert_router", file.display()),
            (false, _) => format!("there are several, name one with --sink: {}", names.join(", ")),
        };
        return Err(Failure::new(USAGE, text));
    };
    let plan = plan(&router.settings, "").map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::new(BAD_CONFIG, lines.join("\n"))
    })?;
    Ok((document.gateway_id.clone(), plan))
}

fn show(as_json: bool, steps: &[Step]) {
    let mut table =
        Table::new(&[Column::Text("ROUTE"), Column::Text("DESTINATION"), Column::Text("BY"), Column::Text("WHEN")]);
    for step in steps {
        table.row([clean(&step.route), clean(&step.destination), step.channel.to_owned(), step.when.clone()]);
    }
    let row = |step: &Step| json!({ "route": step.route, "destination": step.destination, "channel": step.channel, "when": step.when });
    print(as_json, &table, "nobody would be told", || json!({ "steps": steps.iter().map(row).collect::<Vec<_>>() }));
}

async fn test(
    plan: &Plan,
    gateway_id: &str,
    destination: &str,
    secrets: &std::path::Path,
    as_json: bool,
) -> Result<(), Failure> {
    let names: Vec<&str> = plan.destinations.iter().map(|to| to.name.as_str()).collect();
    let Some(at) = names.iter().position(|name| *name == destination) else {
        return Err(super::unknown("destination", destination, names.into_iter()));
    };
    // the others' secrets are none of this test's business
    let mut alone = plan.clone();
    alone.destinations = vec![plan.destinations[at].clone()];
    alone.routes.clear();
    alone.heartbeat = None;
    let secret = |name: &str| gateway::secrets::load(secrets, &[name.to_owned()]).ok()?.remove(name);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sender = Sender::new(&alone, gateway_id, &secret, Arc::clone(&clock)).map_err(|unusable| {
        let reasons: Vec<String> = unusable.into_iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        Failure::new(BAD_CONFIG, reasons.join("\n"))
    })?;
    let now = clock.now().as_micros();
    let item = Item {
        id: sinks::alert_router::router::digest(&["test", destination, &now.to_string()]),
        content: Content::Test,
        created_at: now,
        at: now,
        attempts: 0,
        trouble: None,
        urgent: false,
        individual: true,
        route: None,
    };
    let channel = plan.destinations[at].channel.type_name();
    say::note(&format!("sending a test message to {destination} ({channel}) ..."));
    let (word, reason) = match sender.send(0, &item).await {
        Outcome::Delivered => ("delivered", None),
        Outcome::Later { reason, .. } => ("not delivered, may work later", Some(reason)),
        Outcome::Refused { reason } => ("refused", Some(reason)),
    };
    if as_json {
        say::line(&json!({ "destination": destination, "outcome": word, "reason": reason }).to_string());
    }
    match reason {
        None if as_json => Ok(()),
        None => {
            say::line(&format!("{destination} took the test message; look whether it arrived"));
            Ok(())
        }
        Some(reason) => Err(Failure::new(DAMAGED, format!("{destination}: {word}: {}", clean(&reason)))),
    }
}
