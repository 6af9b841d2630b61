/** QEMU's results as recorded in recorded.json, for hosts without QEMU. */

import { readFileSync, writeFileSync } from "node:fs";
import type { Results } from "./results.ts";

export interface Recorded {
  /** The version that ran. */
  readonly qemu: string;
  /** By program. */
  readonly programs: Record<string, Results>;
}

const PLACE = new URL("recorded.json", import.meta.url);

export function readRecorded(): Recorded {
  return JSON.parse(readFileSync(PLACE, "utf8")) as Recorded;
}
export function writeRecorded(recorded: Recorded): void {
  writeFileSync(PLACE, `${JSON.stringify(recorded, undefined, 2)}\n`);
}
