//! What the settings of a point say about its value: sentinels, mask, scale, states.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::config::{Object, Problem};
use modbus::{DataType, Order};

use super::decode::{Mask, Outside, Scaling};

/// Raw integers that mean "no value", compared before anything else happens to them (MB-09).
pub fn read_sentinels(object: &mut Object<'_>, kind: Option<DataType>) -> Vec<u64> {
    let preset = object.word("invalid_preset", &["sunspec", "siemens_analog"]);
    let mut patterns = match (preset, kind) {
        (Some("sunspec"), Some(DataType::Int16)) => vec![0x8000],
        (Some("sunspec"), Some(DataType::Uint16)) => vec![0xFFFF],
        (Some("sunspec"), Some(DataType::Int32)) => vec![0x8000_0000],
        (Some("sunspec"), Some(DataType::Uint32)) => vec![0xFFFF_FFFF],
        (Some("sunspec"), Some(DataType::Float32)) => vec![0x7FC0_0000],
        (Some("siemens_analog"), Some(DataType::Int16)) => vec![0x7FFF, 0x8000],
        (Some(preset), Some(_)) => {
            object.problem("invalid_preset", "no_preset", format!("{preset} says nothing about this type"), "");
            Vec::new()
        }
        _ => Vec::new(),
    };
    let Some(list) = object.list("invalid_values") else { return patterns };
    let bits = u32::from(kind.map_or(0, DataType::registers)) * 16;
    let is_number =
        kind.is_some_and(|kind| kind.pattern(Order::Abcd, &[0; 4][..(bits / 16).min(4) as usize]).is_some());
    if !is_number && kind.is_some() {
        object.problem("invalid_values", "no_number", "is for numbers of up to four registers", "");
        return patterns;
    }
    for value in list {
        match value.as_i64().map(i128::from).or(value.as_u64().map(i128::from)) {
            Some(number) if number >= -(1_i128 << bits.saturating_sub(1)) && number < 1_i128 << bits => {
                let low_bits = number.rem_euclid(1_i128 << bits);
                patterns.push(u64::try_from(low_bits).unwrap_or_default());
            }
            _ => {
                let message = format!("{value} is not a whole number of {bits} bits");
                object.problem("invalid_values", "out_of_range", message, "raw values, before scaling");
            }
        }
    }
    patterns
}

/// Linear or two points, not both; equal raw ends make no line (MB-12).
pub fn read_scaling(object: &mut Object<'_>) -> Scaling {
    let scale = object.number("scale");
    let offset = object.number("offset");
    if scale == Some(0.0) {
        object.problem("scale", "zero", "0 would make every value the same", "");
    }
    let linear = scale.is_some() || offset.is_some();
    let Some(value) = object.value("two_point") else {
        if linear {
            return Scaling::Linear { scale: scale.unwrap_or(1.0), offset: offset.unwrap_or(0.0) };
        }
        return Scaling::None;
    };
    if linear {
        object.problem("two_point", "contradiction", "stands beside scale or offset", "keep one of the two");
    }
    let mut ends = Object::new(value, &object.at("two_point"));
    let mut end = |key: &'static str| {
        if ends.value(key).is_none() {
            ends.problem(key, "missing", "is missing", "");
        }
        ends.number(key).unwrap_or_default()
    };
    let raw = (end("raw_lo"), end("raw_hi"));
    let eng = (end("eng_lo"), end("eng_hi"));
    let outside = match ends.word("outside", &["extrapolate", "clip", "bad"]) {
        Some("clip") => Outside::Clip,
        Some("bad") => Outside::Bad,
        _ => Outside::Extrapolate,
    };
    let namur = ends.boolean("namur").unwrap_or_default();
    if raw.0 == raw.1 && ends.value("raw_lo").is_some() && ends.value("raw_hi").is_some() {
        ends.problem("raw_hi", "no_span", "raw_lo and raw_hi are equal, they make no line", "");
    }
    let is_root = ends.word("curve", &["linear", "sqrt"]) == Some("sqrt");
    let cut_off = ends.number("low_cut_off");
    if cut_off.is_some_and(|cut_off| !(0.0..1.0).contains(&cut_off)) {
        ends.problem(
            "low_cut_off",
            "out_of_range",
            "is not from 0 to below 1",
            "a share of the span, for example 0.02",
        );
    }
    if cut_off.is_some() && !is_root {
        ends.problem("low_cut_off", "contradiction", "is for curve sqrt only", "");
    }
    object.extend(ends.finish());
    Scaling::TwoPoint { raw, eng, outside, namur, root_cut_off: is_root.then_some(cut_off.unwrap_or(0.0)) }
}

/// `mask`, as a number or as hexadecimal text, and `shift`; for whole numbers of one or two registers (MB-11).
pub fn read_mask(object: &mut Object<'_>, kind: Option<DataType>) -> Option<Mask> {
    let value = object.value("mask");
    let shift = object.integer("shift", 0, 31).and_then(|shift| u8::try_from(shift).ok());
    let width = match kind {
        Some(DataType::Int16 | DataType::Uint16) => 16,
        Some(DataType::Int32 | DataType::Uint32) => 32,
        None => return None,
        Some(_) if value.is_none() && shift.is_none() => return None,
        Some(_) => {
            object.problem(
                "mask",
                "no_number",
                "is for int16, uint16, int32 and uint32",
                "use bitfield or another type",
            );
            return None;
        }
    };
    let most = (1_u64 << width) - 1;
    if value.is_none() && shift.is_none() {
        return None;
    }
    let bits = match value {
        None => most,
        Some(value) => {
            let hex = |text: &str| text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let bits = value.as_u64().or_else(|| value.as_str().and_then(hex));
            match bits.filter(|bits| (1..=most).contains(bits)) {
                Some(bits) => bits,
                None => {
                    let message = format!("{value} is no mask of {width} bits");
                    object.problem("mask", "bad_mask", message, "for example \"0x0FFF\"");
                    return None;
                }
            }
        }
    };
    Some(Mask { bits, shift: shift.unwrap_or(0) })
}

pub fn read_states(object: &mut Object<'_>) -> Option<BTreeMap<i64, Arc<str>>> {
    let map = object.object("states")?;
    let mut states = BTreeMap::new();
    for (key, value) in map {
        match (key.parse(), value.as_str()) {
            (Ok(code), Some(label)) => {
                states.insert(code, Arc::from(label));
            }
            _ => {
                let pointer = format!("{}/{}", object.at("states"), ::config::read::token(key));
                let problem =
                    Problem::new(pointer, "bad_state", "is not a whole number with a text", "\"1\": \"running\"");
                object.extend([problem]);
            }
        }
    }
    Some(states)
}
