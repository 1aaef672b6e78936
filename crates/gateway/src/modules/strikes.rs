//! A panic on one record is caught and counted; after three strikes the record is given up (F20).

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Tries before a record is given up.
const STRIKES: u32 = 3;

/// Calls `attempt` until it returns, up to three times; `None` when it panicked every time. `on_panic` is told of each.
///
/// The caller's cores change what they remember only at the end of a judgement, so a panic leaves them usable.
pub(super) fn guarded<T>(mut attempt: impl FnMut() -> T, mut on_panic: impl FnMut()) -> Option<T> {
    for _ in 0..STRIKES {
        match catch_unwind(AssertUnwindSafe(&mut attempt)) {
            Ok(result) => return Some(result),
            Err(_) => on_panic(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_panics_are_forgiven_and_three_are_not() {
        // F20
        let run = |panics: u32| {
            let (mut tries, mut caught) = (0, 0);
            let result = guarded(
                || {
                    tries += 1;
                    assert!(tries > panics, "made to panic");
                    tries
                },
                || caught += 1,
            );
            (result, caught)
        };
        assert_eq!(run(0), (Some(1), 0));
        assert_eq!(run(2), (Some(3), 2));
        assert_eq!(run(3), (None, 3));
    }
}
