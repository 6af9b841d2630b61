/**
 * The long tests: what takes more than two minutes. A job is a command that takes a seed and a count, exits with 0 when
 * every case passed, and is cut into chunks so that a run can stop after any of them and go on later.
 */
import { openSync, closeSync } from "node:fs";
import { GUEST_TESTS } from "./compiled-guests.ts";
import { NESTED_PARTS, type NestedPart } from "./nested-parts.ts";

export interface LongJob {
  readonly name: string;
  /** One line: what a case is. */
  readonly about: string;
  /** Cases in all, over every recorded chunk of one job, that the project promises. */
  readonly target: number;
  /** Cases in one chunk: two to five minutes on two cores. */
  readonly chunk: number;
  /** Cases in the bounded slice that runs with every change: a minute or two. 0: it has no piece that is so short, or
   * it measures what only a quiet host can give. */
  readonly slice: number;
  /** Seconds after which one chunk counts as hung. */
  readonly limitSeconds: number;
  /** The command's arguments, run by this Node from the repository's root. */
  readonly args: (seed: number, count: number) => readonly string[];
  /** Why the job cannot run on this host, or undefined where it can. */
  readonly missing: () => string | undefined;
}

function kvmMissing(): string | undefined {
  try {
    closeSync(openSync("/dev/kvm", "r+"));
    return undefined;
  } catch (error) {
    return `/dev/kvm does not open (${error instanceof Error ? error.message : String(error)})`;
  }
}

/** What a process needs to be the oracle. */
function nativeMissing(): string | undefined {
  if (process.platform !== "linux" || process.arch !== "x64") return "it needs Linux on x86-64";
  return process.getuid?.() === 0 ? undefined : "it needs root, to map the lowest pages";
}

const FUZZ = ["tests/fuzz/main.ts"] as const;

function nestedJob({ name, about }: NestedPart): LongJob {
  return {
    name: `nested-${name}`,
    about: `${about}: on KVM in a host that QEMU emulates`,
    target: 1,
    chunk: 1,
    slice: 0,
    limitSeconds: 2400,
    args: () => ["tests/long/nested.ts", name],
    missing: () => undefined,
  };
}

export const LONG_JOBS: readonly LongJob[] = [
  {
    name: "fuzz-ring3",
    about: "random ring-3 instruction sequences, each compared with the processor's own result through /dev/kvm",
    target: 150_000_000,
    chunk: 2_000_000,
    slice: 100_000,
    limitSeconds: 1800,
    args: (seed, count) => [...FUZZ, "--seed", String(seed), "--count", String(count)],
    missing: kvmMissing,
  },
  {
    name: "fuzz-compiler",
    about: "the same sequences with every trace compiled at once, each compared with the processor's own result",
    target: 50_000_000,
    chunk: 500_000,
    slice: 20_000,
    limitSeconds: 3600,
    args: (seed, count) => [
      "tests/fuzz/main.ts",
      "--engine",
      "compiler",
      "--seed",
      String(seed),
      "--count",
      String(count),
    ],
    missing: kvmMissing,
  },
  {
    name: "lockstep",
    about:
      "Debian's boot under interpreter and compiler at once, compared slice by slice; the seed is the compiler's threshold",
    target: 1,
    chunk: 1,
    slice: 0,
    limitSeconds: 7200,
    args: (seed) => ["tests/guests/lockstep.ts", "--after", String(seed)],
    missing: () => undefined,
  },
  {
    name: "fuzz-native",
    about: "the same, compared with a process of the host's instead of a guest",
    target: 20_000_000,
    chunk: 2_000_000,
    slice: 50_000,
    limitSeconds: 1800,
    args: (seed, count) => [...FUZZ, "--oracle", "native", "--seed", String(seed), "--count", String(count)],
    missing: nativeMissing,
  },
  {
    name: "fuzz-compatibility",
    about: "the same in 32-bit code, of compatibility mode",
    target: 20_000_000,
    chunk: 2_000_000,
    slice: 50_000,
    limitSeconds: 1800,
    args: (seed, count) => [...FUZZ, "--bits", "32", "--seed", String(seed), "--count", String(count)],
    missing: nativeMissing,
  },
  {
    name: "hostile-guests",
    about: "guests of random bytes and hostile instructions, in every mode; the monitor survives each",
    target: 10_000,
    chunk: 1000,
    slice: 300,
    limitSeconds: 1800,
    args: (seed, count) => ["tests/guests/hostile/main.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => undefined,
  },
  {
    name: "hostile-virtio",
    about:
      "virtio drivers that break every rule of the rings; the device touches only RAM, and serves a good one after",
    target: 1_000_000,
    chunk: 200_000,
    slice: 20_000,
    limitSeconds: 3600,
    args: (seed, count) => ["tests/fuzz/virtio-main.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => undefined,
  },
  {
    name: "memtest",
    about: "Memtest86+'s tests 0 to 9 over a MiB of a guest's 32 MiB of memory",
    target: 64,
    chunk: 32,
    slice: 2,
    limitSeconds: 7200,
    args: (seed, count) => ["tests/guests/memtest/main.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => undefined,
  },
  {
    name: "verify",
    about: "stress-ng's stressors under --verify and Python's own tests of its numbers, in a Debian guest of 512 MiB",
    target: 11,
    chunk: 11,
    slice: 0,
    limitSeconds: 7200,
    args: (seed, count) => ["tests/guests/verify/main.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => undefined,
  },
  {
    name: "compiled-guests",
    about: "files of the guests' tests, each with every trace compiled the first time that it runs",
    target: GUEST_TESTS.length,
    chunk: 1,
    slice: 0,
    limitSeconds: 3600,
    args: (seed, count) => ["tests/long/compiled-guests.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => undefined,
  },
  {
    name: "save-cycles",
    about: "saves and restores of one Debian guest at work: checksums, a timer, disk writes, half-printed lines",
    target: 200,
    chunk: 200,
    slice: 5,
    limitSeconds: 3600,
    args: (seed, count) => ["tests/guests/save-cycles/main.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => undefined,
  },
  ...NESTED_PARTS.map(nestedJob),
  {
    name: "fleet-faults",
    about:
      "kills of servers, of VMs' processes and of both during lifecycle operations and disk writes; the record agrees with reality, no durable write is lost",
    target: 200,
    chunk: 50,
    slice: 5,
    limitSeconds: 3600,
    args: (seed, count) => ["tests/long/fleet/faults.ts", "--seed", String(seed), "--count", String(count)],
    missing: () => (process.platform === "linux" ? undefined : "it needs Linux, for its /proc"),
  },
  {
    name: "fleet-three-guests",
    about: "minutes of three guests at once under load, of 64 and of 32 bits and with a disk; every console answers",
    target: 60,
    chunk: 60,
    slice: 1,
    limitSeconds: 5400,
    args: (_seed, count) => ["tests/long/fleet/three-guests.ts", "--minutes", String(count)],
    missing: () => (process.platform === "linux" ? undefined : "it needs Linux, for its /proc"),
  },
  {
    name: "fleet-neighbours",
    about:
      "rounds of a VM beside five hostile ones: its checksums, its work and its console's answers stay as they were",
    target: 1,
    chunk: 1,
    slice: 0,
    limitSeconds: 1800,
    args: () => ["tests/long/fleet/neighbours.ts"],
    missing: () => (process.platform === "linux" ? undefined : "it needs Linux, for its /proc"),
  },
  {
    name: "fleet-fairness",
    about:
      "rounds of VMs in a pool of one processor: weights 1:1, 1:2, 1:8 and caps of 10, 25, 50 % within 3 % over 30 s",
    target: 3,
    chunk: 1,
    slice: 0,
    limitSeconds: 1800,
    args: (_seed, count) => ["tests/long/fleet/fairness.ts", "--rounds", String(count)],
    missing: () => (process.platform === "linux" ? undefined : "it needs Linux, for its /proc"),
  },
];
