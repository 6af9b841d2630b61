/** Decimal adjustment, outside 64-bit mode only [SDM 2, AAA, AAD, AAM, AAS, DAA, DAS]. */

import { AF, CF, OF, PF, SF, ZF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RAX, type Semantics } from "../semantics.ts";

function adjustFlag(m: Semantics): Value {
  return m.and(m.shrU(m.arithmeticFlags(), Math.log2(AF)), 1);
}

/** AAA and AAS: one unpacked digit in AL, its carry into AH. */
function adjustUnpacked(m: Semantics, down: boolean): void {
  const ax = m.gpr(RAX, 16);
  const adjust = m.or(m.gtU(m.and(ax, 0xf), 9), adjustFlag(m));
  // AL and AH change together, as one 16-bit number.
  const moved = down ? m.sub(ax, 0x106) : m.add(ax, 0x106);
  const result = m.and(m.select(adjust, moved, ax), 0xff0f);
  m.setGpr(RAX, 16, result);
  m.flagsOf(8, result, { cf: adjust, af: adjust });
}

/** DAA and DAS: two packed digits in AL. */
function adjustPacked(m: Semantics, down: boolean): void {
  const al = m.gpr(RAX, 8);
  const carry = m.carry();
  const low = m.or(m.gtU(m.and(al, 0xf), 9), adjustFlag(m));
  const high = m.or(m.gtU(al, 0x99), carry);
  const amount = m.add(m.mul(low, 6), m.mul(high, 0x60));
  const result = m.and(down ? m.sub(al, amount) : m.add(al, amount), 0xff);
  // DAS also takes the borrow of its low digit alone.
  const cf = down ? m.or(high, m.and(low, m.ltU(al, m.i32(6)))) : high;
  m.setGpr(RAX, 8, result);
  m.flagsOf(8, result, { cf, af: low });
}

function multiplyDigits(m: Semantics, base: Operand): void {
  const divisor = m.read(base);
  m.faultWhen(m.isZero(divisor), EXCEPTION.DE);
  const al = m.gpr(RAX, 8);
  const low = m.op("i32.rem_u", al, divisor);
  m.setGpr(RAX, 16, m.or(m.shl(m.op("i32.div_u", al, divisor), 8), low));
  m.flagsLogic(8, low);
}

function divideDigits(m: Semantics, base: Operand): void {
  const ax = m.gpr(RAX, 16);
  const low = m.and(m.add(ax, m.mul(m.shrU(ax, 8), m.read(base))), 0xff);
  m.setGpr(RAX, 16, low);
  m.flagsLogic(8, low);
}

export const DECIMAL: readonly Instruction[] = [
  { name: "AAA", forms: ["37 i64"], undefinedFlags: OF | SF | ZF | PF, effect: (m) => adjustUnpacked(m, false) },
  { name: "AAS", forms: ["3F i64"], undefinedFlags: OF | SF | ZF | PF, effect: (m) => adjustUnpacked(m, true) },
  { name: "AAM", forms: ["D4 Ib i64"], undefinedFlags: OF | AF | CF, effect: multiplyDigits },
  { name: "AAD", forms: ["D5 Ib i64"], undefinedFlags: OF | AF | CF, effect: divideDigits },
  { name: "DAA", forms: ["27 i64"], undefinedFlags: OF, effect: (m) => adjustPacked(m, false) },
  { name: "DAS", forms: ["2F i64"], undefinedFlags: OF, effect: (m) => adjustPacked(m, true) },
  {
    // Not in the manual, but in every processor: AL becomes all copies of CF.
    name: "SALC",
    forms: ["D6 i64"],
    effect(m) {
      m.setGpr(RAX, 8, m.sub(m.i32(0), m.carry()));
    },
  },
];
