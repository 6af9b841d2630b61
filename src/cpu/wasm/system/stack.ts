/**
 * A stack in the making: pushes and pops of a transfer that are checked and done before any register changes, so that a
 * fault on the way leaves the processor as it was. [SDM 3 §5.8.5, §6.14.2]
 */

import { EXCEPTION } from "../../../isa/semantics.ts";
import { GuestFault } from "../engine-host.ts";
import { ATTRIBUTE, SS, type StateView } from "../state-view.ts";
import { canonical, type LinearMemory } from "./linear-memory.ts";

const RSP = 4;

/** Whether `bytes` at `offset` lie inside a segment. [SDM 3 §5.3] */
export function withinLimit(attributes: number, limit: number, offset: number, bytes: number): boolean {
  const last = offset + bytes - 1;
  const expandsDown = (attributes & (ATTRIBUTE.code | ATTRIBUTE.expandDown)) === ATTRIBUTE.expandDown;
  if (!expandsDown) return last <= limit;
  return offset > limit && last <= ((attributes & ATTRIBUTE.big) !== 0 ? 0xffff_ffff : 0xffff);
}

export class Stack {
  readonly #memory: LinearMemory;
  readonly #view: StateView;
  #bits: 16 | 32 | 64 = 64;
  #pointerLow = 0;
  #pointerHigh = 0;
  #base = 0;
  #limit = 0;
  #attributes = 0;
  #system = false;
  #errorCode = 0;
  /** Halves of the last value popped, unsigned. */
  low = 0;
  high = 0;

  constructor(memory: LinearMemory, view: StateView) {
    this.#memory = memory;
    this.#view = view;
  }

  /** Takes SS:RSP as they are. `errorCode` is that of #SS where the stack gives out. */
  useCurrent(system: boolean, errorCode: number): void {
    const view = this.#view;
    this.#bits = view.stackBits;
    this.#pointerLow = view.gprLow(RSP);
    this.#pointerHigh = view.gprHigh(RSP);
    this.#base = view.baseLow(SS);
    this.#limit = view.limit(SS);
    this.#attributes = view.attributes(SS);
    this.#system = system;
    this.#errorCode = errorCode;
  }
  /** Takes a 64-bit stack pointer; `aligned` to 16 bytes as interrupts do. */
  use64(low: number, high: number, aligned: boolean, system: boolean, errorCode: number): void {
    this.#bits = 64;
    this.#pointerLow = (aligned ? low & ~15 : low) >>> 0;
    this.#pointerHigh = high;
    this.#system = system;
    this.#errorCode = errorCode;
  }
  /** Takes a stack in a segment that is not yet loaded. */
  useSegment(
    attributes: number,
    base: number,
    limit: number,
    pointer: number,
    system: boolean,
    errorCode: number,
  ): void {
    this.#bits = (attributes & ATTRIBUTE.big) !== 0 ? 32 : 16;
    this.#attributes = attributes;
    this.#base = base;
    this.#limit = limit;
    this.#pointerLow = pointer;
    this.#pointerHigh = 0;
    this.#system = system;
    this.#errorCode = errorCode;
  }

  get pointerLow(): number {
    return this.#pointerLow;
  }
  get pointerHigh(): number {
    return this.#pointerHigh;
  }

  /** Checks the place of `bytes` and gives the low half of its linear address. */
  #place(low: number, high: number, bytes: number): number {
    if (this.#bits === 64) {
      if (!canonical(high)) throw new GuestFault(EXCEPTION.SS, this.#errorCode);
      return low;
    }
    const offset = this.#bits === 32 ? low : low & 0xffff;
    if (!withinLimit(this.#attributes, this.#limit, offset, bytes)) throw new GuestFault(EXCEPTION.SS, this.#errorCode);
    return (this.#base + offset) >>> 0;
  }

  /** Moves the pointer by -8 to 2^16. */
  skip(bytes: number): void {
    const sum = this.#pointerLow + bytes;
    if (this.#bits === 64) {
      if (sum < 0) this.#pointerHigh = (this.#pointerHigh - 1) >>> 0;
      else if (sum > 0xffff_ffff) this.#pointerHigh = (this.#pointerHigh + 1) >>> 0;
    }
    this.#pointerLow = this.#bits === 16 ? ((this.#pointerLow & ~0xffff) | (sum & 0xffff)) >>> 0 : sum >>> 0;
  }

  push(bytes: 2 | 4 | 8, low: number, high: number): void {
    this.skip(-bytes);
    const at = this.#place(this.#pointerLow, this.#pointerHigh, bytes);
    const atHigh = this.#bits === 64 ? this.#pointerHigh : 0;
    if (bytes === 8) this.#memory.store64(at, atHigh, low, high, this.#system);
    else if (bytes === 4) this.#memory.store32(at, atHigh, low, this.#system);
    else this.#memory.store16(at, atHigh, low, this.#system);
  }

  /** Pops into `low` and `high`; the low half is the result too. */
  pop(bytes: 2 | 4 | 8): number {
    const at = this.#place(this.#pointerLow, this.#pointerHigh, bytes);
    const atHigh = this.#bits === 64 ? this.#pointerHigh : 0;
    if (bytes === 8) {
      this.#memory.load64(at, atHigh, this.#system);
      this.low = this.#memory.low;
      this.high = this.#memory.high;
    } else {
      this.low =
        bytes === 4 ? this.#memory.load32(at, atHigh, this.#system) : this.#memory.load16(at, atHigh, this.#system);
      this.high = 0;
    }
    this.skip(bytes);
    return this.low;
  }

  /** Makes the pointer RSP; a 16-bit stack keeps the bits above SP. */
  commit(): void {
    if (this.#bits === 64) this.#view.setGprHalves(RSP, this.#pointerLow, this.#pointerHigh);
    else if (this.#bits === 32) this.#view.setGprHalves(RSP, this.#pointerLow, 0);
    else {
      const low = ((this.#view.gprLow(RSP) & ~0xffff) | (this.#pointerLow & 0xffff)) >>> 0;
      this.#view.setGprHalves(RSP, low, this.#view.gprHigh(RSP));
    }
  }
}
