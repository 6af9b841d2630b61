/**
 * The vCPU's state area seen from TypeScript: fields by name, flags, segments with their address contexts, and the whole
 * of it as CpuState. [isa/state.ts has the layout; SDM 1 §3.4, §10.5.1]
 *
 * Nothing here checks what the architecture forbids; that is done in system/. A 64-bit field is read as a bigint, or as
 * two unsigned halves where it must be cheap.
 */

import { BUSY, CONTROL_FIXED, CONTROL_WRITABLE, ES as SUMMARY_BIT, EXCEPTIONS } from "../../isa/float/x87-state.ts";
import { AF, ARITHMETIC, CF, OF, PF, SF, VM, ZF } from "../../isa/flags.ts";
import { XSAVE_HEADER_END } from "../../isa/cpuid.ts";
import { EFER_LMA, MSRS } from "../../isa/msrs.ts";
import {
  addressContext,
  type Field,
  gprOffset,
  MSR_AREA,
  SEGMENTS,
  STATE,
  STATE_BYTES,
  type StateName,
  segmentField,
  X87_REGISTERS,
  XMM,
  YMM_HIGH,
} from "../../isa/state.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { resetState } from "../reset-state.ts";
import { type CpuState, GPR_NAMES, type GprName, SEGMENT_NAMES, type SegmentName, type SegmentState } from "../vcpu.ts";

/** Segment registers by number, as encoded; the system ones follow. */
export const ES = 0;
export const CS = 1;
export const SS = 2;
export const DS = 3;
export const FS = 4;
export const GS = 5;
export const LDTR = 6;
export const TR = 7;

/** Bits of a segment's attributes: a descriptor's bits 55:40 without the limit. */
export const ATTRIBUTE = {
  type: 0xf,
  accessed: 1 << 0,
  /** Data: writable; code: readable. */
  writable: 1 << 1,
  /** Data: expands down; code: conforming. */
  expandDown: 1 << 2,
  conforming: 1 << 2,
  code: 1 << 3,
  /** Code or data, not a system segment. */
  memory: 1 << 4,
  dplShift: 5,
  present: 1 << 7,
  long: 1 << 13,
  big: 1 << 14,
  granularity: 1 << 15,
} as const;

export const CR0 = {
  PE: 1 << 0,
  MP: 1 << 1,
  EM: 1 << 2,
  TS: 1 << 3,
  ET: 1 << 4,
  NE: 1 << 5,
  WP: 1 << 16,
  AM: 1 << 18,
  NW: 1 << 29,
  CD: 1 << 30,
  PG: 0x8000_0000,
} as const;
export const CR4 = {
  VME: 1 << 0,
  PVI: 1 << 1,
  TSD: 1 << 2,
  DE: 1 << 3,
  PSE: 1 << 4,
  PAE: 1 << 5,
  MCE: 1 << 6,
  PGE: 1 << 7,
  PCE: 1 << 8,
  OSFXSR: 1 << 9,
  OSXMMEXCPT: 1 << 10,
  UMIP: 1 << 11,
  FSGSBASE: 1 << 16,
  PCIDE: 1 << 17,
  OSXSAVE: 1 << 18,
  SMEP: 1 << 20,
  SMAP: 1 << 21,
} as const;

const SEGMENT_OFFSETS = SEGMENTS.map((name) => segmentField(name, "selector").offset);
const CONTEXT_OFFSETS = SEGMENTS.slice(0, 6).map(
  (name) => [addressContext(16, name), addressContext(32, name), addressContext(64, name)] as const,
);
const SELECTOR = 0;
const ATTRIBUTES = 4;
const LIMIT = 8;
const BASE = 16;

function offsetOf(field: Field | StateName): number {
  return typeof field === "string" ? STATE[field].offset : field.offset;
}

const U64 = 0xffff_ffff_ffff_ffffn;

/** The FXSAVE image holds ST0 to ST7 in order; the state holds R0 to R7, of which ST0 is R[TOP]. */
function stackRegister(number: number): number {
  return X87_REGISTERS + (number & 7) * 16;
}

function segmentOffset(segment: number): number {
  return SEGMENT_OFFSETS[segment] ?? 0;
}

/** Offsets in the FXSAVE image in bytes. [SDM 1 §10.5.1] */
/** ES and B of the status word. */
const SUMMARY = SUMMARY_BIT | BUSY;
const FX = {
  fcw: 0,
  fsw: 2,
  ftw: 4,
  fop: 6,
  fip: 8,
  fdp: 16,
  mxcsr: 24,
  mxcsrMask: 28,
  registers: 32,
  xmm: 160,
} as const;
/** MXCSR bits that may be set; denormals-are-zero included. */
export const MXCSR_MASK = 0xffff;

/** The registers alone; what stands between two instructions besides is the vCPU's. */
export type RegisterState = Omit<CpuState, "activity" | "interruptShadow" | "nmiBlocked" | "event">;

const XCR0_AVX = 4;
/** The header's first byte tells which components are in use. */
const XSTATE_BV = 512;
const YMM_BYTES = 256;
const XSAVE_BYTES = XSAVE_HEADER_END + YMM_BYTES;

export class StateView {
  /** The state area alone; offsets are those of isa/state.ts. */
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly #words: Int32Array;

  constructor(memory: GuestMemory, stateBase: number) {
    this.view = new DataView(memory.memory.buffer, stateBase, STATE_BYTES);
    this.bytes = new Uint8Array(memory.memory.buffer, stateBase, STATE_BYTES);
    this.#words = new Int32Array(memory.memory.buffer, stateBase, STATE_BYTES / 4);
  }

  #word(offset: number): number {
    return this.#words[offset >> 2] ?? 0;
  }
  #setWord(offset: number, value: number): void {
    this.#words[offset >> 2] = value;
  }

  // --- fields: by the field itself where it must be cheap, or by name ---

  /** An i32 field, or the low half of an i64 one, as an unsigned number. */
  low(field: Field | StateName): number {
    return this.#word(offsetOf(field)) >>> 0;
  }
  setLow(field: Field | StateName, value: number): void {
    this.#setWord(offsetOf(field), value);
  }
  /** The high half of an i64 field as an unsigned number. */
  high(field: Field | StateName): number {
    return this.#word(offsetOf(field) + 4) >>> 0;
  }
  /** Sets both halves of an i64 field. */
  setHalves(field: Field | StateName, low: number, high: number): void {
    const offset = offsetOf(field);
    this.#setWord(offset, low);
    this.#setWord(offset + 4, high);
  }
  /** An i64 field, unsigned. */
  long(field: Field | StateName): bigint {
    return this.view.getBigUint64(offsetOf(field), true);
  }
  setLong(field: Field | StateName, value: bigint): void {
    this.view.setBigUint64(offsetOf(field), value, true);
  }

  gpr(register: number): bigint {
    return this.view.getBigUint64(gprOffset(register), true);
  }
  setGpr(register: number, value: bigint): void {
    this.view.setBigUint64(gprOffset(register), value, true);
  }
  gprLow(register: number): number {
    return this.#word(gprOffset(register)) >>> 0;
  }
  gprHigh(register: number): number {
    return this.#word(gprOffset(register) + 4) >>> 0;
  }
  setGprHalves(register: number, low: number, high: number): void {
    this.#setWord(gprOffset(register), low);
    this.#setWord(gprOffset(register) + 4, high);
  }

  msrSlot(slot: number): bigint {
    return this.view.getBigUint64(MSR_AREA + slot * 8, true);
  }
  setMsrSlot(slot: number, value: bigint): void {
    this.view.setBigUint64(MSR_AREA + slot * 8, value, true);
  }

  get cpl(): number {
    return this.#word(STATE.cpl.offset);
  }
  set cpl(value: number) {
    this.#setWord(STATE.cpl.offset, value);
  }

  // --- flags ---

  /** RFLAGS; its upper half is always zero. The same as flags.ts, without a bigint. */
  get rflags(): number {
    const aux = this.#word(STATE.flagsAux.offset);
    const low = this.#word(STATE.flagsResult.offset);
    const high = this.#word(STATE.flagsResult.offset + 4);
    let flags = this.#word(STATE.flagsSystem.offset);
    if ((aux & 2) !== 0) flags |= CF;
    if (((aux + 1) & 2) !== 0) flags |= OF;
    if ((aux & 8) !== 0) flags |= AF;
    if ((low | high) === 0) flags |= ZF;
    if (((high >>> 31) ^ ((aux >> 16) & 1)) !== 0) flags |= SF;
    let byte = (low ^ (aux >> 8)) & 0xff;
    byte ^= byte >> 4;
    byte ^= byte >> 2;
    byte ^= byte >> 1;
    if ((byte & 1) === 0) flags |= PF;
    return flags;
  }
  set rflags(value: number) {
    const zf = (value & ZF) !== 0 ? 1 : 0;
    const cf = value & CF;
    const of = (value & OF) !== 0 ? 1 : 0;
    const pf = (value & PF) !== 0 ? 1 : 0;
    const sf = (value & SF) !== 0 ? 1 : 0;
    const af = (value & AF) !== 0 ? 8 : 0;
    const aux = (cf ^ of) | (cf << 1) | af | ((pf ^ zf) << 8) | (sf << 16);
    this.#setWord(STATE.flagsResult.offset, zf ^ 1);
    this.#setWord(STATE.flagsResult.offset + 4, 0);
    this.#setWord(STATE.flagsAux.offset, aux);
    this.#setWord(STATE.flagsSystem.offset, (value & ~ARITHMETIC) | 2);
  }
  /** RFLAGS without the arithmetic six. */
  get systemFlags(): number {
    return this.#word(STATE.flagsSystem.offset);
  }
  set systemFlags(value: number) {
    this.#setWord(STATE.flagsSystem.offset, value);
  }

  // --- modes ---

  get protectedMode(): boolean {
    return (this.low(STATE.cr0) & CR0.PE) !== 0;
  }
  get virtual8086(): boolean {
    return (this.systemFlags & VM) !== 0;
  }
  /** Protected mode proper: selectors name descriptors. */
  get usesDescriptors(): boolean {
    return this.protectedMode && !this.virtual8086;
  }
  /** IA-32e mode: EFER.LMA. */
  get longModeActive(): boolean {
    return (this.low(STATE.efer) & EFER_LMA) !== 0;
  }
  /** 64-bit mode: EFER.LMA and CS.L. */
  get mode64(): boolean {
    return this.longModeActive && (this.attributes(CS) & ATTRIBUTE.long) !== 0;
  }
  /** Whether code outside 64-bit mode is 32-bit by default: CS.D. */
  get code32(): boolean {
    return (this.attributes(CS) & ATTRIBUTE.big) !== 0;
  }
  /** Width of the stack pointer in bits. */
  get stackBits(): 16 | 32 | 64 {
    if (this.mode64) return 64;
    return (this.attributes(SS) & ATTRIBUTE.big) !== 0 ? 32 : 16;
  }

  // --- segments ---

  selector(segment: number): number {
    return this.#word(segmentOffset(segment) + SELECTOR);
  }
  attributes(segment: number): number {
    return this.#word(segmentOffset(segment) + ATTRIBUTES);
  }
  /** In bytes, inclusive. */
  limit(segment: number): number {
    return this.#word(segmentOffset(segment) + LIMIT) >>> 0;
  }
  baseLow(segment: number): number {
    return this.#word(segmentOffset(segment) + BASE) >>> 0;
  }
  baseHigh(segment: number): number {
    return this.#word(segmentOffset(segment) + BASE + 4) >>> 0;
  }
  base(segment: number): bigint {
    return this.view.getBigUint64(segmentOffset(segment) + BASE, true);
  }

  /** Sets a segment register whole, base as two halves. A CS load that enters or leaves 64-bit mode changes the bases
   * that the others use. CPL is not touched. */
  setSegment(
    segment: number,
    selector: number,
    attributes: number,
    limit: number,
    baseLow: number,
    baseHigh: number,
  ): void {
    const at = segmentOffset(segment);
    const sameBase = this.#word(at + BASE) === (baseLow | 0) && this.#word(at + BASE + 4) === (baseHigh | 0);
    const changed = this.#word(at + ATTRIBUTES) ^ attributes;
    this.#setWord(at + SELECTOR, selector);
    this.#setWord(at + ATTRIBUTES, attributes);
    this.#setWord(at + LIMIT, limit);
    this.#setWord(at + BASE, baseLow);
    this.#setWord(at + BASE + 4, baseHigh);
    if (segment === CS && (changed & ATTRIBUTE.long) !== 0) this.refreshContexts();
    else if (!sameBase && segment < 6) this.#setContext(segment, this.mode64);
  }
  /** Sets the base alone: WRMSR, WRFSBASE, SWAPGS. */
  setBase(segment: number, base: bigint): void {
    this.view.setBigUint64(segmentOffset(segment) + BASE, base, true);
    if (segment < 6) this.#setContext(segment, this.mode64);
  }
  setAttributes(segment: number, attributes: number): void {
    this.#setWord(segmentOffset(segment) + ATTRIBUTES, attributes);
  }

  /** Recomputes the bases of all address contexts: after the mode or a segment changed by other ways. */
  refreshContexts(): void {
    const flat = this.mode64;
    for (let segment = 0; segment < 6; segment++) this.#setContext(segment, flat);
  }
  /** ES, CS, SS and DS have base 0 in 64-bit mode whatever the register holds [SDM 3 §3.4.4]. */
  #setContext(segment: number, flat: boolean): void {
    const contexts = CONTEXT_OFFSETS[segment];
    if (contexts === undefined) return;
    const at = segmentOffset(segment) + BASE;
    const real = segment >= FS || !flat;
    const low = real ? this.#word(at) : 0;
    const high = real ? this.#word(at + 4) : 0;
    for (let size = 0; size < 3; size++) {
      const offset = contexts[size] ?? 0;
      // The context of 64-bit addresses is used in 64-bit mode only.
      const zero = size === 2 && segment < FS;
      this.#setWord(offset, zero ? 0 : low);
      this.#setWord(offset + 4, zero ? 0 : high);
    }
  }
  /** Writes the masks of all address contexts, which never change, and the bases. */
  #initializeContexts(): void {
    const masks = [
      [16, 0xffffn],
      [32, 0xffff_ffffn],
      [64, U64],
    ] as const;
    for (const [size, mask] of masks) {
      for (const segment of [...SEGMENTS.slice(0, 6), undefined]) {
        const offset = addressContext(size, segment);
        this.view.setBigUint64(offset, 0n, true);
        this.view.setBigUint64(offset + 8, mask, true);
      }
    }
    this.refreshContexts();
  }

  // --- the FXSAVE image ---

  /** Writes the 512-byte image that FXSAVE64 gives into `fx`; reserved bytes stay as they are. */
  saveFx(fx: Uint8Array): void {
    const image = new DataView(fx.buffer, fx.byteOffset, 512);
    image.setUint16(FX.fcw, this.low(STATE.fcw), true);
    image.setUint16(FX.fsw, this.low(STATE.fsw), true);
    image.setUint8(FX.ftw, this.low(STATE.ftw));
    image.setUint8(FX.ftw + 1, 0);
    image.setUint16(FX.fop, this.low(STATE.fop), true);
    this.#saveWords(image, FX.fip, STATE.fip.offset, 2);
    this.#saveWords(image, FX.fdp, STATE.fdp.offset, 2);
    image.setUint32(FX.mxcsr, this.low(STATE.mxcsr), true);
    image.setUint32(FX.mxcsrMask, MXCSR_MASK, true);
    const top = this.#stackTop;
    for (let i = 0; i < 8; i++) this.#saveWords(image, FX.registers + i * 16, stackRegister(top + i), 4);
    this.#saveWords(image, FX.xmm, XMM, 64);
  }
  loadFx(fx: Uint8Array): void {
    const image = new DataView(fx.buffer, fx.byteOffset, 512);
    const control = (image.getUint16(FX.fcw, true) & CONTROL_WRITABLE) | CONTROL_FIXED;
    const status = image.getUint16(FX.fsw, true) & ~SUMMARY;
    this.setLow(STATE.fcw, control);
    // Whether an exception waits follows from flags and masks, whatever the image says.
    this.setLow(STATE.fsw, (status & ~control & EXCEPTIONS) !== 0 ? status | SUMMARY : status);
    this.setLow(STATE.ftw, image.getUint8(FX.ftw));
    this.setLow(STATE.fop, image.getUint16(FX.fop, true) & 0x7ff);
    this.#loadWords(image, FX.fip, STATE.fip.offset, 2);
    this.#loadWords(image, FX.fdp, STATE.fdp.offset, 2);
    this.setLow(STATE.mxcsr, image.getUint32(FX.mxcsr, true) & MXCSR_MASK);
    const top = this.#stackTop;
    for (let i = 0; i < 8; i++) {
      const register = stackRegister(top + i);
      this.#loadWords(image, FX.registers + i * 16, register, 2);
      this.#setWord(register + 8, image.getUint16(FX.registers + i * 16 + 8, true));
      this.#setWord(register + 12, 0);
    }
    this.#loadWords(image, FX.xmm, XMM, 64);
  }
  get #stackTop(): number {
    return (this.low(STATE.fsw) >> 11) & 7;
  }
  // Word by word: for so few bytes that costs less than the views that a bulk copy needs.
  #saveWords(image: DataView, at: number, offset: number, count: number): void {
    for (let i = 0; i < count; i++) image.setInt32(at + i * 4, this.#word(offset + i * 4), true);
  }
  #loadWords(image: DataView, at: number, offset: number, count: number): void {
    for (let i = 0; i < count; i++) this.#setWord(offset + i * 4, image.getInt32(at + i * 4, true));
  }

  // --- all of it ---

  save(): RegisterState {
    const gpr = Object.fromEntries(GPR_NAMES.map((name, i) => [name, this.gpr(i)])) as Record<GprName, bigint>;
    const segments = Object.fromEntries(
      SEGMENT_NAMES.map((name, i): [SegmentName, SegmentState] => [
        name,
        { selector: this.selector(i), base: this.base(i), limit: this.limit(i), attributes: this.attributes(i) },
      ]),
    ) as Record<SegmentName, SegmentState>;
    const msrs = new Map<number, bigint>();
    for (const { index, field, slot } of MSRS.values()) {
      if (field !== undefined) msrs.set(index, this.long(field));
      else if (slot >= 0) msrs.set(index, this.msrSlot(slot));
    }
    msrs.set(0x3b, this.long(STATE.tscOffset));
    const fx = new Uint8Array(512);
    this.saveFx(fx);
    return {
      gpr,
      rip: this.long(STATE.rip),
      rflags: BigInt(this.rflags),
      segments,
      gdtr: { base: this.long(STATE.gdtrBase), limit: this.low(STATE.gdtrLimit) },
      idtr: { base: this.long(STATE.idtrBase), limit: this.low(STATE.idtrLimit) },
      cr0: this.long(STATE.cr0),
      cr2: this.long(STATE.cr2),
      cr3: this.long(STATE.cr3),
      cr4: this.long(STATE.cr4),
      xcr0: this.long(STATE.xcr0),
      dr: [
        this.long(STATE.dr0),
        this.long(STATE.dr1),
        this.long(STATE.dr2),
        this.long(STATE.dr3),
        this.long(STATE.dr6),
        this.long(STATE.dr7),
      ],
      msrs,
      fx,
      ...((this.low(STATE.xcr0) & XCR0_AVX) === 0 ? {} : { xsave: this.#xsaveArea(fx) }),
      pdptes: [this.long(STATE.pdpte0), this.long(STATE.pdpte1), this.long(STATE.pdpte2), this.long(STATE.pdpte3)],
    };
  }

  /** The standard format: all components that there are count as in use. */
  #xsaveArea(fx: Uint8Array): Uint8Array {
    const area = new Uint8Array(XSAVE_BYTES);
    area.set(fx);
    area[XSTATE_BV] = this.low(STATE.xcr0);
    area.set(this.bytes.subarray(YMM_HIGH, YMM_HIGH + YMM_BYTES), XSAVE_HEADER_END);
    return area;
  }

  /** The upper halves of YMM registers, zero where the area does not say that it holds any. */
  #loadYmm(area: Uint8Array | undefined): void {
    const high = this.bytes.subarray(YMM_HIGH, YMM_HIGH + YMM_BYTES);
    const held = ((area?.[XSTATE_BV] ?? 0) & XCR0_AVX) !== 0;
    if (held && area !== undefined && area.length >= XSAVE_BYTES) {
      high.set(area.subarray(XSAVE_HEADER_END, XSAVE_BYTES));
    } else high.fill(0);
  }

  /** Takes a whole state; MSRs that it does not name get their reset values. The engine's derived state (translations,
   * view, decode context) is the caller's to recompute. */
  load(state: RegisterState): void {
    for (const [i, name] of GPR_NAMES.entries()) this.setGpr(i, state.gpr[name]);
    this.setLong(STATE.rip, state.rip);
    this.rflags = Number(state.rflags & 0x3f_ffffn);
    for (const { index, field, slot, reset } of MSRS.values()) {
      const value = state.msrs.get(index) ?? reset;
      if (field !== undefined) this.setLong(field, value);
      else if (slot >= 0) this.setMsrSlot(slot, value);
    }
    this.setLong(STATE.tscOffset, state.msrs.get(0x3b) ?? 0n);
    for (const [name, value] of [
      ["cr0", state.cr0],
      ["cr2", state.cr2],
      ["cr3", state.cr3],
      ["cr4", state.cr4],
    ] as const) {
      this.setLong(name, value);
    }
    this.setLong(STATE.xcr0, state.xcr0);
    for (const [i, name] of (["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"] as const).entries()) {
      this.setLong(name, state.dr[i] ?? 0n);
    }
    this.setLong(STATE.gdtrBase, state.gdtr.base);
    this.setLow(STATE.gdtrLimit, state.gdtr.limit);
    this.setLong(STATE.idtrBase, state.idtr.base);
    this.setLow(STATE.idtrLimit, state.idtr.limit);
    for (const [i, name] of SEGMENT_NAMES.entries()) {
      const { selector, attributes, limit, base } = state.segments[name];
      const low = Number(BigInt.asIntN(32, base));
      this.setSegment(i, selector, attributes, limit, low, Number(BigInt.asIntN(32, base >> 32n)));
    }
    this.#initializeContexts();
    // SS's DPL is the CPL, but a real-mode SS says nothing of it [SDM 3 §5.5].
    this.cpl = !this.protectedMode ? 0 : this.virtual8086 ? 3 : (this.attributes(SS) >> ATTRIBUTE.dplShift) & 3;
    for (const [i, name] of (["pdpte0", "pdpte1", "pdpte2", "pdpte3"] as const).entries()) {
      this.setLong(name, state.pdptes?.[i] ?? 0n);
    }
    this.loadFx(state.fx);
    this.#loadYmm(state.xsave);
    // What an image holds counts as in use, except that nothing is known of the upper halves.
    this.setLong(STATE.xinuse, 3n);
    this.setLow(STATE.fault, 0);
  }

  /** The state after RESET; RDX holds the signature of CPUID leaf 1. */
  reset(signature: number): void {
    this.load(resetState(BigInt(signature)));
  }
}
