// The page: which view is shown, and the three ways by which the node tells it something.

import { get, Store } from './api.js';
import { CameraPage } from './camera.js';
import { mark, say } from './dom.js';
import { EventFeed } from './events.js';
import { cameraKey } from './format.js';
import { overall } from './health.js';
import { PictureStream } from './live.js';
import { NodePage } from './node.js';
import { Overview } from './overview.js';
import { Pairing } from './pair.js';
import { hasToken } from './settings.js';

const store = new Store();
const pairing = new Pairing();
const place = document.getElementById('view');
let view = null;

const live = new PictureStream({
  onPicture: (key, picture) => show(pairing.picture(key, picture, performance.now())),
  onRestart: () => pairing.restart(),
});

const feed = new EventFeed((type, data) => {
  if (type === 'detections') show(pairing.event(cameraKey(data.camera), data));
  if (type === 'cameraStatus') store.soon();
  view?.event?.(type, data);
});

function show(pair) {
  if (pair) view?.show?.(pair);
}

/** What views are drawn from. `fresh` is true when the node has just answered, and false when only time has passed. */
const context = (fresh) => ({ node: store.node, cameras: store.cameras, reach: store.reach, refused: live.refused, fresh });

function update(fresh) {
  const now = context(fresh);
  const all = overall(now);
  mark(document.getElementById('pill'), 'tone', all.tone);
  mark(document.body, 'reach', store.reach.state);
  say(document.getElementById('pill-text'), all.short);
  say(document.getElementById('pill-tiny'), all.tiny);
  if (document.title !== all.title) document.title = all.title;
  view?.update(now);
}

function open() {
  const [page, ...rest] = location.hash.replace(/^#\/?/, '').split('/');
  const first = view === null;
  view?.close?.();
  live.want([], 0);
  if (page === 'camera' && rest.length === 2) view = new CameraPage(live, rest.join('/'));
  else if (page === 'node') view = new NodePage();
  else {
    // An address that means nothing is not kept, and does not stand in the way of going back.
    if (page !== '' || rest.length > 0) history.replaceState(null, '', '#/');
    view = new Overview(live);
  }
  const known = view instanceof Overview ? 'overview' : page;
  mark(document.body, 'page', known);
  for (const link of document.querySelectorAll('nav a')) {
    const current = link.dataset.page === (known === 'node' ? 'node' : 'overview');
    // A camera's page is not that of all cameras, and belongs to it.
    if (current) link.setAttribute('aria-current', known === 'camera' ? 'true' : 'page');
    else link.removeAttribute('aria-current');
  }
  place.replaceChildren(view.root);
  update(true);
  if (first) return;
  scrollTo(0, 0);
  view.root.querySelector('h1')?.focus({ preventScroll: true });
}

function seen() {
  live.setOpen(!document.hidden);
  feed.setOpen(!document.hidden);
}

/** Who is here by a token can go; where there is none, nobody is signed in. Told once, since a token changes by a restart. */
async function offerSignOut() {
  try {
    document.getElementById('sign-out').hidden = !hasToken(await get('/api/config'));
  } catch {
    signOutKnown = false;
  }
}

let signOutKnown = false;
let answered = true;
let version = null;
store.addEventListener('change', () => {
  const ok = store.reach.state === 'ok';
  if (ok && !answered) {
    live.retry();
    feed.retry();
  }
  answered = ok;
  // Another program answers at this address: its page is another one, too.
  if (ok && version !== null && store.node.version !== version) location.reload();
  if (ok) version = store.node.version;
  if (ok && !signOutKnown) {
    signOutKnown = true;
    offerSignOut();
  }
  if (ok) pairing.retain(new Set(store.cameras.map(cameraKey)));
  update(ok);
});
setInterval(() => pairing.due(performance.now()).forEach(show), 100);
setInterval(() => { if (!document.hidden) update(false); }, 500);
addEventListener('hashchange', (event) => {
  // The skip link goes to the content, not to another page.
  if (new URL(event.newURL).hash === '#view') return;
  if (view?.mayLeave?.() === false) {
    history.pushState(null, '', event.oldURL);
    return;
  }
  open();
});
addEventListener('beforeunload', (event) => {
  if (view?.unsaved) event.preventDefault();
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  place.focus();
});
document.addEventListener('visibilitychange', seen);
seen();
open();
store.start();
