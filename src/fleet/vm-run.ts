/**
 * The server's hold on one VM's process, which it made itself or found: the connection, the last report, and the end
 * with its cause. Letting go of it leaves the process alone.
 */

import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { VmExit } from "./contract.ts";
import { exitReportSchema } from "./control-answers.ts";
import type { ControlCommand, VmReport } from "./control-protocol.ts";
import { FleetError } from "./fleet-error.ts";
import { bootId, isAlive } from "./host-facts.ts";
import type { RunRecord } from "./record.ts";
import { VmControl } from "./vm-control.ts";
import { VmGroup } from "./vm-group.ts";
import { lastError, VM_FILES } from "./vm-spawn.ts";

/** How long a process that was found is asked to answer, in ms. */
const CONNECT_MS = 60_000;
/** The same for one that was just made: a busy or slow host takes minutes to load it, and it ends where it cannot. */
const START_MS = 600_000;
const FIRST_RETRY_MS = 5;
const LONGEST_RETRY_MS = 100;
/** How often a process that is no child is looked at, in ms, and how often while its end is awaited. */
const LOOK_MS = 2000;
/** A process that said nothing for so long counts as not answering, in ms. */
const SILENT_MS = 15_000;
const LOOK_CLOSELY_MS = 50;

/** Shorter than that, in ms, two reports make no rate. */
const LEAST_INTERVAL_MS = 150;
/** From the end of a process's socket to its own. */
const ENDING_MS = 1000;

/** Rates between two reports; `at` is performance.now() of the second. */
export interface Use {
  readonly at: number;
  readonly cpuPercent: number;
  readonly throttledPercent: number;
  readonly instructionsPerSecond: number;
}

export interface RunOptions {
  readonly name: string;
  readonly folder: string;
  readonly run: RunRecord;
  readonly child?: ChildProcess;
  /** Called at each report. */
  readonly changed: () => void;
}

export class VmRun {
  readonly pid: number;
  readonly name: string;
  /** Resolves when the process is gone. */
  readonly ended: Promise<VmExit>;
  /** What the scheduler last told it: percent, null for no limit; undefined: not known. */
  budgetPercent: number | null | undefined;
  #use: Use | undefined;
  #report: VmReport | undefined;
  /** What the next rates begin from. */
  #base: { report: VmReport; at: number } | undefined;
  #control: VmControl | undefined;
  #gone = false;
  #heard = 0;
  #signal: string | undefined;
  readonly #options: RunOptions;
  readonly #letGo = new AbortController();

  constructor(options: RunOptions) {
    this.#options = options;
    this.name = options.name;
    this.pid = options.run.pid ?? 0;
    options.child?.once("exit", (_status, signal) => {
      this.#signal = signal ?? undefined;
    });
    this.ended = this.#waitForEnd();
  }

  get use(): Use | undefined {
    return this.#use;
  }

  get report(): VmReport | undefined {
    return this.#report;
  }

  get alive(): boolean {
    return !this.#gone && isAlive(this.pid, this.#options.run.pidStart);
  }

  /** Connects, and waits until the guest runs. @throws FleetError `start-failed` where the process ends before */
  async ready(): Promise<void> {
    await this.connect();
    while (this.#report?.state === "starting" && !this.#gone) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onReport.push(resolve);
      await Promise.race([promise, this.ended]);
    }
    if (this.#gone) {
      const { message } = await this.ended;
      throw new FleetError({ code: "start-failed", message: `cannot start ${this.name}: ${message}` });
    }
  }

  readonly #onReport: (() => void)[] = [];

  /** @throws FleetError `start-failed`, `vm-unreachable` */
  async connect(): Promise<void> {
    const deadline = performance.now() + (this.#options.child === undefined ? CONNECT_MS : START_MS);
    const path = join(this.#options.folder, VM_FILES.socket);
    for (let wait = FIRST_RETRY_MS; ; wait = Math.min(wait * 2, LONGEST_RETRY_MS)) {
      try {
        const control = await VmControl.open(path, this.name, this.#options.run.secret);
        if (this.#letGo.signal.aborted) control.close();
        this.#control = control;
        control.onClose(() => {
          if (this.#control === control) this.#control = undefined;
        });
        this.#take(await control.watch((report) => this.#take(report)));
        return;
      } catch (error) {
        this.#control?.close();
        if (this.#gone || !this.alive) {
          const { message } = await this.ended;
          throw new FleetError({ code: "start-failed", message: `cannot start ${this.name}: ${message}` });
        }
        if (performance.now() > deadline || this.#letGo.signal.aborted) throw error;
      }
      await sleep(wait);
    }
  }

  #take(report: VmReport): void {
    if (this.#letGo.signal.aborted) return;
    const at = performance.now();
    this.#report = report;
    this.#heard = at;
    const base = this.#base;
    if (base === undefined) this.#base = { report, at };
    else if (at - base.at >= LEAST_INTERVAL_MS) {
      const rate = (now: number, before: number): number => (Math.max(0, now - before) / (at - base.at)) * 100;
      this.#use = {
        at,
        cpuPercent: rate(report.cpuMicros / 1000, base.report.cpuMicros / 1000),
        throttledPercent: rate(report.throttledMs, base.report.throttledMs),
        instructionsPerSecond: rate(report.instructions, base.report.instructions) * 10,
      };
      this.#base = { report, at };
    }
    for (const wake of this.#onReport.splice(0)) wake();
    this.#options.changed();
  }

  /** Whether it answers; it tells of itself every five seconds at the least. */
  get responsive(): boolean {
    return this.#control !== undefined && performance.now() - this.#heard < SILENT_MS;
  }

  /** @throws FleetError `vm-unreachable`, `illegal-transition` */
  async request(command: ControlCommand): Promise<VmReport> {
    const report = await this.#open().request(command);
    this.#take(report);
    return report;
  }

  /** What the guest's VGA shows; null in graphics, and where the process ended meanwhile. @throws FleetError `vm-unreachable` */
  async screen(): ReturnType<VmControl["screen"]> {
    try {
      return await this.#open().screen();
    } catch (error) {
      // The socket closes before the process is gone.
      const ended = this.ended.then(() => true);
      if (await Promise.race([ended, sleep(ENDING_MS, false, { ref: false })])) return null;
      throw error;
    }
  }

  #open(): VmControl {
    if (this.#control !== undefined) return this.#control;
    throw new FleetError({
      code: "vm-unreachable",
      message: `the process of ${this.name} (${this.pid}) does not answer; kill it if that lasts`,
    });
  }

  /** A second connection, for a console. */
  async openConsole(): Promise<VmControl> {
    return await VmControl.open(join(this.#options.folder, VM_FILES.socket), this.name, this.#options.run.secret);
  }

  /** Its control group; undefined where it has none. */
  get group(): VmGroup | undefined {
    return groupOf(this.#options.run);
  }

  /** Ends the process at once; harmless where it has gone. */
  destroy(): void {
    if (!this.alive) return;
    this.group?.kill();
    try {
      process.kill(this.pid, "SIGKILL");
    } catch {
      // It went meanwhile.
    }
  }

  /** Lets go of a process that lives on. */
  release(): void {
    this.#letGo.abort();
    this.#control?.close();
  }

  async #waitForEnd(): Promise<VmExit> {
    const { child } = this.#options;
    const exited = child && new Promise<void>((resolve) => child.once("exit", () => resolve()));
    while (this.alive && !this.#letGo.signal.aborted) {
      const look = new AbortController();
      const wait = sleep(this.#control === undefined ? LOOK_CLOSELY_MS : LOOK_MS, undefined, {
        ref: false,
        signal: AbortSignal.any([look.signal, this.#letGo.signal]),
      }).catch(() => undefined);
      const closed = new Promise<void>((resolve) => this.#control?.onClose(resolve));
      await Promise.race([wait, closed, ...(exited === undefined ? [] : [exited])]);
      look.abort();
    }
    // Let go: nobody asks any more.
    if (this.#letGo.signal.aborted) return await new Promise<never>(() => undefined);
    // Its parent hears of a child's end a moment after the child is gone, and by what signal.
    await exited;
    this.#gone = true;
    this.#control?.close();
    for (const wake of this.#onReport.splice(0)) wake();
    return readExit(this.#options.folder, this.#options.run, this.#signal);
  }
}

export const groupOf = ({ group }: RunRecord): VmGroup | undefined =>
  group === undefined ? undefined : new VmGroup(group);

/** Why the VM of a process that is gone ended: what it left behind, or that it could not leave anything. */
export function readExit(folder: string, run: RunRecord, signal?: string): VmExit {
  const time = new Date().toISOString();
  if (run.bootId !== bootId()) return { kind: "host-restarted", message: "the host was restarted", time };
  try {
    return exitReportSchema.parse(JSON.parse(readFileSync(join(folder, VM_FILES.exit), "utf8")));
  } catch {
    const last = lastError(folder);
    const byHand = signal === undefined ? "ended without a word" : `was ended by ${signal}`;
    const how = groupOf(run)?.outOfMemory() ?? byHand;
    return { kind: "process-lost", message: `the VM's process ${how}${last === "" ? "" : `: ${last}`}`, time };
  }
}
