//! Listens to a server: each notification becomes samples, and is acknowledged when they are durable.
//!
//! What is owed is decided in [`super::subscription`], what is watched in [`super::items`], the bytes are moved in
//! [`super::connection`], what values mean is found out in [`super::value`]. Here they meet: what comes is taken in
//! [`super::intake`], what is to be asked is asked in [`super::chores`]. Coming back to a server is in [`super::comeback`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::Clock;
use tokio::time::Instant;

use super::config::Plan;
use super::connection::Connection;
use super::events::condition::Conditions;
use super::events::refresh::Refresher;
use super::events::{EventItem, Events, Recent};
use super::history::Filler;
use super::items::{Item, State};
use super::point::Deadband;
use super::session::{Asker, Held, ServerFacts, state_name};
use super::stack::{NotificationMessage, SecurityPolicy};
use super::subscription::Ledger;
use super::trust::{Folders, Own};
use crate::adapter::{Adapter, Group, LinkError, NO_GROUP, Receipt, Tag};
use crate::notice::Notice;
use crate::sample::{Cycle, Sample};

/// How long an answer may take, whatever else comes meanwhile; longer ends the connection.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// The same for a part of a history, which a server may have to fetch.
const HISTORY_ANSWER_MAX: Duration = Duration::from_secs(300);

/// The OPC UA adapter.
#[derive(Debug)]
pub struct OpcUaAdapter {
    pub(super) plan: Plan,
    pub(super) gateway_id: String,
    pub(super) host_name: String,
    pub(super) password: Option<String>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) folders: Folders,
    pub(super) own: Option<Own>,
    pub(super) devices: [String; 1],
    pub(super) tags: Vec<Tag>,
    /// By point and element: the tag of an array that is split.
    pub(super) elements: HashMap<(usize, usize), usize>,
    /// By point.
    pub(super) items: Vec<Item>,
    pub(super) events: Events,
    /// Publishing intervals in milliseconds; a subscription or a rhythm of reading each.
    pub(super) intervals: Vec<u32>,
    /// By interval: when it is read next.
    pub(super) reads: Vec<Instant>,
    /// Which of the servers is spoken to.
    pub(super) server: usize,
    pub(super) held: Option<Held>,
    pub(super) facts: ServerFacts,
    pub(super) link: Option<Link>,
    pub(super) ledger: Ledger,
    /// Came while nobody heard: notifications of subscriptions, and samples.
    pub(super) stash: VecDeque<(u32, NotificationMessage)>,
    pub(super) stash_samples: Vec<Sample>,
    pub(super) notices: Vec<Notice>,
    pub(super) receipt: Receipt,
    /// Items asked for in one request.
    pub(super) chunk: usize,
    /// The server does not know subscriptions.
    pub(super) cannot_subscribe: bool,
    pub(super) login_wait: Duration,
    pub(super) link_reason: Option<&'static str>,
    /// What is to be known about certificates, by whose they are.
    pub(super) expiring: BTreeMap<&'static str, i64>,
    pub(super) filler: Filler,
    /// When the next items are to be asked for; looked up again after each change, for there may be many.
    pub(super) items_due: Option<Instant>,
    pub(super) items_dirty: bool,
    /// Since when the first of those waits that have no value yet.
    pub(super) waiting_from: Option<Instant>,
    pub(super) has_polled: bool,
}

/// An open conversation.
#[derive(Debug)]
pub(super) struct Link {
    pub connection: Connection,
    pub pending: HashMap<u32, Asked>,
    /// Requests for notifications that lie at the server.
    pub outstanding: usize,
    /// No more than that are taken (UA-08).
    pub publish_max: usize,
    pub refusals: u32,
    pub is_renewing: bool,
    pub watches_server: bool,
}

impl Link {
    /// Remembers what was asked.
    pub(super) fn expect(&mut self, request: u32, what: Pending) {
        self.pending.insert(request, Asked { what, since: Instant::now() });
    }

    /// When the answer that is due first is too late.
    pub(super) fn answer_due(&self) -> Option<Instant> {
        self.pending.values().filter_map(Asked::due).min()
    }
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub what: Pending,
    pub since: Instant,
}

impl Asked {
    /// None for a request for notifications: it lies at the server, and the subscription's silence is judged instead.
    fn due(&self) -> Option<Instant> {
        match self.what {
            Pending::Publish => None,
            Pending::History { .. } => Some(self.since + HISTORY_ANSWER_MAX),
            _ => Some(self.since + ANSWER_MAX),
        }
    }
}

/// What an answer will be the answer to.
#[derive(Debug)]
pub(super) enum Pending {
    Publish,
    Create {
        items: Vec<usize>,
    },
    WatchServer,
    Republish {
        subscription: u32,
        number: u32,
    },
    Read {
        items: Vec<usize>,
    },
    History {
        items: Vec<usize>,
    },
    CreateEvents {
        sources: Vec<usize>,
    },
    /// ConditionRefresh, of the subscription of this interval.
    Refresh {
        interval: usize,
    },
}

impl OpcUaAdapter {
    /// From a valid plan; `password` is what the plan refers to. Connects nowhere yet.
    pub fn new(
        plan: Plan,
        gateway_id: &str,
        host_name: &str,
        password: Option<String>,
        folders: Folders,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let now = Instant::now();
        let of_events = plan.events.iter().map(|source| source.publishing_ms);
        let mut intervals: Vec<u32> = plan.points.iter().map(|point| point.publishing_ms).chain(of_events).collect();
        intervals.sort_unstable();
        intervals.dedup();
        let place = |ms: u32| intervals.binary_search(&ms).unwrap_or_default();
        let items = plan.points.iter().map(|point| Item::new(place(point.publishing_ms), point.polled, now)).collect();
        let tag = |point: &super::point::Point| Tag {
            asset_id: point.asset_id.clone(),
            asset_path: plan.common.asset_path.clone(),
            parameter: point.parameter.clone(),
            unit: point.unit.clone(),
            value_type: point.value_type,
            classification: point.classification,
            source_ref: point.node.to_string(),
            group: NO_GROUP,
            device: 0,
        };
        let filler = Filler::new(plan.back_fill);
        let events = Events {
            items: plan.events.iter().map(|source| EventItem::new(place(source.publishing_ms), now)).collect(),
            conditions: Conditions::default(),
            recent: Recent::default(),
            refresher: Refresher::default(),
            server_uri: String::new(),
        };
        Self {
            tags: plan.points.iter().map(tag).collect(),
            elements: HashMap::new(),
            devices: [format!("server {}", plan.connection.servers[0].url)],
            gateway_id: gateway_id.to_owned(),
            host_name: host_name.to_owned(),
            password,
            clock,
            folders,
            own: None,
            reads: vec![now; intervals.len()],
            items,
            events,
            intervals,
            server: 0,
            held: None,
            facts: ServerFacts::default(),
            link: None,
            ledger: Ledger::default(),
            stash: VecDeque::new(),
            stash_samples: Vec::new(),
            notices: Vec::new(),
            receipt: 0,
            chunk: super::session::OPERATIONS_DEFAULT,
            cannot_subscribe: false,
            login_wait: Duration::ZERO,
            link_reason: None,
            expiring: BTreeMap::new(),
            filler,
            items_due: None,
            items_dirty: true,
            waiting_from: None,
            has_polled: false,
            plan,
        }
    }

    /// Whoever changed them outside says so.
    pub(super) fn items_changed(&mut self) {
        self.items_dirty = true;
        self.has_polled = self.items.iter().any(|item| item.polled);
    }

    fn lose(&mut self) {
        self.link = None;
        self.items_dirty = true;
        let now = Instant::now();
        for item in &mut self.items {
            if item.state == State::Asked {
                item.state = State::Wanted(now);
            }
        }
        self.filler.interrupted();
        self.lose_events(now);
    }
}

impl Adapter for OpcUaAdapter {
    const FULL_JITTER: bool = true;

    fn tags(&self) -> &[Tag] {
        &self.tags
    }

    fn groups(&self) -> &[Group] {
        &[]
    }

    fn devices(&self) -> &[String] {
        &self.devices
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        self.lose();
        self.come_back().await
    }

    async fn poll(&mut self, _group: usize, _cycle: &mut Cycle) -> Result<(), LinkError> {
        Ok(()) // there are no groups: what is polled has its own rhythm
    }

    async fn hear(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        loop {
            let outcome = self.take_in(cycle).and_then(|()| self.tick(cycle));
            if let Err(error) = outcome {
                self.lose();
                return Err(error);
            }
            if !cycle.is_empty() {
                return Ok(());
            }
            let timer = self.timer();
            let Some(link) = &mut self.link else { return std::future::pending().await };
            let proceeded = tokio::select! { // cancel-safe: `proceed` is, the other only waits
                proceeded = link.connection.proceed() => proceeded,
                () = until(timer) => continue,
            };
            if let Err(error) = proceeded {
                self.lose();
                return Err(error);
            }
        }
    }

    fn settle(&mut self, upto: Receipt) {
        self.ledger.settle(upto);
    }

    async fn close(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let deadline = Instant::now() + Duration::from_millis(500);
        let mut asker = Asker { connection: &mut link.connection, deadline };
        if asker.close().await.is_err() {
            tracing::debug!("the server did not say goodbye");
        }
        link.connection.finish().await;
    }

    fn complaint(&self) -> Option<String> {
        let failed = self.items.iter().enumerate().filter(|(_, item)| item.error.is_some());
        let mut failed = failed.map(|(at, item)| (at, item.error.as_deref().unwrap_or_default()));
        if let Some((at, why)) = failed.next() {
            let (count, all) = (1 + failed.count(), self.items.len());
            let node = &self.plan.points[at].node;
            return Some(format!("has {count} of {all} points that cannot be read, the first {node}: {why}"));
        }
        if let Some(complaint) = self.event_complaint() {
            return Some(complaint);
        }
        (self.facts.state != 0).then(|| format!("says it is {}", state_name(self.facts.state)))
    }

    fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn link_reason(&self) -> Option<&'static str> {
        self.link_reason
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.plan.connection.policy == SecurityPolicy::None {
            notes.push("not secure: everything can be read and changed on the way (security_policy: None)".to_owned());
        }
        if self.plan.connection.dev_mode {
            notes.push("not secure: every certificate is trusted (dev_mode)".to_owned());
        }
        for (whose, days) in &self.expiring {
            notes.push(match days {
                ..0 => format!("{whose} certificate has expired"),
                days => format!("{whose} certificate ends in {days} days"),
            });
        }
        let unfiltered = self.items.iter().zip(&self.plan.points).filter(|(item, _)| item.filters_here);
        let (ours, nobodys): (Vec<_>, Vec<_>) =
            unfiltered.partition(|(_, point)| matches!(point.deadband, Some(Deadband::Absolute(_))));
        if !ours.is_empty() {
            notes.push(format!("the server does no deadband for {} points; it is done here", ours.len()));
        }
        if !nobodys.is_empty() {
            let count = nobodys.len();
            notes.push(format!("the server does no deadband in percent for {count} points; every change is reported"));
        }
        if self.cannot_subscribe {
            notes.push("the server has no subscriptions; points are read instead".to_owned());
        }
        self.event_notes(&mut notes);
        if let Some(level) = self.facts.service_level {
            notes.push(format!("service level {level}"));
        }
        notes
    }
}

pub(super) async fn until(timer: Option<Instant>) {
    match timer {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
