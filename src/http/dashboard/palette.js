// Colours that stay with an id. All are as light, so that their dark casing makes each legible on any picture.

/** Where a text leads on a circle. Numbers that follow each other are far from each other there, by the golden angle. */
function hue(id) {
  let number = Number(id);
  if (!Number.isSafeInteger(number)) number = [...String(id)].reduce((sum, sign) => (sum * 31 + sign.codePointAt(0)) % 65536, 7);
  return (number * 137.508 + 210) % 360;
}

/** The colour of a track. */
export const trackColour = (id, alpha = 1) => `oklch(0.8 0.15 ${hue(id).toFixed(1)} / ${alpha})`;

/** The colours of zones, in their order. They are paler than those of tracks, and never the only thing that tells them apart. */
const ZONES = ['92, 214, 178', '240, 194, 97', '168, 160, 255', '255, 150, 141', '120, 200, 255', '220, 150, 220'];
export const zoneColour = (index, alpha = 1) => `rgba(${ZONES[index % ZONES.length]}, ${alpha})`;

/** The colour of lines, which no zone has. */
export const lineColour = (alpha = 1) => `rgba(255, 232, 92, ${alpha})`;
