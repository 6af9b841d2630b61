/** A guest's text screen as a terminal would print it: attributes as its sixteen colours. [ECMA-48 §8.3.117] */

import { characterOf, type TextScreen } from "../devices/pc/text-screen.ts";

/** Terminals count blue and red the other way round: bit 0 is a VGA's blue, and an ANSI terminal's red. */
const ANSI = [0, 4, 2, 6, 1, 5, 3, 7] as const;

/** Select Graphic Rendition for a VGA attribute. */
function rendition(attribute: number, blink: boolean): string {
  const high = (attribute & 0x80) !== 0;
  const foreground = (ANSI[attribute & 7] ?? 7) + ((attribute & 8) !== 0 ? 90 : 30);
  const background = (ANSI[(attribute >> 4) & 7] ?? 0) + (high && !blink ? 100 : 40);
  return `\x1b[0;${foreground};${background}${high && blink ? ";5" : ""}m`;
}

/** The rows, each with the renditions of its characters, cut to `width` columns. */
export function paintedRows(screen: TextScreen, width = screen.columns): string[] {
  const { columns, rows, characters, attributes, blink } = screen;
  return Array.from({ length: rows }, (_, row) => {
    let line = "";
    let current = -1;
    for (let column = 0; column < Math.min(columns, width); column++) {
      const attribute = attributes[row * columns + column] ?? 0;
      if (attribute !== current) {
        line += rendition(attribute, blink);
        current = attribute;
      }
      line += characterOf(characters[row * columns + column] ?? 0);
    }
    return line;
  });
}
