//! Commands about alarms from this machine: written to `control.commands`, carried out by the engine, answered (ALM-18).
//!
//! A command is durable before it is carried out, so a crash between loses none; whoever sent it waits for the answer, and
//! may send it again under the same name.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use kafka::client::Producer;
use model::{Quality, TextList, TextMap, Value};
use serde::Deserialize;
use serde_json::Value as Json;
use stream::message::Event;
use stream::topics::PARTITIONS;
use stream::{Topic, header, partitioner};
use tokio::time::Instant;

use crate::api::Problem;
use crate::modules::{AlarmTable, COMMAND, ModuleContext};

/// How long a command may take to be stored, and then to be answered.
const STORED_MAX: Duration = Duration::from_secs(10);
const ANSWERED_MAX: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const TEXT_MAX: usize = 2048;

/// What a person asks for, as the API takes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// `ack`, `shelve`, `suppress`, `unshelve`, `out_of_service`, `return_to_service`, `reset` or `comment`.
    pub action: String,
    /// An occurrence (`gateway/asset/alarm/number`) or an alarm (`gateway/asset/alarm`).
    pub target: String,
    /// Who, and in which role: `operator` or `engineer`.
    pub by: String,
    pub role: String,
    pub comment: String,
    pub duration_ms: Option<i64>,
    pub one_shot: bool,
    /// The same command again; a new one when absent.
    pub command_id: Option<String>,
}

/// The list of alarms, and a way to send commands. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AlarmDesk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: Arc<AlarmTable>,
    /// Set once the stream is there.
    sender: Mutex<Option<Sender>>,
    sequence: AtomicI64,
}

#[derive(Debug)]
struct Sender {
    ctx: ModuleContext,
    producer: Producer,
}

impl AlarmDesk {
    pub fn table(&self) -> Arc<AlarmTable> {
        Arc::clone(&self.0.table)
    }

    /// The stream is there: commands may come.
    pub fn start(&self, ctx: &ModuleContext) -> Result<(), kafka::client::Error> {
        let producer = Producer::open(&ctx.settings)?;
        // numbers of this source go on over starts, as long as no clock falls behind a number that was given
        self.0.sequence.fetch_max(ctx.clock.now().as_micros(), Ordering::AcqRel);
        *self.0.sender.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sender { ctx: ctx.clone(), producer });
        Ok(())
    }

    /// Stores a command and waits for its answer; blocking.
    pub fn send(&self, request: &Request) -> Result<Json, Problem> {
        let asset = request.target.split('/').nth(1).unwrap_or("");
        if asset.is_empty() {
            return Err(Problem::bad_request(
                "target names an alarm as the list does: gateway/asset/alarm or an occurrence",
            ));
        }
        if request.comment.len() > TEXT_MAX || request.target.len() > TEXT_MAX {
            return Err(Problem::bad_request(format!("texts have at most {TEXT_MAX} bytes")));
        }
        let sequence = self.0.sequence.fetch_add(1, Ordering::AcqRel);
        let command_id = request.command_id.clone().unwrap_or_else(|| format!("local-{sequence}"));
        self.store(request, asset, sequence, &command_id)?;
        let until = Instant::now() + ANSWERED_MAX;
        loop {
            if let Some(answer) = self.0.table.answer(&command_id) {
                return Ok(answer);
            }
            if Instant::now() >= until {
                let text =
                    format!("the command {command_id} is stored and not carried out yet: the validator is behind");
                return Err(Problem::new(StatusCode::ACCEPTED, "PENDING", text));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn store(&self, request: &Request, asset: &str, sequence: i64, command_id: &str) -> Result<(), Problem> {
        let sender = self.0.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Sender { ctx, producer }) = sender.as_ref() else {
            return Err(Problem::unavailable("the stream is not there yet; try again in some seconds"));
        };
        let unavailable = |what: String| Problem::unavailable(format!("the command cannot be stored: {what}"));
        let schema_id = ctx.runtime.block_on(ctx.schemas.id_for(Topic::ControlCommands));
        let schema_id = schema_id.map_err(|error| unavailable(daemon::report(&error)))?;
        let now = ctx.clock.now();
        let (sequence, duration) = (sequence.to_string(), request.duration_ms.map(|ms| ms.to_string()));
        let details = [
            ("command_id", command_id),
            ("source", "local"),
            ("sequence", &sequence),
            ("target", &request.target),
            ("action", &request.action),
            ("actor", &request.by),
            ("role", &request.role),
            ("one_shot", if request.one_shot { "true" } else { "false" }),
            ("duration_ms", duration.as_deref().unwrap_or("")),
        ];
        let event = Event {
            event_id: command_id,
            event_type: COMMAND,
            asset_id: asset,
            parameter: None,
            from_state: None,
            to_state: None,
            severity: None,
            time_source: model::time_source::GATEWAY,
            occurred_after: None,
            edge: None,
            initial: false,
            missed_window: false,
            message: &request.comment,
            value: Value::Null,
            unit: None,
            quality: Quality::Good,
            quality_reason: None,
            device_time: now,
            gateway_time: now,
            epoch: 0,
            seq: 0,
            flags: TextList::default(),
            metadata: TextMap::Slice(&[("gateway_id", &ctx.gateway_id)]),
            details: TextMap::Slice(&details),
        };
        let mut payload = Vec::new();
        event.encode(&mut payload, schema_id);
        let headers: [(&str, &[u8]); 1] = [(header::EVENT, COMMAND.as_bytes())];
        let batch = producer.batch();
        let partition = partitioner::partition_for(asset.as_bytes(), PARTITIONS);
        batch
            .send(Topic::ControlCommands.name(), partition, asset.as_bytes(), &payload, now.as_millis(), &headers)
            .map_err(|error| unavailable(daemon::report(&error)))?;
        match batch.finish().wait(STORED_MAX) {
            Ok(true) => Ok(()),
            Ok(false) => Err(unavailable("the stream does not acknowledge".to_owned())),
            Err(error) => Err(unavailable(daemon::report(&error))),
        }
    }
}
