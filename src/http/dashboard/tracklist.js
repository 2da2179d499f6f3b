// The tracks of a camera as a list: who is there, who was there lately, and how each was seen best.

import { Rows, h, mark, say, set } from './dom.js';
import { clock, count, lasting } from './format.js';
import { trackColour } from './palette.js';
import { ending, who } from './trackwords.js';

/** So many that have ended are shown. The node keeps more of them. */
const SHOWN = 40;

const seconds = (ms) => lasting(ms / 1000);

/** Where a track is and was, in words. */
export function whereabouts({ zones = [], visitedZones = [], dwellMs = {}, state }) {
  const spent = (name) => (dwellMs?.[name] >= 1000 ? `${name} ${seconds(dwellMs[name])}` : name);
  const here = state === 'ended' ? [] : zones;
  const parts = [];
  if (here.length) parts.push(`in ${here.map(spent).join(', ')}`);
  const past = visitedZones.filter((name) => !here.includes(name));
  if (past.length) parts.push(`was in ${past.map(spent).join(', ')}`);
  return parts.join(' · ');
}

/** Since when and for how long, in words. `now` is the node's time. */
export function times({ state, reason, firstSeenAt, lastSeenAt, endedAt, stationary }, now) {
  const long = seconds((state === 'ended' ? lastSeenAt : now) - firstSeenAt);
  if (state === 'ended') return `${ending(reason)} at ${clock(endedAt)}, after ${long}`;
  const how = state === 'lost' ? `not seen since ${clock(lastSeenAt)}` : stationary ? 'stays where it is' : '';
  return `since ${clock(firstSeenAt)}, for ${long}${how ? `, ${how}` : ''}`;
}

/** Shows the best shot of a track in an `img`. Its path has the number of the picture, so another path is a better picture, and worth another try where there was none. */
export function showShot(picture, track) {
  const address = track.bestShot ?? '';
  set(picture, 'alt', `${who(track)} as it was seen best`);
  if (picture.dataset.address === address) return;
  picture.dataset.address = address;
  picture.hidden = address === '';
  if (address) picture.src = address;
}

export class TrackList {
  constructor() {
    this.number = h('span', { class: 'dim' });
    this.list = h('ul', { class: 'tracks' });
    this.empty = h('p', { class: 'dim' }, 'Asking the node');
    this.root = h('section', { class: 'panel', 'aria-labelledby': 'tracks-title' },
      h('h2', { id: 'tracks-title' }, 'Tracks ', this.number),
      h('div', { class: 'tracks-scroller', tabindex: '0', role: 'region', 'aria-label': 'Tracks, those that live first' }, this.empty, this.list));
    this.rows = new Rows(this.list, (track) => this.#create(track), (element, { track, now }) => this.#update(element, track, now));
  }

  #create() {
    const picture = h('img', { class: 'shot', alt: '', decoding: 'async', width: '56', height: '72', on: { error: () => { picture.hidden = true; } } });
    return h('li', {}, h('span', { class: 'frame' }, picture),
      h('div', {}, h('strong', {}, h('i', { class: 'swatch', 'aria-hidden': 'true' }), h('span', {})), h('p', { class: 'dim' }), h('p', {})));
  }

  #update(element, track, now) {
    const [frame, text] = element.children;
    const [name, time, place] = text.children;
    mark(element, 'state', track.state);
    name.firstChild.style.background = trackColour(track.id);
    frame.style.borderColor = trackColour(track.id);
    say(name.lastChild, who(track));
    say(time, times(track, now));
    say(place, whereabouts(track));
    showShot(frame.firstChild, track);
  }

  /** `why` says why there are no tracks, where that is known. */
  show(book, now, why) {
    const live = [...book.live.values()].sort((a, b) => b.firstSeenAt - a.firstSeenAt);
    const rows = [...live, ...book.ended.slice(0, SHOWN)];
    say(this.number, live.length ? `${count(live.length)} now` : 'none now');
    this.empty.hidden = rows.length > 0;
    say(this.empty, why ?? 'Nothing is followed now, and nothing was in the last minutes.');
    this.rows.show(rows.map((track) => ({ track, now })), ({ track }) => track.id);
  }
}
