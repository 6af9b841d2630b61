/**
 * The measurements: every figure is taken of both machines by turns within one run, so that a host that is busy for a
 * while is busy for both.
 */

import { setTimeout as sleep } from "node:timers/promises";
import type { Mark } from "./guest-process.ts";
import { cpuSeconds, fineCpuSeconds, type MemoryFigures, memoryFigures } from "./host.ts";
import type { IsolaFigures } from "./isola-guest.ts";
import { boot, type Machine, type MachineName } from "./machines.ts";
import type { BenchOptions } from "./options.ts";

/** Compilers of the engine's runtime are still at work when the prompt comes. */
const SETTLE_MS = 3000;
const IDLE_MS = 10_000;

export interface RoundResult {
  readonly machine: MachineName;
  readonly init: Mark;
  readonly shell: Mark;
  /** isola's alone. */
  readonly figures: readonly IsolaFigures[];
  readonly memory?: MemoryFigures;
  /** CPU time at the prompt as a part of one core, 0 to 1 and more. */
  readonly idle?: number;
  readonly retried: string | undefined;
}

type Progress = (line: string) => void;

async function idleShare(pid: number): Promise<number> {
  await sleep(SETTLE_MS);
  const fine = fineCpuSeconds(pid);
  const coarse = cpuSeconds(pid);
  const begun = performance.now();
  await sleep(IDLE_MS);
  const elapsed = (performance.now() - begun) / 1000;
  const fineAfter = fineCpuSeconds(pid);
  const byTicks = (cpuSeconds(pid) - coarse) / elapsed;
  if (fine === undefined || fineAfter === undefined) return byTicks;
  // A thread that ended in between takes its part of the finer figure along.
  return fineAfter >= fine ? (fineAfter - fine) / elapsed : byTicks;
}

async function bootRounds(machines: readonly Machine[], options: BenchOptions, say: Progress): Promise<RoundResult[]> {
  const results: RoundResult[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    // The order changes from round to round: neither machine is always the one that finds the caches cold.
    for (const machine of round % 2 === 1 ? machines : machines.toReversed()) {
      const { guest, init, shell, figures, retried } = await boot(machine, options.timeoutSeconds);
      try {
        const memory = options.parts.has("resident") ? memoryFigures(guest.pid) : undefined;
        const idle = options.parts.has("idle") ? await idleShare(guest.pid) : undefined;
        results.push({
          machine: machine.name,
          init,
          shell,
          figures,
          ...(memory === undefined ? {} : { memory }),
          ...(idle === undefined ? {} : { idle }),
          retried,
        });
        const wall = `init ${init.wallSeconds.toFixed(2)} s, prompt ${shell.wallSeconds.toFixed(2)} s`;
        say(`round ${round} of ${options.rounds}, ${machine.name}: ${wall}`);
      } finally {
        await guest.kill();
      }
    }
  }
  return results;
}

/** Boots, and what is measured at the prompt. @throws IsolaError where a machine fails twice */
export async function measure(
  machines: readonly Machine[],
  options: BenchOptions,
  say: Progress,
): Promise<RoundResult[]> {
  const { parts } = options;
  return parts.has("boot") || parts.has("resident") || parts.has("idle") ? bootRounds(machines, options, say) : [];
}
