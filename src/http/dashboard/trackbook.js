// The tracks of one camera: what the node answered about them, and what its events have said since. Nothing here knows of the page.

/** A trail is as long as this, in milliseconds. */
export const TRAIL = 5000;
/** No trail has more points, and no list more tracks that have ended. */
const [POINTS, ENDED] = [160, 256];

export class TrackBook {
  /** Tracks that live, by id. Each is as in `/api/tracks`. */
  live = new Map();
  /** Those that ended lately, the last one first. */
  ended = [];
  /** How often each line was crossed, by name: `{in, out}`. */
  lines = new Map();
  #run = null;
  #trails = new Map();
  /** When an event last said something of a track or line, so that an answer that was asked for before does not undo it. */
  #told = new Map();

  #inRun(run) {
    if (!run || run === this.#run) return;
    // Ids and counts begin again in each run of the node.
    if (this.#run !== null) {
      this.live.clear();
      this.lines.clear();
      this.#trails.clear();
      this.#told.clear();
      this.ended = [];
    }
    this.#run = run;
  }

  /** Takes in an event. `now` is any clock that goes forward, the same one as for `answer`. */
  event(type, data, now) {
    this.#inRun(data.runId);
    if (type === 'detections') this.#seen(data);
    if (type === 'lineCrossed') {
      this.lines.set(data.line, { ...data.counts });
      this.#told.set(`line ${data.line}`, now);
    }
    if (type !== 'track') return;
    const { track, phase, reason } = data;
    this.#told.set(track.id, now);
    if (phase !== 'end') {
      this.live.set(track.id, { ...this.live.get(track.id), ...track, state: 'confirmed', reason: null, endedAt: null });
      return;
    }
    const known = this.live.get(track.id);
    this.live.delete(track.id);
    this.ended = [{ ...known, ...track, state: 'ended', reason, endedAt: data.timestamp }, ...this.ended.filter(({ id }) => id !== track.id)].slice(0, ENDED);
  }

  #seen({ sequence, timestamp, frame, objects }) {
    const at = frame.receivedAt ?? timestamp;
    for (const { trackId, box } of objects) {
      if (trackId === null || trackId === undefined) continue;
      const trail = this.#trails.get(trackId) ?? [];
      if (trail.length && trail.at(-1).sequence >= sequence) continue;
      trail.push({ sequence, at, point: [(box.x + box.width / 2) / frame.width, (box.y + box.height) / frame.height] });
      while (trail.length > POINTS || at - trail[0].at > TRAIL) trail.shift();
      this.#trails.set(trackId, trail);
    }
    for (const [id, trail] of this.#trails) if (at - trail.at(-1).at > TRAIL) this.#trails.delete(id);
  }

  /** The answer of `/api/tracks`, which was asked for at `askedAt`. */
  answer({ runId, tracks }, askedAt) {
    this.#inRun(runId);
    const newer = (key) => (this.#told.get(key) ?? -Infinity) > askedAt;
    const live = new Map();
    const ended = this.ended.filter(({ id }) => newer(id));
    const kept = new Set(ended.map(({ id }) => id));
    for (const track of tracks) {
      if (kept.has(track.id)) continue;
      if (track.state === 'ended') ended.push(track);
      else live.set(track.id, newer(track.id) ? { ...track, ...this.live.get(track.id), bestShot: track.bestShot } : track);
    }
    for (const [id, track] of this.live) if (newer(id) && !live.has(id)) live.set(id, track);
    this.live = live;
    this.ended = ended.sort((a, b) => b.endedAt - a.endedAt).slice(0, ENDED);
    for (const [key, at] of this.#told) if (at <= askedAt) this.#told.delete(key);
  }

  /** The lines of a camera's facts, which were asked for at `askedAt`. */
  counted(lines, askedAt) {
    const known = this.lines;
    this.lines = new Map((lines ?? []).map((line) => [line.name,
      (this.#told.get(`line ${line.name}`) ?? -Infinity) > askedAt && known.has(line.name) ? known.get(line.name) : { in: line.in ?? 0, out: line.out ?? 0 }]));
  }

  /** How many objects of each label are in a zone. */
  inZone(name) {
    const counts = {};
    for (const { zones, label } of this.live.values()) if (zones?.includes(name)) counts[label] = (counts[label] ?? 0) + 1;
    return counts;
  }

  /** The trails up to an event: `{id, points}`, where each point is `{point, age}` and `age` goes from 0, now, to 1. */
  trails(event) {
    if (!event) return [];
    const now = event.frame.receivedAt ?? event.timestamp;
    const trails = [];
    for (const [id, trail] of this.#trails) {
      const points = trail.filter(({ sequence, at }) => sequence <= event.sequence && now - at < TRAIL).map(({ point, at }) => ({ point, age: Math.max(0, (now - at) / TRAIL) }));
      if (points.length > 1) trails.push({ id, points });
    }
    return trails;
  }
}
