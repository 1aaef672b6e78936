//! Feeds changed bytes to everything in `commitlog`, `kafka` and the adapters that reads bytes from outside or from a disk.
//!
//! A plain driver for the stable compiler: no coverage, but seeds that reach deep (well-formed inputs of every kind),
//! and changes that keep most of an input intact. The tests of this crate run each target for seconds; `cargo run
//! --release -p fuzz -- --seconds 3600` runs for hours. What breaks a target is kept in `corpus/<target>/` and tried
//! first ever after. Look next at `targets.rs` for what is tried, `mutate.rs` for how inputs are changed.

mod mutate;
mod opcua;
mod seeds;
mod targets;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

pub use mutate::Random;
pub use targets::{TARGETS, Target};

/// Longest input; longer changes are cut.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// An input that takes longer is a finding: nothing here is larger than [`INPUT_BYTES_MAX`].
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

/// Seeds of one target kept in the tree; beyond it they are thinned out.
pub const KEPT_SEEDS_MAX: usize = 40;

/// What a run has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried {
    /// Inputs.
    pub inputs: u64,
    /// Of them those that the target accepted as well-formed, whatever that means for it.
    pub accepted: u64,
}

/// Where the inputs of a target are kept.
pub fn corpus(target: &Target) -> PathBuf {
    // asked for at run time: clones share their build outputs
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| "fuzz".into());
    Path::new(&folder).join("corpus").join(target.name)
}

/// Tries the stored corpus, the seeds, and then changed ones of them until the time is over. The same seed and corpus
/// give the same inputs.
pub fn run(target: &Target, seed: u64, time: Duration) -> anyhow::Result<Tried> {
    let mut inputs = stored(target)?;
    inputs.extend((target.seeds)().into_iter().map(|bytes| ("a seed".to_owned(), bytes)));
    let mut tried = Tried::default();
    for (name, bytes) in &inputs {
        attempt(target, bytes, &mut tried).with_context(|| format!("{name} breaks {}", target.name))?;
    }
    let mut random = Random::new(seed);
    let begin = now();
    while begin.elapsed() < time {
        let (_, base) = &inputs[random.index(inputs.len())];
        let (_, other) = &inputs[random.index(inputs.len())];
        let mut bytes = mutate::changed(&mut random, base, other);
        bytes.truncate(INPUT_BYTES_MAX);
        // Most formats are checksummed: without this every change would end at the checksum.
        if random.index(4) > 0 {
            (target.mend)(&mut bytes);
        }
        if let Err(error) = attempt(target, &bytes, &mut tried) {
            let path = keep(target, &bytes)?;
            bail!("{} with seed {seed}: {error:#}; the input is {}", target.name, path.display());
        }
    }
    Ok(tried)
}

#[expect(clippy::disallowed_methods, reason = "a run for so many seconds: nothing depends on which")]
fn now() -> Instant {
    Instant::now()
}

/// The inputs in the tree, by name.
fn stored(target: &Target) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let folder = corpus(target);
    let mut inputs = BTreeMap::new();
    if let Ok(entries) = fs::read_dir(&folder) {
        for entry in entries {
            let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            inputs.insert(path.display().to_string(), bytes);
        }
    }
    Ok(inputs.into_iter().collect())
}

fn attempt(target: &Target, bytes: &[u8], tried: &mut Tried) -> anyhow::Result<()> {
    let begin = now();
    let accepted = catch_unwind(AssertUnwindSafe(|| (target.attempt)(bytes)));
    tried.inputs += 1;
    match accepted {
        Err(_) => bail!("it panics"),
        Ok(Err(broken)) => bail!("{broken}"),
        Ok(Ok(_)) if begin.elapsed() > INPUT_TIME_MAX => bail!("it takes {:?}", begin.elapsed()),
        Ok(Ok(accepted)) => tried.accepted += u64::from(accepted),
    }
    Ok(())
}

/// Puts seeds into the corpus, so that they stay what they are when the encoders change: at most [`KEPT_SEEDS_MAX`],
/// spread over all.
pub fn keep_seeds(target: &Target) -> anyhow::Result<usize> {
    let seeds = (target.seeds)();
    let kept = seeds.iter().step_by(seeds.len().div_ceil(KEPT_SEEDS_MAX).max(1));
    kept.map(|seed| keep(target, seed)).collect::<anyhow::Result<Vec<_>>>().map(|kept| kept.len())
}

fn keep(target: &Target, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let folder = corpus(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join(format!("{:08x}", crc32c::crc32c(bytes)));
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-04, security 38-40: nothing that comes from outside or from a disk panics, hangs or is believed without
    // reason.
    #[test]
    fn every_target_for_a_moment() {
        use std::hash::{BuildHasher, Hasher};
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let seed = number("SF_SEED").unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish());
        let time = Duration::from_secs(number("SF_FUZZ_SECONDS").unwrap_or(2));
        for target in &TARGETS {
            let tried = run(target, seed, time).unwrap_or_else(|error| panic!("SF_SEED={seed}: {error:#}"));
            assert!(tried.accepted > 0, "{}: the seeds do not reach what they are meant to", target.name);
        }
    }
}
