/**
 * Hostile guests on a vCPU and a board of this thread: start states in every mode, with exception handlers that send the
 * guest back into its hostile code, so that it lives on after each fault. Everything follows from a seed but the time.
 */

import {
  FLAT_CODE32,
  FLAT_CODE64,
  FLAT_DATA,
  flatDescriptor,
  flatSegment,
  resetState,
} from "../../../src/cpu/reset-state.ts";
import type { CpuState, GuestClock } from "../../../src/cpu/vcpu.ts";
import { PortableVcpu } from "../../../src/cpu/wasm/portable-vcpu.ts";
import { Board } from "../../../src/machine/board.ts";
import { clockOrigin, HostClock } from "../../../src/machine/clock.ts";
import { GuestMemory } from "../../../src/memory/guest-memory.ts";
import { Random } from "../../fuzz/random.ts";
import { hostileCode } from "./guest-code.ts";

const MIB = 1024 * 1024;
const RAM_BYTES = 8 * MIB;
/** Slices of about a millisecond that a case runs. */
const SLICES = 60;
/** A halted guest is brought to its next timer, if that is no further away than this. */
const LONGEST_SLEEP_NS = 60e9;

const PML4 = 0x1000;
const PDPT = 0x2000;
const PD = 0x3000;
const GDT = 0x8000;
const IDT = 0x9000;
const TSS = 0xa000;
const STACK = 0xf000;
const HANDLER = 0x10000;
const SEED_WORD = 0x20000;
const CODE = 0x100000;
const CODE_BYTES = 0x10000;

const KERNEL_CODE64 = 0x08;
const KERNEL_DATA = 0x10;
const USER_CODE64 = 0x1b;
const USER_DATA = 0x23;
const KERNEL_CODE32 = 0x28;
const TSS_SELECTOR = 0x30;
const TABLE_LIMIT = 0xff;
/** DPL 3 in a descriptor's attributes. */
const DPL3 = 0x60;

const MODES = ["long", "long-user", "protected", "protected-bare", "real"] as const;
type Mode = (typeof MODES)[number];

export type Outcome = "power-off" | "reset" | "triple-fault" | "asleep" | "running";

function imm32(value: number): number[] {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, (value >>> 24) & 0xff];
}

/** The exception handler: a linear congruence in memory gives the place in the code where the guest goes on. */
function handler(long: boolean, frame: readonly number[]): number[] {
  const place = [...(long ? [0x04, 0x25] : [0x05]), ...imm32(SEED_WORD)];
  const wide = long ? [0x48] : [];
  const code = [
    [0x8b, ...place], // mov eax, [SEED_WORD]
    [0x69, 0xc0, ...imm32(1664525)], // imul eax, eax, 1664525
    [0x05, ...imm32(1013904223)], // add eax, 1013904223
    [0x89, ...place], // mov [SEED_WORD], eax
    [0xc1, 0xe8, 12], // shr eax, 12
    [0x25, ...imm32(CODE_BYTES - 1)], // and eax, CODE_BYTES - 1
    [0x05, ...imm32(CODE)], // add eax, CODE
    [...wide, 0xc7, 0xc4, ...imm32(STACK)], // mov esp, STACK
    ...frame.map((value) => [0x68, ...imm32(value)]), // push value
    [0x50], // push eax
    [...wide, 0xcf], // iret
  ];
  return code.flat();
}

function writeTables(view: DataView, random: Random): void {
  const table = [
    0n,
    flatDescriptor(FLAT_CODE64),
    flatDescriptor(FLAT_DATA),
    flatDescriptor(FLAT_CODE64 | DPL3),
    flatDescriptor(FLAT_DATA | DPL3),
    flatDescriptor(FLAT_CODE32),
    // An available TSS of 4 KiB at TSS.
    0xfffn | (BigInt(TSS) << 16n) | (0x89n << 40n),
    0n,
  ];
  table.forEach((descriptor, index) => view.setBigUint64(GDT + index * 8, descriptor, true));
  // What follows is anyone's: call gates, LDTs, segments of every type.
  for (let at = table.length * 8; at < TABLE_LIMIT; at += 4) view.setUint32(GDT + at, random.u32(), true);
  for (let at = 0; at < 0x68; at += 4) view.setUint32(TSS + at, 0, true);
  for (const at of [4, 12, 20, 36]) view.setUint32(TSS + at, STACK, true);
}

function longState(view: DataView, bytes: Uint8Array, random: Random, user: boolean): CpuState {
  view.setUint32(PML4, PDPT | 7, true);
  for (let gib = 0; gib < 4; gib++) view.setUint32(PDPT + gib * 8, (PD + gib * 0x1000) | 7, true);
  for (let page = 0; page < 2048; page++) view.setBigUint64(PD + page * 8, (BigInt(page) << 21n) | 0x87n, true);
  const interrupts = random.pick([2, 0x202, 0x3202]);
  bytes.set(
    handler(true, user ? [USER_DATA, STACK, interrupts, USER_CODE64] : [KERNEL_DATA, STACK, interrupts, KERNEL_CODE64]),
    HANDLER,
  );
  for (let vector = 0; vector < 256; vector++) {
    // IST 1, so that the handler has a stack whatever the guest did to its own.
    const gate = random.pick([0x8e, 0x8f, 0xee]);
    view.setUint32(IDT + vector * 16, (KERNEL_CODE64 << 16) | (HANDLER & 0xffff), true);
    view.setUint32(IDT + vector * 16 + 4, (HANDLER & 0xffff0000) | (gate << 8) | 1, true);
  }
  const state = resetState();
  state.segments.cs = flatSegment(KERNEL_CODE64, FLAT_CODE64);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const)
    state.segments[name] = flatSegment(KERNEL_DATA, FLAT_DATA);
  state.segments.tr = { selector: TSS_SELECTOR, base: BigInt(TSS), limit: 0xfff, attributes: 0x8b };
  state.cr0 = random.pick([0x80000031n, 0x80010031n, 0x80050033n]);
  state.cr3 = BigInt(PML4);
  // PAE, and what else there is at random: DE, PSE, MCE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
  state.cr4 = 0x20n | (BigInt(random.u32()) & 0x506d8n);
  state.msrs.set(0xc0000080, 0xd01n);
  state.idtr = { base: BigInt(IDT), limit: 0xfff };
  return state;
}

function protectedState(view: DataView, bytes: Uint8Array, random: Random, bare: boolean): CpuState {
  bytes.set(handler(false, [random.pick([2, 0x202, 0x3202]), KERNEL_CODE32]), HANDLER);
  for (let vector = 0; vector < 256; vector++) {
    view.setUint32(IDT + vector * 8, (KERNEL_CODE32 << 16) | (HANDLER & 0xffff), true);
    view.setUint32(IDT + vector * 8 + 4, (HANDLER & 0xffff0000) | (random.pick([0x8e, 0x8f, 0xee]) << 8), true);
  }
  const state = resetState();
  state.segments.cs = flatSegment(KERNEL_CODE32, FLAT_CODE32);
  for (const name of ["ds", "es", "fs", "gs", "ss"] as const)
    state.segments[name] = flatSegment(KERNEL_DATA, FLAT_DATA);
  state.segments.tr = { selector: TSS_SELECTOR, base: BigInt(TSS), limit: 0x67, attributes: 0x8b };
  state.cr0 = 0x31n;
  // PVH gives no IDT: the first fault is the last.
  state.idtr = bare ? { base: 0n, limit: 0 } : { base: BigInt(IDT), limit: 0x7ff };
  return state;
}

/** The reset state but for CS: random bytes below 1 MiB, the interrupt vectors among them. */
function realState(bytes: Uint8Array, random: Random): CpuState {
  for (let at = 0; at < 0xa0000; at++) bytes[at] = random.below(256);
  const state = resetState();
  const paragraph = random.below(0x9000);
  state.segments.cs = { selector: paragraph, base: BigInt(paragraph * 16), limit: 0xffff, attributes: 0x9b };
  state.rip = BigInt(random.below(0x10000));
  return state;
}

function prepare(memory: GuestMemory, random: Random, mode: Mode): CpuState {
  const bytes = memory.slice(CODE, RAM_BYTES - CODE);
  const low = memory.slice(0, 0xa0000);
  if (bytes === undefined || low === undefined) throw new RangeError("the guest has no such memory");
  if (mode === "real") return realState(low, random);
  const view = new DataView(low.buffer, low.byteOffset, low.byteLength);
  const long = mode.startsWith("long");
  bytes.set(hostileCode({ random, ramBytes: RAM_BYTES, codeStart: CODE, codeBytes: CODE_BYTES }, long));
  writeTables(view, random);
  view.setUint32(SEED_WORD, random.u32(), true);
  const state = long
    ? longState(view, low, random, mode === "long-user")
    : protectedState(view, low, random, mode === "protected-bare");
  state.gdtr = { base: BigInt(GDT), limit: TABLE_LIMIT };
  state.gpr.rsp = BigInt(STACK);
  state.rip = BigInt(CODE);
  return state;
}

/** Time that can be brought forward while the guest sleeps. */
class SkippingClock implements GuestClock {
  readonly #host = new HostClock(clockOrigin());
  readonly tscHz = this.#host.tscHz;
  readonly bootTime = this.#host.bootTime;
  #skipped = 0;

  now(): number {
    return this.#host.now() + this.#skipped;
  }
  skip(ns: number): void {
    this.#skipped += ns;
  }
}

export interface CaseResult {
  readonly mode: Mode;
  readonly outcome: Outcome;
  readonly instructions: number;
}

/** Runs one case; throws where the engine or a device fails. `alive` is called again and again. */
export function runHostileCase(seed: number, index: number, alive: () => void): CaseResult {
  const random = new Random().seed(seed, index);
  const mode = random.pick(MODES);
  const clock = new SkippingClock();
  const memory = GuestMemory.create(RAM_BYTES);
  const board = new Board({ clock, ramBytes: RAM_BYTES, vcpus: 1 });
  const vcpu = new PortableVcpu(memory, { bus: board.bus, interrupts: board.interrupts, clock });
  vcpu.state.load(prepare(memory, random, mode));
  const end = (outcome: Outcome): CaseResult => ({ mode, outcome, instructions: Number(vcpu.retired) });
  for (let slice = 0; slice < SLICES; slice++) {
    const exit = vcpu.run();
    alive();
    if (exit.kind === "internal-error")
      throw new Error(`the engine failed at rip 0x${exit.rip.toString(16)}: ${exit.message}`);
    if (exit.kind === "shutdown") return end("triple-fault");
    if (board.requests.powerOff) return end("power-off");
    if (board.requests.reset) return end("reset");
    board.serial.read();
    if (random.chance(0.1)) board.serial.write(Uint8Array.of(random.below(256)));
    if (exit.kind === "halt" && !board.interrupts.pending()) {
      const wait = board.nextDeadline() - clock.now();
      if (wait > LONGEST_SLEEP_NS) return end("asleep");
      if (wait > 0) clock.skip(wait);
    }
    const now = clock.now();
    if (board.nextDeadline() <= now) board.runTimers(now);
  }
  // Whatever the guest did, its state can be read and its board reset.
  vcpu.state.save();
  board.reset();
  return end("running");
}
