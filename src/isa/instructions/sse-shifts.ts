/** Vector shifts: by an immediate, by a register's low 64 bits, and by bytes [SDM 2, PSLLW to PSRLDQ]. */

import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { bytes, lowHalf, MMX_UNIT, readAligned, type Unit, XMM_UNIT } from "./sse-operands.ts";

interface Shift {
  readonly name: string;
  /** WebAssembly's operation, which takes the count modulo the lane's width. */
  readonly op: string;
  /** Bits of a lane. */
  readonly width: number;
  /** Second opcode byte of the form by register. */
  readonly register: string;
  /** Second opcode byte and ModRM.reg of the form by immediate. */
  readonly immediate: string;
}

const SHIFTS: readonly Shift[] = [
  { name: "PSRLW", op: "i16x8.shr_u", width: 16, register: "D1", immediate: "71 /2" },
  { name: "PSRLD", op: "i32x4.shr_u", width: 32, register: "D2", immediate: "72 /2" },
  { name: "PSRLQ", op: "i64x2.shr_u", width: 64, register: "D3", immediate: "73 /2" },
  { name: "PSRAW", op: "i16x8.shr_s", width: 16, register: "E1", immediate: "71 /4" },
  { name: "PSRAD", op: "i32x4.shr_s", width: 32, register: "E2", immediate: "72 /4" },
  { name: "PSLLW", op: "i16x8.shl", width: 16, register: "F1", immediate: "71 /6" },
  { name: "PSLLD", op: "i32x4.shl", width: 32, register: "F2", immediate: "72 /6" },
  { name: "PSLLQ", op: "i64x2.shl", width: 64, register: "F3", immediate: "73 /6" },
];

/** Shifts by a count (i32 or i64) of any size: from the lane's width on, zeros or all signs. */
function shift(m: Semantics, { op, width }: Shift, value: Value, count: Value): Value {
  const small = m.ltU(count, width);
  if (op.endsWith("shr_s")) {
    const limited = m.resize(m.select(small, count, m.constant(count.type, width - 1)), "i32");
    return m.op(op, value, limited);
  }
  const shifted = m.op(op, value, m.resize(count, "i32"));
  return m.select(small, shifted, m.v128(new Uint8Array(16)));
}

function forms(unit: Unit, entry: Shift): Instruction[] {
  const prefix = unit.mmx ? "NP" : "66";
  const effect = (m: Semantics, dst: Operand, src: Operand) => {
    unit.guard(m);
    const read = readAligned(m, src);
    const count = read.type === "v128" ? lowHalf(m, read) : read;
    unit.write(m, dst, shift(m, entry, m.read(dst), count));
  };
  return [
    { name: entry.name, forms: [`${prefix} 0F ${entry.register} /r ${unit.mmx ? "Pdq,Qq" : "Vdq,Wdq"}`], effect },
    { name: entry.name, forms: [`${prefix} 0F ${entry.immediate} ${unit.mmx ? "Ndq,Ib" : "Udq,Ib"}`], effect },
  ];
}

/** PSLLDQ, PSRLDQ: the whole register by bytes. A swizzle index from 16 on gives zero. */
function byteShift(name: string, digit: number, left: boolean): Instruction {
  return {
    name,
    forms: [`66 0F 73 /${digit} Udq,Ib`],
    effect(m, dst, src) {
      XMM_UNIT.guard(m);
      const count = m.read(src);
      const limited = m.op("i8x16.splat", m.select(m.ltU(count, 16), count, m.i32(16)));
      const index = m.op(left ? "i8x16.sub" : "i8x16.add", m.v128(bytes((i) => i)), limited);
      m.write(dst, m.op("i8x16.swizzle", m.read(dst), index));
    },
  };
}

export const SSE_SHIFTS: readonly Instruction[] = [
  ...SHIFTS.flatMap((entry) => [...forms(XMM_UNIT, entry), ...forms(MMX_UNIT, entry)]),
  byteShift("PSRLDQ", 3, false),
  byteShift("PSLLDQ", 7, true),
];
