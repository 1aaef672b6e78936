//! Commands of people: what they ask for, who may, and what is answered (ALM-17..21).
//!
//! The gateway owns the condition, people own acknowledging, shelving and commenting. Each source counts its own
//! commands; order is by that number, never by a clock (ALM-19 e). A command that comes twice is answered as it was the
//! first time and changes nothing.

use std::collections::VecDeque;

use model::{Severity, Timestamp};

/// Longest comment or reason, in characters (ALM-17).
pub const COMMENT_CHARS_MAX: usize = 1024;
/// Longest name of an actor or a command, in bytes; longer ones are rejected.
pub const NAME_LENGTH_MAX: usize = 128;
/// Commands remembered per asset; of more the oldest is forgotten, and when it comes again it is REJECTED as behind.
pub const COMMANDS_REMEMBERED_MAX: usize = 32;

/// Who counts the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    ControlPlane,
    /// The gateway's own page (ALM-19 g).
    Local,
}

impl Source {
    pub(super) const COUNT: usize = 2;
}

/// What a person may do, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Operator,
    Engineer,
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Engineer => "engineer",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Viewer, Self::Operator, Self::Engineer, Self::Admin];
        all.into_iter().find(|role| role.as_str().eq_ignore_ascii_case(text))
    }
}

/// What is asked for. Shelving and taking out of service need a reason, which is the comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Ack,
    Shelve {
        /// Mandatory; counted from `issued_at`.
        duration_ms: Option<i64>,
        /// Ends already when the condition goes.
        one_shot: bool,
    },
    /// Shelves for as long as is allowed (ALM-12).
    Suppress,
    Unshelve,
    OutOfService,
    ReturnToService,
    /// Ends a latch.
    Reset,
    Comment,
}

/// One command.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    pub command_id: &'a str,
    pub source: Source,
    /// Counts the commands of the source.
    pub sequence: i64,
    /// An occurrence (`gateway/asset/alarm/number`) or an alarm (`gateway/asset/alarm`). An acknowledgement needs an
    /// occurrence.
    pub target: &'a str,
    pub action: Action,
    pub actor: &'a str,
    /// `None`: the command is rejected (ALM-19 i).
    pub role: Option<Role>,
    pub issued_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub comment: Option<&'a str>,
}

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandResult {
    Applied,
    /// It is so already.
    Already,
    /// The occurrence is not known, or not any more.
    StaleOccurrence,
    Rejected(&'static str),
    Expired,
}

impl CommandResult {
    /// The word on `control.results`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "APPLIED",
            Self::Already => "ALREADY",
            Self::StaleOccurrence => "STALE_OCCURRENCE",
            Self::Rejected(_) => "REJECTED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Why it is rejected.
    pub const fn reason(self) -> Option<&'static str> {
        if let Self::Rejected(reason) = self { Some(reason) } else { None }
    }
}

/// The answer to one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandAnswer {
    pub result: CommandResult,
    /// The command was answered before; this time nothing was done.
    pub repeated: bool,
}

/// Every reason of a rejection, by the number it is saved under; add at the end.
pub(super) const REASONS: [&str; 15] = [
    "the alarm is not known",
    "a later command of the same source was handled already",
    "the command has no name, or a too long one",
    "the actor has no name, or a too long one",
    "the role is missing",
    "the role may not do this",
    "an acknowledgement names an occurrence",
    "a reason is missing",
    "the comment is too long",
    "a duration is missing",
    "the duration is not positive",
    "the duration is longer than is allowed",
    "a CRITICAL alarm is shelved by an engineer",
    "the condition is still there",
    "the alarm is not acknowledged",
];
pub(super) const UNKNOWN_ALARM: CommandResult = CommandResult::Rejected(REASONS[0]);
pub(super) const BEHIND: CommandResult = CommandResult::Rejected(REASONS[1]);
pub(super) const STILL_THERE: CommandResult = CommandResult::Rejected(REASONS[13]);
pub(super) const NOT_ACKED: CommandResult = CommandResult::Rejected(REASONS[14]);

/// What is allowed of shelving.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShelfLimits {
    pub(super) max_ms: i64,
    pub(super) critical_max_ms: i64,
}

/// Whether the command may be done at all; for shelving the longest allowed time in milliseconds is handed back.
pub(super) fn check(command: &Command<'_>, severity: Severity, limits: ShelfLimits) -> Result<i64, CommandResult> {
    let reject = |reason: usize| Err(CommandResult::Rejected(REASONS[reason]));
    if command.actor.is_empty() || command.actor.len() > NAME_LENGTH_MAX {
        return reject(3);
    }
    let Some(role) = command.role else { return reject(4) };
    let needed = match command.action {
        Action::OutOfService | Action::ReturnToService => Role::Engineer,
        _ => Role::Operator,
    };
    if role < needed {
        return reject(5);
    }
    let comment = command.comment.map(str::trim).unwrap_or_default();
    if comment.chars().count() > COMMENT_CHARS_MAX {
        return reject(8);
    }
    let needs_reason =
        matches!(command.action, Action::Shelve { .. } | Action::Suppress | Action::OutOfService | Action::Comment);
    if needs_reason && comment.is_empty() {
        return reject(7);
    }
    let max_ms = if severity == Severity::Critical { limits.critical_max_ms } else { limits.max_ms };
    if matches!(command.action, Action::Shelve { .. } | Action::Suppress) {
        if severity == Severity::Critical && role < Role::Engineer {
            return reject(12);
        }
        match command.action {
            Action::Shelve { duration_ms: None, .. } => return reject(9),
            Action::Shelve { duration_ms: Some(ms), .. } if ms <= 0 => return reject(10),
            Action::Shelve { duration_ms: Some(ms), .. } if ms > max_ms => return reject(11),
            _ => {}
        }
    }
    Ok(max_ms)
}

/// Commands of one asset that were answered.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Remembered {
    /// Newest sequence number per source.
    pub(super) sequences: [Option<i64>; Source::COUNT],
    pub(super) answers: VecDeque<(Box<str>, CommandResult)>,
}

impl Remembered {
    /// The answer, when there is one without looking at the alarm.
    pub(super) fn answer(&self, command: &Command<'_>) -> Option<CommandAnswer> {
        if command.command_id.is_empty() || command.command_id.len() > NAME_LENGTH_MAX {
            return Some(CommandAnswer { result: CommandResult::Rejected(REASONS[2]), repeated: false });
        }
        if let Some((_, result)) = self.answers.iter().find(|(id, _)| **id == *command.command_id) {
            return Some(CommandAnswer { result: *result, repeated: true });
        }
        let behind = self.sequences[command.source as usize].is_some_and(|newest| command.sequence <= newest);
        behind.then_some(CommandAnswer { result: BEHIND, repeated: false })
    }

    pub(super) fn note(&mut self, command: &Command<'_>, result: CommandResult) {
        let newest = &mut self.sequences[command.source as usize];
        *newest = (*newest).max(Some(command.sequence));
        if self.answers.len() >= COMMANDS_REMEMBERED_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((command.command_id.into(), result));
    }
}

/// A comment as it is told: without control characters (G-11).
pub(super) fn cleaned(comment: Option<&str>) -> Option<String> {
    let comment: String = comment?.trim().chars().filter(|c| !c.is_control()).collect();
    (!comment.is_empty()).then_some(comment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ShelfLimits = ShelfLimits { max_ms: 43_200_000, critical_max_ms: 3_600_000 };

    fn command(action: Action, role: Option<Role>) -> Command<'static> {
        Command {
            command_id: "c",
            source: Source::Local,
            sequence: 1,
            target: "gw/a/b/1",
            action,
            actor: "ana",
            role,
            issued_at: Timestamp::from_micros(0),
            expires_at: None,
            comment: Some("because"),
        }
    }

    #[test]
    fn roles_reasons_and_durations() {
        // ALM-12, ALM-13, ALM-17, ALM-19 (i)
        use Severity::{Critical, High};
        let shelve = |ms| Action::Shelve { duration_ms: Some(ms), one_shot: false };
        let refused =
            |command: &Command<'_>, severity| check(command, severity, LIMITS).err().and_then(CommandResult::reason);
        let (operator, engineer) = (Some(Role::Operator), Some(Role::Engineer));
        for (action, role, severity, reason) in [
            (Action::Ack, None, High, Some(REASONS[4])),
            (Action::Ack, Some(Role::Viewer), High, Some(REASONS[5])),
            (Action::Ack, operator, Critical, None),
            (shelve(43_200_000), operator, High, None),
            (shelve(43_200_001), operator, High, Some(REASONS[11])),
            (shelve(0), operator, High, Some(REASONS[10])),
            (Action::Shelve { duration_ms: None, one_shot: true }, operator, High, Some(REASONS[9])),
            (shelve(3_600_000), operator, Critical, Some(REASONS[12])),
            (shelve(3_600_000), engineer, Critical, None),
            (shelve(3_600_001), engineer, Critical, Some(REASONS[11])),
            (Action::Suppress, operator, High, None),
            (Action::OutOfService, operator, High, Some(REASONS[5])),
            (Action::OutOfService, Some(Role::Admin), High, None),
        ] {
            assert_eq!(refused(&command(action, role), severity), reason, "{action:?} by {role:?}");
        }
        let silent = Command { comment: Some("  "), ..command(shelve(1), operator) };
        assert_eq!(refused(&silent, High), Some(REASONS[7]));
        let long = "x".repeat(COMMENT_CHARS_MAX + 1);
        let long = Command { comment: Some(&long), ..command(Action::Comment, operator) };
        assert_eq!(refused(&long, High), Some(REASONS[8]));
        assert_eq!(Role::parse("Engineer"), Some(Role::Engineer));
    }

    #[test]
    fn a_command_is_answered_once_and_remembered() {
        // ALM-18, ALM-19 (e, g)
        let mut remembered = Remembered::default();
        let first = command(Action::Ack, None);
        assert_eq!(remembered.answer(&first), None);
        remembered.note(&first, CommandResult::Applied);
        let repeated = CommandAnswer { result: CommandResult::Applied, repeated: true };
        assert_eq!(remembered.answer(&first), Some(repeated));
        let behind = Command { command_id: "d", ..first };
        assert_eq!(remembered.answer(&behind).map(|answer| answer.result), Some(BEHIND));
        let other_source = Command { source: Source::ControlPlane, ..behind };
        assert_eq!(remembered.answer(&other_source), None, "sources count for themselves");
        for n in 0..100 {
            let id = format!("n{n}");
            remembered.note(&Command { command_id: &id, sequence: n, ..first }, CommandResult::Already);
        }
        assert_eq!(remembered.answers.len(), COMMANDS_REMEMBERED_MAX);
        assert_eq!(cleaned(Some(" a\r\nb ")).as_deref(), Some("ab"));
    }
}
