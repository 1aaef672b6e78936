//! The command `bench`; everything is in the library, see `lib.rs`.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    bench::run(bench::CommandLine::parse())
}
