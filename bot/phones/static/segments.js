// What a text costs, as storage/rules/segments.py counts it: a test holds the two together.

const BASIC =
  "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
  "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
const ESCAPED = "^{}\\[~]|€\f";
const UNITS = new Map([...[...BASIC].map((char) => [char, 1]), ...[...ESCAPED].map((char) => [char, 2])]);

/** units, parts, how many units one part holds, and the first character that GSM-7 lacks (null when it lacks none). */
export function count(text) {
  const characters = [...text];
  const forcedBy = characters.find((char) => !UNITS.has(char)) ?? null;
  const widths = characters.map((char) => (forcedBy === null ? UNITS.get(char) : char.length));
  const [alone, joined] = forcedBy === null ? [160, 153] : [70, 67];
  const units = widths.reduce((sum, width) => sum + width, 0);
  if (units <= alone) return { units, parts: units ? 1 : 0, holds: alone, forcedBy };
  let parts = 1;
  let room = joined;
  for (const width of widths) {
    if (width > room) [parts, room] = [parts + 1, joined];
    room -= width;
  }
  return { units, parts, holds: parts * joined, forcedBy };
}

/** The character as a person can find it: an invisible one by its code point. */
export function named(char) {
  const code = `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return /^[\p{Z}\p{C}\p{M}]$/u.test(char) ? code : `“${char}”`;
}
