//! How a client reaches the stream and how much memory it may take.

use std::sync::Arc;

use rdkafka::ClientConfig;

use super::Access;

/// Memory a consumer may hold in records it fetched ahead, in KiB; the fetch pauses when it is full.
const FETCH_AHEAD_KIB_MAX: u32 = 8 * 1024;
/// Memory a producer may hold in records that are not acknowledged, in KiB; sending is refused when it is full.
const PRODUCE_QUEUE_KIB_MAX: u32 = 64 * 1024;

/// Connection settings, the same for producer, consumer and admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `host:port[,host:port]`.
    pub bootstrap: String,
    /// Shown in the broker's logs and metrics.
    pub client_id: String,
    /// How long a producer waits for company before it sends a batch, in milliseconds.
    pub linger_ms: u32,
    /// What the cluster asks for besides; the embedded broker asks for nothing.
    pub access: Arc<Access>,
}

impl Settings {
    pub fn new(bootstrap: &str, client_id: &str) -> Self {
        let access = Arc::default();
        Self { bootstrap: bootstrap.to_owned(), client_id: client_id.to_owned(), linger_ms: 2, access }
    }

    /// The same for a cluster that asks for more than an address.
    #[must_use]
    pub fn with_access(self, access: Arc<Access>) -> Self {
        Self { access, ..self }
    }

    /// What all clients share: quick reconnects, no Nagle.
    pub(super) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("client.id", &self.client_id)
            .set("broker.address.family", "any")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000")
            .set("log.connection.close", "false")
            .set("enable.metrics.push", "false");
        self.access.apply(&mut config);
        config
    }

    /// REC-11: acks=all, idempotent, at most 5 requests in flight, zstd. Records wait for the broker for ever: who
    /// bounds the queue decides what happens when it is full.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("max.in.flight.requests.per.connection", "5")
            .set("compression.codec", "zstd")
            .set("compression.level", "1")
            .set("linger.ms", self.linger_ms.to_string())
            .set("batch.size", "900000")
            .set("batch.num.messages", "20000")
            .set("message.timeout.ms", "0")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", PRODUCE_QUEUE_KIB_MAX.to_string())
            .set("retry.backoff.ms", "50")
            .set("retry.backoff.max.ms", "1000");
        config
    }

    /// Manual assignment, manual commits, and an error instead of a jump when an offset is gone (OFF-12).
    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.base();
        config
            .set("group.id", self.access.full(group))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "false")
            // also how long a partition whose offset has just been looked up waits for the fetch under way to return
            .set("fetch.wait.max.ms", "200")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.min.messages", "50000")
            // compressed batches grow some tenfold in memory: small answers keep a backlog from filling it
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", "2097152")
            .set("queued.max.messages.kbytes", FETCH_AHEAD_KIB_MAX.to_string())
            .set("check.crcs", "true");
        config
    }
}
