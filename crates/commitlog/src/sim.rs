//! A disk in memory that misbehaves on request: fails the N-th call, loses what was not synced, tears the last write,
//! fills up, lets a sync hang. For the tests of this crate and of those above it.
//!
//! The model is the strict reading of POSIX: file contents are durable after `sync_data`, names after `sync_dir` of
//! their folder, and until then any subset may be there after a power cut, written sectors in any order. A failed sync
//! drops what it should have written, as Linux does: reads still show it, later syncs succeed without it.
//! `SimVfs` is a handle; clones see the same disk.
//! Long because: every way to fail is a line in the one model that all calls share.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::num::{to_u64, to_usize};
use crate::vfs::{OpenMode, Space, Vfs, VfsFile};

/// Unit in which a torn write reaches the disk.
const SECTOR_BYTES: usize = 512;

/// What happens to the call that is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an I/O error and has no effect.
    Io,
    /// It fails for lack of space and has no effect.
    NoSpace,
    /// A write stores its first half and fails; other calls fail without effect.
    Torn,
    /// The power goes: this call and every later one fail.
    PowerCut,
}

/// What is left of unsynced operations after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Everything: the process died, the kernel lived (`kill -9`).
    KeepAll,
    /// Nothing: power loss with a full write-back cache.
    LoseUnsynced,
    /// A pseudo-random subset, sector by sector and name by name.
    Random(u64),
    /// Exactly the operations whose bit is set, bit 0 for the first of [`SimVfs::unsynced`]; those beyond 64 are lost. Of
    /// the last write only the first `torn` bytes, when that is given.
    Chosen {
        /// The operations that have reached the disk.
        kept: u64,
        /// Where the last write is torn.
        torn: Option<usize>,
    },
}

/// The disk.
#[derive(Debug, Clone, Default)]
pub struct SimVfs {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<(PathBuf, NameChange)>,
    calls: u64,
    fault: Option<(u64, Fault)>,
    fail_syncs: bool,
    power_off: bool,
    capacity: Option<u64>,
    syncs_held: bool,
    syncs_waiting: usize,
    syncs_done: u64,
    trace: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Debug, Clone)]
enum NameChange {
    Set { path: PathBuf, node: Node },
    Unset { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, node: Node },
}

#[derive(Debug, Default, Clone)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Change::SetLen(len) => content.resize(*len, 0),
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            NameChange::Set { path, node } => {
                names.insert(path.clone(), *node);
            }
            NameChange::Unset { path } => {
                names.remove(path);
            }
            NameChange::Rename { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
                let below: Vec<PathBuf> =
                    names.keys().filter(|path| path.starts_with(from) && *path != from).cloned().collect();
                for path in below {
                    if let (Some(node), Ok(rest)) = (names.remove(&path), path.strip_prefix(from)) {
                        names.insert(to.join(rest), node);
                    }
                }
            }
        }
    }
}

/// Small pseudo-random sequence (splitmix64); the same seed gives the same crash.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn flip(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

impl Disk {
    fn begin(&mut self, call: &str, path: &Path) -> io::Result<Option<Fault>> {
        if self.power_off {
            return Err(io::Error::other("power is off"));
        }
        self.calls += 1;
        self.trace.push(format!("{call} {}", path.display()));
        match self.fault {
            Some((at, fault)) if at == self.calls => match fault {
                Fault::PowerCut => {
                    self.power_off = true;
                    Err(io::Error::other("power is off"))
                }
                Fault::Torn => Ok(Some(fault)),
                Fault::Io => Err(io::Error::other("simulated I/O error")),
                Fault::NoSpace => Err(io::ErrorKind::StorageFull.into()),
            },
            _ => Ok(None),
        }
    }

    /// Like `begin`, for calls that a torn write cannot hit: they fail as a whole.
    fn begin_whole(&mut self, call: &str, path: &Path) -> io::Result<()> {
        match self.begin(call, path)? {
            None => Ok(()),
            Some(_) => Err(io::Error::other("simulated I/O error")),
        }
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.entry(inode).or_default()
    }

    fn change_name(&mut self, dir: &Path, change: NameChange) {
        change.apply(&mut self.live);
        self.pending.push((dir.to_path_buf(), change));
    }

    /// Unsynced changes of contents, in a fixed order.
    fn changes(&self) -> Vec<&Change> {
        self.inodes.values().flat_map(|inode| &inode.pending).collect()
    }

    fn used(&self) -> u64 {
        let files = self.live.values().filter_map(|node| match node {
            Node::File(inode) => self.inodes.get(inode),
            Node::Dir => None,
        });
        files.map(|inode| to_u64(inode.live.len())).sum()
    }

    fn check_space(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if self.used() + more > capacity => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

impl SimVfs {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared.disk.lock().expect("no code panics while it holds the simulated disk")
    }

    /// Calls made so far, reads included.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// Lets the `nth` call from now (1 = the next one) end in `fault`.
    pub fn fail_call(&self, nth: u64, fault: Fault) {
        let mut disk = self.disk();
        disk.fault = Some((disk.calls + nth, fault));
    }

    /// Lets every sync of a file fail (true) or work (false).
    pub fn fail_syncs(&self, fail: bool) {
        self.disk().fail_syncs = fail;
    }

    /// Whether a planned power cut has come.
    pub fn power_is_off(&self) -> bool {
        self.disk().power_off
    }

    /// Takes back planned faults.
    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.fault = None;
        disk.fail_syncs = false;
    }

    /// Sets the size of the disk in bytes of file contents.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Lets syncs of files hang (true) or go on (false).
    pub fn hold_syncs(&self, hold: bool) {
        self.disk().syncs_held = hold;
        self.shared.changed.notify_all();
    }

    /// Blocks until at least `count` syncs hang; false when that has not come about within `patience`.
    pub fn wait_for_held_syncs(&self, count: usize, patience: Duration) -> bool {
        let too_few = |disk: &mut Disk| disk.syncs_waiting < count;
        let waited = self.shared.changed.wait_timeout_while(self.disk(), patience, too_few);
        let (disk, _) = waited.expect("no code panics while it holds the simulated disk");
        disk.syncs_waiting >= count
    }

    /// File syncs that have succeeded.
    pub fn syncs_done(&self) -> u64 {
        self.disk().syncs_done
    }

    /// The calls made so far, one line each: operation and path.
    pub fn trace(&self) -> Vec<String> {
        self.disk().trace.clone()
    }

    /// Operations that no sync has covered, and the length of the last write among them.
    pub fn unsynced(&self) -> (usize, Option<usize>) {
        let disk = self.disk();
        let changes = disk.changes();
        let last = changes.iter().rev().find_map(|change| match change {
            Change::Write { bytes, .. } => Some(bytes.len()),
            Change::SetLen(_) => None,
        });
        (disk.pending.len() + changes.len(), last)
    }

    /// What a machine finds that starts after a crash now. The disk itself goes on unchanged.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> SimVfs {
        let disk = self.disk();
        let mut random = Random(match crash {
            Crash::Random(seed) => seed,
            _ => 0,
        });
        let mut index = 0_u32;
        let mut keep = |random: &mut Random| {
            index += 1;
            match crash {
                Crash::KeepAll => true,
                Crash::LoseUnsynced => false,
                Crash::Random(_) => random.flip(),
                Crash::Chosen { kept, .. } => kept.checked_shr(index - 1).is_some_and(|rest| rest & 1 == 1),
            }
        };
        let changes = disk.changes();
        let last_write = changes.iter().rposition(|change| matches!(change, Change::Write { .. }));
        let mut change_index = 0;
        let mut names = disk.durable.clone();
        for (_, change) in &disk.pending {
            if keep(&mut random) {
                change.apply(&mut names);
            }
        }
        let all = names.clone();
        names.retain(|path, _| {
            let parent = parent(path);
            parent.as_os_str().is_empty() || parent == Path::new("/") || all.contains_key(&parent)
        });
        let mut after = Disk { next_inode: disk.next_inode, ..Disk::default() };
        for (id, inode) in &disk.inodes {
            let mut content = inode.durable.clone();
            for change in &inode.pending {
                let is_last_write = last_write == Some(change_index);
                change_index += 1;
                match change {
                    Change::Write { offset, bytes } if matches!(crash, Crash::Chosen { .. }) && is_last_write => {
                        let Crash::Chosen { torn, .. } = crash else { continue };
                        let stored = &bytes[..torn.unwrap_or(bytes.len()).min(bytes.len())];
                        if keep(&mut random) {
                            Change::Write { offset: *offset, bytes: stored.to_vec() }.apply(&mut content);
                        }
                    }
                    Change::Write { offset, bytes } if matches!(crash, Crash::Random(_)) => {
                        for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                            let offset = offset + index * SECTOR_BYTES;
                            let piece = Change::Write { offset, bytes: sector.to_vec() };
                            let longer = Change::SetLen(content.len().max(offset + sector.len()));
                            match random.next() % 4 {
                                0 => {}
                                1 => longer.apply(&mut content), // the length reached the disk, the data did not
                                _ => piece.apply(&mut content),
                            }
                        }
                    }
                    change => {
                        if keep(&mut random) {
                            change.apply(&mut content);
                        }
                    }
                }
            }
            after.inodes.insert(*id, Inode { live: content.clone(), durable: content, pending: Vec::new() });
        }
        after.live = names.clone();
        after.durable = names;
        after.capacity = disk.capacity;
        SimVfs { shared: Arc::new(Shared { disk: Mutex::new(after), changed: Condvar::new() }) }
    }

    /// Contents of a file, without counting as a call; for assertions.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let inode = disk.file(path).ok()?;
        disk.inodes.get(&inode).map(|inode| inode.live.clone())
    }

    /// Replaces the contents of a file, durably: bit rot, truncation, or a file from elsewhere.
    pub fn damage(&self, path: &Path, contents: &[u8]) {
        let mut disk = self.disk();
        let inode = disk.file(path).unwrap_or_else(|_| {
            let inode = disk.next_inode;
            disk.next_inode += 1;
            disk.live.insert(path.to_path_buf(), Node::File(inode));
            disk.durable.insert(path.to_path_buf(), Node::File(inode));
            inode
        });
        *disk.inode(inode) = Inode { live: contents.to_vec(), durable: contents.to_vec(), pending: Vec::new() };
    }

    /// All files below `dir`, without counting as a call.
    pub fn files(&self, dir: &Path) -> BTreeSet<PathBuf> {
        let disk = self.disk();
        let files = disk.live.iter().filter(|(path, node)| path.starts_with(dir) && matches!(node, Node::File(_)));
        files.map(|(path, _)| path.clone()).collect()
    }
}

impl Vfs for SimVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut disk = self.disk();
        disk.begin_whole("open", path)?;
        let existing = disk.file(path);
        let inode = match (mode, existing) {
            (OpenMode::Read | OpenMode::Write, found) => found?,
            (OpenMode::Create, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Replace, Ok(inode)) => {
                let file = disk.inode(inode);
                file.live.clear();
                file.pending.push(Change::SetLen(0));
                inode
            }
            (OpenMode::Create | OpenMode::Replace, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                let dir = parent(path);
                if disk.live.get(&dir) != Some(&Node::Dir) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let inode = disk.next_inode;
                disk.next_inode += 1;
                disk.inodes.insert(inode, Inode::default());
                disk.change_name(&dir, NameChange::Set { path: path.to_path_buf(), node: Node::File(inode) });
                inode
            }
            (OpenMode::Create | OpenMode::Replace, Err(error)) => return Err(error),
        };
        Ok(Arc::new(SimFile { vfs: self.clone(), inode, path: path.to_path_buf() }))
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.begin_whole("len", path)?;
        let inode = disk.file(path)?;
        Ok(to_u64(disk.inode(inode).live.len()))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut disk = self.disk();
        disk.begin_whole("exists", path)?;
        Ok(disk.live.contains_key(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut disk = self.disk();
        disk.begin_whole("list", dir)?;
        if disk.live.get(dir) != Some(&Node::Dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let children = disk.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(children.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole("create_dir_all", dir)?;
        let mut missing: Vec<PathBuf> = Vec::new();
        for ancestor in dir.ancestors() {
            match disk.live.get(ancestor) {
                _ if ancestor.as_os_str().is_empty() => {}
                Some(Node::Dir) => break,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => missing.push(ancestor.to_path_buf()),
            }
        }
        for path in missing.into_iter().rev() {
            disk.change_name(&parent(&path), NameChange::Set { path, node: Node::Dir });
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        let begun = disk.begin_whole("sync_dir", dir);
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut disk.pending).into_iter().partition(|(parent, _)| parent == dir);
        disk.pending = rest;
        begun?; // what a failed sync should have written is lost
        for (_, change) in synced {
            change.apply(&mut disk.durable);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole("rename", from)?;
        let node = *disk.live.get(from).ok_or(io::ErrorKind::NotFound)?;
        let change = NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf(), node };
        disk.change_name(&parent(to), change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole("remove", path)?;
        disk.file(path)?;
        disk.change_name(&parent(path), NameChange::Unset { path: path.to_path_buf() });
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.begin_whole("remove_dir", dir)?;
        if disk.live.keys().any(|path| path.parent() == Some(dir)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        disk.change_name(&parent(dir), NameChange::Unset { path: dir.to_path_buf() });
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let disk = self.disk();
        let total = disk.capacity.unwrap_or(u64::MAX);
        Ok(Space { free: total.saturating_sub(disk.used()), total })
    }
}

#[derive(Debug)]
struct SimFile {
    vfs: SimVfs,
    inode: u64,
    path: PathBuf,
}

impl VfsFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.vfs.disk();
        disk.begin_whole("read", &self.path)?;
        let content = &disk.inode(self.inode).live;
        let start = to_usize(offset).min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.vfs.disk();
        let fault = disk.begin("write", &self.path)?;
        disk.check_space(to_u64(bytes.len()))?;
        let stored = if fault.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        let change = Change::Write { offset: to_usize(offset), bytes: stored.to_vec() };
        let inode = disk.inode(self.inode);
        change.apply(&mut inode.live);
        inode.pending.push(change);
        if fault.is_some() { Err(io::Error::other("simulated torn write")) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.vfs.disk();
        // What is written while the sync hangs is not covered by it.
        let covered = disk.inode(self.inode).pending.len();
        if disk.syncs_held {
            disk.syncs_waiting += 1;
            self.vfs.shared.changed.notify_all();
            while disk.syncs_held {
                disk = self.vfs.shared.changed.wait(disk).expect("no code panics while it holds the simulated disk");
            }
            disk.syncs_waiting -= 1;
        }
        let mut begun = disk.begin_whole("sync", &self.path);
        if disk.fail_syncs && begun.is_ok() {
            begun = Err(io::Error::other("simulated sync error"));
        }
        let power_off = disk.power_off;
        let inode = disk.inode(self.inode);
        if let Err(error) = begun {
            if !power_off {
                inode.pending.drain(..covered);
            }
            return Err(error);
        }
        for change in inode.pending.drain(..covered).collect::<Vec<_>>() {
            change.apply(&mut inode.durable);
        }
        disk.syncs_done += 1;
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut disk = self.vfs.disk();
        disk.begin_whole("drop_cache", &self.path)?;
        let inode = disk.inode(self.inode);
        inode.live.clone_from(&inode.durable);
        for change in &inode.pending {
            change.apply(&mut inode.live);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.vfs.disk();
        disk.begin_whole("set_len", &self.path)?;
        let change = Change::SetLen(to_usize(len));
        let inode = disk.inode(self.inode);
        change.apply(&mut inode.live);
        inode.pending.push(change);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut disk = self.vfs.disk();
        disk.begin_whole("len", &self.path)?;
        Ok(to_u64(disk.inode(self.inode).live.len()))
    }
}
