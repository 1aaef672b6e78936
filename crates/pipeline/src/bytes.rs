//! Saved state as bytes: variable-length integers, exact floats, texts with their length.
//!
//! What was saved by another version or torn is refused as a whole by [`Reader`]; state is never guessed.

use model::text::{put_zigzag, take_zigzag};

/// Appends to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'b>(pub(crate) &'b mut Vec<u8>);

impl Writer<'_> {
    /// Small magnitudes in few bytes.
    pub(crate) fn int(&mut self, number: i64) {
        put_zigzag(self.0, number);
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.int(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Exactly the bits.
    pub(crate) fn float(&mut self, number: f64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, set: bool) {
        self.0.push(u8::from(set));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    /// `None` and the value take a flag and the value.
    pub(crate) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Reads what a [`Writer`] wrote; `None` when the bytes are something else.
#[derive(Debug)]
pub(crate) struct Reader<'b>(pub(crate) &'b [u8]);

impl<'b> Reader<'b> {
    pub(crate) fn int(&mut self) -> Option<i64> {
        take_zigzag(&mut self.0)
    }

    /// A count of things that take at least one byte each, so that a torn count reserves nothing.
    pub(crate) fn count(&mut self) -> Option<usize> {
        usize::try_from(self.int()?).ok().filter(|count| *count <= self.0.len())
    }

    pub(crate) fn float(&mut self) -> Option<f64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*bytes))
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn text(&mut self) -> Option<&'b str> {
        let length = self.count()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// The outer `None` means bytes that are something else.
    #[expect(clippy::option_option, reason = "there, not there, not readable")]
    pub(crate) fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_torn_bytes_are_refused() {
        let mut bytes = Vec::new();
        let mut writer = Writer(&mut bytes);
        for number in [0, -1, 63, 64, i64::MIN, i64::MAX] {
            writer.int(number);
        }
        writer.float(-0.0);
        writer.text("übung");
        writer.optional(Some(7), Writer::int);
        writer.optional(None, Writer::int);
        let read = |bytes: &[u8]| {
            let mut reader = Reader(bytes);
            for number in [0, -1, 63, 64, i64::MIN, i64::MAX] {
                assert_eq!(reader.int()?, number);
            }
            assert_eq!(reader.float()?.to_bits(), (-0.0_f64).to_bits());
            assert_eq!(reader.text()?, "übung");
            assert_eq!(reader.optional(Reader::int)?, Some(7));
            assert_eq!(reader.optional(Reader::int)?, None);
            reader.0.is_empty().then_some(())
        };
        assert_eq!(read(&bytes), Some(()));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None);
        }
        assert_eq!(Reader(&[0xff; 12]).int(), None);
        assert_eq!(Reader(&[0xfe, 0xff, 0x03]).count(), None, "more than there is");
    }
}
