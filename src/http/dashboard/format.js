// Numbers and times as people read them. Nothing here knows of the page.

const whole = new Intl.NumberFormat('en');

/** A count, such as `12,345`. */
export const count = (number) => whole.format(Math.round(number ?? 0));

/** A rate with one digit behind the point: `9.8`. */
export const rate = (number) => (number ?? 0).toFixed(1);

/** Milliseconds: `46 ms`, or `1.2 s` from a second on. */
export function ms(number) {
  if (number === null || number === undefined) return '–';
  return number < 1000 ? `${Math.round(number)} ms` : `${(number / 1000).toFixed(1)} s`;
}

/** A duration in its two largest units: `7 s`, `3 min`, `2 h 5 min`, `4 d 1 h`. */
export function lasting(seconds) {
  const s = Math.max(0, Math.floor(seconds ?? 0));
  if (s < 60) return `${s} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

/** The span that a history has: `5 minutes`, or `40 s` where it is younger. */
export const span = (history) => {
  const seconds = history ? history.stepSeconds * (history.received ?? history.inferred).length : 0;
  return seconds >= 120 ? `${Math.round(seconds / 60)} minutes` : `${seconds} s`;
};

const two = (number) => String(number).padStart(2, '0');

/** The time of day of a moment in unix milliseconds: `12:03:04`. */
export function clock(at) {
  const date = new Date(at);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Day and time: `2026-11-29 12:03:04`. */
export function moment(at) {
  const date = new Date(at);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at)}`;
}

/** Bytes as `204 MiB`. */
export function bytes(number) {
  if (!number) return '–';
  const mib = number / 1048576;
  return mib < 1024 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(2)} GiB`;
}

/** Labels and counts as `2 car, 7 person`; `nothing` where there are none. */
export function objects(counts) {
  if (!counts) return '–';
  const parts = Object.entries(counts).sort(([a], [b]) => (a < b ? -1 : 1)).map(([label, n]) => `${n} ${label}`);
  return parts.length ? parts.join(', ') : 'nothing';
}

/** The labels of an event's objects, counted. */
export function counted(list) {
  const counts = {};
  for (const { label } of list ?? []) counts[label] = (counts[label] ?? 0) + 1;
  return counts;
}

/** A value of the configuration as TOML would write it. */
export function setting(value) {
  if (value === null || value === undefined) return 'not set';
  if (Array.isArray(value)) return value.length ? value.map(setting).join(', ') : '[ ]';
  // Of a zone or a line the name tells enough, and of a mask how many corners it has.
  if (typeof value === 'object') return value.name ?? (value.points ? `${value.points.length} points` : JSON.stringify(value));
  return value === '' ? '""' : String(value);
}

/** As the node encodes ids: all but letters, digits and `-._~` (RFC 3986). */
const encoded = (text) => encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);

/** The path of a camera in the API and in this page's address, which also names its pictures. */
export const cameraKey = ({ twinId, stream }) => `${encoded(twinId)}/${encoded(stream)}`;

/** The twin and stream of such a path, or of one that somebody wrote by hand. */
export function cameraOf(key) {
  const [twinId, stream] = key.split('/').map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { twinId, stream };
}
