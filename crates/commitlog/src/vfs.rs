//! The file system as the log sees it: a trait, and the real disk behind it.
//!
//! Invariant: nothing in this crate touches a disk but through [`Vfs`], so that `sim::SimVfs` can fail any call and
//! lose anything that was not synced (STR-07). Reads are positional; there is no shared cursor and no mmap (a read
//! error would be a signal instead of a `Result`).

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How to open a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    Create,
    /// A file that is created, or emptied when it exists.
    Replace,
}

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes an unprivileged process may still write.
    pub free: u64,
    /// Bytes there are in all, used or not.
    pub total: u64,
}

/// Folders and names.
pub trait Vfs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;
    /// Length of a file in bytes; `NotFound` where there is none.
    fn len(&self, path: &Path) -> io::Result<u64>;
    /// Whether a file or folder of that name exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Names (not paths) in a folder, sorted. Names that are not UTF-8 are none of ours and are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a folder and its missing parents. Durable only after `sync_dir` of each parent.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or folder, replacing a file that has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Room on the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// An open file. Offsets are bytes from its start.
pub trait VfsFile: Send + Sync + Debug {
    /// Reads at `offset`; a short count means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`. After an error any part of them may be in the file.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Whether [`VfsFile::send_to`] works.
    fn sends(&self) -> bool {
        false
    }
    /// Sends up to `len` bytes at `offset` to a socket within the kernel; returns how many it took, 0 at the end of the
    /// file. Never waits for the socket if that one is non-blocking.
    fn send_to(&self, _socket: BorrowedFd<'_>, _offset: u64, _len: usize) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes contents and length durable. After an error nothing is known about what was written since the last
    /// success, and a second call proves nothing (STR-03).
    fn sync_data(&self) -> io::Result<()>;
    /// Asks the kernel to forget cached pages that need no writing, so that the next reads come from the disk. After a
    /// failed sync the cache goes on showing what never arrived there. Best effort; sync first.
    fn drop_cache(&self) -> io::Result<()>;
    /// Cuts or zero-extends the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// The disk.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealVfs;

impl Vfs for RealVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create_new(true);
            }
            OpenMode::Replace => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile { file: options.open(path)? }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl VfsFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        let mut position = offset;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], position) {
                Ok(0) => break,
                Ok(count) => {
                    filled += count;
                    position += crate::num::to_u64(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sends(&self) -> bool {
        true
    }

    fn send_to(&self, socket: BorrowedFd<'_>, offset: u64, len: usize) -> io::Result<usize> {
        let mut offset = offset;
        Ok(rustix::fs::sendfile(socket, &self.file, Some(&mut offset), len)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}
