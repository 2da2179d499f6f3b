// The parts of the dashboard that know nothing of a page: multipart, pairing, the log, health in words.
//   node --test tests/interop/dashboard_units.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';

const dashboard = new URL('../../src/http/dashboard/', import.meta.url);
const load = (name) => import(new URL(name, dashboard));
const { MultipartParser } = await load('live.js');
const { Pairing } = await load('pair.js');
const { EventLog, ROWS } = await load('log.js');
const { condition, overall } = await load('health.js');
const { cameraKey, cameraOf, lasting, objects } = await load('format.js');
const { reason } = await load('reasons.js');
const { pause, pauseWhenGone } = await load('api.js');
const { boxless, tooFew } = await load('sight.js');
const { unexplained } = await load('settings.js');
const { legend } = await load('spark.js');
const { notesOf } = await load('node.js');

const bytes = (text) => new TextEncoder().encode(text);
const part = (sequence, body) => `--frame\r\ncontent-type: image/jpeg\r\nX-Sequence: ${sequence}\r\nContent-Length: ${bytes(body).length}\r\n\r\n${body}\r\n`;

test('parts come out whole however the bytes are cut', () => {
  // The body looks like the end of headers and like a boundary, and is neither.
  const bodies = ['first', '', '\r\n\r\n--frame\r\n\r\n', 'x'.repeat(70000)];
  const all = bytes(bodies.map((body, i) => part(i + 1, body)).join(''));
  for (const size of [1, 2, 3, 7, 64, 1000, all.length]) {
    const parser = new MultipartParser();
    const seen = [];
    for (let at = 0; at < all.length; at += size) seen.push(...parser.push(all.subarray(at, at + size)));
    assert.deepEqual(seen.map(({ body }) => new TextDecoder().decode(body)), bodies, `cut at ${size}`);
    assert.deepEqual(seen.map(({ headers }) => headers.get('x-sequence')), ['1', '2', '3', '4']);
  }
});

test('what is no multipart is refused, and nothing grows without end', () => {
  const refuses = (text, why) => assert.throws(() => new MultipartParser().push(bytes(text)), why);
  refuses('--frame\r\nContent-Type: image/jpeg\r\n\r\n', /length/);
  refuses('--frame\r\nContent-Length: 99999999999\r\n\r\n', /length/);
  refuses('--frame\r\nContent-Length: -1\r\n\r\n', /length/);
  refuses('<html>\r\n\r\n', /boundary/);
  refuses('x'.repeat(9000), /do not end/);
});

const event = (sequence, runId = 'a') => ({ runId, sequence, objects: [] });
const picture = (sequence) => ({ sequence });

test('a picture is drawn with the event of its sequence, whichever comes first', () => {
  const pairing = new Pairing();
  assert.equal(pairing.event('c', event(1)), null);
  assert.equal(pairing.picture('c', picture(1), 0).event.sequence, 1);
  assert.equal(pairing.picture('c', picture(2), 0), null);
  assert.equal(pairing.event('other', event(2)), null);
  assert.deepEqual(pairing.event('c', event(2)), { key: 'c', picture: picture(2), event: event(2) });
  assert.deepEqual(pairing.due(1e9), []);
});

test('a picture waits half a second, a newer one takes its place, and one without a number does not wait', () => {
  const pairing = new Pairing();
  pairing.picture('c', picture(5), 1000);
  assert.deepEqual(pairing.due(1499), []);
  assert.deepEqual(pairing.due(1500), [{ key: 'c', picture: picture(5), event: null }]);
  pairing.picture('c', picture(6), 2000);
  pairing.picture('c', picture(7), 2100);
  assert.equal(pairing.event('c', event(6)), null);
  assert.equal(pairing.event('c', event(7)).picture.sequence, 7);
  assert.deepEqual(pairing.picture('c', picture(null), 0), { key: 'c', picture: picture(null), event: null });
});

test('pictures of one event, as of a place in which nothing moves, wait once together', () => {
  const pairing = new Pairing();
  for (const at of [0, 200, 400]) assert.equal(pairing.picture('c', picture(5), at), null);
  assert.deepEqual(pairing.due(500), [{ key: 'c', picture: picture(5), event: null }]);
  pairing.event('c', event(5));
  for (const at of [600, 800]) assert.equal(pairing.picture('c', picture(5), at).event.sequence, 5);
});

test('64 events are kept, and none of another run or an earlier life', () => {
  const pairing = new Pairing();
  for (let i = 1; i <= 100; i += 1) pairing.event('c', event(i));
  assert.equal(pairing.picture('c', picture(36), 0), null);
  assert.equal(pairing.picture('c', picture(37), 0).event.sequence, 37);
  pairing.event('c', event(1, 'b'));
  assert.equal(pairing.picture('c', picture(90), 0), null);
  pairing.event('c', event(50, 'b'));
  pairing.event('c', event(1, 'b'));
  assert.equal(pairing.picture('c', picture(50), 0), null, 'the camera came back and counts from 1');
  pairing.restart();
  assert.deepEqual(pairing.due(1e9), []);
});

const seen = (sequence, ...labels) => ({ sequence, timestamp: sequence, objects: labels.map((label) => ({ label })), latencyMs: { total: 40 } });

test('the log folds what follows and is alike, filters, pauses and is bounded', () => {
  const log = new EventLog();
  log.add('detections', seen(1, 'person'));
  log.add('detections', seen(2, 'person'));
  log.add('detections', seen(4, 'person'));
  log.add('detections', seen(5, 'car', 'person'));
  log.add('cameraStatus', { state: 'stalled', since: 9, reason: null });
  log.add('missed', { count: 3 });
  assert.deepEqual(log.rows.map((row) => [row.type, row.first, row.last, row.times]), [
    ['missed', null, null, 1], ['cameraStatus', null, null, 1], ['detections', 5, 5, 1], ['detections', 4, 4, 1], ['detections', 1, 2, 2]]);
  assert.equal(log.visible({ label: 'CAR' }).length, 1);
  assert.equal(log.visible({ type: 'cameraStatus' }).length, 1);
  log.pause();
  for (let i = 10; i < 10 + 2 * ROWS; i += 2) log.add('detections', seen(i, 'dog'));
  assert.equal(log.visible().length, 5);
  assert.equal(log.behind, ROWS);
  log.resume();
  assert.equal(log.visible().length, ROWS);
});

const camera = (more) => ({ twinId: 'c', stream: 'default', name: 'Door', model: 'm', state: 'receiving', blind: false, problem: null, reason: null, attempt: 1, stateSeconds: 7, ...more });
const node = (more) => ({ hub: { state: 'joined', url: 'http://hub', since: null, reason: null }, models: [{ name: 'm', state: 'working', cameras: 1, error: null }], config: { reloadOk: true, lastRefusal: null }, shedding: { level: 0 }, unhealthy: [], ...more });
const health = (cameras, more) => overall({ reach: { state: 'ok' }, node: node(more), cameras });

test('every state of a camera has a word and what to do', () => {
  for (const [more, word, tone] of [
    [{}, 'sees', 'ok'],
    [{ blind: true }, 'blind', 'bad'],
    [{ state: 'connecting', blind: true }, 'connecting', 'idle'],
    [{ state: 'connecting', blind: true, attempt: 3 }, 'connecting', 'warn'],
    [{ state: 'stalled', blind: true }, 'stalled', 'warn'],
    [{ state: 'unreachable', blind: true }, 'unreachable', 'bad'],
    [{ state: 'rejected', blind: true }, 'rejected', 'bad'],
    [{ state: 'new one', blind: true }, 'new one', 'warn'],
  ]) {
    const told = condition(camera(more), node());
    assert.deepEqual([told.word, told.tone], [word, tone]);
    assert.equal(told.sees, told.text === null);
  }
  const failing = condition(camera({ blind: true }), node({ models: [{ name: 'm', state: 'set_aside', cameras: 1, error: null }] }));
  assert.equal(failing.word, 'model failing');
});

test('what a model or the pool is to blame for is told of them, and not of each camera again', () => {
  const away = (cameras) => [{ name: 'm', state: 'away', cameras, error: 'model m is away: grpc://server:8001: it is not reached', fallback: null }];
  const blind = camera({ blind: true, problem: 'Its frames come, and none is looked at: model m is away.' });
  const one = health([blind], { models: away(1) });
  assert.equal(one.headline, '0 of 1 cameras see, and a model is away');
  assert.deepEqual(one.items.map(({ title, text }) => [title, text]), [
    ['Model m is away', 'grpc://server:8001: it is not reached. Its 1 camera is blind meanwhile. See to its servers.'],
    ['Door: model away', null],
  ]);
  assert.match(health([], { models: away(0) }).items[0].text, /it is not reached\. No camera of this node needs it now\./);
  const share = (more) => ({ mode: 'pool', node: 'a', pool: 'shop', engine: 'etcd', members: [{ name: 'a', capacity: 1 }], held: 0, warm: 1, leaseRemainingMs: 0, trouble: 'etcd does not answer', ...more });
  const fenced = health([blind], { share: share(), models: away(1) });
  assert.equal(fenced.headline, '0 of 1 cameras see, and nothing is published');
  assert.deepEqual(fenced.items.map(({ title }) => title), ['The pool is in trouble', 'Model m is away']);
  assert.equal(fenced.items[0].text, 'Etcd does not answer. Nothing is published meanwhile.');
  assert.equal(condition(blind, node({ share: share() })).word, 'not published');
  // One that connects says so also then, and without a reason of the pool's the camera says what is wrong.
  assert.equal(condition(camera({ state: 'connecting', blind: true }), node({ share: share() })).word, 'connecting');
  assert.equal(health([blind], { share: share({ trouble: null }) }).items[0].title, 'Door: not published');
  const renewed = health([camera()], { share: share({ leaseRemainingMs: 4000, trouble: 'a renewal failed' }) });
  assert.equal(renewed.headline, '1 of 1 camera sees, but the pool is in trouble');
});

test('one sentence says whether everything is fine', () => {
  assert.deepEqual([health([camera()]).headline, health([camera()]).title], ['1 of 1 camera sees', 'Twinsight · 1 of 1 see']);
  assert.equal(health([camera(), camera()]).headline, '2 of 2 cameras see');
  assert.equal(health([]).headline, 'No camera is configured');
  const away = { hub: { state: 'away', url: 'http://hub', since: 0, reason: 'nothing listens there' } };
  assert.equal(health([camera()], away).headline, '1 of 1 camera sees, but the hub is away');
  const without = { hub: { mode: 'none', state: 'none', url: null, since: null, reason: null } };
  assert.deepEqual([health([camera()], without).tone, health([camera()], without).headline], ['ok', '1 of 1 camera sees']);
  const two = health([camera(), camera({ state: 'stalled', blind: true })], away);
  assert.equal(two.headline, '1 of 2 cameras sees, and the hub is away');
  assert.match(two.title, /^\(!\) 1 of 2/);
  assert.deepEqual(two.items.map(({ tone }) => tone), ['bad', 'warn']);
  const gone = overall({ reach: { state: 'gone', since: 0, retryAt: 4000, error: 'no connection', status: 0 }, node: null, cameras: null }, 0);
  assert.match(gone.items[0].text, /asks again in 4 s/);
  assert.match(gone.items[0].title, /^It has not answered since \d\d:\d\d:\d\d$/);
  assert.equal(gone.title, '(!) The node does not answer · Twinsight');
  assert.equal(health([camera({ state: 'stalled', blind: true })]).headline, '0 of 1 cameras see');
  assert.equal(health(Array.from({ length: 16 }, () => camera())).tiny, '16 of 16');
  const refused = health([camera()], { config: { reloadOk: false, lastRefusal: { reason: 'line 3: no' } } });
  assert.deepEqual([refused.tone, refused.items[0].text], ['warn', 'The last good one stays. Line 3: no.']);
});

test('reasons, numbers and pauses', () => {
  assert.equal(reason('frames', 'rate_limited').lost, false);
  assert.equal(reason('frames', 'stale').lost, true);
  assert.equal(reason('frames', 'unheard of').lost, true);
  assert.deepEqual([0.4, 59, 61, 7260, 90000].map(lasting), ['0 s', '59 s', '1 min', '2 h 1 min', '1 d 1 h']);
  assert.equal(objects({ person: 2, car: 1 }), '1 car, 2 person');
  const camera = { twinId: 'a/b (c)!', stream: 'ü' };
  assert.equal(cameraKey(camera), 'a%2Fb%20%28c%29%21/%C3%BC');
  assert.deepEqual([cameraOf(cameraKey(camera)), cameraOf('50%/x')], [camera, { twinId: '50%', stream: 'x' }]);
  assert.ok(pause(1) < 700 && pause(20) <= 12000);
  assert.ok([1, 3, 50].every((n) => pauseWhenGone(n, 1) <= 2000));
  assert.deepEqual([reason('frames', 'rate_limited').word, reason('events', 'hub_disconnected').word, reason('frames', 'new one').word], ['not due', 'not sent: hub away', 'new one']);
});

/** A history in which each step has so many frames inferred and lost; `steps` is a list of `[inferred, lost]`. */
const history = (steps, why = 'frames.stale') => ({ stepSeconds: 5, received: steps.map(() => 75), inferred: steps.map(([seen]) => seen), reasons: { [why]: steps.map(([, lost]) => lost), 'frames.rate_limited': steps.map(() => 900) } });
const times = (n, step) => Array.from({ length: n }, () => step);

test('a camera that looks at a fraction of its frames is amber, with why and what to do', () => {
  const starved = camera({ history: history(times(24, [1, 9])), settings: { maxAgeMs: 500 } });
  const told = condition(starved, node());
  assert.deepEqual([told.tone, told.word, told.sees], ['warn', 'sees too few', true]);
  assert.match(told.text, /^Of 120 frames that were due in the last minute 108 were too old for `max_age_ms` \(500 ms\): use fewer cameras, a lower `max_fps`, a faster model, or a larger `max_age_ms`\.$/);
  const all = health([starved, camera(), camera()]);
  assert.deepEqual([all.tone, all.headline, all.items[0].href], ['warn', '3 of 3 cameras see, but 1 of them too few frames', '#/camera/c/default']);
  assert.equal(health([starved]).headline, '1 of 1 camera sees too few frames');
  assert.match(condition(camera({ history: history(times(24, [1, 9]), 'frames.replaced') }), node()).text, /overtaken by newer ones/);
  // What is left out by design is no loss, and a few frames tell nothing.
  assert.equal(tooFew({ history: history(times(24, [5, 0])) }), null);
  assert.equal(tooFew({ history: history([[0, 5]]) }), null);
  assert.equal(tooFew({ history: history(times(4, [0, 50])) }), null, 'it has only begun');
  const many = health([starved, starved, starved]).items;
  assert.deepEqual(many.map(({ text }) => text === null), [false, true, true], 'what many are told is told once');
  assert.equal(tooFew({ history: null }), null);
});

test('who sees too few is not called so, blind and well by turns', () => {
  // A frame now and then: the node calls it blind in between.
  const seldom = history(times(24, [0, 10]).map((step, i) => (i % 3 ? step : [1, 10])));
  for (const blind of [true, false]) assert.equal(condition(camera({ blind, history: seldom }), node()).word, 'sees too few');
  assert.equal(condition(camera({ blind: true, history: history(times(24, [0, 10])) }), node()).word, 'blind');
  // About half of them: it is what it was before.
  const about = times(12, [6, 4]);
  assert.equal(tooFew({ history: history(about) }), null);
  assert.notEqual(tooFew({ history: history([...times(12, [2, 8]), ...about]) }), null);
  assert.equal(tooFew({ history: history([...times(12, [2, 8]), ...about, ...times(12, [9, 1])]) }), null);
});

test('a picture without boxes says why', () => {
  assert.deepEqual([boxless(undefined, true), boxless({ detections: 'all' }, true)], [null, null], 'a node before this page has boxes');
  const none = { detections: 'none', track: { enabled: true } };
  assert.equal(boxless(none, true), 'No boxes: `detections = "none"`; the tracks below tell what is seen.');
  assert.match(boxless(none, false), /the tracks on its page tell/);
  assert.match(boxless({ detections: 'none', track: { enabled: false } }, true), /no tracks either/);
  assert.match(reason('events', 'suppressed').text, /^nothing was seen and emit_empty is off, or detections = "none"$/);
  assert.equal(reason('events', 'suppressed').lost, false);
});

test('settings of a node without a file have the names of the file', () => {
  const told = unexplained({ maxFps: 10, classes: ['car'], track: { enabled: true, lostMs: 2000 } });
  assert.deepEqual(Object.entries(told).map(([key, { value }]) => [key, value]), [['max_fps', 10], ['classes', ['car']], ['track.enabled', true], ['track.lost_ms', 2000]]);
});

test('what was left out is told with the true time, and not before there was a frame', () => {
  const young = history(times(2, [5, 0]));
  assert.equal(legend(false, young, { accessUnitsReceived: 0 }, ''), 'No frame yet');
  assert.equal(legend(false, young, { accessUnitsReceived: 9 }, ''), 'Nothing lost in the last 10 s');
  assert.equal(legend(true, history(times(60, [5, 1])), { accessUnitsReceived: 9 }, '60 too old'), 'Lost in the last 5 minutes: 60 too old');
});

test('the page of the node says its own trouble in full, and links to that of cameras', () => {
  const items = health(['a', 'b', 'c', 'd', 'e'].map((twinId) => camera({ twinId, state: 'unreachable', blind: true })), { shedding: { level: 1 } }).items;
  const notes = notesOf(items);
  assert.deepEqual(notes.map(({ href }) => href), [null, '#/camera/a/default', '#/camera/b/default', '#/camera/c/default', '#/']);
  assert.equal(notes.at(-1).title, '2 more cameras');
});
