//! A plant on a desk: an engine, its clocks, and everything it told.

use std::collections::BTreeMap;

use model::{Quality, TextList, Timestamp, Value};
use pipeline::alarm::{
    Action, AreaKpis, Command, CommandAnswer, CommandResult, DeviceEvent, Engine, Input, Now, Role, Source,
    SystemEvent, Transition,
};
use pipeline::validate::Codes;

pub(crate) const SECOND: i64 = 1_000_000;
/// 2026-01-29T10:00:00Z.
const BEGIN: i64 = 1_769_680_800 * SECOND;

/// One transition, kept.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts (ALM-01)")]
pub(crate) struct Told {
    pub(crate) key: String,
    pub(crate) occurrence: i64,
    pub(crate) seq: i64,
    pub(crate) kind: String,
    pub(crate) severity: String,
    pub(crate) value: Option<f64>,
    pub(crate) limit: Option<f64>,
    pub(crate) quality: Quality,
    pub(crate) condition: bool,
    pub(crate) acked: bool,
    pub(crate) latched: bool,
    pub(crate) from: String,
    pub(crate) state: String,
    pub(crate) isa: String,
    pub(crate) suppression: Option<String>,
    pub(crate) cause: String,
    pub(crate) actor: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) rank: Option<i32>,
    pub(crate) chattering: bool,
    pub(crate) flags: Vec<String>,
    pub(crate) acked_by: Option<String>,
    pub(crate) acked_at: Option<Timestamp>,
    pub(crate) cleared: bool,
    pub(crate) annunciate: bool,
}

impl Told {
    pub(crate) fn of(alarm: &model::Alarm<'_>, annunciate: bool) -> Self {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let (key, number) = alarm.occurrence_id.rsplit_once('/').expect("key and number");
        assert_eq!(key, alarm.alarm_key);
        assert_eq!(alarm.state, alarm.change.to);
        Self {
            key: key.strip_prefix("gw-1/").expect("the gateway's name").to_owned(),
            occurrence: number.parse().expect("a number"),
            seq: alarm.seq,
            kind: alarm.kind.to_owned(),
            severity: alarm.severity.to_owned(),
            value: alarm.value.as_number(),
            limit: alarm.limit,
            quality: alarm.quality,
            condition: alarm.condition_active,
            acked: alarm.acked,
            latched: alarm.latched,
            from: alarm.change.from.to_owned(),
            state: alarm.state.to_owned(),
            isa: alarm.isa_state.to_owned(),
            suppression: text(alarm.suppression_kind),
            cause: alarm.change.cause.to_owned(),
            actor: text(alarm.change.actor),
            comment: text(alarm.change.comment),
            rank: alarm.first_out_rank,
            chattering: alarm.chattering,
            flags: alarm.flags.iter().map(str::to_owned).collect(),
            acked_by: text(alarm.metadata.get("acked_by")),
            acked_at: alarm.acked_at,
            cleared: alarm.cleared_at.is_some(),
            annunciate,
        }
    }

    /// `key state(isa) cause`, with a bell when a person is told.
    pub(crate) fn short(&self) -> String {
        let bell = if self.annunciate { " !" } else { "" };
        format!("{} {}({}) {}{bell}", self.key, self.state, self.isa, self.cause)
    }
}

pub(crate) fn settings(rules: &str) -> config::Alarms {
    let rules = rules.trim().replace('\n', "\n    ");
    let text = format!("version: 1\ngateway_id: gw-1\nalarms:\n  rules:\n    {rules}\n");
    let document = config::parse(&text, &config::Catalog::new([])).unwrap_or_else(|problems| panic!("{problems:#?}"));
    document.alarms
}

#[derive(Debug)]
pub(crate) struct Plant {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    pub(crate) told: Vec<Told>,
    handles: BTreeMap<(String, String), u32>,
    sequence: i64,
    /// Goes with the next commands.
    pub(crate) role: Option<Role>,
}

impl Plant {
    /// `rules` is the list of rules in YAML.
    pub(crate) fn new(rules: &str) -> Self {
        Self {
            engine: Engine::new(&settings(rules), "gw-1", 1),
            now: Now { steady: 0, wall: Timestamp::from_micros(BEGIN), wall_trusted: true },
            told: Vec::new(),
            handles: BTreeMap::new(),
            sequence: 0,
            role: Some(Role::Operator),
        }
    }

    /// Lets so many seconds pass.
    pub(crate) fn wait(&mut self, seconds: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a test")]
        let micros = (seconds * 1e6) as i64;
        self.now.steady += micros;
        self.now.wall = self.now.wall.plus_micros(micros);
        let Self { engine, now, told, .. } = self;
        engine.advance(0, *now, &mut |transition| told.push(keep(transition)));
    }

    fn handle(&mut self, asset: &str, parameter: &str) -> u32 {
        let engine = &mut self.engine;
        let place = self.handles.entry((asset.to_owned(), parameter.to_owned()));
        *place.or_insert_with(|| engine.watch(0, asset, parameter))
    }

    /// A reading as it is.
    pub(crate) fn input(&mut self, asset: &str, parameter: &str, input: &Input<'_>) {
        let handle = self.handle(asset, parameter);
        let Self { engine, now, told, .. } = self;
        engine.reading(0, handle, *now, input, &mut |transition| told.push(keep(transition)));
    }

    fn now_input(&self, value: Value<'static>) -> Input<'static> {
        Input {
            value,
            unit: Some("bar"),
            quality: Quality::Good,
            reason: None,
            codes: Codes::default(),
            device_time: self.now.wall,
            flags: TextList::default(),
        }
    }

    /// A good reading of now.
    pub(crate) fn value(&mut self, asset: &str, parameter: &str, value: f64) {
        let input = self.now_input(Value::Float(value));
        self.input(asset, parameter, &input);
    }

    pub(crate) fn truth(&mut self, asset: &str, parameter: &str, value: bool) {
        let input = self.now_input(Value::Bool(value));
        self.input(asset, parameter, &input);
    }

    /// A BAD reading of now.
    pub(crate) fn bad(&mut self, asset: &str, parameter: &str, reason: &'static str, value: Option<f64>) {
        let value = value.map_or(Value::Null, Value::Float);
        let input = Input { quality: Quality::Bad, reason: Some(reason), ..self.now_input(value) };
        self.input(asset, parameter, &input);
    }

    /// A good reading with a flag, `seconds` old.
    pub(crate) fn flagged(&mut self, asset: &str, parameter: &str, value: f64, flag: &'static str, seconds: i64) {
        let input = self.now_input(Value::Float(value));
        let flags = [flag];
        let flags = if flag.is_empty() { TextList::default() } else { TextList::Slice(&flags) };
        let device_time = input.device_time.plus_micros(-seconds * SECOND);
        self.input(asset, parameter, &Input { flags, device_time, ..input });
    }

    pub(crate) fn stale(&mut self, asset: &str, parameter: &str) {
        let handle = self.handle(asset, parameter);
        let Self { engine, now, told, .. } = self;
        engine.stale(0, handle, *now, &mut |transition| told.push(keep(transition)));
    }

    pub(crate) fn device(&mut self, adapter: &str, device: &str, down: bool) {
        let Self { engine, now, told, .. } = self;
        let event = DeviceEvent { adapter, device, down, device_time: now.wall };
        engine.device(0, &event, *now, &mut |transition| told.push(keep(transition)));
    }

    pub(crate) fn system(&mut self, part: &str, condition: &str, stands: bool) {
        let Self { engine, now, told, .. } = self;
        let event = SystemEvent { part, condition, stands, message: "so and so", at: now.wall };
        engine.system(0, &event, *now, &mut |transition| told.push(keep(transition)));
    }

    /// A command of now, with a reason.
    pub(crate) fn command(&mut self, target: &str, action: Action) -> CommandResult {
        self.sequence += 1;
        let id = format!("c{}", self.sequence);
        let target = format!("gw-1/{target}");
        let command = Command { command_id: &id, target: &target, ..self.template(action) };
        self.send(&command).result
    }

    /// A command of now that only needs a name and a target.
    pub(crate) fn template(&self, action: Action) -> Command<'static> {
        Command {
            command_id: "",
            source: Source::ControlPlane,
            sequence: self.sequence,
            target: "",
            action,
            actor: "ana",
            role: self.role,
            issued_at: self.now.wall,
            expires_at: None,
            comment: Some("known and watched"),
        }
    }

    pub(crate) fn send(&mut self, command: &Command<'_>) -> CommandAnswer {
        let Self { engine, now, told, .. } = self;
        engine.command(0, *now, command, &mut |transition| told.push(keep(transition)))
    }

    /// What was told since this was asked last, in short.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told).iter().map(Told::short).collect()
    }

    /// Every alarm in short: `key state(isa)`, by key.
    pub(crate) fn states(&self) -> Vec<String> {
        self.list().iter().map(|told| format!("{} {}({})", told.key, told.state, told.isa)).collect()
    }

    pub(crate) fn list(&self) -> Vec<Told> {
        let mut list = Vec::new();
        self.engine.alarms(self.now, &mut |listed| list.push(Told::of(&listed.alarm, false)));
        list.sort_by(|a, b| a.key.cmp(&b.key));
        list
    }

    pub(crate) fn alarm(&self, key: &str) -> Told {
        self.list().into_iter().find(|told| told.key == key).unwrap_or_else(|| panic!("no alarm {key}"))
    }

    pub(crate) fn kpis(&self) -> AreaKpis {
        self.engine.kpis(self.now).swap_remove(0)
    }

    /// Saves everything, and begins again with it after `down` seconds, under these rules. Without a trusted wall clock
    /// nobody knows how long it was.
    pub(crate) fn restart(&mut self, rules: &str, down: i64, assets: &[&str]) {
        let mut saved = Vec::new();
        for asset in assets {
            let mut bytes = Vec::new();
            if self.engine.save_asset(0, asset, &mut bytes) {
                saved.push((*asset, bytes));
            }
        }
        let mut kpis = Vec::new();
        self.engine.save_kpis(&mut kpis);
        self.engine = Engine::new(&settings(rules), "gw-1", 1);
        for (asset, bytes) in saved {
            self.engine.restore_asset(0, asset, &bytes).expect("what was saved");
        }
        self.engine.restore_kpis(&kpis).expect("what was saved");
        self.handles.clear();
        let before = self.engine.steady(0).unwrap_or(self.now.steady);
        let known = if self.now.wall_trusted { down * SECOND } else { 0 };
        self.now.steady = before + known;
        self.now.wall = self.now.wall.plus_micros(down * SECOND);
        let Self { engine, now, told, .. } = self;
        engine.reconcile(0, *now, &mut |transition| told.push(keep(transition)));
    }
}

fn keep(transition: &Transition<'_>) -> Told {
    assert_eq!(transition.alarm.flags.contains("annunciate"), transition.annunciate);
    Told::of(&transition.alarm, transition.annunciate)
}
