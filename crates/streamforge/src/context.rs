//! Building the context of a process from its environment.

use std::path::PathBuf;
use std::time::Duration;

use daemon::{Context, Launch, logging};

use crate::exit::{Failure, TRY_AGAIN, USAGE};

/// A context for a component that a supervisor or a person started.
pub(crate) fn component(name: &str) -> Result<Context, Failure> {
    let gateway_id = std::env::var("SF_GATEWAY_ID").unwrap_or_else(|_| "gateway".to_owned());
    logging::init(logging::Options { terminal: logging::Terminal::Json, folder: None }, name, &gateway_id);
    let mut ctx = Context::new(name, &gateway_id);
    ctx.launch = Launch::receive(&ctx.stop)
        .map_err(|error| Failure::new(TRY_AGAIN, format!("the supervisor's launch line cannot be read: {error}")))?;
    ctx.run_dir = std::env::var_os("SF_RUN_DIR").map(PathBuf::from);
    ctx.schema_cache = std::env::var_os("SF_SCHEMA_CACHE").map(PathBuf::from);
    ctx.state_dir = std::env::var_os("SF_STATE_DIR").map(PathBuf::from);
    ctx.schema_registry = std::env::var("SF_SCHEMA_REGISTRY").ok();
    ctx.stream_access = std::env::var("SF_STREAM_ACCESS").ok();
    if let Ok(text) = std::env::var("SF_CLOCK_ASSUME_SYNCED") {
        ctx.clock_settings.assume_synced = setting("SF_CLOCK_ASSUME_SYNCED", &text, "true or false")?;
    }
    if let Ok(text) = std::env::var("SF_CLOCK_BOOT_HOLD_S") {
        let seconds: u32 = setting("SF_CLOCK_BOOT_HOLD_S", &text, "seconds, 0 for none")?;
        ctx.clock_settings.boot_hold = Duration::from_secs(seconds.into());
    }
    if let Ok(listen) = std::env::var("SF_ADMIN_LISTEN") {
        let hint = "write SF_ADMIN_LISTEN as address:port, for example 0.0.0.0:8080";
        ctx.admin_listen =
            listen.parse().map_err(|_| Failure::new(USAGE, format!("{listen:?} is not an address; {hint}")))?;
    }
    Ok(ctx)
}

fn setting<T: std::str::FromStr>(name: &str, text: &str, what: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| Failure::new(USAGE, format!("{name} is {text:?}; write {what}")))
}

/// The component's own name out of its settings; settings that cannot be read are the role's to complain about.
pub(crate) fn component_name(variable: &str, id_key: &str) -> String {
    let settings = std::env::var(variable).ok().and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let name = settings.as_ref().and_then(|settings| settings.get(id_key)).and_then(serde_json::Value::as_str);
    name.and_then(|name| model::ids::normalise(name).ok()).unwrap_or_else(|| id_key.trim_end_matches("_id").to_owned())
}

/// A context for a runtime.
pub(crate) fn runtime(gateway_id: &str, terminal: logging::Terminal, logs: PathBuf) -> Result<Context, Failure> {
    logging::init(logging::Options { terminal, folder: Some(logs) }, "runtime", gateway_id);
    let mut ctx = Context::new("runtime", gateway_id);
    // a runtime under test or in a container may itself have a parent
    ctx.launch = Launch::receive(&ctx.stop)
        .map_err(|error| Failure::new(TRY_AGAIN, format!("the launch line cannot be read: {error}")))?;
    Ok(ctx)
}

/// Cancels the stop token on SIGINT or SIGTERM; a second one ends the process at once.
pub(crate) async fn watch_signals(ctx: Context) -> Result<(), std::io::Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! { // cancel-safe: nothing is lost, the process is about to stop
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = ctx.stop.cancelled() => {}
    }
    ctx.stop.cancel();
    tokio::select! {
        _ = interrupt.recv() => std::process::exit(130),
        _ = terminate.recv() => std::process::exit(143),
    }
}
