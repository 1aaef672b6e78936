//! What lies in a data folder, looked at from outside: the topics and the folders of their partitions.
//!
//! Invariant: nothing is opened for writing and nothing is locked, so it may be asked of a copy, of a read-only disk or
//! beside a broker. What the logs hold is `commitlog::verify`'s business.

use std::path::{Path, PathBuf};

use commitlog::{Vfs, state_file};

use crate::Error;
use crate::limits::TOPIC_PARTITIONS_MAX;
use crate::topics::{STATE, State};

/// A topic as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTopic {
    pub name: String,
    /// Folders of the partitions that the topic should have, by index; one that is not there has lost its records.
    pub partitions: Vec<(i32, PathBuf)>,
    /// Without its state file the next start serves what it finds, with default settings.
    pub state_lost: bool,
}

/// The topics in a broker's data folder, by name.
pub fn stored_topics(vfs: &dyn Vfs, data_dir: &Path) -> Result<Vec<StoredTopic>, Error> {
    let dir = data_dir.join("topics");
    let mut names = vfs.list(&dir).map_err(|source| Error::Folder { action: "list", path: dir.clone(), source })?;
    names.sort();
    names.into_iter().map(|name| stored_topic(vfs, &dir.join(&name), name)).collect()
}

fn stored_topic(vfs: &dyn Vfs, dir: &Path, name: String) -> Result<StoredTopic, Error> {
    let path = dir.join(STATE);
    let read = state_file::read(vfs, &path);
    let read = read.map_err(|source| Error::State { action: "read", path: path.clone(), source })?;
    let partition = |index: i32| (index, dir.join(index.to_string()));
    let Some((bytes, _)) = read else {
        let there = |(_, dir): &(i32, PathBuf)| vfs.exists(dir).unwrap_or(false);
        let partitions = (0..TOPIC_PARTITIONS_MAX).map(partition).take_while(there).collect();
        return Ok(StoredTopic { name, partitions, state_lost: true });
    };
    let state: State = serde_json::from_slice(&bytes).map_err(|source| Error::StateContent { path, source })?;
    Ok(StoredTopic { name, partitions: (0..state.partitions).map(partition).collect(), state_lost: false })
}
