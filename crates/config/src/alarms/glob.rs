//! Whether two globs can mean the same name.

use crate::rules::matches as glob;

/// True when some text matches both patterns; `*` stands for anything, also nothing.
pub(super) fn overlap(a: &str, b: &str) -> bool {
    match (a.contains('*'), b.contains('*')) {
        (false, false) => a == b,
        (true, false) => glob(a, b),
        (false, true) => glob(b, a),
        (true, true) => both_open(a.as_bytes(), b.as_bytes()),
    }
}

/// True when `pattern` surely matches everything that `other` matches. A "no" may be wrong, a "yes" is not.
pub(super) fn covers(pattern: &str, other: &str) -> bool {
    pattern == "*" || pattern == other || (!other.contains('*') && glob(pattern, other))
}

/// With a star in both, only what stands before the first stars and behind the last ones can contradict: whatever is
/// in between fits into the other one's star.
fn both_open(a: &[u8], b: &[u8]) -> bool {
    let agree = |a: &mut dyn Iterator<Item = &u8>, b: &mut dyn Iterator<Item = &u8>| {
        a.zip(b).take_while(|(x, y)| **x != b'*' && **y != b'*').all(|(x, y)| x == y)
    };
    agree(&mut a.iter(), &mut b.iter()) && agree(&mut a.iter().rev(), &mut b.iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_that_share_a_name() {
        // ALM-05: rules meet where their globs do
        for (a, b, shared) in [
            ("*", "*", true),
            ("pump_*", "*_07", true),
            ("pump_*", "press_*", false),
            ("*_hot", "*_cold", false),
            ("a*b", "ab*", true),
            ("a*c*e", "abcde", true),
            ("a*x*e", "abcde", false),
            ("a*b*c", "a*c*c", true),
            ("ab*", "b*", false),
            ("pump_07", "pump_07", true),
            ("pump_07", "pump_08", false),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (shared, shared), "{a} {b}");
        }
        assert!(covers("*", "a*") && covers("a*", "ab") && covers("a*", "a*") && !covers("ab", "a*"));
    }

    #[test]
    fn agrees_with_trying_every_short_name() {
        let alphabet = ["", "a", "b"];
        let mut names = Vec::new();
        for a in alphabet {
            for b in alphabet {
                for c in alphabet {
                    for d in alphabet {
                        for e in alphabet {
                            names.push([a, b, c, d, e].concat());
                        }
                    }
                }
            }
        }
        let patterns = ["*", "a*", "*a", "a*b", "*b*", "ab*a", "b*a", "a*a", "aa", "ba", "a*b*a", "*ab", "b*"];
        for a in patterns {
            for b in patterns {
                let shared = names.iter().any(|name| glob(a, name) && glob(b, name));
                assert_eq!(overlap(a, b), shared, "{a} {b}");
            }
        }
    }
}
