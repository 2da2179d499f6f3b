// Boxes belong to the picture in which they were seen. A picture and its event come by different ways, in any order.

/** How many events of a camera wait for their picture. */
const KEEP = 64;
/** How long a picture waits for its event, in milliseconds. Then it is shown without boxes. */
const PATIENCE = 500;

/** Brings pictures and events of the same sequence together. Time is passed in. What it returns is `{key, picture, event}`. */
export class Pairing {
  #cameras = new Map();
  #run = null;

  #camera(key) {
    let camera = this.#cameras.get(key);
    if (!camera) {
      camera = { events: new Map(), last: 0, waiting: null };
      this.#cameras.set(key, camera);
    }
    return camera;
  }

  /** Keeps an event; returns the picture that waited for it. */
  event(key, event) {
    if (event.runId !== this.#run) {
      // Sequences begin again in each run of the node.
      this.#run = event.runId;
      for (const camera of this.#cameras.values()) {
        camera.events.clear();
        camera.last = 0;
      }
    }
    const camera = this.#camera(key);
    // So do those of a camera that was gone for long.
    if (event.sequence < camera.last) camera.events.clear();
    camera.last = event.sequence;
    camera.events.set(event.sequence, event);
    if (camera.events.size > KEEP) camera.events.delete(camera.events.keys().next().value);
    const { waiting } = camera;
    if (waiting?.picture.sequence !== event.sequence) return null;
    camera.waiting = null;
    return { key, picture: waiting.picture, event };
  }

  /** A picture has come. It is returned if its event is there or it has none; else it waits, in place of one that waited before. */
  picture(key, picture, now) {
    const camera = this.#camera(key);
    const event = picture.sequence === null ? null : camera.events.get(picture.sequence);
    if (event === undefined) {
      // Under the motion gate several pictures have one event, and their wait is one.
      const until = camera.waiting?.picture.sequence === picture.sequence ? camera.waiting.until : now + PATIENCE;
      camera.waiting = { picture, until };
      return null;
    }
    camera.waiting = null;
    return { key, picture, event };
  }

  /** The pictures that have waited long enough, without an event. */
  due(now) {
    const due = [];
    for (const [key, camera] of this.#cameras) {
      if (camera.waiting && camera.waiting.until <= now) {
        due.push({ key, picture: camera.waiting.picture, event: null });
        camera.waiting = null;
      }
    }
    return due;
  }

  /** The stream of pictures begins anew: what waits of the old one is not shown any more. */
  restart() {
    for (const camera of this.#cameras.values()) camera.waiting = null;
  }

  /** Forgets cameras that are not among these. */
  retain(keys) {
    for (const key of this.#cameras.keys()) if (!keys.has(key)) this.#cameras.delete(key);
  }
}
