// Why something was left out on its way, in plain words. The names are those of the metrics' label `reason`.

/** Whom it is to be asked of. What is by design is as it should be; all else was lost. */
const [DESIGN, NETWORK, LOAD, FAULT, HUB] = ['design', 'network', 'load', 'fault', 'hub'];

const REASONS = {
  units: {
    incomplete: [NETWORK, 'a packet was lost for good: the network between camera and node drops some'],
    awaiting_keyframe: [NETWORK, 'after a loss nothing is decoded until the next keyframe'],
    decode_backlog: [LOAD, 'it waited more than 500 ms for the decoder: this machine has too much to do'],
    decode_error: [FAULT, 'the decoder refused it: the camera sends something that is damaged or unknown'],
    no_picture: [DESIGN, 'the decoder took it and it had no picture of its own'],
    oversize: [FAULT, 'larger than 8 MiB'],
    shed: [LOAD, 'left out because of overload'],
    reset: [FAULT, 'the decoder that held it was rebuilt'],
    shutdown: [DESIGN, 'the stream ended'],
  },
  frames: {
    rate_limited: [DESIGN, 'a newer frame took its place before the camera was due by max_fps: as it should be'],
    unchanged: [DESIGN, 'nothing moved since the last frame that was looked at'],
    replaced: [LOAD, 'a newer frame took its place although it was due: this machine is the bottleneck'],
    stale: [LOAD, 'it was older than max_age_ms when its turn came'],
    inference_failed: [FAULT, 'the model failed, hung or is set aside'],
    camera_removed: [DESIGN, 'its camera was removed'],
    shutdown: [DESIGN, 'the node stopped'],
  },
  events: {
    suppressed: [DESIGN, 'nothing was seen, and emit_empty is off'],
    hub_disconnected: [HUB, 'the hub was away: results are dropped, not stored'],
    outbox_full: [HUB, 'newer ones took its place: the hub takes events too slowly'],
    failed: [FAULT, 'it could not be handed on: a bug'],
  },
};

/** What is known of a reason: its cause, whether something was lost by it, and its sentence. */
export function reason(stage, name) {
  const [cause, text] = REASONS[stage]?.[name] ?? [FAULT, 'a reason that this page does not know'];
  return { stage, name, cause, lost: cause !== DESIGN, text };
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
