//! Compaction in the background: the compacted logs one after the other, on a thread that may block (STR-05).

use std::sync::Arc;

use commitlog::Log;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::codec::Codecs;
use crate::core::Core;

/// Compacts until the broker stops; a pass that runs then is left unfinished, the next start begins it anew.
pub(crate) async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut ticks = interval(core.settings.compaction_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! { // cancel-safe: both arms only wait
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        if !core.believes_clock() {
            continue; // the passes would be dated by that clock, and tombstones go by their date
        }
        for topic in core.topics.all() {
            for partition in topic.partitions.iter().filter(|partition| partition.log.options().compact) {
                let (log, stop, now_ms) = (Arc::clone(&partition.log), stop.clone(), core.clock.now_ms());
                let pass = tokio::task::spawn_blocking(move || compact(&log, now_ms, &stop)).await;
                let (topic, partition) = (topic.name.as_str(), partition.index);
                match pass {
                    Ok(Ok(done)) if done.segments > 0 => {
                        let (segments, before, after) = (done.segments, done.bytes_before, done.bytes_after);
                        tracing::info!(topic, partition, segments, before, after, "old values of keys were removed");
                    }
                    Ok(Ok(_) | Err(commitlog::Error::Closed { .. } | commitlog::Error::Stopped { .. })) => {}
                    Ok(Err(error)) => {
                        let error = daemon::report(&error);
                        tracing::warn!(topic, partition, %error, "compaction was given up for now");
                    }
                    Err(error) => tracing::error!(topic, partition, %error, "compaction failed"),
                }
            }
        }
    }
}

fn compact(log: &Log, now_ms: i64, stop: &CancellationToken) -> Result<commitlog::Compacted, commitlog::Error> {
    log.compact(&Codecs, now_ms, &|| !stop.is_cancelled())
}
