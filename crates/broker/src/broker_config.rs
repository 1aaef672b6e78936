//! What the broker tells about its own settings, under the names that admin tools know from Kafka.
//!
//! Everything here is a fact of this broker; a setting of Kafka's that has no counterpart is absent. All of it comes from
//! the command line or is built in, so clients read it and alter nothing.

use crate::access::listener::{Endpoint, FIRST};
use crate::core::{Core, NODE_ID};
use crate::limits::{FETCH_SESSIONS_MAX, IDLE_DEADLINE};
use crate::topic_config::{KEYS, Kind};

/// The release of Kafka whose requests for administration are all spoken. kafbat sends nothing newer than what it finds here.
const ADMIN_REQUESTS_OF: &str = "2.6";

/// One fact.
#[derive(Debug)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) kind: Kind,
    /// Given by the operator, and not built in.
    pub(crate) given: bool,
    pub(crate) summary: &'static str,
}

fn built_in(name: &'static str, value: &impl ToString, kind: Kind, summary: &'static str) -> Fact {
    Fact { name, value: value.to_string(), kind, given: false, summary }
}

fn given(name: &'static str, value: &impl ToString, kind: Kind, summary: &'static str) -> Fact {
    Fact { given: true, ..built_in(name, value, kind, summary) }
}

/// The name under which Kafka keeps the broker's default of a topic's setting.
pub(crate) fn broker_name(topic_setting: &str) -> Option<&'static str> {
    Some(match topic_setting {
        "cleanup.policy" => "log.cleanup.policy",
        "compression.type" => "compression.type",
        "max.message.bytes" => "message.max.bytes",
        "message.timestamp.type" => "log.message.timestamp.type",
        "min.insync.replicas" => "min.insync.replicas",
        "retention.bytes" => "log.retention.bytes",
        "retention.ms" => "log.retention.ms",
        "segment.bytes" => "log.segment.bytes",
        "segment.ms" => "log.roll.ms",
        _ => return None,
    })
}

/// All facts, by name, as the clients of one listener see them.
pub(crate) fn facts(core: &Core, endpoint: &Endpoint) -> Vec<Fact> {
    let settings = &core.settings;
    let further = settings.listeners.iter().map(|listener| format!(",{}://{}", listener.name, listener.address));
    let addresses = format!("{FIRST}://{}{}", settings.listen, further.collect::<String>());
    let advertised = format!("{}://{}:{}", endpoint.name, endpoint.host, endpoint.port);
    let idle_ms = IDLE_DEADLINE.as_millis();
    let per_address = settings.connections_per_address_max;
    let login_ms = settings.login_lifetime.map_or(0, |time| time.as_millis());
    let offsets_minutes = settings.offsets_retention_ms.map_or(-1, |ms| (ms / 60_000).clamp(1, i32::MAX.into()));
    let mut facts = vec![
        given("advertised.listeners", &advertised, Kind::List, "where clients of this listener are told to connect"),
        given(
            "auto.create.topics.enable",
            &settings.auto_create_partitions.is_some(),
            Kind::Boolean,
            "whether a topic comes into being by being asked for",
        ),
        built_in("broker.id", &NODE_ID.0, Kind::Int, "the only broker"),
        built_in("connections.max.idle.ms", &idle_ms, Kind::Long, "a connection that is silent for longer is closed"),
        given("connections.max.reauth.ms", &login_ms, Kind::Long, "a login holds for so long; 0 is for ever"),
        built_in("default.replication.factor", &1, Kind::Int, "there is one broker"),
        built_in("delete.topic.enable", &true, Kind::Boolean, "topics can be deleted"),
        given(
            "durability",
            &settings.durability.as_str(),
            Kind::Text,
            "synced: acknowledged after fsync; buffered: after the write",
        ),
        built_in(
            "inter.broker.protocol.version",
            &ADMIN_REQUESTS_OF,
            Kind::Text,
            "there is no other broker; admin tools read here which release's requests they may send",
        ),
        given("listeners", &addresses, Kind::List, "where the broker listens, each by its name"),
        given("log.dirs", &settings.data_dir.display(), Kind::Text, "the data folder"),
        given("max.connections", &settings.connections_max, Kind::Int, "connections in all; a further one is closed"),
        given(
            "max.connections.per.ip",
            &per_address,
            Kind::Int,
            "connections from one address; a further one is closed",
        ),
        built_in(
            "max.incremental.fetch.session.cache.slots",
            &FETCH_SESSIONS_MAX,
            Kind::Int,
            "incremental fetch sessions; without room a client names all of its partitions each time",
        ),
        built_in("node.id", &NODE_ID.0, Kind::Int, "the only broker"),
        given("num.partitions", &settings.partitions(), Kind::Int, "partitions of a topic whose creator names none"),
        given(
            "offsets.retention.minutes",
            &offsets_minutes,
            Kind::Int,
            "committed offsets of a group that nobody uses are kept for so long; -1 is for ever",
        ),
        given(
            "storage.reserve.bytes",
            &settings.reserve_bytes,
            Kind::Long,
            "free bytes below which producers are told to try again later",
        ),
    ];
    let defaults = KEYS.iter().filter_map(|key| Some((broker_name(key.name)?, key)));
    facts.extend(defaults.map(|(name, key)| built_in(name, &key.default, key.kind, key.summary)));
    facts.sort_by_key(|fact| fact.name);
    facts
}
