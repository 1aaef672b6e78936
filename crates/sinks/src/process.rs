//! The start and end of a sink process.
//!
//! Settings are read and checked before any port is bound. The consuming loop has a thread of its own; the admin server
//! runs beside it and ends last.

use std::sync::Arc;
use std::time::Duration;

use daemon::admin::Admin;
use model::Health;
use serde_json::Value;
use stream::Schemas;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::archive::ArchiveSink;
use crate::common::Common;
use crate::dead_letters::StreamDeadLetters;
use crate::host::{BatchLimits, Host, Patience, Surroundings};
use crate::metrics::SinkMetrics;
use crate::schema_gate::SchemaGate;
use crate::sink::Sink;
use crate::source::StreamSource;
use crate::timescale::TimescaleSink;

/// The environment variable that carries the settings, as the document fixes it.
pub const SETTINGS_VARIABLE: &str = "SINK_CONFIG";

/// How long the loop has to end after the stop: its drain time and one unanswered question to the stream.
const STOP_MAX: Duration = Duration::from_secs(25);

/// Options of `streamforge sink`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Name of the sink; must be the `sink_id` of its settings.
    #[arg(long)]
    pub id: Option<String>,
}

/// Runs the sink that `SINK_CONFIG` describes until the context's stop.
pub async fn run(options: Options, ctx: daemon::Context) -> Result<(), Error> {
    let text = std::env::var(SETTINGS_VARIABLE).map_err(|_| Error::NoSettings)?;
    let settings = serde_json::from_str(&text).map_err(|source| Error::Syntax { source })?;
    run_with(&settings, options.id.as_deref(), ctx).await
}

/// Runs the sink that `settings` describe; `id`, when given, must be theirs.
pub async fn run_with(settings: &Value, id: Option<&str>, ctx: daemon::Context) -> Result<(), Error> {
    let invalid = |problems| Error::Settings { problems };
    let type_name = settings.get("sink_type").and_then(Value::as_str).unwrap_or_default();
    if type_name == crate::timescale::SPEC.type_name {
        let plan = crate::timescale::config::plan(settings, "").map_err(invalid)?;
        let bootstrap = check(&plan.common, id)?;
        let password = secret(plan.password.as_deref(), "/password", &ctx)?;
        let (common, limits) = (plan.common.clone(), plan.limits);
        let sink = TimescaleSink::new(plan, password);
        return serve(sink, &common, &bootstrap, limits, ctx).await;
    }
    if type_name == crate::archive::SPEC.type_name {
        let plan = crate::archive::config::plan(settings, "").map_err(invalid)?;
        let bootstrap = check(&plan.common, id)?;
        let (common, limits) = (plan.common.clone(), plan.limits);
        let keys = crate::archive::Keys {
            access_key_id: secret(plan.access_key_id.as_deref(), "/access_key_id", &ctx)?,
            secret_access_key: secret(plan.secret_access_key.as_deref(), "/secret_access_key", &ctx)?,
        };
        let sink = ArchiveSink::new(plan, keys);
        return serve(sink, &common, &bootstrap, limits, ctx).await;
    }
    let known: Vec<&str> = crate::catalog::SPECS.iter().map(|spec| spec.type_name).collect();
    let message = format!("{type_name:?} is not one of {}", known.join(", "));
    let hint = config::read::suggest(type_name, &known);
    Err(invalid(vec![config::Problem::new("/sink_type", "unknown_type", message, hint)]))
}

/// Checks what only a process needs; returns where the stream is.
fn check(common: &Common, id: Option<&str>) -> Result<String, Error> {
    let mut problems = Vec::new();
    if let Some(id) = id.filter(|id| *id != common.sink_id) {
        let message = format!("{:?} is not the sink this process was started as, {id:?}", common.sink_id);
        problems.push(config::Problem::new("/sink_id", "other_id", message, ""));
    }
    let bootstrap = common.kafka_bootstrap.clone().unwrap_or_default();
    if bootstrap.is_empty() {
        let hint = "the address of the gateway's stream, for example 127.0.0.1:9092";
        problems.push(config::Problem::new("/kafka_bootstrap", "missing", "is missing", hint));
    }
    if problems.is_empty() { Ok(bootstrap) } else { Err(Error::Settings { problems }) }
}

fn secret(name: Option<&str>, pointer: &str, ctx: &daemon::Context) -> Result<Option<daemon::launch::Secret>, Error> {
    let Some(name) = name else { return Ok(None) };
    match ctx.launch.secret(name) {
        Some(secret) => Ok(Some(secret.clone())),
        None => {
            let message = format!("the secret {name:?} was not handed to this process");
            let hint = format!("store it with `streamforge ctl secret set {name}`");
            Err(Error::Settings { problems: vec![config::Problem::new(pointer, "no_secret", message, hint)] })
        }
    }
}

/// Runs a sink with its host and its admin server until the context's stop.
async fn serve<S: Sink + Send + 'static>(
    sink: S,
    common: &Common,
    bootstrap: &str,
    limits: BatchLimits,
    ctx: daemon::Context,
) -> Result<(), Error> {
    let admin = Admin::bind(&ctx, no_routes()).await.map_err(|source| Error::Admin { source })?;
    tracing::info!(address = %admin.address(), sink_id = common.sink_id, "health and metrics");
    ctx.board.set(Health::Healthy, "connecting");
    let runtime = Handle::current();
    let registry = common.schema_registry.clone().or_else(|| ctx.schema_registry.clone());
    let schemas = registry.map(|url| Arc::new(Schemas::new(&url, ctx.schema_cache.clone())));
    let source = StreamSource::new(bootstrap, &common.sink_id, &common.topics);
    let letters = StreamDeadLetters::new(
        bootstrap,
        &common.sink_id,
        &ctx.gateway_id,
        schemas.clone(),
        Arc::clone(&ctx.clock),
        runtime.clone(),
    );
    let around = Surroundings {
        sink_id: common.sink_id.clone(),
        topics: common.topics.clone(),
        limits,
        patience: Patience::default(),
        runtime,
        stop: ctx.stop.clone(),
        clock: Arc::clone(&ctx.clock),
        board: Arc::clone(&ctx.board),
        metrics: SinkMetrics::register(&ctx.metrics),
    };
    let host = Host::new(sink, source, letters, SchemaGate::new(schemas), around);
    let admin_stop = CancellationToken::new();
    let work = async {
        let stopping = async {
            ctx.stop.cancelled().await;
            tokio::time::sleep(STOP_MAX).await;
        };
        let result = tokio::select! {
            result = on_thread(move || host.run()) => result,
            () = stopping => Err(Error::LeftBehind), // the thread ends with the process; unconfirmed records stay on the stream
        };
        admin_stop.cancel();
        result
    };
    let (result, served) = tokio::join!(work, admin.serve(admin_stop.clone()));
    if let Err(error) = served {
        tracing::warn!(%error, "health and metrics ended early");
    }
    result
}

/// Runs the loop on a thread of its own and waits for its end; a panic there is an error here.
async fn on_thread(run: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let body = move || {
        let result = run();
        if done.send(result).is_err() {
            tracing::debug!("nobody waits for the end of the loop any more");
        }
    };
    std::thread::Builder::new().name("sink".to_owned()).spawn(body).map_err(|source| Error::Thread { source })?;
    ended.await.map_err(|_| Error::BrokeOff)?
}

/// No routes beyond the standard ones.
fn no_routes<T: Default>() -> T {
    T::default()
}
