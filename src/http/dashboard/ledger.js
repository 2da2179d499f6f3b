// What became of all that came: received, decoded, inferred, published, and what left at each step.

import { h } from './dom.js';
import { count, rate, span } from './format.js';
import { reason } from './reasons.js';

const STEPS = [
  { stage: 'units', left: 'received', name: 'Received', counter: 'accessUnitsReceived', drops: 'accessUnitsDropped', noun: 'access units' },
  { stage: 'frames', left: 'decoded', name: 'Decoded', counter: 'framesDecoded', drops: 'framesDropped', noun: 'frames' },
  { stage: 'events', left: 'inferred', name: 'Inferred', counter: 'framesInferred', drops: 'eventsDropped', noun: 'frames' },
  { stage: null, left: 'published', name: 'Published', counter: 'eventsPublished', drops: null, noun: 'events' },
];

const sum = (list) => (list ?? []).reduce((a, b) => a + b, 0);

/** The flow of one camera. */
export function ledger(camera) {
  const { counters, rates, history, inFlight } = camera;
  const most = Math.max(1, counters.accessUnitsReceived);
  return h('ol', { class: 'flow' }, STEPS.map(({ stage, left, name, counter, drops, noun }) => {
    const bar = h('span', { class: 'bar-fill' });
    bar.style.width = `${Math.min(100, (100 * counters[counter]) / most)}%`;
    const flying = stage ? (inFlight?.[stage] ?? 0) : 0;
    const reasons = Object.entries(counters[drops] ?? {}).sort(([, a], [, b]) => b - a);
    return h('li', {},
      h('div', { class: 'step' },
        h('h3', {}, name),
        h('p', {}, h('b', {}, count(counters[counter])), ` ${noun}`, h('span', { class: 'dim' }, ` · ${rate(rates?.[left])}/s now`)),
        h('div', { class: 'bar-track', 'aria-hidden': 'true' }, bar)),
      (reasons.length > 0 || flying > 0) && h('ul', { class: 'left' },
        reasons.map(([key, number]) => {
          const { cause, text } = reason(stage, key);
          const lately = sum(history?.reasons?.[`${stage}.${key}`]);
          return h('li', {}, h('span', { class: `number ${cause}` }, `− ${count(number)}`),
            h('span', {}, h('b', {}, key), h('span', { class: 'dim' }, ` ${text}`), lately > 0 && h('span', { class: 'lately' }, ` · ${count(lately)} in the last ${span(history)}`)));
        }),
        flying > 0 && h('li', {}, h('span', { class: 'number' }, count(flying)), h('span', { class: 'dim' }, 'on the way'))));
  }));
}
