//! One look at one register: what is in it, and what it means in each byte order.
//!
//! For the person who has a device, a manual and a wrong number on the screen. Targets:
//! `modbus://host:port/unit?address=40001&type=float32`, with `&framing=rtu_over_tcp` for a converter, and for a serial
//! port `modbus+rtu:///dev/ttyUSB0?unit=1&address=40001&baud=9600&parity=none&stop_bits=1`.

use std::fmt;
use std::time::Duration;

use modbus::value::{CharOrder, Encoding, Half};
use modbus::{Data, DataType, Exception, Location, Order, Read, Value};
use model::SystemClock;

use super::connection::{Connection, Outcome};
use super::transport::{self, ConnectionPlan};
use crate::adapter::LinkError;

/// Registers shown before and behind the value where the device has them.
const AROUND: u16 = 4;
/// How long connecting and each answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target is not understood.
    #[error("{target:?} is not a target: {reason}; write modbus://host:port/unit?address=40001&type=float32")]
    Target {
        /// As written.
        target: String,
        /// What is wrong.
        reason: String,
    },
    /// No connection, or it broke.
    #[error("no answer")]
    Link {
        /// Why.
        source: LinkError,
    },
    /// The device refused.
    #[error("the device refused to read {count} from {address}: {exception}")]
    Refused {
        /// Six-digit address.
        address: String,
        /// Items asked for.
        count: u16,
        /// What it said.
        exception: Exception,
    },
    /// The device did not answer the request.
    #[error("unit {unit} did not answer within {patience:?}; another unit id?")]
    Silent {
        /// Unit asked.
        unit: u8,
        /// The limit.
        patience: Duration,
    },
    /// The device answered nonsense.
    #[error("the reply breaks the protocol")]
    Malformed {
        /// How.
        source: modbus::Error,
    },
}

/// What to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// How to get there.
    pub connection: ConnectionPlan,
    pub unit: u8,
    pub location: Location,
    pub kind: DataType,
}

/// What was seen. `Display` prints it for a terminal.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub target: Target,
    /// From request to answer.
    pub round_trip: Duration,
    /// A coil or discrete input.
    pub bit: Option<bool>,
    /// The registers of the value, as sent.
    pub registers: Vec<u16>,
    /// Offset of the first register around the value, and the registers from there; empty if the device refuses them.
    pub around: (u16, Vec<u16>),
    /// The value by each byte order, or why there is none.
    pub readings: Vec<(Order, String)>,
}

impl Target {
    /// Reads a target. Port 502, unit 1, type uint16 unless given; a serial line is 19200 baud, even parity.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fail = |reason: &str| Error::Target { target: text.to_owned(), reason: reason.to_owned() };
        let serial = text.strip_prefix("modbus+rtu://");
        let rest = serial.or_else(|| text.strip_prefix("modbus://"));
        let rest = rest.ok_or_else(|| fail("it does not begin with modbus://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut settings = serde_json::Map::new();
        let (mut line, mut unit) = (serde_json::Map::new(), None);
        if serial.is_some() {
            line.insert("port".to_owned(), place.into());
        } else {
            let (authority, unit_text) = place.split_once('/').unwrap_or((place, ""));
            let (host, port) = match authority.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && !port.ends_with(']') => {
                    (host, port.parse::<u16>().map_err(|_| fail("the port is no number from 1 to 65535"))?)
                }
                _ => (authority, 502),
            };
            let host = host.trim_start_matches('[').trim_end_matches(']');
            if host.is_empty() {
                return Err(fail("it names no host"));
            }
            settings.insert("host".to_owned(), host.into());
            settings.insert("port".to_owned(), port.into());
            unit = Some(unit_text).filter(|unit| !unit.is_empty());
        }
        let (mut address, mut type_name, mut count) = (None, None, 8);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("address", value)) => address = Some(value),
                Some(("type", value)) => type_name = Some(value),
                Some(("unit", value)) => unit = Some(value),
                Some(("registers", value)) => {
                    count = value
                        .parse()
                        .ok()
                        .filter(|n| (1..=125).contains(n))
                        .ok_or_else(|| fail("registers are 1 to 125"))?;
                }
                Some((key @ ("baud" | "stop_bits"), value)) if serial.is_some() => {
                    let number: u32 = value.parse().map_err(|_| fail("baud and stop_bits are numbers"))?;
                    line.insert(key.to_owned(), number.into());
                }
                Some((key @ "parity", value)) if serial.is_some() => drop(line.insert(key.to_owned(), value.into())),
                Some((key @ "framing", value)) => drop(settings.insert(key.to_owned(), value.into())),
                _ => return Err(fail("it knows address, type, registers, unit, framing, baud, parity and stop_bits")),
            }
        }
        let unit = match unit {
            None => 1,
            Some(unit) => unit.parse().map_err(|_| fail("the unit is no number to 255"))?,
        };
        if serial.is_some() {
            settings.insert("serial".to_owned(), line.into());
        }
        let settings = serde_json::Value::Object(settings);
        let mut object = ::config::Object::new(&settings, "");
        let connection = transport::read(&mut object, serial.is_some());
        if let Some(problem) = object.finish().first() {
            return Err(fail(&problem.to_string()));
        }
        let connection = ConnectionPlan { connect_timeout: PATIENCE, response_timeout: PATIENCE, ..connection };
        let address = address.ok_or_else(|| fail("it names no address"))?;
        let location = Location::parse(address).map_err(|error| fail(&error.to_string()))?;
        let kind = match (type_name, location.bit) {
            (None | Some("bit" | "bool"), Some(bit)) if bit < 16 => DataType::Bit { place: bit },
            (None, _) => DataType::Uint16,
            (Some(name), _) => kind(name, count).ok_or_else(|| fail("the type is not known"))?,
        };
        Ok(Self { connection, unit, location, kind })
    }
}

fn kind(name: &str, registers: u16) -> Option<DataType> {
    Some(match name {
        "bool" => DataType::Bool,
        "int8" => DataType::Int8(Half::Low),
        "uint8" => DataType::Uint8(Half::Low),
        "int16" => DataType::Int16,
        "uint16" => DataType::Uint16,
        "int32" => DataType::Int32,
        "uint32" => DataType::Uint32,
        "float32" => DataType::Float32,
        "int64" => DataType::Int64,
        "uint64" => DataType::Uint64,
        "float64" => DataType::Float64,
        "bcd16" => DataType::Bcd16,
        "bcd32" => DataType::Bcd32,
        "mod10_32" => DataType::Mod10 { registers: 2 },
        "mod10_48" => DataType::Mod10 { registers: 3 },
        "mod10_64" => DataType::Mod10 { registers: 4 },
        "string" => DataType::Text { registers, chars: CharOrder::HighLow, encoding: Encoding::Latin1 },
        "raw" => DataType::Raw { registers },
        _ => return None,
    })
}

/// Connects, reads, disconnects.
pub async fn probe(target: &str) -> Result<Report, Error> {
    let target = Target::parse(target)?;
    let mut connection = Connection::open(&target.connection).await.map_err(|source| Error::Link { source })?;
    let is_bit = target.location.table.holds_bits();
    let count = if is_bit { 1 } else { target.kind.registers() };
    let offset = target.location.offset;
    let (data, round_trip) = read(&mut connection, &target, offset, count).await?;
    let registers = match data {
        Data::Bits(bits) => {
            let bit = bits.first().copied();
            return Ok(Report { target, round_trip, bit, registers: vec![], around: (0, vec![]), readings: vec![] });
        }
        Data::Registers(registers) => registers,
    };
    let readings = Order::ALL.map(|order| (order, show(target.kind, order, &registers))).into();
    let first = offset.saturating_sub(AROUND);
    let end = (u32::from(offset) + u32::from(count) + u32::from(AROUND)).min(65_536);
    let wide = u16::try_from(end - u32::from(first)).unwrap_or(count).min(125);
    let around = match read(&mut connection, &target, first, wide).await {
        Ok((Data::Registers(around), _)) => (first, around),
        _ => (offset, Vec::new()),
    };
    Ok(Report { target, round_trip, bit: None, registers, around, readings })
}

pub(super) async fn read(
    connection: &mut Connection,
    target: &Target,
    offset: u16,
    count: u16,
) -> Result<(Data, Duration), Error> {
    let read = Read::new(target.unit, target.location.table, offset, count)
        .map_err(|source| Error::Target { target: target.location.modicon(), reason: source.to_string() })?;
    let outcomes = connection.request(&[read], &SystemClock, &mut Vec::new()).await;
    match outcomes.map_err(|source| Error::Link { source })?.pop() {
        Some(Outcome::Answer { answer: Ok(data), round_trip, .. }) => Ok((data, round_trip)),
        Some(Outcome::Answer { answer: Err(exception), .. }) => {
            Err(Error::Refused { address: target.location.modicon(), count, exception })
        }
        Some(Outcome::Malformed(source)) => Err(Error::Malformed { source }),
        Some(Outcome::Timeout) | None => Err(Error::Silent { unit: target.unit, patience: PATIENCE }),
    }
}

pub(super) fn show(kind: DataType, order: Order, registers: &[u16]) -> String {
    match kind.decode(order, registers) {
        Ok(decoded) => match decoded.value {
            Value::Bool(flag) => flag.to_string(),
            Value::Int(number) => number.to_string(),
            // Shortest notation: a wrong order often shows as an absurd exponent.
            Value::Float(number) if number != 0.0 && !(1e-4..1e9).contains(&number.abs()) => format!("{number:e}"),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => format!("{text:?}"),
        },
        Err(defect) => format!("- ({defect})"),
    }
}

impl Report {
    /// For scripts.
    pub fn to_json(&self) -> serde_json::Value {
        let Target { connection, unit, location, .. } = &self.target;
        let readings: serde_json::Map<_, _> =
            self.readings.iter().map(|(order, text)| (order.name().to_owned(), text.as_str().into())).collect();
        serde_json::json!({
            "target": connection.target(),
            "unit": unit,
            "address": location.modicon(),
            "round_trip_ms": self.round_trip.as_secs_f64() * 1000.0,
            "bit": self.bit,
            "registers": self.registers,
            "readings": readings,
            "around": { "offset": self.around.0, "registers": self.around.1 },
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { connection, unit, location, .. } = &self.target;
        writeln!(f, "{} unit {unit}, {} {}", connection.target(), location.table, location.modicon())?;
        writeln!(f, "answered in {:.1} ms", self.round_trip.as_secs_f64() * 1000.0)?;
        if let Some(bit) = self.bit {
            return write!(f, "value     {}", u8::from(bit));
        }
        let words: Vec<String> = self.registers.iter().map(|register| format!("{register:04X}")).collect();
        writeln!(f, "registers {}", words.join(" "))?;
        for (order, text) in &self.readings {
            writeln!(f, "{order}      {text}")?;
        }
        let (first, around) = &self.around;
        for (register, offset) in around.iter().zip(u32::from(*first)..) {
            let begin = u32::from(self.target.location.offset);
            let own = (begin..begin + u32::from(self.target.kind.registers())).contains(&offset);
            let mark = if own { '>' } else { ' ' };
            writeln!(f, "{mark} offset {offset:5}  {register:04X}  {register:5}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modbus::transport::Way;
    use modbus::Table;

    #[test]
    fn targets() {
        let target = Target::parse("modbus://10.0.0.5:1502/7?address=40001&type=float32").unwrap();
        assert_eq!((target.connection.target().as_str(), target.unit), ("10.0.0.5:1502", 7));
        assert_eq!((target.location.table, target.kind), (Table::HoldingRegister, DataType::Float32));
        let short = Target::parse("modbus://plc?address=300010").unwrap();
        assert_eq!((short.connection.target().as_str(), short.unit, short.kind), ("plc:502", 1, DataType::Uint16));
        let six = Target::parse("modbus://[::1]:502/1?address=40001.3").unwrap();
        assert_eq!((six.connection.target().as_str(), six.kind), ("::1:502", DataType::Bit { place: 3 }));
        let bus = "modbus+rtu:///dev/ttyUSB0?unit=17&address=40001&baud=9600&parity=none&stop_bits=1";
        let bus = Target::parse(bus).unwrap();
        assert_eq!((bus.connection.target().as_str(), bus.unit), ("/dev/ttyUSB0", 17));
        let Way::Serial(serial) = bus.connection.way else { panic!("serial") };
        assert_eq!(serial.line, modbus::Line { baud: 9600, bits: 10 });
        let through = Target::parse("modbus://plc/1?address=40001&framing=rtu_over_tcp").unwrap();
        assert_eq!(through.connection.framing, transport::Framing::Rtu);
        for bad in [
            "http://plc",
            "modbus://?address=40001",
            "modbus://plc",
            "modbus://plc:x/1?address=40001",
            "modbus://plc/300?address=40001",
            "modbus://plc/1?address=40000",
            "modbus://plc/1?address=40001&type=float",
            "modbus://plc/1?adress=40001",
            "modbus://plc/1?address=40001&baud=9600",
            "modbus://plc/1?address=40001&framing=ascii",
            "modbus+rtu://ttyUSB0?address=40001",
        ] {
            let message = Target::parse(bad).unwrap_err().to_string();
            assert!(message.contains("modbus://host:port/unit"), "{message}");
        }
    }
}
