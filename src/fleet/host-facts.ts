/** What this host has and can do, read from the host again and again: nothing but names is remembered for long. */

import { existsSync, readdirSync, readFileSync, statfsSync, statSync } from "node:fs";
import { arch, availableParallelism, cpus, freemem, platform, release, totalmem } from "node:os";
import { dirname } from "node:path";
import { type ProcessDoor, processDoor } from "../sys/confine.ts";

const PAGE_BYTES = 4096;

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

/** For how long what costs system calls is told again, in ms: many callers ask for the same. */
const FRESH_MS = 250;
/** Figures kept at the most; beyond, all are measured anew. */
const MOST_KEPT = 10_000;

/** Measures what `key` names with `measure`, several times a second at the most. */
export class Measured<Key, Value = number> {
  readonly #kept = new Map<Key, { readonly at: number; readonly value: Value }>();
  readonly #measure: (key: Key) => Value;

  constructor(measure: (key: Key) => Value) {
    this.#measure = measure;
  }

  of(key: Key): Value {
    const now = performance.now();
    const kept = this.#kept.get(key);
    if (kept !== undefined && now - kept.at < FRESH_MS) return kept.value;
    if (this.#kept.size >= MOST_KEPT) this.#kept.clear();
    const value = this.#measure(key);
    this.#kept.set(key, { at: now, value });
    return value;
  }
}

/** Numbers of the processors that this process may use. */
export function processors(): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(read("/proc/self/status") ?? "")?.[1];
  if (list === undefined) return Array.from({ length: availableParallelism() }, (_, i) => i);
  return list.split(",").flatMap((part) => {
    const [first = 0, last = first] = part.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

const memory = new Measured(() => {
  const available = /^MemAvailable:\s*(\d+) kB/m.exec(read("/proc/meminfo") ?? "")?.[1];
  return { totalBytes: totalmem(), availableBytes: available === undefined ? freemem() : Number(available) * 1024 };
});

export const hostMemory = (): { totalBytes: number; availableBytes: number } => memory.of(undefined);

const fileSystems = new Measured((path: string) => {
  const { blocks, bavail, bsize } = statfsSync(path);
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
});

export const fileSystem = (path: string): { totalBytes: number; freeBytes: number } => fileSystems.of(path);

/** They do not change while a process lives, and asking costs a millisecond. */
const names = { model: cpus()[0]?.model.trim() ?? arch(), kernel: `${platform()} ${release()}` };
export const hostNames = (): { model: string; kernel: string } => names;

/** Milliseconds that the processors have been busy since the host's start. */
export function busyMs(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
}

/** Names this boot of the host: process ids of another one mean nothing. */
export const bootId = (): string => read("/proc/sys/kernel/random/boot_id")?.trim() ?? "";

const resident = new Measured((pid: number) => Number(read(`/proc/${pid}/statm`)?.split(" ")[1] ?? 0) * PAGE_BYTES);

/** Resident bytes of a process; 0 where it is gone. */
export const residentBytes = (pid: number): number => resident.of(pid);

/** Milliseconds for which threads of a process were ready and had no processor. [linux sched-stats.rst, schedstat] */
export function waitedMs(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
      return sum + Number(read(`/proc/${pid}/task/${thread}/schedstat`)?.split(" ")[1] ?? 0) / 1e6;
    }, 0);
  } catch {
    return 0;
  }
}

/** Whether the process with this id and start time lives; one that only waits for its parent does not. */
export function isAlive(pid: number, start: string): boolean {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === undefined) {
    if (existsSync("/proc/self/stat")) return false;
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  }
  // After the command in parentheses: state, ..., start time as field 22. [proc(5)]
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] !== "Z" && fields[0] !== "X" && (start === "" || fields[19] === start);
}

/** Binds a process, all its threads and those to come, to processors; nothing where it has gone. */
export function bindProcess(pid: number, wanted: readonly number[]): void {
  forThreads(pid, (door, tid) => door.setAffinity(tid, wanted));
}

/** How many µs each thread of a process may run at a time where others wait for its processor. */
export function sliceProcess(pid: number, micros: number): void {
  forThreads(pid, (door, tid) => door.setTimeSlice(tid, micros));
}

function forThreads(pid: number, act: (door: ProcessDoor, tid: number) => void): void {
  try {
    const door = processDoor();
    for (const tid of readdirSync(`/proc/${pid}/task`)) act(door, Number(tid));
  } catch {
    // Gone meanwhile, or a host that cannot, as the inventory says of affinity.
  }
}

/** Whether another user than the owner may read everything on the way to `path`, and it; else what is in the way. */
export function closedTo(path: string, others: number): string | undefined {
  for (let at = path; ; at = dirname(at)) {
    const { mode } = statSync(at);
    if ((mode & (at === path ? others : 1)) === 0) return at;
    if (at === dirname(at)) return undefined;
  }
}

export interface EngineFact {
  readonly name: "wasm" | "kvm";
  readonly available: boolean;
  readonly reason: string;
}
