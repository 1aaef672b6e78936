//! How measured values move: waves, noise, machine cycles, and a sensor that fails in known ways.
//!
//! All pure functions of a [`Moment`]; noise is a hash of the moment, not a random number.

/// Time since the plant started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    ms: u64,
}

impl Moment {
    /// A number of milliseconds after the start.
    pub const fn at_ms(ms: u64) -> Self {
        Self { ms }
    }

    /// So many milliseconds before; never before the start.
    #[must_use]
    pub const fn earlier(self, ms: u64) -> Self {
        Self { ms: self.ms.saturating_sub(ms) }
    }

    /// Seconds since the start.
    pub fn seconds(self) -> f64 {
        let whole = u32::try_from(self.ms / 1000).unwrap_or(u32::MAX);
        let rest = u32::try_from(self.ms % 1000).unwrap_or_default();
        f64::from(whole) + f64::from(rest) / 1000.0
    }

    /// Seconds since the current turn of a cycle began.
    pub fn within(self, cycle_s: u32) -> f64 {
        Self::at_ms(self.ms % (u64::from(cycle_s) * 1000)).seconds()
    }

    /// Whole turns of a cycle so far.
    pub fn turns(self, cycle_s: u32) -> f64 {
        f64::from(u32::try_from(self.ms / (u64::from(cycle_s) * 1000)).unwrap_or(u32::MAX))
    }

    /// A sine between -1 and 1.
    pub fn wave(self, period_s: f64, phase: f64) -> f64 {
        (std::f64::consts::TAU * self.seconds() / period_s + phase).sin()
    }

    /// Between -1 and 1, another value every 100 ms; `seed` keeps tags apart.
    pub fn noise(self, seed: u64) -> f64 {
        let mut bits = (self.ms / 100).wrapping_add(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let top = u32::try_from(bits >> 32).unwrap_or_default();
        f64::from(top) / f64::from(u32::MAX) * 2.0 - 1.0
    }

    /// Climbs from 0 towards 1 after the start, as warm machines do; 0.63 after `time_constant_s`.
    pub fn warm_up(self, time_constant_s: f64) -> f64 {
        1.0 - (-self.seconds() / time_constant_s).exp()
    }

    /// The moment this many seconds into the same turn of a cycle.
    fn held_at(self, cycle_s: u32, second: u32) -> Self {
        let cycle_ms = u64::from(cycle_s) * 1000;
        Self::at_ms(self.ms - self.ms % cycle_ms + u64::from(second) * 1000)
    }
}

/// When a failing sensor does what, in seconds of its own cycle; from inclusive, to exclusive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    pub(super) cycle_s: u32,
    pub(super) spike: (u32, u32),
    /// Added during the spike.
    pub(super) spike_by: f64,
    pub(super) frozen: (u32, u32),
    pub(super) out_of_range: (u32, u32),
    /// Shown while out of range.
    pub(super) out_of_range_value: f64,
    pub(super) not_a_number: (u32, u32),
}

impl Trouble {
    /// What the failing sensor shows of an honest signal.
    pub(super) fn show(&self, now: Moment, honest: fn(Moment) -> f64) -> f64 {
        let second = now.within(self.cycle_s);
        let during = |(from, to): (u32, u32)| second >= f64::from(from) && second < f64::from(to);
        if during(self.spike) {
            return honest(now) + self.spike_by;
        }
        if during(self.frozen) {
            return honest(now.held_at(self.cycle_s, self.frozen.0));
        }
        if during(self.out_of_range) {
            return self.out_of_range_value;
        }
        if during(self.not_a_number) {
            return f64::NAN;
        }
        honest(now)
    }
}

/// The press makes one part in this time.
pub(super) const PRESS_CYCLE_S: u32 = 12;

/// Part of the press cycle: 0 waiting, 1 closing, 2 pressing, 3 opening.
pub(super) fn press_phase(now: Moment) -> f64 {
    match now.within(PRESS_CYCLE_S) {
        second if second < 2.0 => 0.0,
        second if second < 5.0 => 1.0,
        second if second < 9.0 => 2.0,
        _ => 3.0,
    }
}

/// How far the press is closed, 0 to 1.
pub(super) fn press_stroke(now: Moment) -> f64 {
    let second = now.within(PRESS_CYCLE_S);
    let closing = ((second - 2.0) / 3.0).clamp(0.0, 1.0);
    let opening = ((second - 9.0) / 3.0).clamp(0.0, 1.0);
    let smooth = |x: f64| x * x * (3.0 - 2.0 * x);
    smooth(closing) - smooth(opening)
}

/// How hard it presses, 0 to 1.
pub(super) fn press_load(now: Moment) -> f64 {
    let second = now.within(PRESS_CYCLE_S);
    ((second - 5.0) / 1.0).clamp(0.0, 1.0) - ((second - 8.5) / 0.5).clamp(0.0, 1.0)
}

/// Load of the boiler, 0 to 1: a slow day with small swings.
pub(super) fn boiler_load(now: Moment) -> f64 {
    0.62 + 0.18 * now.wave(900.0, 0.3) + 0.05 * now.wave(70.0, 1.0) + 0.005 * now.noise(7)
}

/// Speed of the pump as part of its nominal 2950 per minute.
pub(super) fn pump_speed(now: Moment) -> f64 {
    0.92 + 0.05 * now.wave(240.0, 0.0) + 0.01 * now.wave(31.0, 2.0)
}
