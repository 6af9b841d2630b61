/**
 * Gives every VM that is on its budget of processor time, as often as demand changes. The VM's own process holds to it,
 * also while no server lives: then budgets stay as they were.
 *
 * What a pool has is not always what it gets: other work of the host takes its part, and the host's own scheduler would
 * then divide the rest evenly. So while VMs wait for processors that others have, the time that they did get is what is
 * divided, and a little more, to find out when there is more.
 */

import type { CpuPool } from "./contract.ts";
import { type CpuClaim, divideCpu } from "./cpu-division.ts";
import { sliceProcess, waitedMs } from "./host-facts.ts";
import { PERCENT_PER_PROCESSOR, type CpuSpec } from "./vm-spec.ts";
import type { VmRun } from "./vm-run.ts";

export const SCHEDULE_MS = 250;
/** A report older than that tells of a VM that has nothing to tell: it is idle. */
const STALE_MS = 1000;
/** Budgets that differ by less than that part are not worth a message. */
const WORTH = 0.002;
/** A VM that waits for a processor for longer than that, in percent of the time, wants more than it gets. */
const WAITING_PERCENT = 4;
/**
 * Of the time that a VM could have run, so much must it have wanted to, for what it got to be all there was: one that
 * wakes now and then waits a little on a busy host, and takes nothing from anybody.
 */
const WANTING_PERCENT = 50;
/** What a VM that computes may want beyond what it uses; not one that idles: of those there may be hundreds. */
const GROWTH = 1.25;
const IDLE_PERCENT = 10;
/** Steps by which a pool's capacity is tried again: while VMs wait, and while none does. */
const PROBE = 1.015;
const RECOVER = 1.05;
/** In which time a debt is paid back, and what can be owed at most, in seconds of the budget; what is always left of it. */
const REPAY_S = 2;
const LONGEST_DEBT_S = 2;
const LEAST_PART = 0.25;
/**
 * How long the host lets a VM run at a time where another waits, in µs. One that computes finds its caches cold after
 * each turn of another, so turns of Linux's own few ms cost it work (decision 6). One that wakes to answer is let in at
 * once, for its slice is the shorter one.
 */
const SLICE_MICROS = { computing: 20_000, answering: 2000 } as const;
/** Percent of a processor from which a VM counts as computing, and below which no longer. */
const COMPUTING_PERCENT = 25;
const ANSWERING_PERCENT = 10;
/** Above this part of the capacity in use a look at who waits is worth its cost. */
const BUSY = 0.25;

export interface Scheduled {
  readonly run: VmRun;
  readonly cpu: CpuSpec;
}

interface Waiting {
  ms: number;
  at: number;
}

/** What the scheduler asks of the host. */
export interface SchedulerHost {
  /** ms for which a process's threads had no processor, so far. */
  waitedMs(pid: number): number;
  /** Sets the slice of a process's threads, in µs. */
  slice(pid: number, micros: number): void;
}

export class CpuScheduler {
  /** What each pool gets of the host, in percent of a processor. */
  readonly #effective = new Map<string, number>();
  /** Percent of a processor times seconds that a VM is behind its share. */
  readonly #owed = new WeakMap<VmRun, number>();
  readonly #waits = new WeakMap<VmRun, Waiting>();
  readonly #slices = new WeakMap<VmRun, number>();
  readonly #host: SchedulerHost;

  constructor(host: SchedulerHost = { waitedMs, slice: sliceProcess }) {
    this.#host = host;
  }

  /** Sends each VM of one pool its budget where it changed. */
  schedule(pool: CpuPool, vms: readonly Scheduled[]): void {
    const capacity = pool.cores * PERCENT_PER_PROCESSOR;
    const used = vms.reduce((sum, { run }) => sum + usedBy(run), 0);
    const busy = used > capacity * BUSY && vms.length > 1;
    const waits = vms.map(({ run }) => (busy ? this.#waitPercent(run) : 0));
    const starved = vms.some(({ run }, i) => isStarved(run, waits[i] ?? 0));
    const before = this.#effective.get(pool.name) ?? capacity;
    const effective = Math.min(capacity, starved ? used * PROBE : before * RECOVER);
    this.#effective.set(pool.name, effective);
    const claims = vms.map(({ run, cpu }, i) => claimOf(run, cpu, capacity, waits[i] ?? 0));
    const budgets = divideCpu(effective, claims);
    if (starved) this.#settle(used, vms, claims, budgets);
    for (const [i, { run, cpu }] of vms.entries()) {
      const budget = budgets[i] ?? capacity;
      // One who may have the whole pool needs no limit.
      assign(run, budget >= capacity && cpu.capPercent === null ? null : budget);
      this.#slice(run);
    }
  }

  /**
   * Corrects budgets by what each VM got too much or too little so far: one that gets too much because another waits
   * for the host pays it back.
   */
  #settle(used: number, vms: readonly Scheduled[], claims: readonly CpuClaim[], budgets: number[]): void {
    const fair = divideCpu(used, claims).map((part, i) => Math.min(part, claims[i]?.demandPercent ?? 0));
    for (const [i, { run }] of vms.entries()) {
      const budget = budgets[i] ?? 0;
      const owed = (this.#owed.get(run) ?? 0) + ((fair[i] ?? 0) - usedBy(run)) * (SCHEDULE_MS / 1000);
      const bounded = Math.min(Math.max(owed, -budget * LONGEST_DEBT_S), budget * LONGEST_DEBT_S);
      this.#owed.set(run, bounded);
      budgets[i] = Math.max(budget * LEAST_PART, budget + bounded / REPAY_S);
    }
  }

  #slice(run: VmRun): void {
    const known = this.#slices.get(run);
    const used = usedBy(run);
    const computes = isHeld(run) || used > (known === SLICE_MICROS.computing ? ANSWERING_PERCENT : COMPUTING_PERCENT);
    const wanted = computes ? SLICE_MICROS.computing : SLICE_MICROS.answering;
    if (wanted === known) return;
    this.#slices.set(run, wanted);
    this.#host.slice(run.pid, wanted);
  }

  /** For how much of the time since the last look its threads could have run and had no processor. */
  #waitPercent(run: VmRun): number {
    const now = { ms: this.#host.waitedMs(run.pid), at: performance.now() };
    const before = this.#waits.get(run);
    this.#waits.set(run, now);
    // Looks are a schedule's interval apart, unless the pool was idle in between.
    if (before === undefined || now.at - before.at > 4 * SCHEDULE_MS || now.at - before.at < SCHEDULE_MS / 4) return 0;
    return (Math.max(0, now.ms - before.ms) / (now.at - before.at)) * 100;
  }
}

function isFresh(run: VmRun): boolean {
  return run.use !== undefined && performance.now() - run.use.at < STALE_MS;
}

const usedBy = (run: VmRun): number => (isFresh(run) ? (run.use?.cpuPercent ?? 0) : 0);

/** Whether its budget is what keeps it from running. */
const isHeld = (run: VmRun): boolean => isFresh(run) && (run.use?.throttledPercent ?? 0) > 0;

/** Whether the host is what keeps it from running. */
const isStarved = (run: VmRun, waitPercent: number): boolean =>
  waitPercent > WAITING_PERCENT && !isHeld(run) && usedBy(run) + waitPercent > WANTING_PERCENT;

function claimOf(run: VmRun, cpu: CpuSpec, capacityPercent: number, waitPercent: number): CpuClaim {
  const limitPercent = Math.min(cpu.capPercent ?? Infinity, capacityPercent);
  const used = usedBy(run);
  const hungry = isHeld(run) || isStarved(run, waitPercent);
  return {
    shares: cpu.shares,
    reservationPercent: cpu.reservationPercent,
    limitPercent,
    demandPercent: hungry ? limitPercent : Math.min(limitPercent, used > IDLE_PERCENT ? used * GROWTH : used),
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
