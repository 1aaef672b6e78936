//! What the disk keeps of a classic group: the record that Apache Kafka writes, version 3 of its value.
//!
//! Members are kept with their share and the metadata of the chosen protocol. A group that is read back is stable: its
//! members have a session's time to be heard of, as if they had just been.

use bytes::{Buf, BufMut};

use super::group::{Group, Member, Phase};
use crate::coordinator::Millis;
use crate::coordinator::wire::{put_blob, put_maybe_text, put_text, take_blob, take_maybe_text, take_text};

const VERSION: i16 = 3;

/// The value of a group's record, stamped with the time of day.
pub(crate) fn encode(group: &Group, time_ms: i64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.put_i16(VERSION);
    put_text(&mut bytes, group.protocol_type.as_deref().unwrap_or_default());
    bytes.put_i32(group.generation);
    put_maybe_text(&mut bytes, group.protocol.as_deref());
    put_maybe_text(&mut bytes, group.leader.as_deref());
    bytes.put_i64(time_ms);
    bytes.put_i32(i32::try_from(group.members.len()).unwrap_or(i32::MAX));
    let protocol = group.protocol.as_deref().unwrap_or_default();
    for (id, member) in &group.members {
        put_text(&mut bytes, id);
        put_maybe_text(&mut bytes, member.instance_id.as_deref());
        put_text(&mut bytes, &member.client_id);
        put_text(&mut bytes, &member.client_host);
        bytes.put_i32(i32::try_from(member.rebalance_ms).unwrap_or(i32::MAX));
        bytes.put_i32(i32::try_from(member.session_ms).unwrap_or(i32::MAX));
        put_blob(&mut bytes, &member.metadata(protocol));
        put_blob(&mut bytes, &member.assignment);
    }
    bytes
}

/// The group as it goes on after a restart at `now`; `None` for a value of another version, or half of one.
pub(crate) fn decode(mut bytes: &[u8], now: Millis) -> Option<Group> {
    if bytes.try_get_i16().ok()? != VERSION {
        return None;
    }
    let protocol_type = take_text(&mut bytes)?;
    let mut group = Group { generation: bytes.try_get_i32().ok()?, ..Group::default() };
    group.protocol_type = (!protocol_type.is_empty()).then_some(protocol_type);
    group.protocol = take_maybe_text(&mut bytes)?;
    group.leader = take_maybe_text(&mut bytes)?;
    bytes.try_get_i64().ok()?; // when it was written
    for _ in 0..bytes.try_get_i32().ok()? {
        let (id, member) = take_member(&mut bytes, group.protocol.as_ref(), now)?;
        if let Some(instance) = &member.instance_id {
            group.instances.insert(instance.clone(), id.clone());
        }
        group.members.insert(id, member);
    }
    if !group.members.is_empty() {
        group.phase = Phase::Stable;
    }
    Some(group)
}

fn take_member(bytes: &mut &[u8], protocol: Option<&String>, now: Millis) -> Option<(String, Member)> {
    let id = take_text(bytes)?;
    let (instance_id, client_id, client_host) = (take_maybe_text(bytes)?, take_text(bytes)?, take_text(bytes)?);
    let (rebalance_ms, session_ms) = (bytes.try_get_i32().ok()?, bytes.try_get_i32().ok()?);
    let (metadata, assignment) = (take_blob(bytes)?, take_blob(bytes)?);
    let session_ms = i64::from(session_ms);
    let member = Member {
        instance_id,
        client_id,
        client_host,
        session_ms,
        rebalance_ms: i64::from(rebalance_ms),
        protocols: protocol.map(|name| (name.clone(), metadata)).into_iter().collect(),
        assignment,
        session_ends: now + session_ms,
        sync_due: None,
        joining: None,
        syncing: None,
    };
    Some((id, member))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn member(instance_id: Option<&str>, share: &'static str) -> Member {
        Member {
            instance_id: instance_id.map(str::to_owned),
            client_id: "client".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_ms: 10_000,
            rebalance_ms: 60_000,
            protocols: vec![
                ("sticky".to_owned(), Bytes::from_static(b"s")),
                ("range".to_owned(), Bytes::from_static(b"r")),
            ],
            assignment: Bytes::from_static(share.as_bytes()),
            session_ends: 0,
            sync_due: None,
            joining: None,
            syncing: None,
        }
    }

    // STR-11, F22
    #[test]
    fn a_group_is_read_as_written_and_never_half() {
        let mut group = Group {
            phase: Phase::Stable,
            generation: 7,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some("range".to_owned()),
            leader: Some("a".to_owned()),
            ..Group::default()
        };
        group.members.insert("a".to_owned(), member(None, "0-2"));
        group.members.insert("b".to_owned(), member(Some("static"), "3-5"));
        let bytes = encode(&group, 5);
        let back = decode(&bytes, 1_000).unwrap();
        assert_eq!((back.phase, back.generation, back.leader.as_deref()), (Phase::Stable, 7, Some("a")));
        assert_eq!(back.instances["static"], "b");
        let b = &back.members["b"];
        assert_eq!((b.assignment.as_ref(), b.session_ends), (b"3-5".as_slice(), 11_000));
        assert_eq!(b.protocols, [("range".to_owned(), Bytes::from_static(b"r"))], "of the protocol that was chosen");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], 0).is_none(), "cut at {length}");
        }
        let empty = decode(&encode(&Group { generation: 9, ..Group::default() }, 5), 0).unwrap();
        assert_eq!((empty.phase, empty.generation), (Phase::Empty, 9));
    }
}
