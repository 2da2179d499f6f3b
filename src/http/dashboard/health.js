// Whether everything is fine, in words, and what to do where it is not. Nothing here knows of the page.

import { cameraKey, clock, lasting } from './format.js';
import { tooFew } from './sight.js';

/** What a camera's state means where the node has no sentence of its own. */
const ADVICE = {
  connecting: 'The first picture takes a few seconds.',
  stalled: 'Frames came, and none comes now. The node is connecting again; look at the camera’s power and its network.',
  unreachable: 'Attempts to connect bring no frame, and the node goes on trying. See that the camera’s app runs, and that UDP passes between the two.',
  rejected: 'What the camera offers cannot be used. Let it send H.264, or VP8 to a build that has it.',
  removed: 'It is no longer configured.',
  unpublished: 'Frames are looked at, and nobody is told what is seen.',
  blind: 'Frames come, and none of them is looked at.',
  failing: 'Its model gives no results. Look at the node’s log, and correct or replace the model.',
};

const WORST = ['ok', 'idle', 'warn', 'bad'];

/** The worst of some tones. */
export const worst = (tones) => tones.reduce((a, b) => (WORST.indexOf(b) > WORST.indexOf(a) ? b : a), 'ok');

/** True for a node of a pool that publishes nothing, because its lease has run out. */
export const isFenced = (node) => node?.share?.leaseRemainingMs === 0;

/** How long a camera has been in its state, as ` for 7 s`. One that is blind has received for longer than it was that, so nothing is said there. */
export const forHowLong = (camera, { sees }) => (camera.state === 'receiving' && !sees ? '' : ` for ${lasting(camera.stateSeconds)}`);

/** How a camera is: `word` for its state, `tone`, whether it `sees` and by which reason it sees too `few` frames, and what to do. */
export function condition(camera, node) {
  const model = node?.models?.find(({ name }) => name === camera.model);
  const told = (tone, word, advice) => ({ tone, word, sees: false, text: camera.problem ?? withReason(ADVICE[advice], camera.reason) });
  switch (camera.state) {
    case 'receiving': {
      if (camera.blind && isFenced(node)) return told('bad', 'not published', 'unpublished');
      if (camera.blind && model && model.state !== 'working') return told('bad', model.state === 'away' ? 'model away' : 'model failing', 'failing');
      const few = tooFew(camera);
      // One that looks at a frame now and then is called blind in between. It is not both by turns.
      if (few && (!camera.blind || few.seen > 0)) return { tone: 'warn', word: 'sees too few', sees: true, few: few.name, text: few.text };
      return camera.blind ? told('bad', 'blind', 'blind') : { tone: 'ok', word: 'sees', sees: true, text: null };
    }
    case 'connecting':
      return told(camera.attempt > 1 ? 'warn' : 'idle', 'connecting', 'connecting');
    case 'stalled':
      return told('warn', 'stalled', 'stalled');
    case 'removed':
      return told('idle', 'removed', 'removed');
    case 'unreachable':
    case 'rejected':
      return told('bad', camera.state, camera.state);
    default:
      return told('warn', camera.state, 'connecting');
  }
}

/** Why a model does not work, without the words that stand beside it anyway. */
export const modelError = ({ name, error }) => error?.replace(`model ${name} is away: `, '') ?? null;

const withReason = (advice, reason) => (reason ? `${sentence(reason)} ${advice}` : advice);

/** How the hub is. Its `reason` may say what to do. */
export function hubCondition(hub) {
  const since = hub.since ? ` since ${clock(hub.since)}` : '';
  const reason = hub.reason ? ` ${sentence(hub.reason)}` : ` See that it runs, and that ${hub.url} can be reached from the node.`;
  switch (hub.state) {
    case 'joined':
      return { tone: 'ok', word: 'joined', text: null };
    case 'none':
      return { tone: 'ok', word: 'none', text: null };
    case 'connecting':
      return { tone: 'idle', word: 'connecting', title: 'Joining the hub', clause: 'the hub is being joined', text: `The node is joining ${hub.url}. No camera can be reached before.` };
    case 'refused':
      return { tone: 'bad', word: 'refused', title: 'The hub refuses this node', clause: 'the hub refuses this node', text: `It has refused this node${since}.${reason}` };
    default:
      return { tone: 'bad', word: 'away', title: 'The hub is away', clause: 'the hub is away', text: `${hub.since ? `It has not answered${since}` : 'It does not answer'}.${reason} Results are dropped, not stored, until it is back.` };
  }
}

const n = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

/** All of it: `tone`, `headline`, `short` and `tiny` for the header, `title`, and `items` of `{tone, title, text, href}`. */
export function overall({ reach, node, cameras }, now = Date.now()) {
  if (reach.state === 'unauthorised') {
    return make('bad', 'You are signed out', 'signed out', [{ tone: 'bad', title: 'Sign in again', text: 'The node wants its token. Load this page anew to give it.', href: '/' }]);
  }
  if (reach.state === 'gone') {
    const wait = Math.max(0, Math.ceil((reach.retryAt - now) / 1000));
    const again = `This page asks again ${wait ? `in ${wait} s` : 'now'}.`;
    if (reach.status) return make('bad', 'The node gives no answer that can be used', 'no usable answer', [{ tone: 'bad', title: `It has given none since ${clock(reach.since)}`, text: `${sentence(reach.error)} ${again}`, href: null }], 'no answer');
    const text = `${sentence(reach.error)} ${again} See whether the process runs, and whether this machine reaches it.`;
    return make('bad', 'The node does not answer', 'The node does not answer', [{ tone: 'bad', title: `It has not answered since ${clock(reach.since)}`, text, href: null }], 'no answer');
  }
  if (!node || !cameras) return make('idle', 'Asking the node', 'asking the node', []);
  const items = [...nodeItems(node), ...cameras.flatMap((camera) => cameraItem(camera, node))];
  // What many cameras are told is told once.
  const told = new Set();
  for (const item of items.filter((one) => one.few)) {
    if (told.has(item.few)) item.text = null;
    told.add(item.few);
  }
  items.sort((a, b) => WORST.indexOf(b.tone) - WORST.indexOf(a.tone));
  const wanted = cameras.filter(({ state }) => state !== 'removed');
  const conditions = wanted.map((camera) => condition(camera, node));
  const sees = conditions.filter((one) => one.sees).length;
  const few = conditions.filter((one) => one.few).length;
  const tone = worst(items.map((item) => item.tone));
  if (wanted.length === 0 && node.share && node.share.mode !== 'all') {
    const text = node.share.mode === 'pool' ? `The nodes of pool ${node.share.pool} share the cameras of their file: ${node.share.members.map((member) => member.name).join(', ') || 'none is known yet'}.` : 'The fixed parts of the cameras are of other nodes.';
    const none = { tone: 'idle', title: 'Other nodes have the cameras', text, href: '#/node' };
    return make(worst([tone, 'idle']), 'None of the cameras is this node’s now', 'no camera', [...items, none]);
  }
  if (wanted.length === 0) {
    const empty = { tone: 'idle', title: 'Add the first camera', text: 'Write a table [[cameras]] with the twin_id of a camera into the node’s file, or set TWINSIGHT_CAMERAS. The node takes the file while it runs.', href: null };
    return make(worst([tone, 'idle']), 'No camera is configured', 'no camera', [...items, empty]);
  }
  const cameraWord = sees === 1 && wanted.length === 1 ? 'camera' : 'cameras';
  const seeing = `${sees} of ${wanted.length} ${cameraWord} ${sees === 1 ? 'sees' : 'see'}`;
  const clauses = [];
  if (few > 0) clauses.push(few === sees ? ' too few frames' : `${sees === wanted.length ? ', but' : ','} ${few} of them too few frames`);
  const others = nodeItems(node);
  if (others.length) clauses.push(`, ${sees === wanted.length && few === 0 ? 'but' : 'and'} ${others[0].clause}`);
  const but = clauses.join('');
  return make(tone, seeing + but, `${sees} of ${wanted.length} see${but}`, items, `${sees} of ${wanted.length}`);
}

/** `tiny` is for the header of a phone. */
function make(tone, headline, short, items, tiny = short) {
  const title = tone === 'ok' ? `Twinsight · ${short}` : `${tone === 'idle' ? '… ' : '(!) '}${short} · Twinsight`;
  return { tone, headline, short, tiny, title, items };
}

function cameraItem(camera, node) {
  const how = condition(camera, node);
  const { sees, few, tone, word, text } = how;
  const href = `#/camera/${cameraKey(camera)}`;
  if (few) return [{ kind: 'camera', few, tone, title: `${camera.name}: ${word} frames`, text, href }];
  if (sees || camera.state === 'removed') return [];
  // That nothing is published is told of the node.
  if (word === 'not published' && node.share.trouble) return [];
  // Why its model does not work is told of the model.
  const model = node.models.find(({ name }) => name === camera.model);
  const isOfModel = camera.state === 'receiving' && model && model.state !== 'working';
  return [{ kind: 'camera', tone, title: `${camera.name}: ${word}${forHowLong(camera, how)}`, text: isOfModel ? null : text, href }];
}

/** What is wrong with the node itself, each also as a clause for the headline. */
function nodeItems(node) {
  const items = [];
  const add = (tone, clause, title, text) => items.push({ tone, clause, title, text, href: '#/node' });
  const hub = hubCondition(node.hub);
  if (hub.tone !== 'ok') add(hub.tone, hub.clause, hub.title, hub.text);
  if (node.share?.trouble) {
    const clause = isFenced(node) ? 'nothing is published' : 'the pool is in trouble';
    add('bad', clause, 'The pool is in trouble', `${sentence(node.share.trouble)}${isFenced(node) ? ' Nothing is published meanwhile.' : ''}`);
  }
  for (const model of node.models) {
    if (model.state === 'working') continue;
    const error = model.error ? `${sentence(modelError(model))} ` : '';
    const state = { failing: 'is failing', set_aside: 'is set aside', probing: 'is being tried again', away: 'is away' }[model.state] ?? `is ${model.state}`;
    if (model.fallback) {
      const clause = model.state === 'away' ? 'a model is away' : 'a fallback infers';
      add('warn', clause, `Model ${model.name} ${state}`, `${error}${model.fallback} takes its place meanwhile.`);
      continue;
    }
    const clause = model.state === 'away' ? 'a model is away' : 'a model is failing';
    const blind = model.cameras ? `Its ${n(model.cameras, 'camera')} ${model.cameras === 1 ? 'is' : 'are'} blind meanwhile.` : 'No camera of this node needs it now.';
    const remedy = model.state === 'away' ? 'See to its servers' : 'See the node’s log, and correct or replace the model';
    add('bad', clause, `Model ${model.name} ${state}`, `${error}${blind} ${remedy}.`);
  }
  if (!node.config.reloadOk) {
    add('warn', 'a configuration was refused', 'The newest configuration is refused', `The last good one stays. ${sentence(node.config.lastRefusal?.reason ?? 'the log says why')}`);
  }
  if (node.shedding.level > 0) {
    add('warn', 'the machine has too much to do', 'The machine has too much to do', `The node leaves out work (step ${node.shedding.level} of 3). Lower max_fps, use a smaller model, or move cameras to another node.`);
  }
  for (const text of node.unhealthy ?? []) add('bad', 'the node is not healthy', 'The node is not healthy', sentence(text));
  return items;
}

/** A clause of the node as a sentence. An address that it begins with stays as it is. */
const sentence = (text) => (/^\w+:\/\//.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1)) + (/[.!?]$/.test(text) ? '' : '.');
