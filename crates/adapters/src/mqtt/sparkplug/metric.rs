//! From a metric to a sample's value, with its quality (MQ-20, MQ-21).

use model::{Quality, ValueType, reason};

use super::payload::{Metric, Wire, datatype};
use crate::mqtt::json::Scalar;
use crate::mqtt::value::{Conversion, Converted};

/// Bytes that become a hexadecimal text; more are no value.
const BYTES_MAX: usize = 1024;
/// The property `Quality` of a value that is known to be old.
const STALE: u64 = 500;

/// The type of a point by its data type; `None` for what has no scalar value.
pub fn value_type(kind: u32) -> Option<ValueType> {
    Some(match kind {
        datatype::INT8..=datatype::UINT64 | datatype::DATE_TIME => ValueType::Int,
        datatype::FLOAT | datatype::DOUBLE => ValueType::Float,
        datatype::BOOLEAN => ValueType::Bool,
        datatype::STRING | datatype::TEXT | datatype::UUID => ValueType::String,
        datatype::BYTES => ValueType::Raw,
        _ => return None,
    })
}

/// An integer by its declared width: masked, then with its sign.
pub fn integer(kind: u32, raw: u64) -> Scalar<'static> {
    let bits = match kind {
        datatype::INT8 | datatype::UINT8 => 8,
        datatype::INT16 | datatype::UINT16 => 16,
        datatype::INT32 | datatype::UINT32 => 32,
        _ => 64,
    };
    let shift = 64 - bits;
    let raised = raw << shift;
    if kind <= datatype::INT64 { Scalar::Int(raised.cast_signed() >> shift) } else { Scalar::Unsigned(raised >> shift) }
}

/// The value of a metric of that type.
pub fn convert(metric: &Metric<'_>, kind: u32) -> Converted {
    let Some(value_type) = value_type(kind) else { return Converted::bad(reason::UNSUPPORTED_TYPE, None) };
    if metric.is_null {
        return Converted::bad(reason::NO_VALUE, None);
    }
    let hexadecimal;
    let scalar = match (metric.value, value_type) {
        (Wire::Int(raw), ValueType::Int) => integer(kind, raw),
        (Wire::Float(number), ValueType::Float) => Scalar::Float(number.into()),
        (Wire::Double(number), ValueType::Float) => Scalar::Float(number),
        (Wire::Bool(flag), ValueType::Bool) => Scalar::Bool(flag),
        (Wire::Int(raw), ValueType::Bool) if raw < 2 => Scalar::Bool(raw == 1),
        (Wire::Text(text), ValueType::String) => Scalar::Text(text.into()),
        (Wire::Bytes(bytes), ValueType::Raw) if bytes.len() <= BYTES_MAX => {
            hexadecimal = crate::mqtt::value::hexadecimal(bytes);
            Scalar::Text(hexadecimal.as_str().into())
        }
        (Wire::None, _) => return Converted::bad(reason::NO_VALUE, None),
        _ => return Converted::bad(reason::TYPE_MISMATCH, None),
    };
    let converted = Conversion { value_type, ..Conversion::default() }.convert(&scalar);
    doubted(converted, metric.quality)
}

fn doubted(converted: Converted, quality: Option<u64>) -> Converted {
    match quality {
        None | Some(192) => converted,
        Some(0) => Converted::bad(reason::SERVER_BAD, Some(&super::super::extract::shown(&converted.value))),
        Some(STALE) => with(converted, reason::STALE),
        Some(_) => with(converted, reason::SERVER_UNCERTAIN),
    }
}

fn with(mut converted: Converted, code: &'static str) -> Converted {
    converted.verdict.add(Quality::Uncertain, code);
    converted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Value;

    fn value(kind: u32, wire: Wire<'_>) -> (Value, Option<&'static str>) {
        let converted = convert(&Metric { value: wire, ..Metric::default() }, kind);
        (converted.value, converted.verdict.reason())
    }

    // AC-055, MQ-20
    #[test]
    fn integers_are_masked_to_their_width_and_then_signed() {
        for raw in [0xFFFF_FFA9, 0x0000_FFA9] {
            assert_eq!(value(datatype::INT16, Wire::Int(raw)), (Value::Int(-87), None));
        }
        assert_eq!(value(datatype::INT8, Wire::Int(0xA9)), (Value::Int(-87), None));
        assert_eq!(value(datatype::INT32, Wire::Int(0xFFFF_FFFF)), (Value::Int(-1), None));
        assert_eq!(value(datatype::INT64, Wire::Int(u64::MAX)), (Value::Int(-1), None));
        assert_eq!(value(datatype::UINT16, Wire::Int(0xFFFF_FFA9)), (Value::Int(0xFFA9), None));
        assert_eq!(value(datatype::UINT32, Wire::Int(0xFFFF_FFFF)), (Value::Int(4_294_967_295), None));
        assert_eq!(value(datatype::UINT64, Wire::Int(u64::MAX)).1, Some(reason::PRECISION_LOSS));
    }

    // MQ-21
    #[test]
    fn nulls_qualities_and_what_is_not_supported() {
        assert_eq!(value(datatype::DOUBLE, Wire::Double(f64::NAN)), (Value::Null, Some(reason::NAN_INF)));
        assert_eq!(value(16, Wire::Other), (Value::Null, Some(reason::UNSUPPORTED_TYPE)));
        assert_eq!(value(datatype::BYTES, Wire::Bytes(&[0, 0xAB])), (Value::Text("00AB".into()), None));
        assert_eq!(value(datatype::FLOAT, Wire::Text("x")), (Value::Null, Some(reason::TYPE_MISMATCH)));
        let metric = Metric { value: Wire::Double(1.0), ..Metric::default() };
        let of = |metric: &Metric<'_>| {
            let converted = convert(metric, datatype::DOUBLE);
            (converted.value, converted.verdict.reason())
        };
        assert_eq!(of(&Metric { is_null: true, ..metric.clone() }), (Value::Null, Some(reason::NO_VALUE)));
        assert_eq!(of(&Metric { quality: Some(0), ..metric.clone() }), (Value::Null, Some(reason::SERVER_BAD)));
        assert_eq!(of(&Metric { quality: Some(192), ..metric.clone() }), (Value::Float(1.0), None));
        assert_eq!(of(&Metric { quality: Some(500), ..metric }), (Value::Float(1.0), Some(reason::STALE)));
    }
}
