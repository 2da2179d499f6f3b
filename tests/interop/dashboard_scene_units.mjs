// The parts of the dashboard that know tracks, zones, lines and masks, and nothing of a page: geometry, TOML, the editor's steps, sentences.
//   node --test tests/interop/dashboard_scene_units.mjs
import assert from 'node:assert/strict';
import { test } from 'node:test';

const dashboard = new URL('../../src/http/dashboard/', import.meta.url);
const load = (name) => import(new URL(name, dashboard));
const { area, contains, crossing, meeting, nearest, outlineProblem, shift, side, within } = await load('geometry.js');
const { freshName, labelsOf, problems, sameScene, sceneOf, toToml } = await load('scene.js');
const { SceneEdit } = await load('edit.js');
const { TrackBook } = await load('trackbook.js');
const { EventLog, ROWS, TRACKS } = await load('log.js');
const { trackWords } = await load('trackwords.js');
const { trackColour } = await load('palette.js');
const { besideLine, inArrow } = await load('overlay.js');
const { showShot, times, whereabouts } = await load('tracklist.js');
const { EditCanvas } = await load('canvas.js');
const { SaveState, failed } = await load('saving.js');

const SQUARE = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]];
const BOWTIE = [[0.2, 0.2], [0.8, 0.8], [0.8, 0.2], [0.2, 0.8]];

test('an outline that crosses or touches itself is refused, and it is said where', () => {
  assert.equal(outlineProblem(SQUARE), null);
  assert.equal(outlineProblem(SQUARE.toReversed()), null, 'in either direction');
  const { edges, at } = crossing(BOWTIE);
  assert.deepEqual([edges, at], [[0, 2], [0.5, 0.5]]);
  assert.equal(outlineProblem(BOWTIE).text, 'The edge from corner 3 to 4 would cross the one from corner 1 to 2.');
  assert.equal(crossing([[0, 0], [1, 0], [1, 1], [0.5, 0], [0, 1]]).at[0], 0.5, 'a corner on another edge');
  assert.deepEqual(crossing([[0, 0], [0.5, 0], [0.2, 0], [0.2, 0.5]]).edges, [0, 1], 'an edge that goes back over the one before');
  assert.deepEqual(crossing([[0.2, 0], [0.4, 0], [0.3, 0.5], [0.8, 0]]).edges, [0, 3], 'the last edge over the first');
  assert.match(outlineProblem([[0, 0], [0.5, 0], [0.5, 0], [0, 1]]).text, /Corner 3 is at the place of corner 2/);
  assert.match(outlineProblem([[0, 0], [0.5, 0], [0, 1], [0, 0]]).text, /Corner 1 is at the place of corner 4/);
  assert.match(outlineProblem([[0, 0], [1, 1]]).text, /at least 3 corners, and this one has 2/);
  assert.match(outlineProblem([[0, 0], [0.001, 0], [0, 0.001]]).text, /no area/);
  assert.equal(outlineProblem([[0, 0], [0.001, 0], [0.2, 0.3]]), null);
  // The node takes a millionth of the picture, and nothing smaller.
  assert.equal(outlineProblem([[0.3, 0.7], [0.302, 0.7], [0.3, 0.701]]), null);
  assert.match(outlineProblem([[0.3, 0.7], [0.302, 0.7], [0.3, 0.7009]]).text, /no area/);
  assert.match(outlineProblem(Array.from({ length: 33 }, (_, i) => [0.5 + 0.4 * Math.cos(i / 5.3), 0.5 + 0.4 * Math.sin(i / 5.3)])).text, /at most 32/);
  // While it is drawn it is open: the edge back to its beginning is not there yet.
  assert.equal(outlineProblem([[0, 0], [0.5, 0.5], [0.5, 0]], true), null);
  assert.equal(outlineProblem([[0.2, 0.2], [0.8, 0.8], [0.8, 0.2], [0.2, 0.8]], true).at[0], 0.5);
});

test('a star of many corners is whole, and one corner too far makes it cross itself', () => {
  const star = Array.from({ length: 20 }, (_, i) => {
    const [angle, far] = [(i / 20) * 2 * Math.PI, i % 2 ? 0.2 : 0.45];
    return within([0.5 + far * Math.cos(angle), 0.5 + far * Math.sin(angle)]);
  });
  assert.equal(outlineProblem(star), null);
  for (let i = 0; i < star.length; i += 1) assert.notEqual(outlineProblem(star.with(i, [1 - star[i][0], 1 - star[i][1]])), null, `corner ${i + 1} on the other side`);
});

test('points, sides and distances', () => {
  assert.deepEqual([contains(SQUARE, [0.5, 0.5]), contains(SQUARE, [0.1, 0.5]), contains([], [0, 0])], [true, false, false]);
  assert.ok(Math.abs(area(SQUARE) - 0.36) < 1e-9 && Math.abs(area(SQUARE.toReversed()) - 0.36) < 1e-9);
  // An arrow to the right has its right side below, since y grows downwards.
  assert.ok(side([0, 0.5], [1, 0.5], [0.5, 0.9]) > 0 && side([0, 0.5], [1, 0.5], [0.5, 0.1]) < 0);
  const { tip } = inArrow([0, 50], [100, 50], 20);
  assert.deepEqual(tip, [50, 70], 'the arrow shows the side that is in');
  assert.equal(meeting([0, 0], [1, 0], [0, 0.1], [1, 0.1]), null);
  assert.deepEqual(nearest([5, 5], [0, 0], [10, 0]), { at: [5, 0], distance: 5 });
  assert.equal(nearest([5, 5], [2, 1], [2, 1]).distance, 5);
  assert.deepEqual(within([-1, 0.12345]), [0, 0.1235]);
  assert.deepEqual(shift(SQUARE, [0.5, -0.1]), [[0.4, 0.1], [1, 0.1], [1, 0.7], [0.4, 0.7]], 'a shape stays in the picture and keeps its form');
});

test('the name of a line leaves the line and its arrow free, whichever way it runs', () => {
  const size = { width: 800, height: 450 };
  for (let turn = 0; turn < 24; turn += 1) {
    const [dx, dy] = [Math.cos((turn * Math.PI) / 12) * 120, Math.sin((turn * Math.PI) / 12) * 120];
    const [from, to] = [[400 - dx, 225 - dy], [400 + dx, 225 + dy]];
    const [x, y] = besideLine(from, to, 20, size);
    for (const corner of [[x - 20, y - 8], [x + 20, y - 8], [x - 20, y + 8], [x + 20, y + 8]]) {
      assert.ok(side(from, to, corner) < 0, `turn ${turn}: it is on the side that the arrow leaves`);
    }
    assert.ok(Math.hypot(x - from[0], y - from[1]) < Math.hypot(x - to[0], y - to[1]), `turn ${turn}: it stands at the beginning`);
  }
  // At an edge of the picture the other end has more room.
  assert.deepEqual(besideLine([400, 0], [400, 300], 20, size), [430, 300], 'an upright line that begins at the top has its name at its end');
});

test('TOML as the configuration has it', () => {
  const scene = { zones: [{ name: 'drive "way"\n\u007f', points: [[0, 0.123456], [1, 0.5], [0.1, 1]], labels: ['person', 'car'], minDwellMs: 1000, objects: { person: 1 } }, { name: 'b', points: SQUARE, labels: [] }],
    lines: [{ name: 'gate', from: [0.2, 0.8], to: [0.8, 0.8], labels: [], in: 3, out: 1 }], masks: [{ points: SQUARE.slice(1) }] };
  assert.equal(toToml(sceneOf(scene)), `[[cameras.zones]]
name = "drive \\"way\\"\\n\\u007f"
points = [[0.0, 0.1235], [1.0, 0.5], [0.1, 1.0]]
labels = ["person", "car"]
min_dwell_ms = 1000

[[cameras.zones]]
name = "b"
points = [[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]

[[cameras.lines]]
name = "gate"
from = [0.2, 0.8]
to = [0.8, 0.8]

[[cameras.masks]]
points = [[0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]
`);
  assert.equal(toToml(sceneOf(null)), '');
  assert.ok(sameScene(scene, sceneOf(scene)), 'counts are no part of it');
  const moved = (x) => ({ masks: [{ points: [[x, 0], [1, 0], [1, 1]] }] });
  assert.deepEqual([sameScene(moved(0.1234), moved(0.1235)), sameScene(moved(0.1235), moved(0.123456))], [false, true], 'as the node writes it');
  assert.deepEqual(labelsOf(' person, car,,person '), ['person', 'car']);
  assert.equal(freshName({ zones: [{ name: 'zone 1' }] }, 'zones'), 'zone 2');
});

test('what the node would refuse is said before', () => {
  const found = problems({ zones: [{ name: 'a', points: SQUARE }, { name: 'a', points: BOWTIE }, { name: ' ', points: SQUARE }], lines: [{ name: 'a', from: [0, 0], to: [0, 0] }], masks: [{ points: SQUARE.slice(2) }] });
  assert.deepEqual(found.map(({ kind, index }) => `${kind}${index}`), ['zones1', 'zones1', 'zones2', 'lines0', 'masks0']);
  assert.match(found[0].text, /Two zones have the name a/);
  assert.match(found[1].text, /^zone a: The edge from corner 3/);
});

test('what is in force may stay, whatever the page finds', () => {
  const odd = { zones: [{ name: 'odd', points: BOWTIE }, { name: 'odd', points: SQUARE }], lines: [], masks: [] };
  const edit = new SceneEdit(odd);
  assert.deepEqual(edit.problems, []);
  edit.begin('masks');
  for (const place of SQUARE) edit.addCorner(place);
  edit.finish();
  assert.deepEqual([edit.dirty, edit.problems], [true, []], 'so a mask can be saved');
  edit.select('zones', 1);
  edit.set('labels', ['person']);
  assert.deepEqual(edit.problems.map(({ text }) => text), ['Two zones have the name odd.'], 'what is changed is looked at');
  edit.select('zones', 0);
  edit.set('name', 'even');
  assert.match(edit.problems.map(({ text }) => text).join(), /^zone even: The edge/);
});

const SIZE = { width: 800, height: 600 };
const drawer = (scene) => {
  const edit = new SceneEdit(scene);
  const gesture = (reach) => ({
    tap: (...place) => { edit.down(place, SIZE, reach); edit.up(place, SIZE, reach); },
    drag: (...places) => {
      edit.down(places[0], SIZE, reach);
      for (const place of places.slice(1)) edit.move(place, SIZE, reach);
      edit.up(places.at(-1), SIZE, reach);
    },
  });
  return { edit, mouse: gesture(11), finger: gesture(24) };
};

test('a zone is drawn corner by corner, and a corner that crosses is not put', () => {
  const { edit, mouse } = drawer(null);
  edit.begin('zones');
  assert.ok(edit.dirty, 'what is half drawn would be lost');
  for (const place of SQUARE.slice(0, 3)) mouse.tap(...place);
  edit.move([0.5, 0.1], SIZE, 11);
  assert.deepEqual(edit.trouble.at.map((n) => Math.round(n * 1000) / 1000), [0.543, 0.2], 'it is said while one aims');
  mouse.tap(0.5, 0.1);
  assert.equal(edit.drawing.points.length, 3);
  mouse.tap(0.2, 0.8);
  assert.equal(edit.trouble, null);
  mouse.tap(0.205, 0.203);
  assert.equal(edit.drawing, null);
  assert.deepEqual(edit.scene.zones, [{ name: 'zone 1', points: SQUARE, labels: [], minDwellMs: 0 }]);
  assert.deepEqual(edit.selected, { kind: 'zones', index: 0 });
});

test('an outline whose last edge would cross is not finished', () => {
  const { edit, mouse } = drawer(null);
  edit.begin('masks');
  for (const place of [[0.5, 0.5], [0.9, 0.5], [0.9, 0.9], [0.1, 0.9], [0.1, 0.1], [0.98, 0.1], [0.98, 0.7]]) mouse.tap(...place);
  assert.equal(edit.finish(), false);
  assert.match(edit.trouble.text, /from corner 7 to 1 would cross the one from corner 2 to 3/);
  assert.notEqual(edit.drawing, null, 'nothing that was drawn is lost');
  edit.removeLastCorner();
  assert.equal(edit.finish(), true);
});

test('a line is one stroke or two taps, and can be turned round', () => {
  const { edit, finger } = drawer(null);
  edit.begin('lines');
  finger.drag([0.1, 0.5], [0.5, 0.5], [0.9, 0.6]);
  edit.begin('lines');
  finger.tap(0.1, 0.2);
  assert.notEqual(edit.drawing, null);
  finger.tap(0.9, 0.2);
  assert.deepEqual(edit.scene.lines.map(({ name, from, to }) => [name, from, to]), [['line 1', [0.1, 0.5], [0.9, 0.6]], ['line 2', [0.1, 0.2], [0.9, 0.2]]]);
  edit.swap();
  assert.deepEqual(edit.shape.from, [0.9, 0.2]);
  finger.drag([0.9, 0.2], [0.7, 0.3]);
  assert.deepEqual(edit.shape, { name: 'line 2', from: [0.7, 0.3], to: [0.1, 0.2], labels: [] });
});

test('corners are dragged, put on edges and taken away; what would cross stays as it was', () => {
  const { edit, mouse } = drawer({ zones: [{ name: 'a', points: SQUARE, labels: [], minDwellMs: 0 }] });
  mouse.tap(0.5, 0.5);
  assert.equal(edit.title, 'zone a');
  mouse.drag([0.8, 0.8], [0.9, 0.9]);
  assert.deepEqual(edit.shape.points[2], [0.9, 0.9]);
  edit.down([0.9, 0.9], SIZE, 11);
  edit.move([0.5, 0.1], SIZE, 11);
  assert.match(edit.trouble.text, /would cross/);
  assert.deepEqual(edit.refused[2], [0.5, 0.1]);
  assert.deepEqual(edit.shape.points[2], [0.9, 0.9], 'it keeps the last place that would do');
  edit.up([0.5, 0.1], SIZE, 11);
  assert.equal(edit.refused, null);
  mouse.drag([0.5, 0.2], [0.5, 0.3], [0.5, 0.4]);
  assert.deepEqual(edit.shape.points, [[0.2, 0.2], [0.5, 0.4], [0.8, 0.2], [0.9, 0.9], [0.2, 0.8]]);
  edit.undo();
  assert.equal(edit.shape.points.length, 4, 'to put a corner and to drag it is one step');
  edit.redo();
  assert.ok(edit.removeCorner(1));
  assert.ok(edit.removeCorner(0));
  assert.equal(edit.removeCorner(0), false);
  assert.match(edit.trouble.text, /at least 3 corners/);
  for (let steps = 0; edit.canUndo; steps += 1) { assert.ok(steps < 9); edit.undo(); }
  assert.equal(edit.dirty, false);
});

test('a shape is moved as a whole, a tap moves nothing, and an empty place lets go', () => {
  const { edit, finger } = drawer({ zones: [{ name: 'a', points: SQUARE, labels: [], minDwellMs: 0 }], masks: [{ points: SQUARE, labels: [] }] });
  finger.tap(0.5, 0.5);
  finger.drag([0.5, 0.5], [0.501, 0.5]);
  assert.equal(edit.dirty, false);
  finger.drag([0.5, 0.5], [0.51, 0.52], [0.55, 0.55], [0.6, 0.4]);
  assert.deepEqual(edit.scene.zones[0].points, [[0.3, 0.1], [0.9, 0.1], [0.9, 0.7], [0.3, 0.7]]);
  assert.deepEqual(edit.scene.masks[0].points, SQUARE, 'what lies below stays');
  finger.tap(0.02, 0.98);
  assert.equal(edit.selected, null);
});

test('a touch that the system takes for something else changes nothing', () => {
  const { edit } = drawer({ zones: [{ name: 'a', points: SQUARE, labels: [], minDwellMs: 0 }] });
  edit.select('zones', 0);
  for (const from of [[0.5, 0.5], [0.8, 0.8], [0.5, 0.2]]) {
    edit.down(from, SIZE, 24);
    edit.move([from[0] + 0.1, from[1] - 0.05], SIZE, 24);
    assert.equal(edit.dirty, true);
    edit.takeBack();
    assert.deepEqual([edit.dirty, edit.canUndo, edit.canRedo], [false, false, false]);
  }
  edit.begin('lines');
  edit.down([0.5, 0.5], SIZE, 24);
  edit.takeBack();
  assert.deepEqual(edit.drawing.points, []);
});

test('a gesture that made no step and is taken back leaves the steps before it', () => {
  const { edit, mouse } = drawer({ zones: [{ name: 'a', points: SQUARE, labels: [], minDwellMs: 0 }], masks: [{ points: [[0, 0], [0.1, 0], [0.1, 0.1]], labels: [] }] });
  edit.select('zones', 0);
  edit.set('name', 'yard');
  // Refused, since it would cross; and clamped, since it is at the edge of the picture already.
  edit.down([0.8, 0.8], SIZE, 11);
  edit.move([0.5, 0.1], SIZE, 11);
  assert.notEqual(edit.refused, null);
  edit.takeBack();
  assert.deepEqual([edit.shape.name, edit.canUndo], ['yard', true]);
  edit.undo();
  edit.select('masks', 0);
  edit.down([0, 0], SIZE, 11);
  edit.move([-0.2, -0.2], SIZE, 11);
  edit.takeBack();
  assert.deepEqual([edit.canUndo, edit.canRedo], [false, true], 'nor is what was undone forgotten');
  edit.redo();
  assert.equal(edit.scene.zones[0].name, 'yard');
  // The number of steps that are remembered does not matter.
  edit.select('zones', 0);
  for (let i = 0; i < 150; i += 1) mouse.drag([0.5, 0.5], [0.5 + (i % 2 ? -0.1 : 0.1), 0.5]);
  edit.down([0.5, 0.5], SIZE, 11);
  edit.move([0.6, 0.5], SIZE, 11);
  assert.deepEqual(edit.shape.points[0], [0.3, 0.2]);
  edit.takeBack();
  assert.deepEqual(edit.shape.points[0], [0.2, 0.2]);
});

/** As much of an element as `EditCanvas` asks for, with the gestures that a browser makes of clicks. */
function fakeCanvas(edit) {
  const element = () => {
    const listeners = {};
    return { dataset: {}, style: {}, firstChild: null, listeners, clientWidth: SIZE.width, clientHeight: SIZE.height, append() {}, insertBefore() {}, replaceChildren() {}, remove() {}, focus() {}, setPointerCapture() {}, setAttribute() {}, getAttribute: () => null, querySelector: () => null, contains: () => true,
      addEventListener: (type, listener) => { listeners[type] = listener; }, getBoundingClientRect: () => ({ left: 0, top: 0, ...SIZE }) };
  };
  Object.assign(globalThis, { document: { createElementNS: element, activeElement: null }, ResizeObserver: class { observe() {} disconnect() {} } });
  const { root } = new EditCanvas({ root: element(), canvas: SIZE }, edit, () => {});
  const send = (type, [x, y]) => root.listeners[type]({ type, clientX: x * SIZE.width, clientY: y * SIZE.height, button: 0, buttons: 1, isPrimary: true, pointerType: 'mouse', pointerId: 1, preventDefault() {} });
  const click = (place) => ['pointerdown', 'pointerup'].forEach((type) => send(type, place));
  return { click, twice: (place) => { click(place); click(place); send('dblclick', place); } };
}

test('a double click takes a corner away, but not the one that ends an outline', () => {
  const edit = new SceneEdit(null);
  const { click, twice } = fakeCanvas(edit);
  edit.begin('zones');
  SQUARE.slice(0, 3).forEach(click);
  twice(SQUARE[3]);
  assert.equal(edit.drawing, null);
  assert.deepEqual(edit.shape.points, SQUARE, 'ended at its last corner');
  edit.begin('zones');
  SQUARE.forEach(click);
  twice(SQUARE[0]);
  assert.deepEqual(edit.shape.points, SQUARE, 'ended at its first corner by the first of both');
  twice(SQUARE[3]);
  assert.deepEqual(edit.shape.points, SQUARE.slice(0, 3));
});

test('what is said of a save is true of what is drawn now', () => {
  const edit = new SceneEdit({ zones: [{ name: 'a', points: SQUARE, labels: [], minDwellMs: 0 }] });
  const state = new SaveState();
  const told = () => Object.values(state.of(edit)).join(': ');
  assert.equal(told(), 'idle: ');
  edit.select('zones', 0);
  edit.set('name', 'b');
  assert.equal(told(), 'idle: Not saved.');
  state.say('busy', 'Saving', edit.scene);
  assert.equal(told(), 'busy: Saving');
  edit.base = sceneOf(edit.scene);
  state.say('ok', 'Saved.', edit.scene);
  assert.equal(told(), 'ok: Saved.');
  edit.begin('zones');
  assert.equal(told(), 'idle: Not saved.', 'what is half drawn is not saved');
  edit.cancel();
  assert.equal(told(), 'idle: ');
  edit.select('zones', 0);
  edit.set('labels', ['x']);
  state.say('bad', 'Not saved: no.', edit.scene);
  assert.equal(told(), 'bad: Not saved: no.');
  edit.undo();
  assert.equal(told(), 'idle: ', 'nothing is left to save');
  edit.set('labels', ['y']);
  state.say('warn', 'Changed meanwhile.', edit.scene);
  edit.set('labels', ['z']);
  assert.equal(told(), 'warn: Changed meanwhile.', 'that is so of whatever is drawn');
  edit.discard();
  assert.equal(told(), 'idle: ');
});

test('a save of which nobody knows what came is not called refused', () => {
  for (const status of [0, 502, 503, 504]) assert.match(failed({ status, message: 'it takes long' }), /^It is not known whether it was saved: it takes long\. What you drew/);
  for (const status of [400, 403, 409, 422]) assert.equal(failed({ status, message: 'no' }), 'Not saved: no');
});

test('what is not saved outlives what the node says meanwhile', () => {
  const { edit } = drawer({ zones: [{ name: 'a', points: SQUARE, labels: [], minDwellMs: 0 }] });
  edit.select('zones', 0);
  const changed = { zones: [{ name: 'b', points: SQUARE, labels: [], minDwellMs: 0 }] };
  assert.equal(edit.rebase({ zones: [{ name: 'a', points: SQUARE }] }), false, 'it is as before');
  assert.equal(edit.rebase(changed), true);
  assert.equal(edit.shape.name, 'b', 'who has changed nothing sees what is in force');
  edit.set('name', 'm');
  edit.set('name', 'mine');
  assert.equal(edit.rebase({ zones: [] }), true);
  assert.equal(edit.shape.name, 'mine');
  edit.undo();
  assert.equal(edit.shape.name, 'b', 'a name that is written is one step');
  edit.discard();
  assert.deepEqual(edit.scene, { zones: [], lines: [], masks: [] });
});

const frame = { width: 100, height: 100 };
const detections = (sequence, at, ...objects) => ({ runId: 'r', sequence, timestamp: at, frame: { ...frame, receivedAt: at }, objects: objects.map(([trackId, x]) => ({ label: 'person', score: 0.5, trackId, box: { x, y: 0, width: 10, height: 50 } })) });
const told = (phase, track, more = {}) => ({ runId: 'r', timestamp: 9000, sequence: 1, phase, reason: 'confirmed', track: { id: '7', label: 'person', zones: [], firstSeenAt: 1000, lastSeenAt: 8000, stationary: false, ...track }, ...more });

test('the last five seconds of a track are its trail, up to the picture that is shown', () => {
  const book = new TrackBook();
  for (let i = 1; i <= 100; i += 1) book.event('detections', detections(i, i * 100, ['7', i / 2], [null, 90]), i);
  const [trail] = book.trails(detections(100, 10000));
  assert.deepEqual([trail.id, trail.points.length, trail.points.at(-1)], ['7', 50, { point: [0.55, 0.5], age: 0 }]);
  assert.ok(trail.points[0].age > 0.97);
  assert.equal(book.trails(detections(80, 8000))[0].points.at(-1).point[0], 0.45, 'a picture has nothing of later ones');
  assert.deepEqual(book.trails(null), []);
  book.event('detections', detections(101, 60000), 101);
  assert.deepEqual(book.trails(detections(101, 60000)), []);
});

test('tracks come from answers and events, and an answer does not undo an event that came after it was asked for', () => {
  const book = new TrackBook();
  book.answer({ runId: 'r', tracks: [{ id: '7', label: 'person', zones: ['path'], state: 'confirmed', bestShot: '/b' }, { id: '2', state: 'ended', endedAt: 5, zones: [] }] }, 1);
  assert.deepEqual([book.inZone('path'), book.ended.length], [{ person: 1 }, 1]);
  book.event('track', told('update', { zones: ['path', 'gate'] }), 10);
  assert.equal(book.live.get('7').bestShot, '/b');
  book.answer({ runId: 'r', tracks: [{ id: '7', label: 'person', zones: [], state: 'lost', bestShot: '/c' }] }, 9);
  assert.deepEqual(book.inZone('gate'), { person: 1 });
  assert.equal(book.live.get('7').bestShot, '/c');
  book.event('track', told('start', { id: '8' }), 11);
  book.answer({ runId: 'r', tracks: [] }, 10.5);
  assert.deepEqual([...book.live.keys()], ['8']);
  book.event('track', told('end', { id: '8' }, { reason: 'left' }), 12);
  book.answer({ runId: 'r', tracks: [{ id: '8', state: 'confirmed', zones: [] }] }, 11.5);
  assert.deepEqual([[...book.live.keys()], book.ended[0].reason], [[], 'left']);
  book.event('lineCrossed', { runId: 'r', line: 'gate', counts: { in: 4, out: 1 } }, 20);
  book.counted([{ name: 'gate', in: 3, out: 1 }, { name: 'door', in: 0, out: 0 }], 19);
  assert.deepEqual([...book.lines.values()], [{ in: 4, out: 1 }, { in: 0, out: 0 }]);
  book.counted([{ name: 'gate', in: 0, out: 0 }], 21);
  assert.deepEqual([...book.lines], [['gate', { in: 0, out: 0 }]], 'a line that was moved counts from 0');
  book.event('track', told('start', { id: '1' }, { runId: 'other' }), 30);
  assert.deepEqual([[...book.live.keys()], book.ended], [['1'], []], 'ids begin again in another run');
});

test('events of tracks in words', () => {
  const log = new EventLog();
  const say = (type, data) => { log.add(type, { camera: {}, ...data }); return log.rows[0]?.text; };
  assert.equal(say('track', told('start', {}, { sequence: 1 })), 'person 7 appeared');
  assert.equal(say('track', told('update', { zones: ['driveway'] }, { sequence: 2 })), 'person 7 came into driveway');
  assert.equal(say('lineCrossed', { ...told('', {}), sequence: 3, line: 'gate', direction: 'in', counts: { in: 12, out: 3 } }), 'person 7 crossed gate, in (12)');
  assert.equal(say('track', told('update', { zones: ['street', 'yard'], stationary: true }, { sequence: 4 })), 'person 7 came into street and yard, left driveway and stays where it is');
  assert.equal(say('track', told('end', { zones: ['street'] }, { sequence: 5, reason: 'left' })), 'person 7 left the picture');
  assert.equal(log.rows.length, 5);
  assert.equal(log.visible({ type: '!detections' }).length, 5);
  assert.equal(log.visible({ label: 'car' }).length, 0);
  assert.equal(trackWords(told('update', { label: 'dog' }), { label: 'person', zones: [], stationary: false }), 'dog 7 was taken for person before');
  assert.match(trackWords(told('end', {}, { reason: 'lost' })), /lost from sight/);
  assert.match(trackWords(told('end', {}, { reason: 'new one' })), /ended \(new one\)/);
});

test('a track that goes on as it was is no news, and does not part what is alike', () => {
  const log = new EventLog();
  log.add('track', told('start', {}, { sequence: 1 }));
  log.add('detections', detections(2, 100, ['7', 1]));
  log.add('track', told('update', {}, { sequence: 3 }));
  log.add('detections', detections(4, 200, ['7', 2]));
  log.add('detections', detections(6, 300, ['7', 2]));
  assert.deepEqual(log.rows.map(({ first, last }) => [first, last]), [[6, 6], [2, 4], [1, 1]]);
  for (let i = 10; i < 10 + 2 * ROWS; i += 2) log.add('detections', detections(i, i));
  assert.equal(log.rows.length, ROWS);
  assert.equal(log.rows.at(-1).type, 'track', 'lists of boxes do not displace what happened');
});

test('no more tracks are remembered than can live, the last ones that were told of', () => {
  const log = new EventLog();
  const say = (phase, id, zones = []) => log.add('track', told(phase, { id: String(id), zones }, { sequence: id }));
  for (let id = 1; id <= TRACKS; id += 1) say('start', id);
  say('update', 1);
  for (let id = 1; id <= 10; id += 1) say('start', TRACKS + id);
  for (let id = 2; id <= 11; id += 1) say('update', id, ['yard']);
  assert.equal(log.rows[0].text, `person ${TRACKS + 10} appeared`, 'of the oldest nothing is known, so nothing is told as new');
  say('update', 1, ['yard']);
  assert.equal(log.rows[0].text, 'person 1 came into yard');
});

test('a better shot is shown, and one that comes after all', () => {
  const loads = [];
  const picture = { dataset: {}, hidden: true, getAttribute: () => null, setAttribute() {}, set src(path) { loads.push(path); } };
  const track = { id: '7', label: 'person', topScore: 0.9 };
  showShot(picture, { ...track, bestShot: null });
  assert.deepEqual([picture.hidden, loads], [true, []]);
  showShot(picture, { ...track, bestShot: '/api/tracks/7/best.jpg?n=1' });
  showShot(picture, { ...track, bestShot: '/api/tracks/7/best.jpg?n=1', topScore: 0.95 });
  assert.deepEqual([picture.hidden, loads], [false, ['/api/tracks/7/best.jpg?n=1']], 'the same is not loaded again');
  picture.hidden = true; // As after a 404.
  showShot(picture, { ...track, bestShot: '/api/tracks/7/best.jpg?n=4' });
  assert.deepEqual([picture.hidden, loads.at(-1)], [false, '/api/tracks/7/best.jpg?n=4']);
});

test('where and when, in words', () => {
  const track = { state: 'confirmed', firstSeenAt: 0, lastSeenAt: 65000, zones: ['yard'], visitedZones: ['street', 'yard'], dwellMs: { yard: 61000, street: 400 } };
  assert.equal(whereabouts(track), 'in yard 1 min · was in street');
  assert.equal(whereabouts({ ...track, state: 'ended' }), 'was in street, yard 1 min');
  assert.match(times(track, 66000), /^since \d\d:\d\d:\d\d, for 1 min$/);
  assert.match(times({ ...track, state: 'lost' }, 66000), /, not seen since \d\d:01:05$/);
  assert.match(times({ ...track, state: 'ended', reason: 'left', endedAt: 67000 }, 0), /^left the picture at \d\d:01:07, after 1 min$/);
});

test('a colour stays with an id, and neighbours differ', () => {
  const hues = Array.from({ length: 12 }, (_, i) => Number(/ ([\d.]+) \//.exec(trackColour(String(i)))[1]));
  assert.equal(trackColour('7'), trackColour(7));
  for (let i = 1; i < hues.length; i += 1) {
    const apart = Math.abs(hues[i] - hues[i - 1]);
    assert.ok(Math.min(apart, 360 - apart) > 60, `${hues[i - 1]} and ${hues[i]}`);
  }
  assert.match(trackColour('not a number'), /^oklch/);
});
