//! Payloads that are a fixed layout of bytes: each field has a place, a type and an end that comes first (MQ-14).
//!
//! Pure. A payload that is too short for a field is not padded: it is refused as a whole.

use ::config::Object;

use super::json::Scalar;

/// Data types.
pub const TYPES: [&str; 10] =
    ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"];

/// Where a field lies and what its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub offset: usize,
    kind: &'static str,
    is_little: bool,
    bit: Option<u8>,
}

impl Layout {
    /// Reads `at`, `data`, `endian` and `bit` of a field.
    pub fn read(object: &mut Object<'_>) -> Option<Self> {
        let offset = object.integer("at", 0, 1_048_576).and_then(|offset| usize::try_from(offset).ok());
        let kind = object.word("data", &TYPES);
        let is_little = object.word("endian", &["big", "little"]) == Some("little");
        let bit = object.integer("bit", 0, 63).and_then(|bit| u8::try_from(bit).ok());
        for key in ["at", "data"] {
            if object.value(key).is_none() {
                object.problem(key, "missing", "is missing", "");
            }
        }
        Some(Self { offset: offset?, kind: kind?, is_little, bit })
    }

    fn size(&self) -> usize {
        match self.kind {
            "uint8" | "int8" => 1,
            "uint16" | "int16" => 2,
            "uint32" | "int32" | "float32" => 4,
            _ => 8,
        }
    }

    /// What the bytes say; `None` when the payload ends before them.
    pub fn decode(&self, payload: &[u8]) -> Option<Scalar<'static>> {
        let size = self.size();
        let bytes = payload.get(self.offset..self.offset.checked_add(size)?)?;
        let mut raw = [0; 8];
        for (place, byte) in bytes.iter().enumerate() {
            raw[if self.is_little { size - 1 - place } else { place } + 8 - size] = *byte;
        }
        let bits = u64::from_be_bytes(raw);
        if let Some(bit) = self.bit {
            return Some(Scalar::Bool(bits >> bit & 1 == 1));
        }
        let shift = 64 - 8 * u32::try_from(size).unwrap_or(8);
        let signed = (bits << shift).cast_signed() >> shift;
        Some(match self.kind {
            "float32" => Scalar::Float(f32::from_bits(u32::try_from(bits).unwrap_or_default()).into()),
            "float64" => Scalar::Float(f64::from_bits(bits)),
            kind if kind.starts_with('i') => Scalar::Int(signed),
            _ => Scalar::Unsigned(bits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(
        kind: &'static str,
        offset: usize,
        is_little: bool,
        bit: Option<u8>,
        bytes: &[u8],
    ) -> Option<Scalar<'static>> {
        Layout { offset, kind, is_little, bit }.decode(bytes)
    }

    // MQ-14
    #[test]
    fn layouts() {
        let bytes = [0xFF, 0xA9, 0x42, 0xAA, 0xCC, 0xCD, 0, 1];
        assert_eq!(decode("int16", 0, false, None, &bytes), Some(Scalar::Int(-87)));
        assert_eq!(decode("uint16", 0, true, None, &bytes), Some(Scalar::Unsigned(0xA9FF)));
        assert_eq!(decode("float32", 2, false, None, &bytes), Some(Scalar::Float(f64::from(85.4_f32))));
        assert_eq!(decode("int8", 1, false, None, &bytes), Some(Scalar::Int(-87)));
        assert_eq!(decode("uint8", 7, false, Some(0), &bytes), Some(Scalar::Bool(true)));
        assert_eq!(decode("uint64", 0, false, None, &bytes), Some(Scalar::Unsigned(u64::from_be_bytes(bytes))));
        assert_eq!(decode("uint32", 5, false, None, &bytes), None);
        assert_eq!(decode("uint32", usize::MAX, false, None, &bytes), None);
    }
}
