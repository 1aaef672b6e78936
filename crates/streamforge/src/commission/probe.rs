//! `probe`: is it there, does it let us in, does it answer. What fails says what to do.

use std::time::Duration;

use adapters::{probe as modbus, scan};
use clap::Args;

use super::{Access, Protocol, conclude, print_json, teller};
use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::say;

/// Options of `probe`.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// opc.tcp://HOST[:PORT][/PATH], mqtt://HOST[:PORT] or mqtts://HOST[:PORT], or
    /// modbus://HOST[:PORT]/UNIT?address=40001[&type=float32]; a serial line is
    /// modbus+rtu:///dev/ttyUSB0?unit=1&address=40001[&baud=9600&parity=none&stop_bits=1]
    pub(crate) url: String,
    /// Modbus: show this many registers from the address on, in all byte orders, ten at a time and five times a second
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(scan::COUNT_MAX)))]
    pub(crate) scan: Option<u16>,
    /// MQTT: filter to subscribe to
    #[arg(long, default_value = "#")]
    pub(crate) filter: String,
    /// MQTT: how long a first message may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) seconds: u64,
    /// Print JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) access: Access,
}

/// Tests a source.
pub(crate) async fn probe(options: &Probe) -> Result<(), Failure> {
    let Probe { url, json, .. } = options;
    let mut tell = teller(*json);
    match Protocol::of(url) {
        Some(Protocol::OpcUa) => {
            let guest = options.access.opcua(url)?;
            conclude(&adapters::opcua::probe::probe(&guest, &mut tell).await, *json)
        }
        Some(Protocol::Mqtt) => {
            let guest = options.access.mqtt(url)?;
            let wait = Duration::from_secs(options.seconds);
            conclude(&adapters::mqtt::probe::probe(&guest, &options.filter, wait, &mut tell).await, *json)
        }
        Some(Protocol::Modbus) => modbus(options).await,
        None => {
            let hint = "write opc.tcp://host:4840, mqtts://host:8883 or modbus://host:502/1?address=40001";
            Err(Failure::new(USAGE, format!("{url:?} is no address of a protocol that we know; {hint}")))
        }
    }
}

/// One read of a device or a run of its registers.
async fn modbus(options: &Probe) -> Result<(), Failure> {
    let failed = |error| Failure::from_error(TRY_AGAIN, &error);
    if let Some(count) = options.scan {
        let scan = scan::scan(&options.url, count).await.map_err(failed)?;
        if options.json {
            return print_json(&scan.to_json());
        }
        say::line(&scan.to_string());
        return Ok(());
    }
    let answer = modbus::probe(&options.url).await.map_err(failed)?;
    if options.json {
        return print_json(&answer.to_json());
    }
    say::line(&answer.to_string());
    Ok(())
}
