// The events of one camera as rows, the newest first. Nothing here knows of the page.

import { counted, objects } from './format.js';

/** No log holds more rows. */
export const ROWS = 500;

/** Rows of events. Events that follow each other and saw the same are one row, so that a minute is not 600 of them. */
export class EventLog {
  rows = [];
  #frozen = null;
  #next = 1;
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
    if (this.paused) this.behind += 1;
    const row = { id: this.#next++, type, times: 1, ...this.#read(type, data, now) };
    const last = this.rows[0];
    if (type === 'detections' && last?.type === type && last.text === row.text && row.first === last.last + 1) {
      last.times += 1;
      last.last = row.last;
      last.at = row.at;
      last.age = row.age;
      return;
    }
    this.rows.unshift(row);
    if (this.rows.length > ROWS) this.rows.length = ROWS;
  }

  #read(type, data, now) {
    switch (type) {
      case 'detections': {
        const counts = counted(data.objects);
        return { at: data.timestamp, text: objects(counts), labels: Object.keys(counts), age: data.latencyMs?.total ?? null, first: data.sequence, last: data.sequence };
      }
      case 'cameraStatus':
        return { at: data.since, text: data.reason ? `${data.state}: ${data.reason}` : data.state, labels: [], age: null, first: null, last: null };
      case 'missed':
        return { at: now, text: `${data.count} events of all cameras did not reach this page, which was too slow or away`, labels: [], age: null, first: null, last: null };
      default:
        return { at: data.timestamp ?? now, text: type, labels: [], age: null, first: data.sequence ?? null, last: data.sequence ?? null };
    }
  }

  /** The rows that a filter lets pass; `type` and `label` may be empty. While paused, those of that moment. */
  visible({ type = '', label = '' } = {}) {
    const wanted = label.trim().toLowerCase();
    return (this.#frozen ?? this.rows).filter((row) => (!type || row.type === type)
      && (!wanted || row.labels.some((name) => name.toLowerCase().includes(wanted))));
  }
}
