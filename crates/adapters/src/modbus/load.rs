//! Whether the devices are quick enough for what is asked of them (MB-36).

use std::time::Duration;

use crate::adapter::Group;

/// Share of a period in percent that its requests may take before a warning.
const SHARE_MAX: u128 = 80;

/// What the polls of each group cost, warned of once.
#[derive(Debug)]
pub struct Load {
    warned: Vec<bool>,
}

impl Load {
    /// For a number of groups.
    pub fn new(groups: usize) -> Self {
        Self { warned: vec![false; groups] }
    }

    /// Takes in a poll: how many requests it has, and how long answers take.
    pub fn observe(&mut self, group: usize, settings: &Group, requests: usize, round_trips: &[Duration]) {
        let share = share(settings.period, requests, round_trips);
        if let Some(warned) = self.warned.get_mut(group)
            && !*warned
            && share > SHARE_MAX
        {
            *warned = true;
            let (group, period_ms) = (&settings.name, settings.period.as_millis());
            let hint = "ask for less, less often, or raise max_gap so that points share requests";
            tracing::warn!(group, period_ms, requests, percent = %share, hint, "the requests hardly fit into the period");
        }
    }
}

/// Percent of a period that so many requests of mean duration take.
fn share(period: Duration, requests: usize, round_trips: &[Duration]) -> u128 {
    let total: Duration = round_trips.iter().sum();
    let count = u128::try_from(round_trips.len()).unwrap_or(1).max(1);
    total.as_micros() * u128::try_from(requests).unwrap_or(u128::MAX) * 100 / count / period.as_micros().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    // MB-36
    #[test]
    fn requests_times_their_mean_duration() {
        assert_eq!(share(100 * MS, 9, &[8 * MS, 10 * MS]), 81);
        assert_eq!(share(100 * MS, 9, &[]), 0);
        assert_eq!(share(Duration::ZERO, 1, &[MS]), 100_000);
        let mut load = Load::new(1);
        let group = Group { name: "fast".to_owned(), period: 100 * MS };
        load.observe(0, &group, 2, &[30 * MS]);
        assert!(!load.warned[0]);
        load.observe(0, &group, 3, &[30 * MS]);
        assert!(load.warned[0]);
    }
}
