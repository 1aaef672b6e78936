//! Widths: memory sizes are `usize`, file positions `u64`. Two conversions that cannot fail where this code runs.

/// A memory size as a file size.
pub(crate) fn to_u64(size: usize) -> u64 {
    u64::try_from(size).expect("usize has at most 64 bits")
}

/// A file size as a memory size; only for sizes already bounded by a buffer or batch limit.
pub(crate) fn to_usize(size: u64) -> usize {
    usize::try_from(size).expect("bounded by a batch or buffer that fits into memory")
}
