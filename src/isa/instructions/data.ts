/** Moves and conversions of integers: MOV and its kin, exchanges, conditional moves [SDM 2]. */

import { AF, CF, PF, SF, ZF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RAX, RBX, RCX, RDX, type Semantics } from "../semantics.ts";
import { gprOffset } from "../state.ts";

/** Conditions by their encoding, under the names that Jcc, SETcc and CMOVcc share [SDM 1 appendix B]. */
export const CONDITIONS = [
  "O",
  "NO",
  "B",
  "AE",
  "E",
  "NE",
  "BE",
  "A",
  "S",
  "NS",
  "P",
  "NP",
  "L",
  "GE",
  "LE",
  "G",
] as const;

/** An opcode byte as the notation writes it. */
export function byte(code: number): string {
  return code.toString(16).toUpperCase().padStart(2, "0");
}

function move(m: Semantics, dst: Operand, src: Operand): void {
  m.write(dst, m.read(src));
}

function zeroExtending(m: Semantics, dst: Operand, src: Operand): void {
  m.write(dst, m.fit(m.read(src), dst.bits));
}

function signExtending(m: Semantics, dst: Operand, src: Operand): void {
  const value = m.read(src);
  m.write(dst, dst.bits === 64 ? m.signExtend64(value, src.bits) : m.fit(m.signExtend(value, src.bits), dst.bits));
}

/** CMOVcc always reads its source, and a 32-bit one always clears the upper half. */
function conditionalMove(code: number): Instruction {
  return {
    name: `CMOV${CONDITIONS[code]}`,
    forms: [`0F ${byte(0x40 + code)} /r Gv,Ev`],
    effect(m, dst, src) {
      const value = m.read(src);
      m.write(dst, m.select(m.condition(code), value, m.read(dst)));
    },
  };
}

function setByte(code: number): Instruction {
  return {
    name: `SET${CONDITIONS[code]}`,
    forms: [`0F ${byte(0x90 + code)} /r Eb`],
    effect(m, dst) {
      m.write(dst, m.condition(code));
    },
  };
}

/** The bytes of a value of `bits` in the opposite order. */
function swapBytes(m: Semantics, value: Value, bits: number): Value {
  if (bits === 16) return m.or(m.shl(value, 8), m.shrU(value, 8));
  if (bits === 32) {
    return m.or(m.and(m.rotl(value, 8), 0x00ff_00ff), m.and(m.rotr(value, 8), 0xff00_ff00 | 0));
  }
  const low = m.fit(swapBytes(m, m.fit(value, 32), 32), 64);
  const high = m.fit(swapBytes(m, m.fit(m.shrU(value, 32), 32), 32), 64);
  return m.or(m.shl(low, 32), high);
}

/** EDX:EAX or such a pair as one i64. */
export function pair(m: Semantics, high: number, low: number): Value {
  return m.or(m.shl(m.fit(m.gpr(high, 32), 64), 32), m.fit(m.gpr(low, 32), 64));
}

function compareExchange(m: Semantics, dst: Operand, src: Operand): void {
  const found = m.readModify(dst);
  const expected = m.gpr(RAX, dst.bits);
  const value = m.read(src);
  const equal = m.eq(expected, found);
  if (dst.kind === "mem") {
    // Memory is written in both cases.
    m.write(dst, m.select(equal, value, found));
    m.when(m.isZero(equal), () => m.setGpr(RAX, dst.bits, found));
  } else {
    // A register is left alone on failure, its upper half included.
    m.when(
      equal,
      () => m.write(dst, value),
      () => m.setGpr(RAX, dst.bits, found),
    );
  }
  m.flagsSub(dst.bits, expected, found, m.sub(expected, found));
}

function compareExchange8(m: Semantics, dst: Operand): void {
  const address = m.address(dst);
  const found = m.loadForWrite(address, 64);
  const equal = m.eq(found, pair(m, RDX, RAX));
  m.store(address, 64, m.select(equal, pair(m, RCX, RBX), found), found);
  m.when(m.isZero(equal), () => {
    m.setGpr(RAX, 32, m.fit(found, 32));
    m.setGpr(RDX, 32, m.fit(m.shrU(found, 32), 32));
  });
  m.setSomeFlags(ZF, m.shl(equal, 6));
}

function compareExchange16(m: Semantics, dst: Operand): void {
  const address = m.address(dst);
  m.requireAligned(address, 16);
  const upper = m.advance(address, 8);
  const low = m.loadForWrite(address, 64);
  const high = m.loadForWrite(upper, 64);
  const equal = m.and(m.eq(low, m.gpr(RAX, 64)), m.eq(high, m.gpr(RDX, 64)));
  m.store(address, 64, m.select(equal, m.gpr(RBX, 64), low), low);
  m.store(upper, 64, m.select(equal, m.gpr(RCX, 64), high), high);
  m.when(m.isZero(equal), () => {
    m.setGpr(RAX, 64, low);
    m.setGpr(RDX, 64, high);
  });
  m.setSomeFlags(ZF, m.shl(equal, 6));
}

/** LAHF and SAHF: in 64-bit mode a feature of their own. */
function flagsByte(name: string, opcode: string, effect: (m: Semantics) => void): Instruction[] {
  return [
    { name, forms: [`${opcode} i64`], effect },
    { name, forms: [`${opcode} o64`], effect, feature: "lahf_lm" },
  ];
}

export const DATA: readonly Instruction[] = [
  {
    name: "MOV",
    forms: [
      "88 /r Eb,Gb",
      "89 /r Ev,Gv",
      "8A /r Gb,Eb",
      "8B /r Gv,Ev",
      "A0 AL,Ob",
      "A1 rAX,Ov",
      "A2 Ob,AL",
      "A3 Ov,rAX",
      "B0+r Zb,Ib",
      "B8+r Zv,Iv",
      "C6 /0 Eb,Ib",
      "C7 /0 Ev,Iz",
    ],
    effect: move,
  },
  { name: "MOVZX", forms: ["0F B6 /r Gv,Eb", "0F B7 /r Gv,Ew"], effect: zeroExtending },
  { name: "MOVSX", forms: ["0F BE /r Gv,Eb", "0F BF /r Gv,Ew"], effect: signExtending },
  { name: "MOVSXD", forms: ["63 /r Gv,Ed o64"], effect: signExtending },
  {
    name: "LEA",
    forms: ["8D /r Gv,M"],
    effect(m, dst, src) {
      m.write(dst, m.fit(m.offset(src), dst.bits));
    },
  },
  {
    name: "XCHG",
    forms: ["86 /r Eb,Gb lock", "87 /r Ev,Gv lock"],
    effect(m, dst, src) {
      const a = m.readModify(dst);
      const b = m.read(src);
      m.write(dst, b);
      m.write(src, a);
    },
  },
  {
    // 90 with RAX itself is NOP, and PAUSE after F3: it must not clear the upper half of RAX.
    name: "XCHG rAX",
    forms: ["90+r Zv,rAX"],
    effect(m, dst, src) {
      m.when(m.ne(m.operandOffset(dst), gprOffset(RAX)), () => {
        const a = m.read(dst);
        const b = m.read(src);
        m.write(dst, b);
        m.write(src, a);
      });
    },
  },
  {
    name: "XADD",
    forms: ["0F C0 /r Eb,Gb lock", "0F C1 /r Ev,Gv lock"],
    effect(m, dst, src) {
      const a = m.readModify(dst);
      const b = m.read(src);
      const sum = m.add(a, b);
      // Memory first; of two registers the destination last, since both may be the same one.
      if (dst.kind === "mem") m.write(dst, sum);
      m.write(src, a);
      if (dst.kind !== "mem") m.write(dst, sum);
      m.flagsAdd(dst.bits, a, b, sum);
    },
  },
  { name: "CMPXCHG", forms: ["0F B0 /r Eb,Gb lock", "0F B1 /r Ev,Gv lock"], effect: compareExchange },
  {
    name: "CMPXCHG8B",
    forms: ["0F C7 /1 M lock"],
    effect(m, dst) {
      if (m.context.operandSize === 64) compareExchange16(m, dst);
      else compareExchange8(m, dst);
    },
    uses: ["long"],
    wideFeature: "cx16",
  },
  {
    name: "BSWAP",
    forms: ["0F C8+r Zy"],
    effect(m, dst) {
      m.write(dst, swapBytes(m, m.read(dst), dst.bits));
    },
  },
  {
    name: "MOVBE",
    forms: ["0F 38 F0 /r Gv,Mv", "0F 38 F1 /r Mv,Gv"],
    effect(m, dst, src) {
      m.write(dst, swapBytes(m, m.read(src), dst.bits));
    },
    feature: "movbe",
  },
  ...CONDITIONS.map((_, code) => conditionalMove(code)),
  ...CONDITIONS.map((_, code) => setByte(code)),
  {
    name: "XLAT",
    forms: ["D7"],
    effect(m) {
      const offset = m.add(m.gpr(RBX, 64), m.fit(m.gpr(RAX, 8), 64));
      m.setGpr(RAX, 8, m.load(m.linear(m.context.segment, m.cutToAddress(offset)), 8));
    },
    uses: ["addressSize", "segment", "long"],
  },
  {
    // CBW, CWDE, CDQE by the operand size.
    name: "CBW",
    forms: ["98"],
    effect(m) {
      const { operandSize } = m.context;
      const half = operandSize === 64 ? 32 : operandSize === 32 ? 16 : 8;
      const value = m.gpr(RAX, half);
      m.setGpr(RAX, operandSize, operandSize === 64 ? m.signExtend64(value, 32) : m.signExtend(value, half));
    },
  },
  {
    // CWD, CDQ, CQO by the operand size.
    name: "CWD",
    forms: ["99"],
    effect(m) {
      const { operandSize } = m.context;
      const value = m.signExtend(m.gpr(RAX, operandSize), operandSize);
      m.setGpr(RDX, operandSize, m.shrS(value, operandSize === 64 ? 63 : 31));
    },
  },
  ...flagsByte("LAHF", "9F", (m) => m.setState(gprOffset(RAX) + 1, 8, m.or(m.arithmeticFlags(), 2))),
  ...flagsByte("SAHF", "9E", (m) => m.setSomeFlags(SF | ZF | AF | PF | CF, m.state(gprOffset(RAX) + 1, 8))),
  {
    name: "BOUND",
    forms: ["62 /r Gv,M i64"],
    effect(m, index, limits) {
      const { bits } = index;
      const address = m.address(limits);
      const value = m.signExtend(m.read(index), bits);
      const lower = m.signExtend(m.load(address, bits), bits);
      const upper = m.signExtend(m.load(m.advance(address, bits / 8), bits), bits);
      m.faultWhen(m.or(m.ltS(value, lower), m.ltS(upper, value)), EXCEPTION.BR);
    },
    uses: ["long"],
  },
];
