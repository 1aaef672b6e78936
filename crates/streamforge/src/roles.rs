//! One function per role: context, runtime, exit code.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use daemon::Context;

use crate::commands::Command;
use crate::exit::{BAD_CONFIG, BUG, Failure, TRY_AGAIN};
use crate::{check, commission, context, ctl, points, simulate, template, up};

/// Runs the command to its end.
pub(crate) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(options) => up::up(options),
        Command::Gateway(options) => up::gateway(&options),
        Command::Broker(options) => {
            let ctx = context::component("broker")?;
            // two workers: one may wait for the disk while the other serves
            block_on(2, &ctx.clone(), broker::run(options, ctx), |error| {
                if error.is_configuration() { BAD_CONFIG } else { TRY_AGAIN }
            })
        }
        Command::Adapter(options) => {
            let ctx = context::component(&context::component_name("ADAPTER_CONFIG", "adapter_id"))?;
            block_on(1, &ctx.clone(), adapters::run(options, ctx), |error| {
                if error.is_configuration() { BAD_CONFIG } else { TRY_AGAIN }
            })
        }
        Command::Sink(options) => {
            let ctx = context::component(&context::component_name("SINK_CONFIG", "sink_id"))?;
            block_on(1, &ctx.clone(), sinks::run(options, ctx), |error| {
                if error.is_configuration() { BAD_CONFIG } else { TRY_AGAIN }
            })
        }
        Command::Sim(sim) => simulate::run(sim),
        Command::Check(options) => check::check(&options.file),
        Command::Probe(options) => {
            let runtime = runtime(1)?;
            runtime.block_on(commission::probe(&options))
        }
        Command::Browse(options) => {
            let runtime = runtime(1)?;
            runtime.block_on(commission::browse(&options))
        }
        Command::Listen(options) => {
            let runtime = runtime(1)?;
            runtime.block_on(commission::listen(&options))
        }
        Command::Preview(options) => {
            let runtime = runtime(1)?;
            runtime.block_on(commission::preview(&options))
        }
        Command::Points(command) => points::run(command),
        Command::Template(command) => template::run(command),
        Command::Ctl(command) => ctl::run(command),
        Command::Catalog => check::catalog_json(),
    }
}

/// A tokio runtime with that many workers.
pub(crate) fn runtime(workers: usize) -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers);
    builder.enable_all().thread_stack_size(1024 * 1024).build().map_err(|error| Failure::from_error(BUG, &error))
}

/// Runs a role until it ends or a signal stops it.
pub(crate) fn block_on<E: Error + 'static>(
    workers: usize,
    ctx: &Context,
    role: impl Future<Output = Result<(), E>>,
    code: impl Fn(&E) -> u8,
) -> Result<(), Failure> {
    let runtime = runtime(workers)?;
    let result = runtime.block_on(async {
        let signals = context::watch_signals(ctx.clone());
        tokio::select! { // the role is never dropped before it ended: the signals arm only ends with the process
            result = role => result.map_err(|error| Failure::from_error(code(&error), &error)),
            error = signals => match error {
                Ok(()) => Ok(()),
                Err(error) => Err(Failure::from_error(BUG, &error)),
            },
        }
    });
    // blocking work that does not end must not keep the process
    runtime.shutdown_timeout(Duration::from_secs(2));
    if let Err(failure) = &result {
        tracing::error!(error = %failure.message, "stopped by an error");
    }
    result
}
