/**
 * The irrational constants of the x87 unit, computed when first needed to FRACTION_BITS bits after the binary point.
 */

/** Enough for the reduction of any argument below 2^63 and for 64-bit results with guard bits. */
export const FRACTION_BITS = 256;
const BITS = BigInt(FRACTION_BITS);
/** Sums are formed with these bits more. */
const GUARD = 32n;

/** Sum of x^(2k+1)/(2k+1), signs alternating for atan, for x = 1/n, with BITS + GUARD fraction bits. */
function inverseSeries(n: bigint, alternating: boolean): bigint {
  const square = n * n;
  let power = (1n << (BITS + GUARD)) / n;
  let sum = power;
  for (let k = 3n, negative = alternating; power !== 0n; k += 2n) {
    power /= square;
    sum += negative ? -(power / k) : power / k;
    if (alternating) negative = !negative;
  }
  return sum;
}

function onceComputed(compute: () => bigint): () => bigint {
  let value: bigint | undefined;
  return () => (value ??= compute());
}

/** With FRACTION_BITS fraction bits, truncated. Machin's formula. */
export const pi = onceComputed(() => (16n * inverseSeries(5n, true) - 4n * inverseSeries(239n, true)) >> GUARD);
/** 2 * atanh(1/3). */
export const ln2 = onceComputed(() => (2n * inverseSeries(3n, false)) >> GUARD);
/** ln(10) = 3 ln(2) + 2 atanh(1/9). */
const ln10 = onceComputed(() => 3n * ln2() + ((2n * inverseSeries(9n, false)) >> GUARD));

function ratio(a: bigint, b: bigint): bigint {
  return (a << BITS) / b;
}

const CONSTANTS = {
  one: onceComputed(() => 1n << BITS),
  log2of10: onceComputed(() => ratio(ln10(), ln2())),
  log2ofE: onceComputed(() => ratio(1n << BITS, ln2())),
  pi,
  log10of2: onceComputed(() => ratio(ln2(), ln10())),
  ln2,
  zero: () => 0n,
} as const;

export type ConstantName = keyof typeof CONSTANTS;

/** A constant as significand * 2^exponent. */
export function constantValue(name: ConstantName): { significand: bigint; exponent: number } {
  return { significand: CONSTANTS[name](), exponent: -FRACTION_BITS };
}
