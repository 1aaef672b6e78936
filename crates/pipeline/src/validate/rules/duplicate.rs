//! Duplicates: the same device time of a point told again (REC-16, VAL-22).
//!
//! Exact and bounded: the last 64 device times with their values. What was forgotten may pass twice; what is new is
//! never taken for old, hence no fingerprints here.

use model::{Quality, Value};

/// Device times remembered per point; when full the one remembered first is forgotten.
pub const REMEMBERED_MAX: usize = 64;

/// How a reading compares with what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    New,
    /// Same device time, value and quality: drop and count.
    Duplicate,
    /// Same device time, something else: keep both, mark this one.
    Conflict,
}

/// The newest readings of a point as they arrived.
#[derive(Debug, Default)]
pub struct Memory {
    times: Vec<i64>,
    held: Vec<Held>,
    /// Where the next one goes once the memory is full.
    next: usize,
}

#[derive(Debug, PartialEq)]
enum Held {
    Null(Quality),
    /// Bits, so that equal means identical.
    Float(Quality, u64),
    Int(Quality, i64),
    Bool(Quality, bool),
    Text(Quality, Box<str>),
}

impl Held {
    fn new(value: &Value<'_>, quality: Quality) -> Self {
        match *value {
            Value::Null => Self::Null(quality),
            Value::Float(number) => Self::Float(quality, number.to_bits()),
            Value::Int(number) => Self::Int(quality, number),
            Value::Bool(truth) => Self::Bool(quality, truth),
            Value::Text(text) => Self::Text(quality, text.into()),
        }
    }

    fn is(&self, value: &Value<'_>, quality: Quality) -> bool {
        match (self, value) {
            (Self::Null(held), Value::Null) => *held == quality,
            (Self::Float(held, bits), Value::Float(number)) => *held == quality && *bits == number.to_bits(),
            (Self::Int(held, old), Value::Int(number)) => *held == quality && old == number,
            (Self::Bool(held, old), Value::Bool(truth)) => *held == quality && old == truth,
            (Self::Text(held, old), Value::Text(text)) => *held == quality && **old == **text,
            _ => false,
        }
    }
}

impl Memory {
    /// Compares with what is remembered; `newest` is the newest device time of the point, in microseconds.
    pub fn look(&self, newest: i64, time: i64, value: &Value<'_>, quality: Quality) -> Seen {
        if time > newest {
            return Seen::New;
        }
        let mut seen = Seen::New;
        for (at, held) in self.times.iter().zip(&self.held) {
            if *at == time {
                if held.is(value, quality) {
                    return Seen::Duplicate;
                }
                seen = Seen::Conflict;
            }
        }
        seen
    }

    /// Remembers an accepted reading with the quality it arrived with.
    pub fn remember(&mut self, time: i64, value: &Value<'_>, quality: Quality) {
        let held = Held::new(value, quality);
        if self.times.len() < REMEMBERED_MAX {
            self.times.push(time);
            self.held.push(held);
            return;
        }
        self.times[self.next] = time;
        self.held[self.next] = held;
        self.next = (self.next + 1) % REMEMBERED_MAX;
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
