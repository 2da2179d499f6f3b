// A camera's picture with what was seen in it. It is never shown as if it were live when it is not.

import { h, mark, say, tell } from './dom.js';
import { drawPicture } from './draw.js';
import { clock, counted, lasting, objects } from './format.js';
import { condition, forHowLong } from './health.js';
import { boxless } from './sight.js';

/** A picture is late when none has come for so long, in milliseconds, and for three times its camera's pace. */
const LATE = 3000;
/** Where most frames are lost, pictures come at no pace. This long is late there, in milliseconds. */
const LATE_OF_FEW = 15000;

/** The box with the canvas and with the words over it. Its size does not depend on what is in it. */
export class Picture {
  #drawn = null;
  #newest = 0;
  /** What lies over the picture beside boxes, as `drawPicture` takes it; `null` where nothing does. */
  over = null;

  constructor() {
    this.canvas = h('canvas', { role: 'img', 'aria-label': 'no picture yet', width: '16', height: '9' });
    this.title = h('strong', {});
    this.text = h('span', {});
    this.cover = h('div', { class: 'cover' }, h('div', {}, this.title, this.text));
    this.note = h('p', { class: 'note' });
    this.root = h('div', { class: 'picture', data: { live: 'no' } }, this.canvas, this.cover, this.note);
  }

  get shownWidth() {
    return this.root.clientWidth;
  }

  /** The size of what is drawn; `null` before the first picture. */
  get drawn() {
    return this.#drawn && { width: this.canvas.width, height: this.canvas.height };
  }

  /** Shows a pair. Pictures are decoded beside the page, so a newer one may be ready before an older. */
  async show({ picture, event }) {
    const order = ++this.#newest;
    let bitmap;
    try {
      bitmap = await createImageBitmap(picture.jpeg);
    } catch {
      return;
    }
    if (order >= (this.#drawn?.order ?? 0) && this.root.isConnected) {
      drawPicture(this.canvas, bitmap, picture, event, Math.max(1, this.shownWidth), this.over);
      this.#drawn = { order, at: performance.now(), wall: Date.now(), event };
      mark(this.canvas, 'sequence', String(picture.sequence ?? ''));
      mark(this.canvas, 'boxes', event ? String(event.objects.length) : '');
    }
    bitmap.close();
  }

  /**
   * Says over the picture what is not as it should be; `brief` where the page itself says what to do, and `bare` where nothing that is only
   * good to know may lie over the picture.
   */
  update({ camera, node, reach, refused, brief = false, bare = false }) {
    const now = performance.now();
    const how = condition(camera, node);
    const { sees, few, text, word, tone } = how;
    const advice = brief ? '' : (text ?? '');
    const age = this.#drawn ? now - this.#drawn.at : null;
    const pace = Math.max(LATE, 3000 / Math.max(camera.rates?.inferred ?? 1, 0.01));
    const limit = few ? Math.min(pace, LATE_OF_FEW) : pace;
    const last = this.#drawn ? ` The picture is of ${clock(this.#drawn.wall)}.` : '';
    let cover = null;
    if (reach.state === 'gone') cover = ['bad', 'The node does not answer', `since ${clock(reach.since)}.${last}`];
    else if (!sees) cover = [tone, `${word}${forHowLong(camera, how)}`, `${advice}${last}`];
    else if (refused) cover = ['warn', this.#drawn ? 'no picture any more' : 'no picture', refused];
    else if (age === null) cover = ['idle', 'Waiting for a picture', ''];
    else if (age > limit) cover = ['warn', `no new picture for ${lasting(age / 1000)}`, `It is asked for again.${last}`];
    // A picture without boxes is not to look as if nothing were seen.
    const unseen = boxless(camera.settings, brief);
    const wrong = few ? advice : '';
    mark(this.note, 'tone', wrong ? 'warn' : 'idle');
    tell(this.note, cover ? '' : wrong || (bare ? '' : (unseen ?? '')));
    mark(this.root, 'live', cover ? 'no' : 'yes');
    mark(this.cover, 'tone', cover?.[0] ?? 'ok');
    say(this.title, cover?.[1] ?? '');
    tell(this.text, cover?.[2] ?? '');
    const seen = this.#drawn?.event ? objects(counted(this.#drawn.event.objects)) : 'no boxes';
    const label = cover ? `${camera.name}: ${cover[1]}` : `${camera.name}, live: ${seen}`;
    if (this.canvas.getAttribute('aria-label') !== label) this.canvas.setAttribute('aria-label', label);
  }
}
