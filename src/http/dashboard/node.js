// The node itself: hub, models, what it costs, its configuration, and what its cameras went through.

import { get } from './api.js';
import { dot, facts, h, mark, marked, say, table, tell, told } from './dom.js';
import { bytes, cameraKey, clock, count, lasting, moment } from './format.js';
import { hubCondition, modelError, overall } from './health.js';
import { SHED } from './reasons.js';
import { settings } from './settings.js';

/** What each piece of work is, in the order of a frame's way. */
const STAGES = {
  depacketize: 'packets to access units',
  decode: 'access units to pictures',
  copy: 'pictures out of the decoder',
  preprocess: 'pictures to tensors',
  inference: 'the model',
  postprocess: 'results to objects',
};

const STATES = { receiving: 'ok', connecting: 'idle', stalled: 'warn', unreachable: 'bad', rejected: 'bad', removed: 'idle' };

/** So many cameras are named here; the others are a link. */
const NAMED = 3;

/** What is wrong with the node, and which cameras make its mark red: they say themselves, on their pages, what to do. */
export function notesOf(items) {
  const own = items.filter(({ href }) => !href?.startsWith('#/camera/')).map((item) => ({ ...item, href: item.href === '#/node' ? null : item.href }));
  const cameras = items.filter(({ href }) => href?.startsWith('#/camera/')).map((item) => ({ ...item, text: null }));
  const more = cameras.slice(NAMED);
  const rest = more.length ? [{ tone: more[0].tone, title: `${more.length} more camera${more.length === 1 ? '' : 's'}`, text: null, href: '#/' }] : [];
  return [...own, ...cameras.slice(0, NAMED), ...rest];
}

export class NodePage {
  #appliedAt = null;

  constructor() {
    this.mark = dot('idle');
    this.to = h('a', {}, this.mark);
    this.headline = h('h1', { tabindex: '-1' }, 'Node');
    this.panels = {};
    const panel = (name, title, wide = false) => {
      this.panels[name] = h('div', {});
      return h('section', { class: wide ? 'panel wide' : 'panel', 'aria-label': title }, h('h2', {}, title), this.panels[name]);
    };
    this.notes = h('ul', { class: 'items' });
    this.root = h('div', { class: 'page' },
      h('div', { class: 'head headline' }, this.to, this.headline),
      this.notes,
      h('div', { class: 'cards' },
        panel('hub', 'Hub'), panel('cpu', 'Processor, by stage'), panel('inference', 'Inference'),
        panel('run', 'This run'), panel('config', 'Configuration'), panel('watchers', 'Who looks'), 
        panel('share', 'Among other nodes', true), panel('sinks', 'Sinks: where events go besides the hub', true), panel('models', 'Models', true), panel('servers', 'Servers of models', true), panel('states', 'States of cameras, the newest first', true), panel('settings', 'Configuration in force', true)));
  }

  update(context) {
    const all = overall(context);
    mark(this.mark, 'tone', all.tone);
    const { node } = context;
    const title = node?.hub.twinId ? `Node ${node.hub.twinId}` : 'Node';
    say(this.headline, context.reach.state === 'ok' || !node ? title : `${title} does not answer. What stands here is of before.`);
    this.#note(notesOf(all.items));
    if (!node || !context.fresh) return;
    for (const name of ['hub', 'cpu', 'inference', 'run', 'config', 'watchers', 'share', 'sinks', 'models', 'servers', 'states']) {
      // A table that somebody scrolls or has the focus in stays until they are done.
      if (this.panels[name].contains(document.activeElement)) continue;
      this.panels[name].replaceChildren(this[`_${name}`](node));
    }
    if (node.config.appliedAt !== this.#appliedAt) {
      this.#appliedAt = node.config.appliedAt;
      this.#askSettings();
    }
  }

  #note(notes) {
    // Where only cameras are in trouble, the mark of this page is red because of them.
    for (const [name, value] of [['href', notes[0]?.href], ['aria-label', notes[0]?.title]]) {
      if (!notes[0]?.href) this.to.removeAttribute(name);
      else if (this.to.getAttribute(name) !== value) this.to.setAttribute(name, value);
    }
    const key = JSON.stringify(notes.map(({ href }) => href));
    if (this.notes.dataset.key !== key) {
      mark(this.notes, 'key', key);
      this.notes.replaceChildren(...notes.map(({ tone, href }) => h('li', {}, dot(tone), h('div', {}, href ? h('a', { href }) : h('strong', {}), h('p', {})))));
    }
    notes.forEach(({ tone, title, text }, i) => {
      const row = this.notes.children[i];
      mark(row.firstChild, 'tone', tone);
      say(row.lastChild.firstChild, title);
      tell(row.lastChild.lastChild, text ?? '');
    });
  }

  _hub({ hub }) {
    if (hub.state === 'none') return h('p', { class: 'dim' }, 'This node works without a hub: its results go to the sinks and to who asks it.');
    const { tone, word } = hubCondition(hub);
    return facts([
      ['State', marked(tone, hub.since ? `${word}, since ${clock(hub.since)}` : word)],
      ['Address', h('code', {}, hub.url)],
      ['This node’s twin', h('code', {}, hub.twinId ?? 'not known yet')],
      ['Joined again', `${count(hub.reconnects)} times`],
    ]);
  }

  _cpu({ cpu }) {
    const stages = Object.entries(cpu.stages ?? {});
    const used = Object.fromEntries(stages);
    const names = [...Object.keys(STAGES).filter((name) => name in used), ...stages.map(([name]) => name).filter((name) => !(name in STAGES))];
    const most = Math.max(0.05, ...stages.map(([, cores]) => cores));
    return h('div', {},
      h('p', { class: 'big' }, cpu.processCores.toFixed(2), h('span', { class: 'dim' }, ` of ${count(cpu.cores)} cores, last 10 s`)),
      h('ul', { class: 'bars' }, names.map((name) => {
        const fill = h('span', { class: 'bar-fill' });
        fill.style.width = `${(100 * used[name]) / most}%`;
        return h('li', { title: STAGES[name] }, h('span', { class: 'dim' }, name), h('span', { class: 'bar-track', 'aria-hidden': 'true' }, fill), h('span', {}, `${used[name].toFixed(2)}`));
      })),
      h('p', { class: 'dim small' }, 'In cores. The rest is the network, encryption and the hub.'));
  }

  _inference({ inference, shedding }) {
    const bad = (number) => [count(number), number > 0 ? 'warn' : null];
    return facts([
      ['Execution provider', h('code', {}, inference.executionProvider)],
      ['Sessions', `${count(inference.sessions)}, each of ${count(inference.threadsPerSession)} thread${inference.threadsPerSession === 1 ? '' : 's'}`],
      ['Inferences failed', ...bad(inference.failures)],
      ['Workers replaced', ...bad(inference.workerRestarts)],
      ['Workers given up', ...bad(inference.workersGivenUp)],
      ['Shedding', `step ${shedding.level} of 3: ${SHED[shedding.level] ?? ''}`, shedding.level ? 'warn' : null],
    ]);
  }

  _run({ version, runId, startedAt, now, memory, ready, problems }) {
    return facts([
      ['Version', version],
      ['Running', lasting((now - startedAt) / 1000)],
      ['Since', moment(startedAt)],
      ['Memory', bytes(memory.residentBytes)],
      ['Run', h('code', { title: runId }, runId.slice(0, 12))],
      ['Ready', ready ? 'yes' : this.notes.childElementCount ? 'no, see above' : `no: ${(problems ?? []).join('; ') || 'it starts'}`, ready ? null : 'warn'],
    ]);
  }

  _config({ config }) {
    const refusal = config.lastRefusal;
    return facts([
      ['In force since', config.appliedAt ? moment(config.appliedAt) : '–'],
      ['Newest reload', config.reloadOk ? 'taken' : 'refused, the last good one stays', config.reloadOk ? null : 'bad'],
      ['Last refusal', refusal ? `${moment(refusal.at)}, from the ${refusal.source}` : 'none in this run'],
      refusal && ['Its reason', told(refusal.reason), null, true],
    ]);
  }

  _watchers({ watchers }) {
    return facts([
      ['Streams of pictures', count(watchers.pictures)],
      ['Streams of events', count(watchers.events)],
      ['At most', count(watchers.limit)],
    ]);
  }

  _sinks({ sinks }) {
    // A node without sinks has no place for them on its page.
    this.panels.sinks.parentElement.hidden = !sinks?.length;
    return table('Sinks', ['Sink', 'State', 'Taken', 'Dropped', 'Reached again', 'Reason'], (sinks ?? []).map((sink) => [
      h('code', {}, sink.name),
      h('span', { class: 'state' }, dot(sink.connected ? 'ok' : 'warn'), sink.connected ? 'reached' : 'not reached'),
      count(sink.published), sink.dropped ? h('span', { class: 'load' }, count(sink.dropped)) : count(0), count(sink.reconnects), told(sink.reason),
    ]));
  }

  _models({ models }) {
    return table('Models', ['Model', 'State', 'Cameras', 'SHA-256', 'Error'], models.map((model) => [
      h('code', {}, model.name),
      h('span', { class: 'state' }, dot(model.state === 'working' ? 'ok' : 'bad'), model.state.replace('_', ' ')),
      count(model.cameras), model.remote ? 'on servers' : h('code', { title: model.sha256 }, (model.sha256 ?? '').slice(0, 12)), told(modelError(model)),
    ]));
  }

  _servers({ models }) {
    const remote = models.filter((model) => model.remote);
    this.panels.servers.parentElement.hidden = !remote.length;
    const tones = { ready: 'ok', away: 'bad' };
    const rows = remote.flatMap((model) => model.remote.servers.map((server) => {
      const { input } = model.remote;
      return [
        h('code', {}, model.name), h('code', {}, server.url), h('span', { class: 'state' }, dot(tones[server.state] ?? 'idle'), server.state),
        server.latencyMs === null ? '–' : `${count(Math.round(server.latencyMs))} ms`, `${count(server.inFlight)} of ${count(model.remote.slots)}`,
        input ? `${input.datatype}, ${count(Math.round(input.frameBytes / 1000))} kB` : '–', told(server.reason),
      ];
    }));
    return table('Servers of models', ['Model', 'Server', 'State', 'Answers in', 'Under way', 'A frame is sent as', 'Reason'], rows);
  }

  _share({ share }) {
    // A node that is alone has no place for others on its page.
    this.panels.share.parentElement.hidden = !share || share.mode === 'all';
    if (!share || share.mode === 'all') return facts([]);
    const lease = share.leaseRemainingMs;
    // Without a lease the store may not answer, and the others may have come or gone since it did.
    const nodes = share.pool && !lease ? 'Nodes, as the store told them last' : 'Nodes';
    const members = share.members.map(({ name, capacity }) => h('li', {},
      h('code', {}, name),
      h('span', { class: 'dim' }, [name === share.node && 'this one', share.pool && `carries ${count(capacity)}`].filter(Boolean).join(', '))));
    return h('div', { class: 'among' },
      facts([
        ['This node', h('code', {}, share.node ?? '–')],
        share.pool && ['Pool', `${share.pool}, leases in ${share.engine}`],
        share.pool && ['Cameras that it has', count(share.held)],
        share.pool && [lease ? 'Cameras that it is about to take' : 'Cameras not published', count(share.warm), !lease && share.warm ? 'warn' : null],
        share.pool && ['Lease', lease ? `holds for ${(lease / 1000).toFixed(1)} s` : 'has run out: nothing is published', lease ? null : 'bad'],
        share.trouble && ['Trouble', told(share.trouble), 'bad', true],
      ]),
      h('div', {}, h('h3', {}, nodes), h('ul', { class: 'members' }, members.length ? members : h('li', { class: 'dim' }, 'none is known yet'))));
  }

  _states({ states }) {
    if (!states.length) return h('p', { class: 'dim' }, 'No camera has changed its state yet.');
    return table('States of cameras', ['Time', 'Camera', 'State', 'Attempt', 'Reason'], states.toReversed().map(({ at, camera, state, attempt, reason }) => {
      const name = camera.name ?? camera.twinId;
      return [h('time', {}, moment(at)), h('a', { href: `#/camera/${cameraKey(camera)}`, title: name }, name),
        h('span', { class: 'state' }, dot(state === 'receiving' && reason ? 'bad' : STATES[state] ?? 'idle'), state), h('span', {}, h('span', { class: 'label' }, 'attempt '), count(attempt)), told(reason)];
    }), { blocks: false });
  }

  async #askSettings() {
    try {
      const config = await get('/api/config');
      const sections = Object.entries(config.inForce).filter(([name]) => name !== 'cameras')
        // Of sinks and of models on servers there are many, each with a name.
        .flatMap(([name, section]) => Array.isArray(section)
          ? section.map((one) => [name === 'models' ? `[models.${one.name?.value}]` : `[[${name}]] ${one.name?.value ?? ''}`, one])
          : [[`[${name}]`, section]])
        .filter(([, section]) => Object.keys(section).length > 0);
      this.panels.settings.replaceChildren(
        ...sections.map(([name, section]) => h('details', {}, h('summary', {}, h('code', {}, name)), settings(name, section))),
        h('p', { class: 'dim small' }, sections.length ? 'Those of each camera are on its page.' : 'This node was started without a configuration, as the demo is.'),
      );
    } catch (error) {
      this.#appliedAt = null;
      this.panels.settings.replaceChildren(h('p', { class: 'dim' }, `It could not be read: ${error.message}.`));
    }
  }
}
