/**
 * How many idle VMs a server holds: Debian guests of 96 MiB are started until memory is given out or as many run as were
 * asked for. Then: memory of each process beyond the guest's RAM that was touched, and processor time of all of them.
 */

import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { untilTold } from "./until-told.ts";
import { IsolaError } from "../src/base/errors.ts";
import type { Fleet } from "../src/fleet/contract.ts";
import { FleetError } from "../src/fleet/fleet-error.ts";
import { openFleet } from "../src/fleet/fleet-server.ts";
import { ENGINE_BYTES } from "../src/memory/guest-memory.ts";
import { VmConsole } from "../tests/fleet/fleet-fixture.ts";
import { cpuSeconds, fineCpuSeconds, memoryFigures } from "./host.ts";
import { median } from "./statistics.ts";

const MIB = 2 ** 20;
const GUEST_BYTES = 96 * MIB;
const PROMPT = /root@debian:[^\n]*# /;
const BOOT_SECONDS = 600;
/** Guests that boot at once: one for each of two processors. */
const AT_ONCE = 2;
/** Threads look at their garbage every five seconds. */
const SETTLE_MS = 20_000;
const IDLE_MS = 30_000;
const PAGE_BYTES = 4096;

export interface DensityOptions {
  readonly vms: number;
  /** Memory that the server may give out, in bytes. */
  readonly memoryBytes: number;
}

export interface DensityResult {
  /** How many ran at once. */
  readonly running: number;
  /** Why there were not more; undefined where as many run as were asked for. */
  readonly refused: string | undefined;
  /** Of each process, in MiB: PSS in all, guest RAM that was touched, and the difference. */
  readonly pss: readonly number[];
  readonly touched: readonly number[];
  readonly beyond: readonly number[];
  /** Processor time of all VMs together while all are idle, as a part of one processor. */
  readonly idle: number;
}

/** Bytes of a guest's RAM that are resident in its VM's process. [linux Documentation/admin-guide/mm/pagemap.rst] */
function touchedBytes(pid: number, ramBytes: number): number {
  const size = ENGINE_BYTES + ramBytes;
  const mapping = readFileSync(`/proc/${pid}/maps`, "latin1")
    .split("\n")
    .map(
      (line) =>
        /^([0-9a-f]+)-([0-9a-f]+) rw/
          .exec(line)
          ?.slice(1)
          .map((end) => Number.parseInt(end, 16)) ?? [],
    )
    .find(([start = 0, end = 0]) => end - start === size);
  if (mapping?.[0] === undefined) {
    throw new IsolaError({
      code: "bench-proc",
      message: `finding the RAM of process ${pid}: no mapping of ${size} bytes`,
    });
  }
  const entries = Buffer.alloc((ramBytes / PAGE_BYTES) * 8);
  const fd = openSync(`/proc/${pid}/pagemap`, "r");
  try {
    const read = readSync(fd, entries, 0, entries.length, ((mapping[0] + ENGINE_BYTES) / PAGE_BYTES) * 8);
    if (read !== entries.length) {
      throw new IsolaError({ code: "bench-proc", message: `reading the pages of process ${pid}; wanted: as root` });
    }
  } finally {
    closeSync(fd);
  }
  let pages = 0;
  // Bit 63 of an entry: the page is present.
  for (let at = 7; at < entries.length; at += 8) if ((entries[at] ?? 0) & 0x80) pages++;
  return pages * PAGE_BYTES;
}

async function bootOne(fleet: Fleet, name: string): Promise<void> {
  await fleet.create({ name, image: "debian", memoryBytes: GUEST_BYTES, append: "quiet" });
  await fleet.start(name);
  const console = await VmConsole.open(fleet, name);
  await console.expect(PROMPT, BOOT_SECONDS);
  console.close();
}

/** Starts VMs until enough run, one is refused, or `signal`; why it was refused. */
async function fill(
  fleet: Fleet,
  vms: number,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<string | undefined> {
  let [begun, ready] = [0, 0];
  let refused: string | undefined;
  const work = async (): Promise<void> => {
    while (begun < vms && refused === undefined && !signal.aborted) {
      begun++;
      const name = `idle${begun}`;
      try {
        await bootOne(fleet, name);
      } catch (error) {
        if (!(error instanceof FleetError) || error.code !== "no-resources") throw error;
        refused = error.message;
        return;
      }
      ready++;
      say(`${ready} of ${vms} VMs are at their prompt`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return refused;
}

/** @throws IsolaError `bench-proc`, `bench-interrupted` */
export async function measureDensity(options: DensityOptions, say: (line: string) => void): Promise<DensityResult> {
  const stateFolder = mkdtempSync(join(tmpdir(), "isola-density-"));
  const fleet = await openFleet({ stateFolder, memoryBytes: options.memoryBytes });
  const killAll = async (): Promise<void> => {
    for (const { id } of await fleet.list()) await fleet.kill(id);
  };
  try {
    return await untilTold((signal) => measure(fleet, options, say, signal), killAll);
  } finally {
    await fleet.close();
    rmSync(stateFolder, { recursive: true, force: true });
  }
}

async function measure(
  fleet: Fleet,
  options: DensityOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<DensityResult> {
  const refused = await fill(fleet, options.vms, say, signal);
  await sleep(SETTLE_MS, undefined, { signal });
  const pids = (await fleet.list()).flatMap(({ pid, state }) => (pid === null || state !== "running" ? [] : [pid]));
  const used = (): number => pids.reduce((sum, pid) => sum + (fineCpuSeconds(pid) ?? cpuSeconds(pid)), 0);
  const [before, begun] = [used(), performance.now()];
  await sleep(IDLE_MS, undefined, { signal });
  const idle = (used() - before) / ((performance.now() - begun) / 1000);
  const pss = pids.map((pid) => memoryFigures(pid).pssKib / 1024);
  const touched = pids.map((pid) => touchedBytes(pid, GUEST_BYTES) / MIB);
  return { running: pids.length, refused, pss, touched, beyond: pss.map((all, i) => all - (touched[i] ?? 0)), idle };
}

/** What is printed, ending with a newline. */
export function densityReport({ running, refused, pss, touched, beyond, idle }: DensityResult): string {
  const spread = (values: readonly number[]): string =>
    `${median(values).toFixed(1)} MiB (${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)})`;
  const sum = pss.reduce((total, one) => total + one, 0);
  return [
    `idle Debian VMs of ${GUEST_BYTES / MIB} MiB at once: ${running}, ${(sum / 1024).toFixed(2)} GiB in all`,
    ...(refused === undefined ? [] : [`  the next was refused: ${refused}`]),
    `PSS of each beyond touched guest RAM: ${spread(beyond)}`,
    `PSS of each: ${spread(pss)}, guest RAM touched: ${spread(touched)}`,
    `processor time of all while idle: ${(idle * 100).toFixed(1)} % of a core, ${((idle / running) * 100).toFixed(2)} % each`,
    "",
  ].join("\n");
}
