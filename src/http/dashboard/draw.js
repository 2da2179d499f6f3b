// Draws a picture and what was seen in it into one canvas, so that no box is ever over another picture.

import { CASING, drawLines, drawMasks, drawTrails, drawZones } from './overlay.js';
import { trackColour } from './palette.js';

/** The colour of boxes. It is the page's accent, and legible on pictures with its dark casing. */
export const BOX = '#4cc2ff';
const FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif';

/**
 * Draws `bitmap` as wide as the canvas is shown. `frame` is the size of the decoded frame, in whose pixels `event` has its boxes;
 * `event` is `null` where there is none. `over` is what else lies over it, and in what colours: `{layers, scene, book, places}`, where `places`
 * is a map in which it keeps where names stand; without it there are
 * boxes with labels and scores. What is drawn is said in the canvas's `dataset`.
 */
export function drawPicture(canvas, bitmap, frame, event, shownWidth, over = null, ratio = devicePixelRatio) {
  // Names and lines over a picture are to be sharp where the picture itself is not.
  const most = Math.max(bitmap.width, over ? 1600 : 480);
  const width = Math.max(1, Math.min(Math.round(shownWidth * ratio), most));
  const height = Math.max(1, Math.round((width * bitmap.height) / bitmap.width));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext('2d', { alpha: false });
  context.drawImage(bitmap, 0, 0, width, height);
  const scale = width / (frame.width || event?.frame.width || bitmap.width);
  const unit = width / shownWidth;
  const seen = event?.objects ?? [];
  const area = { width, height };
  const shows = (layer) => over === null || over.layers.has(layer);
  const colourOf = ({ trackId }) => (over && trackId ? trackColour(trackId) : BOX);
  const { masks = [], zones = [], lines = [] } = over?.scene ?? {};
  const names = [];
  if (shows('masks')) drawMasks(context, masks, area, unit);
  if (shows('zones')) names.push(...drawZones(context, zones, (name) => over.book.inZone(name), area, unit));
  if (over && shows('trails')) drawTrails(context, over.book.trails(event), area, unit);
  if (shows('boxes')) {
    for (const object of seen) if (object.outline) outline(context, object.outline, scale, unit);
    for (const object of seen) box(context, object.box, scale, unit, colourOf(object), over !== null && object.trackId === null);
    for (const object of seen) if (object.keypoints) keypoints(context, object.keypoints, scale, unit);
  }
  if (shows('lines')) names.push(...drawLines(context, lines, (name) => over.book.lines.get(name), area, unit));
  if (shows('labels')) labels(context, seen, names, scale, unit, area, shownWidth < 520, over && colourOf, over?.places);
}

/** What is not followed, or not yet, has a dashed box where others have tracks. */
function box(context, { x, y, width, height }, scale, unit, colour, dashed) {
  const line = 1.5 * unit;
  context.lineJoin = 'round';
  for (const [style, wide, dash] of [[CASING, line + 2 * unit, []], [colour, line, dashed ? [3 * unit, 3 * unit] : []]]) {
    context.strokeStyle = style;
    context.lineWidth = wide;
    context.setLineDash(dash);
    context.strokeRect(x * scale, y * scale, width * scale, height * scale);
  }
  context.setLineDash([]);
}

function outline(context, points, scale, unit) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x * scale, y * scale) : context.moveTo(x * scale, y * scale)));
  context.closePath();
  context.fillStyle = 'rgba(76, 194, 255, 0.22)';
  context.fill();
  context.strokeStyle = 'rgba(76, 194, 255, 0.9)';
  context.lineWidth = unit;
  context.stroke();
}

/** A point that the model only guesses is hollow. */
function keypoints(context, points, scale, unit) {
  for (const { x, y, score } of points) {
    context.beginPath();
    context.arc(x * scale, y * scale, 2.5 * unit, 0, 2 * Math.PI);
    context.fillStyle = score >= 0.5 ? '#fff' : 'transparent';
    context.strokeStyle = score >= 0.5 ? CASING : 'rgba(255, 255, 255, 0.6)';
    context.lineWidth = unit;
    context.fill();
    context.stroke();
  }
}

const overlap = (a, b) => Math.max(0, Math.min(a.x + a.w, b.x + b.w) - Math.max(a.x, b.x)) * Math.max(0, Math.min(a.y + a.h, b.y + b.h) - Math.max(a.y, b.y));

/** What stands at an object: its label, its track and its score. */
function words({ label, score, trackId }, small) {
  const number = score.toFixed(2).replace(/^0/, small ? '' : '0');
  return trackId ? `${label} ${trackId} · ${number}` : `${label} ${number}`;
}

/**
 * Names of zones and lines, and labels with their scores, each at the corner of its box where it hides least of the others. Where tracks have
 * colours, `colourOf` gives them, and each label has a bar of its own.
 */
function labels(context, seen, names, scale, unit, area, small, colourOf, kept) {
  const size = (small ? 9.5 : 12) * unit;
  const [padX, padY] = [3 * unit, 1.5 * unit];
  const bar = 3 * unit;
  context.font = `${small ? 500 : 600} ${size}px ${FONT}`;
  context.textBaseline = 'top';
  const placed = [];
  const covered = (place) => boxes.reduce((sum, other) => sum + overlap(place, other), 0);
  const boxes = names.length === 0 ? [] : seen.map(({ box: { x, y, width, height } }) => ({ x: x * scale, y: y * scale, w: width * scale, h: height * scale }));
  const put = (text, colour, boxed, name = null) => {
    const left = padX + (colour ? bar : 0);
    const w = context.measureText(text).width + left + padX;
    const h = size + 2 * padY;
    const within = ([px, py]) => ({ x: Math.max(0, Math.min(px, area.width - w)), y: Math.max(0, Math.min(py, area.height - h)), w, h });
    const places = boxed(w, h).map(within);
    const cost = (place) => placed.reduce((sum, other) => sum + overlap(place, other), 0) + (name ? covered(place) : 0);
    let best = places[0];
    for (const place of places) if (cost(place) < cost(best)) best = place;
    // Names of zones and lines do not jump about as people pass: one leaves its place only when most of it would hide somebody.
    const before = places[name ? (kept.get(name) ?? -1) : -1];
    if (before && cost(before) < 0.6 * w * h) best = before;
    if (name) kept.set(name, places.indexOf(best));
    placed.push(best);
    context.fillStyle = CASING;
    context.beginPath();
    context.roundRect(best.x, best.y, w, h, 2.5 * unit);
    context.fill();
    if (colour) {
      context.fillStyle = colour;
      context.beginPath();
      context.roundRect(best.x, best.y, bar, h, [2.5 * unit, 0, 0, 2.5 * unit]);
      context.fill();
    }
    context.fillStyle = '#fff';
    context.fillText(text, best.x + left, best.y + padY);
  };
  for (const { name, text, colour, at } of names) put(text, colour, (w, h) => at.flatMap(([x, y]) => [[x - w / 2, y - h / 2], [x - w / 2, y + 0.6 * h], [x - w / 2, y - 1.6 * h], [x - w, y - h / 2], [x, y - h / 2]]), name);
  for (const object of seen) {
    const { x, y, width, height } = object.box;
    const [left, top, right, bottom] = [x * scale, y * scale, (x + width) * scale, (y + height) * scale];
    put(words(colourOf ? object : { ...object, trackId: null }, small), colourOf?.(object), (w, h) => [[left, top - h - unit], [right - w, top - h - unit], [left, bottom + unit], [right - w, bottom + unit],
      [right + unit, top], [left - w - unit, top], [left, top + unit], [left, bottom - h - unit]]);
  }
}
