//! What becomes of a dead letter: its status, which decisions it allows, and how both are saved (VAL-41 to VAL-45).
//!
//! A letter is decided about once. What is in the clean readings is never taken back, and what was rejected stays out; a
//! decision that was made before is [`Answer::Already`], so that a command may be sent again after a lost answer.

use crate::bytes::{Reader, Writer};

/// Of the saved form; another one is not read.
const VERSION: i64 = 1;

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Status {
    /// Nobody has decided.
    #[default]
    New,
    /// Its value is in the clean readings as SUSPECT, on a person's word.
    Approved,
    /// It stays out of the clean readings.
    Rejected,
    /// It passed newer rules and is in the clean readings.
    Reprocessed,
    /// It failed newer rules as well.
    StillFailing,
    /// The letter is no longer kept; nothing can be done with it.
    Expired,
}

impl Status {
    pub const ALL: [Self; 6] =
        [Self::New, Self::Approved, Self::Rejected, Self::Reprocessed, Self::StillFailing, Self::Expired];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Approved => "APPROVED",
            Self::Rejected => "REJECTED",
            Self::Reprocessed => "REPROCESSED",
            Self::StillFailing => "STILL_FAILING",
            Self::Expired => "EXPIRED",
        }
    }

    /// The status with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// True while somebody has to decide.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::New | Self::StillFailing)
    }
}

/// What somebody wants to happen to a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Approve,
    Reject,
    /// Judge it with the rules of today.
    Reprocess,
}

/// What comes of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Ok,
    /// It was decided so before: nothing is written.
    Already,
    /// It cannot be; one clause for a person.
    Failed(&'static str),
}

/// Whether a letter that stands at `status` allows a decision; `same_command` when it was the very same command that
/// brought it there.
pub const fn allows(status: Status, decision: Decision, same_command: bool) -> Answer {
    match (status, decision) {
        (Status::StillFailing, Decision::Reprocess) if same_command => Answer::Already,
        (Status::New | Status::StillFailing, _) => Answer::Ok,
        (Status::Approved | Status::Reprocessed, Decision::Approve | Decision::Reprocess)
        | (Status::Rejected, Decision::Reject) => Answer::Already,
        (Status::Approved | Status::Reprocessed, Decision::Reject) => {
            Answer::Failed("its value is in the clean readings and cannot be taken back")
        }
        (Status::Rejected, Decision::Approve | Decision::Reprocess) => Answer::Failed("it was rejected"),
        (Status::Expired, _) => Answer::Failed("the letter is no longer kept"),
    }
}

/// A status with who brought it about, as it is saved under the letter's id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatusRecord {
    pub status: Status,
    /// Counts the decisions about this letter; of two records the higher one holds.
    pub revision: i64,
    /// Times the letter was judged, the first one included.
    pub attempts: i32,
    pub by: String,
    /// Microseconds since 1970.
    pub at: i64,
    pub comment: String,
    pub command_id: String,
    /// Why it still fails, when it does.
    pub reason: Option<String>,
}

/// Appends the saved form.
pub fn encode(record: &StatusRecord, out: &mut Vec<u8>) {
    let mut writer = Writer(out);
    writer.int(VERSION);
    writer.text(record.status.as_str());
    writer.int(record.revision);
    writer.int(i64::from(record.attempts));
    writer.text(&record.by);
    writer.int(record.at);
    writer.text(&record.comment);
    writer.text(&record.command_id);
    writer.optional(record.reason.as_deref(), Writer::text);
}

/// Reads what [`encode`] wrote; `None` when the bytes are something else.
pub fn decode(bytes: &[u8]) -> Option<StatusRecord> {
    let mut reader = Reader(bytes);
    if reader.int()? != VERSION {
        return None;
    }
    let record = StatusRecord {
        status: Status::by_name(reader.text()?)?,
        revision: reader.int()?,
        attempts: i32::try_from(reader.int()?).ok()?,
        by: reader.text()?.to_owned(),
        at: reader.int()?,
        comment: reader.text()?.to_owned(),
        command_id: reader.text()?.to_owned(),
        reason: reader.optional(|reader| reader.text().map(str::to_owned))?,
    };
    reader.0.is_empty().then_some(record)
}

/// What letters have in common that are looked at together: the same cause at the same machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey<'a> {
    pub reason: &'a str,
    /// Empty when no rule of the document rejected it.
    pub rule: &'a str,
    /// Empty where the record does not say.
    pub adapter: &'a str,
    pub asset: &'a str,
}

/// The adapter in a record id, `gateway/adapter/epoch/seq`; names of gateways hold no slash.
pub fn adapter_of(record_id: &str) -> Option<&str> {
    let (front, _) = record_id.rsplit_once('/')?;
    let (front, _) = front.rsplit_once('/')?;
    front.split_once('/').map(|(_, adapter)| adapter).filter(|adapter| !adapter.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    // VAL-42, VAL-44, VAL-45
    #[test]
    fn a_letter_is_decided_about_once() {
        use Decision::{Approve, Reject, Reprocess};
        let row = |status| [Approve, Reject, Reprocess].map(|decision| allows(status, decision, false));
        assert_eq!(row(Status::New), [Answer::Ok; 3]);
        assert_eq!(row(Status::StillFailing), [Answer::Ok; 3]);
        for in_clean in [Status::Approved, Status::Reprocessed] {
            let [approve, reject, reprocess] = row(in_clean);
            assert_eq!((approve, reprocess), (Answer::Already, Answer::Already));
            assert!(matches!(reject, Answer::Failed(_)));
        }
        let [approve, reject, reprocess] = row(Status::Rejected);
        assert!(matches!((approve, reprocess), (Answer::Failed(_), Answer::Failed(_))));
        assert_eq!(reject, Answer::Already);
        assert!(row(Status::Expired).iter().all(|answer| matches!(answer, Answer::Failed(_))));
        assert_eq!(allows(Status::StillFailing, Reprocess, true), Answer::Already, "the same command again");
        assert_eq!(allows(Status::StillFailing, Approve, true), Answer::Ok);
        for status in Status::ALL {
            assert_eq!(Status::by_name(status.as_str()), Some(status));
            let open = row(status).contains(&Answer::Ok);
            assert_eq!(open, status.is_open(), "{}", status.as_str());
        }
    }

    // VAL-41
    #[test]
    fn a_status_is_saved_and_torn_bytes_are_refused() {
        let record = StatusRecord {
            status: Status::StillFailing,
            revision: 3,
            attempts: 2,
            by: "Ada".to_owned(),
            at: 1_769_680_800_000_000,
            comment: "sensor was recalibrated".to_owned(),
            command_id: "c-1".to_owned(),
            reason: Some("RANGE_HARD".to_owned()),
        };
        for record in [record, StatusRecord::default()] {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            assert_eq!(decode(&bytes), Some(record));
            for end in 0..bytes.len() {
                assert_eq!(decode(&bytes[..end]), None);
            }
            bytes.push(0);
            assert_eq!(decode(&bytes), None);
        }
        assert_eq!(decode(b"\x04"), None, "another version");
    }

    #[test]
    fn the_adapter_is_found_in_a_record_id() {
        assert_eq!(adapter_of("gw/press_line/1/77"), Some("press_line"));
        assert_eq!(adapter_of("gw/line/a/1/77"), Some("line/a"));
        for strange in ["", "gw", "gw//1/2", "1/2", "a/1/2"] {
            assert_eq!(adapter_of(strange), None, "{strange}");
        }
    }
}
