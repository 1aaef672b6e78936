//! What a predecessor that was killed left running in the same folder: its children see the end of their parent and go by
//! themselves, and a successor waits for that.
//!
//! Invariant: readings of an adapter's older start never come behind those of a newer one. An orphan still delivers what
//! it has read, and would take the successor's broker for its own.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// Longer than any child takes to deliver what it holds; whoever is still there hangs and is killed.
pub const END_MAX: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until no child of a predecessor runs any more; kills those that outlast `at_most`.
pub async fn wait(run: &Path, at_most: Duration) {
    let Ok(run) = run.canonicalize() else { return };
    let begin = Instant::now();
    let mut left = running(&run);
    if !left.is_empty() {
        tracing::info!(children = left.len(), "waiting for the children of a gateway that was killed in this folder");
    }
    while !left.is_empty() && begin.elapsed() < at_most {
        tokio::time::sleep(LOOK_EVERY).await;
        left.retain(|pid| belongs(*pid, &run));
    }
    for pid in left {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        tracing::warn!(pid, command, "a child of the killed gateway does not end and is killed");
        let killed = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        if let Some(Err(error)) = killed {
            tracing::error!(pid, %error, "it cannot be killed");
        }
    }
}

/// All processes that were started for this folder, those included that have not published an address yet.
fn running(run: &Path) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| belongs(*pid, run)).collect()
}

/// Whether a process is a child that a gateway started for this folder; a dead one has no environment.
fn belongs(pid: i32, run: &Path) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    let folder = environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"SF_RUN_DIR="));
    let folder =
        folder.map(|folder| Path::new("/proc").join(pid.to_string()).join("cwd").join(OsStr::from_bytes(folder)));
    pid.cast_unsigned() != std::process::id()
        && folder.is_some_and(|folder| folder.canonicalize().is_ok_and(|folder| folder == run))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn child(run: &Path, seconds: &str) -> Child {
        Command::new("sleep").arg(seconds).env("SF_RUN_DIR", run).spawn().unwrap()
    }

    // F4
    #[tokio::test]
    async fn children_of_a_killed_gateway_are_waited_for_and_those_that_hang_are_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut hanging = child(dir.path(), "1000");
        let mut going = child(dir.path(), "0.05");
        let elsewhere = tempfile::tempdir().unwrap();
        let mut neighbour = child(elsewhere.path(), "1000");
        wait(dir.path(), Duration::from_millis(300)).await;
        assert!(going.wait().unwrap().success(), "it had its time");
        assert!(!hanging.wait().unwrap().success(), "it was killed");
        wait(dir.path(), Duration::from_secs(1000)).await;
        assert!(neighbour.try_wait().unwrap().is_none(), "another gateway's");
        neighbour.kill().unwrap();
        neighbour.wait().unwrap();
    }
}
