//! How people write Modbus addresses, and the one form everything else uses.
//!
//! `"40001"` and `"400001"` count from 1 with the table as first digit; objects name the table and count from 0
//! (`offset`) or from 1 (`number`); hexadecimal offsets need the table beside them (MB-03). Invariant: a
//! [`Location`] is always table plus offset from 0; nothing past this file knows the other notations.

use crate::Table;

/// Highest bit number in a register when bits count from 0.
const BIT_MAX: u8 = 15;

/// Where a value starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// Which of the four tables.
    pub table: Table,
    /// First item, counted from 0.
    pub offset: u16,
    /// Bit number as written after the dot, in whatever numbering the device's manual uses.
    pub bit: Option<u8>,
}

/// Why an address cannot be used. Every message says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not five or six digits.
    #[error("address \"{text}\" is not five or six digits such as \"40001\" or \"400001\"")]
    Notation {
        /// As written.
        text: String,
    },
    /// The first digit names no table.
    #[error("address \"{text}\" starts with {digit}: 0 is coil, 1 discrete, 3 input, 4 holding")]
    TableDigit {
        /// As written.
        text: String,
        /// Its first digit.
        digit: char,
    },
    /// Number 0 in a notation that counts from 1.
    #[error("number 0 does not exist, this notation counts from 1")]
    NumberZero,
    /// The number or offset lies past the table's end.
    #[error("{number} is past the end of the table: numbers go to 65536, offsets to 65535")]
    PastEnd {
        /// As written.
        number: u32,
    },
    /// Not a hexadecimal offset.
    #[error("offset \"{text}\" is not hexadecimal such as \"0x006B\"")]
    Hex {
        /// As written.
        text: String,
    },
    /// The part after the dot is no bit number.
    #[error("bit \"{text}\" is not a number from 0 to 16")]
    BitNotation {
        /// As written.
        text: String,
    },
    /// The bit does not exist in this numbering.
    #[error("bit {bit} is outside {min}..={max}")]
    Bit {
        /// As written.
        bit: u8,
        /// Lowest bit number.
        min: u8,
        /// Highest bit number.
        max: u8,
    },
    /// Coils and discrete inputs are bits already.
    #[error("a {table} is one bit, it has no bit {bit}")]
    BitOfBit {
        /// The table.
        table: Table,
        /// As written.
        bit: u8,
    },
    /// The device-wide shift leads out of the table.
    #[error("offset {offset} shifted by {shift} leaves the table")]
    Shift {
        /// Before the shift.
        offset: u16,
        /// The shift.
        shift: i8,
    },
}

impl Location {
    /// Reads the five- and six-digit notation, with an optional bit: `"40001"`, `"400001"`, `"40001.3"`; or that of
    /// IEC 61131, which counts holding registers from 0: `"%MW100"`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(word) = text.strip_prefix("%MW") {
            let (offset, bit) = match word.split_once('.') {
                Some((offset, bit)) => (offset, Some(parse_bit(bit)?)),
                None => (word, None),
            };
            let well_formed = (1..=5).contains(&offset.len()) && offset.bytes().all(|byte| byte.is_ascii_digit());
            let offset = if well_formed { offset.parse().ok() } else { None };
            let offset = offset.ok_or_else(|| AddressError::Notation { text: text.to_owned() })?;
            return Ok(Self { bit, ..Self::from_offset(Table::HoldingRegister, offset)? });
        }
        let (digits, bit) = match text.split_once('.') {
            Some((digits, bit)) => (digits, Some(parse_bit(bit)?)),
            None => (text, None),
        };
        let well_formed = (5..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !well_formed {
            return Err(AddressError::Notation { text: text.to_owned() });
        }
        let (first, rest) = digits.split_at(1);
        let table = match first {
            "0" => Table::Coil,
            "1" => Table::DiscreteInput,
            "3" => Table::InputRegister,
            "4" => Table::HoldingRegister,
            _ => {
                let digit = first.chars().next().unwrap_or('?');
                return Err(AddressError::TableDigit { text: text.to_owned(), digit });
            }
        };
        let number = rest.parse().map_err(|_| AddressError::Notation { text: text.to_owned() })?;
        let location = Self::from_number(table, number)?;
        match bit {
            Some(bit) => location.with_bit(bit),
            None => Ok(location),
        }
    }

    /// An offset counted from 0.
    pub fn from_offset(table: Table, offset: u32) -> Result<Self, AddressError> {
        let offset = u16::try_from(offset).map_err(|_| AddressError::PastEnd { number: offset })?;
        Ok(Self { table, offset, bit: None })
    }

    /// A number counted from 1.
    pub fn from_number(table: Table, number: u32) -> Result<Self, AddressError> {
        let offset = number.checked_sub(1).ok_or(AddressError::NumberZero)?;
        let offset = u16::try_from(offset).map_err(|_| AddressError::PastEnd { number })?;
        Ok(Self { table, offset, bit: None })
    }

    /// A hexadecimal offset counted from 0: `"0x006B"`.
    pub fn from_hex(table: Table, text: &str) -> Result<Self, AddressError> {
        let bad = || AddressError::Hex { text: text.to_owned() };
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or_else(bad)?;
        let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !well_formed {
            return Err(bad());
        }
        Self::from_offset(table, u32::from_str_radix(digits, 16).map_err(|_| bad())?)
    }

    /// The same register, one bit of it. Coils and discrete inputs have none.
    pub fn with_bit(self, bit: u8) -> Result<Self, AddressError> {
        if self.table.holds_bits() {
            return Err(AddressError::BitOfBit { table: self.table, bit });
        }
        Ok(Self { bit: Some(bit), ..self })
    }

    /// Moved by the device-wide shift (-1, 0 or +1), because manuals disagree where counting starts (MB-05).
    pub fn shifted(self, shift: i8) -> Result<Self, AddressError> {
        let offset = self
            .offset
            .checked_add_signed(i16::from(shift))
            .ok_or(AddressError::Shift { offset: self.offset, shift })?;
        Ok(Self { offset, ..self })
    }

    /// The table as digit and the number from 1, six digits: `400001`.
    pub fn modicon(&self) -> String {
        let digit = match self.table {
            Table::Coil => 0,
            Table::DiscreteInput => 1,
            Table::InputRegister => 3,
            Table::HoldingRegister => 4,
        };
        format!("{digit}{:05}", u32::from(self.offset) + 1)
    }
}

/// Which way a manual counts the bits of a register (MB-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BitNumbering {
    /// Bit 0 is the least significant one.
    #[default]
    Lsb0,
    /// Bit 1 is the most significant one, bit 16 the least.
    Msb1,
}

impl BitNumbering {
    /// The bit's place counted from 0 at the least significant end.
    pub fn place(self, bit: u8) -> Result<u8, AddressError> {
        match self {
            Self::Lsb0 if bit <= BIT_MAX => Ok(bit),
            Self::Lsb0 => Err(AddressError::Bit { bit, min: 0, max: BIT_MAX }),
            Self::Msb1 if (1..=16).contains(&bit) => Ok(16 - bit),
            Self::Msb1 => Err(AddressError::Bit { bit, min: 1, max: 16 }),
        }
    }
}

fn parse_bit(text: &str) -> Result<u8, AddressError> {
    let bad = || AddressError::BitNotation { text: text.to_owned() };
    let well_formed = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if well_formed { text.parse().map_err(|_| bad()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // MB-03, AC-001
    #[test]
    fn every_notation_of_the_first_holding_register() {
        let first = Location { table: Table::HoldingRegister, offset: 0, bit: None };
        assert_eq!(Location::parse("40001"), Ok(first));
        assert_eq!(Location::parse("400001"), Ok(first));
        assert_eq!(Location::from_offset(Table::HoldingRegister, 0), Ok(first));
        assert_eq!(Location::from_number(Table::HoldingRegister, 1), Ok(first));
        assert_eq!(Location::from_hex(Table::HoldingRegister, "0x0000"), Ok(first));
        assert_eq!(Location::parse("%MW0"), Ok(first));
        assert_eq!(first.modicon(), "400001");
        let word = Location::parse("%MW100.3").unwrap();
        assert_eq!((word.table, word.offset, word.bit), (Table::HoldingRegister, 100, Some(3)));
    }

    #[test]
    fn ends_and_tables() {
        assert_eq!(Location::parse("49999").unwrap().offset, 9998);
        assert_eq!(Location::parse("465536").unwrap().offset, 65535);
        assert_eq!(Location::parse("00001").unwrap().table, Table::Coil);
        assert_eq!(Location::parse("10001").unwrap().table, Table::DiscreteInput);
        assert_eq!(Location::parse("300108").unwrap(), Location::from_hex(Table::InputRegister, "0x006B").unwrap());
    }

    // MB-04
    #[test]
    fn refused() {
        assert_eq!(Location::parse("40000"), Err(AddressError::NumberZero));
        assert_eq!(Location::parse("465537"), Err(AddressError::PastEnd { number: 65537 }));
        assert!(matches!(Location::parse("20001"), Err(AddressError::TableDigit { digit: '2', .. })));
        assert!(matches!(Location::parse("50001"), Err(AddressError::TableDigit { digit: '5', .. })));
        assert!(matches!(Location::parse("4001"), Err(AddressError::Notation { .. })));
        assert!(matches!(Location::parse("+0001"), Err(AddressError::Notation { .. })));
        for bad in ["%MW", "%MW+1", "%MW65536", "%MW1.x", "%IW1"] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(Location::parse("40001.x"), Err(AddressError::BitNotation { .. })));
        assert!(matches!(Location::parse("00001.1"), Err(AddressError::BitOfBit { .. })));
        assert!(Location::from_hex(Table::Coil, "6B").is_err());
        assert!(Location::from_hex(Table::Coil, "0x10000").is_err());
        assert!(BitNumbering::Lsb0.place(16).is_err());
        assert!(BitNumbering::Msb1.place(0).is_err());
    }

    // MB-05
    #[test]
    fn shift_stays_in_the_table() {
        let first = Location::parse("40001").unwrap();
        assert_eq!(first.shifted(1).unwrap().offset, 1);
        assert!(first.shifted(-1).is_err());
        assert!(Location::parse("465536").unwrap().shifted(1).is_err());
    }

    proptest! {
        // AC-102
        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _ignored = (Location::parse(&text), Location::from_hex(Table::Coil, &text));
        }

        #[test]
        fn modicon_round_trips(offset: u16) {
            let location = Location { table: Table::InputRegister, offset, bit: None };
            prop_assert_eq!(Location::parse(&location.modicon()), Ok(location));
        }
    }
}
