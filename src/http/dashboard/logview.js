// The event log as it is seen: filters, a button to pause, and rows that are touched only where they changed.

import { h, mark, say } from './dom.js';
import { clock, count, ms } from './format.js';
import { EventLog } from './log.js';

const TYPES = [['', 'all types'], ['!detections', 'no boxes'], ['detections', 'detections'], ['track', 'tracks'], ['lineCrossed', 'lines'], ['cameraStatus', 'states'], ['missed', 'missed']];

export class LogView {
  log = new EventLog();
  #elements = new Map();
  #filter = { type: '', label: '' };

  constructor() {
    this.pause = h('button', { type: 'button', 'aria-pressed': 'false', on: { click: () => this.#toggle() } }, 'Pause');
    const clear = h('button', { type: 'button', on: { click: () => { this.log.clear(); this.render(); } } }, 'Clear');
    const type = h('select', { 'aria-label': 'Type of events', on: { change: () => this.#set('type', type.value) } },
      TYPES.map(([value, text]) => h('option', { value }, text)));
    const label = h('input', { type: 'search', placeholder: 'label', 'aria-label': 'Label of objects', size: '10', on: { input: () => this.#set('label', label.value) } });
    this.list = h('ol', { class: 'rows' });
    this.empty = h('p', { class: 'dim' }, 'No event yet.');
    this.root = h('section', { class: 'panel log', 'aria-labelledby': 'log-title' },
      h('div', { class: 'tools' }, h('h2', { id: 'log-title' }, 'Events'), type, label, this.pause, clear),
      h('div', { class: 'scroller', tabindex: '0', role: 'region', 'aria-label': 'Events, the newest first' }, this.empty, this.list));
  }

  #toggle() {
    if (this.log.paused) this.log.resume();
    else this.log.pause();
    this.render();
  }

  #set(name, value) {
    this.#filter[name] = value;
    this.render();
  }

  render() {
    const { paused, behind } = this.log;
    this.pause.setAttribute('aria-pressed', String(paused));
    say(this.pause, paused ? `Resume${behind ? ` (${count(behind)} new)` : ''}` : 'Pause');
    const rows = this.log.visible(this.#filter);
    this.empty.hidden = rows.length > 0;
    say(this.empty, this.log.rows.length ? 'No event that the filter lets pass.' : 'No event yet.');
    let next = this.list.firstChild;
    const kept = new Set();
    for (const row of rows) {
      kept.add(row.id);
      let element = this.#elements.get(row.id);
      if (!element) {
        element = h('li', { data: { type: row.type } }, h('time', {}), h('span', { class: 'what' }), h('span', { class: 'dim' }), h('span', { class: 'dim' }));
        this.#elements.set(row.id, element);
      }
      const [time, what, age, which] = element.children;
      say(time, clock(row.at));
      say(what, row.text);
      mark(what, 'nothing', String(row.text === 'nothing'));
      say(age, row.age === null ? '' : ms(row.age));
      say(which, row.first === null ? '' : row.times > 1 ? `#${row.first}–${row.last}` : `#${row.first}`);
      if (element === next) next = next.nextSibling;
      else this.list.insertBefore(element, next);
    }
    for (const [id, element] of this.#elements) {
      if (kept.has(id)) continue;
      element.remove();
      this.#elements.delete(id);
    }
  }
}
