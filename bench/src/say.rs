//! What a run tells the person at the terminal: figures on standard output, progress on standard error.

use std::io::Write;

/// A line of result. A closed pipe ends the run quietly.
pub fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// What is going on right now.
#[expect(clippy::print_stderr, reason = "progress is for the person, results are on standard output")]
pub fn progress(text: &str) {
    eprintln!("bench: {text}");
}
