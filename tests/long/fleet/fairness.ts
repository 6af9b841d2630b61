/**
 * VMs that share one processor get what their weights and caps say: measured as the processor time of each VM's process
 * over a while, as a part of what all of them got, beside the intended part.
 *
 *   node tests/long/fleet/fairness.ts [--seconds 30] [--rounds 1] [--only NAME]
 */

import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { bootDebian, processorTime, withFleet } from "./guests.ts";

/** Largest difference from the intended part, relative. */
const TOLERANCE = 0.03;
const SETTLE_MS = 8000;

interface Case {
  readonly name: string;
  readonly vms: readonly { readonly shares?: number; readonly capPercent?: number }[];
  /** Intended parts: of the time that all got, or of a processor where they are caps. */
  readonly of: "sum" | "processor";
  readonly intended: readonly number[];
}

const CASES: readonly Case[] = [
  { name: "1:1", vms: [{}, {}], of: "sum", intended: [1 / 2, 1 / 2] },
  { name: "1:2", vms: [{ shares: 1024 }, { shares: 2048 }], of: "sum", intended: [1 / 3, 2 / 3] },
  { name: "1:8", vms: [{ shares: 1024 }, { shares: 8192 }], of: "sum", intended: [1 / 9, 8 / 9] },
  { name: "cap-10", vms: [{ capPercent: 10 }], of: "processor", intended: [0.1] },
  { name: "cap-25", vms: [{ capPercent: 25 }], of: "processor", intended: [0.25] },
  { name: "cap-50", vms: [{ capPercent: 50 }], of: "processor", intended: [0.5] },
];

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "30" },
    rounds: { type: "string", default: "1" },
    only: { type: "string" },
  },
});
const rounds = Array.from({ length: Number(values.rounds) }, () => CASES).flat();
const seconds = Number(values.seconds);
let failed = 0;

await withFleet({ overcommit: 1 }, async (fleet) => {
  await fleet.putPool({ name: "one", processors: [(await fleet.pools())[0]?.processors.at(-1) ?? 0], cores: 1 });
  const names = ["left", "right"];
  for (const name of names) {
    const console = await bootDebian(fleet, name, { cpu: { pool: "one" } });
    await console.type("while :; do :; done\n");
  }
  for (const { name, vms, of, intended } of rounds) {
    if (values.only !== undefined && values.only !== name) continue;
    for (const [i, vm] of names.entries()) {
      const { state } = await fleet.inspect(vm);
      const settings = vms[i];
      if (settings === undefined) {
        if (state === "running") await fleet.pause(vm);
        continue;
      }
      if (state === "paused") await fleet.resume(vm);
      await fleet.update(vm, { cpu: { shares: settings.shares ?? 1024, capPercent: settings.capPercent ?? null } });
    }
    await sleep(SETTLE_MS);
    const pids = (await fleet.list()).slice(0, vms.length).map(({ pid }) => pid ?? 0);
    const [begun, before] = [performance.now(), pids.map(processorTime)];
    await sleep(seconds * 1000);
    const times = pids.map((pid, i) => processorTime(pid) - (before[i] ?? 0));
    const whole = of === "sum" ? times.reduce((sum, time) => sum + time, 0) : (performance.now() - begun) * 1e6;
    const parts = times.map((time) => time / whole);
    const errors = parts.map((part, i) => part / (intended[i] ?? 1) - 1);
    const good = errors.every((error) => Math.abs(error) <= TOLERANCE);
    if (!good) failed++;
    const show = (values: readonly number[]): string => values.map((value) => (value * 100).toFixed(2)).join(" : ");
    const got = times.reduce((sum, time) => sum + time, 0) / ((performance.now() - begun) * 1e6);
    console.log(
      `${name}: ${show(parts)} %, intended ${show(intended)} %, off by ${show(errors)} %; ` +
        `together ${(got * 100).toFixed(0)} % of a processor over ${seconds} s: ${good ? "pass" : "FAIL"}`,
    );
  }
});
process.exit(failed === 0 ? 0 : 1);
