"""An OPC UA server that does as told: one JSON command a line on standard input, `done` for each on standard output.

Arguments: port, then options: folder=PATH for a certificate (made there, policies Basic256Sha256 and up), swap (namespaces
in another order), user=NAME:PASSWORD, history, limit=N (says that it takes N items in a request; 0 is any number, and without
what the library says), nolimit (does not know the node of that), refuse=N (takes no more than that, whatever it says), norefresh (without ConditionRefresh), none (without security as well), distrust (no certificate of a client is good), pages=N
(answers with N references at most and keeps the rest, which this server does not do by itself), big=N (a folder `Big` of so
many variables, which are made up when somebody looks).
"""

import asyncio
import datetime
import json
import logging
import sys
from pathlib import Path

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AttributeService, ViewService
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary

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


class Pages:
    """Continuation points, and a folder that is larger than this server could hold."""

    OPEN_MAX = 4  # of one session; more are refused

    def __init__(self, size, big):
        self.size, self.big, self.open, self.number, self.most = size, big, {}, 0, 0
        self.process, self.view, self.read = UaProcessor._process_message, ViewService._browse, AttributeService.read
        pages = self

        async def process(processor, typeid, header, sequence, body):
            if typeid != ua.NodeId(ua.ObjectIds.BrowseNextRequest_Encoding_DefaultBinary):
                return await pages.process(processor, typeid, header, sequence, body)
            asked = struct_from_binary(ua.BrowseNextParameters, body)
            answer = ua.BrowseNextResponse()
            answer.Parameters.Results = [pages.next(point, asked.ReleaseContinuationPoints) for point in asked.ContinuationPoints]
            processor.send_response(header.RequestHandle, sequence, answer)
            return True

        def browse(view, description):
            if description.NodeId.Identifier == "Big":
                return pages.part(ua.BrowseResult(), range(pages.big))
            if str(description.NodeId.Identifier).startswith("big."):
                return ua.BrowseResult()
            result = pages.view(view, description)
            return pages.part(result, result.References)

        def read(service, asked):
            results = service_read(service, asked)
            for place, node in enumerate(asked.NodesToRead):
                if str(node.NodeId.Identifier).startswith("big."):
                    value = {
                        ua.AttributeIds.Value: ua.Variant(f"value of {node.NodeId.Identifier}"),
                        ua.AttributeIds.DataType: ua.Variant(ua.NodeId(ua.ObjectIds.String)),
                        ua.AttributeIds.UserAccessLevel: ua.Variant(1, ua.VariantType.Byte),
                    }[node.AttributeId]
                    results[place] = ua.DataValue(value)
            return results

        service_read = self.read
        UaProcessor._process_message, ViewService._browse, AttributeService.read = process, browse, read

    def made_up(self, number, index):
        name = f"big.{number}"
        return ua.ReferenceDescription(
            ReferenceTypeId=ua.NodeId(ua.ObjectIds.Organizes),
            IsForward=True,
            NodeId=ua.ExpandedNodeId(name, index),
            BrowseName=ua.QualifiedName(name, index),
            DisplayName=ua.LocalizedText(name),
            NodeClass=ua.NodeClass.Variable,
            TypeDefinition=ua.ExpandedNodeId(ua.ObjectIds.BaseDataVariableType),
        )

    def part(self, result, rest):
        first, rest = rest[: self.size], rest[self.size :]
        result.References = [self.made_up(one, 2) if isinstance(one, int) else one for one in first]
        if len(rest):
            if len(self.open) >= self.OPEN_MAX:
                result.References, result.StatusCode = [], ua.StatusCode(ua.StatusCodes.BadNoContinuationPoints)
                return result
            self.number += 1
            result.ContinuationPoint = str(self.number).encode()
            self.open[result.ContinuationPoint] = rest
            self.most = max(self.most, len(self.open))
        return result

    def next(self, point, release):
        rest = self.open.pop(point, None)
        if rest is None:
            return ua.BrowseResult(StatusCode=ua.StatusCode(ua.StatusCodes.BadContinuationPointInvalid))
        return ua.BrowseResult() if release else self.part(ua.BrowseResult(), rest)


def refuse(limit):
    """Requests for more items than that fail as a whole."""
    process = UaProcessor._process_message

    async def guarded(processor, typeid, header, sequence, body):
        if typeid == ua.NodeId(ua.ObjectIds.CreateMonitoredItemsRequest_Encoding_DefaultBinary):
            asked = struct_from_binary(ua.CreateMonitoredItemsParameters, body.copy())
            if len(asked.ItemsToCreate) > limit:
                raise ServiceError(ua.StatusCodes.BadTooManyOperations)
        return await process(processor, typeid, header, sequence, body)

    UaProcessor._process_message = guarded


async def distrust(certificate, application):
    raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


class Plant:
    def __init__(self, server, options, pages):
        self.server, self.options, self.pages, self.nodes, self.index = server, options, pages, {}, {}
        self.calls = []

    async def build(self):
        self.watch_calls()
        uris = list(reversed(URIS)) if "swap" in self.options else URIS
        for uri in uris:
            self.index[uri] = await self.server.register_namespace(uri)

    def node_id(self, name, uri):
        return ua.NodeId(name, self.index[uri])

    def watch_calls(self):
        """Counts what is called, whatever it is."""
        service = self.server.iserver.method_service
        carry_out = service.call

        async def call(methods):
            self.calls.extend(methods)
            return await carry_out(methods)

        service.call = call

    async def event(self, kind, fields):
        """Tells an event of a standard type."""
        generator = await self.server.get_event_generator(getattr(ua.ObjectIds, kind), ua.ObjectIds.Server)
        for name, value in fields.items():
            if name in ("NodeId", "SourceNode", "BranchId"):
                value = self.node_id(value, URIS[0])
            if name not in ("Message", "Time"):
                setattr(generator.event, name, value)
        await generator.trigger(message=fields.get("Message"), time_attr=moment(fields.get("Time")))

    async def do(self, command):
        what = command["do"]
        uri = command.get("uri", URIS[0])
        if what == "add":
            kind = getattr(ua.VariantType, command.get("type", "Double"))
            value = ua.Variant(command["value"], kind)
            parent = self.nodes.get((uri, command.get("in")), self.server.nodes.objects)
            node = await parent.add_variable(self.node_id(command["name"], uri), command["name"], value)
            self.nodes[(uri, command["name"])] = node
            if "history" in self.options:
                await self.server.historize_node_data_change(node, period=None, count=10000)
        elif what == "folder":
            parent = self.nodes.get((uri, command.get("in")), self.server.nodes.objects)
            node = await parent.add_folder(self.node_id(command["name"], uri), command["name"])
            self.nodes[(uri, command["name"])] = node
        elif what == "loop":
            await self.nodes[(uri, command["from"])].add_reference(self.nodes[(uri, command["to"])], ua.ObjectIds.HasComponent)
        elif what == "analog":
            parent = self.nodes.get((uri, command.get("in")), self.server.nodes.objects)
            node = await parent.add_variable(self.node_id(command["name"], uri), command["name"], float(command["value"]))
            unit = ua.EUInformation(DisplayName=ua.LocalizedText(command["unit"]))
            await node.add_property(0, "EngineeringUnits", unit)
            await node.add_property(0, "EURange", ua.Range(*map(float, command["range"])))
            self.nodes[(uri, command["name"])] = node
        elif what == "open":
            print(f"open {len(self.pages.open)} most {self.pages.most}", flush=True)
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
        elif what == "event":
            await self.event(command.get("kind", "BaseEventType"), command["fields"])
        elif what == "condition":
            name = command["name"]
            fields = {
                "NodeId": name, "ConditionName": name, "SourceName": "Press 1", "EnabledState/Id": True,
                "Message": name, "Severity": 700, "Retain": True, "ActiveState/Id": True, "AckedState/Id": False,
            }
            fields.update(command.get("fields", {}))
            await self.event("AlarmConditionType", fields)
        elif what == "omit":
            # over, and nobody was told
            self.server.iserver.subscription_service._conditions.pop(self.node_id(command["name"], uri))
        elif what == "flood":
            generator = await self.server.get_event_generator(ua.ObjectIds.BaseEventType, ua.ObjectIds.Server)
            for number in range(command["count"]):
                await generator.trigger(message=f"event {number}")
                if number % 100 == 0:
                    await asyncio.sleep(0)
        elif what == "calls":
            print(f"calls {len(self.calls)}", flush=True)
        elif what == "unacknowledged":
            inside = self.server.iserver.isession.session_id
            service = self.server.iserver.subscription_service
            held = [one for one in service.subscriptions.values() if one.session_id != inside]
            print(f"unacknowledged {sum(len(one._not_acknowledged_results) for one in held)}", flush=True)
        elif what == "state":
            node = self.server.get_node(ua.NodeId(2259))
            await node.write_value(ua.Variant(command["state"], ua.VariantType.Int32))
        print("done", flush=True)


async def main():
    port, options = sys.argv[1], sys.argv[2:]
    named = dict(option.split("=", 1) for option in options if "=" in option)
    manager = Gate(*named["user"].split(":")) if "user" in named else None
    server = Server(user_manager=manager)
    # by their severity the brackets of a refresh pass a filter of ours
    server.iserver.bind_condition_methods = 0 if "norefresh" in options else 1000
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
    if "distrust" in options:
        server.set_certificate_validator(distrust)
    pages = Pages(int(named["pages"]), int(named.get("big", 0))) if "pages" in named else None
    if "refuse" in named:
        refuse(int(named["refuse"]))
    limit = server.get_node(ua.NodeId(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall))
    if "limit" in named:
        await limit.write_value(ua.Variant(int(named["limit"]), ua.VariantType.UInt32))
    elif "nolimit" in options:
        await server.delete_nodes([limit])
    plant = Plant(server, options, pages)
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
