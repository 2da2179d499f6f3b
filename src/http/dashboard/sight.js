// Whether a camera sees enough: of the frames that were due, how many were looked at. Nothing here knows of the page.

import { count, ms } from './format.js';
import { reasonOf } from './reasons.js';

/** What is judged is the last minute, in seconds. */
const WINDOW = 60;
/** Fewer frames than this tell nothing, nor do those of fewer steps: where a camera begins, the first seconds are not its pace. */
const ENOUGH = 6;
/** A camera that loses more than this share sees too few, until it loses less than the other: between them nothing changes. */
const [ENTER, LEAVE] = [0.5, 0.35];

/** Why most of them were lost, as the end of a sentence, and what to do. */
const ADVICE = {
  stale: ({ maxAgeMs }) => [`were too old for \`max_age_ms\`${maxAgeMs ? ` (${ms(maxAgeMs)})` : ''}`, 'use fewer cameras, a lower `max_fps`, a faster model, or a larger `max_age_ms`'],
  replaced: () => ['were overtaken by newer ones, since this machine had no time for them', 'use fewer cameras, a lower `max_fps` or a faster model'],
  inference_failed: () => ['were lost as the model failed', 'look at the node’s log, and correct or replace the model'],
};

/** Why a camera's pictures have no boxes although it sees; `null` where they have. On its own page its tracks stand below the picture. */
export function boxless(settings, onItsPage) {
  if (settings?.detections !== 'none') return null;
  const why = 'No boxes: `detections = "none"`';
  if (settings.track?.enabled === false) return `${why}, and with \`track.enabled = false\` there are no tracks either.`;
  return onItsPage ? `${why}; the tracks below tell what is seen.` : `${why}; the tracks on its page tell what is seen.`;
}

/** For each reason by which frames that were due are lost, the counts of the steps. */
const losses = (history) => Object.entries(history.reasons ?? {})
  .filter(([key]) => key.startsWith('frames.') && reasonOf(key).lost)
  .map(([key, steps]) => ({ name: reasonOf(key).name, word: reasonOf(key).word, steps }));

const sum = (list) => list.reduce((a, b) => a + b, 0);

/**
 * `null` where a camera sees enough of what it should, else a sentence with what to do. The history is gone through from its
 * beginning, so that all pages say the same, and what they say does not change to and fro.
 */
export function tooFew({ history, settings }) {
  if (!history?.inferred?.length) return null;
  const lost = losses(history);
  if (lost.length === 0) return null;
  const width = Math.max(1, Math.round(WINDOW / history.stepSeconds));
  const window = (steps, end) => sum(steps.slice(Math.max(0, end - width), end));
  const due = history.inferred.map((number, i) => number + sum(lost.map(({ steps }) => steps[i] ?? 0)));
  let few = false;
  let [seen, missed] = [0, 0];
  for (let end = 1; end <= history.inferred.length; end += 1) {
    seen = window(history.inferred, end);
    missed = sum(lost.map(({ steps }) => window(steps, end)));
    const share = missed / Math.max(1, seen + missed);
    if (seen + missed < ENOUGH || due.slice(Math.max(0, end - width), end).filter(Boolean).length < ENOUGH) few = false;
    else few = share > (few ? LEAVE : ENTER);
  }
  if (!few) return null;
  const last = history.inferred.length;
  const [{ name, word }] = lost.toSorted((a, b) => window(b.steps, last) - window(a.steps, last));
  const [why, remedy] = ADVICE[name]?.(settings ?? {}) ?? [`were lost (${word})`, 'the node’s log may say more'];
  return { seen, name, text: `Of ${count(seen + missed)} frames that were due in the last minute ${count(missed)} ${why}: ${remedy}.` };
}
