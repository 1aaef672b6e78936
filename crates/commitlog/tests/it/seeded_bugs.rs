//! The laboratory tried on bugs that are known: a log that stands on [`Buggy`] instead of the disk behaves as if its own
//! code had the bug, and the laboratory has to say so. A bug that is not caught makes the suite red (C.4, layer 4).

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use commitlog::batch::Header;
use commitlog::{Crash, Fault, OpenMode, SimVfs, Space, Vfs, VfsFile};

use crate::laboratory::{History, crash_states, judge, work};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Data files are never synced.
    SkipSync,
    /// Names are never synced.
    SkipFolderSync,
    /// A sync is reported as done and takes place with the next call.
    AcknowledgeBeforeSync,
    /// A failed sync is tried again, and the second answer believed.
    RetryFailedSync,
    /// Whatever stands where a checksum should be is taken for the right one.
    IgnoreChecksums,
    /// Recovery cuts a byte more than the bad tail.
    TruncateTooMuch,
    /// The first append after recovery gets the offset, and the place, of the last batch.
    ReuseOffset,
}

#[derive(Debug, Clone)]
struct Buggy {
    disk: SimVfs,
    bug: Bug,
    late: Arc<Mutex<Vec<Arc<dyn VfsFile>>>>,
}

impl Buggy {
    fn new(disk: &SimVfs, bug: Bug) -> Self {
        Self { disk: disk.clone(), bug, late: Arc::default() }
    }

    fn shared(disk: &SimVfs, bug: Bug) -> Arc<dyn Vfs> {
        Arc::new(Self::new(disk, bug))
    }

    /// Does what an earlier call has claimed to have done.
    fn catch_up(&self) {
        for file in std::mem::take(&mut *self.late.lock().unwrap()) {
            drop(file.sync_data());
        }
    }
}

impl Vfs for Buggy {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.catch_up();
        let file = self.disk.open(path, mode)?;
        let segment = path.extension().is_some_and(|extension| extension == "log");
        let reopened = segment && mode == OpenMode::Write && file.len()? > 0;
        if reopened && self.bug == Bug::TruncateTooMuch {
            file.set_len(file.len()? - 1)?;
        }
        let hidden = match self.bug {
            Bug::ReuseOffset if reopened => last_batch(&content(&*file)?),
            _ => 0,
        };
        Ok(Arc::new(BuggyFile { file, vfs: self.clone(), segment, hidden: Mutex::new(hidden) }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        self.catch_up();
        self.disk.len(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.catch_up();
        if self.bug == Bug::SkipFolderSync { Ok(()) } else { self.disk.sync_dir(dir) }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
}

#[derive(Debug)]
struct BuggyFile {
    file: Arc<dyn VfsFile>,
    vfs: Buggy,
    segment: bool,
    /// Bytes at the end that recovery does not get to see.
    hidden: Mutex<u64>,
}

impl VfsFile for BuggyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.vfs.catch_up();
        if self.segment && self.vfs.bug == Bug::IgnoreChecksums {
            let bytes = with_right_checksums(content(&*self.file)?);
            let rest = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let count = buffer.len().min(rest.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            return Ok(count);
        }
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.vfs.catch_up();
        *self.hidden.lock().unwrap() = 0;
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.catch_up();
        match self.vfs.bug {
            Bug::SkipSync => Ok(()),
            Bug::AcknowledgeBeforeSync => {
                self.vfs.late.lock().unwrap().push(Arc::clone(&self.file));
                Ok(())
            }
            Bug::RetryFailedSync => self.file.sync_data().or_else(|_| self.file.sync_data()),
            _ => self.file.sync_data(),
        }
    }

    fn drop_cache(&self) -> io::Result<()> {
        // Whoever does not sync does not look at the disk either.
        if self.vfs.bug == Bug::RetryFailedSync { Ok(()) } else { self.file.drop_cache() }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()? - *self.hidden.lock().unwrap())
    }
}

fn content(file: &dyn VfsFile) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap()];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// Start and end of everything that has the outline of a batch.
fn outlines(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut found, mut position) = (Vec::new(), 0);
    while let Ok(header) = Header::parse(&bytes[position..]) {
        let end = position + header.size();
        if end > bytes.len() {
            break;
        }
        found.push((position, end));
        position = end;
    }
    found
}

fn last_batch(bytes: &[u8]) -> u64 {
    outlines(bytes).last().map_or(0, |(start, end)| u64::try_from(end - start).unwrap())
}

fn with_right_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    for (start, end) in outlines(&bytes) {
        let checksum = crc32c::crc32c(&bytes[start + 21..end]);
        bytes[start + 17..start + 21].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// What the laboratory has to say about a log with this bug: the first finding.
fn finding(bug: Bug) -> Option<String> {
    let calls = {
        let disk = SimVfs::new();
        drop(work(&Buggy::shared(&disk, bug)));
        disk.calls()
    };
    for fault in [Fault::PowerCut, Fault::Io] {
        for nth in 1..=calls {
            let disk = SimVfs::new();
            disk.fail_call(nth, fault);
            let history: History = match work(&Buggy::shared(&disk, bug)) {
                Ok(history) => history,
                Err((_, broken)) => return Some(format!("{fault:?} at call {nth}: {broken}")),
            };
            disk.heal();
            let mut states = crash_states(&disk);
            states.extend((0..4).map(|seed| Crash::Random(nth * 10 + seed)));
            for crash in states {
                let after = disk.crash(crash);
                if let Err(broken) = judge(&Buggy::shared(&after, bug), &history) {
                    return Some(format!("{fault:?} at call {nth}, {crash:?}: {broken}"));
                }
            }
        }
    }
    None
}

#[test]
fn a_log_without_a_bug_passes() {
    assert_eq!(finding(Bug::None), None);
}

#[test]
fn every_seeded_bug_is_caught() {
    let bugs = [
        Bug::SkipSync,
        Bug::SkipFolderSync,
        Bug::AcknowledgeBeforeSync,
        Bug::RetryFailedSync,
        Bug::IgnoreChecksums,
        Bug::TruncateTooMuch,
        Bug::ReuseOffset,
    ];
    let missed: Vec<Bug> = bugs.into_iter().filter(|bug| finding(*bug).is_none()).collect();
    assert!(missed.is_empty(), "the laboratory does not see {missed:?}");
}
