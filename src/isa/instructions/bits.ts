/** Single bits and counts of bits: BT to BTC, BSF, BSR, TZCNT, LZCNT, POPCNT [SDM 2]. */

import { AF, CF, OF, PF, SF, ZF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { byte } from "./data.ts";

/** What becomes of the operand, given a mask of the one bit; absent for BT. */
type Change = ((m: Semantics, value: Value, mask: Value) => Value) | undefined;

/** The linear address of a memory operand whose offset is moved by `delta` bytes: it wraps by the address size. */
function moved(m: Semantics, operand: Operand, delta: Value): Value {
  if (m.context.addressSize === 64) return m.add(m.address(operand), delta);
  return m.linear(m.context.segment, m.cutToAddress(m.add(m.offset(operand), delta)));
}

function testBit(m: Semantics, dst: Operand, src: Operand, change: Change): void {
  const { bits } = dst;
  const index = m.fit(m.read(src), bits);
  const place = m.and(index, bits - 1);
  let finish: (value: Value) => void;
  let value: Value;
  if (dst.kind === "mem" && src.kind !== "imm") {
    // A register's bit offset reaches memory beyond the operand, in both directions.
    const units = m.shrS(m.signExtend64(index, bits), Math.log2(bits));
    const address = moved(m, dst, m.shl(units, Math.log2(bits / 8)));
    const load = change === undefined ? m.load(address, bits) : m.loadForWrite(address, bits);
    value = load;
    finish = (changed) => m.store(address, bits, changed, load);
  } else {
    value = change === undefined ? m.read(dst) : m.readModify(dst);
    finish = (changed) => m.write(dst, changed);
  }
  const bit = m.and(m.resize(m.shrU(value, place), "i32"), 1);
  if (change !== undefined) finish(change(m, value, m.shl(m.constant(value.type, 1), place)));
  m.setCarry(bit);
}

function bitTest(name: string, opcode: number, digit: number, change: Change): Instruction {
  const lock = change === undefined ? "" : " lock";
  return {
    name,
    forms: [`0F ${byte(opcode)} /r Ev,Gv${lock}`, `0F BA /${digit} Ev,Ib${lock}`],
    undefinedFlags: OF | SF | AF | PF,
    effect: (m, dst, src) => testBit(m, dst, src, change),
    uses: ["addressSize", "long", "segment"],
  };
}

/** BSF and BSR leave the destination alone where the source is 0, its upper half too. */
function scan(name: string, opcode: number, find: (m: Semantics, value: Value) => Value): Instruction {
  return {
    name,
    forms: [`0F ${byte(opcode)} /r Gv,Ev`],
    undefinedFlags: CF | OF | SF | AF | PF,
    effect(m, dst, src) {
      const value = m.read(src);
      m.when(m.ne(value, 0), () => m.write(dst, find(m, value)));
      m.flagsLogic(dst.bits, value);
    },
  };
}

function count(
  name: string,
  opcode: number,
  feature: string,
  find: (m: Semantics, value: Value, bits: number) => Value,
) {
  return {
    name,
    forms: [`F3 0F ${byte(opcode)} /r Gv,Ev`],
    undefinedFlags: OF | SF | AF | PF,
    effect(m: Semantics, dst: Operand, src: Operand) {
      const value = m.read(src);
      const result = find(m, value, dst.bits);
      m.write(dst, result);
      m.flagsOf(dst.bits, result, { cf: m.isZero(value) });
    },
    feature,
  } satisfies Instruction;
}

/** Place of the highest bit set; the value is not 0. */
function highest(m: Semantics, value: Value): Value {
  const width = value.type === "i64" ? 63 : 31;
  return m.xor(m.op(`${value.type}.clz`, value), width);
}

export const BITS: readonly Instruction[] = [
  bitTest("BT", 0xa3, 4, undefined),
  bitTest("BTS", 0xab, 5, (m, value, mask) => m.or(value, mask)),
  bitTest("BTR", 0xb3, 6, (m, value, mask) => m.and(value, m.not(mask))),
  bitTest("BTC", 0xbb, 7, (m, value, mask) => m.xor(value, mask)),
  scan("BSF", 0xbc, (m, value) => m.op(`${value.type}.ctz`, value)),
  scan("BSR", 0xbd, highest),
  count("TZCNT", 0xbc, "bmi1", (m, value, bits) =>
    m.op(`${value.type}.ctz`, bits === 16 ? m.or(value, 0x1_0000) : value),
  ),
  count("LZCNT", 0xbd, "lzcnt", (m, value, bits) => {
    const zeros = m.op(`${value.type}.clz`, value);
    return bits === 16 ? m.sub(zeros, 16) : zeros;
  }),
  {
    name: "POPCNT",
    forms: ["F3 0F B8 /r Gv,Ev"],
    effect(m, dst, src) {
      const value = m.read(src);
      m.write(dst, m.op(`${value.type}.popcnt`, value));
      m.setArithmeticFlags(m.shl(m.isZero(value), Math.log2(ZF)));
    },
    feature: "popcnt",
  },
];
