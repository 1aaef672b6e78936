//! Settings of the way to a device: TCP or a serial line, and how requests are wrapped on it.
//!
//! Pure. What cannot go together is refused here, so that a connection never has to ask.

use std::time::Duration;

use ::config::{Claim, Object};
use modbus::Line;
use serde_json::Value;

/// Answers of a gateway may be this much later than its own limit.
const GATEWAY_MARGIN: Duration = Duration::from_millis(200);
/// What an adapter type other than this one is for.
pub const RTU: &str = "modbus_rtu";
/// The adapter type for everything behind a TCP port.
pub const TCP: &str = "modbus_tcp";

/// How to reach the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPlan {
    pub way: Way,
    pub framing: Framing,
    pub connect_timeout: Duration,
    /// For the answer; on a serial line the time the bytes take comes on top (MB-32).
    pub response_timeout: Duration,
    /// Requests on the wire at once (MB-21).
    pub outstanding_max: usize,
    /// The gateway does not echo transaction ids (MB-23).
    pub ignore_transaction_id: bool,
    /// Silence before a request beyond what the line needs (MB-30).
    pub inter_frame: Duration,
    /// The adapter hears its own bytes (MB-34).
    pub echo: bool,
    /// More than one unit is asked over it.
    pub several_units: bool,
}

/// Where the bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    Tcp { host: String, port: u16 },
    Serial(SerialPlan),
}

/// How a request is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The header of Modbus TCP.
    Mbap,
    /// Unit id and checksum, as on a serial line.
    Rtu,
}

/// The check bit of a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    None,
    Even,
    Odd,
}

/// A serial port (MB-34).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialPlan {
    pub path: String,
    pub line: Line,
    pub parity: Parity,
    pub two_stop_bits: bool,
    pub rs485: Option<Rs485>,
}

/// The driver turns the transmitter on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rs485 {
    pub delay_before_ms: u32,
    pub delay_after_ms: u32,
}

impl ConnectionPlan {
    /// A TCP connection with nothing out of the ordinary.
    pub fn tcp(host: String, port: u16, timeout: Duration) -> Self {
        Self {
            way: Way::Tcp { host, port },
            framing: Framing::Mbap,
            connect_timeout: timeout,
            response_timeout: timeout,
            outstanding_max: 1,
            ignore_transaction_id: false,
            inter_frame: Duration::ZERO,
            echo: false,
            several_units: false,
        }
    }

    /// `host:port` or the port's path, for messages.
    pub fn target(&self) -> String {
        match &self.way {
            Way::Tcp { host, port } => format!("{host}:{port}"),
            Way::Serial(serial) => serial.path.clone(),
        }
    }

    /// True for a bus that many devices share, whose silence says nothing about the connection.
    pub fn is_serial(&self) -> bool {
        matches!(self.way, Way::Serial(_))
    }
}

/// Reads the settings of one of the two adapter types. The unit ids are not known yet.
pub fn read(object: &mut Object<'_>, is_serial: bool) -> ConnectionPlan {
    let milliseconds = super::config::milliseconds;
    let way = if is_serial { Way::Serial(read_serial(object)) } else { read_tcp(object) };
    let framing = if is_serial { Framing::Rtu } else { read_framing(object) };
    let base = if is_serial { 500 } else { 1000 };
    let response_timeout = milliseconds(object, "response_timeout_ms", 10, 60_000, base);
    let outstanding_max: usize = super::config::number(object, "max_outstanding", 1, 16, 1);
    let ignore_transaction_id =
        if is_serial { false } else { object.boolean("ignore_transaction_id").unwrap_or_default() };
    let serialise = if is_serial { false } else { object.boolean("serialise").unwrap_or_default() };
    if ignore_transaction_id && framing == Framing::Rtu {
        let hint = "this framing has no transaction id: leave the setting out";
        object.problem("ignore_transaction_id", "contradiction", "stands beside framing rtu_over_tcp", hint);
    }
    let alone = [
        (framing == Framing::Rtu, "answers without a transaction id"),
        (ignore_transaction_id, "ignore_transaction_id"),
        (serialise, "serialise"),
    ];
    if let Some((_, why)) = alone.into_iter().find(|(holds, _)| *holds)
        && outstanding_max > 1
    {
        object.problem("max_outstanding", "contradiction", format!("{why} allow one request at a time"), "write 1");
    }
    if !is_serial && let Some(gateway) = object.integer("gateway_timeout_ms", 10, 60_000) {
        let gateway = Duration::from_millis(u64::try_from(gateway).unwrap_or_default());
        if response_timeout < gateway + GATEWAY_MARGIN {
            let least = (gateway + GATEWAY_MARGIN).as_millis();
            let message = format!("{} ms is not 200 ms above gateway_timeout_ms", response_timeout.as_millis());
            let hint = format!("the gateway's answers would come too late; write {least} or more");
            object.problem("response_timeout_ms", "too_short", message, hint);
        }
    }
    let connect_timeout =
        if is_serial { Duration::ZERO } else { milliseconds(object, "connect_timeout_ms", 100, 60_000, 3000) };
    let inter_frame = milliseconds(object, "inter_frame_ms", 0, 1000, 0);
    let echo = if is_serial { object.boolean("echo").unwrap_or_default() } else { false };
    ConnectionPlan {
        way,
        framing,
        connect_timeout,
        response_timeout,
        outstanding_max,
        ignore_transaction_id,
        inter_frame,
        echo,
        several_units: false,
    }
}

/// What settings use that nobody else may, as far as it can be told from them (MB-28, MB-35, AC-026).
pub fn claim(value: &Value) -> Option<Claim> {
    if value.get("adapter_type")?.as_str()? == RTU {
        let port = value.get("serial")?.get("port")?.as_str()?;
        return Some(Claim { what: format!("the serial port {port}"), alone: true });
    }
    let host = value.get("host")?.as_str()?.to_ascii_lowercase();
    let port = value.get("port").and_then(Value::as_u64).unwrap_or(502);
    let is_bus = value.get("framing").and_then(Value::as_str) == Some("rtu_over_tcp");
    let serialised = value.get("serialise").and_then(Value::as_bool) == Some(true);
    Some(Claim { what: format!("the Modbus endpoint {host}:{port}"), alone: is_bus || serialised })
}

fn read_tcp(object: &mut Object<'_>) -> Way {
    let host = object.required_text("host").unwrap_or_default().to_owned();
    Way::Tcp { host, port: super::config::number(object, "port", 1, 65_535, 502) }
}

fn read_framing(object: &mut Object<'_>) -> Framing {
    const WORDS: [&str; 2] = ["mbap", "rtu_over_tcp"];
    let text = object.value("framing").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let refused = match text.as_deref() {
        Some("ascii" | "ascii_over_tcp") => Some(("Modbus ASCII is not spoken", "set the device to RTU")),
        Some("udp" | "mbap_over_udp") => Some(("Modbus over UDP is not spoken", "use the device's TCP port")),
        Some("tls" | "mbaps") => Some(("Modbus/TCP Security is not spoken", "use the device's plain TCP port")),
        Some("rtu") => Some(("a serial line has its own adapter type", "use adapter_type modbus_rtu, or rtu_over_tcp")),
        _ => None,
    };
    if let Some((message, hint)) = refused {
        object.problem("framing", "not_supported", message, hint);
        return Framing::Mbap;
    }
    match object.word("framing", &WORDS) {
        Some("rtu_over_tcp") => Framing::Rtu,
        _ => Framing::Mbap,
    }
}

fn read_serial(object: &mut Object<'_>) -> SerialPlan {
    let nothing = Value::Object(serde_json::Map::new());
    let value = object.value("serial");
    if value.is_none() {
        object.problem("serial", "missing", "is missing", "for example {\"port\": \"/dev/serial/by-id/...\"}");
    }
    let mut serial = Object::new(value.unwrap_or(&nothing), &object.at("serial"));
    let path = if value.is_some() { serial.required_text("port").unwrap_or_default() } else { "" }.to_owned();
    if !path.is_empty() && !path.starts_with('/') {
        serial.problem("port", "bad_path", format!("{path:?} is not the path of a device"), "/dev/serial/by-id/...");
    }
    let baud = serial.integer("baud", 300, 921_600).and_then(|baud| u32::try_from(baud).ok()).unwrap_or(19_200);
    let parity = match serial.word("parity", &["even", "odd", "none"]) {
        Some("none") => Parity::None,
        Some("odd") => Parity::Odd,
        _ => Parity::Even,
    };
    if serial.value("data_bits").is_some() && serial.integer("data_bits", 8, 8).is_none() {
        serial.problem("data_bits", "not_supported", "RTU needs 8 data bits", "7 bits are Modbus ASCII, not spoken");
    }
    // The standard keeps every character at 11 bits: without a parity bit it asks for a second stop bit.
    let standard = if parity == Parity::None { 2 } else { 1 };
    let stop_bits = serial.integer("stop_bits", 1, 2).unwrap_or(standard);
    let rs485 = read_rs485(&mut serial);
    object.extend(serial.finish());
    let bits = 1 + 8 + u8::from(parity != Parity::None) + if stop_bits == 2 { 2 } else { 1 };
    SerialPlan { path, line: Line { baud, bits }, parity, two_stop_bits: stop_bits == 2, rs485 }
}

fn read_rs485(serial: &mut Object<'_>) -> Option<Rs485> {
    let value = serial.value("rs485")?;
    if let Some(wanted) = value.as_bool() {
        return wanted.then_some(Rs485 { delay_before_ms: 0, delay_after_ms: 0 });
    }
    let mut rs485 = Object::new(value, &serial.at("rs485"));
    let mut delay = |key| rs485.integer(key, 0, 100).and_then(|ms| u32::try_from(ms).ok()).unwrap_or_default();
    let delays = Rs485 { delay_before_ms: delay("delay_before_ms"), delay_after_ms: delay("delay_after_ms") };
    serial.extend(rs485.finish());
    Some(delays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan(value: &Value) -> Result<ConnectionPlan, Vec<String>> {
        let mut object = Object::new(value, "");
        let is_serial = value.get("serial").is_some();
        let plan = read(&mut object, is_serial);
        let problems: Vec<String> = object.finish().iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(plan) } else { Err(problems) }
    }

    // MB-34, MB-30
    #[test]
    fn serial_settings_and_their_defaults() {
        let with = |serial: Value| match plan(&json!({ "serial": serial })).unwrap().way {
            Way::Serial(serial) => serial,
            Way::Tcp { .. } => panic!("serial"),
        };
        let plain = with(json!({"port": "/dev/ttyUSB0"}));
        assert_eq!(
            (plain.line, plain.parity, plain.two_stop_bits),
            (Line { baud: 19_200, bits: 11 }, Parity::Even, false)
        );
        let none = with(json!({"port": "/dev/ttyUSB0", "baud": 9600, "parity": "none"}));
        assert_eq!((none.line.bits, none.two_stop_bits), (11, true));
        let common = with(json!({"port": "/dev/ttyUSB0", "parity": "none", "stop_bits": 1, "rs485": true}));
        assert_eq!((common.line.bits, common.rs485), (10, Some(Rs485 { delay_before_ms: 0, delay_after_ms: 0 })));
        let problems = plan(&json!({"serial": {"port": "COM1", "baud": 299, "parity": "mark", "stop_bits": 3,
            "data_bits": 7, "rs485": {"delay_before_ms": 500}}, "max_outstanding": 2}))
        .unwrap_err();
        for (place, words) in [
            ("/max_outstanding", "one request at a time"),
            ("/serial/port", "not the path"),
            ("/serial/baud", "outside 300"),
            ("/serial/parity", "not one of"),
            ("/serial/data_bits", "outside 8"),
            ("/serial/stop_bits", "outside 1"),
            ("/serial/rs485/delay_before_ms", "outside"),
        ] {
            assert!(problems.iter().any(|p| p.starts_with(place) && p.contains(words)), "{place}: {problems:#?}");
        }
    }

    // MB-27
    #[test]
    fn other_kinds_of_modbus_are_refused_by_name() {
        for (framing, words) in
            [("ascii", "ASCII is not spoken"), ("UDP", "UDP is not spoken"), ("tls", "Security"), ("rtu", "modbus_rtu")]
        {
            let problems = plan(&json!({"host": "plc", "framing": framing})).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains(words), "{problems:?}");
        }
        let bus = plan(&json!({"host": "plc", "framing": "rtu_over_tcp"})).unwrap();
        assert_eq!((bus.framing, bus.response_timeout.as_millis()), (Framing::Rtu, 1000));
    }

    // MB-23, MB-28
    #[test]
    fn what_cannot_go_together() {
        let problems = |value: Value| plan(&value).unwrap_err();
        for more in
            [json!({"ignore_transaction_id": true}), json!({"serialise": true}), json!({"framing": "rtu_over_tcp"})]
        {
            let mut value = json!({"host": "plc", "max_outstanding": 4});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert!(problems(value)[0].starts_with("/max_outstanding"));
        }
        let late = problems(json!({"host": "gw", "gateway_timeout_ms": 1000, "response_timeout_ms": 1100}));
        assert_eq!(
            late,
            ["/response_timeout_ms: 1100 ms is not 200 ms above gateway_timeout_ms \
              (the gateway's answers would come too late; write 1200 or more)"]
        );
        assert!(plan(&json!({"host": "gw", "gateway_timeout_ms": 1000, "response_timeout_ms": 1200})).is_ok());
    }
}
