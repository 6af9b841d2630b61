/** PCLMULQDQ: products of polynomials over GF(2) [SDM 2; SDM 1 §12.13.4]. */

import type { Instruction } from "../instruction.ts";
import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { readAligned, sseGuard } from "./sse-operands.ts";

/** Every fourth bit, from bit 0 on. */
const EVERY_FOURTH = 0x1111_1111_1111_1111n;

/**
 * The low 64 bits of a carry-less product, by integer products: where only every fourth bit of the factors is set, the
 * sums of at most 15 ones stay within the three bits between. The sum of 16 at the very top leaves the word.
 */
function lowProduct(m: Semantics, a: Value, b: Value): Value {
  const mask = (shift: number) => m.i64(BigInt.asUintN(64, EVERY_FOURTH << BigInt(shift)));
  const parts = (value: Value) => [0, 1, 2, 3].map((shift) => m.op("i64.and", value, mask(shift)));
  const left = parts(a);
  const right = parts(b);
  let product: Value | undefined;
  for (let residue = 0; residue < 4; residue++) {
    let sum: Value | undefined;
    for (const [i, factor] of left.entries()) {
      const other = right[(residue - i) & 3];
      if (other === undefined) continue;
      const term = m.mul(factor, other);
      sum = sum === undefined ? term : m.xor(sum, term);
    }
    if (sum === undefined) continue;
    const kept = m.op("i64.and", sum, mask(residue));
    product = product === undefined ? kept : m.or(product, kept);
  }
  return product ?? a;
}

/** An i64 with its bits in the opposite order. */
function reversed(m: Semantics, value: Value): Value {
  let swapped = value;
  const steps = [
    [1, 0x5555_5555_5555_5555n],
    [2, 0x3333_3333_3333_3333n],
    [4, 0x0f0f_0f0f_0f0f_0f0fn],
    [8, 0x00ff_00ff_00ff_00ffn],
    [16, 0x0000_ffff_0000_ffffn],
  ] as const;
  for (const [distance, mask] of steps) {
    const low = m.op("i64.and", m.shrU(swapped, distance), m.i64(mask));
    const high = m.shl(m.op("i64.and", swapped, m.i64(mask)), distance);
    swapped = m.or(low, high);
  }
  return m.rotl(swapped, 32);
}

/** One of two 64-bit lanes: the upper where the bit is set. */
function half(m: Semantics, vector: Value, bit: Value): Value {
  return m.select(bit, m.lanes("i64x2.extract_lane", [1], vector), m.lanes("i64x2.extract_lane", [0], vector));
}

export const CARRYLESS_MULTIPLY: readonly Instruction[] = [
  {
    name: "PCLMULQDQ",
    forms: ["66 0F 3A 44 /r Vdq,Wdq,Ib"],
    feature: "pclmulqdq",
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const second = readAligned(m, src);
      const control = m.read(immediate);
      const a = half(m, m.read(dst), m.and(control, 1));
      const b = half(m, second, m.and(control, 0x10));
      // Read backwards, a product's upper half is the lower half of the product of the factors read backwards; it has 127
      // bits, one fewer than two words.
      const high = m.shrU(reversed(m, lowProduct(m, reversed(m, a), reversed(m, b))), 1);
      m.write(dst, m.lanes("i64x2.replace_lane", [1], m.op("i64x2.splat", lowProduct(m, a, b)), high));
    },
  },
];
