//! The start and end of an adapter process.
//!
//! Settings are read and checked before any port is bound. Order at the end: polling stops, what was read goes out to
//! the stream within [`crate::pump::DRAIN_MAX`], the admin server ends last.

use std::future::Future;
use std::sync::Arc;

use daemon::admin::Admin;
use daemon::clock::Watch;
use model::Health;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::adapter::Adapter;
use crate::common::Common;
use crate::host::{Host, Surroundings};
use crate::metrics::AdapterMetrics;
use crate::modbus::ModbusAdapter;
use crate::mqtt::MqttAdapter;
use crate::opcua::OpcUaAdapter;
use crate::opcua::config::Login;
use crate::opcua::trust::Folders;
use crate::outbox::Outbox;
use crate::outlet::{Outlet, OutletError, StreamOutlet};
use crate::pump::{Identity, Pump};
use crate::simulated::Simulated;

/// The environment variable that carries the settings, as the document fixes it.
pub const SETTINGS_VARIABLE: &str = "ADAPTER_CONFIG";

/// Options of `streamforge adapter`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Name of the adapter; must be the `adapter_id` of its settings.
    #[arg(long)]
    pub id: String,
}

/// Runs the adapter that `ADAPTER_CONFIG` describes until the context's stop.
pub async fn run(options: Options, ctx: daemon::Context) -> Result<(), Error> {
    let text = std::env::var(SETTINGS_VARIABLE).map_err(|_| Error::NoSettings)?;
    let settings = serde_json::from_str(&text).map_err(|source| Error::Syntax { source })?;
    Box::pin(run_with(&settings, Some(&options.id), ctx)).await
}

/// Runs the adapter that `settings` describe; `id`, when given, must be theirs.
pub async fn run_with(settings: &Value, id: Option<&str>, ctx: daemon::Context) -> Result<(), Error> {
    Box::pin(with_adapter(settings, &ctx.clone(), false, Serving { id, ctx })).await
}

/// What is done with an adapter, whichever it is.
pub(crate) trait Run: Send {
    fn run<A: Adapter>(
        self,
        adapter: A,
        common: &Common,
        type_name: &'static str,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// As a process: its readings go to the stream.
struct Serving<'i> {
    id: Option<&'i str>,
    ctx: daemon::Context,
}

impl Run for Serving<'_> {
    async fn run<A: Adapter>(self, adapter: A, common: &Common, type_name: &'static str) -> Result<(), Error> {
        let outlet = open(common, self.id)?;
        let identity = identity(common, type_name, &self.ctx);
        Box::pin(serve(adapter, outlet(&self.ctx)?, identity, self.ctx)).await
    }
}

/// Makes the adapter that `settings` describe and hands it over. A fleeting one leaves nothing at its source, and nothing
/// on this machine.
pub(crate) async fn with_adapter(
    settings: &Value,
    ctx: &daemon::Context,
    fleeting: bool,
    run: impl Run,
) -> Result<(), Error> {
    let invalid = |problems| Error::Settings { problems };
    let type_name = settings.get("adapter_type").and_then(Value::as_str).unwrap_or_default();
    if type_name == crate::simulated::SPEC.type_name {
        let plan = crate::simulated::plan(settings, "").map_err(invalid)?;
        let adapter = Simulated::new(&plan, Arc::clone(&ctx.clock));
        return run.run(adapter, &plan.common, crate::simulated::SPEC.type_name).await;
    }
    if let Some(spec) = [crate::modbus::SPEC, crate::modbus::SERIAL].iter().find(|spec| spec.type_name == type_name) {
        let plan = crate::modbus::config::plan(settings, "").map_err(invalid)?;
        let common = plan.common.clone();
        let mut adapter = ModbusAdapter::new(plan, Arc::clone(&ctx.clock));
        if let Some(folder) = ctx.state_dir.as_ref().filter(|_| !fleeting) {
            adapter = adapter.remembering(folder);
        }
        return run.run(adapter, &common, spec.type_name).await;
    }
    if type_name == crate::mqtt::SPEC.type_name {
        let plan = crate::mqtt::config::plan(settings, "").map_err(invalid)?;
        let plan = if fleeting { plan.fleeting() } else { plan };
        let common = plan.common.clone();
        let password = match &plan.broker.password {
            None => None,
            Some(name) => Some(secret(&name.0, "/password", ctx)?),
        };
        let adapter = MqttAdapter::new(plan, &ctx.gateway_id, password, Arc::clone(&ctx.clock));
        return run.run(adapter, &common, crate::mqtt::SPEC.type_name).await;
    }
    if type_name == crate::opcua::SPEC.type_name {
        let mut plan = crate::opcua::config::plan(settings, "").map_err(invalid)?;
        if fleeting {
            plan.back_fill = None; // what was before is not for a look at what is
        }
        let common = plan.common.clone();
        let password = match &plan.connection.login {
            Login::UserName { password, .. } => Some(secret(&password.0, "/login/password", ctx)?),
            _ => None,
        };
        let Some(state) = &ctx.state_dir else {
            let hint = "the gateway sets SF_STATE_DIR; set it to a folder that stays";
            let message = "needs a folder for certificates that outlives a restart";
            return Err(invalid(vec![config::Problem::new("", "no_state_dir", message, hint)]));
        };
        let folders = Folders::new(state);
        let host = host_name();
        let adapter = OpcUaAdapter::new(plan, &ctx.gateway_id, &host, password, folders, Arc::clone(&ctx.clock));
        return run.run(adapter, &common, crate::opcua::SPEC.type_name).await;
    }
    let known: Vec<&str> = crate::catalog::SPECS.iter().map(|spec| spec.type_name).collect();
    let message = format!("{type_name:?} is not one of {}", known.join(", "));
    let hint = config::read::suggest(type_name, &known);
    Err(invalid(vec![config::Problem::new("/adapter_type", "unknown_type", message, hint)]))
}

/// A secret that settings refer to at `pointer`.
fn secret(name: &str, pointer: &str, ctx: &daemon::Context) -> Result<String, Error> {
    ctx.launch.secret(name).map(|secret| secret.reveal().to_owned()).ok_or_else(|| {
        let message = format!("the secret {name:?} was not handed over");
        let hint = format!("store it with `streamforge ctl secret set {name}`");
        Error::Settings { problems: vec![config::Problem::new(pointer, "no_secret", message, hint)] }
    })
}

/// Name of this machine, as certificates have it.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Checks what only a process needs, and returns how to open its way to the stream.
fn open(
    common: &Common,
    id: Option<&str>,
) -> Result<impl FnOnce(&daemon::Context) -> Result<StreamOutlet, Error> + use<>, Error> {
    let mut problems = Vec::new();
    if let Some(id) = id.filter(|id| *id != common.adapter_id) {
        let message = format!("{:?} is not the adapter this process was started as, {id:?}", common.adapter_id);
        problems.push(config::Problem::new("/adapter_id", "other_id", message, ""));
    }
    let bootstrap = common.kafka_bootstrap.clone().unwrap_or_default();
    if bootstrap.is_empty() {
        let hint = "the address of the gateway's stream, for example 127.0.0.1:9092";
        problems.push(config::Problem::new("/kafka_bootstrap", "missing", "is missing", hint));
    }
    if !problems.is_empty() {
        return Err(Error::Settings { problems });
    }
    let common = common.clone();
    Ok(move |ctx: &daemon::Context| {
        let registry = common.registry(&bootstrap, ctx.schema_registry.as_deref());
        let cache = ctx.schema_cache.clone();
        let secret = |name: &str| ctx.launch.secret(name).map(|secret| secret.reveal().to_owned());
        let connection = stream::Connection::from_launch(ctx.stream_access.as_deref(), secret);
        connection
            .map_err(|source| OutletError::Access { source })
            .and_then(|way| StreamOutlet::open(&way, &bootstrap, &common.adapter_id, &registry, cache, common.topic))
            .map_err(|source| Error::Outlet { source })
    })
}

pub(crate) fn identity(common: &Common, adapter_type: &'static str, ctx: &daemon::Context) -> Identity {
    Identity {
        gateway_id: ctx.gateway_id.clone(),
        adapter_id: common.adapter_id.clone(),
        adapter_type,
        config_revision: common.config_revision.clone(),
        // Without a runtime that counts the starts, the second of the start serves: it also only grows.
        epoch: ctx.launch.epoch.unwrap_or_else(|| ctx.clock.now().as_millis() / 1000),
    }
}

/// Runs an adapter with its host, its pump and its admin server until the context's stop.
pub async fn serve<A: Adapter, O: Outlet>(
    adapter: A,
    outlet: O,
    identity: Identity,
    ctx: daemon::Context,
) -> Result<(), Error> {
    let admin = Admin::bind(&ctx, no_further_routes()).await.map_err(|source| Error::Admin { source })?;
    tracing::info!(address = %admin.address(), adapter_id = identity.adapter_id, "health and metrics");
    let admin_stop = CancellationToken::new();
    let working = async {
        let left = work(adapter, outlet, identity, &ctx).await;
        admin_stop.cancel();
        left
    };
    let (left, served) = tokio::join!(working, admin.serve(admin_stop.clone()));
    if let Err(error) = served {
        tracing::warn!(%error, "health and metrics ended early");
    }
    if left > 0 { Err(Error::Undelivered { readings: left }) } else { Ok(()) }
}

/// Runs an adapter with its host and its pump until the context's stop; how many samples were left behind.
pub(crate) async fn work<A: Adapter, O: Outlet>(
    adapter: A,
    outlet: O,
    identity: Identity,
    ctx: &daemon::Context,
) -> u64 {
    let metrics = AdapterMetrics::register(&ctx.metrics);
    let outbox = Outbox::new(adapter.tags().len());
    let tags = adapter.tags().to_vec();
    ctx.board.set(Health::Healthy, "connecting");
    let seed = identity.adapter_id.bytes().fold(1u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let source = Arc::clone(&ctx.clock_source);
    let watch = Arc::new(Watch::begin(source, ctx.clock_settings, ctx.launch.clock, &ctx.metrics));
    let around = Surroundings {
        clock: Arc::clone(&ctx.clock),
        watch: Arc::clone(&watch),
        boot_hold: ctx.clock_settings.boot_hold,
        epoch: identity.epoch,
        board: Arc::clone(&ctx.board),
        metrics: metrics.clone(),
    };
    let polling = async {
        let host = Host::new(adapter, &outbox, around, seed).run(ctx.stop.clone());
        tokio::join!(host, watch.run(ctx.stop.clone()));
        outbox.close();
    };
    let pump = Pump { outlet, outbox: &outbox, tags: &tags, identity, metrics, board: &ctx.board };
    let ((), left) = tokio::join!(polling, pump.run(ctx.stop.clone()));
    left
}

/// No routes beyond the standard ones.
fn no_further_routes<T: Default>() -> T {
    T::default()
}
