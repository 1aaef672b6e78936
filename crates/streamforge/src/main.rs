//! The one binary. Parses the command line, builds the process's context, runs one role, maps its end to an exit code.

mod check;
mod commands;
mod commission;
mod context;
mod ctl;
mod demo;
mod exit;
mod points;
mod roles;
mod say;
mod simulate;
mod template;
mod up;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let commands::CommandLine { command } = commands::CommandLine::parse();
    // one TLS stack with one provider, chosen before anything opens a connection
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        say::error("the TLS provider was installed twice; this is a bug");
        return ExitCode::from(exit::BUG);
    }
    match roles::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}
