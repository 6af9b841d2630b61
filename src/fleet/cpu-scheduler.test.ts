import assert from "node:assert/strict";
import { test } from "node:test";
import { CpuScheduler, SCHEDULE_MS, type Scheduled } from "./cpu-scheduler.ts";
import { DEFAULT_SHARES } from "./vm-spec.ts";
import type { VmRun } from "./vm-run.ts";

const POOL = { name: "p", processors: [0, 1], cores: 2 };
const CPU = { count: 1, model: "", pool: "p", shares: DEFAULT_SHARES, reservationPercent: 0, capPercent: null };

interface Load {
  readonly usedPercent: number;
  readonly waitPercent: number;
}

/** Budgets of VMs with these loads, in percent of a processor, after a while on a host that has other work too. */
async function budgets(loads: readonly Load[]): Promise<number[]> {
  const waited = loads.map(() => 0);
  const scheduler = new CpuScheduler({ waitedMs: (pid) => waited[pid] ?? 0, slice: () => undefined });
  const vms: Scheduled[] = loads.map(({ usedPercent }, pid) => {
    const run = {
      pid,
      budgetPercent: null,
      get use() {
        return { at: performance.now(), cpuPercent: usedPercent, throttledPercent: 0, instructionsPerSecond: 0 };
      },
      request: async () => undefined,
    };
    return { run: run as unknown as VmRun, cpu: CPU };
  });
  let last = performance.now();
  for (let round = 0; round < 6; round++) {
    await new Promise((resolve) => setTimeout(resolve, SCHEDULE_MS / 3));
    const now = performance.now();
    for (const [pid, { waitPercent }] of loads.entries())
      waited[pid] = (waited[pid] ?? 0) + ((now - last) * waitPercent) / 100;
    last = now;
    scheduler.schedule(POOL, vms);
  }
  return vms.map(({ run }) => run.budgetPercent ?? POOL.cores * 100);
}

test("idle VMs that wait a little on a busy host take nothing from one that computes", async () => {
  const idle = Array.from({ length: 20 }, () => ({ usedPercent: 0.5, waitPercent: 6 }));
  const [computing = 0] = await budgets([{ usedPercent: 70, waitPercent: 30 }, ...idle]);
  assert.ok(computing >= 70, `it gets ${computing} % of a processor`);
});

test("VMs that all want more than the host gives divide what there is", async () => {
  const [one = 0, other = 0] = await budgets([
    { usedPercent: 40, waitPercent: 60 },
    { usedPercent: 40, waitPercent: 60 },
  ]);
  assert.ok(one < 60 && other < 60 && Math.abs(one - other) < 1, `${one} and ${other} %`);
});

test("a VM that computes runs long at a time, one that answers gets in between", () => {
  const slices = new Map<number, number>();
  const scheduler = new CpuScheduler({ waitedMs: () => 0, slice: (pid, micros) => slices.set(pid, micros) });
  let usedPercent = 90;
  const run = (pid: number, use: () => number): Scheduled => ({
    run: {
      pid,
      budgetPercent: null,
      get use() {
        return { at: performance.now(), cpuPercent: use(), throttledPercent: 0, instructionsPerSecond: 0 };
      },
      request: async () => undefined,
    } as unknown as VmRun,
    cpu: CPU,
  });
  const vms = [run(1, () => usedPercent), run(2, () => 1)];
  scheduler.schedule(POOL, vms);
  assert.ok((slices.get(1) ?? 0) > 4 * (slices.get(2) ?? Infinity), `${slices.get(1)} and ${slices.get(2)} µs`);
  usedPercent = 1;
  scheduler.schedule(POOL, vms);
  assert.equal(slices.get(1), slices.get(2));
});
