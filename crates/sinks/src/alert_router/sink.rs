//! The `alert_router` as a sink: records go to the [`Engine`], positions come from its memory.

use std::path::PathBuf;
use std::sync::Arc;

use model::{Clock, Health, Timestamp};
use stream::Topic;

use super::dispatch::Standing as DestinationStanding;
use super::engine::Engine;
use super::letters::Letters;
use super::metrics::RouterMetrics;
use super::notice::{Notice, Transition};
use super::plan::Plan;
use super::send::Sender;
use crate::batch::Batch;
use crate::dead_letters::reason;
use crate::error::TargetError;
use crate::sink::{Outcome, Refusal, Resume, Sink, Standing};

/// A destination that fails for so long is worth a look at night (RTE-10).
const FAILS_TOO_LONG_MICROS: i64 = 5 * 60 * 1_000_000;

/// The sink.
pub struct AlertRouterSink {
    /// What the engine is made of, until it runs.
    parts: Option<Parts>,
    engine: Option<Engine>,
    memory: PathBuf,
    clock: Arc<dyn Clock>,
}

struct Parts {
    plan: Plan,
    sender: Sender,
    letters: Box<dyn Letters>,
    metrics: RouterMetrics,
}

impl std::fmt::Debug for AlertRouterSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertRouterSink").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl AlertRouterSink {
    /// `memory` is the file that the router remembers in.
    pub fn new(
        plan: Plan,
        sender: Sender,
        letters: Box<dyn Letters>,
        memory: PathBuf,
        clock: Arc<dyn Clock>,
        metrics: RouterMetrics,
    ) -> Self {
        Self { parts: Some(Parts { plan, sender, letters, metrics }), engine: None, memory, clock }
    }

    fn failed(&self, doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TargetError {
        TargetError::Failed { target: self.memory.display().to_string(), doing, source: source.into() }
    }
}

impl Sink for AlertRouterSink {
    async fn connect(&mut self, _topics: &[Topic]) -> Result<Resume, TargetError> {
        if let Some(parts) = self.parts.take() {
            let Parts { plan, sender, letters, metrics } = parts;
            // a memory that cannot be opened ends the engine's parts: the process is started again
            let engine = Engine::start(plan, sender, letters, &self.memory, Arc::clone(&self.clock), metrics);
            self.engine = Some(engine.map_err(|error| self.failed("opening the router's memory", error))?);
        }
        match &self.engine {
            Some(engine) => Ok(Resume::AtOrCommitted(engine.places())),
            None => {
                Err(self.failed("opening the router's memory", "it could not be opened at the start of this process"))
            }
        }
    }

    async fn write(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        let mut entries = Vec::with_capacity(batch.len());
        let mut refusals = Vec::new();
        for (index, record) in batch.iter() {
            let decoded = stream::avro::unframe(record.payload)
                .map_err(|error| error.to_string())
                .and_then(|(_, body)| stream::message::alarm::decode(body).map_err(|error| error.to_string()));
            match decoded {
                Ok(alarm) => {
                    let notice = Notice::of(&alarm, record.place.partition, record.place.offset);
                    entries.push((notice, Transition::of(&alarm)));
                }
                Err(detail) => refusals.push(Refusal { index, reason: reason::DECODE_ERROR, detail }),
            }
        }
        if !refusals.is_empty() {
            return Ok(Outcome::Refused(refusals));
        }
        let Some(engine) = &self.engine else {
            return Err(TargetError::NotConnected { target: self.memory.display().to_string() });
        };
        let ends = batch.ends().to_vec();
        let taken = engine.take(entries, ends.clone()).await;
        taken.map_err(|reason| self.failed("writing the router's memory", reason))?;
        Ok(Outcome::Taken { confirmed: ends })
    }

    fn standing(&self) -> Standing {
        let destinations = self.engine.as_ref().map(Engine::standings).unwrap_or_default();
        let (health, reason) = judge(&destinations, self.clock.now());
        let detail = |standing: &DestinationStanding| {
            serde_json::json!({
                "destination": standing.name, "channel": standing.channel, "waiting": standing.waiting,
                "bundled": standing.bundled, "delivered": standing.delivered, "breaker": standing.breaker,
                "failing_since": standing.trouble.as_ref().map(|trouble| trouble.since.to_string()),
                "reason": standing.trouble.as_ref().map(|trouble| trouble.reason.clone()),
            })
        };
        let details = destinations.iter().map(detail).collect::<Vec<_>>().into();
        let given_up = destinations.iter().filter_map(|to| Some(format!("{}: {}", to.name, to.given_up.as_ref()?)));
        let given_up: Vec<String> = given_up.collect();
        // the runtime makes an alarm of it (RTE-09)
        let failed = serde_json::json!({ "condition": "notification_failed", "message": given_up.join("; ") });
        let conditions = if given_up.is_empty() { Vec::new() } else { vec![failed] }.into();
        let target = format!("{} destinations", destinations.len());
        Standing { target, health, reason, details: vec![("destinations", details), ("conditions", conditions)] }
    }
}

/// One destination that fails is trouble; all of them, or one for long, is an emergency: nobody may hear of the next alarm.
fn judge(destinations: &[DestinationStanding], now: Timestamp) -> (Health, String) {
    let failing: Vec<_> = destinations.iter().filter_map(|to| Some((to, to.trouble.as_ref()?))).collect();
    let Some((first, trouble)) = failing.iter().min_by_key(|(_, trouble)| trouble.since) else {
        return (Health::Healthy, String::new());
    };
    let text = format!(
        "{} of {} destinations fail; {} since {}: {}; {} messages wait there and are tried again",
        failing.len(),
        destinations.len(),
        first.name,
        trouble.since,
        trouble.reason,
        first.waiting,
    );
    let is_long = now.micros_since(trouble.since) > FAILS_TOO_LONG_MICROS;
    let health = if is_long || failing.len() == destinations.len() { Health::Unhealthy } else { Health::Degraded };
    (health, text)
}
