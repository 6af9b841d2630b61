/** Sizes as a person writes them: `256M`, `1G`, `1.5GiB`, plain bytes. Units are powers of 1024. */

import { IsolaError } from "../base/errors.ts";
import { MAX_RAM_BYTES, MIN_RAM_BYTES } from "../memory/guest-memory.ts";

const UNITS = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const;
const SIZE = /^(\d+(?:\.\d+)?)(?:([KMGT])(?:iB|B)?|B)?$/i;
/** RAM is cut into WebAssembly's pages. */
const RAM_STEP_BYTES = 64 * 1024;

/** Bytes, a whole number, Infinity beyond what a number holds exactly; undefined where `text` is no size. */
export function parseSize(text: string): number | undefined {
  const match = SIZE.exec(text.trim());
  if (match === null) return undefined;
  const unit = (match[2] ?? "").toUpperCase() as keyof typeof UNITS;
  const bytes = Number(match[1]) * UNITS[unit];
  if (bytes > Number.MAX_SAFE_INTEGER) return Infinity;
  return Number.isInteger(bytes) ? bytes : undefined;
}

/** Exact in the largest unit that takes four digits at the most, else with one decimal: "256M", "3966M", "97.7K". */
export function formatSize(bytes: number): string {
  const fitting = (["T", "G", "M", "K"] as const).filter((unit) => bytes >= UNITS[unit]);
  const exact = fitting.find((unit) => bytes % UNITS[unit] === 0 && bytes / UNITS[unit] < 10000);
  if (exact !== undefined) return `${bytes / UNITS[exact]}${exact}`;
  const [largest] = fitting;
  return largest === undefined ? `${bytes}` : `${(bytes / UNITS[largest]).toFixed(1)}${largest}`;
}

/** RAM in bytes from the value of `--memory`, within what the engine can give. Throws a "usage" error. */
export function parseMemory(text: string): number {
  const refuse = (problem: string): IsolaError =>
    new IsolaError({
      code: "usage",
      message: `--memory ${text}: ${problem}; wanted: ${formatSize(MIN_RAM_BYTES)} to ${formatSize(MAX_RAM_BYTES)}, as in 256M`,
    });
  const bytes = parseSize(text);
  if (bytes === undefined) throw refuse("not a size in whole bytes");
  if (bytes < MIN_RAM_BYTES) {
    throw refuse(/^\d+$/.test(text.trim()) ? `that is ${bytes} bytes, too little` : "too little");
  }
  if (bytes > MAX_RAM_BYTES) throw refuse("more than the engine can address");
  if (bytes % RAM_STEP_BYTES !== 0) throw refuse(`not a multiple of ${formatSize(RAM_STEP_BYTES)}`);
  return bytes;
}
