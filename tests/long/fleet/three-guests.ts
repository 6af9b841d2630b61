/**
 * Three guests at once under load, for as long as asked: 64-bit Debian that computes, 32-bit Debian that computes, and
 * 64-bit Debian that writes its disk. Every console is asked again and again and has to answer each time.
 *
 *   node tests/long/fleet/three-guests.ts [--minutes 60]
 */

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Fleet } from "../../../src/fleet/contract.ts";
import type { VmConsole } from "../../fleet/fleet-fixture.ts";
import { ask, bootDebian, withFleet } from "./guests.ts";

const ASK_MS = 5000;
/** A host that has other work to do makes guests slow; one that does not answer for so long does not answer. */
const PATIENCE_SECONDS = 120;
const REPORT_MS = 60_000;

const COMPUTES = "while :; do echo $n | sha256sum >/dev/null; done &";
const WRITES =
  "mke2fs -q /dev/vda && mount /dev/vda /mnt && " +
  "while :; do dd if=/dev/urandom of=/mnt/file bs=64k count=32 2>/dev/null; sync; done &";

const GUESTS = [
  { name: "amd64", load: COMPUTES, more: {} },
  { name: "i386", load: COMPUTES, more: { image: "debian-i386" } },
  { name: "disk", load: WRITES, more: { disks: [{ name: "data", sizeBytes: "16M" }] } },
] as const;

const { values } = parseArgs({ options: { minutes: { type: "string", default: "60" } } });

/** Asks one console until `end`; the times that its answers took, in ms. */
async function keepAsking(console: VmConsole, times: number[], end: number): Promise<void> {
  for (let number = 1; performance.now() < end; number++) {
    times.push(await ask(console, number, PATIENCE_SECONDS));
    await sleep(ASK_MS);
  }
}

async function begin(fleet: Fleet, { name, load, more }: (typeof GUESTS)[number]): Promise<VmConsole> {
  const console = await bootDebian(fleet, name, more);
  await console.type(`${load}\n`);
  return console;
}

await withFleet({}, async (fleet) => {
  const consoles = await Promise.all(GUESTS.map((guest) => begin(fleet, guest)));
  const end = performance.now() + Number(values.minutes) * 60_000;
  const times: number[][] = GUESTS.map(() => []);
  const report = (): void => {
    for (const [i, { name }] of GUESTS.entries()) {
      const sorted = (times[i] ?? []).toSorted((a, b) => a - b);
      const at = (part: number): string => ((sorted[Math.floor((sorted.length - 1) * part)] ?? 0) / 1000).toFixed(2);
      console.log(`${name}: ${sorted.length} answers, median ${at(0.5)} s, 99 % ${at(0.99)} s, longest ${at(1)} s`);
    }
  };
  const timer = setInterval(report, REPORT_MS);
  try {
    await Promise.all(consoles.map((console, i) => keepAsking(console, times[i] ?? [], end)));
  } finally {
    clearInterval(timer);
    report();
  }
  for (const { name, state, resets, restarts } of (await fleet.list()).map((vm) => ({ ...vm, ...vm.guest }))) {
    if (state !== "running" || resets > 0 || restarts > 0) throw new Error(`${name} is ${state}, ${resets} resets`);
  }
});
