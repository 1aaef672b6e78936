//! The alarm engine beside the validator: fed with what it judged, its transitions written to `alarms.clean`.
//!
//! A transition has a name, its alarm's key and number; one that is behind the marks already is not written again. It
//! says where its lane stood, so that a replay comes to it at the same place. Its
//! state is saved with the asset's other state, so both are of the same moment. Commands come through
//! `control.commands`, are answered on `control.results`, and both are noted in `audit` (ALM-17, ALM-18).

use kafka::client::Batch;
use model::{Quality, Reading, Severity, SuppressionKind, TextList, TextMap, Timestamp, Value};
use pipeline::alarm::{
    Action, Command, CommandAnswer, ConditionEvent, DeviceEvent, Engine, Input, Now, RefreshEvent, Role, Source,
    SystemEvent, Transition,
};
use pipeline::resume::Resume;
use pipeline::validate::{Judgement, Rejection, Validator, Verdict};
use serde_json::json;
use stream::message::{Event, alarm, json};
use stream::publisher::write_place;
use stream::{Topic, header};

use crate::modules::alarm_table::AlarmSnapshot;
use crate::modules::marks::{LANES, partition};
use crate::modules::{Error, ModuleContext, outlet};
use crate::system_state;

/// Event type on `control.results`.
const RESULT: &str = "alarm.command.result";
/// Handle of a point that no alarm watches; 0 is one that was not asked for yet.
const NOT_WATCHED: u32 = u32::MAX;

/// Where transitions go.
#[derive(Debug)]
pub(super) struct Alarms {
    engine: Engine,
    schema_id: i32,
    control_id: i32,
    audit_id: i32,
    config_revision: String,
    payload: Vec<u8>,
    name: String,
    place: String,
    /// Transitions written, and announced, since the last flush.
    pub(super) written: u64,
    pub(super) announced: u64,
    stale: bool,
    /// Steady time of what was told since this was asked last.
    told: Option<i64>,
    /// No rules, and nothing of the gateway itself: the engine is spared.
    idle: bool,
}

/// What a batch needs to be written into.
#[derive(Clone, Copy)]
pub(super) struct Way<'w, 'b> {
    pub(super) ctx: &'w ModuleContext,
    pub(super) batch: &'w Batch<'b>,
    pub(super) resume: &'w Resume,
    pub(super) lane: usize,
    /// Where the lane stands: offset of the next reading, and steady time.
    pub(super) at: (i64, i64),
}

impl Alarms {
    pub(super) fn new(
        settings: &config::Alarms,
        gateway_id: &str,
        (schema_id, control_id, audit_id): (i32, i32, i32),
        config_revision: &str,
    ) -> Self {
        Self {
            engine: Engine::new(settings, gateway_id, LANES),
            schema_id,
            control_id,
            audit_id,
            config_revision: config_revision.to_owned(),
            payload: Vec::with_capacity(512),
            name: String::new(),
            place: String::new(),
            written: 0,
            announced: 0,
            stale: true,
            told: None,
            idle: settings.rules.is_empty(),
        }
    }

    /// Takes back what was saved of an asset.
    pub(super) fn restore(&mut self, lane: usize, asset: &str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.idle = false;
        if let Err(error) = self.engine.restore_asset(lane, asset, bytes) {
            tracing::warn!(asset, error = %error, "the saved alarms of an asset cannot be read: they begin anew");
        }
    }

    pub(super) fn restore_kpis(&mut self, bytes: &[u8]) {
        if let Err(error) = self.engine.restore_kpis(bytes) {
            tracing::warn!(error = %error, "the saved figures of alarms cannot be read: they begin anew");
        }
    }

    pub(super) fn save_kpis(&self, out: &mut Vec<u8>) {
        self.engine.save_kpis(out);
    }

    pub(super) fn save_asset(&self, lane: usize, asset: &str, out: &mut Vec<u8>) {
        self.engine.save_asset(lane, asset, out);
    }

    pub(super) fn begin_at(&mut self, lane: usize, steady: i64) {
        self.engine.begin_at(lane, steady);
    }

    /// A judged reading. `handle` is kept with its point.
    #[inline]
    pub(super) fn reading(
        &mut self,
        way: Way<'_, '_>,
        handle: &mut u32,
        now: Now,
        reading: &Reading<'_>,
        judged: &Judgement,
    ) -> Result<(), Error> {
        if *handle == NOT_WATCHED {
            return Ok(());
        }
        if *handle == 0 {
            *handle = match self.engine.watch(way.lane, reading.asset_id, reading.parameter) {
                0 => NOT_WATCHED,
                watched => watched,
            };
            if *handle == NOT_WATCHED {
                return Ok(());
            }
        }
        let rejected = matches!(judged.verdict, Verdict::Reject(Rejection::Found(_)));
        let input = Input {
            value: judged.converted.map_or(reading.value, Value::Float),
            unit: reading.unit,
            quality: if rejected { Quality::Bad } else { judged.quality },
            reason: judged.reason.or(reading.quality_reason),
            codes: judged.codes,
            device_time: judged.device_time,
            flags: reading.flags,
        };
        let handle = *handle;
        self.tell(way, |engine, out| engine.reading(way.lane, handle, now, &input, out))
    }

    /// A point fell silent.
    pub(super) fn stale(&mut self, way: Way<'_, '_>, handle: u32, now: Now) -> Result<(), Error> {
        if handle == 0 || handle == NOT_WATCHED {
            return Ok(());
        }
        self.tell(way, |engine, out| engine.stale(way.lane, handle, now, out))
    }

    /// A device does not answer, or does again.
    pub(super) fn device(&mut self, way: Way<'_, '_>, now: Now, event: &Event<'_>) -> Result<(), Error> {
        let Some(device) = event.details.get("device") else { return Ok(()) };
        let device = DeviceEvent {
            adapter: event.asset_id,
            device,
            down: event.to_state == Some("DOWN"),
            device_time: event.device_time,
        };
        self.tell(way, |engine, out| engine.device(way.lane, &device, now, out))
    }

    /// The gateway found something wrong with itself, or it is over.
    pub(super) fn system(&mut self, way: Way<'_, '_>, now: Now, event: &Event<'_>) -> Result<(), Error> {
        let Some(condition) = event.details.get("condition") else { return Ok(()) };
        let stands = event.to_state == Some(system_state::RAISED);
        self.idle &= !stands;
        let (part, at) = (event.asset_id, event.device_time);
        let told = SystemEvent { part, condition, stands, message: event.message, at };
        self.tell(way, |engine, out| engine.system(way.lane, &told, now, out))
    }

    /// A source keeps a condition itself, and tells how it is (UA-29).
    pub(super) fn condition(&mut self, way: Way<'_, '_>, now: Now, event: &Event<'_>) -> Result<(), Error> {
        let detail = |name| event.details.get(name);
        let holds = |name| detail(name) == Some("true");
        let Some(condition) = detail("condition") else { return Ok(()) };
        let told = ConditionEvent {
            asset: event.asset_id,
            condition,
            origin: &origin(event),
            order: order(event, "order"),
            active: holds("active"),
            acked: holds("acked"),
            suppression: detail("suppression_kind").and_then(SuppressionKind::parse),
            severity: event.severity.and_then(Severity::parse).unwrap_or(Severity::Medium),
            message: event.message,
            quality: event.quality,
            by_refresh: detail("cleared_by") == Some("refresh"),
            quiet: holds("quiet"),
            actor: detail("client_user"),
            device_time: event.device_time,
        };
        self.idle &= !(told.active || told.suppression.is_some());
        self.tell(way, |engine, out| engine.condition(way.lane, &told, now, out))
    }

    /// A source has told all conditions it has.
    pub(super) fn refreshed(&mut self, way: Way<'_, '_>, now: Now, event: &Event<'_>) -> Result<(), Error> {
        if event.details.get("whole") != Some("true") {
            return Ok(()); // what ended was told one by one
        }
        let told = RefreshEvent {
            asset: event.asset_id,
            origin: &origin(event),
            since: order(event, "since"),
            order: order(event, "order"),
        };
        self.tell(way, |engine, out| engine.refreshed(way.lane, &told, now, out))
    }

    /// Lets the lane's time pass.
    pub(super) fn advance(&mut self, way: Way<'_, '_>, now: Now) -> Result<(), Error> {
        if self.engine.next_deadline(way.lane).is_none_or(|deadline| deadline > now.steady) {
            return Ok(());
        }
        self.tell(way, |engine, out| engine.advance(way.lane, now, out))
    }

    /// What the rules do not say any more comes to an end.
    pub(super) fn reconcile(&mut self, way: Way<'_, '_>, now: Now) -> Result<(), Error> {
        self.tell(way, |engine, out| engine.reconcile(way.lane, now, out))
    }

    /// Carries a command out and answers it.
    pub(super) fn command(&mut self, way: Way<'_, '_>, now: Now, offset: i64, event: &Event<'_>) -> Result<(), Error> {
        let detail = |name| event.details.get(name);
        let number = |name| detail(name).and_then(|text: &str| text.parse::<i64>().ok());
        let Some(action) =
            action(detail("action").unwrap_or(""), number("duration_ms"), detail("one_shot") == Some("true"))
        else {
            tracing::warn!(offset, "a command asks for something unknown and is ignored");
            return Ok(());
        };
        let command = Command {
            command_id: detail("command_id").unwrap_or(""),
            source: if detail("source") == Some("control_plane") { Source::ControlPlane } else { Source::Local },
            sequence: number("sequence").unwrap_or(0),
            target: detail("target").unwrap_or(""),
            action,
            actor: detail("actor").unwrap_or(""),
            role: detail("role").and_then(Role::parse),
            issued_at: event.device_time,
            expires_at: number("expires_at").map(Timestamp::from_micros),
            comment: (!event.message.is_empty()).then_some(event.message),
        };
        let mut answer = None;
        self.tell(way, |engine, out| answer = Some(engine.command(way.lane, now, &command, out)))?;
        let Some(answer) = answer else { return Ok(()) };
        self.answer(way, now, event, &command, answer)
    }

    fn answer(
        &mut self,
        way: Way<'_, '_>,
        now: Now,
        event: &Event<'_>,
        command: &Command<'_>,
        answer: CommandAnswer,
    ) -> Result<(), Error> {
        let reason = answer.result.reason().unwrap_or("");
        let (role, repeated) = (command.role.map_or("", Role::as_str), if answer.repeated { "true" } else { "false" });
        let action = event.details.get("action").unwrap_or("");
        let details = [
            ("command_id", command.command_id),
            ("target", command.target),
            ("action", action),
            ("result", answer.result.as_str()),
            ("reason", reason),
            ("actor", command.actor),
            ("role", role),
            ("repeated", repeated),
        ];
        let message =
            format!("{action} of {} by {}: {} {reason}", command.target, command.actor, answer.result.as_str());
        let id = format!("{}/command/{}", way.ctx.gateway_id, command.command_id);
        let told = Event {
            event_id: &id,
            event_type: RESULT,
            message: message.trim_end(),
            gateway_time: now.wall,
            details: TextMap::Slice(&details),
            value: Value::Null,
            flags: TextList::default(),
            ..*event
        };
        for (topic, schema_id) in [(Topic::ControlResults, self.control_id), (Topic::Audit, self.audit_id)] {
            self.payload.clear();
            told.encode(&mut self.payload, schema_id);
            let headers: [(&str, &[u8]); 2] =
                [(header::EVENT, RESULT.as_bytes()), (header::GATEWAY, way.ctx.gateway_id.as_bytes())];
            let payload = &self.payload;
            outlet::insist(&way.ctx.stop, topic, || {
                let key = event.asset_id.as_bytes();
                way.batch.send(topic.name(), partition(way.lane), key, payload, now.wall.as_millis(), &headers)
            })?;
        }
        let shown = json!({
            "command_id": command.command_id, "target": command.target, "result": answer.result.as_str(),
            "reason": answer.result.reason(), "repeated": answer.repeated,
        });
        way.ctx.alarms.set_answer(command.command_id, shown);
        Ok(())
    }

    /// Runs the engine and writes the transitions it tells of.
    fn tell(
        &mut self,
        way: Way<'_, '_>,
        run: impl FnOnce(&mut Engine, &mut dyn FnMut(&Transition<'_>)),
    ) -> Result<(), Error> {
        let Self {
            engine, schema_id, config_revision, payload, name, place, written, announced, stale, told: any, ..
        } = self;
        let mut outcome = Ok(());
        let (next, steady) = way.at;
        let steady = engine.steady(way.lane).map_or(steady, |reached| reached.max(steady));
        run(engine, &mut |transition| {
            (*stale, *any) = (true, Some(steady));
            if outcome.is_err() {
                return;
            }
            let told = &transition.alarm;
            name.clear();
            name.push_str(told.alarm_key);
            name.push('#');
            stream::publisher::push_number(name, told.seq);
            if !way.resume.may_tell(name) {
                return;
            }
            payload.clear();
            let told = model::Alarm { config_revision: Some(config_revision), ..*told };
            alarm::encode(payload, *schema_id, &told);
            write_place(place, (next, steady));
            let headers: [(&str, &[u8]); 4] = [
                (header::EVENT, told.kind.as_bytes()),
                (header::EVENT_ID, name.as_bytes()),
                (header::TOLD_AT, place.as_bytes()),
                (header::GATEWAY, way.ctx.gateway_id.as_bytes()),
            ];
            outcome = outlet::insist(&way.ctx.stop, Topic::AlarmsClean, || {
                let (key, time) = (told.asset_id.as_bytes(), told.gateway_time.as_millis());
                way.batch.send(Topic::AlarmsClean.name(), partition(way.lane), key, payload, time, &headers)
            });
            *written += 1;
            *announced += u64::from(transition.annunciate);
        });
        outcome
    }

    /// Counts assets whose alarms changed as changed, and lets the lane be where something was told.
    pub(super) fn touch(&mut self, validator: &mut Validator, lane: usize, urgent: Option<&mut Vec<(usize, String)>>) {
        let mut changed = Vec::new();
        self.engine.changed(lane, &mut |asset| changed.push((lane, asset.to_owned())));
        for (lane, asset) in &changed {
            validator.touch(*lane, asset);
        }
        if let Some(urgent) = urgent {
            urgent.extend(changed);
        }
        if let Some(steady) = self.told.take() {
            validator.reach(lane, steady);
        }
    }

    /// Leaves the newest list for others, when something changed or figures move on.
    pub(super) fn publish(&mut self, ctx: &ModuleContext, now: Now) {
        let is_told = ctx.alarms.snapshot().is_complete;
        if !std::mem::replace(&mut self.stale, false) && self.engine.counts().alarms == 0 && is_told {
            return;
        }
        let mut alarms = Vec::new();
        self.engine.alarms(now, &mut |listed| {
            let mut shown = json::alarm(&listed.alarm);
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("shelved_for_ms".to_owned(), json!(listed.shelved_for_ms));
                fields.insert("proposal".to_owned(), json!(listed.proposal));
            }
            alarms.push(shown);
        });
        let kpis = self.engine.kpis(now).iter().map(kpis_json).collect();
        ctx.alarms.publish(AlarmSnapshot { is_complete: true, alarms, kpis });
    }

    /// True when no rule and nothing restored is there to be fed.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }

    /// Alarms there are.
    pub(super) fn count(&self) -> usize {
        self.engine.counts().alarms
    }
}

/// Who tells of conditions: an adapter, through one of its event sources.
fn origin(event: &Event<'_>) -> String {
    let detail = |name| event.details.get(name).unwrap_or("");
    format!("{}/{}", detail("adapter_id"), detail("origin"))
}

/// A number of an adapter's process, as one that grows over its processes too.
fn order(event: &Event<'_>, name: &str) -> i64 {
    const OF_PROCESS: i64 = 1 << 40;
    let number: i64 = event.details.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    event.epoch.saturating_mul(OF_PROCESS).saturating_add(number.clamp(0, OF_PROCESS - 1))
}

fn kpis_json(kpis: &pipeline::alarm::AreaKpis) -> serde_json::Value {
    let [low, medium, high, critical] = kpis.by_severity;
    json!({
        "area": kpis.area, "days": kpis.days, "last_10min": kpis.last_10min, "per_10min": kpis.per_10min,
        "peak_10min": kpis.peak_10min, "today": kpis.today, "per_day": kpis.per_day, "in_flood": kpis.in_flood,
        "floods": kpis.floods, "flood_share": kpis.flood_share, "top10_share": kpis.top10_share,
        "by_severity": { "LOW": low, "MEDIUM": medium, "HIGH": high, "CRITICAL": critical },
        "fleeting": kpis.fleeting, "stale": kpis.stale, "chattering": kpis.chattering, "suppressed": kpis.suppressed,
        "out_of_service_over_a_day": kpis.out_of_service_over_a_day,
    })
}

/// The action of a word; `None` for one that is not known.
fn action(word: &str, duration_ms: Option<i64>, one_shot: bool) -> Option<Action> {
    Some(match word {
        "ack" => Action::Ack,
        "shelve" => Action::Shelve { duration_ms, one_shot },
        "suppress" => Action::Suppress,
        "unshelve" => Action::Unshelve,
        "out_of_service" => Action::OutOfService,
        "return_to_service" => Action::ReturnToService,
        "reset" => Action::Reset,
        "comment" => Action::Comment,
        _ => return None,
    })
}
