//! The admin server of a process: `/health`, `/health/live`, `/health/ready`, `/metrics`.
//!
//! Bound before the role starts its work and stopped last, so that a person can always ask what is going on.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Context;

/// Content type of the OpenMetrics text that the metrics registry writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address} for health and metrics")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot publish the address of this process in {path}")]
    Announce { path: String, source: std::io::Error },
}

/// A bound, not yet served admin listener.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    routes: Router,
}

impl Admin {
    /// Binds `ctx.admin_listen`, adds `extra` routes to the standard ones and publishes the address in the run folder.
    pub async fn bind(ctx: &Context, extra: Router) -> Result<Self, Error> {
        let address = ctx.admin_listen;
        let listener = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        let address = listener.local_addr().map_err(|source| Error::Bind { address, source })?;
        announce(ctx, &serde_json::json!({ "admin": address.to_string(), "pid": std::process::id() }))?;
        let routes = Router::new()
            .route("/health", get(health))
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(ctx.clone())
            .merge(extra);
        Ok(Self { listener, address, routes })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled; open connections are then dropped, nobody waits for a scraper.
    pub async fn serve(self, stop: CancellationToken) -> std::io::Result<()> {
        let server = axum::serve(self.listener, self.routes);
        tokio::select! {
            result = IntoFuture::into_future(server) => result,
            () = stop.cancelled() => Ok(()),
        }
    }
}

/// Writes `<run_dir>/<component>.addr` by rename, so that the supervisor never reads half a file.
pub fn announce(ctx: &Context, addresses: &serde_json::Value) -> Result<(), Error> {
    let Some(dir) = &ctx.run_dir else { return Ok(()) };
    let path = dir.join(format!("{}.addr", ctx.component));
    let temporary = dir.join(format!("{}.addr.new", ctx.component));
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&temporary, addresses.to_string()))
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(|source| Error::Announce { path: path.display().to_string(), source })
}

async fn health(State(ctx): State<Context>) -> Json<serde_json::Value> {
    Json(ctx.board.to_json())
}

async fn live(State(ctx): State<Context>) -> Response {
    answer(ctx.board.is_live(), &ctx)
}

async fn ready(State(ctx): State<Context>) -> Response {
    answer(ctx.board.is_ready(), &ctx)
}

fn answer(well: bool, ctx: &Context) -> Response {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, ctx.board.reason()).into_response()
}

async fn metrics(State(ctx): State<Context>) -> Response {
    match ctx.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
