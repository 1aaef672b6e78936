"""kafka-python."""

import threading
import time

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata
from kafka import TopicPartition
from kafka import errors
from kafka.admin import AlterConfigOp, ConfigResource, OffsetSpec, ScramMechanism, UserScramCredentialUpsertion
from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePattern, ResourcePatternFilter
from kafka.admin import ACLResourcePatternType, ResourceType
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from cases import BOOTSTRAP, KILLED_SECONDS, case, expect, name, need, run

WAIT = 20


def admin():
    return KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def topic(partitions=1, **config):
    title = name("topic")
    configs = {key.replace("_", "."): value for key, value in config.items()}
    wanted = {title: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}}
    admin().create_topics(wanted, wait_for_metadata=True)
    return title


def produce(title, count, partitions=1, headers=None, base_ms=None, **config):
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=5, **config)
    sent = [
        client.send(
            title,
            key=f"k{i}".encode(),
            value=f"v{i}-".encode() + b"x" * 80,
            partition=i % partitions,
            timestamp_ms=None if base_ms is None else base_ms + i,
            headers=headers,
        )
        for i in range(count)
    ]
    client.flush(WAIT)
    for future in sent:
        future.get(WAIT)
    client.close()


def read(title, count, partitions=1, **config):
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", **config)
    consumer.assign([TopicPartition(title, p) for p in range(partitions)])
    records, until = [], time.monotonic() + WAIT
    while len(records) < count and time.monotonic() < until:
        for batch in consumer.poll(200).values():
            records.extend(batch)
    consumer.close()
    expect(len(records), count, "records read")
    return records


def refused(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(f"the call must fail with {error.__name__}")


@case
def produce_consume():
    title = topic(3)
    produce(title, 1500, 3, headers=[("h", b"1"), ("h", b"2")], base_ms=1_700_000_000_000)
    records = read(title, 1500, 3)
    expect(sorted(int(r.key[1:]) for r in records), list(range(1500)), "keys")
    expect(list(records[0].headers), [("h", b"1"), ("h", b"2")], "headers")
    expect(all(r.timestamp == 1_700_000_000_000 + int(r.key[1:]) for r in records), True, "timestamps")


def compression(codec):
    title = topic()
    produce(title, 1000, compression_type=codec)
    expect([r.value for r in read(title, 1000)], [f"v{i}-".encode() + b"x" * 80 for i in range(1000)], "values")


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
    produce(title, 100, acks=0, enable_idempotence=False)
    produce(title, 100, acks=1, enable_idempotence=False)
    read(title, 200)


@case
def idempotence():
    title = topic(2)
    produce(title, 5000, 2, enable_idempotence=True, batch_size=4096)
    for partition in range(2):
        keys = [int(r.key[1:]) for r in read(title, 5000, 2) if r.partition == partition]
        expect(keys, list(range(partition, 5000, 2)), "order of a partition")


class Member(ConsumerRebalanceListener):
    """A member of a group on a thread of its own, since this client joins only while it is polled."""

    def __init__(self, group, title, **config):
        self.assigned, self.revocations, self.seen, self.failed = set(), 0, [], None
        self._stop = threading.Event()
        base = {
            "bootstrap_servers": BOOTSTRAP,
            "group_id": group,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 10000,
            "heartbeat_interval_ms": 500,
        }
        self.consumer = KafkaConsumer(**(base | config))
        self.consumer.subscribe([title], listener=self)
        self.commit = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def on_partitions_assigned(self, assigned):
        self.assigned |= {p.partition for p in assigned}

    def on_partitions_revoked(self, revoked):
        self.revocations += 1
        self.assigned -= {p.partition for p in revoked}

    def _work(self):
        try:
            while not self._stop.is_set():
                for batch in self.consumer.poll(100).values():
                    self.seen.extend(batch)
                if self.commit:
                    try:
                        self.consumer.commit(timeout_ms=2000)
                    except errors.KafkaError:
                        pass  # it goes again with the next one
        except errors.KafkaError as error:
            self.failed = error
        self.consumer.close(autocommit=False)

    def close(self):
        self._stop.set()
        self._thread.join(WAIT)


def until_true(what, look, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if look():
            return
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")


def until_shared(members, counts):
    def shared():
        owned = [p for member in members for p in set(member.assigned)]
        return sorted(len(m.assigned) for m in members) == sorted(counts) and len(owned) == len(set(owned))

    until_true(f"shared as {counts}", shared)


def rebalance(**config):
    title, group = topic(6), name("group")
    first = Member(group, title, **config)
    until_shared([first], [6])
    second = Member(group, title, **config)
    until_shared([first, second], [3, 3])
    first.close()
    until_shared([second], [6])
    second.close()


@case
def group_rebalance():
    rebalance(partition_assignment_strategy=[RangePartitionAssignor])


@case
def group_rebalance_round_robin():
    rebalance(partition_assignment_strategy=[RoundRobinPartitionAssignor])


@case
def group_rebalance_cooperative():
    rebalance(partition_assignment_strategy=[CooperativeStickyAssignor])


@case
def group_static_members():
    title, group = topic(4), name("group")
    one = Member(group, title, group_instance_id="one")
    two = Member(group, title, group_instance_id="two")
    until_shared([one, two], [2, 2])
    had, revocations = set(two.assigned), one.revocations
    two.close()
    two = Member(group, title, group_instance_id="two")
    until_shared([one, two], [2, 2])
    expect(two.assigned, had, "partitions of the member that came back")
    expect(one.revocations, revocations, "revocations of the other member")
    one.close(), two.close()


@case
def group_commits():
    title, group = topic(), name("group")
    produce(title, 100)
    place = TopicPartition(title, 0)
    consumer = KafkaConsumer(title, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest")
    until_true("records arrive", lambda: consumer.poll(500))
    consumer.commit({place: OffsetAndMetadata(42, "some text", -1)})
    consumer.close(autocommit=False)
    again = KafkaConsumer(title, bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest")
    seen = []
    until_true("records arrive", lambda: seen.extend(again.poll(500).get(place, [])) or seen)
    expect(seen[0].offset, 42, "where reading goes on")
    found = again.committed(place, metadata=True)
    expect((found.offset, found.metadata), (42, "some text"), "commit")
    again.close(autocommit=False)


@case
def seek_by_time():
    title = topic()
    produce(title, 1000, base_ms=1_700_000_000_000)
    place = TopicPartition(title, 0)
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP)
    consumer.assign([place])
    expect(consumer.offsets_for_times({place: 1_700_000_000_300})[place].offset, 300, "offset at a time")
    expect(consumer.offsets_for_times({place: 1_700_000_009_000})[place], None, "offset behind the end")
    consumer.seek(place, 300)
    expect(consumer.poll(5000)[place][0].key, b"k300", "first record there")
    expect((consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]), (0, 1000), "watermarks")
    consumer.close()


@case
def admin_topics():
    client, title = admin(), topic(3)
    expect(title in client.list_topics(), True, "listed")
    expect(len(client.describe_topics([title])[0]["partitions"]), 3, "partitions")
    wanted = {title: {"num_partitions": 1, "replication_factor": 1}}
    refused(errors.TopicAlreadyExistsError, lambda: client.create_topics(wanted))
    client.create_topics({name("validated"): {"num_partitions": 1, "replication_factor": 1}}, validate_only=True)
    client.delete_topics([title])
    expect(title in client.list_topics(), False, "the deleted topic")
    refused(errors.UnknownTopicOrPartitionError, lambda: client.delete_topics([title]))


@case
def admin_configs():
    client, title = admin(), topic(retention_ms="3600000")

    def settings():
        found = client.describe_configs([ConfigResource("topic", title)], config_filter="all")["topic"][title]
        return found["retention.ms"]["value"], found["segment.ms"]["value"]

    expect(str(settings()[0]), "3600000", "retention.ms")
    client.alter_configs([ConfigResource("topic", title, {"segment.ms": (AlterConfigOp.SET, "7200000")})])
    expect(tuple(str(v) for v in settings()), ("3600000", "7200000"), "after the change")
    client.reset_configs([ConfigResource("topic", title, ["segment.ms"])])
    expect(str(settings()[1]) == "7200000", False, "after it is taken back")


@case
def admin_partitions():
    client, title = admin(), topic(2)
    client.create_partitions({title: 5})
    expect(len(client.describe_topics([title])[0]["partitions"]), 5, "partitions")
    refused(errors.InvalidPartitionsError, lambda: client.create_partitions({title: 3}))


@case
def admin_delete_records():
    title = topic()
    produce(title, 100)
    admin().delete_records({TopicPartition(title, 0): 60})
    expect(read(title, 40)[0].offset, 60, "first record")


@case
def admin_list_offsets():
    title = topic()
    produce(title, 100, base_ms=1_700_000_000_000)
    place = TopicPartition(title, 0)
    for spec, offset in [(OffsetSpec.EARLIEST, 0), (OffsetSpec.LATEST, 100), (OffsetSpec.MAX_TIMESTAMP, 99)]:
        expect(admin().list_partition_offsets({place: spec})[place].offset, offset, str(spec))


@case
def admin_groups():
    client, title, group = admin(), topic(2), name("group")
    produce(title, 10, 2)
    member = Member(group, title)
    until_shared([member], [2])
    until_true("records arrive", lambda: len(member.seen) == 10)
    expect(group in [g["group_id"] for g in client.list_groups()], True, "listed")
    described = client.describe_groups([group])[group]
    expect(str(described["group_state"]).endswith(("Stable", "STABLE")), True, f"state {described['group_state']}")
    member.commit = True
    place = TopicPartition(title, 0)
    until_true("a commit", lambda: client.list_group_offsets({group: [place]})[group][place].offset == 5)
    member.close()
    client.alter_group_offsets(group, {place: OffsetAndMetadata(2, "", -1)})
    expect(client.list_group_offsets({group: [place]})[group][place].offset, 2, "altered")
    client.delete_group_offsets(group, [place])
    left = client.list_group_offsets({group: None})[group]
    expect([p.partition for p in left], [1], "offsets left")
    client.delete_groups([group])
    expect(group in [g["group_id"] for g in client.list_groups()], False, "deleted")


@case
def admin_cluster():
    cluster = admin().describe_cluster()
    expect(len(cluster["brokers"]), 1, "brokers")
    expect(bool(cluster["cluster_id"]), True, "cluster id")


@case
def admin_log_dirs():
    title = topic(2)
    produce(title, 100, 2)
    dirs = admin().describe_log_dirs([title])[0]["log_dirs"]
    sizes = [p["partition_size"] for d in dirs for t in d["topics"] for p in t["partitions"]]
    expect((len(sizes), all(size > 0 for size in sizes)), (2, True), f"sizes {sizes}")


@case
def admin_acls():
    client, title = admin(), topic()
    acl = ACL("User:somebody", "*", ACLOperation.READ, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, title))
    client.create_acls([acl])
    every = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, ResourcePatternFilter(ResourceType.TOPIC, title, ACLResourcePatternType.ANY))
    found = client.describe_acls(every)
    found = found[0] if isinstance(found, tuple) else found
    expect(len(found), 1, "acls")
    client.delete_acls([every])


@case
def admin_scram_users():
    client, user = admin(), name("user")
    client.alter_user_scram_credentials([UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, "secret")])
    found = client.describe_user_scram_credentials([user])[user]["credential_infos"]
    expect([info["mechanism"] for info in found], [ScramMechanism.SCRAM_SHA_512], "mechanisms")


@case
def transactions():
    title = topic()
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name("tx"), max_block_ms=10000)
    client.init_transactions()
    for commit in (False, True):
        client.begin_transaction()
        for i in range(10):
            client.send(title, f"{'kept' if commit else 'dropped'}{i}".encode())
        client.flush(WAIT)
        client.commit_transaction() if commit else client.abort_transaction()
    values = [r.value for r in read(title, 10, isolation_level="read_committed")]
    expect(values, [f"kept{i}".encode() for i in range(10)], "records of the committed transaction")


def secured(**config):
    title = topic()
    client = KafkaProducer(**config)
    client.send(title, b"hello").get(WAIT)
    client.close()
    consumer = KafkaConsumer(title, auto_offset_reset="earliest", consumer_timeout_ms=WAIT * 1000, **config)
    expect(next(iter(consumer)).value, b"hello", "record")
    consumer.close()


@case
def tls():
    secured(
        bootstrap_servers=need("SF_COMPAT_TLS_BOOTSTRAP"), security_protocol="SSL", ssl_cafile=need("SF_COMPAT_CA_FILE")
    )


def sasl(mechanism):
    secured(
        bootstrap_servers=need("SF_COMPAT_SASL_BOOTSTRAP"),
        security_protocol="SASL_SSL",
        ssl_cafile=need("SF_COMPAT_CA_FILE"),
        sasl_mechanism=mechanism,
        sasl_plain_username=need("SF_COMPAT_USER"),
        sasl_plain_password=need("SF_COMPAT_PASSWORD"),
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
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True, delivery_timeout_ms=600000, linger_ms=5)
    members = [Member(group, title), Member(group, title), Member(group, title, group_instance_id="static")]
    for member in members:
        member.commit = True
    sent, futures, end, replaced, gone = 0, [], time.monotonic() + KILLED_SECONDS, False, []
    while time.monotonic() < end:
        for _ in range(20):
            futures.append(client.send(title, str(sent).encode(), partition=sent % partitions))
            sent += 1
        time.sleep(0.1)
        if not replaced and time.monotonic() > end - KILLED_SECONDS / 2:
            gone.append(members.pop(0))
            gone[0].close()
            members.append(Member(group, title))
            members[-1].commit = True
            replaced = True
    client.flush(60)
    for future in futures:
        future.get(1)

    def all_seen():
        return len({int(r.value) for m in members + gone for r in list(m.seen)}) == sent

    until_true("the group has seen every record", all_seen, 60)
    for member in members:
        expect(member.failed, None, "a member's failure")
        member.close()
    stored = [[] for _ in range(partitions)]
    for record in read(title, sent, partitions):
        stored[record.partition].append(int(record.value))
    for partition, numbers in enumerate(stored):
        expect(numbers, list(range(partition, sent, partitions)), "each record once and in order")


run()
