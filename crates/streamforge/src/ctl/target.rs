//! Which stream a command talks to: the one named, or the one that runs on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use gateway::identities::{self, Login};
use kafka::client::admin::Admin;
use kafka::client::{Access, Error, ResponseError, Settings};
use serde::Deserialize;

use crate::exit::{Failure, TRY_AGAIN, USAGE};
use crate::up;

/// Where the stream usually is.
const USUAL_KAFKA: &str = "127.0.0.1:9092";
const USUAL_REGISTRY: &str = "http://127.0.0.1:8081";
/// Written by a running broker into its data folder.
const ADDRESS_FILE: &str = "broker.addr";

/// Which stream, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Kafka bootstrap address, HOST:PORT[,HOST:PORT]; that of the local gateway when absent
    #[arg(long, short, global = true, env = "SF_BOOTSTRAP")]
    pub(crate) bootstrap: Option<String>,
    /// Schema registry, http://HOST:PORT; that of the local gateway when absent
    #[arg(long, global = true, env = "SF_SCHEMA_REGISTRY")]
    pub(crate) registry: Option<String>,
    /// Data folder of the local gateway, or of a broker that runs alone; names no other stream than its own
    #[arg(long, global = true, env = "SF_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What a broker says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Announced {
    kafka: SocketAddr,
    registry: SocketAddr,
    pid: u32,
}

impl Target {
    /// Kafka address.
    pub(crate) fn kafka(&self) -> String {
        let local = || self.announced().map(|local| reachable(local.kafka).to_string());
        self.bootstrap.clone().or_else(local).unwrap_or_else(|| USUAL_KAFKA.to_owned())
    }

    /// Registry address. A stream that was named has its registry named with it, or at the usual place.
    pub(crate) fn registry(&self) -> String {
        let local = || {
            let local = self.bootstrap.is_none().then(|| self.announced()).flatten();
            local.map(|local| format!("http://{}", reachable(local.registry)))
        };
        self.registry.clone().or_else(local).unwrap_or_else(|| USUAL_REGISTRY.to_owned())
    }

    /// How clients reach the stream: that of a local gateway under the name it left for its operator.
    pub(crate) fn settings(&self) -> Settings {
        let settings = Settings::new(&self.kafka(), "sf-ctl");
        match self.operator() {
            Some(login) => settings.with_access(Arc::new(Access::of(&login.user, login.password.reveal()))),
            None => settings,
        }
    }

    /// The login that belongs to the local gateway's stream; none for a stream that was named.
    fn operator(&self) -> Option<Login> {
        let is_local = |folder: &PathBuf| read(&folder.join("stream")).is_some();
        let folder = if self.bootstrap.is_none() { self.folders().into_iter().find(is_local) } else { None };
        folder.and_then(|folder| identities::operator(&folder))
    }

    /// A connection for administration.
    ///
    /// A data folder names its own stream and no other: without one that runs, a broker at the usual place is not asked.
    pub(crate) async fn admin(&self) -> Result<Admin, Failure> {
        if let (None, Some(folder), None) = (&self.bootstrap, &self.data_dir, self.announced()) {
            let folder = folder.display();
            let text =
                format!("no stream runs on {folder}; --bootstrap names the cluster of a gateway in external mode");
            return Err(Failure::new(TRY_AGAIN, text));
        }
        Admin::connect(&self.settings()).await.map_err(|error| failed(&error))
    }

    /// The broker that runs in the data folder named, or in the user's own or the demo's.
    fn announced(&self) -> Option<Announced> {
        self.folders().iter().find_map(|folder| read(&folder.join("stream")).or_else(|| read(folder)))
    }

    fn folders(&self) -> Vec<PathBuf> {
        match &self.data_dir {
            Some(folder) => vec![folder.clone()],
            None => [false, true].into_iter().filter_map(|demo| up::data_dir(None, demo).ok()).collect(),
        }
    }
}

/// The address file of a broker that is alive; one that crashed has left its own behind.
pub(super) fn read(folder: &Path) -> Option<Announced> {
    let text = std::fs::read_to_string(folder.join(ADDRESS_FILE)).ok()?;
    let announced: Announced = serde_json::from_str(&text).ok()?;
    Path::new("/proc").join(announced.pid.to_string()).exists().then_some(announced)
}

/// A broker that listens everywhere is asked on this machine's own address.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        _ => {}
    }
    address
}

/// The end of a command because of the stream's answer, or for want of one.
pub(crate) fn failed(error: &Error) -> Failure {
    let text = daemon::report(error);
    match error {
        Error::Refused { code, .. } => {
            let later = code.is_retriable() && *code != ResponseError::UnknownTopicOrPartition
                || *code == ResponseError::NonEmptyGroup;
            Failure::new(if later { TRY_AGAIN } else { USAGE }, text)
        }
        Error::NotSpoken { .. } => Failure::new(USAGE, text),
        _ => {
            let hint = "is the gateway running? `streamforge up` starts one; --bootstrap names another address";
            Failure::new(TRY_AGAIN, format!("{text}; {hint}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(data_dir: &Path) -> Target {
        Target { bootstrap: None, registry: None, data_dir: Some(data_dir.to_owned()), json: false }
    }

    #[test]
    fn the_broker_of_the_data_folder_is_found_while_it_lives() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(target(dir.path()).kafka(), USUAL_KAFKA);
        let write = |folder: &Path, pid: u32| {
            std::fs::create_dir_all(folder).unwrap();
            let text = format!(r#"{{"kafka":"0.0.0.0:19092","registry":"127.0.0.1:18081","admin":null,"pid":{pid}}}"#);
            std::fs::write(folder.join(ADDRESS_FILE), text).unwrap();
        };
        write(dir.path(), std::process::id());
        assert_eq!(target(dir.path()).kafka(), "127.0.0.1:19092", "a broker alone");
        assert_eq!(target(dir.path()).registry(), "http://127.0.0.1:18081");
        write(dir.path(), u32::MAX);
        assert_eq!(target(dir.path()).kafka(), USUAL_KAFKA, "that process has ended");
        write(&dir.path().join("stream"), std::process::id());
        assert_eq!(target(dir.path()).kafka(), "127.0.0.1:19092", "the broker of a gateway");
        let named = Target { bootstrap: Some("plant:9092".to_owned()), ..target(dir.path()) };
        assert_eq!((named.kafka().as_str(), named.registry().as_str()), ("plant:9092", USUAL_REGISTRY));
    }
}
