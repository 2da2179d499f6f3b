// One camera: a large picture, its events, what became of all that came, and its settings.

import { get } from './api.js';
import { dot, facts, h, mark, say, tell } from './dom.js';
import { cameraKey, cameraOf, count, lasting, ms, objects, rate, span } from './format.js';
import { condition, forHowLong } from './health.js';
import { ledger } from './ledger.js';
import { LogView } from './logview.js';
import { SHED } from './reasons.js';
import { cameraSection, settings, unexplained } from './settings.js';
import { boxless } from './sight.js';
import { Sparkline } from './spark.js';
import { Stage } from './stage.js';

const panel = (title, ...children) => h('section', { class: 'panel', 'aria-label': title }, h('h2', {}, title), ...children);

export class CameraPage {
  #appliedAt = null;
  #rendered = 0;
  #shaped = false;

  constructor(live, key) {
    this.live = live;
    Object.assign(this, cameraOf(key));
    this.key = cameraKey(this);
    this.name = h('h1', { tabindex: '-1' }, this.twinId);
    this.mark = dot('idle');
    this.word = h('span', {});
    this.advice = h('p', { class: 'advice' });
    this.stage = new Stage(this, (editor) => this.#edit(editor));
    this.log = new LogView();
    this.spark = new Sparkline();
    this.leftOut = h('h3', {}, 'Left out');
    this.facts = h('div', {});
    this.flow = h('div', {});
    this.settings = h('div', {}, h('p', { class: 'dim' }, 'Asking the node'));
    this.state = h('p', { class: 'state' }, this.mark, this.word);
    this.aside = h('div', { class: 'stack' }, this.log.root, panel('Now', this.facts), panel('Settings in force', this.settings));
    this.body = h('div', { class: 'camera', data: { shape: '16-9' } },
      h('div', { class: 'stack wide' }, this.stage.root, this.stage.tracks.root,
        panel('What became of all that came', this.flow, this.leftOut, this.spark.root)),
      this.aside);
    this.root = h('div', { class: 'page' },
      h('div', { class: 'head' }, h('a', { href: '#/', class: 'back' }, '← Cameras'), this.name, this.state),
      this.advice, this.body);
    this.resize = new ResizeObserver(() => this.#want());
    this.resize.observe(this.stage.picture.root);
  }

  /** While shapes are edited there is nothing else beside the picture. */
  #edit(editor) {
    for (const element of [this.root, this.body]) mark(element, 'editing', editor ? 'yes' : 'no');
    if (editor) this.aside.prepend(editor);
  }

  get unsaved() {
    return this.stage.unsaved;
  }

  mayLeave() {
    return this.stage.mayLeave();
  }

  /** Of a camera that the node does not have nothing is asked. */
  #want() {
    this.live.want(this.body.hidden ? [] : [this.key], this.stage.picture.shownWidth * devicePixelRatio);
  }

  show(pair) {
    if (pair.key === this.key) this.stage.show(pair);
  }

  event(type, data) {
    if (type !== 'missed' && cameraKey(data.camera) !== this.key) return;
    this.log.log.add(type, data);
    this.stage.event(type, data);
    if (performance.now() - this.#rendered > 200) this.#renderLog();
  }

  #renderLog() {
    this.#rendered = performance.now();
    this.log.render();
  }

  update(context) {
    const camera = context.cameras?.find((one) => cameraKey(one) === this.key);
    this.#renderLog();
    const gone = context.cameras !== null && !camera;
    this.state.hidden = gone;
    if (this.body.hidden !== gone) {
      this.body.hidden = gone;
      this.#want();
    }
    if (gone) {
      const { share } = context.node ?? {};
      const where = share && share.mode !== 'all' ? 'at this node now. Another node has it, or it is not configured' : 'in this node’s configuration';
      say(this.name, `There is no camera ${this.twinId}/${this.stream} ${where}.`);
      tell(this.advice, '');
    }
    if (!camera) return;
    const how = condition(camera, context.node);
    const { tone, word, text, few } = how;
    say(this.name, camera.name);
    const known = context.reach.state === 'ok';
    mark(this.mark, 'tone', known ? tone : 'idle');
    say(this.word, known ? (few ? `${word} frames` : `${word}${forHowLong(camera, how)}`) : 'not known: the node does not answer, and what stands here is of before');
    tell(this.advice, known ? (text ?? '') : '');
    // A camera that publishes tracks alone has no frame of an event.
    const frame = camera.frame ?? this.stage.picture.drawn;
    if (frame && !this.#shaped) {
      this.#shaped = true;
      mark(this.body, 'shape', frame.width / frame.height < 1.5 ? '4-3' : '16-9');
    }
    this.stage.update({ ...context, camera });
    if (!context.fresh) return;
    this.facts.replaceChildren(facts(this.#facts(camera)));
    this.flow.replaceChildren(ledger(camera));
    this.spark.update(camera);
    say(this.leftOut, camera.history ? `Left out in the last ${span(camera.history)}` : 'Left out');
    const appliedAt = context.node?.config.appliedAt ?? 0;
    if (appliedAt !== this.#appliedAt) {
      this.#appliedAt = appliedAt;
      this.#askSettings(camera);
    }
  }

  #facts(camera) {
    const { rates, ageMs, frame, counters, shedLevel } = camera;
    const packets = counters.rtpPacketsReceived + counters.rtpPacketsLost;
    return [
      ['Seen', boxless(camera.settings, true) ? 'the tracks tell' : objects(camera.objects)],
      ['Rates', `${rate(rates?.received)} in, ${rate(rates?.inferred)} inferred, ${rate(rates?.published)} published a second`],
      ['Age', ageMs ? `${ms(ageMs.p50)} p50, ${ms(ageMs.p99)} p99` : '–'],
      ['Last event', camera.lastEventSeconds === null ? 'none yet' : `${lasting(camera.lastEventSeconds)} ago`],
      ['Frame', frame ? `${frame.width} × ${frame.height}` : '–'],
      ['Twin, stream', h('code', {}, `${camera.twinId} / ${camera.stream}`)],
      ['Model', h('code', {}, camera.model)],
      ['Packets lost', `${count(counters.rtpPacketsLost)} of ${count(packets)}`],
      ['Keyframes asked for', count(counters.keyframeRequests)],
      ['Attempts after the first', count(counters.reconnects)],
      ['Overload', `step ${shedLevel} of 3: ${SHED[shedLevel] ?? ''}`, shedLevel ? 'warn' : null],
    ];
  }

  async #askSettings(camera) {
    let shown;
    try {
      // A node without a file, such as the demo's, knows what is in force and not where it came from.
      const section = cameraSection(await get('/api/config'), this.twinId, this.stream) ?? unexplained(camera.settings);
      shown = settings('Settings in force', section);
    } catch (error) {
      this.#appliedAt = null;
      shown = h('p', { class: 'dim' }, `They could not be read: ${error.message}.`);
    }
    this.settings.replaceChildren(shown);
  }

  close() {
    this.stage.close();
    this.resize.disconnect();
  }
}
