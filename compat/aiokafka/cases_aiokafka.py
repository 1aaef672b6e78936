"""aiokafka."""

import asyncio
import ssl
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from cases import BOOTSTRAP, KILLED_SECONDS, case, expect, name, need, run

WAIT = 20


class Admin:
    """An admin client for the length of a block."""

    async def __aenter__(self):
        self.client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        await self.client.start()
        return self.client

    async def __aexit__(self, *_):
        await self.client.close()


async def topic(partitions=1, **config):
    title = name("topic")
    configs = {key.replace("_", "."): value for key, value in config.items()}
    async with Admin() as client:
        answer = await client.create_topics([NewTopic(title, partitions, 1, topic_configs=configs)])
        expect(codes(answer.topic_errors), [0], "error of creating a topic")
    return title


def codes(results):
    return [result[1] for result in results]


async def produce(title, count, partitions=1, headers=None, base_ms=None, **config):
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=5, **config) as client:
        sent = [
            await client.send(
                title,
                key=f"k{i}".encode(),
                value=f"v{i}-".encode() + b"x" * 80,
                partition=i % partitions,
                timestamp_ms=None if base_ms is None else base_ms + i,
                headers=headers,
            )
            for i in range(count)
        ]
        await client.flush()
        await asyncio.gather(*sent)


async def read(title, count, partitions=1, **config):
    records, until = [], time.monotonic() + WAIT
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, auto_offset_reset="earliest", **config)
    async with consumer:
        consumer.assign([TopicPartition(title, p) for p in range(partitions)])
        while len(records) < count and time.monotonic() < until:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records.extend(batch)
    expect(len(records), count, "records read")
    return records


@case
async def produce_consume():
    title = await topic(3)
    await produce(title, 1500, 3, headers=[("h", b"1"), ("h", b"2")], base_ms=1_700_000_000_000)
    records = await read(title, 1500, 3)
    expect(sorted(int(r.key[1:]) for r in records), list(range(1500)), "keys")
    expect(list(records[0].headers), [("h", b"1"), ("h", b"2")], "headers")
    expect(all(r.timestamp == 1_700_000_000_000 + int(r.key[1:]) for r in records), True, "timestamps")


async def compression(codec):
    title = await topic()
    await produce(title, 1000, compression_type=codec)
    values = [r.value for r in await read(title, 1000)]
    expect(values, [f"v{i}-".encode() + b"x" * 80 for i in range(1000)], "values")


@case
async def compression_gzip():
    await compression("gzip")


@case
async def compression_snappy():
    await compression("snappy")


@case
async def compression_lz4():
    await compression("lz4")


@case
async def compression_zstd():
    await compression("zstd")


@case
async def acks_none_and_one():
    title = await topic()
    await produce(title, 100, acks=0)
    await produce(title, 100, acks=1)
    await read(title, 200)


@case
async def idempotence():
    title = await topic(2)
    await produce(title, 5000, 2, enable_idempotence=True, max_batch_size=4096)
    records = await read(title, 5000, 2)
    for partition in range(2):
        keys = [int(r.key[1:]) for r in records if r.partition == partition]
        expect(keys, list(range(partition, 5000, 2)), "order of a partition")


class Member(ConsumerRebalanceListener):
    """A member of a group and the task that reads for it."""

    def __init__(self):
        self.assigned, self.revocations, self.seen, self.commit = set(), 0, [], False

    async def start(self, group, title, **config):
        base = {
            "bootstrap_servers": BOOTSTRAP,
            "group_id": group,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "session_timeout_ms": 10000,
            "heartbeat_interval_ms": 500,
        }
        self.consumer = AIOKafkaConsumer(**(base | config))
        await self.consumer.start()
        self.consumer.subscribe([title], listener=self)
        self._task = asyncio.create_task(self._work())
        return self

    async def on_partitions_assigned(self, assigned):
        self.assigned = {p.partition for p in assigned}

    async def on_partitions_revoked(self, revoked):
        self.revocations += 1
        self.assigned = set()

    async def _work(self):
        while True:
            for batch in (await self.consumer.getmany(timeout_ms=100)).values():
                self.seen.extend(batch)
            if self.commit:
                try:
                    await self.consumer.commit()
                except errors.KafkaError:
                    pass  # it goes again with the next one

    async def close(self):
        self._task.cancel()
        try:
            await self._task
        except asyncio.CancelledError:
            pass
        await self.consumer.stop()


async def until_true(what, look, seconds=30):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if look():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")


async def until_shared(members, counts):
    def shared():
        owned = [p for member in members for p in member.assigned]
        return sorted(len(m.assigned) for m in members) == sorted(counts) and len(owned) == len(set(owned))

    await until_true(f"shared as {counts}", shared)


async def rebalance(**config):
    title, group = await topic(6), name("group")
    first = await Member().start(group, title, **config)
    await until_shared([first], [6])
    second = await Member().start(group, title, **config)
    await until_shared([first, second], [3, 3])
    await first.close()
    await until_shared([second], [6])
    await second.close()


@case
async def group_rebalance():
    await rebalance(partition_assignment_strategy=[RangePartitionAssignor])


@case
async def group_rebalance_round_robin():
    await rebalance(partition_assignment_strategy=[RoundRobinPartitionAssignor])


@case
async def group_rebalance_sticky():
    await rebalance(partition_assignment_strategy=[StickyPartitionAssignor])


@case
async def group_static_members():
    title, group = await topic(4), name("group")
    one = await Member().start(group, title, group_instance_id="one")
    two = await Member().start(group, title, group_instance_id="two")
    await until_shared([one, two], [2, 2])
    had, revocations = set(two.assigned), one.revocations
    await two.close()
    two = await Member().start(group, title, group_instance_id="two")
    await until_true("the member is back", lambda: two.assigned == had)
    expect(one.revocations, revocations, "revocations of the other member")
    await one.close()
    await two.close()


@case
async def group_commits():
    title, group = await topic(), name("group")
    await produce(title, 100)
    place = TopicPartition(title, 0)
    config = {"bootstrap_servers": BOOTSTRAP, "group_id": group, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    async with AIOKafkaConsumer(title, **config) as consumer:
        await consumer.getone()
        await consumer.commit({place: OffsetAndMetadata(42, "some text")})
    async with AIOKafkaConsumer(title, **config) as again:
        expect((await again.getone()).offset, 42, "where reading goes on")
        expect(await again.committed(place), 42, "commit")


@case
async def seek_by_time():
    title = await topic()
    await produce(title, 1000, base_ms=1_700_000_000_000)
    place = TopicPartition(title, 0)
    async with AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP) as consumer:
        consumer.assign([place])
        expect((await consumer.offsets_for_times({place: 1_700_000_000_300}))[place].offset, 300, "offset at a time")
        expect((await consumer.offsets_for_times({place: 1_700_000_009_000}))[place], None, "offset behind the end")
        consumer.seek(place, 300)
        expect((await consumer.getone()).key, b"k300", "first record there")
        ends = (await consumer.beginning_offsets([place]))[place], (await consumer.end_offsets([place]))[place]
        expect(ends, (0, 1000), "watermarks")


@case
async def admin_topics():
    title = await topic(3)
    async with Admin() as client:
        expect(title in await client.list_topics(), True, "listed")
        expect(len((await client.describe_topics([title]))[0]["partitions"]), 3, "partitions")
        answer = await client.create_topics([NewTopic(title, 1, 1)])
        expect(codes(answer.topic_errors), [errors.TopicAlreadyExistsError.errno], "error")
        answer = await client.delete_topics([title])
        expect(codes(answer.topic_error_codes), [0], "error of deleting")
        expect(title in await client.list_topics(), False, "the deleted topic")


@case
async def admin_configs():
    title = await topic(retention_ms="3600000")
    async with Admin() as client:
        resource = ConfigResource(ConfigResourceType.TOPIC, title)
        answer = (await client.describe_configs([resource]))[0]
        entries = {entry[0]: entry[1] for entry in answer.resources[0][4]}
        expect(entries["retention.ms"], "3600000", "retention.ms")
        change = ConfigResource(ConfigResourceType.TOPIC, title, {"segment.ms": "7200000"})
        await client.alter_configs([change])
        answer = (await client.describe_configs([resource]))[0]
        entries = {entry[0]: entry[1] for entry in answer.resources[0][4]}
        expect(entries["segment.ms"], "7200000", "segment.ms")


@case
async def admin_partitions():
    title = await topic(2)
    async with Admin() as client:
        await client.create_partitions({title: NewPartitions(5)})
        expect(len((await client.describe_topics([title]))[0]["partitions"]), 5, "partitions")


@case
async def admin_delete_records():
    title = await topic()
    await produce(title, 100)
    async with Admin() as client:
        await client.delete_records({TopicPartition(title, 0): RecordsToDelete(before_offset=60)})
    expect((await read(title, 40))[0].offset, 60, "first record")


@case
async def admin_groups():
    title, group = await topic(2), name("group")
    await produce(title, 10, 2)
    member = await Member().start(group, title)
    member.commit = True
    await until_true("records arrive", lambda: len(member.seen) == 10)
    async with Admin() as client:
        expect(group in [g[0] for g in await client.list_consumer_groups()], True, "listed")
        described = (await client.describe_consumer_groups([group]))[0].groups[0]
        expect(described[2], "Stable", "state")
        place = TopicPartition(title, 0)
        until = time.monotonic() + WAIT
        offset = None
        while offset != 5 and time.monotonic() < until:
            offsets = await client.list_consumer_group_offsets(group)
            offset = offsets[place].offset if place in offsets else None
            await asyncio.sleep(0.1)
        expect(offset, 5, "committed")
    await member.close()


@case
async def admin_cluster():
    async with Admin() as client:
        cluster = await client.describe_cluster()
    expect(len(cluster["brokers"]), 1, "brokers")
    expect(bool(cluster["cluster_id"]), True, "cluster id")


@case
async def transactions():
    title = await topic()
    async with AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=name("tx")) as client:
        for commit in (False, True):
            await client.begin_transaction()
            for i in range(10):
                await client.send_and_wait(title, f"{'kept' if commit else 'dropped'}{i}".encode())
            await (client.commit_transaction() if commit else client.abort_transaction())
    values = [r.value for r in await read(title, 10, isolation_level="read_committed")]
    expect(values, [f"kept{i}".encode() for i in range(10)], "records of the committed transaction")


async def secured(**config):
    title = await topic()
    config["ssl_context"] = ssl.create_default_context(cafile=need("SF_COMPAT_CA_FILE"))
    async with AIOKafkaProducer(**config) as client:
        await client.send_and_wait(title, b"hello")
    async with AIOKafkaConsumer(title, auto_offset_reset="earliest", **config) as consumer:
        expect((await consumer.getone()).value, b"hello", "record")


@case
async def tls():
    await secured(bootstrap_servers=need("SF_COMPAT_TLS_BOOTSTRAP"), security_protocol="SSL")


async def sasl(mechanism):
    await secured(
        bootstrap_servers=need("SF_COMPAT_SASL_BOOTSTRAP"),
        security_protocol="SASL_SSL",
        sasl_mechanism=mechanism,
        sasl_plain_username=need("SF_COMPAT_USER"),
        sasl_plain_password=need("SF_COMPAT_PASSWORD"),
    )


@case
async def sasl_plain():
    await sasl("PLAIN")


@case
async def sasl_scram_256():
    await sasl("SCRAM-SHA-256")


@case
async def sasl_scram_512():
    await sasl("SCRAM-SHA-512")


@case
async def killed_groups():
    """The broker dies again and again while one producer writes and a group with a static member reads."""
    title, group, partitions = await topic(6), name("group"), 6
    client = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, enable_idempotence=True, request_timeout_ms=120000)
    await client.start()
    members = [
        await Member().start(group, title),
        await Member().start(group, title),
        await Member().start(group, title, group_instance_id="static"),
    ]
    for member in members:
        member.commit = True
    sent, futures, end, gone = 0, [], time.monotonic() + KILLED_SECONDS, []
    while time.monotonic() < end:
        for _ in range(20):
            futures.append(await client.send(title, str(sent).encode(), partition=sent % partitions))
            sent += 1
        await asyncio.sleep(0.1)
        if not gone and time.monotonic() > end - KILLED_SECONDS / 2:
            gone.append(members.pop(0))
            await gone[0].close()
            members.append(await Member().start(group, title))
            members[-1].commit = True
    await asyncio.wait_for(asyncio.gather(*futures), 60)
    await client.stop()

    def all_seen():
        return len({int(r.value) for m in members + gone for r in m.seen}) == sent

    await until_true("the group has seen every record", all_seen, 60)
    for member in members:
        await member.close()
    stored = [[] for _ in range(partitions)]
    for record in await read(title, sent, partitions):
        stored[record.partition].append(int(record.value))
    for partition, numbers in enumerate(stored):
        expect(numbers, list(range(partition, sent, partitions)), "each record once and in order")


run()
