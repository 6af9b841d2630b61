/**
 * Segment descriptors and the loading of segment registers. [SDM 3 §3.4, §5; SDM 2 MOV, POP, LDS]
 *
 * A descriptor is read into `low` and `high` of this unit, which keeps no other state.
 */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { type EngineHost, GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, CS, DS, ES, FS, GS, LDTR, SS, type StateView } from "../state-view.ts";
import type { LinearMemory } from "./linear-memory.ts";
import { withinLimit } from "./stack.ts";

/** An error code that names a selector. `ext` is 1 where an event outside the program is being delivered. */
export function selectorError(selector: number, ext: number): number {
  return (selector & 0xfffc) | ext;
}

/** System descriptor types in attributes' bits 3:0. [SDM 3 table 3-2] */
export const SYSTEM_TYPE = {
  tss16: 1,
  ldt: 2,
  busyTss16: 3,
  callGate16: 4,
  taskGate: 5,
  interruptGate16: 6,
  trapGate16: 7,
  tss32: 9,
  busyTss32: 11,
  callGate32: 12,
  interruptGate32: 14,
  trapGate32: 15,
} as const;

/** The base that a descriptor's two words hold, unsigned. */
export function descriptorBase(low: number, high: number): number {
  return ((low >>> 16) | ((high & 0xff) << 16) | (high & 0xff00_0000)) >>> 0;
}
/** The limit in bytes, inclusive. */
export function descriptorLimit(low: number, high: number): number {
  const limit = (low & 0xffff) | (high & 0xf_0000);
  return (high & (1 << 23)) !== 0 ? ((limit << 12) | 0xfff) >>> 0 : limit;
}
/** Bits 55:40 without the limit's. */
export function descriptorAttributes(high: number): number {
  return (high >>> 8) & 0xf0ff;
}
export function dplOf(attributes: number): number {
  return (attributes >> ATTRIBUTE.dplShift) & 3;
}
export function isCode(attributes: number): boolean {
  return (attributes & (ATTRIBUTE.memory | ATTRIBUTE.code)) === (ATTRIBUTE.memory | ATTRIBUTE.code);
}
export function isConforming(attributes: number): boolean {
  return (attributes & ATTRIBUTE.conforming) !== 0;
}
export function isWritableData(attributes: number): boolean {
  const mask = ATTRIBUTE.memory | ATTRIBUTE.code | ATTRIBUTE.writable;
  return (attributes & mask) === (ATTRIBUTE.memory | ATTRIBUTE.writable);
}

/** Those that a return to an outer ring may have to drop. */
const DATA_SEGMENTS: readonly number[] = [ES, DS, FS, GS];

export class SegmentUnit {
  readonly #view: StateView;
  readonly #memory: LinearMemory;
  readonly #host: EngineHost;
  /** The two words of the last descriptor fetched, unsigned. */
  low = 0;
  high = 0;
  /** Linear address of it, in halves. */
  #atLow = 0;
  #atHigh = 0;

  constructor(host: EngineHost, view: StateView, memory: LinearMemory) {
    this.#host = host;
    this.#view = view;
    this.#memory = memory;
  }

  get attributes(): number {
    return descriptorAttributes(this.high);
  }
  get base(): number {
    return descriptorBase(this.low, this.high);
  }
  get limit(): number {
    return descriptorLimit(this.low, this.high);
  }

  /** Finds a selector's descriptor; false where its table does not hold it. Null selectors are the caller's. */
  find(selector: number, bytes = 8): boolean {
    const view = this.#view;
    const offset = selector & 0xfff8;
    let baseLow: number;
    let baseHigh: number;
    if ((selector & 4) === 0) {
      if (offset + bytes - 1 > view.low(STATE.gdtrLimit)) return false;
      baseLow = view.low(STATE.gdtrBase);
      baseHigh = view.high(STATE.gdtrBase);
    } else {
      if ((view.attributes(LDTR) & ATTRIBUTE.present) === 0 || offset + bytes - 1 > view.limit(LDTR)) return false;
      baseLow = view.baseLow(LDTR);
      baseHigh = view.baseHigh(LDTR);
    }
    const sum = baseLow + offset;
    this.#atLow = sum >>> 0;
    this.#atHigh = sum > 0xffff_ffff ? (baseHigh + 1) >>> 0 : baseHigh;
    this.#memory.load64(this.#atLow, this.#atHigh, true);
    this.low = this.#memory.low;
    this.high = this.#memory.high;
    return true;
  }
  /** Finds it, or raises `vector` with the selector as error code. */
  fetch(selector: number, vector: number, ext: number): void {
    if (!this.find(selector)) throw new GuestFault(vector, selectorError(selector, ext));
  }
  /** The upper word of base in a 16-byte system descriptor, whose first 8 bytes were just fetched. */
  fetchUpperBase(): number {
    const low = this.#atLow + 8;
    this.#memory.load64(low >>> 0, low > 0xffff_ffff ? this.#atHigh + 1 : this.#atHigh, true);
    return this.#memory.low;
  }
  /** The bits 12:8 of a 16-byte descriptor's last word, which must be zero; after `fetchUpperBase`. */
  get upperType(): number {
    return (this.#memory.high >> 8) & 0x1f;
  }

  /** Sets type bits of the descriptor fetched last: accessed, busy. Nothing is written where they are set already. */
  mark(bits: number): void {
    const high = (this.high | (bits << 8)) >>> 0;
    if (high === this.high) return;
    this.high = high;
    this.#rewriteType();
  }
  /** Clears type bits of the descriptor fetched last: busy. */
  unmark(bits: number): void {
    this.high = (this.high & ~(bits << 8)) >>> 0;
    this.#rewriteType();
  }
  /** Writes the type byte back to the table. */
  #rewriteType(): void {
    const low = this.#atLow + 5;
    this.#memory.store8(low >>> 0, low > 0xffff_ffff ? this.#atHigh + 1 : this.#atHigh, (this.high >> 8) & 0xff, true);
  }

  /** Loads a register from the descriptor fetched last, its accessed bit set. CPL is not touched. */
  assign(segment: number, selector: number): void {
    this.mark(ATTRIBUTE.accessed);
    this.#view.setSegment(segment, selector, this.attributes, this.limit, this.base, 0);
  }
  assignNull(segment: number, selector: number): void {
    // A null SS keeps CPL in its DPL, where a saved state looks for it.
    const attributes = segment === SS ? (selector & 3) << ATTRIBUTE.dplShift : 0;
    this.#view.setSegment(segment, selector, attributes, 0, 0, 0);
  }
  /** Loads as real mode does: the base alone; the limit stays [SDM 3 §20.1.1]. Virtual-8086 mode sets all. */
  assignReal(segment: number, selector: number): void {
    const view = this.#view;
    if (view.virtual8086) view.setSegment(segment, selector, 0xf3, 0xffff, selector << 4, 0);
    else view.setSegment(segment, selector, view.attributes(segment), view.limit(segment), selector << 4, 0);
  }

  /** ES to GS, a bit each: those that are not writable data of the whole 4 GiB, so that accesses must be checked. */
  checkedSegments(): number {
    const view = this.#view;
    let checked = 0;
    for (let segment = ES; segment <= GS; segment++) {
      const attributes = view.attributes(segment);
      const flat = view.limit(segment) >>> 0 === 0xffff_ffff && (attributes & ATTRIBUTE.expandDown) === 0;
      const writable = isWritableData(attributes) && (attributes & ATTRIBUTE.present) !== 0;
      if (!flat || !writable) checked |= 1 << segment;
    }
    return checked;
  }

  /** Limit and rights for an access of `bytes` at `offset` in a segment [SDM 3 §5.3, §5.5, §20.1.1]. */
  checkAccess(segment: number, offset: number, bytes: number, write: boolean): void {
    const view = this.#view;
    const attributes = view.attributes(segment);
    const vector = segment === SS ? EXCEPTION.SS : EXCEPTION.GP;
    if (view.usesDescriptors) {
      const absent = (attributes & ATTRIBUTE.present) === 0;
      const allowed = write
        ? isWritableData(attributes)
        : !isCode(attributes) || (attributes & ATTRIBUTE.writable) !== 0;
      // A null selector is #GP for every register; SS is never null here.
      if (absent || !allowed) throw new GuestFault(EXCEPTION.GP, 0);
    }
    if (!withinLimit(attributes, view.limit(segment) >>> 0, offset, bytes)) throw new GuestFault(vector, 0);
  }

  /** MOV, POP, LxS to ES, SS, DS, FS or GS (by number). */
  load(segment: number, value: number): void {
    const selector = value & 0xffff;
    if (!this.#view.usesDescriptors) this.assignReal(segment, selector);
    else if (segment === SS) this.#loadStack(selector);
    else this.#loadData(segment, selector);
    // SS.B is the width of the stack pointer, and limits and rights count, except in 64-bit mode.
    if (!this.#view.mode64) this.#host.viewChanged();
  }

  #loadStack(selector: number): void {
    const { cpl } = this.#view;
    if ((selector & 0xfffc) === 0) {
      if (!this.#view.mode64 || cpl === 3 || (selector & 3) !== cpl) throw new GuestFault(EXCEPTION.GP, 0);
      this.assignNull(SS, selector);
      return;
    }
    this.checkStack(selector, cpl, EXCEPTION.GP, 0);
    this.assign(SS, selector);
  }
  /** Fetches a stack segment for privilege `cpl` and checks it: bad ones raise `vector`, absent ones #SS. */
  checkStack(selector: number, cpl: number, vector: number, ext: number): void {
    this.fetch(selector, vector, ext);
    const { attributes } = this;
    if ((selector & 3) !== cpl || dplOf(attributes) !== cpl || !isWritableData(attributes)) {
      throw new GuestFault(vector, selectorError(selector, ext));
    }
    if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.SS, selectorError(selector, ext));
  }

  #loadData(segment: number, selector: number): void {
    if ((selector & 0xfffc) === 0) {
      this.assignNull(segment, selector);
      return;
    }
    this.fetch(selector, EXCEPTION.GP, 0);
    const { attributes } = this;
    if (!this.readable(attributes, selector & 3)) throw new GuestFault(EXCEPTION.GP, selectorError(selector, 0));
    if ((attributes & ATTRIBUTE.present) === 0) throw new GuestFault(EXCEPTION.NP, selectorError(selector, 0));
    this.assign(segment, selector);
  }
  /** Whether data of a segment may be read at CPL with `rpl`: data, readable code, by privilege unless conforming. */
  readable(attributes: number, rpl: number): boolean {
    if ((attributes & ATTRIBUTE.memory) === 0) return false;
    if (isCode(attributes)) {
      if ((attributes & ATTRIBUTE.writable) === 0) return false;
      if (isConforming(attributes)) return true;
    }
    return dplOf(attributes) >= Math.max(this.#view.cpl, rpl);
  }

  /** After a return to a less privileged ring: data segments that it may not use become null [SDM 2 RET, IRET]. */
  dropPrivileged(cpl: number): void {
    for (const segment of DATA_SEGMENTS) {
      const attributes = this.#view.attributes(segment);
      const conformingCode = isCode(attributes) && isConforming(attributes);
      if ((attributes & ATTRIBUTE.present) === 0 || conformingCode || dplOf(attributes) >= cpl) continue;
      this.#view.setSegment(segment, 0, 0, 0, 0, 0);
    }
  }

  /** Checks the code segment fetched last for long mode: L and D not both. Gives whether it is 64-bit code. */
  is64(attributes: number): boolean {
    return this.#view.longModeActive && (attributes & ATTRIBUTE.long) !== 0;
  }
  /** Loads CS from the descriptor fetched last, and CPL from the selector's RPL. */
  assignCode(selector: number): void {
    this.assign(CS, selector);
    this.#view.cpl = selector & 3;
  }
}
