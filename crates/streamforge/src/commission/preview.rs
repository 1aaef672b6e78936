//! `preview`: a draft at work, its values on the screen and nowhere else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapters::commission::text::shown;
use adapters::preview::{Sight, preview as look};
use clap::Args;
use config::Problem;
use gateway::children::Folders;
use model::{Health, Reading, Timestamp, Value as Measured};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::{BAD_CONFIG, Failure, TRY_AGAIN, USAGE};
use crate::{check, say, up};

/// Lines of values a second; further ones are counted. Nobody reads faster.
const LINES_MAX: u64 = 100;
/// Points in the table at the end; values of further ones are shown as they come, and not in the table.
const POINTS_MAX: usize = 10_000;
/// Letters of a value.
const VALUE_SHOWN: usize = 60;
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Options of `preview`.
#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// A gateway document, or a draft with adapters alone, as `browse --points` and `listen --points` print it
    pub(crate) file: PathBuf,
    /// Which adapter, where there are several
    #[arg(long, value_name = "ID")]
    pub(crate) adapter: Option<String>,
    /// How long
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) seconds: u64,
    /// Print JSON, for scripts: one object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Data folder of the gateway, with its secrets and certificates; the user's own when absent
    #[arg(long, env = "SF_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// What became of a point.
#[derive(Debug)]
struct Seen {
    values: u64,
    /// Without its age, which grows.
    line: String,
    device_time: Timestamp,
}

/// What was shown so far.
#[derive(Debug, Default)]
struct Screen {
    json: bool,
    points: BTreeMap<(String, String), Option<Seen>>,
    values: u64,
    /// Lines of this second, and those that were left out of all.
    second: Option<Instant>,
    lines: u64,
    unshown: u64,
    letters: u64,
}

/// Runs the adapter of a draft.
pub(crate) async fn preview(options: &Preview) -> Result<(), Failure> {
    let settings = draft(&options.file, options.adapter.as_deref())?;
    let folders = Folders::new(&up::data_dir(options.data_dir.clone(), false)?);
    let ctx = context(&settings, &folders)?;
    let screen = Arc::new(Mutex::new(Screen { json: options.json, ..Screen::default() }));
    let (points, sights) = (Arc::clone(&screen), Arc::clone(&screen));
    let clock = Arc::clone(&ctx.clock);
    let started = move |names: Vec<(String, String)>| {
        let known = names.into_iter().take(POINTS_MAX).map(|name| (name, None));
        lock(&points).points.extend(known);
    };
    let show = Box::new(move |sight: &Sight<'_>| lock(&sights).see(sight, clock.now()));
    let stop = ctx.stop.clone();
    let ending = async {
        watch(&ctx, Instant::now() + Duration::from_secs(options.seconds)).await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(look(&settings, &ctx, started, show), ending);
    ran.map_err(|error| {
        let code = if error.is_configuration() { BAD_CONFIG } else { TRY_AGAIN };
        Failure::from_error(code, &error)
    })?;
    let screen = lock(&screen);
    screen.conclude(&ctx)
}

fn lock(screen: &Mutex<Screen>) -> std::sync::MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the end, or for a signal, and tells meanwhile what becomes of the connection.
async fn watch(ctx: &daemon::Context, end: Instant) {
    let mut told = String::new();
    let mut signal = std::pin::pin!(tokio::signal::ctrl_c());
    while Instant::now() < end && !ctx.stop.is_cancelled() {
        let health = ctx.board.to_json();
        let why = health["last_link_error"].as_str().unwrap_or_default().to_owned();
        let reason = health["reason"].as_str().unwrap_or_default().to_owned();
        let is_well = why.is_empty() || ctx.board.health() == Health::Healthy;
        let now = if is_well { reason } else { format!("{reason}: {why}") };
        if now != told {
            say::note(&shown(&now, 600));
            told = now;
        }
        tokio::select! { // cancel-safe: both arms only wait
            () = tokio::time::sleep_until((Instant::now() + LOOK).min(end)) => {}
            _ = &mut signal => return,
        }
    }
}

/// A context with the secrets and the certificates of the gateway, and without its memory.
fn context(settings: &Value, folders: &Folders) -> Result<daemon::Context, Failure> {
    let mut ctx = daemon::Context::new("preview", &super::access::gateway_id(folders));
    let names = config::secret::secrets_in(settings);
    ctx.launch.secrets = gateway::secrets::load(&folders.secrets(), &names).map_err(|error| {
        let folder = folders.data.display();
        Failure::new(BAD_CONFIG, format!("{error}; the data folder is {folder}, --data-dir names another"))
    })?;
    ctx.state_dir = Some(folders.state());
    // a person looks now; a clock that is not set is told by the quality
    ctx.clock_settings.boot_hold = Duration::ZERO;
    Ok(ctx)
}

/// The settings of one adapter of a file, checked as the gateway checks them.
fn draft(file: &Path, wanted: Option<&str>) -> Result<Value, Failure> {
    let name = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(USAGE, format!("{name} cannot be read: {error}")))?;
    let bad = |problems: Vec<Problem>| {
        for problem in &problems {
            say::line(&problem.to_string());
        }
        let plural = if problems.len() == 1 { "problem" } else { "problems" };
        Failure::new(BAD_CONFIG, format!("{name}: {} {plural}", problems.len()))
    };
    let value = config::parse_value(&text).map_err(bad)?;
    let (adapters, prefix) = adapters_of(&value);
    let id = |settings: &Value| settings["adapter_id"].as_str().unwrap_or_default().to_owned();
    let place = match wanted {
        Some(wanted) => adapters.iter().position(|settings| id(settings) == wanted),
        None if adapters.len() == 1 => Some(0),
        None => None,
    };
    let Some(place) = place else {
        let names: Vec<String> = adapters.iter().map(|settings| shown(&id(settings), 128)).collect();
        let what = match (wanted, names.is_empty()) {
            (_, true) => "holds no adapter; write adapters: [ ... ] or a list of them".to_owned(),
            (Some(wanted), false) => format!("has no adapter {wanted:?}; adapters: {}", names.join(", ")),
            (None, false) => format!("has several adapters; name one with --adapter: {}", names.join(", ")),
        };
        return Err(Failure::new(USAGE, format!("{name} {what}")));
    };
    let settings = adapters[place].clone();
    // within a document of its own: the rest of the draft may not be written yet
    let around = json!({ "version": 1, "gateway_id": "preview", "adapters": [settings] });
    let catalog = check::catalog();
    let document = config::document::read(&around, &catalog).map_err(|problems| {
        let there = prefix.map_or_else(String::new, |prefix| format!("{prefix}/{place}"));
        let moved = |problem: Problem| match problem.pointer.strip_prefix("/adapters/0") {
            Some(rest) => Problem { pointer: format!("{there}{rest}"), ..problem },
            None => problem,
        };
        bad(problems.into_iter().map(moved).collect())
    })?;
    let component = document.components.into_iter().next();
    component.map(|component| component.settings).ok_or_else(|| Failure::new(USAGE, format!("{name} holds no adapter")))
}

/// The adapters of a document, a list or one alone, and where they stand in it.
fn adapters_of(value: &Value) -> (Vec<&Value>, Option<&'static str>) {
    match value {
        Value::Array(list) => (list.iter().collect(), Some("")),
        Value::Object(map) if map.contains_key("adapter_type") => (vec![value], None),
        other => (other["adapters"].as_array().into_iter().flatten().collect(), Some("/adapters")),
    }
}

impl Screen {
    fn see(&mut self, sight: &Sight<'_>, now: Timestamp) {
        match sight {
            Sight::Reading(reading) => self.reading(reading, now),
            Sight::Event { kind, message } => {
                if self.json {
                    say::line(&json!({ "event": kind, "message": message }).to_string());
                } else {
                    self.line(&format!("event {kind}: {}", shown(message, 400)));
                }
            }
            Sight::Letter { reason, detail, payload } => {
                self.letters += 1;
                let payload = adapters::mqtt::probe::payload(payload, VALUE_SHOWN);
                if self.json {
                    say::line(&json!({ "refused": reason, "detail": detail, "payload": payload }).to_string());
                } else {
                    self.line(&format!("not understood ({reason}): {}  {payload}", shown(detail, 200)));
                }
            }
        }
    }

    fn reading(&mut self, reading: &Reading<'_>, now: Timestamp) {
        self.values += 1;
        let line = line(reading);
        let device_time = reading.device_time;
        if self.json {
            say::line(&as_json(reading, now).to_string());
        } else {
            self.line(&format!("{line}  {}", age(now.micros_since(device_time))));
        }
        let name = (reading.asset_id.to_owned(), reading.parameter.to_owned());
        if self.points.len() >= POINTS_MAX && !self.points.contains_key(&name) {
            return;
        }
        let seen = self.points.entry(name).or_default();
        let values = seen.as_ref().map_or(0, |seen| seen.values) + 1;
        *seen = Some(Seen { values, line, device_time });
    }

    /// A line, if this second has room for it.
    fn line(&mut self, text: &str) {
        let now = Instant::now();
        if self.second.is_none_or(|begin| now.duration_since(begin) >= Duration::from_secs(1)) {
            (self.second, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        if self.lines <= LINES_MAX {
            say::line(text);
        } else {
            self.unshown += 1;
        }
    }

    /// Points that had no value. An array that is split has those of its elements.
    fn silent(&self) -> Vec<String> {
        let is_silent = |asset: &String, parameter: &String| {
            let elements = (asset.clone(), format!("{parameter}."));
            let first = self.points.range(elements..).next();
            let is_element = |name: &(String, String)| name.0 == *asset && name.1.starts_with(&format!("{parameter}."));
            !first.is_some_and(|(name, seen)| is_element(name) && seen.is_some())
        };
        let without = self.points.iter().filter(|(_, seen)| seen.is_none());
        let silent = without.filter(|((asset, parameter), _)| is_silent(asset, parameter));
        silent.map(|((asset, parameter), _)| format!("{asset}/{parameter}")).collect()
    }

    fn conclude(&self, ctx: &daemon::Context) -> Result<(), Failure> {
        let silent = self.silent();
        if self.json {
            say::line(
                &json!({ "values": self.values, "refused": self.letters, "without_a_value": silent }).to_string(),
            );
        } else {
            say::line(&format!("\n{} values, nothing was published. The last of each point:", self.values));
            let now = ctx.clock.now();
            for seen in self.points.values().flatten() {
                let age = age(now.micros_since(seen.device_time));
                say::line(&format!("x{:<6} {}  {age}", seen.values, seen.line));
            }
        }
        if self.unshown > 0 {
            say::note(&format!("{} lines were left out: {LINES_MAX} a second are shown", self.unshown));
        }
        if !silent.is_empty() {
            let first: Vec<&str> = silent.iter().take(10).map(String::as_str).collect();
            say::note(&format!("{} points had no value: {}", silent.len(), first.join(", ")));
        }
        if self.values > 0 {
            return Ok(());
        }
        let health = ctx.board.to_json();
        let why = health["last_link_error"].as_str().or(health["reason"].as_str()).unwrap_or_default();
        let hint = "`streamforge probe` tests the connection stage by stage, `browse` and `listen` show what there is";
        Err(Failure::new(TRY_AGAIN, format!("no value came ({}); {hint}", shown(why, 600))))
    }
}

fn value_of(reading: &Reading<'_>) -> String {
    let value = match &reading.value {
        Measured::Null => "-".to_owned(),
        Measured::Float(number) => number.to_string(),
        Measured::Int(number) => number.to_string(),
        Measured::Bool(flag) => flag.to_string(),
        Measured::Text(text) => shown(text, VALUE_SHOWN),
    };
    match reading.value_label {
        Some(label) => format!("{value} ({})", shown(label, 40)),
        None => value,
    }
}

/// What, and how good.
fn line(reading: &Reading<'_>) -> String {
    let name = format!("{}/{}", reading.asset_id, reading.parameter);
    let unit = reading.unit.map_or_else(String::new, |unit| format!(" {}", shown(unit, 20)));
    let quality = match reading.quality_reason {
        Some(reason) => format!("{} {reason}", reading.quality.as_str()),
        None => reading.quality.as_str().to_owned(),
    };
    format!("{name:32}  {:24}  {quality:28}", format!("{}{unit}", value_of(reading)))
}

/// How long ago, as a person says it; a source may be ahead of us.
fn age(micros: i64) -> String {
    let text = match micros.unsigned_abs() / 1000 {
        ms @ 0..1000 => format!("{ms} ms"),
        ms @ 1000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        ms @ 120_000..7_200_000 => format!("{} min", ms / 60_000),
        ms @ 7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        ms => format!("{} d", ms / 86_400_000),
    };
    if micros < -1_000_000 { format!("{text} ahead") } else { format!("{text} old") }
}

fn as_json(reading: &Reading<'_>, now: Timestamp) -> Value {
    let value = match &reading.value {
        Measured::Null => Value::Null,
        Measured::Float(number) => json!(number),
        // whole numbers may be larger than what readers of JSON hold exactly
        Measured::Int(number) => json!(number.to_string()),
        Measured::Bool(flag) => json!(flag),
        Measured::Text(text) => json!(text),
    };
    json!({
        "asset_id": reading.asset_id,
        "parameter": reading.parameter,
        "value": value,
        "label": reading.value_label,
        "unit": reading.unit,
        "quality": reading.quality.as_str(),
        "reason": reading.quality_reason,
        "device_time": reading.device_time.to_string(),
        "age_ms": now.micros_since(reading.device_time) / 1000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("draft.yaml");
        std::fs::write(&file, text).unwrap();
        (folder, file)
    }

    const ONE: &str = "adapter_id: a\nadapter_type: simulated\nasset_id: press\n";

    // ui 1.4, G-06
    #[test]
    fn a_draft_is_a_document_a_list_or_one_adapter() {
        let one = format!("- {}", ONE.replace('\n', "\n  ").trim_end());
        for text in [
            ONE.to_owned(),
            one.clone(),
            format!("adapters:\n{one}\n"),
            format!("version: 1\nadapters:\n{one}\nsinks: 7\n"),
        ] {
            let (_folder, file) = written(&text);
            let settings = draft(&file, None);
            assert!(settings.is_ok(), "{text}: {settings:?}");
        }
        let two = format!("{one}\n{}", one.replace("adapter_id: a", "adapter_id: b"));
        let (_folder, file) = written(&two);
        assert!(draft(&file, None).unwrap_err().message.contains("--adapter: a, b"));
        assert_eq!(draft(&file, Some("b")).unwrap()["adapter_id"], "b");
        assert!(draft(&file, Some("c")).unwrap_err().message.contains("has no adapter \"c\""));
        let (_folder, file) = written("version: 1\n");
        assert_eq!(draft(&file, None).unwrap_err().code, USAGE);
        let (_folder, file) = written("- adapter_id: a\n  adapter_type: opcua\n");
        assert_eq!(draft(&file, None).unwrap_err().code, BAD_CONFIG);
    }

    // UA-23
    #[test]
    fn an_array_that_is_split_has_the_values_of_its_elements() {
        let name = |parameter: &str| ("press".to_owned(), parameter.to_owned());
        let seen = || Some(Seen { values: 1, line: String::new(), device_time: Timestamp::from_micros(0) });
        let mut screen = Screen::default();
        screen.points.extend([
            (name("zones"), None),
            (name("zones.0"), seen()),
            (name("zone"), None),
            (name("t"), seen()),
        ]);
        assert_eq!(screen.silent(), ["press/zone"]);
    }

    #[test]
    fn ages_for_people() {
        assert_eq!(
            ["0 ms old", "1.5 s old", "3 min old", "3 h old", "3 d old"].map(str::to_owned),
            [age(300), age(1_530_000), age(180_000_000), age(10_800_000_000), age(259_200_000_000)]
        );
        assert_eq!(age(-5_000_000), "5.0 s ahead");
    }
}
