//! Project automation: `tidy` checks the house rules, `gen` writes what is generated,
//! `examples` tries the examples, `dist` packs a release.
//!
//! Imports none of our crates: it reads the sources as text, asks `cargo metadata`, and asks the built binary. So it
//! works on a tree that does not compile, and no crate can bend its own rules.
//!
//! Where to look next: [`tidy::layers`] for which crate may import which, [`tidy::sources`] for the rules on files.

mod dist;
mod examples;
mod r#gen;
mod tidy;
mod workspace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "xtask", about = "Project automation")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the house rules and print every finding
    Tidy,
    /// Write the generated contracts and reference pages
    Gen {
        /// Write nothing; fail when a file differs from what would be written
        #[arg(long)]
        check: bool,
        /// Ask this built binary instead of building one
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Check that the binary accepts every document under examples/
    Examples {
        /// Ask this built binary instead of building one
        #[arg(long)]
        binary: Option<PathBuf>,
    },
    /// Build the release binary and pack it with its licence, README and examples
    Dist,
}

fn main() -> ExitCode {
    match run(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // nothing is left to do when standard error is closed too
            drop(writeln!(std::io::stderr().lock(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Tidy => tidy::run(&workspace),
        Command::Gen { check, binary } => r#gen::run(&workspace, check, &workspace.binary(binary)?),
        Command::Examples { binary } => examples::run(&workspace, &workspace.binary(binary)?),
        Command::Dist => dist::run(&workspace),
    }
}

/// Prints one line.
fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("standard output is closed")
}
