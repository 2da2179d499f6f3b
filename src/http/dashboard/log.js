// The events of one camera as rows, the newest first. Nothing here knows of the page.

import { counted, objects } from './format.js';
import { crossedWords, trackWords } from './trackwords.js';

/** No log holds more rows. */
export const ROWS = 500;
/** Of so many tracks the last event is known. Of those that end while nobody looks, the end is never told. */
export const TRACKS = 512;

/** Rows of events. Events that follow each other and saw the same are one row, so that a minute is not 600 of them. */
export class EventLog {
  rows = [];
  #frozen = null;
  #next = 1;
  /** The number of the event before, of whatever type: all types are counted together. */
  #sequence = null;
  /** The track of the last event of each one that lives, the one that was told last at the end. */
  #tracks = new Map();
  #run = null;
  /** How many events have come since it was paused. */
  behind = 0;

  get paused() {
    return this.#frozen !== null;
  }

  pause() {
    this.#frozen ??= this.rows.map((row) => ({ ...row }));
  }

  resume() {
    this.#frozen = null;
    this.behind = 0;
  }

  clear() {
    this.rows = [];
    if (this.#frozen) this.#frozen = [];
    this.behind = 0;
  }

  add(type, data, now = Date.now()) {
    const before = this.#sequence;
    this.#sequence = data.sequence ?? before;
    const read = this.#read(type, data, now);
    // A track that goes on as it was says so again and again. That is no news.
    if (read.text === null) return;
    if (this.paused) this.behind += 1;
    const row = { id: this.#next++, type, times: 1, ...read };
    const last = this.rows[0];
    if (type === 'detections' && last?.type === type && last.text === row.text && row.first === before + 1) {
      last.times += 1;
      last.last = row.last;
      last.at = row.at;
      last.age = row.age;
      return;
    }
    this.rows.unshift(row);
    if (this.rows.length <= ROWS) return;
    // Ten lists of boxes a second do not displace what happened a minute ago.
    const oldest = this.rows.findLastIndex((one) => one.type === 'detections');
    this.rows.splice(oldest < 0 ? this.rows.length - 1 : oldest, 1);
  }

  #read(type, data, now) {
    switch (type) {
      case 'detections': {
        const counts = counted(data.objects);
        return { at: data.timestamp, text: objects(counts), labels: Object.keys(counts), age: data.latencyMs?.total ?? null, first: data.sequence, last: data.sequence };
      }
      case 'cameraStatus':
        return { at: data.since, text: data.reason ? `${data.state}: ${data.reason}` : data.state, labels: [], age: null, first: null, last: null };
      case 'track':
        return this.#told(data, this.#track(data));
      case 'lineCrossed':
        return this.#told(data, crossedWords(data));
      case 'missed':
        return { at: now, text: `${data.count} events of all cameras did not reach this page, which was too slow or away`, labels: [], age: null, first: null, last: null };
      default:
        return { at: data.timestamp ?? now, text: type, labels: [], age: null, first: data.sequence ?? null, last: data.sequence ?? null };
    }
  }

  #told({ timestamp, sequence, track }, text) {
    return { at: timestamp, text, labels: [track.label], age: null, first: sequence, last: sequence };
  }

  #track(data) {
    const { track, phase, runId } = data;
    if (runId !== this.#run) this.#tracks.clear();
    this.#run = runId;
    const text = trackWords(data, this.#tracks.get(track.id));
    this.#tracks.delete(track.id);
    if (phase !== 'end') this.#tracks.set(track.id, track);
    if (this.#tracks.size > TRACKS) this.#tracks.delete(this.#tracks.keys().next().value);
    return text;
  }

  /** The rows that a filter lets pass; `type` and `label` may be empty, and `!detections` is all other types. While paused, those of that moment. */
  visible({ type = '', label = '' } = {}) {
    const wanted = label.trim().toLowerCase();
    const passes = (row) => (type.startsWith('!') ? row.type !== type.slice(1) : !type || row.type === type);
    return (this.#frozen ?? this.rows).filter((row) => passes(row)
      && (!wanted || row.labels.some((name) => name.toLowerCase().includes(wanted))));
  }
}
