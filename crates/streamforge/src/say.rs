//! Speaking to the person at the terminal. Logs go elsewhere.

use std::io::Write;

/// A line of result on standard output. A closed pipe (`| head`) is not an error.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// What went wrong, on standard error.
#[expect(clippy::print_stderr, reason = "this is where messages to the person leave the process")]
pub(crate) fn error(text: &str) {
    eprintln!("streamforge: {text}");
}
