// Colours that stay with an id. All are light, so that their dark casing makes each legible on any picture.

/** A number for an id, which is a number already where the node made it. */
function numberOf(id) {
  const number = Number(id);
  if (Number.isSafeInteger(number)) return number;
  return [...String(id)].reduce((sum, sign) => (sum * 31 + sign.codePointAt(0)) % 65536, 7);
}

/** The colour of a track. Those that follow each other are far apart on the circle, by the golden angle; those that come near are not as light. */
export function trackColour(id, alpha = 1) {
  const number = numberOf(id);
  return `oklch(${[0.8, 0.72, 0.88, 0.76][number % 4]} 0.15 ${((number * 137.508 + 210) % 360).toFixed(1)} / ${alpha})`;
}

/** The colours of zones, in their order. They are paler than those of tracks, and never the only thing that tells them apart. */
const ZONES = ['92, 214, 178', '240, 194, 97', '168, 160, 255', '255, 150, 141', '120, 200, 255', '220, 150, 220'];
export const zoneColour = (index, alpha = 1) => `rgba(${ZONES[index % ZONES.length]}, ${alpha})`;

/** The colour of lines, which no zone has. */
export const lineColour = (alpha = 1) => `rgba(255, 232, 92, ${alpha})`;
