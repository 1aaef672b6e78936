//! Moves samples from the outbox to the stream, in order, and keeps them until they are durable.
//!
//! Only a few batches are on their way at once; everything else waits in the outbox, where a limit and a policy hold
//! (OFF-26). When the stream says a batch failed, all batches on their way are sent again in their old order.

use std::collections::VecDeque;
use std::time::Duration;

use daemon::{Backoff, Board};
use model::{ClockState, Reading, TextList, TextMap, flag, time_source};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::adapter::{Receipt, Tag};
use crate::metrics::{AdapterMetrics, ByCause, ByQuality, ByReason};
use crate::notice::Notice;
use crate::outbox::{Batch, Outbox};
use crate::outlet::{Ack, Outlet, OutletError};
use crate::sample::Sample;

/// Batches sent and not acknowledged; while there are as many, the next waits in the outbox.
const ON_THE_WAY_MAX: usize = 16;
/// Readings per call; a larger batch goes in parts.
const READINGS_MAX: usize = 5_000;
/// Without an acknowledgement for this long, the stream counts as not writable.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long the rest may take after the stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// How long the stop waits for a stream that is away: nobody is left to take the rest, which is counted as lost.
const DRAIN_AWAY_MAX: Duration = Duration::from_secs(1);
/// How often the stop looks whether the stream is away.
const AWAY_LOOK: Duration = Duration::from_millis(100);

/// What of a tag's readings is always the same, packed once.
#[derive(Debug)]
pub struct Labels {
    pairs: Vec<(&'static str, String)>,
    packed: Vec<u8>,
}

/// Who writes: the same for every reading of the process.
#[derive(Debug, Clone)]
pub struct Identity {
    pub gateway_id: String,
    pub adapter_id: String,
    pub adapter_type: &'static str,
    pub config_revision: Option<String>,
    /// Start counter of the adapter.
    pub epoch: i64,
}

impl Identity {
    /// The labels of a tag.
    pub fn labels(&self, tag: &Tag) -> Labels {
        let mut pairs = vec![
            ("gateway_id", self.gateway_id.clone()),
            ("adapter_id", self.adapter_id.clone()),
            ("adapter_type", self.adapter_type.to_owned()),
            ("adapter_version", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        pairs.extend(self.config_revision.clone().map(|revision| ("config_revision", revision)));
        pairs.push(("source_ref", tag.source_ref.clone()));
        let packed = model::text::pack_map(pairs.iter().map(|(key, value)| (*key, value.as_str())));
        Labels { pairs, packed }
    }
}

/// The tags there are, with their labels; grows as the source learns.
#[derive(Debug)]
struct Book {
    tags: Vec<Tag>,
    labels: Vec<Labels>,
}

impl Book {
    fn add(&mut self, tags: Vec<Tag>, identity: &Identity) {
        self.labels.extend(tags.iter().map(|tag| identity.labels(tag)));
        self.tags.extend(tags);
    }
}

/// Takes batches out of the outbox and hands them to the outlet until the outbox is closed and empty.
#[derive(Debug)]
pub struct Pump<'a, O> {
    pub outlet: O,
    pub outbox: &'a Outbox,
    /// Those known at the start; others come through the outbox.
    pub tags: &'a [Tag],
    pub identity: Identity,
    pub metrics: AdapterMetrics,
    pub board: &'a Board,
}

impl<O: Outlet> Pump<'_, O> {
    /// Runs until the outbox is closed and everything is durable, or [`DRAIN_MAX`] after `stop`, or until the stop finds
    /// the stream away. Returns how many samples were left behind.
    pub async fn run(mut self, stop: CancellationToken) -> u64 {
        let mut book = Book { tags: Vec::new(), labels: Vec::new() };
        book.add(self.tags.to_vec(), &self.identity);
        let mut on_the_way = VecDeque::new();
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        };
        tokio::select! { // the left-over is counted below, nothing is lost unseen
            () = self.work(&mut book, &mut on_the_way, &stop) => {}
            () = deadline => {}
        }
        let unconfirmed: usize = on_the_way.iter().map(|(batch, _): &(Batch, Ack)| batch.records()).sum();
        let left = (self.outbox.load().0 + unconfirmed) as u64;
        if left > 0 {
            self.metrics.lost.get_or_create(&ByCause { cause: "stopped" }).inc_by(left);
        }
        left
    }

    async fn work(&mut self, book: &mut Book, on_the_way: &mut VecDeque<(Batch, Ack)>, stop: &CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), 20, 3);
        let mut stopping_since = None;
        while let Err(error) = self.outlet.ready().await {
            if stop.is_cancelled() {
                let since = *stopping_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= DRAIN_AWAY_MAX {
                    return;
                }
            }
            self.show_load(); // what waits shall be seen to grow
            let delay = backoff.next_delay();
            tracing::warn!(error = %daemon::report(&error), retry_in_ms = delay.as_millis(), "readings are kept back");
            tokio::select! { // cancel-safe: both arms only wait
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled(), if stopping_since.is_none() => {}
            }
        }
        backoff.reset();
        let mut last_ack = Instant::now();
        loop {
            let full = self.fill(book, on_the_way).await;
            self.show_load();
            let Some((_, ack)) = on_the_way.front_mut() else {
                if self.outbox.is_closed() && self.outbox.is_empty() {
                    return;
                }
                self.outbox.changed().await;
                last_ack = Instant::now(); // an idle stream is not a silent one
                continue;
            };
            let stopping = stop.is_cancelled();
            if stopping && self.outlet.is_away() && last_ack.elapsed() >= DRAIN_AWAY_MAX {
                return;
            }
            let acknowledged = tokio::select! { // cancel-safe: an ack not ready yet is asked again next time
                biased;
                result = ack => Some(result),
                () = self.outbox.changed(), if !full => None,
                () = tokio::time::sleep_until(last_ack + SILENCE_MAX) => {
                    self.board.set_ready(false);
                    last_ack = Instant::now();
                    None
                }
                () = stop.cancelled(), if !stopping => None,
                () = tokio::time::sleep(AWAY_LOOK), if stopping => None,
            };
            match acknowledged {
                Some(Ok(())) => {
                    if let Some((batch, _)) = on_the_way.pop_front() {
                        self.metrics.acknowledged.inc_by(batch.samples.len() as u64);
                        if let Some(receipt) = batch.receipt {
                            self.outbox.settle(receipt);
                        }
                    }
                    self.board.set_ready(true);
                    backoff.reset();
                    last_ack = Instant::now();
                }
                Some(Err(error)) => {
                    self.board.set_ready(false);
                    let delay = backoff.next_delay();
                    tracing::warn!(error = %daemon::report(&error), retry_in_ms = delay.as_millis(), "sending again");
                    while let Some((batch, _)) = on_the_way.pop_back() {
                        self.outbox.put_back(batch);
                    }
                    tokio::time::sleep(delay).await;
                    if let Err(error) = self.outlet.reopen() {
                        tracing::error!(error = %daemon::report(&error), "the publisher cannot be opened again");
                    }
                    last_ack = Instant::now();
                }
                None => {}
            }
        }
    }

    /// Sends what fits; true if more may not be sent before an acknowledgement.
    async fn fill(&mut self, book: &mut Book, on_the_way: &mut VecDeque<(Batch, Ack)>) -> bool {
        while on_the_way.len() < ON_THE_WAY_MAX {
            // the stream takes something again: what it did not take is told first
            let lost = self.outbox.take_lost();
            let lost = lost.map(|lost| Notice::of_loss(&lost, self.identity.epoch));
            let next = lost.map(Batch::of).or_else(|| self.outbox.pop());
            let Some(mut batch) = next else { return false };
            book.add(self.outbox.take_learned(), &self.identity);
            if batch.records() == 0 {
                pass(batch.receipt, on_the_way);
                continue;
            }
            if let Some(letter) = &batch.letter {
                let buried = letter.with_letter(&self.identity, false, |letter| self.outlet.bury(letter));
                let buried = match buried {
                    // larger than the stream takes: what fits is worth more than nothing
                    Err(_) if letter.payload.len() > crate::letter::CUT_BYTES => {
                        letter.with_letter(&self.identity, true, |letter| self.outlet.bury(letter))
                    }
                    other => other,
                };
                match buried {
                    Ok(Some(ack)) => on_the_way.push_back((batch, ack)),
                    Ok(None) => {
                        self.outbox.put_back(batch);
                        return true;
                    }
                    Err(error) => {
                        tracing::error!(error = %daemon::report(&error), source = letter.source, "dead letter discarded");
                        self.metrics.discarded.get_or_create(&ByReason { reason: "refused" }).inc();
                        pass(batch.receipt, on_the_way);
                    }
                }
                continue;
            }
            if let Some(notice) = &batch.notice {
                match notice.with_event(&self.identity, |event| self.outlet.tell(event, notice.clock_state)) {
                    Ok(Some(ack)) => on_the_way.push_back((batch, ack)),
                    Ok(None) => {
                        self.outbox.put_back(batch);
                        return true;
                    }
                    Err(error) => {
                        tracing::error!(error = %daemon::report(&error), kind = notice.kind, "event discarded");
                        self.metrics.discarded.get_or_create(&ByReason { reason: "refused" }).inc();
                        pass(batch.receipt, on_the_way);
                    }
                }
                continue;
            }
            if batch.samples.len() > READINGS_MAX {
                let rest = batch.split_off(READINGS_MAX);
                self.outbox.put_back(rest);
            }
            match self.send(&batch.samples, book) {
                Ok((ack, taken)) => {
                    self.count(&batch.samples[..taken]);
                    let rest = batch.split_off(taken);
                    let full = !rest.samples.is_empty();
                    if full {
                        self.outbox.put_back(rest);
                    }
                    if taken > 0 {
                        on_the_way.push_back((batch, ack));
                    }
                    if full {
                        return true;
                    }
                }
                Err(error) if batch.samples.len() == 1 => {
                    // One reading that can never be sent must not hold up the others.
                    tracing::error!(error = %daemon::report(&error), tag = batch.samples[0].tag, "reading discarded");
                    self.metrics.discarded.get_or_create(&ByReason { reason: "refused" }).inc();
                    pass(batch.receipt, on_the_way);
                }
                Err(_) => {
                    let half = batch.samples.len() / 2;
                    let rest = batch.split_off(half);
                    self.outbox.put_back(rest);
                    self.outbox.put_back(batch);
                }
            }
            // Large backlogs must not keep the poller from its tick.
            tokio::task::yield_now().await;
        }
        true
    }

    fn send(&mut self, samples: &[Sample], book: &Book) -> Result<(Ack, usize), OutletError> {
        let added: Vec<Added<'_>> =
            samples.iter().map(|sample| Added::of(sample, book.labels.get(sample.tag))).collect();
        let readings: Vec<Reading<'_>> = samples
            .iter()
            .zip(&added)
            .filter_map(|(sample, added)| {
                let (tag, labels) = (book.tags.get(sample.tag)?, book.labels.get(sample.tag)?);
                Some(reading(sample, tag, labels, added, self.identity.epoch))
            })
            .collect();
        self.outlet.send(&readings)
    }

    fn count(&self, samples: &[Sample]) {
        for sample in samples {
            let quality = sample.verdict.quality().as_str();
            self.metrics.records.get_or_create(&ByQuality { quality }).inc();
            if sample.gap_before {
                self.metrics.gaps.inc();
            }
        }
    }

    fn show_load(&self) {
        let (records, bytes) = self.outbox.load();
        self.metrics.buffered_records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.metrics.buffered_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// A receipt without anything that has still to become durable: due when all before it is.
fn pass(receipt: Option<Receipt>, on_the_way: &mut VecDeque<(Batch, Ack)>) {
    if receipt.is_some() {
        on_the_way.push_back((Batch::default().owed(true, receipt), Box::pin(std::future::ready(Ok(())))));
    }
}

/// What a sample has beyond its tag's; empty (and without memory) for the usual one.
#[derive(Debug)]
struct Added<'a> {
    /// All labels, the tag's own included, where there are more.
    labels: Vec<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
    tags: Vec<(&'a str, &'a str)>,
}

impl<'a> Added<'a> {
    fn of(sample: &'a Sample, labels: Option<&'a Labels>) -> Self {
        let extra = sample.extra.as_deref();
        let device_time_raw = extra.and_then(|extra| extra.device_time_raw.as_deref());
        let further = [
            ("raw_value", sample.raw.as_deref()),
            ("source_status", sample.status.as_deref()),
            ("device_time_raw", device_time_raw),
            ("limit", extra.and_then(|extra| extra.limit)),
        ];
        let mut all = Vec::new();
        if further.iter().any(|(_, text)| text.is_some()) {
            let own = labels.into_iter().flat_map(|labels| &labels.pairs).map(|(key, value)| (*key, value.as_str()));
            all.extend(own.chain(further.into_iter().filter_map(|(key, text)| Some((key, text?)))));
        }
        let mut flags = Vec::new();
        if !sample.flags.is_empty() {
            flags.extend(sample.flags.names());
            flags.extend(sample.gap_before.then_some(flag::GAP_BEFORE));
            flags.extend(sample.clock_step.then_some(flag::CLOCK_STEP));
        }
        let tags = extra.into_iter().flat_map(|extra| &extra.tags).map(|(key, value)| (&**key, &**value)).collect();
        Self { labels: all, flags, tags }
    }
}

/// from the device's stamp to the gateway's; unknown while the gateway's is not believed, and where the device has
/// no clock (REC-02).
fn skew_ms(sample: &Sample, time_source: &str) -> Option<i64> {
    let own = time_source != time_source::ACQUISITION && time_source != time_source::GATEWAY;
    let known = sample.clock_state != ClockState::Unsynced && own;
    known.then(|| sample.gateway_time.micros_since(sample.device_time) / 1000)
}

fn reading<'a>(sample: &'a Sample, tag: &'a Tag, labels: &'a Labels, added: &'a Added<'a>, epoch: i64) -> Reading<'a> {
    // for a source without a clock the moment of the answer is the device time.
    let time_source = sample.time_source;
    let unit = sample.extra.as_deref().and_then(|extra| extra.unit.as_deref());
    Reading {
        asset_id: &tag.asset_id,
        asset_path: tag.asset_path.as_deref(),
        parameter: &tag.parameter,
        value: sample.value.as_model(),
        value_type: tag.value_type,
        value_label: sample.label.as_deref(),
        unit: unit.or(tag.unit.as_deref()),
        quality: sample.verdict.quality(),
        quality_reason: sample.verdict.reason(),
        reasons: TextList::Slice(sample.verdict.codes()),
        classification: tag.classification,
        device_time: sample.device_time,
        gateway_time: sample.gateway_time,
        time_source,
        clock_state: sample.clock_state.as_str(),
        clock_skew_ms: skew_ms(sample, time_source),
        epoch,
        seq: sample.seq,
        flags: TextList::Slice(match (sample.gap_before, sample.clock_step) {
            _ if !added.flags.is_empty() => &added.flags,
            (false, false) => &[],
            (true, false) => &[flag::GAP_BEFORE],
            (false, true) => &[flag::CLOCK_STEP],
            (true, true) => &[flag::GAP_BEFORE, flag::CLOCK_STEP],
        }),
        metadata: if added.labels.is_empty() { TextMap::Packed(&labels.packed) } else { TextMap::Slice(&added.labels) },
        tags: TextMap::Slice(&added.tags),
    }
}
