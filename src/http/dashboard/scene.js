// Zones, lines and masks of a camera, as the API has them, as the file has them, and what is wrong with them. Nothing here knows of the page.

import { outlineProblem, round4, samePlace } from './geometry.js';

/** The kinds of shapes: how one is called, whether it is a region, and whether it has a name. */
export const KINDS = {
  zones: { noun: 'zone', region: true, named: true },
  lines: { noun: 'line', region: false, named: true },
  masks: { noun: 'mask', region: true, named: false },
};

/** The most shapes of each kind, the most characters of a name, and the longest stay that can be asked for, in milliseconds. */
export const [MOST, LONGEST, LONG_STAY] = [32, 64, 3600000];

const zone = ({ name, points, labels, minDwellMs }) => ({ name, points: points.map(([x, y]) => [x, y]), labels: [...(labels ?? [])], minDwellMs: minDwellMs ?? 0 });
const line = ({ name, from, to, labels }) => ({ name, from: [...from], to: [...to], labels: [...(labels ?? [])] });
const mask = ({ points, labels }) => ({ points: points.map(([x, y]) => [x, y]), labels: [...(labels ?? [])] });

/** A copy with exactly what the configuration has, without counts; from a camera's facts or from another scene. */
export const sceneOf = (from) => ({
  zones: (from?.zones ?? []).map(zone),
  lines: (from?.lines ?? []).map(line),
  masks: (from?.masks ?? []).map(mask),
});

/** Whether two scenes are the same, as the file would have them. */
export const sameScene = (a, b) => JSON.stringify(rounded(a)) === JSON.stringify(rounded(b));

function rounded(scene) {
  const point = ([x, y]) => [round4(x), round4(y)];
  const { zones, lines, masks } = sceneOf(scene);
  return {
    zones: zones.map((one) => ({ ...one, points: one.points.map(point) })),
    lines: lines.map((one) => ({ ...one, from: point(one.from), to: point(one.to) })),
    masks: masks.map((one) => ({ ...one, points: one.points.map(point) })),
  };
}

/** The corners of a shape, or both ends of a line. */
export const pointsOf = (shape) => shape.points ?? [shape.from, shape.to];

/** The shape with other corners. */
export const withPoints = (shape, points) => (shape.points ? { ...shape, points } : { ...shape, from: points[0], to: points[1] });

/** How a shape is called: `zone driveway`, or `mask 2`. A name that says what it is, such as `zone 1`, is enough. */
export function titleOf(kind, shape, index) {
  const { noun } = KINDS[kind];
  return shape.name?.startsWith(noun) ? shape.name : `${noun} ${shape.name || index + 1}`;
}

/** Why corners make no such shape: `{text, at}`, or `null`. */
export function shapeProblem(shape) {
  if (shape.points) return outlineProblem(shape.points);
  return samePlace(shape.from, shape.to) ? { text: 'A line ends at another place than it begins.', at: shape.from } : null;
}

/**
 * What the node would refuse: `{kind, index, text}` for each. Shapes that are as in `base` are in force, so the node takes them, whatever this
 * page finds.
 */
export function problems(scene, base = null) {
  const found = [];
  const [plain, inForce] = [rounded(scene), rounded(base)];
  for (const [kind, { noun, named }] of Object.entries(KINDS)) {
    const taken = new Set(inForce[kind].map((shape) => JSON.stringify(shape)));
    const isTaken = (index) => taken.has(JSON.stringify(plain[kind][index]));
    const names = new Map();
    if (scene[kind].length > MOST) found.push({ kind, index: MOST, text: `A camera has at most ${MOST} ${noun}s.` });
    scene[kind].forEach((shape, index) => {
      const wrong = (text) => found.push({ kind, index, text });
      const first = names.get(shape.name);
      if (named && first !== undefined && !(isTaken(first) && isTaken(index))) wrong(`Two ${noun}s have the name ${shape.name}.`);
      if (first === undefined) names.set(shape.name, index);
      if (isTaken(index)) return;
      if (named && !shape.name.trim()) wrong(`A ${noun} has no name.`);
      const problem = shapeProblem(shape);
      if (problem) wrong(`${titleOf(kind, shape, index)}: ${problem.text}`);
    });
  }
  return found;
}

/** A name that no shape of this kind has: `zone 1`, `zone 2`, … */
export function freshName(scene, kind) {
  const taken = new Set(scene[kind].map(({ name }) => name));
  for (let number = 1; ; number += 1) {
    const name = `${KINDS[kind].noun} ${number}`;
    if (!taken.has(name)) return name;
  }
}

/** The labels in a text that has commas between them. */
export const labelsOf = (text) => [...new Set(text.split(',').map((label) => label.trim()).filter(Boolean))];

// A basic string of TOML has the escapes of JSON, and must not have a DEL as it is.
const string = (text) => JSON.stringify(text).replaceAll('\u007f', '\\u007f');
const float = (number) => {
  const text = String(round4(number));
  return /[.e]/.test(text) ? text : `${text}.0`;
};
const point = ([x, y]) => `[${float(x)}, ${float(y)}]`;
const list = (items) => `[${items.join(', ')}]`;

/** The scene as it stands in the configuration, below the `[[cameras]]` of its camera. */
export function toToml(scene) {
  const labels = (shape) => (shape.labels.length ? [`labels = ${list(shape.labels.map(string))}`] : []);
  const sections = [
    ...scene.zones.map((one) => ['[[cameras.zones]]', `name = ${string(one.name)}`, `points = ${list(one.points.map(point))}`, ...labels(one), ...(one.minDwellMs ? [`min_dwell_ms = ${one.minDwellMs}`] : [])]),
    ...scene.lines.map((one) => ['[[cameras.lines]]', `name = ${string(one.name)}`, `from = ${point(one.from)}`, `to = ${point(one.to)}`, ...labels(one)]),
    ...scene.masks.map((one) => ['[[cameras.masks]]', `points = ${list(one.points.map(point))}`, ...labels(one)]),
  ];
  return sections.map((lines) => `${lines.join('\n')}\n`).join('\n');
}
