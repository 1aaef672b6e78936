//! From topics that were heard to settings: filters, templates, fields (MQ-12 to MQ-15).
//!
//! Pure. Topics that differ in one level and hold the same kind of payload become one subscription, if its filter means no
//! other topic that was heard; else each stands for itself. A proposal for a person, who knows what the names mean.

use std::collections::{BTreeMap, BTreeSet};

use super::config::SUBSCRIPTIONS_MAX;
use super::listen::{Listened, Topic, is_mappable};
use super::shape::{Holds, Kind, Shape};
use super::topic::matches;
use crate::commission::text::{name_of, quoted, shown};

/// A subscription to propose.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    pub filter: String,
    /// Which levels are asset and parameter; none where the topic stands for itself.
    pub template: Option<String>,
    /// Where no level of the topic says it.
    pub asset: Option<String>,
    /// The parameter of a payload that is the value itself.
    pub parameter: Option<String>,
    pub shape: Shape,
    /// Topics that were heard of it.
    pub topics: usize,
}

/// All proposals, and the topics that none is made for, with the reason.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Proposals {
    pub subscriptions: Vec<Proposal>,
    /// Groups of Sparkplug B.
    pub groups: Vec<String>,
    pub left_out: Vec<(String, &'static str)>,
}

/// Proposes settings for what was heard.
pub fn propose(listened: &Listened) -> Proposals {
    let mut proposals = Proposals::default();
    let mut groups = BTreeSet::new();
    let mut mappable: BTreeMap<&str, &Topic> = BTreeMap::new();
    for (name, topic) in &listened.topics {
        let kind = topic.shape.as_ref().map(|shape| shape.kind);
        if let Some(group) = name.strip_prefix("spBv1.0/").and_then(|rest| rest.split('/').next()) {
            if group != "STATE" && kind == Some(Kind::Sparkplug) {
                groups.insert(group.to_owned());
            }
        } else if is_mappable(topic) && !name.starts_with('$') {
            mappable.insert(name, topic);
        } else if !name.starts_with('$') {
            let why = match kind {
                None => "it is empty",
                Some(Kind::Bytes) => "its payload is binary: describe it with payload: binary",
                _ => "its payloads differ from each other, or are too large",
            };
            proposals.left_out.push((name.clone(), why));
        }
    }
    proposals.groups = groups.into_iter().collect();
    let all: Vec<&str> = listened.topics.keys().map(String::as_str).collect();
    for members in sets(&mappable) {
        match members.as_slice() {
            [one] => proposals.subscriptions.push(single(one, mappable[one])),
            many => match together(many, &mappable, &all) {
                Some(proposal) => proposals.subscriptions.push(proposal),
                None => proposals.subscriptions.extend(many.iter().map(|one| single(one, mappable[one]))),
            },
        }
    }
    let (good, empty): (Vec<_>, Vec<_>) = proposals.subscriptions.into_iter().partition(has_values);
    proposals.subscriptions = good;
    proposals
        .left_out
        .extend(empty.into_iter().map(|one| (one.filter, "no field of it has a value that a point can have")));
    for one in proposals.subscriptions.drain(SUBSCRIPTIONS_MAX.min(proposals.subscriptions.len())..) {
        proposals.left_out.push((one.filter, "an adapter has 100 subscriptions: listen to a narrower filter"));
    }
    proposals
}

fn has_values(proposal: &Proposal) -> bool {
    let is_json = proposal.shape.kind == Kind::Json;
    !is_json || proposal.shape.fields.values().any(|field| field.holds.type_name().is_some())
}

fn kind_of(topic: &Topic) -> Kind {
    topic.shape.as_ref().map_or(Kind::Mixed, |shape| shape.kind)
}

/// The levels that may differ within one subscription. Of plain values the last, which is the parameter, and the one before,
/// which is the asset; of JSON the one that differs most. No filter is proposed that means everything.
fn levels_that_differ(kind: Kind, names: &[&str]) -> Vec<usize> {
    let count = names.first().map_or(0, |name| name.split('/').count());
    if kind != Kind::Json {
        return match count {
            0 | 1 => Vec::new(),
            2 => vec![1],
            more => vec![more - 2, more - 1],
        };
    }
    let groups = |level: usize| names.iter().map(|name| masked(name, &[level])).collect::<BTreeSet<_>>().len();
    // at equal effect the last one: the first levels are sites and areas
    let best = (0..count).rev().min_by_key(|level| groups(*level)).filter(|level| groups(*level) < names.len());
    best.filter(|_| count > 1).into_iter().collect()
}

fn masked(name: &str, levels: &[usize]) -> String {
    let mask = |(place, level): (usize, &str)| if levels.contains(&place) { "+".to_owned() } else { level.to_owned() };
    name.split('/').enumerate().map(mask).collect::<Vec<_>>().join("/")
}

/// Topics that may be one subscription: as many levels, the same kind of payload, the same but for one level.
fn sets<'n>(topics: &BTreeMap<&'n str, &Topic>) -> Vec<Vec<&'n str>> {
    let mut alike: BTreeMap<(usize, &str, Kind), Vec<&'n str>> = BTreeMap::new();
    for (name, topic) in topics {
        let kind = kind_of(topic);
        let levels = name.split('/').count();
        // a level in front that differs may be the asset as well, where there are only two
        let is_open = levels == 2 && kind == Kind::Json;
        let first = if is_open { "" } else { name.split('/').next().unwrap_or_default() };
        alike.entry((levels, first, kind)).or_default().push(name);
    }
    let mut sets = Vec::new();
    for ((_, _, kind), names) in alike {
        let mask = levels_that_differ(kind, &names);
        if mask.is_empty() {
            sets.extend(names.into_iter().map(|name| vec![name]));
            continue;
        }
        let mut by_mask: BTreeMap<String, Vec<&'n str>> = BTreeMap::new();
        for name in names {
            by_mask.entry(masked(name, &mask)).or_default().push(name);
        }
        sets.extend(by_mask.into_values());
    }
    sets
}

/// One subscription for several topics, if its filter means these alone of all that were heard.
fn together(names: &[&str], topics: &BTreeMap<&str, &Topic>, all: &[&str]) -> Option<Proposal> {
    let first = *names.first()?;
    let levels: Vec<&str> = first.split('/').collect();
    let kind = kind_of(topics[first]);
    let differs = |place: usize| names.iter().any(|name| name.split('/').nth(place) != levels.get(place).copied());
    let (asset, parameter) = match (kind, levels.len()) {
        (Kind::Json, count) => ((0..count).find(|place| differs(*place)), None),
        (_, 2) => (None, Some(1)),
        (_, count) => (count.checked_sub(2), Some(count - 1)),
    };
    let places: Vec<usize> = [asset, parameter].into_iter().flatten().collect();
    let filter = masked(first, &places);
    let means = all.iter().filter(|topic| matches(&filter, topic)).count();
    let is_text = |(place, level): (usize, &&str)| places.contains(&place) || !level.contains(['{', '}']);
    if means != names.len() || !levels.iter().enumerate().all(is_text) {
        return None;
    }
    let part = |(place, level): (usize, &&str)| match Some(place) {
        place if place == asset => "{asset}".to_owned(),
        place if place == parameter => "{param}".to_owned(),
        _ => (*level).to_owned(),
    };
    let template = levels.iter().enumerate().map(part).collect::<Vec<_>>().join("/");
    let mut shapes = names.iter().filter_map(|name| topics[name].shape.clone());
    let mut shape = shapes.next()?;
    shapes.for_each(|other| shape.join(other));
    let named = asset.is_none().then(|| name_of(levels[0]));
    Some(Proposal { filter, template: Some(template), asset: named, parameter: None, shape, topics: names.len() })
}

/// A topic that stands for itself.
fn single(name: &str, topic: &Topic) -> Proposal {
    let levels: Vec<&str> = name.split('/').filter(|level| !level.is_empty()).collect();
    let last = levels.last().copied().unwrap_or(name);
    let before = levels.len().checked_sub(2).and_then(|place| levels.get(place)).copied();
    let shape = topic.shape.clone().unwrap_or(Shape { kind: Kind::Mixed, fields: BTreeMap::new(), further: 0 });
    Proposal {
        filter: name.to_owned(),
        template: None,
        asset: Some(name_of(before.unwrap_or(last))),
        parameter: (shape.kind != Kind::Json).then(|| name_of(last)),
        shape,
        topics: 1,
    }
}

impl Proposal {
    /// The first stamp among the fields.
    fn stamp(&self) -> Option<(&str, &'static str)> {
        self.shape.fields.iter().find_map(|(path, field)| match field.holds {
            Holds::Time(format) => Some((path.as_str(), format)),
            _ => None,
        })
    }

    /// As an adapter reads it, an element of `subscriptions`.
    pub fn lines(&self) -> Vec<String> {
        let topics = if self.topics == 1 { "1 topic was".to_owned() } else { format!("{} topics were", self.topics) };
        let mut lines = vec![format!("    # {topics} heard"), format!("    - filter: {}", quoted(&self.filter))];
        if let Some(template) = &self.template {
            lines.push(format!("      topic: {}", quoted(template)));
        }
        if let Some(asset) = &self.asset {
            lines.push(format!("      asset_id: {}", quoted(asset)));
        }
        lines.push(format!("      payload: {}", self.shape.kind.as_str()));
        if self.shape.kind != Kind::Json {
            if let Some(parameter) = &self.parameter {
                lines.push(format!("      fields: [{{ parameter: {} }}]", quoted(parameter)));
            }
            return lines;
        }
        if let Some((path, format)) = self.stamp() {
            lines.push(format!("      time: {{ path: {}, format: {format} }}", quoted(path)));
        }
        lines.push("      fields:".to_owned());
        let mut names = BTreeSet::new();
        for (path, field) in &self.shape.fields {
            let Some(kind) = field.holds.type_name() else { continue };
            let stem = name_of(&path.trim_start_matches('/').replace("~1", "_").replace("~0", "_").replace('/', "_"));
            let mut name = stem.clone();
            let mut number = 2_u32;
            while !names.insert(name.clone()) {
                name = name_of(&format!("{stem}_{number}"));
                number += 1;
            }
            let coerce = if field.holds == Holds::NumberInText { ", coerce: true" } else { "" };
            let path = quoted(path);
            lines.push(format!("        # {}", shown(&field.example, 60)));
            lines.push(format!("        - {{ path: {path}, parameter: {}, type: {kind}{coerce} }}", quoted(&name)));
        }
        if self.shape.further > 0 {
            lines.push(format!("        # and {} further places that were not looked at", self.shape.further));
        }
        lines
    }
}

impl Proposals {
    /// For a person: what could be made of it.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for one in &self.subscriptions {
            let template = one.template.as_ref().unwrap_or(&one.filter);
            lines.push(format!("{}  {}  x{}", shown(template, 200), one.shape.kind.as_str(), one.topics));
            for (path, field) in &one.shape.fields {
                let kind = match field.holds {
                    Holds::Time(format) => format!("time, {format}"),
                    Holds::NumberInText => "number in quotes: coerce".to_owned(),
                    Holds::Null => "null so far".to_owned(),
                    other => other.type_name().unwrap_or_default().to_owned(),
                };
                lines.push(format!("    {:32} {kind:24} {}", shown(path, 200), field.example));
            }
        }
        for group in &self.groups {
            lines.push(format!("spBv1.0/{}  Sparkplug B", shown(group, 200)));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::listen::tests::message;
    use std::time::Duration;

    fn heard(messages: &[(&str, &str)]) -> Listened {
        let mut listened = Listened::new("#", Duration::from_secs(10), "5", 1000);
        for (topic, payload) in messages {
            listened.take(&message(topic, payload.as_bytes(), false));
        }
        listened
    }

    fn filters(proposals: &Proposals) -> Vec<(&str, Option<&str>)> {
        proposals.subscriptions.iter().map(|one| (one.filter.as_str(), one.template.as_deref())).collect()
    }

    // MQ-15
    #[test]
    fn topics_that_differ_in_one_level_are_one_subscription() {
        let listened = heard(&[
            ("plant/hall/press_7/state", r#"{"ts":1769680800123,"t":21.5}"#),
            ("plant/hall/press_8/state", r#"{"ts":1769680800123,"t":22,"mode":1}"#),
            ("tele/pump_1/flow", "23.5"),
            ("tele/pump_1/level", "2"),
            ("tele/pump_2/flow", "11"),
            ("alone", "on"),
        ]);
        let proposals = propose(&listened);
        assert_eq!(
            filters(&proposals),
            [
                ("alone", None),
                ("tele/+/+", Some("tele/{asset}/{param}")),
                ("plant/hall/+/state", Some("plant/hall/{asset}/state")),
            ]
        );
        let plant = &proposals.subscriptions[2];
        assert_eq!((plant.stamp(), plant.topics), (Some(("/ts", "epoch_ms")), 2));
        assert_eq!(plant.shape.fields["/t"].holds, Holds::Float);
        assert!(proposals.left_out.is_empty());
    }

    // MQ-03: what one filter means twice would be read twice, and in two ways
    #[test]
    fn a_filter_that_would_mean_other_topics_is_not_proposed() {
        let listened = heard(&[("a/x/v", "1"), ("a/y/v", "2"), ("a/z/v", r#"{"v":1}"#), ("a/{b}/w", "3")]);
        let proposals = propose(&listened);
        let names: Vec<&str> = proposals.subscriptions.iter().map(|one| one.filter.as_str()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.iter().all(|name| !name.contains('+')), "{names:?}");
        // bytes that nobody can read are in the way as well
        let beside = heard(&[("a/x/v", "1"), ("a/y/v", "2"), ("a/z/v", "\u{1}")]);
        assert!(filters(&propose(&beside)).iter().all(|(filter, _)| !filter.contains('+')));
        // and none that would mean everything
        let short = heard(&[
            ("pump/flow", "1"),
            ("pump/level", "2"),
            ("fan/speed", "3"),
            ("a", "{\"v\":1}"),
            ("b", "{\"v\":1}"),
        ]);
        let proposals_of_short = propose(&short);
        let expected = [("a", None), ("b", None), ("fan/speed", None), ("pump/+", Some("pump/{param}"))];
        assert_eq!(filters(&proposals_of_short), expected);
        assert_eq!(proposals_of_short.subscriptions[3].asset.as_deref(), Some("pump"));
        let x = proposals.subscriptions.iter().find(|one| one.filter == "a/x/v").unwrap();
        assert_eq!((x.asset.as_deref(), x.parameter.as_deref()), (Some("x"), Some("v")));
    }

    // the proposal is read by the adapter's own reader, whatever the topics are called
    #[test]
    fn what_is_proposed_is_a_valid_configuration() {
        let listened = heard(&[
            (
                "plant/hall/press_7/state",
                r#"{"ts":"2026-01-29T10:00:00Z","t":21.5,"deep":{"a/b":true,"q":"7"},"n":null}"#,
            ),
            ("plant/hall/press_8/state", r#"{"ts":"2026-01-29T10:00:00Z","t":22}"#),
            ("tele/pump_1/flow", "23.5"),
            ("tele/pump_2/flow", "11"),
            ("odd/\"quoted\u{1b}\"/t: x", "1"),
            ("/leading/slash", "1.5"),
            ("words", "hello"),
            ("only/stamps", r#"{"ts":1769680800123}"#),
            ("bytes", "a\u{1}"),
        ]);
        let proposals = propose(&listened);
        let lines: Vec<String> = proposals.subscriptions.iter().flat_map(Proposal::lines).collect();
        let text = format!(
            "version: 1\ngateway_id: gw\nadapters:\n- adapter_id: a\n  adapter_type: mqtt\n  url: mqtts://broker\n  subscriptions:\n{}\n",
            lines.join("\n")
        );
        let catalog = ::config::Catalog::new(crate::catalog::specs());
        let document = ::config::parse(&text, &catalog).unwrap_or_else(|problems| panic!("{problems:?} in\n{text}"));
        assert_eq!(document.components.len(), 1);
        let left: Vec<&str> = proposals.left_out.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(left, ["bytes", "only/stamps"]);
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
