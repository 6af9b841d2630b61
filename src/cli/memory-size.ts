/** RAM as the value of `--memory`. */

import { IsolaError } from "../base/errors.ts";
import { formatSize, parseSize } from "../base/size.ts";
import { MAX_RAM_BYTES, MIN_RAM_BYTES, RAM_STEP_BYTES } from "../memory/guest-memory.ts";

/** RAM in bytes, within what the engine can give. Throws a "usage" error. */
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
