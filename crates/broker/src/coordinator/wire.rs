//! The pieces that records of `__consumer_offsets` are made of: texts and bytes with a fixed or a compact length.
//!
//! Whatever is read may be cut anywhere: each piece is there in full, or `None`.

use bytes::{Buf, BufMut, Bytes};

/// A 16-bit length and the text; longer texts cannot come in by a request.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
    bytes.extend_from_slice(&text.as_bytes()[..text.len().min(32_767)]);
}

pub(super) fn take_text(bytes: &mut &[u8]) -> Option<String> {
    take_maybe_text(bytes)?
}

/// As a text; the length -1 stands for none.
pub(super) fn put_maybe_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => put_text(bytes, text),
        None => bytes.put_i16(-1),
    }
}

#[expect(clippy::option_option, reason = "cut short and absent are two different things")]
pub(super) fn take_maybe_text(bytes: &mut &[u8]) -> Option<Option<String>> {
    let length = bytes.try_get_i16().ok()?;
    if length == -1 {
        return Some(None);
    }
    let text = take(bytes, usize::try_from(length).ok()?)?;
    String::from_utf8(text.to_vec()).ok().map(Some)
}

/// A 32-bit length and the bytes.
pub(super) fn put_blob(bytes: &mut Vec<u8>, blob: &[u8]) {
    bytes.put_i32(i32::try_from(blob.len()).unwrap_or(i32::MAX)); // a frame is far shorter
    bytes.extend_from_slice(blob);
}

pub(super) fn take_blob(bytes: &mut &[u8]) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
    take(bytes, length).map(Bytes::copy_from_slice)
}

/// An unsigned number of variable length, as compact lengths are written.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        bytes.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.put_u8((number & 0x7f) as u8);
}

pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        number |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// How many elements follow, as a compact array says it.
pub(super) fn put_count(bytes: &mut Vec<u8>, count: usize) {
    put_varint(bytes, u32::try_from(count).unwrap_or(u32::MAX - 1) + 1);
}

/// Never more than bytes are left: an element has one byte at least.
pub(super) fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    let count = usize::try_from(take_varint(bytes)?.checked_sub(1)?).ok()?;
    (count <= bytes.len()).then_some(count)
}

/// A compact text; none has the length 0.
pub(super) fn put_compact_text(bytes: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => {
            put_count(bytes, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
        None => put_varint(bytes, 0),
    }
}

#[expect(clippy::option_option, reason = "cut short and absent are two different things")]
pub(super) fn take_compact_text(bytes: &mut &[u8]) -> Option<Option<String>> {
    let Some(length) = take_varint(bytes)?.checked_sub(1) else { return Some(None) };
    let text = take(bytes, usize::try_from(length).ok()?)?;
    String::from_utf8(text.to_vec()).ok().map(Some)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_variable_length_come_back() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u32::MAX - 1, u32::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            assert_eq!(take_varint(&mut bytes.as_slice()), Some(number));
        }
        assert_eq!(take_varint(&mut [0xff; 6].as_slice()), None);
        assert_eq!(take_count(&mut [0xff, 0xff, 0xff, 0x7f, 0].as_slice()), None, "more elements than bytes");
    }
}
