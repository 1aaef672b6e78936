//! The alarm engine: what the caller does with it.
//!
//! 1. [`Engine::new`], then [`Engine::restore_asset`] and [`Engine::restore_kpis`] with what was saved, then
//!    [`Engine::reconcile`] for every lane.
//! 2. [`Engine::watch`] once per point; the handle goes with every reading of it. Handle 0 costs one comparison.
//! 3. [`Engine::advance`] about once a second, and whatever else happens: readings, silence, devices, commands.
//! 4. [`Engine::changed`] and [`Engine::save_asset`], now and then.
//!
//! A lane is a partition: all readings of an asset come in one lane, in order. Lanes share ranks of first-out groups and
//! the figures of areas, nothing else.

use model::{AlarmState, Timestamp};

use super::Now;
use super::command::{Command, CommandAnswer};
use super::condition::Input;
use super::first_out::Groups;
use super::flood::{Area, AreaKpis, LONG_AGO, STALE, is_chattering};
use super::kept::{ConditionEvent, RefreshEvent};
use super::lane::{Hub, Lane, Out};
use super::memory::{CONDITION_MARK, DEVICE_MARK, SYSTEM_MARK};
use super::plan::Plan;
use super::record::{Telling, Why};
use super::restore::{self, Damaged};
use super::save;

/// One transition, told as it happens.
#[derive(Debug, Clone, Copy)]
pub struct Transition<'a> {
    pub lane: usize,
    pub alarm: model::Alarm<'a>,
    /// A person is to be told.
    pub annunciate: bool,
}

/// One alarm of a list.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// As its newest record, but for the transition.
    pub alarm: model::Alarm<'a>,
    /// Until it comes back from the shelf.
    pub shelved_for_ms: Option<i64>,
    /// What could be done about it, for whoever keeps the rules (ALM-15).
    pub proposal: Option<&'static str>,
}

/// A device answers, or does not any more.
#[derive(Debug, Clone, Copy)]
pub struct DeviceEvent<'a> {
    /// The asset of the device's alarm.
    pub adapter: &'a str,
    pub device: &'a str,
    pub down: bool,
    pub device_time: Timestamp,
}

/// Something is wrong with a part of the gateway, or is not any more.
#[derive(Debug, Clone, Copy)]
pub struct SystemEvent<'a> {
    /// The asset of the alarm: an adapter, a sink, the broker or the gateway.
    pub part: &'a str,
    /// One of [`config::alarms::system::CONDITIONS`]; others are left alone.
    pub condition: &'a str,
    pub stands: bool,
    /// What exactly; the value of the alarm.
    pub message: &'a str,
    pub at: Timestamp,
}

/// What the engine did and what it left out, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Alarms there are, and points and devices that are watched for them.
    pub alarms: usize,
    pub points: usize,
    pub transitions: u64,
    /// Points not watched because there are [`super::ALARMS_MAX`] alarms or points.
    pub refused: u64,
    /// Readings left out because they are historical, backfill, retained or reprocessed (ALM-08).
    pub past: u64,
    /// Readings left out because a newer one was judged already.
    pub older: u64,
}

/// All alarms of a gateway.
#[derive(Debug)]
pub struct Engine {
    hub: Hub,
    lanes: Vec<Lane>,
}

impl Engine {
    pub fn new(settings: &config::Alarms, gateway_id: &str, lanes: usize) -> Self {
        let plan = Plan::new(settings);
        let hub = Hub {
            gateway_id: gateway_id.to_owned(),
            groups: Groups::new(plan.groups.len()),
            areas: plan.areas.iter().map(|_| Area::default()).collect(),
            counts: Counts::default(),
            conditions: 0,
            plan,
        };
        Self { hub, lanes: (0..lanes).map(Lane::new).collect() }
    }

    /// The handle of a point; 0 when no rule looks at it.
    pub fn watch(&mut self, lane: usize, asset: &str, parameter: &str) -> u32 {
        let Some(place) = self.lanes.get_mut(lane) else { return 0 };
        place.watch(&mut self.hub, asset, parameter).map_or(0, |point| point + 1)
    }

    fn place(&mut self, lane: usize, handle: u32) -> Option<(&mut Hub, &mut Lane, u32)> {
        let place = self.lanes.get_mut(lane)?;
        let point = handle.checked_sub(1).filter(|point| (*point as usize) < place.points.len())?;
        Some((&mut self.hub, place, point))
    }

    /// A reading of a point, good or rejected.
    pub fn reading(&mut self, lane: usize, handle: u32, now: Now, input: &Input<'_>, out: Out<'_>) {
        if handle == 0 {
            return;
        }
        let Some((hub, place, point)) = self.place(lane, handle) else { return };
        let now = place.advance(hub, now, out);
        place.reading(hub, point, now, input, out);
    }

    /// The point does not report any more; its next reading ends that.
    pub fn stale(&mut self, lane: usize, handle: u32, now: Now, out: Out<'_>) {
        let Some((hub, place, point)) = self.place(lane, handle) else { return };
        let now = place.advance(hub, now, out);
        place.stale(hub, point, now, out);
    }

    /// One alarm per device, however many points it has (ALM-07).
    pub fn device(&mut self, lane: usize, event: &DeviceEvent<'_>, now: Now, out: Out<'_>) {
        let Some(place) = self.lanes.get_mut(lane) else { return };
        let now = place.advance(&mut self.hub, now, out);
        let name = format!("{DEVICE_MARK}{}", event.device);
        if let Some(point) = place.watch(&mut self.hub, event.adapter, &name) {
            place.source(&mut self.hub, point, event.down, event.device_time.as_micros(), now, out);
        }
    }

    /// The gateway found something wrong with itself (ALM-05). The end of what never began makes no alarm.
    pub fn system(&mut self, lane: usize, event: &SystemEvent<'_>, now: Now, out: Out<'_>) {
        let Some(place) = self.lanes.get_mut(lane) else { return };
        let now = place.advance(&mut self.hub, now, out);
        let name = format!("{SYSTEM_MARK}{}", event.condition);
        if !event.stands && place.asset(event.part).is_none_or(|asset| place.point_of(asset, &name).is_none()) {
            return;
        }
        if let Some(point) = place.watch(&mut self.hub, event.part, &name) {
            place.tell_what(point, event.message);
            place.source(&mut self.hub, point, event.stands, event.at.as_micros(), now, out);
        }
    }

    /// A source tells of a condition that it keeps itself (ALM-05). The end of what never began makes no alarm.
    pub fn condition(&mut self, lane: usize, event: &ConditionEvent<'_>, now: Now, out: Out<'_>) {
        let Some(place) = self.lanes.get_mut(lane) else { return };
        let now = place.advance(&mut self.hub, now, out);
        let name = format!("{CONDITION_MARK}{}", event.condition);
        let is_over = !event.active && event.suppression.is_none();
        if is_over && place.asset(event.asset).is_none_or(|asset| place.point_of(asset, &name).is_none()) {
            return;
        }
        if let Some(point) = place.watch(&mut self.hub, event.asset, &name) {
            place.kept(&mut self.hub, point, event, now, out);
        }
    }

    /// A source has told all conditions it has: what it did not tell of is over (UA-28).
    pub fn refreshed(&mut self, lane: usize, event: &RefreshEvent<'_>, now: Now, out: Out<'_>) {
        let Some(place) = self.lanes.get_mut(lane) else { return };
        let now = place.advance(&mut self.hub, now, out);
        place.refreshed(&mut self.hub, event, now, out);
    }

    /// Delays, shelvings, release delays and reminders that fall due.
    pub fn advance(&mut self, lane: usize, now: Now, out: Out<'_>) {
        if let Some(place) = self.lanes.get_mut(lane) {
            place.advance(&mut self.hub, now, out);
        }
    }

    /// A command of a person; the lane is the one of the asset in its target.
    pub fn command(&mut self, lane: usize, now: Now, command: &Command<'_>, out: Out<'_>) -> CommandAnswer {
        let Some(place) = self.lanes.get_mut(lane) else {
            return CommandAnswer { result: super::command::UNKNOWN_ALARM, repeated: false };
        };
        let now = place.advance(&mut self.hub, now, out);
        place.command(&mut self.hub, command, now, out)
    }

    /// Begins a lane where its inputs are handed in again, after everything was restored: readings that the state of
    /// their asset holds already are not handed in, and no deadline lies before the state it was saved with.
    pub fn begin_at(&mut self, lane: usize, steady: i64) {
        if let Some(place) = self.lanes.get_mut(lane) {
            place.steady = steady;
        }
    }

    /// The steady time a lane has reached, also by what was restored; `None` when nothing happened yet.
    pub fn steady(&self, lane: usize) -> Option<i64> {
        self.lanes.get(lane).map(|place| place.steady).filter(|steady| *steady != LONG_AGO)
    }

    /// The steady time at which the lane wants to be advanced next.
    pub fn next_deadline(&self, lane: usize) -> Option<i64> {
        self.lanes.get(lane)?.timers.next_at()
    }

    /// Names of assets that changed since this was asked last.
    pub fn changed(&mut self, lane: usize, tell: &mut dyn FnMut(&str)) {
        let Some(place) = self.lanes.get_mut(lane) else { return };
        for number in place.changed.drain(..) {
            let asset = &mut place.assets[number as usize];
            asset.changed = false;
            tell(&asset.name);
        }
    }

    /// Appends everything about one asset's alarms; false when there is nothing to keep.
    pub fn save_asset(&self, lane: usize, asset: &str, out: &mut Vec<u8>) -> bool {
        self.lanes.get(lane).is_some_and(|place| save::save(place, &self.hub, asset, out))
    }

    /// Takes back what [`Engine::save_asset`] gave, before anything else happens to the asset.
    pub fn restore_asset(&mut self, lane: usize, asset: &str, bytes: &[u8]) -> Result<(), Damaged> {
        let Some(place) = self.lanes.get_mut(lane) else { return Ok(()) };
        restore::restore(place, &mut self.hub, asset, bytes)
    }

    /// The figures of ALM-16, to be saved beside the assets.
    pub fn save_kpis(&self, out: &mut Vec<u8>) {
        save::save_areas(&self.hub, out);
    }

    pub fn restore_kpis(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        restore::restore_areas(&mut self.hub, bytes)
    }

    /// After everything was restored: what the rules do not say any more comes to an end (ALM-10). Nothing that was
    /// active before is told again.
    pub fn reconcile(&mut self, lane: usize, now: Now, out: Out<'_>) {
        if let Some(place) = self.lanes.get_mut(lane) {
            restore::reconcile(place, &mut self.hub, now, out);
        }
    }

    /// Every alarm there is, in no particular order.
    pub fn alarms(&self, now: Now, list: &mut dyn FnMut(&Listed<'_>)) {
        for place in &self.lanes {
            let now = Now { steady: now.steady.max(place.steady), ..now };
            for (n, alarm) in (0_u32..).zip(&place.alarms) {
                let shelved_for_ms =
                    alarm.shelf.map(|shelf| shelf.deadline.at.saturating_sub(now.steady).max(0) / 1000);
                let chattering = is_chattering(alarm.recent, now.steady);
                let proposal = chattering.then_some("comes too often: raise the hysteresis or the delays");
                let telling = Telling::unchanged(alarm.flags.state(), Why::default());
                place.record(&self.hub, n, &telling, now, &mut |alarm| {
                    list(&Listed { alarm: *alarm, shelved_for_ms, proposal });
                });
            }
        }
    }

    /// Figures of every area.
    pub fn kpis(&self, now: Now) -> Vec<AreaKpis> {
        let areas = &self.hub.areas;
        let mut busiest: Vec<Vec<i64>> = areas.iter().map(|_| Vec::new()).collect();
        let alarms = || self.lanes.iter().flat_map(|place| &place.alarms);
        let area_of = |rule: u32| self.hub.plan.rule(rule).area as usize;
        for alarm in alarms() {
            if let Some(days) = &alarm.days {
                busiest[area_of(alarm.rule)].push(days.since(now.steady).sum());
            }
        }
        let mut all: Vec<AreaKpis> = areas
            .iter()
            .zip(&self.hub.plan.areas)
            .zip(&mut busiest)
            .map(|((area, name), busiest)| area.kpis(name, now.steady, busiest))
            .collect();
        for alarm in alarms() {
            let kpis = &mut all[area_of(alarm.rule)];
            let flags = alarm.flags;
            let shown = matches!(flags.state(), AlarmState::Active | AlarmState::Acknowledged);
            kpis.stale += usize::from(shown && now.steady.saturating_sub(alarm.standing_since) > STALE);
            kpis.chattering += usize::from(is_chattering(alarm.recent, now.steady));
            kpis.suppressed += usize::from(flags.state() == AlarmState::Suppressed);
            let out_of_service = now.steady.saturating_sub(alarm.out_of_service_since);
            kpis.out_of_service_over_a_day += usize::from(flags.out_of_service && out_of_service > STALE);
        }
        // nobody waits for figures of the gateway itself before it has an alarm
        let has_alarms = |n: usize| n < self.hub.plan.areas_written || alarms().any(|alarm| area_of(alarm.rule) == n);
        (0..all.len()).zip(all).filter(|(n, _)| has_alarms(*n)).map(|(_, area)| area).collect()
    }

    pub fn counts(&self) -> Counts {
        self.hub.counts
    }
}
