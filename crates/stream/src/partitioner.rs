//! Key placement: the Java client's murmur2, so that every client in every language agrees where an asset lives (REC-10).

/// The partition of `key` among `partitions`.
pub fn partition_for(key: &[u8], partitions: i32) -> i32 {
    let positive = i64::from(murmur2(key) & 0x7fff_ffff);
    i32::try_from(positive % i64::from(partitions.max(1))).expect("a remainder is smaller than its divisor")
}

/// Murmur2 with the seed of the Java client.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[expect(clippy::cast_possible_truncation, reason = "the hash mixes in the low 32 bits of the length")]
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_placed_as_the_java_client_does() {
        // AC-063, REC-10
        assert_eq!(partition_for(b"line_1_sensor_01", 12), 10);
        assert_eq!(partition_for(b"vibration_sensor_01", 12), 6);
        assert_eq!(partition_for(b"pump_07", 12), 0);
    }
}
