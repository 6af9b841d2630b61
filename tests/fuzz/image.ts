/**
 * The guest of a batch: page tables, descriptor tables and the runtime at CPL 3, and the state in which it starts. Any
 * engine that can load a CpuState and has RAM_BYTES of guest RAM runs it.
 */

import type { CpuState, SegmentState } from "../../src/cpu/vcpu.ts";
import {
  BASE,
  BASE_32,
  BLOCK,
  BLOCKS_BYTES,
  CODE_BYTES,
  DATA,
  MAX_CASES,
  OUTPUT_ADDRESS,
  PAGE,
  PHYSICAL,
  SELECTOR,
  WINDOW_16,
  WINDOW_HIGH,
  WINDOW_LOW,
} from "./layout.ts";
import { RUNTIME_BASE64 } from "./runtime-bytes.ts";

/** Where a case's code jumps when it is through: `finished` in runtime.s. */
export const FINISHED = BASE + BigInt(PHYSICAL.runtime) + 0x800n;
/** The same for 32-bit code: `finished_32` in runtime.s. */
export const FINISHED_32 = BASE_32 + BigInt(PHYSICAL.runtime) + 0xa00n;
/** Where the runtime goes on to reach 32-bit code: `enter_32`. */
export const ENTER_32 = BASE + BigInt(PHYSICAL.runtime) + 0xb00n;
/** Where ring 3 goes on after an exception. */
export function handlerAddress(vector: number): bigint {
  return BASE + BigInt(PHYSICAL.runtime) + 0xc00n + BigInt(vector * 16);
}
export const CODE_ADDRESS = BASE + BigInt(PHYSICAL.code);
export const CODE_ADDRESS_32 = BASE_32 + BigInt(PHYSICAL.code);
export const INPUT_ADDRESS = BASE + BigInt(PHYSICAL.inputs);

/** Bytes of the window that are mapped: read-only page, A, B. */
export const WINDOW_BYTES = 3 * PAGE;

/** Many cases that share code space and the window's first contents. */
export interface Batch {
  /** 1 to MAX_CASES. */
  readonly count: number;
  /** Code from `codeOffset` of the code area on; INT3 where there is none, as everywhere else in the area. */
  readonly code: Uint8Array;
  readonly codeOffset: number;
  /** `count` blocks, see BLOCK. */
  readonly inputs: Uint8Array;
  /** WINDOW_BYTES, before the first case. The hot bytes come from each case's block. */
  readonly window: Uint8Array;
}

/** What became of a batch. */
export interface BatchResult {
  /** A view of the engine's RAM: until it runs the next batch. */
  readonly outputs: Uint8Array;
  readonly window: Uint8Array;
}

/** Runs batches; every implementation of ring 3 is one. */
export interface Ring3Engine extends Disposable {
  readonly name: string;
  run(batch: Batch): BatchResult;
}

// Page table entries [SDM 3 §4.5].
const PRESENT = 1n;
const WRITE = 2n;
const USER = 4n;
const ACCESSED_DIRTY = 0x60n;
const LARGE = 0x80n;
const NX = 1n << 63n;

/** Hands out pages and enters mappings; only for the few pages of this guest. */
class PageTables {
  readonly root = PHYSICAL.pageTables;
  #next = PHYSICAL.pageTables + PAGE;
  readonly #view: DataView;

  constructor(ram: Uint8Array) {
    this.#view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  }

  /** Maps one page of 4 KiB, or of 2 MiB where `bits` has LARGE. */
  map(virtual: bigint, physical: number, bits: bigint): void {
    const levels = bits & LARGE ? [39n, 30n] : [39n, 30n, 21n];
    let table: number = this.root;
    for (const shift of levels) {
      const place = table + Number((virtual >> shift) & 511n) * 8;
      let entry = this.#view.getBigUint64(place, true);
      if (entry === 0n) {
        entry = BigInt(this.#next) | PRESENT | WRITE | USER | ACCESSED_DIRTY;
        this.#next += PAGE;
        this.#view.setBigUint64(place, entry, true);
      }
      table = Number(entry & 0xf_ffff_f000n);
    }
    const shift = bits & LARGE ? 21n : 12n;
    const place = table + Number((virtual >> shift) & 511n) * 8;
    this.#view.setBigUint64(place, BigInt(physical) | bits | PRESENT | ACCESSED_DIRTY, true);
  }
}

/** Writes everything that no batch changes. `ram` is guest RAM from address 0. */
export function writeSystem(ram: Uint8Array): void {
  ram.fill(0, 0, PHYSICAL.window);
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const tables = new PageTables(ram);
  const map = (offset: number, bits: bigint): void => tables.map(BASE + BigInt(offset), offset, bits);
  for (const page of [PHYSICAL.gdt, PHYSICAL.idt]) map(page, WRITE | NX);
  for (const page of [PHYSICAL.template, PHYSICAL.template + PAGE]) map(page, USER | NX);
  map(PHYSICAL.stubs, 0n);
  map(PHYSICAL.runtime, USER);
  for (const page of [PHYSICAL.stack, PHYSICAL.data]) map(page, USER | WRITE | NX);
  for (let offset = 0; offset < CODE_BYTES; offset += PAGE) map(PHYSICAL.code + offset, USER);
  for (const page of [
    PHYSICAL.runtime,
    ...Array.from({ length: CODE_BYTES / PAGE }, (_, i) => PHYSICAL.code + i * PAGE),
  ]) {
    tables.map(BASE_32 + BigInt(page), page, USER);
  }
  const large = 2 * 1024 * 1024;
  for (let offset = 0; offset < BLOCKS_BYTES; offset += large) {
    map(PHYSICAL.inputs + offset, USER | NX | LARGE);
    tables.map(OUTPUT_ADDRESS + BigInt(offset), PHYSICAL.outputs + offset, USER | WRITE | NX | LARGE);
  }
  for (const window of [WINDOW_HIGH, WINDOW_LOW, WINDOW_16]) {
    for (let page = 0; page < 3; page++) {
      const bits = page === 0 ? USER | NX : USER | WRITE | NX;
      tables.map(window + BigInt((page + 1) * PAGE), PHYSICAL.window + page * PAGE, bits);
    }
  }
  const tss = BASE + BigInt(PHYSICAL.tss);
  const gdt: bigint[] = [
    0n,
    0x00af_9b00_0000_ffffn, // kernel code, 64-bit
    0x00cf_9300_0000_ffffn, // kernel data
    0n,
    0x00cf_fb00_0000_ffffn, // user code, 32-bit
    0x00cf_f300_0000_ffffn, // user data
    0x00af_fb00_0000_ffffn, // user code, 64-bit
    0n,
    // A busy 64-bit TSS of 104 bytes [SDM 3 §8.2.3].
    0x0000_8b00_0000_0067n | ((tss & 0xff_ffffn) << 16n) | (((tss >> 24n) & 0xffn) << 56n),
    tss >> 32n,
  ];
  for (const [index, entry] of gdt.entries()) view.setBigUint64(PHYSICAL.gdt + index * 8, entry, true);
  view.setBigUint64(PHYSICAL.tss + 4, BASE + BigInt(PHYSICAL.stack + PAGE), true); // RSP0
  view.setUint16(PHYSICAL.tss + 102, 104, true); // no I/O bitmap
  for (let vector = 0; vector < 32; vector++) {
    const handler = BASE + BigInt(PHYSICAL.stubs + vector * 64);
    const dpl = vector === 3 || vector === 4 ? 3 : 0;
    // 64-bit interrupt gate [SDM 3 §6.14.1].
    const attributes = BigInt(0x8e00 | (dpl << 13)) << 32n;
    const low = (handler & 0xffffn) | (BigInt(SELECTOR.kernelCode) << 16n) | attributes;
    view.setBigUint64(PHYSICAL.idt + vector * 16, low | (((handler >> 16n) & 0xffffn) << 48n), true);
    view.setBigUint64(PHYSICAL.idt + vector * 16 + 8, handler >> 32n, true);
  }
  ram.set(Buffer.from(RUNTIME_BASE64, "base64"), PHYSICAL.stubs);
}

const INT3 = 0xcc;

/** Puts batches into an engine's RAM; the engine then starts from `startState`. */
export class BatchWriter {
  readonly #ram: Uint8Array;
  readonly #view: DataView;
  /** What the last batch wrote of the code area. */
  #written = { from: 0, to: CODE_BYTES };

  constructor(ram: Uint8Array) {
    this.#ram = ram;
    this.#view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  }

  write({ count, code, codeOffset, inputs, window }: Batch): void {
    if (count < 1 || count > MAX_CASES) {
      throw new RangeError(`write a batch: ${count} cases, wanted 1 to ${MAX_CASES}`);
    }
    const ram = this.#ram;
    ram.fill(INT3, PHYSICAL.code + this.#written.from, PHYSICAL.code + this.#written.to);
    ram.set(code, PHYSICAL.code + codeOffset);
    this.#written = { from: codeOffset, to: codeOffset + code.length };
    ram.set(inputs, PHYSICAL.inputs);
    ram.set(window, PHYSICAL.window);
    ram.set(window.subarray(PAGE), PHYSICAL.template);
    this.#view.setBigUint64(PHYSICAL.data + DATA.input, INPUT_ADDRESS, true);
    this.#view.setBigUint64(PHYSICAL.data + DATA.output, OUTPUT_ADDRESS, true);
    this.#view.setBigUint64(PHYSICAL.data + DATA.remaining, BigInt(count), true);
    this.#view.setBigUint64(PHYSICAL.data + DATA.cr2, 0n, true);
    this.#view.setBigUint64(PHYSICAL.data + DATA.errorCode, 0n, true);
  }
}

/** What an engine's host does to end a case that does not end: leaves a frame, as if vector HUNG had been raised. */
export function writeHungFrame(ram: Uint8Array, rip: bigint, rsp: bigint, rflags: bigint): void {
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  view.setBigUint64(PHYSICAL.stack + PAGE - 16, rsp, true);
  view.setBigUint64(PHYSICAL.stack + PAGE - 24, rflags, true);
  view.setBigUint64(PHYSICAL.data + DATA.rip, rip, true);
}

export function remainingCases(ram: Uint8Array): number {
  const at = PHYSICAL.data + DATA.remaining;
  return (ram[at] ?? 0) | ((ram[at + 1] ?? 0) << 8);
}

export function readResult(ram: Uint8Array, batch: Batch): BatchResult {
  return {
    outputs: ram.subarray(PHYSICAL.outputs, PHYSICAL.outputs + batch.count * BLOCK.size),
    window: ram.slice(PHYSICAL.window, PHYSICAL.window + WINDOW_BYTES),
  };
}

const segment = (selector: number, attributes: number, base = 0n, limit = 0xffff_ffff): SegmentState => ({
  selector,
  base,
  limit,
  attributes,
});
const USER_DATA = 0xc0f3;
const USER_CODE = 0xa0fb;
const NULL_SEGMENT = segment(0, 0, 0n, 0);

/** CR0: PG, AM, WP, NE, ET, MP, PE. CR4: FSGSBASE is off, OSXMMEXCPT, OSFXSR, PAE. EFER: NXE, LMA, LME. */
const CR0 = 0x8005_0033n;
const CR4 = 0x620n;
const IA32_EFER = 0xc000_0080;
const EFER = 0xd00n;
/** FS and GS have bases, so that their overrides show: FS + 64, GS - 64 bytes. */
export const FS_BASE = 0x40n;
export const GS_BASE = 0xffff_ffff_ffff_ffc0n;

/** CPL 3 at the runtime's first instruction. */
export function startState(): CpuState {
  const fx = new Uint8Array(512);
  const fxView = new DataView(fx.buffer);
  fxView.setUint16(0, 0x37f, true);
  fxView.setUint32(24, 0x1f80, true);
  const gpr = {
    rax: 0n,
    rcx: 0n,
    rdx: 0n,
    rbx: 0n,
    rsp: BASE + BigInt(PHYSICAL.data + DATA.scratchTop),
    rbp: 0n,
    rsi: 0n,
    rdi: 0n,
    r8: 0n,
    r9: 0n,
    r10: 0n,
    r11: 0n,
    r12: 0n,
    r13: 0n,
    r14: 0n,
    r15: 0n,
  };
  return {
    gpr,
    rip: BASE + BigInt(PHYSICAL.runtime),
    rflags: 2n,
    segments: {
      es: segment(SELECTOR.userData, USER_DATA),
      cs: segment(SELECTOR.userCode, USER_CODE),
      ss: segment(SELECTOR.userData, USER_DATA),
      ds: segment(SELECTOR.userData, USER_DATA),
      fs: segment(SELECTOR.userData, USER_DATA, FS_BASE),
      gs: segment(SELECTOR.userData, USER_DATA, GS_BASE),
      ldtr: NULL_SEGMENT,
      tr: segment(SELECTOR.tss, 0x008b, BASE + BigInt(PHYSICAL.tss), 0x67),
    },
    gdtr: { base: BASE + BigInt(PHYSICAL.gdt), limit: 10 * 8 - 1 },
    idtr: { base: BASE + BigInt(PHYSICAL.idt), limit: 32 * 16 - 1 },
    cr0: CR0,
    cr2: 0n,
    cr3: BigInt(PHYSICAL.pageTables),
    cr4: CR4,
    xcr0: 1n,
    dr: [0n, 0n, 0n, 0n, 0xffff_0ff0n, 0x400n],
    msrs: new Map([[IA32_EFER, EFER]]),
    fx,
    activity: "running",
    interruptShadow: false,
    nmiBlocked: false,
  };
}
