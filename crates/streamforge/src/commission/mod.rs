//! Looking at a source before it is configured: `probe`, `browse`, `listen`, `preview`. One file per command.
//!
//! What is seen is printed, nothing is published and nothing is written but certificates that wait for a person. Results
//! go to standard output, everything else to standard error.

mod access;
mod browse;
mod listen;
mod preview;
mod probe;

pub(crate) use access::Access;
pub(crate) use browse::{Browse, browse};
pub(crate) use listen::{Listen, listen};
pub(crate) use preview::{Preview, preview};
pub(crate) use probe::{Probe, probe};

use adapters::commission::stages::{Report, Stage};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::exit::{BUG, Failure, TRY_AGAIN};
use crate::say;

/// Which protocol an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Modbus,
    OpcUa,
    Mqtt,
}

impl Protocol {
    pub(crate) fn of(url: &str) -> Option<Self> {
        Some(match url.split_once("://")?.0 {
            "modbus" | "modbus+rtu" => Self::Modbus,
            "opc.tcp" => Self::OpcUa,
            "mqtt" | "mqtts" | "tcp" | "ssl" => Self::Mqtt,
            _ => return None,
        })
    }
}

/// What is told while a staged test runs: each stage to a person, nothing to a script.
fn teller(json: bool) -> impl FnMut(&Stage) + Send {
    move |stage| {
        if !json {
            say::line(&stage.to_string());
        }
    }
}

/// The end of a staged test.
fn conclude(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        print_json(report)?;
    }
    match report.failed() {
        None => Ok(()),
        Some(stage) => Err(Failure::new(TRY_AGAIN, format!("{}: {} failed", report.target, stage.name))),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::from_error(BUG, &error))?;
    say::line(&text);
    Ok(())
}

/// The first lines of a draft: an entry of the list of adapters, with what it takes to connect. JSON is YAML as well.
fn draft_head(kind: &str, settings: &Map<String, Value>) -> Vec<String> {
    let mut lines = vec![format!("- adapter_id: {kind}_1"), format!("  adapter_type: {kind}")];
    lines.extend(settings.iter().map(|(key, value)| format!("  {key}: {value}")));
    lines
}
