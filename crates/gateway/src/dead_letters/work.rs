//! Doing what was decided: letters in pieces, each piece in two steps that are both acknowledged.
//!
//! First the clean records, then the statuses. A crash between the two leaves a letter open whose value is clean already:
//! deciding again writes the same record with the same id once more (VAL-45). Within a partition work goes by the time of
//! the device, so that the readings of a point arrive in their order (VAL-44).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka::client::{Batch, Pending, Producer};
use model::Reading;
use pipeline::dead_letter::{self, Answer, Status, StatusRecord};
use pipeline::validate::{POINTS_MAX, Validator, Verdict};
use stream::message::{DeadLetter, telemetry};
use stream::publisher::{send_reading, write_source};
use stream::topics::PARTITIONS;
use stream::{Schema, StateTopic, Topic, avro, message, partitioner};
use tokio::time::Instant;

use super::entry::{Key, Place};
use super::fetch::Fetcher;
use super::jobs::{Action, Job, State, Tally};
use super::{Shared, audit, restore};
use crate::modules::{Error, ModuleContext, outlet};

pub(super) const MODULE: &str = "dead letters";
/// Letters of one piece of work.
const PIECE: usize = 200;
/// Letters per second; the stream and the aggregates have other things to do as well (VAL-43).
const RATE_PER_S: u32 = 500;
/// How long an acknowledgement may take.
const ACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// Schema ids remembered; one more is asked for each time.
const IDS_MAX: usize = 64;

const NOT_KEPT: &str = "the letter is no longer kept";

/// Everything that lasts from job to job.
#[derive(Debug)]
pub(super) struct Desk<'c> {
    ctx: &'c ModuleContext,
    shared: &'c Shared,
    producer: Producer,
    fetcher: Fetcher,
    clean_id: i32,
    audit_id: i32,
    known: HashMap<i32, bool>,
    pen: Pen,
}

/// A letter that is to be decided about.
struct Open {
    key: Key,
    id: Arc<str>,
    status: Status,
    revision: i64,
    attempts: i32,
}

/// What was decided about a letter.
enum Outcome {
    Status(Status, Option<String>),
    /// Nothing changes; why.
    Failed(String),
}

impl<'c> Desk<'c> {
    pub(super) fn open(ctx: &'c ModuleContext, shared: &'c Shared) -> Result<Self, Error> {
        let stream = |source| Error::Stream { module: MODULE, source };
        let id = |topic: Topic| {
            let asked = ctx.runtime.block_on(ctx.schemas.id_for(topic));
            asked.map_err(|source| Error::Schema { topic: topic.name(), source })
        };
        Ok(Self {
            ctx,
            shared,
            producer: Producer::open(&ctx.settings).map_err(stream)?,
            fetcher: Fetcher::new(&ctx.settings),
            clean_id: id(Topic::TelemetryClean)?,
            audit_id: id(Topic::Audit)?,
            known: HashMap::new(),
            pen: Pen::default(),
        })
    }

    /// Works a job through.
    pub(super) fn work(&mut self, job: &Job) -> Result<(), Error> {
        let mut keys = job.begin();
        self.shared.index().sort_for_work(&mut keys);
        let writes = job.order.action != Action::DryRun;
        let mut validator = match job.order.action {
            Action::Reprocess | Action::DryRun => {
                let lanes = usize::try_from(PARTITIONS).unwrap_or(0);
                Some(Validator::new(&self.shared.rules(), lanes, POINTS_MAX))
            }
            Action::Approve | Action::Reject => None,
        };
        if writes && keys.len() > PIECE {
            self.audit(job, (audit::BEGUN, "RUNNING"), keys.len(), &Tally::default())?;
        }
        let (began, mut worked) = (Instant::now(), 0_u32);
        let mut state = State::Done;
        for piece in keys.chunks(PIECE) {
            if job.is_cancelled() || self.ctx.stop.is_cancelled() {
                state = State::Cancelled;
                break;
            }
            let tally = self.piece(job, piece, validator.as_mut())?;
            job.add(tally);
            worked = worked.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
            if writes && usize::try_from(worked).is_ok_and(|worked| worked < keys.len()) {
                self.pace(job, began + Duration::from_secs(1) * worked / RATE_PER_S);
            }
        }
        if writes {
            let told = if state == State::Done { "DONE" } else { "CANCELLED" };
            self.audit(job, (audit::DECIDED, told), keys.len(), &job.tally())?;
        }
        job.finish(state, None, self.ctx.clock.now());
        Ok(())
    }

    fn pace(&self, job: &Job, until: Instant) {
        while Instant::now() < until && !job.is_cancelled() && !self.ctx.stop.is_cancelled() {
            std::thread::sleep((until - Instant::now()).min(Duration::from_millis(50)));
        }
    }

    /// One piece: what may be decided, the clean records, and behind their acknowledgement the statuses.
    fn piece(&mut self, job: &Job, keys: &[Key], validator: Option<&mut Validator>) -> Result<Tally, Error> {
        let mut tally = Tally::default();
        let open = self.open_letters(job, keys, &mut tally);
        let places: Vec<Place> = open.iter().map(|open| open.key.place).collect();
        let mut letters: HashMap<Place, Vec<u8>> = HashMap::with_capacity(places.len());
        if job.order.action != Action::Reject {
            let fetched = self.fetcher.fetch(&places, |place, bytes| drop(letters.insert(place, bytes.to_vec())));
            fetched.map_err(|source| Error::Stream { module: MODULE, source })?;
        }
        let outcomes = self.write_clean(job.order.action, &open, &letters, validator)?;
        self.write_statuses(job, &open, outcomes, &mut tally)?;
        Ok(tally)
    }

    /// Sorts out what was decided before or cannot be.
    fn open_letters(&self, job: &Job, keys: &[Key], tally: &mut Tally) -> Vec<Open> {
        let index = self.shared.index();
        let mut open = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(entry) = index.get(*key) else {
                let Place { partition, offset, .. } = key.place;
                let id: Arc<str> = format!("{}/{partition}/{offset}", key.place.topic().name()).into();
                tally.fail(&id, NOT_KEPT);
                continue;
            };
            let command = entry.decided.as_ref().map(|decided| decided.command_id.as_str());
            let same_command = command == Some(job.order.command_id.as_str());
            match dead_letter::allows(entry.status(), job.order.action.decision(), same_command) {
                Answer::Ok => open.push(Open {
                    key: *key,
                    id: Arc::clone(&entry.id),
                    status: entry.status(),
                    revision: entry.decided.as_ref().map_or(0, |decided| decided.revision),
                    attempts: entry.attempts(),
                }),
                Answer::Already => tally.already += 1,
                Answer::Failed(reason) => tally.fail(&entry.id, reason),
            }
        }
        open
    }

    /// Decides about each letter, sends what goes to the clean readings, and waits until it is durable.
    fn write_clean(
        &mut self,
        action: Action,
        open: &[Open],
        letters: &HashMap<Place, Vec<u8>>,
        mut validator: Option<&mut Validator>,
    ) -> Result<Vec<Outcome>, Error> {
        if action == Action::Reject {
            return Ok(open.iter().map(|_| Outcome::Status(Status::Rejected, None)).collect());
        }
        let Self { ctx, producer, clean_id, known, pen, .. } = self;
        let batch = producer.batch();
        let mut outcomes = Vec::with_capacity(open.len());
        for open in open {
            let outcome = match letters.get(&open.key.place).map(|bytes| letter_of(bytes)) {
                None => Outcome::Failed(NOT_KEPT.to_owned()),
                Some(None) => Outcome::Failed("the letter cannot be read".to_owned()),
                Some(Some(letter)) => {
                    let send = |pen: &mut Pen, reading: &Reading<'_>| {
                        pen.send(ctx, producer, &batch, *clean_id, open.key.place, reading)
                    };
                    decide(ctx, known, action, &letter, open.key.place, validator.as_deref_mut(), pen, send)?
                }
            };
            outcomes.push(outcome);
        }
        wait(&batch.finish())?;
        Ok(outcomes)
    }

    /// Sends what was decided and waits until it is durable; the index knows it from then on.
    fn write_statuses(
        &mut self,
        job: &Job,
        open: &[Open],
        outcomes: Vec<Outcome>,
        tally: &mut Tally,
    ) -> Result<(), Error> {
        let (batch, now) = (self.producer.batch(), self.ctx.clock.now());
        let mut decided = Vec::with_capacity(open.len());
        for (open, outcome) in open.iter().zip(outcomes) {
            let (status, reason) = match outcome {
                Outcome::Failed(reason) => {
                    tally.fail(&open.id, &reason);
                    continue;
                }
                Outcome::Status(status, reason) => (status, reason),
            };
            match &reason {
                Some(reason) => tally.fail(&open.id, reason),
                None => tally.ok += 1,
            }
            if job.order.action == Action::DryRun {
                continue;
            }
            *tally.before.entry(open.status).or_default() += 1;
            *tally.after.entry(status).or_default() += 1;
            let judged = job.order.action == Action::Reprocess;
            let record = StatusRecord {
                status,
                revision: open.revision + 1,
                attempts: if judged { open.attempts.saturating_add(1) } else { open.attempts },
                by: job.order.by.clone(),
                at: now.as_micros(),
                comment: job.order.comment.clone(),
                command_id: job.order.command_id.clone(),
                reason,
            };
            let payload = &mut self.pen.payload;
            payload.clear();
            dead_letter::encode(&record, payload);
            let (key, topic) = (open.id.as_bytes(), StateTopic::DeadLetters.name());
            let partition = partitioner::partition_for(key, PARTITIONS);
            outlet::insist_named(&self.ctx.stop, topic, || {
                batch.send(topic, partition, key, payload, now.as_millis(), &[])
            })?;
            decided.push((Arc::clone(&open.id), record));
        }
        wait(&batch.finish())?;
        let mut index = self.shared.index();
        for (id, record) in decided {
            index.take_status(&id, record);
        }
        Ok(())
    }

    fn audit(&self, job: &Job, told: (&'static str, &str), total: usize, tally: &Tally) -> Result<(), Error> {
        let batch = self.producer.batch();
        audit::tell(self.ctx, &batch, self.audit_id, told, job, total, tally)?;
        wait(&batch.finish())
    }
}

/// Decides about one letter; `send` takes the reading that goes to the clean ones.
#[expect(clippy::too_many_arguments, reason = "a letter, its judge and where its reading goes, borrowed apart")]
fn decide(
    ctx: &ModuleContext,
    known: &mut HashMap<i32, bool>,
    action: Action,
    letter: &DeadLetter<'_>,
    place: Place,
    validator: Option<&mut Validator>,
    pen: &mut Pen,
    send: impl FnOnce(&mut Pen, &Reading<'_>) -> Result<bool, Error>,
) -> Result<Outcome, Error> {
    let failed = |reason: &str| Ok(Outcome::Failed(reason.to_owned()));
    let (schema_id, reading) = match restore::reading_of(letter) {
        Ok(found) => found,
        Err(reason) => return failed(reason),
    };
    if !is_telemetry(ctx, known, schema_id)? {
        return failed("its bytes follow another schema");
    }
    let Some(validator) = validator else {
        return match restore::approved(&reading, letter.reason, |reading| send(pen, reading)) {
            Ok(sent) => Ok(outcome_of(sent?, Status::Approved)),
            Err(reason) => failed(reason),
        };
    };
    let lane = usize::try_from(place.partition).unwrap_or(0);
    let judged = validator.judge(lane, &reading);
    match judged.verdict {
        Verdict::Forward if action == Action::DryRun => Ok(Outcome::Status(Status::Reprocessed, None)),
        Verdict::Forward => {
            let unit = judged.converted.and_then(|_| validator.unit_of(lane, judged.point?));
            let sent = restore::judged(&reading, &judged, unit, |reading| send(pen, reading))?;
            Ok(outcome_of(sent, Status::Reprocessed))
        }
        Verdict::Reject(_) => {
            let reason = judged.reason.or(reading.quality_reason).unwrap_or("BAD");
            Ok(Outcome::Status(Status::StillFailing, Some(reason.to_owned())))
        }
        Verdict::Duplicate | Verdict::Past => failed("another letter holds the same reading"),
    }
}

fn outcome_of(sent: bool, status: Status) -> Outcome {
    if sent { Outcome::Status(status, None) } else { Outcome::Failed("the record is too large to be sent".to_owned()) }
}

fn letter_of(bytes: &[u8]) -> Option<DeadLetter<'_>> {
    message::dead_letter::decode(avro::unframe(bytes).ok()?.1).ok()
}

/// Whether an id is that of readings; the registry is asked once for each.
fn is_telemetry(ctx: &ModuleContext, known: &mut HashMap<i32, bool>, id: i32) -> Result<bool, Error> {
    if let Some(known) = known.get(&id) {
        return Ok(*known);
    }
    let is = match ctx.runtime.block_on(ctx.schemas.by_id(id)) {
        Ok(schema) => schema == Schema::Telemetry,
        Err(source) if source.may_pass() => {
            return Err(Error::Schema { topic: Topic::TelemetryRaw.name(), source });
        }
        Err(_) => false,
    };
    if known.len() < IDS_MAX {
        known.insert(id, is);
    }
    Ok(is)
}

/// Writes readings into one buffer, again and again.
#[derive(Debug, Default)]
struct Pen {
    payload: Vec<u8>,
    scratch: String,
    source: String,
}

impl Pen {
    /// Queues a reading for the clean readings, in the partition of its letter; false when it can never be sent.
    fn send(
        &mut self,
        ctx: &ModuleContext,
        producer: &Producer,
        batch: &Batch<'_>,
        clean_id: i32,
        place: Place,
        reading: &Reading<'_>,
    ) -> Result<bool, Error> {
        let Self { payload, scratch, source } = self;
        payload.clear();
        telemetry::encode(payload, clean_id, reading);
        write_source(source, place.topic().name(), place.partition, place.offset);
        outlet::deliver(producer, &ctx.stop, Topic::TelemetryClean, || {
            let partition = Some(place.partition);
            send_reading(batch, Topic::TelemetryClean, partition, reading, payload, scratch, Some(source))
        })
    }
}

fn wait(pending: &Pending) -> Result<(), Error> {
    match pending.wait(ACKNOWLEDGED_MAX) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let reason = format!("nothing was acknowledged for {} s", ACKNOWLEDGED_MAX.as_secs());
            Err(Error::Producer { module: MODULE, reason })
        }
        Err(source) => Err(Error::Stream { module: MODULE, source }),
    }
}
