//! Which numbers of a long row were seen: bitmaps in pieces, where a piece that is full costs nothing.
//!
//! Sequence numbers and offsets are nearly without holes, so memory is a few KiB however long the row is; what is
//! scattered on purpose meets [`PIECES_MAX`].

use std::collections::BTreeMap;

/// Numbers of one piece.
const PIECE: i64 = 8192;
const WORDS: usize = 128;
/// Pieces that are held at a time over all rows, 1 KiB each; beyond, the command refuses and asks for a shorter range.
pub(super) const PIECES_MAX: usize = 400_000;

/// A set of numbers from 0 on.
#[derive(Debug, Default, Clone)]
pub(super) struct Marks {
    pieces: BTreeMap<i64, Piece>,
}

#[derive(Debug, Clone)]
enum Piece {
    Full,
    Part { bits: Box<[u64; WORDS]>, count: i64 },
}

/// Where a number is kept; `None` for a negative one.
fn place(number: i64) -> Option<(i64, usize, u64)> {
    let within = usize::try_from(number.checked_rem(PIECE)?).ok()?;
    Some((number / PIECE, within / 64, 1 << (within % 64)))
}

impl Marks {
    /// Sets a mark; false when it is there already, or the number is negative.
    pub(super) fn set(&mut self, number: i64) -> bool {
        let Some((piece, word, bit)) = place(number) else { return false };
        let empty = || Piece::Part { bits: Box::new([0; WORDS]), count: 0 };
        let entry = self.pieces.entry(piece).or_insert_with(empty);
        let Piece::Part { bits, count } = entry else { return false };
        if bits[word] & bit != 0 {
            return false;
        }
        bits[word] |= bit;
        *count += 1;
        if *count == PIECE {
            *entry = Piece::Full;
        }
        true
    }

    pub(super) fn has(&self, number: i64) -> bool {
        place(number).is_some_and(|(piece, word, bit)| match self.pieces.get(&piece) {
            None => false,
            Some(Piece::Full) => true,
            Some(Piece::Part { bits, .. }) => bits[word] & bit != 0,
        })
    }

    /// Pieces that take memory.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.values().filter(|piece| matches!(piece, Piece::Part { .. })).count()
    }

    /// Marks within `from..to`.
    pub(super) fn count_within(&self, from: i64, to: i64) -> u64 {
        (to - from).max(0).unsigned_abs() - self.holes(from, to).iter().map(Hole::count).sum::<u64>()
    }

    /// The ranges of `from..to` without a mark, in order.
    pub(super) fn holes(&self, from: i64, to: i64) -> Vec<Hole> {
        let mut holes: Vec<Hole> = Vec::new();
        let mut add = |from: i64, to: i64| match holes.last_mut() {
            _ if from >= to => {}
            Some(last) if last.to == from => last.to = to,
            _ => holes.push(Hole { from, to }),
        };
        let mut at = from.max(0);
        for (piece, held) in self.pieces.range(at / PIECE..) {
            let begin = piece * PIECE;
            if begin >= to {
                break;
            }
            add(at, begin.min(to));
            at = at.max(begin);
            let end = begin.saturating_add(PIECE).min(to);
            if let Piece::Part { bits, .. } = held {
                while at < end {
                    let Some((_, word, bit)) = place(at) else { break };
                    let rest = bits[word] >> bit.trailing_zeros();
                    let left = 64 - i64::from(bit.trailing_zeros());
                    let (run, marked) = match rest & 1 {
                        1 => (i64::from(rest.trailing_ones()), true),
                        _ => (i64::from(rest.trailing_zeros()), false),
                    };
                    let next = (at + run.min(left)).min(end);
                    if !marked {
                        add(at, next);
                    }
                    at = next;
                }
            }
            at = at.max(end);
        }
        add(at, to);
        holes
    }
}

/// Numbers that are missing: `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) from: i64,
    /// First number that is there again.
    pub(super) to: i64,
}

impl Hole {
    pub(super) fn count(&self) -> u64 {
        (self.to - self.from).max(0).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(marks: &Marks, from: i64, to: i64) -> Vec<(i64, i64)> {
        marks.holes(from, to).iter().map(|hole| (hole.from, hole.to)).collect()
    }

    #[test]
    fn holes_are_found_over_words_pieces_and_what_was_never_touched() {
        let mut marks = Marks::default();
        for number in (0..20_000).filter(|n| !(60..70).contains(n) && !(8190..8195).contains(n) && *n != 127) {
            assert!(marks.set(number));
        }
        marks.set(40_000);
        assert_eq!(ranges(&marks, 0, 20_000), [(60, 70), (127, 128), (8190, 8195)]);
        assert_eq!(ranges(&marks, 65, 67), [(65, 67)]);
        assert_eq!(ranges(&marks, 19_990, 40_010), [(20_000, 40_000), (40_001, 40_010)]);
        assert_eq!(ranges(&marks, 100_000, 100_002), [(100_000, 100_002)]);
        assert_eq!(marks.count_within(0, 128), 128 - 11);
        assert!(marks.has(59) && !marks.has(60) && !marks.has(-1));
        assert!(!marks.set(59), "it is there already");
        assert!(!marks.set(-5));
    }

    #[test]
    fn what_is_full_takes_no_memory() {
        let mut marks = Marks::default();
        for number in 0..PIECE * 20 {
            marks.set(number);
        }
        assert_eq!(marks.pieces(), 0);
        assert!(marks.has(PIECE * 20 - 1) && !marks.has(PIECE * 20));
        assert_eq!(ranges(&marks, 5, PIECE * 20), []);
    }
}
