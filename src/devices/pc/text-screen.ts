/** The screen of a VGA's text mode, taken out of its registers and memory; and the screen as text. */

import { PLANE_BYTES } from "./vga-memory.ts";

/** Indices of the CRT controller's registers. */
export const CRTC = {
  horizontalEnd: 0x01,
  overflow: 0x07,
  maximumScan: 0x09,
  cursorStart: 0x0a,
  cursorEnd: 0x0b,
  startHigh: 0x0c,
  startLow: 0x0d,
  cursorHigh: 0x0e,
  cursorLow: 0x0f,
  protect: 0x11,
  verticalEnd: 0x12,
  offset: 0x13,
} as const;
const CURSOR_OFF = 0x20;
const SCAN_DOUBLE = 0x80;
/** Attribute controller: mode control, and whether bit 7 of an attribute makes its character blink. */
const ATTRIBUTE_MODE = 0x10;
const MODE_BLINK = 0x08;
/** Bounds of what is shown: a guest may program anything. */
const MAX_COLUMNS = 160;
const MAX_ROWS = 100;
const COLOURS = 16;

/** A copy of what a text mode shows. Cells are in rows from the top, `columns` each. */
export interface TextScreen {
  readonly columns: number;
  readonly rows: number;
  /** Codes of the font's characters: code page 437, unless the guest has loaded another font. */
  readonly characters: Uint8Array;
  /** Bits 3:0 foreground, 6:4 background; bit 7 blinks, or is the background's high bit. */
  readonly attributes: Uint8Array;
  /** Whether bit 7 of an attribute blinks. */
  readonly blink: boolean;
  /** Absent while it is off or outside of the screen. */
  readonly cursor?: { readonly column: number; readonly row: number };
  /** The sixteen colours, red, green and blue of 8 bits each. */
  readonly palette: Uint8Array;
}

/** The parts of a VGA's state that make its screen. */
interface VgaText {
  readonly memory: Uint8Array;
  readonly crtc: Uint8Array;
  readonly attribute: Uint8Array;
  readonly dac: Uint8Array;
  readonly dacMask: number;
}

export function textScreen({ memory, crtc, attribute, dac, dacMask }: VgaText): TextScreen {
  const at = (index: number): number => crtc[index] ?? 0;
  const overflow = at(CRTC.overflow);
  const lines = (at(CRTC.verticalEnd) | ((overflow & 2) << 7) | ((overflow & 0x40) << 3)) + 1;
  const lineHeight = ((at(CRTC.maximumScan) & 0x1f) + 1) * ((at(CRTC.maximumScan) & SCAN_DOUBLE) === 0 ? 1 : 2);
  const columns = Math.min(at(CRTC.horizontalEnd) + 1, MAX_COLUMNS);
  const rows = Math.min(Math.max(Math.floor(lines / lineHeight), 1), MAX_ROWS);
  // In characters; the offset register counts two of them.
  const stride = at(CRTC.offset) * 2;
  const start = (at(CRTC.startHigh) << 8) | at(CRTC.startLow);

  const characters = new Uint8Array(columns * rows);
  const attributes = new Uint8Array(columns * rows);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const cell = ((start + row * stride + column) * 2) % PLANE_BYTES;
      characters[row * columns + column] = memory[cell] ?? 0;
      attributes[row * columns + column] = memory[PLANE_BYTES + cell] ?? 0;
    }
  }
  const cursor = cursorOf(((at(CRTC.cursorHigh) << 8) | at(CRTC.cursorLow)) - start, stride, columns, rows);
  const shown =
    (at(CRTC.cursorStart) & CURSOR_OFF) === 0 && (at(CRTC.cursorStart) & 0x1f) <= (at(CRTC.cursorEnd) & 0x1f);
  return {
    columns,
    rows,
    characters,
    attributes,
    blink: ((attribute[ATTRIBUTE_MODE] ?? 0) & MODE_BLINK) !== 0,
    ...(shown && cursor !== undefined ? { cursor } : {}),
    palette: paletteOf(attribute, dac, dacMask),
  };
}

/** `place` in characters from the first cell shown. */
const cursorOf = (place: number, stride: number, columns: number, rows: number): TextScreen["cursor"] => {
  if (place < 0 || stride === 0) return undefined;
  const row = Math.floor(place / stride);
  const column = place % stride;
  return row < rows && column < columns ? { column, row } : undefined;
};

const paletteOf = (attribute: Uint8Array, dac: Uint8Array, mask: number): Uint8Array => {
  const palette = new Uint8Array(COLOURS * 3);
  for (let colour = 0; colour < COLOURS; colour++) {
    const entry = (attribute[colour] ?? 0) & 0x3f & mask;
    for (let part = 0; part < 3; part++) {
      const six = (dac[entry * 3 + part] ?? 0) & 0x3f;
      palette[colour * 3 + part] = (six << 2) | (six >> 4);
    }
  }
  return palette;
};

/** Code page 437 as a PC's font has it; code 0 is a space. */
const CODE_PAGE_437 = [
  " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼",
  " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂",
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀",
  "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0",
].join("");

/** The character of a font code, 0 to 255. */
export const characterOf = (code: number): string => CODE_PAGE_437[code] ?? " ";

/** The rows as text, without the spaces at their ends. */
export function screenLines({ columns, rows, characters }: TextScreen): string[] {
  return Array.from({ length: rows }, (_, row) => {
    const cells = characters.subarray(row * columns, (row + 1) * columns);
    return Array.from(cells, characterOf)
      .join("")
      .replace(/[ \u00a0]+$/, "");
  });
}

/** The whole screen as text, without empty rows at its end; each row ends with a line feed. */
export function screenText(screen: TextScreen): string {
  const lines = screenLines(screen);
  while (lines.at(-1) === "") lines.pop();
  return lines.map((line) => `${line}\n`).join("");
}
