//! A small fleet that publishes over MQTT, and the broker it publishes to.
//!
//! `streamforge sim mqtt` runs both, so that nothing has to be installed; with `--broker` the fleet publishes to somebody
//! else's broker. Tests start a [`Broker`] on a free port, script its faults, and add a [`Fleet`] where they want one.
//!
//! Where to look next: [`broker`] for what it can and cannot do, [`fault`] for what can go wrong, `fleet` for the JSON
//! machines, [`edge`] for the Sparkplug B node, [`client`] for what they publish with.

pub mod broker;
pub mod client;
mod connection;
pub mod edge;
pub mod fault;
pub mod fleet;
pub mod sparkplug;
pub mod state;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use broker::Broker;
use fault::Rule;
pub use state::Message;

/// From the end of a machine's connection to its next attempt.
const AGAIN: Duration = Duration::from_secs(1);
/// How often the log is told what was dropped, when something was.
const TELL: Duration = Duration::from_secs(60);

/// Settings of `streamforge sim mqtt`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Address of the broker; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub listen: SocketAddr,
    /// Publish to this broker (host:port, no TLS) instead of running one
    #[arg(long, conflicts_with_all = ["listen", "faults", "broker_only"])]
    pub broker: Option<String>,
    /// Run the broker alone; nobody publishes
    #[arg(long)]
    pub broker_only: bool,
    /// From one message of a machine to the next, in milliseconds
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub period_ms: u64,
    /// Misbehave: delay=200, close, refuse=3, suback, flood=50, duplicate, puback, deaf, ...; /N for one in N packets, @C for clients whose name begins with C
    #[arg(long = "fault", value_name = "FAULT[=VALUE][/N][@CLIENT]")]
    pub faults: Vec<Rule>,
}

/// Why the simulation cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error(
        "cannot listen on {address} as an MQTT broker; give another one with --listen, or use the broker there with --broker"
    )]
    Listen {
        /// Address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs broker and fleet until `stop`.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), Error> {
    let period = Duration::from_millis(options.period_ms);
    if let Some(broker) = options.broker {
        tracing::info!(broker, "simulating machines that publish over MQTT");
        let _fleet = Fleet::start(&broker, period);
        stop.cancelled().await;
        return Ok(());
    }
    let listen = options.listen;
    let broker = Broker::start(listen).await.map_err(|source| Error::Listen { address: listen, source })?;
    for rule in options.faults {
        broker.script(rule);
    }
    tracing::info!(address = %broker.address(), "simulating an MQTT broker (3.1.1, no TLS, no login)");
    let _fleet = (!options.broker_only).then(|| Fleet::start(&broker.address().to_string(), period));
    let mut told = broker.counters();
    loop {
        tokio::select! { // nothing is lost with either
            () = stop.cancelled() => break,
            () = tokio::time::sleep(TELL) => {}
        }
        let now = broker.counters();
        if now.dropped > told.dropped || now.not_kept > told.not_kept {
            tracing::warn!(dropped = now.dropped, not_kept = now.not_kept, "messages found no room");
        }
        told = now;
    }
    let end = broker.counters();
    tracing::info!(
        received = end.received,
        sent = end.sent,
        dropped = end.dropped,
        wills = end.wills,
        "the broker ends"
    );
    Ok(())
}

/// Machines that publish; they stop when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    _tasks: JoinSet<()>,
}

impl Fleet {
    /// Publishes to `host:port` for as long as it lives, connecting again when it must.
    pub fn start(broker: &str, period: Duration) -> Self {
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        let to = broker.to_owned();
        tasks.spawn(async move {
            loop {
                if let Err(error) = fleet::live(&to, started, period).await {
                    tracing::info!(broker = to, %error, "the machines connect again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        let to = broker.to_owned();
        tasks.spawn(async move {
            let mut node = edge::Node::default();
            loop {
                if let Err(error) = edge::live(&mut node, &to, started, period).await {
                    tracing::info!(broker = to, %error, "the edge node connects again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
        Self { _tasks: tasks }
    }
}
