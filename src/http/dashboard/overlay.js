// What lies over a picture beside boxes: masks, zones, trails and lines, all in parts of the picture. It is drawn into the picture's canvas.

import { topOf } from './geometry.js';
import { lineColour, trackColour, zoneColour } from './palette.js';
import { objects } from './format.js';

/** Behind every stroke and name, so that each is legible on any picture. */
export const CASING = 'rgba(4, 12, 20, 0.7)';

/** The layers that can be shown and hidden, and their names. */
export const LAYERS = { boxes: 'Boxes', labels: 'Names', trails: 'Trails', zones: 'Zones', lines: 'Lines', masks: 'Masks' };

const px = ([x, y], { width, height }) => [x * width, y * height];

function path(context, points, area, close = true) {
  context.beginPath();
  points.forEach((point, i) => (i ? context.lineTo(...px(point, area)) : context.moveTo(...px(point, area))));
  if (close) context.closePath();
}

function stroke(context, colour, width, unit, dash = []) {
  context.lineJoin = 'round';
  context.lineCap = 'round';
  context.setLineDash([]);
  context.strokeStyle = CASING;
  context.lineWidth = width + 2 * unit;
  context.stroke();
  context.setLineDash(dash);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke();
  context.setLineDash([]);
}

/** Regions in which nothing is detected are hatched. */
export function drawMasks(context, masks, area, unit) {
  for (const { points } of masks) {
    context.save();
    path(context, points, area);
    context.fillStyle = 'rgba(4, 12, 20, 0.35)';
    context.fill();
    context.clip();
    const [xs, ys] = [points.map(([x]) => x * area.width), points.map(([, y]) => y * area.height)];
    const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    context.beginPath();
    for (let x = left - (bottom - top); x < right; x += 9 * unit) {
      context.moveTo(x, bottom);
      context.lineTo(x + bottom - top, top);
    }
    context.strokeStyle = 'rgba(231, 235, 240, 0.55)';
    context.lineWidth = 1.2 * unit;
    context.stroke();
    context.restore();
    path(context, points, area);
    stroke(context, 'rgba(231, 235, 240, 0.8)', unit, unit);
  }
}

/** Draws zones. Their names are returned as labels, `{name, text, colour, at}`, with the places where each may stand, the best first. */
export function drawZones(context, zones, inZone, area, unit) {
  return zones.map(({ name, points }, index) => {
    const inside = inZone(name);
    const some = Object.keys(inside).length > 0;
    path(context, points, area);
    context.fillStyle = zoneColour(index, some ? 0.24 : 0.13);
    context.fill();
    stroke(context, zoneColour(index), 1.5 * unit, unit, some ? [] : [6 * unit, 5 * unit]);
    return { name: `zone ${name}`, text: some ? `${name}: ${objects(inside)}` : name, colour: zoneColour(index), at: [topOf(points), ...points].map((point) => px(point, area)) };
  });
}

/** Draws trails: where each track stood, fading with age. */
export function drawTrails(context, trails, area, unit) {
  context.lineCap = 'round';
  for (const { id, points } of trails) {
    for (const [colour, width] of [['rgba(4, 12, 20, 0.5)', 4.5], [null, 2.5]]) {
      for (let i = 1; i < points.length; i += 1) {
        const strength = 1 - points[i].age;
        context.beginPath();
        context.moveTo(...px(points[i - 1].point, area));
        context.lineTo(...px(points[i].point, area));
        context.globalAlpha = strength;
        context.strokeStyle = colour ?? trackColour(id);
        context.lineWidth = width * unit * (0.4 + 0.6 * strength);
        context.stroke();
      }
    }
    context.globalAlpha = 1;
    const last = points.at(-1);
    context.beginPath();
    context.arc(...px(last.point, area), 3 * unit, 0, 2 * Math.PI);
    context.globalAlpha = 1 - last.age;
    context.fillStyle = trackColour(id);
    context.fill();
    context.globalAlpha = 1;
  }
}

/** The tips of an arrow that shows which way is `in`: across the middle of a line, to the right of its own direction. All in pixels. */
export function inArrow(from, to, length) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const long = Math.hypot(dx, dy) || 1;
  const [nx, ny] = [-dy / long, dx / long];
  const foot = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
  const at = (along, across) => [foot[0] + nx * along + (dx / long) * across, foot[1] + ny * along + (dy / long) * across];
  return { foot, tip: at(length, 0), wings: [at(length * 0.6, -length * 0.35), at(length * 0.6, length * 0.35)] };
}

/**
 * Where a word `half` as wide stands beside the beginning of a line, so that it hides neither the line nor its arrow: on the side from which one
 * comes in. Where the picture ends there, it stands at the line's end, or else where it is least outside. All in pixels.
 */
export function besideLine(from, to, half, { width, height }) {
  const { foot, tip } = inArrow(from, to, 1);
  const [nx, ny] = [tip[0] - foot[0], tip[1] - foot[1]];
  const gap = Math.abs(nx) * half + Math.abs(ny) * 8 + 10;
  const places = [from, to].map(([x, y]) => [x - nx * gap, y - ny * gap]);
  const outside = ([x, y]) => Math.max(0, half - x, x + half - width, 8 - y, y + 8 - height);
  return places.reduce((best, place) => (outside(place) < outside(best) ? place : best));
}

/** Draws lines with the arrow of `in`. Their names and counts are returned as labels. */
export function drawLines(context, lines, countsOf, area, unit) {
  return lines.map(({ name, from, to }) => {
    const [a, b] = [px(from, area), px(to, area)];
    context.beginPath();
    context.moveTo(...a);
    context.lineTo(...b);
    stroke(context, lineColour(), 2 * unit, unit);
    const { foot, tip, wings } = inArrow(a, b, 16 * unit);
    context.beginPath();
    context.moveTo(...foot);
    context.lineTo(...tip);
    context.moveTo(...wings[0]);
    context.lineTo(...tip);
    context.lineTo(...wings[1]);
    stroke(context, lineColour(), 2 * unit, unit);
    for (const end of [a, b]) {
      context.beginPath();
      context.arc(...end, 2.5 * unit, 0, 2 * Math.PI);
      context.fillStyle = lineColour();
      context.fill();
    }
    const counts = countsOf(name);
    return { name: `line ${name}`, text: counts ? `${name}: ${counts.in} in, ${counts.out} out` : name, colour: lineColour(), at: [a, b, [2 * foot[0] - tip[0], 2 * foot[1] - tip[1]]] };
  });
}
