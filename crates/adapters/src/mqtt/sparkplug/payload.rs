//! The bytes of Sparkplug B: a bounded reader of the protocol buffer, and the one message that is ever written.
//!
//! Pure, and read by hand: a handful of fields of one schema need no code generator. Unknown fields are passed over, as
//! protocol buffers ask; what is torn or nested wrongly is refused.

/// Metrics of one payload; one with more is refused.
pub const METRICS_MAX: usize = 20_000;
/// Properties of one metric; further ones are passed over.
const PROPERTIES_MAX: usize = 64;

/// Data types that are used here, by their number.
pub mod datatype {
    pub const INT8: u32 = 1;
    pub const INT16: u32 = 2;
    pub const INT32: u32 = 3;
    pub const INT64: u32 = 4;
    pub const UINT8: u32 = 5;
    pub const UINT16: u32 = 6;
    pub const UINT32: u32 = 7;
    pub const UINT64: u32 = 8;
    pub const FLOAT: u32 = 9;
    pub const DOUBLE: u32 = 10;
    pub const BOOLEAN: u32 = 11;
    pub const STRING: u32 = 12;
    pub const DATE_TIME: u32 = 13;
    pub const TEXT: u32 = 14;
    pub const UUID: u32 = 15;
    pub const BYTES: u32 = 17;
}

/// A payload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload<'p> {
    /// Milliseconds since 1970.
    pub timestamp: Option<u64>,
    pub metrics: Vec<Metric<'p>>,
    pub seq: Option<u64>,
    pub uuid: Option<&'p str>,
}

/// A metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metric<'p> {
    pub name: Option<&'p str>,
    pub alias: Option<u64>,
    pub timestamp: Option<u64>,
    pub datatype: Option<u32>,
    pub is_historical: bool,
    pub is_transient: bool,
    pub is_null: bool,
    pub value: Wire<'p>,
    /// The property `Quality`.
    pub quality: Option<u64>,
    /// The property `engUnit`.
    pub unit: Option<&'p str>,
}

/// A value as it travels; its data type says what it means.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Wire<'p> {
    #[default]
    None,
    Int(u64),
    Float(f32),
    Double(f64),
    Bool(bool),
    Text(&'p str),
    Bytes(&'p [u8]),
    /// Data set, template, extension.
    Other,
}

/// Why the bytes are no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("it ends in the middle of a field")]
    Torn,
    #[error("it has a field of an impossible kind")]
    Kind,
    #[error("it has a text that is not UTF-8")]
    Utf8,
    #[error("it has more than {METRICS_MAX} metrics")]
    TooMany,
}

/// One field: its number and what it holds.
enum Field<'p> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'p [u8]),
}

struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Fault::Torn)?;
            self.0 = rest;
            if shift < 64 {
                value |= u64::from(byte & 0x7F) << shift;
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Torn)
    }

    fn take(&mut self, length: usize) -> Result<&'p [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u64, Field<'p>)>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Fault::Torn)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Fault::Torn)?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| Fault::Torn)?)),
            _ => return Err(Fault::Kind),
        };
        Ok(Some((key >> 3, field)))
    }
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Utf8)
}

/// Reads a payload.
pub fn decode(bytes: &[u8]) -> Result<Payload<'_>, Fault> {
    let mut reader = Reader(bytes);
    let mut payload = Payload::default();
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Varint(timestamp)) => payload.timestamp = Some(timestamp),
            (2, Field::Bytes(metric)) => {
                if payload.metrics.len() >= METRICS_MAX {
                    return Err(Fault::TooMany);
                }
                payload.metrics.push(decode_metric(metric)?);
            }
            (3, Field::Varint(seq)) => payload.seq = Some(seq),
            (4, Field::Bytes(uuid)) => payload.uuid = Some(text(uuid)?),
            _ => {}
        }
    }
    Ok(payload)
}

fn decode_metric(bytes: &[u8]) -> Result<Metric<'_>, Fault> {
    let mut reader = Reader(bytes);
    let mut metric = Metric::default();
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(name)) => metric.name = Some(text(name)?),
            (2, Field::Varint(alias)) => metric.alias = Some(alias),
            (3, Field::Varint(timestamp)) => metric.timestamp = Some(timestamp),
            (4, Field::Varint(datatype)) => metric.datatype = u32::try_from(datatype).ok(),
            (5, Field::Varint(flag)) => metric.is_historical = flag != 0,
            (6, Field::Varint(flag)) => metric.is_transient = flag != 0,
            (7, Field::Varint(flag)) => metric.is_null = flag != 0,
            (9, Field::Bytes(properties)) => decode_properties(properties, &mut metric)?,
            (10 | 11, Field::Varint(number)) => metric.value = Wire::Int(number),
            (12, Field::Fixed32(bits)) => metric.value = Wire::Float(f32::from_bits(bits)),
            (13, Field::Fixed64(bits)) => metric.value = Wire::Double(f64::from_bits(bits)),
            (14, Field::Varint(flag)) => metric.value = Wire::Bool(flag != 0),
            (15, Field::Bytes(value)) => metric.value = Wire::Text(text(value)?),
            (16, Field::Bytes(value)) => metric.value = Wire::Bytes(value),
            (17..=19, Field::Bytes(_)) => metric.value = Wire::Other,
            _ => {}
        }
    }
    Ok(metric)
}

/// Keys and values are two lists side by side.
fn decode_properties<'p>(bytes: &'p [u8], metric: &mut Metric<'p>) -> Result<(), Fault> {
    let mut reader = Reader(bytes);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    while let Some((number, field)) = reader.next()? {
        match (number, field) {
            (1, Field::Bytes(key)) if keys.len() < PROPERTIES_MAX => keys.push(text(key)?),
            (2, Field::Bytes(value)) if values.len() < PROPERTIES_MAX => values.push(value),
            _ => {}
        }
    }
    for (key, value) in keys.into_iter().zip(values) {
        let mut reader = Reader(value);
        while let Some((number, field)) = reader.next()? {
            match (key, number, field) {
                ("Quality", 3 | 4, Field::Varint(quality)) => metric.quality = Some(quality),
                ("engUnit" | "Engineering Units" | "engineering_units", 8, Field::Bytes(unit)) => {
                    metric.unit = Some(text(unit)?);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// The payload that asks an edge node for its births, by the metric's name and not by its alias (MQ-18).
pub fn rebirth(timestamp_ms: u64) -> Vec<u8> {
    const NAME: &[u8] = b"Node Control/Rebirth";
    let mut metric = vec![0x0A];
    put_varint(&mut metric, NAME.len() as u64);
    metric.extend_from_slice(NAME);
    metric.push(0x18);
    put_varint(&mut metric, timestamp_ms);
    // data type Boolean, and true
    metric.extend_from_slice(&[0x20, 11, 0x70, 1]);
    let mut out = vec![0x08];
    put_varint(&mut out, timestamp_ms);
    out.push(0x12);
    put_varint(&mut out, metric.len() as u64);
    out.extend(metric);
    out
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    // MQ-18
    #[test]
    fn the_request_for_births_is_read_back() {
        let bytes = rebirth(1_769_680_800_123);
        let payload = decode(&bytes).unwrap();
        assert_eq!(payload.timestamp, Some(1_769_680_800_123));
        let [metric] = &payload.metrics[..] else { panic!("one metric") };
        assert_eq!((metric.name, metric.alias, metric.datatype), (Some("Node Control/Rebirth"), None, Some(11)));
        assert_eq!(metric.value, Wire::Bool(true));
    }

    #[test]
    fn properties_and_flags() {
        // alias 7, historical, double 1.5, Quality 500 and engUnit bar
        let quality = [
            &[0x0A, 7][..],
            b"Quality",
            &[0x0A, 7],
            b"engUnit",
            &[0x12, 5, 0x08, 7, 0x18, 0xF4, 3],
            &[0x12, 7, 0x08, 12, 0x42, 3],
            b"bar",
        ]
        .concat();
        let metric = [
            &[0x10, 7, 0x28, 1, 0x69][..],
            &1.5_f64.to_le_bytes(),
            &[0x4A, u8::try_from(quality.len()).unwrap()],
            &quality,
        ]
        .concat();
        let bytes = [&[0x12, u8::try_from(metric.len()).unwrap()][..], &metric, &[0x18, 255, 1]].concat();
        let payload = decode(&bytes).unwrap();
        assert_eq!(payload.seq, Some(255));
        let metric = &payload.metrics[0];
        assert_eq!((metric.alias, metric.is_historical, metric.value), (Some(7), true, Wire::Double(1.5)));
        assert_eq!((metric.quality, metric.unit), (Some(500), Some("bar")));
        for end in 1..bytes.len() - 3 {
            assert!(decode(&bytes[..end]).is_err(), "torn at {end}");
        }
    }

    // AC-102
    #[test]
    fn random_bytes_never_panic() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut accepted = 0_u32;
        for _ in 0..200_000 {
            let mut bytes = [0_u8; 24];
            for byte in &mut bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = u8::try_from(state >> 58).unwrap();
            }
            accepted += u32::from(decode(&bytes).is_ok());
        }
        assert!(accepted > 0, "some get through");
    }
}
