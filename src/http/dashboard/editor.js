// The editor of zones, lines and masks: the buttons below the picture, and the panel beside it with names, TOML and what the node says to it.

import { put } from './api.js';
import { EditCanvas } from './canvas.js';
import { Rows, dot, h, mark, say, set, tell } from './dom.js';
import { SceneEdit } from './edit.js';
import { SaveState, failed } from './saving.js';
import { KINDS, LONGEST, LONG_STAY, MOST, labelsOf, sceneOf, titleOf, toToml } from './scene.js';

const SAVED = 'Saved, and in force.';

/** Whether the node would take a change, and if not, why not. */
export function mayEdit(facts) {
  if (facts?.edit === true) return { may: true, why: null };
  const why = facts?.editRefusal ?? 'this node takes no changes by this page: `http.edit` is not on';
  return { may: false, why: `${why[0].toUpperCase()}${why.slice(1)}. Until then, copy the TOML.` };
}

/** How one draws, in words. */
function howTo({ drawing, selected, shape }) {
  if (drawing && KINDS[drawing.kind].region) {
    return drawing.points.length < 3
      ? 'Click or tap each corner. Keys: arrows move the cross, Space puts a corner, Escape stops.'
      : 'Go on, or finish at the first corner, by the button or by Enter.';
  }
  if (drawing) return drawing.points.length ? 'Click or tap where the line ends.' : 'Draw the line, or click both of its ends. What crosses it from left to right, as seen along it, goes in.';
  if (selected && shape.points) return 'Drag corners, the middle of an edge for a new corner, or all of it. Keys: arrows move (Shift: further), + adds a corner after this one, Delete takes it away.';
  if (selected) return 'Drag its ends, or all of it. The arrow shows which way is in.';
  return 'Choose a shape in the picture or in the list, or draw a new one.';
}

export class Editor {
  #state = new SaveState();
  #saving = false;
  #savedAt = -Infinity;
  #shown = null;
  #confirmed = false;

  /** `camera` is `{key, twinId}`; `facts` those of the camera; `close` is called when somebody is done, `saved` when the node has taken it. */
  constructor({ picture, camera, facts, close, saved }) {
    Object.assign(this, { camera, facts, saved });
    this.edit = new SceneEdit(facts);
    const button = (text, click, more = {}) => h('button', { type: 'button', on: { click }, ...more }, text);
    const step = (does) => () => { does(); this.#changed(); };
    const begin = (kind) => step(() => { this.edit.begin(kind); this.canvas.focus(); });
    this.add = Object.keys(KINDS).map((kind) => button(`Add ${KINDS[kind].noun}`, begin(kind)));
    this.undo = button('Undo', step(() => this.edit.undo()), { 'aria-keyshortcuts': 'Control+Z' });
    this.redo = button('Redo', step(() => this.edit.redo()), { 'aria-keyshortcuts': 'Control+Shift+Z' });
    this.finish = button('Finish', step(() => this.edit.finish()), { class: 'first' });
    this.back = button('Remove last corner', step(() => { this.edit.removeLastCorner(); this.canvas.focus(); }));
    this.cancel = button('Cancel', step(() => this.edit.cancel()));
    this.hint = h('p', { class: 'hint', id: 'edit-hint', role: 'status' });
    this.tools = h('div', { class: 'edit-tools', role: 'toolbar', 'aria-label': 'Draw' }, this.add, this.finish, this.back, this.cancel, h('span', { class: 'push' }), this.undo, this.redo);
    this.foot = h('div', { class: 'edit-foot' }, this.tools, this.hint);

    this.list = h('ul', { class: 'shapes' });
    this.none = h('p', { class: 'dim' }, 'There is none yet.');
    this.form = h('div', { class: 'shape-form' });
    this.rows = new Rows(this.list, ({ kind, index }) => h('li', {}, button([dot('idle'), h('span', {}), h('span', { class: 'dim' })], step(() => this.edit.select(kind, index)))), (row, item) => this.#row(row, item));
    this.wrong = h('ul', { class: 'wrong-list' });
    this.state = h('p', { class: 'edit-state', role: 'status' });
    this.save = button('Save', () => this.#save(), { class: 'first' });
    this.discard = button('Discard changes', step(() => { this.edit.discard(); this.#state.clear(); }));
    this.leave = button('Close', () => { if (this.mayLeave()) close(); });
    this.may = h('p', { class: 'dim' });
    this.toml = h('code', {});
    this.copy = button('Copy', () => this.#copy());
    this.root = h('section', { class: 'panel editor', 'aria-labelledby': 'editor-title' },
      h('div', { class: 'editor-head' }, h('h2', { id: 'editor-title' }, 'Zones, lines and masks'), this.leave),
      this.none, this.list, this.form, this.wrong,
      h('div', { class: 'editor-save' }, this.save, this.discard), this.state, this.may,
      h('div', { class: 'editor-head' }, h('h3', {}, 'As TOML'), this.copy),
      h('p', { class: 'dim small' }, 'It stands below the ', h('code', {}, '[[cameras]]'), ' whose ', h('code', {}, 'twin_id'), ' is ', h('code', {}, camera.twinId), ', in place of the zones, lines and masks there.'),
      h('pre', { class: 'toml', tabindex: '0', role: 'region', 'aria-label': 'The TOML of it' }, this.toml));
    this.canvas = new EditCanvas(picture, this.edit, () => this.#changed());
    this.keys = (event) => this.#shortcut(event);
    document.addEventListener('keydown', this.keys);
    this.#changed();
  }

  /** True when nothing would be lost, or somebody says that it may be. */
  mayLeave() {
    return !this.edit.dirty || this.#confirmed || (this.#confirmed = confirm('What you drew is not saved. Leave it?'));
  }

  get unsaved() {
    return this.edit.dirty;
  }

  /** The node has answered anew what it was asked at `askedAt`. What is drawn stays. */
  update(facts, askedAt) {
    this.facts = facts;
    const wasDirty = this.edit.dirty;
    // An answer that was asked for before the node took what was saved is of before.
    const current = !this.#saving && askedAt >= this.#savedAt;
    if (current && this.edit.rebase(facts) && wasDirty) {
      // After a save of which nothing was known, the node may have what was drawn all the same.
      if (!this.edit.dirty) this.#say('ok', SAVED);
      else this.#say('warn', 'The node’s zones, lines and masks have changed meanwhile. To save puts yours in their place; to discard shows the node’s.');
    }
    this.canvas.fit();
    this.#changed();
  }

  #shortcut(event) {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || !['z', 'y'].includes(key) || event.target.matches?.('input')) return;
    event.preventDefault();
    if (key === 'y' || event.shiftKey) this.edit.redo();
    else this.edit.undo();
    this.#changed();
  }

  #say(tone, text) {
    this.#state.say(tone, text, this.edit.scene);
  }

  #changed() {
    this.#confirmed = false;
    const { edit } = this;
    const { drawing, trouble } = edit;
    this.canvas.render();
    this.add.forEach((button, i) => {
      button.hidden = drawing !== null;
      button.disabled = edit.scene[Object.keys(KINDS)[i]].length >= MOST;
    });
    for (const button of [this.finish, this.back, this.cancel]) button.hidden = drawing === null;
    this.finish.hidden ||= !KINDS[drawing.kind].region;
    this.finish.disabled = !(drawing?.points.length > 2);
    this.back.disabled = !drawing?.points.length;
    this.undo.disabled = drawing !== null || !edit.canUndo;
    this.redo.disabled = drawing !== null || !edit.canRedo;
    mark(this.hint, 'tone', trouble ? 'bad' : 'idle');
    say(this.hint, trouble ? trouble.text : howTo(edit));
    const items = Object.keys(KINDS).flatMap((kind) => edit.scene[kind].map((shape, index) => ({ kind, index, shape })));
    this.none.hidden = items.length > 0;
    const problems = edit.problems;
    this.rows.show(items.map((item) => ({ ...item, wrong: problems.some(({ kind, index }) => kind === item.kind && index === item.index) })), ({ kind, index }) => `${kind}${index}`);
    this.wrong.replaceChildren(...problems.map(({ text }) => h('li', {}, text)));
    this.#fillForm();
    const { may, why } = mayEdit(this.facts);
    const dirty = edit.dirty;
    this.save.disabled = this.#saving || !may || !dirty || drawing !== null || problems.length > 0;
    this.discard.disabled = this.#saving || !dirty;
    tell(this.may, may ? '' : why);
    this.may.hidden = may;
    const { tone, text } = this.#state.of(edit);
    mark(this.state, 'tone', tone);
    tell(this.state, text);
    const toml = toToml(edit.scene);
    say(this.toml, toml || '# no zones, lines or masks');
  }

  #row(row, { kind, index, shape, wrong }) {
    const [button] = row.children;
    const [shown, name, about] = button.children;
    const { selected } = this.edit;
    set(button, 'aria-pressed', String(selected?.kind === kind && selected.index === index));
    mark(shown, 'tone', wrong ? 'bad' : 'ok');
    shown.hidden = !wrong;
    say(name, shape.name || titleOf(kind, shape, index));
    say(about, `${KINDS[kind].noun}, ${shape.labels.join(', ') || 'all labels'}`);
  }

  /** The fields are made anew when another shape is chosen, and else only filled, so that nobody is interrupted. */
  #fillForm() {
    const { edit } = this;
    const { selected, shape } = edit;
    const which = selected ? `${selected.kind} ${selected.index} ${edit.scene[selected.kind].length}` : '';
    if (which !== this.#shown) {
      this.#shown = which;
      this.form.replaceChildren(...(selected ? this.#fields(selected, shape) : []));
    }
    if (!selected) return;
    const fill = (name, value) => {
      const input = this.form.querySelector(`[name="${name}"]`);
      if (input && document.activeElement !== input && input.value !== value) input.value = value;
    };
    fill('name', shape.name ?? '');
    fill('labels', shape.labels.join(', '));
    fill('dwell', String((shape.minDwellMs ?? 0) / 1000));
    for (const chip of this.form.querySelectorAll('[data-label]')) set(chip, 'aria-pressed', String(shape.labels.includes(chip.dataset.label)));
    say(this.form.querySelector('[data-remove]'), `Delete ${edit.title}`);
  }

  #fields({ kind }, shape) {
    const { edit } = this;
    const field = (name, label, more, input) => h('label', {}, h('span', {}, label), h('input', { name, autocomplete: 'off', ...more, on: { input: ({ target }) => { input(target.value); this.#changed(); } } }));
    const rows = [];
    if (KINDS[kind].named) rows.push(field('name', 'Name', { maxlength: String(LONGEST), spellcheck: 'false' }, (value) => edit.set('name', value.trim())));
    rows.push(field('labels', 'Labels', { placeholder: 'all', spellcheck: 'false' }, (value) => edit.set('labels', labelsOf(value))));
    // With `detections = "none"` only tracks tell what is seen.
    const followed = (this.facts.tracks ?? []).map(({ label }) => label);
    const known = [...new Set([...Object.keys(this.facts.objects ?? {}), ...followed, ...shape.labels])].sort().slice(0, 8);
    if (known.length) rows.push(h('div', { class: 'chips', role: 'group', 'aria-label': 'Labels that are seen here' }, known.map((label) => this.#chip(label))));
    if (kind === 'zones') rows.push(field('dwell', 'Counts after (s)', { type: 'number', min: '0', max: String(LONG_STAY / 1000), step: '0.1', inputmode: 'decimal' }, (value) => edit.set('minDwellMs', Math.min(LONG_STAY, Math.max(0, Math.round(Number(value) * 1000) || 0)))));
    const act = (text, does, more = {}) => h('button', { type: 'button', ...more, on: { click: () => { does(); this.#changed(); } } }, text);
    rows.push(h('div', { class: 'editor-save' },
      kind === 'lines' && act('Swap direction', () => edit.swap()),
      act('', () => { edit.remove(); this.canvas.focus(); }, { data: { remove: 'yes' } })));
    return rows;
  }

  #chip(label) {
    const toggle = () => {
      const { labels } = this.edit.shape;
      this.edit.set('labels', labels.includes(label) ? labels.filter((one) => one !== label) : [...labels, label]);
      this.#changed();
    };
    return h('button', { type: 'button', class: 'chip', data: { label }, on: { click: toggle } }, label);
  }

  async #save() {
    const wanted = sceneOf(this.edit.scene);
    this.#saving = true;
    this.#say('busy', 'Saving');
    this.#changed();
    try {
      const answer = await put(`/api/cameras/${this.camera.key}/scene`, wanted, this.edit.tag);
      this.edit.base = wanted;
      this.edit.tag = answer?.sceneTag ?? null;
      this.#savedAt = performance.now();
      this.#say('ok', SAVED);
      this.saved();
    } catch (error) {
      this.#say('bad', failed(error));
    }
    this.#saving = false;
    this.#changed();
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.toml.textContent);
      say(this.copy, 'Copied');
    } catch {
      // A page without TLS may not write there. Who sees it chosen can copy it by a key.
      getSelection().selectAllChildren(this.toml);
      say(this.copy, 'Chosen: copy it');
    }
    setTimeout(() => say(this.copy, 'Copy'), 2500);
  }

  destroy() {
    document.removeEventListener('keydown', this.keys);
    this.canvas.close();
    this.foot.remove();
    this.root.remove();
  }
}
