//! From what a server says about a node to samples: value, quality, time (UA-18, UA-22 to UA-25).
//!
//! Pure. A status is judged by its severity and its upper half, never by being zero: a good one may carry information bits.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use model::{Quality, Timestamp, ValueType, reason, time_source};

use super::point::{ELEMENTS_MAX, Elements, Point};
use super::stack::{DataValue, NodeId, Variant, micros};
use crate::mqtt::json::Scalar;
use crate::mqtt::value::Converted;
use crate::sample::{Extra, Flags, Sample, Value, Verdict};

/// How far ahead of us a source may be before its time is not believed.
const FUTURE_MAX: Duration = Duration::from_secs(3600);
/// How old a time may be before it is not believed.
const PAST_MAX: Duration = Duration::from_secs(400 * 86_400);
/// Longest text of an array as JSON.
const JSON_MAX: usize = 4096;
/// Elements of an array that a person is shown.
const ELEMENTS_SHOWN: usize = 8;

const NO_COMMUNICATION: u16 = 0x8031;
const WAITING_FOR_INITIAL_DATA: u16 = 0x8032;
const NOT_CONNECTED: u16 = 0x808A;
const DEVICE_FAILURE: u16 = 0x808B;
const SENSOR_FAILURE: u16 = 0x808C;

/// What a status code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    pub verdict: Verdict,
    /// Nothing to report yet.
    pub waiting: bool,
    /// Values before this one were thrown away by the server (UA-17).
    pub overflow: bool,
    pub limit: Option<&'static str>,
    /// Unit, range or type are to be read anew.
    pub changed: bool,
}

/// Judges a status code (UA-18, UA-25).
pub fn judge(bits: u32) -> Judged {
    let code = u16::try_from(bits >> 16).unwrap_or_default();
    let mut verdict = Verdict::good();
    match bits >> 30 {
        0 => match code {
            0x0096 => verdict.add(Quality::Suspect, reason::LOCAL_OVERRIDE),
            0x0030 => verdict.add(Quality::Suspect, reason::CLAMPED),
            _ => {}
        },
        1 => verdict.add(
            Quality::Uncertain,
            match code {
                0x4090 | 0x408F => reason::LAST_KNOWN,
                0x4092 => reason::INITIAL_VALUE,
                0x4091 => reason::SUBSTITUTED,
                _ => reason::SERVER_UNCERTAIN,
            },
        ),
        _ => verdict.add(
            Quality::Bad,
            match code {
                NO_COMMUNICATION | NOT_CONNECTED | DEVICE_FAILURE => reason::COMM_FAIL,
                SENSOR_FAILURE => reason::SENSOR_FAULT,
                _ => reason::SERVER_BAD,
            },
        ),
    }
    let of_value = bits & 0x0C00 == 0x0400;
    let limit = match bits & 0x0300 {
        0x0100 if of_value => Some("low"),
        0x0200 if of_value => Some("high"),
        0x0300 if of_value => Some("constant"),
        _ => None,
    };
    Judged {
        verdict,
        waiting: code == WAITING_FOR_INITIAL_DATA,
        overflow: of_value && bits & 0x0080 != 0,
        limit,
        changed: bits & 0xC000 != 0,
    }
}

/// When, by whose clock, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    pub time: Timestamp,
    pub source: &'static str,
    pub finding: Option<&'static str>,
    /// As it came, where it cannot be believed.
    pub raw: Option<Box<str>>,
}

/// Of a value.
fn when(data: &DataValue, arrived: Timestamp) -> When {
    let stamped = |time: &Option<_>| time.as_ref().and_then(micros);
    believe(stamped(&data.source_timestamp), stamped(&data.server_timestamp), arrived)
}

/// The source's time, else the server's, else ours (UA-24), if it can be believed.
pub(super) fn believe(of_source: Option<i64>, of_server: Option<i64>, arrived: Timestamp) -> When {
    let said =
        of_source.map(|time| (time, time_source::DEVICE)).or_else(|| of_server.map(|time| (time, time_source::SERVER)));
    let Some((time, source)) = said else {
        let finding = Some(reason::DEVICE_TIME_MISSING);
        return When { time: arrived, source: time_source::GATEWAY, finding, raw: None };
    };
    let time = Timestamp::from_micros(time);
    let ahead = time.micros_since(arrived);
    let limit = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    let finding = if ahead > limit(FUTURE_MAX) {
        reason::DEVICE_TIME_FUTURE
    } else if time < Timestamp::YEAR_2000 || -ahead > limit(PAST_MAX) {
        reason::DEVICE_TIME_INVALID
    } else {
        return When { time, source, finding: None, raw: None };
    };
    let raw = Some(time.to_string().into());
    When { time: arrived, source: time_source::GATEWAY, finding: Some(finding), raw }
}

/// What a value is for the rest of the program.
pub(super) fn scalar(variant: &Variant) -> Option<Scalar<'static>> {
    let text = |text: Cow<'_, str>| Some(Scalar::Text(text.into_owned().into()));
    Some(match variant {
        Variant::Empty => Scalar::Null,
        Variant::Boolean(flag) => Scalar::Bool(*flag),
        Variant::SByte(number) => Scalar::Int(i64::from(*number)),
        Variant::Byte(number) => Scalar::Int(i64::from(*number)),
        Variant::Int16(number) => Scalar::Int(i64::from(*number)),
        Variant::UInt16(number) => Scalar::Int(i64::from(*number)),
        Variant::Int32(number) => Scalar::Int(i64::from(*number)),
        Variant::UInt32(number) => Scalar::Int(i64::from(*number)),
        Variant::Int64(number) => Scalar::Int(*number),
        Variant::UInt64(number) => Scalar::Unsigned(*number),
        Variant::Float(number) if number.is_finite() => Scalar::Float(modbus::value::widen(*number)),
        Variant::Float(_) => Scalar::NotFinite,
        Variant::Double(number) => float(*number),
        Variant::StatusCode(status) => Scalar::Int(i64::from(status.bits())),
        Variant::String(string) => match string.value() {
            Some(string) => return text(Cow::Borrowed(string)),
            None => Scalar::Null,
        },
        Variant::DateTime(time) => match micros(time) {
            Some(time) => return text(Timestamp::from_micros(time).to_string().into()),
            None => Scalar::Null,
        },
        Variant::Guid(guid) => return text(guid.to_string().into()),
        Variant::ByteString(bytes) if bytes.is_null() => Scalar::Null,
        Variant::ByteString(bytes) => return text(bytes.as_base64().into()),
        Variant::LocalizedText(said) => match said.text.value() {
            Some(said) => return text(Cow::Borrowed(said)),
            None => Scalar::Null,
        },
        Variant::QualifiedName(name) => return text(Cow::Borrowed(name.name.as_ref())),
        Variant::NodeId(node) => return text(node_text(node).into()),
        Variant::ExpandedNodeId(node) => return text(node.to_string().into()),
        Variant::XmlElement(element) => return text(element.to_string().into()),
        Variant::Variant(inner) if !matches!(**inner, Variant::Variant(_)) => return scalar(inner),
        _ => return None,
    })
}

/// A value for a person, in one line; what it is called where it has no scalar value.
pub fn shown(variant: &Variant) -> String {
    let one = |variant: &Variant| match scalar(variant) {
        Some(Scalar::Null) => "null".to_owned(),
        Some(Scalar::NotFinite) => "not finite".to_owned(),
        Some(Scalar::Bool(flag)) => flag.to_string(),
        Some(Scalar::Int(number)) => number.to_string(),
        Some(Scalar::Unsigned(number)) => number.to_string(),
        Some(Scalar::Float(number)) => number.to_string(),
        Some(Scalar::Number(text)) => text.to_owned(),
        Some(Scalar::Text(text)) => text.into_owned(),
        None => match variant {
            Variant::ExtensionObject(object) => {
                let name = object.type_name().and_then(|name| name.rsplit("::").next());
                format!("(structure {})", name.unwrap_or("of a type of its own"))
            }
            _ => "(not shown)".to_owned(),
        },
    };
    match variant {
        Variant::Array(array) => {
            let mut text: Vec<String> = array.values.iter().take(ELEMENTS_SHOWN).map(one).collect();
            if array.values.len() > ELEMENTS_SHOWN {
                text.push(format!("… {} in all", array.values.len()));
            }
            format!("[{}]", text.join(", "))
        }
        other => one(other),
    }
}

/// The type a point must declare for such values; none for what has no scalar value.
pub fn type_of(variant: &Variant) -> Option<ValueType> {
    Some(match scalar(variant)? {
        Scalar::Bool(_) => ValueType::Bool,
        Scalar::Int(_) | Scalar::Unsigned(_) => ValueType::Int,
        Scalar::Float(_) | Scalar::NotFinite => ValueType::Float,
        Scalar::Text(_) => ValueType::String,
        Scalar::Null | Scalar::Number(_) => return None,
    })
}

fn node_text(node: &NodeId) -> String {
    node.to_string()
}

fn float(number: f64) -> Scalar<'static> {
    if number.is_finite() { Scalar::Float(number) } else { Scalar::NotFinite }
}

/// The value of one element with what its type says about it.
fn convert(point: &Point, variant: &Variant) -> Converted {
    match scalar(variant) {
        Some(scalar) => point.conversion.convert(&scalar),
        None if matches!(variant, Variant::Array(_)) => Converted::bad(reason::TYPE_MISMATCH, Some("an array")),
        None => Converted::bad(reason::UNSUPPORTED_TYPE, None),
    }
}

/// Where a value of a point goes: to the point itself, or to an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Whole,
    Element(usize),
}

/// The samples of one notification of one item, without their tags; empty while nothing is to be reported yet.
pub fn samples(point: &Point, data: &DataValue, arrived: Timestamp) -> Vec<(Place, Sample)> {
    let judged = judge(data.status.map_or(0, |status| status.bits()));
    if judged.waiting {
        return Vec::new();
    }
    let value = data.value.as_ref().unwrap_or(&Variant::Empty);
    let is_bad = judged.verdict.quality() == Quality::Bad;
    let mut made: Vec<(Place, Converted)> = Vec::new();
    match (point.elements, value) {
        (Elements::All, Variant::Array(array)) if !is_bad => {
            let elements = array.values.iter().take(ELEMENTS_MAX).enumerate();
            made.extend(elements.map(|(at, element)| (Place::Element(at), convert(point, element))));
        }
        // a bad array has no elements to tell of; the point itself says so
        _ if is_bad => made.push((Place::Whole, Converted::bad(reason::SERVER_BAD, None))),
        (Elements::One(at), Variant::Array(array)) => {
            let element = array.values.get(at);
            let missing = || Converted::bad(reason::NO_VALUE, Some("no such element"));
            made.push((Place::Whole, element.map_or_else(missing, |element| convert(point, element))));
        }
        (Elements::Json, Variant::Array(array)) => made.push((Place::Whole, json(&array.values))),
        (_, value) => made.push((Place::Whole, convert(point, value))),
    }
    let when = when(data, arrived);
    let status = data.status.map_or(0, |status| status.bits());
    let source_status: Option<Box<str>> = (status != 0).then(|| format!("{status:#010X}").replace("0X", "0x").into());
    let extra = (when.raw.is_some() || judged.limit.is_some())
        .then(|| Arc::new(Extra { device_time_raw: when.raw.clone(), limit: judged.limit, ..Extra::default() }));
    let finish = |(place, converted): (Place, Converted)| {
        let mut sample = Sample::new(0, converted.value, when.time);
        (sample.label, sample.raw) = (converted.label, converted.raw);
        sample.verdict = judged.verdict;
        if is_bad {
            sample.value = Value::Null;
        } else if let Some(code) = converted.verdict.reason() {
            sample.verdict.add(converted.verdict.quality(), code);
        }
        if let Some(finding) = when.finding {
            sample.verdict.add(Quality::Uncertain, finding);
        }
        if judged.overflow {
            sample.flags = sample.flags.and(Flags::OVERFLOW);
            sample.gap_before = true;
        }
        sample.time_source = when.source;
        sample.status.clone_from(&source_status);
        sample.extra.clone_from(&extra);
        (place, sample)
    };
    made.into_iter().map(finish).collect()
}

/// An array as a text of JSON.
fn json(values: &[Variant]) -> Converted {
    let element = |variant: &Variant| match scalar(variant) {
        Some(Scalar::Bool(flag)) => serde_json::Value::from(flag),
        Some(Scalar::Int(number)) => serde_json::Value::from(number),
        Some(Scalar::Unsigned(number)) => serde_json::Value::from(number),
        Some(Scalar::Float(number)) => serde_json::Value::from(number),
        Some(Scalar::Text(text)) => serde_json::Value::from(text.into_owned()),
        _ => serde_json::Value::Null,
    };
    let list: Vec<serde_json::Value> = values.iter().take(ELEMENTS_MAX).map(element).collect();
    let text = serde_json::Value::Array(list).to_string();
    if text.len() > JSON_MAX || values.len() > ELEMENTS_MAX {
        return Converted::bad(reason::UNSUPPORTED_TYPE, Some("an array that is too long"));
    }
    Converted { value: Value::Text(text.into()), label: None, verdict: Verdict::good(), raw: None }
}

/// A number that is the same for the same value, status and source time (UA-11).
pub fn fingerprint(data: &DataValue) -> u64 {
    let mut hasher = DefaultHasher::new();
    // the overflow bit tells of what went before, not of this value
    (data.status.map_or(0, |status| status.bits()) & !0x0480).hash(&mut hasher);
    data.source_timestamp.as_ref().and_then(micros).hash(&mut hasher);
    match &data.value {
        Some(Variant::Double(number)) => number.to_bits().hash(&mut hasher),
        Some(Variant::Float(number)) => number.to_bits().hash(&mut hasher),
        Some(Variant::Int32(number)) => number.hash(&mut hasher),
        Some(Variant::Boolean(flag)) => flag.hash(&mut hasher),
        other => format!("{other:?}").hash(&mut hasher),
    }
    hasher.finish()
}

/// The number of a value that is compared with a deadband; none if it has none.
pub fn number_of(data: &DataValue) -> Option<f64> {
    match scalar(data.value.as_ref()?)? {
        #[expect(clippy::cast_precision_loss, reason = "only compared with a deadband")]
        Scalar::Int(number) => Some(number as f64),
        #[expect(clippy::cast_precision_loss, reason = "only compared with a deadband")]
        Scalar::Unsigned(number) => Some(number as f64),
        Scalar::Float(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opcua::config::plan;
    use crate::opcua::config::tests::settings;
    use crate::opcua::stack::{DateTime, StatusCode, UAString, date_time};
    use serde_json::json;

    const NOW: &str = "2026-05-01T10:00:00Z";

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339(NOW).unwrap()
    }

    fn point(more: &serde_json::Value) -> Point {
        let mut point = json!({"node": "nsu=urn:x;s=Temp", "parameter": "temp"});
        for (key, value) in more.as_object().unwrap() {
            point[key] = value.clone();
        }
        plan(&settings(&json!({"points": [point]})), "").unwrap().points.remove(0)
    }

    fn data(value: Variant, status: u32) -> DataValue {
        DataValue {
            value: Some(value),
            status: Some(StatusCode::from(status)),
            source_timestamp: Some(date_time(now().as_micros() - 1_000_000)),
            ..DataValue::null()
        }
    }

    fn one(point: &Point, data: &DataValue) -> Sample {
        let mut made = samples(point, data, now());
        assert_eq!(made.len(), 1);
        made.remove(0).1
    }

    // UA-18, UA-25, AC-040
    #[test]
    fn every_status_of_the_table() {
        use Quality::{Bad, Good, Suspect, Uncertain};
        for (bits, quality, code) in [
            (0, Good, None),
            (0x0000_0400, Good, None),
            (0x0096_0000, Suspect, Some(reason::LOCAL_OVERRIDE)),
            (0x0030_0000, Suspect, Some(reason::CLAMPED)),
            (0x00A2_0000, Good, None),
            (0x4090_0000, Uncertain, Some(reason::LAST_KNOWN)),
            (0x408F_0000, Uncertain, Some(reason::LAST_KNOWN)),
            (0x4092_0000, Uncertain, Some(reason::INITIAL_VALUE)),
            (0x4091_0000, Uncertain, Some(reason::SUBSTITUTED)),
            (0x4093_0000, Uncertain, Some(reason::SERVER_UNCERTAIN)),
            (0x8031_0000, Bad, Some(reason::COMM_FAIL)),
            (0x808A_0000, Bad, Some(reason::COMM_FAIL)),
            (0x808C_0000, Bad, Some(reason::SENSOR_FAULT)),
            (0x808D_0000, Bad, Some(reason::SERVER_BAD)),
            (0xC000_0000, Bad, Some(reason::SERVER_BAD)),
        ] {
            let judged = judge(bits);
            assert_eq!((judged.verdict.quality(), judged.verdict.reason()), (quality, code), "{bits:#X}");
        }
        assert!(judge(0x8032_0000).waiting);
        assert_eq!(judge(0x0000_0700).limit, Some("constant"));
        assert_eq!(judge(0x0000_0300).limit, None, "without its information bit it means nothing");
        assert!(judge(0x0000_4000).changed && judge(0x0000_8000).changed);
        let last_known = one(&point(&json!({})), &data(Variant::Double(5.0), 0x4090_0000));
        assert_eq!((last_known.value, last_known.status.as_deref()), (Value::Float(5.0), Some("0x40900000")));
        let bad = one(&point(&json!({})), &data(Variant::Double(5.0), 0x8031_0000));
        assert_eq!((bad.value, bad.verdict.codes()), (Value::Null, &[reason::COMM_FAIL][..]));
    }

    // AC-039, UA-17
    #[test]
    fn overflow_is_good_and_says_that_something_is_missing() {
        let sample = one(&point(&json!({})), &data(Variant::Double(5.0), 0x0000_0480));
        assert_eq!((sample.value, sample.verdict.quality()), (Value::Float(5.0), Quality::Good));
        assert!(sample.flags.has(Flags::OVERFLOW) && sample.gap_before);
    }

    // UA-22
    #[test]
    fn types_become_what_the_point_says() {
        let text = point(&json!({"type": "string"}));
        let int = point(&json!({"type": "int"}));
        let float = point(&json!({}));
        let good = |point: &Point, variant: Variant| one(point, &data(variant, 0)).value;
        let reason_of = |point: &Point, variant: Variant| one(point, &data(variant, 0)).verdict.reason();
        assert_eq!(good(&int, Variant::Byte(7)), Value::Int(7));
        assert_eq!(good(&int, Variant::StatusCode(StatusCode::from(0x8031_0000))), Value::Int(0x8031_0000));
        assert_eq!(good(&float, Variant::Int16(-7)), Value::Float(-7.0));
        assert_eq!(good(&text, Variant::String(UAString::from("a"))), Value::Text("a".into()));
        assert_eq!(
            good(&text, Variant::DateTime(Box::new(date_time(now().as_micros())))),
            Value::Text(now().to_string().into())
        );
        assert_eq!(reason_of(&text, Variant::DateTime(Box::new(DateTime::null()))), Some(reason::NO_VALUE));
        assert_eq!(reason_of(&float, Variant::Empty), Some(reason::NO_VALUE));
        assert_eq!(reason_of(&float, Variant::Double(f64::NAN)), Some(reason::NAN_INF));
        assert_eq!(reason_of(&float, Variant::String(UAString::from("a"))), Some(reason::TYPE_MISMATCH));
        assert_eq!(reason_of(&float, Variant::UInt64(u64::MAX - 1)), Some(reason::PRECISION_LOSS));
        assert_eq!(reason_of(&float, Variant::from(vec![1.0, 2.0])), Some(reason::TYPE_MISMATCH));
        let states = point(&json!({"type": "int", "states": {"1": "on"}}));
        assert_eq!(one(&states, &data(Variant::Int32(1), 0)).label.as_deref(), Some("on"));
        assert_eq!(reason_of(&states, Variant::Int32(7)), Some(reason::UNKNOWN_ENUM));
    }

    // UA-23
    #[test]
    fn arrays_are_split_picked_from_or_written_out() {
        let array = || data(Variant::from(vec![1.5, 2.5]), 0);
        let all = samples(&point(&json!({"array": {"type": "explode"}})), &array(), now());
        assert_eq!(all.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [Place::Element(0), Place::Element(1)]);
        assert_eq!(one(&point(&json!({"array": {"type": "index", "index": 1}})), &array()).value, Value::Float(2.5));
        let absent = one(&point(&json!({"array": {"type": "index", "index": 9}})), &array());
        assert_eq!(absent.verdict.reason(), Some(reason::NO_VALUE));
        let written = one(&point(&json!({"type": "string", "array": {"type": "json"}})), &array());
        assert_eq!(written.value, Value::Text("[1.5,2.5]".into()));
        let bad = samples(&point(&json!({"array": {"type": "explode"}})), &data(Variant::Empty, 0x8031_0000), now());
        assert_eq!((bad.len(), bad[0].0), (1, Place::Whole));
    }

    // UA-24, AC-040, AC-045
    #[test]
    fn whose_clock_and_whether_it_can_be_believed() {
        let point = point(&json!({}));
        let at = |source: Option<i64>, server: Option<i64>| {
            let time = |micros: Option<i64>| micros.map(date_time);
            let data = DataValue {
                source_timestamp: time(source),
                server_timestamp: time(server),
                ..data(Variant::Double(1.0), 0)
            };
            let sample = one(&point, &data);
            (sample.device_time.as_micros(), sample.time_source, sample.verdict.reason())
        };
        let here = now().as_micros();
        let days = |days: i64| days * 86_400_000_000;
        assert_eq!(at(Some(here - 5), Some(here)), (here - 5, time_source::DEVICE, None));
        assert_eq!(at(None, Some(here - 7)), (here - 7, time_source::SERVER, None));
        assert_eq!(at(None, None), (here, time_source::GATEWAY, Some(reason::DEVICE_TIME_MISSING)));
        assert_eq!(at(Some(here - days(3)), None), (here - days(3), time_source::DEVICE, None));
        assert_eq!(at(Some(here + days(1)), None), (here, time_source::GATEWAY, Some(reason::DEVICE_TIME_FUTURE)));
        assert_eq!(at(Some(here - days(401)), None), (here, time_source::GATEWAY, Some(reason::DEVICE_TIME_INVALID)));
        assert_eq!(at(Some(1), None).2, Some(reason::DEVICE_TIME_INVALID), "1970");
        let null = DataValue { source_timestamp: Some(DateTime::null()), ..data(Variant::Double(1.0), 0) };
        assert_eq!(one(&point, &null).verdict.reason(), Some(reason::DEVICE_TIME_MISSING), "1601 is none");
    }

    // UA-11
    #[test]
    fn the_same_is_the_same_by_value_status_and_source_time() {
        let one = data(Variant::Double(5.0), 0);
        assert_eq!(fingerprint(&one), fingerprint(&data(Variant::Double(5.0), 0)));
        assert_ne!(fingerprint(&one), fingerprint(&data(Variant::Double(5.1), 0)));
        assert_ne!(fingerprint(&one), fingerprint(&data(Variant::Double(5.0), 0x4090_0000)));
        let later = DataValue { source_timestamp: Some(date_time(now().as_micros())), ..one.clone() };
        assert_ne!(fingerprint(&one), fingerprint(&later));
        assert_eq!(fingerprint(&one), fingerprint(&data(Variant::Double(5.0), 0x0480)), "the value is the same");
    }
}
