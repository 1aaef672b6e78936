"""An OPC UA server that does as told: one JSON command a line on standard input, `done` for each on standard output.

Arguments: port, then options: folder=PATH for a certificate (made there, policies Basic256Sha256 and up), swap (namespaces
in another order), user=NAME:PASSWORD, history, none (without security as well).
"""

import asyncio
import datetime
import json
import logging
import sys
from pathlib import Path

from asyncua import Server, ua
from asyncua.crypto.permission_rules import User, UserRole

logging.disable(logging.CRITICAL)

URIS = ["urn:test:line", "urn:test:other"]


class Gate:
    """Lets one name with one password in."""

    def __init__(self, name, password):
        self.name, self.password = name, password

    def get_user(self, iserver, username=None, password=None, certificate=None):
        if username == self.name and password == self.password:
            return User(role=UserRole.User)
        return None


def certificate(folder):
    """A certificate of its own with the names it is reached by."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    import ipaddress

    path = Path(folder)
    if (path / "server.der").exists():
        return path / "server.der", path / "server.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test server")])
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(
        ["crl_sign", "key_cert_sign", "key_agreement", "encipher_only", "decipher_only"], False
    ) | dict.fromkeys(["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"], True)
    names = [
        x509.UniformResourceIdentifier("urn:test:server"),
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=300))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.KeyUsage(**usage), True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding, serialization.PrivateFormat.PKCS8
    (path / "server.der").write_bytes(made.public_bytes(encoding.DER))
    (path / "server.pem").write_bytes(key.private_bytes(encoding.PEM, form, serialization.NoEncryption()))
    return path / "server.der", path / "server.pem"


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


class Plant:
    def __init__(self, server, options):
        self.server, self.options, self.nodes, self.index = server, options, {}, {}

    async def build(self):
        uris = list(reversed(URIS)) if "swap" in self.options else URIS
        for uri in uris:
            self.index[uri] = await self.server.register_namespace(uri)

    def node_id(self, name, uri):
        return ua.NodeId(name, self.index[uri])

    async def do(self, command):
        what = command["do"]
        uri = command.get("uri", URIS[0])
        if what == "add":
            kind = getattr(ua.VariantType, command.get("type", "Double"))
            value = ua.Variant(command["value"], kind)
            node = await self.server.nodes.objects.add_variable(self.node_id(command["name"], uri), command["name"], value)
            self.nodes[(uri, command["name"])] = node
            if "history" in self.options:
                await self.server.historize_node_data_change(node, period=None, count=10000)
        elif what == "set":
            node = self.nodes[(uri, command["name"])]
            kind = getattr(ua.VariantType, command.get("type", "Double"))
            value = command.get("value")
            stamped = ua.DataValue(
                ua.Variant(value, kind) if value is not None else ua.Variant(None, ua.VariantType.Null),
                ua.StatusCode(command.get("status", 0)),
                SourceTimestamp=moment(command.get("at")) or datetime.datetime.now(datetime.timezone.utc),
                ServerTimestamp=moment(command.get("server_at")),
            )
            if command.get("at") == "":
                stamped = ua.DataValue(stamped.Value, stamped.StatusCode_, ServerTimestamp=stamped.ServerTimestamp)
            await self.server.write_attribute_value(node.nodeid, stamped)
        elif what == "series":
            node = self.nodes[(uri, command["name"])]
            for number in range(command["from"], command["to"]):
                await self.server.write_attribute_value(node.nodeid, ua.DataValue(ua.Variant(float(number), ua.VariantType.Double), SourceTimestamp=datetime.datetime.now(datetime.timezone.utc)))
                await asyncio.sleep(command.get("pause", 0.0))
        elif what in ("subscriptions", "forget"):
            # those of clients; the server's history is written by one of its own
            inside = self.server.iserver.isession.session_id
            service = self.server.iserver.subscription_service
            ids = [number for number, one in service.subscriptions.items() if one.session_id != inside]
            if what == "forget":
                await service.delete_subscriptions(ids)
            else:
                print(f"subscriptions {len(ids)}", flush=True)
        elif what == "state":
            node = self.server.get_node(ua.NodeId(2259))
            await node.write_value(ua.Variant(command["state"], ua.VariantType.Int32))
        print("done", flush=True)


async def main():
    port, options = sys.argv[1], sys.argv[2:]
    named = dict(option.split("=", 1) for option in options if "=" in option)
    manager = Gate(*named["user"].split(":")) if "user" in named else None
    server = Server(user_manager=manager)
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/")
    await server.set_application_uri("urn:test:server")
    policies = [ua.SecurityPolicyType.NoSecurity] if "none" in options else []
    if "folder" in named:
        policies += [
            ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
            ua.SecurityPolicyType.Basic256Sha256_Sign,
            ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
            ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
        ]
        shown, key = certificate(named["folder"])
        await server.load_certificate(str(shown))
        await server.load_private_key(str(key))
    server.set_security_policy(policies)
    plant = Plant(server, options)
    await plant.build()
    async with server:
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                await plant.do(json.loads(line))
            except Exception as error:  # the test reads it
                print(f"failed {error!r}", flush=True)


asyncio.run(main())
