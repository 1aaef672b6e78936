//! Repair of a damaged closed segment: the file is set aside as it is, its intact batches are served again.
//!
//! Each run of intact, gapless batches becomes a segment of its own, so inside a segment offsets never have holes; holes
//! are between segments. Nothing unreadable is deleted: the original stays beside them as `<name>.log.quarantined`.
//!
//! Crash safety, with a sync of the folder after each step: 1. runs are written as `<original>-<run>.salvage` and
//! synced; 2. the original is renamed aside; 3. the runs get their segment names, the one that takes the original's name
//! last. Recovery discards runs while the original still has its name and finishes step 3 otherwise.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::batch::{HEADER_BYTES, Header, LEADER_EPOCH};
use crate::error::Error;
use crate::num::{to_u64, to_usize};
use crate::segment::{self, Meta, Window};
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// Bytes copied, or searched, at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Gapless intact batches inside a damaged file.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where the run starts in the file.
    pub(crate) position: u64,
    pub(crate) meta: Meta,
}

/// Inclusive range of offsets.
pub(crate) type Range = (i64, i64);

/// Finds the intact runs in the first `end` bytes of a segment that should hold the offsets from `base` to below
/// `bound`, and the offsets that are in none of them.
pub(crate) fn inspect(
    file: &dyn VfsFile,
    end: u64,
    base: i64,
    bound: i64,
    index_interval_bytes: u32,
) -> io::Result<(Vec<Run>, Vec<Range>)> {
    let mut runs: Vec<Run> = Vec::new();
    let mut lost = Vec::new();
    let mut window = Window::new(file, end);
    let mut position = 0;
    let mut expected = base;
    let mut chained = true; // the bytes before this position are an intact batch, or there are none
    while position < end {
        let intact = window.check(position)?.ok().filter(|header| {
            header.leader_epoch == LEADER_EPOCH && header.base_offset >= expected && header.next_offset() <= bound
        });
        let placed = match intact {
            Some(header) if chained && header.base_offset == expected => Some(header),
            // The checksum does not cover the offset, so a batch is believed only together with a neighbour.
            Some(header) if anchored(&mut window, position, &header, end, bound)? => Some(header),
            _ => None,
        };
        chained = placed.is_some();
        let Some(header) = placed else {
            position = next_candidate(file, position + 1, end, expected, bound)?;
            continue;
        };
        match runs.last_mut() {
            Some(run) if header.base_offset == run.meta.next && position == run.position + run.meta.len => {
                run.meta.add(&header, index_interval_bytes);
            }
            _ => {
                let mut meta = Meta::new(header.base_offset);
                meta.add(&header, index_interval_bytes);
                runs.push(Run { position, meta });
            }
        }
        if header.base_offset > expected {
            lost.push((expected, header.base_offset - 1));
        }
        position += to_u64(header.size());
        expected = header.next_offset();
    }
    if expected < bound {
        lost.push((expected, bound - 1));
    }
    Ok((runs, lost))
}

/// Whether what follows a batch confirms its offset: the batch behind it, or the end of the segment.
fn anchored(window: &mut Window<'_>, position: u64, header: &Header, end: u64, bound: i64) -> io::Result<bool> {
    let behind = position + to_u64(header.size());
    if behind == end {
        return Ok(header.next_offset() == bound);
    }
    Ok(window.check(behind)?.is_ok_and(|next| next.base_offset == header.next_offset()))
}

/// The next position that looks like the start of a batch of this segment; `end` when there is none.
fn next_candidate(file: &dyn VfsFile, from: u64, end: u64, expected: i64, bound: i64) -> io::Result<u64> {
    let mut window = Window::new(file, end);
    let mut position = from;
    while position + to_u64(HEADER_BYTES) <= end {
        let bytes = window.at(position, CHUNK_BYTES)?;
        let starts = bytes.len().saturating_sub(HEADER_BYTES - 1);
        if starts == 0 {
            break;
        }
        let found = bytes.windows(HEADER_BYTES).position(|head| {
            let (offset, _) = head.split_first_chunk::<8>().expect("a window of 61 bytes");
            let offset = i64::from_be_bytes(*offset);
            head[16] == 2 && head[12..16] == LEADER_EPOCH.to_be_bytes() && (expected..bound).contains(&offset)
        });
        match found {
            Some(index) => return Ok(position + to_u64(index)),
            None => position += to_u64(starts),
        }
    }
    Ok(end)
}

/// Puts the runs in the place of the damaged segment `base` and returns the name the original has now.
pub(crate) fn replace(
    vfs: &dyn Vfs,
    dir: &Path,
    base: i64,
    file: &dyn VfsFile,
    runs: &[Run],
) -> Result<PathBuf, Error> {
    let original = segment::path(dir, base, segment::LOG);
    for run in runs {
        let path = salvage_path(dir, base, run.meta.base);
        let copy = vfs.open(&path, OpenMode::Replace).map_err(Error::io("create", &path))?;
        let mut buffer = vec![0; CHUNK_BYTES.min(to_usize(run.meta.len))];
        let mut done = 0;
        while done < run.meta.len {
            let piece = to_usize((run.meta.len - done).min(to_u64(buffer.len())));
            let count =
                file.read_at(&mut buffer[..piece], run.position + done).map_err(Error::io("read", &original))?;
            if count < piece {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Io { action: "read", path: original, source });
            }
            copy.write_at(&buffer[..piece], done).map_err(Error::io("write", &path))?;
            done += to_u64(piece);
        }
        copy.sync_data().map_err(Error::io("sync", &path))?;
    }
    sync_dir(vfs, dir)?;
    let aside = set_aside(vfs, &original, "quarantined")?;
    sync_dir(vfs, dir)?;
    adopt(vfs, dir, base, &runs.iter().map(|run| run.meta.base).collect::<Vec<_>>())?;
    Ok(aside)
}

/// Step 3: gives the runs their names, the one that inherits the original's name last.
fn adopt(vfs: &dyn Vfs, dir: &Path, base: i64, runs: &[i64]) -> Result<(), Error> {
    let (inheriting, others): (Vec<i64>, Vec<i64>) = runs.iter().partition(|run| **run == base);
    for group in [others, inheriting] {
        for run in group {
            let path = salvage_path(dir, base, run);
            vfs.rename(&path, &segment::path(dir, run, segment::LOG)).map_err(Error::io("rename", &path))?;
        }
        sync_dir(vfs, dir)?;
    }
    Ok(())
}

/// Finishes or undoes a repair that a crash has interrupted.
pub(crate) fn resume(vfs: &dyn Vfs, dir: &Path, names: &[String]) -> Result<(), Error> {
    let mut pending: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for name in names {
        if let Some((base, run)) = parse_salvage_name(name) {
            pending.entry(base).or_default().push(run);
        }
    }
    for (base, runs) in &pending {
        let original = segment::path(dir, *base, segment::LOG);
        if vfs.exists(&original).map_err(Error::io("look for", &original))? {
            for run in runs {
                let path = salvage_path(dir, *base, *run);
                vfs.remove(&path).map_err(Error::io("remove", &path))?;
            }
            sync_dir(vfs, dir)?;
        } else {
            adopt(vfs, dir, *base, runs)?;
        }
    }
    Ok(())
}

/// Renames a file to `<name>.<label>`, with a number where that exists already, and returns the new name.
pub(crate) fn set_aside(vfs: &dyn Vfs, path: &Path, label: &str) -> Result<PathBuf, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("segment");
    let mut number = 1_u32;
    loop {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let aside = path.with_file_name(format!("{name}.{label}{suffix}"));
        if !vfs.exists(&aside).map_err(Error::io("look for", &aside))? {
            vfs.rename(path, &aside).map_err(Error::io("rename", path))?;
            return Ok(aside);
        }
        number += 1;
    }
}

fn salvage_path(dir: &Path, base: i64, run: i64) -> PathBuf {
    dir.join(format!("{base:020}-{run:020}.{}", segment::SALVAGE))
}

fn parse_salvage_name(name: &str) -> Option<(i64, i64)> {
    let (base, rest) = name.split_once('-')?;
    let base = segment::parse_name(&format!("{base}.{}", segment::LOG), segment::LOG)?;
    Some((base, segment::parse_name(rest, segment::SALVAGE)?))
}

fn sync_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    vfs.sync_dir(dir).map_err(Error::io("sync folder", dir))
}
