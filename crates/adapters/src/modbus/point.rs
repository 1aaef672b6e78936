//! One point of the settings: where it lies and what it becomes. Reads either form into the same thing.

use ::config::{Object, Problem};
use modbus::address::AddressError;
use modbus::value::{CharOrder, Encoding, Half, TEXT_REGISTERS_MAX};
use modbus::{BitNumbering, DataType, Location, Order, Span, Table};
use serde_json::Value;

use super::decode::{Decoding, Scaling};
use super::reporting::{self, Reporting};
use super::values::{read_mask, read_scaling, read_sentinels, read_states};

/// All type names.
pub const TYPES: [&str; 20] = [
    "bool", "bit", "bitfield", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "int64", "uint64",
    "float64", "bcd16", "bcd32", "mod10_32", "mod10_48", "mod10_64", "string", "raw",
];
/// Longest unit text.
const UNIT_MAX: usize = 32;

/// A point as read; names are not yet compared with other points.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub pointer: String,
    pub parameter: String,
    pub asset_id: Option<String>,
    pub unit_id: Option<u8>,
    pub unit: Option<String>,
    pub group: Option<String>,
    pub table: Table,
    pub span: Span,
    pub decoding: Decoding,
    /// The point that holds the power of ten this one is scaled by.
    pub scale_from: Option<String>,
    pub reporting: Reporting,
}

/// What the device's settings say about all its points.
#[derive(Debug, Clone, Copy, Default)]
pub struct Defaults {
    pub address_shift: i8,
    /// Lowest and highest unit id.
    pub units: (i64, i64),
    pub order: Order,
    pub bits: BitNumbering,
}

/// Reads a point of the full form.
pub fn full(value: &Value, pointer: &str, defaults: Defaults) -> Result<Point, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let parameter = crate::common::name(&mut object, "parameter", true);
    let location = read_location(&mut object);
    let type_name = object.word("type", &TYPES);
    let bit = object.integer("bit", 0, 16).and_then(|bit| u8::try_from(bit).ok());
    let width = object.integer("width", 1, 16).and_then(|width| u8::try_from(width).ok());
    let registers = object.integer("registers", 1, TEXT_REGISTERS_MAX.into()).and_then(|n| u16::try_from(n).ok());
    let half = object.word("byte", &["hi", "lo"]);
    let chars = object.word("char_order", &["hi_lo", "lo_hi"]);
    let encoding = object.word("encoding", &["ascii", "latin1", "utf8"]);
    let order = read_order(&mut object, defaults.order);
    let shape = Shape { type_name, bit, width, registers, half, chars, encoding };
    let placed = location.and_then(|location| place(&mut object, location, &shape, defaults));
    let kind = placed.as_ref().and_then(|(_, kind)| *kind);
    let decoding = Decoding {
        kind,
        order,
        sentinels: read_sentinels(&mut object, kind),
        mask: read_mask(&mut object, kind),
        scaling: read_scaling(&mut object),
        scale_from: None,
        states: read_states(&mut object),
        invert: object.boolean("invert").unwrap_or_default(),
        strict_bool: object.boolean("strict_bool").unwrap_or_default(),
    };
    let is_text = matches!(kind, Some(DataType::Text { .. } | DataType::Raw { .. }));
    if decoding.scaling != Scaling::None && (is_text || decoding.value_type() == model::ValueType::Bool) {
        object.problem("type", "no_number", "is no number, it cannot be scaled", "");
    }
    let scale_from = read_scale_from(&mut object, &decoding);
    let reporting = reporting::read(&mut object, &decoding);
    let unit = read_unit(&mut object);
    let asset_id = crate::common::name(&mut object, "asset_id", false);
    let unit_id = object.integer("unit_id", defaults.units.0, defaults.units.1).and_then(|id| u8::try_from(id).ok());
    let group = object.text("group").map(str::to_owned);
    let problems = object.finish();
    match (parameter, placed) {
        (Some(parameter), Some((location, _))) if problems.is_empty() => {
            let count = kind.map_or(1, DataType::registers);
            let span = Span { offset: location.offset, count };
            let (pointer, table) = (pointer.to_owned(), location.table);
            Ok(Point {
                pointer,
                parameter,
                asset_id,
                unit_id,
                unit,
                group,
                table,
                span,
                decoding,
                scale_from,
                reporting,
            })
        }
        _ => Err(problems),
    }
}

/// A point of the short form in the full one.
pub fn in_full(address: &str, value: &Value) -> Value {
    let mut point = value.as_object().cloned().unwrap_or_default();
    if let Some(parameter) = point.remove("param") {
        point.insert("parameter".to_owned(), parameter);
    }
    point.insert("address".to_owned(), Value::from(address));
    Value::Object(point)
}

/// Reads a point of the document's flat form: key `"40001"`, value `{"param", "unit", "type"}` (MB-43).
pub fn flat(address: &str, value: &Value, pointer: &str, defaults: Defaults) -> Result<Point, Vec<Problem>> {
    let mut object = Object::new(value, pointer);
    let parameter = crate::common::name(&mut object, "param", true);
    let type_name = if object.value("type").is_none() {
        object.problem("type", "missing", "is missing", "");
        None
    } else {
        object.word("type", &TYPES)
    };
    let unit = read_unit(&mut object);
    let mut problems = Vec::new();
    let mut location = None;
    match Location::parse(address) {
        Ok(found) if found.table == Table::HoldingRegister => location = Some(found),
        Ok(found) => {
            let message = format!("{address:?} is a {} address, this form knows holding registers only", found.table);
            problems.push(Problem::new(pointer, "bad_address", message, "use `points` for other tables"));
        }
        Err(error) => problems.push(Problem::new(pointer, "bad_address", error.to_string(), "")),
    }
    let needs_more = matches!(type_name, Some("string" | "raw"));
    if needs_more {
        object.problem("type", "needs_points", "needs a number of registers", "use `points` for this type");
    }
    let shape = Shape { type_name, ..Shape::default() };
    let placed = location.filter(|_| !needs_more).and_then(|location| place(&mut object, location, &shape, defaults));
    problems.extend(object.finish());
    match (parameter, placed) {
        (Some(parameter), Some((location, kind))) if problems.is_empty() => Ok(Point {
            pointer: pointer.to_owned(),
            parameter,
            asset_id: None,
            unit_id: None,
            unit,
            group: None,
            table: location.table,
            span: Span { offset: location.offset, count: kind.map_or(1, DataType::registers) },
            decoding: Decoding { kind, order: defaults.order, ..Decoding::default() },
            scale_from: None,
            reporting: Reporting::default(),
        }),
        _ => Err(problems),
    }
}

#[derive(Debug, Default)]
struct Shape {
    type_name: Option<&'static str>,
    bit: Option<u8>,
    width: Option<u8>,
    registers: Option<u16>,
    half: Option<&'static str>,
    chars: Option<&'static str>,
    encoding: Option<&'static str>,
}

/// A text, or an object of `table` and `offset` or `number`; never a bare integer (MB-03, MB-04).
fn read_location(object: &mut Object<'_>) -> Option<Location> {
    let Some(value) = object.value("address") else {
        object.problem("address", "missing", "is missing", "for example \"40001\"");
        return None;
    };
    let found = match value {
        Value::String(text) => Location::parse(text),
        Value::Object(_) => return read_placed(object, value),
        Value::Number(number) => {
            let hint = format!("write \"{number}\" for a register number or {{\"table\", \"offset\"}} for an offset");
            object.problem("address", "ambiguous_address", "ambiguous: register number or offset?", hint);
            return None;
        }
        _ => {
            object.problem("address", "wrong_type", "must be a text or an object", "for example \"40001\"");
            return None;
        }
    };
    found.map_err(|error| object.problem("address", "bad_address", error.to_string(), "")).ok()
}

fn read_placed(parent: &mut Object<'_>, value: &Value) -> Option<Location> {
    let mut object = Object::new(value, &parent.at("address"));
    if object.value("table").is_none() {
        object.problem("table", "missing", "is missing", "coil, discrete, input or holding");
    }
    let table = object.word("table", &["coil", "discrete", "input", "holding"]).and_then(Table::from_name);
    let (offset, number) = (object.value("offset"), object.value("number"));
    let as_count = |value: &Value| value.as_u64().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let found = match (table, offset, number) {
        (None, ..) => None,
        (Some(_), Some(_), Some(_)) => {
            object.problem("number", "contradiction", "offset and number are both given", "keep one of them");
            None
        }
        (Some(table), Some(Value::String(text)), None) => Some(("offset", Location::from_hex(table, text))),
        (Some(table), Some(offset), None) => as_count(offset).map(|at| ("offset", Location::from_offset(table, at))),
        (Some(table), None, Some(number)) => as_count(number).map(|at| ("number", Location::from_number(table, at))),
        (Some(_), None, None) => {
            object.problem_here("missing", "has neither offset nor number", "");
            None
        }
    };
    let wrong_kind = table.is_some() && (offset.is_some() != number.is_some()) && found.is_none();
    if wrong_kind {
        object.problem_here(
            "wrong_type",
            "offset and number are whole numbers, or offset is a text like \"0x006B\"",
            "",
        );
    }
    let location = found.and_then(|(key, result)| {
        result.map_err(|error| object.problem(key, "bad_address", error.to_string(), "")).ok()
    });
    let problems = object.finish();
    let valid = problems.is_empty();
    parent.extend(problems);
    location.filter(|_| valid)
}

/// Where the point lies after the device's shift, and what its registers mean; `None` for a coil or discrete input.
fn place(
    object: &mut Object<'_>,
    location: Location,
    shape: &Shape,
    defaults: Defaults,
) -> Option<(Location, Option<DataType>)> {
    let mut bad_address = |error: &AddressError| object.problem("address", "bad_address", error.to_string(), "");
    let location = location.shifted(defaults.address_shift).map_err(|error| bad_address(&error)).ok()?;
    let bit = shape.bit.or(location.bit);
    if location.table.holds_bits() {
        if let Some(bit) = bit {
            bad_address(&AddressError::BitOfBit { table: location.table, bit });
            return None;
        }
        if !matches!(shape.type_name, None | Some("bool")) {
            let message = format!("a {} is a bool and nothing else", location.table);
            object.problem("type", "wrong_table", message, "");
            return None;
        }
        return Some((location, None));
    }
    let place_of = |bit: u8| defaults.bits.place(bit);
    let kind = match (shape.type_name, bit) {
        (Some("bitfield"), Some(bit)) => {
            let width = shape.width.unwrap_or(1);
            let place = place_of(bit).map_err(|error| bad_address(&error)).ok()?;
            // Counted from the most significant end, the field's first bit is its highest one.
            let lowest = match defaults.bits {
                BitNumbering::Lsb0 => Some(place),
                BitNumbering::Msb1 => (place + 1).checked_sub(width),
            };
            match lowest {
                Some(place) if place + width <= 16 => DataType::BitField { place, width },
                _ => {
                    object.problem("width", "past_register", "the field reaches past its register", "");
                    return None;
                }
            }
        }
        (None | Some("bit" | "bool"), Some(bit)) => {
            DataType::Bit { place: place_of(bit).map_err(|error| bad_address(&error)).ok()? }
        }
        (Some("bit" | "bitfield"), None) => {
            object.problem("bit", "missing", "is missing", "for example \"bit\": 3");
            return None;
        }
        (Some(name), Some(_)) => {
            object.problem("bit", "contradiction", format!("a {name} has no single bit"), "use type bit");
            return None;
        }
        (None, None) => {
            object.problem("type", "missing", "is missing", "for example \"float32\"");
            return None;
        }
        (Some(name), None) => whole_registers(object, name, shape)?,
    };
    let span = Span { offset: location.offset, count: kind.registers() };
    if span.end() > 65536 {
        let message = format!("{} registers from offset {} reach past offset 65535", span.count, span.offset);
        object.problem("address", "past_end", message, "");
        return None;
    }
    Some((location, Some(kind)))
}

fn whole_registers(object: &mut Object<'_>, name: &str, shape: &Shape) -> Option<DataType> {
    let half = if shape.half == Some("hi") { Half::High } else { Half::Low };
    let needed = |object: &mut Object<'_>| {
        if shape.registers.is_none() {
            object.problem("registers", "missing", "is missing or out of range", "how many registers, 1 to 125");
        }
        shape.registers
    };
    Some(match name {
        "bool" => DataType::Bool,
        "int8" => DataType::Int8(half),
        "uint8" => DataType::Uint8(half),
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
        "string" => DataType::Text {
            registers: needed(object)?,
            chars: if shape.chars == Some("lo_hi") { CharOrder::LowHigh } else { CharOrder::HighLow },
            encoding: match shape.encoding {
                Some("latin1") => Encoding::Latin1,
                Some("utf8") => Encoding::Utf8,
                _ => Encoding::Ascii,
            },
        },
        _ => DataType::Raw { registers: needed(object)? },
    })
}

/// `order` by letters, or the pair `word_order` and `byte_order`; also used for the device's default.
pub fn read_order(object: &mut Object<'_>, default: Order) -> Order {
    let letters = object.word("order", &["ABCD", "CDAB", "BADC", "DCBA"]);
    let word = object.word("word_order", &["big", "little"]);
    let byte = object.word("byte_order", &["big", "little"]);
    if letters.is_some() && (word.is_some() || byte.is_some()) {
        object.problem("order", "contradiction", "stands beside word_order or byte_order", "keep one of the two");
    }
    if word.is_some() || byte.is_some() {
        return Order::from_ends(word != Some("little"), byte != Some("little"));
    }
    letters.and_then(|letters| Order::ALL.into_iter().find(|order| order.name() == letters)).unwrap_or(default)
}

/// The name of the point with the scale factor (MB-14); no other scaling may stand beside it.
fn read_scale_from(object: &mut Object<'_>, decoding: &Decoding) -> Option<String> {
    object.value("scale_from")?;
    let name = crate::common::name(object, "scale_from", false);
    if decoding.scaling != Scaling::None {
        object.problem("scale_from", "contradiction", "stands beside another scale", "keep one of the two");
    }
    let is_number = matches!(decoding.value_type(), model::ValueType::Int | model::ValueType::Float);
    if !is_number && decoding.kind.is_some() {
        object.problem("scale_from", "no_number", "the point is no number, it cannot be scaled", "");
    }
    if decoding.states.is_some() {
        object.problem("scale_from", "contradiction", "stands beside states", "a scaled value has no states");
    }
    name
}

fn read_unit(object: &mut Object<'_>) -> Option<String> {
    let unit = object.text("unit")?;
    if unit.chars().count() > UNIT_MAX || unit.chars().any(char::is_control) {
        object.problem("unit", "bad_unit", format!("is longer than {UNIT_MAX} characters or not printable"), "");
    }
    Some(unit.to_owned())
}
