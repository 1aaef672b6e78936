//! Fetch: whole batches from where the client asks, or a wait until there are enough.
//!
//! A fetch is full (it names all of its partitions, and may ask for a session to be kept) or incremental (it goes on
//! with a session and names what changed). Both look at the partitions that are due; for a full one that is all of them.
//! Invariant: nothing beyond the durable end of a log is ever answered, and to readers of committed records nothing that
//! is undecided.
//! Look next at `fetch_sessions/`.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use commitlog::Fetched;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::fetch_answer::{FetchAnswer, Slices};
use super::result_code;
use crate::core::{Core, LEADER_EPOCH, READ_COMMITTED, log_error_code};
use crate::dispatch::Call;
use crate::fetch_sessions::{self, Asked, Live, Seen, Shared, TopicRef, next_epoch};
use crate::limits::{FETCH_BYTES_MAX, FETCH_WAIT_MAX};
use crate::partition::Partition;
use crate::waiters::Inbox;

/// First version that calls topics by id, and first one with sessions.
const BY_ID_SINCE: i16 = 13;
const SESSIONS_SINCE: i16 = 7;

pub(crate) async fn fetch(core: Arc<Core>, call: Call, request: FetchRequest) -> FetchAnswer {
    let deadline = Instant::now() + wait(request.max_wait_ms);
    let answered = match Reading::begin(&core, &call, &request) {
        Ok(reading) => reading.answer(&core, &call, &request, deadline).await,
        Err(error) => Err(error),
    };
    answered.unwrap_or_else(|error| {
        core.metrics.count_error(call.api, error.code());
        FetchResponse::default().with_error_code(error.code()).into()
    })
}

fn wait(max_wait_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(max_wait_ms).unwrap_or(0)).min(FETCH_WAIT_MAX)
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fetch under way.
struct Reading {
    live: Shared,
    inbox: Arc<Inbox>,
    /// The session it belongs to, zero for none.
    id: i32,
    /// Epoch of the session's next fetch; another one there means that this fetch has been overtaken.
    epoch: i32,
    /// The answer holds all partitions.
    full: bool,
    /// The client would like to go on with a session.
    keep: bool,
}

impl Reading {
    /// Finds or makes the session, and takes in what the request changes about it.
    fn begin(core: &Core, call: &Call, request: &FetchRequest) -> Result<Self, ResponseError> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let by_id = call.version >= BY_ID_SINCE;
        if matches!(epoch, fetch_sessions::NEW | fetch_sessions::NONE) || call.version < SESSIONS_SINCE {
            core.fetch_sessions.close(id);
            let mut live = Live::new(&core.topics, by_id);
            ask(core, &mut live, request);
            let keep = epoch == fetch_sessions::NEW && call.version >= SESSIONS_SINCE;
            let (inbox, epoch) = (Arc::clone(&live.inbox), live.epoch);
            return Ok(Self { live: Arc::new(Mutex::new(live)), inbox, id: 0, epoch, full: true, keep });
        }
        let shared = core.fetch_sessions.take_up(id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        let mut live = lock(&shared);
        if live.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if live.by_id != by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        live.epoch = next_epoch(epoch);
        ask(core, &mut live, request);
        for forgotten in &request.forgotten_topics_data {
            let topic = topic_ref(by_id, &forgotten.topic, forgotten.topic_id);
            for index in &forgotten.partitions {
                live.session.forget(topic.clone(), *index);
            }
        }
        let (inbox, epoch, partitions) = (Arc::clone(&live.inbox), live.epoch, live.session.len());
        drop(live);
        inbox.call(); // an older fetch of this session that still waits has been overtaken
        if partitions == 0 {
            core.fetch_sessions.close(id);
            return Ok(Self { live: shared, inbox, id: 0, epoch, full: true, keep: false });
        }
        if !core.fetch_sessions.resize(id, partitions) {
            core.fetch_sessions.close(id);
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        Ok(Self { live: shared, inbox, id, epoch, full: false, keep: false })
    }

    /// Looks until there is enough, or the time is up.
    async fn answer(
        self,
        core: &Core,
        call: &Call,
        request: &FetchRequest,
        deadline: Instant,
    ) -> Result<FetchAnswer, ResponseError> {
        let mut last = request.max_wait_ms <= 0;
        loop {
            if let Some(response) = self.step(core, call, request, last)? {
                return Ok(response);
            }
            tokio::select! { // cancel-safe: all arms only wait
                woken = timeout_at(deadline, self.inbox.woken()) => last = woken.is_err(),
                () = core.committer.failure().raised() => last = true,
                () = core.stopping.cancelled() => last = true,
            }
        }
    }

    /// One look; `None` when it is worth waiting for more.
    fn step(
        &self,
        core: &Core,
        call: &Call,
        request: &FetchRequest,
        last: bool,
    ) -> Result<Option<FetchAnswer>, ResponseError> {
        let mut live = lock(&self.live);
        if live.epoch != self.epoch {
            self.inbox.call(); // this wake was meant for the fetch that goes on with the session
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        live.refresh(&core.topics);
        let mut looks = look(core, request, &live, self.full);
        let last = last || live.session.is_empty() || core.committer.failure().reason().is_some();
        if !last && !looks.enough(request) && live.watch() {
            // watched before the look that decides, so that nothing is missed between it and the wait
            looks = look(core, request, &live, self.full);
        }
        if !last && !looks.enough(request) {
            return Ok(None);
        }
        let id = if self.keep && !live.session.is_empty() {
            live.watch();
            core.fetch_sessions.admit(&self.live, live.session.len())
        } else {
            self.id
        };
        let seen: Vec<(usize, Seen)> = looks.found.iter().map(|found| (found.slot, found.seen)).collect();
        let included = live.session.answer(&seen, self.full);
        let mut answer = respond(core, call, request, &live, looks, &included);
        answer.response.session_id = id;
        Ok(Some(answer))
    }
}

fn topic_ref(by_id: bool, name: &TopicName, id: Uuid) -> TopicRef {
    if by_id { TopicRef::Id(id) } else { TopicRef::Name(name.0.clone()) }
}

fn ask(core: &Core, live: &mut Live, request: &FetchRequest) {
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let (offset, max_bytes) = (wanted.fetch_offset, wanted.partition_max_bytes);
            (wanted.partition, Asked { offset, max_bytes, leader_epoch: wanted.current_leader_epoch })
        });
        live.ask(&core.topics, topic_ref(live.by_id, &topic.topic, topic.topic_id), partitions);
    }
}

/// What was found in one partition.
struct Found {
    slot: usize,
    seen: Seen,
    read: Result<Read, ResponseError>,
}

/// What a partition has for this reader.
struct Read {
    records: Fetched,
    high_watermark: i64,
    /// Nothing below it is undecided.
    stable: i64,
    log_start: i64,
    /// For readers of committed records: the transactions whose records they leave out.
    aborted: Option<Vec<AbortedTransaction>>,
}

/// What one look at the partitions that are due found.
struct Looks {
    found: Vec<Found>,
    bytes: usize,
    /// A partition has an error, which must not wait.
    failed: bool,
}

impl Looks {
    fn enough(&self, request: &FetchRequest) -> bool {
        self.failed || self.bytes >= usize::try_from(request.min_bytes).unwrap_or(0)
    }
}

fn look(core: &Core, request: &FetchRequest, live: &Live, full: bool) -> Looks {
    let mut budget = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let mut looks = Looks { found: Vec::new(), bytes: 0, failed: false };
    let isolation = request.isolation_level;
    for (slot, entry) in live.session.due() {
        if !full && looks.bytes > 0 && budget == 0 {
            break; // those who are left out come first the next time
        }
        let partition = entry.handle.partition.as_ref().map_err(|error| *error);
        let read = partition.and_then(|found| read(core, found, &entry.asked, isolation, budget, looks.bytes == 0));
        let (read, seen) = match read {
            Ok(read) => {
                let (size, high_watermark) = (read.records.size(), read.high_watermark);
                looks.bytes += size;
                budget = budget.saturating_sub(size);
                let (log_start, behind) = (read.log_start, entry.asked.offset < high_watermark);
                (Ok(read), Seen { high_watermark, log_start, records: size > 0, behind, failed: false })
            }
            Err(error) => {
                looks.failed = true;
                let seen = Seen { high_watermark: -1, log_start: -1, records: false, behind: false, failed: true };
                (Err(error), seen)
            }
        };
        looks.found.push(Found { slot, seen, read });
    }
    looks
}

fn read(
    core: &Core,
    partition: &Partition,
    asked: &Asked,
    isolation: i8,
    budget: usize,
    first: bool,
) -> Result<Read, ResponseError> {
    check_epoch(asked.leader_epoch)?;
    let high_watermark = core.visible_end(&partition.log);
    let stable = partition.log.last_stable_offset(high_watermark);
    let end = if isolation == READ_COMMITTED { stable } else { high_watermark };
    let start = partition.log.start_offset();
    if asked.offset < start || asked.offset > partition.log.end_offset() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let most = usize::try_from(asked.max_bytes).unwrap_or(0).min(budget);
    if asked.offset >= end || (most == 0 && !first) {
        let (records, log_start) = (Fetched::Copied(Vec::new()), start);
        let aborted = (isolation == READ_COMMITTED).then(Vec::new);
        return Ok(Read { records, high_watermark, stable, log_start, aborted });
    }
    let failed = |error: commitlog::Error| {
        if !matches!(error, commitlog::Error::OffsetOutOfRange { .. }) {
            tracing::error!(partition = partition.index, error = %daemon::report(&error), "cannot read records");
        }
        log_error_code(&error)
    };
    let records = partition.log.fetch(asked.offset, most, first, end).map_err(failed)?;
    let aborted = match records.next_offset() {
        _ if isolation != READ_COMMITTED => None,
        None => Some(Vec::new()),
        Some(next) => Some(aborted(partition, asked.offset, next).map_err(failed)?),
    };
    Ok(Read { records, high_watermark, stable, log_start: start, aborted })
}

/// The aborted transactions that a reader of these offsets has to leave out.
fn aborted(partition: &Partition, from: i64, to: i64) -> Result<Vec<AbortedTransaction>, commitlog::Error> {
    let answer = |one: commitlog::Aborted| {
        AbortedTransaction::default().with_producer_id(ProducerId(one.producer_id)).with_first_offset(one.first_offset)
    };
    Ok(partition.log.aborted_transactions(from, to)?.into_iter().map(answer).collect())
}

fn respond(
    core: &Core,
    call: &Call,
    request: &FetchRequest,
    live: &Live,
    looks: Looks,
    included: &[bool],
) -> FetchAnswer {
    let mut slices = Slices::default();
    let mut topics: Vec<FetchableTopicResponse> = Vec::new();
    let mut places: HashMap<&TopicRef, usize> = HashMap::new();
    for (found, included) in looks.found.into_iter().zip(included) {
        let Some(entry) = live.session.entry(found.slot).filter(|_| *included) else { continue };
        if let (Ok(partition), Ok(read)) = (&entry.handle.partition, &found.read) {
            partition.sent_bytes.fetch_add(u64::try_from(read.records.size()).unwrap_or(0), Ordering::Relaxed);
        }
        let error = result_code(&found.read);
        core.metrics.count_error(call.api, error);
        let place = *places.entry(&entry.topic).or_insert_with(|| {
            topics.push(named(&entry.topic));
            topics.len() - 1
        });
        let topic = &mut topics[place];
        let committed = request.isolation_level == READ_COMMITTED;
        let (records, stable, aborted) = match found.read {
            Ok(read) => (slices.keep(topic, entry.index, read.records), read.stable, read.aborted),
            Err(_) => (Some(Bytes::new()), -1, committed.then(Vec::new)),
        };
        let answer = PartitionData::default()
            .with_partition_index(entry.index)
            .with_error_code(error)
            .with_high_watermark(found.seen.high_watermark)
            .with_last_stable_offset(stable)
            .with_log_start_offset(found.seen.log_start)
            .with_preferred_read_replica(BrokerId(-1))
            .with_aborted_transactions(aborted)
            .with_records(records);
        topic.partitions.push(answer);
    }
    FetchAnswer { response: FetchResponse::default().with_responses(topics), slices }
}

fn named(topic: &TopicRef) -> FetchableTopicResponse {
    let (name, id) = match topic {
        TopicRef::Name(name) => (name.clone(), Uuid::nil()),
        TopicRef::Id(id) => (StrBytes::new(), *id),
    };
    FetchableTopicResponse::default().with_topic(TopicName(name)).with_topic_id(id)
}

/// A client may say which leader it believes in; there has been but one.
pub(crate) fn check_epoch(epoch: i32) -> Result<(), ResponseError> {
    if epoch > LEADER_EPOCH { Err(ResponseError::UnknownLeaderEpoch) } else { Ok(()) }
}
