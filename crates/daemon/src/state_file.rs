//! Small state files that survive a power cut at any line: written beside, synced, renamed, folder synced; the previous
//! copy is kept and read when the newest one is damaged (OFF-31).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` with a checksum line; the copy before becomes `<name>.previous`.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a state file needs a folder"))?;
    fs::create_dir_all(dir)?;
    let temporary = sibling(path, "new");
    let mut file = File::create(&temporary)?;
    writeln!(file, "{:016x}", checksum(bytes))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if path.exists() {
        fs::rename(path, sibling(path, "previous"))?;
    }
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// The newest copy whose checksum holds; `None` when there is none.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    for candidate in [path.to_owned(), sibling(path, "previous")] {
        match fs::read(&candidate) {
            Ok(bytes) => match verify(&bytes) {
                Some(body) => return Ok(Some(body.to_vec())),
                None => tracing::warn!(file = %candidate.display(), "state file is damaged, trying the copy before it"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    path.with_file_name(name)
}

fn verify(bytes: &[u8]) -> Option<&[u8]> {
    let (line, body) = bytes.split_at_checked(17)?;
    let written = u64::from_str_radix(std::str::from_utf8(line).ok()?.trim_end(), 16).ok()?;
    (written == checksum(body)).then_some(body)
}

/// FNV-1a, enough to see a torn or zeroed file.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_truncation_falls_back_to_the_copy_before() {
        // OFF-31, F27
        let dir = std::env::temp_dir().join(format!("sf-state-file-{}", std::process::id()));
        let path = dir.join("state.json");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(&b"first"[..]), "cut at {cut}");
        }
        fs::write(&path, vec![0; whole.len()]).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"first"[..]));
        fs::remove_dir_all(&dir).unwrap();
    }
}
