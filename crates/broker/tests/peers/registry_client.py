"""Uses the schema registry and the broker as confluent-kafka's clients do; any doubt is an assertion.

Arguments: bootstrap, registry URL. Prints one line of counts.
"""

import json
import sys

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    ServerConfig,
    header_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.common.schema_registry_client import ConfigCompatibilityLevel
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer, ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BOOTSTRAP, REGISTRY = sys.argv[1:3]
checks = 0


def fresh():
    return SchemaRegistryClient({"url": REGISTRY})


def same(found, wanted):
    global checks
    checks += 1
    assert found == wanted, f"{found!r} is not {wanted!r}"


def refused(code, call):
    global checks
    checks += 1
    try:
        found = call()
    except SchemaRegistryError as error:
        assert error.error_code == code, f"{error} is not {code}"
        return
    raise AssertionError(f"{found!r} is not {code}")


def avro(*fields, name="Reading"):
    return json.dumps({"type": "record", "name": name, "namespace": "sf", "fields": list(fields)})


def schema(text, kind="AVRO", references=()):
    return Schema(text, kind, list(references))


LONG = {"name": "a", "type": "long"}
TEXT = {"name": "b", "type": "string", "default": "x"}
MUST = {"name": "c", "type": "string"}


def subjects_and_versions():
    client = fresh()
    one, two = schema(avro(LONG)), schema(avro(LONG, TEXT))
    first = client.register_schema("s-value", one)
    second = client.register_schema("s-value", two)
    same(fresh().register_schema("s-value", one), first)
    assert second > first
    same(client.get_versions("s-value"), [1, 2])
    assert "s-value" in client.get_subjects()
    latest = client.get_latest_version("s-value")
    same((latest.version, latest.schema_id), (2, second))
    same(json.loads(client.get_version("s-value", 1).schema.schema_str), json.loads(one.schema_str))
    same(json.loads(fresh().get_schema(first).schema_str), json.loads(one.schema_str))
    found = fresh().lookup_schema("s-value", two)
    same((found.subject, found.version, found.schema_id), ("s-value", 2, second))
    same(client.get_subjects_by_schema_id(first), ["s-value"])
    same([(use.subject, use.version) for use in client.get_schema_versions(first)], [("s-value", 1)])
    same(sorted(client.get_schema_types()), ["AVRO", "JSON", "PROTOBUF"])
    same(client.get_contexts(), ["."])
    refused(40401, lambda: client.get_versions("nobody"))
    refused(40402, lambda: client.get_version("s-value", 9))
    refused(40403, lambda: fresh().lookup_schema("s-value", schema(avro(MUST))))
    refused(40403, lambda: fresh().get_schema(99_999))
    refused(42201, lambda: client.register_schema("s-value", schema('{"type":"nothing"}')))
    refused(409, lambda: client.register_schema("s-value", schema(avro(LONG, TEXT, MUST))))
    refused(42202, lambda: client.get_version("s-value", 0))


def compatibility():
    client = fresh()
    worse = schema(avro(LONG, TEXT, MUST))
    same(client.test_compatibility("s-value", schema(avro(LONG))), True)
    same(client.test_compatibility("s-value", worse), False)
    same(client.test_compatibility_all_versions("s-value", worse), False)
    same(client.test_compatibility("s-value", worse, version=1), False)
    same(client.get_compatibility(), "BACKWARD")
    same(client.set_compatibility("s-value", "FORWARD"), {"compatibility": "FORWARD"})
    same(client.test_compatibility("s-value", worse), True)
    same(client.get_config("s-value").compatibility_level, ConfigCompatibilityLevel.FORWARD)
    client.set_config("s-value", ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE))
    same(client.test_compatibility("s-value", worse), False)
    same(client.delete_config("s-value").compatibility_level, ConfigCompatibilityLevel.FULL_TRANSITIVE)
    refused(40408, lambda: client.get_config("s-value"))
    refused(42203, lambda: client.set_compatibility("s-value", "sideways"))


def modes():
    client = fresh()
    same(client.get_global_mode(), "READWRITE")
    refused(40409, lambda: client.get_mode("s-value"))
    client.update_mode("s-value", "READONLY")
    same(client.get_mode("s-value"), "READONLY")
    refused(42205, lambda: client.register_schema("s-value", schema(avro(TEXT))))
    same(client.register_schema("s-value", schema(avro(LONG))), client.get_version("s-value", 1).schema_id)
    same(client.delete_mode("s-value"), "READONLY")
    refused(42204, lambda: client.update_mode("s-value", "SIDEWAYS"))
    refused(42205, lambda: client.update_mode("s-value", "IMPORT"))


def references():
    client = fresh()
    client.register_schema("inner", schema(avro(LONG, name="Inner")))
    outer = avro({"name": "i", "type": "sf.Inner"}, name="Outer")
    reference = SchemaReference("sf.Inner", "inner", 1)
    refused(42201, lambda: client.register_schema("outer", schema(outer)))
    number = client.register_schema("outer", schema(outer, references=[reference]))
    found = fresh().get_schema(number)
    same([(one.name, one.subject, one.version) for one in found.references], [("sf.Inner", "inner", 1)])
    same(client.get_referenced_by("inner", 1), [number])
    refused(42206, lambda: client.delete_subject("inner"))
    return schema(outer, references=[reference])


def deletions():
    client = fresh()
    client.register_schema("d", schema('"int"'))
    client.register_schema("d", schema('"long"'))
    refused(40405, lambda: raw_permanent(client, "d"))
    same(client.delete_version("d", 1), 1)
    same(client.get_versions("d"), [2])
    same(client.get_versions("d", deleted=True), [1, 2])
    same(client.delete_subject("d"), [2])
    refused(40401, lambda: client.get_versions("d"))
    same(client.get_subjects(subject_prefix="d", deleted=True), ["d"])
    same(raw_permanent(client, "d"), [1, 2])
    same(client.get_subjects(subject_prefix="d", deleted=True), [])


def raw_permanent(client, subject):
    """The client's own call deletes softly first; this asks for the second step alone."""
    return client._rest_client.delete(f"subjects/{subject}?permanent=true")


def produce(topic, values):
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(20)
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    same(producer.flush(20), 0)


def consume(topic, count):
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    while len(values) < count:
        message = consumer.poll(20)
        assert message is not None and message.error() is None, message
        values.append(message.value())
    consumer.close()
    return values


def round_trip(topic, serializer, deserializer, values):
    context = SerializationContext(topic, MessageField.VALUE)
    produce(topic, [serializer(value, context) for value in values])
    return [deserializer(value, context) for value in consume(topic, len(values))]


def avro_through_kafka(with_reference):
    old, new = avro(LONG), avro(LONG, TEXT)
    read = round_trip("avro", AvroSerializer(fresh(), old), AvroDeserializer(fresh(), new), [{"a": 1}, {"a": 2}])
    same(read, [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}])
    value = {"i": {"a": 7}}
    serializer = AvroSerializer(fresh(), with_reference)
    same(round_trip("avro-reference", serializer, AvroDeserializer(fresh()), [value]), [value])


def ids_in_headers():
    context = SerializationContext("avro", MessageField.VALUE, [])
    settings = {"schema.id.serializer": header_schema_id_serializer}
    value = {"a": 2**60}  # the deserialiser takes short payloads for torn ones
    payload = AvroSerializer(fresh(), avro(LONG), conf=settings)(value, context)
    same([name for name, _ in context.headers], ["__value_schema_id"])
    same(AvroDeserializer(fresh())(payload, context), value)
    refused(40403, lambda: fresh().get_schema_by_guid("00000000-0000-0000-0000-000000000000"))


def json_through_kafka():
    text = json.dumps({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Reading",
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
    })
    value = {"a": 4}
    serializer, deserializer = JSONSerializer(text, fresh()), JSONDeserializer(text, schema_registry_client=fresh())
    same(round_trip("json", serializer, deserializer, [value]), [value])
    same(fresh().get_latest_version("json-value").schema.schema_type, "JSON")


def protobuf_through_kafka():
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", package="sf", syntax="proto3")
    message = file.message_type.add(name="Reading")
    kind = descriptor_pb2.FieldDescriptorProto
    message.field.add(name="a", number=1, type=kind.TYPE_INT64, label=kind.LABEL_OPTIONAL, json_name="a")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    reading = message_factory.GetMessageClass(pool.FindMessageTypeByName("sf.Reading"))
    settings = {"use.deprecated.format": False}
    serializer = ProtobufSerializer(reading, fresh(), settings)
    deserializer = ProtobufDeserializer(reading, settings, fresh())
    same(round_trip("protobuf", serializer, deserializer, [reading(a=4)])[0].a, 4)
    same(fresh().get_latest_version("protobuf-value").schema.schema_type, "PROTOBUF")


subjects_and_versions()
compatibility()
modes()
outer = references()
deletions()
avro_through_kafka(outer)
ids_in_headers()
json_through_kafka()
protobuf_through_kafka()
print(f"{checks} checks")
