//! The aggregator: windows of a second from clean readings, of a minute from seconds, of an hour from minutes.
//!
//! Each resolution is a consumer group on the level below with a loop on a thread of its own, [`cascade`]; all share one
//! producer. The windows themselves are pure, see `pipeline::aggregate`.

mod cascade;
mod children;
mod inputs;
mod recall;

use kafka::client::Producer;
use model::Health;
use pipeline::aggregate::Plans;

use self::cascade::Step;
use super::state::AggregatorMeters;
use super::{Error, ModuleContext, ModuleState};

const MODULE: &str = "aggregator";

/// Aggregates until the stop token is cancelled; blocking. One failing level ends all.
pub fn run_aggregator(ctx: &ModuleContext, settings: &config::Aggregation, state: &ModuleState) -> Result<(), Error> {
    let meters = AggregatorMeters::of(state, &ctx.metrics).expect("a state is handed to one module only");
    if settings.resolutions.is_empty() {
        state.set_health(Health::Healthy, "no resolution is configured");
        ctx.runtime.block_on(ctx.stop.cancelled());
        return Ok(());
    }
    let producer = Producer::open(&ctx.settings).map_err(Error::stream(MODULE))?;
    state.set_health(Health::Healthy, "aggregating");
    let level_ctx = ModuleContext { stop: ctx.stop.child_token(), ..ctx.clone() };
    let plans = Plans::new(settings);
    let (level_ctx, producer, plans) = (&level_ctx, &producer, &plans);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        let mut ended = Ok(());
        for resolution in &settings.resolutions {
            let step = Step::new(*resolution);
            let level = resolution.as_str();
            let body = move || {
                let ended = cascade::run(level_ctx, step, plans, producer, state, meters);
                level_ctx.stop.cancel(); // whoever ends takes the others along
                ended
            };
            match std::thread::Builder::new().name(format!("aggregate-{level}")).spawn_scoped(scope, body) {
                Ok(thread) => threads.push((level, thread)),
                Err(source) => {
                    level_ctx.stop.cancel();
                    ended = Err(Error::Thread { level, source });
                    break;
                }
            }
        }
        for (level, thread) in threads {
            let result = thread.join().unwrap_or_else(|_| {
                level_ctx.stop.cancel();
                Err(Error::Panicked { level })
            });
            if ended.is_ok() && !matches!(result, Err(Error::Stopped)) {
                ended = result;
            }
        }
        ended
    })
}
