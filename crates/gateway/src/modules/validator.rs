//! The validator's loop: `telemetry.raw` to `telemetry.clean` and the dead letters, `events.raw` to `events.clean`, and the
//! alarms of both to `alarms.clean`.
//!
//! It polls, has every record judged by [`desk::Desk`], keeps a few batches under way, and commits behind their
//! acknowledgements. After a start it restores what the rules remembered ([`memory`]) and reads the piece behind it again,
//! with everything held back that was written before: a restart changes nothing.

mod alarms;
mod desk;
mod events;
mod letters;
mod memory;
mod tally;

use std::time::Duration;

use kafka::client::{Batch, Consumer, Position, Producer, Record};
use model::{Health, Timestamp};
use pipeline::resume::{Output, Resume};
use pipeline::trail::Trail;
use pipeline::validate::{LaneTime, POINTS_MAX, Validator};
use stream::publisher::{read_place, read_source};
use stream::topics::PARTITIONS;
use stream::{Start, Subscription, Topic, header};
use tokio::time::Instant;

use self::alarms::Alarms;
use self::desk::{Desk, Ids};
use self::memory::Memory;
use super::flight::Flights;
use super::live::Stage;
use super::marks::{self, Begin, LANES, by_lane, look_back, partition};
use super::state::ValidatorMeters;
use super::{Error, ModuleContext, ModuleState, loss, pace};

const MODULE: &str = "validator";
const GROUP: &str = "sf-validator";
/// How long an idle loop waits for the first record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How often offsets are committed and the ends of the topics are asked for.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// Figures of alarms are saved with every so manieth turn.
const SAVE_FIGURES_EVERY: u32 = 60;
/// How long a stop waits for acknowledgements.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Records behind which the module counts as DEGRADED.
const LAG_MAX: i64 = 1_000_000;

/// The topics this module writes, in the order of [`Ends`]: those derived from readings, then those from events.
const OUTPUTS: [Topic; 6] = [
    Topic::TelemetryClean,
    Topic::DlqTelemetry,
    Topic::EventsRaw,
    Topic::AlarmsClean,
    Topic::EventsClean,
    Topic::DlqEvents,
];
const OF_READINGS: std::ops::Range<usize> = 0..4;
const OF_EVENTS: std::ops::Range<usize> = 4..6;

/// Those that hold what was told because time passed: events and alarms.
const TOLD: [usize; 2] = [2, 3];

/// Ends of [`TOLD`] in the partition of a lane.
type Told = [i64; TOLD.len()];

/// Next offset of every partition of [`OUTPUTS`].
type Ends = [[i64; LANES]; OUTPUTS.len()];

/// What may be committed once a batch is acknowledged.
#[derive(Debug, Clone)]
struct Checkpoint {
    telemetry: [i64; LANES],
    events: [i64; LANES],
    commands: [i64; LANES],
    /// Ends of the outputs when the batch began, or before.
    ends: Ends,
    /// Lanes whose input was read up to its end at this time.
    reached: [Option<Timestamp>; LANES],
    /// From where a restart would read again.
    replay_from: [LaneTime; LANES],
    /// Where everything begins that was told since.
    told: [Told; LANES],
    /// States made up to here may be sent.
    states: u64,
}

/// The validator's settings, and the name of the document they are from.
#[derive(Debug, Clone)]
pub struct ValidatorSettings {
    pub validation: config::Validation,
    pub alarms: config::Alarms,
    pub config_revision: String,
}

/// Validates until the stop token is cancelled; blocking.
pub fn run_validator(ctx: &ModuleContext, settings: &ValidatorSettings, state: &ModuleState) -> Result<(), Error> {
    let meters = ValidatorMeters::of(state, &ctx.metrics).expect("a state is handed to one module only");
    state.set_health(Health::Degraded, "starting: reading back what is already written");
    let ids = Ids::ask(ctx)?;
    let producer = Producer::open(&ctx.settings).map_err(Error::stream(MODULE))?;
    let mut validator = Validator::new(&settings.validation, LANES, POINTS_MAX);
    let mut alarms = Alarms::new(&settings.alarms, &ctx.gateway_id, ids.of_alarms(), &settings.config_revision);
    let (mut subscription, mut progress) = open(ctx, &mut validator, &mut alarms)?;
    let mut desk = Desk::new(ctx, (validator, alarms), &settings.config_revision, meters, ids, progress.take_resumes());
    progress.begin(&producer, &subscription, &mut desk)?;
    state.set_health(Health::Healthy, "validating");
    let ended = run(ctx, state, meters, &producer, &mut subscription, &mut progress, &mut desk);
    state.move_lag(progress.lag, 0);
    match ended {
        Err(Error::Stopped) => progress.land_all().and_then(|()| progress.commit(&subscription)),
        Ok(()) => progress.close(ctx, &producer, &subscription, &mut desk),
        Err(error) => Err(error),
    }
}

fn run(
    ctx: &ModuleContext,
    state: &ModuleState,
    meters: &ValidatorMeters,
    producer: &Producer,
    subscription: &mut Subscription,
    progress: &mut Progress,
    desk: &mut Desk<'_>,
) -> Result<(), Error> {
    let mut last_batch = 0;
    let mut housekeeping = Instant::now();
    let mut housekeepings = 0_u32;
    while !ctx.stop.is_cancelled() {
        let gather = pace::gather(last_batch);
        if !gather.is_zero() {
            std::thread::sleep(gather);
        }
        let batch = producer.batch();
        let states_sent = progress.memory.send(ctx, &batch)?;
        let mut outcome = Ok(());
        last_batch = subscription
            .poll(pace::BATCH_RECORDS_MAX, POLL_WAIT, Duration::ZERO, |record| {
                if outcome.is_ok() {
                    progress.memory.note_input(record.payload().map_or(0, <[u8]>::len));
                    outcome = desk.take(producer, &batch, &record);
                }
            })
            .map_err(Error::stream(MODULE))?;
        outcome?;
        let gaps = subscription.take_gaps();
        for gap in &gaps {
            let lost = loss::tell(ctx, &batch, desk.ids.audit, MODULE, gap)?;
            meters.lost.get_or_create(&super::state::Reason { reason: "retention" }).inc_by(lost);
        }
        let due = housekeeping.elapsed() >= HOUSEKEEPING_EVERY;
        progress.advance(subscription, desk, &batch, last_batch > 0)?;
        desk.carry_out(&batch, |lane| progress.has_caught_up(subscription, lane))?;
        if due || !desk.urgent.is_empty() {
            progress.collect(desk, due && housekeepings.is_multiple_of(SAVE_FIGURES_EVERY), false);
        }
        desk.finish_batch(state, &ctx.live);
        let pending = batch.finish();
        // time alone may have told something, too
        if last_batch > 0 || !gaps.is_empty() || states_sent || !pending.is_done() {
            let checkpoint = progress.checkpoint(subscription, desk, [None; LANES]);
            progress.flights.push(pending, checkpoint);
        }
        progress.land(ctx)?;
        let slow = || state.set_health(Health::Degraded, "the stream is slow to acknowledge");
        progress.flights.wait_for_room(&ctx.stop, slow).map_err(Error::stream(MODULE))?;
        progress.land(ctx)?;
        if due {
            housekeepings += 1;
            desk.publish_alarms();
            housekeeping = Instant::now();
            progress.commit(subscription)?;
            progress.survey(ctx, producer, subscription, desk)?;
            state.move_lag(progress.lag_told, progress.lag);
            progress.lag_told = progress.lag;
            meters.lag.set(progress.lag);
            meters.points.set(i64::try_from(desk.points()).unwrap_or(i64::MAX));
            if progress.lag > LAG_MAX {
                state.set_health(Health::Degraded, "more than a million records behind");
            } else if !progress.flights.is_stuck() {
                state.set_health(Health::Healthy, "validating");
            }
            if let Some(reason) = producer.fatal_error() {
                return Err(Error::Producer { module: MODULE, reason });
            }
        }
    }
    Ok(())
}

/// Positions, commits and what the outputs hold.
#[derive(Debug)]
struct Progress {
    flights: Flights<Checkpoint>,
    acknowledged: Option<Checkpoint>,
    /// Newest ends of the outputs that are known.
    ends: Ends,
    /// What was committed last, never to be committed backwards.
    committed_telemetry: [i64; LANES],
    committed_events: [i64; LANES],
    committed_commands: [i64; LANES],
    /// Events and commands up to here have nothing that waits to be saved.
    settled: [[i64; LANES]; 2],
    /// Where the readings stood that were judged before this run.
    begun_telemetry: [i64; LANES],
    /// From where readings are read again after a restart, as it was committed last.
    committed_replay: [Option<LaneTime>; LANES],
    trails: [Trail<Told>; LANES],
    /// Marks of the commit this run began with, and the newest source its outputs name: up to there the old marks hold.
    old_marks: [[Option<i64>; LANES]; OUTPUTS.len()],
    replayed_telemetry: [Option<i64>; LANES],
    replayed_events: [Option<i64>; LANES],
    resumes: Option<(Vec<Resume>, Vec<Resume>)>,
    memory: Memory,
    idle: [Idle; LANES],
    lag: i64,
    lag_told: i64,
}

/// How a lane's time goes on while nothing comes.
#[derive(Debug, Clone, Copy)]
struct Idle {
    /// The lane's steady time when its input was last seen to move.
    now: i64,
    since: Instant,
    /// The input was read to its end when it was last asked for.
    caught_up: bool,
    /// Its end then.
    end: i64,
}

/// Finds out where to begin and what is already written, and opens the subscription there.
fn open(
    ctx: &ModuleContext,
    validator: &mut Validator,
    alarms: &mut Alarms,
) -> Result<(Subscription, Progress), Error> {
    let stream = Error::stream(MODULE);
    let consumer = Consumer::open(&ctx.settings, GROUP).map_err(&stream)?;
    let telemetry = marks::begins(&consumer, Topic::TelemetryRaw).map_err(&stream)?;
    let events = marks::begins(&consumer, Topic::EventsRaw).map_err(&stream)?;
    let commands = marks::begins(&consumer, Topic::ControlCommands).map_err(&stream)?;
    let old_marks = OUTPUTS.map(|topic| {
        let begins = if matches!(topic, Topic::EventsClean | Topic::DlqEvents) { &events } else { &telemetry };
        std::array::from_fn(|lane| marks::read(&begins[lane].metadata, topic.name()))
    });
    let resumes = |begins: &[Begin]| begins.iter().map(|begin| Resume::new(begin.committed.unwrap_or(0))).collect();
    let (mut of_telemetry, mut of_events): (Vec<Resume>, Vec<Resume>) = (resumes(&telemetry), resumes(&events));
    let marked: Vec<marks::Marked<'_>> = OUTPUTS.into_iter().zip(&old_marks).collect();
    look_back(&consumer, &marked, |output, lane, record| {
        let topic = OUTPUTS[output];
        let (input, begins, resumes) = match topic {
            Topic::EventsClean | Topic::DlqEvents => (Topic::EventsRaw, &events, &mut of_events),
            _ => (Topic::TelemetryRaw, &telemetry, &mut of_telemetry),
        };
        if let Some(name) = record.header(header::EVENT_ID).and_then(|name| std::str::from_utf8(name).ok()) {
            let at = record.header(header::TOLD_AT).and_then(read_place);
            // a place beyond the input's end speaks of another log
            resumes[lane].note_told(name, at.filter(|(next, _)| *next <= begins[lane].end));
            return;
        }
        let Some(output) = output_of(topic, record) else { return };
        let source = record.header(header::SOURCE).and_then(|value| read_source(value, input.name(), partition(lane)));
        // a source beyond the input's end speaks of another log
        if let Some(source) = source.filter(|source| *source < begins[lane].end) {
            resumes[lane].note(output, source);
        }
    })
    .map_err(&stream)?;
    // state of a log that is not this one any more belongs to nothing
    let same_log = telemetry.iter().any(|begin| begin.committed.is_some());
    let mut memory = memory::restore(&consumer, |lane, asset, own, of_alarms| {
        if telemetry[lane].committed.is_none() {
            return;
        }
        match asset {
            memory::KPIS => alarms.restore_kpis(own),
            memory::SOURCES => String::from_utf8_lossy(own).lines().for_each(|source| validator.restore_skew(source)),
            _ => {
                if !validator.restore(lane, asset, own) {
                    tracing::warn!(
                        asset,
                        "the saved state of an asset cannot be read: its points begin without history"
                    );
                }
                alarms.restore(lane, asset, of_alarms);
            }
        }
    })?;
    if !same_log {
        memory.forget();
    }
    let position = |topic: Topic, lane: usize, offset: i64| Position {
        topic: topic.name().to_owned(),
        partition: partition(lane),
        offset,
        metadata: String::new(),
    };
    let mut positions = Vec::with_capacity(2 * LANES);
    let mut places = [LaneTime { offset: 0, now: i64::MIN, shift: 0 }; LANES];
    for (lane, begin) in telemetry.iter().enumerate() {
        // where the log begins behind the commit the gap is found by the subscription
        let saved = begin.committed.and_then(|_| memory::read_marks(&begin.metadata));
        let again = |committed: i64| saved.map_or(committed, |saved| saved.offset).max(begin.first).min(committed);
        let offset = begin.committed.map_or(begin.first, again);
        let place = LaneTime { offset, ..saved.unwrap_or(places[lane]) };
        places[lane] = place;
        validator.begin_at(lane, place);
        alarms.begin_at(lane, place.now);
        positions.push(position(Topic::TelemetryRaw, lane, offset));
    }
    for (lane, begin) in events.iter().enumerate() {
        positions.push(position(Topic::EventsRaw, lane, begin.committed.unwrap_or(begin.first)));
    }
    for (lane, begin) in commands.iter().enumerate() {
        positions.push(position(Topic::ControlCommands, lane, begin.committed.unwrap_or(begin.first)));
    }
    let topics = [Topic::TelemetryRaw, Topic::EventsRaw, Topic::ControlCommands];
    let subscription = Subscription::over(consumer, &topics, &Start::At(positions)).map_err(&stream)?;
    let newest = |resumes: &[Resume]| std::array::from_fn(|lane| resumes[lane].newest());
    let committed = |begins: &[Begin]| std::array::from_fn(|lane| begins[lane].committed.unwrap_or(0));
    let mut progress = Progress {
        flights: Flights::default(),
        acknowledged: None,
        ends: [[0; LANES]; OUTPUTS.len()],
        committed_telemetry: committed(&telemetry),
        committed_events: committed(&events),
        committed_commands: committed(&commands),
        settled: [committed(&events), committed(&commands)],
        begun_telemetry: committed(&telemetry),
        committed_replay: [None; LANES],
        trails: std::array::from_fn(|lane| {
            Trail::begin(places[lane], TOLD.map(|output| old_marks[output][lane].unwrap_or(0)))
        }),
        old_marks,
        replayed_telemetry: newest(&of_telemetry),
        replayed_events: newest(&of_events),
        resumes: Some((of_telemetry, of_events)),
        memory,
        idle: [Idle { now: i64::MIN, since: Instant::now(), caught_up: false, end: 0 }; LANES],
        lag: 0,
        lag_told: 0,
    };
    progress.ask_ends(&subscription)?;
    Ok((subscription, progress))
}

/// Which output a record of one of our topics is.
fn output_of(topic: Topic, record: &Record<'_>) -> Option<Output> {
    match topic {
        Topic::TelemetryClean | Topic::EventsClean => Some(Output::Clean),
        Topic::DlqTelemetry | Topic::DlqEvents => Some(Output::Letter),
        _ => record.header(header::EVENT).and_then(events::number_of).map(Output::Event),
    }
}

impl Progress {
    fn take_resumes(&mut self) -> (Vec<Resume>, Vec<Resume>) {
        self.resumes.take().unwrap_or_default()
    }

    fn checkpoint(
        &mut self,
        subscription: &Subscription,
        desk: &Desk<'_>,
        reached: [Option<Timestamp>; LANES],
    ) -> Checkpoint {
        let next = |topic| std::array::from_fn(|lane| subscription.position(topic, partition(lane)).unwrap_or(0));
        let held = desk.first_held();
        if desk.urgent.is_empty() && !self.memory.is_waiting() {
            let commands: [i64; LANES] = next(Topic::ControlCommands);
            self.settled = [next(Topic::EventsRaw), std::array::from_fn(|lane| held[lane].unwrap_or(commands[lane]))];
        }
        let [events, commands] = self.settled;
        let replay_from = std::array::from_fn(|lane| self.memory.replay_from(&desk.validator, lane));
        Checkpoint {
            telemetry: next(Topic::TelemetryRaw),
            events,
            commands,
            ends: self.ends,
            reached,
            replay_from,
            told: std::array::from_fn(|lane| self.trails[lane].before(replay_from[lane])),
            states: self.memory.made(),
        }
    }

    /// The first word of a run: alarms whose rules are gone come to an end.
    fn begin(&mut self, producer: &Producer, subscription: &Subscription, desk: &mut Desk<'_>) -> Result<(), Error> {
        let batch = producer.batch();
        desk.reconcile(&batch)?;
        let pending = batch.finish();
        let checkpoint = self.checkpoint(subscription, desk, [None; LANES]);
        self.flights.push(pending, checkpoint);
        Ok(())
    }

    /// True when the lane's readings that were judged before this start have all been judged again: only then is it what
    /// the people saw who sent the commands that wait.
    fn has_caught_up(&self, subscription: &Subscription, lane: usize) -> bool {
        let position = subscription.position(Topic::TelemetryRaw, partition(lane)).unwrap_or(0);
        position >= self.begun_telemetry[lane] && self.replayed_telemetry[lane].is_none_or(|newest| position > newest)
    }

    /// Makes the next group of states.
    fn collect(&mut self, desk: &mut Desk<'_>, figures: bool, everything: bool) {
        let Desk { validator, alarms, urgent, .. } = desk;
        let append = &mut |lane, asset: &str, out: &mut Vec<u8>| alarms.save_asset(lane, asset, out);
        self.memory.collect(validator, urgent, everything, append);
        if figures {
            let mut kpis = Vec::new();
            alarms.save_kpis(&mut kpis);
            self.memory.add(memory::KPIS, &kpis);
            let sources: Vec<&str> = validator.skewed_sources().collect();
            self.memory.add(memory::SOURCES, sources.join("\n").as_bytes());
        }
    }

    /// Lets the time of lanes pass: with their readings, and by the monotonic clock where everything has been read.
    fn advance(
        &mut self,
        subscription: &Subscription,
        desk: &mut Desk<'_>,
        batch: &Batch<'_>,
        moved: bool,
    ) -> Result<(), Error> {
        for lane in 0..LANES {
            let position = subscription.position(Topic::TelemetryRaw, partition(lane)).unwrap_or(0);
            desk.catch_up(batch, lane, position)?;
            let now = desk.validator.now(lane);
            let idle = &mut self.idle[lane];
            if idle.now != now {
                *idle = Idle { now, since: Instant::now(), caught_up: false, ..*idle };
            }
            if idle.caught_up && position >= idle.end {
                let waited = i64::try_from(idle.since.elapsed().as_micros()).unwrap_or(i64::MAX);
                desk.pause(batch, lane, now.saturating_add(waited))?;
            } else if moved {
                desk.advance(batch, lane, now)?;
            }
            let now = desk.validator.now(lane);
            if idle.now != now {
                (idle.now, idle.since) = (now, Instant::now()); // something was told: the pause so far is time
            }
        }
        Ok(())
    }

    /// Takes in what was acknowledged and tells the next stage how far this one has come.
    fn land(&mut self, ctx: &ModuleContext) -> Result<(), Error> {
        let Some(checkpoint) = self.flights.landed().map_err(Error::stream(MODULE))? else { return Ok(()) };
        for (lane, reached) in checkpoint.reached.iter().enumerate() {
            if let Some(reached) = reached {
                ctx.live.set_reached(Stage::Clean, lane, *reached);
            }
        }
        self.memory.release(checkpoint.states);
        self.acknowledged = Some(checkpoint);
        Ok(())
    }

    /// Waits for everything under way.
    fn land_all(&mut self) -> Result<(), Error> {
        if let Some(checkpoint) = self.flights.land_all(STOP_MAX).map_err(Error::stream(MODULE))? {
            self.memory.release(checkpoint.states);
            self.acknowledged = Some(checkpoint);
        }
        Ok(())
    }

    /// The last word of a run that was asked to stop: everything acknowledged, all states saved, all committed. The next
    /// run, with other rules perhaps, begins exactly here (VAL-25).
    fn close(
        &mut self,
        ctx: &ModuleContext,
        producer: &Producer,
        subscription: &Subscription,
        desk: &mut Desk<'_>,
    ) -> Result<(), Error> {
        // a group may wait already; the second turn saves what changed behind it
        for _ in 0..2 {
            self.land_all()?;
            self.collect(desk, true, true);
            let all_landed = self.flights.is_empty();
            if all_landed {
                self.memory.release(self.memory.made());
            }
            let batch = producer.batch();
            self.memory.send(ctx, &batch)?;
            let pending = batch.finish();
            let checkpoint = self.checkpoint(subscription, desk, [None; LANES]);
            self.flights.push(pending, checkpoint);
        }
        self.land_all()?;
        self.commit(subscription)
    }

    /// Commits what was acknowledged.
    fn commit(&mut self, subscription: &Subscription) -> Result<(), Error> {
        let Some(checkpoint) = self.acknowledged.take() else { return Ok(()) };
        let mut positions = Vec::new();
        for lane in 0..LANES {
            let inputs = [
                (Topic::TelemetryRaw, checkpoint.telemetry[lane], self.replayed_telemetry[lane], OF_READINGS),
                (Topic::EventsRaw, checkpoint.events[lane], self.replayed_events[lane], OF_EVENTS),
                (Topic::ControlCommands, checkpoint.commands[lane], None, 0..0),
            ];
            for (input, next, replayed, outputs) in inputs {
                let committed = match input {
                    Topic::EventsRaw => &mut self.committed_events[lane],
                    Topic::ControlCommands => &mut self.committed_commands[lane],
                    _ => &mut self.committed_telemetry[lane],
                };
                let replay_from = Some(checkpoint.replay_from[lane]);
                let saved = input == Topic::TelemetryRaw && replay_from > self.committed_replay[lane];
                if next < *committed || next == *committed && !saved {
                    continue; // nothing new, or still reading what was committed
                }
                *committed = next;
                if input == Topic::TelemetryRaw {
                    self.committed_replay[lane] = replay_from;
                }
                let replaying = replayed.is_some_and(|newest| next <= newest);
                let mark = |output: usize| {
                    let old = self.old_marks[output][lane].unwrap_or(0);
                    let mark = if replaying { old } else { checkpoint.ends[output][lane] };
                    let told = TOLD.iter().position(|told| *told == output).map(|at| checkpoint.told[lane][at]);
                    (OUTPUTS[output].name(), told.map_or(mark, |told| told.min(mark)))
                };
                let mut marks: Vec<(&str, i64)> = outputs.map(mark).collect();
                if input == Topic::TelemetryRaw {
                    marks.extend(memory::marks_of(checkpoint.replay_from[lane]));
                }
                positions.push(Position {
                    topic: input.name().to_owned(),
                    partition: partition(lane),
                    offset: next,
                    metadata: marks::write(&marks),
                });
            }
        }
        subscription.commit(&positions).map_err(Error::stream(MODULE))
    }

    /// Asks for the ends of all topics: marks for the next commits, the lag, and lanes that have been read to their end.
    fn survey(
        &mut self,
        ctx: &ModuleContext,
        producer: &Producer,
        subscription: &Subscription,
        desk: &Desk<'_>,
    ) -> Result<(), Error> {
        let now = ctx.clock.now();
        let inputs = self.ask_ends(subscription)?;
        for lane in 0..LANES {
            // before, the ends lie behind what is yet to be told again
            if self.has_caught_up(subscription, lane) && desk.has_told_all(lane) {
                self.trails[lane].note(desk.validator.place(lane), TOLD.map(|output| self.ends[output][lane]));
            }
        }
        let mut reached = [None; LANES];
        self.lag = 0;
        for lane in 0..LANES {
            let behind = |topic, end: i64| (end - subscription.position(topic, partition(lane)).unwrap_or(0)).max(0);
            let telemetry = behind(Topic::TelemetryRaw, inputs[0][lane]);
            self.lag += telemetry + behind(Topic::EventsRaw, inputs[1][lane]);
            reached[lane] = (telemetry == 0).then_some(now);
            let idle = &mut self.idle[lane];
            if telemetry == 0 && !idle.caught_up {
                idle.since = Instant::now();
            }
            (idle.caught_up, idle.end) = (telemetry == 0, inputs[0][lane]);
        }
        // an empty batch behind the others under way: acknowledged when they are
        let checkpoint = self.checkpoint(subscription, desk, reached);
        self.flights.push(producer.batch().finish(), checkpoint);
        self.land(ctx)
    }

    /// Refreshes the ends of the outputs and returns those of the two inputs.
    fn ask_ends(&mut self, subscription: &Subscription) -> Result<[[i64; LANES]; 2], Error> {
        let names: Vec<(&str, i32)> =
            std::iter::once(Topic::TelemetryRaw).chain(OUTPUTS).map(|topic| (topic.name(), PARTITIONS)).collect();
        let ends = subscription.consumer().ends(&names).map_err(Error::stream(MODULE))?;
        self.ends = OUTPUTS.map(|topic| by_lane(&ends, topic));
        Ok([by_lane(&ends, Topic::TelemetryRaw), by_lane(&ends, Topic::EventsRaw)])
    }
}
