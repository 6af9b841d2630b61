/** IN and OUT [SDM 1 chapter 19, SDM 2]. */

import { VM } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Bits, Operand, Value } from "../ir.ts";
import { RAX, type Semantics } from "../semantics.ts";
import { aboveIoPrivilege } from "./stack.ts";

/** Asks the TSS's bitmap where CPL is above IOPL, and always in virtual-8086 mode. */
export function checkPort(m: Semantics, port: Value, bits: Bits): void {
  const above = aboveIoPrivilege(m);
  const asked = m.context.long ? above : m.or(above, m.systemFlag(VM));
  m.when(asked, () => m.call("checkPort", [port, m.i32(bits / 8)]));
}

/** Accesses have at most 32 bits. */
function width(accumulator: Operand): Bits {
  return accumulator.bits === 64 ? 32 : accumulator.bits;
}

export const IO: readonly Instruction[] = [
  {
    name: "IN",
    forms: ["E4 AL,Ib", "E5 rAX,Ib", "EC AL,DX", "ED rAX,DX"],
    effect(m, accumulator, from) {
      const bits = width(accumulator);
      const port = m.read(from);
      checkPort(m, port, bits);
      m.setGpr(RAX, bits, m.helper("readPort", "i32", [port, m.i32(bits / 8)]));
    },
    uses: ["long"],
    system: true,
  },
  {
    name: "OUT",
    forms: ["E6 Ib,AL", "E7 Ib,rAX", "EE DX,AL", "EF DX,rAX"],
    effect(m, to, accumulator) {
      const bits = width(accumulator);
      const port = m.read(to);
      checkPort(m, port, bits);
      m.call("writePort", [port, m.i32(bits / 8), m.gpr(RAX, bits)]);
      // The device may have raised an interrupt, or asked for a reset.
      m.leave(true);
    },
    uses: ["long"],
    ends: true,
    system: true,
  },
];
