//! The validator's loop: `telemetry.raw` to `telemetry.clean` and the dead letters, `events.raw` to `events.clean`.
//!
//! It polls, has every record judged by [`desk::Desk`], keeps a few batches under way, and commits behind their
//! acknowledgements. After a start it reads a bounded piece before the commit again, with all outputs held back, so that
//! the rules remember what they saw.

mod desk;
mod events;
mod letters;
mod tally;

use std::time::Duration;

use kafka::client::{Consumer, Position, Producer, Record};
use model::{Health, Timestamp};
use pipeline::resume::{Output, Resume};
use stream::publisher::read_source;
use stream::topics::PARTITIONS;
use stream::{Start, Subscription, Topic, header};
use tokio::time::Instant;

use self::desk::{Desk, Ids};
use super::flight::Flights;
use super::live::Stage;
use super::marks::{self, Begin, LANES, by_lane, look_back, partition};
use super::state::ValidatorMeters;
use super::{Error, ModuleContext, ModuleState, loss, pace};

const MODULE: &str = "validator";
const GROUP: &str = "sf-validator";
/// Records per partition read again before the commit, to remember duplicates and rates (VAL-23).
const WARM_UP_RECORDS: i64 = 2000;
/// How long an idle loop waits for the first record.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// How often offsets are committed and the ends of the topics are asked for.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for acknowledgements.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Records behind which the module counts as DEGRADED.
const LAG_MAX: i64 = 1_000_000;

/// The topics this module writes, in the order of [`Ends`].
const OUTPUTS: [Topic; 5] =
    [Topic::TelemetryClean, Topic::DlqTelemetry, Topic::EventsRaw, Topic::EventsClean, Topic::DlqEvents];

/// Next offset of every partition of [`OUTPUTS`].
type Ends = [[i64; LANES]; 5];

/// What may be committed once a batch is acknowledged.
#[derive(Debug, Clone)]
struct Checkpoint {
    telemetry: [i64; LANES],
    events: [i64; LANES],
    /// Ends of the outputs when the batch began, or before.
    ends: Ends,
    /// Lanes whose input was read up to its end at this time.
    reached: [Option<Timestamp>; LANES],
}

/// Validates until the stop token is cancelled; blocking.
pub fn run_validator(ctx: &ModuleContext, settings: &config::Validation, state: &ModuleState) -> Result<(), Error> {
    let meters = ValidatorMeters::of(state, &ctx.metrics).expect("a state is handed to one module only");
    state.set_health(Health::Degraded, "starting: reading back what is already written");
    let ids = Ids::ask(ctx)?;
    let producer = Producer::open(&ctx.settings).map_err(Error::stream(MODULE))?;
    let (mut subscription, mut progress) = open(ctx)?;
    let mut desk = Desk::new(ctx, settings, meters, ids, progress.take_resumes());
    state.set_health(Health::Healthy, "validating");
    let ended = run(ctx, state, meters, &producer, &mut subscription, &mut progress, &mut desk);
    state.move_lag(progress.lag, 0);
    match ended {
        Err(Error::Stopped) | Ok(()) => {
            if let Some(checkpoint) = progress.flights.land_all(STOP_MAX).map_err(Error::stream(MODULE))? {
                progress.acknowledged = Some(checkpoint);
            }
            progress.commit(&subscription)?;
            Ok(())
        }
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
        desk.finish_batch(state, &ctx.live);
        let pending = batch.finish();
        if last_batch > 0 || !gaps.is_empty() {
            let checkpoint = progress.checkpoint(subscription, [None; LANES]);
            progress.flights.push(pending, checkpoint);
        }
        progress.land(ctx)?;
        let slow = || state.set_health(Health::Degraded, "the stream is slow to acknowledge");
        progress.flights.wait_for_room(&ctx.stop, slow).map_err(Error::stream(MODULE))?;
        progress.land(ctx)?;
        if housekeeping.elapsed() >= HOUSEKEEPING_EVERY {
            housekeeping = Instant::now();
            progress.commit(subscription)?;
            progress.survey(ctx, producer, subscription)?;
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
    /// Marks of the commit this run began with, and the newest source its outputs name: up to there the old marks hold.
    old_marks: [[Option<i64>; LANES]; 5],
    replayed_telemetry: [Option<i64>; LANES],
    replayed_events: [Option<i64>; LANES],
    resumes: Option<(Vec<Resume>, Vec<Resume>)>,
    lag: i64,
    lag_told: i64,
}

/// Finds out where to begin and what is already written, and opens the subscription there.
fn open(ctx: &ModuleContext) -> Result<(Subscription, Progress), Error> {
    let stream = Error::stream(MODULE);
    let consumer = Consumer::open(&ctx.settings, GROUP).map_err(&stream)?;
    let telemetry = marks::begins(&consumer, Topic::TelemetryRaw).map_err(&stream)?;
    let events = marks::begins(&consumer, Topic::EventsRaw).map_err(&stream)?;
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
        let Some(output) = output_of(topic, record) else { return };
        let source = record.header(header::SOURCE).and_then(|value| read_source(value, input.name(), partition(lane)));
        // a source beyond the input's end speaks of another log
        if let Some(source) = source.filter(|source| *source < begins[lane].end) {
            resumes[lane].note(output, source);
        }
    })
    .map_err(&stream)?;
    let position = |topic: Topic, lane: usize, offset: i64| Position {
        topic: topic.name().to_owned(),
        partition: partition(lane),
        offset,
        metadata: String::new(),
    };
    let mut positions = Vec::with_capacity(2 * LANES);
    for (lane, begin) in telemetry.iter().enumerate() {
        // where the log begins behind the commit the gap is found by the subscription
        let warm = |committed: i64| (committed - WARM_UP_RECORDS).max(begin.first).min(committed);
        positions.push(position(Topic::TelemetryRaw, lane, begin.committed.map_or(begin.first, warm)));
    }
    for (lane, begin) in events.iter().enumerate() {
        positions.push(position(Topic::EventsRaw, lane, begin.committed.unwrap_or(begin.first)));
    }
    let topics = [Topic::TelemetryRaw, Topic::EventsRaw];
    let subscription = Subscription::over(consumer, &topics, &Start::At(positions)).map_err(&stream)?;
    let newest = |resumes: &[Resume]| std::array::from_fn(|lane| resumes[lane].newest());
    let committed = |begins: &[Begin]| std::array::from_fn(|lane| begins[lane].committed.unwrap_or(0));
    let mut progress = Progress {
        flights: Flights::default(),
        acknowledged: None,
        ends: [[0; LANES]; 5],
        committed_telemetry: committed(&telemetry),
        committed_events: committed(&events),
        old_marks,
        replayed_telemetry: newest(&of_telemetry),
        replayed_events: newest(&of_events),
        resumes: Some((of_telemetry, of_events)),
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

    fn checkpoint(&self, subscription: &Subscription, reached: [Option<Timestamp>; LANES]) -> Checkpoint {
        let next = |topic| std::array::from_fn(|lane| subscription.position(topic, partition(lane)).unwrap_or(0));
        Checkpoint { telemetry: next(Topic::TelemetryRaw), events: next(Topic::EventsRaw), ends: self.ends, reached }
    }

    /// Takes in what was acknowledged and tells the next stage how far this one has come.
    fn land(&mut self, ctx: &ModuleContext) -> Result<(), Error> {
        let Some(checkpoint) = self.flights.landed().map_err(Error::stream(MODULE))? else { return Ok(()) };
        for (lane, reached) in checkpoint.reached.iter().enumerate() {
            if let Some(reached) = reached {
                ctx.live.set_reached(Stage::Clean, lane, *reached);
            }
        }
        self.acknowledged = Some(checkpoint);
        Ok(())
    }

    /// Commits what was acknowledged.
    fn commit(&mut self, subscription: &Subscription) -> Result<(), Error> {
        let Some(checkpoint) = self.acknowledged.take() else { return Ok(()) };
        let mut positions = Vec::new();
        for lane in 0..LANES {
            let inputs = [
                (Topic::TelemetryRaw, checkpoint.telemetry[lane], self.replayed_telemetry[lane], 0..3),
                (Topic::EventsRaw, checkpoint.events[lane], self.replayed_events[lane], 3..5),
            ];
            for (input, next, replayed, outputs) in inputs {
                let committed = match input {
                    Topic::EventsRaw => &mut self.committed_events[lane],
                    _ => &mut self.committed_telemetry[lane],
                };
                if next <= *committed {
                    continue; // nothing new, or still warming up
                }
                *committed = next;
                let replaying = replayed.is_some_and(|newest| next <= newest);
                let mark = |output: usize| {
                    let old = self.old_marks[output][lane].unwrap_or(0);
                    (OUTPUTS[output].name(), if replaying { old } else { checkpoint.ends[output][lane] })
                };
                let marks: Vec<(&str, i64)> = outputs.map(mark).collect();
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
    fn survey(&mut self, ctx: &ModuleContext, producer: &Producer, subscription: &Subscription) -> Result<(), Error> {
        let now = ctx.clock.now();
        let inputs = self.ask_ends(subscription)?;
        let mut reached = [None; LANES];
        self.lag = 0;
        for lane in 0..LANES {
            let behind = |topic, end: i64| (end - subscription.position(topic, partition(lane)).unwrap_or(0)).max(0);
            let telemetry = behind(Topic::TelemetryRaw, inputs[0][lane]);
            self.lag += telemetry + behind(Topic::EventsRaw, inputs[1][lane]);
            reached[lane] = (telemetry == 0).then_some(now);
        }
        // an empty batch behind the others under way: acknowledged when they are
        let checkpoint = self.checkpoint(subscription, reached);
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
