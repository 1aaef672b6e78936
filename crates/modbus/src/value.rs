//! What registers mean: data types and their decoding.
//!
//! Pure and total: every register pattern gives a value or a [`Defect`], never a panic and never a made-up number.
//! Scaling, sentinels and labels are the caller's; it gets the bits before any meaning from [`DataType::pattern`].

use std::fmt::{self, Write as _};

use crate::Order;

/// Most registers a text or raw value may span: one request's worth.
pub const TEXT_REGISTERS_MAX: u16 = 125;

/// Which half of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The high byte.
    High,
    /// The low byte.
    Low,
}

/// Which character of a register comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CharOrder {
    /// High byte first.
    #[default]
    HighLow,
    /// Low byte first.
    LowHigh,
}

/// How text bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// 7 bits; anything above is a defect.
    #[default]
    Ascii,
    /// One byte, one of the first 256 characters.
    Latin1,
    /// UTF-8.
    Utf8,
}

/// The meaning of a run of registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// A register that is 0 or not.
    Bool,
    /// One bit of a register, `place` counted from 0 at the least significant end.
    Bit {
        /// 0..=15
        place: u8,
    },
    /// Several bits of a register as an unsigned number.
    BitField {
        /// Lowest bit, 0..=15
        place: u8,
        /// Number of bits, 1..=16
        width: u8,
    },
    /// Signed half register.
    Int8(Half),
    /// Unsigned half register.
    Uint8(Half),
    /// One register, signed.
    Int16,
    /// One register, unsigned.
    Uint16,
    /// Two registers, signed.
    Int32,
    /// Two registers, unsigned.
    Uint32,
    /// Two registers, IEEE 754 single.
    Float32,
    /// Four registers, signed.
    Int64,
    /// Four registers, unsigned.
    Uint64,
    /// Four registers, IEEE 754 double.
    Float64,
    /// One register, four decimal digits.
    Bcd16,
    /// Two registers, eight decimal digits.
    Bcd32,
    /// Sum of register i times 10000 to the power i, as power meters count; two to four registers.
    Mod10 {
        /// 2..=4
        registers: u8,
    },
    /// Characters, two per register.
    Text {
        /// 1..=125
        registers: u16,
        /// Which half comes first.
        chars: CharOrder,
        /// How the bytes are read.
        encoding: Encoding,
    },
    /// The registers as upper-case hexadecimal.
    Raw {
        /// 1..=125
        registers: u16,
    },
}

/// A decoded value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number; never NaN, infinite or negative zero.
    Float(f64),
    /// Characters or hexadecimal.
    Text(String),
}

/// A value and what must be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The value.
    pub value: Value,
    /// True if the device's number does not fit and was rounded.
    pub rounded: bool,
}

/// Why registers have no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// NaN or infinite.
    #[error("not a finite number")]
    NotFinite,
    /// A decimal digit above 9.
    #[error("a decimal digit is above 9")]
    Digit,
    /// A register outside -9999..=9999 in a modulo-10000 number.
    #[error("a register is outside -9999..=9999")]
    Mod10,
    /// Bytes that are no text in the configured encoding.
    #[error("bytes are not text in the configured encoding")]
    Text,
    /// Another number of registers than the type needs.
    #[error("{actual} registers given, {expected} needed")]
    Length {
        /// Needed.
        expected: usize,
        /// Given.
        actual: usize,
    },
}

impl DataType {
    /// Registers the type spans.
    pub const fn registers(self) -> u16 {
        match self {
            Self::Bool
            | Self::Bit { .. }
            | Self::BitField { .. }
            | Self::Int8(_)
            | Self::Uint8(_)
            | Self::Int16
            | Self::Uint16
            | Self::Bcd16 => 1,
            Self::Int32 | Self::Uint32 | Self::Float32 | Self::Bcd32 => 2,
            Self::Int64 | Self::Uint64 | Self::Float64 => 4,
            Self::Mod10 { registers } => registers as u16,
            Self::Text { registers, .. } | Self::Raw { registers } => registers,
        }
    }

    /// The bits before any meaning, most significant first: what sentinels are compared with (MB-09).
    ///
    /// `None` for text and raw values, and for the wrong number of registers.
    pub fn pattern(self, order: Order, registers: &[u16]) -> Option<u64> {
        let fits = registers.len() == usize::from(self.registers()) && registers.len() <= 4;
        let is_number = !matches!(self, Self::Text { .. } | Self::Raw { .. });
        (fits && is_number).then(|| order.assemble(registers))
    }

    /// The value of exactly [`DataType::registers`] registers.
    pub fn decode(self, order: Order, registers: &[u16]) -> Result<Decoded, Defect> {
        let expected = usize::from(self.registers());
        if registers.len() != expected {
            return Err(Defect::Length { expected, actual: registers.len() });
        }
        let bytes = order.assemble(registers).to_be_bytes();
        let [b0, b1, b2, b3, b4, b5, b6, b7] = bytes;
        let word = u16::from_be_bytes([b6, b7]);
        let value = match self {
            Self::Bool => Value::Bool(word != 0),
            Self::Bit { place } => Value::Bool(u32::from(word).checked_shr(place.into()).unwrap_or(0) & 1 == 1),
            Self::BitField { place, width } => {
                let shifted = u32::from(word).checked_shr(place.into()).unwrap_or(0);
                let mask = 1u32.checked_shl(width.into()).map_or(u32::MAX, |bit| bit - 1);
                Value::Int((shifted & mask).into())
            }
            Self::Int8(half) => Value::Int(i8::from_be_bytes([byte(half, b6, b7)]).into()),
            Self::Uint8(half) => Value::Int(byte(half, b6, b7).into()),
            Self::Int16 => Value::Int(i16::from_be_bytes([b6, b7]).into()),
            Self::Uint16 => Value::Int(word.into()),
            Self::Int32 => Value::Int(i32::from_be_bytes([b4, b5, b6, b7]).into()),
            Self::Uint32 => Value::Int(u32::from_be_bytes([b4, b5, b6, b7]).into()),
            Self::Int64 => Value::Int(i64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])),
            Self::Uint64 => return Ok(unsigned(u64::from_be_bytes(bytes))),
            Self::Float32 => finite(widen(f32::from_be_bytes([b4, b5, b6, b7])))?,
            Self::Float64 => finite(f64::from_be_bytes(bytes))?,
            Self::Bcd16 => Value::Int(decimal(&[b6, b7])?),
            Self::Bcd32 => Value::Int(decimal(&[b4, b5, b6, b7])?),
            Self::Mod10 { .. } => Value::Int(mod10(order, registers)?),
            Self::Text { chars, encoding, .. } => Value::Text(text(chars, encoding, registers)?),
            Self::Raw { .. } => Value::Text(hex(registers)),
        };
        Ok(Decoded { value, rounded: false })
    }
}

/// Widens by the shortest decimal that names the single: 85.4 stays 85.4, not 85.4000015258789 (MB-08).
pub fn widen(single: f32) -> f64 {
    /// Longest output is like `-1.17549435e-38`: 15 characters.
    #[derive(Default)]
    struct Digits {
        bytes: [u8; 32],
        length: usize,
    }
    impl fmt::Write for Digits {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = self.length + text.len();
            self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
            self.length = end;
            Ok(())
        }
    }
    let mut digits = Digits::default();
    let written = write!(digits, "{single:e}").is_ok();
    let text = std::str::from_utf8(&digits.bytes[..digits.length]).unwrap_or_default();
    if written { text.parse().unwrap_or_else(|_| f64::from(single)) } else { f64::from(single) }
}

fn byte(half: Half, high: u8, low: u8) -> u8 {
    match half {
        Half::High => high,
        Half::Low => low,
    }
}

/// Above the signed range the nearest float, marked as rounded; never a negative number.
fn unsigned(number: u64) -> Decoded {
    if let Ok(number) = i64::try_from(number) {
        return Decoded { value: Value::Int(number), rounded: false };
    }
    #[expect(clippy::cast_precision_loss, reason = "the loss is what `rounded` reports")]
    let value = Value::Float(number as f64);
    Decoded { value, rounded: true }
}

/// Refuses NaN and infinity; negative zero becomes zero (MB-07).
fn finite(number: f64) -> Result<Value, Defect> {
    if number.is_finite() { Ok(Value::Float(number + 0.0)) } else { Err(Defect::NotFinite) }
}

fn decimal(bytes: &[u8]) -> Result<i64, Defect> {
    let mut number = 0;
    for nibble in bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]) {
        if nibble > 9 {
            return Err(Defect::Digit);
        }
        number = number * 10 + i64::from(nibble);
    }
    Ok(number)
}

fn mod10(order: Order, registers: &[u16]) -> Result<i64, Defect> {
    let last = registers.len() - 1;
    let mut sum: i64 = 0;
    // The first register is worth least; an order that swaps words turns that around.
    for power in (0..=last).rev() {
        let place = if matches!(order, Order::Cdab | Order::Dcba) { last - power } else { power };
        let [high, low] = registers[place].to_be_bytes();
        let swapped = matches!(order, Order::Badc | Order::Dcba);
        let digit = i16::from_be_bytes(if swapped { [low, high] } else { [high, low] });
        if !(-9999..=9999).contains(&digit) {
            return Err(Defect::Mod10);
        }
        sum = sum * 10_000 + i64::from(digit);
    }
    Ok(sum)
}

/// Cuts at the first NUL, drops trailing spaces.
fn text(chars: CharOrder, encoding: Encoding, registers: &[u16]) -> Result<String, Defect> {
    let ordered = |register: &u16| match chars {
        CharOrder::HighLow => register.to_be_bytes(),
        CharOrder::LowHigh => register.to_le_bytes(),
    };
    let bytes: Vec<u8> = registers.iter().flat_map(ordered).take_while(|byte| *byte != 0).collect();
    let text = match encoding {
        Encoding::Ascii if bytes.is_ascii() => String::from_utf8(bytes).map_err(|_| Defect::Text)?,
        Encoding::Ascii => return Err(Defect::Text),
        Encoding::Latin1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        Encoding::Utf8 => String::from_utf8(bytes).map_err(|_| Defect::Text)?,
    };
    Ok(text.trim_end_matches(' ').to_owned())
}

fn hex(registers: &[u16]) -> String {
    let mut text = String::with_capacity(registers.len() * 4);
    for register in registers {
        // Writing to a String cannot fail.
        write!(text, "{register:04X}").unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(kind: DataType, registers: &[u16]) -> Value {
        kind.decode(Order::Abcd, registers).unwrap().value
    }

    // AC-003, MB-08
    #[test]
    fn four_orders_of_one_float() {
        let rows = [
            (Order::Abcd, [0x42AA, 0xCCCD]),
            (Order::Cdab, [0xCCCD, 0x42AA]),
            (Order::Badc, [0xAA42, 0xCDCC]),
            (Order::Dcba, [0xCDCC, 0xAA42]),
        ];
        for (order, registers) in rows {
            let Value::Float(number) = DataType::Float32.decode(order, &registers).unwrap().value else { panic!() };
            assert_eq!(number.to_string(), "85.4", "{order}");
        }
    }

    // AC-004
    #[test]
    fn signed_and_unsigned() {
        assert_eq!(value(DataType::Int32, &[0xFFFF, 0xFFFE]), Value::Int(-2));
        assert_eq!(value(DataType::Uint32, &[0xFFFF, 0xFFFE]), Value::Int(4_294_967_294));
        assert_eq!(value(DataType::Int16, &[0x8000]), Value::Int(-32768));
        assert_eq!(value(DataType::Int8(Half::High), &[0x80FF]), Value::Int(-128));
        assert_eq!(value(DataType::Uint8(Half::Low), &[0x80FF]), Value::Int(255));
        assert_eq!(value(DataType::Int64, &[0xFFFF; 4]), Value::Int(-1));
        assert_eq!(DataType::Int16.decode(Order::Badc, &[0x0180]).unwrap().value, Value::Int(-32767));
    }

    // AC-005
    #[test]
    fn large_unsigned_is_never_negative() {
        let decoded = DataType::Uint64.decode(Order::Abcd, &[0xFFFF; 4]).unwrap();
        assert_eq!(decoded, Decoded { value: Value::Float(1.844_674_407_370_955_2e19), rounded: true });
        let fits = DataType::Uint64.decode(Order::Abcd, &[0x7FFF, 0xFFFF, 0xFFFF, 0xFFFF]).unwrap();
        assert_eq!(fits, Decoded { value: Value::Int(i64::MAX), rounded: false });
    }

    // AC-006
    #[test]
    fn decimal_digits() {
        assert_eq!(value(DataType::Bcd16, &[0x1234]), Value::Int(1234));
        assert_eq!(DataType::Bcd16.decode(Order::Abcd, &[0x12A4]), Err(Defect::Digit));
        assert_eq!(value(DataType::Bcd32, &[0x1234, 0x5678]), Value::Int(12_345_678));
        let swapped = DataType::Bcd32.decode(Order::Cdab, &[0x5678, 0x1234]).unwrap();
        assert_eq!(swapped.value, Value::Int(12_345_678));
    }

    #[test]
    fn modulo_ten_thousand() {
        let kind = DataType::Mod10 { registers: 3 };
        assert_eq!(value(kind, &[3, 2, 1]), Value::Int(100_020_003));
        assert_eq!(kind.decode(Order::Cdab, &[1, 2, 3]).unwrap().value, Value::Int(100_020_003));
        assert_eq!(value(DataType::Mod10 { registers: 2 }, &[0xFFFF, 0]), Value::Int(-1));
        assert_eq!(kind.decode(Order::Abcd, &[10_000, 0, 0]), Err(Defect::Mod10));
        assert_eq!(DataType::Mod10 { registers: 4 }.registers(), 4);
    }

    // AC-007
    #[test]
    fn text_by_either_half() {
        let text = |chars| DataType::Text { registers: 3, chars, encoding: Encoding::Ascii };
        let registers = [0x4142, 0x4300, 0x2020];
        assert_eq!(value(text(CharOrder::HighLow), &registers), Value::Text("ABC".to_owned()));
        assert_eq!(value(text(CharOrder::LowHigh), &registers), Value::Text("BA".to_owned()));
        let padded = [0x4142, 0x2020, 0x2020];
        assert_eq!(value(text(CharOrder::HighLow), &padded), Value::Text("AB".to_owned()));
    }

    #[test]
    fn encodings() {
        let decode = |encoding, registers: &[u16]| {
            let kind = DataType::Text { registers: 1, chars: CharOrder::HighLow, encoding };
            kind.decode(Order::Abcd, registers).map(|decoded| decoded.value)
        };
        assert_eq!(decode(Encoding::Ascii, &[0x41E4]), Err(Defect::Text));
        assert_eq!(decode(Encoding::Latin1, &[0x41E4]), Ok(Value::Text("Aä".to_owned())));
        assert_eq!(decode(Encoding::Utf8, &[0xC3A4]), Ok(Value::Text("ä".to_owned())));
        assert_eq!(decode(Encoding::Utf8, &[0x41C3]), Err(Defect::Text));
        assert_eq!(value(DataType::Raw { registers: 2 }, &[0x00AB, 0xCD01]), Value::Text("00ABCD01".to_owned()));
    }

    // AC-009, MB-07
    #[test]
    fn only_finite_numbers() {
        assert_eq!(DataType::Float32.decode(Order::Abcd, &[0x7FC0, 0]), Err(Defect::NotFinite));
        assert_eq!(DataType::Float32.decode(Order::Abcd, &[0xFF80, 0]), Err(Defect::NotFinite));
        assert_eq!(DataType::Float64.decode(Order::Abcd, &[0x7FF0, 0, 0, 0]), Err(Defect::NotFinite));
        let Value::Float(zero) = value(DataType::Float32, &[0x8000, 0]) else { panic!() };
        assert!(zero.is_sign_positive());
    }

    // AC-010
    #[test]
    fn bits_of_a_register() {
        use crate::{BitNumbering, Location};
        let location = Location::parse("40001.3").unwrap();
        let place = BitNumbering::Lsb0.place(location.bit.unwrap()).unwrap();
        assert_eq!(value(DataType::Bit { place }, &[0x0008]), Value::Bool(true));
        let place = BitNumbering::Msb1.place(13).unwrap();
        assert_eq!(value(DataType::Bit { place }, &[0x0008]), Value::Bool(true));
        assert_eq!(value(DataType::Bit { place }, &[0xFFF7]), Value::Bool(false));
        assert_eq!(value(DataType::BitField { place: 4, width: 3 }, &[0x00A0]), Value::Int(2));
        assert_eq!(value(DataType::BitField { place: 0, width: 16 }, &[0xFFFF]), Value::Int(65535));
    }

    #[test]
    fn pattern_is_before_meaning() {
        assert_eq!(DataType::Int16.pattern(Order::Abcd, &[0x8000]), Some(0x8000));
        assert_eq!(DataType::Float32.pattern(Order::Cdab, &[0xCCCD, 0x42AA]), Some(0x42AA_CCCD));
        assert_eq!(DataType::Raw { registers: 1 }.pattern(Order::Abcd, &[1]), None);
        assert_eq!(DataType::Int32.pattern(Order::Abcd, &[1]), None);
    }

    fn any_type() -> impl Strategy<Value = DataType> {
        let chars = prop_oneof![Just(CharOrder::HighLow), Just(CharOrder::LowHigh)];
        let encoding = prop_oneof![Just(Encoding::Ascii), Just(Encoding::Latin1), Just(Encoding::Utf8)];
        prop_oneof![
            Just(DataType::Bool),
            (any::<u8>()).prop_map(|place| DataType::Bit { place }),
            (any::<u8>(), any::<u8>()).prop_map(|(place, width)| DataType::BitField { place, width }),
            Just(DataType::Int8(Half::High)),
            Just(DataType::Uint8(Half::Low)),
            Just(DataType::Int16),
            Just(DataType::Uint16),
            Just(DataType::Int32),
            Just(DataType::Uint32),
            Just(DataType::Float32),
            Just(DataType::Int64),
            Just(DataType::Uint64),
            Just(DataType::Float64),
            Just(DataType::Bcd16),
            Just(DataType::Bcd32),
            (2u8..=4).prop_map(|registers| DataType::Mod10 { registers }),
            (0u16..=125, chars, encoding).prop_map(|(registers, chars, encoding)| DataType::Text {
                registers,
                chars,
                encoding
            }),
            (0u16..=125).prop_map(|registers| DataType::Raw { registers }),
        ]
    }

    proptest! {
        // AC-102
        #[test]
        fn no_registers_panic(kind in any_type(), pool in prop::collection::vec(any::<u16>(), 125), extra in 0usize..2, order in 0usize..4) {
            let length = (usize::from(kind.registers()) + extra).min(pool.len());
            let decoded = kind.decode(Order::ALL[order], &pool[..length]);
            let _ignored = kind.pattern(Order::ALL[order], &pool[..length]);
            if let Ok(Decoded { value: Value::Float(number), .. }) = decoded {
                prop_assert!(number.is_finite());
            }
        }

        // MB-08: the widened number is the same single and prints the same.
        #[test]
        fn widening_keeps_the_single(bits: u32) {
            let single = f32::from_bits(bits);
            prop_assume!(single.is_finite());
            let wide = widen(single);
            #[expect(clippy::cast_possible_truncation, reason = "going back is the point")]
            let back = wide as f32;
            prop_assert_eq!(back, single);
            prop_assert_eq!(format!("{wide:e}"), format!("{single:e}"));
        }
    }
}
