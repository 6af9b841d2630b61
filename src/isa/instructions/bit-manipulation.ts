/**
 * BMI1 and BMI2 but for TZCNT: three-operand instructions on general registers with VEX prefixes [SDM 2; SDM 1 §5.1.16].
 * Their operands have 32 or 64 bits; OF is cleared wherever flags are set.
 */

import { AF, PF, SF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { RDX, type Semantics, typeOf } from "../semantics.ts";
import { multiplyHigh } from "./wide.ts";

/** ANDN: the second source without the bits of the first. */
function andNot(m: Semantics, dst: Operand, first: Operand, second: Operand): void {
  const result = m.and(m.not(m.read(first)), m.read(second));
  m.write(dst, result);
  m.flagsOf(dst.bits, result, {});
}

/** BLSI, BLSR, BLSMSK: something about the lowest bit set. `carry` says CF's value from whether the source is 0. */
function lowestBit(
  name: string,
  digit: number,
  compute: (m: Semantics, value: Value) => Value,
  carry: "zero" | "not zero",
): Instruction {
  return {
    name,
    forms: [`VEX NP 0F 38 F3 /${digit} By,Ey`],
    undefinedFlags: AF | PF,
    feature: "bmi1",
    effect(m, dst, src) {
      const value = m.read(src);
      const result = compute(m, value);
      m.write(dst, result);
      m.flagsOf(dst.bits, result, { cf: carry === "zero" ? m.isZero(value) : m.ne(value, 0) });
    },
  };
}

/** The low `count` bits set; all of them where `count` (i32, unsigned) is the width or more. */
function lowMask(m: Semantics, bits: Operand["bits"], count: Value): Value {
  const type = typeOf(bits);
  const below = m.sub(m.shl(m.constant(type, 1), m.fit(count, bits)), 1);
  return m.select(m.ltU(count, bits), below, m.constant(type, -1));
}

/** BEXTR: as many bits as byte 1 of the control says, from the one that byte 0 says. */
function extractField(m: Semantics, dst: Operand, src: Operand, control: Operand): void {
  const value = m.read(src);
  const field = m.resize(m.read(control), "i32");
  const start = m.and(field, 0xff);
  const length = m.and(m.shrU(field, 8), 0xff);
  const inside = m.shrU(value, m.fit(start, dst.bits));
  const moved = m.select(m.ltU(start, dst.bits), inside, m.constant(value.type, 0));
  const result = m.and(moved, lowMask(m, dst.bits, length));
  m.write(dst, result);
  m.flagsOf(dst.bits, result, {});
}

/** BZHI: the bits below the one whose number is in the control's low byte. CF: that number is beyond the operand. */
function zeroHigh(m: Semantics, dst: Operand, src: Operand, control: Operand): void {
  const value = m.read(src);
  const count = m.and(m.resize(m.read(control), "i32"), 0xff);
  const result = m.and(value, lowMask(m, dst.bits, count));
  m.write(dst, result);
  m.flagsOf(dst.bits, result, { cf: m.geU(count, dst.bits) });
}

/** MULX: the product with rDX, its upper half to the first operand; where both are one register, that is what stays. */
function multiply(m: Semantics, high: Operand, low: Operand, src: Operand): void {
  const a = m.gpr(RDX, high.bits);
  const b = m.read(src);
  if (high.bits === 64) {
    const top = multiplyHigh(m, a, b, false);
    m.write(low, m.mul(a, b));
    m.write(high, top);
    return;
  }
  const product = m.mul(m.fit(a, 64), m.fit(b, 64));
  m.write(low, m.fit(product, 32));
  m.write(high, m.fit(m.shrU(product, 32), 32));
}

/**
 * The steps by which PEXT moves the bits under a mask together, and PDEP apart: step i moves some of them by 2^i places
 * [H. S. Warren, Hacker's Delight, "compress" and "expand"]. Gives the bits that each step moves.
 */
function moves(m: Semantics, mask: Value): Value[] {
  const steps = mask.type === "i64" ? 6 : 5;
  const found: Value[] = [];
  let rest = mask;
  // Bits to whose right there is a 0 of the mask: counted by parity, one binary digit a step.
  let zeros = m.shl(m.not(mask), 1);
  for (let step = 0; step < steps; step++) {
    let parity = zeros;
    for (let i = 0; i < steps; i++) parity = m.xor(parity, m.shl(parity, 1 << i));
    const moved = m.and(parity, rest);
    found.push(moved);
    rest = m.or(m.xor(rest, moved), m.shrU(moved, 1 << step));
    zeros = m.and(zeros, m.not(parity));
  }
  return found;
}

function parallelExtract(m: Semantics, dst: Operand, src: Operand, control: Operand): void {
  const mask = m.read(control);
  let value = m.and(m.read(src), mask);
  for (const [step, bits] of moves(m, mask).entries()) {
    const moved = m.and(value, bits);
    value = m.or(m.xor(value, moved), m.shrU(moved, 1 << step));
  }
  m.write(dst, value);
}

function parallelDeposit(m: Semantics, dst: Operand, src: Operand, control: Operand): void {
  const mask = m.read(control);
  let value = m.read(src);
  for (const [step, bits] of [...moves(m, mask).entries()].reverse()) {
    value = m.or(m.and(value, m.not(bits)), m.and(m.shl(value, 1 << step), bits));
  }
  m.write(dst, m.and(value, mask));
}

/** SARX, SHLX, SHRX: the count is taken modulo the operand's width, and no flag changes. */
function shift(
  name: string,
  prefix: string,
  compute: (m: Semantics, value: Value, count: Value) => Value,
): Instruction {
  return {
    name,
    forms: [`VEX ${prefix} 0F 38 F7 /r Gy,Ey,By`],
    feature: "bmi2",
    effect: (m, dst, src, count) => m.write(dst, compute(m, m.read(src), m.read(count))),
  };
}

export const BIT_MANIPULATION: readonly Instruction[] = [
  {
    name: "ANDN",
    forms: ["VEX NP 0F 38 F2 /r Gy,By,Ey"],
    undefinedFlags: AF | PF,
    feature: "bmi1",
    effect: andNot,
  },
  {
    name: "BEXTR",
    forms: ["VEX NP 0F 38 F7 /r Gy,Ey,By"],
    undefinedFlags: AF | SF | PF,
    feature: "bmi1",
    effect: extractField,
  },
  lowestBit("BLSR", 1, (m, value) => m.and(value, m.sub(value, 1)), "zero"),
  lowestBit("BLSMSK", 2, (m, value) => m.xor(value, m.sub(value, 1)), "zero"),
  lowestBit("BLSI", 3, (m, value) => m.and(value, m.sub(m.constant(value.type, 0), value)), "not zero"),
  {
    name: "BZHI",
    forms: ["VEX NP 0F 38 F5 /r Gy,Ey,By"],
    undefinedFlags: AF | PF,
    feature: "bmi2",
    effect: zeroHigh,
  },
  { name: "MULX", forms: ["VEX F2 0F 38 F6 /r Gy,By,Ey"], feature: "bmi2", effect: multiply },
  { name: "PDEP", forms: ["VEX F2 0F 38 F5 /r Gy,By,Ey"], feature: "bmi2", effect: parallelDeposit },
  { name: "PEXT", forms: ["VEX F3 0F 38 F5 /r Gy,By,Ey"], feature: "bmi2", effect: parallelExtract },
  {
    name: "RORX",
    forms: ["VEX F2 0F 3A F0 /r Gy,Ey,Ib"],
    feature: "bmi2",
    effect(m, dst, src, count) {
      const value = m.read(src);
      m.write(dst, m.rotr(value, m.fit(m.read(count), dst.bits)));
    },
  },
  shift("SARX", "F3", (m, value, count) => m.shrS(value, count)),
  shift("SHLX", "66", (m, value, count) => m.shl(value, count)),
  shift("SHRX", "F2", (m, value, count) => m.shrU(value, count)),
];
