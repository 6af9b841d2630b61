/**
 * Where a vCPU's architectural state lies, as byte offsets from its base in the shared memory. Handlers, helpers and
 * saved state all use these names. Everything is little-endian and naturally aligned.
 */

import type { ValueType } from "../wasm/opcodes.ts";

export interface Field {
  /** Byte offset from the vCPU's base; fits 16 bits, since decoded records name registers by it. */
  readonly offset: number;
  readonly type: ValueType;
}

let next = 0;

function align(bytes: number): void {
  next = Math.ceil(next / bytes) * bytes;
}
function field(type: "i32" | "i64"): Field {
  const bytes = type === "i32" ? 4 : 8;
  align(bytes);
  const made = { offset: next, type } as const;
  next += bytes;
  return made;
}
function area(bytes: number, alignment = 16): number {
  align(alignment);
  const offset = next;
  next += bytes;
  return offset;
}

/** General registers, 8 bytes each, in encoding order. AH, CH, DH and BH are byte 1 of the first four. */
export const GPR = area(16 * 8);
/** XMM0-15 in 16 bytes each. */
export const XMM = area(16 * 16);
/** Upper halves of YMM0-15, for AVX. */
export const YMM_HIGH = area(16 * 16);
/** R0-R7 of the x87 register file by physical number, 80 bits in 16 bytes each; MM0-7 are the low 64 bits. */
export const X87_REGISTERS = area(8 * 16);
/** Four slots of 16 bytes by which effects hand values to helpers. */
export const SCRATCH = area(4 * 16);

/** The x87 unit's memory operand: FNSAVE's 108 bytes at most. */
export const X87_OPERAND = area(112);

/** Fields of one value each. The order is free; names are the manual's where it has one. */
export const STATE = {
  /** Always 0: what an absent base or index reads. */
  zero: field("i64"),
  /** Linear address of the page that holds the code being executed. */
  pageBase: field("i64"),
  /** Instruction pointer: an offset in CS; linear = rip + codeBase. */
  rip: field("i64"),
  /** CS base outside 64-bit mode, else 0; and what an instruction pointer is cut to. */
  codeBase: field("i64"),
  ripMask: field("i64"),
  /** Result of the last flag-setting operation, sign-extended: ZF is "= 0", SF its sign [flags.ts]. */
  flagsResult: field("i64"),
  /** Carry bits of that operation [flags.ts]. */
  flagsAux: field("i32"),
  /** RFLAGS without CF, PF, AF, ZF, SF and OF; bit 1 is set. */
  flagsSystem: field("i32"),
  /** Current privilege level. */
  cpl: field("i32"),
  mxcsr: field("i32"),
  /** What an SSE instruction raises before anything else: 0 nothing, 6 #UD (CR0.EM, no CR4.OSFXSR), 7 #NM (CR0.TS). */
  sseState: field("i32"),
  /** The same for x87: 7 #NM where CR0.EM or CR0.TS. MMX raises #UD in place of it where CR0.EM. */
  x87State: field("i32"),

  /** Non-zero while an exception is on its way: vector + 1. */
  fault: field("i32"),
  faultError: field("i32"),
  /** The linear address that a fault for a non-canonical one was raised for. */
  faultAddress: field("i64"),
  /** Non-zero: something else than an interrupt waits to be looked at where the guest polls: HLT, a shutdown, a trap. */
  attention: field("i32"),
  /** Whether an interrupt may be waiting: set by devices' code, read where IF becomes 1. */
  interruptHint: field("i32"),
  /** RIP of the instruction after STI or a load of SS, before which no interrupt is taken [SDM 3 §6.8.3]; stale values
   * are harmless: they hold back one interrupt for one instruction. */
  shadowRip: field("i64"),
  /** Address of the TLB of the current view: supervisor, supervisor with AC, or user. */
  tlbBase: field("i32"),
  /** What a jump-cache entry must match besides RIP: generation and user bit. */
  jumpContext: field("i32"),
  /** Mode bits that select how bytes are decoded [decode.ts]; part of every trace's key. */
  decodeContext: field("i32"),
  /** Instructions retired in whole blocks, since reset. */
  retired: field("i64"),
  /** Those of them that ran in compiled code. */
  compiled: field("i64"),
  /** Second page of an instruction that crosses pages, as linear address. */
  scratch: field("i64"),
  scratch2: field("i64"),

  /** Data breakpoints: whether there are any, and the pages (linear) that hold one each, 1 for none. Such pages are never
   * in the TLB. Conditions met wait in `debugTrap` for the instruction's end, as bits of DR6. */
  watching: field("i32"),
  debugTrap: field("i32"),
  watchPage0: field("i64"),
  watchPage1: field("i64"),
  watchPage2: field("i64"),
  watchPage3: field("i64"),

  /** Physical address bits that the board holds at 0: bit 20 while gate A20 is shut, else none. */
  heldAddressBits: field("i64"),
  /** How linear addresses are translated [memory-core.ts, PAGING]. */
  pagingMode: field("i32"),
  /** Left by the last page walk: log2 of the page's size, and whether it may be entered for writing. */
  walkShift: field("i32"),
  walkWritable: field("i32"),
  /** 1 where it is global: its entries stay when CR3 is written. */
  walkGlobal: field("i32"),
  /** PAE's page-directory-pointer-table entries, as they were when CR3 was last loaded [SDM 3 §4.4.1]. */
  pdpte0: field("i64"),
  pdpte1: field("i64"),
  pdpte2: field("i64"),
  pdpte3: field("i64"),

  cr0: field("i64"),
  cr2: field("i64"),
  cr3: field("i64"),
  cr4: field("i64"),
  xcr0: field("i64"),
  dr0: field("i64"),
  dr1: field("i64"),
  dr2: field("i64"),
  dr3: field("i64"),
  dr6: field("i64"),
  dr7: field("i64"),
  efer: field("i64"),
  star: field("i64"),
  lstar: field("i64"),
  cstar: field("i64"),
  fmask: field("i64"),
  kernelGsBase: field("i64"),
  tscAux: field("i64"),
  tscOffset: field("i64"),
  sysenterCs: field("i64"),
  sysenterEsp: field("i64"),
  sysenterEip: field("i64"),
  pat: field("i64"),
  gdtrBase: field("i64"),
  gdtrLimit: field("i32"),
  idtrBase: field("i64"),
  idtrLimit: field("i32"),

  /** x87 control, status (with TOP in place), tag (one bit a physical register: 1 = valid), last opcode and pointers. */
  fcw: field("i32"),
  fsw: field("i32"),
  ftw: field("i32"),
  fop: field("i32"),
  fip: field("i64"),
  fdp: field("i64"),
  /** XSAVE's XSTATE_BV of what is not in its initial state. */
  xinuse: field("i64"),
} as const satisfies Record<string, Field>;

export type StateName = keyof typeof STATE;

/** Segment registers in encoding order, then the two system ones. */
export const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"] as const;
export type Segment = (typeof SEGMENTS)[number];

/** One segment register: selector i32, attributes i32, limit (bytes, inclusive) i32, pad, base i64, pad. */
const SEGMENT_BYTES = 32;
const SEGMENT_AREA = area(SEGMENTS.length * SEGMENT_BYTES);

export function segmentField(segment: Segment, part: "selector" | "attributes" | "limit" | "base"): Field {
  const start = SEGMENT_AREA + SEGMENTS.indexOf(segment) * SEGMENT_BYTES;
  const at = { selector: 0, attributes: 4, limit: 8, base: 16 }[part];
  return { offset: start + at, type: part === "base" ? "i64" : "i32" };
}

/**
 * Address contexts: what an effective address is masked and displaced by. One for each address size (16, 32, 64) and
 * segment (ES to GS, then none), each {base i64, mask i64}. Segment loads keep them up to date.
 */
const CONTEXT_BYTES = 16;
const CONTEXT_AREA = area(3 * 7 * CONTEXT_BYTES);

export function addressContext(addressSize: 16 | 32 | 64, segment: Segment | undefined): number {
  const size = addressSize === 16 ? 0 : addressSize === 32 ? 1 : 2;
  const index = segment === undefined ? 6 : SEGMENTS.indexOf(segment);
  return CONTEXT_AREA + (size * 7 + index) * CONTEXT_BYTES;
}

/** Model-specific registers without a field of their own, 8 bytes each, by their slot in msrs.ts. */
export const MSR_SLOTS = 64;
export const MSR_AREA = area(MSR_SLOTS * 8);

/** Bytes of one vCPU's state. */
export const STATE_BYTES = Math.ceil(next / 4096) * 4096;

export function gprOffset(register: number): number {
  return GPR + register * 8;
}
export function xmmOffset(register: number): number {
  return XMM + register * 16;
}
