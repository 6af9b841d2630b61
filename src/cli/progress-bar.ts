/** Progress of a download or a build on stderr: a bar on a terminal, a line for each step elsewhere. */

import { formatSize } from "../base/size.ts";
import type { Progress } from "../images/progress.ts";

const BAR_CELLS = 24;
const REDRAW_MS = 80;
const DEFAULT_COLUMNS = 80;
const CLEAR_LINE = "\r\x1b[2K";

/** One line of at most `columns` characters. */
export function progressLine({ step, fraction, totalBytes }: Progress, columns: number): string {
  if (fraction === undefined || Number.isNaN(fraction)) return `${step} ...`.slice(0, columns);
  const part = Math.min(1, Math.max(0, fraction));
  const filled = Math.round(part * BAR_CELLS);
  const bar = `[${"#".repeat(filled)}${"-".repeat(BAR_CELLS - filled)}] ${String(Math.floor(part * 100)).padStart(3)}%`;
  const size = totalBytes === undefined ? "" : ` of ${formatSize(totalBytes)}`;
  const tail = ` ${bar}${size}`;
  // The step's name gives way first; a bar cut short would mislead.
  return `${step.slice(0, Math.max(0, columns - tail.length))}${tail}`.slice(0, columns);
}

export class ProgressBar {
  readonly #stream: NodeJS.WriteStream;
  readonly #now: () => number;
  #step = "";
  #drawnAt = Number.NEGATIVE_INFINITY;
  #shown = false;

  constructor(stream: NodeJS.WriteStream, now: () => number = () => performance.now()) {
    this.#stream = stream;
    this.#now = now;
  }

  readonly update = (progress: Progress): void => {
    const newStep = progress.step !== this.#step;
    this.#step = progress.step;
    if (!this.#stream.isTTY) {
      if (newStep) this.#stream.write(`isola: ${progress.step}\n`);
      return;
    }
    const now = this.#now();
    if (!newStep && progress.fraction !== 1 && now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#shown = true;
    const columns = this.#stream.columns;
    this.#stream.write(`${CLEAR_LINE}${progressLine(progress, (columns > 0 ? columns : DEFAULT_COLUMNS) - 1)}`);
  };

  /** Takes the bar off the screen; nothing of it stays in the scroll-back. */
  end(): void {
    if (this.#shown) this.#stream.write(CLEAR_LINE);
    this.#shown = false;
  }
}
