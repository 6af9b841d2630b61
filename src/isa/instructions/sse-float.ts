/**
 * Floating point of SSE by WebAssembly's own operations, where these are exact to use, written once for the four shapes
 * (packed or scalar, single or double); all else goes to the exact helpers [cpu/wasm/helpers/sse.ts].
 *
 * WebAssembly rounds to nearest, keeps denormals and reports no exceptions; which NaN it gives is not determined. So
 * the fast path asks that MXCSR rounds to nearest, flushes nothing, masks everything and has PE set already, or that the
 * result is seen to be exact; that operands are zeros or normal; and that the result is normal, or
 * a zero that is exact [SDM 1 §11.5].
 */

import type { Operand, Value, ValueType } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { SCRATCH } from "../state.ts";
import { placeOf } from "./sse-operands.ts";

/** MXCSR but for IE, DE, ZE, OE and UE, and what it must be for the fast path: PE set, all masked, nearest. */
export const MXCSR_SETTINGS = 0xffe0;
export const MXCSR_ORDINARY = 0x1fa0;
const MXCSR_PRECISION = 0x20;

/** Whether MXCSR allows WebAssembly's arithmetic (i32, 1 or 0). */
export function ordinaryMxcsr(m: Semantics): Value {
  const test = m.eq(m.and(m.field("mxcsr"), MXCSR_SETTINGS), MXCSR_ORDINARY);
  test.test = { kind: "ordinary" };
  return test;
}

/**
 * Whether MXCSR allows it for a result (i32, 1 or 0) of which `exact` says, where PE is not set yet, if it is exact. A
 * program that computes whole numbers in floating point never sets it.
 */
export function ordinaryOrExact(m: Semantics, exact: () => Value): Value {
  const settings = m.and(m.field("mxcsr"), MXCSR_SETTINGS);
  const test = m.eq(settings, MXCSR_ORDINARY);
  test.test = { kind: "ordinary" };
  const allowed = m.choose(
    test,
    () => m.i32(1),
    () => m.and(m.eq(settings, MXCSR_ORDINARY & ~MXCSR_PRECISION), exact()),
  );
  allowed.test = { kind: "allowed" };
  return allowed;
}

/** Smallest and largest normal magnitudes. */
const LIMITS = {
  f32: { min: 2 ** -126, max: (2 - 2 ** -23) * 2 ** 127 },
  f64: { min: 2 ** -1022, max: Number.MAX_VALUE },
} as const;

/** One of the four shapes of SSE floating point: names, and the few operations that conditions are made of. */
export class Shape {
  readonly suffix: "ps" | "pd" | "ss" | "sd";
  /** Mandatory prefix. */
  readonly prefix: "NP" | "66" | "F3" | "F2";
  /** The operands of a form. */
  readonly operands: string;
  /** WebAssembly's type of a lane. */
  readonly lane: "f32" | "f64";
  readonly packed: boolean;
  /** What its operations' names begin with. */
  readonly type: "f32" | "f64" | "f32x4" | "f64x2";

  constructor(suffix: Shape["suffix"], prefix: Shape["prefix"], operands: string) {
    this.suffix = suffix;
    this.prefix = prefix;
    this.operands = operands;
    this.lane = suffix.endsWith("s") ? "f32" : "f64";
    this.packed = suffix.startsWith("p");
    this.type = this.packed ? (this.lane === "f32" ? "f32x4" : "f64x2") : this.lane;
  }

  op(m: Semantics, name: string, ...args: Value[]): Value {
    return m.op(`${this.type}.${name}`, ...args);
  }
  /** The bits of a float that is zero or normal where they are used. */
  plainBits(m: Semantics, float: Value): Value {
    const bits = this.bits(m, float);
    bits.plain = this.type;
    return bits;
  }
  /** The bits of an operand as a float, and back. */
  float(m: Semantics, bits: Value): Value {
    if (this.packed) return bits;
    return m.op(this.lane === "f32" ? "f32.reinterpret_i32" : "f64.reinterpret_i64", bits);
  }
  bits(m: Semantics, float: Value): Value {
    if (this.packed) return float;
    return m.op(this.lane === "f32" ? "i32.reinterpret_f32" : "i64.reinterpret_f64", float);
  }
  constant(m: Semantics, value: number): Value {
    if (!this.packed) return m.constant(this.lane, value);
    const lanes = this.lane === "f32" ? new Float32Array(4).fill(value) : new Float64Array(2).fill(value);
    return m.v128(new Uint8Array(lanes.buffer));
  }

  // Conditions: an i32 of 1 or 0, or a vector of lanes of ones or zeros.
  and(m: Semantics, a: Value, b: Value): Value {
    return m.op(this.packed ? "v128.and" : "i32.and", a, b);
  }
  or(m: Semantics, a: Value, b: Value): Value {
    return m.op(this.packed ? "v128.or" : "i32.or", a, b);
  }
  /** Whether a condition holds in all lanes (i32). */
  all(m: Semantics, condition: Value): Value {
    return this.packed ? m.op("i8x16.all_true", condition) : condition;
  }
  isZero(m: Semantics, a: Value): Value {
    return this.op(m, "eq", a, this.constant(m, 0));
  }
  /** Neither a NaN nor denormal. */
  isPlain(m: Semantics, a: Value): Value {
    const normal = this.op(m, "ge", this.op(m, "abs", a), this.constant(m, LIMITS[this.lane].min));
    const test = this.or(m, normal, this.isZero(m, a));
    test.test = { kind: "plain", value: a, type: this.type };
    return test;
  }
  /** Normal and finite. The smallest normal number is left out: a tiny result may have been rounded up to it. */
  isNormal(m: Semantics, a: Value): Value {
    const magnitude = this.op(m, "abs", a);
    const { min, max } = LIMITS[this.lane];
    const above = this.op(m, "gt", magnitude, this.constant(m, min));
    return this.and(m, above, this.op(m, "le", magnitude, this.constant(m, max)));
  }
  /** Magnitude below `limit`; false for a NaN. */
  isBelow(m: Semantics, a: Value, limit: number): Value {
    return this.op(m, "lt", this.op(m, "abs", a), this.constant(m, limit));
  }
}

export const PS = new Shape("ps", "NP", "Vdq,Wdq");
export const PD = new Shape("pd", "66", "Vdq,Wdq");
export const SS = new Shape("ss", "F3", "Vd,Wd");
export const SD = new Shape("sd", "F2", "Vq,Wq");
export const SHAPES: readonly Shape[] = [PS, PD, SS, SD];

const RESULT = SCRATCH + 16;

/** Has the exact helper compute operation `code` (i32) into the register `dst`. `b` is the value read from `src`. */
export function exactly(m: Semantics, code: Value, dst: Operand, src: Operand, b: Value): void {
  m.call("sseExact", [code, m.operandOffset(dst), placeOf(m, src, b, 0)]);
}

/** The same into scratch slot 1, for results that do not go to an XMM register. @returns the result's low part */
export function exactValue(m: Semantics, code: number, src: Operand, b: Value, type: ValueType): Value {
  m.call("sseExact", [m.i32(code), m.i32(RESULT), placeOf(m, src, b, 0)]);
  return m.state(RESULT, type === "i64" ? 64 : 32);
}
