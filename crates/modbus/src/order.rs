//! The four ways devices lay bytes and words of a number into registers.
//!
//! Letters name bytes, A is the most significant. The same four serve one, two and four registers: swapping words
//! reverses the registers, swapping bytes turns each register around. Invariant: both directions are each other's
//! inverse for every order and size.

use std::fmt;

/// Byte and word order of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// As the standard has it: most significant first.
    #[default]
    Abcd,
    /// Words swapped.
    Cdab,
    /// Bytes swapped inside each word.
    Badc,
    /// Both: least significant first.
    Dcba,
}

impl Order {
    /// All four, the standard's first.
    pub const ALL: [Self; 4] = [Self::Abcd, Self::Cdab, Self::Badc, Self::Dcba];

    /// From the pair many manuals give; `true` means most significant first.
    pub const fn from_ends(word_big: bool, byte_big: bool) -> Self {
        match (word_big, byte_big) {
            (true, true) => Self::Abcd,
            (false, true) => Self::Cdab,
            (true, false) => Self::Badc,
            (false, false) => Self::Dcba,
        }
    }

    /// The letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Abcd => "ABCD",
            Self::Cdab => "CDAB",
            Self::Badc => "BADC",
            Self::Dcba => "DCBA",
        }
    }

    const fn swaps_words(self) -> bool {
        matches!(self, Self::Cdab | Self::Dcba)
    }

    const fn swaps_bytes(self) -> bool {
        matches!(self, Self::Badc | Self::Dcba)
    }

    /// The registers as one number, its low `16 * registers.len()` bits. At most four registers are meant; of more,
    /// the last four remain.
    pub fn assemble(self, registers: &[u16]) -> u64 {
        let append = |number: u64, register: &u16| {
            let word = if self.swaps_bytes() { register.swap_bytes() } else { *register };
            number << 16 | u64::from(word)
        };
        if self.swaps_words() { registers.iter().rev().fold(0, append) } else { registers.iter().fold(0, append) }
    }

    /// The low `16 * N` bits of a number as registers.
    pub fn disassemble<const N: usize>(self, number: u64) -> [u16; N] {
        let bytes = number.to_be_bytes();
        let mut registers = [0; N];
        for (place, register) in registers.iter_mut().enumerate() {
            // `place` 0 holds the most significant word of N, which ends 2 * (N - 1 - place) bytes before the end.
            let low = 8usize.saturating_sub(2 * (N - 1 - place)).saturating_sub(1);
            let word = u16::from_be_bytes([bytes[low.saturating_sub(1)], bytes[low]]);
            *register = if self.swaps_bytes() { word.swap_bytes() } else { word };
        }
        if self.swaps_words() {
            registers.reverse();
        }
        registers
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The vectors of the order table.
    #[test]
    fn vectors() {
        let long = 0x0102_0304_0506_0708;
        let float = u64::from(85.4f32.to_bits());
        let rows = [
            (Order::Abcd, [0x1234, 0x5678], [0x42AA, 0xCCCD], [0x0102, 0x0304, 0x0506, 0x0708]),
            (Order::Cdab, [0x5678, 0x1234], [0xCCCD, 0x42AA], [0x0708, 0x0506, 0x0304, 0x0102]),
            (Order::Badc, [0x3412, 0x7856], [0xAA42, 0xCDCC], [0x0201, 0x0403, 0x0605, 0x0807]),
            (Order::Dcba, [0x7856, 0x3412], [0xCDCC, 0xAA42], [0x0807, 0x0605, 0x0403, 0x0201]),
        ];
        for (order, int, real, quad) in rows {
            assert_eq!(order.disassemble::<2>(0x1234_5678), int, "{order}");
            assert_eq!(order.assemble(&int), 0x1234_5678, "{order}");
            assert_eq!(order.disassemble::<2>(float), real, "{order}");
            assert_eq!(order.disassemble::<4>(long), quad, "{order}");
            assert_eq!(order.assemble(&quad), long, "{order}");
        }
    }

    #[test]
    fn pairs_are_aliases() {
        let names = [(true, true), (false, true), (true, false), (false, false)]
            .map(|(word, byte)| Order::from_ends(word, byte).name());
        assert_eq!(names, Order::ALL.map(Order::name));
    }

    proptest! {
        #[test]
        fn both_ways(number: u64) {
            for order in Order::ALL {
                prop_assert_eq!(order.assemble(&order.disassemble::<4>(number)), number);
                prop_assert_eq!(order.assemble(&order.disassemble::<3>(number)), number & 0xFFFF_FFFF_FFFF);
                prop_assert_eq!(order.assemble(&order.disassemble::<1>(number)), number & 0xFFFF);
            }
        }
    }
}
