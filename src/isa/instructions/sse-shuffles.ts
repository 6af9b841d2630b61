/**
 * Packing, unpacking, shuffling, insertion and extraction [SDM 2; SDM 1 §9.4.4, §10.4.4, §11.4.2].
 *
 * WebAssembly shuffles by constants, but an immediate is data of the decoded record: shuffles by an immediate become
 * swizzles by byte indices computed from it. A swizzle index from 16 on gives a zero byte.
 */

import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { both, type Compute, xmm } from "./sse-integer.ts";
import {
  bytes,
  enterMmx,
  joinHalves,
  MMX_UNIT,
  mmxGuard,
  readAligned,
  readVector,
  sseGuard,
  type Unit,
  words32,
  writeMmx,
  XMM_UNIT,
} from "./sse-operands.ts";

/** Narrows lanes with saturation: the destination's to the low half, the source's to the high half. */
function pack(op: string): Compute {
  return (m, a, b, unit) => {
    if (!unit.mmx) return m.op(op, a, b);
    const joined = joinHalves(m, a, b, 0);
    return m.op(op, joined, joined);
  };
}

/** Interleaves elements of `size` bytes from the low (0) or high (1) halves. */
function unpack(size: number, half: 0 | 1): Compute {
  const interleave = (start: number) => [
    ...bytes((i) => start + Math.floor(i / (2 * size)) * size + (i % size) + (i % (2 * size) < size ? 0 : 16)),
  ];
  return (m, a, b, unit) => m.lanes("i8x16.shuffle", interleave(half * (unit.mmx ? 4 : 8)), a, b);
}

/** Byte indices of a shuffle of four 32-bit lanes by the pairs of bits of an immediate. */
function doubleIndices(m: Semantics, immediate: Value): Value {
  // Bits 7:6 of the products are the four fields.
  const fields = m.op("i32x4.mul", m.op("i32x4.splat", immediate), m.v128(words32([64, 16, 4, 1])));
  const picked = m.op("v128.and", fields, m.v128(words32([0xc0, 0xc0, 0xc0, 0xc0])));
  // Lane number times 4, repeated in each byte.
  const scaled = m.op("i32x4.shr_u", picked, m.i32(4));
  const repeated = m.op("i32x4.mul", scaled, m.v128(words32([0x1010101, 0x1010101, 0x1010101, 0x1010101])));
  return m.op("v128.or", repeated, m.v128(bytes((i) => i & 3)));
}

/** The same for four 16-bit lanes of the low (0) or high (1) half; the other half keeps its place. */
function wordIndices(m: Semantics, immediate: Value, half: 0 | 1): Value {
  const mine = (i: number) => i >> 3 === half;
  const factors = new Uint8Array(Uint16Array.from([64, 16, 4, 1, 64, 16, 4, 1]).buffer);
  const fields = m.op("i16x8.mul", m.op("i16x8.splat", immediate), m.v128(factors.map((f, i) => (mine(i) ? f : 0))));
  const picked = m.op("v128.and", fields, m.v128(bytes((i) => (i % 2 === 0 ? 0xc0 : 0))));
  const scaled = m.op("i16x8.shr_u", picked, m.i32(5));
  const repeated = m.op("v128.or", scaled, m.op("i16x8.shl", scaled, m.i32(8)));
  return m.op("i8x16.add", repeated, m.v128(bytes((i) => (mine(i) ? half * 8 + (i & 1) : i))));
}

/** A shuffle of one source by indices from the immediate. */
function shuffle(name: string, form: string, indices: (m: Semantics, immediate: Value) => Value): Instruction {
  return {
    name,
    forms: [`${form} /r Vdq,Wdq,Ib`],
    effect(m, dst, src, immediate) {
      sseGuard(m);
      m.write(dst, m.op("i8x16.swizzle", readAligned(m, src), indices(m, m.read(immediate))));
    },
  };
}

/** SHUFPS: two lanes of the destination, then two of the source. */
function shufflePs(m: Semantics, dst: Operand, src: Operand, immediate: Operand): void {
  sseGuard(m);
  const b = readAligned(m, src);
  const indices = doubleIndices(m, m.read(immediate));
  const fromA = m.op("i8x16.swizzle", m.read(dst), indices);
  const fromB = m.op("i8x16.swizzle", b, indices);
  m.write(dst, m.lanes("i8x16.shuffle", [...bytes((i) => (i < 8 ? i : i + 16))], fromA, fromB));
}

/** SHUFPD: one lane of the destination by bit 0, one of the source by bit 1. */
function shufflePd(m: Semantics, dst: Operand, src: Operand, immediate: Operand): void {
  sseGuard(m);
  const b = readAligned(m, src);
  const a = m.read(dst);
  const control = m.read(immediate);
  const pick = (vector: Value, bit: number) => {
    const lane = (n: number) => m.lanes("i64x2.extract_lane", [n], vector);
    return m.select(m.and(control, bit), lane(1), lane(0));
  };
  const low = m.op("i64x2.splat", pick(a, 1));
  m.write(dst, m.lanes("i64x2.replace_lane", [1], low, pick(b, 2)));
}

/** A vector with its 16-bit lane number `immediate` (modulo `lanes`) first. */
function wordAt(m: Semantics, vector: Value, immediate: Value, lanes: 4 | 8): Value {
  const index = m.mul(m.and(immediate, lanes - 1), 0x0202);
  const moved = m.op("i8x16.swizzle", vector, m.op("i16x8.splat", m.add(index, 0x0100)));
  return m.lanes("i16x8.extract_lane_u", [0], moved);
}

/** PEXTRW to a general register, or (SSE4.1) to memory. */
function extractWord(unit: Unit) {
  return (m: Semantics, dst: Operand, src: Operand, immediate: Operand) => {
    unit.guard(m);
    const word = wordAt(m, m.read(src), m.read(immediate), unit.mmx ? 4 : 8);
    m.write(dst, word);
    if (unit.mmx) enterMmx(m);
  };
}

/** PINSRW from a general register or memory. */
function insertWord(unit: Unit) {
  return (m: Semantics, dst: Operand, src: Operand, immediate: Operand) => {
    unit.guard(m);
    const value = m.op("i16x8.splat", m.read(src));
    const place = m.op("i16x8.splat", m.and(m.read(immediate), unit.mmx ? 3 : 7));
    const mask = m.op("i16x8.eq", place, m.v128(bytes((i) => (i % 2 === 0 ? i / 2 : 0))));
    unit.write(m, dst, m.op("v128.bitselect", value, m.read(dst), mask));
  };
}

export const SSE_SHUFFLES: readonly Instruction[] = [
  ...both("PUNPCKLBW", "60", unpack(1, 0), { source: "d" }),
  ...both("PUNPCKLWD", "61", unpack(2, 0), { source: "d" }),
  ...both("PUNPCKLDQ", "62", unpack(4, 0), { source: "d" }),
  ...both("PACKSSWB", "63", pack("i8x16.narrow_i16x8_s")),
  ...both("PACKUSWB", "67", pack("i8x16.narrow_i16x8_u")),
  ...both("PUNPCKHBW", "68", unpack(1, 1)),
  ...both("PUNPCKHWD", "69", unpack(2, 1)),
  ...both("PUNPCKHDQ", "6A", unpack(4, 1)),
  ...both("PACKSSDW", "6B", pack("i16x8.narrow_i32x4_s")),
  xmm("PUNPCKLQDQ", "66 0F 6C", unpack(8, 0)),
  xmm("PUNPCKHQDQ", "66 0F 6D", unpack(8, 1)),
  xmm("UNPCKLPS", "NP 0F 14", unpack(4, 0)),
  xmm("UNPCKLPD", "66 0F 14", unpack(8, 0)),
  xmm("UNPCKHPS", "NP 0F 15", unpack(4, 1)),
  xmm("UNPCKHPD", "66 0F 15", unpack(8, 1)),

  shuffle("PSHUFD", "66 0F 70", doubleIndices),
  shuffle("PSHUFHW", "F3 0F 70", (m, immediate) => wordIndices(m, immediate, 1)),
  shuffle("PSHUFLW", "F2 0F 70", (m, immediate) => wordIndices(m, immediate, 0)),
  {
    name: "PSHUFW",
    forms: ["NP 0F 70 /r Pdq,Qq,Ib"],
    effect(m, dst, src, immediate) {
      mmxGuard(m);
      const value = readVector(m, src);
      writeMmx(m, dst, m.op("i8x16.swizzle", value, wordIndices(m, m.read(immediate), 0)));
    },
  },
  { name: "SHUFPS", forms: ["NP 0F C6 /r Vdq,Wdq,Ib"], effect: shufflePs },
  { name: "SHUFPD", forms: ["66 0F C6 /r Vdq,Wdq,Ib"], effect: shufflePd },

  { name: "PEXTRW", forms: ["66 0F C5 /r Gd,Udq,Ib"], effect: extractWord(XMM_UNIT) },
  { name: "PEXTRW", forms: ["NP 0F C5 /r Gd,Ndq,Ib"], effect: extractWord(MMX_UNIT) },
  {
    name: "PEXTRW",
    forms: ["66 0F 3A 15 /r Mw,Vdq,Ib", "66 0F 3A 15 /r Rd,Vdq,Ib"],
    feature: "sse4_1",
    effect: extractWord(XMM_UNIT),
  },
  { name: "PINSRW", forms: ["66 0F C4 /r Vdq,Mw,Ib", "66 0F C4 /r Vdq,Rd,Ib"], effect: insertWord(XMM_UNIT) },
  { name: "PINSRW", forms: ["NP 0F C4 /r Pdq,Mw,Ib", "NP 0F C4 /r Pdq,Rd,Ib"], effect: insertWord(MMX_UNIT) },
];
