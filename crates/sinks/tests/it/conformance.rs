//! The laws of `sinks::sink::Sink`, run by every sink.
//!
//! A sink joins by implementing [`Bench`] and calling [`all`]; it must not merge without.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use sinks::batch::{Batch, Place};
use sinks::sink::{Outcome, Resume, Sink};
use stream::Topic;

use crate::support::{MemoryLetters, MemoryStream, Running, eventually, payload, reading};

/// A target and how to look into it.
pub(crate) trait Bench {
    type Sink: Sink + Send + 'static;

    /// A sink as a fresh process would make it; all of one bench write to the same target.
    fn sink(&self) -> Self::Sink;

    /// The record with this number, as it stands on the topic; a reading unless the sink takes something else.
    fn payload(&self, seq: i64) -> Vec<u8> {
        payload(&reading(seq))
    }

    /// `seq` of every record in the target, sorted; one that is there twice appears twice.
    fn seqs(&self) -> Vec<i64>;

    /// Empties the target.
    fn clear(&mut self);
}

/// Puts records `seqs` on the topic, over three partitions.
fn publish(bench: &impl Bench, stream: &MemoryStream, seqs: std::ops::Range<i64>) {
    for seq in seqs {
        let partition = i32::try_from(seq % 3).unwrap();
        stream.append(Topic::TelemetryClean, partition, bench.payload(seq));
    }
}

const TOPICS: [Topic; 1] = [Topic::TelemetryClean];

/// Runs every law.
pub(crate) async fn all(bench: &mut impl Bench) {
    every_record_arrives_once_and_is_confirmed(bench).await;
    bench.clear();
    a_crash_before_the_commit_writes_nothing_twice(bench).await;
    bench.clear();
    a_refused_record_leaves_nothing_behind(bench).await;
    bench.clear();
    a_dropped_write_may_be_repeated(bench).await;
    bench.clear();
    the_host_delivers_buries_and_drains(bench);
    bench.clear();
}

fn expect_taken(outcome: Outcome) -> Vec<Place> {
    match outcome {
        Outcome::Taken { confirmed } => confirmed,
        Outcome::Refused(refusals) => panic!("refused: {refusals:?}"),
    }
}

/// Writes a batch and brings it to the target; returns everything that was confirmed.
async fn write_out<S: Sink>(sink: &mut S, batch: &Batch) -> Vec<Place> {
    let mut confirmed = expect_taken(sink.write(batch).await.unwrap());
    confirmed.extend(sink.settle(1000, true).await.unwrap());
    confirmed.sort();
    confirmed
}

// Laws 2 and 5: all records in, all positions out.
async fn every_record_arrives_once_and_is_confirmed(bench: &impl Bench) {
    let mut stream = MemoryStream::default();
    publish(bench, &stream, 0..30);
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    let batch = stream.batch_from(&resume);
    let confirmed = write_out(&mut sink, &batch).await;
    for partition in 0..3 {
        let last = confirmed.iter().filter(|place| place.partition == partition).map(|place| place.offset).max();
        assert_eq!(last, Some(10), "partition {partition}");
    }
    assert_eq!(bench.seqs(), (0..30).collect::<Vec<_>>());
}

// Law 3, I4, F4: the target has the batch, the process dies before anybody else knows.
async fn a_crash_before_the_commit_writes_nothing_twice(bench: &impl Bench) {
    let mut stream = MemoryStream::default();
    for round in 1..=3 {
        publish(bench, &stream, (round - 1) * 20..round * 20);
        let mut sink = bench.sink();
        let resume = sink.connect(&TOPICS).await.unwrap();
        let batch = stream.batch_from(&resume);
        write_out(&mut sink, &batch).await;
        stream.forget_commits(); // nothing was ever committed for the group
        assert_eq!(bench.seqs(), (0..round * 20).collect::<Vec<_>>(), "after round {round}");
    }
}

// Laws 1 and 4, REC-08, F20.
async fn a_refused_record_leaves_nothing_behind(bench: &impl Bench) {
    let mut stream = MemoryStream::default();
    publish(bench, &stream, 0..5);
    let poison = stream.append(Topic::TelemetryClean, 1, b"\0\0\0\0\x01rubbish".to_vec());
    publish(bench, &stream, 5..9);
    let mut sink = bench.sink();
    let resume = sink.connect(&TOPICS).await.unwrap();
    let mut batch = stream.batch_from(&resume);
    let Outcome::Refused(refusals) = sink.write(&batch).await.unwrap() else { panic!("rubbish was taken") };
    let places: Vec<_> = refusals.iter().map(|refusal| batch.record(refusal.index).unwrap().place).collect();
    assert_eq!(places, [Place { topic: TOPICS[0], partition: 1, offset: poison }]);
    sink.settle(1000, true).await.unwrap();
    assert_eq!(bench.seqs(), Vec::<i64>::new());
    for refusal in &refusals {
        batch.exclude(refusal.index);
    }
    let confirmed = write_out(&mut sink, &batch).await;
    assert_eq!(bench.seqs(), (0..9).collect::<Vec<_>>());
    assert!(confirmed.iter().any(|place| place.partition == 1 && place.offset > poison), "{confirmed:?}");
}

// Law 6: the call is dropped after every possible number of steps, then everything is done again.
async fn a_dropped_write_may_be_repeated(bench: &impl Bench) {
    let mut stream = MemoryStream::default();
    publish(bench, &stream, 0..10);
    for steps in 0..12 {
        let mut sink = bench.sink();
        let resume = sink.connect(&TOPICS).await.unwrap();
        let batch = stream.batch_from(&resume);
        {
            let mut write = pin!(sink.write(&batch));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..steps {
                if write.as_mut().poll(&mut context).is_ready() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await; // lets the other side answer
            }
        }
        let resume = sink.connect(&TOPICS).await.unwrap();
        if resume == Resume::Continue {
            continue; // what was taken is still in hand
        }
        let batch = stream.batch_from(&resume);
        write_out(&mut sink, &batch).await;
        assert_eq!(bench.seqs(), (0..10).collect::<Vec<_>>(), "after {steps} steps");
    }
}

// OFF-13, AC-100: through the host, with a record nobody can read in the middle.
fn the_host_delivers_buries_and_drains(bench: &impl Bench) {
    let stream = MemoryStream::default();
    publish(bench, &stream, 0..50);
    stream.append(Topic::TelemetryClean, 0, b"not avro".to_vec());
    stream.append(Topic::TelemetryClean, 0, bench.payload(50));
    let letters = MemoryLetters::default();
    let running = Running::start(bench.sink(), stream.clone(), letters.clone());
    eventually("burying", || letters.all().len() == 1);
    eventually("reading", || running.health()["lag_records"] == 0 || bench.seqs().is_empty());
    running.stop().unwrap(); // what is gathered goes out at the stop
    assert_eq!(bench.seqs(), (0..51).collect::<Vec<_>>());
    let (place, bytes, refusal) = letters.all().remove(0);
    assert_eq!((place.partition, bytes.as_slice(), refusal.reason), (0, b"not avro".as_slice(), "DECODE_ERROR"));
    let ends = [(0, 19), (1, 17), (2, 16)];
    for (partition, end) in ends {
        assert_eq!(stream.committed(Topic::TelemetryClean, partition), Some(end), "partition {partition}");
    }
}
