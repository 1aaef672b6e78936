//! What the disk keeps of a consumer group: the records that Apache Kafka writes, version 0 of their values.
//!
//! One record for the group's epoch, one for the epoch of its target, three for each member: what it is, what it shall
//! own, what it owns. Topics are not among them: they are looked up again at the start.

use bytes::{Buf, BufMut};
use uuid::Uuid;

use super::assignor::Assignor;
use super::group::{Changes, Group, Member, Place, Progress, Share, Sight};
use super::subscription::{self, Catalog};
use crate::coordinator::Millis;
use crate::coordinator::wire::{
    put_compact_text, put_count, put_text, put_varint, take_compact_text, take_count, take_text, take_varint,
};

/// Key and value of a record; a record without value takes the one of before back.
type Entry = (Vec<u8>, Option<Vec<u8>>);

const VALUE_VERSION: i16 = 0;

/// Which part of a group a record holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Epoch,
    TargetEpoch,
    Member(String),
    Target(String),
    Current(String),
}

impl Part {
    /// The group and the part that a key names; `None` for a key of another kind.
    pub(crate) fn parse(mut key: &[u8]) -> Option<(String, Self)> {
        let version = key.try_get_i16().ok()?;
        let group = take_text(&mut key)?;
        let part = match version {
            3 => Self::Epoch,
            5 => Self::Member(take_text(&mut key)?),
            6 => Self::TargetEpoch,
            7 => Self::Target(take_text(&mut key)?),
            8 => Self::Current(take_text(&mut key)?),
            _ => return None,
        };
        Some((group, part))
    }

    fn key(&self, group: &str) -> Vec<u8> {
        let (version, member) = match self {
            Self::Epoch => (3, None),
            Self::Member(id) => (5, Some(id)),
            Self::TargetEpoch => (6, None),
            Self::Target(id) => (7, Some(id)),
            Self::Current(id) => (8, Some(id)),
        };
        let mut bytes = Vec::with_capacity(8 + group.len() + member.map_or(0, String::len));
        bytes.put_i16(version);
        put_text(&mut bytes, group);
        if let Some(member) = member {
            put_text(&mut bytes, member);
        }
        bytes
    }
}

/// The records that bring the disk up to date; `None` for a group that is gone.
pub(crate) fn encode(id: &str, group: Option<&Group>, changes: &Changes) -> Vec<Entry> {
    let mut entries = Vec::new();
    if changes.group {
        let epoch = group.map(|group| {
            let mut bytes = VALUE_VERSION.to_be_bytes().to_vec();
            bytes.put_i32(group.epoch);
            put_varint(&mut bytes, 0); // tagged fields
            bytes
        });
        entries.push((Part::Epoch.key(id), epoch.clone()));
        entries.push((Part::TargetEpoch.key(id), epoch));
    }
    for member_id in &changes.members {
        let member = group.and_then(|group| group.members.get(member_id));
        let target = group.and_then(|group| group.target.get(member_id)).filter(|_| member.is_some());
        entries.push((Part::Member(member_id.clone()).key(id), member.map(member_value)));
        entries.push((Part::Target(member_id.clone()).key(id), target.map(target_value)));
        entries.push((Part::Current(member_id.clone()).key(id), member.map(current_value)));
    }
    entries
}

/// All of a group, as changes.
pub(crate) fn whole(group: &Group) -> Changes {
    Changes { group: true, members: group.members.keys().cloned().collect() }
}

fn member_value(member: &Member) -> Vec<u8> {
    let mut bytes = VALUE_VERSION.to_be_bytes().to_vec();
    put_compact_text(&mut bytes, member.instance_id.as_deref());
    put_compact_text(&mut bytes, member.rack_id.as_deref());
    put_compact_text(&mut bytes, Some(&member.client_id));
    put_compact_text(&mut bytes, Some(&member.client_host));
    put_count(&mut bytes, member.names.len());
    for name in &member.names {
        put_compact_text(&mut bytes, Some(name));
    }
    put_compact_text(&mut bytes, member.pattern.as_deref());
    bytes.put_i32(i32::try_from(member.rebalance_ms).unwrap_or(i32::MAX));
    put_compact_text(&mut bytes, member.assignor.map(Assignor::name));
    put_varint(&mut bytes, 0); // tagged fields
    bytes
}

fn target_value(share: &Share) -> Vec<u8> {
    let mut bytes = VALUE_VERSION.to_be_bytes().to_vec();
    put_share(&mut bytes, share);
    put_varint(&mut bytes, 0); // tagged fields
    bytes
}

fn current_value(member: &Member) -> Vec<u8> {
    let mut bytes = VALUE_VERSION.to_be_bytes().to_vec();
    bytes.put_i32(member.epoch);
    bytes.put_i32(member.previous_epoch);
    bytes.put_i8(match member.progress {
        Progress::Stable => 0,
        Progress::Unrevoked => 1,
        Progress::Unreleased => 2,
    });
    put_share(&mut bytes, &member.assigned);
    put_share(&mut bytes, &member.revoking);
    put_varint(&mut bytes, 0); // tagged fields
    bytes
}

/// By topic, as they are sorted.
fn put_share(bytes: &mut Vec<u8>, share: &Share) {
    let places: Vec<Place> = share.iter().copied().collect();
    let topics: Vec<&[Place]> = places.chunk_by(|one, other| one.0 == other.0).collect();
    put_count(bytes, topics.len());
    for places in topics {
        bytes.put_u128(places[0].0.as_u128());
        put_count(bytes, places.len());
        for (_, partition) in places {
            bytes.put_i32(*partition);
        }
        put_varint(bytes, 0); // tagged fields
    }
}

fn take_share(bytes: &mut &[u8]) -> Option<Share> {
    let mut share = Share::new();
    for _ in 0..take_count(bytes)? {
        let topic = Uuid::from_u128(bytes.try_get_u128().ok()?);
        for _ in 0..take_count(bytes)? {
            share.insert((topic, bytes.try_get_i32().ok()?));
        }
        take_tags(bytes)?;
    }
    Some(share)
}

/// Fields that another version added; none of them is needed.
fn take_tags(bytes: &mut &[u8]) -> Option<()> {
    for _ in 0..take_varint(bytes)? {
        take_varint(bytes)?;
        let size = usize::try_from(take_varint(bytes)?).ok()?;
        (_, *bytes) = bytes.split_at_checked(size)?;
    }
    Some(())
}

/// Takes one record into a group that is being read back. `None` leaves the group as it was.
pub(crate) fn apply(group: &mut Group, part: Part, mut value: &[u8]) -> Option<()> {
    if value.try_get_i16().ok()? != VALUE_VERSION {
        return None;
    }
    match part {
        Part::Epoch => group.epoch = value.try_get_i32().ok()?,
        Part::TargetEpoch => {} // the group's: a target is never behind
        Part::Member(id) => {
            let member = take_member(&mut value)?;
            if let Some(instance) = &member.instance_id {
                group.instances.insert(instance.clone(), id.clone());
            }
            group.members.insert(id, member);
        }
        Part::Target(id) => {
            let share = take_share(&mut value)?;
            group.target.insert(id, share);
        }
        Part::Current(id) => {
            let (epoch, previous_epoch) = (value.try_get_i32().ok()?, value.try_get_i32().ok()?);
            let progress = match value.try_get_i8().ok()? {
                0 => Progress::Stable,
                1 => Progress::Unrevoked,
                2 => Progress::Unreleased,
                _ => return None,
            };
            let (assigned, revoking) = (take_share(&mut value)?, take_share(&mut value)?);
            let member = group.members.get_mut(&id)?;
            *member = Member { epoch, previous_epoch, progress, assigned, revoking, ..std::mem::take(member) };
        }
    }
    Some(())
}

fn take_member(bytes: &mut &[u8]) -> Option<Member> {
    let (instance_id, rack_id) = (take_compact_text(bytes)?, take_compact_text(bytes)?);
    let (client_id, client_host) = (take_compact_text(bytes)??, take_compact_text(bytes)??);
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..take_count(bytes)? {
        names.insert(take_compact_text(bytes)??);
    }
    let pattern = take_compact_text(bytes)?;
    let rebalance_ms = i64::from(bytes.try_get_i32().ok()?);
    let assignor = take_compact_text(bytes)?.and_then(|name| Assignor::parse(&name));
    take_tags(bytes)?;
    Some(Member {
        instance_id,
        rack_id,
        client_id,
        client_host,
        rebalance_ms,
        names,
        pattern,
        assignor,
        ..Member::default()
    })
}

/// Sets a group that was read back going at `now`: members have a session's time to be heard of, and a target that does
/// not fit the topics of today is made anew at the next heartbeat.
pub(crate) fn resume(group: &mut Group, catalog: &Catalog, session_ms: i64, now: Millis) {
    for member in group.members.values_mut() {
        member.session_ends = now + session_ms;
        member.revoke_due = (member.progress == Progress::Unrevoked).then_some(now + member.rebalance_ms);
        member.sight = Sight::Unknown;
    }
    group.target.retain(|id, _| group.members.contains_key(id));
    subscription::resolve(group, catalog);
    let all: Share =
        group.topics.values().flat_map(|(id, count)| (0..*count).map(move |partition| (*id, partition))).collect();
    let shared: Share = group.target.values().flatten().copied().collect();
    if all != shared {
        group.topics.clear();
        group.seen = 0;
    }
}
