//! Foreign programs: python scripts of `tests/peers`, kcat.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::{external, signal, wait_for};

/// The interpreter for scripts.
fn interpreter() -> String {
    std::env::var("SF_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

fn script(name: &str) -> PathBuf {
    PathBuf::from("tests/peers").join(name)
}

/// Fails with the reason when tests against foreign programs are off or python lacks a module.
pub(crate) fn python_available(modules: &[&str]) -> Result<(), String> {
    external()?;
    for module in modules {
        let output = Command::new(interpreter()).arg("-c").arg(format!("import {module}")).output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(_) => return Err(format!("{} has no module {module}", interpreter())),
            Err(error) => return Err(format!("{}: {error}", interpreter())),
        }
    }
    Ok(())
}

/// Fails with the reason when kcat is not to be run.
pub(crate) fn kcat_available() -> Result<(), String> {
    external()?;
    Command::new("kcat").arg("-V").output().map(|_| ()).map_err(|error| format!("kcat: {error}"))
}

/// Runs a script to its end; panics with its output when it fails.
pub(crate) fn python(name: &str, arguments: &[String]) -> String {
    let output: Output =
        Command::new(interpreter()).arg(script(name)).args(arguments).output().expect("the interpreter starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name} failed:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A script that serves until it is told to stop.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Peer {
    /// Starts a script and waits until it prints `ready`.
    pub(crate) fn start(name: &str, arguments: &[String]) -> Self {
        let mut child = Command::new(interpreter())
            .arg(script(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut peer = Self { child, output };
        let mut line = String::new();
        peer.output.read_line(&mut line).expect("the script prints");
        assert_eq!(line.trim(), "ready", "{name} does not start");
        peer
    }

    /// Stops the script and returns what it printed since `ready`.
    pub(crate) fn stop(mut self) -> String {
        signal(self.child.id(), "TERM");
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("the script prints text");
        let status = wait_for("the script ends", Duration::from_secs(20), || {
            self.child.try_wait().ok().flatten().ok_or_else(|| "it runs on".to_owned())
        });
        assert!(status.success(), "the script ended with {status}");
        text
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.child.id(), "KILL");
            drop(self.child.wait());
        }
    }
}
