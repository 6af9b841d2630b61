/**
 * The vCPU's state area seen from TypeScript: fields by name, flags, segments with their address contexts, and the whole
 * of it as CpuState. [isa/state.ts has the layout; SDM 1 §3.4, §10.5.1]
 *
 * Nothing here checks what the architecture forbids; that is done in system/. A 64-bit field is read as a bigint, or as
 * two unsigned halves where it must be cheap.
 */

import { AF, ARITHMETIC, CF, OF, PF, SF, VM, ZF } from "../../isa/flags.ts";
import { EFER_LMA, MSRS } from "../../isa/msrs.ts";
import {
  addressContext,
  gprOffset,
  MSR_AREA,
  SEGMENTS,
  STATE,
  STATE_BYTES,
  type StateName,
  segmentField,
  X87_REGISTERS,
  XMM,
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

const U64 = 0xffff_ffff_ffff_ffffn;

function segmentOffset(segment: number): number {
  return SEGMENT_OFFSETS[segment] ?? 0;
}

/** Offsets in the FXSAVE image in bytes. [SDM 1 §10.5.1] */
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

export class StateView {
  /** The state area alone; offsets are those of isa/state.ts. */
  readonly view: DataView;
  readonly bytes: Uint8Array;

  constructor(memory: GuestMemory, stateBase: number) {
    this.view = new DataView(memory.memory.buffer, stateBase, STATE_BYTES);
    this.bytes = new Uint8Array(memory.memory.buffer, stateBase, STATE_BYTES);
  }

  // --- fields ---

  /** An i32 field, or the low half of an i64 one, as an unsigned number. */
  low(name: StateName): number {
    return this.view.getUint32(STATE[name].offset, true);
  }
  setLow(name: StateName, value: number): void {
    this.view.setInt32(STATE[name].offset, value, true);
  }
  /** The high half of an i64 field as an unsigned number. */
  high(name: StateName): number {
    return this.view.getUint32(STATE[name].offset + 4, true);
  }
  /** Sets both halves of an i64 field. */
  setHalves(name: StateName, low: number, high: number): void {
    this.view.setInt32(STATE[name].offset, low, true);
    this.view.setInt32(STATE[name].offset + 4, high, true);
  }
  /** An i64 field, unsigned. */
  long(name: StateName): bigint {
    return this.view.getBigUint64(STATE[name].offset, true);
  }
  setLong(name: StateName, value: bigint): void {
    this.view.setBigUint64(STATE[name].offset, value, true);
  }

  gpr(register: number): bigint {
    return this.view.getBigUint64(gprOffset(register), true);
  }
  setGpr(register: number, value: bigint): void {
    this.view.setBigUint64(gprOffset(register), value, true);
  }
  gprLow(register: number): number {
    return this.view.getUint32(gprOffset(register), true);
  }
  gprHigh(register: number): number {
    return this.view.getUint32(gprOffset(register) + 4, true);
  }
  setGprHalves(register: number, low: number, high: number): void {
    this.view.setInt32(gprOffset(register), low, true);
    this.view.setInt32(gprOffset(register) + 4, high, true);
  }

  msrSlot(slot: number): bigint {
    return this.view.getBigUint64(MSR_AREA + slot * 8, true);
  }
  setMsrSlot(slot: number, value: bigint): void {
    this.view.setBigUint64(MSR_AREA + slot * 8, value, true);
  }

  get cpl(): number {
    return this.view.getInt32(STATE.cpl.offset, true);
  }
  set cpl(value: number) {
    this.view.setInt32(STATE.cpl.offset, value, true);
  }

  // --- flags ---

  /** RFLAGS; its upper half is always zero. The same as flags.ts, without a bigint. */
  get rflags(): number {
    const aux = this.view.getInt32(STATE.flagsAux.offset, true);
    const low = this.view.getInt32(STATE.flagsResult.offset, true);
    const high = this.view.getInt32(STATE.flagsResult.offset + 4, true);
    let flags = this.view.getInt32(STATE.flagsSystem.offset, true);
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
    this.view.setInt32(STATE.flagsResult.offset, zf ^ 1, true);
    this.view.setInt32(STATE.flagsResult.offset + 4, 0, true);
    this.view.setInt32(STATE.flagsAux.offset, aux, true);
    this.view.setInt32(STATE.flagsSystem.offset, (value & ~ARITHMETIC) | 2, true);
  }
  /** RFLAGS without the arithmetic six. */
  get systemFlags(): number {
    return this.view.getInt32(STATE.flagsSystem.offset, true);
  }
  set systemFlags(value: number) {
    this.view.setInt32(STATE.flagsSystem.offset, value, true);
  }

  // --- modes ---

  get protectedMode(): boolean {
    return (this.low("cr0") & CR0.PE) !== 0;
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
    return (this.low("efer") & EFER_LMA) !== 0;
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
    return this.view.getInt32(segmentOffset(segment) + SELECTOR, true);
  }
  attributes(segment: number): number {
    return this.view.getInt32(segmentOffset(segment) + ATTRIBUTES, true);
  }
  /** In bytes, inclusive. */
  limit(segment: number): number {
    return this.view.getUint32(segmentOffset(segment) + LIMIT, true);
  }
  baseLow(segment: number): number {
    return this.view.getUint32(segmentOffset(segment) + BASE, true);
  }
  baseHigh(segment: number): number {
    return this.view.getUint32(segmentOffset(segment) + BASE + 4, true);
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
    const before = segment === CS && this.mode64;
    const at = segmentOffset(segment);
    this.view.setInt32(at + SELECTOR, selector, true);
    this.view.setInt32(at + ATTRIBUTES, attributes, true);
    this.view.setInt32(at + LIMIT, limit, true);
    this.view.setInt32(at + BASE, baseLow, true);
    this.view.setInt32(at + BASE + 4, baseHigh, true);
    if (segment === CS && this.mode64 !== before) this.refreshContexts();
    else if (segment < 6) this.#setContext(segment, this.mode64);
  }
  /** Sets the base alone: WRMSR, WRFSBASE, SWAPGS. */
  setBase(segment: number, base: bigint): void {
    this.view.setBigUint64(segmentOffset(segment) + BASE, base, true);
    if (segment < 6) this.#setContext(segment, this.mode64);
  }
  setAttributes(segment: number, attributes: number): void {
    this.view.setInt32(segmentOffset(segment) + ATTRIBUTES, attributes, true);
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
    const low = real ? this.view.getInt32(at, true) : 0;
    const high = real ? this.view.getInt32(at + 4, true) : 0;
    for (let size = 0; size < 3; size++) {
      const offset = contexts[size] ?? 0;
      // The context of 64-bit addresses is used in 64-bit mode only.
      const zero = size === 2 && segment < FS;
      this.view.setInt32(offset, zero ? 0 : low, true);
      this.view.setInt32(offset + 4, zero ? 0 : high, true);
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
    image.setUint16(FX.fcw, this.low("fcw"), true);
    image.setUint16(FX.fsw, this.low("fsw"), true);
    image.setUint8(FX.ftw, this.low("ftw"));
    image.setUint8(FX.ftw + 1, 0);
    image.setUint16(FX.fop, this.low("fop"), true);
    image.setBigUint64(FX.fip, this.long("fip"), true);
    image.setBigUint64(FX.fdp, this.long("fdp"), true);
    image.setUint32(FX.mxcsr, this.low("mxcsr"), true);
    image.setUint32(FX.mxcsrMask, MXCSR_MASK, true);
    this.#eachStackRegister((at, register) => fx.set(this.bytes.subarray(register, register + 16), at));
    fx.set(this.bytes.subarray(XMM, XMM + 256), FX.xmm);
  }
  loadFx(fx: Uint8Array): void {
    const image = new DataView(fx.buffer, fx.byteOffset, 512);
    this.setLow("fcw", image.getUint16(FX.fcw, true));
    this.setLow("fsw", image.getUint16(FX.fsw, true));
    this.setLow("ftw", image.getUint8(FX.ftw));
    this.setLow("fop", image.getUint16(FX.fop, true) & 0x7ff);
    this.setLong("fip", image.getBigUint64(FX.fip, true));
    this.setLong("fdp", image.getBigUint64(FX.fdp, true));
    this.setLow("mxcsr", image.getUint32(FX.mxcsr, true) & MXCSR_MASK);
    this.#eachStackRegister((at, register) => this.bytes.set(fx.subarray(at, at + 16), register));
    this.bytes.set(fx.subarray(FX.xmm, FX.xmm + 256), XMM);
  }
  /** The image holds ST0 to ST7 in order; the state holds R0 to R7, of which ST0 is R[TOP]. */
  #eachStackRegister(visit: (at: number, register: number) => void): void {
    const top = (this.low("fsw") >> 11) & 7;
    for (let i = 0; i < 8; i++) visit(FX.registers + i * 16, X87_REGISTERS + ((top + i) & 7) * 16);
  }

  // --- all of it ---

  save(): CpuState {
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
    msrs.set(0x3b, this.long("tscOffset"));
    const fx = new Uint8Array(512);
    this.saveFx(fx);
    return {
      gpr,
      rip: this.long("rip"),
      rflags: BigInt(this.rflags),
      segments,
      gdtr: { base: this.long("gdtrBase"), limit: this.low("gdtrLimit") },
      idtr: { base: this.long("idtrBase"), limit: this.low("idtrLimit") },
      cr0: this.long("cr0"),
      cr2: this.long("cr2"),
      cr3: this.long("cr3"),
      cr4: this.long("cr4"),
      xcr0: this.long("xcr0"),
      dr: [this.long("dr0"), this.long("dr1"), this.long("dr2"), this.long("dr3"), this.long("dr6"), this.long("dr7")],
      msrs,
      fx,
    };
  }

  /** Takes a whole state; MSRs that it does not name get their reset values. The engine's derived state (translations,
   * view, decode context) is the caller's to recompute. */
  load(state: CpuState): void {
    for (const [i, name] of GPR_NAMES.entries()) this.setGpr(i, state.gpr[name]);
    this.setLong("rip", state.rip);
    this.rflags = Number(state.rflags & 0x3f_ffffn);
    for (const { index, field, slot, reset } of MSRS.values()) {
      const value = state.msrs.get(index) ?? reset;
      if (field !== undefined) this.setLong(field, value);
      else if (slot >= 0) this.setMsrSlot(slot, value);
    }
    this.setLong("tscOffset", state.msrs.get(0x3b) ?? 0n);
    for (const [name, value] of [
      ["cr0", state.cr0],
      ["cr2", state.cr2],
      ["cr3", state.cr3],
      ["cr4", state.cr4],
    ] as const) {
      this.setLong(name, value);
    }
    this.setLong("xcr0", state.xcr0);
    for (const [i, name] of (["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"] as const).entries()) {
      this.setLong(name, state.dr[i] ?? 0n);
    }
    this.setLong("gdtrBase", state.gdtr.base);
    this.setLow("gdtrLimit", state.gdtr.limit);
    this.setLong("idtrBase", state.idtr.base);
    this.setLow("idtrLimit", state.idtr.limit);
    for (const [i, name] of SEGMENT_NAMES.entries()) {
      const { selector, attributes, limit, base } = state.segments[name];
      const low = Number(BigInt.asIntN(32, base));
      this.setSegment(i, selector, attributes, limit, low, Number(BigInt.asIntN(32, base >> 32n)));
    }
    this.#initializeContexts();
    // SS's DPL is the CPL, but a real-mode SS says nothing of it [SDM 3 §5.5].
    this.cpl = !this.protectedMode ? 0 : this.virtual8086 ? 3 : (this.attributes(SS) >> ATTRIBUTE.dplShift) & 3;
    this.loadFx(state.fx);
    // What an image holds counts as in use, except that nothing is known of the upper halves.
    this.setLong("xinuse", 3n);
    this.setLow("fault", 0);
  }

  /** The state after RESET; RDX holds the signature of CPUID leaf 1. */
  reset(signature: number): void {
    this.load(resetState(BigInt(signature)));
  }
}
