/**
 * Elementary functions in fixed point: a bigint holds a real number times 2^FRACTION_BITS. Absolute errors stay below
 * 2^-240 for results of magnitude near one, so a 64-bit result is correctly rounded but for one case in about 2^100.
 */

import { FRACTION_BITS, ln2, pi } from "./constants.ts";

const F = BigInt(FRACTION_BITS);
export const ONE = 1n << F;

/** e^y - 1 for |y| < 1: Taylor's series. */
export function expMinusOne(y: bigint): bigint {
  let term = y;
  let sum = y;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    term = ((term * y) >> F) / k;
    sum += term;
  }
  return sum;
}

/** Sine and cosine for |r| <= pi/4: Taylor's series. */
export function sineCosine(r: bigint): { sine: bigint; cosine: bigint } {
  let term = ONE;
  let sine = 0n;
  let cosine = 0n;
  for (let k = 0; term !== 0n && term !== -1n; k++) {
    // r^k / k! goes to cosine and sine in turn, two of each sign.
    const signed = (k & 2) === 0 ? term : -term;
    if ((k & 1) === 0) cosine += signed;
    else sine += signed;
    term = ((term * r) >> F) / BigInt(k + 1);
  }
  return { sine, cosine };
}

/** ln(numerator / denominator), both positive, their ratio within [1/2, 2]: 2 atanh((n-d)/(n+d)). */
export function logarithmOfRatio(numerator: bigint, denominator: bigint): bigint {
  const s = ((numerator - denominator) << F) / (numerator + denominator);
  const square = (s * s) >> F;
  let power = s;
  let sum = s;
  for (let k = 3n; power !== 0n && power !== -1n; k += 2n) {
    power = (power * square) >> F;
    sum += power / k;
  }
  return 2n * sum;
}

/** Arctangent of `numerator / denominator` >= 0 for a small ratio, by its series. */
function arctangentSeries(z: bigint): bigint {
  const square = (z * z) >> F;
  let power = z;
  let sum = z;
  for (let k = 3n; power !== 0n; k += 2n) {
    power = (power * square) >> F;
    sum += (k & 2n) === 0n ? power / k : -(power / k);
  }
  return sum;
}

const STEPS = 32n;
const stepArctangents: bigint[] = [];

/** atan(k / STEPS), each computed from its predecessor: atan(a) - atan(b) = atan((a-b)/(1+ab)). */
function stepArctangent(k: number): bigint {
  while (stepArctangents.length <= k) {
    const n = BigInt(stepArctangents.length);
    const before = stepArctangents.at(-1) ?? 0n;
    stepArctangents.push(n === 0n ? 0n : before + arctangentSeries((STEPS << F) / (STEPS * STEPS + n * (n - 1n))));
  }
  return stepArctangents[k] ?? 0n;
}

/** atan(z) for 0 <= z <= 1. */
export function arctangent(z: bigint): bigint {
  const k = (z * STEPS) >> F;
  // With c = k/STEPS: (z-c)/(1+zc) is below 1/STEPS.
  const rest = ((z * STEPS - (k << F)) << F) / ((STEPS << F) + z * k);
  return stepArctangent(Number(k)) + arctangentSeries(rest);
}

/** x ln(2). */
export function timesLn2(x: bigint): bigint {
  return (x * ln2()) >> F;
}

/** Bits of the pi that processors reduce angles by: C90FDAA22168C234C [SDM 1 §8.3.8]. Two bits are the integer's. */
const REDUCTION_PI_SHIFT = F - 66n;

/** Splits x into n quarter turns and a remainder of at most pi/4. */
export function reduceQuarters(x: bigint): { quarter: number; rest: bigint } {
  const half = (pi() >> REDUCTION_PI_SHIFT) << (REDUCTION_PI_SHIFT - 1n);
  const n = (2n * x + half) / (2n * half);
  return { quarter: Number(n & 3n), rest: x - n * half };
}
