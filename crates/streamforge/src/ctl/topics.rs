//! `ctl topics`: what is on the stream, and how it is kept.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use kafka::client::admin::{Admin, At, Found, Owner, Setting, Source, TopicDescription, TopicPlan};
use kafka::client::{Error, ResponseError};
use model::Timestamp;
use serde_json::{Value, json};

use super::table::{Column, Table, bytes, duration_ms};
use super::target::{Target, failed};
use super::{applied, configs, only_with_execute, print_table, unknown};
use crate::exit::{Failure, USAGE};
use crate::say;

/// Options of `ctl topics`.
#[derive(Debug, Args)]
pub(crate) struct Topics {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List topics with their records and sizes; what `ctl topics` alone does
    List,
    /// Show one topic: its settings and partitions
    Describe {
        /// Topic, for example telemetry.clean
        topic: String,
    },
    /// Create a topic
    Create {
        topic: String,
        /// Number of partitions
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// A setting, NAME=VALUE, for example retention.ms=604800000; several times for more
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
        set: Vec<(String, String)>,
        /// Do it; without this the command only says what it would do
        #[arg(long)]
        execute: bool,
    },
    /// Change settings of a topic, or give it more partitions
    Alter {
        topic: String,
        /// A setting, NAME=VALUE; several times for more
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
        set: Vec<(String, String)>,
        /// A setting to take back to its default; several times for more
        #[arg(long = "unset", value_name = "NAME")]
        unset: Vec<String>,
        /// Number of partitions afterwards; keys move to other partitions, so the order of an asset breaks once
        #[arg(long)]
        partitions: Option<i32>,
        /// Do it; without this the command only says what it would do
        #[arg(long)]
        execute: bool,
    },
    /// Delete a topic with all its records
    Delete {
        topic: String,
        /// Do it; without this the command only says what it would do
        #[arg(long)]
        execute: bool,
    },
}

pub(super) fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(crate) async fn topics(options: Topics) -> Result<(), Failure> {
    let Topics { action, target } = options;
    let mut admin = target.admin().await?;
    match action.unwrap_or(Action::List) {
        Action::List => list(&mut admin, &target).await,
        Action::Describe { topic } => describe(&mut admin, &target, &topic).await,
        Action::Create { topic, partitions, set, execute } => {
            let plan = TopicPlan { name: topic, partitions, config: set };
            if !only_with_execute(&target, execute, &format!("create topic {} with {partitions} partitions", plan.name))
            {
                return Ok(());
            }
            admin.create_topic(&plan).await.map_err(|error| failed(&error))?;
            applied(&target, &format!("topic {} is created", plan.name));
            Ok(())
        }
        Action::Alter { topic, set, unset, partitions, execute } => {
            let change = Change { topic: &topic, set: &set, unset: &unset, partitions };
            alter(&mut admin, &target, &change, execute).await
        }
        Action::Delete { topic, execute } => {
            let found = one(&mut admin, &topic).await?;
            let figures = Figures::of(&mut admin, &[found]).await.map_err(|error| failed(&error))?;
            let records: i64 = figures.partitions.values().map(Partition::records).sum();
            if !only_with_execute(&target, execute, &format!("delete topic {topic} with {records} records")) {
                return Ok(());
            }
            admin.delete_topic(&topic).await.map_err(|error| failed(&error))?;
            applied(&target, &format!("topic {topic} is deleted"));
            Ok(())
        }
    }
}

/// A topic by its name, or a failure that names the nearest one there is.
pub(super) async fn one(admin: &mut Admin, name: &str) -> Result<TopicDescription, Failure> {
    let mut topics = admin.topics().await.map_err(|error| failed(&error))?;
    if let Some(at) = topics.iter().position(|topic| topic.name == name) {
        return Ok(topics.swap_remove(at));
    }
    Err(unknown("topic", name, topics.iter().map(|topic| topic.name.as_str())))
}

/// What is known of a partition.
#[derive(Debug, Default, Clone)]
struct Partition {
    start: i64,
    end: i64,
    bytes: Option<i64>,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
}

impl Partition {
    fn records(&self) -> i64 {
        (self.end - self.start).max(0)
    }
}

/// Figures of some topics, by topic and partition.
struct Figures {
    partitions: BTreeMap<(String, i32), Partition>,
}

impl Figures {
    async fn of(admin: &mut Admin, topics: &[TopicDescription]) -> Result<Self, Error> {
        let mut partitions: BTreeMap<(String, i32), Partition> = BTreeMap::new();
        let at = |found: &Found| (found.topic.clone(), found.partition);
        for found in admin.offsets(topics, At::Earliest).await? {
            partitions.entry(at(&found)).or_default().start = found.offset.unwrap_or(0);
        }
        for found in admin.offsets(topics, At::Latest).await? {
            partitions.entry(at(&found)).or_default().end = found.offset.unwrap_or(0);
        }
        // the first record with any time at all is the oldest
        for found in admin.offsets(topics, At::Time(0)).await? {
            partitions.entry(at(&found)).or_default().oldest = found.timestamp_ms.map(Timestamp::from_millis);
        }
        let newest = match admin.offsets(topics, At::Newest).await {
            // brokers before Kafka 3.0 have no word for it
            Err(Error::Refused { code: ResponseError::UnsupportedVersion | ResponseError::InvalidRequest, .. }) => {
                vec![]
            }
            newest => newest?,
        };
        for found in newest {
            partitions.entry(at(&found)).or_default().newest = found.timestamp_ms.map(Timestamp::from_millis);
        }
        match admin.sizes().await {
            Ok(sizes) => {
                for (place, size) in sizes {
                    if let Some(partition) = partitions.get_mut(&place) {
                        partition.bytes = Some(size);
                    }
                }
            }
            // who may not see the disks of a cluster still sees its topics
            Err(Error::NotSpoken { .. } | Error::Refused { code: ResponseError::ClusterAuthorizationFailed, .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { partitions })
    }

    fn of_topic(&self, topic: &str) -> Vec<(i32, &Partition)> {
        let from = (topic.to_owned(), i32::MIN);
        let all = self.partitions.range(from..).take_while(|((name, _), _)| name == topic);
        all.map(|((_, index), partition)| (*index, partition)).collect()
    }
}

fn sum_bytes(partitions: &[(i32, &Partition)]) -> Option<i64> {
    partitions.iter().map(|(_, partition)| partition.bytes).sum()
}

fn shown(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

fn setting<'s>(settings: &'s [Setting], name: &str) -> Option<&'s str> {
    settings.iter().find(|setting| setting.name == name).and_then(|setting| setting.value.as_deref())
}

/// How long and how much of a topic is kept.
fn kept(settings: &[Setting]) -> String {
    let number = |name: &str| setting(settings, name).and_then(|value| value.parse::<i64>().ok());
    if setting(settings, "cleanup.policy") == Some("compact") {
        return "newest of each key".to_owned();
    }
    let time = number("retention.ms").map(duration_ms).unwrap_or_default();
    match number("retention.bytes") {
        Some(limit) if limit >= 0 => format!("{time}, {} a partition", bytes(limit)),
        _ => time,
    }
}

async fn list(admin: &mut Admin, target: &Target) -> Result<(), Failure> {
    let topics = admin.topics().await.map_err(|error| failed(&error))?;
    let figures = Figures::of(admin, &topics).await.map_err(|error| failed(&error))?;
    let owners: Vec<Owner<'_>> = topics.iter().map(|topic| Owner::Topic(&topic.name)).collect();
    let names = ["cleanup.policy", "retention.ms", "retention.bytes"];
    let settings = admin.settings_of_many(&owners, &names).await.map_err(|error| failed(&error))?;
    let mut table = Table::new(&[
        Column::Text("TOPIC"),
        Column::Number("PARTITIONS"),
        Column::Number("RECORDS"),
        Column::Number("SIZE"),
        Column::Text("KEPT"),
        Column::Text("OLDEST"),
        Column::Text("NEWEST"),
    ]);
    let mut rows = Vec::with_capacity(topics.len());
    for (topic, settings) in topics.iter().zip(&settings) {
        let partitions = figures.of_topic(&topic.name);
        let records: i64 = partitions.iter().map(|(_, partition)| partition.records()).sum();
        let written: i64 = partitions.iter().map(|(_, partition)| partition.end).sum();
        let size = sum_bytes(&partitions);
        let oldest = partitions.iter().filter_map(|(_, partition)| partition.oldest).min();
        let newest = partitions.iter().filter_map(|(_, partition)| partition.newest).max();
        rows.push(json!({
            "topic": topic.name,
            "internal": topic.internal,
            "partitions": topic.partitions.len(),
            "records": records,
            "written": written,
            "bytes": size,
            "settings": values(settings),
            "oldest_at": oldest.map(|time| time.to_string()),
            "newest_at": newest.map(|time| time.to_string()),
        }));
        table.row([
            topic.name.clone(),
            topic.partitions.len().to_string(),
            records.to_string(),
            size.map_or_else(|| "-".to_owned(), bytes),
            kept(settings),
            shown(oldest),
            shown(newest),
        ]);
    }
    print_table(target, &table, "there are no topics", || json!(rows));
    Ok(())
}

/// Settings as a JSON object.
fn values(settings: &[Setting]) -> Value {
    settings
        .iter()
        .map(|setting| (setting.name.clone(), json!(setting.value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn describe(admin: &mut Admin, target: &Target, name: &str) -> Result<(), Failure> {
    let topic = one(admin, name).await?;
    let settings = admin.settings(Owner::Topic(name)).await.map_err(|error| failed(&error))?;
    let figures = Figures::of(admin, std::slice::from_ref(&topic)).await.map_err(|error| failed(&error))?;
    let mut table = Table::new(&[
        Column::Number("PARTITION"),
        Column::Number("START"),
        Column::Number("END"),
        Column::Number("RECORDS"),
        Column::Number("SIZE"),
        Column::Text("OLDEST"),
        Column::Text("NEWEST"),
        Column::Text("LEADER"),
        Column::Text("IN SYNC"),
    ]);
    let mut rows = Vec::new();
    let numbers = |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    for (index, partition) in figures.of_topic(name) {
        let place = topic.partitions.iter().find(|partition| partition.index == index);
        rows.push(json!({
            "partition": index,
            "start": partition.start,
            "end": partition.end,
            "records": partition.records(),
            "bytes": partition.bytes,
            "oldest_at": partition.oldest.map(|time| time.to_string()),
            "newest_at": partition.newest.map(|time| time.to_string()),
            "leader": place.map(|place| place.leader),
            "replicas": place.map(|place| &place.replicas),
            "in_sync": place.map(|place| &place.in_sync),
        }));
        table.row([
            index.to_string(),
            partition.start.to_string(),
            partition.end.to_string(),
            partition.records().to_string(),
            partition.bytes.map_or_else(|| "-".to_owned(), bytes),
            shown(partition.oldest),
            shown(partition.newest),
            place.map_or_else(|| "-".to_owned(), |place| place.leader.to_string()),
            place.map(|place| numbers(&place.in_sync)).unwrap_or_default(),
        ]);
    }
    if !target.json {
        let own: Vec<String> = settings
            .iter()
            .filter(|setting| setting.source == Source::Topic)
            .map(|setting| format!("{}={}", setting.name, setting.value.as_deref().unwrap_or("?")))
            .collect();
        let own = if own.is_empty() { "all by default".to_owned() } else { own.join(", ") };
        say::line(&format!("topic     {}{}", topic.name, if topic.internal { " (internal)" } else { "" }));
        say::line(&format!("kept      {}", kept(&settings)));
        say::line(&format!("settings  {own}\n"));
    }
    print_table(
        target,
        &table,
        "",
        || json!({ "topic": topic.name, "internal": topic.internal, "settings": configs::rows(&settings), "partitions": rows }),
    );
    Ok(())
}

/// What `alter` is asked for.
struct Change<'a> {
    topic: &'a str,
    set: &'a [(String, String)],
    unset: &'a [String],
    partitions: Option<i32>,
}

async fn alter(admin: &mut Admin, target: &Target, change: &Change<'_>, execute: bool) -> Result<(), Failure> {
    let topic = one(admin, change.topic).await?;
    let mut steps: Vec<String> = change.set.iter().map(|(name, value)| format!("set {name} to {value}")).collect();
    steps.extend(change.unset.iter().map(|name| format!("take {name} back to its default")));
    steps.extend(change.partitions.map(|count| format!("go from {} to {count} partitions", topic.partitions.len())));
    if steps.is_empty() {
        return Err(Failure::new(USAGE, "nothing to change: give --set, --unset or --partitions"));
    }
    if !only_with_execute(target, execute, &format!("change topic {}: {}", topic.name, steps.join(", "))) {
        return Ok(());
    }
    if !change.set.is_empty() || !change.unset.is_empty() {
        let altered = admin.alter_topic(&topic.name, change.set, change.unset).await;
        altered.map_err(|error| failed(&error))?;
    }
    if let Some(count) = change.partitions {
        admin.add_partitions(&topic.name, count).await.map_err(|error| failed(&error))?;
    }
    applied(target, &format!("topic {} is changed: {}", topic.name, steps.join(", ")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<Setting> {
        let setting = |(name, value): &(&str, &str)| Setting {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: Source::Topic,
            read_only: false,
        };
        pairs.iter().map(setting).collect()
    }

    #[test]
    fn how_a_topic_is_kept_is_said_in_words() {
        assert_eq!(kept(&settings(&[("retention.ms", "604800000"), ("retention.bytes", "-1")])), "7 d");
        let both = settings(&[("retention.ms", "-1"), ("retention.bytes", "1073741824")]);
        assert_eq!(kept(&both), "for ever, 1.0 GiB a partition");
        assert_eq!(kept(&settings(&[("cleanup.policy", "compact")])), "newest of each key");
        assert_eq!(kept(&[]), "");
    }

    #[test]
    fn settings_on_the_command_line_are_pairs() {
        assert_eq!(name_and_value("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(name_and_value("retention.ms").is_err());
    }
}
