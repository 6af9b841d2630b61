/**
 * Rounding, overflow and underflow as x86 defines them, for the SSE and the x87 unit [SDM 1 §4.8.4, §4.9.1].
 * Tininess is detected after rounding: a result is tiny when, rounded as if the exponent had no bounds, it lies below
 * the smallest normal number.
 */

import { bitLength, type Float, type FloatFormat, finite, infinity, small, zero } from "./format.ts";

/** Exception flags, as bits 5:0 of MXCSR and of the x87 status word. */
export const IE = 1;
export const DE = 2;
export const ZE = 4;
export const OE = 8;
export const UE = 16;
export const PE = 32;

/** Rounding control, as in MXCSR bits 14:13 and the x87 control word bits 11:10. */
export const NEAREST = 0;
export const DOWN = 1;
export const UP = 2;
export const TRUNCATE = 3;

/** What an operation works under, and what it reports. One object is reused from operation to operation. */
export interface Context {
  rounding: number;
  /** Exceptions that are not masked, as flag bits. */
  unmasked: number;
  /** SSE's FTZ. */
  flushToZero: boolean;
  /** x87 rules: NaN choice by significand, and precision below the format's own. */
  x87: boolean;
  /** Significand bits of x87 register results: 24, 53 or 64; the format's own precision otherwise. */
  precision: number;
  /** Added to the exponent on unmasked underflow, subtracted on unmasked overflow, when an x87 register is written. */
  biasAdjust: number;
  /** Out: exceptions raised. */
  flags: number;
  /** Out: the magnitude was rounded up (x87's C1). */
  roundedUp: boolean;
}

/** Whether an exception has been raised that is not masked, so that the operation ends without a result. */
export function stopped(context: Context): boolean {
  return (context.flags & context.unmasked) !== 0;
}

let inexact = false;
let roundedUp = false;

/** Drops the low `count` bits of a magnitude by the rounding mode; sets `inexact` and `roundedUp`. */
function dropBits(significand: bigint, count: number, sign: number, mode: number): bigint {
  inexact = false;
  roundedUp = false;
  if (count <= 0) return significand;
  const kept = significand >> small(count);
  const rest = BigInt.asUintN(count, significand);
  if (rest === 0n) return kept;
  inexact = true;
  if (mode === NEAREST) {
    const half = BigInt.asUintN(count - 1, rest);
    // The highest bit dropped decides; alone, it is a tie, which goes to even.
    if (half !== rest) roundedUp = half !== 0n || BigInt.asUintN(1, kept) === 1n;
  } else roundedUp = mode === (sign === 0 ? UP : DOWN);
  return roundedUp ? kept + 1n : kept;
}

/**
 * Rounds the exact magnitude `significand` * 2^`exponent` (significand > 0, its lowest bit sticky where the true value
 * has more bits) to `format`, and reports OE, UE and PE in the context.
 */
export function round(
  sign: number,
  significand: bigint,
  exponent: number,
  format: FloatFormat,
  context: Context,
): Float {
  const precision = context.precision < format.precision ? context.precision : format.precision;
  const length = bitLength(significand);
  const drop = length - precision;
  let kept = dropBits(significand, drop, sign, context.rounding);
  let keptExponent = drop > 0 ? exponent + drop : exponent;
  // A carry out of the kept bits raises the exponent by one.
  const carry = drop > 0 && roundedUp && kept >> small(precision) !== 0n ? 1 : 0;
  const top = exponent + length - 1 + carry;

  if (top > format.maxExponent) {
    if ((context.unmasked & OE) !== 0) {
      context.flags |= inexact ? OE | PE : OE;
      context.roundedUp = roundedUp;
      return scaled(sign, kept, keptExponent, top - context.biasAdjust, -context.biasAdjust, format, context);
    }
    context.flags |= OE | PE;
    const mode = context.rounding;
    const toInfinity = mode === NEAREST || mode === (sign === 0 ? UP : DOWN);
    context.roundedUp = toInfinity;
    if (toInfinity) return infinity(sign);
    return finite(sign, (1n << BigInt(precision)) - 1n, format.maxExponent - precision + 1);
  }

  if (top < format.minExponent) {
    if ((context.unmasked & UE) !== 0) {
      context.flags |= inexact ? UE | PE : UE;
      context.roundedUp = roundedUp;
      return scaled(sign, kept, keptExponent, top + context.biasAdjust, context.biasAdjust, format, context);
    }
    if (context.flushToZero) {
      context.flags |= UE | PE;
      return zero(sign);
    }
    // Denormalise: round the exact value again at the lowest bit that the format has.
    const lowest = format.minExponent - precision + 1;
    // Beyond length + 2 the answer no longer depends on the count, which may be tens of thousands.
    const denormalDrop = Math.min(lowest - exponent, length + 2);
    kept = dropBits(significand, denormalDrop, sign, context.rounding);
    keptExponent = denormalDrop > 0 ? lowest : exponent;
    if (inexact) context.flags |= UE;
  }

  if (inexact) context.flags |= PE;
  context.roundedUp = roundedUp;
  return kept === 0n ? zero(sign) : finite(sign, kept, keptExponent);
}

/** An unmasked overflow or underflow: the rounded value with an adjusted exponent [SDM 1 §8.5.4, §8.5.5]. */
function scaled(
  sign: number,
  kept: bigint,
  exponent: number,
  top: number,
  adjust: number,
  format: FloatFormat,
  context: Context,
): Float {
  // Without an adjustment (SSE, stores to memory) there is no result.
  if (adjust === 0) return zero(sign);
  // Only FSCALE gets so far out that the adjusted exponent does not fit either.
  const over = top > format.maxExponent;
  if (over || top < format.minExponent) {
    context.flags |= PE;
    context.roundedUp = over;
    return over ? infinity(sign) : zero(sign);
  }
  return finite(sign, kept, exponent + adjust);
}
