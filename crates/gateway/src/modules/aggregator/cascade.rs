//! The loop of one resolution: inputs into windows, closed windows out, commits behind acknowledgements.
//!
//! Windows of silent points close when the stage before has told that nothing older is under way, and everything it
//! wrote has been read: a stage that lags or is away never makes this one close half a window.

use std::time::Duration;

use kafka::client::{Batch, Consumer, Position, Producer, Record};
use model::aggregate::{Coverage, Extra, Times};
use model::{Aggregate, Health, Resolution, TextList, Timestamp};
use pipeline::aggregate::{Checkpoint, Closed, Level, Plans, Taken, totals};
use stream::avro;
use stream::message::aggregate;
use stream::publisher::write_source;
use stream::topics::PARTITIONS;
use stream::{Schema, Start, Subscription, Topic, header};
use tokio::time::Instant;

use super::children::{Children, Span};
use super::inputs;
use super::recall::{Recall, restored, sources};
use crate::modules::flight::Flights;
use crate::modules::live::Stage;
use crate::modules::marks::{self, LANES, by_lane, lane, look_back, partition};
use crate::modules::schema_ids::{SchemaIds, id_for};
use crate::modules::state::{AggregatorMeters, Reason, ResolutionLabel};
use crate::modules::{Error, ModuleContext, ModuleState, loss, outlet, pace, strikes};

const MODULE: &str = super::MODULE;
/// How long an idle loop waits for the first record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How often offsets are committed, ends asked for and silent points looked at.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for acknowledgements.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Names in the text of a commit.
const MARK: &str = "mark";
const FLOOR: &str = "floor";
const TIME: &str = "time";
const SEEN: &str = "seen";
/// Flag of a window in which a counter began anew (AGG-10).
const COUNTER_RESET: &str = "COUNTER_RESET";
/// What older commits say in place of the floor.
const NEWEST_END: &str = "newest";

/// Where one resolution reads and writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    resolution: Resolution,
    pub(super) input: Topic,
    /// Where events end what a point's value holds.
    events: Option<Topic>,
    pub(super) output: Topic,
    pub(super) group: &'static str,
    before: Stage,
    after: Option<Stage>,
}

impl Step {
    pub(super) fn new(resolution: Resolution) -> Self {
        let (input, output, group, before, after) = match resolution {
            Resolution::Second => {
                (Topic::TelemetryClean, Topic::Telemetry1s, "sf-aggregator-1s", Stage::Clean, Some(Stage::Second))
            }
            Resolution::Minute => {
                (Topic::Telemetry1s, Topic::Telemetry1min, "sf-aggregator-1min", Stage::Second, Some(Stage::Minute))
            }
            Resolution::Hour => {
                (Topic::Telemetry1min, Topic::Telemetry1hour, "sf-aggregator-1hour", Stage::Minute, None)
            }
        };
        let events = (resolution == Resolution::Second).then_some(Topic::EventsClean);
        Self { resolution, input, events, output, group, before, after }
    }

    fn inputs(&self) -> Vec<Topic> {
        std::iter::once(self.input).chain(self.events).collect()
    }
}

/// What may be committed once a batch is acknowledged.
#[derive(Debug)]
struct Reached {
    checkpoints: [Checkpoint; LANES],
    /// Up to where the next stage may close the windows of silent points.
    through: [Option<Timestamp>; LANES],
}

/// Everything that lasts from record to record.
#[derive(Debug)]
struct Bench<'c> {
    ctx: &'c ModuleContext,
    step: Step,
    level: Level,
    schemas: SchemaIds<'c>,
    input_id: i32,
    events_id: Option<i32>,
    audit_id: i32,
    pen: Pen<'c>,
    children: Children,
    recall: Recall,
    /// Inputs before these were taken once, before the start.
    seen: [i64; LANES],
    /// Inputs too late for their windows since the last row of the ledger.
    late: [loss::Late; LANES],
    tally: Tally,
}

/// Writes closed windows.
#[derive(Debug)]
struct Pen<'c> {
    ctx: &'c ModuleContext,
    step: Step,
    output_id: i32,
    payload: Vec<u8>,
    source: String,
    source_from: String,
    written: u64,
    overflown: u64,
    outcome: Result<(), Error>,
}

/// Counts since the last flush.
#[derive(Debug, Default)]
struct Tally {
    records_in: u64,
    late: u64,
    no_room: u64,
    excluded: u64,
    wrong_kind: u64,
    undecodable: u64,
}

/// Runs one resolution until the stop token is cancelled.
pub(super) fn run(
    ctx: &ModuleContext,
    step: Step,
    plans: &Plans,
    producer: &Producer,
    state: &ModuleState,
    meters: &AggregatorMeters,
) -> Result<(), Error> {
    let (mut bench, mut subscription, begin) = open(ctx, step, plans)?;
    let label = ResolutionLabel { resolution: step.resolution.as_str() };
    let mut flights: Flights<Reached> = Flights::default();
    let mut commits = Commits { committed: begin, acknowledged: None };
    let mut last_batch = 0;
    let mut lag = 0;
    let mut was_slow = false;
    let mut housekeeping = Instant::now();
    while !ctx.stop.is_cancelled() {
        let gather = pace::gather(last_batch);
        if !gather.is_zero() {
            std::thread::sleep(gather);
        }
        let batch = producer.batch();
        let mut outcome = Ok(());
        last_batch = subscription
            .poll(pace::BATCH_RECORDS_MAX, POLL_WAIT, Duration::ZERO, |record| {
                if outcome.is_ok() {
                    outcome = bench.take(&batch, &record);
                }
            })
            .map_err(Error::stream(MODULE))?;
        if let Err(error) = outcome {
            if matches!(error, Error::Stopped) {
                break;
            }
            return Err(error);
        }
        let gaps = subscription.take_gaps();
        for gap in &gaps {
            let lost = loss::tell(ctx, &batch, bench.audit_id, step.group, gap)?;
            meters.lost.get_or_create(&Reason { reason: "retention" }).inc_by(lost);
        }
        let mut through = [None; LANES];
        let due = housekeeping.elapsed() >= HOUSEKEEPING_EVERY;
        if due {
            housekeeping = Instant::now();
            let before = lag;
            lag = bench.survey(&batch, &subscription, &mut through)?;
            bench.tell_late(&batch)?;
            state.move_lag(before, lag);
            meters.lag.get_or_create(&label).set(lag);
            let open = i64::try_from(bench.level.open_windows()).unwrap_or(i64::MAX);
            meters.open_windows.get_or_create(&label).set(open);
        }
        let pending = batch.finish();
        if last_batch > 0 || due || !gaps.is_empty() {
            flights.push(pending, bench.reached(&subscription, through));
        }
        bench.flush(state, meters, label);
        flights
            .wait_for_room(&ctx.stop, || state.set_health(Health::Degraded, "the stream is slow to acknowledge"))
            .map_err(Error::stream(MODULE))?;
        if let Some(reached) = flights.landed().map_err(Error::stream(MODULE))? {
            commits.acknowledge(ctx, step, reached);
        }
        if due {
            commits.commit(step, &subscription)?;
            if let Some(reason) = producer.fatal_error() {
                return Err(Error::Producer { module: MODULE, reason });
            }
            if was_slow && !flights.is_stuck() {
                state.set_health(Health::Healthy, "aggregating");
            }
            was_slow = flights.is_stuck();
        }
    }
    state.move_lag(lag, 0);
    if let Some(reached) = flights.land_all(STOP_MAX).map_err(Error::stream(MODULE))? {
        commits.acknowledge(ctx, step, reached);
    }
    commits.commit(step, &subscription)
}

/// Finds out where to begin and which windows are already written.
fn open<'c>(
    ctx: &'c ModuleContext,
    step: Step,
    plans: &Plans,
) -> Result<(Bench<'c>, Subscription, [Option<Checkpoint>; LANES]), Error> {
    let stream = Error::stream(MODULE);
    let (input_id, output_id, audit_id) =
        (id_for(ctx, step.input)?, id_for(ctx, step.output)?, id_for(ctx, Topic::Audit)?);
    let events_id = step.events.map(|topic| id_for(ctx, topic)).transpose()?;
    let consumer = Consumer::open(&ctx.settings, step.group).map_err(&stream)?;
    let begins = marks::begins(&consumer, step.input).map_err(&stream)?;
    let event_begins = match step.events {
        Some(topic) => marks::begins(&consumer, topic).map_err(&stream)?,
        None => Vec::new(),
    };
    let mut level = Level::new(step.resolution, plans, LANES, plans.limits(step.resolution));
    let mut committed = [None; LANES];
    let mut old_marks = [None; LANES];
    let mut seen = [0; LANES];
    for (lane, begin) in begins.iter().enumerate() {
        let mark = marks::read(&begin.metadata, MARK);
        let number = |name| marks::read(&begin.metadata, name);
        let checkpoint = Checkpoint {
            offset: begin.committed.unwrap_or(0),
            event_offset: event_begins.get(lane).and_then(|begin| begin.committed).unwrap_or(0),
            mark: mark.unwrap_or(0),
            floor: number(FLOOR).or_else(|| number(NEWEST_END)).unwrap_or(i64::MIN),
            time: number(TIME).unwrap_or(i64::MIN),
            seen: number(SEEN).unwrap_or(0),
        };
        level.resume(lane, &checkpoint);
        old_marks[lane] = mark;
        seen[lane] = checkpoint.seen;
        committed[lane] = begin.committed.map(|_| checkpoint);
    }
    let mut unreadable = 0_u64;
    look_back(&consumer, &[(step.output, &old_marks)], |_, lane, record| {
        let payload = record.payload().unwrap_or_default();
        match avro::unframe(payload).and_then(|(_, body)| aggregate::decode(body)) {
            Ok(window) => {
                let sources = sources(step, begins[lane].end, lane, record);
                level.was_emitted(lane, &restored(sources, record.offset(), &window));
            }
            Err(_) => unreadable += 1,
        }
    })
    .map_err(&stream)?;
    if unreadable > 0 {
        tracing::warn!(topic = step.output.name(), unreadable, "windows that cannot be read were skipped at the start");
    }
    let ends = by_lane(&consumer.ends(&[(step.output.name(), PARTITIONS)]).map_err(&stream)?, step.output);
    for (lane, end) in ends.into_iter().enumerate() {
        level.note_output_end(lane, end);
    }
    let position = |topic: Topic, (lane, begin): (usize, &marks::Begin)| Position {
        topic: topic.name().to_owned(),
        partition: partition(lane),
        offset: begin.committed.unwrap_or(begin.first),
        metadata: String::new(),
    };
    let mut positions: Vec<Position> = begins.iter().enumerate().map(|begin| position(step.input, begin)).collect();
    if let Some(events) = step.events {
        positions.extend(event_begins.iter().enumerate().map(|begin| position(events, begin)));
    }
    let subscription = Subscription::over(consumer, &step.inputs(), &Start::At(positions)).map_err(&stream)?;
    let pen = Pen {
        ctx,
        step,
        output_id,
        payload: Vec::with_capacity(512),
        source: String::new(),
        source_from: String::new(),
        written: 0,
        overflown: 0,
        outcome: Ok(()),
    };
    let schemas = SchemaIds::new(ctx);
    let bench = Bench {
        ctx,
        step,
        level,
        schemas,
        input_id,
        events_id,
        audit_id,
        pen,
        children: Children::default(),
        recall: Recall::default(),
        seen,
        late: [loss::Late::default(); LANES],
        tally: Tally::default(),
    };
    Ok((bench, subscription, committed))
}

impl Bench<'_> {
    /// Takes the next record in.
    fn take(&mut self, batch: &Batch<'_>, record: &Record<'_>) -> Result<(), Error> {
        let Some(lane) = lane(record.partition()) else { return Ok(()) };
        self.tally.records_in += 1;
        let Ok((id, body)) = avro::unframe(record.payload().unwrap_or_default()) else {
            self.tally.undecodable += 1;
            return Ok(());
        };
        let is_event = self.step.events.is_some_and(|topic| topic.name() == record.topic());
        let schema = if is_event { Schema::Event } else { self.step.input.schema() };
        let known = if is_event { self.events_id } else { Some(self.input_id) };
        if Some(id) != known && !self.schemas.is(id, schema)? {
            self.tally.undecodable += 1;
            return Ok(());
        }
        let decoded = strikes::guarded(|| inputs::decode(schema, body, record.offset()), || {});
        let sample = match decoded {
            Some(Ok(Some(sample))) => sample,
            Some(Ok(None)) => return Ok(()), // says nothing of a window
            Some(Err(_)) | None => {
                self.tally.undecodable += 1;
                return Ok(());
            }
        };
        let Self { ctx, step, level, pen, tally, children, recall, .. } = self;
        let mut taken = level.sample(lane, &sample, &mut |closed| pen.write(batch, lane, closed));
        if let Taken::Forgotten { start } = taken {
            let stretch = level.stretch(lane, sample.asset_id, start);
            taken = match recall.read(ctx, *step, lane, sample.asset_id, stretch)? {
                Some(found) => {
                    let decoded = found.iter().filter_map(|found| Some((found, aggregate::decode(&found.body).ok()?)));
                    let windows: Vec<_> =
                        decoded.map(|(found, window)| restored(found.sources, found.mark, &window)).collect();
                    level.recall(lane, sample.asset_id, stretch, &windows);
                    level.sample(lane, &sample, &mut |closed| pen.write(batch, lane, closed))
                }
                None => Taken::Late,
            };
        }
        if let Taken::Incomplete { start, end, from, through } = taken {
            let span = Span { start, end, from, through };
            let read = children.read(ctx, *step, lane, &sample, span)?;
            let complete = |read: Vec<Vec<u8>>| {
                let decoded = read.iter().filter_map(|body| inputs::decode(step.input.schema(), body, 0).ok()?);
                let made_from: Vec<_> = decoded.map(|sample| sample.input).collect();
                level.complete(lane, sample.asset_id, sample.parameter, start, &made_from)
            };
            taken = if read.is_some_and(complete) {
                level.sample(lane, &sample, &mut |closed| pen.write(batch, lane, closed))
            } else {
                Taken::Late
            };
        }
        match taken {
            Taken::Added | Taken::Known => {}
            Taken::Excluded => tally.excluded += 1,
            Taken::WrongKind => tally.wrong_kind += 1,
            Taken::Late | Taken::Forgotten { .. } | Taken::Incomplete { .. } if is_event => {} // an event is no reading: nothing is lost
            Taken::Late | Taken::Forgotten { .. } | Taken::Incomplete { .. } => {
                tally.late += 1;
                if sample.offset >= self.seen[lane] {
                    self.late[lane].add(sample.offset);
                }
            }
            Taken::NoRoom => tally.no_room += 1,
        }
        std::mem::replace(&mut pen.outcome, Ok(()))
    }

    /// Writes the late inputs since the last call to the loss ledger.
    fn tell_late(&mut self, batch: &Batch<'_>) -> Result<(), Error> {
        for (lane, late) in self.late.iter_mut().enumerate().filter(|(_, late)| late.count > 0) {
            let late = std::mem::take(late);
            loss::tell_late(self.ctx, batch, self.audit_id, self.step.group, self.step.input, partition(lane), late)?;
        }
        Ok(())
    }

    /// Asks for the ends of input and output and closes what has been silent; returns the lag.
    fn survey(
        &mut self,
        batch: &Batch<'_>,
        subscription: &Subscription,
        through: &mut [Option<Timestamp>; LANES],
    ) -> Result<i64, Error> {
        let Self { ctx, step, level, pen, .. } = self;
        // in this order: what the stage before has written up to then lies before the end asked for afterwards
        let before: [Timestamp; LANES] = std::array::from_fn(|lane| ctx.live.reached(step.before, lane));
        let mut names = vec![(step.input.name(), PARTITIONS), (step.output.name(), PARTITIONS)];
        names.extend(step.events.map(|topic| (topic.name(), PARTITIONS)));
        let ends = subscription.consumer().ends(&names).map_err(Error::stream(MODULE))?;
        let (inputs, outputs) = (by_lane(&ends, step.input), by_lane(&ends, step.output));
        let events = step.events.map(|topic| (topic, by_lane(&ends, topic)));
        let mut lag = 0;
        for lane in 0..LANES {
            level.note_output_end(lane, outputs[lane]);
            let behind = |topic, end: i64| (end - subscription.position(topic, partition(lane)).unwrap_or(0)).max(0);
            let events_behind = events.map_or(0, |(topic, ends)| behind(topic, ends[lane]));
            let behind = behind(step.input, inputs[lane]) + events_behind;
            lag += behind;
            if behind == 0 && before[lane] > Timestamp::default() {
                level.advance(lane, before[lane], &mut |closed| pen.write(batch, lane, closed));
                through[lane] = Some(before[lane]);
            }
        }
        std::mem::replace(&mut pen.outcome, Ok(())).map(|()| lag)
    }

    fn reached(&mut self, subscription: &Subscription, through: [Option<Timestamp>; LANES]) -> Reached {
        let next = |topic: Topic, lane| subscription.position(topic, partition(lane)).unwrap_or(0);
        let (input, events) = (self.step.input, self.step.events);
        let checkpoint = |lane| {
            let next_event = events.map_or(0, |topic| next(topic, lane));
            self.level.checkpoint(lane, next(input, lane), next_event)
        };
        Reached { checkpoints: std::array::from_fn(checkpoint), through }
    }

    /// Adds to the shared counters.
    fn flush(&mut self, state: &ModuleState, meters: &AggregatorMeters, label: ResolutionLabel) {
        let tally = std::mem::take(&mut self.tally);
        let written = std::mem::take(&mut self.pen.written);
        let overflown = std::mem::take(&mut self.pen.overflown);
        if tally.records_in > 0 || written > 0 {
            state.count(tally.records_in, written, 0);
            meters.windows.get_or_create(&label).inc_by(written);
            meters.late.get_or_create(&label).inc_by(tally.late);
        }
        let skipped = [
            ("no_room", tally.no_room),
            ("excluded", tally.excluded),
            ("wrong_kind", tally.wrong_kind),
            ("undecodable", tally.undecodable),
            ("overflow", overflown),
        ];
        for (reason, count) in skipped.into_iter().filter(|(_, count)| *count > 0) {
            meters.skipped.get_or_create(&Reason { reason }).inc_by(count);
        }
    }
}

impl Pen<'_> {
    /// Queues a closed window; an error is kept and ends the loop.
    fn write(&mut self, batch: &Batch<'_>, lane: usize, closed: &Closed<'_>) {
        if self.outcome.is_err() {
            return;
        }
        if !is_finite(closed) {
            self.overflown += 1; // values near the end of float64: no reader could take the record
            return;
        }
        let Self { ctx, step, payload, source, source_from, .. } = self;
        let now = ctx.clock.now();
        let window = Aggregate {
            asset_id: closed.asset_id,
            parameter: closed.parameter,
            unit: closed.unit,
            resolution: step.resolution,
            window_start: closed.start,
            window_end: closed.end,
            kind: closed.kind,
            partials: closed.totals.partials(),
            quality: closed.quality,
            partial: closed.totals.partial,
            revision: closed.revision,
            held: closed.held,
            carry: closed.carry,
            stops: Times::Slice(closed.stops),
            flags: TextList::Slice(flags_of(closed)),
            gateway_time: now,
            gateway_id: &ctx.gateway_id,
        };
        payload.clear();
        aggregate::encode(payload, self.output_id, &window);
        write_source(source, step.input.name(), partition(lane), closed.offset);
        write_source(source_from, step.input.name(), partition(lane), closed.from_offset);
        let headers: [(&str, &[u8]); 4] = [
            (header::SOURCE, source.as_bytes()),
            (header::SOURCE_FROM, source_from.as_bytes()),
            (header::QUALITY, closed.quality.as_str().as_bytes()),
            (header::GATEWAY, ctx.gateway_id.as_bytes()),
        ];
        self.outcome = outlet::insist(&ctx.stop, step.output, || {
            let key = closed.asset_id.as_bytes();
            batch.send(step.output.name(), partition(lane), key, payload, now.as_millis(), &headers)
        });
        self.written += 1;
    }
}

/// What a reader should know of a counter: it began anew, or counted over a hole.
fn flags_of(closed: &Closed<'_>) -> &'static [&'static str] {
    let totals::Extra::Counter(counts) = &closed.totals.extra else { return &[] };
    match (counts.resets > 0, counts.gaps > 0) {
        (false, false) => &[],
        (true, false) => &[COUNTER_RESET],
        (false, true) => &[model::flag::GAP_BEFORE],
        (true, true) => &[COUNTER_RESET, model::flag::GAP_BEFORE],
    }
}

fn is_finite(closed: &Closed<'_>) -> bool {
    let partials = closed.totals.partials();
    let s = partials.statistics;
    let integral = match partials.coverage {
        Some(Coverage { integral: Some(integral), .. }) => integral,
        _ => 0.0,
    };
    let extra = match partials.extra {
        Extra::Counter(counts) => counts.delta,
        _ => 0.0,
    };
    [s.sum, s.mean, s.m2, integral, extra].iter().all(|number| number.is_finite())
}

/// What was committed and what may be.
#[derive(Debug)]
struct Commits {
    committed: [Option<Checkpoint>; LANES],
    acknowledged: Option<Reached>,
}

impl Commits {
    /// Takes in what was acknowledged and tells the next stage how far this one has come.
    fn acknowledge(&mut self, ctx: &ModuleContext, step: Step, reached: Reached) {
        if let Some(stage) = step.after {
            for (lane, through) in reached.through.iter().enumerate() {
                if let Some(through) = through {
                    ctx.live.set_reached(stage, lane, *through);
                }
            }
        }
        self.acknowledged = Some(reached);
    }

    /// Commits what changed.
    fn commit(&mut self, step: Step, subscription: &Subscription) -> Result<(), Error> {
        let Some(reached) = self.acknowledged.take() else { return Ok(()) };
        let mut positions = Vec::new();
        for (lane, checkpoint) in reached.checkpoints.into_iter().enumerate() {
            if self.committed[lane].replace(checkpoint) == Some(checkpoint) {
                continue;
            }
            let known = |(_, number): &(&str, i64)| *number != i64::MIN;
            let Checkpoint { mark, floor, time, seen, .. } = checkpoint;
            let numbers = [(MARK, mark), (SEEN, seen), (FLOOR, floor), (TIME, time)];
            let marks: Vec<(&str, i64)> = numbers.into_iter().filter(known).collect();
            positions.push(Position {
                topic: step.input.name().to_owned(),
                partition: partition(lane),
                offset: checkpoint.offset,
                metadata: marks::write(&marks),
            });
            if let Some(events) = step.events {
                positions.push(Position {
                    topic: events.name().to_owned(),
                    partition: partition(lane),
                    offset: checkpoint.event_offset,
                    metadata: String::new(),
                });
            }
        }
        subscription.commit(&positions).map_err(Error::stream(MODULE))
    }
}
