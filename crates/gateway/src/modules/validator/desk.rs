//! One record after the other: decode, judge, forward or reject, and tell what changed.
//!
//! Long because: every way a record can go is one method here, and they share the same state and buffers.

use kafka::client::{Batch, Producer, Record};
use model::{Quality, Reading, TextList, TextMap, Timestamp, flag, time_source};
use pipeline::alarm::Now;
use pipeline::resume::{Output, Resume};
use pipeline::validate::explain::explain;
use pipeline::validate::{Judgement, Rejection, Stale, Validator, Verdict};
use stream::avro::{self, DecodeError};
use stream::message::{event, telemetry};
use stream::publisher::{send_reading, write_source};
use stream::{Schema, Topic, header};

use super::alarms::{Alarms, Way};
use super::events::{EventPen, GAP_NUMBER, QUALITY_NUMBER, SKEW_NUMBER, TROUBLE_NUMBER};
use super::letters::{self, INTERNAL_ERROR, LetterBox, Refusal, TOO_LARGE};
use super::tally::Tally;
use crate::modules::alarm_table::COMMAND;
use crate::modules::live::{LiveFeed, LiveTable};
use crate::modules::marks::{LANES, lane, partition};
use crate::modules::schema_ids::{SchemaIds, id_for};
use crate::modules::state::ValidatorMeters;
use crate::modules::{Error, ModuleContext, ModuleState, outlet, strikes};
use crate::system_state;

/// Type of the events that tell whether a device answers.
const DEVICE_STATE: &[u8] = b"device.state";
/// Types of the events about conditions that a source keeps itself.
const CONDITION_STATE: &[u8] = b"condition.state";
const CONDITION_REFRESH: &[u8] = b"condition.refresh";
/// Adapters tell what they had to drop in this.
const DATA_LOSS: &[u8] = b"data_loss";
/// Steady times of a lane in which no reading ever came lie below it; its time is the gateway's own until one does.
const BEFORE_READINGS: i64 = i64::MIN / 2;
/// Commands that may wait.
const HELD_MAX: usize = 10_000;

/// A command that waits.
#[derive(Debug)]
struct HeldCommand {
    lane: usize,
    offset: i64,
    payload: Vec<u8>,
}

/// Schema ids of the topics written here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    clean: i32,
    letters: i32,
    events: i32,
    events_clean: i32,
    event_letters: i32,
    alarms: i32,
    control: i32,
    pub(super) audit: i32,
}

impl Ids {
    /// Of transitions, of answers to commands, of the audit.
    pub(super) fn of_alarms(self) -> (i32, i32, i32) {
        (self.alarms, self.control, self.audit)
    }

    pub(super) fn ask(ctx: &ModuleContext) -> Result<Self, Error> {
        Ok(Self {
            clean: id_for(ctx, Topic::TelemetryClean)?,
            letters: id_for(ctx, Topic::DlqTelemetry)?,
            events: id_for(ctx, Topic::EventsRaw)?,
            events_clean: id_for(ctx, Topic::EventsClean)?,
            event_letters: id_for(ctx, Topic::DlqEvents)?,
            alarms: id_for(ctx, Topic::AlarmsClean)?,
            control: id_for(ctx, Topic::ControlResults)?,
            audit: id_for(ctx, Topic::Audit)?,
        })
    }
}

/// Everything that lasts from record to record.
#[derive(Debug)]
pub(super) struct Desk<'c> {
    ctx: &'c ModuleContext,
    meters: &'c ValidatorMeters,
    pub(super) ids: Ids,
    schemas: SchemaIds<'c>,
    pub(super) validator: Validator,
    pub(super) alarms: Alarms,
    /// Commands that wait until their lane is what the people saw who sent them.
    held: Vec<HeldCommand>,
    silent: Vec<(u32, Timestamp, i64)>,
    /// Assets whose state is to be saved before others: something was told of them without a record.
    pub(super) urgent: Vec<(usize, String)>,
    /// What is already written, by lane of `telemetry.raw` and of `events.raw`.
    resumes: Vec<Resume>,
    event_resumes: Vec<Resume>,
    letters: LetterBox,
    pen: EventPen,
    feed: LiveFeed,
    tally: Tally,
    payload: Vec<u8>,
    source: String,
    scratch: String,
    detail: String,
}

impl<'c> Desk<'c> {
    pub(super) fn new(
        ctx: &'c ModuleContext,
        (validator, alarms): (Validator, Alarms),
        config_revision: &str,
        meters: &'c ValidatorMeters,
        ids: Ids,
        (resumes, event_resumes): (Vec<Resume>, Vec<Resume>),
    ) -> Self {
        Self {
            ctx,
            meters,
            ids,
            schemas: SchemaIds::new(ctx),
            validator,
            alarms,
            held: Vec::new(),
            silent: Vec::new(),
            urgent: Vec::new(),
            resumes,
            event_resumes,
            letters: LetterBox::new(config_revision),
            pen: EventPen::default(),
            feed: LiveFeed::default(),
            tally: Tally::default(),
            payload: Vec::with_capacity(1024),
            source: String::new(),
            scratch: String::new(),
            detail: String::new(),
        }
    }

    /// Points with a memory.
    pub(super) fn points(&self) -> usize {
        self.validator.points()
    }

    /// Shows and counts what the batch brought.
    pub(super) fn finish_batch(&mut self, state: &ModuleState, live: &LiveTable) {
        self.feed.publish(live);
        self.tally.flush(state, self.meters);
    }

    /// Takes the next record of either input.
    pub(super) fn take(&mut self, producer: &Producer, batch: &Batch<'_>, record: &Record<'_>) -> Result<(), Error> {
        let Some(lane) = lane(record.partition()) else { return Ok(()) };
        self.tally.records_in += 1;
        if record.topic() == Topic::EventsRaw.name() {
            return self.event(producer, batch, record, lane);
        }
        if record.topic() == Topic::ControlCommands.name() {
            self.hold(record, lane);
            return Ok(());
        }
        let payload = record.payload().unwrap_or_default();
        let (id, body) = match avro::unframe(payload) {
            Ok(framed) => framed,
            Err(error) => return self.undecodable(producer, batch, record, lane, error, None),
        };
        if id != self.ids.clean && !self.schemas.is(id, Schema::Telemetry)? {
            return self.foreign(producer, batch, record, lane, id);
        }
        let offset = record.offset();
        self.catch_up(batch, lane, offset)?;
        let decoded = strikes::guarded(|| telemetry::decode(body), || self.tally.panics += 1);
        if let Some(Ok(reading)) = &decoded
            && self.validator.is_due(lane, reading)
        {
            let now = self.validator.arrival(lane, reading);
            self.advance(batch, lane, now)?;
        }
        let reading = match &decoded {
            Some(Ok(reading)) => reading,
            Some(Err(error)) => return self.undecodable(producer, batch, record, lane, *error, Some(id)),
            None => return self.letter(producer, batch, record, lane, None, &given_up(Some(id))),
        };
        let mut judged = Judgement::new(reading);
        let Self { validator, tally, .. } = self;
        let judge = || validator.judge_at(lane, offset, reading, &mut judged);
        match strikes::guarded(judge, || tally.panics += 1) {
            Some(()) => self.judged(producer, batch, record, lane, (id, payload), reading, &judged),
            None => self.letter(producer, batch, record, lane, None, &given_up(Some(id))),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a record, its parts and its judgement, borrowed apart")]
    fn judged(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        framed: (i32, &[u8]),
        reading: &Reading<'_>,
        judged: &Judgement,
    ) -> Result<(), Error> {
        let offset = record.offset();
        let warm_up = self.resumes[lane].is_warm_up(offset);
        match judged.verdict {
            Verdict::Past => return Ok(()),
            Verdict::Duplicate => {
                self.tally.duplicates += u64::from(!warm_up);
                return Ok(());
            }
            Verdict::Forward => self.forward(producer, batch, record, lane, framed, reading, judged)?,
            Verdict::Reject(rejection) => {
                self.reject(producer, batch, record, lane, framed.0, reading, judged, &rejection)?;
            }
        }
        if judged.gap.is_some() || judged.change.is_some() || judged.trouble.is_some() || judged.skew.is_some() {
            self.tell(batch, record, lane, reading, judged)?;
        }
        let Some(point) = judged.point else {
            self.tally.without_memory += u64::from(!warm_up);
            return Ok(());
        };
        self.alarm(batch, lane, offset, point, reading, judged)?;
        if let Some([handle, _]) = self.validator.handle_mut(lane, point) {
            let reason = judged.reason.or(reading.quality_reason);
            let shown = self.feed.take(&self.ctx.live, handle, reading, (judged.quality, reason, judged.device_time));
            self.tally.not_shown += u64::from(!shown);
        }
        Ok(())
    }

    /// Sends a reading on: the same bytes when nothing changed, encoded once otherwise.
    #[expect(clippy::too_many_arguments, reason = "a record, its parts and its judgement, borrowed apart")]
    fn forward(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        (id, original): (i32, &[u8]),
        reading: &Reading<'_>,
        judged: &Judgement,
    ) -> Result<(), Error> {
        if !self.resumes[lane].allows(Output::Clean, record.offset()) {
            return Ok(());
        }
        if judged.is_changed() {
            let unit =
                judged.converted.and_then(|_| self.validator.unit_of(lane, judged.point?)).map(ToOwned::to_owned);
            let sent = with_changes(reading, judged, unit.as_deref(), |reading| {
                self.payload.clear();
                telemetry::encode(&mut self.payload, self.ids.clean, reading);
                self.send(producer, batch, record, reading, None)
            })?;
            return self.sent(producer, batch, record, lane, id, reading, judged.quality, sent);
        }
        let same_bytes = (id == self.ids.clean).then_some(original);
        if same_bytes.is_none() {
            reframe(&mut self.payload, self.ids.clean, original);
        }
        let sent = self.send(producer, batch, record, reading, same_bytes)?;
        self.sent(producer, batch, record, lane, id, reading, judged.quality, sent)
    }

    /// Sends `bytes`, or what is in the buffer.
    fn send(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        reading: &Reading<'_>,
        bytes: Option<&[u8]>,
    ) -> Result<bool, Error> {
        let Self { payload, source, scratch, .. } = self;
        write_source(source, record.topic(), record.partition(), record.offset());
        let bytes = bytes.unwrap_or(payload);
        outlet::deliver(producer, &self.ctx.stop, Topic::TelemetryClean, || {
            let partition = Some(record.partition());
            send_reading(batch, Topic::TelemetryClean, partition, reading, bytes, scratch, Some(source))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "a record, its parts and what became of it, borrowed apart")]
    fn sent(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        id: i32,
        reading: &Reading<'_>,
        quality: Quality,
        sent: bool,
    ) -> Result<(), Error> {
        if sent {
            self.tally.forwarded(quality);
            return Ok(());
        }
        let refusal = Refusal {
            stage: "validate",
            rule_id: None,
            rule_revision: None,
            reason: TOO_LARGE,
            detail: "the record is too large to be forwarded",
            limit: None,
            schema_id: Some(id),
        };
        self.letter(producer, batch, record, lane, Some(reading), &refusal)
    }

    #[expect(clippy::too_many_arguments, reason = "a record, its parts and its judgement, borrowed apart")]
    fn reject(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        id: i32,
        reading: &Reading<'_>,
        judged: &Judgement,
        rejection: &Rejection,
    ) -> Result<(), Error> {
        if !self.resumes[lane].allows(Output::Letter, record.offset()) {
            return Ok(());
        }
        let reason = judged.reason.or(reading.quality_reason).unwrap_or("BAD");
        let mut detail = std::mem::take(&mut self.detail);
        let plan = self.validator.plan();
        let (rule, limit) = match rejection {
            Rejection::Source => {
                "the source itself says BAD".clone_into(&mut detail);
                (None, None)
            }
            Rejection::Found(finding) => {
                explain(&mut detail, plan, reading, finding);
                (finding.rule.and_then(|rule| plan.rule(rule)), finding.limit)
            }
        };
        let rule = rule.map(|rule| (rule.id.clone(), rule.revision));
        let refusal = Refusal {
            stage: "validate",
            rule_id: rule.as_ref().map(|(id, _)| id.as_str()),
            rule_revision: rule.as_ref().map(|(_, revision)| *revision),
            reason,
            detail: &detail,
            limit,
            schema_id: Some(id),
        };
        let written = self.letter(producer, batch, record, lane, Some(reading), &refusal);
        self.detail = detail;
        written
    }

    /// Writes the events a reading gives rise to.
    fn tell(
        &mut self,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        reading: &Reading<'_>,
        judged: &Judgement,
    ) -> Result<(), Error> {
        let Self { ctx, ids, resumes, pen, tally, .. } = self;
        let allowed = |number| resumes[lane].allows(Output::Event(number), record.offset());
        if let Some(gap) = judged.gap.filter(|_| allowed(GAP_NUMBER)) {
            pen.gap(ctx, batch, ids.events, record, (reading, judged), &gap)?;
            tally.gaps += 1;
            tally.events_out += 1;
        }
        if let Some(change) = judged.change.filter(|_| allowed(QUALITY_NUMBER)) {
            pen.quality(ctx, batch, ids.events, record, (reading, judged), &change)?;
            tally.events_out += 1;
        }
        if let Some(trouble) = judged.trouble.filter(|_| allowed(TROUBLE_NUMBER)) {
            pen.trouble(ctx, batch, ids.events, record, (reading, judged), trouble)?;
            tally.events_out += 1;
        }
        if let Some(told) = judged.skew.filter(|_| allowed(SKEW_NUMBER)) {
            pen.skew(ctx, batch, ids.events, record, (reading, judged), told)?;
            tally.events_out += 1;
        }
        Ok(())
    }

    /// Hands a judged reading to the alarms.
    fn alarm(
        &mut self,
        batch: &Batch<'_>,
        lane: usize,
        position: i64,
        point: u32,
        reading: &Reading<'_>,
        judged: &Judgement,
    ) -> Result<(), Error> {
        if self.alarms.is_idle() {
            return Ok(());
        }
        let now = Now { steady: self.validator.now(lane), wall: reading.gateway_time, wall_trusted: true };
        let Self { ctx, validator, alarms, resumes, .. } = self;
        let way = Way { ctx, batch, resume: &resumes[lane], lane, at: (position, now.steady) };
        let Some([_, handle]) = validator.handle_mut(lane, point) else { return Ok(()) };
        alarms.reading(way, handle, now, reading, judged)?;
        alarms.touch(validator, lane, None);
        Ok(())
    }

    /// The moment of a lane, for what happens without a reading.
    fn moment(&self, lane: usize) -> Now {
        let steady = self.validator.moment(lane);
        if steady < BEFORE_READINGS {
            // alarms of devices and of conditions must not wait for a reading that may never come
            let wall = self.ctx.clock.now();
            return Now { steady: wall.as_micros(), wall, wall_trusted: true };
        }
        let wall = Timestamp::from_micros(steady.saturating_add(self.validator.shift(lane)));
        Now { steady, wall, wall_trusted: true }
    }

    /// Ends the alarms of rules that are gone, at the start of a run.
    pub(super) fn reconcile(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        for lane in 0..LANES {
            let wall = self.ctx.clock.now();
            // readings that wait may be older than the gateway's own time
            let now = Now { wall, steady: self.validator.now(lane), wall_trusted: true };
            let Self { ctx, validator, alarms, resumes, urgent, .. } = self;
            let way = Way { ctx, batch, resume: &resumes[lane], lane, at: (validator.next(lane), now.steady) };
            alarms.reconcile(way, now)?;
            alarms.touch(validator, lane, Some(urgent));
        }
        Ok(())
    }

    /// Keeps a command until its time comes; one more than [`HELD_MAX`] is refused loudly, its sender gets no answer.
    fn hold(&mut self, record: &Record<'_>, lane: usize) {
        if self.held.len() >= HELD_MAX {
            tracing::error!(offset = record.offset(), "too many commands wait: this one is not carried out");
            return;
        }
        let payload = record.payload().unwrap_or_default().to_vec();
        self.held.push(HeldCommand { lane, offset: record.offset(), payload });
    }

    /// Offset of the first command that waits, by lane.
    pub(super) fn first_held(&self) -> [Option<i64>; LANES] {
        std::array::from_fn(|lane| self.held.iter().find(|held| held.lane == lane).map(|held| held.offset))
    }

    /// Carries out the commands of lanes that have caught up.
    pub(super) fn carry_out(&mut self, batch: &Batch<'_>, caught_up: impl Fn(usize) -> bool) -> Result<(), Error> {
        let ready: Vec<HeldCommand> = self.held.extract_if(.., |held| caught_up(held.lane)).collect();
        for HeldCommand { lane, offset, payload } in ready {
            let decoded = avro::unframe(&payload).and_then(|(_, body)| event::decode(body));
            let Ok(event) = decoded else {
                tracing::warn!(offset, "a command cannot be read and is ignored");
                continue;
            };
            if event.event_type != COMMAND {
                continue;
            }
            let now = Now { wall: self.ctx.clock.now(), ..self.moment(lane) };
            let Self { ctx, validator, alarms, resumes, urgent, .. } = self;
            let way = Way { ctx, batch, resume: &resumes[lane], lane, at: (validator.next(lane), now.steady) };
            alarms.command(way, now, offset, &event)?;
            alarms.touch(validator, lane, Some(urgent));
        }
        Ok(())
    }

    /// Leaves the newest list of alarms for others.
    pub(super) fn publish_alarms(&mut self) {
        let steady = (0..LANES).map(|lane| self.validator.moment(lane)).max().unwrap_or(i64::MIN);
        let now = Now { steady, wall: self.ctx.clock.now(), wall_trusted: true };
        self.alarms.publish(self.ctx, now);
        self.meters.alarms.set(i64::try_from(self.alarms.count()).unwrap_or(i64::MAX));
        self.meters.transitions.inc_by(std::mem::take(&mut self.alarms.written));
        self.meters.announced.inc_by(std::mem::take(&mut self.alarms.announced));
    }

    /// Lets time pass where it had passed before this run, when something was told because of it: before the reading at
    /// `position`.
    pub(super) fn catch_up(&mut self, batch: &Batch<'_>, lane: usize, position: i64) -> Result<(), Error> {
        while let Some(steady) = self.resumes[lane].told_by(position) {
            self.advance(batch, lane, steady)?;
        }
        Ok(())
    }

    /// True when a lane has come to where the last thing was told before this run.
    pub(super) fn has_told_all(&self, lane: usize) -> bool {
        self.resumes[lane].has_told_all()
    }

    /// Moves a lane's steady time on to `now`, for good, and tells what is due.
    pub(super) fn advance(&mut self, batch: &Batch<'_>, lane: usize, now: i64) -> Result<(), Error> {
        self.pass(batch, lane, |validator, out| validator.advance(lane, now, out))
    }

    /// Nothing has come until `now`: tells what is due by then.
    pub(super) fn pause(&mut self, batch: &Batch<'_>, lane: usize, now: i64) -> Result<(), Error> {
        self.pass(batch, lane, |validator, out| validator.pause(lane, now, out))
    }

    fn pass(
        &mut self,
        batch: &Batch<'_>,
        lane: usize,
        pass: impl FnOnce(&mut Validator, &mut dyn FnMut(&Stale<'_>)),
    ) -> Result<(), Error> {
        let Self { ctx, ids, validator, resumes, pen, tally, urgent, silent, .. } = self;
        let (resume, next, mut outcome) = (&resumes[lane], validator.next(lane), Ok(()));
        pass(validator, &mut |stale| {
            if outcome.is_err() {
                return;
            }
            silent.push((stale.point, stale.at, stale.now));
            match pen.stale(ctx, batch, ids.events, (partition(lane), next), stale, |name| resume.may_tell(name)) {
                Ok(told) => {
                    tally.events_out += u64::from(told);
                    tally.stale += u64::from(told);
                    if told {
                        urgent.push((lane, stale.asset_id.to_owned()));
                    }
                }
                Err(error) => outcome = Err(error),
            }
        });
        outcome?;
        self.pass_alarms(batch, lane)
    }

    /// Tells the alarms of the silences just found, and lets their time pass.
    fn pass_alarms(&mut self, batch: &Batch<'_>, lane: usize) -> Result<(), Error> {
        let moment = self.moment(lane);
        let Self { ctx, validator, alarms, resumes, urgent, silent, .. } = self;
        let was_silent = !silent.is_empty();
        if alarms.is_idle() {
            silent.clear();
        } else {
            let way = Way { ctx, batch, resume: &resumes[lane], lane, at: (validator.next(lane), moment.steady) };
            for (point, at, steady) in silent.drain(..) {
                let handle = validator.handle_mut(lane, point).map_or(0, |handles| handles[1]);
                alarms.stale(way, handle, Now { steady, wall: at, wall_trusted: true })?;
            }
            alarms.advance(way, moment)?;
            alarms.touch(validator, lane, Some(urgent));
        }
        if was_silent {
            validator.reach(lane, moment.steady);
        }
        Ok(())
    }

    /// Checks an event's bytes and sends them on.
    fn event(&mut self, producer: &Producer, batch: &Batch<'_>, record: &Record<'_>, lane: usize) -> Result<(), Error> {
        let payload = record.payload().unwrap_or_default();
        let (id, body) = match avro::unframe(payload) {
            Ok(framed) => framed,
            Err(error) => return self.undecodable(producer, batch, record, lane, error, None),
        };
        if id != self.ids.events_clean && !self.schemas.is(id, Schema::Event)? {
            return self.foreign(producer, batch, record, lane, id);
        }
        let tally = &mut self.tally;
        match strikes::guarded(|| event::decode(body).map(drop), || tally.panics += 1) {
            Some(Ok(())) => {}
            Some(Err(error)) => return self.undecodable(producer, batch, record, lane, error, Some(id)),
            None => return self.letter(producer, batch, record, lane, None, &given_up(Some(id))),
        }
        let kind = record.header(header::EVENT);
        let kinds = [DEVICE_STATE, CONDITION_STATE, CONDITION_REFRESH, system_state::SYSTEM_STATE.as_bytes()];
        if kind.is_some_and(|kind| kinds.contains(&kind))
            && let Ok(event) = event::decode(body)
        {
            let now = Now { wall: event.gateway_time, ..self.moment(lane) };
            let Self { ctx, validator, alarms, resumes, urgent, .. } = self;
            let way = Way { ctx, batch, resume: &resumes[lane], lane, at: (validator.next(lane), now.steady) };
            match kind {
                Some(DEVICE_STATE) => alarms.device(way, now, &event)?,
                Some(CONDITION_STATE) => alarms.condition(way, now, &event)?,
                Some(CONDITION_REFRESH) => alarms.refreshed(way, now, &event)?,
                _ => alarms.system(way, now, &event)?,
            }
            alarms.touch(validator, lane, Some(urgent));
        }
        if !self.event_resumes[lane].allows(Output::Clean, record.offset()) {
            return Ok(());
        }
        if record.header(header::EVENT) == Some(DATA_LOSS) {
            // adapters may not write the audit themselves
            let Self { payload: buffer, ids, .. } = self;
            reframe(buffer, ids.audit, payload);
            let headers: [(&str, &[u8]); 2] = [
                (header::EVENT, DATA_LOSS),
                (header::GATEWAY, record.header(header::GATEWAY).unwrap_or(self.ctx.gateway_id.as_bytes())),
            ];
            outlet::insist(&self.ctx.stop, Topic::Audit, || {
                let (partition, time) = (record.partition(), record.timestamp_ms());
                batch.send(Topic::Audit.name(), partition, record.key(), buffer, time, &headers)
            })?;
        }
        let Self { payload: buffer, source, .. } = self;
        let bytes = if id == self.ids.events_clean {
            payload
        } else {
            reframe(buffer, self.ids.events_clean, payload);
            buffer
        };
        write_source(source, record.topic(), record.partition(), record.offset());
        let headers: [(&str, &[u8]); 3] = [
            (header::SOURCE, source.as_bytes()),
            (header::EVENT, record.header(header::EVENT).unwrap_or_default()),
            (header::GATEWAY, record.header(header::GATEWAY).unwrap_or(self.ctx.gateway_id.as_bytes())),
        ];
        let sent = outlet::deliver(producer, &self.ctx.stop, Topic::EventsClean, || {
            let (partition, time) = (record.partition(), record.timestamp_ms());
            batch.send(Topic::EventsClean.name(), partition, record.key(), bytes, time, &headers)
        })?;
        if sent {
            self.tally.events_out += 1;
            return Ok(());
        }
        let detail = "the event is too large to be forwarded";
        let refusal = Refusal {
            stage: "validate",
            rule_id: None,
            rule_revision: None,
            reason: TOO_LARGE,
            detail,
            limit: None,
            schema_id: Some(id),
        };
        self.letter(producer, batch, record, lane, None, &refusal)
    }

    fn undecodable(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        error: DecodeError,
        schema_id: Option<i32>,
    ) -> Result<(), Error> {
        let detail = error.to_string();
        self.letter(producer, batch, record, lane, None, &Refusal::undecodable(error, schema_id, &detail))
    }

    /// A record of a schema that is not ours.
    fn foreign(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        id: i32,
    ) -> Result<(), Error> {
        let refusal = Refusal {
            stage: "decode",
            rule_id: None,
            rule_revision: None,
            reason: model::reason::SCHEMA_ERROR,
            detail: "its schema is not the one of this topic",
            limit: None,
            schema_id: Some(id),
        };
        self.letter(producer, batch, record, lane, None, &refusal)
    }

    /// Writes the dead letter of a record, once.
    fn letter(
        &mut self,
        producer: &Producer,
        batch: &Batch<'_>,
        record: &Record<'_>,
        lane: usize,
        reading: Option<&Reading<'_>>,
        refusal: &Refusal<'_>,
    ) -> Result<(), Error> {
        let of_event = record.topic() == Topic::EventsRaw.name();
        let (resumes, to) = if of_event {
            (&self.event_resumes, (Topic::DlqEvents, self.ids.event_letters))
        } else {
            (&self.resumes, (Topic::DlqTelemetry, self.ids.letters))
        };
        if !resumes[lane].allows(Output::Letter, record.offset()) {
            return Ok(());
        }
        self.letters.post(self.ctx, producer, batch, to, record, reading, refusal)?;
        self.tally.letter(refusal.reason);
        Ok(())
    }
}

fn given_up(schema_id: Option<i32>) -> Refusal<'static> {
    Refusal {
        stage: "validate",
        rule_id: None,
        rule_revision: None,
        reason: INTERNAL_ERROR,
        detail: "the validator failed on this record three times",
        limit: None,
        schema_id,
    }
}

/// The same record under another id of the same schema.
fn reframe(out: &mut Vec<u8>, id: i32, original: &[u8]) {
    out.clear();
    avro::put_frame(out, id);
    out.extend_from_slice(original.get(avro::FRAME_LENGTH..).unwrap_or_default());
}

/// Hands the reading with its findings to `then`. Allocates: most readings have none.
fn with_changes<T>(
    reading: &Reading<'_>,
    judged: &Judgement,
    unit: Option<&str>,
    then: impl FnOnce(&Reading<'_>) -> T,
) -> T {
    let mut reasons: Vec<&str> = reading.reasons.iter().collect();
    for code in judged.codes.iter() {
        if !reading.reasons.contains(code) {
            reasons.push(code);
        }
    }
    let mut flags: Vec<&str> = reading.flags.iter().collect();
    for (set, name) in [(judged.late, flag::LATE), (judged.gap.is_some(), flag::GAP_BEFORE)] {
        if set && !flags.contains(&name) {
            flags.push(name);
        }
    }
    let mut changed = Reading {
        quality: judged.quality,
        quality_reason: judged.reason.or(reading.quality_reason),
        reasons: TextList::Slice(&reasons),
        flags: TextList::Slice(&flags),
        ..*reading
    };
    if judged.device_time == reading.device_time && judged.converted.is_none() {
        return then(&changed);
    }
    let mut metadata: Vec<(&str, &str)> = reading.metadata.iter().collect();
    let raw_time = reading.device_time.as_micros().to_string();
    if judged.device_time != reading.device_time {
        if reading.metadata.get("device_time_raw").is_none() {
            metadata.push(("device_time_raw", &raw_time));
        }
        changed.device_time = judged.device_time;
        changed.time_source = time_source::GATEWAY;
        changed.clock_skew_ms = None;
    }
    let raw_value = letters::text_of(&reading.value).unwrap_or_default();
    if let Some(value) = judged.converted {
        let raw_unit = reading.unit.unwrap_or("");
        metadata.retain(|(key, _)| *key != "raw_value");
        metadata.extend([("raw_value", raw_value.as_str()), ("raw_unit", raw_unit)]);
        changed.value = model::Value::Float(value);
        changed.value_type = model::ValueType::Float;
        changed.unit = unit;
    }
    changed.metadata = TextMap::Slice(&metadata);
    then(&changed)
}
