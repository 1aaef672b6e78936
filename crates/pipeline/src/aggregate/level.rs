//! One resolution over all partitions of its input: readings for seconds, shorter windows for minutes and hours.

use model::{Resolution, Timestamp};

use super::lane::{Checkpoint, Closed, Lane, Restored, Room, Sample, Shape, Taken};
use super::plan::Plans;
use super::recall::Stretch;
use super::window::Input;

/// What a level may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Points with windows, over all partitions; readings of one more are counted and not aggregated (AGG-14).
    pub points_max: usize,
    /// Open windows over all points; a reading that would open one more is counted and not aggregated (AGG-14).
    pub windows_max: usize,
    /// Memory of the closed windows kept for late data, over all partitions, in bytes; each has an equal share, and partitions that need more use
    /// what the others leave. The oldest are let go, and read back from the output when late data comes for them (AGG-06).
    pub kept_bytes_max: usize,
    /// Children and readings of closed windows kept, shared out the same way; those of windows beyond are read again from the
    /// input when late data comes.
    pub kept_parts_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { points_max: 200_000, windows_max: 1_000_000, kept_bytes_max: 48 * 1024 * 1024, kept_parts_max: 60_000 }
    }
}

/// All open windows of a resolution. Pure: the same inputs in the same order close the same windows.
#[derive(Debug)]
pub struct Level {
    shape: Shape,
    lanes: Vec<Lane>,
    room: Room,
    windows_max: usize,
}

impl Level {
    pub fn new(resolution: Resolution, plans: &Plans, partitions: usize, limits: Limits) -> Self {
        let shares = partitions.max(1);
        Self {
            shape: Shape::new(resolution, plans, limits.kept_bytes_max / shares, limits.kept_parts_max / shares),
            lanes: std::iter::repeat_with(Lane::default).take(partitions).collect(),
            room: Room { points: limits.points_max, windows: limits.windows_max },
            windows_max: limits.windows_max,
        }
    }

    /// Goes on from a checkpoint of `partition`; [`Level::was_emitted`] follows for every window behind its mark.
    pub fn resume(&mut self, partition: usize, checkpoint: &Checkpoint) {
        self.lanes[partition].resume(checkpoint);
    }

    /// Takes in a window that the output already holds: it is never emitted again as it is.
    pub fn was_emitted(&mut self, partition: usize, window: &Restored<'_>) {
        self.lanes[partition].was_emitted(&self.shape, &mut self.room, window);
    }

    /// Answers [`Taken::Incomplete`] with what a closed window was made from, in the order of the offsets; `false`
    /// when they do not make up what was emitted, so that it cannot be changed any more.
    pub fn complete(
        &mut self,
        partition: usize,
        asset_id: &str,
        parameter: &str,
        start: Timestamp,
        inputs: &[Input<'_>],
    ) -> bool {
        self.lanes[partition].complete(&self.shape, asset_id, parameter, start.as_micros(), inputs)
    }

    /// What of the output answers [`Taken::Forgotten`]: windows of this asset that begin in this time.
    pub fn stretch(&self, partition: usize, asset_id: &str, start: Timestamp) -> Stretch {
        self.lanes[partition].stretch(&self.shape, asset_id, start.as_micros())
    }

    /// Takes in the newest revision of every window of the asset in the stretch, as the output holds it.
    pub fn recall(&mut self, partition: usize, asset_id: &str, stretch: Stretch, windows: &[Restored<'_>]) {
        self.lanes[partition].recall(&self.shape, asset_id, stretch, windows);
    }

    /// Takes one input in; windows that close on the way go to `out`.
    pub fn sample(&mut self, partition: usize, sample: &Sample<'_>, out: &mut dyn FnMut(&Closed<'_>)) -> Taken {
        self.lanes[partition].sample(&self.shape, &mut self.room, sample, out)
    }

    /// Nothing stamped before `now` is under way in `partition` any more: closes the windows of silent points.
    pub fn advance(&mut self, partition: usize, now: Timestamp, out: &mut dyn FnMut(&Closed<'_>)) {
        self.lanes[partition].advance(&self.shape, &mut self.room, now.as_micros(), out);
    }

    /// Takes in where the output partition ends now; what is emitted from now on lies behind it.
    pub fn note_output_end(&mut self, partition: usize, end: i64) {
        self.lanes[partition].note_output_end(end);
    }

    /// From where a restart would go on, once everything emitted so far is safe; `next` and
    /// `next_event` are the next inputs.
    pub fn checkpoint(&mut self, partition: usize, next: i64, next_event: i64) -> Checkpoint {
        if partition == 0 {
            self.share_out();
        }
        self.lanes[partition].checkpoint(next, next_event)
    }

    /// Lets the partitions that are at their share use what the others leave of theirs.
    fn share_out(&mut self) {
        let bytes = spare(self.shape.kept_bytes, self.lanes.iter().map(|lane| lane.kept().0));
        let parts = spare(self.shape.kept_parts, self.lanes.iter().map(|lane| lane.kept().1));
        for (lane, more) in self.lanes.iter_mut().zip(bytes.into_iter().zip(parts)) {
            lane.allow(more);
        }
    }

    pub fn open_windows(&self) -> usize {
        self.windows_max - self.room.windows
    }
}

/// What each may use beyond its share: those near it get equal parts of what the others leave.
fn spare(share: usize, used: impl Iterator<Item = usize>) -> Vec<usize> {
    let used: Vec<usize> = used.collect();
    let is_near = |used: &usize| *used >= share - share / 8;
    let near = used.iter().filter(|used| is_near(used)).count();
    let left: usize = used.iter().filter(|used| !is_near(used)).map(|used| share - used).sum();
    used.iter().map(|used| if is_near(used) { left / near.max(1) } else { 0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_leave_others_may_use() {
        assert_eq!(
            spare(100, [0, 10, 100, 250].into_iter()),
            [0, 0, 95, 95],
            "a lane over its share keeps what is left"
        );
        assert_eq!(spare(100, [90, 95, 100].into_iter()), [0, 0, 0], "all need theirs");
        assert_eq!(spare(0, [0, 0].into_iter()), [0, 0]);
        let used = [5_usize, 100, 300, 88];
        let most: usize = spare(100, used.into_iter()).iter().zip(used).map(|(more, used)| more + used.min(100)).sum();
        assert!(most <= 400, "never more than all shares together: {most}");
    }
}
