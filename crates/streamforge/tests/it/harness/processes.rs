//! Processes seen from outside: signals by id, and what `/proc` tells.

use std::process::Command;

/// Sends a signal by its name without `SIG`, for example `TERM`.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {pid}")).status().expect("a shell");
    assert!(status.success(), "process {pid} does not take SIG{name}");
}

/// The crash: the process gets no chance to do anything.
pub(crate) fn kill_9(pid: u32) {
    signal(pid, "KILL");
}

/// True for a process that is there and not merely waiting to be reaped.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // the name is in parentheses and may hold anything; the state follows it
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// What a process was started as, without the path of its program.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).skip(1).take(3);
    words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Running processes whose environment holds `text`: everything a gateway started carries its run folder.
pub(crate) fn with_text_in_environment(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(text) && is_running(*pid)
    };
    pids.filter(holds).collect()
}

/// Memory of a process with shared pages counted in parts, in KiB.
pub(crate) fn proportional_set_kib(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).ok_or_else(|| format!("{path} has no Pss line"))?;
    let number = line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("{path}: {line:?}"))
}
