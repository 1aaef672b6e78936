"""Logs in with confluent-kafka over TLS, administers users, access rules and quotas, and meets their effect.

Arguments: host and port of the listener, password of the user admin, folder with ca.pem and other.pem. Any doubt is an
assertion.
"""

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

BOOTSTRAP, PASSWORD, FOLDER = sys.argv[1:4]
PATIENCE = 20


def settings(user, password, mechanism="SCRAM-SHA-512", authority="ca.pem", **more):
    return {
        "bootstrap.servers": BOOTSTRAP,
        "broker.address.family": "v4",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": f"{FOLDER}/{authority}",
        # the broker advertises the address it listens on; the certificate is checked, its name is another test's
        "ssl.endpoint.identification.algorithm": "none",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
        **more,
    }


def done(futures):
    return [future.result(PATIENCE) for future in futures.values()]


def first_error(config):
    """The error with which a client's attempts to connect end."""
    errors = []
    client = Producer({**config, "error_cb": errors.append})
    deadline = time.monotonic() + PATIENCE
    wanted = (KafkaError._AUTHENTICATION, KafkaError._SSL)
    while time.monotonic() < deadline:
        client.poll(0.1)
        for error in errors:
            if error.code() in wanted:
                return error
    raise AssertionError(f"no error of a login: {errors}")


def send(user, topic):
    """The error code of one record, or None."""
    outcome = []
    producer = Producer(settings(user, PASSWORD, "SCRAM-SHA-256", **{"message.timeout.ms": 10000}))
    producer.produce(topic, b"x", on_delivery=lambda error, _: outcome.append(error))
    producer.flush(PATIENCE)
    return outcome[0] and outcome[0].code()


def read(user, group, topic):
    """One record, or the error code."""
    consumer = Consumer(
        settings(user, PASSWORD, "SCRAM-SHA-256", **{"group.id": group, "auto.offset.reset": "earliest"})
    )
    consumer.subscribe([topic])
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is not None:
                return message.error().code() if message.error() else message.value()
    except KafkaException as error:
        return error.args[0].code()
    finally:
        consumer.close()
    raise AssertionError("neither a record nor an error")


def allow(user, operation, kind, name, pattern=ResourcePatternType.LITERAL, permission=AclPermissionType.ALLOW):
    return AclBinding(kind, name, pattern, f"User:{user}", "*", operation, permission)


for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"):
    admin = AdminClient(settings("admin", PASSWORD, mechanism))
    assert admin.list_topics(timeout=PATIENCE).brokers, mechanism
    assert first_error(settings("admin", "wrong", mechanism)).code() == KafkaError._AUTHENTICATION, mechanism
assert first_error(settings("nobody", PASSWORD)).code() == KafkaError._AUTHENTICATION
assert first_error(settings("admin", PASSWORD, authority="other.pem")).code() == KafkaError._SSL

done(admin.create_topics([NewTopic("plant.raw", 1), NewTopic("plant.clean", 1)]))
info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192)
users = ["ada", "bob"]
done(admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, info, PASSWORD.encode()) for user in users]))
described = admin.describe_user_scram_credentials(users)
assert [future.result(PATIENCE).scram_credential_infos[0].iterations for future in described.values()] == [8192, 8192]

denied = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
assert send("ada", "plant.raw") in denied
prefixed = ResourcePatternType.PREFIXED
rules = [
    allow("ada", AclOperation.WRITE, ResourceType.TOPIC, "plant.", prefixed),
    allow("ada", AclOperation.WRITE, ResourceType.TOPIC, "plant.clean", permission=AclPermissionType.DENY),
    allow("bob", AclOperation.READ, ResourceType.TOPIC, "plant.raw"),
    allow("bob", AclOperation.READ, ResourceType.GROUP, "readers"),
]
done(admin.create_acls(rules))
every = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)
assert sorted(map(str, admin.describe_acls(every).result(PATIENCE))) == sorted(map(str, rules))

assert send("ada", "plant.raw") is None
assert send("ada", "plant.clean") in denied
assert read("bob", "readers", "plant.raw") == b"x"
assert read("bob", "strangers", "plant.raw") == KafkaError.GROUP_AUTHORIZATION_FAILED
assert read("ada", "readers", "plant.raw") == KafkaError.GROUP_AUTHORIZATION_FAILED

removed = AclBindingFilter(
    ResourceType.TOPIC, "plant.", prefixed, "User:ada", None, AclOperation.ANY, AclPermissionType.ANY
)
assert len(done(admin.delete_acls([removed]))[0]) == 1
assert send("ada", "plant.raw") in denied
done(admin.alter_user_scram_credentials([UserScramCredentialDeletion("ada", ScramMechanism.SCRAM_SHA_256)]))
assert first_error(settings("ada", PASSWORD, "SCRAM-SHA-256")).code() == KafkaError._AUTHENTICATION
print("done")
