/** Segment registers, descriptor tables and what asks about descriptors [SDM 2, SDM 3 chapters 2, 3 and 5]. */

import { VM, ZF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, type Semantics } from "../semantics.ts";
import { type Segment, segmentField, SEGMENTS } from "../state.ts";
import { farPointer } from "./control.ts";
import { afterSegmentLoad, loadSegment, shadowNext } from "./stack.ts";
import { controlBit } from "./system.ts";

const CR0_PE = 1 << 0;
const CR4_UMIP = 1 << 11;

/** #UD in real and virtual-8086 mode. */
function requireProtected(m: Semantics): void {
  if (m.context.long) return;
  m.faultWhen(m.or(m.isZero(controlBit(m, "cr0", CR0_PE)), m.systemFlag(VM)), EXCEPTION.UD);
}
/** #GP(0) above ring 0 where CR4.UMIP hides the system's tables. */
function requireVisible(m: Semantics): void {
  m.when(m.field("cpl"), () => m.faultWhen(controlBit(m, "cr4", CR4_UMIP), EXCEPTION.GP, 0));
}

/** MOV to a segment register by its number; 1 (CS), 6 and 7 are not to be loaded. */
function moveToSegment(m: Semantics, to: Operand, src: Operand): void {
  const number = m.fit(m.read(to), 32);
  m.faultWhen(m.or(m.eq(number, 1), m.gtU(number, m.i32(5))), EXCEPTION.UD);
  m.call("loadSegment", [number, m.and(m.fit(m.read(src), 32), 0xffff)]);
  // SS is the one that matters; for the others it makes no difference that is seen.
  shadowNext(m);
  afterSegmentLoad(m);
}

/** MOV from a segment register: 16 bits to memory, zero-extended to a register. */
function moveFromSegment(m: Semantics, dst: Operand, from: Operand): void {
  const number = m.fit(m.read(from), 32);
  m.faultWhen(m.gtU(number, m.i32(5)), EXCEPTION.UD);
  let selector = m.state(segmentField("es", "selector").offset, 16);
  for (const [i, segment] of SEGMENTS.slice(1, 6).entries()) {
    selector = m.select(m.eq(number, i + 1), m.state(segmentField(segment, "selector").offset, 16), selector);
  }
  m.write(dst, m.fit(selector, dst.bits));
}

/** LES, LDS, LSS, LFS, LGS. */
function loadFarPointer(segment: Segment, form: string): Instruction {
  return {
    name: `L${segment.toUpperCase()}`,
    forms: [form],
    effect(m, dst, src) {
      const { offset, selector } = farPointer(m, src);
      loadSegment(m, segment, selector);
      m.write(dst, m.fit(offset, dst.bits));
      if (segment === "ss") shadowNext(m);
      afterSegmentLoad(m);
    },
    uses: ["long"],
    system: true,
    ...(segment === "ss" ? { shadow: "stack" } : {}),
    ...(form.endsWith("i64") ? { ends: true } : {}),
  };
}

function storeTable(
  name: "SGDT" | "SIDT",
  digit: number,
  base: "gdtrBase" | "idtrBase",
  limit: "gdtrLimit" | "idtrLimit",
) {
  return {
    name,
    forms: [`0F 01 /${digit} M`],
    effect(m: Semantics, dst: Operand) {
      requireVisible(m);
      const address = m.address(dst);
      const bits = m.context.long ? 64 : 32;
      // The base first: a store that faults then leaves no half of the pair behind in the usual case of one page.
      m.store(m.advance(address, 2), bits, m.fit(m.field(base), bits));
      m.store(address, 16, m.field(limit));
    },
    uses: ["long"],
    system: true,
  } satisfies Instruction;
}

function loadTable(name: string, digit: number, helper: string): Instruction {
  return {
    name,
    forms: [`0F 01 /${digit} M`],
    effect(m, src) {
      m.requirePrivilege();
      const address = m.address(src);
      const limit = m.load(address, 16);
      const base = m.fit(m.load(m.advance(address, 2), m.context.long ? 64 : 32), 64);
      // With 16-bit operands the base has 24 bits.
      const short = !m.context.long && m.context.operandSize === 16;
      m.system(helper, [short ? m.and(base, 0xff_ffff) : base, limit]);
    },
    uses: ["long"],
    ends: true,
    system: true,
  };
}

/** A value to 16 bits of memory, or to a register of operand size. */
function storeForms(opcode: string, digit: number): string[] {
  return [`${opcode} /${digit} Mw`, `${opcode} /${digit} Rv`];
}

function storeSelector(name: string, digit: number, segment: Segment): Instruction {
  return {
    name,
    forms: storeForms("0F 00", digit),
    effect(m, dst) {
      requireProtected(m);
      requireVisible(m);
      m.write(dst, m.fit(m.state(segmentField(segment, "selector").offset, 16), dst.bits));
    },
    uses: ["long"],
    system: true,
  };
}

function loadSelector(name: string, digit: number, helper: string): Instruction {
  return {
    name,
    forms: [`0F 00 /${digit} Ew`],
    effect(m, src) {
      requireProtected(m);
      m.requirePrivilege();
      m.system(helper, [m.read(src)]);
    },
    uses: ["long"],
    ends: true,
    system: true,
  };
}

/** Only ZF changes; `zf` is 0 or 1. */
function setZero(m: Semantics, zf: Value): void {
  m.setSomeFlags(ZF, m.shl(zf, Math.log2(ZF)));
}

function verify(name: string, digit: number, helper: string): Instruction {
  return {
    name,
    forms: [`0F 00 /${digit} Ew`],
    effect(m, src) {
      requireProtected(m);
      setZero(m, m.helper(helper, "i32", [m.read(src)]));
    },
    uses: ["long"],
    system: true,
  };
}

/** LAR and LSL: the destination changes only where the selector may be asked about. */
function ask(name: string, opcode: string, helper: string): Instruction {
  return {
    name,
    forms: [`${opcode} /r Gv,Ew`],
    effect(m, dst, src) {
      requireProtected(m);
      const answer = m.helper(helper, "i64", [m.read(src)]);
      const allowed = m.ne(answer, -1);
      m.when(allowed, () => m.write(dst, m.fit(answer, dst.bits)));
      setZero(m, allowed);
    },
    uses: ["long"],
    system: true,
  };
}

function adjustPrivilege(m: Semantics, dst: Operand, src: Operand): void {
  requireProtected(m);
  const selector = m.readModify(dst);
  const level = m.and(m.read(src), 3);
  const raised = m.ltU(m.and(selector, 3), level);
  m.write(dst, m.select(raised, m.or(m.and(selector, ~3), level), selector));
  setZero(m, raised);
}

export const DESCRIPTOR: readonly Instruction[] = [
  { name: "MOV from-segment", forms: ["8C /r Mw,Sw", "8C /r Rv,Sw"], effect: moveFromSegment },
  {
    name: "MOV to-segment",
    forms: ["8E /r Sw,Ew"],
    effect: moveToSegment,
    uses: ["long"],
    system: true,
    shadow: "stack",
  },
  loadFarPointer("es", "C4 /r Gv,M i64"),
  loadFarPointer("ds", "C5 /r Gv,M i64"),
  loadFarPointer("ss", "0F B2 /r Gv,M"),
  loadFarPointer("fs", "0F B4 /r Gv,M"),
  loadFarPointer("gs", "0F B5 /r Gv,M"),
  storeTable("SGDT", 0, "gdtrBase", "gdtrLimit"),
  storeTable("SIDT", 1, "idtrBase", "idtrLimit"),
  loadTable("LGDT", 2, "loadGdtr"),
  loadTable("LIDT", 3, "loadIdtr"),
  {
    name: "SMSW",
    forms: storeForms("0F 01", 4),
    effect(m, dst) {
      requireVisible(m);
      m.write(dst, m.fit(m.field("cr0"), dst.bits));
    },
    system: true,
  },
  storeSelector("SLDT", 0, "ldtr"),
  storeSelector("STR", 1, "tr"),
  loadSelector("LLDT", 2, "loadLocalDescriptorTable"),
  loadSelector("LTR", 3, "loadTaskRegister"),
  verify("VERR", 4, "verifyRead"),
  verify("VERW", 5, "verifyWrite"),
  ask("LAR", "0F 02", "accessRights"),
  ask("LSL", "0F 03", "segmentLimit"),
  { name: "ARPL", forms: ["63 /r Ew,Gw i64"], effect: adjustPrivilege, uses: ["long"], system: true },
];
