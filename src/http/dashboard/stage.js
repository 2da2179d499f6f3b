// A camera's large picture with all that lies over it, and the editor of it.

import { get } from './api.js';
import { h, say } from './dom.js';
import { Editor } from './editor.js';
import { Layers } from './layers.js';
import { sceneOf } from './scene.js';
import { Picture } from './tile.js';
import { TrackBook } from './trackbook.js';
import { TrackList } from './tracklist.js';

export class Stage {
  book = new TrackBook();
  #facts = null;
  #asking = false;
  #editor = null;
  #why = null;
  /** Where the names of zones and lines stand on the picture. */
  #places = new Map();

  /** `camera` is `{key, twinId, stream}`. `editing(panel)` is called with the editor's panel, or with `null` when it is closed. */
  constructor(camera, editing) {
    Object.assign(this, { camera, editing });
    this.picture = new Picture();
    this.layers = new Layers();
    this.tracks = new TrackList();
    this.scene = sceneOf(null);
    this.edit = h('button', { type: 'button', class: 'edit', hidden: true, on: { click: () => this.#open() } }, 'Edit zones and lines');
    this.bar = h('div', { class: 'stage-bar' }, this.layers.root, this.edit);
    this.root = h('div', { class: 'panel stage' }, this.picture.root, this.bar);
  }

  get unsaved() {
    return this.#editor?.unsaved ?? false;
  }

  mayLeave() {
    return this.#editor?.mayLeave() ?? true;
  }

  show(pair) {
    // The editor draws shapes itself, and names would be in its way.
    const layers = this.#editor ? new Set([...this.layers.shown].filter((name) => !['labels', 'zones', 'lines', 'masks'].includes(name))) : this.layers.shown;
    this.picture.over = { layers, scene: this.scene, book: this.book, places: this.#places };
    this.picture.show(pair);
  }

  event(type, data) {
    this.book.event(type, data, performance.now());
  }

  /** `context` is what views are drawn from, with this camera in it. */
  update(context) {
    // The editor draws down to the lowest row of the picture.
    this.picture.update({ ...context, brief: true, bare: this.#editor !== null });
    if (context.fresh) this.#ask();
    this.tracks.show(this.book, context.node?.now ?? Date.now(), this.#why);
  }

  /** What is live of it comes by events; this is what was before them, and what they do not say. */
  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    const askedAt = performance.now();
    const { key, twinId, stream } = this.camera;
    const query = new URLSearchParams({ camera: twinId, stream });
    const [facts, tracks] = await Promise.allSettled([get(`/api/cameras/${key}`), get(`/api/tracks?${query}`)]);
    this.#asking = false;
    if (facts.status === 'fulfilled') this.#learn(facts.value, askedAt);
    if (tracks.status === 'fulfilled') this.book.answer(tracks.value, askedAt);
    this.#why = tracks.status === 'rejected' ? `They could not be read: ${tracks.reason.message}.` : null;
  }

  #learn(facts, askedAt) {
    this.#facts = facts;
    this.scene = sceneOf(facts);
    this.book.counted(facts.lines, askedAt);
    // A node before this page knows of no zones.
    this.edit.hidden = facts.zones === undefined;
    say(this.edit, ['zones', 'lines', 'masks'].some((kind) => facts[kind]?.length) ? 'Edit zones and lines' : 'Draw zones and lines');
    this.#editor?.update(facts, askedAt);
  }

  #open() {
    const close = () => {
      this.#editor.destroy();
      this.#editor = null;
      this.bar.hidden = false;
      this.editing(null);
      this.edit.focus();
    };
    this.#editor = new Editor({ picture: this.picture, camera: this.camera, facts: this.#facts, close, saved: () => this.#ask() });
    this.bar.hidden = true;
    this.root.append(this.#editor.foot);
    this.editing(this.#editor.root);
    this.#editor.canvas.focus();
  }

  close() {
    this.#editor?.destroy();
  }
}
