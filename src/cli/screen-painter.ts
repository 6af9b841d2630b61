/** Paints a guest's text screen on a terminal: only rows that changed, attributes as the terminal's sixteen colours. */

import { characterOf, type TextScreen } from "../machine/vm-contract.ts";

/** Terminals count blue and red the other way round: bit 0 is a VGA's blue, and an ANSI terminal's red. */
const ANSI = [0, 4, 2, 6, 1, 5, 3, 7] as const;

const GRAPHICS_NOTICE = "the guest shows graphics; --screen text shows text modes";

/** The size of the terminal in cells. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

const moveTo = (row: number, column: number): string => `\x1b[${row + 1};${column + 1}H`;

/** Select Graphic Rendition for a VGA attribute. [ECMA-48 §8.3.117] */
function rendition(attribute: number, blink: boolean): string {
  const high = (attribute & 0x80) !== 0;
  const foreground = (ANSI[attribute & 7] ?? 7) + ((attribute & 8) !== 0 ? 90 : 30);
  const background = (ANSI[(attribute >> 4) & 7] ?? 0) + (high && !blink ? 100 : 40);
  return `\x1b[0;${foreground};${background}${high && blink ? ";5" : ""}m`;
}

export class ScreenPainter {
  #rows: string[] = [];
  #size: TerminalSize = { columns: 0, rows: 0 };
  #end = "";
  #status = "";

  /** A line of isola's own, below the screen, or over its last row where the terminal has no more. */
  set status(text: string) {
    this.#status = text;
  }

  /** Paints all anew next time. */
  forget(): void {
    this.#rows = [];
    this.#end = "";
  }

  /** What to send to a terminal of `size` that shows what was painted last; empty if nothing changed. */
  paint(screen: TextScreen | undefined, size: TerminalSize): string {
    if (size.columns !== this.#size.columns || size.rows !== this.#size.rows) this.forget();
    this.#size = size;
    const rows = screen === undefined ? [GRAPHICS_NOTICE] : this.#render(screen);
    const shown = Math.min(rows.length, size.rows);
    // A terminal with fewer rows shows those around the cursor.
    const first = Math.min(Math.max((screen?.cursor?.row ?? 0) - shown + 1, 0), rows.length - shown);
    const lines = rows.slice(first, first + shown);
    if (this.#status !== "") {
      const line = `\x1b[0;7m${this.#status.slice(0, size.columns)}`;
      if (lines.length < size.rows) lines.push(line);
      else lines[lines.length - 1] = line;
    }
    let painted = "";
    if (this.#rows.length === 0) painted += "\x1b[0m\x1b[2J";
    for (let row = 0; row < Math.max(lines.length, this.#rows.length); row++) {
      const line = lines[row] ?? "";
      if (line !== this.#rows[row]) painted += `${moveTo(row, 0)}${line}\x1b[0m\x1b[K`;
    }
    this.#rows = lines;
    const cursor = screen?.cursor;
    const visible = cursor !== undefined && cursor.row >= first && cursor.row < first + shown;
    const end = visible ? `${moveTo(cursor.row - first, cursor.column)}\x1b[?25h` : "\x1b[?25l";
    // Painting moved the cursor.
    if (painted === "" && end === this.#end) return "";
    this.#end = end;
    return `\x1b[?25l${painted}${end}`;
  }

  #render({ columns, rows, characters, attributes, blink }: TextScreen): string[] {
    const width = Math.min(columns, this.#size.columns);
    return Array.from({ length: rows }, (_, row) => {
      let line = "";
      let current = -1;
      for (let column = 0; column < width; column++) {
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
}
