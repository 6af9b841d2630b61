/** Whether and when a VM that ended is started again. */

import type { VmExit } from "./contract.ts";
import type { VmSpec } from "./vm-spec.ts";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 60_000;
/** A run of so long, in ms, was a good one: restarts are counted anew. */
export const GOOD_RUN_MS = 10_000;

const FAILURES: readonly VmExit["kind"][] = [
  "triple-fault",
  "internal-error",
  "process-lost",
  "host-restarted",
  "start-failed",
];

export const isFailure = (exit: VmExit): boolean => FAILURES.includes(exit.kind);

/** Milliseconds to wait before the next try; undefined: none. `wanted`: nobody asked for the end. */
export function restartDelay({ restart }: VmSpec, exit: VmExit, wanted: boolean, restarts: number): number | undefined {
  const comesBack = wanted && restart.policy !== "no" && (restart.policy !== "on-failure" || isFailure(exit));
  if (!comesBack || restarts >= restart.maxRetries) return undefined;
  return Math.min(FIRST_DELAY_MS * 2 ** restarts, LONGEST_DELAY_MS);
}
