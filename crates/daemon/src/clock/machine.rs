//! The machine's own clocks: the one place that asks the kernel.

use std::sync::LazyLock;

use model::{Clock, SystemClock, Timestamp};

use super::{ClockSource, Kernel};

/// Names the time from one start of the machine to the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Tests put a process hours ahead with this variable, in seconds; builds for use do not know it.
const AHEAD_VARIABLE: &str = "SF_TEST_CLOCK_AHEAD_S";

static AHEAD_US: LazyLock<i64> = LazyLock::new(|| {
    let asked = if cfg!(debug_assertions) { std::env::var(AHEAD_VARIABLE).ok() } else { None };
    asked.and_then(|text| text.parse::<i64>().ok()).map_or(0, |seconds| seconds.saturating_mul(1_000_000))
});

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_micros(*AHEAD_US)
    }
}

impl ClockSource for MachineClock {
    fn boottime_us(&self) -> i64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
    }

    fn kernel(&self) -> Kernel {
        kernel().unwrap_or_default()
    }

    fn boot(&self) -> String {
        std::fs::read_to_string(BOOT_ID).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
    }
}

/// Asks without changing anything; `None` where the kernel does not answer, as in some sandboxes.
#[expect(unsafe_code, reason = "the kernel's word on synchronisation is to be had from adjtimex(2) alone")]
fn kernel() -> Option<Kernel> {
    // SAFETY: `timex` is plain numbers, for which all zeros are a value; `modes` zero asks and sets nothing, and the call
    // writes nothing but the structure, which lives until it returns.
    let (verdict, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    if verdict < 0 {
        return None;
    }
    let offset = timex.offset;
    let offset_us = if timex.status & libc::STA_NANO == 0 { offset } else { offset / 1000 };
    Some(Kernel {
        synced: verdict != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        offset_us,
        leap: (libc::TIME_INS..=libc::TIME_WAIT).contains(&verdict),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_answers() {
        let clock = MachineClock;
        let (first, second) = (clock.boottime_us(), clock.boottime_us());
        assert!(0 < first && first <= second);
        assert!(kernel().is_some(), "asking needs no privilege");
        assert_eq!(clock.boot(), clock.boot());
    }
}
