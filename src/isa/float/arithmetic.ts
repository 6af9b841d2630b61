/**
 * Exact arithmetic on unpacked values: each operation computes its result exactly (or with a sticky bit) and rounds
 * once. Exceptions follow x86's order [SDM 1 §4.9.2]: invalid operand, quiet NaN, other invalid and division by zero,
 * denormal operand, then overflow, underflow and inexact.
 */

import {
  bitLength,
  FINITE,
  type Float,
  type FloatFormat,
  finite,
  INDEFINITE,
  INFINITE,
  infinity,
  QUIET_BIT,
  QUIET_NAN,
  SIGNALLING_NAN,
  small,
  UNSUPPORTED,
  ZERO,
  zero,
} from "./format.ts";
import { type Context, DE, DOWN, IE, NEAREST, PE, round, stopped, UP, ZE } from "./rounding.ts";

/** Results of `compare`. */
export const LESS = -1;
export const EQUAL = 0;
export const GREATER = 1;
export const UNORDERED = 2;

/** Raises IE and gives the default answer. */
export function invalid(context: Context): Float {
  context.flags |= IE;
  return INDEFINITE;
}

export function isNan(value: Float): boolean {
  return value.kind >= QUIET_NAN;
}

/** Sets the quiet bit of a NaN. */
export function quiet(value: Float): Float {
  return value.kind === QUIET_NAN ? value : { ...value, kind: QUIET_NAN, significand: value.significand | QUIET_BIT };
}

/** The NaN that an operation with a NaN operand gives [SDM 1 Table 4-7]. At least one operand is one. */
export function propagate(a: Float, b: Float, context: Context): Float {
  if (a.kind === UNSUPPORTED || b.kind === UNSUPPORTED) return invalid(context);
  if (a.kind === SIGNALLING_NAN || b.kind === SIGNALLING_NAN) context.flags |= IE;
  if (!isNan(b)) return quiet(a);
  if (!isNan(a)) return quiet(b);
  if (!context.x87) return quiet(a);
  if (a.kind !== b.kind) return a.kind === QUIET_NAN ? a : b;
  if (a.significand !== b.significand) return quiet(a.significand > b.significand ? a : b);
  return quiet(a.sign <= b.sign ? a : b);
}

/** The same for an operation with one operand. */
export function propagateOne(a: Float, context: Context): Float {
  if (a.kind === UNSUPPORTED) return invalid(context);
  if (a.kind === SIGNALLING_NAN) context.flags |= IE;
  return quiet(a);
}

/** Raises DE for a denormal operand. */
function noteDenormal(a: Float, b: Float, context: Context): void {
  if (a.denormal || b.denormal) context.flags |= DE;
}

/** a + b; `subtract` gives a - b (the sign of a NaN b stays as it is). */
export function add(a: Float, b: Float, format: FloatFormat, context: Context, subtract = false): Float {
  if (isNan(a) || isNan(b)) return propagate(a, b, context);
  const signB = subtract ? 1 - b.sign : b.sign;
  if (a.kind === INFINITE && b.kind === INFINITE) return a.sign === signB ? a : invalid(context);
  noteDenormal(a, b, context);
  if (stopped(context)) return INDEFINITE;
  if (a.kind === INFINITE) return a;
  if (b.kind === INFINITE) return infinity(signB);
  if (a.kind === ZERO && b.kind === ZERO) {
    return zero(a.sign === signB ? a.sign : context.rounding === DOWN ? 1 : 0);
  }
  if (b.kind === ZERO) return round(a.sign, a.significand, a.exponent, format, context);
  if (a.kind === ZERO) return round(signB, b.significand, b.exponent, format, context);
  return addFinite(a, finite(signB, b.significand, b.exponent), format, context);
}

/** Beyond this distance the smaller operand only matters as "not zero": twice the widest significand and more. */
const FAR = 200;

function addFinite(a: Float, b: Float, format: FloatFormat, context: Context): Float {
  const [high, low] = a.exponent >= b.exponent ? [a, b] : [b, a];
  const distance = high.exponent - low.exponent;
  const near = distance <= FAR;
  const exponent = near ? low.exponent : high.exponent - FAR;
  const left = high.significand << small(near ? distance : FAR);
  const right = near ? low.significand : 1n;
  const sum = high.sign === low.sign ? left + right : left - right;
  if (sum === 0n) return zero(context.rounding === DOWN ? 1 : 0);
  const sign = sum > 0n ? high.sign : 1 - high.sign;
  return round(sign, sum > 0n ? sum : -sum, exponent, format, context);
}

export function multiply(a: Float, b: Float, format: FloatFormat, context: Context): Float {
  if (isNan(a) || isNan(b)) return propagate(a, b, context);
  const sign = a.sign ^ b.sign;
  if ((a.kind === INFINITE && b.kind === ZERO) || (a.kind === ZERO && b.kind === INFINITE)) return invalid(context);
  noteDenormal(a, b, context);
  if (stopped(context)) return INDEFINITE;
  if (a.kind === INFINITE || b.kind === INFINITE) return infinity(sign);
  if (a.kind === ZERO || b.kind === ZERO) return zero(sign);
  return round(sign, a.significand * b.significand, a.exponent + b.exponent, format, context);
}

export function divide(a: Float, b: Float, format: FloatFormat, context: Context): Float {
  if (isNan(a) || isNan(b)) return propagate(a, b, context);
  const sign = a.sign ^ b.sign;
  if (a.kind === b.kind && a.kind !== FINITE) return invalid(context);
  if (b.kind === ZERO && a.kind === FINITE) {
    context.flags |= ZE;
    return infinity(sign);
  }
  noteDenormal(a, b, context);
  if (stopped(context)) return INDEFINITE;
  if (a.kind === INFINITE || b.kind === ZERO) return infinity(sign);
  if (a.kind === ZERO || b.kind === INFINITE) return zero(sign);
  // Two quotient bits more than any precision, and one sticky bit.
  const shift = Math.max(0, 67 + bitLength(b.significand) - bitLength(a.significand));
  const dividend = a.significand << small(shift);
  const quotient = dividend / b.significand;
  const sticky = quotient * b.significand === dividend ? 0n : 1n;
  return round(sign, (quotient << 1n) | sticky, a.exponent - b.exponent - shift - 1, format, context);
}

export function squareRoot(a: Float, format: FloatFormat, context: Context): Float {
  if (isNan(a)) return propagateOne(a, context);
  if (a.kind === ZERO) return a;
  if (a.sign === 1) return invalid(context);
  if (a.denormal) context.flags |= DE;
  if (stopped(context)) return INDEFINITE;
  if (a.kind === INFINITE) return a;
  // A radicand of at least 134 bits with an even exponent gives 67 root bits.
  let shift = Math.max(0, 134 - bitLength(a.significand));
  if (((a.exponent - shift) & 1) !== 0) shift++;
  const radicand = a.significand << BigInt(shift);
  const root = integerSquareRoot(radicand);
  const sticky = root * root === radicand ? 0n : 1n;
  return round(0, (root << 1n) | sticky, (a.exponent - shift) / 2 - 1, format, context);
}

/** Largest integer whose square does not exceed `value`. */
export function integerSquareRoot(value: bigint): bigint {
  if (value === 0n) return 0n;
  // A 53-bit estimate from above, then Newton's steps, which fall until they reach the root.
  const length = bitLength(value);
  const shift = Math.max(0, (length - 104) & ~1);
  let root = BigInt(Math.ceil(Math.sqrt(Number(value >> BigInt(shift))) * (1 + 2 ** -50)) + 1) << BigInt(shift / 2);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/**
 * Orders a against b. With `signalling` any NaN is invalid, otherwise only a signalling one.
 * @returns LESS, EQUAL, GREATER or UNORDERED
 */
export function compare(a: Float, b: Float, signalling: boolean, context: Context): number {
  if (isNan(a) || isNan(b)) {
    if (signalling || a.kind > QUIET_NAN || b.kind > QUIET_NAN) context.flags |= IE;
    return UNORDERED;
  }
  noteDenormal(a, b, context);
  return order(a, b);
}

/** Orders two values that are no NaNs. */
export function order(a: Float, b: Float): number {
  if (a.kind === ZERO && b.kind === ZERO) return EQUAL;
  if (a.kind === ZERO) return b.sign === 1 ? GREATER : LESS;
  if (b.kind === ZERO || a.sign !== b.sign) return a.sign === 1 ? LESS : GREATER;
  const larger = a.sign === 1 ? LESS : GREATER;
  if (a.kind === INFINITE || b.kind === INFINITE) {
    return a.kind === b.kind ? EQUAL : a.kind === INFINITE ? larger : -larger;
  }
  const magnitude = compareMagnitudes(a, b);
  return magnitude === 0 ? EQUAL : magnitude > 0 ? larger : -larger;
}

function compareMagnitudes(a: Float, b: Float): number {
  const tops = a.exponent + bitLength(a.significand) - (b.exponent + bitLength(b.significand));
  if (tops !== 0) return tops;
  const distance = a.exponent - b.exponent;
  const left = distance > 0 ? a.significand << BigInt(distance) : a.significand;
  const right = distance < 0 ? b.significand << BigInt(-distance) : b.significand;
  return left === right ? 0 : left > right ? 1 : -1;
}

/** Rounds a finite value to an integer, with its sign; raises PE when bits are lost. |value| < 2^200 or an integer. */
function integral(a: Float, rounding: number, context: Context): bigint {
  let magnitude: bigint;
  if (a.exponent >= 0) magnitude = a.significand << BigInt(a.exponent);
  else {
    const shift = BigInt(Math.min(-a.exponent, 200));
    magnitude = a.significand >> shift;
    const rest = a.significand - (magnitude << shift);
    if (rest !== 0n) {
      context.flags |= PE;
      const half = 1n << (shift - 1n);
      const up =
        rounding === NEAREST
          ? rest > half || (rest === half && (magnitude & 1n) === 1n)
          : rounding === (a.sign === 0 ? UP : DOWN);
      context.roundedUp = up;
      if (up) magnitude++;
    }
  }
  return a.sign === 1 ? -magnitude : magnitude;
}

/** Rounds to an integral value in the same format (FRNDINT, ROUNDSD). */
export function roundToIntegral(a: Float, rounding: number, context: Context): Float {
  if (isNan(a)) return propagateOne(a, context);
  if (a.denormal) context.flags |= DE;
  if (stopped(context) || a.kind !== FINITE || a.exponent >= 0) return a;
  const value = integral(a, rounding, context);
  return value === 0n ? zero(a.sign) : finite(a.sign, value < 0n ? -value : value, 0);
}

/**
 * Converts to a signed integer of `bits` bits, given as an unsigned pattern. What does not fit, and every NaN, raises
 * IE and gives the integer indefinite, 2^(bits-1). Denormal operands raise nothing here [SDM 2, CVTSS2SI, FIST].
 */
export function toInteger(a: Float, bits: number, rounding: number, context: Context): bigint {
  const limit = 1n << BigInt(bits - 1);
  if (a.kind === ZERO) return 0n;
  if (a.kind === FINITE && a.exponent + bitLength(a.significand) <= bits + 1) {
    const before = context.flags;
    const value = integral(a, rounding, context);
    if (value >= -limit && value < limit) return BigInt.asUintN(bits, value);
    context.flags = before;
  }
  context.roundedUp = false;
  context.flags |= IE;
  return limit;
}

/** Converts a signed integer. */
export function fromInteger(value: bigint, format: FloatFormat, context: Context): Float {
  if (value === 0n) return zero(0);
  return value < 0n ? round(1, -value, 0, format, context) : round(0, value, 0, format, context);
}

/** Converts to another format (or to the same one under a lower precision). */
export function convert(a: Float, format: FloatFormat, context: Context): Float {
  if (isNan(a)) return propagateOne(a, context);
  if (a.denormal) context.flags |= DE;
  if (stopped(context) || a.kind !== FINITE) return a;
  return round(a.sign, a.significand, a.exponent, format, context);
}
