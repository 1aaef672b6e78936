//! Structured logs: one JSON object per line, to standard output for machines, as text to standard error for a person,
//! and always to a size-capped ring of files where one is given.
//!
//! `{"timestamp":..., "level":..., "component":..., "gateway_id":..., "message":..., <fields>}`. The level comes from
//! `SF_LOG` (for example `info,gateway=debug`), `info` when unset. A supervisor passes its children's lines through
//! [`forward`], so that one place holds them all.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use model::{Clock, SystemClock};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::ring_file::RingFile;

/// Longest text a log field may carry; what is longer is cut, so that a field value cannot flood the ring.
const FIELD_LENGTH_MAX: usize = 4096;

/// Libraries that say nothing, whatever `SF_LOG` says: at their finest they write out the keys of a channel (G-10), and what
/// goes wrong in them comes back as an error of ours.
const SILENCED: [&str; 3] = ["opcua_core=off", "opcua_crypto=off", "opcua_types=off"];

/// What goes to the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// JSON lines on standard output; what children and services use.
    Json,
    /// Text on standard error; warnings and errors only when `quiet`.
    Text { quiet: bool },
}

/// Where logs go.
#[derive(Debug, Clone)]
pub struct Options {
    pub terminal: Terminal,
    /// Folder of the ring of files.
    pub folder: Option<PathBuf>,
}

struct Output {
    options: Options,
    component: String,
    gateway_id: String,
    file: Option<Mutex<RingFile>>,
}

static OUTPUT: OnceLock<Output> = OnceLock::new();

/// Installs the process-wide logger; the first call wins.
pub fn init(options: Options, component: &str, gateway_id: &str) {
    let file = options.folder.as_ref().map(|folder| Mutex::new(RingFile::new(folder)));
    let output = Output { options, component: component.to_owned(), gateway_id: gateway_id.to_owned(), file };
    if OUTPUT.set(output).is_err() {
        return;
    }
    let filter = EnvFilter::try_from_env("SF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let filter = SILENCED.iter().filter_map(|name| name.parse().ok()).fold(filter, EnvFilter::add_directive);
    let installed = tracing_subscriber::registry().with(filter).with(Lines).try_init();
    if installed.is_err() {
        tracing::debug!("another logger was installed before");
    }
}

/// Passes on a line that a child wrote to its standard output; what is not JSON becomes the message of one.
pub fn forward(component: &str, line: &str) {
    let Some(output) = OUTPUT.get() else { return };
    let map = match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(map)) => map,
        _ => base(output, component, "INFO", clean(line)),
    };
    output.write(&map);
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _ctx: Context<'_, S>) {
        let Some(output) = OUTPUT.get() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut line = base(output, &output.component, event.metadata().level().as_str(), fields.message);
        for (key, value) in fields.rest {
            line.entry(key).or_insert(value);
        }
        output.write(&line);
    }
}

fn base(output: &Output, component: &str, level: &str, message: String) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("timestamp".to_owned(), SystemClock.now().to_string().into());
    line.insert("level".to_owned(), level.into());
    line.insert("component".to_owned(), component.into());
    line.insert("gateway_id".to_owned(), output.gateway_id.clone().into());
    line.insert("message".to_owned(), message.into());
    line
}

impl Output {
    #[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where log lines leave the process")]
    fn write(&self, line: &Map<String, Value>) {
        let json = serde_json::to_string(line).unwrap_or_default();
        if let Some(file) = &self.file {
            file.lock().unwrap_or_else(PoisonError::into_inner).write_line(&json);
        }
        match self.options.terminal {
            Terminal::Json => println!("{json}"),
            Terminal::Text { quiet } => {
                let level = text_of(line, "level");
                if !quiet || level == "ERROR" || level == "WARN" {
                    eprintln!("{}", text_line(line));
                }
            }
        }
    }
}

fn text_of<'l>(line: &'l Map<String, Value>, key: &str) -> &'l str {
    line.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `10:00:00 WARN  adapter_press: message key=value`
fn text_line(line: &Map<String, Value>) -> String {
    let time = text_of(line, "timestamp");
    let time = time.get(11..19).unwrap_or(time);
    let mut text =
        format!("{time} {:5} {}: {}", text_of(line, "level"), text_of(line, "component"), text_of(line, "message"));
    for (key, value) in line {
        if matches!(key.as_str(), "timestamp" | "level" | "component" | "gateway_id" | "message") {
            continue;
        }
        text.push(' ');
        text.push_str(key);
        text.push('=');
        match value {
            Value::String(value) => text.push_str(value),
            other => text.push_str(&other.to_string()),
        }
    }
    text
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.rest.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = clean(&format!("{value:?}"));
        if field.name() == "message" { self.message = text } else { self.put(field, text.into()) }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message = clean(value) } else { self.put(field, clean(value).into()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, clean(&crate::report(value)).into());
    }
}

/// Text from the field is untrusted (G-11): control characters go, and it is cut at [`FIELD_LENGTH_MAX`].
fn clean(text: &str) -> String {
    text.chars().take(FIELD_LENGTH_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        // G-11
        assert_eq!(clean("a\r\n{\"level\":1}\u{1b}[2J"), "a  {\"level\":1} [2J");
        assert_eq!(clean(&"x".repeat(10_000)).len(), FIELD_LENGTH_MAX);
    }

    #[test]
    fn a_line_for_a_person() {
        let line = r#"{"timestamp":"2026-01-29T10:00:00.000Z","level":"WARN","component":"a","gateway_id":"g","message":"m","retry_in_ms":5,"why":"x y"}"#;
        let map: Map<String, Value> = serde_json::from_str(line).unwrap();
        assert_eq!(text_line(&map), "10:00:00 WARN  a: m retry_in_ms=5 why=x y");
    }
}
