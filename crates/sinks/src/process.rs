//! The start and end of a sink process.
//!
//! Settings are read and checked before any port is bound. The consuming loop has a thread of its own; the admin server
//! runs beside it and ends last.

use std::sync::Arc;
use std::time::Duration;

use daemon::admin::Admin;
use model::Health;
use serde_json::Value;
use stream::{Connection, Schemas};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::alert_router::AlertRouterSink;
use crate::alert_router::letters::StreamLetters;
use crate::alert_router::metrics::RouterMetrics;
use crate::alert_router::plan::Plan as RouterPlan;
use crate::alert_router::send::Sender;
use crate::archive::ArchiveSink;
use crate::common::Common;
use crate::dead_letters::{DeadLetters, StreamDeadLetters};
use crate::host::{BatchLimits, Host, Patience, Surroundings};
use crate::kafka::KafkaSink;
use crate::kafka::config::KafkaPlan;
use crate::metrics::SinkMetrics;
use crate::schema_gate::SchemaGate;
use crate::sink::Sink;
use crate::source::{Source, StreamSource};
use crate::timescale::TimescaleSink;
use crate::waits::Waits;

/// The environment variable that carries the settings, as the document fixes it.
pub const SETTINGS_VARIABLE: &str = "SINK_CONFIG";

/// How long the loop has to end after the stop: its drain time, and the little that goes before and after it.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How long the stop waits for one answer of the stream. What is asked of it then are mirrors and dead letters, and
/// whatever is not done is done again after the next start; a client whose broker is gone would wait a minute.
const STREAM_ANSWER_MAX: Duration = Duration::from_secs(2);
/// How often the stop looks what the loop waits for.
const WAIT_LOOK: Duration = Duration::from_millis(100);
/// How long the connections have to be closed behind the last word of the loop.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

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
    if type_name == crate::kafka::SPEC.type_name {
        let plan = crate::kafka::config::plan(settings, "").map_err(invalid)?;
        let bootstrap = check(&plan.common, id)?;
        let (common, limits) = (plan.common.clone(), plan.limits);
        let target = target_cluster(&plan, &ctx)?;
        let (_, contracts) = stream_of(&common, &ctx)?;
        let sink = KafkaSink::new(plan, target, &ctx.gateway_id, contracts);
        return serve(sink, &common, &bootstrap, limits, ctx).await;
    }
    if type_name == crate::alert_router::SPEC.type_name {
        let plan = crate::alert_router::plan::plan(settings, "").map_err(invalid)?;
        let bootstrap = check(&plan.common, id)?;
        let (common, limits) = (plan.common.clone(), plan.limits);
        let sink = alert_router(plan, &bootstrap, &ctx)?;
        return serve(sink, &common, &bootstrap, limits, ctx).await;
    }
    let known: Vec<&str> = crate::catalog::SPECS.iter().map(|spec| spec.type_name).collect();
    let message = format!("{type_name:?} is not one of {}", known.join(", "));
    let hint = config::read::suggest(type_name, &known);
    Err(invalid(vec![config::Problem::new("/sink_type", "unknown_type", message, hint)]))
}

fn alert_router(plan: RouterPlan, bootstrap: &str, ctx: &daemon::Context) -> Result<AlertRouterSink, Error> {
    let Some(folder) = &ctx.state_dir else {
        let hint = "set SF_STATE_DIR to a folder that lives longer than this process";
        let problem = config::Problem::new("", "no_state_dir", "the router has no folder to remember in", hint);
        return Err(Error::Settings { problems: vec![problem] });
    };
    let secrets = |name: &str| ctx.launch.secret(name).cloned();
    let sender = Sender::new(&plan, &ctx.gateway_id, &secrets, Arc::clone(&ctx.clock)).map_err(|unusable| {
        let problem = |(name, reason): (String, String)| {
            let pointer = if name == "heartbeat" { "/heartbeat".to_owned() } else { format!("/destinations/{name}") };
            config::Problem::new(pointer, "unusable", reason, "")
        };
        Error::Settings { problems: unusable.into_iter().map(problem).collect() }
    })?;
    let (connection, schemas) = stream_of(&plan.common, ctx)?;
    let settings = connection.settings(bootstrap, &plan.common.sink_id);
    let (sink_id, gateway_id) = (plan.common.sink_id.clone(), ctx.gateway_id.clone());
    let clock = Arc::clone(&ctx.clock);
    let inner = StreamDeadLetters::new(settings, &sink_id, &gateway_id, schemas, Arc::clone(&clock), Handle::current());
    let head = sender.letterhead().clone();
    let memory = folder.join(format!("{sink_id}.alerts"));
    let letters = Box::new(StreamLetters { inner, sink_id, gateway_id, head });
    Ok(AlertRouterSink::new(plan, sender, letters, memory, clock, RouterMetrics::register(&ctx.metrics)))
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

/// The way into the cluster that a `kafka` sink writes to.
fn target_cluster(plan: &KafkaPlan, ctx: &daemon::Context) -> Result<Connection, Error> {
    let sasl = plan.cluster.sasl.as_ref().map(|sasl| match sasl {
        config::external::Sasl::Password { login, .. } => (&login.password, "/sasl/password"),
        config::external::Sasl::Token { client_secret, .. } => (client_secret, "/sasl/client_secret"),
    });
    let registry = plan.cluster.registry.login.as_ref().map(|login| (&login.password, "/registry/password"));
    for (reference, pointer) in sasl.into_iter().chain(registry) {
        secret(Some(&reference.0), pointer, ctx)?;
    }
    let find = |name: &str| ctx.launch.secret(name).map(|secret| secret.reveal().to_owned());
    let connection = plan.description().resolve(find).map_err(|source| Error::Access { source })?;
    match connection.access().missing() {
        None => Ok(connection),
        Some(missing) => Err(Error::Access { source: stream::access::Error::NotBuilt(missing) }),
    }
}

/// The way into the stream, and its registry when there is one.
fn stream_of(common: &Common, ctx: &daemon::Context) -> Result<(Connection, Option<Arc<Schemas>>), Error> {
    let registry = common.schema_registry.clone().or_else(|| ctx.schema_registry.clone());
    let secret = |name: &str| ctx.launch.secret(name).map(|secret| secret.reveal().to_owned());
    let connection = Connection::from_launch(ctx.stream_access.as_deref(), secret);
    let connection = connection.map_err(|source| Error::Access { source })?;
    let schemas = registry.map(|url| connection.schemas(&url, ctx.schema_cache.clone())).transpose();
    let schemas = schemas.map_err(|source| Error::Access { source })?.map(Arc::new);
    Ok((connection, schemas))
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
    let (connection, schemas) = stream_of(common, &ctx)?;
    let settings = connection.settings(bootstrap, &common.sink_id);
    let waits = Waits::default();
    let source = StreamSource::new(settings.clone(), &common.sink_id, &common.topics).with_headers(S::HEADERS);
    let source = waits.watch(source);
    let letters = waits.watch(StreamDeadLetters::new(
        settings,
        &common.sink_id,
        &ctx.gateway_id,
        schemas.clone(),
        Arc::clone(&ctx.clock),
        runtime.clone(),
    ));
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
        let result = tokio::select! {
            result = on_thread(host) => result,
            // the thread ends with the process; unconfirmed records stay on the stream
            () = hanging(&ctx.stop, &waits) => Err(Error::LeftBehind),
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

/// Ends when the stop has waited long enough: for the whole, or for a stream that does not answer.
async fn hanging(stop: &CancellationToken, waits: &Waits) {
    stop.cancelled().await;
    let begin = Instant::now();
    while begin.elapsed() < STOP_MAX {
        if waits.current().is_some_and(|waited| waited.min(begin.elapsed()) >= STREAM_ANSWER_MAX) {
            tracing::warn!("the stream does not answer, the sink stops without it");
            return;
        }
        tokio::time::sleep(WAIT_LOOK).await;
    }
}

/// Runs the loop on a thread of its own and waits for its end; a panic there is an error here. Closing the connections
/// comes after the result, since it may take as long as a broker that is gone lets it.
async fn on_thread<S, I, D>(mut host: Host<S, I, D>) -> Result<(), Error>
where
    S: Sink + Send + 'static,
    I: Source + Send + 'static,
    D: DeadLetters + Send + 'static,
{
    let (done, ended) = tokio::sync::oneshot::channel();
    let (closed, farewell) = tokio::sync::oneshot::channel::<()>();
    let body = move || {
        let result = host.run();
        if done.send(result).is_err() {
            tracing::debug!("nobody waits for the end of the loop any more");
        }
        drop(host);
        drop(closed);
    };
    std::thread::Builder::new().name("sink".to_owned()).spawn(body).map_err(|source| Error::Thread { source })?;
    let result = ended.await.map_err(|_| Error::BrokeOff)?;
    if tokio::time::timeout(FAREWELL_MAX, farewell).await.is_err() {
        tracing::debug!("connections are still being closed");
    }
    result
}

/// No routes beyond the standard ones.
fn no_routes<T: Default>() -> T {
    T::default()
}
