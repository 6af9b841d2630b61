/** Arithmetic of 128 bits in halves of 64, which WebAssembly lacks. */

import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";

const HALF = 0xffff_ffff;

/** The upper 64 bits of a product of two i64, by four products of halves. */
export function multiplyHigh(m: Semantics, a: Value, b: Value, signed: boolean): Value {
  const aLow = m.and(a, HALF);
  const aHigh = m.shrU(a, 32);
  const bLow = m.and(b, HALF);
  const bHigh = m.shrU(b, 32);
  const first = m.add(m.mul(aHigh, bLow), m.shrU(m.mul(aLow, bLow), 32));
  const second = m.add(m.mul(aLow, bHigh), m.and(first, HALF));
  const high = m.add(m.add(m.mul(aHigh, bHigh), m.shrU(first, 32)), m.shrU(second, 32));
  if (!signed) return high;
  // A negative factor counted 2^64 too much.
  return m.sub(high, m.add(m.and(m.shrS(a, 63), b), m.and(m.shrS(b, 63), a)));
}

/**
 * Divides high:low by `divisor`, unsigned; `high` is below `divisor`, so the quotient fits. Schoolbook division by two
 * digits of 32 bits, the divisor shifted up to its top bit: an estimated digit is too large by at most 2
 * [Knuth, The Art of Computer Programming 2, §4.3.1, theorem B].
 */
export function divide128(
  m: Semantics,
  high: Value,
  low: Value,
  divisor: Value,
): { quotient: Value; remainder: Value } {
  const shift = m.op("i64.clz", divisor);
  const d = m.shl(divisor, shift);
  const dHigh = m.shrU(d, 32);
  const dLow = m.and(d, HALF);
  // Two steps, since a shift by 64 would be one by 0.
  const top = m.or(m.shl(high, shift), m.shrU(m.shrU(low, 1), m.sub(m.i64(63), shift)));
  const rest = m.shl(low, shift);

  /** One digit of the quotient, and what is left of `part` (below d) with the digit `next` behind it. */
  const digit = (part: Value, next: Value): { digit: Value; left: Value } => {
    const estimate = m.variable(m.op("i64.div_u", part, dHigh));
    const spare = m.variable(m.op("i64.rem_u", part, dHigh));
    for (let correction = 0; correction < 2; correction++) {
      const q = m.get(estimate);
      const r = m.get(spare);
      // Once the spare part has a third half, the estimate cannot be too large any more.
      const small = m.isZero(m.shrU(r, 32));
      const tooLarge = m.or(m.ne(m.shrU(q, 32), 0), m.gtU(m.mul(q, dLow), m.or(m.shl(r, 32), next)));
      m.when(m.and(small, tooLarge), () => {
        m.assign(estimate, m.sub(q, 1));
        m.assign(spare, m.add(r, dHigh));
      });
    }
    const q = m.get(estimate);
    return { digit: q, left: m.sub(m.or(m.shl(part, 32), next), m.mul(q, d)) };
  };
  const first = digit(top, m.shrU(rest, 32));
  const second = digit(first.left, m.and(rest, HALF));
  return {
    quotient: m.or(m.shl(first.digit, 32), second.digit),
    remainder: m.shrU(second.left, shift),
  };
}
