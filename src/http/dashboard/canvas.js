// The editor's drawing over the picture: shapes, handles and what the pointer and the keys do to them. It shows a `SceneEdit`, and changes it.

import { Rows, h, mark, set, svg } from './dom.js';
import { roomy } from './edit.js';
import { middle } from './geometry.js';
import { besideLine, inArrow } from './overlay.js';
import { lineColour, zoneColour } from './palette.js';
import { KINDS, pointsOf, titleOf } from './scene.js';

/** How far from a handle one may be to grasp it, in pixels: with a mouse, and with a finger. */
const REACH = { mouse: 11, pen: 16, touch: 24 };
/** How far a key moves something, in parts of the picture: alone, and with Shift. */
const [STEP, LEAP] = [0.005, 0.05];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const text = (points, { width, height }) => points.map(([x, y]) => `${(x * width).toFixed(1)},${(y * height).toFixed(1)}`).join(' ');

/** About half as wide as a word is, in pixels. */
const halfOf = (word) => 4 * word.length;

export class EditCanvas {
  #size = { width: 1, height: 1 };
  #wanted = null;

  /** `picture` is the box that it lies over, `edit` the `SceneEdit`, and `changed` is called after each step. */
  constructor(picture, edit, changed) {
    Object.assign(this, { picture, edit, changed });
    this.shapes = svg('g', { 'aria-hidden': 'true' });
    this.sketch = svg('g', { 'aria-hidden': 'true' });
    this.handles = svg('g', {});
    this.root = svg('svg', { class: 'edit-canvas', tabindex: '0', role: 'application', 'aria-label': 'The picture, to draw on', 'aria-describedby': 'edit-hint' }, this.#defs(), this.shapes, this.sketch, this.handles);
    this.rows = new Rows(this.handles, (handle) => this.#handle(handle), (element, handle) => this.#place(element, handle));
    for (const [type, does] of Object.entries({ pointerdown: this.#down, pointermove: this.#move, pointerup: this.#up, pointercancel: this.#up, pointerleave: this.#leave, keydown: this.#key, dblclick: this.#twice })) {
      this.root.addEventListener(type, does.bind(this));
    }
    picture.root.append(this.root);
    this.resize = new ResizeObserver(() => this.fit());
    this.resize.observe(picture.root);
    this.fit();
  }

  #defs() {
    return svg('defs', {}, svg('pattern', { id: 'hatch', width: '9', height: '9', patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
      svg('rect', { width: '9', height: '9', fill: 'rgba(4, 12, 20, 0.35)' }), svg('path', { d: 'M0 0V9', stroke: 'rgba(231, 235, 240, 0.7)', 'stroke-width': '2.4' })));
  }

  /** Lies exactly where the picture is, which may be narrower or lower than its box. */
  fit() {
    const { clientWidth, clientHeight } = this.picture.root;
    const { width, height } = this.picture.canvas;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    const next = { width: Math.round(width * scale), height: Math.round(height * scale) };
    if (next.width === this.#size.width && next.height === this.#size.height) return;
    this.#size = next;
    Object.assign(this.root.style, { left: `${(clientWidth - next.width) / 2}px`, top: `${(clientHeight - next.height) / 2}px`, width: `${next.width}px`, height: `${next.height}px` });
    this.render();
  }

  #at({ clientX, clientY }) {
    const { left, top, width, height } = this.root.getBoundingClientRect();
    return [(clientX - left) / width, (clientY - top) / height];
  }

  #reach = ({ pointerType }) => REACH[pointerType] ?? REACH.mouse;

  #down(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    this.root.setPointerCapture(event.pointerId);
    const found = this.edit.drawing ? null : this.edit.at(this.#at(event), this.#size, this.#reach(event));
    this.edit.down(this.#at(event), this.#size, this.#reach(event));
    this.changed();
    // Keys go on with what the pointer has touched.
    const corner = found?.part === 'corner' ? found.corner : found?.part === 'middle' ? found.edge + 1 : null;
    this.focus(corner);
  }

  #move(event) {
    if (!event.isPrimary) return;
    const [place, reach] = [this.#at(event), this.#reach(event)];
    if (!this.edit.drawing && event.buttons === 0) {
      const found = this.edit.at(place, this.#size, reach);
      mark(this.root, 'over', found?.part ?? '');
      return;
    }
    this.edit.move(place, this.#size, reach);
    this.changed();
  }

  #up(event) {
    if (!event.isPrimary || event.button > 0) return;
    if (event.type === 'pointerup') this.edit.up(this.#at(event), this.#size, this.#reach(event));
    else this.edit.takeBack();
    // A finger that is gone points at nothing.
    if (event.pointerType !== 'mouse' && this.edit.drawing) this.edit.drawing.cursor = null;
    this.changed();
  }

  #leave(event) {
    if (!this.edit.drawing || event.buttons !== 0 || event.pointerType !== 'mouse') return;
    this.edit.drawing.cursor = null;
    this.render();
  }

  /** Twice on a corner takes it away. */
  #twice(event) {
    if (this.edit.twice(this.#at(event), this.#size, REACH.mouse)) this.changed();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.edit.drawing ? this.#drawingKey(event) : this.#shapeKey(event)) {
      event.preventDefault();
      event.stopPropagation();
      this.changed();
    }
  }

  #drawingKey({ key, shiftKey }) {
    const { drawing } = this.edit;
    const arrow = ARROWS[key];
    if (arrow) {
      const [x, y] = drawing.cursor ?? drawing.points.at(-1) ?? [0.5, 0.5];
      const step = shiftKey ? LEAP : STEP;
      this.edit.aim([x + arrow[0] * step, y + arrow[1] * step]);
    } else if (key === ' ') this.edit.addCorner(drawing.cursor ?? [0.5, 0.5]);
    else if (key === 'Enter') this.edit.finish();
    else if (key === 'Escape') this.edit.cancel();
    else if (key === 'Backspace' || key === 'Delete') this.edit.removeLastCorner();
    else return false;
    return true;
  }

  #shapeKey({ key, shiftKey, target }) {
    if (!this.edit.selected) return false;
    const corner = target.dataset?.corner === undefined ? null : Number(target.dataset.corner);
    const arrow = ARROWS[key]?.map((part) => part * (shiftKey ? LEAP : STEP));
    const points = pointsOf(this.edit.shape);
    if (arrow && corner !== null) this.edit.moveCorner(corner, [points[corner][0] + arrow[0], points[corner][1] + arrow[1]]);
    else if (arrow) this.edit.moveShape(arrow);
    else if (key === 'Escape') this.edit.select(null);
    else if ((key === 'Delete' || key === 'Backspace') && corner !== null && this.edit.shape.points) {
      if (this.edit.removeCorner(corner)) this.#wanted = Math.max(0, corner - 1);
    } else if (key === 'Delete' || key === 'Backspace') {
      this.edit.remove();
      this.#wanted = -1;
    } else if ((key === 'Insert' || key === '+') && corner !== null && this.edit.shape.points) this.#wanted = this.edit.insertCorner(corner) ?? corner;
    else return false;
    return true;
  }

  /** Gives the focus to a corner's handle, or to the picture. */
  focus(corner = null) {
    const handle = corner === null ? null : this.handles.querySelector(`[data-corner="${corner}"]`);
    (handle ?? this.root).focus({ preventScroll: true });
  }

  #handle() {
    return svg('g', { class: 'handle', tabindex: '0', role: 'button' }, svg('circle', { class: 'grip', r: '7' }), svg('circle', { class: 'ring', r: '12' }));
  }

  #place(element, { corner, point, name }) {
    set(element, 'transform', `translate(${(point[0] * this.#size.width).toFixed(1)} ${(point[1] * this.#size.height).toFixed(1)})`);
    mark(element, 'corner', String(corner));
    set(element, 'aria-label', `${name}, at ${point[0].toFixed(3)}, ${point[1].toFixed(3)}`);
  }

  render() {
    const { scene, selected, shape, drawing, trouble, refused } = this.edit;
    mark(this.root, 'drawing', drawing ? 'yes' : 'no');
    this.shapes.replaceChildren(...['masks', 'zones', 'lines'].flatMap((kind) => scene[kind].map((one, index) => this.#shape(kind, one, index, selected?.kind === kind && selected.index === index))));
    this.sketch.replaceChildren(...this.#sketch(drawing, refused, trouble));
    const corners = !shape || drawing ? [] : pointsOf(shape).map((point, corner) => ({ corner, point, name: shape.points ? `Corner ${corner + 1} of ${titleOf(selected.kind, shape, selected.index)}` : `${corner ? 'End' : 'Beginning'} of ${titleOf(selected.kind, shape, selected.index)}` }));
    const focused = document.activeElement?.dataset?.corner;
    this.rows.show(corners, ({ corner }) => corner);
    // Who deletes what has the focus is not thrown out of the picture.
    if (this.#wanted !== null) this.focus(this.#wanted < 0 ? null : this.#wanted);
    else if (focused !== undefined && !this.root.contains(document.activeElement)) this.focus(corners.length ? Math.min(Number(focused), corners.length - 1) : null);
    this.#wanted = null;
  }

  #shape(kind, one, index, isSelected) {
    const { width, height } = this.#size;
    const points = pointsOf(one);
    const colour = kind === 'zones' ? zoneColour(index) : kind === 'lines' ? lineColour() : 'rgba(231, 235, 240, 0.9)';
    const group = svg('g', { class: 'shape', 'data-kind': kind, 'data-selected': isSelected ? 'yes' : 'no' });
    if (one.points) {
      const fill = kind === 'masks' ? 'url(#hatch)' : zoneColour(index, isSelected ? 0.34 : 0.18);
      group.append(svg('polygon', { points: text(points, this.#size), class: 'casing' }), svg('polygon', { points: text(points, this.#size), fill, stroke: colour }));
    } else {
      const [a, b] = points.map(([x, y]) => [x * width, y * height]);
      const { foot, tip, wings } = inArrow(a, b, 22);
      const d = `M${a}L${b}M${foot}L${tip}M${wings[0]}L${tip}L${wings[1]}`;
      group.append(svg('path', { d, class: 'casing' }), svg('path', { d, fill: 'none', stroke: colour }));
      group.append(this.#word('in', [tip[0] + (tip[0] - foot[0]) * 0.5, tip[1] + (tip[1] - foot[1]) * 0.5]));
      if (isSelected) {
        // Beyond the ends, where neither the line nor its name is.
        const long = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
        const [ux, uy] = [(b[0] - a[0]) / long, (b[1] - a[1]) / long];
        const beyond = Math.abs(ux) * 16 + 16;
        group.append(this.#word('from', [a[0] - ux * beyond, a[1] - uy * beyond]), this.#word('to', [b[0] + ux * beyond, b[1] + uy * beyond]));
      }
    }
    if (isSelected && one.points) {
      points.forEach((point, i) => {
        const next = points[(i + 1) % points.length];
        if (!roomy(point, next, this.#size)) return;
        const [x, y] = middle(point, next);
        group.append(svg('circle', { class: 'between', cx: x * width, cy: y * height, r: '5' }));
      });
    }
    if (KINDS[kind].named) {
      const name = one.name || '(no name)';
      const [x, y] = points.reduce((top, point) => (point[1] < top[1] ? point : top));
      const place = one.points ? [x * width, Math.max(14, y * height - 14)] : besideLine(...points.map(([px, py]) => [px * width, py * height]), halfOf(name), this.#size);
      group.append(this.#word(name, place));
    }
    return group;
  }

  /** A word on the picture; it does not leave it at its sides. */
  #word(word, [x, y]) {
    const { width, height } = this.#size;
    const room = Math.min(halfOf(word), width / 2);
    return svg('text', { class: 'name', x: Math.max(room, Math.min(width - room, x)).toFixed(1), y: Math.max(10, Math.min(height - 10, y)).toFixed(1) }, word);
  }

  /** What is being drawn, what a step would have led to, and where it went wrong. */
  #sketch(drawing, refused, trouble) {
    const { width, height } = this.#size;
    const parts = [];
    if (drawing) {
      const { points, cursor } = drawing;
      if (points.length) parts.push(svg('polyline', { points: text(points, this.#size), class: 'casing' }), svg('polyline', { points: text(points, this.#size), class: 'drawn' }));
      if (points.length && cursor) parts.push(svg('polyline', { points: text([points.at(-1), cursor], this.#size), class: trouble ? 'wrong' : 'next' }));
      points.forEach(([x, y], i) => parts.push(svg('circle', { class: i === 0 && points.length > 2 ? 'put first' : 'put', cx: x * width, cy: y * height, r: i === 0 && points.length > 2 ? '8' : '5' })));
      if (cursor) parts.push(svg('path', { class: 'cross', d: `M${cursor[0] * width - 9},${cursor[1] * height}h18m-9,-9v18` }));
    }
    if (refused) parts.push(svg('polygon', { points: text(refused, this.#size), class: 'wrong' }));
    if (trouble?.at) parts.push(svg('circle', { class: 'where', cx: trouble.at[0] * width, cy: trouble.at[1] * height, r: '13' }));
    return parts;
  }

  close() {
    this.resize.disconnect();
    this.root.remove();
  }
}
