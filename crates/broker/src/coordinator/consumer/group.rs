//! The nouns of a consumer group: the group, its members, what comes in and what goes out.
//!
//! Look next at `state.rs`, which decides.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::assignor::Assignor;
use crate::access::Rights;
use crate::coordinator::Millis;

/// Members of one group. A further one is refused with GROUP_MAX_SIZE_REACHED.
pub(super) const MEMBERS_MAX: usize = 1_000;
/// Topic names one member may subscribe to. More are refused with INVALID_REQUEST.
pub(super) const NAMES_MAX: usize = 2_000;
/// Bytes of an id, a rack or a regular expression. Longer ones are refused with INVALID_REQUEST.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;
/// Different regular expressions in one group. A further one is refused with INVALID_REGULAR_EXPRESSION.
pub(super) const PATTERNS_MAX: usize = 32;
/// Longest time a member may take to give partitions back; longer wishes are cut to it.
pub(super) const REVOKE_MS_MAX: i64 = 1_800_000;

/// The epoch a member joins with.
pub(super) const JOINING: i32 = 0;
/// The epoch of a member that leaves.
pub(super) const LEAVING: i32 = -1;
/// The epoch of a static member that is away and will be back.
pub(super) const AWAY: i32 = -2;

/// A partition of a topic.
pub(crate) type Place = (Uuid, i32);
/// Partitions of one member.
pub(crate) type Share = BTreeSet<Place>;

/// Which of the topics that its regular expression matches a member may know of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Sight {
    /// All: access rules do not count, or not for it.
    #[default]
    All,
    /// Those that it may describe.
    Limited(Rights),
    /// Not known between a restart and its first heartbeat: those that it reads already.
    Unknown,
}

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Progress {
    /// It owns what it shall own in its epoch.
    #[default]
    Stable,
    /// It was told to give partitions back and has not said that it did.
    Unrevoked,
    /// It waits for partitions that others have not given back.
    Unreleased,
}

/// A member. What it owns or may still own is `assigned` and `revoking`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_ms: i64,
    pub(crate) names: BTreeSet<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) sight: Sight,
    pub(crate) assignor: Option<Assignor>,
    pub(crate) epoch: i32,
    /// The epoch before, in case the answer that told the present one was lost.
    pub(crate) previous_epoch: i32,
    pub(crate) progress: Progress,
    pub(crate) assigned: Share,
    pub(crate) revoking: Share,
    /// When the member is given up unless it is heard of.
    pub(crate) session_ends: Millis,
    /// When the member is given up unless it has given back what it was told to.
    pub(crate) revoke_due: Option<Millis>,
}

/// A group. Pure data; `state::next` is the only thing that changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) epoch: i32,
    pub(crate) members: BTreeMap<String, Member>,
    /// Static members: instance id to the member id it has now.
    pub(crate) instances: BTreeMap<String, String>,
    /// Who shall own what in this epoch.
    pub(crate) target: BTreeMap<String, Share>,
    /// Topics that any member is subscribed to and that exist, with their partitions.
    pub(crate) topics: BTreeMap<String, (Uuid, i32)>,
    /// Topics that each regular expression of a member stands for.
    pub(crate) matches: BTreeMap<String, BTreeSet<String>>,
    /// What is left of that for each member that may not know of all topics.
    pub(crate) visible: BTreeMap<String, BTreeSet<String>>,
    /// The catalog of topics that was looked at last.
    pub(crate) seen: u64,
}

impl Group {
    /// The protocol's word for where the group is in its life.
    pub(crate) fn state(&self) -> &'static str {
        let arrived = |member: &Member| member.progress == Progress::Stable && member.epoch == self.epoch;
        if self.members.is_empty() {
            "Empty"
        } else if self.members.values().all(arrived) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The assignor that most members ask for.
    pub(crate) fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(assignor, _)| assignor).unwrap_or_default()
    }

    /// Names of the topics that a member is subscribed to, existing or not.
    pub(crate) fn subscribed<'a>(&'a self, id: &str, member: &'a Member) -> impl Iterator<Item = &'a String> {
        let pattern = member.pattern.as_ref();
        let matched = pattern.and_then(|pattern| self.visible.get(id).or_else(|| self.matches.get(pattern)));
        member.names.iter().chain(matched.into_iter().flatten())
    }
}

/// What a member says with a heartbeat; `None` is "as before".
#[derive(Debug, Clone, Default)]
pub(crate) struct Heartbeat {
    /// Empty for a member of request version 0 that has none yet.
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    pub(crate) instance_id: Option<String>,
    pub(crate) rack_id: Option<String>,
    pub(crate) rebalance_ms: Option<i32>,
    pub(crate) names: Option<BTreeSet<String>>,
    pub(crate) pattern: Option<String>,
    /// Looked up when the heartbeat came in, so that it follows the rules as they are.
    pub(crate) sight: Sight,
    pub(crate) assignor: Option<String>,
    pub(crate) owned: Option<Share>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    /// The id to give to a member that has none: unguessable, made by the caller.
    pub(crate) fresh_id: String,
}

/// What the operator has set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) session_ms: i64,
    pub(crate) heartbeat_ms: i32,
}

/// What may happen to a group.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    Heartbeat(Box<Heartbeat>),
    /// An operator takes a static member out.
    Expel {
        instance_id: String,
    },
    /// Time has passed.
    Tick,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) member_id: String,
    pub(crate) epoch: i32,
    /// What the member shall own from now on; `None` is "as before".
    pub(crate) share: Option<Share>,
}

/// A heartbeat that was refused: the protocol's code and a sentence for the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: ResponseError,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What the disk does not know yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// The epoch of the group.
    pub(crate) group: bool,
    /// Members that came, changed or went.
    pub(crate) members: BTreeSet<String>,
}

impl Changes {
    pub(crate) fn any(&self) -> bool {
        self.group || !self.members.is_empty()
    }
}

/// What an input did.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) group: Group,
    /// `None` for time that passed.
    pub(crate) answer: Option<Result<Beat, Refused>>,
    /// To be on disk before the answer goes out.
    pub(crate) changes: Changes,
}
