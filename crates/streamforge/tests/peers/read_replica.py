"""Reads a replica of telemetry.clean as its owner does: confluent-kafka, its Avro deserialiser, the owner's registry.

Arguments: bootstrap, registry URL, how many readings there are. Prints one line; any doubt is an assertion.
"""

import struct
import sys

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

BOOTSTRAP, REGISTRY, EXPECTED = sys.argv[1], sys.argv[2], int(sys.argv[3])
TOPIC = "telemetry.clean"
END = b"end of the test's look"

registry = SchemaRegistryClient({"url": REGISTRY})
latest = registry.get_latest_version(f"{TOPIC}-value")
deserialize = AvroDeserializer(registry)
consumer = Consumer(
    {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": "owner",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
    }
)
partitions = len(consumer.list_topics(TOPIC, timeout=20).topics[TOPIC].partitions)
consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(partitions)])
ended, ids, silent = set(), set(), 0
while len(ended) < partitions:
    message = consumer.poll(5)
    if message is None:
        silent += 1
        assert silent < 6, f"silent, {len(ids)} readings so far"
        continue
    assert message.error() is None, message.error()
    if message.value() == END:
        ended.add(message.partition())
        continue
    (magic, schema_id) = struct.unpack(">bI", message.value()[:5])
    # AC-064
    assert (magic, schema_id) == (0, latest.schema_id), (magic, schema_id, latest.schema_id)
    record = deserialize(message.value(), SerializationContext(TOPIC, MessageField.VALUE))
    sequence, metadata = record["sequence"], record["metadata"]
    record_id = f"{metadata['gateway_id']}/{metadata['adapter_id']}/{sequence['epoch']}/{sequence['seq']}"
    assert dict(message.headers())["sf-record-id"].decode() == record_id
    assert message.key().decode() == record["asset_id"]
    assert record_id not in ids, f"{record_id} is there twice"
    ids.add(record_id)
consumer.close()
assert len(ids) == EXPECTED, (len(ids), EXPECTED)
print(f"{len(ids)} readings, each once, schema id {latest.schema_id}")
