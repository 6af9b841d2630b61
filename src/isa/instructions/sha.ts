/**
 * SHA-1 and SHA-256: rounds and message schedules [SDM 2; SDM 1 §12.20; FIPS 180-4]. Lane 3 is the manual's first word.
 * Operands in memory must be aligned, though AMD's processors take them as they come.
 */

import type { Instruction } from "../instruction.ts";
import type { Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { xmmOffset } from "../state.ts";
import type { Compute } from "./sse-integer.ts";
import { bytes, readAligned, sseGuard, XMM_UNIT } from "./sse-operands.ts";

const FEATURE = "sha";

function sha(name: string, opcode: string, compute: Compute): Instruction {
  return {
    name,
    forms: [`NP 0F 38 ${opcode} /r Vdq,Wdq`],
    feature: FEATURE,
    effect(m, dst, src) {
      sseGuard(m);
      const b = readAligned(m, src);
      m.write(dst, compute(m, m.read(dst), b, XMM_UNIT));
    },
  };
}

type Words = readonly [Value, Value, Value, Value];

/** The four 32-bit lanes, the lowest first. */
function lanesOf(m: Semantics, vector: Value): Words {
  const lane = (index: number) => m.lanes("i32x4.extract_lane", [index], vector);
  return [lane(0), lane(1), lane(2), lane(3)];
}
function fromLanes(m: Semantics, words: Words): Value {
  const [first, ...rest] = words;
  return rest.reduce(
    (vector, word, i) => m.lanes("i32x4.replace_lane", [i + 1], vector, word),
    m.op("i32x4.splat", first),
  );
}

/** f(x, y, z) of the rounds [FIPS 180-4 §4.1]. */
function choice(m: Semantics, x: Value, y: Value, z: Value): Value {
  return m.xor(m.and(x, m.xor(y, z)), z);
}
function majority(m: Semantics, x: Value, y: Value, z: Value): Value {
  return m.or(m.and(x, y), m.and(z, m.or(x, y)));
}
function parity(m: Semantics, x: Value, y: Value, z: Value): Value {
  return m.xor(m.xor(x, y), z);
}

function rotations(m: Semantics, word: Value, counts: readonly [number, number, number]): Value {
  const [a, b, c] = counts;
  return m.xor(m.xor(m.rotr(word, a), m.rotr(word, b)), m.rotr(word, c));
}

// --- SHA-1 ---

/** K for each twenty rounds [FIPS 180-4 §4.2.1]. */
const SHA1_CONSTANTS = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6];

/** SHA1RNDS4 by bits 1:0 of the immediate, which say which twenty rounds these are. E is in the first word already. */
function sha1Rounds(m: Semantics, state: Value, words: Value, immediate: Value): Value {
  let [d, c, b, a] = lanesOf(m, state);
  const w = [...lanesOf(m, words)].reverse();
  const kind = m.and(immediate, 3);
  const constant = SHA1_CONSTANTS.reduceRight(
    (other, k, index) => m.select(m.eq(kind, index), m.i32(k), other),
    m.i32(0),
  );
  let e: Value | undefined;
  for (const word of w) {
    const odd = m.and(kind, 1);
    const even = m.select(kind, majority(m, b, c, d), choice(m, b, c, d));
    const f = m.select(odd, parity(m, b, c, d), even);
    const sum = m.add(m.add(m.add(f, m.rotl(a, 5)), word), constant);
    const next = e === undefined ? sum : m.add(sum, e);
    e = d;
    d = c;
    c = m.rotl(b, 30);
    b = a;
    a = next;
  }
  return fromLanes(m, [d, c, b, a]);
}

const sha1NextE: Compute = (m, a, b) => {
  const rotated = m.rotl(m.lanes("i32x4.extract_lane", [3], a), 30);
  const zero = m.v128(new Uint8Array(16));
  return m.op("i32x4.add", b, m.lanes("i32x4.replace_lane", [3], zero, rotated));
};

/** Each word with the one two places on: the destination's lower half follows the source's upper half. */
const sha1Message1: Compute = (m, a, b) => {
  const later = m.lanes("i8x16.shuffle", [...bytes((i) => i + 8)], b, a);
  return m.op("v128.xor", a, later);
};

const sha1Message2: Compute = (m, a, b) => {
  const [a0, a1, a2, a3] = lanesOf(m, a);
  const [b0, b1, b2] = lanesOf(m, b);
  const w16 = m.rotl(m.xor(a3, b2), 1);
  return fromLanes(m, [m.rotl(m.xor(a0, w16), 1), m.rotl(m.xor(a1, b0), 1), m.rotl(m.xor(a2, b1), 1), w16]);
};

// --- SHA-256 ---

/** Two rounds; XMM0 holds the message's words with their constants added. */
function sha256Rounds(m: Semantics, cdgh: Value, abef: Value): Value {
  const message = m.state(xmmOffset(0), 128);
  let [h, g, d, c] = lanesOf(m, cdgh);
  let [f, e, b, a] = lanesOf(m, abef);
  for (const round of [0, 1]) {
    const word = m.lanes("i32x4.extract_lane", [round], message);
    const t1 = m.add(m.add(m.add(choice(m, e, f, g), rotations(m, e, [6, 11, 25])), word), h);
    const t2 = m.add(majority(m, a, b, c), rotations(m, a, [2, 13, 22]));
    [h, g, f, e] = [g, f, e, m.add(t1, d)];
    [d, c, b, a] = [c, b, a, m.add(t1, t2)];
  }
  return fromLanes(m, [f, e, b, a]);
}

/** The small sigmas of the schedule: two rotations and a shift. */
function sigma(m: Semantics, word: Value, [a, b, shift]: readonly [number, number, number]): Value {
  return m.xor(m.xor(m.rotr(word, a), m.rotr(word, b)), m.shrU(word, shift));
}
const SIGMA0 = [7, 18, 3] as const;
const SIGMA1 = [17, 19, 10] as const;

const sha256Message1: Compute = (m, a, b) => {
  const [w0, w1, w2, w3] = lanesOf(m, a);
  const w4 = m.lanes("i32x4.extract_lane", [0], b);
  const next = (word: Value, after: Value) => m.add(word, sigma(m, after, SIGMA0));
  return fromLanes(m, [next(w0, w1), next(w1, w2), next(w2, w3), next(w3, w4)]);
};

const sha256Message2: Compute = (m, a, b) => {
  const [a0, a1, a2, a3] = lanesOf(m, a);
  const [, , w14, w15] = lanesOf(m, b);
  const w16 = m.add(a0, sigma(m, w14, SIGMA1));
  const w17 = m.add(a1, sigma(m, w15, SIGMA1));
  return fromLanes(m, [w16, w17, m.add(a2, sigma(m, w16, SIGMA1)), m.add(a3, sigma(m, w17, SIGMA1))]);
};

export const SHA: readonly Instruction[] = [
  sha("SHA1NEXTE", "C8", sha1NextE),
  sha("SHA1MSG1", "C9", sha1Message1),
  sha("SHA1MSG2", "CA", sha1Message2),
  sha("SHA256RNDS2", "CB", sha256Rounds),
  sha("SHA256MSG1", "CC", sha256Message1),
  sha("SHA256MSG2", "CD", sha256Message2),
  {
    name: "SHA1RNDS4",
    forms: ["NP 0F 3A CC /r Vdq,Wdq,Ib"],
    feature: FEATURE,
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const words = readAligned(m, src);
      m.write(dst, sha1Rounds(m, m.read(dst), words, m.read(immediate)));
    },
  },
];
