// The dashboard in Chromium, against a node that runs.
//   dashboard.mjs look BASE OUT          everything that needs cameras that see; it says what is to be done to them
//   dashboard.mjs sign_in BASE OUT TOKEN a node without cameras that has a token
// BASE is the node's address, and OUT the folder for pictures of the page. It prints a line for each thing that it has seen.
import assert from 'node:assert/strict';

import { PATIENCE, accessible, close, fits, open, perform, picture, say } from './dashboard_page.mjs';

const [what, base, , token] = process.argv.slice(2);

/** No tile has moved since the page was loaded. What stands beside them may, when there is more to be said. */
async function standsStill(page) {
  const shifts = await page.evaluate(() => globalThis.shifts);
  for (const { value, of } of shifts) {
    assert.ok(value < 0.1, `${of} move by ${value}`);
    for (const name of of) assert.doesNotMatch(String(name), /tile|picture|caption|grid/);
  }
}

const tile = (page, camera) => page.locator(`.tile[data-camera="${camera}/default"]`);
const live = (page, camera) => tile(page, camera).locator('.picture[data-live="yes"] canvas[data-sequence]');

/** The node's own events, told by it to this program and not to the page. */
async function listen() {
  const events = new Map();
  const abort = new AbortController();
  const response = await fetch(`${base}/api/events?type=detections`, { signal: abort.signal });
  const reading = (async () => {
    let text = '';
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) {
        const data = block.split('\n').find((line) => line.startsWith('data:'));
        if (!data) continue;
        const event = JSON.parse(data.slice(5));
        events.set(`${event.camera.twinId} ${event.sequence}`, event);
      }
    }
  })().catch(() => {});
  return { events, stop: async () => { abort.abort(); await reading; } };
}

/** A canvas and the number of what is drawn on it, read at one moment. */
const readCanvas = (page, camera) => tile(page, camera).locator('canvas').evaluate((canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  let text = '';
  for (let i = 0; i < data.length; i += 32768) text += String.fromCharCode(...data.subarray(i, i + 32768));
  return { width, height, sequence: canvas.dataset.sequence, boxes: canvas.dataset.boxes, pixels: btoa(text) };
});

/**
 * How much of the edges of an event's boxes has the colour of boxes on the canvas, if they were moved by some pixels, and of how
 * many boxes no side is to be seen.
 */
function edges({ width, height, pixels }, event, moved) {
  const bytes = Buffer.from(pixels, 'base64');
  const scale = width / event.frame.width;
  const isBox = (x, y) => {
    for (const [dx, dy] of [[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) {
      const at = 4 * (Math.round(y + dy) * width + Math.round(x + dx));
      const [r, g, b] = [bytes[at], bytes[at + 1], bytes[at + 2]];
      if (Math.abs(r - 76) < 45 && Math.abs(g - 194) < 45 && Math.abs(b - 255) < 45) return true;
    }
    return false;
  };
  const within = ([x, y]) => x >= 1 && y >= 1 && x <= width - 2 && y <= height - 2;
  let [there, all, unseen] = [0, 0, 0];
  for (const { box } of event.objects) {
    const [left, top, right, bottom] = [box.x, box.y, box.x + box.width, box.y + box.height].map((n) => n * scale + moved);
    const parts = Array.from({ length: 19 }, (_, i) => (i + 1) / 20);
    const across = parts.map((part) => left + part * (right - left));
    const down = parts.map((part) => top + part * (bottom - top));
    const sides = [across.map((x) => [x, top]), across.map((x) => [x, bottom]), down.map((y) => [left, y]), down.map((y) => [right, y])];
    let best = 0;
    for (const side of sides) {
      const seen = side.filter(within);
      const hits = seen.filter(([x, y]) => isBox(x, y)).length;
      all += seen.length;
      there += hits;
      if (seen.length > 9) best = Math.max(best, hits / seen.length);
    }
    if (best <= 0.3) unseen += 1;
  }
  return { share: there / all, unseen };
}

async function boxesAreWhereTheEventSays(page, camera) {
  const { events, stop } = await listen();
  let seen = 0;
  const deadline = Date.now() + PATIENCE;
  let last = null;
  while (seen < 5) {
    assert.ok(Date.now() < deadline, `only ${seen} pictures with boxes`);
    const canvas = await readCanvas(page, camera);
    const event = events.get(`${camera} ${canvas.sequence}`);
    if (canvas.sequence === last || !event || canvas.boxes === '' || event.objects.length < 3) {
      await page.waitForTimeout(40);
      continue;
    }
    last = canvas.sequence;
    assert.equal(canvas.boxes, String(event.objects.length));
    const [here, beside] = [edges(canvas, event, 0), edges(canvas, event, 9)];
    // Labels hide some of the edges, and all of a small box at times; where boxes are many some edge lies beside one of another box.
    const told = `of #${canvas.sequence}: ${JSON.stringify({ here, beside })}`;
    assert.ok(here.share > 0.4 && here.share > 2.5 * beside.share && here.unseen <= event.objects.length / 4, told);
    seen += 1;
  }
  await stop();
}

/** Changes what the API answers to the page, for states that a node in a test cannot be brought into. */
async function pretend(page, change) {
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  for (const name of ['node', 'cameras']) {
    await page.route((url) => url.pathname === `/api/${name}`, async (route) => {
      try {
        const answer = await route.fetch();
        await route.fulfill({ json: change(name, await answer.json()) });
      } catch {
        // The page has gone on.
      }
    });
  }
  await askNow(page);
}

/** A page that comes to be seen asks at once. */
const askNow = (page) => page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));

/** What a node of a pool says of the others. */
const inPool = (node, more) => ({ mode: 'pool', node, capacity: 10, pool: 'shop', engine: 'etcd', members: [{ name: node, capacity: 10 }, { name: 'node-2', capacity: 4 }], held: 3, warm: 0, leaseRemainingMs: 4000, trouble: null, ...more });

async function everyState(page) {
  const camera = (more) => (name, json) => (name === 'cameras' ? json.map((one) => (one.twinId === 'front-door' ? { ...one, blind: true, stateSeconds: 7, ...more } : one)) : json);
  const node = (more) => (name, json) => (name === 'node' ? { ...json, ...more(json) } : enough(json));
  // The machine that tests may be too slow for its cameras.
  const enough = (json) => json.map((one) => ({ ...one, history: { ...one.history, reasons: Object.fromEntries(Object.entries(one.history.reasons).filter(([reason]) => reason === 'frames.rate_limited')) } }));
  const title = tile(page, 'front-door').locator('.cover strong');
  for (const [state, more, words] of [
    ['connecting', { state: 'connecting' }, /^connecting/],
    ['blind', { state: 'receiving', problem: 'None is looked at.' }, /^blind/],
    ['stalled', { state: 'stalled' }, /^stalled for 7 s/],
    ['rejected', { state: 'rejected' }, /^rejected/],
    ['unreachable', { state: 'unreachable' }, /^unreachable/],
  ]) {
    const changed = camera(more);
    await pretend(page, (name, json) => changed(name, name === 'cameras' ? enough(json) : json));
    await title.filter({ hasText: words }).waitFor();
    await page.locator('#pill').filter({ hasText: '2 of 3 see' }).waitFor();
    assert.match(await page.title(), state === 'connecting' ? /2 of 3/ : /^\(!\) 2 of 3 see/);
    assert.notEqual(await tile(page, 'front-door').locator('.cover span').textContent(), '', state);
    say(`saw ${state}`);
  }
  const starved = { state: 'receiving', blind: false, history: { stepSeconds: 5, until: 0, received: Array(24).fill(75), inferred: Array(24).fill(5), published: [], dropped: {}, reasons: { 'frames.stale': Array(24).fill(20) } } };
  const bad = camera(starved);
  // Nor is it told of the node that the machine has too much to do.
  const calm = (name, json) => (name === 'node' ? { ...json, shedding: { ...json.shedding, level: 0 } } : json);
  await pretend(page, (name, json) => bad(name, name === 'cameras' ? enough(json) : calm(name, json)));
  await page.locator('h1').filter({ hasText: '3 of 3 cameras see, but 1 of them too few frames' }).waitFor();
  await tile(page, 'front-door').locator('.state').filter({ hasText: 'sees too few' }).waitFor();
  await tile(page, 'front-door').locator('.note').filter({ hasText: /^Of 300 frames .* 240 were too old for max_age_ms/ }).waitFor();
  await tile(page, 'front-door').locator('.legend').filter({ hasText: /480 too old/ }).waitFor();
  assert.equal(await page.locator('.items a').first().getAttribute('href'), '#/camera/front-door/default');
  await accessible(page, 'overview with a camera that sees too few');
  say('saw a camera that sees too few');
  for (const [state, more, headline] of [
    ['hub away', () => ({ hub: { url: 'http://127.0.0.1:1', state: 'away', since: Date.now(), reason: 'nothing listens there', reconnects: 0, twinId: 'node-1' } }), 'but the hub is away'],
    ['model failing', (json) => ({ models: json.models.map((model) => ({ ...model, state: 'set_aside', error: 'it hung' })) }), 'but a model is failing'],
    ['reload refused', (json) => ({ config: { ...json.config, reloadOk: false, lastRefusal: { at: Date.now(), source: 'file', reason: 'line 3: there is no key `x`' } } }), 'but a configuration was refused'],
    ['lease run out', () => ({ share: inPool('node-1', { leaseRemainingMs: 0, trouble: 'etcd does not answer' }) }), 'but nothing is published'],
    ['overload', () => ({ shedding: { level: 2 } }), 'but the machine has too much to do'],
  ]) {
    await pretend(page, node(more));
    await page.locator('h1').filter({ hasText: headline }).waitFor();
    say(`saw ${state}`);
  }
  await pretend(page, (name, json) => {
    if (name === 'node') return { ...json, hub: { ...json.hub, state: 'away', since: Date.now() - 64000, reason: 'nothing listens at that address: start the hub, or correct its address' } };
    const more = { 'car-park': { state: 'stalled', stateSeconds: 12, problem: "Its frames have stopped coming. Check the camera's power and network; the node connects again by itself." },
      'loading-dock': { state: 'unreachable', stateSeconds: 340, problem: 'It does not answer. Check that the camera is on and joined to the hub, and its twin id: `twinsight check` tries it. The node goes on dialling.' } };
    return enough(json).map((one) => (more[one.twinId] ? { ...one, ...more[one.twinId], blind: true, rates: { received: 0, decoded: 0, inferred: 0, published: 0 }, ageMs: null } : one));
  });
  await page.locator('h1').filter({ hasText: '1 of 3 cameras sees, and the hub is away' }).waitFor();
  await page.locator('.rail dd[data-tone="warn"]').filter({ hasText: /^\d+\.\d\/s, none sent$/ }).waitFor();
  await page.locator('.items p').filter({ hasText: /^It has not answered since \d\d:\d\d:\d\d\. / }).waitFor();
  await accessible(page, 'overview in trouble');
  await live(page, 'front-door').waitFor();
  await picture(page, 'trouble.png', 700);
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await askNow(page);
  await page.locator('h1').filter({ hasText: '3 of 3 cameras see' }).waitFor();
}

async function keyboard(page) {
  const focus = () => page.evaluate(() => {
    const { activeElement: element } = document;
    const { outlineStyle } = getComputedStyle(element);
    const after = getComputedStyle(element, '::after').outlineStyle;
    return { text: element.textContent.trim(), id: element.id, tag: element.tagName, seen: outlineStyle !== 'none' || after !== 'none' };
  });
  const next = async (text) => {
    const passed = [];
    for (let i = 0; i < 20; i += 1) {
      await page.keyboard.press('Tab');
      const now = await focus();
      assert.ok(now.seen, `the focus on ${now.tag} ${now.text} is not seen`);
      if (now.text.startsWith(text)) return;
      passed.push(now.text);
    }
    assert.fail(`Tab does not lead to ${text}, but to ${passed}`);
  };
  await page.keyboard.press('Tab');
  assert.equal((await focus()).id, 'skip');
  await page.keyboard.press('Enter');
  assert.equal((await focus()).id, 'view');
  await next('Front door');
  await page.keyboard.press('Enter');
  await page.locator('h1').filter({ hasText: 'Front door' }).waitFor();
  await page.locator('.rows li').nth(2).waitFor();
  await next('Pause');
  await page.keyboard.press('Space');
  await page.locator('.log button[aria-pressed="true"]').filter({ hasText: /^Resume \(\d+ new\)/ }).waitFor();
  const rows = await page.locator('.rows').textContent();
  await page.waitForTimeout(700);
  assert.equal(await page.locator('.rows').textContent(), rows, 'a log that is paused stays as it is');
  await page.getByLabel('Label of objects').focus();
  await page.keyboard.type('no such label');
  await page.locator('.log').filter({ hasText: 'No event that the filter lets pass' }).waitFor();
  await page.getByLabel('Label of objects').fill('');
  await page.locator('.log button[aria-pressed="true"]').focus();
  await page.keyboard.press('Enter');
  await page.locator('.log button[aria-pressed="false"]').filter({ hasText: 'Pause' }).waitFor();
}

async function look() {
  const page = await open();
  await page.locator('h1').filter({ hasText: '3 of 3 cameras see' }).waitFor();
  const before = await tile(page, 'front-door').boundingBox();
  for (const camera of ['front-door', 'car-park', 'loading-dock']) await live(page, camera).waitFor();
  say('tiles are filled');
  assert.deepEqual(await tile(page, 'front-door').boundingBox(), before, 'a tile keeps its place and size');
  say('do: kill the camera');
  const lost = waitForLoss(page);
  // It is awaited below; what fails before that is told first.
  lost.catch(() => {});
  await boxesAreWhereTheEventSays(page, 'front-door');
  say('boxes are where the event of the same sequence says');
  await accessible(page, 'overview');
  await fits(page, 'overview');
  const other = await pages();
  await lost;
  say('do: start the camera');
  await live(page, 'loading-dock').waitFor();
  await page.locator('h1').filter({ hasText: '3 of 3 cameras see' }).waitFor();
  say('the camera is back');
  await portraits(page, other);
  await everyState(page);
  await standsStill(page);
  await hidden(page);
  await tooMany(page);
  await goneAndBack(page);
  await close(page);
  await close(other);
}

/** The picture of a camera without power is no live one from the first second on that it is late. */
async function waitForLoss(page) {
  const dock = tile(page, 'loading-dock');
  await dock.locator('.picture[data-live="no"]').waitFor();
  await dock.locator('.state').filter({ hasText: 'stalled' }).waitFor();
  assert.equal(await dock.locator('.picture').getAttribute('data-live'), 'no');
  await page.locator('.items').filter({ hasText: 'Loading dock: stalled' }).waitFor();
  say('saw the camera stalled');
  await dock.locator('.state').filter({ hasText: 'unreachable' }).waitFor();
  assert.match(await page.title(), /^\(!\) 2 of 3 see/);
  say('saw the camera unreachable');
}

/** The other pages, by another window. */
async function pages() {
  const page = await open();
  await page.locator('.tile').first().waitFor();
  await keyboard(page);
  say('all of it works by keyboard');
  await page.locator('.picture[data-live="yes"] canvas[data-sequence]').waitFor();
  await page.locator('.flow li').first().waitFor();
  await page.locator('.camera td').first().waitFor();
  assert.equal(await page.locator('.flow h3').allTextContents().then((names) => names.join()), 'Received,Decoded,Inferred,Published');
  const { searchParams } = page.asked.findLast(({ pathname }) => pathname === '/api/live');
  const shown = await page.locator('.picture').evaluate((element) => element.clientWidth);
  assert.deepEqual(searchParams.getAll('camera'), ['front-door/default']);
  assert.ok(Math.abs(Number(searchParams.get('width')) - shown) < 80, `asked for ${searchParams} and shown ${shown} wide`);
  await accessible(page, 'camera');
  await fits(page, 'camera');
  await page.getByRole('link', { name: 'Node', exact: true }).click();
  await page.locator('.bars li').first().waitFor();
  await page.locator('.cards').filter({ hasText: 'nanodet_g_coco_int8' }).waitFor();
  await accessible(page, 'node');
  await fits(page, 'node');
  await page.setViewportSize({ width: 320, height: 640 });
  await fits(page, 'node on a phone');
  await page.goto(`${base}/#/camera/front-door/default`);
  await page.locator('.picture[data-live="yes"]').waitFor();
  await fits(page, 'camera on a phone');
  await page.goto(`${base}/#/`);
  await page.locator('.tile').first().waitFor();
  await fits(page, 'overview on a phone');
  await live(page, 'front-door').waitFor();
  const { searchParams: narrow } = page.asked.findLast(({ pathname }) => pathname === '/api/live');
  assert.equal(narrow.getAll('camera').includes('loading-dock/default'), false, 'a tile that is not seen has no pictures');
  await page.goto(`${base}/#/camera/nobody/default`);
  await page.locator('h1').filter({ hasText: 'There is no camera nobody/default' }).waitFor();
  assert.equal(await page.locator('.page').innerText().then((text) => text.split('\n').filter(Boolean).length), 2, 'a sentence and a way back');
  await page.goto(`${base}/#/nonsense`);
  await page.locator('.tile').first().waitFor();
  assert.equal(new URL(page.url()).hash, '#/');
  await longNames(page);
  say('the pages are fit for a phone');
  return page;
}

/** On a phone, with sixteen cameras whose names are as long as they may be, all that matters is still seen. */
async function longNames(page) {
  // The node has no pictures of cameras that are only pretended.
  page.expected = (text) => text.includes('404');
  const name = 'Ü'.repeat(120) + '-entrance'.repeat(9);
  await pretend(page, (what, json) => {
    if (what === 'cameras') return Array.from({ length: 16 }, (_, i) => ({ ...json[0], twinId: i ? `camera-${i}` : json[0].twinId, name }));
    const url = `grpc://${'inference-server-'.repeat(9)}.example:8001`;
    const server = { url, state: 'away', latencyMs: null, inFlight: 0, reason: `${url} refuses connections` };
    const remote = { servers: [server, { ...server, state: 'ready', latencyMs: 12, reason: null }], slots: 4, input: null };
    const models = [...json.models, { ...json.models[0], name: 'far-'.repeat(16), state: 'away', cameras: 0, error: `it is not reached: ${url}`, remote }];
    return { ...json, models, share: inPool('n'.repeat(63)), states: json.states.map((one) => ({ ...one, camera: { ...one.camera, name }, state: 'unreachable', reason: 'no answer to the offer' })) };
  });
  const pill = page.locator('#pill-tiny').filter({ hasText: '16 of 16' });
  await pill.waitFor();
  assert.ok(await pill.evaluate((element) => element.clientWidth > 0 && element.scrollWidth <= element.clientWidth + 1), 'the header is not cut');
  await fits(page, 'overview with long names');
  await page.locator('#sign-out').evaluate((form) => { form.hidden = false; });
  assert.ok(await pill.evaluate((element) => element.clientWidth > 0 && element.scrollWidth <= element.clientWidth + 1), 'nor is it beside the button to sign out');
  await page.locator('#sign-out').evaluate((form) => { form.hidden = true; });
  await page.goto(`${base}/#/camera/front-door/default`);
  await page.locator('h1').filter({ hasText: name }).waitFor();
  await fits(page, 'camera with a long name');
  for (const width of [320, 900]) {
    await page.setViewportSize({ width, height: 640 });
    await page.goto(`${base}/#/node`);
    const row = page.locator('[aria-label="States of cameras"] tbody tr').first();
    await row.filter({ hasText: name }).waitFor();
    await fits(page, 'node with long names');
    await page.locator('.members li').filter({ hasText: 'nnn' }).filter({ hasText: 'this one' }).waitFor();
    const sideways = await page.locator('.cards .scroll').evaluateAll((tables) => tables.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.ariaLabel));
    if (width === 320) assert.deepEqual(sideways, [], 'no table is scrolled sideways on a phone');
    // All is measured at one moment, since the table is made anew each second.
    const [end, cells] = await page.locator('[aria-label="States of cameras"]').last().evaluate((panel) => [
      panel.getBoundingClientRect().right,
      [...panel.querySelector('tbody tr').cells].map((cell) => [cell.textContent, cell.getBoundingClientRect().right]),
    ]);
    assert.ok(cells.length > 0);
    for (const [text, right] of cells) assert.ok(right <= end + 1, `${text} ends at ${right} of ${end}`);
  }
  await page.setViewportSize({ width: 320, height: 640 });
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await page.goto(`${base}/#/`);
  await live(page, 'front-door').waitFor();
  page.expected = () => false;
}

/** Pictures for the documents, while all is well. */
async function portraits(page, other) {
  await picture(page, 'overview.png', 520);
  await other.setViewportSize({ width: 390, height: 844 });
  await other.goto(`${base}/#/`);
  await live(other, 'front-door').waitFor();
  await picture(other, 'phone.png');
  await other.setViewportSize({ width: 1280, height: 800 });
  await other.goto(`${base}/#/camera/front-door/default`);
  await other.locator('.picture[data-live="yes"]').waitFor();
  await other.locator('.rows li').nth(8).waitFor();
  await other.locator('.rows li').filter({ hasText: /crossed gate, (in|out) \(\d+\)/ }).first().waitFor();
  await other.locator('.tracks img').nth(2).waitFor();
  await accessible(other, 'camera with tracks');
  await other.locator('.picture[data-live="yes"]').waitFor();
  await picture(other, 'camera.png');
  say('tracks are told in words, and seen');
  await other.goto(`${base}/#/node`);
  await other.locator('.bars li').first().waitFor();
  await picture(other, 'node.png');
}

/** Streams of a page that is not seen are closed, and opened again when it is. */
async function hidden(page) {
  const set = (value) => page.evaluate((is) => {
    Object.defineProperty(document, 'hidden', { value: is, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, value);
  const watchers = async (wanted) => {
    for (const deadline = Date.now() + PATIENCE; ;) {
      const { watchers: now } = await (await fetch(`${base}/api/node`)).json();
      if (now.pictures === wanted.pictures && now.events === wanted.events) return;
      assert.ok(Date.now() < deadline, `${JSON.stringify(now)} and not ${JSON.stringify(wanted)}`);
      await page.waitForTimeout(100);
    }
  };
  // The other window is on a page without pictures.
  await watchers({ pictures: 1, events: 2 });
  await set(true);
  await watchers({ pictures: 0, events: 1 });
  await set(false);
  await watchers({ pictures: 1, events: 2 });
  say('a page that is not seen asks for nothing');
}

/** A node that serves no more watchers says so over the pictures, which are not shown as if they were live. */
async function tooMany(page) {
  page.expected = (text) => text.includes('Failed to load resource');
  await page.route((url) => url.pathname === '/api/live', (route) => route.fulfill({ status: 503, json: { error: 'too many watchers: close another page' } }));
  // Another width is asked for anew.
  await page.setViewportSize({ width: 1500, height: 800 });
  await tile(page, 'front-door').locator('.cover').filter({ hasText: 'too many watchers' }).waitFor();
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await live(page, 'front-door').waitFor();
  say('a node with too many watchers is said to have them');
}

async function goneAndBack(page) {
  page.expected = (text) => text.includes('Failed to load resource');
  await page.context().setOffline(true);
  await page.locator('h1').filter({ hasText: 'The node does not answer' }).waitFor();
  await tile(page, 'front-door').locator('.cover').filter({ hasText: /since \d\d:\d\d:\d\d/ }).waitFor();
  assert.match(await page.title(), /^\(!\) The node does not answer/);
  await page.context().setOffline(false);
  await page.locator('h1').filter({ hasText: '3 of 3 cameras see' }).waitFor();
  await live(page, 'front-door').waitFor();
  say('a node that is gone is said to be, and met again');
}

async function signIn() {
  const page = await open({ width: 900, height: 600 });
  page.expected = (text) => text.includes('401');
  page.complaints.splice(0, page.complaints.length, ...page.complaints.filter((text) => !text.includes('401')));
  await page.getByLabel('Token').waitFor();
  await picture(page, 'login.png');
  await accessible(page, 'login');
  await page.keyboard.type('not the token');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').filter({ hasText: /token/ }).waitFor();
  await accessible(page, 'login refused');
  say('a wrong token is refused');
  // Attempts are slowed.
  await page.waitForTimeout(1500);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.locator('h1').filter({ hasText: 'No camera is configured' }).waitFor();
  await page.locator('.items').filter({ hasText: 'twin_id' }).waitFor();
  await accessible(page, 'overview without cameras');
  say('the right token opens a page that says what to do first');
  await page.goto(`${base}/#/node`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  // A page whose session has ended goes to the login page.
  await page.getByLabel('Token').fill(token);
  await page.keyboard.press('Enter');
  await page.locator('h1').filter({ hasText: 'No camera is configured' }).waitFor();
  await page.context().clearCookies();
  await page.getByLabel('Token').waitFor();
  say('who signs out, or is signed out, is asked for the token again');
  await close(page);
}

await perform({ look, sign_in: signIn }[what]);
