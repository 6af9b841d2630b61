/** Paints a guest's text screen on a terminal: only rows that changed. */

const GRAPHICS_NOTICE = "the guest shows graphics; --screen text shows text modes";

/** The size of the terminal in cells. */
export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

const moveTo = (row: number, column: number): string => `\x1b[${row + 1};${column + 1}H`;

/** What is to be shown: rows with the renditions of their characters, and where the cursor is, if it is shown. */
export interface Picture {
  readonly rows: readonly string[];
  readonly cursor?: { readonly column: number; readonly row: number } | undefined;
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
  paint(picture: Picture | undefined, size: TerminalSize): string {
    if (size.columns !== this.#size.columns || size.rows !== this.#size.rows) this.forget();
    this.#size = size;
    const rows = picture?.rows ?? [GRAPHICS_NOTICE];
    const shown = Math.min(rows.length, size.rows);
    // A terminal with fewer rows shows those around the cursor.
    const first = Math.min(Math.max((picture?.cursor?.row ?? 0) - shown + 1, 0), rows.length - shown);
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
    const cursor = picture?.cursor;
    const visible = cursor !== undefined && cursor.row >= first && cursor.row < first + shown;
    const end = visible ? `${moveTo(cursor.row - first, cursor.column)}\x1b[?25h` : "\x1b[?25l";
    // Painting moved the cursor.
    if (painted === "" && end === this.#end) return "";
    this.#end = end;
    return `\x1b[?25l${painted}${end}`;
  }
}
