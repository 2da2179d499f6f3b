// The editor of zones, lines and masks in Chromium, against a node that runs.
//   dashboard_editor.mjs edit BASE OUT TOKEN   a node that takes changes, with a camera that sees
//   dashboard_editor.mjs read BASE OUT         a node that takes none
// It prints a line for each thing that it has seen.
import assert from 'node:assert/strict';

import { accessible, close, fits, open, perform, picture, say } from './dashboard_page.mjs';

const [what, base, , token] = process.argv.slice(2);
const CAMERA = '#/camera/front-door/default';
/** Where people walk in the clip. */
const PATH = [[0.3, 0.3], [0.95, 0.3], [0.95, 0.95], [0.3, 0.95]];

const facts = (page) => page.evaluate(async () => (await fetch('/api/cameras/front-door/default')).json());
const button = (page, name) => page.getByRole('button', { name, exact: true });
const toml = (page) => page.locator('.toml').textContent();

async function enter(page) {
  if (token) {
    page.expected = (text) => text.includes('401');
    page.complaints.splice(0, page.complaints.length, ...page.complaints.filter((text) => !text.includes('401')));
    await page.getByLabel('Token').fill(token);
    await button(page, 'Sign in').click();
    await page.locator('h1').filter({ hasText: 'sees' }).waitFor();
  }
  await page.goto(`${base}/${CAMERA}`);
  await page.locator('.picture[data-live="yes"]').waitFor();
}

/** Where something is in the window now. What is drawn anew at that moment has no place, and has one soon. */
async function boxOf(locator) {
  for (const limit = Date.now() + 30_000; Date.now() < limit;) {
    const box = await locator.boundingBox();
    if (box) return box;
  }
  throw new Error(`${locator} is nowhere`);
}

/** Where a part of the picture is in the window now. */
async function at(page, [x, y]) {
  const box = await boxOf(page.locator('.edit-canvas'));
  return [box.x + x * box.width, box.y + y * box.height];
}

async function byMouse(page) {
  await button(page, 'Draw zones and lines').click();
  await accessible(page, 'the editor of nothing');
  await button(page, 'Add zone').click();
  for (const corner of PATH.slice(0, 3)) await page.mouse.click(...await at(page, corner));
  await page.mouse.click(...await at(page, [0.6, 0.1]));
  await page.locator('.hint[data-tone="bad"]').filter({ hasText: 'The edge from corner 3 to 4 would cross the one from corner 1 to 2.' }).waitFor();
  const where = await boxOf(page.locator('.where'));
  const [, y] = await at(page, PATH[0]);
  assert.ok(Math.abs(where.y + where.height / 2 - y) < 3, 'the place where they would cross is on the first edge');
  assert.equal(await page.locator('circle.put').count(), 3, 'that corner is not put');
  say('an edge that crosses is refused at once, and shown');
  await page.mouse.click(...await at(page, PATH[3]));
  await page.mouse.click(...await at(page, PATH[0]));
  await page.getByLabel('Name').fill('path');
  await page.getByLabel('Labels', { exact: true }).fill('person');
  const drawn = (await toml(page)).match(/points = (.*)/)[1];
  JSON.parse(drawn).forEach(([x, y], i) => assert.ok(Math.hypot(x - PATH[i][0], y - PATH[i][1]) < 0.003 && `${x}`.length < 7 && `${y}`.length < 7, drawn));
  assert.equal(await toml(page), `[[cameras.zones]]\nname = "path"\npoints = ${drawn}\nlabels = ["person"]\n`);
  await picture(page, 'editor.png', 760);
  // A corner that is dragged over the opposite edge stays where it was allowed.
  const before = await toml(page);
  await page.mouse.move(...await at(page, PATH[2]));
  await page.mouse.down();
  await page.mouse.move(...await at(page, [0.6, 0.2]));
  await page.locator('.hint[data-tone="bad"]').filter({ hasText: 'would cross' }).waitFor();
  await page.mouse.up();
  assert.equal(await toml(page), before);
  await accessible(page, 'the editor with a zone');
  await fits(page, 'the editor');
  await button(page, 'Save').click();
  await page.locator('.edit-state[data-tone="ok"]').waitFor();
  const { zones } = await facts(page);
  assert.deepEqual(zones.map(({ name, points, labels }) => ({ name, points, labels })), [{ name: 'path', points: JSON.parse(drawn), labels: ['person'] }]);
  say('a zone that was drawn by mouse is in force');
}

/** What the node refuses is said in its words, and what was drawn is still there. */
async function refused(page) {
  page.expected = (text) => text.includes('422') || text.includes('503');
  await page.getByLabel('Labels', { exact: true }).fill('x'.repeat(140));
  await page.locator('.edit-state[data-tone="idle"]').filter({ hasText: /^Not saved\.$/ }).waitFor();
  // A node that is still at it after 15 s says so.
  await page.route('**/scene', (route) => route.fulfill({ status: 503, json: { error: 'the change is still being made' } }));
  await button(page, 'Save').click();
  await page.locator('.edit-state[data-tone="bad"]').filter({ hasText: /^It is not known whether it was saved: the change/ }).waitFor();
  await page.unroute('**/scene');
  await button(page, 'Save').click();
  const state = page.locator('.edit-state[data-tone="bad"]').filter({ hasText: /^Not saved: .*labels/ });
  await state.waitFor();
  say(`refused: ${await state.textContent()}`);
  assert.deepEqual((await facts(page)).zones[0].labels, ['person'], 'nothing of it is in force');
  assert.match(await toml(page), /x{140}/);
  await button(page, 'Undo').click();
  await page.locator('.shapes').filter({ hasText: 'zone, person' }).waitFor();
  assert.equal(await page.locator('.edit-state').textContent(), '', 'nothing is left to save, and nothing is said of it');
  page.expected = () => false;
}

async function byKeyboard(page) {
  await page.locator('.shapes button').first().focus();
  await page.keyboard.press('Enter');
  await page.locator('.handle').nth(1).focus();
  for (const key of ['ArrowUp', 'Shift+ArrowLeft', '+', 'ArrowDown', 'ArrowDown']) await page.keyboard.press(key);
  assert.match(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), /^Corner 3 of zone path, at /);
  const { length } = JSON.parse((await toml(page)).match(/points = (.*)/)[1]);
  assert.equal(length, 5);
  await page.keyboard.press('Delete');
  await page.keyboard.press('Control+z');
  assert.equal(JSON.parse((await toml(page)).match(/points = (.*)/)[1]).length, 5);
  say('corners are moved, put and taken away by keyboard');
}

/** Who goes elsewhere with something unsaved is asked, and stays if that was not meant. */
async function leaving(page) {
  const dismissed = async (act) => {
    const [dialog] = await Promise.all([page.waitForEvent('dialog').then(async (one) => { await one.dismiss(); return one; }), act()]);
    assert.match(dialog.message(), /not saved/);
    await page.waitForFunction((hash) => location.hash === hash, CAMERA);
  };
  await dismissed(() => page.getByRole('link', { name: 'Node', exact: true }).click());
  await dismissed(() => button(page, 'Close').click());
  assert.equal(await page.locator('.editor').count(), 1);
  say('what is not saved is not lost by going elsewhere');
}

/** A finger goes from place to place. */
async function stroke(page, from, to) {
  const session = await page.context().newCDPSession(page);
  const touch = (type, points) => session.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y]) => ({ x, y })) });
  await touch('touchStart', [from]);
  for (let i = 1; i <= 5; i += 1) await touch('touchMove', [[from[0] + ((to[0] - from[0]) * i) / 5, from[1] + ((to[1] - from[1]) * i) / 5]]);
  // It stops before it is lifted. The browser takes what is lifted in full motion for a fling, and the next tap for the end of that.
  for (let i = 0; i < 3; i += 1) {
    await page.waitForTimeout(60);
    await touch('touchMove', [to]);
  }
  await touch('touchEnd', []);
  await session.detach();
}

async function byTouch() {
  const page = await open({ width: 390, height: 844, hasTouch: true, isMobile: true });
  await enter(page);
  await button(page, 'Edit zones and lines').tap();
  await page.locator('.picture').scrollIntoViewIfNeeded();
  const tap = async (place) => page.touchscreen.tap(...await at(page, place));
  await button(page, 'Add line').tap();
  await tap([0.2, 0.55]);
  await tap([0.8, 0.6]);
  await page.locator('.shapes button[aria-pressed="true"]').filter({ hasText: 'line 1' }).waitFor();
  await stroke(page, await at(page, [0.8, 0.6]), await at(page, [0.9, 0.7]));
  await button(page, 'Add mask').tap();
  for (const corner of [[0.02, 0.02], [0.2, 0.02], [0.2, 0.2]]) await tap(corner);
  await button(page, 'Finish').tap();
  await fits(page, 'the editor on a phone');
  await accessible(page, 'the editor on a phone');
  await button(page, 'Save').tap();
  await page.locator('.edit-state[data-tone="ok"]').waitFor();
  const { lines, masks } = await facts(page);
  const near = (a, b) => assert.ok(Math.hypot(a[0] - b[0], a[1] - b[1]) < 0.03, `${a} and ${b}`);
  near(lines[0].from, [0.2, 0.55]);
  near(lines[0].to, [0.9, 0.7]);
  assert.equal(masks[0].points.length, 3);
  say('a line and a mask that were drawn by touch are in force');
  await close(page);
}

async function edit() {
  const page = await open();
  await enter(page);
  await byMouse(page);
  await refused(page);
  await byKeyboard(page);
  await leaving(page);
  await byTouch();
  await page.locator('.edit-state[data-tone="warn"]').filter({ hasText: 'have changed meanwhile' }).waitFor();
  assert.equal(JSON.parse((await toml(page)).match(/points = (.*)/)[1]).length, 5, 'what was drawn is still there');
  say('a change by somebody else is said, and takes nothing away');
  await button(page, 'Discard changes').click();
  await page.locator('.shapes').filter({ hasText: 'line 1' }).waitFor();
  await button(page, 'Close').click();
  await page.getByLabel('Type of events').selectOption('track');
  await page.locator('.rows li').filter({ hasText: /person \d+ (came into|appeared in) path/ }).first().waitFor();
  await page.locator('.tracks li').filter({ hasText: 'in path' }).first().waitFor();
  await page.waitForFunction(() => [...document.querySelectorAll('.tracks img')].some((image) => image.naturalWidth > 0));
  say('tracks come into the zone that was drawn');
  await accessible(page, 'the camera with zones');
  await close(page);
}

async function read() {
  const page = await open();
  await enter(page);
  await button(page, 'Draw zones and lines').click();
  await button(page, 'Add zone').click();
  for (const corner of PATH) await page.mouse.click(...await at(page, corner));
  await page.keyboard.press('Enter');
  assert.match(await toml(page), /^\[\[cameras\.zones\]\]\nname = "zone 1"\n/);
  await page.locator('.editor').filter({ hasText: 'http.edit' }).waitFor();
  assert.equal(await button(page, 'Save').isDisabled(), true);
  say('without leave to save there is TOML to copy, and it is said why');
  await button(page, 'Add mask').click();
  for (const corner of PATH.slice(0, 3)) await page.mouse.click(...await at(page, corner));
  await page.mouse.dblclick(...await at(page, PATH[3]));
  const [, mask] = (await toml(page)).split('[[cameras.masks]]\n');
  assert.equal(JSON.parse(mask.match(/points = (.*)/)[1]).length, 4);
  say('a double click ends an outline and leaves all of its corners');
  await button(page, 'Discard changes').click();
  await button(page, 'Close').click();
  for (const name of ['Boxes', 'Names', 'Trails', 'Zones', 'Lines', 'Masks']) {
    await button(page, name).click();
    assert.equal(await button(page, name).getAttribute('aria-pressed'), 'false');
  }
  await page.reload();
  await page.locator('.layers button[aria-pressed="false"]').nth(5).waitFor();
  say('layers that are hidden stay hidden');
  await close(page);
}

await perform({ edit, read }[what]);
