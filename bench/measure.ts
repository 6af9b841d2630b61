/**
 * The measurements: every figure is taken of both machines by turns within one run, so that a host that is busy for a
 * while is busy for both.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { IsolaError } from "../src/base/errors.ts";
import type { Mark } from "./guest-process.ts";
import { cpuSeconds, fineCpuSeconds, type MemoryFigures, memoryFigures } from "./host.ts";
import type { IsolaFigures } from "./isola-guest.ts";
import { boot, type BootedGuest, type Machine, type MachineName } from "./machines.ts";
import type { BenchOptions } from "./options.ts";
import { prepareWork, runWork, WORK_GROUPS } from "./work.ts";

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

export interface WorkResult {
  readonly group: string;
  readonly checksum: string;
  /** Seconds of each run after the first, which warms up. */
  readonly seconds: Readonly<Record<MachineName, readonly number[]>>;
}

export interface BenchResult {
  readonly rounds: readonly RoundResult[];
  readonly work: readonly WorkResult[];
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
        const memory = options.parts.has("memory") ? memoryFigures(guest.pid) : undefined;
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

async function workRounds(machines: readonly Machine[], options: BenchOptions, say: Progress): Promise<WorkResult[]> {
  const results: WorkResult[] = [];
  const guests: BootedGuest[] = [];
  try {
    for (const machine of machines) guests.push(await boot(machine, options.timeoutSeconds));
    for (const { guest } of guests) await prepareWork(guest, options.timeoutSeconds);
    for (const group of WORK_GROUPS) {
      if (!options.groups.has(group.name)) continue;
      const seconds: Record<MachineName, number[]> = { isola: [], qemu: [] };
      let checksum: string | undefined;
      for (let run = 0; run <= options.rounds; run++) {
        for (const { name, guest } of guests) {
          const result = await runWork(guest, group, options.timeoutSeconds);
          checksum ??= result.checksum;
          if (result.checksum !== checksum) {
            throw new IsolaError({
              code: "bench-checksum",
              message: `group ${group.name}: ${name} printed ${result.checksum} in run ${run}, wanted ${checksum} as before`,
            });
          }
          if (run > 0) seconds[name].push(result.seconds);
        }
      }
      results.push({ group: group.name, checksum: checksum ?? "", seconds });
      say(`group ${group.name}: checksums agree`);
    }
  } finally {
    for (const { guest } of guests) await guest.kill();
  }
  return results;
}

/** @throws IsolaError where a machine fails twice, or the machines disagree */
export async function measure(
  machines: readonly Machine[],
  options: BenchOptions,
  say: Progress,
): Promise<BenchResult> {
  const { parts } = options;
  const boots = parts.has("boot") || parts.has("memory") || parts.has("idle");
  const rounds = boots ? await bootRounds(machines, options, say) : [];
  const work = parts.has("work") ? await workRounds(machines, options, say) : [];
  return { rounds, work };
}
