/**
 * The x87 unit's instructions: forms made from the unit's own table [isa/float/x87.ts]. An effect brings the memory
 * operand into the state's operand area, lets the unit run, and does what the outcome says: faults stay precise.
 */

import { x87MemoryAccess, x87Name } from "../float/x87.ts";
import { X87_AX, X87_EFLAGS, X87_MF, X87_STORE, X87_UD } from "../float/x87-state.ts";
import type { Instruction } from "../instruction.ts";
import type { Bits, Operand, Value } from "../ir.ts";
import { EXCEPTION, RAX, type Semantics } from "../semantics.ts";
import { X87_OPERAND } from "../state.ts";

/** Raises #NM where the unit is off or belongs to another task [SDM 3 §2.5, CR0.EM and CR0.TS]. */
function guard(m: Semantics): void {
  m.faultWhen(m.field("x87State"), EXCEPTION.NM);
}

/** Pieces of 8, 4, 2 bytes that make up an operand. */
function pieces(bytes: number): { at: number; bits: Bits }[] {
  const found: { at: number; bits: Bits }[] = [];
  for (let at = 0; at < bytes; ) {
    const size = bytes - at >= 8 ? 8 : bytes - at >= 4 ? 4 : bytes - at >= 2 ? 2 : 1;
    found.push({ at, bits: (size * 8) as Bits });
    at += size;
  }
  return found;
}

/** What #AC asks of an operand's address, in bytes [SDM 3 table 6-7]: 10 bytes are aligned to 8, the environment and the
 * whole state by the size of their fields. */
function alignmentOf(bytes: number): number {
  if (bytes <= 8) return bytes;
  if (bytes === 10) return 8;
  return bytes === 14 || bytes === 94 ? 2 : 4;
}

/** Runs the unit; its outcome. The instruction's address and the operand's, both offsets in their segments, go by the
 * scratch fields. */
function run(m: Semantics, opcode: number, modrm: Value, offset: Value | undefined): Value {
  m.setField("scratch", m.thisRip());
  if (offset !== undefined) m.setField("scratch2", offset);
  const usesFlags = opcode === 0xda || opcode === 0xdb; // FCMOVcc
  const flags = usesFlags && offset === undefined ? m.arithmeticFlags() : m.i32(0);
  const operand16 = m.context.operandSize === 16 ? 1 : 0;
  const outcome = m.helper("x87", "i32", [m.i32(opcode), modrm, flags, m.i32(operand16)], true);
  m.faultWhen(m.and(outcome, X87_MF), EXCEPTION.MF);
  m.faultWhen(m.and(outcome, X87_UD), EXCEPTION.UD);
  return outcome;
}

/** Error summary of the status word: an exception is waiting. */
const FSW_ES = 1 << 7;

/** The effect of an instruction with a memory operand. `waits`: it raises a waiting exception before its operand is
 * looked at, as all but FNSTCW and the like do. */
function memoryEffect(opcode: number, field: number, waits: boolean) {
  return (m: Semantics, operand: Operand): void => {
    guard(m);
    const access = x87MemoryAccess(opcode, field, m.context.operandSize === 16);
    if (access === undefined) {
      m.fault(EXCEPTION.UD);
      return;
    }
    if (waits) m.faultWhen(m.and(m.field("fsw"), FSW_ES), EXCEPTION.MF);
    const address = m.address(operand);
    const at = (offset: number) => (offset === 0 ? address : m.add(address, offset));
    m.requireSegment(address, access.bytes, access.access === "write");
    m.checkAlignment(address, alignmentOf(access.bytes));
    if (access.access === "read") {
      for (const piece of pieces(access.bytes)) {
        m.setState(X87_OPERAND + piece.at, piece.bits, m.load(at(piece.at), piece.bits, 1));
      }
    } else if (access.access === "write") m.call("probeWrite", [address, m.i32(access.bytes)]);
    const outcome = run(m, opcode, m.modrm(), m.offset(operand));
    if (access.access !== "write") return;
    m.when(m.and(outcome, X87_STORE), () => {
      for (const piece of pieces(access.bytes)) {
        m.store(at(piece.at), piece.bits, m.state(X87_OPERAND + piece.at, piece.bits), undefined, 1);
      }
    });
  };
}

function registerEffect(opcode: number, modrm: (m: Semantics, operand: Operand) => Value) {
  return (m: Semantics, operand: Operand): void => {
    guard(m);
    const outcome = run(m, opcode, modrm(m, operand), undefined);
    if (opcode === 0xdb || opcode === 0xdf) {
      m.when(m.and(outcome, X87_EFLAGS), () => m.setArithmeticFlags(m.and(outcome, 0x45)));
      m.when(m.and(outcome, X87_AX), () => m.setGpr(RAX, 16, outcome));
    }
  };
}

function build(): Instruction[] {
  const found: Instruction[] = [];
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    const code = opcode.toString(16).toUpperCase();
    for (let field = 0; field < 8; field++) {
      const memoryName = x87Name(opcode, field << 3);
      if (memoryName !== undefined) {
        const effect = memoryEffect(opcode, field, !memoryName.startsWith("fn"));
        const name = memoryName.toUpperCase();
        const feature = name.startsWith("FISTTP") ? { feature: "sse3" } : {};
        found.push({ name, forms: [`${code} /${field} M`], effect, ...feature });
      }
      const names = Array.from({ length: 8 }, (_, i) => x87Name(opcode, 0xc0 | (field << 3) | i));
      const [first] = names;
      if (first !== undefined && names.every((name) => name === first)) {
        found.push({
          name: `${first.toUpperCase()} ${code}/${field}`,
          forms: [`${code} /${field} Tb`],
          effect: registerEffect(opcode, (m, operand) => m.or(m.read(operand), 0xc0 | (field << 3))),
        });
        continue;
      }
      for (const [i, name] of names.entries()) {
        if (name === undefined) continue;
        const modrm = 0xc0 | (field << 3) | i;
        found.push({
          name: `${name.toUpperCase()} ${code}${modrm.toString(16)}`,
          forms: [`${code} =${modrm.toString(16).toUpperCase()}`],
          effect: registerEffect(opcode, (m) => m.i32(modrm)),
        });
      }
    }
  }
  return found;
}

export const X87: readonly Instruction[] = [
  ...build(),
  {
    name: "FWAIT",
    forms: ["9B"],
    effect(m) {
      // WAIT looks at CR0.TS only together with CR0.MP [SDM 2, WAIT].
      const both = (1 << 1) | (1 << 3);
      m.faultWhen(m.eq(m.and(m.op("i32.wrap_i64", m.field("cr0")), both), both), EXCEPTION.NM);
      m.faultWhen(m.and(m.field("fsw"), FSW_ES), EXCEPTION.MF);
    },
  },
];
