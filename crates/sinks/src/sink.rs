//! The trait of every destination, and its laws.
//!
//! A sink writes the protocol of its target and nothing else: no retry, no sleep, no metric, no health, no clock. The
//! [`crate::host`] owns all of that. `tests/it/conformance.rs` runs every sink through the laws below.

use std::future::Future;

use model::Health;
use stream::Topic;

use crate::batch::{Batch, Place};
use crate::error::TargetError;

/// Where reading goes on after a successful [`Sink::connect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resume {
    /// The target knows: exactly here; at the first record there is for partitions not named.
    At(Vec<Place>),
    /// The target knows these and may have forgotten others: exactly here; where the consumer group committed for
    /// partitions not named.
    AtOrCommitted(Vec<Place>),
    /// The target does not know: where the consumer group committed.
    Committed,
    /// The sink still holds what it took before; go on with what comes next.
    Continue,
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The sink took the whole batch. Positions in `confirmed` are safe in the target.
    Taken { confirmed: Vec<Place> },
    /// The target will never take these records. **Nothing** of the batch was taken.
    Refused(Vec<Refusal>),
}

/// A record that the target, or its encoding, refuses for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Index in the batch.
    pub index: usize,
    /// Stable code, see [`crate::dead_letters::reason`].
    pub reason: &'static str,
    /// One sentence for a person.
    pub detail: String,
}

/// What a sink says about itself in `/health`.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The target without its secrets, for people.
    pub target: String,
    /// How well it stands while everything works; `DEGRADED` for what an operator chose against advice.
    pub health: Health,
    /// Why, empty when healthy.
    pub reason: String,
    /// More details by key.
    pub details: Vec<(&'static str, serde_json::Value)>,
}

/// A destination.
///
/// Laws, which the conformance suite checks:
/// 1. **All or nothing.** After `Err` or [`Outcome::Refused`] the target holds nothing of the batch that it would hold
///    twice when the same records are written again.
/// 2. **Confirmed means safe.** A position is handed out as confirmed only after the target made everything before it
///    durable; positions of a partition never move backwards within a session.
/// 3. **Again is harmless.** After any error the host calls `connect` and writes what follows [`Resume`] again; the
///    target ends up with every record once.
/// 4. **Refusal is about the record.** A record is refused only if the target would refuse it alone, too; an outage is
///    never a refusal, a refusal is never an outage. The host removes refused records and writes the rest.
/// 5. **Order is kept** per partition.
/// 6. **Dropping a future is safe.** The host drops a call that takes too long and connects anew.
/// 7. **Bounded memory.** What a sink gathers before it confirms has a named limit.
pub trait Sink {
    /// True when batches shall carry the records' headers; copying them costs time that most sinks need not spend.
    const HEADERS: bool = false;

    /// Connects, prepares the target (creates what is missing) and says where to read on. Idempotent.
    fn connect(&mut self, topics: &[Topic]) -> impl Future<Output = Result<Resume, TargetError>>;

    /// Takes a batch. Excluded records are not written, their positions are passed.
    fn write(&mut self, batch: &Batch) -> impl Future<Output = Result<Outcome, TargetError>>;

    /// Lets time pass for sinks that gather; called after every write and about four times a second.
    ///
    /// `now_ms` is the host's monotonic clock in milliseconds. With `close` everything gathered is brought to the
    /// target now. Returns positions that became safe.
    fn settle(&mut self, now_ms: u64, close: bool) -> impl Future<Output = Result<Vec<Place>, TargetError>> {
        let (_, _) = (now_ms, close);
        async { Ok(Vec::new()) }
    }

    /// What to show in `/health`.
    fn standing(&self) -> Standing;
}
