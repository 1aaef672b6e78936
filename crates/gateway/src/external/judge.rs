//! Whether a cluster keeps what OFF-10 demands: facts in, remarks out.
//!
//! Three kinds: what breaks the gateway (a topic with other partitions), what weakens a promise (records or offsets that
//! go too early, an acknowledge before the disk has it), and what no client can ask for, which is listed as such.

use config::External;
use kafka::client::inspect::{ClusterFacts, ConfigValues, TopicFacts};
use model::Health;
use stream::Topic;
use stream::topics::PARTITIONS;

/// The largest segment that retention can free in time: an active one is never deleted.
const SEGMENT_BYTES_MAX: i64 = 64 * 1024 * 1024;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Copies that must have a record, so that one power cut cannot take it.
const SAFE_IN_SYNC: i64 = 2;
/// What a broker keeps to itself.
const NOT_TOLD: [&str; 3] = [
    "how much of the disk is kept free before producers are refused",
    "whether the log has a file system of its own",
    "whether the disks of the cluster keep what they have acknowledged when the power fails",
];

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// What it does to the gateway; HEALTHY is for information.
    pub health: Health,
    pub text: String,
}

/// All findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub remarks: Vec<Remark>,
    /// What could not be checked.
    pub unknown: Vec<String>,
}

impl Verdict {
    pub fn health(&self) -> Health {
        self.remarks.iter().map(|remark| remark.health).max().unwrap_or_default()
    }

    /// The worst remark.
    pub fn reason(&self) -> Option<&str> {
        // the first of the worst
        self.remarks.iter().rev().max_by_key(|remark| remark.health).map(|remark| remark.text.as_str())
    }

    pub fn texts(&self) -> Vec<String> {
        self.remarks.iter().map(|remark| remark.text.clone()).collect()
    }

    fn add(&mut self, health: Health, text: impl Into<String>) {
        self.remarks.push(Remark { health, text: text.into() });
    }
}

/// Judges a cluster as it was found.
pub fn judge(facts: &ClusterFacts, external: &External) -> Verdict {
    let mut verdict = Verdict::default();
    let absent: Vec<&str> =
        Topic::ALL.iter().map(|topic| topic.name()).filter(|name| !facts.topics.contains_key(*name)).collect();
    if !absent.is_empty() {
        verdict.add(Health::Unhealthy, format!("topics are missing and could not be created: {}", absent.join(", ")));
    }
    let present = || Topic::ALL.into_iter().filter_map(|topic| Some((topic, facts.topics.get(topic.name())?)));
    for (topic, found) in present() {
        judge_topic(topic, found, external, &mut verdict);
    }
    let early: Vec<&str> = present().filter(|(_, found)| !is_safe(found)).map(|(topic, _)| topic.name()).collect();
    if !early.is_empty() {
        verdict.add(
            Health::Degraded,
            format!(
                "acknowledges before fsync, with no second copy in sync: a power cut may take acknowledged records of {}",
                listed(&early)
            ),
        );
    }
    judge_broker(&facts.broker, &mut verdict);
    if present().any(|(_, found)| found.config.is_empty()) {
        let why = facts.refused.first().map_or_else(String::new, |why| format!(" ({why})"));
        verdict.unknown.push(format!("settings of topics, which the cluster does not let us read{why}"));
    }
    verdict.unknown.extend(NOT_TOLD.map(str::to_owned));
    verdict
}

fn judge_topic(topic: Topic, found: &TopicFacts, external: &External, verdict: &mut Verdict) {
    let name = topic.name();
    if found.partitions != PARTITIONS {
        // REC-10: the key's place would differ from what every reader expects
        let text = format!("{name} has {} partitions instead of {PARTITIONS}", found.partitions);
        verdict.add(Health::Unhealthy, text);
    }
    if let Some(wanted) = external.replication_factor.filter(|wanted| found.replicas < *wanted) {
        verdict.add(Health::Degraded, format!("{name} has {} copies instead of {wanted}", found.replicas));
    }
    let config = &found.config;
    let insync = number(config, "min.insync.replicas");
    if let (Some(wanted), Some(insync)) = (external.min_insync_replicas, insync)
        && insync < i64::from(wanted)
    {
        verdict.add(Health::Degraded, format!("{name} has min.insync.replicas {insync} instead of {wanted}"));
    }
    if config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        verdict.add(Health::Degraded, format!("{name} is compacted: of each asset only the newest record stays"));
    }
    let kept = number(config, "retention.ms");
    if let Some(kept) = kept.filter(|kept| *kept >= 0 && topic.retention_ms().is_none_or(|wanted| *kept < wanted)) {
        let wanted = topic.retention_ms().map_or_else(|| "for ever".to_owned(), |ms| format!("{} days", ms / DAY_MS));
        let text = format!("{name} keeps records {} days instead of {wanted}", kept / DAY_MS);
        verdict.add(Health::Degraded, text);
    }
    if let Some(bytes) = number(config, "retention.bytes").filter(|bytes| *bytes >= 0) {
        verdict.add(Health::Healthy, format!("{name} drops records above {bytes} bytes in a partition"));
    }
    if let Some(bytes) = number(config, "segment.bytes").filter(|bytes| *bytes > SEGMENT_BYTES_MAX) {
        verdict.add(Health::Healthy, format!("{name} has segments of {bytes} bytes, whose disk space is freed late"));
    }
}

/// An acknowledged record survives the loss of power of one broker.
fn is_safe(found: &TopicFacts) -> bool {
    let config = &found.config;
    let syncs_each = number(config, "flush.messages") == Some(1);
    // Redpanda syncs before it acknowledges unless told not to
    let no_cache = config.get("write.caching").is_some_and(|caching| caching == "false" || caching == "disabled");
    let in_sync = number(config, "min.insync.replicas").unwrap_or(1);
    syncs_each || no_cache || (in_sync >= SAFE_IN_SYNC && i64::from(found.replicas) >= SAFE_IN_SYNC)
}

fn judge_broker(broker: &ConfigValues, verdict: &mut Verdict) {
    match number(broker, "offsets.retention.minutes") {
        // Kafka's largest value is some 4,000 years; Redpanda's null comes as no value
        Some(minutes) if minutes < 45 * 24 * 60 => {
            let text = format!(
                "offsets of readers that stand still are forgotten after {} days; sinks into databases keep their own",
                minutes / (24 * 60)
            );
            verdict.add(Health::Healthy, text);
        }
        Some(_) => {}
        None => verdict.unknown.push("how long committed offsets are kept".to_owned()),
    }
}

fn number(config: &ConfigValues, key: &str) -> Option<i64> {
    config.get(key)?.parse().ok()
}

fn listed(names: &[&str]) -> String {
    if names.len() == Topic::ALL.len() { "all topics".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::external::Registry;

    fn external() -> External {
        External {
            bootstrap: "k1:9092".to_owned(),
            registry: Registry { url: "http://r:8081".to_owned(), login: None, ca_file: None },
            topic_prefix: String::new(),
            replication_factor: Some(3),
            min_insync_replicas: Some(2),
            tls: None,
            sasl: None,
        }
    }

    /// A cluster of three brokers set up as it should be.
    fn good() -> ClusterFacts {
        let topic = |topic: Topic| {
            let retention = topic.retention_ms().unwrap_or(-1).to_string();
            let config = [
                ("cleanup.policy", "delete"),
                ("retention.ms", &retention),
                ("retention.bytes", "-1"),
                ("segment.bytes", "33554432"),
                ("min.insync.replicas", "2"),
                ("flush.messages", "9223372036854775807"),
            ];
            let config = config.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            (topic.name().to_owned(), TopicFacts { partitions: PARTITIONS, replicas: 3, config })
        };
        ClusterFacts {
            topics: Topic::ALL.into_iter().map(topic).collect(),
            broker: [("offsets.retention.minutes".to_owned(), "2147483647".to_owned())].into(),
            refused: Vec::new(),
        }
    }

    fn with(key: &str, value: &str) -> ClusterFacts {
        let mut facts = good();
        let topic = facts.topics.get_mut("telemetry.clean").expect("the topic");
        topic.config.insert(key.to_owned(), value.to_owned());
        facts
    }

    // STR-30, OFF-10
    #[test]
    fn a_good_cluster_has_no_remarks_but_some_things_cannot_be_asked() {
        let verdict = judge(&good(), &external());
        assert_eq!(verdict.texts(), Vec::<String>::new());
        assert_eq!(verdict.health(), Health::Healthy);
        assert_eq!(verdict.unknown.len(), 3);
    }

    // STR-30, OFF-10
    #[test]
    fn every_demand_is_asserted() {
        for (key, value, health, part) in [
            ("retention.ms", "604800000", Health::Degraded, "keeps records 7 days instead of 45 days"),
            ("min.insync.replicas", "1", Health::Degraded, "min.insync.replicas 1 instead of 2"),
            ("cleanup.policy", "compact,delete", Health::Degraded, "is compacted"),
            ("segment.bytes", "1073741824", Health::Healthy, "is freed late"),
            ("retention.bytes", "1000000", Health::Healthy, "drops records above"),
        ] {
            let verdict = judge(&with(key, value), &external());
            assert!(verdict.texts().iter().any(|text| text.contains(part)), "{part}: {:?}", verdict.texts());
            assert_eq!(verdict.health(), health, "{key}");
        }
        let mut facts = good();
        facts.topics.get_mut("telemetry.raw").expect("the topic").partitions = 6;
        facts.topics.remove("audit");
        let verdict = judge(&facts, &external());
        assert_eq!(verdict.health(), Health::Unhealthy);
        assert_eq!(verdict.reason(), Some("topics are missing and could not be created: audit"));
        assert_eq!(verdict.remarks.len(), 2, "{:?}", verdict.texts());
    }

    // STR-30
    #[test]
    fn an_acknowledge_before_fsync_is_said_unless_a_second_copy_holds_the_record() {
        let mut facts = good();
        for topic in facts.topics.values_mut() {
            topic.replicas = 1;
            topic.config.insert("min.insync.replicas".to_owned(), "1".to_owned());
        }
        let alone = External { replication_factor: Some(1), min_insync_replicas: None, ..external() };
        let verdict = judge(&facts, &alone);
        assert_eq!(verdict.health(), Health::Degraded);
        assert!(verdict.reason().is_some_and(|text| text.contains("before fsync") && text.contains("all topics")));
        for (key, value) in [("flush.messages", "1"), ("write.caching", "false")] {
            let mut synced = facts.clone();
            for topic in synced.topics.values_mut() {
                topic.config.insert(key.to_owned(), value.to_owned());
            }
            assert_eq!(judge(&synced, &alone).health(), Health::Healthy, "{key}");
        }
    }
}
