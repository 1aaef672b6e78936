//! The single-node broker: Kafka clients on one listener, schema registry clients on another, one data folder.
//!
//! Not a cluster and never pretending to be one. Batches are stored as their producers sent them and acknowledged when
//! the disk has them; the log itself is the `commitlog` crate, the codec and its guard are `kafka::protocol`.
//! Read `broker.rs` for the order of things, `connection.rs` and `dispatch.rs` for the way of a request,
//! `handlers/` for what each API does, `coordinator/` for consumer groups, `transactions/` for transactions and
//! `registry/` for schemas.
//! What is spoken and what is not: `docs/specs/broker.md`.

mod access;
mod apis;
mod broker;
mod broker_config;
mod codec;
mod commit;
mod compaction;
mod connection;
mod coordinator;
mod core;
mod descriptors;
mod disk;
mod dispatch;
mod error;
mod fetch_sessions;
mod handlers;
mod limits;
mod lock;
mod loud;
mod metrics;
mod outgoing;
mod partition;
mod places;
mod producer_ids;
mod random;
mod registry;
mod replay;
mod scrape;
mod server;
mod settings;
mod stored;
mod topic_config;
mod topics;
mod transactions;
mod unsupported;
mod waiters;

pub use access::listener::{Admission, Listener, TlsFiles};
pub use access::users;
pub use broker::{Broker, Handle};
pub use error::Error;
pub use settings::{Durability, Options, Settings};
pub use stored::{StoredTopic, stored_topics};

/// Runs the broker role until it is told to stop, or the disk fails.
pub async fn run(options: Options, mut ctx: daemon::Context) -> Result<(), Error> {
    if let Some(admin_listen) = options.admin_listen {
        ctx.admin_listen = admin_listen;
    }
    let settings = Settings::try_from(options)?;
    descriptors::raise(settings.connections_max);
    let admin_error = |source| Error::Admin { source };
    let admin = daemon::admin::Admin::bind(&ctx, axum::Router::new()).await.map_err(admin_error)?;
    let admin_address = admin.address();
    let admin_stop = tokio_util::sync::CancellationToken::new();
    let mut tasks = daemon::TaskSet::new(admin_stop);
    tasks.spawn("admin", |stop| admin.serve(stop));
    let handle = Broker::start(settings, &ctx).await?;
    handle.announce_admin(admin_address)?;
    daemon::notify::ready();
    let ended = handle.ended().await;
    daemon::notify::stopping();
    ctx.board.set_ready(false);
    handle.stop().await;
    tasks.shutdown(limits::STOP_DEADLINE).await; // last, so that a person can ask until the end
    ended
}
