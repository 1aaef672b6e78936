//! Commands at work: finding the alarm, doing what is asked, answering (ALM-18, ALM-19).

use super::Now;
use super::command::{
    Action, Command, CommandAnswer, CommandResult, NOT_ACKED, REASONS, STILL_THERE, ShelfLimits, UNKNOWN_ALARM, check,
    cleaned,
};
use super::flood::LONG_AGO;
use super::lane::{Hub, Lane, Out};
use super::memory::{Acked, DEVICE_MARK, Past, Shelf};
use super::record::{Telling, Why};
use super::state::Step;
use super::timers::What;

/// What a command names.
struct Target<'a> {
    asset: &'a str,
    alarm_id: &'a str,
    occurrence: Option<i64>,
}

/// A command on its way to one alarm.
#[derive(Clone, Copy)]
struct Asked<'a> {
    n: u32,
    command: &'a Command<'a>,
    why: Why<'a>,
    now: Now,
}

fn parse<'a>(target: &'a str, gateway_id: &str) -> Option<Target<'a>> {
    let mut parts = target.strip_prefix(gateway_id)?.strip_prefix('/')?.split('/');
    let (asset, alarm_id) = (parts.next()?, parts.next()?);
    let occurrence = match parts.next() {
        None => None,
        Some(number) => Some(number.parse().ok()?),
    };
    parts.next().is_none().then_some(Target { asset, alarm_id, occurrence })
}

impl Lane {
    pub(super) fn command(&mut self, hub: &mut Hub, command: &Command<'_>, now: Now, out: Out<'_>) -> CommandAnswer {
        let fresh = |result| CommandAnswer { result, repeated: false };
        let Some(target) = parse(command.target, &hub.gateway_id) else { return fresh(UNKNOWN_ALARM) };
        let known = self.asset(target.asset);
        if let Some(answer) = known.and_then(|asset| self.assets[asset as usize].commands.answer(command)) {
            return answer;
        }
        let Some(n) = self.find(hub, &target) else {
            let gone = target.occurrence.is_some();
            return fresh(if gone { CommandResult::StaleOccurrence } else { UNKNOWN_ALARM });
        };
        let asset = self.points[self.alarms[n as usize].point as usize].asset;
        if let Some(answer) = self.assets[asset as usize].commands.answer(command) {
            return answer;
        }
        let result = self.perform(hub, n, target.occurrence, command, now, out);
        self.settle(hub, now, out);
        self.assets[asset as usize].commands.note(command, result);
        self.mark_asset_changed(asset);
        fresh(result)
    }

    /// The alarm of that name; one that was never looked at is made, so that it can be shelved before it ever came.
    fn find(&mut self, hub: &mut Hub, target: &Target<'_>) -> Option<u32> {
        if let Some(n) = self.alarm(hub, target) {
            return Some(n);
        }
        // of a device, a part of the gateway or a source's condition: it is there, or nobody has told of it
        if target.alarm_id.contains(DEVICE_MARK) {
            return None;
        }
        let parameter = hub.plan.parameter_of(target.asset, target.alarm_id)?;
        self.watch(hub, target.asset, &parameter)?;
        self.alarm(hub, target)
    }

    fn alarm(&self, hub: &Hub, target: &Target<'_>) -> Option<u32> {
        let points = &self.assets[self.asset(target.asset)? as usize].points;
        let mut alarms = points.iter().flat_map(|point| &self.points[*point as usize].alarms);
        alarms.find(|n| self.alarm_id(hub, **n) == target.alarm_id).copied()
    }

    fn perform(
        &mut self,
        hub: &mut Hub,
        n: u32,
        occurrence: Option<i64>,
        command: &Command<'_>,
        now: Now,
        out: Out<'_>,
    ) -> CommandResult {
        let limits = ShelfLimits { max_ms: hub.plan.shelve_max_ms, critical_max_ms: hub.plan.shelve_critical_max_ms };
        let max_ms = match check(command, self.severity(hub, n), limits) {
            Ok(max_ms) => max_ms,
            Err(refused) => return refused,
        };
        if now.wall_trusted && command.expires_at.is_some_and(|end| end <= now.wall) {
            return CommandResult::Expired;
        }
        let alarm = &self.alarms[n as usize];
        let earlier = match occurrence {
            Some(number) if number < 1 || number > alarm.occurrence => return CommandResult::StaleOccurrence,
            Some(number) if number < alarm.occurrence => {
                match alarm.past.iter().position(|past| past.number == number) {
                    Some(at) => Some(at),
                    None => return CommandResult::StaleOccurrence,
                }
            }
            _ => None,
        };
        let comment = cleaned(command.comment);
        let why = Why {
            cause: "",
            actor: Some(command.actor),
            role: command.role.map(super::Role::as_str),
            comment: comment.as_deref(),
            command_id: Some(command.command_id),
            quiet: false,
        };
        let asked = |cause| Asked { n, command, why: Why { cause, ..why }, now };
        match command.action {
            Action::Ack if occurrence.is_none() => CommandResult::Rejected(REASONS[6]),
            Action::Ack => self.acknowledge(hub, earlier, &asked("ack"), out),
            Action::Comment => {
                let past = earlier.and_then(|at| self.alarms[n as usize].past.get(at)).cloned();
                self.journal(hub, past.as_ref(), &asked("comment"), out);
                CommandResult::Applied
            }
            Action::Shelve { duration_ms, one_shot } => {
                self.shelve(hub, duration_ms.unwrap_or(max_ms), one_shot, &asked("shelve"), out)
            }
            Action::Suppress => self.shelve(hub, max_ms, false, &asked("suppress"), out),
            Action::Unshelve => {
                self.stop_shelf(n);
                self.step(hub, Step::Shelve(false), &asked("unshelve"), out)
            }
            Action::OutOfService => {
                let result = self.step(hub, Step::OutOfService(true), &asked("out_of_service"), out);
                if result == CommandResult::Applied {
                    self.alarms[n as usize].out_of_service_since = now.steady;
                }
                result
            }
            Action::ReturnToService => {
                self.alarms[n as usize].out_of_service_since = LONG_AGO;
                self.step(hub, Step::OutOfService(false), &asked("return_to_service"), out)
            }
            Action::Reset => {
                let flags = self.alarms[n as usize].flags;
                match (flags.latched, flags.condition_active, flags.acked) {
                    (false, ..) => CommandResult::Already,
                    (true, true, _) => STILL_THERE,
                    (true, false, false) => NOT_ACKED,
                    (true, false, true) => self.step(hub, Step::Reset, &asked("reset"), out),
                }
            }
        }
    }

    fn step(&mut self, hub: &mut Hub, step: Step, asked: &Asked<'_>, out: Out<'_>) -> CommandResult {
        let applied = self.apply(hub, asked.n, step, asked.why, asked.now, out);
        if applied { CommandResult::Applied } else { CommandResult::Already }
    }

    /// A record that changes no state.
    fn journal(&mut self, hub: &mut Hub, past: Option<&Past>, asked: &Asked<'_>, out: Out<'_>) {
        let state = match past {
            Some(_) => model::AlarmState::Cleared,
            None => self.alarms[asked.n as usize].flags.state(),
        };
        self.tell(hub, asked.n, &Telling { past, ..Telling::unchanged(state, asked.why) }, asked.now, out);
    }

    /// Acknowledges exactly the occurrence that is named (ALM-19 a, b, c).
    fn acknowledge(&mut self, hub: &mut Hub, earlier: Option<usize>, asked: &Asked<'_>, out: Out<'_>) -> CommandResult {
        let Asked { n, command, why, now } = *asked;
        let acked = Acked { by: command.actor.into(), issued: command.issued_at, applied: now.wall };
        let alarm = &mut self.alarms[n as usize];
        let again = Asked { why: Why { cause: "already", ..why }, ..*asked };
        let Some(at) = earlier else {
            if alarm.flags.acked {
                self.journal(hub, None, &again, out);
                return CommandResult::Already;
            }
            alarm.times.acked = Some(acked);
            return self.step(hub, Step::Ack, asked, out);
        };
        let past = &mut alarm.past[at];
        let already = past.acked;
        if !already {
            past.acked = true;
            past.times.acked = Some(acked);
        }
        let past = past.clone();
        self.journal(hub, Some(&past), if already { &again } else { asked }, out);
        if already { CommandResult::Already } else { CommandResult::Applied }
    }

    /// The end is counted from when it was asked for; without a trusted wall clock from now (ALM-12, ALM-19 d).
    fn shelve(
        &mut self,
        hub: &mut Hub,
        duration_ms: i64,
        one_shot: bool,
        asked: &Asked<'_>,
        out: Out<'_>,
    ) -> CommandResult {
        let Asked { n, command, now, .. } = *asked;
        let gone = if now.wall_trusted { now.wall.micros_since(command.issued_at).max(0) } else { 0 };
        let remaining = duration_ms.saturating_mul(1000).saturating_sub(gone);
        if remaining <= 0 {
            return CommandResult::Expired;
        }
        self.stop_shelf(n);
        let deadline = self.timers.start(now.steady.saturating_add(remaining), 0, n, What::ShelfEnd);
        let until = now.wall.plus_micros(remaining);
        self.alarms[n as usize].shelf = Some(Shelf { deadline, until, one_shot });
        if self.step(hub, Step::Shelve(true), asked, out) == CommandResult::Already {
            self.journal(hub, None, asked, out); // shelved before: only the end is another one
        }
        CommandResult::Applied
    }
}
