//! Metrics of the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use daemon::Metrics as Registry;
use kafka_protocol::messages::ApiKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Seconds; from a buffered write to a stalled disk.
const LATENCY_BUCKETS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ApiLabel {
    pub(crate) api: &'static str,
}

/// One kind of request and the Kafka error code it was answered with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ErrorLabel {
    pub(crate) api: &'static str,
    pub(crate) code: i16,
}

/// The limit that refused a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LimitLabel {
    pub(crate) limit: &'static str,
}

/// A topic; their number is limited by the broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct TopicLabel {
    pub(crate) topic: String,
}

/// The figures of one kind of request.
#[derive(Debug, Clone)]
pub(crate) struct ApiFigures {
    requests: Counter,
    seconds: Histogram,
    received: Counter,
    sent: Counter,
}

impl ApiFigures {
    pub(crate) fn begun(&self, request_bytes: usize) {
        self.requests.inc();
        self.received.inc_by(u64::try_from(request_bytes).unwrap_or(0));
    }

    pub(crate) fn answered(&self, after: Duration, answer_bytes: usize) {
        self.seconds.observe(after.as_secs_f64());
        self.sent.inc_by(u64::try_from(answer_bytes).unwrap_or(0));
    }
}

/// Cheap to clone; all clones share the figures.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// By API key, found without a search by label.
    apis: Arc<BTreeMap<i16, ApiFigures>>,
    pub(crate) errors: Family<ErrorLabel, Counter>,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) bytes_out_of_files: Counter,
    pub(crate) append_seconds: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) topic_bytes: Family<TopicLabel, Gauge>,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Family<LimitLabel, Counter>,
    pub(crate) requests_refused: Counter,
    pub(crate) requests_denied: Counter,
    pub(crate) requests_throttled: Counter,
    pub(crate) logins: Counter,
    pub(crate) logins_failed: Counter,
    pub(crate) disk_free_bytes: Gauge,
    pub(crate) groups: Gauge,
    pub(crate) registry_requests: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let latency = || Histogram::new(LATENCY_BUCKETS);
        Self {
            apis: Arc::new(api_figures(registry)),
            errors: registry.register(
                "sf_broker_errors",
                "Error codes answered, by kind of request",
                Family::default(),
            ),
            bytes_in: registry.register("sf_broker_received_bytes", "Bytes of requests", Counter::default()),
            bytes_out: registry.register("sf_broker_sent_bytes", "Bytes of answers", Counter::default()),
            bytes_out_of_files: registry.register(
                "sf_broker_sent_from_files_bytes",
                "Bytes of answers that the kernel took from a segment file without a copy through this process",
                Counter::default(),
            ),
            append_seconds: registry.register("sf_broker_append_seconds", "Time to write a batch", latency()),
            commit_seconds: registry.register(
                "sf_broker_commit_seconds",
                "Time from the write of a request's batches until they are durable",
                latency(),
            ),
            topic_bytes: registry.register("sf_broker_topic_bytes", "Bytes of a topic on disk", Family::default()),
            connections: registry.register("sf_broker_connections", "Open Kafka connections", Gauge::default()),
            connections_refused: registry.register(
                "sf_broker_connections_refused",
                "Connections closed because there were too many: in all, of one address, of one user, or waiting for a login",
                Family::default(),
            ),
            requests_refused: registry.register(
                "sf_broker_malformed_requests",
                "Connections closed because of a malformed, oversized or unsupported request",
                Counter::default(),
            ),
            requests_denied: registry.register(
                "sf_broker_denied_requests",
                "Requests of which access rules refused a part",
                Counter::default(),
            ),
            requests_throttled: registry.register(
                "sf_broker_throttled_requests",
                "Requests after which a client had to wait because of its quota",
                Counter::default(),
            ),
            logins: registry.register("sf_broker_logins", "Logins that succeeded", Counter::default()),
            logins_failed: registry.register(
                "sf_broker_failed_logins",
                "Logins and TLS handshakes that failed",
                Counter::default(),
            ),
            disk_free_bytes: registry.register(
                "sf_broker_disk_free_bytes",
                "Free bytes on the data disk",
                Gauge::default(),
            ),
            groups: registry.register(
                "sf_broker_groups",
                "Consumer groups in memory",
                Gauge::<i64, AtomicI64>::default(),
            ),
            registry_requests: registry.register(
                "sf_registry_requests",
                "Requests to the schema registry",
                Counter::default(),
            ),
        }
    }

    /// Counts a connection that a limit closed.
    pub(crate) fn count_refused(&self, limit: &'static str) {
        self.connections_refused.get_or_create(&LimitLabel { limit }).inc();
    }

    /// The figures of an API that is spoken here.
    pub(crate) fn api(&self, api: ApiKey) -> Option<&ApiFigures> {
        self.apis.get(&(api as i16))
    }

    pub(crate) fn count_error(&self, api: ApiKey, code: i16) {
        if code != 0 {
            self.errors.get_or_create(&ErrorLabel { api: api_name(api), code }).inc();
        }
    }
}

fn api_figures(registry: &Registry) -> BTreeMap<i16, ApiFigures> {
    let counters = |name, help| -> Family<ApiLabel, Counter> { registry.register(name, help, Family::default()) };
    let requests = counters("sf_broker_requests", "Requests by kind");
    let received = counters("sf_broker_request_bytes", "Bytes of requests by kind");
    let sent = counters("sf_broker_response_bytes", "Bytes of answers by kind");
    let seconds: Family<ApiLabel, Histogram> = registry.register(
        "sf_broker_request_seconds",
        "Time from the arrival of a request until its answer is ready, the wait of a long poll included",
        Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
    );
    let figures = |api: &crate::apis::Api| {
        let label = ApiLabel { api: api.name };
        let figures = ApiFigures {
            requests: requests.get_or_create_owned(&label),
            seconds: seconds.get_or_create_owned(&label),
            received: received.get_or_create_owned(&label),
            sent: sent.get_or_create_owned(&label),
        };
        (api.key as i16, figures)
    };
    crate::apis::APIS.iter().map(figures).collect()
}

/// The API's name for labels and logs.
pub(crate) fn api_name(api: ApiKey) -> &'static str {
    crate::apis::APIS.iter().find(|row| row.key == api).map_or("other", |row| row.name)
}
