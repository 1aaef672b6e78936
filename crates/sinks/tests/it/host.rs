//! The host's patience, with a target that fails on command.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Health;
use sinks::Error;
use sinks::batch::{Batch, Place};
use sinks::error::TargetError;
use sinks::host::Patience;
use sinks::sink::{Outcome, Refusal, Resume, Sink, Standing};
use stream::Topic;

use crate::support::{MemoryLetters, MemoryStream, Running, eventually, impatient, publish};

/// Everything is shared with the test.
#[derive(Debug, Clone, Default)]
struct Fake {
    down: Arc<AtomicBool>,
    fenced: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    offsets: Arc<Mutex<Vec<Place>>>,
    /// Partition and offset that is refused.
    poison: Arc<Mutex<Option<(i32, i64)>>>,
    positions: Arc<Mutex<Vec<Place>>>,
}

impl Fake {
    fn check(&self) -> Result<(), TargetError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let target = "fake".to_owned();
        if self.fenced.load(Ordering::SeqCst) {
            return Err(TargetError::Fenced { target });
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(TargetError::Failed { target, doing: "writing", source: "connection refused".into() });
        }
        Ok(())
    }
}

impl Sink for Fake {
    async fn connect(&mut self, _: &[Topic]) -> Result<Resume, TargetError> {
        self.check()?;
        Ok(Resume::At(self.positions.lock().unwrap().clone()))
    }

    async fn write(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        self.check()?;
        let poison = *self.poison.lock().unwrap();
        let bad = batch.iter().find(|(_, record)| poison == Some((record.place.partition, record.place.offset)));
        if let Some((index, _)) = bad {
            return Ok(Outcome::Refused(vec![Refusal { index, reason: "TARGET_REFUSED", detail: String::new() }]));
        }
        self.offsets.lock().unwrap().extend(batch.iter().map(|(_, record)| record.place));
        let mut positions = self.positions.lock().unwrap();
        for end in batch.ends() {
            positions.retain(|place| place.partition != end.partition);
            positions.push(*end);
        }
        Ok(Outcome::Taken { confirmed: batch.ends().to_vec() })
    }

    fn standing(&self) -> Standing {
        Standing { target: "fake".to_owned(), health: Health::Healthy, reason: String::new(), details: Vec::new() }
    }
}

// OFF-13, F18, AC-100: five failures open the breaker, nothing is read meanwhile, a trial after the cooldown heals.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_opens_the_breaker_reads_nothing_and_loses_nothing() {
    let stream = MemoryStream::default();
    let fake = Fake::default();
    publish(&stream, 0..3);
    let running = Running::start(fake.clone(), stream.clone(), MemoryLetters::default());
    eventually("the first records", || fake.offsets.lock().unwrap().len() == 3);
    fake.down.store(true, Ordering::SeqCst);
    publish(&stream, 3..6);
    eventually("opening", || running.health()["breaker_state"] == "open");
    assert_eq!(running.health()["status"], "unhealthy");
    assert!(running.health()["reason"].as_str().unwrap().contains("connection refused"), "{}", running.health());
    assert!(running.ctx.board.is_live(), "G-09: an outage is no reason to restart");
    let polls = stream.polls();
    let calls = fake.calls.load(Ordering::SeqCst);
    eventually("a trial", || fake.calls.load(Ordering::SeqCst) > calls);
    assert_eq!(stream.polls(), polls, "nothing is read ahead while the breaker is open");
    fake.down.store(false, Ordering::SeqCst);
    eventually("healing", || running.health()["status"] == "healthy");
    eventually("the rest", || fake.offsets.lock().unwrap().len() == 6);
    running.stop().unwrap();
    let mut places = fake.offsets.lock().unwrap().clone();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 6, "each once");
}

// F18: the fifth failure is the last call until the cooldown is over.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_leaves_the_target_alone() {
    let stream = MemoryStream::default();
    let fake = Fake::default();
    fake.down.store(true, Ordering::SeqCst);
    publish(&stream, 0..3);
    let patience = Patience { cooldown: Duration::from_secs(3600), ..impatient() };
    let running = Running::start_with(patience, fake.clone(), stream.clone(), MemoryLetters::default());
    eventually("opening", || running.health()["breaker_state"] == "open");
    let reason = running.health()["reason"].clone();
    eventually("the next report", || running.health()["reason"] != reason); // it counts the seconds to the trial
    running.stop().unwrap();
    assert_eq!(fake.calls.load(Ordering::SeqCst), 5);
    assert_eq!(stream.polls(), 0);
}

// R-09, AC-100: a poison row goes to the dead letters, the position advances, the breaker stays closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_row_is_buried_once_and_does_not_touch_the_breaker() {
    let stream = MemoryStream::default();
    let fake = Fake::default();
    *fake.poison.lock().unwrap() = Some((1, 3));
    publish(&stream, 0..30);
    let letters = MemoryLetters::default();
    let running = Running::start(fake.clone(), stream.clone(), letters.clone());
    eventually("the rest", || fake.offsets.lock().unwrap().len() == 29);
    eventually("the commit", || stream.committed(Topic::TelemetryClean, 1) == Some(10));
    eventually("the count", || running.health()["written_records"] == 29);
    assert_eq!(running.health()["breaker_state"], "closed");
    assert_eq!(running.health()["dead_letters"], 1);
    let text = running.ctx.metrics.encode().unwrap();
    for line in [
        "sf_dlq_total{reason=\"TARGET_REFUSED\",component=\"sink_test\"} 1",
        "sf_sink_records_total{topic=\"telemetry.clean\",component=\"sink_test\"} 29",
    ] {
        let parts: Vec<&str> = line.split(['{', '}', ',']).map(str::trim).collect();
        assert!(text.lines().any(|have| parts.iter().all(|part| have.contains(part))), "{line} in {text}");
    }
    running.stop().unwrap();
    assert_eq!(letters.all().len(), 1);
}

// F20: buried before the outage, not buried again after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_buried_once_even_when_the_batch_is_read_again() {
    let stream = MemoryStream::default();
    let fake = Fake::default();
    *fake.poison.lock().unwrap() = Some((0, 0));
    let letters = MemoryLetters::default();
    publish(&stream, 0..6);
    let running = Running::start(Flaky { fake: fake.clone(), refused: false }, stream.clone(), letters.clone());
    eventually("the rest", || fake.offsets.lock().unwrap().len() == 5);
    running.stop().unwrap();
    assert_eq!(letters.all().len(), 1);
    assert_eq!(stream.opened().len(), 2, "the target failed once in between");
}

/// Fails once, right after its first refusal.
struct Flaky {
    fake: Fake,
    refused: bool,
}

impl Sink for Flaky {
    async fn connect(&mut self, topics: &[Topic]) -> Result<Resume, TargetError> {
        self.fake.connect(topics).await
    }

    async fn write(&mut self, batch: &Batch) -> Result<Outcome, TargetError> {
        let poisoned = batch.iter().any(|(_, record)| record.place.partition == 0 && record.place.offset == 0);
        if !poisoned && !self.refused {
            self.refused = true;
            return Err(TargetError::Failed { target: "fake".to_owned(), doing: "writing", source: "reset".into() });
        }
        self.fake.write(batch).await
    }

    fn standing(&self) -> Standing {
        self.fake.standing()
    }
}

// I4: two processes as one sink; the older one ends instead of fighting.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_sink_ends() {
    let fake = Fake::default();
    let stream = MemoryStream::default();
    let running = Running::start(fake.clone(), stream.clone(), MemoryLetters::default());
    fake.fenced.store(true, Ordering::SeqCst);
    publish(&stream, 0..3);
    eventually("the end", || running.ctx.board.is_ready() || fake.calls.load(Ordering::SeqCst) > 0);
    let error = running.stop_when_ended().unwrap_err();
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
}
