//! Small state files that survive a power cut at any line (OFF-31).
//!
//! A file is replaced as a whole: temp file, fsync, the valid current copy becomes `<name>.prev`, rename, fsync of the
//! folder. A reader checks the CRC32C and falls back to the previous copy. So a reader sees the old or the new contents
//! and never a mixture, and a damaged copy never displaces a good one.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::num::{to_u64, to_usize};
use crate::vfs::{OpenMode, Vfs};

const MAGIC: &[u8; 8] = b"SFSTATE1";
const HEADER_BYTES: usize = 20;
/// Largest payload; writing more is refused, a file that claims more is damaged.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Which copy an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// The newest.
    Current,
    /// The one before it, because the newest is missing or damaged.
    Previous,
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(suffix);
    path.with_file_name(name)
}

/// Replaces the contents of `path` by `payload`. When it returns, the new contents are durable.
pub fn write(vfs: &dyn Vfs, path: &Path, payload: &[u8]) -> io::Result<()> {
    replace(vfs, path, payload)?;
    vfs.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Like [`write`], but leaves the sync of the folder to a caller who must know when that fails.
pub(crate) fn replace(vfs: &dyn Vfs, path: &Path, payload: &[u8]) -> io::Result<()> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "state exceeds 64 MiB"));
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&to_u64(payload.len()).to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    bytes.extend_from_slice(payload);

    let temporary = beside(path, ".tmp");
    let file = vfs.open(&temporary, OpenMode::Replace)?;
    file.write_at(&bytes, 0)?;
    file.sync_data()?;
    drop(file);
    if read_one(vfs, path)?.is_some() {
        vfs.rename(path, &beside(path, ".prev"))?;
    }
    vfs.rename(&temporary, path)
}

/// Contents of `path` and the copy they come from; `None` when there is no valid copy.
pub fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<(Vec<u8>, Generation)>> {
    if let Some(payload) = read_one(vfs, path)? {
        return Ok(Some((payload, Generation::Current)));
    }
    Ok(read_one(vfs, &beside(path, ".prev"))?.map(|payload| (payload, Generation::Previous)))
}

/// Whether there is a file of that name in any generation, valid or not: tells "never written" from "damaged".
pub fn exists(vfs: &dyn Vfs, path: &Path) -> io::Result<bool> {
    Ok(vfs.exists(path)? || vfs.exists(&beside(path, ".prev"))?)
}

/// Removes the file in all generations.
pub fn remove(vfs: &dyn Vfs, path: &Path) -> io::Result<()> {
    for copy in [path.to_path_buf(), beside(path, ".prev"), beside(path, ".tmp")] {
        match vfs.remove(&copy) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    vfs.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn read_one(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match vfs.open(path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let len = file.len()?;
    if len > to_u64(HEADER_BYTES + PAYLOAD_BYTES_MAX) {
        return Ok(None);
    }
    let mut bytes = vec![0; to_usize(len)];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(decode(&bytes).map(<[u8]>::to_vec))
}

fn decode(bytes: &[u8]) -> Option<&[u8]> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let (crc, payload) = rest.split_first_chunk::<4>()?;
    let valid = magic == MAGIC
        && u64::from_be_bytes(*len) == to_u64(payload.len())
        && u32::from_be_bytes(*crc) == crc32c::crc32c(payload);
    valid.then_some(payload)
}
