//! Speaking to the person at the terminal. Logs go elsewhere.

use std::io::{IsTerminal, Write};

/// A line of result on standard output. A closed pipe (`| head`) is not an error.
pub(crate) fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Bytes of result on standard output.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// What went wrong, on standard error.
pub(crate) fn error(text: &str) {
    error_line(&format!("streamforge: {text}"));
}

/// Something a person should know beside the result, on standard error.
pub(crate) fn note(text: &str) {
    error_line(&format!("note: {text}"));
}

#[expect(clippy::print_stderr, reason = "this is where messages to the person leave the process")]
fn error_line(text: &str) {
    eprintln!("{text}");
}

/// How far a long command is, on one line of standard error; nothing where nobody watches.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    length: usize,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), length: 0 }
    }

    /// Replaces the line.
    pub(crate) fn at(&mut self, text: &str) {
        if self.shown {
            Self::write(&format!("\r{text:width$}", width = self.length));
            self.length = text.chars().count();
        }
    }

    #[expect(clippy::print_stderr, reason = "a line that is replaced must not go through the line printer")]
    fn write(text: &str) {
        eprint!("{text}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.length > 0 {
            Self::write(&format!("\r{:width$}\r", "", width = self.length));
        }
    }
}
