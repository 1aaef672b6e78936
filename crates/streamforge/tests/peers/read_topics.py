"""Reads the topics of a gateway with confluent-kafka's Avro deserialiser and checks every record.

Arguments: bootstrap, registry URL, gateway id, folder of the contracts. Prints one line of counts; any doubt is an
assertion. murmur2 and the batch reader are written out here on purpose: nothing of the product is used.
"""

import json
import pathlib
import re
import socket
import struct
import sys

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

BOOTSTRAP, REGISTRY, GATEWAY, CONTRACTS = sys.argv[1:5]
PARTITIONS = 12
NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,127}$")
ZSTD = 4


def murmur2(data):
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    for i in range(0, len(data) // 4 * 4, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[len(data) // 4 * 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def partition_of(key):
    return (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


# AC-063
assert [partition_of(k) for k in (b"line_1_sensor_01", b"vibration_sensor_01", b"pump_07")] == [10, 6, 0]


def micros(value):
    """AvroDeserializer turns timestamp-micros into aware datetimes."""
    return round(value.timestamp() * 1_000_000)


def records(topic):
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "e2e", "enable.auto.commit": False})
    places, left = [], {}
    for partition in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
        if high > low:
            places.append(TopicPartition(topic, partition, low))
            left[partition] = high
    consumer.assign(places)
    silent = 0
    while left:
        message = consumer.poll(5)
        if message is None:
            silent += 1
            assert silent < 6, f"{topic} went silent, waiting for {left}"
            continue
        assert message.error() is None, message.error()
        end = left.get(message.partition())
        if end is None:
            continue
        if message.offset() < end:
            yield message
        if message.offset() + 1 >= end:
            del left[message.partition()]
    consumer.close()


def fetch_batches(topic, partition):
    """One Fetch (version 4) by hand: the attributes of the batches as they lie on the wire."""

    def text(value):
        return struct.pack(">h", len(value)) + value.encode()

    body = struct.pack(">iiiib", -1, 500, 1, 1 << 20, 0)
    body += struct.pack(">i", 1) + text(topic) + struct.pack(">i", 1) + struct.pack(">iqi", partition, 0, 1 << 20)
    request = struct.pack(">hhi", 1, 4, 7) + text("e2e") + body
    host, port = BOOTSTRAP.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as link:
        link.sendall(struct.pack(">i", len(request)) + request)
        stream = link.makefile("rb")
        (size,) = struct.unpack(">i", stream.read(4))
        answer = stream.read(size)
    at = 4 + 4 + 4  # correlation, throttle, one topic
    (length,) = struct.unpack_from(">h", answer, at)
    at += 2 + length + 4
    _, error, _, _ = struct.unpack_from(">ihqq", answer, at)
    assert error == 0, error
    at += 22
    (aborted,) = struct.unpack_from(">i", answer, at)
    at += 4 + max(aborted, 0) * 16
    (length,) = struct.unpack_from(">i", answer, at)
    data = answer[at + 4 : at + 4 + length]
    at = 0
    while at + 61 <= len(data):
        _, length, _, magic, _, attributes = struct.unpack_from(">qiibih", data, at)
        if at + 12 + length > len(data):
            break
        assert magic == 2, magic
        yield attributes
        at += 12 + length


def check_place(message, asset):
    assert message.key() == asset.encode(), message.key()
    assert message.partition() == partition_of(message.key()), (message.key(), message.partition())


def headers_of(message):
    return {name: value.decode() for name, value in message.headers() or []}


def check_telemetry(message, record):
    check_place(message, record["asset_id"])
    metadata = record["metadata"]
    assert NAME.match(record["asset_id"]) and NAME.match(record["parameter"]), record
    assert metadata["gateway_id"] == GATEWAY, metadata
    for key in ("adapter_id", "adapter_type", "adapter_version", "source_ref"):
        assert metadata[key], (key, metadata)
    assert re.match(r"^u=\d+;fc=[1-4];a=\d+$", metadata["source_ref"]), metadata
    python_type = {"FLOAT": float, "INT": int, "BOOL": bool, "STRING": str, "RAW": str}[record["value_type"]]
    assert type(record["value"]) is python_type, record
    assert record["quality"] in ("GOOD", "SUSPECT", "UNCERTAIN"), record["quality"]
    assert (record["quality"] == "GOOD") == (record["quality_reason"] is None), record
    assert record["quality_reason"] is None or record["quality_reason"] in record["reasons"], record
    assert record["classification"] == "TELEMETRY"
    device, gateway = micros(record["timestamps"]["device_time"]), micros(record["timestamps"]["gateway_time"])
    assert 0 <= gateway - device < 60_000_000, (device, gateway)
    # AC-062, REC-12
    assert message.timestamp()[1] == gateway // 1000, (message.timestamp(), gateway)
    assert record["time_source"] == "ACQUISITION" and record["clock_skew_ms"] is None, record
    sequence = record["sequence"]
    assert sequence["epoch"] >= 1 and sequence["seq"] >= 0, sequence
    headers = headers_of(message)
    record_id = f"{GATEWAY}/{metadata['adapter_id']}/{sequence['epoch']}/{sequence['seq']}"
    assert headers["sf-record-id"] == record_id, headers
    assert headers["sf-quality"] == record["quality"] and headers["sf-class"] == "TELEMETRY", headers
    assert headers["sf-gateway"] == GATEWAY, headers


def check_minute(message, record):
    check_place(message, record["asset_id"])
    start, end = micros(record["window_start"]), micros(record["window_end"])
    assert record["resolution"] == "1min" and end - start == 60_000_000 and start % 60_000_000 == 0, record
    a, s = record["aggregates"], record["statistics"]
    assert a["count"] == s["count"] > 0
    if record["kind"] != "value":
        # never averaged (AGG-11)
        assert record["kind"] in ("bool", "enum"), record
        assert sum(record["states"]["times"].values()) == record["covered_us"] <= 60_000_000, record
        return
    assert s["min"] <= a["avg"] <= s["max"] or abs(a["avg"] - s["min"]) < 1e-9 * abs(s["min"]), record
    assert abs(s["sum"] - a["avg"] * s["count"]) <= 1e-9 * max(1.0, abs(s["sum"])), record
    assert abs(record["stddev"] ** 2 * s["count"] - s["m2"]) <= 1e-6 * max(1.0, s["m2"]), record
    assert s["good_count"] + s["suspect_count"] + s["uncertain_count"] == s["count"], record
    for name in ("min_time", "max_time", "first_time", "last_time"):
        assert start <= micros(s[name]) < end, (name, record)
    assert message.timestamp()[1] == micros(record["gateway_time"]) // 1000, message.timestamp()


def check_letter(message, record):
    original = record["original"]
    check_place(message, record["asset_id"])
    place = (original["topic"], original["partition"], original["offset"])
    assert record["dlq_id"] == "/".join(str(part) for part in (GATEWAY, *place)), record["dlq_id"]
    kept = raw[place]
    assert original["payload"] == kept.value(), "the exact bytes"
    assert original["key"] == kept.key() and original["timestamp"] == kept.timestamp()[1]
    assert original["headers"] == dict(kept.headers()), original["headers"]
    assert original["schema_id"] == struct.unpack(">bI", kept.value()[:5])[1]
    assert record["reason"] and record["detail"] and record["stage"] == "validate", record
    if record["reason"] == "RANGE_HARD":
        assert record["rule_id"] == "vibration" and record["limit"] and float(record["observed"]) > 20, record


registry = SchemaRegistryClient({"url": REGISTRY})
deserialize = AvroDeserializer(registry)
files = {"telemetry.clean": "telemetry.v1", "telemetry.1min": "aggregate.v2", "dlq.telemetry": "dead-letter.v1"}
for topic, name in files.items():
    latest = registry.get_latest_version(f"{topic}-value")
    contract = json.loads(pathlib.Path(CONTRACTS, f"{name}.avsc").read_text())
    assert json.loads(latest.schema.schema_str) == contract, f"{topic} is not registered with its contract"

raw = {(m.topic(), m.partition(), m.offset()): m for m in records("telemetry.raw")}
counts = {"telemetry.raw": len(raw)}
for topic, check in (("telemetry.clean", check_telemetry), ("telemetry.1min", check_minute), ("dlq.telemetry", check_letter)):
    counts[topic] = 0
    for message in records(topic):
        record = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
        if topic == "dlq.telemetry" and (record["original"]["topic"], record["original"]["partition"], record["original"]["offset"]) not in raw:
            continue  # younger than our look at the raw topic
        check(message, record)
        counts[topic] += 1
    assert counts[topic] > 0, f"{topic} is empty"

batches = [a for topic in ("telemetry.raw", "telemetry.clean") for p in range(PARTITIONS) for a in fetch_batches(topic, p)]
compressed = sum(1 for a in batches if a & 7 == ZSTD)
assert all(a & 7 in (0, ZSTD) for a in batches), "another codec"
# the client leaves a batch alone that would not become smaller
assert compressed > len(batches) // 2, (compressed, len(batches))
print(json.dumps(counts), f"zstd batches: {compressed} of {len(batches)}")
