//! A ring of log files, capped in bytes: the newest lines are kept, the oldest go (the document's 100 MB).

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One file of the ring.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Files of the ring; the oldest is removed when a new one begins.
const FILES_MAX: u32 = 10;

/// Writes lines to `<folder>/streamforge.jsonl`, `.1` being the file before and so on.
#[derive(Debug)]
pub struct RingFile {
    folder: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl RingFile {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, bytes: 0 }
    }

    fn path(&self, index: u32) -> PathBuf {
        if index == 0 {
            self.folder.join("streamforge.jsonl")
        } else {
            self.folder.join(format!("streamforge.jsonl.{index}"))
        }
    }

    /// Appends a line. A disk that does not take logs must not stop the data: the line is then lost.
    pub fn write_line(&mut self, line: &str) {
        if self.file.is_none() {
            let path = self.path(0);
            let opened = fs::create_dir_all(&self.folder)
                .and_then(|()| OpenOptions::new().create(true).append(true).open(&path))
                .and_then(|file| Ok((file.metadata()?.len(), file)));
            if let Ok((bytes, file)) = opened {
                self.bytes = bytes;
                self.file = Some(file);
            }
        }
        let Some(file) = &mut self.file else { return };
        if file.write_all(format!("{line}\n").as_bytes()).is_err() {
            self.file = None;
            return;
        }
        self.bytes += line.len() as u64 + 1;
        if self.bytes >= FILE_BYTES_MAX {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        self.file = None;
        for index in (0..FILES_MAX - 1).rev() {
            let from = self.path(index);
            if from.exists() && fs::rename(&from, self.path(index + 1)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_never_grows_beyond_its_files() {
        let folder = std::env::temp_dir().join(format!("sf-ring-file-{}", std::process::id()));
        let mut ring = RingFile::new(&folder);
        let line = "x".repeat(1024 * 1024);
        for _ in 0..(u64::from(FILES_MAX) + 3) * FILE_BYTES_MAX / (1024 * 1024) {
            ring.write_line(&line);
        }
        let files = fs::read_dir(&folder).unwrap().count();
        assert!(files <= FILES_MAX as usize, "{files} files");
        fs::remove_dir_all(&folder).unwrap();
    }
}
