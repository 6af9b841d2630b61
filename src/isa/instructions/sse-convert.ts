/**
 * Conversions between integers, singles and doubles [SDM 2, CVTDQ2PD to CVTTSS2SI]. Those into MMX registers and from
 * them always go the exact way; the others have fast paths, whose conditions are said at each.
 */

import { sseCode } from "../float/sse-packed.ts";
import type { Instruction } from "../instruction.ts";
import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { exactly, exactValue, ordinaryMxcsr, PD, PS, SD, type Shape, SS } from "./sse-float.ts";
import { enterMmx, mmxGuard, readAligned, readVector, sseGuard, writeMmx } from "./sse-operands.ts";

/** Tries a fast way: `attempt` gives the value to write and whether it is right. */
function conversion(
  name: string,
  form: string,
  attempt: (m: Semantics, source: Value) => { value: Value; good: Value },
): Instruction {
  const code = sseCode(name.toLowerCase());
  return {
    name,
    forms: [form],
    effect(m, dst, src) {
      sseGuard(m);
      const source = readAligned(m, src);
      const { value, good } = attempt(m, source);
      m.when(
        good,
        () => {
          m.write(dst, value);
        },
        () => {
          exactly(m, m.i32(code), dst, src, source);
        },
      );
    },
  };
}

/** CVTSI2SS, CVTSI2SD: exact while the integer fits the significand of `precision` bits, else by ordinary rounding. */
function fromGeneral(name: string, shape: Shape, precision: number): Instruction {
  return {
    name,
    forms: [`${shape.prefix} 0F 2A /r ${shape.lane === "f32" ? "Vd" : "Vq"},Ey`],
    effect(m, dst, src) {
      sseGuard(m);
      const source = m.read(src);
      const fast = () => {
        m.write(dst, shape.plainBits(m, m.op(`${shape.lane}.convert_${source.type}_s`, source)));
      };
      if (src.bits <= precision) {
        fast();
        return;
      }
      const limit = 2 ** precision;
      const fits = m.op(`${source.type}.le_u`, m.add(source, limit), m.constant(source.type, 2 * limit));
      m.when(m.or(fits, ordinaryMxcsr(m)), fast, () => {
        exactly(m, m.i32(sseCode(name.toLowerCase() + src.bits)), dst, src, source);
      });
    },
  };
}

/** MXCSR's rounding control, PM and PE. */
const ROUNDING = 0x6000;
const PRECISION_MASKED_AND_SET = 0x1020;

/** Whether an inexact conversion to an integer needs no attention: PE masked and set, and rounding to nearest. */
function inexactIsFine(m: Semantics, truncate: boolean): Value {
  const looked = PRECISION_MASKED_AND_SET | (truncate ? 0 : ROUNDING);
  return m.eq(m.and(m.field("mxcsr"), looked), PRECISION_MASKED_AND_SET);
}

/** CVTSS2SI and the like: right where the value is well within range, and whole or allowed to be inexact. */
function toGeneral(name: string, opcode: string, shape: Shape, truncate: boolean): Instruction {
  return {
    name,
    forms: [`${shape.prefix} 0F ${opcode} /r Gy,${shape.lane === "f32" ? "Wd" : "Wq"}`],
    effect(m, dst, src) {
      sseGuard(m);
      const source = m.read(src);
      const type = dst.bits === 64 ? "i64" : "i32";
      const operand = shape.float(m, source);
      const whole = truncate ? operand : m.op(`${shape.lane}.nearest`, operand);
      const integer = m.op(`${type}.trunc_sat_${shape.lane}_s`, whole);
      const exact = shape.op(m, "eq", m.op(`${shape.lane}.convert_${type}_s`, integer), operand);
      const good = m.and(shape.isBelow(m, whole, 2 ** (dst.bits - 1)), m.or(exact, inexactIsFine(m, truncate)));
      const code = sseCode(name.toLowerCase() + dst.bits);
      m.write(
        dst,
        m.choose(
          good,
          () => integer,
          () => exactValue(m, code, src, source, type),
        ),
      );
    },
  };
}

/** CVT(T)PS2DQ: as above in four lanes. */
function toWords(m: Semantics, source: Value, truncate: boolean): { value: Value; good: Value } {
  const whole = truncate ? source : m.op("f32x4.nearest", source);
  const value = m.op("i32x4.trunc_sat_f32x4_s", whole);
  const exact = m.op("i8x16.all_true", m.op("f32x4.eq", m.op("f32x4.convert_i32x4_s", value), source));
  const below = PS.all(m, PS.isBelow(m, whole, 2 ** 31));
  return { value, good: m.and(below, m.or(exact, inexactIsFine(m, truncate))) };
}

/** CVT(T)PD2DQ: two lanes, the upper half of the result zero. */
function toWordsFromDoubles(m: Semantics, source: Value, truncate: boolean): { value: Value; good: Value } {
  const whole = truncate ? source : m.op("f64x2.nearest", source);
  const value = m.op("i32x4.trunc_sat_f64x2_s_zero", whole);
  const exact = m.op("i8x16.all_true", m.op("f64x2.eq", m.op("f64x2.convert_low_i32x4_s", value), source));
  const below = PD.all(m, PD.isBelow(m, whole, 2 ** 31));
  return { value, good: m.and(below, m.or(exact, inexactIsFine(m, truncate))) };
}

/** A conversion whose MMX side is the destination. The source is a register's low half, or 64 or 128 bits of memory. */
function toMmx(name: string, form: string): Instruction {
  const code = sseCode(name.toLowerCase());
  return {
    name,
    forms: [form],
    effect(m, dst, src) {
      sseGuard(m);
      mmxGuard(m);
      const source = readAligned(m, src);
      // Processors enter MMX even if a floating-point exception follows.
      enterMmx(m);
      const integers = exactValue(m, code, src, source, "i64");
      writeMmx(m, dst, m.op("i64x2.splat", integers));
    },
  };
}

export const SSE_CONVERT: readonly Instruction[] = [
  fromGeneral("CVTSI2SS", SS, 24),
  fromGeneral("CVTSI2SD", SD, 53),
  toGeneral("CVTTSS2SI", "2C", SS, true),
  toGeneral("CVTTSD2SI", "2C", SD, true),
  toGeneral("CVTSS2SI", "2D", SS, false),
  toGeneral("CVTSD2SI", "2D", SD, false),

  // To a wider format every value but NaNs and denormals goes exactly.
  conversion("CVTSS2SD", "F3 0F 5A /r Vq,Wd", (m, source) => {
    const a = SS.float(m, source);
    return { value: SD.bits(m, m.op("f64.promote_f32", a)), good: SS.isPlain(m, a) };
  }),
  conversion("CVTPS2PD", "NP 0F 5A /r Vdq,Wq", (m, source) => {
    const both = m.op("i64x2.splat", source);
    return { value: m.op("f64x2.promote_low_f32x4", both), good: PS.all(m, PS.isPlain(m, both)) };
  }),
  conversion("CVTSD2SS", "F2 0F 5A /r Vd,Wq", (m, source) => {
    const a = SD.float(m, source);
    const value = m.op("f32.demote_f64", a);
    const good = m.or(SS.isNormal(m, value), SD.isZero(m, a));
    return { value: SS.bits(m, value), good: m.and(good, ordinaryMxcsr(m)) };
  }),
  conversion("CVTPD2PS", "66 0F 5A /r Vdq,Wdq", (m, source) => {
    const value = m.op("f32x4.demote_f64x2_zero", source);
    // Judged in doubles, whose lanes are the source's.
    const wide = m.op("f64x2.promote_low_f32x4", value);
    const magnitude = m.op("f64x2.abs", wide);
    const above = m.op("f64x2.gt", magnitude, PD.constant(m, 2 ** -126));
    const finite = m.op("f64x2.lt", magnitude, PD.constant(m, 2 ** 128));
    const normal = m.op("v128.and", above, finite);
    const good = PD.all(m, m.op("v128.or", normal, PD.isZero(m, source)));
    return { value, good: m.and(good, ordinaryMxcsr(m)) };
  }),

  conversion("CVTDQ2PS", "NP 0F 5B /r Vdq,Wdq", (m, source) => ({
    value: m.op("f32x4.convert_i32x4_s", source),
    good: ordinaryMxcsr(m),
  })),
  conversion("CVTPS2DQ", "66 0F 5B /r Vdq,Wdq", (m, source) => toWords(m, source, false)),
  conversion("CVTTPS2DQ", "F3 0F 5B /r Vdq,Wdq", (m, source) => toWords(m, source, true)),
  conversion("CVTTPD2DQ", "66 0F E6 /r Vdq,Wdq", (m, source) => toWordsFromDoubles(m, source, true)),
  conversion("CVTPD2DQ", "F2 0F E6 /r Vdq,Wdq", (m, source) => toWordsFromDoubles(m, source, false)),
  {
    // Exact for every value.
    name: "CVTDQ2PD",
    forms: ["F3 0F E6 /r Vdq,Wq"],
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, m.op("f64x2.convert_low_i32x4_s", readVector(m, src)));
    },
  },

  // A source in memory does not enter MMX.
  {
    name: "CVTPI2PS",
    forms: ["NP 0F 2A /r Vq,Qq"],
    effect(m, dst, src) {
      sseGuard(m);
      if (src.kind === "reg") mmxGuard(m);
      const source = m.read(src);
      if (src.kind === "reg") enterMmx(m);
      exactly(m, m.i32(sseCode("cvtpi2ps")), dst, src, source);
    },
  },
  {
    name: "CVTPI2PD",
    forms: ["66 0F 2A /r Vdq,Qq"],
    effect(m, dst, src) {
      sseGuard(m);
      if (src.kind === "reg") mmxGuard(m);
      m.write(dst, m.op("f64x2.convert_low_i32x4_s", readVector(m, src)));
      if (src.kind === "reg") enterMmx(m);
    },
  },
  toMmx("CVTTPS2PI", "NP 0F 2C /r Pdq,Wq"),
  toMmx("CVTPS2PI", "NP 0F 2D /r Pdq,Wq"),
  toMmx("CVTTPD2PI", "66 0F 2C /r Pdq,Wdq"),
  toMmx("CVTPD2PI", "66 0F 2D /r Pdq,Wdq"),
];
