//! The bytes of Sparkplug B as an edge node writes them, and the one request it reads. Pure.

use mqtt311::mqttbytes::v4::LastWill;

/// The metric that asks for births.
pub const REBIRTH: &str = "Node Control/Rebirth";
/// The metric that tells one life of a node from the next.
pub const BD_SEQ: &str = "bdSeq";

/// A value with its declared type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Int16(i16),
    Int64(i64),
    UInt32(u32),
    Float(f32),
    Double(f64),
    Bool(bool),
    Text(String),
}

/// One metric; a birth gives name and alias, data the alias alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    pub name: Option<String>,
    pub alias: Option<u64>,
    pub value: Value,
    /// Property `engUnit`.
    pub unit: Option<String>,
}

impl Metric {
    /// One that is only named.
    pub fn named(name: &str, value: Value) -> Self {
        Self { name: Some(name.to_owned()), alias: None, value, unit: None }
    }
}

impl Value {
    const fn datatype(&self) -> u64 {
        match self {
            Self::Int16(_) => 2,
            Self::Int64(_) => 4,
            Self::UInt32(_) => 7,
            Self::Float(_) => 9,
            Self::Double(_) => 10,
            Self::Bool(_) => 11,
            Self::Text(_) => 12,
        }
    }
}

/// Bytes of a payload; a death has no `seq`.
pub fn payload(timestamp_ms: u64, seq: Option<u8>, metrics: &[Metric]) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, timestamp_ms);
    for metric in metrics {
        bytes(&mut out, 2, &encode(timestamp_ms, metric));
    }
    if let Some(seq) = seq {
        number(&mut out, 3, seq.into());
    }
    out
}

/// What the broker is to say when the node is gone.
pub fn death(topic: &str, timestamp_ms: u64, bd_seq: u8) -> LastWill {
    let metric = Metric::named(BD_SEQ, Value::Int64(bd_seq.into()));
    LastWill::new(topic, payload(timestamp_ms, None, &[metric]), mqtt311::mqttbytes::QoS::AtLeastOnce, false)
}

fn encode(timestamp_ms: u64, metric: &Metric) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(name) = &metric.name {
        bytes(&mut out, 1, name.as_bytes());
    }
    if let Some(alias) = metric.alias {
        number(&mut out, 2, alias);
    }
    number(&mut out, 3, timestamp_ms);
    number(&mut out, 4, metric.value.datatype());
    if let Some(unit) = &metric.unit {
        let mut value = Vec::new();
        number(&mut value, 1, 12);
        bytes(&mut value, 8, unit.as_bytes());
        let mut properties = Vec::new();
        bytes(&mut properties, 1, b"engUnit");
        bytes(&mut properties, 2, &value);
        bytes(&mut out, 9, &properties);
    }
    match &metric.value {
        // sixteen bits travel as thirty-two, with the sign carried on
        Value::Int16(value) => number(&mut out, 10, i32::from(*value).cast_unsigned().into()),
        Value::UInt32(value) => number(&mut out, 10, (*value).into()),
        Value::Int64(value) => number(&mut out, 11, value.cast_unsigned()),
        Value::Float(value) => {
            varint(&mut out, 12 << 3 | 5);
            out.extend(value.to_le_bytes());
        }
        Value::Double(value) => {
            varint(&mut out, 13 << 3 | 1);
            out.extend(value.to_le_bytes());
        }
        Value::Bool(value) => number(&mut out, 14, (*value).into()),
        Value::Text(value) => bytes(&mut out, 15, value.as_bytes()),
    }
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// True for a command that asks the node for its births; anything torn or unknown is none.
pub fn asks_for_births(payload: &[u8]) -> bool {
    let is_it = |metric: &[u8]| {
        let (mut named, mut set) = (false, false);
        let torn = each_field(metric, |field, found| match (field, found) {
            (1, Found::Bytes(name)) => named = name == REBIRTH.as_bytes(),
            (14, Found::Number(value)) => set = value != 0,
            _ => {}
        });
        torn.is_some() && named && set
    };
    let mut asked = false;
    let read = each_field(payload, |field, found| {
        if let (2, Found::Bytes(metric)) = (field, found) {
            asked |= is_it(metric);
        }
    });
    read.is_some() && asked
}

enum Found<'p> {
    Number(u64),
    Bytes(&'p [u8]),
    Other,
}

/// Hands out the fields of a message; `None` if it is torn.
fn each_field<'p>(mut rest: &'p [u8], mut take: impl FnMut(u64, Found<'p>)) -> Option<()> {
    while !rest.is_empty() {
        let key = read_varint(&mut rest)?;
        let found = match key & 7 {
            0 => Found::Number(read_varint(&mut rest)?),
            1 => {
                rest = rest.get(8..)?;
                Found::Other
            }
            2 => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Found::Bytes(value)
            }
            5 => {
                rest = rest.get(4..)?;
                Found::Other
            }
            _ => return None,
        };
        take(key >> 3, found);
    }
    Some(())
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    // MQ-18
    #[test]
    fn only_the_request_for_births_is_one() {
        let ask = |name: &str, value| payload(1, None, &[Metric::named(name, value)]);
        let asking = ask(REBIRTH, Value::Bool(true));
        assert!(asks_for_births(&asking));
        assert!(!asks_for_births(&ask(REBIRTH, Value::Bool(false))));
        assert!(!asks_for_births(&ask("Node Control/Reboot", Value::Bool(true))));
        for length in 0..asking.len() {
            assert!(!asks_for_births(&asking[..length]), "torn at {length}");
        }
    }

    // MQ-20
    #[test]
    fn sixteen_bits_travel_as_thirty_two() {
        let metric = Metric { name: None, alias: Some(3), value: Value::Int16(-87), unit: None };
        let expected = [0x10, 3, 0x18, 5, 0x20, 2, 0x50, 0xA9, 0xFF, 0xFF, 0xFF, 0x0F];
        assert_eq!(encode(5, &metric), expected);
    }
}
