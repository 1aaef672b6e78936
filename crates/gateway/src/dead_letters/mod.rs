//! Dead letters: what lies there, why, and deciding about it (VAL-40 to VAL-47).
//!
//! The topics are append-only; what becomes of a letter lives in `_sf.state.dlq`. [`follow`] keeps [`index`], [`jobs`] are
//! the commands, [`work`] carries them out, [`restore`] makes readings of letters, [`fetch`] reads single ones. Decisions
//! are pure: `pipeline::dead_letter`. The routes are in `api/dead_letters.rs`.

mod audit;
mod entry;
mod fetch;
mod follow;
mod index;
mod jobs;
mod restore;
mod work;

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::http::StatusCode;
use config::Validation;
use daemon::report;
use model::{Clock, Timestamp};
use serde_json::{Value, json};
use stream::avro;
use stream::message::{self, json as as_json};

pub use entry::{Filter, Key};
pub use index::ENTRIES_MAX;
pub use jobs::{Action, Job};

use self::fetch::Fetcher;
use self::index::Index;
use self::jobs::{Jobs, Order, State};
use self::work::Desk;
use crate::api::Problem;
use crate::modules::ModuleContext;

/// Letters of one command (VAL-43).
pub const SELECTION_MAX: usize = 100_000;
/// How long a frozen selection may be used (VAL-43).
const PREVIEW_VALID_MICROS: i64 = 15 * 60 * 1_000_000;
/// Frozen selections; one more makes the oldest go.
const PREVIEWS_MAX: usize = 8;
/// Entries of one page of the list.
const PAGE_MAX: usize = 1000;
const PAGE_USUAL: usize = 100;
/// Characters of a name and of a comment; the rest is cut off.
const NAME_MAX: usize = 100;
const COMMENT_MAX: usize = 1000;
/// How long a thread waits before it begins again after an error.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The dead letters of a gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeadLetters(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Arc<dyn Clock>,
    index: Mutex<Index>,
    jobs: Jobs,
    previews: Mutex<Previews>,
    rules: Mutex<Validation>,
    /// How the stream is reached, once it is there.
    link: OnceLock<ModuleContext>,
}

#[derive(Debug, Default)]
struct Previews {
    kept: VecDeque<Preview>,
    made: u64,
}

/// A selection that no longer changes.
#[derive(Debug, Clone)]
struct Preview {
    token: String,
    keys: Vec<Key>,
    selection: Value,
    expires_at: Timestamp,
}

/// Which letters a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    Ids(Vec<String>),
    Filter(Filter),
    /// The token of a preview.
    Frozen(String),
}

/// Who decides, and why.
#[derive(Debug, Clone, Default)]
pub struct Command {
    pub by: Option<String>,
    pub role: Option<String>,
    pub comment: Option<String>,
    /// Names the command, so that it may be sent again; made up when absent.
    pub command_id: Option<String>,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn previews(&self) -> MutexGuard<'_, Previews> {
        self.previews.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rules(&self) -> Validation {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn link(&self) -> Result<&ModuleContext, Problem> {
        self.link.get().ok_or_else(|| Problem::unavailable("the stream is not there yet; ask again in a moment"))
    }
}

impl DeadLetters {
    /// With the rules of today; nothing is read before [`Self::start`].
    pub fn new(clock: Arc<dyn Clock>, rules: Validation) -> Self {
        Self(Arc::new(Shared {
            clock,
            index: Mutex::default(),
            jobs: Jobs::default(),
            previews: Mutex::default(),
            rules: Mutex::new(rules),
            link: OnceLock::new(),
        }))
    }

    /// The rules that reprocessing judges with from the next job on.
    pub fn set_rules(&self, rules: Validation) {
        *self.0.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Starts reading and working, on two threads that end with the stop token.
    pub fn start(&self, ctx: &ModuleContext) -> std::io::Result<Vec<JoinHandle<()>>> {
        self.0.link.get_or_init(|| ctx.clone());
        let (shared, own) = (Arc::clone(&self.0), ctx.clone());
        let follow = std::thread::Builder::new().name("dead-letters".to_owned()).spawn(move || {
            while !own.stop.is_cancelled() {
                if let Err(error) = follow::run(&own, &shared.index) {
                    tracing::debug!(error = %report(&error), "the dead letters cannot be read; beginning again");
                    std::thread::sleep(AGAIN_AFTER);
                }
            }
        })?;
        let (shared, own) = (Arc::clone(&self.0), ctx.clone());
        let work = std::thread::Builder::new().name("dead-letter-jobs".to_owned()).spawn(move || {
            while !own.stop.is_cancelled() {
                serve(&own, &shared);
            }
        })?;
        Ok(vec![follow, work])
    }

    /// True when everything that was there at the start has been read.
    pub fn is_complete(&self) -> bool {
        self.0.index().complete
    }

    /// Letters by their cause.
    pub fn groups(&self, filter: &Filter) -> Result<Value, Problem> {
        let wanted = filter.compile().map_err(Problem::bad_request)?;
        Ok(self.0.index().groups(&wanted))
    }

    /// A page of letters, the newest first; `before` is the `next` of the page before.
    pub fn list(&self, filter: &Filter, before: Option<&str>, limit: Option<usize>) -> Result<Value, Problem> {
        let wanted = filter.compile().map_err(Problem::bad_request)?;
        let strange = || Problem::bad_request("before: this is not the `next` of a page");
        let before = before.map(|text| Key::parse(text).ok_or_else(strange)).transpose()?;
        let limit = limit.unwrap_or(PAGE_USUAL).clamp(1, PAGE_MAX);
        Ok(self.0.index().list(&wanted, before, limit))
    }

    /// One letter with its exact bytes; reads the stream.
    pub fn show(&self, id: &str) -> Result<Value, Problem> {
        let ctx = self.0.link()?;
        let (key, mut shown) = {
            let index = self.0.index();
            let (key, entry) =
                index.find(id).ok_or_else(|| Problem::not_found(format!("no dead letter has the id {id:?}")))?;
            (key, entry.json(key))
        };
        let mut bytes = None;
        let fetched = Fetcher::new(&ctx.settings).fetch(&[key.place], |_, payload| bytes = Some(payload.to_vec()));
        fetched.map_err(|error| Problem::unavailable(format!("the letter cannot be read: {}", report(&error))))?;
        let bytes = bytes.ok_or_else(|| Problem::not_found("the letter is no longer kept"))?;
        let letter = avro::unframe(&bytes).and_then(|(_, body)| message::dead_letter::decode(body));
        let letter = letter.map_err(|error| Problem::unavailable(format!("the letter cannot be read: {error}")))?;
        let headers: Vec<Value> = index::headers_of(&letter)
            .iter()
            .map(|(name, value)| json!({ "name": name, "value": String::from_utf8_lossy(value), "hex": hex(value) }))
            .collect();
        let reading = restore::reading_of(&letter);
        if let Value::Object(fields) = &mut shown {
            fields.insert("stage".to_owned(), json!(letter.stage));
            fields.insert("detail".to_owned(), json!(letter.detail));
            fields.insert("observed".to_owned(), json!(letter.observed));
            fields.insert("limit".to_owned(), json!(letter.limit));
            fields.insert("rule_revision".to_owned(), json!(letter.rule_revision.map(|revision| revision.to_string())));
            fields.insert("config_revision".to_owned(), json!(letter.config_revision));
            fields.insert("gateway_id".to_owned(), json!(letter.gateway_id));
            fields.insert("value".to_owned(), json!(letter.value));
            fields.insert(
                "original".to_owned(),
                json!({
                    "topic": letter.topic, "partition": letter.partition, "offset": letter.offset.to_string(),
                    "timestamp": Timestamp::from_millis(letter.timestamp_ms).to_string(),
                    "key": String::from_utf8_lossy(letter.key), "headers": headers, "schema_id": letter.schema_id,
                    "payload_hex": hex(letter.payload),
                }),
            );
            fields.insert("reading".to_owned(), reading.map_or(Value::Null, |(_, reading)| as_json::reading(&reading)));
            fields.insert("not_a_reading".to_owned(), json!(reading.err()));
        }
        Ok(shown)
    }

    /// Freezes a selection: what arrives from now on is not in it.
    pub fn preview(&self, selection: Selection) -> Result<Value, Problem> {
        self.complete()?;
        let (keys, told, more) = self.freeze(selection)?;
        let expires_at = self.0.clock.now().plus_micros(PREVIEW_VALID_MICROS);
        let count = keys.len();
        let mut previews = self.0.previews();
        previews.made += 1;
        let token = format!("{}-{}", self.0.clock.now().as_micros(), previews.made);
        previews.kept.push_back(Preview { token: token.clone(), keys, selection: told.clone(), expires_at });
        if previews.kept.len() > PREVIEWS_MAX {
            previews.kept.pop_front();
        }
        Ok(json!({
            "token": token, "count": count, "more": more, "selection": told, "expires_at": expires_at.to_string(),
        }))
    }

    /// Puts a command in the queue.
    pub fn submit(&self, action: Action, selection: Selection, command: Command) -> Result<Arc<Job>, Problem> {
        self.0.link()?;
        self.complete()?;
        let comment = cleaned(command.comment.as_deref().unwrap_or(""), COMMENT_MAX);
        if action == Action::Reject && comment.is_empty() {
            return Err(Problem::bad_request("comment: say why the letters are rejected"));
        }
        let (keys, told, _) = self.freeze(selection)?;
        if keys.is_empty() {
            return Err(Problem::not_found("no dead letter is selected"));
        }
        let now = self.0.clock.now();
        let name = |text: Option<String>, absent: &str| {
            let text = cleaned(text.as_deref().unwrap_or(""), NAME_MAX);
            if text.is_empty() { absent.to_owned() } else { text }
        };
        let made_up = format!("{}-{}", action.as_str(), now.as_micros());
        let order = Order {
            action,
            selection: told,
            by: name(command.by, "local operator"),
            role: name(command.role, "operator"),
            comment,
            command_id: name(command.command_id, &made_up),
        };
        self.0.jobs.submit(order, keys, now).ok_or_else(|| {
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "BUSY",
                "too many commands are waiting; try again when one is done",
            )
        })
    }

    pub fn job(&self, id: &str) -> Result<Arc<Job>, Problem> {
        self.0
            .jobs
            .get(id)
            .ok_or_else(|| Problem::not_found(format!("there is no job {id:?}; jobs end with the gateway")))
    }

    pub fn jobs(&self) -> Value {
        json!({ "jobs": self.0.jobs.all().iter().map(|job| job.json()).collect::<Vec<_>>() })
    }

    /// Ends a job before its next piece of work; what it did stays done.
    pub fn cancel(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let job = self.job(id)?;
        self.0.jobs.cancel(&job, self.0.clock.now());
        Ok(job)
    }

    fn complete(&self) -> Result<(), Problem> {
        if self.is_complete() {
            return Ok(());
        }
        Err(Problem::unavailable("the dead letters are still being read; ask again in a moment"))
    }

    /// The letters of a selection, how it is told, and how many there are beyond [`SELECTION_MAX`].
    fn freeze(&self, selection: Selection) -> Result<(Vec<Key>, Value, u64), Problem> {
        match selection {
            Selection::Frozen(token) => {
                let now = self.0.clock.now();
                let previews = self.0.previews();
                let found = previews.kept.iter().find(|preview| preview.token == token && now < preview.expires_at);
                let gone = || {
                    let detail = "this preview is over, they hold for 15 minutes; make a new one";
                    Problem::new(StatusCode::GONE, "PREVIEW_OVER", detail)
                };
                found.map(|preview| (preview.keys.clone(), preview.selection.clone(), 0)).ok_or_else(gone)
            }
            Selection::Filter(mut filter) => {
                // what is decided is selected only by somebody who says so
                filter.status.get_or_insert_with(|| "OPEN".to_owned());
                let wanted = filter.compile().map_err(Problem::bad_request)?;
                let (keys, more) = self.0.index().select(&wanted, SELECTION_MAX);
                Ok((keys, json!({ "filter": filter }), more))
            }
            Selection::Ids(ids) => {
                let index = self.0.index();
                let mut keys = BTreeSet::new();
                for id in &ids {
                    let found = index
                        .find(id)
                        .ok_or_else(|| Problem::not_found(format!("no dead letter has the id {id:?}")))?;
                    keys.insert(found.0);
                }
                Ok((keys.into_iter().collect(), json!({ "ids": ids }), 0))
            }
        }
    }
}

impl Job {
    /// As it stands, after its end or after `patience`.
    pub fn after(&self, patience: Duration) -> Value {
        self.wait(patience);
        self.json()
    }
}

/// Works jobs through until the stop token is cancelled, or until the stream fails one.
fn serve(ctx: &ModuleContext, shared: &Shared) {
    let mut desk: Option<Desk<'_>> = None;
    while !ctx.stop.is_cancelled() {
        let Some(job) = shared.jobs.next(Duration::from_millis(200)) else { continue };
        let opened = match desk.take() {
            Some(open) => Ok(open),
            None => Desk::open(ctx, shared),
        };
        let worked = opened.and_then(|mut open| open.work(&job).map(|()| open));
        match worked {
            Ok(open) => desk = Some(open),
            Err(error) => {
                let reason = report(&error);
                tracing::warn!(job = job.id, error = %reason, "a command about dead letters was cut short");
                let text = format!("{reason}; send the command again: what was done is not done twice");
                job.finish(State::Failed, Some(text), ctx.clock.now());
            }
        }
    }
}

/// Text of somebody else: without control characters, and not too long (G-11).
fn cleaned(text: &str, chars_max: usize) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(chars_max).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
