// Pictures of several cameras come in one answer, since a browser has six connections to a host.

import { pause, refusal } from './api.js';

const MAX_HEADERS = 8192;
const MAX_BODY = 16 * 1048576;

/** Takes the bytes of a multipart answer as they come and gives its parts. Each part has to say its length. */
export class MultipartParser {
  #bytes = new Uint8Array(65536);
  #start = 0;
  #end = 0;
  #headers = null;

  /** The parts that are whole with these bytes: `{headers, body}`, with names in lower case. Throws at what is no multipart. */
  push(chunk) {
    this.#append(chunk);
    const parts = [];
    for (;;) {
      if (!this.#headers) {
        const end = this.#endOfHeaders();
        if (end < 0) {
          if (this.#end - this.#start > MAX_HEADERS) throw new Error('the headers of a part do not end');
          return parts;
        }
        this.#headers = readHeaders(new TextDecoder().decode(this.#bytes.subarray(this.#start, end)));
        this.#start = end + 4;
      }
      const length = Number(this.#headers.get('content-length') ?? NaN);
      if (!Number.isInteger(length) || length < 0 || length > MAX_BODY) throw new Error('a part has no usable length');
      if (this.#end - this.#start < length) return parts;
      parts.push({ headers: this.#headers, body: this.#bytes.slice(this.#start, this.#start + length) });
      this.#start += length;
      this.#headers = null;
    }
  }

  #endOfHeaders() {
    const bytes = this.#bytes;
    for (let i = this.#start; i + 3 < this.#end; i += 1) {
      if (bytes[i] === 13 && bytes[i + 1] === 10 && bytes[i + 2] === 13 && bytes[i + 3] === 10 && i > this.#start) return i;
    }
    return -1;
  }

  #append(chunk) {
    if (this.#end + chunk.length > this.#bytes.length) {
      const held = this.#end - this.#start;
      const room = held + chunk.length > this.#bytes.length ? new Uint8Array(2 * (held + chunk.length)) : this.#bytes;
      room.set(this.#bytes.subarray(this.#start, this.#end));
      this.#bytes = room;
      this.#start = 0;
      this.#end = held;
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }
}

function readHeaders(text) {
  const headers = new Map();
  let boundary = false;
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':');
    if (line.startsWith('--')) boundary = true;
    else if (colon > 0) headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
  }
  if (!boundary) throw new Error('a part begins without a boundary');
  return headers;
}

const number = (text) => (text === undefined || text === '' ? null : Number(text));

/**
 * The stream of pictures. `want` says of which cameras and how wide; `onPicture(key, picture)` gets
 * `{sequence, width, height, jpeg}`, with the frame's size. It comes back by itself after a cut.
 */
export class PictureStream {
  /** `null`, or why the node gives no pictures. */
  refused = null;
  #wanted = { keys: [], width: 0 };
  #abort = null;
  #timer = null;
  #failures = 0;
  #open = true;

  constructor({ onPicture, onRestart, fps = 5 }) {
    this.onPicture = onPicture;
    this.onRestart = onRestart;
    this.fps = fps;
  }

  /** Asks for these cameras; a question that is the same goes on. */
  want(keys, width) {
    // Steps of 80 pixels, so that dragging a window does not ask anew at each pixel.
    const next = { keys: [...keys].sort(), width: Math.min(1920, Math.ceil(width / 80) * 80) };
    if (JSON.stringify(next) === JSON.stringify(this.#wanted)) return;
    this.#wanted = next;
    this.#restart(150);
  }

  /** Closes while nobody looks. */
  setOpen(open) {
    if (this.#open === open) return;
    this.#open = open;
    this.#restart(0);
  }

  /** Tries at once, as after the node has answered again. */
  retry() {
    if (this.#failures > 0) this.#restart(0);
  }

  #restart(wait) {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = null;
    if (this.#open && this.#wanted.keys.length) this.#timer = setTimeout(() => this.#run(), wait);
  }

  async #run() {
    const abort = new AbortController();
    this.#abort = abort;
    this.onRestart();
    try {
      await this.#read(abort.signal);
      this.#failures += 1;
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#failures += 1;
      this.refused = error.status ? error.message : null;
    }
    if (!abort.signal.aborted) this.#restart(pause(this.#failures));
  }

  async #read(signal) {
    const query = new URLSearchParams({ width: this.#wanted.width, fps: this.fps });
    const cameras = this.#wanted.keys.map((key) => `camera=${key}`).join('&');
    const response = await fetch(`/api/live?${cameras}&${query}`, { signal, cache: 'no-store' });
    if (!response.ok) throw await refusal(response);
    this.refused = null;
    const parser = new MultipartParser();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return;
      for (const { headers, body } of parser.push(value)) {
        this.#failures = 0;
        const key = headers.get('x-camera') ?? '';
        this.onPicture(key.includes('/') ? key : key.replace(/%2F/i, '/'), {
          sequence: number(headers.get('x-sequence')),
          width: number(headers.get('x-frame-width')),
          height: number(headers.get('x-frame-height')),
          jpeg: new Blob([body], { type: 'image/jpeg' }),
        });
      }
    }
  }
}
