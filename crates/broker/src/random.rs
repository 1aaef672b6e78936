//! Unguessable names: topic ids, member ids, the cluster id.
//!
//! The standard library seeds its hash keys from the operating system; hashing a counter under fresh keys gives
//! numbers that nobody outside can predict, which is all that is asked of them here.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

static COUNTER: AtomicU64 = AtomicU64::new(0);

fn number() -> u64 {
    RandomState::new().hash_one(COUNTER.fetch_add(1, Ordering::Relaxed))
}

/// 128 bits.
pub(crate) fn bits() -> u128 {
    (u128::from(number()) << 64) | u128::from(number())
}

/// A positive number.
pub(crate) fn positive() -> i32 {
    let low = number() & u64::from(i32::MAX.unsigned_abs());
    i32::try_from(low).map_or(1, |number| number.max(1))
}

/// A topic id: version 4 of the UUIDs, never nil.
pub(crate) fn topic_id() -> Uuid {
    uuid::Builder::from_random_bytes(bits().to_be_bytes()).into_uuid()
}

/// A member id that begins with what the client calls itself.
pub(crate) fn member_id(client_id: &str) -> String {
    let short: String = client_id.chars().take(64).collect();
    format!("{short}-{}", topic_id().hyphenated())
}
