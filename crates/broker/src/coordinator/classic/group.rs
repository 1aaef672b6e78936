//! The nouns of a classic group: the group, its members, what comes in and what goes out.
//!
//! Look next at `state.rs`, which decides.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::error::ResponseError;

use crate::coordinator::Millis;
use crate::coordinator::wire::take_text;

/// Members of one group. A join beyond it is refused with GROUP_MAX_SIZE_REACHED.
pub(crate) const MEMBERS_MAX: usize = 1_000;
/// Shortest session a member may ask for.
pub(crate) const SESSION_MS_MIN: i32 = 1_000;
/// Longest session a member may ask for.
pub(crate) const SESSION_MS_MAX: i32 = 1_800_000;
/// Longest time a member may take to rejoin; longer wishes are cut to it.
pub(crate) const REBALANCE_MS_MAX: i64 = 1_800_000;

/// Names the waiting request of a member; the owner of the group maps it to a connection.
pub(crate) type Token = u64;

/// Where the group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No members; offsets may remain.
    Empty,
    /// Members are asked to rejoin. The rebalance ends when all have, or at `deadline`; a group that just came to life
    /// waits until then for more members, but not past `latest`.
    Preparing { deadline: Millis, initial: bool, latest: Millis },
    /// Everybody joined, the leader's assignment is awaited.
    Completing,
    /// Everybody has an assignment.
    Stable,
}

impl Phase {
    /// The protocol's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A way of assigning partitions that a member offers, with the member's opaque data for it.
pub(crate) type Protocol = (String, Bytes);

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_ms: i64,
    pub(crate) rebalance_ms: i64,
    /// In the member's order of preference.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// When the member is given up unless it is heard of.
    pub(crate) session_ends: Millis,
    /// It has to ask for its share of the present generation before then.
    pub(crate) sync_due: Option<Millis>,
    /// Its join request that waits for the others.
    pub(crate) joining: Option<Token>,
    /// Its sync request that waits for the leader.
    pub(crate) syncing: Option<Token>,
}

impl Member {
    /// A member whose request waits here is alive by definition.
    pub(crate) fn waits(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }

    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

/// A group. Pure data; `state::next` is the only thing that changes it.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) phase: Phase,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<String>,
    pub(crate) members: BTreeMap<String, Member>,
    /// Static members: instance id to the member id it has now.
    pub(crate) instances: BTreeMap<String, String>,
    /// Member ids handed out that have not joined yet, and until when they may.
    pub(crate) promised: BTreeMap<String, Millis>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            promised: BTreeMap::new(),
        }
    }
}

impl Group {
    /// Is any member subscribed to this topic? `None` when members do not say so in the consumers' way.
    pub(crate) fn subscribed(&self, topic: &str) -> Option<bool> {
        if self.members.is_empty() {
            return Some(false);
        }
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let mut any = false;
        for (_, metadata) in self.members.values().flat_map(|member| &member.protocols) {
            any |= topics(metadata)?.iter().any(|name| name == topic);
        }
        Some(any)
    }
}

/// The topics that a consumer subscribes to, the first thing its metadata says in every version.
fn topics(mut metadata: &[u8]) -> Option<Vec<String>> {
    metadata.try_get_i16().ok()?;
    let count = metadata.try_get_i32().ok()?;
    (0..count).map(|_| take_text(&mut metadata)).collect()
}

/// A member wants in, or back in.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) token: Token,
    /// Empty for a member that has no id yet.
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_ms: i32,
    pub(crate) rebalance_ms: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<Protocol>,
    /// The id to give to a member that has none: unguessable, made by the caller.
    pub(crate) fresh_id: String,
    /// The client knows how to come back with the id it was given (join version 4).
    pub(crate) two_steps: bool,
    /// The client may be told to lead without assigning (join version 9).
    pub(crate) skips_assignment: bool,
    /// How long a group that comes to life waits for more members.
    pub(crate) initial_delay_ms: i64,
}

/// A member asks for its assignment; the leader brings those of all.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    pub(crate) token: Token,
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

/// A member, as a request names it.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
}

/// What may happen to a group.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Join(Join),
    Sync(Sync),
    Heartbeat {
        token: Token,
        who: Identity,
        generation: i32,
    },
    Leave {
        token: Token,
        who: Vec<Identity>,
    },
    /// May this member commit offsets? A negative generation is a consumer outside of the group.
    Commit {
        token: Token,
        who: Identity,
        generation: i32,
    },
    /// Time has passed.
    Tick,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// Id, instance id and metadata of all; for the leader only.
    pub(crate) members: Vec<(String, Option<String>, Bytes)>,
    /// The leader has nothing to hand out: the shares of this generation stand.
    pub(crate) skip_assignment: bool,
}

/// The answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Joined(Joined),
    /// The join was refused; the member id is the one to come back with, if any.
    NotJoined {
        error: ResponseError,
        member_id: String,
    },
    Synced(Synced),
    /// One result per member asked to leave.
    Left(Vec<Result<(), ResponseError>>),
    /// Heartbeat or commit.
    Done(Result<(), ResponseError>),
    /// Sync refused.
    NotSynced(ResponseError),
}

/// What the owner of the group has to do: answer a waiting request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) token: Token,
    pub(crate) answer: Answer,
}

/// What an input did.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) group: Group,
    pub(crate) actions: Vec<Action>,
    /// The group has to be on disk before the actions are carried out.
    pub(crate) save: bool,
}
