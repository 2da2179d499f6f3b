// Points, edges and outlines in parts of the picture: `[x, y]`, where 0, 0 is the top left corner and 1, 1 the bottom right one.

/** Two corners that are nearer to each other than this are at the same place: they would be written alike. */
const SAME = 0.00005;
/** Crossings are judged in whole millionths of the picture, as the node judges them, so that no rounding decides. */
const GRID = 1e6;
/** The most corners that a region has. */
const CORNERS = 32;

/** The least area of a region, doubled and in squares of that grid, as the node has it: a millionth of the picture. */
const LEAST_DOUBLE_AREA = 2 * GRID;

/** The node writes four decimals, which are a tenth of a pixel or so. */
export const round4 = (number) => Math.round(number * 1e4) / 1e4;

/** A point in the picture, with four decimals. */
export const within = ([x, y]) => [x, y].map((part) => round4(Math.min(1, Math.max(0, part))));

export const samePlace = ([ax, ay], [bx, by]) => Math.abs(ax - bx) < SAME && Math.abs(ay - by) < SAME;

export const middle = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];

/** On which side of the arrow from `a` to `b` a point is: above 0 to its right, as pictures are seen, and below 0 to its left. */
export const side = ([ax, ay], [bx, by], [x, y]) => (bx - ax) * (y - ay) - (by - ay) * (x - ax);

/** How far `p` is from the edge from `a` to `b`, and the place on it that is nearest. All are in the same unit. */
export function nearest(p, a, b) {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const length = dx * dx + dy * dy;
  const part = length === 0 ? 0 : Math.min(1, Math.max(0, ((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / length));
  const at = [a[0] + part * dx, a[1] + part * dy];
  return { at, distance: Math.hypot(p[0] - at[0], p[1] - at[1]) };
}

/** True for a point in the region. */
export function contains(points, [x, y]) {
  let inside = false;
  let [bx, by] = points.at(-1) ?? [0, 0];
  for (const [cx, cy] of points) {
    if ((cy > y) !== (by > y) && x < cx + ((bx - cx) / (by - cy)) * (y - cy)) inside = !inside;
    [bx, by] = [cx, cy];
  }
  return inside;
}

const onGrid = ([x, y]) => [Math.round(x * GRID), Math.round(y * GRID)];

/** Twice the area of a region in squares of the grid, which is the same in either direction. */
export function doubleArea(points) {
  const grid = points.map(onGrid);
  return Math.abs(grid.reduce((sum, [x, y], i) => {
    const [nx, ny] = grid[(i + 1) % grid.length];
    return sum + x * ny - nx * y;
  }, 0));
}

/** The area of a region in parts of the picture. */
export const area = (points) => doubleArea(points) / 2 / GRID ** 2;

const between = (a, b, [x, y]) => x >= Math.min(a[0], b[0]) && x <= Math.max(a[0], b[0]) && y >= Math.min(a[1], b[1]) && y <= Math.max(a[1], b[1]);

/** Where the edges from `a` to `b` and from `c` to `d` have a point in common; `null` where they have none. */
export function meeting(a, b, c, d) {
  const [ofC, ofD, ofA, ofB] = [side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)];
  if (ofC * ofD < 0 && ofA * ofB < 0) {
    const part = ofA / (ofA - ofB);
    return [a[0] + part * (b[0] - a[0]), a[1] + part * (b[1] - a[1])];
  }
  if (ofC === 0 && between(a, b, c)) return c;
  if (ofD === 0 && between(a, b, d)) return d;
  if (ofA === 0 && between(c, d, a)) return a;
  if (ofB === 0 && between(c, d, b)) return b;
  return null;
}

/** Two edges that follow each other have a corner in common. They also have more where the second goes back over the first. */
function goesBack([ax, ay], [bx, by], [cx, cy]) {
  const [ux, uy, vx, vy] = [ax - bx, ay - by, cx - bx, cy - by];
  return ux * vy - uy * vx === 0 && ux * vx + uy * vy > 0;
}

/**
 * The first two edges of an outline that cross or touch: `{edges, at}`, with edges counted from 0; `null` where none do. Edge `i` goes from
 * corner `i` to the next one. An outline that is still being drawn is open: it has no edge from its last corner to its first.
 */
export function crossing(points, open = false) {
  const corners = points.length;
  const edges = open ? corners - 1 : corners;
  const grid = points.map(onGrid);
  const edge = (i) => [grid[i], grid[(i + 1) % corners]];
  const found = (i, j, [x, y]) => ({ edges: [i, j], at: [x / GRID, y / GRID] });
  for (let i = 0; i < edges; i += 1) {
    for (let j = i + 1; j < edges; j += 1) {
      const [[a, b], [c, d]] = [edge(i), edge(j)];
      const follows = j === i + 1;
      const closes = !open && i === 0 && j === edges - 1;
      if (follows || closes) {
        if (follows && goesBack(a, b, d)) return found(i, j, b);
        if (closes && goesBack(b, a, c)) return found(i, j, a);
        continue;
      }
      const at = meeting(a, b, c, d);
      if (at) return found(i, j, at);
    }
  }
  return null;
}

/**
 * Why corners make no region, as a sentence, and where: `{text, at}`; `null` where they make one. Corners are counted from 1, as the node's
 * own sentences count them.
 */
export function outlineProblem(points, open = false) {
  const corners = points.length;
  for (let i = 1; i < corners + (open ? 0 : 1); i += 1) {
    const [before, here] = [points[i - 1], points[i % corners]];
    if (corners > 1 && samePlace(before, here)) return { text: `Corner ${(i % corners) + 1} is at the place of corner ${i}.`, at: here };
  }
  if (corners > CORNERS) return { text: `A region has at most ${CORNERS} corners.`, at: points.at(-1) };
  if (!open && corners < 3) return { text: `A region has at least 3 corners, and this one has ${corners}.`, at: points.at(-1) ?? null };
  const crossed = crossing(points, open);
  if (crossed) {
    const [first, second] = crossed.edges.map((i) => `from corner ${i + 1} to ${((i + 1) % corners) + 1}`);
    return { text: `The edge ${second} would cross the one ${first}.`, at: crossed.at };
  }
  if (!open && doubleArea(points) < LEAST_DOUBLE_AREA) return { text: 'This region has no area.', at: points[0] };
  return null;
}

/** The corner of a region that is highest, and of those the leftmost: its name stands there. */
export const topOf = (points) => points.reduce((top, one) => (one[1] < top[1] || (one[1] === top[1] && one[0] < top[0]) ? one : top));

/** Where a point comes to when it is moved with a shape that may not leave the picture: the part of the way that all of `points` can go. */
export function shift(points, [dx, dy]) {
  const room = (parts, by) => Math.min(1 - Math.max(...parts), Math.max(-Math.min(...parts), by));
  const [mx, my] = [room(points.map(([x]) => x), dx), room(points.map(([, y]) => y), dy)];
  return points.map(([x, y]) => within([x + mx, y + my]));
}
