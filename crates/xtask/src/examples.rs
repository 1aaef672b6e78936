//! `examples`: every document under `examples/` is one the binary accepts, so that a reader can begin with any of them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::say;
use crate::workspace::Workspace;

/// Runs `streamforge check` on every `gateway.yaml`.
pub(crate) fn run(workspace: &Workspace, binary: &Path) -> anyhow::Result<()> {
    let names = documents(&workspace.names_in("examples")?);
    if names.is_empty() {
        bail!("there is no example");
    }
    let mut refused = 0;
    for name in &names {
        let path = workspace.root.join("examples").join(name);
        let output = Command::new(binary)
            .arg("check")
            .arg(&path)
            .output()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        if !output.status.success() {
            refused += 1;
            say(&format!("examples/{name} is refused:\n{}", String::from_utf8_lossy(&output.stdout).trim_end()))?;
        }
    }
    if refused > 0 {
        bail!("examples: {refused} documents are refused");
    }
    say(&format!("examples: {} documents are accepted", names.len()))
}

/// The gateway documents among the files of a folder.
fn documents(names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|name| Path::new(name).file_name().is_some_and(|name| name == "gateway.yaml"))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gateway_documents_are_checked() {
        let names = ["a/README.md", "a/gateway.yaml", "b/not-gateway.yaml"].map(str::to_owned);
        assert_eq!(documents(&names), ["a/gateway.yaml"]);
    }
}
