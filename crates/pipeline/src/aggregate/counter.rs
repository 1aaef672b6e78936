//! What a counter counted between two readings (AGG-10).

/// One step of a counter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Counted(f64),
    /// It began anew: what it shows was counted since.
    Reset(f64),
    /// Faster than the plant can be: not counted.
    Refused,
}

/// Share of the modulus above which a counter is about to roll over, and below which it just did.
const ABOUT_TO_ROLL: f64 = 0.9;
const JUST_ROLLED: f64 = 0.1;

/// From `last` to `new` in `elapsed` microseconds; `rate` is the most that may be counted per microsecond.
pub(super) fn step(last: f64, new: f64, elapsed: f64, modulus: Option<f64>, rate: Option<f64>) -> Step {
    let rolled = modulus.filter(|modulus| last > ABOUT_TO_ROLL * modulus && new < JUST_ROLLED * modulus && new >= 0.0);
    let step = match rolled {
        Some(modulus) => Step::Counted(modulus - last + new),
        None if new >= last => Step::Counted(new - last),
        None => Step::Reset(new),
    };
    let (Step::Counted(delta) | Step::Reset(delta)) = step else { return step };
    // a billionth on top, so that exactly the fastest is not too fast for the arithmetic
    let too_fast = rate.is_some_and(|rate| delta > rate * elapsed * (1.0 + 1e-9));
    if too_fast { Step::Refused } else { step }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollover_reset_and_speed() {
        // AC-078, AGG-10
        let uint32 = Some(4_294_967_296.0);
        assert_eq!(step(4_294_967_290.0, 5.0, 1e6, uint32, None), Step::Counted(11.0));
        assert_eq!(step(1000.0, 3.0, 1e6, uint32, None), Step::Reset(3.0));
        assert_eq!(step(65_535.0, 0.0, 1e6, Some(65_536.0), None), Step::Counted(1.0));
        assert_eq!(step(99_990.0, 10.0, 1e6, Some(100_000.0), None), Step::Counted(20.0));
        assert_eq!(step(4_294_967_290.0, 5.0, 1e6, None, None), Step::Reset(5.0), "without a modulus it never rolls");
        assert_eq!(step(10.0, 20.0, 1e6, None, Some(10e-6)), Step::Counted(10.0));
        assert_eq!(step(10.0, 20.1, 1e6, None, Some(10e-6)), Step::Refused);
        assert_eq!(step(1000.0, 30.0, 1e6, None, Some(10e-6)), Step::Refused, "a reset can be too fast as well");
    }
}
