//! One group, the requests that wait for it, and what the disk does not know of it yet.
//!
//! Invariant: `unsaved` holds every change since the last record that the log took, so what a full disk refused is
//! written with the next step, and nobody is answered before.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::error::ResponseError;
use tokio::sync::oneshot;

use super::consumer::{self, Beat, Catalog, Refused, Timing};
use super::groups::{Kind, Speaker};
use super::wire::{put_text, take_text};
use super::{Millis, Offsets, classic};
use crate::limits::GROUP_RECORD_BYTES_MAX;

/// An answer that only has to be sent.
pub(super) type Letter = Box<dyn FnOnce() + Send>;

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    waiting: HashMap<classic::Token, oneshot::Sender<classic::Answer>>,
    /// Records to write, by key; no value takes a record back.
    unsaved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The end of the log behind the last record of this group.
    saved_end: i64,
    /// The log may know this group.
    stored: bool,
    /// Since when it has had no members; not known before the first tick without any.
    pub(super) vacant_since: Option<Millis>,
    /// When it was first seen without members and offsets.
    pub(super) empty_since: Option<Millis>,
    /// Taken out of the map; whoever still holds it looks again.
    pub(super) retired: bool,
}

const CLASSIC_KEY_VERSION: i16 = 2;

fn classic_key(id: &str) -> Vec<u8> {
    let mut bytes = CLASSIC_KEY_VERSION.to_be_bytes().to_vec();
    put_text(&mut bytes, id);
    bytes
}

/// The group that a key of a classic group's record names.
pub(super) fn parse_classic_key(key: &[u8]) -> Option<String> {
    let mut rest = key.strip_prefix(&CLASSIC_KEY_VERSION.to_be_bytes())?;
    take_text(&mut rest)
}

impl Slot {
    /// A group that the log knows.
    pub(super) fn stored(kind: Kind) -> Self {
        Self { kind, stored: true, ..Self::default() }
    }

    /// Nobody is a member, about to be one, or waits.
    pub(super) fn vacant(&self) -> bool {
        self.waiting.is_empty()
            && match &self.kind {
                Kind::Classic(group) => group.members.is_empty() && group.promised.is_empty(),
                Kind::Consumer(group) => group.members.is_empty(),
            }
    }

    /// Vacant, and there is nothing about it to be remembered.
    pub(super) fn blank(&self) -> bool {
        self.vacant() && self.unsaved.is_empty() && !self.stored
    }

    // === the classic protocol ===

    /// Makes room for a request of the classic protocol, or refuses it. An empty group changes over when a member joins.
    pub(super) fn admit_classic(&mut self, id: &str, input: &classic::Input) -> Option<classic::Answer> {
        let Kind::Consumer(group) = &self.kind else { return None };
        if group.members.is_empty() && matches!(input, classic::Input::Join(_)) {
            self.take_back(id);
            self.kind = Kind::default();
            return None;
        }
        let unknown = ResponseError::UnknownMemberId;
        Some(match input {
            classic::Input::Join(join) => {
                let error = ResponseError::InconsistentGroupProtocol;
                classic::Answer::NotJoined { error, member_id: join.member_id.clone() }
            }
            classic::Input::Sync(_) => classic::Answer::NotSynced(unknown),
            classic::Input::Leave { who, .. } => classic::Answer::Left(vec![Err(unknown); who.len()]),
            _ => classic::Answer::Done(Err(unknown)),
        })
    }

    pub(super) fn wait(&mut self, token: classic::Token, sender: oneshot::Sender<classic::Answer>) {
        self.waiting.insert(token, sender);
    }

    /// Lets a group of the classic protocol take a step; a group of the other one stays as it is.
    pub(super) fn step_classic(&mut self, id: &str, input: classic::Input, now: Millis, time_ms: i64) -> Vec<Letter> {
        let group = match std::mem::take(&mut self.kind) {
            Kind::Classic(group) => group,
            kind @ Kind::Consumer(_) => {
                self.kind = kind;
                return Vec::new();
            }
        };
        let classic::Next { group, actions, save } = classic::next(group, input, now);
        if save {
            let record = classic::encode(&group, time_ms);
            let fits = record.len() <= GROUP_RECORD_BYTES_MAX;
            if !fits {
                tracing::warn!(group = id, bytes = record.len(), "the group is too large to be kept over a restart");
            }
            self.unsaved.insert(classic_key(id), fits.then_some(record));
        }
        self.kind = Kind::Classic(group);
        let mut letters: Vec<Letter> = Vec::new();
        for classic::Action { token, answer } in actions {
            if let Some(waiting) = self.waiting.remove(&token) {
                letters.push(Box::new(move || drop(waiting.send(answer)))); // its connection may have gone
            }
        }
        letters
    }

    // === the consumer group protocol ===

    /// Lets a group of the consumer group protocol take a step. An empty group changes over when a member joins; the
    /// answer is `None` when time passed.
    pub(super) fn step_consumer(
        &mut self,
        id: &str,
        input: consumer::Input,
        catalog: &Catalog,
        timing: Timing,
        now: Millis,
    ) -> Option<Result<Beat, Refused>> {
        let joins = matches!(&input, consumer::Input::Heartbeat(beat) if beat.epoch == 0);
        let (group, classic) = match std::mem::take(&mut self.kind) {
            Kind::Consumer(group) => (group, None),
            Kind::Classic(group) if joins && group.members.is_empty() && group.promised.is_empty() => {
                (consumer::Group::default(), Some(group))
            }
            kind @ Kind::Classic(_) => {
                self.kind = kind;
                let message = format!("{id} is not a group of the consumer protocol");
                return Some(Err(Refused::new(ResponseError::GroupIdNotFound, message)));
            }
        };
        let consumer::Next { group, answer, changes } = consumer::next(group, input, catalog, timing, now);
        match classic {
            Some(classic) if matches!(answer, Some(Err(_))) => {
                self.kind = Kind::Classic(classic);
                return answer;
            }
            Some(_) => drop(self.unsaved.insert(classic_key(id), None)),
            None => {}
        }
        if changes.any() {
            self.unsaved.extend(consumer::encode(id, Some(&group), &changes));
        }
        self.kind = Kind::Consumer(group);
        answer
    }

    // === both ===

    /// May offsets be committed, as `speaker` says it is?
    pub(super) fn may_commit(&mut self, id: &str, speaker: &Speaker, now: Millis) -> Result<(), ResponseError> {
        match &self.kind {
            Kind::Consumer(group) => {
                if !group.members.is_empty() && !speaker.knows_epochs {
                    return Err(ResponseError::UnsupportedVersion);
                }
                consumer::may_commit(group, &speaker.member_id, speaker.generation)
            }
            Kind::Classic(_) => {
                let who = classic::Identity {
                    member_id: speaker.member_id.clone(),
                    instance_id: speaker.instance_id.clone(),
                };
                let token = classic::Token::MAX; // answered at once, by nobody else
                let input = classic::Input::Commit { token, who, generation: speaker.generation };
                let (sender, mut receiver) = oneshot::channel();
                self.wait(token, sender);
                for letter in self.step_classic(id, input, now, 0) {
                    letter();
                }
                match receiver.try_recv() {
                    Ok(classic::Answer::Done(result)) => result,
                    _ => Err(ResponseError::UnknownServerError),
                }
            }
        }
    }

    /// Has the disk forget the group. Its offsets are not concerned.
    pub(super) fn take_back(&mut self, id: &str) {
        self.unsaved.insert(classic_key(id), None);
        if let Kind::Consumer(group) = &self.kind {
            self.unsaved.extend(consumer::encode(id, None, &consumer::whole(group)));
        }
    }

    /// Brings the disk up to date. False when it refused; what waits is told to try again.
    pub(super) fn save(&mut self, offsets: &Offsets) -> bool {
        if self.unsaved.is_empty() {
            return true;
        }
        let entries = self.unsaved.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let Ok(end) = offsets.keep(entries) else { return false };
        self.stored |= self.unsaved.values().any(Option::is_some);
        self.unsaved.clear();
        self.saved_end = end;
        offsets.when_durable(end, || ()); // somebody has to begin
        true
    }

    /// Brings the disk up to date, and sends the letters when what they say is durable.
    pub(super) fn send(&mut self, offsets: &Offsets, letters: Vec<Letter>) {
        if self.save(offsets) && !letters.is_empty() {
            offsets.when_durable(self.saved_end, move || letters.into_iter().for_each(|letter| letter()));
        }
    }
}
