// An OPC UA server of node-opcua that does as told: one JSON command a line on standard input, `done` for each on standard
// output, or `failed` and why.
//
// Arguments: port, a folder for its certificate and those it trusts, then options: user=NAME:PASSWORD, limit=N (items in a
// request), distrust (no certificate of a client is good). Offers None, Basic256Sha256, Aes128_Sha256_RsaOaep and
// Aes256_Sha256_RsaPss. NODE_PATH says where node-opcua is.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const { OPCUAServer } = require("node-opcua-server");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { MessageSecurityMode, SecurityPolicy } = require("node-opcua-secure-channel");
const { nodesets } = require("node-opcua-nodesets");
const { DataType, Variant } = require("node-opcua-variant");
const { StatusCodes, coerceStatusCode } = require("node-opcua-status-code");

const [port, folder, ...options] = process.argv.slice(2);
const named = new Map(options.map((option) => option.split(/=(.*)/s).slice(0, 2)));
const nodes = new Map();

function managed(name) {
  const rootFolder = path.join(folder, name);
  return new OPCUACertificateManager({
    rootFolder,
    automaticallyAcceptUnknownCertificate: !named.has("distrust"),
    disableFileWatchers: true,
  });
}

// Its own certificate names the hosts it is reached by; what it makes by itself names this machine.
async function certify(manager) {
  await manager.initialize();
  const outputFile = path.join(folder, "server/own/certs/certificate.pem");
  if (!fs.existsSync(outputFile)) {
    const names = { applicationUri: URI, dns: ["localhost"], ip: ["127.0.0.1"] };
    await manager.createSelfSignedCertificate({ outputFile, subject: "/CN=node-opcua", startDate: new Date(), validity: 300, ...names });
  }
}

const URI = "urn:test:node-opcua";
const serverCertificateManager = managed("server");
const server = new OPCUAServer({
  port: Number(port),
  host: "127.0.0.1",
  hostname: "localhost",
  serverInfo: { applicationUri: URI },
  nodeset_filename: [nodesets.standard],
  serverCertificateManager,
  userCertificateManager: managed("user"),
  securityPolicies: [
    SecurityPolicy.None,
    SecurityPolicy.Basic256Sha256,
    SecurityPolicy.Aes128_Sha256_RsaOaep,
    SecurityPolicy.Aes256_Sha256_RsaPss,
  ],
  securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
  allowAnonymous: !named.has("user"),
  userManager: { isValidUser: (name, password) => `${name}:${password}` === named.get("user") },
  serverCapabilities: { operationLimits: { maxMonitoredItemsPerCall: Number(named.get("limit") ?? 0) } },
});

const KINDS = { Double: DataType.Double, Int32: DataType.Int32, UInt32: DataType.UInt32, String: DataType.String, Boolean: DataType.Boolean };

function variant(command) {
  return new Variant({ dataType: KINDS[command.type ?? "Double"], value: command.value });
}

function add(own, name, value) {
  const node = own.addVariable({
    organizedBy: server.engine.addressSpace.rootFolder.objects,
    nodeId: `s=${name}`,
    browseName: name,
    dataType: value.dataType,
    minimumSamplingInterval: 10,
  });
  node.setValueFromSource(value);
  nodes.set(name, node);
}

function perform(own, command) {
  switch (command.do) {
    case "add":
      return add(own, command.name, variant(command));
    case "set": {
      const status = command.status ? coerceStatusCode(command.status) : StatusCodes.Good;
      const stamp = command.at ? new Date(command.at) : new Date();
      return nodes.get(command.name).setValueFromSource(variant(command), status, stamp);
    }
    case "subscriptions":
      return console.log(`subscriptions ${server.engine.currentSubscriptionCount}`);
    case "sessions":
      return console.log(`sessions ${server.engine.currentSessionCount}`);
    default:
      throw new Error(`no command ${command.do}`);
  }
}

async function main() {
  await certify(serverCertificateManager);
  await server.initialize();
  await server.start();
  const own = server.engine.addressSpace.registerNamespace("urn:test:line");
  console.log("ready");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    try {
      perform(own, JSON.parse(line));
      console.log("done");
    } catch (error) {
      console.log(`failed ${error.stack}`);
    }
  }
  await server.shutdown(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
