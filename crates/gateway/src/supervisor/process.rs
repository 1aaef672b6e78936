//! Running a child: its own process group, secrets and start counter over a pipe, its log lines passed on.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use daemon::{Launch, launch};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::children::ChildPlan;

/// Characters of a child's last words that are kept.
const LAST_WORDS_MAX: usize = 500;
/// A longer line of a child is cut here.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// A running child.
#[derive(Debug)]
pub struct Process {
    pub pid: u32,
    child: Child,
    /// Held open for as long as we live: its end tells the child that we are gone.
    _pipe: ChildStdin,
}

impl Process {
    /// Starts the plan with `program` (this binary, or the pinned version of it).
    pub async fn start(program: &Path, plan: &ChildPlan, launch: &Launch) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .args(&plan.arguments)
            .envs(&plan.environment)
            .env(launch::PARENT_PIPE_VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or_else(|| std::io::Error::other("the child ended at once"))?;
        let mut pipe = child.stdin.take().ok_or_else(|| std::io::Error::other("the child has no standard input"))?;
        let mut line = serde_json::to_vec(launch)?;
        line.push(b'\n');
        pipe.write_all(&line).await?;
        pipe.flush().await?;
        Ok(Self { pid, child, _pipe: pipe })
    }

    /// The streams whose lines are to be passed on; once.
    pub fn take_output(&mut self) -> Vec<Box<dyn AsyncRead + Send + Unpin>> {
        let mut streams: Vec<Box<dyn AsyncRead + Send + Unpin>> = Vec::new();
        if let Some(stdout) = self.child.stdout.take() {
            streams.push(Box::new(stdout));
        }
        if let Some(stderr) = self.child.stderr.take() {
            streams.push(Box::new(stderr));
        }
        streams
    }

    /// The exit code when it has ended; the inner `None` is death by a signal.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        match self.child.try_wait() {
            Ok(Some(status)) => Some(status.code()),
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(pid = self.pid, error = %error, "cannot ask for the state of a child");
                None
            }
        }
    }

    /// Signals the whole process group.
    pub fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::debug!(pid = self.pid, error = %error, "the child is gone already");
        }
    }
}

/// What a child said of its own end: its last line that begins with the program's name.
pub type LastWords = Arc<Mutex<String>>;

/// Passes every line of a child's output to the log until it ends.
pub async fn forward_lines(component: String, stream: Box<dyn AsyncRead + Send + Unpin>, last_words: LastWords) {
    let mut reader = BufReader::with_capacity(8 * 1024, stream);
    let mut line: Vec<u8> = Vec::new();
    loop {
        let Ok(chunk) = reader.fill_buf().await else { return };
        if chunk.is_empty() {
            break;
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&chunk[..taken.min(room)]);
        reader.consume(taken);
        if end.is_some() {
            pass_on(&component, &mut line, &last_words);
        }
    }
    pass_on(&component, &mut line, &last_words);
}

fn pass_on(component: &str, line: &mut Vec<u8>, last_words: &LastWords) {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    if let Some(words) = text.strip_prefix("streamforge: ") {
        let cut = words.chars().take(LAST_WORDS_MAX).collect();
        *last_words.lock().unwrap_or_else(PoisonError::into_inner) = cut;
    } else if !text.is_empty() {
        daemon::logging::forward(component, text);
    }
    line.clear();
}

/// The program children run: this binary.
pub fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}
