// Elements are made here, of text that stays text: names, labels and reasons come from the network.

/** An element. `props` are attributes; `on` has listeners, `data` what goes into `dataset`. Children are nodes or text. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === 'on') for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = 'http://www.w3.org/2000/svg';

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Children that stay while what they show changes, so that none loses the focus. `create(item)` makes one, and `update(element, item)` fills it. */
export class Rows {
  #elements = new Map();

  constructor(parent, create, update) {
    Object.assign(this, { parent, create, update });
  }

  /** Shows these, in their order. `key` says which is which. */
  show(items, key) {
    let next = this.parent.firstChild;
    const kept = new Set();
    for (const item of items) {
      const name = key(item);
      kept.add(name);
      let element = this.#elements.get(name);
      if (!element) {
        element = this.create(item);
        this.#elements.set(name, element);
      }
      this.update(element, item);
      if (element === next) next = next.nextSibling;
      else this.parent.insertBefore(element, next);
    }
    for (const [name, element] of this.#elements) {
      if (kept.has(name)) continue;
      element.remove();
      this.#elements.delete(name);
    }
  }
}

/** Sets an element's text where it differs, so that nothing is laid out anew and no reader says it again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The pieces of a sentence of the node, which writes names between backticks. */
function pieces(text) {
  const parts = text.split('`');
  // An odd backtick is only a character.
  return parts.length % 2 ? parts.map((part, i) => (i % 2 ? h('code', {}, part) : part)) : [text];
}

/** A sentence of the node as an element; a dash where there is none. */
export const told = (text) => h('span', {}, ...pieces(text ?? '–'));

/** Sets an element to such a sentence where it differs. */
export function tell(element, text) {
  if (element.dataset.told === text) return;
  element.dataset.told = text;
  element.replaceChildren(...pieces(text));
}

/** Sets an attribute where it differs. */
export function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Sets a field of `dataset` where it differs. */
export function mark(element, name, value) {
  if (element.dataset[name] !== value) element.dataset[name] = value;
}

/** A shape for a tone, since colour alone tells not everybody. The words beside it say the same. */
export const dot = (tone) => h('i', { class: 'mark', 'aria-hidden': 'true', data: { tone } });

/** A shape and the word beside it. */
export const marked = (tone, text) => h('span', { class: 'marked' }, dot(tone), text);

/** A list of terms and what they are; each value is text or a node. A `long` value is a sentence below its term. */
export function facts(rows) {
  return h('dl', { class: 'facts' }, rows.filter(Boolean).map(([term, value, tone, long]) =>
    h('div', { class: long ? 'long' : null }, h('dt', {}, term), h('dd', tone ? { data: { tone } } : {}, value))));
}

/** A table that can be scrolled sideways by keyboard, too. On a phone its rows are `blocks`, where each cell that is not empty has its head beside it. */
export function table(caption, heads, rows, { blocks = true } = {}) {
  const labelled = (content, i) => {
    const cell = content instanceof HTMLTableCellElement ? content : h('td', {}, content);
    cell.dataset.label = heads[i];
    if (i > 0 && cell.textContent === '–') cell.dataset.empty = 'yes';
    return cell;
  };
  return h('div', { class: blocks ? 'scroll blocks' : 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', {},
      h('caption', { class: 'unseen' }, caption),
      h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))),
      h('tbody', {}, rows.map((cells) => h('tr', {}, cells.map(labelled))))));
}
