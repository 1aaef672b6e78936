//! Who the gateway's processes are to the embedded broker, and what each kind of them may do there (STR-14).
//!
//! Adapters write what they read and nothing else; only this process writes clean readings, aggregates and alarms; sinks
//! read. Programs of this machine that do not log in may read everything, bring readings as an adapter does (an adapter
//! started by hand is such a program) and use topics of their own as they like; nothing else of the gateway's can they
//! change. Whoever may read the data folder may administer: `ctl` finds a login there.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use daemon::identity::{self, Components, NoRandomness};
use serde::{Deserialize, Serialize};
use stream::Topic;
use stream::access::{DescribedSasl, Description};

use crate::children::Role;

const RUNTIME: &str = "sf-runtime";
const ADAPTER: &str = "sf-adapter";
const SINK: &str = "sf-sink";
const OPERATOR: &str = "sf-operator";
/// Holds a login for the commands of this machine, below the folder of running processes.
const OPERATOR_FILE: &str = "operator.json";

const EVERYTHING: [&str; 4] = ["all topic *", "all group *", "all cluster", "all transactional_id *"];
/// `dlq.*` with `create`: a sink has a topic of its own for what its target refuses.
const OF_ADAPTERS: [&str; 6] = [
    "write topic telemetry.raw",
    "write topic events.raw",
    "write topic alarms.raw",
    "write topic dlq.*",
    "describe topic *",
    "idempotent_write cluster",
];
const OF_SINKS: [&str; 8] = [
    "read topic *",
    "read group sf-sink-*",
    // reads single records without committing anything
    "read group sf-dead-letter",
    "write topic dlq.*",
    "create topic dlq.*",
    "write topic audit",
    "describe cluster",
    "idempotent_write cluster",
];
const OF_LOCAL_PROGRAMS: [&str; 7] = [
    "all topic *",
    "all group *",
    "all transactional_id *",
    "create cluster",
    "describe cluster",
    "describe_configs cluster",
    "idempotent_write cluster",
];
/// What nobody but the gateway does to its topics, and to its consumer groups.
const CHANGES_OF_TOPICS: [&str; 3] = ["delete", "alter", "alter_configs"];
const CHANGES_OF_GROUPS: [&str; 3] = ["read", "delete", "alter_configs"];

/// With a key that lives as long as this process.
pub fn components() -> Result<Components, NoRandomness> {
    let rules = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let kinds = [
        (RUNTIME, rules(&EVERYTHING)),
        (OPERATOR, rules(&EVERYTHING)),
        (ADAPTER, rules(&OF_ADAPTERS)),
        (SINK, rules(&OF_SINKS)),
    ];
    let kinds = kinds.into_iter().map(|(kind, rules)| (kind.to_owned(), rules)).collect();
    Components::new(kinds, local())
}

fn local() -> Vec<String> {
    let mut rules: Vec<String> = OF_LOCAL_PROGRAMS.iter().map(|text| (*text).to_owned()).collect();
    let ours = Topic::ALL.into_iter().map(Topic::name).chain(["dlq.*", "_*"]);
    for topic in ours {
        rules.extend(CHANGES_OF_TOPICS.iter().map(|change| format!("deny {change} topic {topic}")));
        let write = format!("write topic {topic}");
        if !OF_ADAPTERS.contains(&write.as_str()) && !topic.starts_with("dlq.") {
            rules.push(format!("deny {write}"));
        }
    }
    rules.extend(CHANGES_OF_GROUPS.iter().map(|change| format!("deny {change} group sf-*")));
    rules
}

/// The user name of a child; the broker and simulators are no users.
pub fn user_of(role: Role, name: &str) -> Option<String> {
    match role {
        Role::Adapter => Some(identity::user(ADAPTER, name)),
        Role::Sink => Some(identity::user(SINK, name)),
        Role::Broker | Role::Simulator => None,
    }
}

/// The user name of this process.
pub fn own_user(gateway_id: &str) -> String {
    identity::user(RUNTIME, gateway_id)
}

/// What a process with this name is told of the stream; its password is a secret of the launch line.
pub fn describe(user: &str) -> Description {
    let (username, password) = (user.to_owned(), identity::PASSWORD.to_owned());
    let sasl = Some(DescribedSasl::Plain { username, password });
    Description { replication_factor: Some(1), sasl, ..Description::default() }
}

/// A name and its password.
#[derive(Debug, Serialize, Deserialize)]
pub struct Login {
    pub user: String,
    pub password: daemon::launch::Secret,
}

/// Leaves a login for `ctl` in the folder of running processes, for the owner of the folder alone.
pub fn leave_operator(run: &Path, components: &Components) -> io::Result<()> {
    let user = identity::user(OPERATOR, "ctl");
    let password = components.password(&user);
    let text = serde_json::to_vec(&Login { user, password })?;
    let (path, new) = (run.join(OPERATOR_FILE), run.join("operator.json.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    std::fs::rename(new, path)
}

/// The login that a running gateway left in its data folder; `None` when there is none that can be read.
pub fn operator(data: &Path) -> Option<Login> {
    let text = std::fs::read(data.join("run").join(OPERATOR_FILE)).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    // STR-14
    #[test]
    fn local_programs_bring_readings_and_change_nothing_else_that_is_the_gateways() {
        let rules = local();
        for topic in Topic::ALL {
            assert!(rules.contains(&format!("deny delete topic {}", topic.name())));
            let brings = [Topic::TelemetryRaw, Topic::EventsRaw, Topic::AlarmsRaw].contains(&topic)
                || topic.name().starts_with("dlq.");
            assert_eq!(rules.contains(&format!("deny write topic {}", topic.name())), !brings, "{}", topic.name());
        }
        assert!(rules.contains(&"deny read group sf-*".to_owned()));
        assert!(!OF_ADAPTERS.iter().chain(&OF_SINKS).any(|rule| rule.contains("clean") && rule.starts_with("write")));
    }

    // STR-14, G-10
    #[test]
    fn the_operators_login_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let components = components().unwrap();
        leave_operator(&run, &components).unwrap();
        let mode = std::fs::metadata(run.join(OPERATOR_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let login = operator(dir.path()).unwrap();
        assert!(components.fits(&login.user, login.password.reveal().as_bytes()));
        assert!(operator(&run).is_none());
    }
}
