//! Read requests and the strict check of what comes back.
//!
//! Invariant: only function codes 1, 2, 3 and 4 can be encoded; there is no type that could carry a write (MB-01).
//! A reply that differs from its request in one respect is refused as a whole (MB-02).
//! The TCP envelope around these bytes is in [`crate::frame`].

use std::fmt;

use crate::Error;

/// Most bits one request may ask for.
pub const BITS_MAX: u16 = 2000;
/// Most registers one request may ask for.
pub const REGISTERS_MAX: u16 = 125;
/// Set in the function code of an exception reply.
const EXCEPTION_FLAG: u8 = 0x80;

/// The four address spaces of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Read-write bits, written `0xxxx`.
    Coil,
    /// Read-only bits, written `1xxxx`.
    DiscreteInput,
    /// Read-only registers, written `3xxxx`.
    InputRegister,
    /// Read-write registers, written `4xxxx`.
    HoldingRegister,
}

impl Table {
    /// The function code that reads this table.
    pub const fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::DiscreteInput => 2,
            Self::HoldingRegister => 3,
            Self::InputRegister => 4,
        }
    }

    /// The table a reading function code addresses; `None` for every other code.
    pub const fn from_function(function: u8) -> Option<Self> {
        match function {
            1 => Some(Self::Coil),
            2 => Some(Self::DiscreteInput),
            3 => Some(Self::HoldingRegister),
            4 => Some(Self::InputRegister),
            _ => None,
        }
    }

    /// True for coils and discrete inputs.
    pub const fn holds_bits(self) -> bool {
        matches!(self, Self::Coil | Self::DiscreteInput)
    }

    /// Most items one request may ask for.
    pub const fn count_max(self) -> u16 {
        if self.holds_bits() { BITS_MAX } else { REGISTERS_MAX }
    }

    /// The name used in settings: `coil`, `discrete`, `input`, `holding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::DiscreteInput => "discrete",
            Self::InputRegister => "input",
            Self::HoldingRegister => "holding",
        }
    }

    /// The table of a name, see [`Table::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Coil, Self::DiscreteInput, Self::InputRegister, Self::HoldingRegister]
            .into_iter()
            .find(|table| table.name() == name)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A request to read a run of bits or registers of one unit; in bounds by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Read {
    unit: u8,
    table: Table,
    offset: u16,
    count: u16,
}

impl Read {
    /// A read of `count` items from `offset` (counted from 0).
    ///
    /// Refuses a count of 0, a count above the table's limit, and a run past offset 65535.
    pub fn new(unit: u8, table: Table, offset: u16, count: u16) -> Result<Self, Error> {
        let max = table.count_max();
        if count == 0 || count > max {
            return Err(Error::CountOutOfRange { count, max });
        }
        if u32::from(offset) + u32::from(count) > 65536 {
            return Err(Error::PastEnd { offset, count });
        }
        Ok(Self { unit, table, offset, count })
    }

    /// Unit id asked.
    pub const fn unit(&self) -> u8 {
        self.unit
    }

    /// Table read.
    pub const fn table(&self) -> Table {
        self.table
    }

    /// First item, counted from 0.
    pub const fn offset(&self) -> u16 {
        self.offset
    }

    /// Number of bits or registers.
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// The five bytes of the request, without any envelope.
    pub fn pdu(&self) -> [u8; 5] {
        let [offset_high, offset_low] = self.offset.to_be_bytes();
        let [count_high, count_low] = self.count.to_be_bytes();
        [self.table.function(), offset_high, offset_low, count_high, count_low]
    }

    /// Data bytes a correct reply carries.
    pub fn reply_bytes(&self) -> usize {
        let count = usize::from(self.count);
        if self.table.holds_bits() { count.div_ceil(8) } else { count * 2 }
    }

    /// Checks a reply against this request and takes the data out of it (MB-02).
    ///
    /// The outer error means the reply is not an answer to this request and nothing of it may be used; the inner one
    /// is the device saying no.
    pub fn decode(&self, unit: u8, pdu: &[u8]) -> Result<Result<Data, Exception>, Error> {
        if unit != self.unit {
            return Err(Error::UnitMismatch { expected: self.unit, actual: unit });
        }
        let expected = self.table.function();
        let Some((&function, body)) = pdu.split_first() else {
            return Err(Error::ReplyLength { expected: 2 + self.reply_bytes(), actual: 0 });
        };
        if function == expected | EXCEPTION_FLAG {
            return match body {
                [code] => Ok(Err(Exception(*code))),
                _ => Err(Error::ReplyLength { expected: 2, actual: pdu.len() }),
            };
        }
        if function != expected {
            return Err(Error::FunctionMismatch { expected, actual: function });
        }
        let due = self.reply_bytes();
        let Some((&announced, bytes)) = body.split_first() else {
            return Err(Error::ReplyLength { expected: 2 + due, actual: pdu.len() });
        };
        if usize::from(announced) != due {
            return Err(Error::ByteCount { expected: due, actual: usize::from(announced) });
        }
        if bytes.len() != due {
            return Err(Error::ReplyLength { expected: 2 + due, actual: pdu.len() });
        }
        Ok(Ok(if self.table.holds_bits() {
            let count = usize::from(self.count);
            Data::Bits((0..count).map(|i| bytes[i / 8] >> (i % 8) & 1 == 1).collect())
        } else {
            Data::Registers(bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
        }))
    }
}

/// What a read brought back, as many items as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Coils or discrete inputs.
    Bits(Vec<bool>),
    /// Holding or input registers, as the device sent them.
    Registers(Vec<u16>),
}

/// The device understood the frame and refused. The code travels as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exception(pub u8);

impl Exception {
    /// 01: the device has no such function.
    pub const ILLEGAL_FUNCTION: Self = Self(0x01);
    /// 02: the device has no such address.
    pub const ILLEGAL_ADDRESS: Self = Self(0x02);
    /// 03: the device refuses the size or value.
    pub const ILLEGAL_VALUE: Self = Self(0x03);
    /// 04: the device failed while answering.
    pub const DEVICE_FAILURE: Self = Self(0x04);
    /// 05: accepted, answer later.
    pub const ACKNOWLEDGE: Self = Self(0x05);
    /// 06: busy, ask again.
    pub const BUSY: Self = Self(0x06);
    /// 08: memory parity error.
    pub const MEMORY_PARITY: Self = Self(0x08);
    /// 0A: a gateway has no path to the unit.
    pub const PATH_UNAVAILABLE: Self = Self(0x0A);
    /// 0B: a gateway got no answer from the unit.
    pub const TARGET_FAILED: Self = Self(0x0B);

    /// The standard's name of the code.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0x01 => "illegal function",
            0x02 => "illegal data address",
            0x03 => "illegal data value",
            0x04 => "device failure",
            0x05 => "acknowledge",
            0x06 => "device busy",
            0x08 => "memory parity error",
            0x0A => "gateway path unavailable",
            0x0B => "gateway target failed to respond",
            _ => "unknown exception",
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exception {:#04x}: {}", self.0, self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holding(count: u16) -> Read {
        Read::new(1, Table::HoldingRegister, 0, count).unwrap()
    }

    #[test]
    fn request_bytes() {
        let read = Read::new(17, Table::InputRegister, 0x006B, 3).unwrap();
        assert_eq!(read.pdu(), [4, 0x00, 0x6B, 0x00, 0x03]);
    }

    #[test]
    fn out_of_bounds_reads_cannot_be_made() {
        assert!(matches!(
            Read::new(1, Table::HoldingRegister, 0, 126),
            Err(Error::CountOutOfRange { count: 126, max: 125 })
        ));
        assert!(Read::new(1, Table::Coil, 0, 2000).is_ok());
        assert!(Read::new(1, Table::Coil, 0, 2001).is_err());
        assert!(Read::new(1, Table::Coil, 0, 0).is_err());
        assert!(Read::new(1, Table::HoldingRegister, 65535, 1).is_ok());
        assert!(matches!(Read::new(1, Table::HoldingRegister, 65535, 2), Err(Error::PastEnd { .. })));
    }

    // MB-02
    #[test]
    fn reply_must_match_in_every_respect() {
        let read = holding(2);
        let good = [3, 4, 0x42, 0xAA, 0xCC, 0xCD];
        assert_eq!(read.decode(1, &good), Ok(Ok(Data::Registers(vec![0x42AA, 0xCCCD]))));
        assert!(matches!(read.decode(2, &good), Err(Error::UnitMismatch { .. })));
        assert!(matches!(read.decode(1, &[4, 4, 0, 0, 0, 0]), Err(Error::FunctionMismatch { .. })));
        assert!(matches!(read.decode(1, &[3, 2, 0, 0]), Err(Error::ByteCount { expected: 4, actual: 2 })));
        assert!(matches!(read.decode(1, &good[..5]), Err(Error::ReplyLength { .. })));
        assert!(matches!(read.decode(1, &[3, 4, 0, 0, 0, 0, 0]), Err(Error::ReplyLength { .. })));
        assert!(matches!(read.decode(1, &[3]), Err(Error::ReplyLength { .. })));
        assert!(matches!(read.decode(1, &[]), Err(Error::ReplyLength { .. })));
    }

    #[test]
    fn exception_is_data() {
        assert_eq!(holding(2).decode(1, &[0x83, 2]), Ok(Err(Exception::ILLEGAL_ADDRESS)));
        assert_eq!(holding(2).decode(1, &[0x83, 0x63]), Ok(Err(Exception(0x63))));
        assert!(holding(2).decode(1, &[0x83, 2, 0]).is_err());
        assert!(holding(2).decode(1, &[0x84, 2]).is_err());
    }

    // MB-02: spare bits of the last byte are ignored.
    #[test]
    fn bits_come_low_bit_first() {
        let read = Read::new(1, Table::Coil, 19, 10).unwrap();
        let Ok(Ok(Data::Bits(bits))) = read.decode(1, &[1, 2, 0b1000_0101, 0b1111_1110]) else { panic!("bits") };
        assert_eq!(bits, [true, false, true, false, false, false, false, true, false, true]);
    }

    proptest! {
        // AC-102
        #[test]
        fn no_reply_panics(unit: u8, pdu in prop::collection::vec(any::<u8>(), 0..300), function in 1u8..=4, count in 1u16..=125) {
            let table = Table::from_function(function).unwrap();
            let read = Read::new(1, table, 0, count).unwrap();
            if let Ok(Ok(data)) = read.decode(unit, &pdu) {
                let length = match data { Data::Bits(bits) => bits.len(), Data::Registers(registers) => registers.len() };
                prop_assert_eq!(length, usize::from(count));
            }
        }
    }
}
