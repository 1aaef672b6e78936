//! What was learned of the devices outlives the process in a small file (MB-17), for as long as the settings stay as
//! they are. A file that is missing, torn or of other settings is no error: it is learned again.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::config::Plan;
use super::lessons::Cut;

/// A larger file is not ours.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct File {
    /// Of the settings this was learned under.
    plan: String,
    groups: Vec<Vec<Cut>>,
}

/// Where it is kept, and for which settings.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    plan: String,
}

impl Memory {
    /// In a folder, for an adapter and its settings.
    pub fn new(folder: &Path, plan: &Plan) -> Self {
        let path = folder.join(format!("{}.modbus", plan.common.adapter_id));
        Self { path, plan: fingerprint(plan) }
    }

    /// What an earlier process learned under these settings.
    pub fn load(&self) -> Option<Vec<Vec<Cut>>> {
        let length = fs::metadata(&self.path).ok()?.len();
        if length > BYTES_MAX {
            return None;
        }
        let file: File = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (file.plan == self.plan).then_some(file.groups)
    }

    /// Keeps it; a half-written file never takes the place of a whole one.
    pub fn save(&self, groups: Vec<Vec<Cut>>) {
        let file = File { plan: self.plan.clone(), groups };
        let written = serde_json::to_vec(&file).map_err(io::Error::from).and_then(|bytes| {
            let new = self.path.with_extension("modbus.new");
            fs::write(&new, bytes)?;
            fs::rename(&new, &self.path)
        });
        if let Err(error) = written {
            tracing::warn!(%error, path = %self.path.display(), "what was learned of the device is lost at the next start");
        }
    }
}

/// Names everything that decides where requests may be cut.
fn fingerprint(plan: &Plan) -> String {
    /// FNV-1a, which gives the same number in every build.
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
            }
        }
    }
    let mut hash = Fnv(0xCBF2_9CE4_8422_2325);
    plan.connection.target().hash(&mut hash);
    for want in &plan.wants {
        (want.unit, want.table.function(), want.group, want.span.offset, want.span.count).hash(&mut hash);
    }
    let limits = &plan.limits;
    (limits.gap_max, limits.registers_max, limits.bits_max).hash(&mut hash);
    for range in &limits.no_read {
        (range.table.function(), range.span.offset, range.span.count).hash(&mut hash);
    }
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn memory(folder: &Path, address: &str) -> Memory {
        let settings = json!({"adapter_id": "a", "adapter_type": "modbus_tcp", "host": "plc", "asset_id": "press",
            "points": [{"parameter": "p", "address": address, "type": "int16"}]});
        Memory::new(folder, &super::super::config::plan(&settings, "").unwrap())
    }

    // MB-17
    #[test]
    fn kept_for_the_same_settings_only() {
        let folder = tempfile::tempdir().unwrap();
        let kept = vec![vec![(vec![0], true)]];
        assert_eq!(memory(folder.path(), "40001").load(), None);
        memory(folder.path(), "40001").save(kept.clone());
        assert_eq!(memory(folder.path(), "40001").load(), Some(kept));
        assert_eq!(memory(folder.path(), "40002").load(), None);
        fs::write(folder.path().join("a.modbus"), b"{\"plan\":").unwrap();
        assert_eq!(memory(folder.path(), "40001").load(), None);
    }
}
