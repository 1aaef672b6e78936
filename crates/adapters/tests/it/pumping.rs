//! From the outbox to the outlet: order, repetition, refusal, drain.

use std::sync::Arc;
use std::time::Duration;

use adapters::adapter::Tag;
use adapters::metrics::AdapterMetrics;
use adapters::outbox::{Batch, Outbox};
use adapters::pump::Pump;
use adapters::sample::{Sample, Value};
use daemon::{Board, Metrics};
use model::{Classification, SystemClock, Timestamp, ValueType, reason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Kept, identity};

fn tags(count: usize) -> Vec<Tag> {
    (0..count)
        .map(|n| Tag {
            asset_id: "press".to_owned(),
            asset_path: None,
            parameter: format!("p{n}"),
            unit: None,
            value_type: ValueType::Int,
            classification: Classification::Telemetry,
            source_ref: format!("a={n}"),
            group: 0,
            device: 0,
        })
        .collect()
}

fn batch(seqs: std::ops::Range<i64>, tag: usize) -> Batch {
    let sample = |seq| Sample { seq, ..Sample::new(tag, Value::Int(seq), Timestamp::from_millis(seq)) };
    Batch::new(seqs.map(sample).collect())
}

/// Pumps everything in `outbox` into `kept`, as a process that stops would; returns what was left behind.
async fn drain(outbox: &Outbox, kept: &Kept, metrics: &Metrics, board: &Board) -> u64 {
    outbox.close();
    let tags = tags(3);
    let metrics = AdapterMetrics::register(metrics);
    let pump = Pump { outlet: kept.clone(), outbox, tags: &tags, identity: identity(), metrics, board };
    let stop = CancellationToken::new();
    stop.cancel();
    pump.run(stop).await
}

fn parts() -> (Metrics, Board) {
    (Metrics::new("adapter_1"), Board::new("adapter_1", Arc::new(SystemClock)))
}

#[tokio::test(start_paused = true)]
async fn order_is_kept_over_failures_and_full_queues() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    kept.not_ready(2);
    kept.fail_acks(1);
    kept.take_at_most(3);
    let outbox = Outbox::new(3);
    for n in 0..10 {
        outbox.push(batch(n * 5..n * 5 + 5, 0));
    }
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 0);
    let seqs: Vec<i64> = kept.seen().iter().map(|seen| seen.seq).collect();
    assert_eq!(seqs, (0..50).collect::<Vec<_>>());
    assert!(board.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_takes_those_behind_it_back_with_it() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    kept.fail_acks(1);
    let outbox = Outbox::new(3);
    for n in 0..40 {
        outbox.push(batch(n * 2..n * 2 + 2, 0));
    }
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 0);
    assert_eq!(kept.seen().iter().map(|seen| seen.seq).collect::<Vec<_>>(), (0..80).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_refused_reading_does_not_hold_up_the_others() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    kept.refuse("p1");
    let outbox = Outbox::new(3);
    outbox.push(batch(0..3, 0));
    outbox.push(batch(3..4, 1));
    outbox.push(batch(4..6, 2));
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 0);
    assert_eq!(kept.seen().iter().map(|seen| seen.seq).collect::<Vec<_>>(), [0, 1, 2, 4, 5]);
    assert!(metrics.encode().unwrap().contains("sf_discarded_total{component=\"adapter_1\",reason=\"refused\"} 1"));
}

// G-03: what could not be delivered at the end is counted, not forgotten.
#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_end_is_counted() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    kept.silent(true);
    let outbox = Outbox::new(3);
    outbox.push(batch(0..4, 0));
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 4);
    assert!(!board.is_ready());
    assert!(metrics.encode().unwrap().contains("sf_loss_records_total{component=\"adapter_1\",cause=\"stopped\"} 4"));
}

// nobody is left to take the rest: a stop that waits for it only keeps the successor waiting
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_stream_that_is_away() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    kept.silent(true);
    kept.away();
    let outbox = Outbox::new(3);
    outbox.push(batch(0..4, 0));
    let begin = Instant::now();
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 4);
    assert!(begin.elapsed() < Duration::from_secs(2), "it waited {:?}", begin.elapsed());
    let kept = Kept::default();
    kept.not_ready(usize::MAX);
    let outbox = Outbox::new(3);
    outbox.push(batch(0..4, 0));
    let begin = Instant::now();
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 4);
    assert!(begin.elapsed() < Duration::from_secs(3), "without a registry it waited {:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn readings_say_who_where_and_why() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    let outbox = Outbox::new(3);
    let bad = Sample {
        status: Some("exception 0x04".into()),
        ..Sample::bad(1, reason::DEVICE_EXCEPTION, Timestamp::default())
    };
    outbox.push(Batch::new(vec![Sample::new(0, Value::Float(85.4), Timestamp::default()), bad]));
    drain(&outbox, &kept, &metrics, &board).await;
    let [good, bad] = &kept.seen()[..] else { panic!("two readings") };
    let get = |seen: &crate::support::Seen, key: &str| {
        seen.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    };
    assert_eq!(good.value, "Float(85.4)");
    assert_eq!(get(good, "gateway_id").as_deref(), Some("gw-1"));
    assert_eq!(get(good, "source_ref").as_deref(), Some("a=0"));
    assert_eq!((bad.quality, bad.reason.as_deref()), ("BAD", Some(reason::DEVICE_EXCEPTION)));
    assert_eq!(bad.value, "Null");
    assert_eq!(get(bad, "source_status").as_deref(), Some("exception 0x04"));
    assert_eq!(get(bad, "adapter_id").as_deref(), Some("adapter_1"));
}

// OFF-26, OFF-30: what a full buffer dropped is a row of the loss ledger, told before the readings that were kept
#[tokio::test(start_paused = true)]
async fn what_was_dropped_is_told_before_what_was_kept() {
    let (metrics, board) = parts();
    let kept = Kept::default();
    let outbox = Outbox::with_limit(3, batch(0..10, 0).bytes() * 2);
    let dropped: u64 = (0..5).map(|n| outbox.push(batch(n * 10..n * 10 + 10, 0))).sum();
    assert_eq!(dropped, 30);
    kept.full_for_events(1);
    assert_eq!(drain(&outbox, &kept, &metrics, &board).await, 0);
    let told = kept.told(adapters::notice::DATA_LOSS);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].after, 0);
    let detail = |key| told[0].detail(key).unwrap_or_default();
    assert_eq!(
        ["cause", "epoch", "from_seq", "to_seq", "count", "count_kind"].map(detail),
        ["buffer_full", "7", "0", "30", "30", "exact"]
    );
    assert_eq!(kept.seen().iter().map(|seen| seen.seq).collect::<Vec<_>>(), (30..50).collect::<Vec<_>>());
}
