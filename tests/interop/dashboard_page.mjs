// A browser and its pages, for the scripts that look at the dashboard. Their arguments are WHAT BASE OUT …, where BASE is the node's address
// and OUT the folder for pictures of the page.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const [, base, out] = process.argv.slice(2);
const modules = createRequire(`${process.env.TWINSIGHT_NODE_MODULES}/`);
const { chromium } = modules('playwright-core');
const axeSource = fs.readFileSync(modules.resolve('axe-core/axe.min.js'), 'utf8');

/** Everything is waited for at most so long. */
export const PATIENCE = 45000;
export const say = (line) => console.log(line);

export const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-background-timer-throttling', '--disable-backgrounding-occluded-windows', '--disable-renderer-backgrounding',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
});

/** A page whose errors and requests are watched. `expected` says what of the console is part of the test. */
export async function open({ width = 1280, height = 800, colorScheme = 'dark', hash = '', ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce', ...more });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.complaints = [];
  page.asked = [];
  page.expected = () => false;
  page.on('console', (message) => {
    if (message.type() === 'error' && !page.expected(message.text())) page.complaints.push(message.text());
  });
  page.on('pageerror', (error) => page.complaints.push(error.stack));
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'blob:' && url.origin !== base) page.complaints.push(`it asks ${request.url()}`);
    page.asked.push(url);
  });
  await page.addInitScript(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => {
      for (const { value, sources } of list.getEntries()) globalThis.shifts.push({ value, of: sources.map(({ node }) => node?.className ?? node?.nodeName) });
    }).observe({ type: 'layout-shift', buffered: true });
  });
  await page.goto(`${base}/${hash}`);
  return page;
}

export async function close(page) {
  assert.deepEqual(page.complaints, []);
  await page.context().close();
}

/** A picture of the upper part of the page for people. */
export async function picture(page, name, height) {
  const { width, height: all } = page.viewportSize();
  await page.screenshot({ path: path.join(out, name), clip: { x: 0, y: 0, width, height: Math.min(height ?? all, all) } });
}

/** No serious violation of accessibility, in both colour schemes. */
export async function accessible(page, name) {
  await page.evaluate(axeSource);
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const violations = await page.evaluate(async () => {
      const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
      return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('; ')}`);
    });
    assert.deepEqual(violations, [], `${name}, ${colorScheme}`);
  }
}

/** Nothing sticks out to the side. */
export async function fits(page, name) {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `${name} is ${wide} pixels wide in a window of ${room}`);
}

/** Runs one of the parts, and tells the caller how it went. */
export async function perform(part) {
  try {
    await part();
    say('done');
  } catch (error) {
    // The caller reads this and nothing else.
    say(`failed: ${error.stack.replaceAll('\n', ' | ')}`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}
