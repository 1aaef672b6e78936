"""librdkafka through confluent-kafka."""

import threading
import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, OFFSET_BEGINNING
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic
from confluent_kafka.admin import OffsetSpec, ResourceType, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType

from cases import BOOTSTRAP, KILLED_SECONDS, REGISTRY, case, expect, name, need, run

WAIT = 20


# answers come only as long as their client lives
ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def admin():
    return ADMIN


def topic(partitions=1, **config):
    title = name("topic")
    config = {key.replace("_", "."): value for key, value in config.items()}
    admin().create_topics([NewTopic(title, partitions, 1, config=config)])[title].result(WAIT)
    return title


def produce(title, count, partitions=1, headers=None, base_ms=0, config=None):
    """Records 0..count, round robin; fails unless each is acknowledged."""
    bad = []
    client = Producer({"bootstrap.servers": BOOTSTRAP, **(config or {})})
    for i in range(count):
        while True:
            try:
                client.produce(
                    title,
                    key=f"k{i}",
                    value=f"v{i}-" + "x" * 80,
                    partition=i % partitions,
                    timestamp=base_ms + i if base_ms else 0,
                    headers=headers,
                    on_delivery=lambda error, _: error and bad.append(error),
                )
                break
            except BufferError:
                client.poll(0.1)
    expect(client.flush(WAIT), 0, "records not acknowledged")
    expect(bad, [], "refused")


def read(title, count, partitions=1, **config):
    """The first records of a topic, by partition."""
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": name("reader"), **config})
    consumer.assign([TopicPartition(title, p, OFFSET_BEGINNING) for p in range(partitions)])
    records = []
    until = time.monotonic() + WAIT
    while len(records) < count and time.monotonic() < until:
        for message in consumer.consume(500, 0.2):
            if message.error():
                raise KafkaException(message.error())
            records.append(message)
    consumer.close()
    expect(len(records), count, "records read")
    return records


def refused(future, code):
    """The error an admin call must end with."""
    try:
        future.result(WAIT)
    except KafkaException as error:
        expect(error.args[0].code(), code, "error code")
        return
    raise AssertionError("the call must fail")


@case
def produce_consume():
    title = topic(3)
    produce(title, 3000, 3, headers=[("h", b"1"), ("h", b"2"), ("none", None)], base_ms=1_700_000_000_000)
    records = read(title, 3000, 3)
    expect(sorted(int(r.key()[1:]) for r in records), list(range(3000)), "keys")
    expect(records[0].headers(), [("h", b"1"), ("h", b"2"), ("none", None)], "headers")
    expect(all(r.timestamp()[1] == 1_700_000_000_000 + int(r.key()[1:]) for r in records), True, "timestamps")
    for partition in range(3):
        offsets = [r.offset() for r in records if r.partition() == partition]
        expect(offsets, list(range(1000)), "offsets")


def compression(codec):
    title = topic()
    produce(title, 2000, config={"compression.type": codec})
    values = [r.value() for r in read(title, 2000)]
    expect(values, [f"v{i}-".encode() + b"x" * 80 for i in range(2000)], "values")


@case
def compression_gzip():
    compression("gzip")


@case
def compression_snappy():
    compression("snappy")


@case
def compression_lz4():
    compression("lz4")


@case
def compression_zstd():
    compression("zstd")


@case
def acks_none_and_one():
    title = topic()
    produce(title, 100, config={"acks": 0})
    produce(title, 100, config={"acks": 1})
    read(title, 200)


@case
def idempotence():
    title = topic(2)
    produce(title, 20000, 2, config={"enable.idempotence": True, "linger.ms": 1, "batch.num.messages": 50})
    for partition in range(2):
        keys = [int(r.key()[1:]) for r in read(title, 20000, 2) if r.partition() == partition]
        expect(keys, list(range(partition, 20000, 2)), "order of a partition")


@case
def too_large_a_record_is_refused():
    title = topic(max_message_bytes="10000")
    errors = []
    client = Producer({"bootstrap.servers": BOOTSTRAP})
    client.produce(title, b"x" * 50000, on_delivery=lambda error, _: errors.append(error.code() if error else None))
    client.flush(WAIT)
    expect(errors, [KafkaError.MSG_SIZE_TOO_LARGE], "outcome")


class Member:
    """A member of a group with what was assigned to it and how often it was asked to give something up."""

    def __init__(self, group, title, **config):
        self.assigned, self.revocations, self.seen = set(), 0, []
        base = {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
        }
        if config.get("group.protocol") == "consumer":
            del base["session.timeout.ms"], base["heartbeat.interval.ms"]
        self.consumer = Consumer(base | config)
        self.consumer.subscribe([title], on_assign=self._take, on_revoke=self._give, on_lost=self._give)

    def _take(self, consumer, partitions):
        self.assigned |= {p.partition for p in partitions}

    def _give(self, consumer, partitions):
        self.revocations += 1
        self.assigned -= {p.partition for p in partitions}

    def poll(self):
        message = self.consumer.poll(0.05)
        if message is not None and not message.error():
            self.seen.append(message)

    def close(self):
        self.consumer.close()


def until_shared(members, counts):
    """Polls until the partitions are shared like that, each owned once."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for member in members:
            member.poll()
        owned = [p for member in members for p in member.assigned]
        if sorted(len(m.assigned) for m in members) == sorted(counts) and len(owned) == len(set(owned)):
            return
    raise AssertionError(f"shared as {[sorted(m.assigned) for m in members]}, wanted {counts}")


def rebalance(**config):
    title, group = topic(6), name("group")
    first = Member(group, title, **config)
    until_shared([first], [6])
    second = Member(group, title, **config)
    until_shared([first, second], [3, 3])
    third = Member(group, title, **config)
    until_shared([first, second, third], [2, 2, 2])
    second.close()
    until_shared([first, third], [3, 3])
    first.close()
    until_shared([third], [6])
    third.close()


@case
def group_rebalance():
    rebalance()


@case
def group_rebalance_round_robin():
    rebalance(**{"partition.assignment.strategy": "roundrobin"})


@case
def group_rebalance_cooperative():
    rebalance(**{"partition.assignment.strategy": "cooperative-sticky"})


@case
def group_next_generation():
    rebalance(**{"group.protocol": "consumer"})


@case
def group_static_members():
    title, group = topic(4), name("group")
    one = Member(group, title, **{"group.instance.id": "one"})
    two = Member(group, title, **{"group.instance.id": "two"})
    until_shared([one, two], [2, 2])
    had, revocations = set(two.assigned), one.revocations
    two.close()
    # within its session a static member comes back to what it had, and nobody else notices
    two = Member(group, title, **{"group.instance.id": "two"})
    until_shared([one, two], [2, 2])
    expect(two.assigned, had, "partitions of the member that came back")
    expect(one.revocations, revocations, "revocations of the other member")
    # an instance id belongs to the newest member
    other = Member(group, title, **{"group.instance.id": "two"})
    until = time.monotonic() + WAIT
    fenced = None
    while fenced is None and time.monotonic() < until:
        one.poll(), other.poll()
        try:
            message = two.consumer.poll(0.05)
        except KafkaException as error:
            fenced = error.args[0].code()
        else:
            if message is not None and message.error():
                fenced = message.error().code()
    expect(fenced in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL), True, f"fenced with {fenced}")
    one.close(), other.close()


@case
def group_member_that_dies_is_replaced():
    title, group = topic(2), name("group")
    dead = Member(group, title)
    until_shared([dead], [2])
    other = Member(group, title)
    until_shared([dead, other], [1, 1])
    # nobody polls or closes it any more; its heartbeats end with max.poll.interval.ms, so it is paused by leaving it out
    alone = time.monotonic()
    del dead.consumer
    until_shared([other], [2])
    expect(time.monotonic() - alone < 30, True, "within its session")
    other.close()


@case
def group_commits():
    title, group = topic(), name("group")
    produce(title, 100)
    first = Member(group, title)
    until = time.monotonic() + WAIT
    while len(first.seen) < 100 and time.monotonic() < until:
        first.poll()
    place = TopicPartition(title, 0, 42, "some text")
    first.consumer.commit(offsets=[place], asynchronous=False)
    first.close()
    again = Member(group, title)
    while not again.seen and time.monotonic() < until:
        again.poll()
    expect(again.seen[0].offset(), 42, "where reading goes on")
    committed = again.consumer.committed([TopicPartition(title, 0)], WAIT)[0]
    expect((committed.offset, committed.metadata), (42, "some text"), "commit")
    again.close()


@case
def seek_by_time():
    title = topic()
    produce(title, 1000, base_ms=1_700_000_000_000)
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": name("group")})
    for wanted, offset in [(0, 0), (1_700_000_000_300, 300), (1_700_000_000_999, 999), (1_700_000_001_000, -1)]:
        found = consumer.offsets_for_times([TopicPartition(title, 0, wanted)], WAIT)[0]
        expect(found.error, None, "error")
        expect(found.offset, offset, f"offset at {wanted}")
    consumer.assign([TopicPartition(title, 0, 300)])
    message = consumer.poll(WAIT)
    expect(message.key(), b"k300", "first record there")
    consumer.seek(TopicPartition(title, 0, 10))
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is not None and message.offset() == 10:
            break
    expect(message.key(), b"k10", "after a seek back")
    expect(consumer.get_watermark_offsets(TopicPartition(title, 0), WAIT), (0, 1000), "watermarks")
    consumer.close()


@case
def admin_topics():
    client, title = admin(), topic(3)
    expect(len(client.list_topics(timeout=WAIT).topics[title].partitions), 3, "partitions")
    from confluent_kafka import TopicCollection

    described = client.describe_topics(TopicCollection([title]))[title].result(WAIT)
    expect([p.id for p in described.partitions], [0, 1, 2], "described partitions")
    expect(described.partitions[0].leader is not None, True, "leader")
    refused(client.create_topics([NewTopic(title, 1, 1)])[title], KafkaError.TOPIC_ALREADY_EXISTS)
    refused(client.create_topics([NewTopic("a b", 1, 1)])["a b"], KafkaError.TOPIC_EXCEPTION)
    refused(client.create_topics([NewTopic("many", 1, 3)])["many"], KafkaError.INVALID_REPLICATION_FACTOR)
    validated = name("validated")
    client.create_topics([NewTopic(validated, 1, 1)], validate_only=True)[validated].result(WAIT)
    expect(validated in client.list_topics(timeout=WAIT).topics, False, "a topic that was only validated")
    client.delete_topics([title])[title].result(WAIT)
    expect(title in client.list_topics(timeout=WAIT).topics, False, "the deleted topic")
    refused(client.delete_topics([title])[title], KafkaError.UNKNOWN_TOPIC_OR_PART)


@case
def admin_configs():
    client, title = admin(), topic(retention_ms="3600000")
    resource = ConfigResource(ResourceType.TOPIC, title)
    entries = client.describe_configs([resource])[resource].result(WAIT)
    expect(entries["retention.ms"].value, "3600000", "retention.ms")
    change = ConfigResource(
        ResourceType.TOPIC,
        title,
        incremental_configs=[ConfigEntry("segment.ms", "7200000", incremental_operation=AlterConfigOpType.SET)],
    )
    client.incremental_alter_configs([change])[change].result(WAIT)
    entries = client.describe_configs([resource])[resource].result(WAIT)
    expect((entries["retention.ms"].value, entries["segment.ms"].value), ("3600000", "7200000"), "after the change")
    bad = ConfigResource(
        ResourceType.TOPIC,
        title,
        incremental_configs=[ConfigEntry("retention.ms", "soon", incremental_operation=AlterConfigOpType.SET)],
    )
    refused(client.incremental_alter_configs([bad])[bad], KafkaError.INVALID_CONFIG)
    broker = ConfigResource(ResourceType.BROKER, str(next(iter(client.list_topics(timeout=WAIT).brokers))))
    expect(len(client.describe_configs([broker])[broker].result(WAIT)) > 0, True, "the broker's settings")


@case
def admin_partitions():
    client, title = admin(), topic(2)
    client.create_partitions([NewPartitions(title, 5)])[title].result(WAIT)
    expect(len(client.list_topics(timeout=WAIT).topics[title].partitions), 5, "partitions")
    produce(title, 10, 5)
    refused(client.create_partitions([NewPartitions(title, 3)])[title], KafkaError.INVALID_PARTITIONS)


@case
def admin_delete_records():
    title = topic()
    produce(title, 100)
    place = TopicPartition(title, 0, 60)
    result = admin().delete_records([place])[place].result(WAIT)
    expect(result.low_watermark, 60, "first offset")
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": name("group")})
    expect(consumer.get_watermark_offsets(TopicPartition(title, 0), WAIT), (60, 100), "watermarks")
    consumer.close()
    expect(read(title, 40)[0].offset(), 60, "first record")


@case
def admin_list_offsets():
    title = topic()
    produce(title, 100, base_ms=1_700_000_000_000)
    place = TopicPartition(title, 0)
    for spec, offset in [
        (OffsetSpec.earliest(), 0),
        (OffsetSpec.latest(), 100),
        (OffsetSpec.max_timestamp(), 99),
        (OffsetSpec.for_timestamp(1_700_000_000_050), 50),
    ]:
        expect(admin().list_offsets({place: spec})[place].result(WAIT).offset, offset, str(spec))


@case
def admin_groups():
    client, title, group = admin(), topic(2), name("group")
    produce(title, 10, 2)
    member = Member(group, title)
    until_shared([member], [2])
    member.consumer.commit(offsets=[TopicPartition(title, 0, 3), TopicPartition(title, 1, 0)], asynchronous=False)
    listed = client.list_consumer_groups().result(WAIT)
    expect(group in [g.group_id for g in listed.valid], True, "listed")
    described = client.describe_consumer_groups([group])[group].result(WAIT)
    expect(described.state.name, "STABLE", "state")
    parts = described.members[0].assignment.topic_partitions
    expect(sorted(p.partition for p in parts), [0, 1], "assignment")
    refused(client.delete_consumer_groups([group])[group], KafkaError.NON_EMPTY_GROUP)
    member.close()
    request = ConsumerGroupTopicPartitions(group, [TopicPartition(title, 0)])
    offsets = client.list_consumer_group_offsets([request])[group].result(WAIT)
    expect(offsets.topic_partitions[0].offset, 3, "committed")
    change = ConsumerGroupTopicPartitions(group, [TopicPartition(title, 0, 7)])
    client.alter_consumer_group_offsets([change])[group].result(WAIT)
    offsets = client.list_consumer_group_offsets([request])[group].result(WAIT)
    expect(offsets.topic_partitions[0].offset, 7, "altered")
    client.delete_consumer_groups([group])[group].result(WAIT)
    expect(group in [g.group_id for g in client.list_consumer_groups().result(WAIT).valid], False, "deleted")


@case
def admin_cluster():
    cluster = admin().describe_cluster().result(WAIT)
    expect(bool(cluster.cluster_id), True, "cluster id")
    expect(len(cluster.nodes), 1, "nodes")
    expect(cluster.controller is not None, True, "controller")


@case
def admin_acls():
    client, title = admin(), topic()
    binding = AclBinding(
        ResourceType.TOPIC,
        title,
        ResourcePatternType.LITERAL,
        "User:somebody",
        "*",
        AclOperation.READ,
        AclPermissionType.ALLOW,
    )
    client.create_acls([binding])[binding].result(WAIT)
    every = AclBindingFilter(
        ResourceType.TOPIC, title, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    expect(client.describe_acls(every).result(WAIT), [binding], "acls")
    expect(client.delete_acls([every])[every].result(WAIT), [binding], "deleted acls")
    expect(client.describe_acls(every).result(WAIT), [], "acls left")


@case
def admin_scram_users():
    client, user = admin(), name("user")
    upsert = UserScramCredentialUpsertion(user, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"secret")
    client.alter_user_scram_credentials([upsert])[user].result(WAIT)
    found = client.describe_user_scram_credentials([user])[user].result(WAIT)
    expect(found.scram_credential_infos[0].iterations, 4096, "iterations")


@case
def transactions():
    title = topic()
    client = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name("tx")})
    client.init_transactions(WAIT)
    for commit in (False, True):
        client.begin_transaction()
        for i in range(10):
            client.produce(title, value=f"{'kept' if commit else 'dropped'}{i}")
        client.commit_transaction(WAIT) if commit else client.abort_transaction(WAIT)
    values = [r.value() for r in read(title, 10, **{"isolation.level": "read_committed"})]
    expect(values, [f"kept{i}".encode() for i in range(10)], "records of the committed transaction")


@case
def transactions_with_offsets():
    source, target, group = topic(), topic(), name("group")
    produce(source, 10)
    member = Member(group, source)
    until = time.monotonic() + WAIT
    while len(member.seen) < 10 and time.monotonic() < until:
        member.poll()
    client = Producer({"bootstrap.servers": BOOTSTRAP, "transactional.id": name("tx")})
    client.init_transactions(WAIT)
    client.begin_transaction()
    for message in member.seen:
        client.produce(target, value=message.value())
    offsets = member.consumer.position(member.consumer.assignment())
    client.send_offsets_to_transaction(offsets, member.consumer.consumer_group_metadata(), WAIT)
    client.commit_transaction(WAIT)
    read(target, 10, **{"isolation.level": "read_committed"})
    expect(member.consumer.committed([TopicPartition(source, 0)], WAIT)[0].offset, 10, "committed offset")
    member.close()


@case
def registry_avro():
    """STR-22: schemas through SchemaRegistryClient, records through its serialisers."""
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    registry, title = SchemaRegistryClient({"url": REGISTRY}), topic()
    text = '{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}'
    wider = '{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":["null","string"],"default":null}]}'
    broken = '{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"c","type":"string"}]}'
    context = SerializationContext(title, MessageField.VALUE)
    serialize = AvroSerializer(registry, text)
    Producer({"bootstrap.servers": BOOTSTRAP}).flush()
    client = Producer({"bootstrap.servers": BOOTSTRAP})
    client.produce(title, serialize({"a": 7}, context))
    client.flush(WAIT)
    value = read(title, 1)[0].value()
    expect(AvroDeserializer(registry)(value, context), {"a": 7}, "record")
    expect(AvroDeserializer(registry, wider)(value, context), {"a": 7, "b": None}, "record read with a wider schema")
    subject = f"{title}-value"
    expect(registry.get_latest_version(subject).version, 1, "version")
    expect(registry.test_compatibility(subject, Schema(wider, "AVRO")), True, "a wider schema is compatible")
    expect(registry.test_compatibility(subject, Schema(broken, "AVRO")), False, "a new field without a default is not")
    expect(registry.register_schema(subject, Schema(wider, "AVRO")) > 0, True, "id")
    expect(registry.get_versions(subject), [1, 2], "versions")
    expect(registry.delete_subject(subject), [1, 2], "deleted versions")


@case
def registry_json_schema():
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

    registry, subject = SchemaRegistryClient({"url": REGISTRY}), name("json") + "-value"
    schema = Schema('{"type":"object","properties":{"a":{"type":"integer"}}}', "JSON")
    found = registry.get_schema(registry.register_schema(subject, schema))
    expect(found.schema_type, "JSON", "type")


def secured(**config):
    """A round trip over a listener with TLS or SASL."""
    title = topic()
    client = Producer(config)
    client.produce(title, b"hello")
    expect(client.flush(WAIT), 0, "records not acknowledged")
    consumer = Consumer(config | {"group.id": name("group")})
    consumer.assign([TopicPartition(title, 0, 0)])
    message = consumer.poll(WAIT)
    expect(message and message.value(), b"hello", "record")
    consumer.close()


@case
def tls():
    secured(
        **{
            "bootstrap.servers": need("SF_COMPAT_TLS_BOOTSTRAP"),
            "security.protocol": "SSL",
            "ssl.ca.location": need("SF_COMPAT_CA_FILE"),
        }
    )


def sasl(mechanism):
    secured(
        **{
            "bootstrap.servers": need("SF_COMPAT_SASL_BOOTSTRAP"),
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": need("SF_COMPAT_CA_FILE"),
            "sasl.mechanism": mechanism,
            "sasl.username": need("SF_COMPAT_USER"),
            "sasl.password": need("SF_COMPAT_PASSWORD"),
        }
    )


@case
def sasl_plain():
    sasl("PLAIN")


@case
def sasl_scram_256():
    sasl("SCRAM-SHA-256")


@case
def sasl_scram_512():
    sasl("SCRAM-SHA-512")


@case
def killed_groups():
    """The broker dies again and again while one producer writes and a group with a static member reads."""
    title, group, partitions = topic(6), name("group"), 6
    refused_records, sent = [], 0
    stop = threading.Event()

    def write():
        nonlocal sent
        client = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "message.timeout.ms": 0})
        while not stop.is_set():
            for _ in range(20):
                client.produce(
                    title,
                    str(sent),
                    partition=sent % partitions,
                    on_delivery=lambda error, _: error and refused_records.append(error),
                )
                sent += 1
            client.poll(0.1)
        if client.flush(60):
            refused_records.append("not flushed")

    writer = threading.Thread(target=write)
    writer.start()
    config = {"session.timeout.ms": 10000}
    members = [
        Member(group, title, **config),
        Member(group, title, **config),
        Member(group, title, **config, **{"group.instance.id": "static"}),
    ]
    read_numbers, end, replaced = set(), time.monotonic() + KILLED_SECONDS, False
    committed = time.monotonic()

    def turn():
        nonlocal committed
        # now and then: the client keeps all commits that wait for a broker, and gives no partition back before they are done
        commit = time.monotonic() > committed + 0.5
        if commit:
            committed = time.monotonic()
        for member in members:
            member.poll()
            for message in member.seen:
                read_numbers.add(int(message.value()))
            member.seen.clear()
            if not commit:
                continue
            try:
                member.consumer.commit(asynchronous=True)
            except KafkaException:
                pass  # nothing to commit, or nobody to commit to

    while time.monotonic() < end:
        turn()
        if not replaced and time.monotonic() > end - KILLED_SECONDS / 2:
            members.pop(0).close()
            members.append(Member(group, title, **config))
            replaced = True
    stop.set()
    writer.join()
    expect(refused_records, [], "records refused")
    # as long as it takes while it goes on; a backlog of many seconds is left by the last kill
    last, until = len(read_numbers), time.monotonic() + 30
    while len(read_numbers) < sent and time.monotonic() < until:
        turn()
        if len(read_numbers) > last:
            last, until = len(read_numbers), time.monotonic() + 30
    missing = sorted(set(range(sent)) - read_numbers)
    expect(missing[:20], [], f"records the group of {sent} has not seen ({len(missing)}), the first of them")
    for member in members:
        member.close()
    stored = [[] for _ in range(partitions)]
    for message in read(title, sent, partitions):
        stored[message.partition()].append(int(message.value()))
    for partition, numbers in enumerate(stored):
        expect(numbers, list(range(partition, sent, partitions)), "each record once and in order")


run()
