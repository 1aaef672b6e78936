"""Reads three partitions with kafka-python, whose fetches go on with a session. Argument: host and port."""

import os
import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

BOOTSTRAP = sys.argv[1]
PATIENCE = 20

producer = KafkaProducer(bootstrap_servers=BOOTSTRAP)
consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", fetch_max_wait_ms=500)
consumer.assign([TopicPartition("t", partition) for partition in range(3)])


def read(count):
    deadline = time.monotonic() + PATIENCE
    seen = []
    while len(seen) < count:
        assert time.monotonic() < deadline, seen
        for records in consumer.poll(timeout_ms=200).values():
            seen += [(record.partition, record.offset, record.value) for record in records]
    return sorted(seen)


for round in range(20):
    # one partition moves, the others are left out of requests and answers
    partition, offset = round % 3, round // 3
    producer.send("t", b"%d" % round, partition=partition).get(PATIENCE)
    assert read(1) == [(partition, offset, b"%d" % round)]
consumer.pause(TopicPartition("t", 0))
for partition in range(3):
    producer.send("t", b"last", partition=partition).get(PATIENCE)
assert [place for place, _, _ in read(2)] == [1, 2]
consumer.resume(TopicPartition("t", 0))
assert [place for place, _, _ in read(1)] == [0]
os._exit(0)  # without a goodbye, so that the session is still there to be counted
