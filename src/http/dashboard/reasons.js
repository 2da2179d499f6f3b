// Why something was left out on its way, in plain words. The names are those of the metrics' label `reason`.

/** Whom it is to be asked of. What is by design is as it should be; all else was lost. */
const [DESIGN, NETWORK, LOAD, FAULT, HUB] = ['design', 'network', 'load', 'fault', 'hub'];

const REASONS = {
  units: {
    incomplete: [NETWORK, 'packets lost', 'a packet was lost for good: the network between camera and node drops some'],
    awaiting_keyframe: [NETWORK, 'waiting for a keyframe', 'after a loss nothing is decoded until the next keyframe'],
    decode_backlog: [LOAD, 'decoder too slow', 'it waited more than 500 ms for the decoder: this machine has too much to do'],
    decode_error: [FAULT, 'not decodable', 'the decoder refused it: the camera sends something that is damaged or unknown'],
    no_picture: [DESIGN, 'without a picture', 'the decoder took it and it had no picture of its own'],
    oversize: [FAULT, 'too large', 'larger than 8 MiB'],
    shed: [LOAD, 'left out: overload', 'left out because of overload'],
    reset: [FAULT, 'decoder rebuilt', 'the decoder that held it was rebuilt'],
    shutdown: [DESIGN, 'stream ended', 'the stream ended'],
  },
  frames: {
    rate_limited: [DESIGN, 'not due', 'a newer frame took its place before the camera was due by max_fps: as it should be'],
    unchanged: [DESIGN, 'unchanged', 'nothing moved since the last frame that was looked at'],
    replaced: [LOAD, 'overtaken', 'a newer frame took its place although it was due: this machine is the bottleneck'],
    stale: [LOAD, 'too old', 'it was older than max_age_ms when its turn came'],
    inference_failed: [FAULT, 'model failed', 'the model failed, hung or is set aside'],
    camera_removed: [DESIGN, 'camera removed', 'its camera was removed'],
    shutdown: [DESIGN, 'node stopped', 'the node stopped'],
  },
  events: {
    suppressed: [DESIGN, 'without an event', 'nothing was seen and emit_empty is off, or detections = "none"'],
    hub_disconnected: [HUB, 'not sent: hub away', 'the hub was away: results are dropped, not stored'],
    outbox_full: [HUB, 'not sent: hub too slow', 'newer ones took its place: the hub takes events too slowly'],
    not_held: [DESIGN, 'not this node’s', 'another node of the pool publishes the camera, or this one’s lease has run out'],
    failed: [FAULT, 'not sent: a bug', 'it could not be handed on: a bug'],
  },
};

/** What is known of a reason: its cause, whether something was lost by it, a word or two for it, and its sentence. */
export function reason(stage, name) {
  const [cause, word, text] = REASONS[stage]?.[name] ?? [FAULT, name, 'a reason that this page does not know'];
  return { stage, name, cause, lost: cause !== DESIGN, word, text };
}

/** `frames.stale` of the history. */
export function reasonOf(key) {
  const at = key.indexOf('.');
  return reason(key.slice(0, at), key.slice(at + 1));
}

/** What the steps of the overload ladder leave out. */
export const SHED = [
  'nothing is left out',
  'frames are looked at half as often',
  'pictures to which no other refers are not decoded',
  'nothing but keyframes is decoded',
];
