// The editor of a scene without its page: gestures and keys come in as points and names, and a scene goes out that the node would take.
// A step that would make an outline cross itself is not made; `trouble` says why, and where.

import { contains, middle, nearest, outlineProblem, samePlace, shift, within } from './geometry.js';
import { KINDS, freshName, pointsOf, problems, sameScene, sceneOf, shapeProblem, titleOf, withPoints } from './scene.js';

/** So many steps can be undone. */
const STEPS = 100;
/** Only edges that are longer than this have a handle in their middle, in pixels. */
const ROOMY = 40;

/** Whether an edge is so long, as shown, that there is room for a handle in its middle. */
export const roomy = (a, b, size) => Math.hypot((a[0] - b[0]) * size.width, (a[1] - b[1]) * size.height) > ROOMY;

export class SceneEdit {
  /** `{kind, index}` of the shape whose corners are shown, or `null`. */
  selected = null;
  /** What is being drawn: `{kind, points, cursor}`, or `null`. */
  drawing = null;
  /** Why the last step was not made: `{text, at}`, or `null`. */
  trouble = null;
  /** The corners that it would have led to, or `null`. */
  refused = null;
  /** What the pointer holds: `{part: 'corner' | 'shape' | 'line' | 'cursor', from, …}`, or `null`. */
  #held = null;
  #undone = [];
  #done = [];
  #stepName = null;
  /** How many steps were made and not undone, which goes on where the oldest steps are forgotten. */
  #steps = 0;
  /** Of the last two times that the pointer went down, whether something was drawn then. */
  #drew = [false, false];

  constructor(scene) {
    this.base = sceneOf(scene);
    /** What the node calls the scene that the draft began with. A save is meant for that one alone. */
    this.tag = scene?.sceneTag ?? null;
    this.scene = sceneOf(scene);
  }

  get dirty() {
    return this.drawing !== null || !sameScene(this.scene, this.base);
  }

  get shape() {
    return this.selected && (this.scene[this.selected.kind][this.selected.index] ?? null);
  }

  get problems() {
    return problems(this.scene, this.base);
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /** The node has this scene now. What was drawn and is not saved stays. True where it differs from what the draft began with. */
  rebase(scene) {
    this.tag = scene?.sceneTag ?? null;
    if (sameScene(scene, this.base)) return false;
    const dirty = this.dirty;
    this.base = sceneOf(scene);
    if (dirty) return true;
    this.#put(this.base);
    return true;
  }

  /** Takes the node's scene in place of the draft. */
  discard() {
    this.drawing = null;
    this.#held = null;
    this.trouble = null;
    this.#step(null);
    this.#put(this.base);
  }

  #put(scene) {
    this.scene = sceneOf(scene);
    if (!this.shape) this.selected = null;
  }

  /** What can be undone from here on. Steps of the same name that follow each other, as the letters of a name, are one. */
  #step(name) {
    this.#undone = [];
    if (name !== null && name === this.#stepName) return;
    this.#stepName = name;
    this.#steps += 1;
    this.#done.push(sceneOf(this.scene));
    if (this.#done.length > STEPS) this.#done.shift();
  }

  undo() {
    this.#go(this.#done, this.#undone, -1);
  }

  redo() {
    this.#go(this.#undone, this.#done, 1);
  }

  #go(from, to, by) {
    if (this.drawing || from.length === 0) return;
    this.#steps += by;
    to.push(sceneOf(this.scene));
    this.#stepName = null;
    this.trouble = null;
    this.#put(from.pop());
  }

  select(kind, index) {
    this.trouble = null;
    this.#stepName = null;
    this.selected = this.scene[kind]?.[index] ? { kind, index } : null;
  }

  #change(shape) {
    this.scene[this.selected.kind][this.selected.index] = shape;
  }

  /** Sets a key of the shape that is selected, such as its name. */
  set(key, value) {
    this.#step(`${key} ${this.selected.kind} ${this.selected.index}`);
    this.#change({ ...this.shape, [key]: value });
  }

  remove() {
    const { kind, index } = this.selected;
    this.#step(null);
    this.scene[kind].splice(index, 1);
    this.selected = null;
    this.trouble = null;
  }

  swap() {
    this.#step(null);
    this.#change({ ...this.shape, from: this.shape.to, to: this.shape.from });
  }

  /** Gives the selected shape other corners, if the node would take them. */
  #reshape(points) {
    const shape = withPoints(this.shape, points);
    this.trouble = shapeProblem(shape);
    this.refused = this.trouble ? points : null;
    if (this.trouble) return false;
    this.#change(shape);
    return true;
  }

  moveCorner(index, to, name = `corner ${index}`) {
    const points = pointsOf(this.shape).with(index, within(to));
    if (samePlace(points[index], pointsOf(this.shape)[index])) return true;
    const before = sceneOf(this.scene);
    if (!this.#reshape(points)) return false;
    this.#keep(before, `${name} of ${this.selected.kind} ${this.selected.index}`);
    return true;
  }

  /** As `#step`, after it went well. */
  #keep(before, name) {
    const now = this.scene;
    this.scene = before;
    this.#step(name);
    this.scene = now;
  }

  /** A new corner in the middle of the edge that begins at corner `edge`. Returns its index, or `null` where there can be none. */
  insertCorner(edge) {
    const { points } = this.shape;
    const place = within(middle(points[edge], points[(edge + 1) % points.length]));
    const before = sceneOf(this.scene);
    if (!this.#reshape(points.toSpliced(edge + 1, 0, place))) return null;
    this.#keep(before, null);
    return edge + 1;
  }

  removeCorner(index) {
    const before = sceneOf(this.scene);
    if (!this.shape.points || !this.#reshape(this.shape.points.toSpliced(index, 1))) return false;
    this.#keep(before, null);
    return true;
  }

  moveShape(by, name = 'shape', points = pointsOf(this.shape)) {
    const before = sceneOf(this.scene);
    this.#change(withPoints(this.shape, shift(points, by)));
    this.#keep(before, `${name} of ${this.selected.kind} ${this.selected.index}`);
    this.trouble = null;
  }

  /** Begins to draw a shape. */
  begin(kind) {
    this.selected = null;
    this.trouble = null;
    this.#held = null;
    this.drawing = { kind, points: [], cursor: null };
  }

  cancel() {
    this.drawing = null;
    this.#held = null;
    this.refused = null;
    this.trouble = null;
  }

  /** Why the next corner cannot be at this place; `null` where it can. */
  #cannot(to) {
    const { kind, points } = this.drawing;
    if (!KINDS[kind].region) return points.length === 1 && samePlace(points[0], to) ? shapeProblem({ from: points[0], to }) : null;
    return outlineProblem([...points, to], true);
  }

  /** Where the pointer is while a shape is drawn. It says at once if a corner there would not do. */
  aim(to) {
    if (!this.drawing) return;
    const place = within(to);
    const { points } = this.drawing;
    this.drawing.cursor = place;
    if (points.length === 0 || samePlace(place, points.at(-1))) this.trouble = null;
    else if (points.length > 2 && samePlace(place, points[0])) this.trouble = outlineProblem(points);
    else this.trouble = this.#cannot(place);
  }

  /** Puts a corner. On the first one, or twice at the same place, it finishes the outline. True if it was put, or the shape is done. */
  addCorner(to) {
    const { kind, points } = this.drawing;
    const place = within(to);
    if (points.length > 2 && (samePlace(place, points[0]) || samePlace(place, points.at(-1)))) return this.finish();
    this.trouble = this.#cannot(place);
    if (this.trouble) return false;
    points.push(place);
    if (!KINDS[kind].region && points.length === 2) return this.finish();
    return true;
  }

  removeLastCorner() {
    this.drawing.points.pop();
    this.trouble = null;
  }

  /** Makes a shape of what was drawn, if it is one. */
  finish() {
    const { kind, points } = this.drawing;
    const name = freshName(this.scene, kind);
    const shape = {
      zones: { name, points, labels: [], minDwellMs: 0 },
      lines: { name, from: points[0], to: points[1], labels: [] },
      masks: { points, labels: [] },
    }[kind];
    this.trouble = KINDS[kind].region || points.length === 2 ? shapeProblem(shape) : { text: 'A line has two ends.', at: points[0] ?? null };
    if (this.trouble) return false;
    this.#step(null);
    this.scene[kind].push(shape);
    this.drawing = null;
    this.#held = null;
    this.select(kind, this.scene[kind].length - 1);
    return true;
  }

  /** What lies at a place: `{part, kind, index, corner | edge}`. `size` is that of the picture as shown, and `reach` how far a finger may miss, in its pixels. */
  at(place, size, reach) {
    const px = ([x, y]) => [x * size.width, y * size.height];
    const here = px(place);
    const far = (point) => Math.hypot(px(point)[0] - here[0], px(point)[1] - here[1]);
    if (this.selected) {
      const points = pointsOf(this.shape);
      const corner = points.map(far).reduce((best, distance, i, all) => (distance < (all[best] ?? Infinity) ? i : best), -1);
      const middles = this.shape.points ? points.map((one, i) => (roomy(one, points[(i + 1) % points.length], size) ? far(middle(one, points[(i + 1) % points.length])) : Infinity)) : [];
      const edge = middles.reduce((best, distance, i) => (distance < (middles[best] ?? Infinity) ? i : best), -1);
      const nearer = edge >= 0 && middles[edge] < far(points[corner]);
      if (far(points[corner]) <= reach && !nearer) return { part: 'corner', ...this.selected, corner };
      if (edge >= 0 && middles[edge] <= reach) return { part: 'middle', ...this.selected, edge };
    }
    const order = [];
    for (const kind of ['lines', 'zones', 'masks']) this.scene[kind].forEach((shape, index) => order.push({ kind, index, shape }));
    // The one that is selected comes first, so that it can be moved where another one lies over it.
    order.sort((a, b) => Number(this.#isSelected(b)) - Number(this.#isSelected(a)));
    for (const { kind, index, shape } of order) {
      if (shape.points ? contains(shape.points, place) : nearest(here, px(shape.from), px(shape.to)).distance <= reach) return { part: 'shape', kind, index };
    }
    return null;
  }

  #isSelected({ kind, index }) {
    return this.selected?.kind === kind && this.selected.index === index;
  }

  /** The pointer goes down. True if it holds something now. */
  down(place, size, reach) {
    this.#drew = [this.#drew[1], this.drawing !== null];
    if (this.drawing) {
      this.aim(place);
      const { kind, points } = this.drawing;
      // A line can be drawn in one stroke.
      if (!KINDS[kind].region && points.length === 0) {
        this.addCorner(place);
        this.#held = { part: 'line', from: place };
      } else this.#held = { part: 'cursor', from: place };
      return true;
    }
    this.trouble = null;
    const found = this.at(place, size, reach);
    if (!found) {
      this.selected = null;
      return false;
    }
    if (!this.#isSelected(found)) this.select(found.kind, found.index);
    this.#stepName = null;
    const steps = this.#steps;
    if (found.part === 'shape') this.#held = { part: 'shape', from: place, points: pointsOf(this.shape), steps };
    else {
      const corner = found.part === 'middle' ? this.insertCorner(found.edge) : found.corner;
      if (corner === null) return false;
      // To put a corner on an edge and to drag it is one step.
      if (found.part === 'middle') this.#stepName = `held of ${found.kind} ${found.index}`;
      this.#held = { part: 'corner', corner, from: place, point: pointsOf(this.shape)[corner], steps };
    }
    return true;
  }

  /** The pointer moves, whether it is down or not. `reach` is how near the first corner is the first corner, in pixels of `size`. */
  move(place, size, reach) {
    if (this.drawing) {
      this.aim(this.#snapped(place, size, reach));
      return;
    }
    const held = this.#held;
    if (!held) return;
    const by = [place[0] - held.from[0], place[1] - held.from[1]];
    // A tap that trembles moves nothing.
    held.moves ||= Math.hypot(by[0] * size.width, by[1] * size.height) >= 3;
    if (!held.moves) return;
    if (held.part === 'corner') this.moveCorner(held.corner, [held.point[0] + by[0], held.point[1] + by[1]], 'held');
    if (held.part === 'shape') this.moveShape(by, 'held', held.points);
  }

  /** While a region is drawn, a place near its first corner is that corner, and one very near its last corner is that one. */
  #snapped(place, size, reach) {
    const { kind, points } = this.drawing;
    if (!KINDS[kind].region || points.length < 3) return place;
    const near = (point, room) => Math.hypot((place[0] - point[0]) * size.width, (place[1] - point[1]) * size.height) <= room;
    if (near(points[0], reach)) return points[0];
    return near(points.at(-1), reach / 3) ? points.at(-1) : place;
  }

  #release() {
    this.#held = null;
    this.#stepName = null;
    this.refused = null;
  }

  /** The system takes a touch for something else, such as two fingers that enlarge the page. What it did up to then was not meant. */
  takeBack() {
    const held = this.#held;
    this.#release();
    if (this.drawing) {
      if (held?.part === 'line') this.removeLastCorner();
      return;
    }
    // A gesture that was refused all the time made no step, and those before it stay.
    while (held && this.canUndo && this.#steps > held.steps) {
      this.undo();
      this.#undone.pop();
    }
  }

  /** The pointer goes up. */
  up(place, size, reach) {
    const held = this.#held;
    this.#release();
    if (!this.drawing || !held) return;
    const stroke = Math.hypot((place[0] - held.from[0]) * size.width, (place[1] - held.from[1]) * size.height) > reach;
    if (held.part === 'cursor' || (held.part === 'line' && stroke)) this.addCorner(this.#snapped(place, size, reach));
  }

  /** A double click at a place, which takes away a corner that is there. The browser tells of the one that ended an outline, too, which means no corner. True if it was meant for one. */
  twice(place, size, reach) {
    if (this.drawing || this.#drew.includes(true)) return false;
    const found = this.at(place, size, reach);
    if (found?.part !== 'corner') return false;
    this.removeCorner(found.corner);
    return true;
  }

  /** What is selected, in words. */
  get title() {
    return this.selected ? titleOf(this.selected.kind, this.shape, this.selected.index) : null;
  }
}
