// What was left out over the last minutes, by reason: above the line what was lost, below it what is by design.

import { h, mark, say, svg } from './dom.js';
import { count, span } from './format.js';
import { reasonOf } from './reasons.js';

const STEPS = 60;
const ABOVE = 20;
const BELOW = 8;
const UNKNOWN = 'Counting…';

/** A sparkline that stays, and is drawn anew with each history. */
export class Sparkline {
  constructor() {
    this.chart = svg('svg', { class: 'spark', viewBox: `0 0 ${STEPS} ${ABOVE + BELOW + 1}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': UNKNOWN });
    this.legend = h('p', { class: 'legend' }, UNKNOWN);
    this.root = h('div', { class: 'drops' }, this.chart, this.legend);
  }

  update({ history, counters }) {
    if (!history) return;
    const series = Object.entries(history.reasons ?? {})
      .map(([key, steps]) => ({ ...reasonOf(key), steps: steps.slice(-STEPS), sum: steps.reduce((a, b) => a + b, 0) }))
      .filter(({ sum }) => sum > 0)
      .sort((a, b) => b.sum - a.sum);
    const lost = series.filter((s) => s.lost);
    const design = series.filter((s) => !s.lost);
    this.chart.replaceChildren(
      svg('path', { class: 'axis', d: `M0 ${ABOVE + 0.5}H${STEPS}` }),
      ...stack(lost, ABOVE, -1, ABOVE),
      ...stack(design, BELOW, 1, ABOVE + 1),
    );
    const text = (list) => list.map(({ word, sum }) => `${count(sum)} ${word}`).join(', ');
    const words = legend(lost.length > 0, history, counters, text(lost));
    const all = `${words}${design.length ? `; left out by design: ${text(design)}` : ''}`;
    this.chart.setAttribute('aria-label', all);
    // A tile may have no room for all of it.
    this.legend.title = all;
    const key = `${words} ${series.map(({ stage, name, sum }) => `${stage}${name}${sum}`).join()}`;
    if (this.legend.dataset.key === key) return;
    mark(this.legend, 'key', key);
    if (lost.length === 0) say(this.legend, words);
    else this.legend.replaceChildren(`lost `, ...lost.slice(0, 3).flatMap((s, i) => [i ? ', ' : '', named(s, s.cause)]));
    if (design.length) this.legend.append(h('span', { class: 'aside' }, ' · ', ...design.flatMap((s, i) => [i ? ', ' : '', named(s, '')])));
  }
}

/** A reason in words, with the name that it has in the metrics for whoever points at it. */
const named = (s, cause) => h('span', { class: `key ${cause}`, title: `${s.name}: ${s.text}` }, `${count(s.sum)} ${s.word}`);

/** What was lost, in words. Where no frame has come, nothing could be lost. */
export function legend(lost, history, counters, text) {
  if (lost) return `Lost in the last ${span(history)}: ${text}`;
  if (!(counters?.accessUnitsReceived > 0)) return 'No frame yet';
  return `Nothing lost in the last ${span(history)}`;
}

function stack(series, height, direction, base) {
  if (series.length === 0) return [];
  const steps = series[0].steps.length;
  const totals = Array.from({ length: steps }, (_, i) => series.reduce((sum, s) => sum + (s.steps[i] ?? 0), 0));
  // A single drop is to be seen, and is not to look like a disaster.
  const scale = height / Math.max(5, ...totals);
  const levels = new Array(steps).fill(0);
  return series.map((s) => {
    let path = '';
    s.steps.forEach((n, i) => {
      if (!n) return;
      const tall = Math.max(n * scale, 1);
      const from = base + direction * levels[i];
      path += `M${STEPS - steps + i + 0.1} ${from.toFixed(2)}v${(direction * tall).toFixed(2)}h.8v${(-direction * tall).toFixed(2)}z`;
      levels[i] += tall;
    });
    return svg('path', { class: s.cause, d: path });
  });
}
