//! Sources that send by themselves (laws 7 and 8): what they are owed, and when - with an adapter that does as told, in
//! paused time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adapters::adapter::{Adapter, Group, LinkError, NO_GROUP, Receipt, Tag};
use adapters::host::{Host, Surroundings};
use adapters::letter::Letter;
use adapters::metrics::AdapterMetrics;
use adapters::outbox::Outbox;
use adapters::pump::Pump;
use adapters::sample::{Cycle, Sample, Value};
use daemon::{Board, Metrics};
use model::{Classification, Clock, Timestamp, ValueType};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::support::{Kept, Machine, identity};

/// What the source says next, and what it was told.
#[derive(Debug, Default)]
struct Script {
    says: Mutex<VecDeque<Said>>,
    changed: Notify,
    settled: Mutex<Vec<Receipt>>,
    closed: Mutex<bool>,
    connects: Mutex<u32>,
}

#[derive(Debug)]
enum Said {
    /// Values of points by number; a point not heard of before is learned.
    Values(Vec<usize>, Option<Receipt>),
    Poison(Receipt),
    HangUp,
}

#[derive(Debug)]
struct Caller {
    script: Arc<Script>,
    tags: Vec<Tag>,
    devices: [String; 1],
}

impl Adapter for Caller {
    fn tags(&self) -> &[Tag] {
        &self.tags
    }

    fn groups(&self) -> &[Group] {
        &[]
    }

    fn devices(&self) -> &[String] {
        &self.devices
    }

    async fn connect(&mut self) -> Result<(), LinkError> {
        *self.script.connects.lock().unwrap() += 1;
        Ok(())
    }

    async fn poll(&mut self, _group: usize, _cycle: &mut Cycle) -> Result<(), LinkError> {
        Ok(())
    }

    async fn hear(&mut self, cycle: &mut Cycle) -> Result<(), LinkError> {
        loop {
            let next = self.script.says.lock().unwrap().pop_front();
            match next {
                None => self.script.changed.notified().await,
                Some(Said::HangUp) => return Err(LinkError::Closed { target: "source".to_owned() }),
                Some(Said::Poison(receipt)) => {
                    let (detail, source) = ("nonsense".to_owned(), "test:x".to_owned());
                    cycle.letters.push(Letter::new("DECODE_ERROR", detail, source, b"\xFF".to_vec()));
                    cycle.receipt = Some(receipt);
                    return Ok(());
                }
                Some(Said::Values(points, receipt)) => {
                    for point in points {
                        while self.tags.len() <= point {
                            self.tags.push(tag(self.tags.len()));
                        }
                        cycle.samples.push(Sample::new(point, Value::Int(1), Timestamp::from_millis(5)));
                    }
                    cycle.receipt = receipt;
                    return Ok(());
                }
            }
        }
    }

    fn settle(&mut self, upto: Receipt) {
        self.script.settled.lock().unwrap().push(upto);
    }

    async fn close(&mut self) {
        *self.script.closed.lock().unwrap() = true;
    }
}

fn tag(n: usize) -> Tag {
    Tag {
        asset_id: "press".to_owned(),
        asset_path: None,
        parameter: format!("p{n}"),
        unit: None,
        value_type: ValueType::Int,
        classification: Classification::Telemetry,
        source_ref: String::new(),
        group: NO_GROUP,
        device: 0,
    }
}

struct Running {
    script: Arc<Script>,
    kept: Kept,
    board: Arc<Board>,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

fn start() -> Running {
    let (script, kept, stop) = (Arc::new(Script::default()), Kept::default(), CancellationToken::new());
    let machine = Machine::at("2026-05-01T10:00:00Z", true);
    let clock: Arc<dyn Clock> = Arc::<Machine>::clone(&machine);
    let board = Arc::new(Board::new("adapter_1", Arc::clone(&clock)));
    let metrics = Metrics::new("adapter_1");
    let own = AdapterMetrics::register(&metrics);
    let around = Surroundings {
        clock,
        watch: machine.watch(&metrics),
        boot_hold: Duration::from_secs(60),
        epoch: 7,
        board: Arc::clone(&board),
        metrics: own.clone(),
    };
    let adapter = Caller { script: Arc::clone(&script), tags: Vec::new(), devices: ["source".to_owned()] };
    let (outlet, token, of_pump) = (kept.clone(), stop.clone(), Arc::clone(&board));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let outbox = Outbox::new(0);
        let hearing = async {
            Host::new(adapter, &outbox, around, 1).run(token.clone()).await;
            outbox.close();
        };
        let pump = Pump { outlet, outbox: &outbox, tags: &[], identity: identity(), metrics: own, board: &of_pump };
        tokio::join!(hearing, pump.run(token.clone()));
    });
    Running { script, kept, board, stop, tasks }
}

impl Running {
    async fn says(&self, said: Said) {
        self.script.says.lock().unwrap().push_back(said);
        self.script.changed.notify_one();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    fn settled(&self) -> Vec<Receipt> {
        self.script.settled.lock().unwrap().clone()
    }

    async fn end(&mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

// laws 1 and 8, MQ-04
#[tokio::test(start_paused = true)]
async fn receipts_are_settled_when_everything_before_them_is_durable() {
    let mut running = start();
    running.says(Said::Values(vec![0, 1], Some(1))).await;
    assert_eq!(running.settled(), [1]);
    running.kept.silent(true);
    running.says(Said::Values(vec![2], None)).await;
    running.says(Said::Values(vec![0], Some(2))).await;
    running.says(Said::Poison(3)).await;
    running.says(Said::Values(vec![], Some(4))).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(running.settled(), [1], "nothing is durable");
    running.kept.silent(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let settled = running.settled();
    assert!(settled.is_sorted() && settled.last() == Some(&4), "{settled:?}");
    let names: Vec<String> = running.kept.seen().into_iter().map(|seen| seen.parameter).collect();
    assert_eq!(names, ["p0", "p1", "p2", "p0"], "points are learned in passing");
    assert_eq!(running.kept.buried()[0].payload, b"\xFF");
    running.end().await;
}

// law 8: what fails is sent again before anything is settled
#[tokio::test(start_paused = true)]
async fn a_failed_batch_is_not_settled_before_it_was_sent_again() {
    let mut running = start();
    running.kept.fail_acks(1);
    for receipt in 1..=5 {
        running.says(Said::Values(vec![0], Some(receipt))).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(running.kept.seen().len(), 5);
    assert!(running.settled().is_sorted() && running.settled().last() == Some(&5));
    running.end().await;
}

// law 8: a reading the stream can never take must not keep its source waiting for ever
#[tokio::test(start_paused = true)]
async fn a_refused_reading_settles_its_receipt() {
    let mut running = start();
    running.kept.refuse("p0");
    running.says(Said::Values(vec![0], Some(1))).await;
    running.says(Said::Values(vec![1], Some(2))).await;
    assert_eq!(running.settled().last(), Some(&2));
    assert_eq!(running.kept.seen().len(), 1);
    running.end().await;
}

// the end: what becomes durable meanwhile is settled, then the source is left politely
#[tokio::test(start_paused = true)]
async fn the_end_settles_what_is_owed_and_closes() {
    let mut running = start();
    running.kept.silent(true);
    running.says(Said::Values(vec![0], Some(1))).await;
    let kept = running.kept.clone();
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        kept.silent(false);
    };
    tokio::join!(running.end(), later);
    assert_eq!(running.settled(), [1]);
    assert!(*running.script.closed.lock().unwrap());
}

// G-09, MB-38: a source that is not polled is as well as its link
#[tokio::test(start_paused = true)]
async fn a_hang_up_is_a_state_of_the_source_and_nothing_else() {
    let mut running = start();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(running.board.health(), model::Health::Healthy);
    running.says(Said::HangUp).await;
    tokio::time::sleep(Duration::from_secs(70)).await;
    assert!(*running.script.connects.lock().unwrap() >= 2);
    assert!(running.board.is_live());
    running.says(Said::Values(vec![0], Some(9))).await;
    assert_eq!(running.settled(), [9]);
    let told = running.kept.told("device.state");
    assert_eq!(told[0].to.as_deref(), Some("OK"));
    running.end().await;
}
