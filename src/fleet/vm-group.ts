/**
 * A VM's control group: the kernel's own hold on its process, besides what isola does inside of it. What a guest gets is
 * decided by isola; the group bounds what its process could take if it were in hostile hands, and ends it whole.
 * [linux Documentation/admin-guide/cgroup-v2.rst]
 */

import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatSize } from "../base/size.ts";
import { limitBytes } from "./admission.ts";
import type { Delegation } from "./cgroup-delegation.ts";
import type { CpuPool } from "./contract.ts";
import { DEFAULT_SHARES, PERCENT_PER_PROCESSOR, type VmSpec } from "./vm-spec.ts";

/** Weights of the kernel's; the middle one is what a group has that nobody gave another. */
const WEIGHT = { least: 1, usual: 100, most: 10_000 } as const;
const PERIOD_MICROS = 100_000;
const LEAST_QUOTA_MICROS = 1000;
/** The kernel's ceiling over what isola holds a VM to: the two never contend, and a hostile process gets no more. */
const CEILING_PART = 1.1;
/**
 * Beyond what admission counts, which is a VM at rest: boot files while they are loaded, code while it is compiled, the
 * page cache of disks. A Debian of 96 MiB takes 70 MiB of it while it boots; a limit that is met by accident ends the VM.
 */
const MEMORY_SLACK_BYTES = 256 * 2 ** 20;
/** Threads: those of Node and V8, and a few for each virtual processor. */
const PROGRAM_THREADS = 64;
const THREADS_PER_CPU = 4;
const REMOVE_TRIES = 200;
const REMOVE_AGAIN_MS = 50;

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code;

/** Share and ceiling of processor time. */
export interface GroupCpu {
  readonly shares: number;
  /** Percent of one processor; null: none. */
  readonly ceilingPercent: number | null;
}

/** What a VM's process may have in all, in bytes. */
export const groupMemoryBytes = (spec: VmSpec): number => limitBytes(spec) + MEMORY_SLACK_BYTES;

/** `processors`: how many the host has for VMs. */
export function groupCpu({ cpu }: VmSpec, pool: CpuPool | undefined, processors: number): GroupCpu {
  const cores = pool === undefined || pool.cores >= processors ? Infinity : pool.cores;
  const most = Math.min(cpu.capPercent ?? Infinity, cores * PERCENT_PER_PROCESSOR);
  return { shares: cpu.shares, ceilingPercent: most === Infinity ? null : most * CEILING_PART };
}

/** One group, by its folder; it may have been made by an earlier server. */
export class VmGroup {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  #write(file: string, text: string): void {
    writeFileSync(join(this.path, file), text);
  }

  /** Writes what the group has of a controller that may not be given to it, or that an older kernel may not know. */
  #writeIfThere(file: string, text: string): void {
    if (!existsSync(join(this.path, file))) return;
    try {
      this.#write(file, text);
    } catch (error) {
      // The group was removed at this moment.
      if (codeOf(error) !== "ENODEV" && codeOf(error) !== "ENOENT") throw error;
    }
  }

  /** Before a process is in it. @throws Node's error */
  hold(spec: VmSpec): void {
    this.#writeIfThere("memory.max", String(groupMemoryBytes(spec)));
    this.#writeIfThere("memory.oom.group", "1");
    this.#writeIfThere("pids.max", String(PROGRAM_THREADS + THREADS_PER_CPU * spec.cpu.count));
  }

  /** At any time; nothing where the group has gone. @throws Node's error */
  share({ shares, ceilingPercent }: GroupCpu): void {
    const weight = Math.round((shares / DEFAULT_SHARES) * WEIGHT.usual);
    this.#writeIfThere("cpu.weight", String(Math.min(Math.max(weight, WEIGHT.least), WEIGHT.most)));
    // Percent of a processor over the period.
    const quota = Math.round(((ceilingPercent ?? 0) / PERCENT_PER_PROCESSOR) * PERIOD_MICROS);
    const micros = Math.max(LEAST_QUOTA_MICROS, quota);
    // A burst may not exceed the quota; one that is to shrink goes first.
    this.#writeIfThere("cpu.max.burst", "0");
    this.#writeIfThere("cpu.max", ceilingPercent === null ? `max ${PERIOD_MICROS}` : `${micros} ${PERIOD_MICROS}`);
    // What was not used of one period may be used in the next: a guest answers at once when it wakes.
    if (ceilingPercent !== null) this.#writeIfThere("cpu.max.burst", String(micros));
  }

  /** Moves a process, with all its threads, into the group. @throws Node's error */
  admit(pid: number): void {
    this.#write("cgroup.procs", String(pid));
  }

  /** Ends all that is in it, also what a process has started and left behind. [Linux 5.14] */
  kill(): void {
    this.#writeIfThere("cgroup.kill", "1");
  }

  /** Why the kernel ended a process of the group's for want of memory, for a person; undefined: it did not. */
  outOfMemory(): string | undefined {
    try {
      const events = readFileSync(join(this.path, "memory.events"), "utf8");
      const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, "m").exec(events)?.[1] ?? 0);
      if (count("oom_kill") === 0) return undefined;
      if (count("oom") === 0) return "was ended by the host, which had no memory left; give less to VMs";
      const most = formatSize(Number(readFileSync(join(this.path, "memory.max"), "utf8")));
      return `was ended by the host: it went beyond ${most} of memory, the guest's RAM and all that isola needs besides`;
    } catch {
      return undefined;
    }
  }

  /** Ends what is left in it, and removes it; false where it cannot be removed. */
  async remove(): Promise<boolean> {
    this.kill();
    for (let tries = 0; tries < REMOVE_TRIES; tries++) {
      try {
        rmdirSync(this.path);
        return true;
      } catch (error) {
        if (codeOf(error) === "ENOENT") return true;
        if (codeOf(error) !== "EBUSY") return false;
      }
      await sleep(REMOVE_AGAIN_MS, undefined, { ref: false });
    }
    return false;
  }
}

/** The groups of one server's VMs: in a folder of their own, so that several servers may share a delegation. */
export class VmGroups {
  readonly folder: string;

  /** @throws Node's error */
  constructor({ folder, controllers }: Exclude<Delegation, { reason: string }>, stateFolder: string) {
    const server = createHash("sha256").update(stateFolder).digest("hex").slice(0, 12);
    this.folder = join(folder, `isola-${server}`);
    mkdirSync(this.folder, { recursive: true });
    writeFileSync(join(this.folder, "cgroup.subtree_control"), controllers.map((name) => `+${name}`).join(" "));
  }

  /** A new group for a VM's process; it has no ceiling yet, since a VM that starts is not the guest's work. */
  make(id: string, spec: VmSpec): VmGroup {
    // A name of its own for each start: the one before may still be on its way out.
    const group = new VmGroup(join(this.folder, `${id}-${randomBytes(4).toString("hex")}`));
    mkdirSync(group.path);
    group.hold(spec);
    group.share({ shares: spec.cpu.shares, ceilingPercent: null });
    return group;
  }

  /** Removes groups that no VM has: a server that was killed left them. */
  async sweep(known: ReadonlySet<string>): Promise<void> {
    const left = readdirSync(this.folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => join(this.folder, name))
      .filter((path) => !known.has(path));
    await Promise.all(left.map((path) => new VmGroup(path).remove()));
  }
}
