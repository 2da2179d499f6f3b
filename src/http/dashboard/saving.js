// What is said of saving, and for how long it is true. Nothing here knows of the page.

import { sameScene, sceneOf } from './scene.js';

/** Answers after which nobody knows whether the change was made: none at all, those of a proxy that got none, and that of a node that is still at it. */
const UNKNOWN = [0, 502, 503, 504];

/** Why a save did not go well, in words. */
export function failed({ status, message }) {
  return UNKNOWN.includes(status) ? `It is not known whether it was saved: ${message}. What you drew is still here.` : `Not saved: ${message}`;
}

const NOTHING = { tone: 'idle', text: '', of: null };

/**
 * The last thing that was said of a scene. `busy` stands until something else is said, `warn` until there is nothing to save, and what came
 * of a save, `ok` or `bad`, until another scene is drawn than the one that it was said of.
 */
export class SaveState {
  #said = NOTHING;

  say(tone, text, scene) {
    this.#said = { tone, text, of: sceneOf(scene) };
  }

  clear() {
    this.#said = NOTHING;
  }

  /** What is true of an edit now: `{tone, text}`. */
  of({ scene, dirty }) {
    const { tone, of } = this.#said;
    const isOther = of !== null && !sameScene(of, scene);
    const past = { ok: dirty || isOther, bad: isOther, warn: !dirty }[tone];
    if (past) this.clear();
    if (this.#said.text === '' && dirty) return { tone: 'idle', text: 'Not saved.' };
    return { tone: this.#said.tone, text: this.#said.text };
  }
}
