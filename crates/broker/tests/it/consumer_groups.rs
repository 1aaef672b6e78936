//! The consumer group protocol of KIP-848, with librdkafka as the member.

use std::collections::BTreeSet;

use broker::Settings;
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::groups::{Rebalances, all_read, partitions, settle, watched};
use crate::support::{PATIENCE, TestBroker, produce};

const NEW: (&str, &str) = ("group.protocol", "consumer");

fn quick(settings: &mut Settings) {
    settings.consumer_heartbeat_ms = 100;
    settings.consumer_session_ms = 6_000;
}

fn member(broker: &TestBroker, topic: &str, extra: &[(&str, &str)]) -> (BaseConsumer<Rebalances>, Rebalances) {
    let settings: Vec<(&str, &str)> = [NEW].into_iter().chain(extra.iter().copied()).collect();
    watched(broker, topic, &settings)
}

fn fair(shares: &[BTreeSet<i32>], each: usize) -> bool {
    let all: BTreeSet<&i32> = shares.iter().flatten().collect();
    shares.iter().all(|share| share.len() == each) && all.len() == each * shares.len()
}

// STR-11, F22: the broker hands out, and each partition has one owner
#[tokio::test(flavor = "multi_thread")]
async fn members_share_and_the_rest_inherits() {
    let broker = TestBroker::start_with(quick).await;
    for assignor in ["uniform", "range"] {
        broker.create_topic(assignor, 6, &[]).await;
        let extra = [("group.id", assignor), ("group.remote.assignor", assignor)];
        let (first, _) = member(&broker, assignor, &extra);
        let first = tokio::task::spawn_blocking(move || {
            settle(&[&first], |shares| fair(shares, 6));
            first
        });
        let first = first.await.unwrap();
        let (second, _) = member(&broker, assignor, &extra);
        let (third, _) = member(&broker, assignor, &extra);
        tokio::task::spawn_blocking(move || {
            settle(&[&first, &second, &third], |shares| fair(shares, 2));
            drop(second);
            settle(&[&first, &third], |shares| fair(shares, 3));
            drop(first);
            settle(&[&third], |shares| fair(shares, 6));
        })
        .await
        .unwrap();
    }
}

// STR-11, F22: a broker that was killed comes back to the group it had
#[tokio::test(flavor = "multi_thread")]
async fn members_outlive_the_broker_without_a_rebalance() {
    let mut broker = TestBroker::start_with(quick).await;
    broker.create_topic("steady", 4, &[]).await;
    let (first, first_sees) = member(&broker, "steady", &[("group.id", "steady")]);
    let (second, second_sees) = member(&broker, "steady", &[("group.id", "steady")]);
    let settled = tokio::task::spawn_blocking(move || {
        settle(&[&first, &second], |shares| fair(shares, 2));
        (first, second)
    });
    let (first, second) = settled.await.unwrap();
    let (shares, seen) = ((partitions(&first), partitions(&second)), (first_sees.seen(), second_sees.seen()));
    broker.crash_and_restart().await;
    for partition in 0..4 {
        produce(&broker.producer(&[]), "steady", partition, "after").await;
    }
    let reading = tokio::task::spawn_blocking(move || {
        all_read(&[&first, &second], "after");
        let mut list = TopicPartitionList::new();
        for partition in partitions(&first) {
            list.add_partition_offset("steady", partition, Offset::Offset(1)).unwrap();
        }
        first.commit(&list, CommitMode::Sync).unwrap();
        (first, second)
    });
    let (first, second) = reading.await.unwrap();
    assert_eq!((partitions(&first), partitions(&second)), shares);
    assert_eq!((first_sees.seen(), second_sees.seen()), seen, "nobody was asked to join again");
    tokio::task::spawn_blocking(move || drop((first, second))).await.unwrap();
}

// STR-11: a static member leaves for a moment and finds its share; nobody else notices
#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_to_its_share() {
    let broker = TestBroker::start_with(quick).await;
    broker.create_topic("static", 4, &[]).await;
    let extra = |instance| [("group.id", "static"), ("group.instance.id", instance)];
    let (first, first_sees) = member(&broker, "static", &extra("one"));
    let (second, _) = member(&broker, "static", &extra("two"));
    let settled = tokio::task::spawn_blocking(move || {
        settle(&[&first, &second], |shares| fair(shares, 2));
        let share = partitions(&second);
        drop(second);
        (first, share)
    });
    let (first, share) = settled.await.unwrap();
    let seen = first_sees.seen();
    let (again, _) = member(&broker, "static", &extra("two"));
    tokio::task::spawn_blocking(move || {
        settle(&[&again, &first], |shares| shares[0] == share && shares[1].len() == 2);
        assert_eq!(first_sees.seen(), seen);
    })
    .await
    .unwrap();
}

// STR-11: topics that a regular expression means, and partitions, may come later
#[tokio::test(flavor = "multi_thread")]
async fn a_regular_expression_follows_the_topics() {
    let broker = TestBroker::start_with(quick).await;
    broker.create_topic("plant.a", 1, &[]).await;
    broker.create_topic("other", 1, &[]).await;
    let (reader, _) = member(&broker, "^plant\\..*", &[("group.id", "regex")]);
    let reader = tokio::task::spawn_blocking(move || {
        settle(&[&reader], |shares| fair(shares, 1));
        reader
    });
    let reader = reader.await.unwrap();
    broker.create_topic("plant.b", 1, &[]).await;
    let grown = NewPartitions::new("plant.a", 3);
    broker.admin().create_partitions([&grown], &AdminOptions::new()).await.unwrap();
    tokio::task::spawn_blocking(move || {
        let all = || reader.assignment().unwrap().count() == 4;
        settle(&[&reader], |_| all());
        let list = reader.assignment().unwrap();
        let parts = |topic| list.elements_for_topic(topic).len();
        assert_eq!((parts("plant.a"), parts("plant.b")), (3, 1));
    })
    .await
    .unwrap();
}

// STR-11, STR-12: a group changes its protocol while it has no members, and keeps its offsets
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_changes_its_protocol_and_keeps_its_offsets() {
    let mut broker = TestBroker::start_with(quick).await;
    broker.create_topic("moves", 1, &[]).await;
    for index in 0..6 {
        produce(&broker.producer(&[]), "moves", 0, &index.to_string()).await;
    }
    for (protocol, from) in [("classic", 0), ("consumer", 2), ("classic", 4)] {
        let extra = [("group.id", "moves"), ("group.protocol", protocol)];
        let (reader, _) = watched(&broker, "moves", &extra);
        tokio::task::spawn_blocking(move || {
            all_read(&[&reader], &from.to_string());
            let mut list = TopicPartitionList::new();
            list.add_partition_offset("moves", 0, Offset::Offset(from + 2)).unwrap();
            reader.commit(&list, CommitMode::Sync).unwrap();
            drop(reader);
        })
        .await
        .unwrap();
        broker.crash_and_restart().await;
    }
    let results = broker.admin().delete_groups(&["moves"], &AdminOptions::new()).await.unwrap();
    assert_eq!(results, [Ok("moves".to_owned())]);
    let reader = broker.consumer(&[("group.id", "moves")]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition("moves", 0);
    assert_eq!(reader.committed_offsets(asked, PATIENCE).unwrap().elements()[0].offset(), Offset::Invalid);
}
