//! Which points are watched: assets, points and alarms come into being here, and find each other.

use config::alarms::{Detect, Setpoint};

use super::ALARMS_MAX;
use super::command::Remembered;
use super::kept::CONDITIONS_MAX;
use super::lane::{Hub, Lane, number};
use super::memory::{Alarm, Asset, CONDITION_MARK, DEVICE_MARK, Point, SYSTEM_MARK};

impl Lane {
    pub(super) fn asset(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(super) fn asset_or_new(&mut self, name: &str) -> u32 {
        if let Some(asset) = self.asset(name) {
            return asset;
        }
        let asset = number(self.assets.len());
        self.assets.push(Asset {
            name: name.into(),
            points: Vec::new(),
            commands: Remembered::default(),
            changed: false,
        });
        self.by_name.insert(name.into(), asset);
        asset
    }

    pub(super) fn point_of(&self, asset: u32, name: &str) -> Option<u32> {
        let points = &self.assets[asset as usize].points;
        points.iter().copied().find(|point| *self.points[*point as usize].name == *name)
    }

    /// The point's number, when some rule looks at it and there is room.
    pub(super) fn watch(&mut self, hub: &mut Hub, asset: &str, name: &str) -> Option<u32> {
        if let Some(known) = self.asset(asset).and_then(|asset| self.point_of(asset, name)) {
            return Some(known);
        }
        let is_kept = name.starts_with(CONDITION_MARK);
        let of_source = match name.strip_prefix(DEVICE_MARK) {
            Some(device) => Some(hub.plan.rules_of_device(asset, device)),
            None if is_kept => Some(vec![hub.plan.of_conditions]),
            None => name.strip_prefix(SYSTEM_MARK).map(|condition| hub.plan.rules_of_system(asset, condition)),
        };
        let rules = if let Some(rules) = of_source {
            if rules.is_empty() {
                return None;
            }
            rules
        } else {
            if !hub.plan.wants(asset, name) {
                return None;
            }
            hub.plan.rules_of(asset, name)
        };
        let is_full = hub.counts.alarms + rules.len() > ALARMS_MAX || hub.counts.points >= ALARMS_MAX;
        if is_full || (is_kept && hub.conditions >= CONDITIONS_MAX) {
            hub.counts.refused += 1;
            return None;
        }
        hub.counts.alarms += rules.len();
        hub.counts.points += 1;
        hub.conditions += usize::from(is_kept);
        let asset = self.asset_or_new(asset);
        let point = number(self.points.len());
        self.points.push(Point::new(asset, name));
        self.link_dependents(hub, asset, point);
        self.assets[asset as usize].points.push(point);
        for rule in rules {
            let n = number(self.alarms.len());
            self.alarms.push(Alarm::new(rule, point, hub.plan.rule(rule).settings.enabled));
            self.points[point as usize].alarms.push(n);
            self.link_operands(hub, asset, n);
        }
        Some(point)
    }

    /// Alarms that were there before and need to know the new point.
    fn link_dependents(&mut self, hub: &Hub, asset: u32, point: u32) {
        let others = self.assets[asset as usize].points.iter().flat_map(|other| &self.points[*other as usize].alarms);
        let alarms: Vec<u32> = others.copied().collect();
        let name = self.points[point as usize].name.clone();
        for n in alarms {
            self.link(hub, n, point, &name);
        }
    }

    /// Points that were there before and that the new alarm needs to know.
    fn link_operands(&mut self, hub: &Hub, asset: u32, n: u32) {
        let operands: Vec<&str> = hub.plan.rule(self.alarms[n as usize].rule).settings.operands().collect();
        for operand in operands {
            if let Some(point) = self.point_of(asset, operand) {
                self.link(hub, n, point, operand);
            }
        }
    }

    fn link(&mut self, hub: &Hub, n: u32, point: u32, name: &str) {
        let alarm = &mut self.alarms[n as usize];
        let settings = &hub.plan.rule(alarm.rule).settings;
        if !settings.operands().any(|operand| operand == name) {
            return;
        }
        if settings.suppress_when.as_ref().is_some_and(|when| when.parameter == name) {
            alarm.design = Some(point);
        }
        let setpoint =
            matches!(&settings.detect, Detect::Deviation { setpoint: Setpoint::Parameter(of), .. } if of == name);
        if setpoint {
            alarm.setpoint = Some(point);
        }
        let dependents = &mut self.points[point as usize].dependents;
        if !dependents.contains(&n) {
            dependents.push(n);
        }
    }
}
