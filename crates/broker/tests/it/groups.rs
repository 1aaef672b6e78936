//! Consumer groups: sharing, rebalancing, committing, fencing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::{DeleteGroupsRequest, GroupId, JoinGroupRequest, SyncGroupRequest, join_group_request};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::support::{PATIENCE, TestBroker, produce, take};
use crate::wire::{Wire, text};

const FAST: [(&str, &str); 3] =
    [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "200"), ("auto.offset.reset", "earliest")];

/// A consumer of a group that has not asked to join yet.
fn idle(broker: &TestBroker, group: &str, extra: &[(&str, &str)]) -> BaseConsumer {
    let mut settings = vec![("group.id", group)];
    settings.extend(FAST);
    settings.extend(extra);
    broker.consumer(&settings)
}

fn member(broker: &TestBroker, group: &str, topic: &str, extra: &[(&str, &str)]) -> BaseConsumer {
    let consumer = idle(broker, group, extra);
    consumer.subscribe(&[topic]).unwrap();
    consumer
}

pub(crate) fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> BTreeSet<i32> {
    consumer
        .assignment()
        .unwrap()
        .elements()
        .iter()
        .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
        .collect()
}

/// Polls all members until their assignments satisfy `check`.
pub(crate) fn settle<C: ConsumerContext>(members: &[&BaseConsumer<C>], check: impl Fn(&[BTreeSet<i32>]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for member in members {
            drop(member.poll(Duration::from_millis(50)));
        }
        let shares: Vec<BTreeSet<i32>> = members.iter().map(|member| partitions(member)).collect();
        if check(&shares) {
            return;
        }
        assert!(Instant::now() < deadline, "{shares:?}");
    }
}

/// Counts how often its consumer is given partitions, or loses some.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rebalances(Arc<AtomicUsize>);

impl Rebalances {
    pub(crate) fn seen(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl rdkafka::ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A subscribed member, and what it notices of rebalances.
pub(crate) fn watched(
    broker: &TestBroker,
    topic: &str,
    settings: &[(&str, &str)],
) -> (BaseConsumer<Rebalances>, Rebalances) {
    let rebalances = Rebalances::default();
    let mut config = broker.client();
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    config.set("reconnect.backoff.max.ms", "200");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let consumer: BaseConsumer<Rebalances> = config.create_with_context(rebalances.clone()).unwrap();
    consumer.subscribe(&[topic]).unwrap();
    (consumer, rebalances)
}

/// Polls until every member has read `payload`.
pub(crate) fn all_read(members: &[&BaseConsumer<Rebalances>], payload: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: BTreeSet<usize> = (0..members.len()).collect();
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{payload} does not come to {missing:?}");
        for (at, member) in members.iter().enumerate() {
            let message = member.poll(Duration::from_millis(50));
            if matches!(message, Some(Ok(message)) if message.payload() == Some(payload.as_bytes())) {
                missing.remove(&at);
            }
        }
    }
}

// F22: each partition has one owner, before and after a rebalance
#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_and_the_rest_inherits() {
    for strategy in ["range", "cooperative-sticky"] {
        let broker = TestBroker::start().await;
        broker.create_topic("shared", 6, &[]).await;
        let extra = [("partition.assignment.strategy", strategy)];
        let first = member(&broker, "sinks", "shared", &extra);
        let second = idle(&broker, "sinks", &extra);
        tokio::task::spawn_blocking(move || {
            settle(&[&first], |shares| shares[0].len() == 6);
            second.subscribe(&["shared"]).unwrap();
            settle(&[&first, &second], |shares| {
                shares[0].len() == 3 && shares[1].len() == 3 && shares[0].is_disjoint(&shares[1])
            });
            drop(second);
            settle(&[&first], |shares| shares[0].len() == 6);
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_keeps_its_share_over_a_restart_of_its_own() {
    let broker = TestBroker::start().await;
    broker.create_topic("static", 4, &[]).await;
    let first = member(&broker, "static", "static", &[("group.instance.id", "one")]);
    let second = member(&broker, "static", "static", &[("group.instance.id", "two")]);
    let before = tokio::task::spawn_blocking(move || {
        settle(&[&first, &second], |shares| shares[0].len() == 2 && shares[1].len() == 2);
        (partitions(&second), first)
    });
    let (share, first) = before.await.unwrap();
    let again = member(&broker, "static", "static", &[("group.instance.id", "two")]);
    tokio::task::spawn_blocking(move || {
        settle(&[&again, &first], |shares| shares[0] == share && shares[1].len() == 2);
    })
    .await
    .unwrap();
}

// STR-12: offsets with their notes, over a stop and over a crash
#[tokio::test(flavor = "multi_thread")]
async fn committed_offsets_survive_restarts() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("kept", 2, &[]).await;
    let producer = broker.producer(&[]);
    for index in 0..10 {
        produce(&producer, "kept", index % 2, &index.to_string()).await;
    }
    let consumer = broker.consumer(&[("group.id", "keeper")]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("kept", 0, Offset::Offset(3)).unwrap();
    list.add_partition_offset("kept", 1, Offset::Offset(4)).unwrap();
    for mut element in list.elements() {
        element.set_metadata("a note");
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
    drop(consumer);
    for orderly in [true, false] {
        if orderly {
            broker.restart().await;
        } else {
            broker.crash_and_restart().await;
        }
        let consumer = broker.consumer(&[("group.id", "keeper")]);
        let mut asked = TopicPartitionList::new();
        asked.add_partition("kept", 0);
        asked.add_partition("kept", 1);
        let found = consumer.committed_offsets(asked, PATIENCE).unwrap();
        let offsets = [found.elements()[0].offset(), found.elements()[1].offset()];
        assert_eq!(offsets, [Offset::Offset(3), Offset::Offset(4)], "orderly: {orderly}");
        assert_eq!(found.elements()[0].metadata(), "a note");
    }
    let resumed = member(&broker, "keeper", "kept", &[]);
    let seen = tokio::task::spawn_blocking(move || take(&resumed, 3)).await.unwrap();
    let mut payloads: Vec<String> = seen.into_iter().map(|record| record.payload).collect();
    payloads.sort();
    assert_eq!(payloads, ["6", "8", "9"]);
}

// STR-05, STR-12: the offsets' log does not grow for ever and loses nothing when it is rewritten
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_rewritten_and_their_log_stays_small() {
    let mut broker = TestBroker::start_with(|settings| settings.offsets_rewrite_bytes = 20_000).await;
    broker.create_topic("busy", 1, &[]).await;
    let dir = broker.dir().join("topics/__consumer_offsets/0");
    let start_of_log = |broker: &TestBroker| {
        let consumer = broker.consumer(&[]);
        consumer.fetch_watermarks("__consumer_offsets", 0, PATIENCE).unwrap().0
    };
    assert_eq!(start_of_log(&broker), 0);
    let consumer = broker.consumer(&[("group.id", "busy")]);
    let once = broker.consumer(&[("group.id", "once")]);
    let commit = |consumer: &BaseConsumer, offset: i64| {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("busy", 0, Offset::Offset(offset)).unwrap();
        consumer.commit(&list, CommitMode::Sync).unwrap();
    };
    commit(&once, 7);
    let deadline = Instant::now() + PATIENCE;
    let mut last = 0;
    while start_of_log(&broker) == 0 {
        assert!(Instant::now() < deadline, "never rewritten, {:?}", std::fs::read_dir(&dir).unwrap().count());
        for _ in 0..50 {
            last += 1;
            commit(&consumer, last);
        }
    }
    drop((consumer, once));
    broker.crash_and_restart().await;
    for (group, expected) in [("busy", last), ("once", 7)] {
        let consumer = broker.consumer(&[("group.id", group)]);
        let mut asked = TopicPartitionList::new();
        asked.add_partition("busy", 0);
        let found = consumer.committed_offsets(asked, PATIENCE).unwrap();
        assert_eq!(found.elements()[0].offset(), Offset::Offset(expected), "{group}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_and_deleted() {
    use rdkafka::admin::AdminOptions;
    let broker = TestBroker::start().await;
    broker.create_topic("listed", 1, &[]).await;
    let consumer = member(&broker, "alive", "listed", &[]);
    let consumer = tokio::task::spawn_blocking(move || {
        settle(&[&consumer], |shares| shares[0].len() == 1);
        consumer
    });
    let consumer = consumer.await.unwrap();
    let groups = consumer.fetch_group_list(None, PATIENCE).unwrap();
    let alive = groups.groups().iter().find(|group| group.name() == "alive").unwrap();
    assert_eq!((alive.state(), alive.protocol_type(), alive.members().len()), ("Stable", "consumer", 1));
    let results = broker.admin().delete_groups(&["alive", "never-was"], &AdminOptions::new()).await.unwrap();
    assert!(results.iter().all(Result::is_err), "{results:?}");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("listed", 0, Offset::Offset(0)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
    tokio::task::spawn_blocking(move || drop(consumer)).await.unwrap();
    let results = broker.admin().delete_groups(&["alive"], &AdminOptions::new()).await.unwrap();
    assert_eq!(results, [Ok("alive".to_owned())]);
    let reader = broker.consumer(&[("group.id", "alive")]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition("listed", 0);
    assert_eq!(reader.committed_offsets(asked, PATIENCE).unwrap().elements()[0].offset(), Offset::Invalid);
}

// STR-11, F22: who is a member is in the log, so a broker that comes back asks nobody to join again
#[tokio::test(flavor = "multi_thread")]
async fn members_outlive_the_broker_without_a_rebalance() {
    let mut broker = TestBroker::start().await;
    broker.create_topic("steady", 4, &[]).await;
    for orderly in [false, true] {
        let group = format!("steady-{orderly}");
        let mut settings = vec![("group.id", group.as_str())];
        settings.extend(FAST);
        let (first, first_sees) = watched(&broker, "steady", &settings);
        let (second, second_sees) = watched(&broker, "steady", &settings);
        let settled = tokio::task::spawn_blocking(move || {
            settle(&[&first, &second], |shares| shares[0].len() == 2 && shares[1].len() == 2);
            (first, second)
        });
        let (first, second) = settled.await.unwrap();
        let ids = || {
            let groups = first.fetch_group_list(Some(&group), PATIENCE).unwrap();
            let mut ids: Vec<String> =
                groups.groups()[0].members().iter().map(|member| member.id().to_owned()).collect();
            ids.sort();
            (groups.groups()[0].state().to_owned(), ids)
        };
        let (before, shares) = (ids(), (partitions(&first), partitions(&second)));
        let seen = (first_sees.seen(), second_sees.seen());
        if orderly {
            broker.restart().await;
        } else {
            broker.crash_and_restart().await;
        }
        assert_eq!(ids(), before, "the members are known before they are heard of");
        let mark = format!("behind {group}");
        let producer = broker.producer(&[]);
        for partition in 0..4 {
            produce(&producer, "steady", partition, &mark).await;
        }
        let reading = tokio::task::spawn_blocking(move || {
            // partitions that were read to their ends wait for records: several heartbeats pass meanwhile
            all_read(&[&first, &second], &mark);
            let mut list = TopicPartitionList::new();
            for partition in partitions(&first) {
                list.add_partition_offset("steady", partition, Offset::Offset(1)).unwrap();
            }
            first.commit(&list, CommitMode::Sync).unwrap();
            let until = Instant::now() + Duration::from_secs(1);
            settle(&[&first, &second], |_| Instant::now() > until);
            (first, second)
        });
        let (first, second) = reading.await.unwrap();
        assert_eq!((partitions(&first), partitions(&second)), shares, "orderly: {orderly}");
        assert_eq!((first_sees.seen(), second_sees.seen()), seen, "orderly: {orderly}");
        tokio::task::spawn_blocking(move || drop((first, second))).await.unwrap();
    }
}

// STR-12: never by default; with a time, all offsets of a group that nobody uses, and none of a group that lives
#[tokio::test(flavor = "multi_thread")]
async fn offsets_go_only_when_the_operator_wants_it_and_nobody_is_there() {
    let broker = TestBroker::start_with(|settings| settings.offsets_retention_ms = Some(1_500)).await;
    broker.create_topic("fleeting", 1, &[]).await;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("fleeting", 0, Offset::Offset(0)).unwrap();
    let alive = member(&broker, "alive", "fleeting", &[]);
    let alive = tokio::task::spawn_blocking(move || {
        settle(&[&alive], |shares| shares[0].len() == 1);
        alive
    });
    let alive = alive.await.unwrap();
    alive.commit(&list, CommitMode::Sync).unwrap();
    let gone = broker.consumer(&[("group.id", "gone")]);
    gone.commit(&list, CommitMode::Sync).unwrap();
    let committed = |consumer: &BaseConsumer| {
        let mut asked = TopicPartitionList::new();
        asked.add_partition("fleeting", 0);
        consumer.committed_offsets(asked, PATIENCE).unwrap().elements()[0].offset()
    };
    assert_eq!(committed(&gone), Offset::Offset(0));
    tokio::task::spawn_blocking(move || {
        settle(&[&alive], |_| committed(&gone) == Offset::Invalid);
        assert_eq!(committed(&alive), Offset::Offset(0));
    })
    .await
    .unwrap();
}

// STR-11: the clock says who is a member, not when the broker has last looked at it
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_deleted_as_soon_as_the_sessions_of_its_members_are_over() {
    const SESSION_MS: i32 = 1_000;
    const NON_EMPTY_GROUP: i16 = 68;
    let broker = TestBroker::start().await;
    let mut wires = Vec::new();
    for index in 0..8 {
        let mut wire = Wire::connect(&broker).await;
        let group = GroupId(text(&format!("g{index}")));
        let one = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
        let join = JoinGroupRequest::default().with_group_id(group.clone()).with_session_timeout_ms(SESSION_MS);
        let join = join.with_rebalance_timeout_ms(SESSION_MS).with_protocol_type(text("consumer"));
        let joined = wire.ask(3, &join.with_protocols(vec![one])).await;
        let sync = SyncGroupRequest::default().with_group_id(group.clone()).with_member_id(joined.member_id);
        assert_eq!(wire.ask(2, &sync.with_generation_id(joined.generation_id)).await.error_code, 0);
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group]);
        assert_eq!(wire.ask(1, &delete).await.results[0].error_code, NON_EMPTY_GROUP);
        wires.push((Instant::now(), wire, delete));
    }
    let mut answers = Vec::new();
    for (heard, wire, delete) in &mut wires {
        tokio::time::sleep_until(*heard + Duration::from_millis(SESSION_MS.unsigned_abs().into())).await;
        answers.push(wire.ask(1, delete).await.results[0].error_code);
    }
    assert_eq!(answers, [0; 8]);
}
