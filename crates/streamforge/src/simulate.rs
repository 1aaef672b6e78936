//! `sim`: simulated devices as processes with health and metrics like all others.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use daemon::admin::Admin;
use daemon::{Context, TaskSet};
use model::Health;
use testkit::sim::{modbus, mqtt, opcua};
use tokio_util::sync::CancellationToken;

use crate::commands::Sim;
use crate::exit::{Failure, TRY_AGAIN};
use crate::{context, roles};

/// Names of the children that simulate the demo plant; also the names of their processes.
pub(crate) const MODBUS: &str = "sim_modbus";
pub(crate) const OPCUA: &str = "sim_opcua";
pub(crate) const MQTT: &str = "sim_mqtt";

#[derive(Debug, thiserror::Error)]
enum SimError {
    #[error(transparent)]
    Admin(#[from] daemon::admin::Error),
    #[error("the simulated devices cannot be served")]
    Devices(#[source] Box<dyn Error + Send + Sync>),
}

/// Simulates until it is stopped.
pub(crate) fn run(sim: Sim) -> Result<(), Failure> {
    let name = match &sim {
        Sim::Modbus(_) => MODBUS,
        Sim::Opcua(_) => OPCUA,
        Sim::Mqtt(_) => MQTT,
    };
    let ctx = context::component(name)?;
    let (of_role, stop) = (ctx.clone(), ctx.stop.clone());
    let code = |_: &SimError| TRY_AGAIN;
    match sim {
        Sim::Modbus(options) => roles::block_on(1, &ctx, serve(of_role, modbus::run(options, stop)), code),
        Sim::Opcua(options) => roles::block_on(1, &ctx, serve(of_role, opcua::run(options, stop)), code),
        Sim::Mqtt(options) => roles::block_on(1, &ctx, serve(of_role, mqtt::run(options, stop)), code),
    }
}

async fn serve<E: Error + Send + Sync + 'static>(
    ctx: Context,
    devices: impl Future<Output = Result<(), E>>,
) -> Result<(), SimError> {
    let admin = Admin::bind(&ctx, axum::Router::new()).await?;
    let mut tasks = TaskSet::new(CancellationToken::new());
    tasks.spawn("admin", |stop| admin.serve(stop));
    ctx.board.set(Health::Healthy, "devices answer");
    ctx.board.set_ready(true);
    let result = devices.await;
    tasks.shutdown(Duration::from_secs(1)).await;
    result.map_err(|error| SimError::Devices(Box::new(error)))
}
