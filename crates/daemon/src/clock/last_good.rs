//! The last-known-good time in a file, so that a machine without a battery clock does not begin in 1970 (OFF-03).
//!
//! Written every minute by the runtime, read at its start. With it goes what is known of the time since the machine
//! started, so that a restart of the gateway does not make a clock better than it is.

use std::io;
use std::path::Path;

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Life, Memory};
use crate::state_file;

/// Its name in the state folder.
pub const FILE: &str = "clock.json";

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// For people as for us.
    last_good: String,
    boot: String,
    begun_us: Option<i64>,
    synced_us: Option<i64>,
}

/// When this program was built.
pub fn built() -> Timestamp {
    let seconds: i64 = env!("SF_BUILT_S").parse().unwrap_or(0);
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

/// What the file in `folder` says; what it says of another start of the machine than `boot` is left out.
pub fn read(folder: &Path, boot: &str) -> io::Result<Memory> {
    let Some(bytes) = state_file::read(&folder.join(FILE))? else { return Ok(Memory::default()) };
    let saved: Saved = serde_json::from_slice(&bytes)?;
    let not_before_us = Timestamp::parse_rfc3339(&saved.last_good).map(Timestamp::as_micros);
    if saved.boot != boot {
        return Ok(Memory { not_before_us, ..Memory::default() });
    }
    Ok(Memory { not_before_us, begun_us: saved.begun_us, synced_us: saved.synced_us })
}

/// Writes what is known now. A clock that is not believed does not change the last good time.
pub fn write(folder: &Path, boot: &str, life: &Life) -> io::Result<()> {
    let memory = life.memory();
    let last_good = life.good_time().unwrap_or(life.not_before);
    let saved = Saved {
        last_good: last_good.to_string(),
        boot: boot.to_owned(),
        begun_us: memory.begun_us,
        synced_us: memory.synced_us,
    };
    state_file::write(&folder.join(FILE), &serde_json::to_vec(&saved)?)
}

#[cfg(test)]
mod tests {
    use model::ClockState;

    use super::super::state::{Kernel, Observation, Rules, next};
    use super::*;

    fn seen(wall: &str, boottime_s: i64, synced: bool) -> Observation {
        Observation {
            wall: Timestamp::parse_rfc3339(wall).unwrap(),
            boottime_us: boottime_s * 1_000_000,
            kernel: Kernel { synced, ..Kernel::default() },
        }
    }

    // OFF-03, OFF-31
    #[test]
    fn the_last_good_time_outlives_the_machine_and_the_rest_outlives_the_gateway() {
        let dir = std::env::temp_dir().join(format!("sf-clock-{}", std::process::id()));
        let rules = Rules { assume_synced: false, built: Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap() };
        assert_eq!(read(&dir, "first").unwrap(), Memory::default());
        let life = Life::begin(&rules, Memory::default(), seen("2026-05-01T00:00:00Z", 100, true));
        write(&dir, "first", &life).unwrap();
        let same = read(&dir, "first").unwrap();
        assert_eq!(same.not_before_us, Some(life.seen.wall.as_micros()));
        assert_eq!((same.begun_us, same.synced_us), (Some(100_000_000), Some(100_000_000)));
        let other = read(&dir, "second").unwrap();
        assert_eq!((other.not_before_us, other.begun_us, other.synced_us), (same.not_before_us, None, None));
        // booted without a battery clock: what is not believed is not written
        let life = Life::begin(&rules, other, seen("1970-01-01T00:00:10Z", 10, false));
        assert_eq!(life.state, ClockState::Unsynced);
        write(&dir, "second", &life).unwrap();
        assert_eq!(read(&dir, "second").unwrap().not_before_us, same.not_before_us);
        // a time server turns a last good time back that was written by a wrong clock
        let (life, changes) = next(life, &rules, seen("2026-04-01T00:00:00Z", 20, true));
        assert!(changes.rewound);
        write(&dir, "second", &life).unwrap();
        assert_eq!(read(&dir, "third").unwrap().not_before_us, Some(life.seen.wall.as_micros()));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
