//! Duplicates: the same device time of a point told again (REC-16, VAL-22).
//!
//! Exact and bounded: the last 64 device times with their values. What was forgotten may pass twice; what is new is
//! never taken for old, hence no fingerprints here.

use model::{Quality, Value};

use crate::bytes::{Reader, Writer};

/// Device times remembered per point; when full the one remembered first is forgotten.
pub const REMEMBERED_MAX: usize = 64;
const REMEMBERED_MAX_U8: u8 = 64;

/// How a reading compares with what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    New,
    /// Same device time, value and quality: drop and count.
    Duplicate,
    /// Same device time, something else: keep both, mark this one.
    Conflict,
}

/// The newest readings of a point as they arrived, 16 bytes each: at a million points memory is what costs time.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    entries: Vec<Entry>,
    /// Texts by place, for points that have them.
    texts: Option<Box<Texts>>,
    /// Where the next one goes once the memory is full.
    next: u8,
}

#[derive(Debug, Clone, Default)]
struct Texts(Vec<Box<str>>);

/// Bits below the time in a stamp: three for the kind of value, two for the quality.
const MARK_BITS: u32 = 5;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Device time, kind of value and quality.
    stamp: i64,
    /// Exactly the value; for a text its place.
    bits: u64,
}

/// Time, kind and quality in one number; `None` for a time some nine thousand years away, which is not remembered.
fn stamp(time: i64, value: &Value<'_>, quality: Quality) -> Option<i64> {
    let kind = match value {
        Value::Null => 0,
        Value::Float(_) => 1,
        Value::Int(_) => 2,
        Value::Bool(_) => 3,
        Value::Text(_) => 4,
    };
    let quality = match quality {
        Quality::Good => 0,
        Quality::Suspect => 1,
        Quality::Uncertain => 2,
        Quality::Bad => 3,
    };
    let shifted = time << MARK_BITS;
    (shifted >> MARK_BITS == time).then_some(shifted | kind << 2 | quality)
}

/// All of a value but a text.
fn bits(value: &Value<'_>) -> u64 {
    match *value {
        Value::Null | Value::Text(_) => 0,
        Value::Float(number) => number.to_bits(),
        Value::Int(number) => number.cast_unsigned(),
        Value::Bool(truth) => u64::from(truth),
    }
}

impl Memory {
    /// Compares with what is remembered; `newest` is the newest device time of the point, in microseconds.
    #[inline]
    pub fn look(&self, newest: i64, time: i64, value: &Value<'_>, quality: Quality) -> Seen {
        if time > newest { Seen::New } else { self.search(time, value, quality) }
    }

    fn search(&self, time: i64, value: &Value<'_>, quality: Quality) -> Seen {
        let Some(stamp) = stamp(time, value, quality) else { return Seen::New };
        let mut seen = Seen::New;
        for (place, entry) in self.entries.iter().enumerate() {
            if entry.stamp >> MARK_BITS != time {
                continue;
            }
            let same_value = match value {
                Value::Text(text) => {
                    self.texts.as_ref().is_some_and(|texts| texts.0.get(place).is_some_and(|held| **held == **text))
                }
                _ => entry.bits == bits(value),
            };
            if entry.stamp == stamp && same_value {
                return Seen::Duplicate;
            }
            seen = Seen::Conflict;
        }
        seen
    }

    /// Remembers an accepted reading with the quality it arrived with.
    #[inline]
    pub fn remember(&mut self, time: i64, value: &Value<'_>, quality: Quality) {
        let Some(stamp) = stamp(time, value, quality) else { return };
        let entry = Entry { stamp, bits: bits(value) };
        let place = if self.entries.len() < REMEMBERED_MAX {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let place = usize::from(self.next);
            self.entries[place] = entry;
            self.next = (self.next + 1) % REMEMBERED_MAX_U8;
            place
        };
        if let Value::Text(text) = value {
            let texts = self.texts.get_or_insert_default();
            if texts.0.len() <= place {
                texts.0.resize_with(place + 1, Box::default);
            }
            texts.0[place] = (*text).into();
        }
    }

    /// Times as differences, values as they are.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.count(self.entries.len());
        writer.int(i64::from(self.next));
        let mut before = 0;
        for entry in &self.entries {
            writer.int(entry.stamp.wrapping_sub(before));
            before = entry.stamp;
            writer.int(entry.bits.swap_bytes().cast_signed()); // most floats end in zeros
        }
        let texts = self.texts.as_ref().map_or(&[][..], |texts| &texts.0[..]);
        writer.count(texts.len());
        for text in texts {
            writer.text(text);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let count = reader.count().filter(|count| *count <= REMEMBERED_MAX)?;
        let next = u8::try_from(reader.int()?).ok().filter(|next| *next < REMEMBERED_MAX_U8)?;
        let mut entries = Vec::with_capacity(count);
        let mut before = 0_i64;
        for _ in 0..count {
            before = before.wrapping_add(reader.int()?);
            entries.push(Entry { stamp: before, bits: reader.int()?.cast_unsigned().swap_bytes() });
        }
        let count = reader.count().filter(|count| *count <= REMEMBERED_MAX)?;
        let texts: Option<Vec<Box<str>>> = (0..count).map(|_| reader.text().map(Into::into)).collect();
        let texts = Some(texts?).filter(|texts| !texts.is_empty()).map(|texts| Box::new(Texts(texts)));
        Some(Self { entries, texts, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixty_fifth_pushes_the_first_out() {
        let mut memory = Memory::default();
        for time in 0..65 {
            memory.remember(time, &Value::Int(time), Quality::Good);
        }
        let look = |time: i64, value: i64| memory.look(64, time, &Value::Int(value), Quality::Good);
        assert_eq!(look(0, 0), Seen::New);
        assert_eq!(look(1, 1), Seen::Duplicate);
        assert_eq!(look(64, 64), Seen::Duplicate);
        assert_eq!(look(64, 65), Seen::Conflict);
    }

    #[test]
    fn texts_and_numbers_take_turns_in_one_memory() {
        let mut memory = Memory::default();
        let texts: Vec<String> = (0..200).map(|i| format!("batch {i}")).collect();
        for (time, text) in (0_i64..).zip(&texts) {
            let value = if time % 3 == 0 { Value::Int(time) } else { Value::Text(text) };
            memory.remember(time, &value, Quality::Good);
        }
        for time in 136..200 {
            let text = format!("batch {time}");
            let (told, other) = (Value::Text(&text), Value::Int(time));
            let (same, different) = if time % 3 == 0 { (other, told) } else { (told, other) };
            assert_eq!(memory.look(199, time, &same, Quality::Good), Seen::Duplicate, "{time}");
            assert_eq!(memory.look(199, time, &different, Quality::Good), Seen::Conflict, "{time}");
        }
        assert_eq!(memory.look(199, 135, &Value::Int(135), Quality::Good), Seen::New);
        let far = i64::MAX / 2;
        memory.remember(far, &Value::Int(1), Quality::Good);
        assert_eq!(memory.look(far, far, &Value::Int(1), Quality::Good), Seen::New, "never taken for old");
    }

    #[test]
    fn any_of_several_values_at_one_time_is_a_duplicate() {
        // AC-069
        let mut memory = Memory::default();
        memory.remember(5, &Value::Float(1.0), Quality::Good);
        memory.remember(5, &Value::Text("x"), Quality::Good);
        assert_eq!(memory.look(5, 5, &Value::Text("x"), Quality::Good), Seen::Duplicate);
        assert_eq!(memory.look(5, 5, &Value::Float(1.0), Quality::Good), Seen::Duplicate);
        assert_eq!(memory.look(5, 5, &Value::Float(1.0), Quality::Suspect), Seen::Conflict);
        assert_eq!(memory.look(5, 5, &Value::Int(1), Quality::Good), Seen::Conflict);
    }
}
