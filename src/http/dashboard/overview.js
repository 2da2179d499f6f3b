// All cameras at one glance.

import { dot, h, mark, marked, say, tell } from './dom.js';
import { bytes, cameraKey, clock, count, lasting, ms, objects, rate } from './format.js';
import { condition, hubCondition, isFenced, overall } from './health.js';
import { boxless } from './sight.js';
import { Sparkline } from './spark.js';
import { Picture } from './tile.js';

/** So many changes of states are shown beside the tiles. */
const LATELY = 6;

class Tile {
  constructor(camera) {
    this.key = cameraKey(camera);
    this.picture = new Picture();
    this.spark = new Sparkline();
    this.name = h('a', { href: `#/camera/${this.key}` });
    this.mark = dot('idle');
    this.word = h('span', {});
    this.seen = h('p', { class: 'seen' });
    this.numbers = {};
    const number = (name, term, title) => {
      this.numbers[name] = h('dd', {});
      return h('div', { title }, h('dt', {}, term), this.numbers[name]);
    };
    this.root = h('article', { class: 'tile panel', data: { camera: this.key } },
      this.picture.root,
      h('div', { class: 'caption' },
        h('div', { class: 'who' }, h('h2', {}, this.name), h('p', { class: 'state' }, this.mark, this.word)),
        this.seen,
        h('dl', { class: 'numbers' },
          number('received', 'in', 'Access units received, a second'),
          number('inferred', 'inferred', 'Frames that the model looked at, a second'),
          number('p50', 'age p50', 'Half of the results of the last minute are younger'),
          number('p99', 'age p99', '99 of 100 results of the last minute are younger')),
        this.spark.root));
  }

  update(camera, context) {
    const { tone, word, sees } = condition(camera, context.node);
    // What a node said that does not answer any more is not said as if it held.
    const known = context.reach.state === 'ok';
    say(this.name, camera.name);
    this.name.title = camera.name;
    mark(this.root, 'tone', known ? tone : 'idle');
    mark(this.root, 'state', known ? camera.state : 'unknown');
    mark(this.mark, 'tone', known ? tone : 'idle');
    say(this.word, !known ? 'not known' : sees || camera.state === 'receiving' ? word : `${word} ${lasting(camera.stateSeconds)}`);
    // After a change to `detections = "none"` the node still knows of the last event before it.
    say(this.seen, known && sees && !boxless(camera.settings) ? objects(camera.objects) : '–');
    this.seen.title = this.seen.textContent;
    say(this.numbers.received, known ? `${rate(camera.rates?.received)}/s` : '–');
    say(this.numbers.inferred, known ? `${rate(camera.rates?.inferred)}/s` : '–');
    say(this.numbers.p50, ms(known ? camera.ageMs?.p50 : null));
    say(this.numbers.p99, ms(known ? camera.ageMs?.p99 : null));
    if (context.fresh) this.spark.update(camera);
    this.picture.update({ ...context, camera });
  }
}

export class Overview {
  title = 'Cameras';
  #tiles = new Map();
  #visible = new Set();

  constructor(live) {
    this.live = live;
    this.headline = h('h1', { tabindex: '-1' });
    this.mark = dot('idle');
    this.summary = h('dl', { class: 'facts' });
    this.items = h('ul', { class: 'items' });
    this.lately = h('ol', {});
    this.grid = h('section', { class: 'grid', 'aria-label': 'Cameras' });
    this.root = h('div', { class: 'overview' },
      h('section', { class: 'rail', 'aria-label': 'How it is' },
        h('div', { class: 'headline' }, this.mark, this.headline), this.summary, this.items,
        h('section', { class: 'lately', hidden: true }, h('h2', {}, 'Lately'), this.lately)),
      this.grid);
    this.intersection = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.#visible.add(target.dataset.camera);
        else this.#visible.delete(target.dataset.camera);
      }
      this.#want();
    }, { rootMargin: '80px' });
    this.resize = new ResizeObserver(() => this.#want());
    this.resize.observe(this.grid);
  }

  #want() {
    const tiles = [...this.#visible].map((key) => this.#tiles.get(key)).filter(Boolean);
    const width = Math.max(0, ...tiles.map(({ picture }) => picture.shownWidth)) * devicePixelRatio;
    this.live.want(tiles.map(({ key }) => key), width);
  }

  show(pair) {
    this.#tiles.get(pair.key)?.picture.show(pair);
  }

  update(context) {
    const all = overall(context);
    mark(this.mark, 'tone', all.tone);
    say(this.headline, all.headline);
    this.#list(all.items);
    if (context.node && context.fresh) {
      this.#sum(context);
      this.#past(context.node);
    }
    if (context.reach.state !== 'ok') for (const value of this.summary.querySelectorAll('dd')) say(value, '–');
    if (context.cameras) this.#reconcile(context.cameras, context);
  }

  #sum({ node, cameras }) {
    const hub = hubCondition(node.hub);
    const results = cameras.reduce((sum, { rates }) => sum + (rates?.inferred ?? 0), 0);
    const ages = cameras.map(({ ageMs }) => ageMs).filter(Boolean);
    const rows = [
      ['Hub', marked(hub.tone, hub.word)],
      // They are made all the same, and nobody gets them.
      ['joined', 'none'].includes(node.hub.state) && !isFenced(node) ? ['Results', `${rate(results)}/s`] : ['Results', `${rate(results)}/s, none sent`, 'warn'],
      ['Age p99', ages.length ? ms(Math.max(...ages.map(({ p99 }) => p99))) : '–'],
      ['CPU cores', `${node.cpu.processCores.toFixed(2)} of ${count(node.cpu.cores)}`],
      ['Memory', bytes(node.memory.residentBytes)],
      ['Running', lasting((node.now - node.startedAt) / 1000)],
    ];
    this.summary.replaceChildren(...rows.map(([term, value, tone]) => h('div', {}, h('dt', {}, term), h('dd', tone ? { data: { tone } } : {}, value))));
  }

  /** What cameras went through, the newest first. */
  #past({ states }) {
    const rows = states.slice(-LATELY).reverse();
    // One that receives and is blind has a reason.
    const word = ({ state, reason }) => (state === 'receiving' && reason ? 'blind' : state);
    const key = rows.map((row) => `${row.at}${word(row)}`).join();
    if (this.lately.dataset.key === key) return;
    mark(this.lately, 'key', key);
    this.lately.parentElement.hidden = rows.length === 0;
    this.lately.replaceChildren(...rows.map((row) => {
      const name = row.camera.name ?? row.camera.twinId;
      return h('li', {}, h('time', {}, clock(row.at)), h('span', { title: name }, name), h('span', { class: 'dim' }, word(row)));
    }));
  }

  #list(items) {
    const existing = [...this.items.children];
    items.forEach((item, i) => {
      let row = existing[i];
      if (!row || row.dataset.href !== (item.href ?? '')) {
        const fresh = h('li', { data: { href: item.href ?? '', kind: item.kind ?? 'node' } }, dot(item.tone),
          h('div', {}, item.href ? h('a', { href: item.href }) : h('strong', {}), h('p', {})));
        if (row) row.replaceWith(fresh);
        else this.items.append(fresh);
        row = fresh;
      }
      mark(row.firstChild, 'tone', item.tone);
      say(row.lastChild.firstChild, item.title);
      tell(row.lastChild.lastChild, item.text ?? '');
    });
    existing.slice(items.length).forEach((row) => row.remove());
  }

  #reconcile(cameras, context) {
    const keys = new Set(cameras.map(cameraKey));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      this.intersection.unobserve(tile.root);
      tile.root.remove();
      this.#tiles.delete(key);
      this.#visible.delete(key);
    }
    if (this.#tiles.size === 0) {
      // Chosen once, so that no tile changes its size later.
      const frames = cameras.map(({ frame }) => frame).filter(Boolean);
      const narrow = frames.length > 0 && frames.every(({ width, height }) => width / height < 1.5);
      mark(this.grid, 'shape', narrow ? '4-3' : '16-9');
    }
    for (const camera of cameras) {
      const key = cameraKey(camera);
      let tile = this.#tiles.get(key);
      if (!tile) {
        tile = new Tile(camera);
        this.#tiles.set(key, tile);
        this.grid.append(tile.root);
        this.intersection.observe(tile.root);
      }
      tile.update(camera, context);
    }
    mark(this.grid, 'count', String(Math.min(cameras.length, 5)));
  }

  close() {
    this.intersection.disconnect();
    this.resize.disconnect();
  }
}
