/**
 * x87 arithmetic, comparison and classification [SDM 1 §8.3.5 to §8.3.7, SDM 2]. A handler works on a state; where its
 * operand lies in memory the bytes are in the state's operand area.
 */

import {
  add,
  compare,
  divide,
  EQUAL,
  GREATER,
  invalid,
  isNan,
  LESS,
  multiply,
  propagate,
  propagateOne,
  roundToIntegral,
  squareRoot,
  UNORDERED,
} from "./arithmetic.ts";
import {
  BINARY32,
  BINARY64,
  bitLength,
  EXTENDED,
  FINITE,
  type Float,
  finite,
  INDEFINITE,
  INFINITE,
  infinity,
  UNSUPPORTED,
  unpack,
  ZERO,
  zero,
} from "./format.ts";
import { type Context, DE, round, stopped, ZE } from "./rounding.ts";
import { C0, C1, C2, C3, X87_EFLAGS, type X87State } from "./x87-state.ts";

/** The kinds of memory operand that arithmetic takes. */
export const MEMORY_OPERANDS = {
  m32: (state: X87State): Float => unpack(BINARY32, BigInt(state.view.getUint32(state.operand, true))),
  m64: (state: X87State): Float => unpack(BINARY64, state.view.getBigUint64(state.operand, true)),
  i16: (state: X87State): Float => integer(state.view.getInt16(state.operand, true)),
  i32: (state: X87State): Float => integer(state.view.getInt32(state.operand, true)),
} as const;

function integer(value: number): Float {
  if (value === 0) return zero(0);
  return finite(value < 0 ? 1 : 0, BigInt(Math.abs(value)), 0);
}

/** Arithmetic by the reg field: of ST(0) and the other operand, whichever is the destination. */
const BINARY: readonly ((st0: Float, other: Float, context: Context) => Float)[] = [
  (st0, other, context) => add(st0, other, EXTENDED, context),
  (st0, other, context) => multiply(st0, other, EXTENDED, context),
  invalidField,
  invalidField,
  (st0, other, context) => add(st0, other, EXTENDED, context, true),
  (st0, other, context) => add(other, st0, EXTENDED, context, true),
  (st0, other, context) => divide(st0, other, EXTENDED, context),
  (st0, other, context) => divide(other, st0, EXTENDED, context),
];

function invalidField(): Float {
  throw new RangeError("fields 2 and 3 are comparisons, which the table sends elsewhere");
}

/** FADD to FDIVR of ST(0) with a memory operand. */
export function arithmeticMemory(state: X87State, field: number, load: (state: X87State) => Float): void {
  if (state.isEmpty(0)) {
    if (state.underflow()) state.write(0, INDEFINITE);
    return;
  }
  const context = state.begin(true);
  const result = (BINARY[field] ?? invalidField)(state.read(0), load(state), context);
  if (state.finish()) state.write(0, result);
}

/** FADD to FDIVR of ST(0) and ST(i), into either, with or without a pop. */
export function arithmeticRegister(state: X87State, field: number, i: number, destination: number, pop: boolean): void {
  if (state.isEmpty(0) || state.isEmpty(i)) {
    if (!state.underflow()) return;
    state.write(destination, INDEFINITE);
  } else {
    const context = state.begin(true);
    const result = (BINARY[field] ?? invalidField)(state.read(0), state.read(i), context);
    if (!state.finish()) return;
    state.write(destination, result);
  }
  if (pop) state.pop();
}

/** Condition codes, and as EFLAGS bits ZF, PF and CF, of an order. */
function conditionOf(relation: number): number {
  if (relation === EQUAL) return C3;
  if (relation === LESS) return C0;
  return relation === GREATER ? 0 : C0 | C2 | C3;
}

/** Compares and sets the condition codes. @returns whether the instruction may go on to pop */
function compareWith(state: X87State, other: Float, signalling: boolean): boolean {
  const context = state.begin(false);
  const relation = compare(state.read(0), other, signalling, context);
  // Processors set the codes even when the exception is not masked, which then only prevents the pops.
  state.condition(C0 | C2 | C3, conditionOf(relation));
  return state.finish();
}

function compareUnderflow(state: X87State): boolean {
  state.condition(0, C0 | C2 | C3);
  return state.underflow();
}

/** FCOM and FCOMP with a memory operand. */
export function compareMemory(state: X87State, load: (state: X87State) => Float, pop: boolean): void {
  const goOn = state.isEmpty(0) ? compareUnderflow(state) : compareWith(state, load(state), true);
  if (goOn && pop) state.pop();
}

/** FCOM and FUCOM with ST(i), with up to two pops. */
export function compareRegister(state: X87State, i: number, signalling: boolean, pops: number): void {
  const empty = state.isEmpty(0) || state.isEmpty(i);
  const goOn = empty ? compareUnderflow(state) : compareWith(state, state.read(i), signalling);
  if (!goOn) return;
  for (let n = 0; n < pops; n++) state.pop();
}

/** FCOMI and FUCOMI: the order goes to ZF, PF and CF of EFLAGS. */
export function compareFlags(state: X87State, i: number, signalling: boolean, pop: boolean): void {
  let goOn: boolean;
  if (state.isEmpty(0) || state.isEmpty(i)) {
    state.outcome |= X87_EFLAGS | (conditionOf(UNORDERED) >> 8);
    goOn = state.underflow();
  } else {
    const context = state.begin(false);
    const relation = compare(state.read(0), state.read(i), signalling, context);
    state.outcome |= X87_EFLAGS | (conditionOf(relation) >> 8);
    goOn = state.finishKeepingC1();
  }
  if (goOn && pop) state.pop();
}

/** FTST: ST(0) against +0. */
export function test(state: X87State): void {
  if (state.isEmpty(0)) compareUnderflow(state);
  else compareWith(state, zero(0), true);
}

/** FXAM: the class of ST(0), also of an empty one; C1 is the sign. */
export function examine(state: X87State): void {
  const value = state.read(0);
  let codes: number;
  if (state.isEmpty(0)) codes = C3 | C0;
  else if (value.kind === UNSUPPORTED) codes = 0;
  else if (value.kind === ZERO) codes = C3;
  else if (value.kind === FINITE) codes = value.denormal ? C3 | C2 : C2;
  else codes = value.kind === INFINITE ? C2 | C0 : C0;
  if ((state.view.getUint16(state.slot(0) + 8, true) & 0x8000) !== 0) codes |= C1;
  state.condition(C0 | C1 | C2 | C3, codes);
}

/** FCHS and FABS work on the sign bit alone, whatever the value. */
export function changeSign(state: X87State, absolute: boolean): void {
  if (state.isEmpty(0)) {
    if (state.underflow()) state.write(0, INDEFINITE);
    return;
  }
  state.condition(C1, 0);
  const at = state.slot(0) + 8;
  const head = state.view.getUint16(at, true);
  state.view.setUint16(at, absolute ? head & 0x7fff : head ^ 0x8000, true);
}

/** An instruction that replaces ST(0) by a function of it. */
export function unary(
  state: X87State,
  controlled: boolean,
  operation: (value: Float, context: Context) => Float,
): void {
  if (state.isEmpty(0)) {
    if (state.underflow()) state.write(0, INDEFINITE);
    return;
  }
  const context = state.begin(controlled);
  const result = operation(state.read(0), context);
  if (state.finish()) state.write(0, result);
}

export function squareRootOfTop(state: X87State): void {
  unary(state, true, (value, context) => squareRoot(value, EXTENDED, context));
}

export function roundTop(state: X87State): void {
  unary(state, false, (value, context) => roundToIntegral(value, context.rounding, context));
}

/** Exponents beyond this distance over- or underflow whatever they scale. */
const FARTHEST = 70_000;

/** FSCALE: ST(0) * 2^trunc(ST(1)). */
export function scale(state: X87State): void {
  if (state.isEmpty(0) || state.isEmpty(1)) {
    if (state.underflow()) state.write(0, INDEFINITE);
    return;
  }
  const context = state.begin(false);
  const result = scaleBy(state.read(0), state.read(1), context);
  if (state.finish()) state.write(0, result);
}

function scaleBy(a: Float, b: Float, context: Context): Float {
  if (isNan(a) || isNan(b)) return propagate(a, b, context);
  if (b.kind === INFINITE) {
    if (b.sign === 0 ? a.kind === ZERO : a.kind === INFINITE) return invalid(context);
  }
  if (a.denormal || b.denormal) context.flags |= DE;
  if (stopped(context)) return INDEFINITE;
  if (b.kind === INFINITE) return b.sign === 0 ? infinity(a.sign) : zero(a.sign);
  if (a.kind !== FINITE) return a;
  let distance = 0;
  if (b.kind === FINITE) {
    const top = b.exponent + bitLength(b.significand);
    if (top > 17) distance = FARTHEST;
    else if (top > 0) distance = Number(b.significand >> BigInt(-b.exponent));
    if (b.sign === 1) distance = -distance;
  }
  return round(a.sign, a.significand, a.exponent + distance, EXTENDED, context);
}

/** FXTRACT: ST(0) becomes its exponent, then its significand is pushed. */
export function extract(state: X87State): void {
  const empty = state.isEmpty(0);
  if (empty || !state.isEmpty(7)) {
    if (empty ? state.underflow() : state.overflow()) {
      state.write(0, INDEFINITE);
      state.push();
      state.write(0, INDEFINITE);
    }
    return;
  }
  const context = state.begin(false);
  const value = state.read(0);
  let exponent: Float;
  let significand: Float;
  if (isNan(value)) {
    significand = propagateOne(value, context);
    exponent = significand;
  } else if (value.kind === ZERO) {
    context.flags |= ZE;
    exponent = infinity(1);
    significand = value;
  } else if (value.kind === INFINITE) {
    exponent = infinity(0);
    significand = value;
  } else {
    if (value.denormal) context.flags |= DE;
    const length = bitLength(value.significand);
    exponent = integer(value.exponent + length - 1);
    significand = finite(value.sign, value.significand, 1 - length);
  }
  if (!state.finish()) return;
  state.write(0, exponent);
  state.push();
  state.write(0, significand);
}

/**
 * FPREM (quotient truncated) and FPREM1 (quotient rounded to nearest, IEEE). One step reduces the exponent by at most
 * 63; C2 says that the reduction is incomplete. C0, C3 and C1 get the quotient's bits 2, 1 and 0.
 */
export function remainder(state: X87State, nearest: boolean): void {
  state.condition(C2, 0);
  if (state.isEmpty(0) || state.isEmpty(1)) {
    if (state.underflow()) state.write(0, INDEFINITE);
    return;
  }
  const context = state.begin(false);
  const a = state.read(0);
  const b = state.read(1);
  let result: Float;
  let codes: number | undefined;
  if (isNan(a) || isNan(b)) result = propagate(a, b, context);
  else if (a.kind === INFINITE || b.kind === ZERO) result = invalid(context);
  else {
    if (a.denormal || b.denormal) context.flags |= DE;
    codes = 0;
    if (stopped(context) || a.kind === ZERO || b.kind === INFINITE) result = a;
    else [result, codes] = reduce(a, b, nearest, context);
  }
  if (!state.finish()) return;
  // An invalid operation and a NaN leave the quotient bits as they were.
  if (codes !== undefined) state.condition(C0 | C1 | C2 | C3, codes);
  state.write(0, result);
}

function reduce(a: Float, b: Float, nearest: boolean, context: Context): [Float, number] {
  const distance = a.exponent + bitLength(a.significand) - (b.exponent + bitLength(b.significand));
  if (distance < -1) return [round(a.sign, a.significand, a.exponent, EXTENDED, context), 0];
  // A step that cannot finish takes as many quotient bits as leaves a multiple of 32 to do.
  const partial = distance >= 64;
  const unit = b.exponent + (partial ? distance - (32 + (distance & 31)) : 0);
  const exponent = Math.min(a.exponent, unit);
  let rest = a.significand << BigInt(a.exponent - exponent);
  const divisor = b.significand << BigInt(unit - exponent);
  let quotient = rest / divisor;
  rest -= quotient * divisor;
  let { sign } = a;
  if (nearest && !partial && (rest * 2n > divisor || (rest * 2n === divisor && (quotient & 1n) === 1n))) {
    quotient++;
    rest = divisor - rest;
    sign = 1 - sign;
  }
  const low = Number(quotient & 7n);
  let codes = partial ? C2 : 0;
  if (!partial) codes = ((low & 4) !== 0 ? C0 : 0) | ((low & 2) !== 0 ? C3 : 0) | ((low & 1) !== 0 ? C1 : 0);
  if (rest === 0n) return [zero(a.sign), codes];
  return [round(sign, rest, exponent, EXTENDED, context), codes];
}
