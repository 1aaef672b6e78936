//! `cargo run --release -p fuzz -- [--target NAME] [--seconds N] [--seed N]`: each target for so long, or one.

use std::time::Duration;

use clap::Parser;
use fuzz::{TARGETS, keep_seeds, run};

/// Feed changed bytes to everything that reads bytes from outside or from a disk.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// How long each target is tried
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeats the inputs of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Put today's seeds into the corpus and try nothing
    #[arg(long)]
    keep_seeds: bool,
}

#[expect(clippy::print_stdout, reason = "this program is its output")]
fn main() -> anyhow::Result<()> {
    use std::hash::{BuildHasher, Hasher};
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
    let chosen = |name: &str| arguments.target.as_deref().is_none_or(|wanted| wanted == name);
    anyhow::ensure!(TARGETS.iter().any(|target| chosen(target.name)), "there is no such target");
    for target in TARGETS.iter().filter(|target| chosen(target.name)) {
        if arguments.keep_seeds {
            println!("{}: {} seeds are kept", target.name, keep_seeds(target)?);
            continue;
        }
        let tried = run(target, seed, Duration::from_secs(arguments.seconds))?;
        println!("{}: {} inputs, {} accepted, seed {seed}", target.name, tried.inputs, tried.accepted);
    }
    Ok(())
}
