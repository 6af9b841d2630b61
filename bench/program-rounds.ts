/** Runs the programs in machines that stand side by side, by turns, each timed by the host between two marks. */

import { IsolaError } from "../src/base/errors.ts";
import { type BootedGuest, boot, type Machine, type MachineName } from "./machines.ts";
import type { BenchOptions } from "./options.ts";
import { GUEST_PREPARATION } from "./program-image.ts";
import type { Benchmark, NativeResult } from "./programs.ts";
import { REAL_PREPARATION } from "./real-programs.ts";
import { median } from "./statistics.ts";

export interface ProgramResult {
  readonly group: string;
  readonly name: string;
  readonly checksum: string;
  readonly nativeSeconds: number;
  /** Seconds of each run after the first, which warms up; none where the machine did not take part. */
  readonly seconds: Readonly<Record<MachineName, readonly number[]>>;
  /** What went wrong, where it did. */
  readonly failure?: string;
}

/** Runs every benchmark once to warm up and `rounds` times in each machine. Failures are told in the results. */
export async function runPrograms(
  machines: readonly Machine[],
  benchmarks: readonly Benchmark[],
  native: ReadonlyMap<string, NativeResult>,
  { rounds, timeoutSeconds }: Pick<BenchOptions, "rounds" | "timeoutSeconds">,
  say: (line: string) => void,
): Promise<ProgramResult[]> {
  const guests: BootedGuest[] = [];
  const results: ProgramResult[] = [];
  const bootAndPrepare = async (machine: Machine): Promise<BootedGuest> => {
    const booted = await boot(machine, timeoutSeconds);
    for (const line of [...GUEST_PREPARATION, ...REAL_PREPARATION]) await booted.guest.command(line, timeoutSeconds);
    return booted;
  };
  try {
    for (const machine of machines) guests.push(await bootAndPrepare(machine));
    for (const { group, name, command } of benchmarks) {
      const { checksum = "", seconds: nativeSeconds = Number.NaN } = native.get(name) ?? {};
      const seconds: Record<MachineName, number[]> = { isola: [], interpreter: [], qemu: [], v86: [] };
      let failure: string | undefined;
      for (let run = 0; run <= rounds && failure === undefined; run++) {
        for (const [i, { name: machine, guest }] of guests.entries()) {
          try {
            const measured = await guest.timed(command, name, timeoutSeconds);
            if (measured.checksum !== checksum) {
              failure = `${machine} printed ${measured.checksum}, the host itself ${checksum}`;
            }
            if (run > 0) seconds[machine].push(measured.seconds);
          } catch (error) {
            if (!(error instanceof IsolaError)) throw error;
            failure = error.message;
            // The others go on, and this machine with the next benchmark.
            await guest.kill();
            const again = machines[i];
            if (again !== undefined) guests[i] = await bootAndPrepare(again);
          }
        }
      }
      results.push({ group, name, checksum, nativeSeconds, seconds, ...(failure === undefined ? {} : { failure }) });
      const figures = guests.map((guest) => `${guest.name} ${median(seconds[guest.name]).toFixed(3)} s`).join(", ");
      say(`${group}, ${name}: ${failure ?? figures}`);
    }
  } finally {
    for (const { guest } of guests) await guest.kill();
  }
  return results;
}
