//! Alarm figures per operator area after EEMUA 191: rates, floods, chattering (ALM-15, ALM-16).
//!
//! Counted are announcements only: activations an operator was told of. Days are 24 hours of the steady clock. A flood
//! begins with the eleventh announcement in ten minutes and ends when fewer than five are left in ten minutes. Nothing
//! here changes an alarm.

use std::collections::VecDeque;

use model::Severity;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const DAY: i64 = 24 * 3600 * SECOND;
/// Window of rates and floods.
const WINDOW: i64 = 600 * SECOND;
/// Announcements in the window above which a flood begins, and below which it ends.
const FLOOD_BEGINS_ABOVE: usize = 10;
const FLOOD_ENDS_BELOW: usize = 5;
/// Announcements remembered per area; in a larger flood the oldest are dropped and the peak counts no higher.
pub(super) const WINDOW_LENGTH_MAX: usize = 1_000;
/// Days that are remembered; older ones are dropped.
pub(super) const DAYS: usize = 30;

/// Chattering: so many activations in so much time (ALM-15).
pub(super) const CHATTER_COUNT: usize = 3;
const CHATTER_WINDOW: i64 = 60 * SECOND;
/// An alarm that clears sooner, unacknowledged, is fleeting.
pub(super) const FLEETING: i64 = 5 * SECOND;
/// Standing longer is stale.
pub(super) const STALE: i64 = DAY;

/// Steady times of an alarm's last activations, oldest first.
pub(super) type Recent = [i64; CHATTER_COUNT];
/// No activation yet; far enough in the past that differences do not overflow.
pub(super) const LONG_AGO: i64 = i64::MIN / 2;

pub(super) fn is_chattering(recent: Recent, steady: i64) -> bool {
    // a lane in which no reading ever came stands where time begins
    recent[0] > LONG_AGO && steady.saturating_sub(recent[0]) <= CHATTER_WINDOW
}

/// Counts of the last days.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Days<T> {
    /// Number of the newest day and counts, oldest first.
    pub(super) days: VecDeque<(i64, T)>,
}

impl<T: Default> Days<T> {
    /// The day that `steady` lies in; `None` when it is older than what is remembered.
    pub(super) fn at(&mut self, steady: i64) -> Option<&mut T> {
        let day = steady.div_euclid(DAY);
        let newest = self.days.back().map(|(newest, _)| *newest);
        if newest.is_none_or(|newest| newest < day) {
            self.days.push_back((day, T::default()));
            let oldest = day.saturating_sub(i64::try_from(DAYS).unwrap_or(0));
            while self.days.front().is_some_and(|(day, _)| *day <= oldest) {
                self.days.pop_front();
            }
        }
        self.days.iter_mut().rev().find(|(found, _)| *found == day).map(|(_, count)| count)
    }

    /// The days that count at `steady`.
    pub(super) fn since(&self, steady: i64) -> impl Iterator<Item = &T> {
        let oldest = steady.div_euclid(DAY).saturating_sub(i64::try_from(DAYS).unwrap_or(0));
        self.days.iter().filter(move |(day, _)| *day > oldest).map(|(_, count)| count)
    }
}

/// One day of one area.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Day {
    pub(super) by_severity: [i64; 4],
    pub(super) flood_micros: i64,
    pub(super) floods: i64,
    /// Most announcements in ten minutes.
    pub(super) peak: i64,
    pub(super) fleeting: i64,
}

/// What is counted of one area.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Area {
    /// Steady times of the last announcements.
    pub(super) window: VecDeque<i64>,
    pub(super) flood_since: Option<i64>,
    pub(super) days: Days<Day>,
    /// Steady time at which counting began.
    pub(super) begun: Option<i64>,
}

/// Figures of one area (ALM-16). Of the last 30 days where nothing else is said.
#[derive(Debug, Clone, PartialEq)]
pub struct AreaKpis {
    pub area: String,
    /// Days counted so far, at most 30.
    pub days: f64,
    /// Announcements in the last ten minutes.
    pub last_10min: usize,
    /// On average; about 1 is the target, 2 the most.
    pub per_10min: f64,
    pub peak_10min: i64,
    pub today: i64,
    /// On average; about 150 is the target, 300 the most.
    pub per_day: f64,
    pub in_flood: bool,
    pub floods: i64,
    /// Share of time in flood, 0 to 1; below 0.01 is the target.
    pub flood_share: f64,
    /// Share of the ten busiest alarms, 0 to 1; 0.01 to 0.05 is the target.
    pub top10_share: f64,
    /// Announcements by severity, from LOW.
    pub by_severity: [i64; 4],
    pub fleeting: i64,
    /// Alarms standing for more than 24 hours now; below 5 is the target.
    pub stale: usize,
    /// Alarms chattering now; 0 is the target.
    pub chattering: usize,
    /// Alarms suppressed now, for whatever reason, and those out of service for more than 24 hours (ALM-13).
    pub suppressed: usize,
    pub out_of_service_over_a_day: usize,
}

impl Area {
    pub(super) fn announced(&mut self, severity: Severity, steady: i64) {
        self.advance(steady);
        if self.window.len() >= WINDOW_LENGTH_MAX {
            self.window.pop_front();
        }
        self.window.push_back(steady);
        self.begun.get_or_insert(steady);
        let count = self.window.len();
        let floods = self.flood_since.is_none() && count > FLOOD_BEGINS_ABOVE;
        if floods {
            self.flood_since = Some(steady);
        }
        if let Some(day) = self.days.at(steady) {
            day.by_severity[severity as usize] += 1;
            day.floods += i64::from(floods);
            day.peak = day.peak.max(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn fleeting(&mut self, steady: i64) {
        if let Some(day) = self.days.at(steady) {
            day.fleeting += 1;
        }
    }

    /// Ends a flood that is over, and forgets what left the window.
    pub(super) fn advance(&mut self, steady: i64) {
        if let Some(since) = self.flood_since {
            // fewer than five are left when the fifth from the end leaves
            let fifth = self.window.len().checked_sub(FLOOD_ENDS_BELOW).and_then(|at| self.window.get(at));
            let end = fifth.map_or(since, |fifth| fifth.saturating_add(WINDOW));
            if end <= steady {
                self.count_flood(since, end);
                self.flood_since = None;
            }
        }
        while self.window.front().is_some_and(|at| steady.saturating_sub(*at) >= WINDOW) {
            self.window.pop_front();
        }
    }

    fn count_flood(&mut self, since: i64, end: i64) {
        // days before those that are remembered do not count
        let days = i64::try_from(DAYS).unwrap_or(0);
        let mut from = since.max(end.saturating_sub(days.saturating_mul(DAY)));
        while from < end {
            let midnight = (from.div_euclid(DAY) + 1).saturating_mul(DAY);
            let to = end.min(midnight);
            if let Some(day) = self.days.at(from) {
                day.flood_micros += to - from;
            }
            from = to;
        }
    }

    /// The figures that can be told without looking at the alarms.
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds of 30 days are far below 2^53")]
    pub(super) fn kpis(&self, area: &str, steady: i64, busiest: &mut [i64]) -> AreaKpis {
        let mut now = self.clone();
        now.advance(steady);
        if let Some(since) = now.flood_since {
            now.count_flood(since, steady);
        }
        let most = i64::try_from(DAYS).unwrap_or(i64::MAX).saturating_mul(DAY);
        let observed = now.begun.map_or(0, |begun| steady.saturating_sub(begun)).clamp(0, most);
        let mut by_severity = [0; 4];
        let (mut floods, mut flood_micros, mut peak, mut fleeting) = (0, 0, 0, 0);
        for day in now.days.since(steady) {
            for (sum, count) in by_severity.iter_mut().zip(day.by_severity) {
                *sum += count;
            }
            floods += day.floods;
            flood_micros += day.flood_micros;
            peak = peak.max(day.peak);
            fleeting += day.fleeting;
        }
        let total: i64 = by_severity.iter().sum();
        let today = now.days.days.back().filter(|(day, _)| *day == steady.div_euclid(DAY));
        // a rate needs some time: of the first day's alarms as if they were a whole day's
        let days = (observed as f64 / DAY as f64).max(1.0);
        busiest.sort_unstable_by(|a, b| b.cmp(a));
        let top: i64 = busiest.iter().take(10).sum();
        AreaKpis {
            area: area.to_owned(),
            days: observed as f64 / DAY as f64,
            last_10min: now.window.len(),
            per_10min: total as f64 / (days * (DAY / WINDOW) as f64),
            peak_10min: peak,
            today: today.map_or(0, |(_, day)| day.by_severity.iter().sum()),
            per_day: total as f64 / days,
            in_flood: now.flood_since.is_some(),
            floods,
            flood_share: flood_micros as f64 / (days * DAY as f64),
            top10_share: if total > 0 { (top as f64 / total as f64).min(1.0) } else { 0.0 },
            by_severity,
            fleeting,
            stale: 0,
            chattering: 0,
            suppressed: 0,
            out_of_service_over_a_day: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kpis(area: &Area, steady: i64) -> AreaKpis {
        area.kpis("a", steady, &mut [])
    }

    #[test]
    fn a_flood_begins_with_the_eleventh_and_ends_by_itself() {
        // AC-089, ALM-16
        let mut area = Area::default();
        for minute in 0..10 {
            area.announced(Severity::Low, minute * 50 * SECOND);
        }
        assert!(!kpis(&area, 500 * SECOND).in_flood, "ten are no flood");
        area.announced(Severity::Low, 500 * SECOND);
        assert!(kpis(&area, 500 * SECOND).in_flood);
        for at in [700, 820, 940] {
            area.announced(Severity::Low, at * SECOND);
        }
        // at 1050 s the announcement of 450 s leaves; four are in the window from then on
        assert!(kpis(&area, 1049 * SECOND).in_flood);
        assert!(!kpis(&area, 1050 * SECOND).in_flood);
        area.announced(Severity::Low, 1060 * SECOND);
        let after = kpis(&area, 1200 * SECOND);
        assert_eq!((after.in_flood, after.floods, after.peak_10min), (false, 1, 11));
        let share = 550.0 / 86_400.0;
        assert!((after.flood_share - share).abs() < 1e-9, "{}", after.flood_share);
    }

    #[test]
    fn thirty_days_are_remembered_and_averaged() {
        // ALM-16
        let mut area = Area::default();
        for day in 0..40 {
            for n in 0..150 {
                area.announced(if n < 120 { Severity::Low } else { Severity::High }, day * DAY + n * 570 * SECOND);
            }
        }
        assert_eq!(area.days.days.len(), DAYS);
        let figures = kpis(&area, 40 * DAY - 1);
        assert_eq!((figures.days, figures.by_severity), (30.0, [3600, 0, 900, 0]));
        assert!((figures.per_day - 150.0).abs() < 1e-9 && (figures.per_10min - 150.0 / 144.0).abs() < 1e-9);
        assert_eq!((figures.today, figures.floods, figures.peak_10min), (150, 0, 2));
    }

    #[test]
    fn a_flood_over_midnight_counts_in_both_days() {
        let mut area = Area::default();
        for n in 0..11 {
            area.announced(Severity::Low, DAY - 60 * SECOND + n);
        }
        area.advance(DAY + WINDOW);
        let micros: Vec<i64> = area.days.days.iter().map(|(_, day)| day.flood_micros).collect();
        assert_eq!(micros.len(), 2);
        assert!(micros[0] < 60 * SECOND && micros[1] > 530 * SECOND, "{micros:?}");
    }
}
