// The node's events, as they go to the hub, by one connection.

import { pause } from './api.js';

/** Dispatches to `onEvent(type, data)`. A connection that ends by itself is opened anew by the browser; one that was refused, by us. */
export class EventFeed {
  #source = null;
  #timer = null;
  #failures = 0;
  #open = true;

  constructor(onEvent) {
    this.onEvent = onEvent;
    this.#connect();
  }

  setOpen(open) {
    if (this.#open === open) return;
    this.#open = open;
    if (open) this.#connect();
    else this.#close();
  }

  /** Tries at once, as after the node has answered again. */
  retry() {
    if (this.#open && this.#source?.readyState !== EventSource.OPEN) this.#connect();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    this.#close();
    const source = new EventSource('/api/events');
    this.#source = source;
    source.onopen = () => { this.#failures = 0; };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED || !this.#open) return;
      this.#failures += 1;
      this.#timer = setTimeout(() => this.#connect(), pause(this.#failures));
    };
    for (const type of ['detections', 'track', 'lineCrossed', 'cameraStatus', 'missed']) {
      source.addEventListener(type, ({ data }) => this.onEvent(type, JSON.parse(data)));
    }
  }
}
