//! Everything the router remembers over a restart, as maps whose changes a journal can write. Times are microseconds since
//! 1970.

use std::collections::BTreeMap;

use model::Severity;
use serde::{Deserialize, Serialize};

use super::kept::{Change, Kept};
use super::notice::{Notice, Transition};

/// Alarms that a message lists; of the others it tells the number (RTE-04).
pub const LISTED_MAX: usize = 20;
/// Lines a bundle keeps to choose from; of further alarms it keeps the number and whether they stand.
const LINES_MAX: usize = 100;

/// The memory.
#[derive(Debug, Default)]
pub struct State {
    /// By alarm key: standing alarms, and those whose escalation goes on.
    pub alarms: Kept<Notice>,
    /// By delivery id: when it was decided (RTE-02).
    pub told: Kept<i64>,
    /// By destination and number: the outboxes (RTE-03).
    pub items: Kept<Item>,
    /// Alarms that wait for company.
    pub bundles: Kept<Bundle>,
    /// By route and occurrence: escalations (RTE-06).
    pub ladders: Kept<Ladder>,
    /// By delivery id: what could not be delivered and is not written down in the stream yet.
    pub letters: Kept<Letter>,
    /// By destination: why the last message that could not be delivered was given up, until another arrives (RTE-09).
    pub given_up: Kept<String>,
    /// By destination: what was called for lately (RTE-05).
    pub calls: Kept<Calls>,
    /// By partition of `alarms.clean`: the next offset.
    pub places: Kept<i64>,
}

macro_rules! tables {
    ($($table:ident),+) => {
        impl State {
            /// What changed since the last call.
            pub fn take_changes(&mut self) -> Vec<Change> {
                let mut changes = Vec::new();
                $(self.$table.take_changes(stringify!($table), &mut changes);)+
                changes
            }

            /// Everything, to begin a journal with.
            pub fn all(&self) -> Vec<Change> {
                let mut changes = Vec::new();
                $(self.$table.all(stringify!($table), &mut changes);)+
                changes
            }

            /// Takes over a change from a journal. Tables of a later version are left alone.
            pub fn apply(&mut self, (table, key, value): Change) -> Result<(), serde_json::Error> {
                match table.as_str() {
                    $(stringify!($table) => self.$table.apply(key, value),)+
                    _ => Ok(()),
                }
            }
        }
    };
}

tables!(alarms, told, items, bundles, ladders, letters, given_up, calls, places);

/// One message to one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The receiver can tell by it that it has the message already.
    pub id: String,
    pub content: Content,
    /// Since when it has been tried.
    pub created_at: i64,
    /// The time of what it tells.
    pub at: i64,
    pub attempts: u32,
    /// Why the last attempt failed.
    pub trouble: Option<String>,
    /// Goes before the others.
    pub urgent: bool,
    /// Is sent one by one however old it is.
    pub individual: bool,
    pub route: Option<String>,
}

impl Item {
    /// News of an outage, which later ones join.
    pub fn is_outage(&self) -> bool {
        matches!(&self.content, Content::Summary(summary) if summary.kind == Kind::Outage)
    }

    /// What keeps its order: messages of one occurrence.
    pub fn subject(&self) -> Option<&str> {
        match &self.content {
            Content::Alarm { notice, .. } => Some(&notice.occurrence),
            Content::Summary(_) | Content::Test => None,
        }
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Alarm {
        notice: Box<Notice>,
        transition: Transition,
        /// How long nobody acknowledged, for an escalation.
        waited: Option<i64>,
    },
    Summary(Box<Summary>),
    Test,
}

/// Why alarms are told together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Comes every so often.
    Digest,
    /// What comes together.
    Group,
    /// The end of quiet hours.
    Quiet,
    /// Too many calls.
    Flood,
    /// Old news: what happened while it could not be told.
    Outage,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Group => "group",
            Self::Quiet => "quiet_hours",
            Self::Flood => "flood",
            Self::Outage => "outage",
        }
    }
}

/// An alarm in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub occurrence: String,
    pub severity: String,
    pub asset: String,
    pub message: String,
    pub value: serde_json::Value,
    pub unit: Option<String>,
    pub activated_at: Option<i64>,
    pub cleared_at: Option<i64>,
    pub acked: bool,
}

/// Alarms that wait to be told together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    pub destination: String,
    pub kind: Kind,
    pub route: Option<String>,
    /// Fields and values of a group.
    pub group: Vec<(String, String)>,
    pub opened_at: i64,
    pub due_at: i64,
    /// Alarms in it.
    pub total: u32,
    /// From LOW on.
    pub by_severity: [u32; 4],
    pub lines: Vec<Line>,
    /// Occurrences that stand, with their alarm's key.
    pub standing: BTreeMap<String, String>,
    /// A lone alarm is told like any other.
    pub only: Option<(Box<Notice>, Transition)>,
}

impl Bundle {
    pub fn new(destination: &str, kind: Kind, route: Option<&str>, now: i64, due_at: i64) -> Self {
        Self {
            destination: destination.to_owned(),
            kind,
            route: route.map(str::to_owned),
            group: Vec::new(),
            opened_at: now,
            due_at,
            total: 0,
            by_severity: [0; 4],
            lines: Vec::new(),
            standing: BTreeMap::new(),
            only: None,
        }
    }

    /// Waits an alarm here, whatever happens to it?
    pub fn holds(&self, occurrence: &str) -> bool {
        self.standing.contains_key(occurrence) || self.lines.iter().any(|line| line.occurrence == occurrence)
    }

    /// Takes an alarm in, or what became of one that is in it.
    pub fn add(&mut self, notice: &Notice, transition: Transition) {
        if !self.holds(&notice.occurrence) {
            self.only = (self.total == 0).then(|| (Box::new(notice.clone()), transition));
            self.total = self.total.saturating_add(1);
            let rank = severity_rank(notice.severity);
            self.by_severity[rank] = self.by_severity[rank].saturating_add(1);
            if self.lines.len() < LINES_MAX {
                self.lines.push(line(notice));
            }
        }
        self.follow(notice);
    }

    /// Brings what is known of an alarm up to date.
    pub fn follow(&mut self, notice: &Notice) {
        if let Some(known) = self.lines.iter_mut().find(|line| line.occurrence == notice.occurrence) {
            *known = line(notice);
        }
        if notice.is_standing() {
            self.standing.insert(notice.occurrence.clone(), notice.key.clone());
        } else {
            self.standing.remove(&notice.occurrence);
        }
        if let Some((only, _)) = self.only.as_mut().filter(|(only, _)| only.occurrence == notice.occurrence) {
            **only = notice.clone();
        }
    }

    /// The message it becomes.
    pub fn summary(self, now: i64) -> Summary {
        let mut lines = self.lines;
        let rank = |line: &Line| Severity::parse(&line.severity).map_or(4, severity_rank);
        lines.sort_by_key(|line| std::cmp::Reverse(rank(line)));
        lines.truncate(LISTED_MAX);
        Summary {
            kind: self.kind,
            route: self.route,
            group: self.group,
            from_at: self.opened_at,
            to_at: now,
            total: self.total,
            by_severity: self.by_severity,
            standing: self.standing,
            lines,
        }
    }
}

/// Several alarms in one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub kind: Kind,
    pub route: Option<String>,
    pub group: Vec<(String, String)>,
    pub from_at: i64,
    pub to_at: i64,
    pub total: u32,
    pub by_severity: [u32; 4],
    /// Occurrences that stand, with their alarm's key.
    pub standing: BTreeMap<String, String>,
    pub lines: Vec<Line>,
}

impl Summary {
    /// Takes a later one of the same kind in.
    pub fn merge(&mut self, later: Self) {
        self.from_at = self.from_at.min(later.from_at);
        self.to_at = self.to_at.max(later.to_at);
        self.total = self.total.saturating_add(later.total);
        for (own, other) in self.by_severity.iter_mut().zip(later.by_severity) {
            *own = own.saturating_add(other);
        }
        self.standing.extend(later.standing);
        self.lines.extend(later.lines);
        self.lines.truncate(LISTED_MAX);
    }
}

fn line(notice: &Notice) -> Line {
    Line {
        occurrence: notice.occurrence.clone(),
        severity: notice.severity.as_str().to_owned(),
        asset: notice.asset.clone(),
        message: notice.message.clone(),
        value: notice.value.clone(),
        unit: notice.unit.clone(),
        activated_at: notice.activated_at,
        cleared_at: notice.cleared_at.filter(|_| !notice.is_standing()),
        acked: notice.acked,
    }
}

/// Place in lists by severity, LOW first.
pub fn severity_rank(severity: Severity) -> usize {
    Severity::ALL.iter().position(|other| *other == severity).unwrap_or(0)
}

/// An occurrence that nobody acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    pub key: String,
    pub occurrence: String,
    pub route: String,
    /// When the activation was told; a repeat begins anew.
    pub begun_at: i64,
    /// The step that is next, and how often the ladder was climbed.
    pub step: usize,
    pub round: u32,
}

/// A message that will not be delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    pub destination: String,
    pub channel: String,
    pub reason: String,
    pub attempts: u32,
    pub failed_at: i64,
    pub first_at: i64,
    pub content: Content,
    /// Who is told instead.
    pub fallback: Option<String>,
}

/// Calls of the last minutes, and the last summary of a flood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    pub single: Vec<i64>,
    pub critical: Vec<i64>,
    pub summary_at: Option<i64>,
}
