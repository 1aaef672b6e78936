//! Which topics a subscription means, now.
//!
//! A group looks at the topics only when they or its subscriptions have changed; a regular expression is matched
//! against whole names, as RE2 does it for Apache Kafka.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use regex_lite::Regex;
use uuid::Uuid;

use super::group::{Group, Member, PATTERNS_MAX, Refused, Sight};
use crate::access::rules::{Operation, Resource};

/// A topic as groups see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatalogTopic {
    pub(crate) id: Uuid,
    pub(crate) partitions: i32,
}

/// All topics at one time. Two catalogs with one version are equal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) version: u64,
    pub(crate) topics: BTreeMap<String, CatalogTopic>,
    /// Topics of the broker's own; a regular expression does not mean them.
    pub(crate) internal: BTreeSet<String>,
}

/// A pattern that names whole topics.
fn compile(pattern: &str) -> Result<Regex, Refused> {
    let wrong = |error: regex_lite::Error| {
        let message = format!("the regular expression {pattern} cannot be read: {error}");
        Refused::new(ResponseError::InvalidRegularExpression, message)
    };
    // on its own first, so that a stray parenthesis cannot pair with ours
    Regex::new(pattern).map_err(wrong)?;
    Regex::new(&format!("^(?:{pattern})$")).map_err(wrong)
}

/// Fails unless `pattern` can be read and the group has room for it.
pub(super) fn check(group: &Group, pattern: &str) -> Result<(), Refused> {
    if pattern.is_empty() || group.matches.contains_key(pattern) {
        return Ok(());
    }
    if group.matches.len() >= PATTERNS_MAX {
        let message = format!("the group uses {PATTERNS_MAX} different regular expressions already");
        return Err(Refused::new(ResponseError::InvalidRegularExpression, message));
    }
    compile(pattern).map(drop)
}

/// Brings the topics of the group up to date. Returns whether the target has to follow: topics changed, their ids or
/// partition counts, or somebody shall own what it may not know of any more.
pub(super) fn resolve(group: &mut Group, catalog: &Catalog) -> bool {
    let fresh = group.seen != catalog.version;
    let patterns: BTreeSet<String> = group.members.values().filter_map(|member| member.pattern.clone()).collect();
    group.matches.retain(|pattern, _| patterns.contains(pattern));
    for pattern in patterns {
        if fresh || !group.matches.contains_key(&pattern) {
            let matched = matched(&pattern, catalog);
            group.matches.insert(pattern, matched);
        }
    }
    group.seen = catalog.version;
    group.visible = visible(group, catalog);
    let (mut topics, mut changed) = (BTreeMap::new(), false);
    for (id, member) in &group.members {
        let mut own = BTreeSet::new();
        for name in group.subscribed(id, member) {
            if let Some(topic) = catalog.topics.get(name) {
                topics.insert(name.clone(), (topic.id, topic.partitions));
                own.insert(topic.id);
            }
        }
        let target = group.target.get(id).filter(|_| group.visible.contains_key(id));
        changed |= target.is_some_and(|target| target.iter().any(|(topic, _)| !own.contains(topic)));
    }
    changed |= group.topics != topics;
    group.topics = topics;
    changed
}

/// What each member that may not know of all topics sees of those that its pattern matches.
fn visible(group: &Group, catalog: &Catalog) -> BTreeMap<String, BTreeSet<String>> {
    let of_member = |(id, member): (&String, &Member)| {
        let matched = group.matches.get(member.pattern.as_ref()?)?.iter();
        let visible = match &member.sight {
            Sight::All => return None,
            Sight::Limited(rights) => {
                matched.filter(|name| rights.may(Operation::Describe, Resource::Topic, name)).cloned().collect()
            }
            Sight::Unknown => {
                let target: BTreeSet<Uuid> =
                    group.target.get(id).into_iter().flatten().map(|(topic, _)| *topic).collect();
                let owns = |name: &&String| catalog.topics.get(*name).is_some_and(|topic| target.contains(&topic.id));
                matched.filter(owns).cloned().collect()
            }
        };
        Some((id.clone(), visible))
    };
    group.members.iter().filter_map(of_member).collect()
}

fn matched(pattern: &str, catalog: &Catalog) -> BTreeSet<String> {
    let Ok(regex) = compile(pattern) else { return BTreeSet::new() }; // checked when it came in
    let names = catalog.topics.keys().filter(|name| !catalog.internal.contains(*name));
    names.filter(|name| regex.is_match(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::super::group::Member;
    use super::*;

    fn catalog(version: u64, names: &[&str]) -> Catalog {
        let topic = |name: &&str| ((*name).to_owned(), CatalogTopic { id: Uuid::from_u128(1), partitions: 1 });
        let internal = BTreeSet::from(["__own".to_owned()]);
        Catalog { version, topics: names.iter().map(topic).collect(), internal }
    }

    #[test]
    fn a_pattern_means_whole_names_and_follows_the_topics() {
        let mut group = Group::default();
        let member = Member { pattern: Some("telemetry\\..*|raw".to_owned()), ..Member::default() };
        group.members.insert("a".to_owned(), member);
        let first = catalog(1, &["telemetry.raw", "raw", "rawer", "xtelemetry.raw", "__own"]);
        assert!(resolve(&mut group, &first));
        assert_eq!(group.topics.keys().map(String::as_str).collect::<Vec<_>>(), ["raw", "telemetry.raw"]);
        assert!(!resolve(&mut group, &first));
        assert!(resolve(&mut group, &catalog(2, &["telemetry.raw", "telemetry.clean"])));
        assert_eq!(group.topics.len(), 2);
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_refused_before_it_counts() {
        let group = Group::default();
        for wrong in ["(", "a)(b", "[", "*"] {
            assert_eq!(check(&group, wrong).unwrap_err().code, ResponseError::InvalidRegularExpression, "{wrong}");
        }
        assert_eq!(check(&group, "a.*"), Ok(()));
        let mut full = Group::default();
        for index in 0..PATTERNS_MAX {
            full.matches.insert(index.to_string(), BTreeSet::new());
        }
        assert!(check(&full, "a.*").is_err());
        assert_eq!(check(&full, "7"), Ok(()));
    }
}
