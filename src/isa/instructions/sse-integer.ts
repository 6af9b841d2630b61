/**
 * Integer arithmetic, compares and logic on vectors, for XMM and MMX registers alike: every operation works on 16
 * bytes, MMX in the low half [SDM 2; SDM 1 §9.4, §10.4.4, §11.4.2].
 */

import type { Instruction } from "../instruction.ts";
import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { bytes, MMX_UNIT, readAligned, readVector, type Unit, XMM_UNIT } from "./sse-operands.ts";

/** The result from destination and source. */
export type Compute = (m: Semantics, a: Value, b: Value, unit: Unit) => Value;

/** A result made by one WebAssembly operation. */
export function by(op: string): Compute {
  return (m, a, b) => m.op(op, a, b);
}

/** One instruction for a unit: `form` without its operands. `source` is the MMX source's size letter. */
function one(name: string, form: string, compute: Compute, unit: Unit, source = "q"): Instruction {
  return {
    name,
    forms: [`${form} /r ${unit.mmx ? `Pdq,Q${source}` : "Vdq,Wdq"}`],
    effect(m, dst, src) {
      unit.guard(m);
      const b = unit.mmx ? readVector(m, src) : readAligned(m, src);
      unit.write(m, dst, compute(m, m.read(dst), b, unit));
    },
  };
}

/** The XMM (prefix 66) and the MMX (no prefix) instruction of an opcode such as "FC" or "38 00". */
export function both(
  name: string,
  opcode: string,
  compute: Compute,
  options: { feature?: string; source?: string } = {},
): Instruction[] {
  const { feature, source } = options;
  return [one(name, `66 0F ${opcode}`, compute, XMM_UNIT), one(name, `NP 0F ${opcode}`, compute, MMX_UNIT, source)].map(
    (instruction) => (feature === undefined ? instruction : { ...instruction, feature }),
  );
}

/** An instruction on XMM registers only: `form` such as "66 0F 6C". */
export function xmm(name: string, form: string, compute: Compute, feature?: string): Instruction {
  const instruction = one(name, form, compute, XMM_UNIT);
  return feature === undefined ? instruction : { ...instruction, feature };
}

/** High 16 bits of every product of 16-bit lanes, from products of 32 bits. */
function multiplyHigh(sign: "s" | "u"): Compute {
  return (m, a, b) => {
    const low = m.op(`i32x4.extmul_low_i16x8_${sign}`, a, b);
    const high = m.op(`i32x4.extmul_high_i16x8_${sign}`, a, b);
    return m.lanes("i8x16.shuffle", [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31], low, high);
  };
}

/** Products of the even 32-bit lanes, 64 bits each. */
export function multiplyEven(sign: "s" | "u"): Compute {
  return (m, a, b) => {
    const even = (v: Value) => m.lanes("i8x16.shuffle", [...bytes((i) => (i < 4 ? i : i < 8 ? i + 4 : i))], v, v);
    return m.op(`i64x2.extmul_low_i32x4_${sign}`, even(a), even(b));
  };
}

/** PSADBW: the sum of absolute differences of every eight bytes, in 64 bits. */
const sumOfDifferences: Compute = (m, a, b) => {
  const difference = m.op("i8x16.sub", m.op("i8x16.max_u", a, b), m.op("i8x16.min_u", a, b));
  const words = m.op("i16x8.extadd_pairwise_i8x16_u", difference);
  const doubles = m.op("i32x4.extadd_pairwise_i16x8_u", words);
  const low = m.op("v128.and", doubles, m.v128(bytes((i) => (i % 8 < 4 ? 0xff : 0))));
  return m.op("i64x2.add", low, m.op("i64x2.shr_u", doubles, m.i32(32)));
};

export const SSE_INTEGER: readonly Instruction[] = [
  ...both("PADDB", "FC", by("i8x16.add")),
  ...both("PADDW", "FD", by("i16x8.add")),
  ...both("PADDD", "FE", by("i32x4.add")),
  ...both("PADDQ", "D4", by("i64x2.add")),
  ...both("PADDSB", "EC", by("i8x16.add_sat_s")),
  ...both("PADDSW", "ED", by("i16x8.add_sat_s")),
  ...both("PADDUSB", "DC", by("i8x16.add_sat_u")),
  ...both("PADDUSW", "DD", by("i16x8.add_sat_u")),
  ...both("PSUBB", "F8", by("i8x16.sub")),
  ...both("PSUBW", "F9", by("i16x8.sub")),
  ...both("PSUBD", "FA", by("i32x4.sub")),
  ...both("PSUBQ", "FB", by("i64x2.sub")),
  ...both("PSUBSB", "E8", by("i8x16.sub_sat_s")),
  ...both("PSUBSW", "E9", by("i16x8.sub_sat_s")),
  ...both("PSUBUSB", "D8", by("i8x16.sub_sat_u")),
  ...both("PSUBUSW", "D9", by("i16x8.sub_sat_u")),

  ...both("PMULLW", "D5", by("i16x8.mul")),
  ...both("PMULHW", "E5", multiplyHigh("s")),
  ...both("PMULHUW", "E4", multiplyHigh("u")),
  ...both("PMULUDQ", "F4", multiplyEven("u")),
  ...both("PMADDWD", "F5", by("i32x4.dot_i16x8_s")),
  ...both("PSADBW", "F6", sumOfDifferences),
  ...both("PAVGB", "E0", by("i8x16.avgr_u")),
  ...both("PAVGW", "E3", by("i16x8.avgr_u")),
  ...both("PMINUB", "DA", by("i8x16.min_u")),
  ...both("PMAXUB", "DE", by("i8x16.max_u")),
  ...both("PMINSW", "EA", by("i16x8.min_s")),
  ...both("PMAXSW", "EE", by("i16x8.max_s")),

  ...both("PCMPEQB", "74", by("i8x16.eq")),
  ...both("PCMPEQW", "75", by("i16x8.eq")),
  ...both("PCMPEQD", "76", by("i32x4.eq")),
  ...both("PCMPGTB", "64", by("i8x16.gt_s")),
  ...both("PCMPGTW", "65", by("i16x8.gt_s")),
  ...both("PCMPGTD", "66", by("i32x4.gt_s")),

  ...both("PAND", "DB", by("v128.and")),
  ...both("PANDN", "DF", (m, a, b) => m.op("v128.andnot", b, a)),
  ...both("POR", "EB", by("v128.or")),
  ...both("PXOR", "EF", by("v128.xor")),

  // The same logic under the names of floating point.
  xmm("ANDPS", "NP 0F 54", by("v128.and")),
  xmm("ANDPD", "66 0F 54", by("v128.and")),
  xmm("ANDNPS", "NP 0F 55", (m, a, b) => m.op("v128.andnot", b, a)),
  xmm("ANDNPD", "66 0F 55", (m, a, b) => m.op("v128.andnot", b, a)),
  xmm("ORPS", "NP 0F 56", by("v128.or")),
  xmm("ORPD", "66 0F 56", by("v128.or")),
  xmm("XORPS", "NP 0F 57", by("v128.xor")),
  xmm("XORPD", "66 0F 57", by("v128.xor")),
];
