/** The eight ALU operations with their common encoding, and TEST, INC, DEC, NEG, NOT [SDM 2]. */

import { AF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";

/** The encodings that ADD, OR, ADC, SBB, AND, SUB, XOR and CMP share, by their number in it. */
function aluForms(group: number, lock: string): string[] {
  const code = (offset: number) => (group * 8 + offset).toString(16).padStart(2, "0").toUpperCase();
  return [
    `${code(0)} /r Eb,Gb${lock}`,
    `${code(1)} /r Ev,Gv${lock}`,
    `${code(2)} /r Gb,Eb`,
    `${code(3)} /r Gv,Ev`,
    `${code(4)} AL,Ib`,
    `${code(5)} rAX,Iz`,
    `80 /${group} Eb,Ib${lock}`,
    `81 /${group} Ev,Iz${lock}`,
    `82 /${group} Eb,Ib i64${lock}`,
    `83 /${group} Ev,Ibs${lock}`,
  ];
}

type Arithmetic = (m: Semantics, a: Value, b: Value, dst: Operand) => Value;
type Flags = (m: Semantics, a: Value, b: Value, result: Value, dst: Operand) => void;

function alu(name: string, group: number, compute: Arithmetic, flags: Flags, undefinedFlags = 0): Instruction {
  return {
    name,
    forms: aluForms(group, " lock"),
    undefinedFlags,
    effect(m, dst, src) {
      const a = m.readModify(dst);
      const b = m.read(src);
      const result = compute(m, a, b, dst);
      m.write(dst, result);
      flags(m, a, b, result, dst);
    },
  };
}

const addFlags: Flags = (m, a, b, result, dst) => {
  m.flagsAdd(dst.bits, a, b, result);
};
const subFlags: Flags = (m, a, b, result, dst) => {
  m.flagsSub(dst.bits, a, b, result);
};
const logicFlags: Flags = (m, _a, _b, result, dst) => {
  m.flagsLogic(dst.bits, result);
};
/** CF in the type of the other operand. */
const carryLike = (m: Semantics, like: Value) => m.resize(m.carry(), like.type === "i64" ? "i64" : "i32");

export const ALU: readonly Instruction[] = [
  alu("ADD", 0, (m, a, b) => m.add(a, b), addFlags),
  alu("OR", 1, (m, a, b) => m.or(a, b), logicFlags, AF),
  alu("ADC", 2, (m, a, b) => m.add(m.add(a, b), carryLike(m, a)), addFlags),
  alu("SBB", 3, (m, a, b) => m.sub(m.sub(a, b), carryLike(m, a)), subFlags),
  alu("AND", 4, (m, a, b) => m.and(a, b), logicFlags, AF),
  alu("SUB", 5, (m, a, b) => m.sub(a, b), subFlags),
  alu("XOR", 6, (m, a, b) => m.xor(a, b), logicFlags, AF),
  {
    name: "CMP",
    forms: aluForms(7, ""),
    effect(m, dst, src) {
      const a = m.read(dst);
      const b = m.read(src);
      m.flagsSub(dst.bits, a, b, m.sub(a, b));
    },
  },
  {
    name: "TEST",
    forms: [
      "84 /r Eb,Gb",
      "85 /r Ev,Gv",
      "A8 AL,Ib",
      "A9 rAX,Iz",
      "F6 /0 Eb,Ib",
      "F6 /1 Eb,Ib",
      "F7 /0 Ev,Iz",
      "F7 /1 Ev,Iz",
    ],
    undefinedFlags: AF,
    effect(m, a, b) {
      m.flagsLogic(a.bits, m.and(m.read(a), m.read(b)));
    },
  },
  {
    name: "INC",
    forms: ["FE /0 Eb lock", "FF /0 Ev lock", "40+r Zv i64"],
    effect(m, dst) {
      step(m, dst, true);
    },
  },
  {
    name: "DEC",
    forms: ["FE /1 Eb lock", "FF /1 Ev lock", "48+r Zv i64"],
    effect(m, dst) {
      step(m, dst, false);
    },
  },
  {
    name: "NEG",
    forms: ["F6 /3 Eb lock", "F7 /3 Ev lock"],
    effect(m, dst) {
      const a = m.readModify(dst);
      const zero = m.constant(a.type, 0);
      const result = m.sub(zero, a);
      m.write(dst, result);
      m.flagsSub(dst.bits, zero, a, result);
    },
  },
  {
    name: "NOT",
    forms: ["F6 /2 Eb lock", "F7 /2 Ev lock"],
    effect(m, dst) {
      m.write(dst, m.not(m.readModify(dst)));
    },
  },
];

/** INC and DEC: as adding or subtracting 1, but CF stays. */
function step(m: Semantics, dst: Operand, up: boolean): void {
  const a = m.readModify(dst);
  const one = m.constant(a.type, 1);
  const result = up ? m.add(a, one) : m.sub(a, one);
  m.write(dst, result);
  m.flagsStep(up ? "add" : "sub", dst.bits, a, one, result);
}
