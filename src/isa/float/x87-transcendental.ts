/**
 * The x87 unit's transcendental instructions [SDM 1 §8.3.7 to §8.3.11]. Results are correctly rounded, which is within
 * one unit in the last place of what processors give; none documents its exact bits.
 */

import { isNan, invalid, propagate, propagateOne } from "./arithmetic.ts";
import { FRACTION_BITS, ln2, pi } from "./constants.ts";
import {
  arctangent as arctangentOf,
  expMinusOne,
  logarithmOfRatio,
  ONE,
  reduceQuarters,
  sineCosine,
  timesLn2,
} from "./elementary.ts";
import {
  bitLength,
  EXTENDED,
  FINITE,
  type Float,
  finite,
  INDEFINITE,
  INFINITE,
  infinity,
  ZERO,
  zero,
} from "./format.ts";
import { type Context, DE, PE, round, stopped, UE, ZE } from "./rounding.ts";
import { unary } from "./x87-arithmetic.ts";
import { C1, C2, type X87State } from "./x87-state.ts";

const FLOAT_ONE = finite(0, 1n, 0);
/** Below 2^TINY the first term of a series decides all 64 bits, and the next one only the direction of rounding. */
const TINY = -70;

/** The exponent of a finite value's highest bit. */
function topOf(value: Float): number {
  return value.exponent + bitLength(value.significand) - 1;
}

/** The magnitude of a finite value in fixed point; its top is above TINY. */
function toFixed(value: Float): bigint {
  const shift = value.exponent + FRACTION_BITS;
  return shift >= 0 ? value.significand << BigInt(shift) : value.significand >> BigInt(-shift);
}

/** Rounds an irrational fixed-point result. */
function fromFixed(sign: number, magnitude: bigint, context: Context): Float {
  return round(sign, (magnitude << 1n) | 1n, -FRACTION_BITS - 1, EXTENDED, context);
}

/** Rounds a value that differs from `value` by less than any rounding can tell, away from zero or towards it. */
function nearly(value: Float, away: boolean, context: Context): Float {
  const wide = value.significand << 80n;
  return round(value.sign, away ? wide + 1n : wide - 1n, value.exponent - 80, EXTENDED, context);
}

/** Rounds value * (factor with FRACTION_BITS) * (1 +- tiny). */
function nearlyTimes(value: Float, factor: bigint, away: boolean, context: Context): Float {
  const product = finite(value.sign, value.significand * factor, value.exponent - FRACTION_BITS);
  return nearly(product, away, context);
}

function isPowerOfTwo(x: Float): boolean {
  return (x.significand & (x.significand - 1n)) === 0n;
}

/** F2XM1: 2^x - 1 for -1 <= x <= 1; beyond that the architecture leaves the result open, and AMD's processors give x back. */
export function exponential(state: X87State): void {
  unary(state, false, (x, context) => {
    if (isNan(x)) return propagateOne(x, context);
    if (x.kind === INFINITE) return x.sign === 0 ? x : finite(1, 1n, 0);
    if (x.kind === ZERO) return x;
    if (x.denormal) context.flags |= DE;
    if (stopped(context)) return x;
    const top = topOf(x);
    if (top >= 0) {
      // Both ends are exact, and raise PE all the same.
      context.flags |= PE;
      if (top === 0 && isPowerOfTwo(x)) return x.sign === 0 ? FLOAT_ONE : finite(1, 1n, -1);
      return x;
    }
    if (top < TINY) return nearlyTimes(x, ln2(), x.sign === 0, context);
    const y = timesLn2(toFixed(x));
    const result = expMinusOne(x.sign === 0 ? y : -y);
    return fromFixed(x.sign, result < 0n ? -result : result, context);
  });
}

/** An instruction of ST(0) and ST(1) that pops and leaves its result in the new ST(0). */
function binary(state: X87State, operation: (y: Float, x: Float, context: Context) => Float): void {
  if (state.isEmpty(0) || state.isEmpty(1)) {
    if (!state.underflow()) return;
    state.write(1, INDEFINITE);
  } else {
    const context = state.begin(false);
    const y = state.read(1);
    const x = state.read(0);
    const result = isNan(x) || isNan(y) ? propagate(x, y, context) : operation(y, x, context);
    if (!state.finish()) return;
    state.write(1, result);
  }
  state.pop();
}

function noteDenormals(y: Float, x: Float, context: Context): boolean {
  if (y.denormal || x.denormal) context.flags |= DE;
  return stopped(context);
}

/** y times a logarithm that is `log` * 2^-FRACTION_BITS, and exact or not. */
function timesLogarithm(y: Float, log: bigint, exact: boolean, context: Context): Float {
  const sign = log < 0n ? 1 - y.sign : y.sign;
  const magnitude = y.significand * (log < 0n ? -log : log);
  const exponent = y.exponent - FRACTION_BITS;
  if (exact) return round(sign, magnitude, exponent, EXTENDED, context);
  return round(sign, (magnitude << 1n) | 1n, exponent - 1, EXTENDED, context);
}

/** log2 of significand * 2^exponent, in fixed point. */
function log2(significand: bigint, exponent: number): bigint {
  // The mantissa is taken within [3/4, 3/2), so that no cancellation happens around one.
  const length = bitLength(significand);
  const high = significand >> BigInt(Math.max(0, length - 2)) === 3n;
  const scale = high ? length : length - 1;
  const whole = BigInt(exponent + scale) * ONE;
  return whole + (logarithmOfRatio(significand, 1n << BigInt(scale)) * ONE) / ln2();
}

/** FYL2X: y log2(x) [SDM 2, Table 3-47]. */
export function logarithm(state: X87State): void {
  binary(state, (y, x, context) => {
    if (x.sign === 1 && x.kind !== ZERO) return invalid(context);
    if (x.kind === ZERO) {
      if (y.kind === ZERO) return invalid(context);
      if (y.kind === FINITE) context.flags |= ZE;
      return infinity(1 - y.sign);
    }
    if (x.kind === INFINITE) {
      if (y.kind === ZERO) return invalid(context);
      return noteDenormals(y, x, context) ? y : infinity(y.sign);
    }
    const top = topOf(x);
    const power = isPowerOfTwo(x);
    const isOne = power && top === 0;
    if (y.kind === INFINITE && isOne) return invalid(context);
    if (noteDenormals(y, x, context)) return y;
    const sign = top < 0 ? 1 - y.sign : y.sign;
    if (y.kind === INFINITE) return infinity(sign);
    if (y.kind === ZERO || isOne) return zero(sign);
    if (power) {
      // Processors take an exact product for an inexact one, which makes a tiny one an underflow.
      const product = timesLogarithm(y, BigInt(top) * ONE, true, context);
      context.flags |= PE;
      if (product.kind === FINITE && topOf(product) < EXTENDED.minExponent) context.flags |= UE;
      return product;
    }
    return timesLogarithm(y, log2(x.significand, x.exponent), false, context);
  });
}

/** FYL2XP1: y log2(x + 1), for x near zero; x <= -1 is out of range, and x the result. */
export function logarithmPlusOne(state: X87State): void {
  binary(state, (y, x, context) => {
    const sign = x.sign ^ y.sign;
    if (x.kind === ZERO) {
      if (y.kind === INFINITE) return invalid(context);
      return noteDenormals(y, x, context) ? y : zero(sign);
    }
    const top = x.kind === INFINITE ? EXTENDED.maxExponent : topOf(x);
    if (x.sign === 1 && x.kind === INFINITE) return invalid(context);
    if (x.kind === INFINITE && y.kind === ZERO) return invalid(context);
    if (noteDenormals(y, x, context)) return y;
    if (x.kind === INFINITE || y.kind === INFINITE) return infinity(sign);
    if (y.kind === ZERO) return zero(sign);
    if (x.sign === 1 && top >= 0) {
      context.flags |= PE;
      return x;
    }
    if (top < TINY) {
      const product = finite(sign, x.significand * y.significand, x.exponent + y.exponent);
      return nearlyTimes(product, (ONE * ONE) / ln2(), x.sign === 1, context);
    }
    // Far above one, adding one changes nothing within the precision.
    if (top > 150) return timesLogarithm(y, log2(x.significand, x.exponent), false, context);
    const exponent = Math.min(x.exponent, 0);
    const significand = x.significand << BigInt(x.exponent - exponent);
    const plusOne = (1n << BigInt(-exponent)) + (x.sign === 0 ? significand : -significand);
    return timesLogarithm(y, log2(plusOne, exponent), false, context);
  });
}

/** An angle of `eighths` * pi/4, as an inexact result. */
function eighthTurns(sign: number, eighths: bigint, context: Context): Float {
  return fromFixed(sign, (eighths * pi()) >> 2n, context);
}

/** FPATAN: the angle of the point (x, y) [SDM 2, Table 3-40]. */
export function arctangent(state: X87State): void {
  binary(state, (y, x, context) => {
    if (noteDenormals(y, x, context)) return y;
    const { sign } = y;
    if (y.kind === INFINITE) {
      if (x.kind === INFINITE) return eighthTurns(sign, x.sign === 0 ? 1n : 3n, context);
      return eighthTurns(sign, 2n, context);
    }
    if (y.kind === ZERO || x.kind === INFINITE) return x.sign === 0 ? zero(sign) : eighthTurns(sign, 4n, context);
    if (x.kind === ZERO) return eighthTurns(sign, 2n, context);
    return angle(y, x, context);
  });
}

function angle(y: Float, x: Float, context: Context): Float {
  const distance = topOf(y) - topOf(x);
  if (distance < TINY) {
    if (x.sign === 1) return fromFixed(y.sign, pi() - 1n, context);
    // y/x, less a third of its cube. An exact quotient takes the same way.
    const quotient = (y.significand << 160n) / x.significand;
    return nearly(finite(y.sign, quotient, y.exponent - x.exponent - 160), false, context);
  }
  if (distance > -TINY) {
    const quarter = pi() >> 1n;
    return fromFixed(y.sign, x.sign === 0 ? quarter - 1n : quarter + 1n, context);
  }
  const exponent = Math.min(y.exponent, x.exponent);
  const height = y.significand << BigInt(y.exponent - exponent);
  const width = x.significand << BigInt(x.exponent - exponent);
  const steep = height > width;
  let result = arctangentOf(((steep ? width : height) * ONE) / (steep ? height : width));
  if (steep) result = (pi() >> 1n) - result;
  if (x.sign === 1) result = pi() - result;
  return fromFixed(y.sign, result, context);
}

/** Sine and cosine of a value below 2^63, each rounded in the context on demand. */
interface Turn {
  readonly sine: (context: Context) => Float;
  readonly cosine: (context: Context) => Float;
  readonly tangent: (context: Context) => Float;
}

function signed(value: bigint, context: Context): Float {
  return fromFixed(value < 0n ? 1 : 0, value < 0n ? -value : value, context);
}

function turnOf(x: Float): Turn {
  if (x.kind === ZERO) return { sine: () => x, cosine: () => FLOAT_ONE, tangent: () => x };
  if (topOf(x) < TINY) {
    return {
      sine: (context) => nearly(x, false, context),
      cosine: (context) => nearly(FLOAT_ONE, false, context),
      tangent: (context) => nearly(x, true, context),
    };
  }
  const { quarter, rest } = reduceQuarters(toFixed(x));
  const turned = sineCosine(rest);
  const [s, c] = (quarter & 1) === 0 ? [turned.sine, turned.cosine] : [turned.cosine, -turned.sine];
  const sine = (quarter & 2) === 0 ? s : -s;
  const cosine = (quarter & 2) === 0 ? c : -c;
  const odd = x.sign === 0 ? 1n : -1n;
  return {
    sine: (context) => signed(sine * odd, context),
    cosine: (context) => signed(cosine, context),
    tangent: (context) => signed((sine * odd * ONE) / cosine, context),
  };
}

/** Largest magnitude of an angle: 2^63 and beyond set C2 and change nothing. */
const ANGLE_LIMIT = 63;

/**
 * Common course of FSIN, FCOS, FPTAN and FSINCOS. `first` goes to ST(0); with `second` that is pushed then.
 */
function trigonometric(
  state: X87State,
  first: (turn: Turn, context: Context) => Float,
  second?: (turn: Turn, context: Context) => Float,
): void {
  state.condition(C2, 0);
  const empty = state.isEmpty(0);
  if (empty || (second !== undefined && !state.isEmpty(7))) {
    if (!(empty ? state.underflow() : state.overflow())) return;
    state.write(0, INDEFINITE);
    if (second !== undefined) {
      state.push();
      state.write(0, INDEFINITE);
    }
    return;
  }
  const context = state.begin(false);
  const x = state.read(0);
  if (x.kind === FINITE && topOf(x) >= ANGLE_LIMIT) {
    state.condition(C1 | C2, C2);
    return;
  }
  let results: Float[];
  if (isNan(x) || x.kind === INFINITE) {
    const result = isNan(x) ? propagateOne(x, context) : invalid(context);
    results = [result, result];
  } else {
    if (x.denormal) context.flags |= DE;
    if (stopped(context)) results = [x];
    else {
      const turn = turnOf(x);
      results = [first(turn, context)];
      if (second !== undefined) results.push(second(turn, context));
    }
  }
  if (!state.finish()) return;
  state.write(0, results[0] ?? INDEFINITE);
  if (second === undefined) return;
  state.push();
  state.write(0, results[1] ?? INDEFINITE);
}

export function sine(state: X87State): void {
  trigonometric(state, (turn, context) => turn.sine(context));
}

export function cosine(state: X87State): void {
  trigonometric(state, (turn, context) => turn.cosine(context));
}

export function sineAndCosine(state: X87State): void {
  trigonometric(
    state,
    (turn, context) => turn.sine(context),
    (turn, context) => turn.cosine(context),
  );
}

/** FPTAN pushes 1 after the tangent. */
export function tangent(state: X87State): void {
  trigonometric(
    state,
    (turn, context) => turn.tangent(context),
    () => FLOAT_ONE,
  );
}
