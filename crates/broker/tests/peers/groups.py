"""Members of one consumer group, with the client and the protocol that the arguments name.

Arguments: address of the broker, name of a topic with four partitions, and `consumer` or `classic` for confluent-kafka with
that protocol, or `kafka-python`. Says `settled` when the group has its shares, and waits for a line: the broker was
killed and is back. Any doubt is an assertion.
"""

import queue
import sys
import threading
import time

from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupType, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

BOOTSTRAP, TOPIC, KIND = sys.argv[1:4]
PATIENCE = 30
PARTITIONS = {0, 1, 2, 3}


class Librdkafka:
    def __init__(self, instance=None):
        self.rebalances = 0
        self.read = []
        settings = {
            "bootstrap.servers": BOOTSTRAP,
            "broker.address.family": "v4",
            "group.id": TOPIC,
            "group.protocol": KIND,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "reconnect.backoff.max.ms": 200,
        }
        if KIND == "classic":
            settings["session.timeout.ms"] = 6000
            settings["heartbeat.interval.ms"] = 200
            settings["partition.assignment.strategy"] = "cooperative-sticky"
        if instance:
            settings["group.instance.id"] = instance
        self.consumer = Consumer(settings)
        self.consumer.subscribe([TOPIC], on_assign=self.count, on_revoke=self.count)

    def count(self, *_):
        self.rebalances += 1

    def poll(self):
        message = self.consumer.poll(0.05)
        if message is not None and not message.error():
            self.read.append(message.value())

    def share(self):
        return {one.partition for one in self.consumer.assignment()}

    def commit(self, offset):
        places = [TopicPartition(TOPIC, partition, offset) for partition in self.share()]
        self.consumer.commit(offsets=places, asynchronous=False)

    def close(self):
        self.consumer.close()


class KafkaPython:
    """A member on a thread of its own, as this client wants it.

    Polled in turn by one thread it does not always settle: a joining that ends while nobody is in `poll` is thrown away
    and begun anew (kafka-python 3.0.12, `join_group_async`), and when the leader does that, all others join again.
    """

    def __init__(self, instance=None):
        self.rebalances = 0
        self.read = []
        self.shared = set()
        self.orders = queue.Queue()
        self.thread = threading.Thread(target=self.run, args=(instance,), daemon=True)
        self.thread.start()

    def run(self, instance):
        from kafka import ConsumerRebalanceListener, KafkaConsumer

        member = self

        class Listener(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                member.rebalances += 1

            def on_partitions_assigned(self, assigned):
                member.rebalances += 1

        self.consumer = KafkaConsumer(
            bootstrap_servers=BOOTSTRAP,
            group_id=TOPIC,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=200,
            reconnect_backoff_max_ms=200,
        )
        self.consumer.subscribe([TOPIC], listener=Listener())
        ended = False
        while not ended:
            for records in self.consumer.poll(timeout_ms=200).values():
                self.read.extend(record.value for record in records)
            self.shared = {one.partition for one in self.consumer.assignment()}
            while not self.orders.empty():
                order, done = self.orders.get()
                order()
                done.set()
                ended = order == self.consumer.close

    def poll(self):
        time.sleep(0.05)

    def share(self):
        return self.shared

    def commit(self, offset):
        from kafka import OffsetAndMetadata
        from kafka import TopicPartition as Place

        places = {Place(TOPIC, one): OffsetAndMetadata(offset, "", -1) for one in self.share()}
        self.order(lambda: self.consumer.commit(places))

    def close(self):
        # of a static member that is the close of one that ended without a word; so it is with librdkafka
        self.order(self.consumer.close)
        self.thread.join(PATIENCE)

    def order(self, what):
        done = threading.Event()
        self.orders.put((what, done))
        assert done.wait(PATIENCE), f"{what} does not end"


def until(members, what, check):
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"{what}: {[member.share() for member in members]}"
        for member in members:
            member.poll()


def settle(members, sizes):
    """All partitions are shared out, each to one member."""

    def settled():
        shares = [member.share() for member in members]
        whole = set().union(*shares) == PARTITIONS and sum(map(len, shares)) == len(PARTITIONS)
        return whole and sorted(map(len, shares)) == sizes

    until(members, f"shares of {sizes}", settled)


def described():
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP, "broker.address.family": "v4"})
    group = admin.describe_consumer_groups([TOPIC])[TOPIC].result(PATIENCE)
    kind = ConsumerGroupType.CONSUMER if KIND == "consumer" else ConsumerGroupType.CLASSIC
    assert group.type == kind, group.type
    listed = admin.list_consumer_groups(states={group.state}, types={kind}).result(PATIENCE)
    assert TOPIC in [one.group_id for one in listed.valid], listed.valid
    return group


def main():
    member = KafkaPython if KIND == "kafka-python" else Librdkafka
    first = member()
    settle([first], [4])
    second = member(instance="second")
    settle([first, second], [2, 2])
    until([first, second], "a stable group", lambda: described().state == ConsumerGroupState.STABLE)
    group = described()
    assert len(group.members) == 2, group.members
    places = {place.partition for one in group.members for place in one.assignment.topic_partitions}
    assert places == PARTITIONS, places
    assert "second" in [one.group_instance_id for one in group.members]

    # a static member that comes back soon finds its share, and the other does not notice
    share, noticed = second.share(), first.rebalances
    second.close()
    second = member(instance="second")
    until([first, second], "the share of before", lambda: second.share() == share)
    assert first.rebalances == noticed, "the other member was asked to join again"

    before = [(one.share(), one.rebalances) for one in (first, second)]
    print("settled", flush=True)
    sys.stdin.readline()
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "broker.address.family": "v4"})
    for partition in PARTITIONS:
        producer.produce(TOPIC, b"after", partition=partition)
    assert producer.flush(PATIENCE) == 0
    until([first, second], "records after the restart", lambda: all(b"after" in one.read for one in (first, second)))
    for one in (first, second):
        one.commit(1)
    after = [(one.share(), one.rebalances) for one in (first, second)]
    assert after == before, f"{before} became {after}"

    third = member()
    settle([first, second, third], [1, 1, 2])
    first.close()
    third.close()
    until([second], "everything", lambda: second.share() == PARTITIONS)
    second.close()


main()
