/**
 * Gives every VM that is on its budget of processor time, as often as demand changes. The VM's own process holds to it,
 * also while no server lives: then budgets stay as they were.
 */

import type { CpuPool } from "./contract.ts";
import { type CpuClaim, divideCpu } from "./cpu-division.ts";
import { PERCENT_PER_PROCESSOR, type CpuSpec } from "./vm-spec.ts";
import type { VmRun } from "./vm-run.ts";

export const SCHEDULE_MS = 250;
/** A report older than that tells of a VM that has nothing to tell: it is idle. */
const STALE_MS = 1000;
/** Room that a VM with little demand has above it, as a factor and in percent of a processor. */
const GROWTH = 1.25;
const GROWTH_PERCENT = 2;
/** Budgets that differ by less than that part are not worth a message. */
const WORTH = 0.002;

export interface Scheduled {
  readonly run: VmRun;
  readonly cpu: CpuSpec;
}

/** Sends each VM of one pool its budget where it changed. */
export function schedule(pool: CpuPool, vms: readonly Scheduled[]): void {
  const capacity = pool.cores * PERCENT_PER_PROCESSOR;
  const claims = vms.map(({ run, cpu }) => claimOf(run, cpu, capacity));
  const budgets = divideCpu(capacity, claims);
  for (const [i, { run, cpu }] of vms.entries()) {
    const budget = budgets[i] ?? capacity;
    // One who may have the whole pool needs no limit.
    assign(run, budget >= capacity && cpu.capPercent === null ? null : budget);
  }
}

function claimOf(run: VmRun, cpu: CpuSpec, capacityPercent: number): CpuClaim {
  const limitPercent = Math.min(cpu.capPercent ?? Infinity, capacityPercent);
  const { use } = run;
  const fresh = use !== undefined && performance.now() - use.at < STALE_MS;
  const used = fresh ? use.cpuPercent : 0;
  const hungry = fresh && use.throttledPercent > 0;
  return {
    shares: cpu.shares,
    reservationPercent: cpu.reservationPercent,
    limitPercent,
    demandPercent: hungry ? limitPercent : Math.min(limitPercent, used * GROWTH + GROWTH_PERCENT),
  };
}

function assign(run: VmRun, budgetPercent: number | null): void {
  const last = run.budgetPercent;
  if (last === budgetPercent) return;
  if (typeof last === "number" && budgetPercent !== null && Math.abs(budgetPercent / last - 1) < WORTH) return;
  run.budgetPercent = budgetPercent;
  const processors = budgetPercent === null ? null : budgetPercent / PERCENT_PER_PROCESSOR;
  // One that cannot be reached keeps what it has; it is told again once it can.
  run.request({ do: "budget", processors }).catch(() => {
    run.budgetPercent = undefined;
  });
}
