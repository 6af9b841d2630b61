/**
 * What the host's kernel says of a process and of itself: CPU time, resident memory, processor, load. [proc(5)]
 */

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { cpus, loadavg, release } from "node:os";
import { fileURLToPath } from "node:url";
import { IsolaError } from "../src/base/errors.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Linux shows times in ticks of 10 ms to programs, whatever its own rate. */
const TICKS_PER_SECOND = 100;
const NS_PER_SECOND = 1e9;

/** Resident memory of a process in KiB: VmRSS of /proc/PID/status, Pss and what it alone holds of smaps_rollup. */
export interface MemoryFigures {
  readonly rssKib: number;
  readonly pssKib: number;
  readonly privateKib: number;
}

function read(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch (cause) {
    throw new IsolaError({ code: "bench-proc", message: `reading ${path}: the process is gone, or no /proc`, cause });
  }
}

/** CPU time of all threads of a process so far, ended ones too, in seconds; steps of 10 ms. @throws IsolaError */
export function cpuSeconds(pid: number): number {
  const stat = read(`/proc/${pid}/stat`);
  // The name in parentheses may hold blanks; utime and stime are the 14th and 15th fields.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/**
 * CPU time of the threads that live now, in seconds, exact to a scheduler's event; undefined where the kernel keeps
 * no such figures. For short spans of little work, where ticks are too coarse.
 */
export function fineCpuSeconds(pid: number): number | undefined {
  try {
    return readdirSync(`/proc/${pid}/task`)
      .map((thread) => Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]))
      .reduce((sum, ns) => sum + ns / NS_PER_SECOND, 0);
  } catch {
    return undefined;
  }
}

function kib(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? Number.NaN);
}

/** @throws IsolaError `bench-proc` */
export function memoryFigures(pid: number): MemoryFigures {
  const rollup = read(`/proc/${pid}/smaps_rollup`);
  return {
    rssKib: kib(read(`/proc/${pid}/status`), "VmRSS"),
    pssKib: kib(rollup, "Pss"),
    privateKib: kib(rollup, "Private_Clean") + kib(rollup, "Private_Dirty"),
  };
}

/** Nominal frequency of the host's processor in kHz: on processors with an invariant counter, the TSC's. */
export function hostTscKhz(): number | undefined {
  const mhz = Number(/^cpu MHz\s*:\s*([\d.]+)/m.exec(read("/proc/cpuinfo"))?.[1]);
  return mhz > 0 ? Math.round(mhz * 1000) : undefined;
}

export interface HostFacts {
  readonly commit: string;
  readonly node: string;
  readonly v8: string;
  readonly processor: string;
  readonly cores: number;
  readonly kernel: string;
  /** Of the last minute when the bench began. */
  readonly load: number;
}

function git(...args: string[]): string | undefined {
  try {
    return execFileSync("git", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined;
  }
}

/** The commit of the clone; "+" where tracked files differ from it. */
function commit(): string {
  const head = git("rev-parse", "--short=12", "HEAD");
  if (head === undefined) return "unknown";
  return git("status", "--porcelain", "--untracked-files=no") === "" ? head : `${head}+`;
}

export function hostFacts(): HostFacts {
  return {
    commit: commit(),
    node: process.versions.node,
    v8: process.versions.v8,
    processor: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    kernel: release(),
    load: loadavg()[0] ?? 0,
  };
}
