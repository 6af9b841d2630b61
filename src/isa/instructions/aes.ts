/**
 * AES-NI [SDM 2; SDM 1 §12.13; FIPS 197]. A vector is the cipher's state, four columns of four bytes. The S-boxes are
 * looked up sixteen bytes at a time, without a memory access: one swizzle for each value of the high four bits.
 */

import type { Instruction } from "../instruction.ts";
import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { type Compute, xmm } from "./sse-integer.ts";
import { bytes, readAligned, sseGuard, words32 } from "./sse-operands.ts";

const FEATURE = "aes";
/** The field's polynomial, x^8 + x^4 + x^3 + x + 1, without its highest term [FIPS 197 §4.2]. */
const REDUCTION = 0x1b;

/** Product in GF(2^8). */
function product(a: number, b: number): number {
  let sum = 0;
  for (let bit = 7; bit >= 0; bit--) {
    sum = ((sum << 1) ^ ((sum & 0x80) !== 0 ? REDUCTION : 0) ^ (((b >> bit) & 1) !== 0 ? a : 0)) & 0xff;
  }
  return sum;
}

/** The inverse in the field, then an affine transformation [FIPS 197 §5.1.1]. */
const S_BOX = Uint8Array.from({ length: 256 }, (_, value) => {
  // value^254 is the inverse of value, and 0 for 0.
  let inverse = 1;
  for (let i = 0; i < 254; i++) inverse = product(inverse, value);
  const rotated = [1, 2, 3, 4].map((count) => (inverse << count) | (inverse >> (8 - count)));
  return rotated.reduce((sum, term) => sum ^ term, inverse ^ 0x63) & 0xff;
});
const INVERSE_S_BOX = Uint8Array.from({ length: 256 }, (_, value) => S_BOX.indexOf(value));

/** Every byte's entry in a table of 256. */
function lookUp(m: Semantics, table: Uint8Array, vector: Value): Value {
  let found: Value | undefined;
  for (let high = 0; high < 256; high += 16) {
    // A byte with other high bits gives an index of 16 or more, and with that 0.
    const index = high === 0 ? vector : m.op("v128.xor", vector, m.v128(bytes(() => high)));
    const part = m.op("i8x16.swizzle", m.v128(table.subarray(high, high + 16)), index);
    found = found === undefined ? part : m.op("v128.or", found, part);
  }
  return found ?? vector;
}

function shuffled(m: Semantics, vector: Value, rule: (index: number) => number): Value {
  return m.lanes("i8x16.shuffle", [...bytes(rule)], vector, vector);
}

/** Row r of the state moved by r columns, to the left for `direction` 1. */
function shiftRows(m: Semantics, vector: Value, direction: 1 | -1): Value {
  return shuffled(m, vector, (i) => ((((i >> 2) + direction * (i & 3)) & 3) << 2) | (i & 3));
}

/** Every byte of a column replaced by the one `rows` below it. */
function rotateColumns(m: Semantics, vector: Value, rows: number): Value {
  return shuffled(m, vector, (i) => (i & ~3) | ((i + rows) & 3));
}

/** Every byte times x. */
function double(m: Semantics, vector: Value): Value {
  const reduction = m.op("v128.and", m.op("i8x16.shr_s", vector, m.i32(7)), m.v128(bytes(() => REDUCTION)));
  return m.op("v128.xor", m.op("i8x16.shl", vector, m.i32(1)), reduction);
}

/** 2, 3, 1, 1 times the bytes of a column, from each of its rows on [FIPS 197 §5.1.3]. */
function mixColumns(m: Semantics, vector: Value): Value {
  const next = rotateColumns(m, vector, 1);
  const doubled = double(m, m.op("v128.xor", vector, next));
  const others = m.op("v128.xor", rotateColumns(m, vector, 2), rotateColumns(m, vector, 3));
  return m.op("v128.xor", doubled, m.op("v128.xor", next, others));
}

/** 14, 11, 13, 9 times: the same after adding 4 times the sum of every other byte [FIPS 197 §5.3.3]. */
function inverseMixColumns(m: Semantics, vector: Value): Value {
  const sum = m.op("v128.xor", vector, rotateColumns(m, vector, 2));
  return mixColumns(m, m.op("v128.xor", vector, double(m, double(m, sum))));
}

/** A round of encryption or decryption: the destination is the state, the source the round's key. */
function round(direction: 1 | -1, last: boolean): Compute {
  return (m, state, key) => {
    const replaced = lookUp(m, direction === 1 ? S_BOX : INVERSE_S_BOX, shiftRows(m, state, direction));
    if (last) return m.op("v128.xor", replaced, key);
    return m.op("v128.xor", direction === 1 ? mixColumns(m, replaced) : inverseMixColumns(m, replaced), key);
  };
}

/** AESKEYGENASSIST's bytes: words 1 and 3, each as it is and rotated by a byte. */
const KEY_BYTES = [4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12];

export const AES: readonly Instruction[] = [
  xmm("AESIMC", "66 0F 38 DB", (m, _a, b) => inverseMixColumns(m, b), FEATURE),
  xmm("AESENC", "66 0F 38 DC", round(1, false), FEATURE),
  xmm("AESENCLAST", "66 0F 38 DD", round(1, true), FEATURE),
  xmm("AESDEC", "66 0F 38 DE", round(-1, false), FEATURE),
  xmm("AESDECLAST", "66 0F 38 DF", round(-1, true), FEATURE),
  {
    name: "AESKEYGENASSIST",
    forms: ["66 0F 3A DF /r Vdq,Wdq,Ib"],
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const replaced = lookUp(m, S_BOX, readAligned(m, src));
      const words = shuffled(m, replaced, (i) => KEY_BYTES[i] ?? 0);
      const constant = m.op("i32x4.splat", m.read(immediate));
      m.write(dst, m.op("v128.xor", words, m.op("v128.and", constant, m.v128(words32([0, -1, 0, -1])))));
    },
  },
];
