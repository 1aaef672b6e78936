//! Walks over a request before the codec decodes it, so that no length from the wire is believed.
//!
//! The codec reserves memory for as many array elements as a request claims to hold; eight bytes may claim billions.
//! The walk follows the request's outline (`shapes.rs`) and refuses a length that the bytes left cannot hold, and more
//! than [`ELEMENTS_MAX`] elements in all. It allocates nothing.
//! Invariant: it reads exactly the bytes that the codec will read, field by field; where the two could part ways
//! (a tagged field whose content is not as long as it says) the request is refused.

use super::Error;
use super::shapes::{Field, Kind, Shape};

/// Array elements and tagged fields in one request, all arrays together. A request beyond it is refused: decoding it
/// would take hundreds of megabytes for a frame of a few.
pub const ELEMENTS_MAX: usize = 100_000;

/// Longest name of a client in a request header that is still read; a longer one refuses the request.
const CLIENT_ID_BYTES_MAX: usize = 32_767;

/// A position in a request.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
    elements: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, elements: 0 }
    }

    /// Bytes not walked over yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Walks over a request header; `flexible` is header version 2.
    pub(super) fn header(&mut self, flexible: bool) -> Result<(), Error> {
        self.skip(2 + 2 + 4)?;
        let client_id = self.length(false, 2)?;
        if client_id > CLIENT_ID_BYTES_MAX {
            return Err(Error::Malformed { what: "the client id is too long" });
        }
        self.skip(client_id)?;
        if flexible { self.tags(0, &[]) } else { Ok(()) }
    }

    /// Walks over one structure in the given version of its request.
    pub(super) fn structure(&mut self, shape: &Shape, version: i16) -> Result<(), Error> {
        let flexible = version >= shape.flexible_since;
        for Field { first, last, kind } in shape.fields {
            if (*first..=*last).contains(&version) {
                self.field(*kind, version, flexible)?;
            }
        }
        if flexible { self.tags(version, shape.tags) } else { Ok(()) }
    }

    fn field(&mut self, kind: Kind, version: i16, flexible: bool) -> Result<(), Error> {
        match kind {
            Kind::Fixed(size) => self.skip(size),
            Kind::Text => {
                let length = self.length(flexible, 2)?;
                self.skip(length)
            }
            Kind::Blob => {
                let length = self.length(flexible, 4)?;
                self.skip(length)
            }
            Kind::Nested(shape) => self.structure(shape, version),
            // the codec takes every other byte for an absent one
            Kind::Optional(shape) => match self.take(1)? {
                [1] => self.structure(shape, version),
                _ => Ok(()),
            },
            Kind::Array(shape) => {
                for _ in 0..self.count(flexible)? {
                    self.structure(shape, version)?;
                }
                Ok(())
            }
            Kind::FixedArray(size) => {
                let count = self.count(flexible)?;
                self.skip(count.saturating_mul(size))
            }
            Kind::TextArray => {
                for _ in 0..self.count(flexible)? {
                    self.field(Kind::Text, version, flexible)?;
                }
                Ok(())
            }
        }
    }

    fn tags(&mut self, version: i16, known: &[(u32, i16, Kind)]) -> Result<(), Error> {
        let count = self.varint()?;
        self.claim(count)?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()?;
            if size > self.left() {
                return Err(Error::Truncated);
            }
            let Some((_, first, kind)) = known.iter().find(|(number, ..)| usize::try_from(*number) == Ok(tag)) else {
                self.skip(size)?;
                continue;
            };
            let expected = self.left() - size;
            if version < *first {
                return Err(Error::Malformed { what: "a tagged field came before its version" });
            }
            self.field(*kind, version, true)?;
            if self.left() != expected {
                return Err(Error::Malformed { what: "a tagged field is not as long as it says" });
            }
        }
        Ok(())
    }

    /// The number of elements of an array; null counts as none.
    fn count(&mut self, flexible: bool) -> Result<usize, Error> {
        let count = self.length(flexible, 4)?;
        self.claim(count)?;
        Ok(count)
    }

    /// Every element takes a byte at least, and all of them together are limited.
    fn claim(&mut self, count: usize) -> Result<(), Error> {
        if count > self.left() {
            return Err(Error::Truncated);
        }
        self.elements += count;
        if self.elements > ELEMENTS_MAX {
            return Err(Error::TooManyElements { limit: ELEMENTS_MAX });
        }
        Ok(())
    }

    /// A length: compact (value plus one, zero is null), or `width` bytes, where -1 is null. Null counts as zero.
    fn length(&mut self, flexible: bool, width: usize) -> Result<usize, Error> {
        if flexible {
            return Ok(self.varint()?.saturating_sub(1));
        }
        let bytes = self.take(width)?;
        let mut value = if bytes[0] & 0x80 == 0 { 0_i64 } else { -1 };
        for byte in bytes {
            value = (value << 8) | i64::from(*byte);
        }
        match value {
            -1 => Ok(0),
            length => usize::try_from(length).map_err(|_| Error::Malformed { what: "a length is negative" }),
        }
    }

    fn varint(&mut self) -> Result<usize, Error> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?[0];
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| Error::Truncated);
            }
        }
        Err(Error::Malformed { what: "a variable-length number does not end" })
    }

    fn skip(&mut self, size: usize) -> Result<(), Error> {
        self.take(size).map(|_| ())
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(size).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}
