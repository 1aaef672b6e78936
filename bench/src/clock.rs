//! The clock of the measurements: monotonic, read at the rim of a slice and nowhere else.

use std::time::{Duration, Instant};

/// The moment, for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "a measurement needs the real clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Asks until there is an answer; false when `timeout` came first.
pub fn wait_until(timeout: Duration, every: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = now() + timeout;
    while !done() {
        if now() >= deadline {
            return false;
        }
        std::thread::sleep(every);
    }
    true
}
