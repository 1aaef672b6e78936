//! Avro binary by hand for the data path: a checked cursor to read, small functions to write, Confluent framing.
//!
//! The `.avsc` files are the contract; tests compare this codec with the Avro library, record by record. Reading never
//! allocates and never panics on any bytes (G-08): lengths are checked against what is left before anything is taken.

use model::text::{put_text, put_zigzag, take_zigzag};
use model::{TextList, TextMap, Timestamp, Value};

/// Length of the Confluent header: a zero byte and the schema id, big-endian (REC-04).
pub const FRAME_LENGTH: usize = 5;

/// Why bytes are not a record of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("not in Confluent framing: the first byte is not zero or the header is torn")]
    Framing,
    #[error("torn inside field {field}")]
    Torn { field: &'static str },
    #[error("field {field} is not UTF-8")]
    NotUtf8 { field: &'static str },
    #[error("field {field} has branch or symbol {index}, which the schema does not know")]
    UnknownBranch { field: &'static str, index: i64 },
    #[error("field {field} is not finite")]
    NotFinite { field: &'static str },
    #[error("{bytes} bytes are left over behind the record")]
    LeftOver { bytes: usize },
}

/// Splits framing from body: the schema id and the Avro bytes.
pub fn unframe(payload: &[u8]) -> Result<(i32, &[u8]), DecodeError> {
    match payload {
        [0, a, b, c, d, body @ ..] => Ok((i32::from_be_bytes([*a, *b, *c, *d]), body)),
        _ => Err(DecodeError::Framing),
    }
}

/// Writes the framing.
pub fn put_frame(out: &mut Vec<u8>, schema_id: i32) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
}

/// A cursor over Avro bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Everything must have been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::LeftOver { bytes: self.rest.len() }) }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn long(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        take_zigzag(&mut self.rest).ok_or(DecodeError::Torn { field })
    }

    pub fn int(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        let value = self.long(field)?;
        i32::try_from(value).map_err(|_| DecodeError::UnknownBranch { field, index: value })
    }

    pub fn time(&mut self, field: &'static str) -> Result<Timestamp, DecodeError> {
        self.long(field).map(Timestamp::from_micros)
    }

    pub fn double(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk::<8>().ok_or(DecodeError::Torn { field })?;
        self.rest = rest;
        Ok(f64::from_le_bytes(*bytes))
    }

    pub fn boolean(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        let (byte, rest) = self.rest.split_first().ok_or(DecodeError::Torn { field })?;
        self.rest = rest;
        match byte {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::UnknownBranch { field, index: i64::from(*other) }),
        }
    }

    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.long(field)?).map_err(|_| DecodeError::Torn { field })?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Torn { field })?;
        self.rest = rest;
        Ok(bytes)
    }

    pub fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::NotUtf8 { field })
    }

    /// A `["null", T]` union: true when T follows.
    pub fn present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.long(field)? {
            0 => Ok(false),
            1 => Ok(true),
            index => Err(DecodeError::UnknownBranch { field, index }),
        }
    }

    pub fn optional_text(&mut self, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
        if self.present(field)? { self.text(field).map(Some) } else { Ok(None) }
    }

    pub fn optional_long(&mut self, field: &'static str) -> Result<Option<i64>, DecodeError> {
        if self.present(field)? { self.long(field).map(Some) } else { Ok(None) }
    }

    /// The value union `["null","double","long","boolean","string"]`; NaN and infinities are refused.
    pub fn value(&mut self, field: &'static str) -> Result<Value<'a>, DecodeError> {
        Ok(match self.long(field)? {
            0 => Value::Null,
            1 => match self.double(field)? {
                value if value.is_finite() => Value::Float(value),
                _ => return Err(DecodeError::NotFinite { field }),
            },
            2 => Value::Int(self.long(field)?),
            3 => Value::Bool(self.boolean(field)?),
            4 => Value::Text(self.text(field)?),
            index => return Err(DecodeError::UnknownBranch { field, index }),
        })
    }

    /// An array of strings, checked and kept packed.
    pub fn texts(&mut self, field: &'static str) -> Result<TextList<'a>, DecodeError> {
        self.packed(field, 1).map(TextList::Packed)
    }

    /// A map of strings, checked and kept packed.
    pub fn text_map(&mut self, field: &'static str) -> Result<TextMap<'a>, DecodeError> {
        self.packed(field, 2).map(TextMap::Packed)
    }

    /// An array of longs, checked and kept packed.
    pub fn longs(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let begin = self.rest;
        loop {
            let count = self.long(field)?;
            if count == 0 {
                return Ok(&begin[..begin.len() - self.rest.len()]);
            }
            if count < 0 {
                self.long(field)?; // size of the block in bytes
            }
            for _ in 0..count.unsigned_abs() {
                self.long(field)?;
            }
        }
    }

    /// A map of longs, checked and kept packed.
    pub fn long_map(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let begin = self.rest;
        loop {
            let count = self.long(field)?;
            if count == 0 {
                return Ok(&begin[..begin.len() - self.rest.len()]);
            }
            if count < 0 {
                self.long(field)?; // size of the block in bytes
            }
            for _ in 0..count.unsigned_abs() {
                self.text(field)?;
                self.long(field)?;
            }
        }
    }

    fn packed(&mut self, field: &'static str, texts_per_item: u64) -> Result<&'a [u8], DecodeError> {
        let begin = self.rest;
        loop {
            let count = self.long(field)?;
            if count == 0 {
                return Ok(&begin[..begin.len() - self.rest.len()]);
            }
            if count < 0 {
                self.long(field)?; // size of the block in bytes
            }
            // each text takes at least one byte, so a lying count ends at the end of the bytes
            for _ in 0..count.unsigned_abs().saturating_mul(texts_per_item) {
                self.text(field)?;
            }
        }
    }
}

pub fn put_long(out: &mut Vec<u8>, value: i64) {
    put_zigzag(out, value);
}

pub fn put_time(out: &mut Vec<u8>, value: Timestamp) {
    put_zigzag(out, value.as_micros());
}

pub fn put_double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn put_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_zigzag(out, i64::try_from(bytes.len()).expect("a slice is shorter than 2^63 bytes"));
    out.extend_from_slice(bytes);
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    put_text(out, text);
}

pub fn put_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        None => out.push(0),
        Some(text) => {
            out.push(2); // zigzag of branch 1
            put_text(out, text);
        }
    }
}

pub fn put_optional_long(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            put_zigzag(out, value);
        }
    }
}

/// Writes the value union. A float that is not finite is a bug of the caller and becomes null.
pub fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Float(number) if number.is_finite() => {
            out.push(2);
            put_double(out, number);
        }
        Value::Null | Value::Float(_) => out.push(0),
        Value::Int(number) => {
            out.push(4);
            put_zigzag(out, number);
        }
        Value::Bool(truth) => {
            out.push(6);
            put_boolean(out, truth);
        }
        Value::Text(text) => {
            out.push(8);
            put_text(out, text);
        }
    }
}

pub fn put_texts(out: &mut Vec<u8>, list: TextList<'_>) {
    match list {
        TextList::Packed(packed) => out.extend_from_slice(packed),
        TextList::Slice(texts) => {
            if !texts.is_empty() {
                put_zigzag(out, i64::try_from(texts.len()).expect("a slice is shorter than 2^63"));
                for text in texts {
                    put_text(out, text);
                }
            }
            out.push(0);
        }
    }
}

pub fn put_text_map(out: &mut Vec<u8>, map: TextMap<'_>) {
    match map {
        TextMap::Packed(packed) => out.extend_from_slice(packed),
        TextMap::Slice(pairs) => {
            if !pairs.is_empty() {
                put_zigzag(out, i64::try_from(pairs.len()).expect("a slice is shorter than 2^63"));
                for (key, value) in pairs {
                    put_text(out, key);
                    put_text(out, value);
                }
            }
            out.push(0);
        }
    }
}
