"""Holds the registry's verdicts against what readers do: fastavro and jsonschema read what other schemas allowed.

Arguments: registry URL, seed. Whatever the registry calls compatible must be readable, for every value that is tried.
Prints one line of counts.
"""

import io
import json
import random
import sys

import fastavro
import jsonschema
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

REGISTRY, SEED = sys.argv[1], int(sys.argv[2])
PAIRS, VALUES = 150, 12
dice = random.Random(SEED)
client = SchemaRegistryClient({"url": REGISTRY})
client.set_compatibility(level="BACKWARD")


def compatible(kind, number, writer, reader):
    subject = f"{kind}-{number}"
    client.register_schema(subject, Schema(json.dumps(writer), kind))
    return client.test_compatibility(subject, Schema(json.dumps(reader), kind))


PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
SYMBOLS = ["A", "B", "C"]
DEFAULTS = {"null": None, "boolean": True, "int": 1, "long": 2, "float": 0.5, "double": 1.5, "bytes": "b", "string": "s"}


def avro_named(kind, depth, name):
    if kind == "enum":
        symbols = SYMBOLS[: dice.randint(1, 3)]
        default = {"default": symbols[0]} if dice.random() < 0.4 else {}
        return {"type": "enum", "name": name, "symbols": symbols, **default}
    if kind == "fixed":
        return {"type": "fixed", "name": name, "size": dice.randint(1, 2)}
    fields = []
    for field in dice.sample("abc", dice.randint(0, 3)):
        of = avro(depth - 1, f"{name}_{field}")
        one = {"name": field, "type": of}
        if isinstance(of, str) and dice.random() < 0.5:
            one["default"] = DEFAULTS[of]
        if dice.random() < 0.15:
            one["aliases"] = [dice.choice("abc")]
        fields.append(one)
    return {"type": "record", "name": name, "fields": fields}


def avro(depth, name):
    choice = dice.random()
    if depth <= 0 or choice < 0.4:
        return dice.choice(PRIMITIVES)
    if choice < 0.5:
        return {"type": "array", "items": avro(depth - 1, name)}
    if choice < 0.6:
        return {"type": "map", "values": avro(depth - 1, name)}
    if choice < 0.75:
        branches = dice.sample(PRIMITIVES, dice.randint(1, 3))
        if dice.random() < 0.4:
            branches.append(avro_named("record", depth - 1, f"{name}_u"))
        return branches
    return avro_named(dice.choice(["enum", "fixed", "record", "record"]), depth, name)


def changed_avro(schema, depth, name):
    """The same schema, but for what the dice change."""
    if dice.random() < 0.12:
        return avro(depth, name)
    if isinstance(schema, list):
        return schema + [kind for kind in PRIMITIVES if kind not in schema and dice.random() < 0.2]
    if not isinstance(schema, dict):
        wider = {"int": "long", "long": "double", "float": "double", "bytes": "string"}
        return wider.get(schema, schema) if dice.random() < 0.3 else schema
    schema = dict(schema)
    for inner in ("items", "values"):
        if inner in schema:
            schema[inner] = changed_avro(schema[inner], depth - 1, name)
    if schema["type"] == "record":
        kept = [field for field in schema["fields"] if dice.random() < 0.85]
        schema["fields"] = [
            field if "default" in field else {**field, "type": changed_avro(field["type"], 0, f"{name}_{field['name']}")}
            for field in kept
        ]
        if dice.random() < 0.4:
            schema["fields"].append({"name": "d", "type": "long", **({"default": 4} if dice.random() < 0.7 else {})})
    if schema["type"] == "enum" and dice.random() < 0.4:
        schema["symbols"] = SYMBOLS
    return schema


def avro_value(schema):
    if isinstance(schema, list):
        return avro_value(dice.choice(schema))
    if isinstance(schema, str):
        return {
            "null": None,
            "boolean": dice.random() < 0.5,
            "int": dice.randint(-(2**31), 2**31 - 1),
            "long": dice.randint(-(2**63), 2**63 - 1),
            "float": float(dice.randint(-9, 9)),
            "double": dice.random(),
            "bytes": b"bytes",
            "string": "text",
        }[schema]
    kind = schema["type"]
    if kind == "record":
        return {field["name"]: avro_value(field["type"]) for field in schema["fields"]}
    if kind == "enum":
        return dice.choice(schema["symbols"])
    if kind == "fixed":
        return bytes(schema["size"])
    if kind == "array":
        return [avro_value(schema["items"]) for _ in range(dice.randint(0, 2))]
    return {key: avro_value(schema["values"]) for key in dice.sample("xyz", dice.randint(0, 2))}


def avro_verdicts():
    taken = 0
    for number in range(PAIRS):
        old = avro(3, "R")
        new = changed_avro(old, 2, "R")
        if not compatible("AVRO", number, old, new):
            continue
        taken += 1
        writer, reader = fastavro.parse_schema(old), fastavro.parse_schema(new)
        for _ in range(VALUES):
            buffer, value = io.BytesIO(), avro_value(old)
            try:
                fastavro.schemaless_writer(buffer, writer, value)
            except (ValueError, TypeError, OverflowError):
                continue  # a value that the library cannot put into a union
            buffer.seek(0)
            try:
                fastavro.schemaless_reader(buffer, writer, reader)
            except Exception as error:
                if '"aliases"' in json.dumps(new):
                    continue  # fastavro takes an alias even where the writer has a field of the reader's name; the standard is silent
                raise AssertionError(f"{json.dumps(old)} read by {json.dumps(new)}: {value!r}: {error!r}") from error
    return taken


def json_schema(depth):
    choice = dice.random()
    if depth <= 0 or choice < 0.35:
        return dice.choice([
            {"type": "integer"},
            {"type": "number"},
            {"type": "number", "maximum": dice.randint(0, 3)},
            {"type": "integer", "minimum": dice.randint(0, 3)},
            {"type": "string"},
            {"type": "string", "maxLength": dice.randint(0, 3)},
            {"type": ["null", "string"]},
            {"enum": dice.sample([1, "a", None, "b"], 2)},
            {"const": "a"},
            {"type": "boolean"},
            True,
        ])
    if choice < 0.45:
        return {"type": "array", "items": json_schema(depth - 1), "minItems": dice.randint(0, 1)}
    if choice < 0.65:
        return {dice.choice(["anyOf", "oneOf", "allOf"]): [json_schema(depth - 1) for _ in range(dice.randint(1, 3))]}
    names = dice.sample("abc", dice.randint(0, 3))
    schema = {"type": "object", "properties": {name: json_schema(depth - 1) for name in names}}
    if names and dice.random() < 0.4:
        schema["required"] = names[:1]
    if dice.random() < 0.5:
        schema["additionalProperties"] = dice.choice([False, False, {"type": "string"}])
    if dice.random() < 0.1:
        schema["patternProperties"] = {"^a": json_schema(0)}
    return schema


def changed_json(schema, depth):
    if dice.random() < 0.1:
        return json_schema(depth)
    if not isinstance(schema, dict):
        return schema
    schema = json.loads(json.dumps(schema))
    for bound in ("maximum", "maxLength"):
        if bound in schema:
            schema[bound] += dice.choice([-1, 0, 1, 1]) if schema[bound] else 1
    if schema.get("type") == "integer" and dice.random() < 0.4:
        schema["type"] = "number"
    if "items" in schema:
        schema["items"] = changed_json(schema["items"], depth - 1)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            schema[key] = [changed_json(one, depth - 1) for one in schema[key]]
            if dice.random() < 0.3:
                schema[key].append(json_schema(0))
    if "properties" in schema:
        for name in list(schema["properties"]):
            if dice.random() < 0.15:
                del schema["properties"][name]
            else:
                schema["properties"][name] = changed_json(schema["properties"][name], depth - 1)
        if dice.random() < 0.3:
            schema["properties"][dice.choice("abcd")] = json_schema(0)
        if dice.random() < 0.2:
            schema.pop("required", None)
        if dice.random() < 0.2:
            schema.pop("additionalProperties", None)
        if dice.random() < 0.1:
            schema.pop("patternProperties", None)
    return schema


def document(depth):
    if depth > 0 and dice.random() < 0.5:
        return {name: document(depth - 1) for name in dice.sample("abcd", dice.randint(0, 3))}
    if depth > 0 and dice.random() < 0.3:
        return [document(depth - 1) for _ in range(dice.randint(0, 2))]
    return dice.choice([None, True, 0, 1, 2, 3, 4, -1, 1.5, 3.5, "", "a", "b", "aa", "aaa", "aaaa"])


def json_verdicts():
    taken = tried = 0
    for number in range(PAIRS):
        old = json_schema(3)
        new = changed_json(old, 2)
        if not compatible("JSON", number, old, new):
            continue
        taken += 1
        writer, reader = jsonschema.Draft202012Validator(old), jsonschema.Draft202012Validator(new)
        for _ in range(400):
            value = document(3)
            if writer.is_valid(value):
                tried += 1
                assert reader.is_valid(value), f"{json.dumps(old)} read by {json.dumps(new)}: {value!r}"
    return taken, tried


avros = avro_verdicts()
jsons, documents = json_verdicts()
assert min(avros, jsons) > PAIRS // 10, f"seed {SEED}: too few compatible pairs: {avros} and {jsons}"
print(f"seed {SEED}: of {PAIRS} pairs each, {avros} Avro and {jsons} JSON are compatible, {documents} documents tried; verdicts hold")
