//! The router's memory on disk: a file of changes, each step of the router one line that counts as a whole or not at all.
//!
//! ```text
//! 8f3a01c2 [["items","chat/00000000000000000007",{...}],["places","3",42]]
//! ^ CRC-32C of what follows the space, up to the end of the line
//! ```
//!
//! A power cut leaves at most a torn last line, which is cut off at the next start. The file is written anew, beside and then
//! renamed, at every start and when it has grown.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use super::kept::Change;
use super::state::State;

/// The file is written anew when it is larger than this, and than twice what it holds.
const REWRITE_BYTES: u64 = 4 * 1024 * 1024;
/// A longer line is no line of ours.
const LINE_MAX: usize = 256 * 1024 * 1024;

/// Why the memory cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the router's memory in {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the router's memory in {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is in use by another process", path.display())]
    InUse { path: PathBuf },
}

/// An open journal; one process at a time has it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Bytes right after the file was written anew.
    base: u64,
    /// The last write failed somewhere; the end of the file is not known.
    torn: bool,
    /// Held as long as this lives.
    _lock: File,
}

impl Journal {
    /// Opens or creates the file and gives back what it holds.
    pub fn open(path: &Path) -> Result<(Self, State), Error> {
        let write_failed = |source| Error::Write { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(write_failed)?;
        }
        let lock = File::create(sibling(path, "lock")).map_err(write_failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(Error::InUse { path: path.to_owned() }),
            Err(fs::TryLockError::Error(source)) => return Err(write_failed(source)),
        }
        let state = read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let (file, bytes) = rewrite(path, &state).map_err(write_failed)?;
        Ok((Self { path: path.to_owned(), file, bytes, base: bytes, torn: false, _lock: lock }, state))
    }

    /// Writes one step; durable when this returns. After an error the step may be written again.
    pub fn append(&mut self, changes: &[Change], state: &State) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        let has_grown = self.bytes > REWRITE_BYTES && self.bytes > 2 * self.base;
        if self.torn || has_grown {
            let (file, bytes) = rewrite(&self.path, state).map_err(|source| failed(&self.path, source))?;
            (self.file, self.bytes, self.base, self.torn) = (file, bytes, bytes, false);
            return Ok(()); // the state holds the changes
        }
        let line = line(changes).map_err(|source| failed(&self.path, source))?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.torn = true;
            return Err(failed(&self.path, source));
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn line(changes: &[Change]) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(changes)?;
    let mut line = format!("{:08x} ", crc32c::crc32c(&body)).into_bytes();
    line.extend_from_slice(&body);
    line.push(b'\n');
    Ok(line)
}

fn read(path: &Path) -> io::Result<State> {
    let mut state = State::default();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
        Err(error) => return Err(error),
    };
    let mut reader = BufReader::new(file);
    let (mut line, mut number) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(state);
        }
        number += 1;
        let Some(changes) = parse(&line) else { break };
        for change in changes {
            let (table, key) = (change.0.clone(), change.1.clone());
            if let Err(error) = state.apply(change) {
                tracing::error!(table, key, %error, "an entry of the router's memory is not understood and left out");
            }
        }
    }
    // what a power cut leaves is one torn line; anything behind it is damage, kept for a look
    let mut rest = Vec::new();
    reader.read_until(b'\n', &mut rest)?;
    if rest.is_empty() {
        tracing::warn!(line = number, "the last line of the router's memory was torn and is left out");
    } else {
        let damaged = sibling(path, "damaged");
        fs::copy(path, &damaged)?;
        tracing::error!(
            line = number,
            copy = %damaged.display(),
            "the router's memory is damaged, what follows this line is lost; alarms since then are told again"
        );
    }
    Ok(state)
}

fn parse(line: &[u8]) -> Option<Vec<Change>> {
    let line = line.strip_suffix(b"\n").filter(|line| line.len() <= LINE_MAX)?;
    let (crc, body) = line.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc.strip_suffix(b" ")?).ok()?, 16).ok()?;
    (crc == crc32c::crc32c(body)).then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Writes the whole state into a new file that takes the place of the old one.
fn rewrite(path: &Path, state: &State) -> io::Result<(File, u64)> {
    let new = sibling(path, "new");
    let mut file = File::create(&new)?;
    let mut bytes = 0;
    for part in state.all().chunks(1_000) {
        let line = line(part)?;
        bytes += line.len() as u64;
        file.write_all(&line)?;
    }
    file.sync_all()?;
    fs::rename(&new, path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, bytes))
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(journal: &mut Journal, state: &mut State, id: &str) {
        state.told.insert(id, 1);
        state.places.insert("0", i64::try_from(id.len()).unwrap());
        let changes = state.take_changes();
        journal.append(&changes, state).unwrap();
    }

    #[test]
    fn every_cut_leaves_whole_steps() {
        // RTE-02, RTE-03, F27
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("router.alerts");
        let (mut journal, mut state) = Journal::open(&path).unwrap();
        for id in ["a", "bb", "ccc"] {
            step(&mut journal, &mut state, id);
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let ends: Vec<usize> = (0..whole.len()).filter(|i| whole[*i] == b'\n').map(|i| i + 1).collect();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let steps = ends.iter().filter(|end| **end <= cut).count();
            let (_journal, state) = Journal::open(&path).unwrap();
            assert_eq!(state.told.len(), steps, "cut at {cut}");
            assert_eq!(state.places.get("0").copied().unwrap_or(0), i64::try_from(steps).unwrap(), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_byte_is_seen_and_the_file_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("router.alerts");
        let (mut journal, mut state) = Journal::open(&path).unwrap();
        for id in ["a", "bb", "ccc"] {
            step(&mut journal, &mut state, id);
        }
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x04;
            fs::write(&path, &flipped).unwrap();
            let (_journal, state) = Journal::open(&path).unwrap();
            assert!(state.told.len() < 3, "byte {at}");
        }
        assert!(sibling(&path, "damaged").exists());
    }

    #[test]
    fn one_process_has_it_and_it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("router.alerts");
        let (mut journal, mut state) = Journal::open(&path).unwrap();
        assert!(matches!(Journal::open(&path), Err(Error::InUse { .. })));
        let text = "x".repeat(64 * 1024);
        for i in 0..200 {
            state.letters.remove("letter");
            state.told.insert(format!("{text}{}", i % 2), i);
            let changes = state.take_changes();
            journal.append(&changes, &state).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() < 2 * REWRITE_BYTES);
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().1.told.len(), 2);
    }
}
