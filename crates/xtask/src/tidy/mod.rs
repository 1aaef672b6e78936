//! The house rules that a program can check. All findings are printed at once, never only the first.

pub(crate) mod contracts;
pub(crate) mod layers;
pub(crate) mod lines;
pub(crate) mod sources;

use std::fmt;

use anyhow::bail;

use crate::say;
use crate::workspace::Workspace;

/// One broken rule. Prints as `path:line: what (what to do)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the root.
    pub(crate) path: String,
    /// From 1; the first line when the whole file is meant.
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.path, self.line, self.what, self.remedy)
    }
}

/// Runs every check.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let files = workspace.sources()?;
    let topics = sources::topic_names(&files)?;
    let mut findings = layers::check(&workspace.crates);
    findings.extend(files.iter().flat_map(|file| sources::check(file, &topics)));
    findings.extend(contracts::check(&workspace.names_in("contracts/avro")?, &workspace.names_in("contracts/golden")?));
    findings.sort();
    for finding in &findings {
        say(&finding.to_string())?;
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    say(&format!("tidy: {} crates and {} files keep the house rules", workspace.crates.len(), files.len()))
}
