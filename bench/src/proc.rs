//! What Linux says about processes: who belongs to whom, how long each ran, how much memory it really takes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::stats::float;

/// One process, at one moment.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub name: String,
    /// Own time on a core, in clock ticks.
    pub ticks: u64,
    /// Time of children that ended and were waited for.
    pub reaped_ticks: u64,
}

/// Clock ticks of one second.
pub fn ticks_per_second() -> f64 {
    float(rustix::param::clock_ticks_per_second())
}

/// All processes there are.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(one).collect()
}

/// One process, when it is still there.
pub fn one(pid: u32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The line of `/proc/PID/stat`; the name stands in parentheses and may contain anything.
fn parse(pid: u32, line: &str) -> Option<Process> {
    let (head, tail) = line.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let parent = fields.get(1)?.parse().ok()?;
    Some(Process { pid, parent, name, ticks: number(11)? + number(12)?, reaped_ticks: number(13)? + number(14)? })
}

/// The processes below any of the roots, and the roots themselves.
pub fn tree(all: &[Process], roots: &[u32]) -> Vec<Process> {
    let mut members: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let before = members.len();
        let children = all.iter().filter(|process| members.contains(&process.parent)).map(|process| process.pid);
        members.extend(children.collect::<Vec<_>>());
        if members.len() == before {
            break;
        }
    }
    all.iter().filter(|process| members.contains(&process.pid)).cloned().collect()
}

/// Ticks of a tree, with those of its members that ended.
pub fn tree_ticks(all: &[Process], roots: &[u32]) -> u64 {
    tree(all, roots).iter().map(|process| process.ticks + process.reaped_ticks).sum()
}

/// Ticks of the kernel's own threads; they write back what everybody wrote.
pub fn kernel_ticks(all: &[Process]) -> u64 {
    const KTHREADD: u32 = 2;
    all.iter()
        .filter(|process| process.parent == KTHREADD || process.pid == KTHREADD)
        .map(|process| process.ticks)
        .sum()
}

/// What a process of the product is, in two words: its role and its component.
pub fn label(process: &Process) -> String {
    let command = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
    let words: Vec<String> =
        command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    if process.name != "streamforge" && !words.first().is_some_and(|program| program.ends_with("streamforge")) {
        return process.name.clone();
    }
    let role = words.get(1).map_or("streamforge", String::as_str);
    let id = words.iter().position(|word| word == "--id").and_then(|at| words.get(at + 1));
    id.map_or_else(|| role.to_owned(), |id| format!("{role} {id}"))
}

/// Ticks of each thread of a process, by thread name; threads of one name are added up.
pub fn threads(pid: u32) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return sums };
    for task in entries.flatten() {
        let line = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        if let Some(thread) = parse(pid, &line) {
            *sums.entry(thread.name).or_default() += thread.ticks;
        }
    }
    sums
}

/// Proportional memory of a process in KiB: shared pages count by how many share them.
pub fn pss_kib(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses() {
        let line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 5 6 7";
        let process = parse(42, line).unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a (b) c", 7));
        assert_eq!((process.ticks, process.reaped_ticks), (120, 4));
    }

    #[test]
    fn a_tree_knows_grandchildren_and_nobody_else() {
        let process = |pid, parent, ticks| Process { pid, parent, name: String::new(), ticks, reaped_ticks: 1 };
        let all = [process(1, 0, 1), process(10, 1, 2), process(12, 11, 4), process(11, 10, 8), process(20, 1, 16)];
        assert_eq!(tree_ticks(&all, &[10]), 2 + 4 + 8 + 3);
    }

    #[test]
    fn we_are_there() {
        let own = std::process::id();
        assert_eq!(one(own).unwrap().pid, own);
        assert!(pss_kib(own).unwrap() > 0);
        assert!(!threads(own).is_empty());
    }
}
