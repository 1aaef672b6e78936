//! How long things take on a serial line (MB-30, MB-32). Pure arithmetic.

use std::time::Duration;

/// Characters of silence before a frame, in halves: 3.5.
const SILENCE_HALF_CHARACTERS: u64 = 7;
/// The standard's character for the silence: start, eight data bits, parity, stop.
const STANDARD_BITS: u64 = 11;
/// Above this speed the silence no longer shrinks.
const SILENCE_FIXED_ABOVE: u32 = 19_200;
/// And stays this.
const SILENCE_FIXED: Duration = Duration::from_micros(1750);

/// A line's speed and the bits of one character on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Bits per second.
    pub baud: u32,
    /// Start bit, data bits, parity if any, stop bits: 10 to 12.
    pub bits: u8,
}

impl Line {
    /// The silence that separates frames, 3.5 characters; 1.75 ms above 19200.
    pub fn silence(self) -> Duration {
        if self.baud > SILENCE_FIXED_ABOVE {
            return SILENCE_FIXED;
        }
        nanos(SILENCE_HALF_CHARACTERS * STANDARD_BITS * 1_000_000_000, 2 * u64::from(self.baud))
    }

    /// Time that many bytes are under way.
    pub fn transmission(self, bytes: usize) -> Duration {
        let bits = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(self.bits.into());
        nanos(bits.saturating_mul(1_000_000_000), self.baud.into())
    }
}

fn nanos(dividend: u64, divisor: u64) -> Duration {
    Duration::from_nanos(dividend / divisor.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Read, Table, rtu};

    // MB-30
    #[test]
    fn silence_of_the_standard() {
        let silence = |baud| Line { baud, bits: 11 }.silence().as_micros();
        assert_eq!([300, 9600, 19_200, 38_400, 921_600].map(silence), [128_333, 4010, 2005, 1750, 1750]);
    }

    // MB-32
    #[test]
    fn a_full_request_takes_its_time() {
        let line = Line { baud: 9600, bits: 11 };
        let read = Read::new(1, Table::HoldingRegister, 0, 125).unwrap();
        let both = line.transmission(rtu::REQUEST_LENGTH + rtu::reply_length(&read));
        assert_eq!(both.as_millis(), 301);
        assert_eq!(Line { baud: 0, bits: 11 }.transmission(usize::MAX), Duration::from_nanos(u64::MAX));
    }
}
