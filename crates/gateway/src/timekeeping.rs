//! The runtime's part in the time: it remembers the last good one, hands it to its children, and says when the clock has
//! been astray for too long (OFF-01, OFF-03).
//!
//! The clock itself is not set here: that takes privileges, and the machine has programs for it. What must not run by a
//! wrong clock is kept from it instead: the broker deletes nothing for its age, and TLS does not begin.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::Document;
use daemon::clock::{Life, Settings, Watch, last_good};
use daemon::{Context, report};
use model::{ClockState, Health};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the last good time is written (OFF-03).
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Without a time server for longer than this, the gateway is DEGRADED (OFF-01), microseconds.
const ASTRAY_MAX_US: i64 = 15 * 60 * 1_000_000;

/// What the document says of the clock.
pub fn settings(document: &Document) -> Settings {
    let clock = document.clock;
    Settings { assume_synced: clock.assume_synced, boot_hold: Duration::from_secs(clock.boot_hold_s.into()) }
}

/// Looks at the clock for the first time, with what the state folder says of it.
pub fn begin(folder: &Path, ctx: &Context, document: &Document) -> Arc<Watch> {
    let source = Arc::clone(&ctx.clock_source);
    let memory = last_good::read(folder, &source.boot()).unwrap_or_else(|error| {
        tracing::error!(%error, folder = %folder.display(), "the last good time cannot be read");
        daemon::clock::Memory::default()
    });
    Arc::new(Watch::begin(source, settings(document), memory, &ctx.metrics))
}

/// Looks at the clock every second and writes the last good time every minute, until `stop` and once more then.
pub async fn run(watch: Arc<Watch>, folder: PathBuf, stop: CancellationToken) {
    let mut ticks = interval(daemon::clock::watch::LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut written: Option<Instant> = None;
    loop {
        let stopping = tokio::select! { // cancel-safe: both arms only wait
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let life = watch.look();
        if stopping || written.is_none_or(|at| at.elapsed() >= WRITE_EVERY) {
            written = Some(Instant::now());
            let (folder, boot) = (folder.clone(), watch.boot().to_owned());
            // the disk may take its time, the second must not
            let writing = tokio::task::spawn_blocking(move || last_good::write(&folder, &boot, &life));
            match writing.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the last good time cannot be written"),
                Err(error) => tracing::error!(error = %report(&error), "the last good time cannot be written"),
            }
        }
        if stopping {
            return;
        }
    }
}

/// What is wrong with the clock, if it is felt; with what to do.
pub fn complaint(life: &Life) -> Option<String> {
    const REMEDY: &str = "let a time server set it (timedatectl set-ntp true), or set it by hand";
    if !life.plausible {
        let (wall, not_before) = (life.seen.wall, life.not_before);
        return Some(format!(
            "the clock says {wall}, which cannot be right after {not_before}: nothing is deleted for its age; {REMEDY}"
        ));
    }
    let minutes = life.astray_us() / 60_000_000;
    (life.astray_us() >= ASTRAY_MAX_US && life.state != ClockState::Synced).then(|| {
        let state = life.state.as_str();
        format!(
            "the clock has not been seen SYNCED for {minutes} min and is {state}; {REMEDY}, or set clock.assume_synced \
            where the host keeps the time"
        )
    })
}

/// How much the clock takes from the gateway's health.
pub fn health(life: &Life) -> Health {
    if complaint(life).is_some() { Health::Degraded } else { Health::Healthy }
}

/// Waits until the clock can be right: before that every certificate is "not yet valid" (OFF-03, OFF-05).
pub async fn wait_until_plausible(watch: &Watch, stop: &CancellationToken, say: impl Fn(String)) {
    let mut said = false;
    while let Some(trouble) = Some(watch.life()).filter(|life| !life.plausible).and_then(|life| complaint(&life)) {
        if stop.is_cancelled() {
            return;
        }
        if !said {
            tracing::error!(trouble, "no TLS with such a clock: the stream is waited for");
            say(format!("clock fault, TLS is not begun: {trouble}"));
            said = true;
        }
        tokio::time::sleep(daemon::clock::watch::LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use daemon::clock::{Kernel, Memory, Observation, Rules, state::next};
    use model::Timestamp;

    use super::*;

    const MINUTE_US: i64 = 60_000_000;

    fn seen(minutes: i64, wall: &str) -> Observation {
        let wall = Timestamp::parse_rfc3339(wall).unwrap();
        let boottime_us = minutes * MINUTE_US;
        Observation { wall: wall.plus_micros(boottime_us), boottime_us, kernel: Kernel::default() }
    }

    // OFF-01
    #[test]
    fn a_clock_astray_for_a_quarter_of_an_hour_is_a_complaint_unless_it_is_assumed_right() {
        let built = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        for assume_synced in [false, true] {
            let rules = Rules { assume_synced, built };
            let begin = Life::begin(&rules, Memory::default(), seen(0, "2026-05-01T10:00:00Z"));
            assert_eq!(complaint(&begin), None);
            let at = |minutes| next(begin, &rules, seen(minutes, "2026-05-01T10:00:00Z")).0;
            assert_eq!(health(&at(14)), Health::Healthy);
            let later = complaint(&at(15));
            assert_eq!(later.is_some(), !assume_synced);
            if let Some(text) = later {
                assert!(text.contains("15 min and is HOLDOVER") && text.contains("assume_synced"), "{text}");
            }
        }
    }

    // OFF-03
    #[test]
    fn a_clock_in_1970_is_a_complaint_at_once() {
        let built = Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let rules = Rules { assume_synced: true, built };
        let life = Life::begin(&rules, Memory::default(), seen(0, "1970-01-01T00:00:00Z"));
        assert_eq!(health(&life), Health::Degraded);
        assert!(complaint(&life).unwrap().contains("nothing is deleted for its age"));
    }
}
