"""Administers topics, settings, offsets and groups with confluent-kafka. Argument: host and port. Any doubt is an assertion."""

import sys

from confluent_kafka import ConsumerGroupTopicPartitions, ElectionType, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

BOOTSTRAP = sys.argv[1]
PATIENCE = 20
CONFIG = {"bootstrap.servers": BOOTSTRAP, "broker.address.family": "v4"}
admin = AdminClient(CONFIG)


def done(futures):
    return {key: future.result(PATIENCE) for key, future in futures.items()}


def refused(futures):
    """The names of the errors that all of the futures end with."""
    names = []
    for future in futures.values():
        try:
            future.result(PATIENCE)
        except KafkaException as error:
            names.append(error.args[0].name())
        else:
            raise AssertionError("not refused")
    return names


def settings(kind, name):
    resource = ConfigResource(kind, name)
    return done(admin.describe_configs([resource]))[resource]


cluster = admin.describe_cluster(include_authorized_operations=True).result(PATIENCE)
assert cluster.controller.id == 1 and len(cluster.nodes) == 1 and cluster.cluster_id, cluster

done(admin.create_topics([NewTopic("t", 2, 1, config={"retention.ms": "86400000"})]))
assert refused(admin.create_topics([NewTopic("t", 1, 1)])) == ["TOPIC_ALREADY_EXISTS"]
done(admin.create_partitions([NewPartitions("t", 3)]))
assert refused(admin.create_partitions([NewPartitions("t", 2)])) == ["INVALID_PARTITIONS"]
described = done(admin.describe_topics(__import__("confluent_kafka").TopicCollection(["t"])))["t"]
assert len(described.partitions) == 3 and described.partitions[0].leader.id == 1

assert settings(ResourceType.TOPIC, "t")["retention.ms"].value == "86400000"
assert settings(ResourceType.BROKER, "1")["delete.topic.enable"].value == "true"
change = ConfigResource(
    ResourceType.TOPIC,
    "t",
    incremental_configs=[
        ConfigEntry("retention.ms", "3600000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
    ],
)
done(admin.incremental_alter_configs([change]))
now = settings(ResourceType.TOPIC, "t")
assert (now["retention.ms"].value, now["cleanup.policy"].value) == ("3600000", "delete,compact"), now
back = ConfigResource(
    ResourceType.TOPIC,
    "t",
    incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SUBTRACT),
    ],
)
done(admin.incremental_alter_configs([back]))
now = settings(ResourceType.TOPIC, "t")
assert (now["retention.ms"].is_default, now["cleanup.policy"].value) == (True, "delete"), now
wrong = ConfigResource(
    ResourceType.TOPIC,
    "t",
    incremental_configs=[ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)],
)
assert refused(admin.incremental_alter_configs([wrong])) == ["INVALID_CONFIG"]

producer = Producer(CONFIG)
for number in range(10):
    producer.produce("t", b"x", partition=0, timestamp=1_000 + (500 if number == 4 else number))
assert producer.flush(PATIENCE) == 0


def found(spec, topic="t"):
    place = TopicPartition(topic, 0)
    return done(admin.list_offsets({place: spec}))[place].offset


assert found(OffsetSpec.earliest()) == 0
assert found(OffsetSpec.latest()) == 10
assert found(OffsetSpec.max_timestamp()) == 4
assert found(OffsetSpec.for_timestamp(1_003)) == 3
# in a compressed batch, too, the record is found and not its batch
for method in ("gzip", "snappy", "lz4", "zstd"):
    done(admin.create_topics([NewTopic(method, 1, 1)]))
    packing = Producer(CONFIG | {"linger.ms": 200, "batch.num.messages": 10, "compression.type": method})
    for number in range(10):
        packing.produce(method, b"x" * 100, partition=0, timestamp=1_000 + (500 if number == 4 else number))
    assert packing.flush(PATIENCE) == 0
    assert found(OffsetSpec.for_timestamp(1_003), method) == 3
    assert found(OffsetSpec.max_timestamp(), method) == 4

done(admin.delete_records([TopicPartition("t", 0, 6)]))
assert found(OffsetSpec.earliest()) == 6
assert refused(admin.delete_records([TopicPartition("t", 0, 99)])) == ["OFFSET_OUT_OF_RANGE"]

places = [TopicPartition("t", 0)]
elected = admin.elect_leaders(ElectionType.PREFERRED, places).result(PATIENCE)
assert [error.name() for error in elected.values()] == ["ELECTION_NOT_NEEDED"], elected

kept = ConsumerGroupTopicPartitions("g", [TopicPartition("t", 0, 7)])
done(admin.alter_consumer_group_offsets([kept]))
groups = admin.list_consumer_groups().result(PATIENCE)
assert [group.group_id for group in groups.valid] == ["g"], groups.valid
offsets = done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g")]))["g"]
assert [place.offset for place in offsets.topic_partitions] == [7]
done(admin.describe_consumer_groups(["g"]))
done(admin.delete_consumer_groups(["g"]))
assert not admin.list_consumer_groups().result(PATIENCE).valid
done(admin.delete_topics(["t"]))
assert refused(admin.delete_topics(["t"])) == ["UNKNOWN_TOPIC_OR_PART"]
