//! Another time of day for a gateway: libfaketime between it and the system. Clocks that only go forward are left alone.

use std::path::PathBuf;
use std::process::Command;

use model::{Clock, SystemClock, Timestamp};

/// The library, when this machine has it.
#[derive(Debug)]
pub(crate) struct FakeWall {
    library: PathBuf,
}

impl FakeWall {
    pub(crate) fn find() -> Option<Self> {
        let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
        let library = |folder: PathBuf| folder.join("faketime/libfaketimeMT.so.1");
        folders.map(library).find(|path| path.is_file()).map(|library| Self { library })
    }

    /// What the command starts believes that it is `time` now, and goes on from there.
    pub(crate) fn set(&self, command: &mut Command, time: Timestamp) {
        let ahead = time.micros_since(SystemClock.now()) / 1_000_000;
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME", format!("{ahead:+}"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}
