//! Structured logs: one JSON object per line on standard output, or plain text for a person at a terminal.
//!
//! `{"timestamp":..., "level":..., "component":..., "gateway_id":..., "message":..., <fields>}`. The level comes from
//! `SF_LOG` (for example `info,gateway=debug`), `info` when unset.

use std::fmt;

use model::{Clock, SystemClock};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Longest text a log field may carry; what is longer is cut, so that a field value cannot flood the ring.
const FIELD_LENGTH_MAX: usize = 4096;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For machines; what children and services use.
    Json,
    /// For a person: time, level, component, message, fields.
    Text,
}

/// Installs the process-wide logger; the first call wins.
pub fn init(style: Style, component: &str, gateway_id: &str) {
    let filter = EnvFilter::try_from_env("SF_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let format = Lines { style, component: component.to_owned(), gateway_id: gateway_id.to_owned() };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).event_format(format);
    let installed = match style {
        Style::Json => subscriber.with_writer(std::io::stdout).try_init(),
        Style::Text => subscriber.with_writer(std::io::stderr).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("the logger was installed before");
    }
}

struct Lines {
    style: Style,
    component: String,
    gateway_id: String,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let now = SystemClock.now();
        let level = event.metadata().level().as_str();
        match self.style {
            Style::Json => {
                let mut line = Map::new();
                line.insert("timestamp".to_owned(), now.to_string().into());
                line.insert("level".to_owned(), level.into());
                line.insert("component".to_owned(), self.component.clone().into());
                line.insert("gateway_id".to_owned(), self.gateway_id.clone().into());
                line.insert("message".to_owned(), fields.message.into());
                for (key, value) in fields.rest {
                    line.entry(key).or_insert(value);
                }
                writeln!(writer, "{}", Value::Object(line))
            }
            Style::Text => {
                let time = now.to_string();
                write!(
                    writer,
                    "{} {level:5} {}: {}",
                    time.get(11..19).unwrap_or(&time),
                    self.component,
                    fields.message
                )?;
                for (key, value) in &fields.rest {
                    match value {
                        Value::String(text) => write!(writer, " {key}={text}")?,
                        other => write!(writer, " {key}={other}")?,
                    }
                }
                writeln!(writer)
            }
        }
    }
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
}
