//! `dist`: the release binary with its licence, README, examples and contracts, packed, with its SHA-256 beside it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::say;
use crate::workspace::{self, Workspace};

/// What goes into the archive besides the binary.
const PARTS: [&str; 7] = ["LICENSE", "README.md", "CHANGELOG.md", "docs", "deploy", "examples", "contracts"];

/// Builds and packs into `<target>/dist`.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let root = &workspace.root;
    call(Command::new(workspace::cargo()).current_dir(root).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "streamforge",
        "--bin",
        "streamforge",
    ]))?;
    let name = format!("streamforge-{}-{}", workspace.version, host()?);
    let dist = workspace.target.join("dist");
    let folder = dist.join(&name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("{} cannot be replaced", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let binary = folder.join("streamforge");
    std::fs::copy(workspace.target.join("release").join("streamforge"), &binary).context("the binary is missing")?;
    call(Command::new("strip").arg(&binary))?;
    for part in PARTS {
        call(Command::new("cp").arg("-R").arg(root.join(part)).arg(&folder))?;
    }
    let archive = format!("{name}.tar.{}", suffix());
    pack(&dist, &name, &archive)?;
    let sum = output(Command::new("sha256sum").arg(&archive).current_dir(&dist))?;
    std::fs::write(dist.join(format!("{archive}.sha256")), &sum).context("the checksum cannot be written")?;
    say(&format!("{}\n{}", dist.join(&archive).display(), sum.trim_end()))
}

/// One archive: owners, order and times do not depend on this machine.
fn pack(dist: &Path, name: &str, archive: &str) -> anyhow::Result<()> {
    let time = output(Command::new("git").args(["log", "-1", "--format=%ct"]));
    let time = time.map_or_else(|_| "@0".to_owned(), |seconds| format!("@{}", seconds.trim()));
    call(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--auto-compress"])
            .arg(format!("--mtime={time}"))
            .args(["--create", "--file", archive, name])
            .current_dir(dist),
    )
}

/// `zst` when the machine has zstd, `gz` else.
fn suffix() -> &'static str {
    if output(Command::new("zstd").arg("--version")).is_ok() { "zst" } else { "gz" }
}

/// The triple this machine builds for.
fn host() -> anyhow::Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

fn call(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?} cannot be started"))?;
    if !status.success() {
        bail!("{command:?} failed");
    }
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} printed something that is not UTF-8"))
}
