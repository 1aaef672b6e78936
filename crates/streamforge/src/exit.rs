//! Exit codes: what a supervisor or a script may conclude from the end of a process.

/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
/// What was looked at is damaged.
pub(crate) const DAMAGED: u8 = 65;
/// A defect of this program.
pub(crate) const BUG: u8 = 70;
/// Something outside is not there now; trying again may help.
pub(crate) const TRY_AGAIN: u8 = 75;
/// The configuration is wrong; trying again does not help.
pub(crate) const BAD_CONFIG: u8 = 78;

/// The end of a role that did not go well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// For a person: what failed, why, what to do.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// An error with its whole chain.
    pub(crate) fn from_error(code: u8, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, daemon::report(error))
    }
}
