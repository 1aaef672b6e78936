//! One broker per data folder: an advisory lock that the kernel releases when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::Error;

/// Name of the lock file in the data folder. It stays there; only the lock on it counts.
const FILE: &str = "lock";
/// How long a dying predecessor is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// Held for the life of the broker.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

/// Locks an existing folder, waiting for a predecessor that is still going down.
pub(crate) async fn acquire(data_dir: &Path) -> Result<FolderLock, Error> {
    let path = data_dir.join(FILE);
    let lock_error = |source| Error::Lock { path: path.clone(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(lock_error)?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(FolderLock { _file: file }),
            Err(TryLockError::Error(source)) => return Err(lock_error(source)),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                return Err(Error::Locked { path: data_dir.to_owned() });
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_has_one_owner_and_a_successor_waits() {
        let dir = tempfile::tempdir().unwrap();
        let first = acquire(dir.path()).await.unwrap();
        assert!(matches!(acquire(dir.path()).await, Err(Error::Locked { .. })));
        let (second, ()) = tokio::join!(acquire(dir.path()), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        });
        second.unwrap();
    }
}
