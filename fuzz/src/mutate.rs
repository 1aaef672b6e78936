//! Changing inputs: a few small changes at a time, so that most of what was well-formed stays so.

/// Small pseudo-random sequence (splitmix64); the same seed gives the same inputs.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 for an empty range.
    pub fn index(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.number() % end).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.number().to_le_bytes()[0]
    }
}

/// Numbers at which programs go wrong.
const EDGES: [i64; 12] =
    [0, 1, -1, 127, 128, 255, 65_535, 2_147_483_647, -2_147_483_648, 4_294_967_295, i64::MAX, i64::MIN];

/// `base` with one to four changes; `other` lends pieces.
pub(crate) fn changed(random: &mut Random, base: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = base.to_vec();
    for _ in 0..=random.index(4) {
        change(random, &mut bytes, other);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.index(bytes.len());
    match random.index(9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.index(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.byte();
            }
        }
        2 => overwrite(bytes, at, random),
        3 => bytes.truncate(at),
        4 => {
            let end = (at + 1 + random.index(40)).min(bytes.len());
            bytes.drain(at.min(end)..end);
        }
        5 => {
            let inserted: Vec<u8> = (0..=random.index(16)).map(|_| random.byte()).collect();
            bytes.splice(at..at, inserted);
        }
        6 => {
            let end = (at + 1 + random.index(200)).min(bytes.len());
            let piece = bytes[at.min(end)..end].to_vec();
            bytes.splice(at..at, piece);
        }
        7 => {
            let from = random.index(other.len());
            let to = (from + 1 + random.index(other.len())).min(other.len());
            bytes.splice(at..at, other[from.min(to)..to].iter().copied());
        }
        _ => bytes.extend(std::iter::repeat_n(if random.index(2) == 0 { 0 } else { random.byte() }, random.index(300))),
    }
}

/// An edge in one of the usual widths, over what stands there.
fn overwrite(bytes: &mut [u8], at: usize, random: &mut Random) {
    let number = EDGES[random.index(EDGES.len())].to_be_bytes();
    let width = [1, 2, 4, 8][random.index(4)];
    for (byte, new) in bytes.iter_mut().skip(at).zip(&number[8 - width..]) {
        *byte = *new;
    }
}
