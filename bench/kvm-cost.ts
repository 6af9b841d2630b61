/**
 * What the KVM engine costs on this host's own /dev/kvm, beside the same in C, by turns in one run: a loop in ring 3
 * beside the processor itself, and the way out of a guest to a port and back (npm run bench -- --only kvm); and what huge
 * pages save. What counts is processor time of the thread, so that other work of the host does not show.
 */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { IsolaError } from "../src/base/errors.ts";
import { Kvm } from "../src/cpu/kvm/kvm.ts";
import { KvmVcpu } from "../src/cpu/kvm/kvm-vcpu.ts";
import { quietHost } from "../src/cpu/quiet-host.ts";
import { ENGINE_BYTES, GuestMemory } from "../src/memory/guest-memory.ts";
import { linuxSys } from "../src/sys/linux.ts";
import { CaseMaker, toBatch } from "../tests/fuzz/cases.ts";
import { KvmEngine } from "../tests/fuzz/kvm-engine.ts";
import { startAt } from "../tests/kvm/real-mode.ts";
import { randomReadNs } from "./kvm-memory.ts";

const LOOP_ROUNDS = 50_000_000;
/** Exits of one look, and looks of one round: the least counts, as in kvm-peer.c. */
const EXITS = 500;
const LOOKS = 10;
const PROGRAM = 0x1000;
const SOURCE = fileURLToPath(new URL("kvm-peer.c", import.meta.url));

export interface KvmCost {
  /** ns of processor time for the loop, and for one exit; each the least of all rounds. */
  readonly loop: { readonly isola: number; readonly native: number };
  readonly exit: { readonly isola: number; readonly c: number };
  /** The same for one read at random, in huge pages and in small ones. */
  readonly read: { readonly huge: number; readonly small: number };
}

/** Processor time of the calling thread that `body` takes. */
function threadNs(body: () => void): number {
  const before = process.threadCpuUsage();
  body();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) * 1000;
}

/** The loop of kvm-peer.c as a case of the ring-3 fuzzer's engine; a new engine, so that its memory is touched first. */
function isolaLoop(): number {
  const count = [0, 8, 16, 24].map((shift) => (LOOP_ROUNDS >>> shift) & 0xff);
  const body = [0x48, 0x6b, 0xd2, 0x03, 0x48, 0x01, 0xd0, 0xff, 0xc9, 0x75, 0xf5];
  using engine = new KvmEngine();
  const run = (code: readonly number[]): number => {
    const maker = new CaseMaker(1, { bits: 64, generate: () => new Uint8Array(0) as never });
    const test = maker.makeWith(3, Uint8Array.from(code), [], 0);
    const batch = toBatch([test], maker.window);
    return threadNs(() => engine.run(batch));
  };
  // What a batch takes that does nothing is no part of the loop.
  const empty = Math.min(run([0x90]), run([0x90]), run([0x90]));
  return run([0xb9, ...count, ...body]) - empty;
}

function isolaExits(): number {
  const sys = linuxSys();
  using kvm = Kvm.open(sys);
  const memory = GuestMemory.create(2 ** 21);
  memory.bytes.set([0xe6, 0xe0, 0xeb, 0xfc], ENGINE_BYTES + PROGRAM);
  using vm = kvm.createVm();
  const address = sys.addressOf(memory.memory.buffer) + BigInt(ENGINE_BYTES);
  vm.setMemory({ slot: 0, guestPhysical: 0, sizeBytes: 65536, address });
  using file = vm.createVcpu(0);
  file.setCpuid(kvm.supportedCpuid());
  startAt(file, PROGRAM);
  let seen = 0;
  const host = quietHost(() => {
    if (++seen % EXITS === 0) vcpu.leave();
  });
  const vcpu: KvmVcpu = new KvmVcpu(file, memory, host.bus);
  let least = Infinity;
  for (let look = 1; look <= LOOKS; look++) {
    // Any signal of this process ends a run early.
    const took = threadNs(() => {
      while (seen < look * EXITS) vcpu.run();
    });
    least = Math.min(least, took / EXITS);
  }
  return least;
}

/** @throws IsolaError `bench-host` where there is no /dev/kvm or no C compiler */
export function measureKvm(root: string, rounds: number, say: (line: string) => void): KvmCost {
  const peer = join(root, "out", "kvm-peer");
  try {
    Kvm.open(linuxSys())[Symbol.dispose]();
    mkdirSync(dirname(peer), { recursive: true });
    execFileSync("gcc", ["-O2", "-o", peer, SOURCE]);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new IsolaError({ code: "bench-host", message: `measuring KVM: ${why}; wanted: /dev/kvm and gcc`, cause });
  }
  const inC = (what: "loop" | "exits", count: number): number => Number(execFileSync(peer, [what, String(count)]));
  const least = {
    isolaLoop: Infinity,
    native: Infinity,
    isolaExit: Infinity,
    c: Infinity,
    huge: Infinity,
    small: Infinity,
  };
  for (let round = 1; round <= rounds; round++) {
    least.native = Math.min(least.native, inC("loop", LOOP_ROUNDS));
    least.isolaLoop = Math.min(least.isolaLoop, isolaLoop());
    least.c = Math.min(least.c, inC("exits", EXITS) / EXITS);
    least.isolaExit = Math.min(least.isolaExit, isolaExits());
    least.huge = Math.min(least.huge, randomReadNs(true));
    least.small = Math.min(least.small, randomReadNs(false));
    say(`KVM, round ${round} of ${rounds}`);
  }
  return {
    loop: { isola: least.isolaLoop, native: least.native },
    exit: { isola: least.isolaExit, c: least.c },
    read: { huge: least.huge, small: least.small },
  };
}

export function kvmReport({ loop, exit, read }: KvmCost): string {
  const ratio = (ours: number, theirs: number): string => `${(ours / theirs).toFixed(3)} times`;
  return [
    `ring-3 loop on KVM: ${(loop.isola / 1e6).toFixed(2)} ms, native ${(loop.native / 1e6).toFixed(2)} ms: ${ratio(loop.isola, loop.native)}`,
    `exit to a port and back: ${(exit.isola / 1e3).toFixed(2)} µs, in C ${(exit.c / 1e3).toFixed(2)} µs: ${ratio(exit.isola, exit.c)}`,
    `random read over 512 MiB: ${read.huge.toFixed(1)} ns in huge pages, ${read.small.toFixed(1)} ns in small ones: ${ratio(read.huge, read.small)}`,
    "",
  ].join("\n");
}
