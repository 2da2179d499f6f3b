// A twin with a media stream of the official npm client (4.x), the legacy dialect.
//
// As a camera (--send CLIP) it sends a clip as VP8 to whoever dials it; as a viewer (--dial TWIN) it counts
// the pictures that it gets. Runs until it is killed. This client has no stream names and no fan-out: the
// room of a stream is the responder's twin. Its initiator can only receive: it offers one m-line, recvonly,
// and hands out nothing to change that. The twin comes from TWIN_ID, the hub from PHYSTACK_SIMULATOR_URL,
// the client from the node_modules folder in TWINSIGHT_NODE_MODULES.
//
// Prints: `armed` for every new peer connection, `open` and `close STATE` for what becomes of it, `sending`
// once the client has taken the track, `frame NUMBER WIDTHxHEIGHT` as viewer. SIGTERM makes it say goodbye first.

import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const { values: args } = parseArgs({
  options: { send: { type: "string" }, dial: { type: "string" } },
});
const { TWIN_ID: twin, PHYSTACK_SIMULATOR_URL: hub, TWINSIGHT_NODE_MODULES: modules } = process.env;
if (!twin || !hub || !modules) fail("TWIN_ID, PHYSTACK_SIMULATOR_URL and TWINSIGHT_NODE_MODULES must be set");
if (!args.send === !args.dial) fail("--send CLIP or --dial TWIN");

// The client prints its progress on the same stream as this program's lines.
console.log = console.info = console.debug = console.error;

// It would go through the machine's proxy to a hub on this machine.
for (const name of ["http_proxy", "https_proxy"]) {
  delete process.env[name];
  delete process.env[name.toUpperCase()];
}

const require = createRequire(resolve(modules, "noop.js"));
const wrtc = require("@roamhq/wrtc");

// The client takes a global RTCPeerConnection that is there before it. Its own would ask a third
// party's STUN servers.
const connections = new Set();
globalThis.RTCPeerConnection = class extends wrtc.RTCPeerConnection {
  #opened = false;

  constructor(configuration) {
    super({ ...configuration, iceServers: [] });
    this.addEventListener("connectionstatechange", () => this.#changed());
    connections.add(this);
    // Once the client has set its handlers: until it has a peer connection, it drops offers.
    setImmediate(() => say("armed"));
  }

  close() {
    connections.delete(this);
    super.close();
  }

  #changed() {
    if (this.connectionState === "connected" && !this.#opened) say("open");
    else if (this.#opened && this.connectionState !== "connected") say("close", this.connectionState);
    this.#opened = this.connectionState === "connected";
  }
};

// The client has no way to close what onMediaStream gave.
process.on("SIGTERM", () => {
  connections.forEach((connection) => connection.close());
  // The goodbye leaves from a thread of its own.
  setTimeout(() => process.exit(0), 200);
});

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

function say(...words) {
  process.stdout.write(`${words.join(" ")}\n`);
}

/** Plays the clip over and over, in its own time. Its pictures come as YUV4MPEG2: a header, then FRAME and I420. */
function play(clip, onPicture) {
  const input = ["-re", "-stream_loop", "-1", "-i", clip];
  const output = ["-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p", "-"];
  const ffmpeg = spawn("ffmpeg", ["-v", "error", ...input, ...output], { stdio: ["ignore", "pipe", "inherit"] });
  ffmpeg.on("error", ({ message }) => fail(message));
  ffmpeg.on("exit", (code) => fail(`ffmpeg ended: ${code}`));
  process.on("exit", () => ffmpeg.kill());
  let bytes = Buffer.alloc(0);
  let size;
  ffmpeg.stdout.on("data", (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
    for (;;) {
      const line = bytes.indexOf("\n");
      if (line < 0) return;
      if (!size) {
        const [, width, height] = /^YUV4MPEG2 W(\d+) H(\d+)/.exec(bytes.toString("latin1", 0, line));
        size = { width: Number(width), height: Number(height) };
        bytes = bytes.subarray(line + 1);
        continue;
      }
      const end = line + 1 + (size.width * size.height * 3) / 2;
      if (bytes.length < end) return;
      onPicture({ ...size, data: new Uint8ClampedArray(bytes.subarray(line + 1, end)) });
      bytes = bytes.subarray(end);
    }
  });
}

async function send(client) {
  const source = new wrtc.nonstandard.RTCVideoSource();
  play(args.send, (picture) => source.onFrame(picture));
  // Called once, when the first viewer is connected. Tracks can only be added from here on: to the
  // connection that is up, whose viewer has to offer once more, and to all that follow.
  await client.onMediaStream(twin, (stream) => {
    stream.addTrack(source.createTrack());
    say("sending");
  });
}

async function view(client) {
  const { stream } = await client.getMediaStream(args.dial);
  let pictures = 0;
  stream.onTrack((track) => {
    if (track.kind !== "video") return;
    const sink = new wrtc.nonstandard.RTCVideoSink(track);
    sink.onframe = ({ frame: { width, height } }) => {
      say("frame", pictures, `${width}x${height}`);
      pictures += 1;
    };
  });
}

const client = await connectPhyClient();
await client.getInstance(); // the client signs with the twin's device, and remembers it
await (args.send ? send(client) : view(client));
