//! File descriptors: a process begins with far fewer than it may have.
//!
//! The usual first limit of 1,024 is kept for programs that still call select(2); this one does not.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside those of connections: segments and indexes of the partitions, and the rest of the process.
const OTHERS: u64 = 4_096;

/// Raises the limit as far as this process may, and says when it may not have what the connections need.
pub(crate) fn raise(connections_max: usize) {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: before.maximum, maximum: before.maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit on open files cannot be raised");
        }
    }
    let wanted = u64::try_from(connections_max).unwrap_or(u64::MAX).saturating_add(OTHERS);
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < wanted) {
        tracing::warn!(
            limit,
            connections_max,
            "the limit on open files is low for so many connections and partitions; raise it for this process"
        );
    }
}
