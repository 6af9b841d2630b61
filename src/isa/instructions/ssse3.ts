/** SSSE3: horizontal sums, PSHUFB, PALIGNR and others, on XMM and MMX registers [SDM 2; SDM 1 §12.5]. */

import type { Instruction } from "../instruction.ts";
import type { Semantics } from "../semantics.ts";
import { both, type Compute } from "./sse-integer.ts";
import { bytes, everyOther, joinHalves, MMX_UNIT, readVector, type Unit, XMM_UNIT } from "./sse-operands.ts";

const FEATURE = "ssse3";
const ssse3 = (name: string, opcode: string, compute: Compute) =>
  both(name, `38 ${opcode}`, compute, { feature: FEATURE });

/** Sums or differences of neighbours of `size` bytes: the destination's, then the source's. */
function horizontal(op: string, size: number): Compute {
  return (m, a, b, unit) => {
    const joined = joinHalves(m, a, b, 0);
    const [first, second] = unit.mmx ? [joined, joined] : [a, b];
    return m.op(op, everyOther(m, first, second, size, 0), everyOther(m, first, second, size, 1));
  };
}

/** Picks bytes by the low bits of each index byte; an index with bit 7 set gives zero. */
const shuffleBytes: Compute = (m, a, b, unit) =>
  m.op("i8x16.swizzle", a, m.op("v128.and", b, m.v128(bytes(() => (unit.mmx ? 0x87 : 0x8f)))));

/** PMADDUBSW: unsigned bytes of the destination by signed ones of the source, neighbours added with saturation. */
const multiplyAddBytes: Compute = (m, a, b) => {
  const eight = m.i32(8);
  const even = m.op(
    "i16x8.mul",
    m.op("v128.and", a, m.v128(bytes((i) => (i % 2 === 0 ? 0xff : 0)))),
    m.op("i16x8.shr_s", m.op("i16x8.shl", b, eight), eight),
  );
  const odd = m.op("i16x8.mul", m.op("i16x8.shr_u", a, eight), m.op("i16x8.shr_s", b, eight));
  return m.op("i16x8.add_sat_s", even, odd);
};

/** PMULHRSW wraps where WebAssembly's operation saturates: for -1 times -1 alone, in Q15. */
const multiplyRound: Compute = (m, a, b) => {
  const lowest = m.v128(bytes((i) => (i % 2 === 0 ? 0 : 0x80)));
  const wraps = m.op("v128.and", m.op("i16x8.eq", a, lowest), m.op("i16x8.eq", b, lowest));
  return m.op("v128.xor", m.op("i16x8.q15mulr_sat_s", a, b), wraps);
};

/** PSIGN: the destination negated, cleared or kept as the source is negative, zero or positive. */
function sign(shape: string, width: number): Compute {
  return (m, a, b) => {
    const negative = m.op(`${shape}.shr_s`, b, m.i32(width - 1));
    const signed = m.op(`${shape}.sub`, m.op("v128.xor", a, negative), negative);
    return m.op("v128.and", signed, m.op(`${shape}.ne`, b, m.v128(new Uint8Array(16))));
  };
}

function absolute(shape: string): Compute {
  return (m, _a, b) => m.op(`${shape}.abs`, b);
}

/** PALIGNR: the destination above the source, moved right by bytes. */
function alignRight(unit: Unit): Instruction {
  return {
    name: "PALIGNR",
    forms: [unit.mmx ? "NP 0F 3A 0F /r Pdq,Qq,Ib" : "66 0F 3A 0F /r Vdq,Wdq,Ib"],
    feature: FEATURE,
    effect(m: Semantics, dst, src, immediate) {
      unit.guard(m);
      const b = readVector(m, src);
      const a = m.read(dst);
      const count = m.read(immediate);
      // Index bytes from 16 on, also those below zero, give zeros.
      const limited = m.op("i8x16.splat", m.select(m.ltU(count, 32), count, m.i32(32)));
      const index = m.op("i8x16.add", m.v128(bytes((i) => i)), limited);
      if (unit.mmx) {
        unit.write(m, dst, m.op("i8x16.swizzle", joinHalves(m, b, a, 0), index));
        return;
      }
      const above = m.op("i8x16.swizzle", a, m.op("i8x16.sub", index, m.v128(bytes(() => 16))));
      unit.write(m, dst, m.op("v128.or", m.op("i8x16.swizzle", b, index), above));
    },
  };
}

export const SSSE3: readonly Instruction[] = [
  ...ssse3("PSHUFB", "00", shuffleBytes),
  ...ssse3("PHADDW", "01", horizontal("i16x8.add", 2)),
  ...ssse3("PHADDD", "02", horizontal("i32x4.add", 4)),
  ...ssse3("PHADDSW", "03", horizontal("i16x8.add_sat_s", 2)),
  ...ssse3("PMADDUBSW", "04", multiplyAddBytes),
  ...ssse3("PHSUBW", "05", horizontal("i16x8.sub", 2)),
  ...ssse3("PHSUBD", "06", horizontal("i32x4.sub", 4)),
  ...ssse3("PHSUBSW", "07", horizontal("i16x8.sub_sat_s", 2)),
  ...ssse3("PSIGNB", "08", sign("i8x16", 8)),
  ...ssse3("PSIGNW", "09", sign("i16x8", 16)),
  ...ssse3("PSIGND", "0A", sign("i32x4", 32)),
  ...ssse3("PMULHRSW", "0B", multiplyRound),
  ...ssse3("PABSB", "1C", absolute("i8x16")),
  ...ssse3("PABSW", "1D", absolute("i16x8")),
  ...ssse3("PABSD", "1E", absolute("i32x4")),
  alignRight(XMM_UNIT),
  alignRight(MMX_UNIT),
];
