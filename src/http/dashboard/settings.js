// The configuration in force, and where each value came from.

import { h, table } from './dom.js';
import { setting } from './format.js';

/** Where a value came from, in words. */
function origin({ source, where }) {
  switch (source) {
    case 'env':
      return where ? h('span', {}, 'variable ', h('code', {}, where)) : 'a variable';
    case 'file':
      return where ? `file, ${where}` : 'file';
    case 'hub':
      return 'settings of the hub';
    case 'default':
      return h('span', { class: 'dim' }, 'default');
    default:
      return where ? `${source}, ${where}` : String(source ?? '');
  }
}

function value(entry) {
  const shown = entry.secret ? h('span', { class: 'dim' }, entry.set ? 'set, and never shown' : 'not set') : h('code', {}, setting(entry.value));
  if (!entry.pendingRestart) return shown;
  return h('span', {}, shown, h('span', { class: 'load' }, ' until a restart: another value is configured'));
}

/** A table of the keys of one section. */
export function settings(caption, section) {
  const rows = Object.entries(section).map(([key, entry]) => [h('code', {}, key), value(entry), origin(entry)]);
  return table(caption, ['Key', 'Value', 'From'], rows);
}

/** The section of one camera; `null` where the configuration does not name it. */
export function cameraSection(config, twinId, stream) {
  return config.inForce.cameras?.find((camera) => camera.twin_id?.value === twinId && (camera.stream?.value ?? 'default') === stream) ?? null;
}

/** Settings of which only the values are known, under the names that the file has for them. */
export const unexplained = (values) => Object.fromEntries(flat(values).map(([name, of]) => [snake(name), { value: of, source: '–', where: null }]));

/** A table within, such as `track`, has its keys written as `track.lost_ms`. */
const flat = (values) => Object.entries(values).flatMap(([name, of]) => (of !== null && typeof of === 'object' && !Array.isArray(of) ? flat(of).map(([key, one]) => [`${name}.${key}`, one]) : [[name, of]]));

const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Whether the node has a token, so that there is something to sign out of. */
export const hasToken = (config) => Object.entries(config.inForce.http ?? {}).some(([key, entry]) => key.startsWith('token') && (entry.set || (entry.value !== null && entry.value !== undefined && !entry.secret)));
