// Tracks in words: what an event says that was not known before. Nothing here knows of the page.

/** A track as people call it: `person 7`. */
export const who = ({ label, id }) => `${label} ${id}`;

const ENDS = { left: 'left the picture', lost: 'was lost from sight', cameraRemoved: 'ended, since its camera was removed', shutdown: 'ended, since the node stopped' };

/** Why a track ended. */
export const ending = (reason) => ENDS[reason] ?? `ended (${reason})`;

const and = (names) => (names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names[0]);

/** What a `track` event says, where `before` is the track of the event before; `null` where it says nothing new. */
export function trackWords({ phase, reason, track }, before) {
  const zones = track.zones ?? [];
  if (phase === 'start') return `${who(track)} appeared${zones.length ? ` in ${and(zones)}` : ''}`;
  if (phase === 'end') return `${who(track)} ${ending(reason)}`;
  if (!before) return null;
  const known = before.zones ?? [];
  const [came, left] = [zones.filter((name) => !known.includes(name)), known.filter((name) => !zones.includes(name))];
  const news = [
    track.label !== before.label && `was taken for ${before.label} before`,
    came.length && `came into ${and(came)}`,
    left.length && `left ${and(left)}`,
    track.stationary !== before.stationary && (track.stationary ? 'stays where it is' : 'moves again'),
  ].filter(Boolean);
  return news.length ? `${who(track)} ${and(news)}` : null;
}

/** What a `lineCrossed` event says. The number is how often it was crossed this way. */
export const crossedWords = ({ line, direction, track, counts }) => `${who(track)} crossed ${line}, ${direction} (${counts[direction]})`;
