// A twin that holds a data channel with the official npm client (4.x); a Rust test is the other side.
//
// It dials a peer (initiator) or takes the channel of whoever dials it (responder), and runs until it
// is killed. This client has no channel names and no fan-out: the room of a channel is the responder's
// twin. The twin comes from TWIN_ID, the hub from PHYSTACK_SIMULATOR_URL, the client from the
// node_modules folder in TWINSIGHT_NODE_MODULES. Prints a JSON object a line: armed, open, message, close.

import { createRequire } from "node:module";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const NAME = "default";

const { values: args } = parseArgs({
  options: { role: { type: "string" }, peer: { type: "string" }, names: { type: "string" } },
});
const { TWIN_ID: twin, PHYSTACK_SIMULATOR_URL: hub, TWINSIGHT_NODE_MODULES: modules } = process.env;
if (!twin || !hub || !modules) fail("TWIN_ID, PHYSTACK_SIMULATOR_URL and TWINSIGHT_NODE_MODULES must be set");
if (!["initiator", "responder"].includes(args.role)) fail("--role must be initiator or responder");
if (args.role === "initiator" && !args.peer) fail("--role initiator needs --peer");

// The client prints its progress on the same stream as this program's lines.
console.log = console.info = console.debug = console.error;

// It would go through the machine's proxy to a hub on this machine.
for (const name of ["http_proxy", "https_proxy"]) {
  delete process.env[name];
  delete process.env[name.toUpperCase()];
}

const require = createRequire(resolve(modules, "noop.js"));
const wrtc = require("@roamhq/wrtc");

/** What happens to the client's peer connections; it tells when one is up, not when a channel is open. */
const watch = { onpeer: () => {}, onopen: () => {} };

// The client takes a global RTCPeerConnection that is there before it. Its own would ask a third
// party's STUN servers.
globalThis.RTCPeerConnection = class extends wrtc.RTCPeerConnection {
  constructor(configuration) {
    super({ ...configuration, iceServers: [] });
    this.addEventListener("datachannel", ({ channel }) => this.#watch(channel));
    // Once the client has set its handlers.
    setImmediate(() => watch.onpeer());
  }

  createDataChannel(...parameters) {
    return this.#watch(super.createDataChannel(...parameters));
  }

  #watch(channel) {
    channel.addEventListener("open", () => watch.onopen());
    return channel;
  }
};

const { connectPhyClient } = require("@phygrid/hub-client");

// The address of its hub, http://phyos:55000, is built in: no option and no variable changes it.
const { PhyHubConnection } = require("@phygrid/hub-client/dist/services/phyhub-connection.service");
PhyHubConnection.prototype.setSocketUrls = function () {
  this.socketUrls = [{ url: hub, timeout: 5000, options: {} }];
};

function fail(message) {
  console.error(message);
  process.exit(2);
}

function say(what, fields) {
  process.stdout.write(`${JSON.stringify({ what, ...fields })}\n`);
}

/** The client hands over bytes, or a text as what it is in JSON, or else as itself. */
function sayMessage(value) {
  if (value instanceof ArrayBuffer) {
    say("message", { name: NAME, kind: "binary", value: Buffer.from(value).toString("hex") });
  } else {
    say("message", { name: NAME, kind: typeof value === "string" ? "text" : "json", value });
  }
}

function echoOf(value) {
  if (typeof value === "string") return value;
  // It has no way to send bytes: they leave as the JSON text {"0":0,"1":1,...}.
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? { echo: value } : JSON.stringify(value);
}

/** The channel, with its lines. The client keeps it for good: it comes back by itself when it was lost. */
function withLines(channel, onMessage = () => {}) {
  channel.onMessage((value) => {
    sayMessage(value);
    onMessage(value);
  });
  channel.onClose(() => say("close", { name: NAME }));
  return channel;
}

function dial(client) {
  say("armed");
  // Resolves when the first peer connection is up; until then it offers again and again.
  const dialled = client.getDataChannel(args.peer).then((channel) => withLines(channel));
  watch.onopen = async () => {
    const channel = await dialled;
    say("open", { name: NAME });
    channel.send(`hello from ${NAME}`);
    channel.send({ n: 1, name: NAME });
    channel.send(Uint8Array.of(0, 1, 2, 255));
  };
}

function take(client) {
  // Until it has a peer connection the client drops offers.
  watch.onpeer = () => {
    say("armed");
    watch.onpeer = () => {};
  };
  const taken = new Promise((done) => {
    client.onDataChannel(twin, (channel) => {
      done(withLines(channel, (value) => channel.send(echoOf(value))));
    });
  });
  watch.onopen = async () => {
    await taken;
    say("open", { name: NAME });
  };
}

const client = await connectPhyClient();
await client.getInstance(); // the client signs with the twin's device, and remembers it
if (args.role === "initiator") dial(client);
else take(client);
