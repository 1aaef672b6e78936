//! The answering side: what a request asks for, and the bytes of an answer. For simulators and tests.
//!
//! Invariant: only reading requests are understood; any other function code is answered with "illegal function".

use crate::pdu::{Exception, Read, Table};

/// Takes a request apart. The error is the exception a device would answer with.
pub fn decode(unit: u8, pdu: &[u8]) -> Result<Read, Exception> {
    let Some((&function, body)) = pdu.split_first() else { return Err(Exception::ILLEGAL_FUNCTION) };
    let Some(table) = Table::from_function(function) else { return Err(Exception::ILLEGAL_FUNCTION) };
    let &[offset_high, offset_low, count_high, count_low] = body else { return Err(Exception::ILLEGAL_VALUE) };
    let offset = u16::from_be_bytes([offset_high, offset_low]);
    let count = u16::from_be_bytes([count_high, count_low]);
    Read::new(unit, table, offset, count).map_err(|error| match error {
        crate::Error::PastEnd { .. } => Exception::ILLEGAL_ADDRESS,
        _ => Exception::ILLEGAL_VALUE,
    })
}

/// The reply to a read of registers. At most 125 registers fit into a frame.
pub fn registers(table: Table, registers: &[u16]) -> Vec<u8> {
    let bytes = registers.len() * 2;
    let mut pdu = vec![table.function(), u8::try_from(bytes).unwrap_or(u8::MAX)];
    pdu.extend(registers.iter().flat_map(|register| register.to_be_bytes()));
    pdu
}

/// The reply to a read of bits, first bit in the lowest place. At most 2000 bits fit into a frame.
pub fn bits(table: Table, bits: &[bool]) -> Vec<u8> {
    let bytes = bits.len().div_ceil(8);
    let mut pdu = vec![table.function(), u8::try_from(bytes).unwrap_or(u8::MAX)];
    pdu.extend(bits.chunks(8).map(|chunk| {
        let mut byte = 0;
        for (place, bit) in chunk.iter().enumerate() {
            byte |= u8::from(*bit) << place;
        }
        byte
    }));
    pdu
}

/// The refusal of a request with this function code.
pub fn exception(function: u8, exception: Exception) -> [u8; 2] {
    [function | 0x80, exception.0]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Data;

    #[test]
    fn refuses_what_a_device_refuses() {
        assert_eq!(decode(1, &[6, 0, 0, 0, 1]), Err(Exception::ILLEGAL_FUNCTION));
        assert_eq!(decode(1, &[3, 0, 0, 0, 0]), Err(Exception::ILLEGAL_VALUE));
        assert_eq!(decode(1, &[3, 0, 0, 0, 126]), Err(Exception::ILLEGAL_VALUE));
        assert_eq!(decode(1, &[3, 0xFF, 0xFF, 0, 2]), Err(Exception::ILLEGAL_ADDRESS));
        assert_eq!(decode(1, &[3, 0]), Err(Exception::ILLEGAL_VALUE));
    }

    proptest! {
        // AC-102
        #[test]
        fn no_request_panics(pdu in prop::collection::vec(any::<u8>(), 0..300)) {
            let decoded = decode(1, &pdu);
            if let Ok(read) = decoded {
                prop_assert_eq!(&read.pdu()[..], &pdu[..]);
            }
        }

        #[test]
        fn replies_round_trip(words in prop::collection::vec(any::<u16>(), 1..=125), flags in prop::collection::vec(any::<bool>(), 1..=2000)) {
            let read = Read::new(9, Table::InputRegister, 0, u16::try_from(words.len()).unwrap()).unwrap();
            prop_assert_eq!(read.decode(9, &registers(Table::InputRegister, &words)), Ok(Ok(Data::Registers(words))));
            let read = Read::new(9, Table::Coil, 0, u16::try_from(flags.len()).unwrap()).unwrap();
            prop_assert_eq!(read.decode(9, &bits(Table::Coil, &flags)), Ok(Ok(Data::Bits(flags))));
        }
    }
}
