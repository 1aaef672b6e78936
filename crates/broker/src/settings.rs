//! What an operator can set: command line options, and the settings parsed from them once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::access::listener::Listener;

/// Command line of the broker role.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Folder for topics and state; created when absent.
    #[arg(long, env = "SF_BROKER_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Address for Kafka clients; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:9092", env = "SF_BROKER_LISTEN")]
    pub listen: SocketAddr,
    /// Host and port that clients are told to connect to; the listening address when absent.
    #[arg(long, env = "SF_BROKER_ADVERTISE")]
    pub advertise: Option<String>,
    /// Address for schema registry clients; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:8081", env = "SF_BROKER_REGISTRY_LISTEN")]
    pub registry_listen: SocketAddr,
    /// Address for health and metrics; the process's common setting when absent.
    #[arg(long, env = "SF_BROKER_ADMIN_LISTEN")]
    pub admin_listen: Option<SocketAddr>,
    /// When a record is acknowledged.
    #[arg(long, value_enum, default_value_t = Durability::Synced, env = "SF_BROKER_DURABILITY")]
    pub durability: Durability,
    /// Free bytes on the data disk below which producers are told to try again later; max(512 MiB, 1 % of the disk)
    /// is the usual choice, and 512 MiB the default.
    #[arg(long, default_value_t = Settings::DEFAULT_RESERVE_BYTES, env = "SF_BROKER_RESERVE_BYTES")]
    pub reserve_bytes: u64,
    /// Topics that may use most of the reserve, by name or by the beginning of a name with `*` behind it.
    #[arg(long, value_delimiter = ',', default_value = "alarms.*,audit", env = "SF_BROKER_ESSENTIAL_TOPICS")]
    pub essential_topics: Vec<String>,
    /// A further listener: address=HOST:PORT[,name=NAME][,advertise=HOST:PORT][,tls-cert=FILE,tls-key=FILE]
    /// [,client-ca=FILE][,sasl=required][,plain-without-tls=true]; several in the environment are separated by semicolons.
    #[arg(long = "listener", value_delimiter = ';', env = "SF_BROKER_LISTENERS")]
    pub listeners: Vec<Listener>,
    /// Let access rules decide who may do what; what no rule allows is refused.
    #[arg(long, env = "SF_BROKER_AUTHORIZE")]
    pub authorize: bool,
    /// A user that may do everything whatever the rules say; the name as in its login, or the subject of its
    /// certificate. Several in the environment are separated by semicolons.
    #[arg(long = "super-user", value_delimiter = ';', env = "SF_BROKER_SUPER_USERS")]
    pub super_users: Vec<String>,
    /// Seconds after which a login has to be repeated; 0 is never.
    #[arg(long, default_value_t = 0, env = "SF_BROKER_LOGIN_LIFETIME_S")]
    pub login_lifetime_s: u32,
    /// Milliseconds after which the committed offsets of a group that nobody uses are dropped; absent is never.
    #[arg(long, env = "SF_BROKER_OFFSETS_RETENTION_MS")]
    pub offsets_retention_ms: Option<u64>,
    /// Let a topic come into being when a client asks for it, with this many partitions; absent, it has to be created.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..), env = "SF_BROKER_AUTO_CREATE_PARTITIONS")]
    pub auto_create_partitions: Option<i32>,
    /// Connections in all.
    #[arg(long, default_value_t = 1_000)]
    pub connections_max: usize,
    /// Connections from one address.
    #[arg(long, default_value_t = 400)]
    pub connections_per_address_max: usize,
    /// Connections of one user, where users log in or show certificates.
    #[arg(long, default_value_t = 400)]
    pub connections_per_user_max: usize,
}

/// When a record is acknowledged and shown to consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Durability {
    /// After fsync: an acknowledged record survives a power cut.
    Synced,
    /// After the write: an acknowledged record survives a crash of the broker, not a power cut. Synced every second.
    Buffered,
}

impl Durability {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Buffered => "buffered",
        }
    }
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Host and port told to clients; `None` means the bound address.
    pub advertise: Option<(String, u16)>,
    pub registry_listen: SocketAddr,
    pub durability: Durability,
    /// Free bytes that must remain on the data disk for group offsets, schemas and deletes.
    pub reserve_bytes: u64,
    /// Topics that may use most of the reserve; `*` stands for any end of a name.
    pub essential_topics: Vec<String>,
    /// Listeners beside the first one.
    pub listeners: Vec<Listener>,
    /// Access rules decide who may do what.
    pub authorize: bool,
    /// Names of users that may do everything.
    pub super_users: Vec<String>,
    /// How long a login holds; `None` is for as long as the connection lives.
    pub login_lifetime: Option<Duration>,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub connections_per_user_max: usize,
    /// How long a group that comes to life waits for more members before it hands out partitions.
    pub group_initial_delay_ms: i64,
    /// How long a member of the consumer group protocol may be silent.
    pub consumer_session_ms: i64,
    /// How often members of the consumer group protocol are told to be heard of.
    pub consumer_heartbeat_ms: i32,
    /// How long the offsets of a group that nobody uses are kept; `None` is for ever.
    pub offsets_retention_ms: Option<i64>,
    /// Partitions of a topic that comes into being by being asked for; `None` is that none does.
    pub auto_create_partitions: Option<i32>,
    /// Bytes appended to the group offsets after which they are written anew and the old ones dropped.
    pub offsets_rewrite_bytes: u64,
    /// A wall clock that cannot be right deletes nothing for its age; off, every clock is believed.
    pub doubts_clock: bool,
    /// How often it is looked at whether a compacted log wants compaction.
    pub compaction_interval: Duration,
}

impl Settings {
    pub const DEFAULT_RESERVE_BYTES: u64 = 512 * 1024 * 1024;

    /// Settings on free ports of the loopback interface; for tests and as a base for others.
    pub fn on_free_ports(data_dir: impl Into<PathBuf>) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            data_dir: data_dir.into(),
            listen: any,
            advertise: None,
            registry_listen: any,
            durability: Durability::Synced,
            reserve_bytes: 64 * 1024 * 1024,
            essential_topics: Vec::new(),
            listeners: Vec::new(),
            authorize: false,
            super_users: Vec::new(),
            login_lifetime: None,
            connections_max: 1_000,
            connections_per_address_max: 1_000,
            connections_per_user_max: 1_000,
            group_initial_delay_ms: 50,
            consumer_session_ms: 45_000,
            consumer_heartbeat_ms: 3_000,
            offsets_retention_ms: None,
            auto_create_partitions: None,
            offsets_rewrite_bytes: 4 * 1024 * 1024,
            doubts_clock: false,
            compaction_interval: Duration::from_secs(15),
        }
    }
}

impl Settings {
    /// Partitions of a topic whose creator names none.
    pub(crate) fn partitions(&self) -> i32 {
        self.auto_create_partitions.unwrap_or(1)
    }
}

impl TryFrom<Options> for Settings {
    type Error = Error;

    fn try_from(options: Options) -> Result<Self, Error> {
        let advertise = options.advertise.as_deref().map(parse_advertise).transpose()?;
        let limits = [options.connections_max, options.connections_per_address_max, options.connections_per_user_max];
        if limits.contains(&0) {
            let reason = "no connection at all would be accepted".to_owned();
            return Err(Error::Setting { name: "connections_max", reason });
        }
        Ok(Self {
            advertise,
            listen: options.listen,
            registry_listen: options.registry_listen,
            durability: options.durability,
            reserve_bytes: options.reserve_bytes,
            essential_topics: options.essential_topics,
            listeners: options.listeners,
            authorize: options.authorize,
            super_users: options.super_users,
            login_lifetime: Some(Duration::from_secs(options.login_lifetime_s.into())).filter(|time| !time.is_zero()),
            connections_max: options.connections_max,
            connections_per_address_max: options.connections_per_address_max,
            connections_per_user_max: options.connections_per_user_max,
            group_initial_delay_ms: 250,
            offsets_retention_ms: options.offsets_retention_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            auto_create_partitions: options.auto_create_partitions,
            doubts_clock: true,
            ..Self::on_free_ports(options.data_dir)
        })
    }
}

/// `host:port`; an IPv6 host stands in brackets.
pub(crate) fn parse_advertise(text: &str) -> Result<(String, u16), Error> {
    let wrong = || Error::Setting { name: "advertise", reason: format!("{text} is not host:port") };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || port == 0 || host.len() > 255 {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_addresses() {
        assert_eq!(parse_advertise("gw.example:9092").unwrap(), ("gw.example".to_owned(), 9092));
        assert_eq!(parse_advertise("[::1]:9092").unwrap(), ("::1".to_owned(), 9092));
        for wrong in ["gw", ":9092", "gw:0", "gw:99999", ""] {
            assert!(parse_advertise(wrong).is_err(), "{wrong}");
        }
    }
}
