//! Figures that are read when somebody asks for the metrics: partitions, lag of groups, fetch sessions.
//!
//! They are always up to date, cost nothing in between, and rows of what was deleted go by themselves. Their number is
//! limited (`limits.rs`), whatever names clients think up; what is left out is counted in `sf_broker_rows_left_out`.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::core::Core;
use crate::limits::{LABEL_BYTES_MAX, LAG_ROWS_MAX, PARTITION_ROWS_MAX};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabel {
    topic: String,
    partition: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: String,
    topic: String,
}

/// Reads the broker's state; an ended broker has none.
#[derive(Debug)]
pub(crate) struct Scrape(Weak<Core>);

impl Scrape {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self(Arc::downgrade(core))
    }
}

/// One partition.
#[derive(Debug)]
struct Row {
    label: PartitionLabel,
    start: i64,
    end: i64,
    bytes: i64,
    received: u64,
    sent: u64,
}

/// The first partitions by topic and number, and how many there are beyond the limit.
fn partitions(core: &Core) -> (Vec<Row>, usize) {
    let topics = core.topics.all();
    let all: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let every = topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)));
    let rows = every.take(PARTITION_ROWS_MAX).map(|(topic, partition)| Row {
        label: PartitionLabel { topic: topic.name.to_string(), partition: partition.index },
        start: partition.log.start_offset(),
        end: core.visible_end(&partition.log),
        bytes: i64::try_from(partition.log.size_bytes()).unwrap_or(i64::MAX),
        received: partition.received_bytes.load(Ordering::Relaxed),
        sent: partition.sent_bytes.load(Ordering::Relaxed),
    });
    (rows.collect(), all.saturating_sub(PARTITION_ROWS_MAX))
}

/// Records behind the committed offsets by group and topic, and how many rows there are beyond the limit.
fn lags(core: &Core) -> (Vec<(GroupLabel, i64)>, usize) {
    let mut rows: Vec<(GroupLabel, i64)> = Vec::new();
    let mut left_out = 0;
    for group in core.offsets.groups() {
        let mut current: Option<(String, i64)> = None;
        let mut done = |topic: (String, i64)| {
            if rows.len() < LAG_ROWS_MAX {
                rows.push((GroupLabel { group: label(&group), topic: topic.0 }, topic.1));
            } else {
                left_out += 1;
            }
        };
        for ((name, index), committed) in core.offsets.of_group(&group) {
            let topic = core.topics.get(&name);
            let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(index)) else { continue };
            let lag = (core.visible_end(&partition.log) - committed.offset).max(0);
            match &mut current {
                Some((topic, sum)) if *topic == name => *sum = sum.saturating_add(lag),
                _ => {
                    if let Some(before) = current.replace((name, lag)) {
                        done(before);
                    }
                }
            }
        }
        if let Some(last) = current {
            done(last);
        }
    }
    (rows, left_out)
}

/// A name that a client chose, cut to a bounded length.
fn label(name: &str) -> String {
    name.chars()
        .scan(0, |bytes, char| {
            *bytes += char.len_utf8();
            (*bytes <= LABEL_BYTES_MAX).then_some(char)
        })
        .collect()
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (impl EncodeLabelSet, i64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn single(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: usize) -> fmt::Result {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn counter<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    rows: impl Iterator<Item = (&'a PartitionLabel, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        ConstCounter::new(value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(core) = self.0.upgrade() else { return Ok(()) };
        let encoder = &mut encoder;
        let (rows, partitions_left_out) = partitions(&core);
        let of = |value: fn(&Row) -> i64| rows.iter().map(move |row| (row.label.clone(), value(row)));
        gauge(encoder, "sf_broker_partition_start_offset", "First offset that is kept", of(|row| row.start))?;
        gauge(encoder, "sf_broker_partition_end_offset", "Offset behind the last durable record", of(|row| row.end))?;
        gauge(encoder, "sf_broker_partition_bytes", "Bytes of a partition on disk", of(|row| row.bytes))?;
        let received = rows.iter().map(|row| (&row.label, row.received));
        counter(encoder, "sf_broker_partition_received_bytes", "Bytes of batches that were stored", received)?;
        let sent = rows.iter().map(|row| (&row.label, row.sent));
        counter(encoder, "sf_broker_partition_sent_bytes", "Bytes of batches that were fetched", sent)?;

        let (lags, lags_left_out) = lags(&core);
        let lags = lags.into_iter();
        gauge(encoder, "sf_broker_group_lag", "Records between a group's offsets and the end of its topic", lags)?;
        let (sessions, cached) = core.fetch_sessions.size();
        single(encoder, "sf_broker_fetch_sessions", "Incremental fetch sessions", sessions)?;
        single(encoder, "sf_broker_fetch_session_partitions", "Partitions of all fetch sessions", cached)?;
        let left_out = partitions_left_out + lags_left_out;
        single(encoder, "sf_broker_rows_left_out", "Partitions and groups that these metrics leave out", left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // security 56: names of clients do not make metrics as long as they like
    #[test]
    fn labels_are_cut_between_characters() {
        assert_eq!(label("short"), "short");
        let long = label(&"ä".repeat(1_000));
        assert!(long.len() <= LABEL_BYTES_MAX && long.len() >= LABEL_BYTES_MAX - 1);
    }
}
