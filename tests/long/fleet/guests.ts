/** Fleets for the long runs: a state folder beside the system's temporary files, and guests that compute. */

import { mkdtemp, rm } from "node:fs/promises";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Fleet } from "../../../src/fleet/contract.ts";
import { type FleetOptions, openFleet } from "../../../src/fleet/fleet-server.ts";
import { VmConsole } from "../../fleet/fleet-fixture.ts";

export const PROMPT = /root@debian:[^\n]*# /;

export async function withFleet(options: FleetOptions, work: (fleet: Fleet) => Promise<void>): Promise<void> {
  const stateFolder = await mkdtemp(join(tmpdir(), "isola-long-"));
  const fleet = await openFleet({ ...options, stateFolder });
  try {
    await work(fleet);
  } finally {
    await Promise.all((await fleet.list()).map(({ id }) => fleet.kill(id)));
    await fleet.close();
    await rm(stateFolder, { recursive: true, force: true });
  }
}

/** Nanoseconds that all threads of a process have run. [linux Documentation/scheduler/sched-stats.rst] */
export function processorTime(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
    try {
      return sum + Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      return sum;
    }
  }, 0);
}

/** A Debian guest at its prompt. */
export async function bootDebian(
  fleet: Fleet,
  name: string,
  more: Readonly<Record<string, unknown>> = {},
): Promise<VmConsole> {
  await fleet.create({ name, image: "debian", memoryBytes: "96M", append: "quiet", ...more });
  await fleet.start(name);
  const console = await VmConsole.open(fleet, name);
  await console.expect(PROMPT, 300);
  return console;
}

/** Has a guest's shell answer; the ms that it took. */
export async function ask(console: VmConsole, number: number, patienceSeconds: number): Promise<number> {
  const begun = performance.now();
  // Its echo of what is typed has no sum in it.
  await console.type(`echo is-$((${number} * 7))-so\n`);
  await console.expect(new RegExp(`\\nis-${number * 7}-so\\r\\n`), patienceSeconds);
  return performance.now() - begun;
}
