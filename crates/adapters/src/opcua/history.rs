//! Reading from the server's history what was missed, slowly (UA-10, UA-11).
//!
//! The decisions are pure: what is missing of which point, and when the next question may be asked so that what is new is not
//! held up. Values from history are flagged `historical` and `backfill`.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Timestamp;
use tokio::time::Instant;

use super::adapter::{OpcUaAdapter, Pending};
use super::config::BackFill;
use super::stack::{
    ByteString, ExtensionObject, HistoryData, HistoryReadRequest, HistoryReadValueId, NodeId, ReadRawModifiedDetails,
    StatusCode, TimestampsToReturn, date_time, micros,
};
use super::value;
use crate::adapter::LinkError;
use crate::notice::{DATA_LOSS, Notice};
use crate::sample::{Cycle, Flags};

/// Points asked for at once.
const POINTS_AT_ONCE: usize = 8;
/// Values of a point in one answer.
const VALUES_AT_ONCE: u32 = 500;

/// What is missing of a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Everything after it, up to `to`.
    pub from: Timestamp,
    pub to: Timestamp,
    /// Where the server stopped.
    pub continuation: ByteString,
}

/// What is missing, and when to ask.
#[derive(Debug)]
pub struct Filler {
    plan: Option<BackFill>,
    jobs: BTreeMap<usize, Job>,
    asking: bool,
    free_at: Option<Instant>,
}

impl Filler {
    pub fn new(plan: Option<BackFill>) -> Self {
        Self { plan, jobs: BTreeMap::new(), asking: false, free_at: None }
    }

    /// The values of a point after `newest` were missed, up to `now`.
    pub fn want(&mut self, at: usize, newest: Option<Timestamp>, now: Timestamp) {
        let (Some(plan), Some(newest)) = (self.plan, newest) else { return };
        let reach = i64::try_from(plan.reach.as_micros()).unwrap_or(i64::MAX);
        let from = newest.max(now.plus_micros(-reach));
        if from >= now {
            return;
        }
        let job = self.jobs.entry(at).or_insert(Job { from, to: now, continuation: ByteString::null() });
        (job.from, job.to) = (job.from.min(from), job.to.max(now));
        self.free_at.get_or_insert_with(Instant::now);
    }

    /// When something can be asked.
    pub fn next(&self) -> Option<Instant> {
        (!self.asking && !self.jobs.is_empty()).then_some(self.free_at).flatten()
    }

    /// The connection is gone: a continuation is worth nothing any more.
    pub fn interrupted(&mut self) {
        self.asking = false;
        for job in self.jobs.values_mut() {
            job.continuation = ByteString::null();
        }
    }

    /// What to ask now.
    pub fn take(&mut self, now: Instant) -> Vec<(usize, Job)> {
        if self.next().is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.asking = true;
        self.jobs.iter().take(POINTS_AT_ONCE).map(|(at, job)| (*at, job.clone())).collect()
    }

    /// So many values came; the next question waits until that many may come again.
    fn answered(&mut self, values: usize, now: Instant) {
        self.asking = false;
        let rate = self.plan.map_or(1000, |plan| plan.values_per_second).max(1);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let pause = Duration::from_secs_f64(values as f64 / f64::from(rate));
        self.free_at = Some(now + pause);
    }

    /// A part of a point came, up to a time; there is more where `continuation` says so.
    fn part(&mut self, at: usize, upto: Option<Timestamp>, continuation: &ByteString) {
        if continuation.is_null_or_empty() {
            self.jobs.remove(&at);
            return;
        }
        if let Some(job) = self.jobs.get_mut(&at) {
            job.continuation = continuation.clone();
            job.from = job.from.max(upto.unwrap_or(job.from));
        }
    }

    fn give_up(&mut self, at: usize) {
        self.jobs.remove(&at);
    }
}

impl OpcUaAdapter {
    pub(super) fn ask_history(&mut self, now: Instant) -> Result<(), LinkError> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let jobs = self.filler.take(now);
        if jobs.is_empty() {
            return Ok(());
        }
        let to = jobs.iter().map(|(_, job)| job.to).max().unwrap_or_default();
        let from = jobs.iter().map(|(_, job)| job.from).min().unwrap_or_default();
        let nodes = jobs.iter().map(|(at, job)| HistoryReadValueId {
            node_id: self.items[*at].node.clone().unwrap_or_else(NodeId::null),
            continuation_point: job.continuation.clone(),
            ..Default::default()
        });
        let nodes_to_read = Some(nodes.collect());
        let details = ReadRawModifiedDetails {
            is_read_modified: false,
            start_time: date_time(from.as_micros()),
            end_time: date_time(to.as_micros()),
            num_values_per_node: VALUES_AT_ONCE,
            return_bounds: false,
        };
        let request = link.connection.send(|request_header| {
            HistoryReadRequest {
                request_header,
                history_read_details: ExtensionObject::from_message(details),
                timestamps_to_return: TimestampsToReturn::Both,
                release_continuation_points: false,
                nodes_to_read,
            }
            .into()
        })?;
        link.expect(request, Pending::History { items: jobs.into_iter().map(|(at, _)| at).collect() });
        Ok(())
    }

    pub(super) fn take_history(
        &mut self,
        items: &[usize],
        results: Vec<super::stack::HistoryReadResult>,
        cycle: &mut Cycle,
    ) {
        let (arrived, mut count) = (self.clock.now(), 0);
        for (at, result) in items.iter().copied().zip(results) {
            if result.status_code.is_bad() {
                self.unfilled(at, result.status_code, cycle);
                continue;
            }
            let Some(job) = self.filler.jobs.get(&at).cloned() else { continue };
            let data = result.history_data.inner_as::<HistoryData>();
            let mut upto = None;
            for data in data.iter().flat_map(|data| data.data_values.iter().flatten()) {
                count += 1;
                let stamped = data.source_timestamp.as_ref().or(data.server_timestamp.as_ref()).and_then(micros);
                let Some(time) = stamped.map(Timestamp::from_micros) else { continue };
                upto = upto.max(Some(time));
                if time <= job.from || time > job.to {
                    continue; // said before, or the questions of several points had one span
                }
                for (place, mut sample) in value::samples(&self.plan.points[at], data, arrived) {
                    sample.flags = sample.flags.and(Flags::HISTORICAL).and(Flags::BACKFILL);
                    sample.tag = self.tag(at, place);
                    cycle.samples.push(sample);
                }
            }
            self.filler.part(at, upto, &result.continuation_point);
        }
        self.filler.answered(count, Instant::now());
    }

    pub(super) fn history_refused(&mut self, items: &[usize], status: StatusCode, cycle: &mut Cycle) {
        for at in items {
            self.unfilled(*at, status, cycle);
        }
        self.filler.answered(0, Instant::now());
    }

    /// What was missed stays missing, and the ledger says so.
    fn unfilled(&mut self, at: usize, status: StatusCode, cycle: &mut Cycle) {
        let Some(job) = self.filler.jobs.get(&at).cloned() else { return };
        self.filler.give_up(at);
        let node = self.plan.points[at].node.to_string();
        if status == StatusCode::GoodNoData || status == StatusCode::BadNoData {
            return;
        }
        let message = format!("the history of {node:.200} cannot be read: {status}");
        cycle.notices.push(Notice {
            details: vec![
                ("cause", "no_history".to_owned()),
                ("node", node.chars().take(200).collect()),
                ("first", job.from.to_string()),
                ("last", job.to.to_string()),
                ("count", "1".to_owned()),
                ("count_kind", "at_least".to_owned()),
            ],
            ..Notice::new(DATA_LOSS, message)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filler(rate: u32) -> Filler {
        Filler::new(Some(BackFill { reach: Duration::from_secs(3600), values_per_second: rate }))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::YEAR_2000.plus_micros(second * 1_000_000)
    }

    // UA-11: what was missed is asked for, within reach, and not faster than agreed
    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_asked_for_slowly() {
        let (mut filler, now) = (filler(100), Instant::now());
        filler.want(3, None, at(10_000));
        assert!(filler.take(now).is_empty(), "a point that never had a value misses none");
        filler.want(3, Some(at(9_000)), at(10_000));
        filler.want(4, Some(at(0)), at(10_000));
        let jobs = filler.take(now);
        assert_eq!(jobs.iter().map(|(at, job)| (*at, job.from)).collect::<Vec<_>>(), [(3, at(9_000)), (4, at(6_400))]);
        assert!(filler.take(now).is_empty(), "one question at a time");
        filler.part(3, Some(at(9_500)), &ByteString::from(&[1u8][..]));
        filler.part(4, Some(at(10_000)), &ByteString::null());
        filler.answered(200, now);
        assert!(filler.take(now + Duration::from_millis(1_999)).is_empty());
        let jobs = filler.take(now + Duration::from_secs(2));
        assert_eq!((jobs.len(), jobs[0].1.from, jobs[0].1.continuation.len()), (1, at(9_500), 1));
        filler.interrupted();
        assert!(filler.jobs[&3].continuation.is_null(), "of a session that is gone");
        filler.give_up(3);
        assert_eq!(filler.next(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_setting_nothing_is_asked() {
        let mut filler = Filler::new(None);
        filler.want(3, Some(at(9_000)), at(10_000));
        assert_eq!(filler.next(), None);
    }
}
