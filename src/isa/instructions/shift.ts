/**
 * Shifts and rotates [SDM 2, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD].
 *
 * The count is taken modulo 32, or 64 for 64-bit operands; a count of 0 changes no flag, but still writes the
 * destination, so that a 32-bit one clears the upper half. OF is defined for a count of 1 only, which has forms of its
 * own; the formulas here give for other counts what the last single step would.
 */

import { AF, CF, OF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Bits, Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { byte } from "./data.ts";

interface Outcome {
  readonly result: Value;
  readonly cf: Value;
  readonly of: Value;
}
/** `count` is of the operand's type and not 0 where `flags` is asked for. */
interface Shift {
  result(m: Semantics, a: Value, count: Value, bits: Bits): Value;
  flags(m: Semantics, a: Value, count: Value, bits: Bits, result: Value): Omit<Outcome, "result">;
}

/** The top bit of an operand-sized value, as 0 or 1 (i32). */
function top(m: Semantics, value: Value, bits: Bits): Value {
  return m.and(m.resize(m.shrU(value, bits - 1), "i32"), 1);
}
/** Bit `at` of a value (i32); `at` is of the same type. */
function bitAt(m: Semantics, value: Value, at: Value): Value {
  return m.and(m.resize(m.shrU(value, at), "i32"), 1);
}
/** The masked count of a shift of `bits`, in the operand's type. */
function countOf(m: Semantics, count: Operand, bits: Bits): Value {
  return m.fit(m.and(m.fit(m.read(count), 32), bits === 64 ? 0x3f : 0x1f), bits);
}

const SHL: Shift = {
  result: (m, a, count) => m.shl(a, count),
  flags(m, a, count, bits, result) {
    // Bit `bits` of the shifted value, found from the other side where the type has no such bit.
    const cf = bits < 32 ? m.and(m.shrU(result, bits), 1) : bitAt(m, a, m.sub(m.constant(a.type, bits), count));
    return { cf, of: m.xor(top(m, result, bits), cf) };
  },
};
const SHR: Shift = {
  result: (m, a, count) => m.shrU(a, count),
  flags: (m, a, count, bits) => ({ cf: bitAt(m, a, m.sub(count, 1)), of: top(m, a, bits) }),
};
const SAR: Shift = {
  result: (m, a, count, bits) => m.shrS(m.signExtend(a, bits), count),
  flags: (m, a, count, bits) => ({ cf: bitAt(m, m.signExtend(a, bits), m.sub(count, 1)), of: m.i32(0) }),
};

function shiftForms(digits: readonly number[], counts: "one" | "more"): string[] {
  return digits.flatMap((digit) =>
    counts === "one"
      ? [`D0 /${digit} Eb,1`, `D1 /${digit} Ev,1`]
      : [`C0 /${digit} Eb,Ib`, `C1 /${digit} Ev,Ib`, `D2 /${digit} Eb,CL`, `D3 /${digit} Ev,CL`],
  );
}

function shift(name: string, digits: readonly number[], kind: Shift): Instruction[] {
  const setFlags = (m: Semantics, a: Value, count: Value, bits: Bits, result: Value): void => {
    m.flagsOf(bits, result, kind.flags(m, a, count, bits, result));
  };
  return [
    {
      name: `${name} 1`,
      forms: shiftForms(digits, "one"),
      undefinedFlags: AF,
      effect(m, dst) {
        const a = m.readModify(dst);
        const one = m.constant(a.type, 1);
        const result = kind.result(m, a, one, dst.bits);
        m.write(dst, result);
        setFlags(m, a, one, dst.bits, result);
      },
    },
    {
      name,
      forms: shiftForms(digits, "more"),
      undefinedFlags: AF | OF,
      counts: true,
      effect(m, dst, src) {
        const a = m.readModify(dst);
        const count = countOf(m, src, dst.bits);
        const result = kind.result(m, a, count, dst.bits);
        m.write(dst, result);
        if (src.nonZero === true) setFlags(m, a, count, dst.bits, result);
        else m.when(m.ne(count, 0), () => setFlags(m, a, count, dst.bits, result));
      },
    },
  ];
}

// --- rotates: only CF and OF change ---

/** An 8- or 16-bit value repeated over 32 bits, so that rotating the whole rotates each. */
function repeated(m: Semantics, a: Value, bits: Bits): Value {
  if (bits >= 32) return a;
  const twice = bits === 8 ? m.or(a, m.shl(a, 8)) : a;
  return m.or(twice, m.shl(twice, 16));
}

const ROL: Shift = {
  result: (m, a, count, bits) => m.zeroExtend(m.rotl(repeated(m, a, bits), count), bits),
  flags(m, _a, _count, bits, result) {
    const cf = m.and(m.resize(result, "i32"), 1);
    return { cf, of: m.xor(cf, top(m, result, bits)) };
  },
};
const ROR: Shift = {
  result: (m, a, count, bits) => m.zeroExtend(m.rotr(repeated(m, a, bits), count), bits),
  flags(m, _a, _count, bits, result) {
    const cf = top(m, result, bits);
    return { cf, of: m.xor(cf, m.and(m.resize(m.shrU(result, bits - 2), "i32"), 1)) };
  },
};

function rotate(name: string, digit: number, kind: Shift): Instruction[] {
  const setFlags = (m: Semantics, a: Value, count: Value, bits: Bits, result: Value): void => {
    const { cf, of } = kind.flags(m, a, count, bits, result);
    m.setCarryAndOverflow(cf, of);
  };
  return [
    {
      name: `${name} 1`,
      forms: shiftForms([digit], "one"),
      effect(m, dst) {
        const a = m.readModify(dst);
        const one = m.constant(a.type, 1);
        const result = kind.result(m, a, one, dst.bits);
        m.write(dst, result);
        setFlags(m, a, one, dst.bits, result);
      },
    },
    {
      name,
      forms: shiftForms([digit], "more"),
      undefinedFlags: OF,
      effect(m, dst, src) {
        const a = m.readModify(dst);
        const count = countOf(m, src, dst.bits);
        const result = kind.result(m, a, count, dst.bits);
        m.write(dst, result);
        // The flags go by the masked count, though an 8-bit rotate by 8 changes nothing.
        m.when(m.ne(count, 0), () => setFlags(m, a, count, dst.bits, result));
      },
    },
  ];
}

/** RCL and RCR rotate CF and the operand together: bits + 1 places. `count` is not 0 and at most bits. */
function rotateThroughCarry(m: Semantics, left: boolean, a: Value, count: Value, bits: Bits): Outcome {
  const carry = m.fit(m.carry(), 64);
  let result: Value;
  let cf: Value;
  if (bits === 64) {
    const rest = m.sub(m.i64(64), count);
    const less = m.sub(count, 1);
    if (left) {
      result = m.or(m.or(m.shl(a, count), m.shl(carry, less)), m.shrU(m.shrU(a, 1), rest));
      cf = bitAt(m, a, rest);
    } else {
      result = m.or(m.or(m.shrU(a, count), m.shl(carry, rest)), m.shl(m.shl(a, 1), rest));
      cf = bitAt(m, a, less);
    }
  } else {
    const whole = m.or(m.shl(carry, bits), m.fit(a, 64));
    const n = m.fit(count, 64);
    const rest = m.sub(m.i64(bits + 1), n);
    const rotated = left ? m.or(m.shl(whole, n), m.shrU(whole, rest)) : m.or(m.shrU(whole, n), m.shl(whole, rest));
    result = m.zeroExtend(m.fit(rotated, bits), bits);
    cf = m.and(m.resize(m.shrU(rotated, bits), "i32"), 1);
  }
  const high = top(m, result, bits);
  const next = m.and(m.resize(m.shrU(result, bits - 2), "i32"), 1);
  return { result, cf, of: m.xor(high, left ? cf : next) };
}

function carryRotate(name: string, digit: number, left: boolean): Instruction[] {
  return [
    {
      name: `${name} 1`,
      forms: shiftForms([digit], "one"),
      effect(m, dst) {
        const a = m.readModify(dst);
        const { result, cf, of } = rotateThroughCarry(m, left, a, m.constant(a.type, 1), dst.bits);
        m.write(dst, result);
        m.setCarryAndOverflow(cf, of);
      },
    },
    {
      name,
      forms: shiftForms([digit], "more"),
      undefinedFlags: OF,
      effect(m, dst, src) {
        const { bits } = dst;
        const a = m.readModify(dst);
        const masked = countOf(m, src, bits);
        const count = bits < 32 ? m.op("i32.rem_u", masked, m.i32(bits + 1)) : masked;
        m.when(
          m.ne(count, 0),
          () => {
            const { result, cf, of } = rotateThroughCarry(m, left, a, count, bits);
            m.write(dst, result);
            m.setCarryAndOverflow(cf, of);
          },
          () => m.write(dst, a),
        );
      },
    },
  ];
}

// --- double shifts ---

/** `count` is not 0. A 16-bit count above 16 takes more bits of the destination, as processors do. */
function doubleShift(m: Semantics, left: boolean, a: Value, b: Value, count: Value, bits: Bits): Outcome {
  let result: Value;
  let cf: Value;
  if (bits === 64) {
    const rest = m.sub(m.i64(64), count);
    result = left ? m.or(m.shl(a, count), m.shrU(b, rest)) : m.or(m.shrU(a, count), m.shl(b, rest));
    cf = bitAt(m, a, left ? rest : m.sub(count, 1));
  } else {
    const wide = (value: Value) => m.fit(value, 64);
    const n = wide(count);
    // In the order from high to low: left a:b, right b:a; for 16 bits a:b:a.
    const whole =
      bits === 16
        ? m.or(m.or(m.shl(wide(a), 32), m.shl(wide(b), 16)), wide(a))
        : m.or(m.shl(wide(left ? a : b), 32), wide(left ? b : a));
    const shifted = left ? m.shrU(m.shl(whole, n), 32) : m.shrU(whole, n);
    result = m.zeroExtend(m.fit(shifted, bits), bits);
    cf = left ? bitAt(m, whole, m.sub(m.i64(bits + 32), n)) : bitAt(m, whole, m.sub(n, 1));
  }
  return { result, cf, of: m.xor(top(m, result, bits), top(m, a, bits)) };
}

function doubleShiftInstruction(name: string, opcode: number, left: boolean): Instruction {
  return {
    name,
    forms: [`0F ${byte(opcode)} /r Ev,Gv,Ib`, `0F ${byte(opcode + 1)} /r Ev,Gv,CL`],
    // For 16 bits and a count above 16 the result and all flags are undefined, CF among them.
    undefinedFlags: AF | OF | CF,
    effect(m, dst, src, by) {
      const { bits } = dst;
      const a = m.readModify(dst);
      const b = m.read(src);
      const count = countOf(m, by, bits);
      m.when(
        m.ne(count, 0),
        () => {
          const { result, cf, of } = doubleShift(m, left, a, b, count, bits);
          m.write(dst, result);
          m.flagsOf(bits, result, { cf, of });
        },
        () => m.write(dst, a),
      );
    },
  };
}

export const SHIFT: readonly Instruction[] = [
  ...shift("SHL", [4, 6], SHL),
  ...shift("SHR", [5], SHR),
  ...shift("SAR", [7], SAR),
  ...rotate("ROL", 0, ROL),
  ...rotate("ROR", 1, ROR),
  ...carryRotate("RCL", 2, true),
  ...carryRotate("RCR", 3, false),
  doubleShiftInstruction("SHLD", 0xa4, true),
  doubleShiftInstruction("SHRD", 0xac, false),
];
