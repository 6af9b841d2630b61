/**
 * Scalar floating-point operations of SSE to SSE4.1, lane by lane, exact in every rounding mode and exception
 * [SDM 1 §11.5, SDM 2]. A lane is the unsigned bit pattern of a single or double value. Nothing here faults: the
 * caller compares the flags raised with the masks (`unmasked`), and raises #XM or stores the result.
 */

import {
  add,
  compare,
  convert,
  divide,
  EQUAL,
  fromInteger,
  GREATER,
  LESS,
  multiply,
  roundToIntegral,
  squareRoot,
  toInteger,
  UNORDERED,
} from "./arithmetic.ts";
import { type Float, type FloatFormat, pack, unpack, zero } from "./format.ts";
import { type Context, PE, TRUNCATE } from "./rounding.ts";

/** MXCSR: denormals-are-zero, flush-to-zero; the masks are the flags shifted by MASK_SHIFT [SDM 1 §10.2.3]. */
export const MXCSR_DAZ = 1 << 6;
export const MXCSR_FTZ = 1 << 15;
const MASK_SHIFT = 7;
const ROUNDING_SHIFT = 13;

/** The flags of `flags` that `mxcsr` does not mask; not 0: raise #XM and store nothing but the flags. */
export function unmasked(flags: number, mxcsr: number): number {
  return flags & ~(mxcsr >> MASK_SHIFT) & 0x3f;
}

export interface SseResult {
  /** Meaningful only when no exception is unmasked. */
  readonly result: bigint;
  readonly flags: number;
}

export const BINARY_OPERATIONS = ["add", "sub", "mul", "div", "min", "max"] as const;
export type BinaryOperation = (typeof BINARY_OPERATIONS)[number];

/** EFLAGS bits that the ordered compares write. */
const CF = 1;
const PF = 4;
const ZF = 64;

/** A context and DAZ, filled from an MXCSR value for each operation. */
export class SseUnit {
  readonly context: Context = {
    rounding: 0,
    unmasked: 0,
    flushToZero: false,
    x87: false,
    precision: 64,
    biasAdjust: 0,
    flags: 0,
    roundedUp: false,
  };
  #denormalsAreZero = false;

  /** Starts an operation (of one lane or more) under `mxcsr`, no flags raised. */
  begin(mxcsr: number): void {
    const context = this.context;
    context.rounding = (mxcsr >> ROUNDING_SHIFT) & 3;
    context.unmasked = ~(mxcsr >> MASK_SHIFT) & 0x3f;
    context.flushToZero = (mxcsr & MXCSR_FTZ) !== 0;
    context.flags = 0;
    this.#denormalsAreZero = (mxcsr & MXCSR_DAZ) !== 0;
  }

  /** Unpacks an operand, a denormal as zero under DAZ. */
  load(format: FloatFormat, bits: bigint): Float {
    const value = unpack(format, bits);
    return value.denormal && this.#denormalsAreZero ? zero(value.sign) : value;
  }

  binary(operation: BinaryOperation, format: FloatFormat, a: bigint, b: bigint): bigint {
    return pack(format, this.#binary(operation, format, this.load(format, a), this.load(format, b)));
  }

  #binary(operation: BinaryOperation, format: FloatFormat, a: Float, b: Float): Float {
    const context = this.context;
    // Each lane is judged by its own exceptions: an unmasked one of an earlier lane does not end this one.
    const before = context.flags;
    context.flags = 0;
    let result: Float;
    switch (operation) {
      case "add":
        result = add(a, b, format, context);
        break;
      case "sub":
        result = add(a, b, format, context, true);
        break;
      case "mul":
        result = multiply(a, b, format, context);
        break;
      case "div":
        result = divide(a, b, format, context);
        break;
      case "min":
        result = this.#select(a, b, LESS);
        break;
      case "max":
        result = this.#select(a, b, GREATER);
        break;
    }
    context.flags |= before;
    return result;
  }

  /** MIN and MAX: the second operand, unless the first is strictly beyond it; any NaN is invalid. */
  #select(a: Float, b: Float, wanted: number): Float {
    return compare(a, b, true, this.context) === wanted ? a : b;
  }

  squareRoot(format: FloatFormat, a: bigint): bigint {
    return this.#one(format, format, a, squareRoot);
  }

  #one(
    from: FloatFormat,
    to: FloatFormat,
    a: bigint,
    operation: (a: Float, to: FloatFormat, context: Context) => Float,
  ): bigint {
    const context = this.context;
    const before = context.flags;
    context.flags = 0;
    const result = operation(this.load(from, a), to, context);
    context.flags |= before;
    return pack(to, result);
  }

  /** CVTSS2SD, CVTSD2SS and their packed forms. */
  convert(from: FloatFormat, to: FloatFormat, a: bigint): bigint {
    return this.#one(from, to, a, convert);
  }

  /** CVTSI2SS and the like: `value` is signed. */
  fromInteger(to: FloatFormat, value: bigint): bigint {
    return pack(to, fromInteger(value, to, this.context));
  }

  /** CVTSS2SI, CVTTSS2SI and the like: an unsigned pattern of `bits` bits. */
  toInteger(from: FloatFormat, a: bigint, bits: number, truncate: boolean): bigint {
    const context = this.context;
    const rounding = truncate ? TRUNCATE : context.rounding;
    return toInteger(this.load(from, a), bits, rounding, context);
  }

  /**
   * ROUNDSS and its family [SDM 2, ROUNDPD]. `control` bits 1:0 are the mode, bit 2 takes MXCSR's instead, bit 3
   * suppresses PE. Denormals raise nothing.
   */
  roundIntegral(format: FloatFormat, a: bigint, control: number): bigint {
    const context = this.context;
    const before = context.flags;
    context.flags = 0;
    const operand = this.load(format, a);
    const mode = (control & 4) !== 0 ? context.rounding : control & 3;
    const result = roundToIntegral(operand.denormal ? { ...operand, denormal: false } : operand, mode, context);
    if ((control & 8) !== 0) context.flags &= ~PE;
    context.flags |= before;
    return pack(format, result);
  }

  /**
   * CMPSS and its family: eq, lt, le, unord, and the negations of these, by predicate 0 to 7 [SDM 2, CMPPD].
   * @returns whether the predicate holds
   */
  holds(format: FloatFormat, a: bigint, b: bigint, predicate: number): boolean {
    const kind = predicate & 3;
    const signalling = kind === 1 || kind === 2;
    const relation = compare(this.load(format, a), this.load(format, b), signalling, this.context);
    let held: boolean;
    if (kind === 0) held = relation === EQUAL;
    else if (kind === 1) held = relation === LESS;
    else if (kind === 2) held = relation === LESS || relation === EQUAL;
    else held = relation === UNORDERED;
    return (predicate & 4) !== 0 ? !held : held;
  }

  /** COMISS (`signalling`) and UCOMISS: ZF, PF and CF as bits of EFLAGS; the other arithmetic flags are cleared. */
  order(format: FloatFormat, a: bigint, b: bigint, signalling: boolean): number {
    const relation = compare(this.load(format, a), this.load(format, b), signalling, this.context);
    if (relation === UNORDERED) return ZF | PF | CF;
    return relation === LESS ? CF : relation === EQUAL ? ZF : 0;
  }
}

const reciprocalScratch = new DataView(new ArrayBuffer(4));

/**
 * RCPSS and RSQRTSS: relative error below 1.5 * 2^-12; the exact bits are the vendor's [SDM 2, RCPPS]. No exceptions;
 * a denormal counts as zero, a tiny result is flushed to zero, whatever MXCSR says.
 */
export function approximate(bits: number, root: boolean): number {
  const exponent = (bits >>> 23) & 0xff;
  const sign = (bits & 0x8000_0000) >>> 0;
  if (exponent === 0xff && (bits & 0x7f_ffff) !== 0) return (bits | 0x40_0000) >>> 0;
  if (exponent === 0) return (sign | 0x7f80_0000) >>> 0;
  if (root && sign !== 0) return 0xffc0_0000;
  if (exponent === 0xff) return sign;
  reciprocalScratch.setUint32(0, bits);
  const value = reciprocalScratch.getFloat32(0);
  reciprocalScratch.setFloat32(0, root ? 1 / Math.sqrt(value) : 1 / value);
  const near = reciprocalScratch.getUint32(0);
  if (((near >>> 23) & 0xff) === 0) return sign;
  // Keep 12 fraction bits, as hardware's tables do, rounded to nearest.
  return ((near + 0x400) & 0xffff_f800) >>> 0;
}

const unit = new SseUnit();

function finish(result: bigint): SseResult {
  return { result, flags: unit.context.flags };
}

/** One lane of ADD, SUB, MUL, DIV, MIN or MAX. */
export function binary(
  operation: BinaryOperation,
  a: bigint,
  b: bigint,
  format: FloatFormat,
  mxcsr: number,
): SseResult {
  unit.begin(mxcsr);
  return finish(unit.binary(operation, format, a, b));
}

/** One lane of SQRT. */
export function sqrt(a: bigint, format: FloatFormat, mxcsr: number): SseResult {
  unit.begin(mxcsr);
  return finish(unit.squareRoot(format, a));
}
