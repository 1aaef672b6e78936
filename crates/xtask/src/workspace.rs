//! The repository as the checks see it: its root, its crates and their dependencies, its files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// What a crate needs another one for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be built and run.
    Normal,
    /// For its tests and examples.
    Dev,
    /// For its build script.
    Build,
}

/// One dependency on a crate of this repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) need: Need,
}

/// One crate of this repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// Path of its manifest, from the root.
    pub(crate) manifest: String,
    pub(crate) imports: Vec<Import>,
}

/// A text file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The repository.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) version: String,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    pub(crate) crates: Vec<Crate>,
}

impl Workspace {
    /// The one this program was started in. Its build may be older than the folder: clones share their build outputs.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .output()
            .context("cargo cannot be started")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Self::read(&serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?)
    }

    /// Reads the answer of `cargo metadata --no-deps`.
    pub(crate) fn read(metadata: &Value) -> anyhow::Result<Self> {
        let text = |value: &Value, key: &str| -> anyhow::Result<String> {
            Ok(value[key].as_str().with_context(|| format!("cargo metadata names no {key}"))?.to_owned())
        };
        let root = PathBuf::from(text(metadata, "workspace_root")?);
        let mut crates = Vec::new();
        let mut version = String::new();
        for package in metadata["packages"].as_array().context("cargo metadata names no packages")? {
            let manifest = PathBuf::from(text(package, "manifest_path")?);
            let manifest = manifest.strip_prefix(&root).unwrap_or(&manifest).display().to_string();
            let mut imports = Vec::new();
            for dependency in package["dependencies"].as_array().into_iter().flatten() {
                // only ours have a path
                if dependency["path"].is_null() {
                    continue;
                }
                let need = match dependency["kind"].as_str() {
                    None => Need::Normal,
                    Some("dev") => Need::Dev,
                    Some(_) => Need::Build,
                };
                imports.push(Import { name: text(dependency, "name")?, need });
            }
            version = text(package, "version")?;
            crates.push(Crate { name: text(package, "name")?, manifest, imports });
        }
        crates.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { target: PathBuf::from(text(metadata, "target_directory")?), root, version, crates })
    }

    /// Every `.rs` file of the crates, sorted by path.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let mut paths = Vec::new();
        for crate_ in &self.crates {
            let folder = self.root.join(&crate_.manifest);
            let folder = folder.parent().context("a manifest has a folder")?.to_owned();
            for part in ["src", "tests", "examples", "benches"] {
                collect(&folder.join(part), &mut paths)?;
            }
        }
        paths.sort();
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            Ok(Source { path: self.relative(&path), text })
        };
        paths.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")).map(read).collect()
    }

    /// File names in a folder of the repository, sorted; empty when there is no such folder.
    pub(crate) fn names_in(&self, folder: &str) -> anyhow::Result<Vec<String>> {
        let mut paths = Vec::new();
        collect(&self.root.join(folder), &mut paths)?;
        let mut names: Vec<String> = paths
            .iter()
            .filter_map(|path| path.strip_prefix(self.root.join(folder)).ok())
            .map(|path| path.display().to_string())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The binary given, or one built now the way the tests build it.
    pub(crate) fn binary(&self, given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        if let Some(binary) = given {
            return Ok(binary);
        }
        let status = Command::new(cargo())
            .args(["build", "--quiet", "--workspace", "--bin", "streamforge"])
            .current_dir(&self.root)
            .status()
            .context("cargo cannot be started")?;
        if !status.success() {
            bail!("streamforge does not build");
        }
        Ok(self.target.join("debug").join("streamforge"))
    }

    /// The path from the root.
    pub(crate) fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// The cargo that runs us.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// All files below a folder.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_our_own_dependencies_are_imports() {
        let metadata = json!({
            "workspace_root": "/w", "target_directory": "/t",
            "packages": [{
                "name": "sinks", "version": "0.1.0", "manifest_path": "/w/crates/sinks/Cargo.toml",
                "dependencies": [
                    { "name": "serde", "kind": null },
                    { "name": "stream", "kind": null, "path": "/w/crates/stream" },
                    { "name": "testkit", "kind": "dev", "path": "/w/crates/testkit" },
                ],
            }],
        });
        let workspace = Workspace::read(&metadata).unwrap();
        assert_eq!(workspace.crates[0].manifest, "crates/sinks/Cargo.toml");
        let names: Vec<_> = workspace.crates[0].imports.iter().map(|import| (&*import.name, import.need)).collect();
        assert_eq!(names, [("stream", Need::Normal), ("testkit", Need::Dev)]);
    }
}
