//! The binary `COPY` format of PostgreSQL, written straight into a buffer that is used again.
//!
//! Pure bytes: a header, then rows of a field count and length-prefixed fields, then a trailer. Lengths that are known
//! only afterwards are patched in.

use bytes::{BufMut, BytesMut};
use model::{TextList, TextMap, Timestamp};

/// Signature, flags and the length of an empty header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// 2000-01-01 in microseconds since 1970: the zero of PostgreSQL's timestamps.
const POSTGRES_EPOCH_MICROS: i64 = Timestamp::YEAR_2000.as_micros();
/// Object id of the type `text`.
const TEXT_OID: i32 = 25;
/// Length of a field that is NULL.
const NULL: i32 = -1;

/// Begins the data of a `COPY`.
pub fn header(out: &mut BytesMut) {
    out.put_slice(HEADER);
}

/// Ends the data of a `COPY`.
pub fn trailer(out: &mut BytesMut) {
    out.put_i16(-1);
}

/// Begins a row.
pub fn row(out: &mut BytesMut, fields: i16) {
    out.put_i16(fields);
}

pub fn null(out: &mut BytesMut) {
    out.put_i32(NULL);
}

/// `timestamptz`; beyond the range of the type the row is refused by the database.
pub fn time(out: &mut BytesMut, time: Timestamp) {
    // the smallest number would mean -infinity
    let micros = time.as_micros().saturating_sub(POSTGRES_EPOCH_MICROS).max(i64::MIN + 1);
    out.put_i32(8);
    out.put_i64(micros);
}

/// `bigint`.
pub fn bigint(out: &mut BytesMut, number: i64) {
    out.put_i32(8);
    out.put_i64(number);
}

/// `double precision`.
pub fn double(out: &mut BytesMut, number: f64) {
    out.put_i32(8);
    out.put_f64(number);
}

/// `boolean`.
pub fn boolean(out: &mut BytesMut, truth: bool) {
    out.put_i32(1);
    out.put_u8(u8::from(truth));
}

/// `text`.
pub fn text(out: &mut BytesMut, text: &str) {
    out.put_i32(length(text.len()));
    out.put_slice(text.as_bytes());
}

/// `text`, or NULL.
pub fn optional_text(out: &mut BytesMut, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => null(out),
    }
}

/// `text[]`, or NULL where the list is empty.
pub fn texts(out: &mut BytesMut, list: TextList<'_>) {
    if list.is_empty() {
        null(out);
        return;
    }
    let begin = open(out);
    out.put_i32(1); // dimensions
    out.put_i32(0); // no NULL among the elements
    out.put_i32(TEXT_OID);
    let count_at = out.len();
    out.put_i32(0);
    out.put_i32(1); // the first index
    let mut count = 0;
    for item in list.iter() {
        text(out, item);
        count += 1;
    }
    patch(out, count_at, count);
    close(out, begin);
}

/// `jsonb` object of texts, or NULL where the map is empty.
pub fn json(out: &mut BytesMut, map: TextMap<'_>) {
    let mut pairs = map.iter().peekable();
    if pairs.peek().is_none() {
        null(out);
        return;
    }
    let begin = open(out);
    out.put_u8(1); // version of the binary form
    let mut before = b'{';
    for (key, value) in pairs {
        out.put_u8(before);
        json_text(out, key);
        out.put_u8(b':');
        json_text(out, value);
        before = b',';
    }
    out.put_u8(b'}');
    close(out, begin);
}

/// `jsonb` object of whole numbers, or NULL where there is none.
pub fn json_numbers<'a>(out: &mut BytesMut, pairs: impl Iterator<Item = (&'a str, i64)>) {
    let mut pairs = pairs.peekable();
    if pairs.peek().is_none() {
        null(out);
        return;
    }
    let begin = open(out);
    out.put_u8(1); // version of the binary form
    let mut before = b'{';
    for (key, value) in pairs {
        out.put_u8(before);
        json_text(out, key);
        out.put_u8(b':');
        out.put_slice(value.to_string().as_bytes());
        before = b',';
    }
    out.put_u8(b'}');
    close(out, begin);
}

fn json_text(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.put_slice(&[b'\\', byte]),
            0..0x20 => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                out.put_slice(&[b'\\', b'u', b'0', b'0', DIGITS[high], DIGITS[low]]);
            }
            _ => out.put_u8(byte),
        }
    }
    out.put_u8(b'"');
}

/// Leaves room for a length and returns where.
fn open(out: &mut BytesMut) -> usize {
    out.put_i32(0);
    out.len()
}

fn close(out: &mut BytesMut, begin: usize) {
    let bytes = length(out.len() - begin);
    patch(out, begin - 4, bytes);
}

fn patch(out: &mut BytesMut, at: usize, number: i32) {
    out[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a field comes out of a record, which is far below 2 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    }

    #[test]
    fn fields_are_what_postgresql_documents() {
        assert_eq!(bytes(header), b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes(trailer), [0xff, 0xff]);
        assert_eq!(bytes(null), [0xff; 4]);
        assert_eq!(bytes(|o| text(o, "ab")), b"\0\0\0\x02ab");
        assert_eq!(bytes(|o| boolean(o, true)), [0, 0, 0, 1, 1]);
        assert_eq!(bytes(|o| double(o, 1.5)), [0, 0, 0, 8, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes(|o| bigint(o, -2)), [0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 254]);
        let one_second = Timestamp::YEAR_2000.plus_micros(1_000_000);
        assert_eq!(bytes(|o| time(o, one_second)), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40]);
    }

    #[test]
    fn arrays_and_json_patch_their_lengths() {
        assert_eq!(bytes(|o| texts(o, TextList::default())), [0xff; 4]);
        let expected = b"\0\0\0\x1b\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x02\0\0\0\x01";
        let array = bytes(|o| texts(o, TextList::Slice(&["a", "bc"])));
        assert_eq!(array[4..24], expected[4..]);
        assert_eq!(array[24..], *b"\0\0\0\x01a\0\0\0\x02bc");
        assert_eq!(array[..4], [0, 0, 0, 31]);
        let map = bytes(|o| json(o, TextMap::Slice(&[("k", "a\"b\\\n"), ("x", "ü")])));
        let text = "{\"k\":\"a\\\"b\\\\\\u000a\",\"x\":\"ü\"}";
        assert_eq!(usize::try_from(i32::from_be_bytes(map[..4].try_into().unwrap())).unwrap(), text.len() + 1);
        assert_eq!(map[4], 1);
        let numbers = bytes(|o| json_numbers(o, [("run", 5), ("idle", -1)].into_iter()));
        assert_eq!(numbers[4..], *b"\x01{\"run\":5,\"idle\":-1}");
        assert_eq!(bytes(|o| json_numbers(o, std::iter::empty())), [0xff; 4]);
        assert_eq!(std::str::from_utf8(&map[5..]).unwrap(), text);
    }
}
