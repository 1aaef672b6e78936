//! Who owns the groups: runs the state machines under the group's lock, keeps the disk up to date, and carries the
//! answers to the waiting requests.
//!
//! Invariants: what depends on a group's state (an offset commit) happens under the same lock as the check, so a fenced
//! member cannot write after its successor; an answer goes out after everything its group has written is durable, so
//! no member knows of a share that a restart forgets.
//! Look next at `slot.rs` for one group.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::{self, Beat, Catalog, CatalogTopic, Part, Refused, Timing};
use super::retention::{self, Candidate};
use super::slot::{Letter, Slot, parse_classic_key};
use super::{Millis, Offsets, classic};
use crate::limits::{EMPTY_GROUP_KEPT_MS, GROUPS_MAX};
use crate::topics::Topics;

/// Between two ticks the broker may be late by so much; a longer gap is time in which it could not listen.
const STALL_MS: Millis = 1_000;

/// A group of either protocol.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Classic(classic::Group),
    Consumer(consumer::Group),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Classic(classic::Group::default())
    }
}

impl Kind {
    pub(crate) fn has_members(&self) -> bool {
        match self {
            Self::Classic(group) => !group.members.is_empty(),
            Self::Consumer(group) => !group.members.is_empty(),
        }
    }

    /// The protocol's word for where the group is in its life.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Classic(group) => group.phase.name(),
            Self::Consumer(group) => group.state(),
        }
    }

    /// Is any member subscribed to this topic? A group whose subscriptions cannot be told is NON_EMPTY_GROUP.
    pub(crate) fn subscribed(&self, topic: &str) -> Result<bool, ResponseError> {
        match self {
            Self::Classic(group) => group.subscribed(topic).ok_or(ResponseError::NonEmptyGroup),
            Self::Consumer(group) => {
                Ok(group.members.iter().any(|(id, member)| group.subscribed(id, member).any(|name| name == topic)))
            }
        }
    }

    /// The protocol's word for the kind of group.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Classic(_) => "classic",
            Self::Consumer(_) => "consumer",
        }
    }
}

/// Who asks to commit, or to read, offsets.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    /// The generation of a classic member, the epoch of another; negative for a consumer outside of the group.
    pub(crate) generation: i32,
    /// The client knows of member epochs (version 9 of committing and fetching).
    pub(crate) knows_epochs: bool,
}

/// All groups that have members, or had some.
#[derive(Debug)]
pub(crate) struct Groups {
    slots: Mutex<HashMap<String, Arc<Mutex<Slot>>>>,
    offsets: Arc<Offsets>,
    catalog: Mutex<Arc<Catalog>>,
    tokens: AtomicU64,
    started: Instant,
    last_tick: AtomicI64,
    stalled: AtomicI64,
    initial_delay_ms: i64,
    timing: Timing,
    stopping: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Groups {
    /// Takes up the groups that the log knows; their members have a session's time to be heard of.
    /// From `stopping` on nobody waits for other members any more.
    pub(crate) fn open(
        offsets: Arc<Offsets>,
        topics: &Topics,
        initial_delay_ms: i64,
        timing: Timing,
        stopping: CancellationToken,
    ) -> Self {
        let groups = Self {
            slots: Mutex::default(),
            offsets,
            catalog: Mutex::default(),
            tokens: AtomicU64::new(0),
            started: Instant::now(),
            last_tick: AtomicI64::new(0),
            stalled: AtomicI64::new(0),
            initial_delay_ms,
            timing,
            stopping,
        };
        let (catalog, now) = (groups.catalog(topics), groups.now());
        let mut found: BTreeMap<String, Kind> = BTreeMap::new();
        for (key, value) in groups.offsets.kept() {
            if let Some(id) = parse_classic_key(&key) {
                match classic::decode(&value, now) {
                    Some(group) => drop(found.insert(id, Kind::Classic(group))),
                    None => {
                        tracing::warn!(group = id, "the record of this group cannot be read, its members join anew");
                    }
                }
            } else if let Some((id, part)) = Part::parse(&key) {
                let mut group = match found.remove(&id) {
                    Some(Kind::Consumer(group)) => group,
                    _ => consumer::Group::default(),
                };
                if consumer::apply(&mut group, part, &value).is_none() {
                    tracing::warn!(group = id, "a record of this group cannot be read, members may join anew");
                }
                found.insert(id, Kind::Consumer(group));
            }
        }
        let mut slots = HashMap::new();
        for (id, mut kind) in found {
            if let Kind::Consumer(group) = &mut kind {
                consumer::resume(group, &catalog, timing.session_ms, now);
            }
            slots.insert(id, Arc::new(Mutex::new(Slot::stored(kind))));
        }
        Self { slots: Mutex::new(slots), ..groups }
    }

    pub(crate) fn initial_delay_ms(&self) -> i64 {
        self.initial_delay_ms
    }

    pub(crate) fn heartbeat_ms(&self) -> i32 {
        self.timing.heartbeat_ms
    }

    /// Time in which the broker could listen: a member is not given up for a pause of the broker's own.
    fn now(&self) -> Millis {
        self.elapsed() - self.stalled.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Millis {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn token(&self) -> classic::Token {
        self.tokens.fetch_add(1, Ordering::Relaxed)
    }

    /// The topics as they are, made anew only when they have changed.
    fn catalog(&self, topics: &Topics) -> Arc<Catalog> {
        let mut catalog = lock(&self.catalog);
        let version = topics.generation();
        if catalog.version != version {
            let mut fresh = Catalog { version, ..Catalog::default() };
            for topic in topics.all() {
                if topic.internal() {
                    fresh.internal.insert(topic.name.to_string());
                }
                let entry = CatalogTopic { id: topic.id, partitions: topic.partition_count() };
                fresh.topics.insert(topic.name.to_string(), entry);
            }
            *catalog = Arc::new(fresh);
        }
        Arc::clone(&catalog)
    }

    fn slot(&self, id: &str, create: bool) -> Result<Option<Arc<Mutex<Slot>>>, ResponseError> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(id) {
            return Ok(Some(Arc::clone(slot)));
        }
        if !create {
            return Ok(None);
        }
        if slots.len() >= GROUPS_MAX {
            self.forget(&mut slots, 0);
        }
        if slots.len() >= GROUPS_MAX {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        Ok(Some(Arc::clone(slots.entry(id.to_owned()).or_default())))
    }

    /// Runs `visit` on the slot of a group while its lock is held. A group that does not exist is an empty one; it is
    /// remembered only when `create` says so.
    fn with<T>(&self, id: &str, create: bool, visit: impl FnOnce(&mut Slot) -> T) -> Result<T, ResponseError> {
        loop {
            let Some(slot) = self.slot(id, create)? else { return Ok(visit(&mut Slot::default())) };
            let mut slot = lock(&slot);
            if !slot.retired {
                return Ok(visit(&mut slot));
            }
        }
    }

    /// Hands an input of the classic protocol to a group and waits for the answer, possibly until other members have
    /// acted.
    pub(crate) async fn classic(
        &self,
        id: &str,
        input: impl FnOnce(classic::Token) -> classic::Input,
    ) -> Result<classic::Answer, ResponseError> {
        let (sender, receiver) = oneshot::channel();
        let token = self.token();
        let (now, input) = (self.now(), input(token));
        let joins = matches!(&input, classic::Input::Join(join) if join.member_id.is_empty());
        let refused = self.with(id, joins, |slot| {
            slot.admit_classic(id, &input).or_else(|| {
                slot.wait(token, sender);
                let letters = slot.step_classic(id, input, now, self.offsets.now_ms());
                slot.send(&self.offsets, letters);
                None
            })
        })?;
        if let Some(answer) = refused {
            return Ok(answer);
        }
        tokio::select! { // cancel-safe: an answer that comes too late finds nobody
            biased;
            answer = receiver => answer.map_err(|_| ResponseError::CoordinatorNotAvailable),
            () = self.stopping.cancelled() => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    /// Hands an input of the consumer group protocol to a group, and waits until the answer may be told.
    pub(crate) async fn consumer(&self, id: &str, topics: &Topics, input: consumer::Input) -> Result<Beat, Refused> {
        let (sender, receiver) = oneshot::channel();
        let (now, catalog) = (self.now(), self.catalog(topics));
        let joins = matches!(&input, consumer::Input::Heartbeat(beat) if beat.epoch == 0);
        let busy = |code: ResponseError| Refused::new(code, "the group cannot be served now, try again");
        self.with(id, joins, |slot| {
            if let Some(answer) = slot.step_consumer(id, input, &catalog, self.timing, now) {
                let letter: Letter = Box::new(move || drop(sender.send(answer))); // its connection may have gone
                slot.send(&self.offsets, vec![letter]);
            }
        })
        .map_err(busy)?;
        receiver.await.unwrap_or_else(|_| Err(busy(ResponseError::CoordinatorNotAvailable)))
    }

    /// Runs `action` if this member may commit offsets now; nothing can change the group in between.
    pub(crate) fn commit<T>(
        &self,
        id: &str,
        speaker: &Speaker,
        action: impl FnOnce() -> T,
    ) -> Result<T, ResponseError> {
        let now = self.now();
        self.with(id, false, |slot| {
            if speaker.generation >= 0 && slot.blank() && !self.offsets.has_group(id) {
                let code = ResponseError::IllegalGeneration;
                return Err(if speaker.knows_epochs { ResponseError::GroupIdNotFound } else { code });
            }
            slot.may_commit(id, speaker, now)?;
            Ok(action())
        })?
    }

    /// The same for offsets that a producer commits in a transaction: who names no member is not asked for one. A member
    /// that has no assignment yet cannot have read anything in its generation.
    pub(crate) fn commit_in_transaction<T>(
        &self,
        id: &str,
        speaker: &Speaker,
        action: impl FnOnce() -> T,
    ) -> Result<T, ResponseError> {
        if speaker.generation < 0 && speaker.member_id.is_empty() && speaker.instance_id.is_none() {
            return self.with(id, false, |_| action());
        }
        self.commit(id, speaker, action).map_err(|error| match error {
            ResponseError::RebalanceInProgress => ResponseError::IllegalGeneration,
            other => other,
        })
    }

    /// Runs `action` on a group while its lock is held: nothing can change the group in between. `None` stands for a
    /// group that has no members and never had any.
    pub(crate) fn look<T>(&self, id: &str, action: impl FnOnce(Option<&Kind>) -> T) -> T {
        loop {
            let slot = lock(&self.slots).get(id).map(Arc::clone);
            let Some(slot) = slot else { return action(None) };
            let slot = lock(&slot);
            if !slot.retired {
                return action((!slot.blank()).then_some(&slot.kind));
            }
        }
    }

    /// Runs `action` if the group has no members, and forgets the group.
    pub(crate) fn delete<T>(&self, id: &str, action: impl FnOnce() -> T) -> Result<T, ResponseError> {
        let now = self.now();
        // after a pause of the broker's own the next tick says first how long it was
        let on_time = self.elapsed() - self.last_tick.load(Ordering::Relaxed) <= STALL_MS;
        let done = self.with(id, false, |slot| {
            if on_time {
                // a member whose session is over is none, also when no tick has said so yet
                let letters = slot.step_classic(id, classic::Input::Tick, now, self.offsets.now_ms());
                slot.send(&self.offsets, letters);
            }
            if slot.kind.has_members() {
                return Err(ResponseError::NonEmptyGroup);
            }
            slot.take_back(id);
            if !slot.save(&self.offsets) {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            slot.retired = true;
            Ok(action())
        })??;
        lock(&self.slots).remove(id);
        Ok(done)
    }

    /// What `entry` says of each group that is known here.
    pub(crate) fn each<T>(&self, entry: impl Fn(&str, &Kind) -> T) -> BTreeMap<String, T> {
        let slots: Vec<_> = lock(&self.slots).iter().map(|(id, slot)| (id.clone(), Arc::clone(slot))).collect();
        let mut entries = BTreeMap::new();
        for (id, slot) in slots {
            let slot = lock(&slot);
            if !slot.blank() {
                let entry = entry(&id, &slot.kind);
                entries.insert(id, entry);
            }
        }
        entries
    }

    /// Lets time pass for all groups, and forgets those that are done. Returns how many have members.
    pub(crate) fn tick(&self, topics: &Topics) -> usize {
        let elapsed = self.elapsed();
        let gap = elapsed - self.last_tick.swap(elapsed, Ordering::Relaxed);
        if gap > STALL_MS {
            self.stalled.fetch_add(gap, Ordering::Relaxed);
            tracing::warn!(
                gap_ms = gap,
                "the broker could not run for a while; members of groups are not blamed for it"
            );
        }
        let (now, catalog) = (self.now(), self.catalog(topics));
        let slots: Vec<_> = lock(&self.slots).iter().map(|(id, slot)| (id.clone(), Arc::clone(slot))).collect();
        let mut alive = 0;
        for (id, slot) in &slots {
            let mut slot = lock(slot);
            let letters = match slot.kind {
                Kind::Classic(_) => slot.step_classic(id, classic::Input::Tick, now, self.offsets.now_ms()),
                Kind::Consumer(_) => {
                    slot.step_consumer(id, consumer::Input::Tick, &catalog, self.timing, now);
                    Vec::new()
                }
            };
            slot.send(&self.offsets, letters);
            slot.vacant_since = slot.vacant().then(|| slot.vacant_since.unwrap_or(now));
            alive += usize::from(slot.kind.has_members());
        }
        self.forget(&mut lock(&self.slots), EMPTY_GROUP_KEPT_MS);
        alive
    }

    /// Takes back the offsets of groups that nobody has used for `retention_ms`. Returns how many groups lost theirs.
    pub(crate) fn expire_offsets(&self, retention_ms: i64) -> usize {
        let mut expired = 0;
        for id in self.offsets.groups() {
            let (now, time_ms) = (self.now(), self.offsets.now_ms());
            let removed = self.with(&id, false, |slot| {
                // a group that is not known here has had no members since the start
                let vacant_since = if slot.blank() { Some(0) } else { slot.vacant_since.filter(|_| slot.vacant()) };
                let committed_ms = self.offsets.newest_ms(&id)?;
                let group = Candidate { committed_ms, vacant_since };
                retention::expired(group, now, time_ms, retention_ms).then(|| self.offsets.remove(&id, |_, _| true))
            });
            match removed {
                Ok(Some(Ok(_))) => {
                    tracing::info!(
                        group = id,
                        retention_ms,
                        "the offsets of this group were not used for so long and are gone"
                    );
                    expired += 1;
                }
                Ok(Some(Err(code))) | Err(code) => {
                    tracing::warn!(group = id, ?code, "cannot take back the offsets of a group");
                }
                Ok(None) => {}
            }
        }
        expired
    }

    /// Forgets groups that have had neither members nor offsets for `kept_ms`.
    fn forget(&self, slots: &mut HashMap<String, Arc<Mutex<Slot>>>, kept_ms: Millis) {
        let now = self.now();
        slots.retain(|id, slot| {
            let mut slot = lock(slot);
            if slot.blank() {
                slot.retired = true;
            } else if !slot.vacant() || self.offsets.has_group(id) {
                slot.empty_since = None;
            } else if now - *slot.empty_since.get_or_insert(now) >= kept_ms {
                slot.take_back(id);
                slot.retired = slot.save(&self.offsets);
            }
            !slot.retired
        });
    }
}
