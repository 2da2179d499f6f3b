// The buttons that show and hide what lies over a picture. What somebody chose stays in this browser.

import { h } from './dom.js';
import { LAYERS } from './overlay.js';

const KEY = 'twinsight.hidden-layers';

/** A browser that keeps nothing, as in a private window, shows all of it again. */
function remembered() {
  try {
    return new Set(JSON.parse(localStorage.getItem(KEY) ?? '[]'));
  } catch {
    return new Set();
  }
}

export class Layers {
  /** The layers that are shown. */
  shown = new Set(Object.keys(LAYERS));

  constructor() {
    for (const name of remembered()) this.shown.delete(name);
    this.root = h('div', { class: 'layers', role: 'group', 'aria-label': 'Shown over the picture' }, Object.entries(LAYERS).map(([name, text]) => {
      const button = h('button', { type: 'button', 'aria-pressed': String(this.shown.has(name)), on: { click: () => this.#toggle(name, button) } }, text);
      return button;
    }));
  }

  #toggle(name, button) {
    if (!this.shown.delete(name)) this.shown.add(name);
    button.setAttribute('aria-pressed', String(this.shown.has(name)));
    try {
      localStorage.setItem(KEY, JSON.stringify(Object.keys(LAYERS).filter((one) => !this.shown.has(one))));
    } catch {
      // It is only not remembered.
    }
  }
}
