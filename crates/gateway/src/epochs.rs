//! Start counters: every start of a component gets the next number, also over restarts of the runtime (REC-03).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use daemon::state_file;

/// The counters and their file.
#[derive(Debug)]
pub struct Epochs {
    file: PathBuf,
    counters: BTreeMap<String, i64>,
}

impl Epochs {
    /// Reads `<folder>/epochs.json`. When both copies are lost, counting begins at `floor` (for example the seconds
    /// since 1970), so that a number is never issued twice.
    pub fn open(folder: &Path, floor: i64) -> io::Result<Self> {
        let file = folder.join("epochs.json");
        let counters = match state_file::read(&file)? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None if file.exists() => BTreeMap::from([(FLOOR.to_owned(), floor)]),
            None => BTreeMap::new(),
        };
        Ok(Self { file, counters })
    }

    /// Issues the next number, durably, before it is used.
    pub fn next(&mut self, component: &str) -> io::Result<i64> {
        let floor = self.counters.get(FLOOR).copied().unwrap_or(0);
        let counter = self.counters.entry(component.to_owned()).or_insert(floor);
        *counter += 1;
        let issued = *counter;
        state_file::write(&self.file, &serde_json::to_vec(&self.counters)?)?;
        Ok(issued)
    }
}

/// Not a component's name: names cannot begin with a colon.
const FLOOR: &str = ":floor";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_issued_twice() {
        let dir = std::env::temp_dir().join(format!("sf-epochs-{}", std::process::id()));
        let mut epochs = Epochs::open(&dir, 1_000).unwrap();
        assert_eq!((epochs.next("a").unwrap(), epochs.next("a").unwrap(), epochs.next("b").unwrap()), (1, 2, 1));
        let mut again = Epochs::open(&dir, 1_000).unwrap();
        assert_eq!(again.next("a").unwrap(), 3);
        for name in ["epochs.json", "epochs.json.previous"] {
            std::fs::write(dir.join(name), b"rubbish").unwrap();
        }
        let mut lost = Epochs::open(&dir, 1_000).unwrap();
        assert_eq!(lost.next("a").unwrap(), 1_001);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
