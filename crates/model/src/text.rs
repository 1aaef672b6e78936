//! Lists and maps of short texts that travel through the data path without being copied.
//!
//! A decoded reading keeps them *packed*: exactly the bytes of an Avro array or map (blocks of a zigzag count and
//! length-prefixed UTF-8, closed by a zero block). A stage that does not touch them hands the same bytes on. The decoder
//! in `stream` checks every length and the UTF-8 before it makes a packed value, so the iterators here end at the first
//! thing that does not parse instead of failing.

/// A list of texts, for example `reasons` or `flags`.
#[derive(Debug, Clone, Copy)]
pub enum TextList<'a> {
    /// Written by us: plain slices.
    Slice(&'a [&'a str]),
    /// Read from the stream: the bytes of an Avro array of strings.
    Packed(&'a [u8]),
}

/// A map of texts, for example `metadata` or `tags`. Order is kept, keys are expected to be distinct.
#[derive(Debug, Clone, Copy)]
pub enum TextMap<'a> {
    /// Written by us: plain pairs.
    Slice(&'a [(&'a str, &'a str)]),
    /// Read from the stream, or prepared once per tag: the bytes of an Avro map of strings.
    Packed(&'a [u8]),
}

impl Default for TextList<'_> {
    fn default() -> Self {
        Self::Slice(&[])
    }
}

impl Default for TextMap<'_> {
    fn default() -> Self {
        Self::Slice(&[])
    }
}

impl<'a> TextList<'a> {
    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (slice, packed): (&'a [&'a str], &'a [u8]) = match *self {
            Self::Slice(slice) => (slice, &[]),
            Self::Packed(packed) => (&[], packed),
        };
        slice.iter().copied().chain(PackedTexts { rest: packed, left_in_block: 0, per_item: 1 })
    }

    /// True when there is no text.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// True when `text` is one of the list.
    pub fn contains(&self, text: &str) -> bool {
        self.iter().any(|item| item == text)
    }
}

impl<'a> TextMap<'a> {
    /// Key and value pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (slice, packed): (&'a [(&'a str, &'a str)], &'a [u8]) = match *self {
            Self::Slice(slice) => (slice, &[]),
            Self::Packed(packed) => (&[], packed),
        };
        let mut texts = PackedTexts { rest: packed, left_in_block: 0, per_item: 2 };
        slice.iter().copied().chain(std::iter::from_fn(move || Some((texts.next()?, texts.next()?))))
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Walks the texts of an Avro array (`per_item` 1) or map (`per_item` 2).
#[derive(Debug, Clone)]
struct PackedTexts<'a> {
    rest: &'a [u8],
    /// Texts, not items, still to come in the open block.
    left_in_block: u64,
    per_item: u64,
}

impl<'a> Iterator for PackedTexts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.left_in_block == 0 {
            let count = take_zigzag(&mut self.rest)?;
            if count == 0 {
                self.rest = &[];
                return None;
            }
            if count < 0 {
                take_zigzag(&mut self.rest)?; // a negative count is followed by the block's size in bytes
            }
            self.left_in_block = count.unsigned_abs().checked_mul(self.per_item)?;
        }
        let length = usize::try_from(take_zigzag(&mut self.rest)?).ok()?;
        let (text, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        self.left_in_block -= 1;
        std::str::from_utf8(text).ok()
    }
}

/// Takes one zigzag varint (an Avro `long`) off the front of `bytes`; `None` when it is torn or longer than 64 bits.
pub fn take_zigzag(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw: u64 = 0;
    let mut shift = 0;
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Appends one zigzag varint (an Avro `long`).
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "raw is below 0x80 here")]
    out.push(raw as u8);
}

/// Packs pairs once, so that each record of a tag can carry them as ready bytes.
pub fn pack_map<'a>(pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = Vec::new();
    let count = i64::try_from(pairs.len()).expect("a map in memory has fewer than 2^63 entries");
    if count > 0 {
        put_zigzag(&mut out, count);
        for (key, value) in pairs {
            put_text(&mut out, key);
            put_text(&mut out, value);
        }
    }
    out.push(0);
    out
}

/// Appends one length-prefixed text (an Avro `string`).
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_zigzag(out, i64::try_from(text.len()).expect("a text in memory is shorter than 2^63 bytes"));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_round_trips_at_the_edges() {
        for value in [0, -1, 1, 63, 64, -64, -65, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_zigzag(&mut out, value);
            let mut rest = out.as_slice();
            assert_eq!(take_zigzag(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn packed_map_reads_like_its_pairs() {
        let pairs = [("adapter_id", "press"), ("note", "straße")];
        let packed = pack_map(pairs.iter().copied());
        let map = TextMap::Packed(&packed);
        assert_eq!(map.iter().collect::<Vec<_>>(), pairs);
        assert_eq!(map.get("note"), Some("straße"));
        assert_eq!(map.get("absent"), None);
    }

    #[test]
    fn torn_bytes_end_the_list_instead_of_failing() {
        let packed = pack_map([("key", "value")].into_iter());
        for cut in 0..packed.len() {
            assert!(TextMap::Packed(&packed[..cut]).iter().count() <= 1);
        }
        assert_eq!(TextList::Packed(&[0xff; 12]).iter().count(), 0);
    }
}
