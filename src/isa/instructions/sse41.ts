/** SSE4.1 but for PEXTRW: wider integers, extensions, blends, insertion, PTEST, rounding, dot products [SDM 2]. */

import { AUX } from "../flags.ts";
import { sseCode } from "../float/sse-packed.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { xmmOffset } from "../state.ts";
import { exactly, PD, PS, SHAPES, type Shape } from "./sse-float.ts";
import { by, type Compute, multiplyEven, xmm } from "./sse-integer.ts";
import { bytes, readAligned, readVector, sseGuard, words32 } from "./sse-operands.ts";

const FEATURE = "sse4_1";
const sse41 = (name: string, opcode: string, compute: Compute) => xmm(name, `66 0F 38 ${opcode}`, compute, FEATURE);

/** An instruction with an immediate. */
function withImmediate(
  name: string,
  opcode: string,
  compute: (m: Semantics, a: Value, b: Value, immediate: Value) => Value,
): Instruction {
  return {
    name,
    forms: [`66 0F 3A ${opcode} /r Vdq,Wdq,Ib`],
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const b = readAligned(m, src);
      m.write(dst, compute(m, m.read(dst), b, m.read(immediate)));
    },
  };
}

/** PMOVSX and PMOVZX: `steps` doublings of the lanes from `width` bits. */
function extend(
  name: string,
  opcode: string,
  source: string,
  width: number,
  steps: number,
  sign: "s" | "u",
): Instruction {
  return {
    name,
    forms: [`66 0F 38 ${opcode} /r Vdq,${source}`],
    feature: FEATURE,
    effect(m, dst, src) {
      sseGuard(m);
      let value = readVector(m, src);
      for (let step = 0, from = width; step < steps; step++, from *= 2) {
        value = m.op(`i${from * 2}x${64 / from}.extend_low_i${from}x${128 / from}_${sign}`, value);
      }
      m.write(dst, value);
    },
  };
}

function extensions(name: string, opcodes: number, sign: "s" | "u"): Instruction[] {
  const rows = [
    ["BW", "Wq", 8, 1],
    ["BD", "Wd", 8, 2],
    ["BQ", "Ww", 8, 3],
    ["WD", "Wq", 16, 1],
    ["WQ", "Wd", 16, 2],
    ["DQ", "Wq", 32, 1],
  ] as const;
  return rows.map(([suffix, source, width, steps], i) =>
    extend(name + suffix, (opcodes + i).toString(16), source, width, steps, sign),
  );
}

/** Lanes of ones where the bit of that number is set in the immediate. */
function maskOfBits(m: Semantics, immediate: Value, lane: 2 | 4 | 8): Value {
  const bits = m.v128(bytes((i) => (i % lane === 0 ? 1 << (i / lane) : 0)));
  const shape = { 2: "i16x8", 4: "i32x4", 8: "i64x2" }[lane];
  const value = lane === 8 ? m.op("i64.extend_i32_u", immediate) : immediate;
  return m.op(`${shape}.eq`, m.op("v128.and", m.op(`${shape}.splat`, value), bits), bits);
}

/** Takes the source's lanes where the immediate says so. */
function blend(lane: 2 | 4 | 8) {
  return (m: Semantics, a: Value, b: Value, immediate: Value) =>
    m.op("v128.bitselect", b, a, maskOfBits(m, immediate, lane));
}

/** Takes the source's lanes where the sign of XMM0's is set. */
function blendVariable(name: string, opcode: string, shape: string, width: number): Instruction {
  return sse41(name, opcode, (m, a, b) => {
    const mask = m.op(`${shape}.shr_s`, m.state(xmmOffset(0), 128), m.i32(width - 1));
    return m.op("v128.bitselect", b, a, mask);
  });
}

/** PINSRB, PINSRD, PINSRQ. */
function insert(name: string, forms: string[], lane: 1 | 4 | 8): Instruction {
  return {
    name,
    forms,
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const value = m.read(src);
      const size = value.type === "i64" ? 8 : lane;
      const splat = m.op(`${{ 1: "i8x16", 4: "i32x4", 8: "i64x2" }[size]}.splat`, value);
      const place = m.op("i8x16.splat", m.and(m.read(immediate), 16 / size - 1));
      const mask = m.op("i8x16.eq", place, m.v128(bytes((i) => Math.floor(i / size))));
      m.write(dst, m.op("v128.bitselect", splat, m.read(dst), mask));
    },
  };
}

/** PEXTRB, PEXTRD, PEXTRQ, EXTRACTPS. */
function extract(name: string, forms: string[], lane: 1 | 4 | 8): Instruction {
  return {
    name,
    forms,
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const size = dst.bits === 64 ? 8 : lane;
      const start = m.mul(m.and(m.read(immediate), 16 / size - 1), size);
      const index = m.op("i8x16.add", m.op("i8x16.splat", start), m.v128(bytes((i) => i)));
      const moved = m.op("i8x16.swizzle", m.read(src), index);
      const op = { 1: "i8x16.extract_lane_u", 4: "i32x4.extract_lane", 8: "i64x2.extract_lane" }[size];
      m.write(dst, m.lanes(op, [0], moved));
    },
  };
}

/** INSERTPS: lane by bits 7:6 of a register source, to lane by bits 5:4, then lanes of bits 3:0 cleared. */
function insertPs(m: Semantics, dst: Operand, src: Operand, immediate: Operand): void {
  sseGuard(m);
  const control = m.read(immediate);
  const source = m.read(src);
  let splat: Value;
  if (source.type === "i32") splat = m.op("i32x4.splat", source);
  else {
    const start = m.mul(m.shrU(control, 6), 4);
    splat = m.op("i8x16.swizzle", source, m.op("i8x16.add", m.op("i8x16.splat", start), m.v128(bytes((i) => i & 3))));
  }
  const place = m.op("i32x4.splat", m.and(m.shrU(control, 4), 3));
  const mask = m.op("i32x4.eq", place, m.v128(words32([0, 1, 2, 3])));
  const inserted = m.op("v128.bitselect", splat, m.read(dst), mask);
  m.write(dst, m.op("v128.andnot", inserted, maskOfBits(m, control, 4)));
}

/** PTEST: ZF of the intersection, CF of the source without the destination; the other flags are cleared. */
function testBits(m: Semantics, dst: Operand, src: Operand): void {
  sseGuard(m);
  const b = readAligned(m, src);
  const a = m.read(dst);
  const common = m.op("v128.any_true", m.op("v128.and", a, b));
  const carry = m.isZero(m.op("v128.any_true", m.op("v128.andnot", b, a)));
  // A zero result has even parity and one is odd; `aux` makes PF clear in both.
  m.setField("flagsResult", m.op("i64.extend_i32_u", common));
  m.setField("flagsAux", m.or(m.mul(carry, AUX.carry | AUX.overflow), m.shl(m.isZero(common), AUX.parity)));
}

/** MPSADBW: sums of four absolute differences of a moving window of the destination and a fixed block of the source. */
function sumOfWindows(m: Semantics, a: Value, b: Value, immediate: Value): Value {
  const from = (vector: Value, start: Value) =>
    m.op("i8x16.swizzle", vector, m.op("i8x16.add", m.op("i8x16.splat", start), m.v128(bytes((i) => i))));
  const window = from(a, m.and(immediate, 4));
  const block = from(b, m.mul(m.and(immediate, 3), 4));
  let sum: Value | undefined;
  for (let j = 0; j < 4; j++) {
    const moved = m.op("i16x8.extend_low_i8x16_u", m.lanes("i8x16.shuffle", [...bytes((i) => i + j)], window, window));
    const fixed = m.op("i16x8.splat", m.lanes("i8x16.extract_lane_u", [j], block));
    const difference = m.op("i16x8.abs", m.op("i16x8.sub", moved, fixed));
    sum = sum === undefined ? difference : m.op("i16x8.add", sum, difference);
  }
  return sum ?? a;
}

/** PHMINPOSUW: the least of eight words and its number. */
const leastWord: Compute = (m, _a, b) => {
  const keyed = (half: "low" | "high", first: number) =>
    m.op(
      "v128.or",
      m.op("i32x4.shl", m.op(`i32x4.extend_${half}_i16x8_u`, b), m.i32(16)),
      m.v128(words32([first, first + 1, first + 2, first + 3])),
    );
  let least = m.op("i32x4.min_u", keyed("low", 0), keyed("high", 4));
  for (const distance of [8, 4]) {
    least = m.op("i32x4.min_u", least, m.lanes("i8x16.shuffle", [...bytes((i) => (i + distance) % 16)], least, least));
  }
  const key = m.lanes("i32x4.extract_lane", [0], least);
  const zero = m.v128(new Uint8Array(16));
  return m.lanes("i32x4.replace_lane", [0], zero, m.rotl(key, 16));
};

const MXCSR_PRECISION = 0x1020;

/** ROUNDPS to ROUNDSD: fast for plain operands where an inexact result needs no attention. */
function rounding(shape: Shape, opcode: string): Instruction {
  const code = sseCode(`round${shape.suffix}`);
  return {
    name: `ROUND${shape.suffix.toUpperCase()}`,
    forms: [`66 0F 3A ${opcode} /r ${shape.operands},Ib`],
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const source = readAligned(m, src);
      const control = m.read(immediate);
      const value = shape.float(m, source);
      const mxcsr = m.field("mxcsr");
      const mode = m.and(m.select(m.and(control, 4), m.shrU(mxcsr, 13), control), 3);
      const by = (op: string) => () => shape.op(m, op, value);
      const directed = () => m.choose(m.eq(mode, 2), by("ceil"), by("trunc"));
      const rounded = m.choose(m.isZero(mode), by("nearest"), () => m.choose(m.eq(mode, 1), by("floor"), directed));
      const exact = shape.all(m, shape.op(m, "eq", rounded, value));
      const silent = m.or(m.eq(m.and(mxcsr, MXCSR_PRECISION), MXCSR_PRECISION), m.and(m.shrU(control, 3), 1));
      m.when(
        m.and(shape.all(m, shape.isPlain(m, value)), m.or(exact, silent)),
        () => {
          m.write(dst, shape.bits(m, rounded));
        },
        () => {
          exactly(m, m.or(m.shl(control, 8), code), dst, src, source);
        },
      );
    },
  };
}

/** DPPS, DPPD: by the helper. */
function dotProduct(shape: Shape, opcode: string): Instruction {
  const code = sseCode(`dp${shape.suffix}`);
  return {
    name: `DP${shape.suffix.toUpperCase()}`,
    forms: [`66 0F 3A ${opcode} /r Vdq,Wdq,Ib`],
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const source = readAligned(m, src);
      exactly(m, m.or(m.shl(m.read(immediate), 8), code), dst, src, source);
    },
  };
}

export const SSE41: readonly Instruction[] = [
  sse41("PMULDQ", "28", multiplyEven("s")),
  sse41("PCMPEQQ", "29", by("i64x2.eq")),
  sse41("PACKUSDW", "2B", by("i16x8.narrow_i32x4_u")),
  sse41("PMINSB", "38", by("i8x16.min_s")),
  sse41("PMINSD", "39", by("i32x4.min_s")),
  sse41("PMINUW", "3A", by("i16x8.min_u")),
  sse41("PMINUD", "3B", by("i32x4.min_u")),
  sse41("PMAXSB", "3C", by("i8x16.max_s")),
  sse41("PMAXSD", "3D", by("i32x4.max_s")),
  sse41("PMAXUW", "3E", by("i16x8.max_u")),
  sse41("PMAXUD", "3F", by("i32x4.max_u")),
  sse41("PMULLD", "40", by("i32x4.mul")),
  sse41("PHMINPOSUW", "41", leastWord),
  ...extensions("PMOVSX", 0x20, "s"),
  ...extensions("PMOVZX", 0x30, "u"),
  blendVariable("PBLENDVB", "10", "i8x16", 8),
  blendVariable("BLENDVPS", "14", "i32x4", 32),
  blendVariable("BLENDVPD", "15", "i64x2", 64),
  withImmediate("BLENDPS", "0C", blend(4)),
  withImmediate("BLENDPD", "0D", blend(8)),
  withImmediate("PBLENDW", "0E", blend(2)),
  withImmediate("MPSADBW", "42", sumOfWindows),
  {
    name: "MOVNTDQA",
    forms: ["66 0F 38 2A /r Vdq,Mdq"],
    feature: FEATURE,
    effect(m, dst, src) {
      sseGuard(m);
      m.write(dst, readAligned(m, src));
    },
  },
  { name: "PTEST", forms: ["66 0F 38 17 /r Vdq,Wdq"], feature: FEATURE, effect: testBits },
  insert("PINSRB", ["66 0F 3A 20 /r Vdq,Mb,Ib", "66 0F 3A 20 /r Vdq,Rd,Ib"], 1),
  insert("PINSRD", ["66 0F 3A 22 /r Vdq,Ey,Ib"], 4),
  {
    name: "INSERTPS",
    forms: ["66 0F 3A 21 /r Vdq,Md,Ib", "66 0F 3A 21 /r Vdq,Udq,Ib"],
    feature: FEATURE,
    effect: insertPs,
  },
  extract("PEXTRB", ["66 0F 3A 14 /r Mb,Vdq,Ib", "66 0F 3A 14 /r Rd,Vdq,Ib"], 1),
  extract("PEXTRD", ["66 0F 3A 16 /r Ey,Vdq,Ib"], 4),
  extract("EXTRACTPS", ["66 0F 3A 17 /r Ed,Vdq,Ib"], 4),
  ...SHAPES.map((shape, i) => rounding(shape, ["08", "09", "0A", "0B"][i] ?? "")),
  dotProduct(PS, "40"),
  dotProduct(PD, "41"),
];
