//! The section `clock`: how far the gateway trusts the machine's clock (OFF-01, OFF-04).
//!
//! ```yaml
//! clock: { assume_synced: false, boot_hold_s: 60 }
//! ```

use serde_json::Value;

use crate::{Object, Problem};

/// Longest wait for the clock after a start, in seconds; readings are not to be kept from the stream for longer.
pub const BOOT_HOLD_MAX_S: i64 = 3600;
/// The wait when nothing is set, in seconds.
const BOOT_HOLD_S: u32 = 60;

/// As read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSettings {
    /// Somebody else keeps the time where the gateway cannot see it, for example the host of a virtual machine: the state
    /// is always SYNCED.
    pub assume_synced: bool,
    /// How long readings wait after the start of an adapter for a clock that is not set, in seconds; 0 is not at all.
    pub boot_hold_s: u32,
}

impl Default for ClockSettings {
    fn default() -> Self {
        Self { assume_synced: false, boot_hold_s: BOOT_HOLD_S }
    }
}

impl ClockSettings {
    /// Reads the section, which stands at `pointer` of the document.
    pub fn read(value: &Value, pointer: &str) -> (Self, Vec<Problem>) {
        let mut object = Object::new(value, pointer);
        let default = Self::default();
        let hold = object.integer("boot_hold_s", 0, BOOT_HOLD_MAX_S).and_then(|seconds| u32::try_from(seconds).ok());
        let settings = Self {
            assume_synced: object.boolean("assume_synced").unwrap_or(default.assume_synced),
            boot_hold_s: hold.unwrap_or(default.boot_hold_s),
        };
        (settings, object.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // OFF-04
    #[test]
    fn the_section_is_read_and_checked() {
        let read = |value: Value| ClockSettings::read(&value, "/clock");
        assert_eq!(read(json!({})), (ClockSettings { assume_synced: false, boot_hold_s: 60 }, Vec::new()));
        let set = read(json!({"assume_synced": true, "boot_hold_s": 0}));
        assert_eq!(set, (ClockSettings { assume_synced: true, boot_hold_s: 0 }, Vec::new()));
        let (_, problems) = read(json!({"assume_synced": 1, "boot_hold_s": 3601, "ntp": []}));
        let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/clock/boot_hold_s", "/clock/assume_synced", "/clock/ntp"]);
    }
}
