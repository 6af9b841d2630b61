/** The x87 unit over the vCPU's state. */

import { x87 } from "../../../isa/float/x87.ts";
import { X87State } from "../../../isa/float/x87-state.ts";
import { STATE, X87_OPERAND, X87_REGISTERS } from "../../../isa/state.ts";
import type { EngineHost } from "../engine-host.ts";

export function x87Helpers(host: EngineHost) {
  const view = new DataView(host.memory.memory.buffer, host.stateBase);
  const state = new X87State(view, {
    control: STATE.fcw.offset,
    status: STATE.fsw.offset,
    tags: STATE.ftw.offset,
    opcode: STATE.fop.offset,
    instructionPointer: STATE.fip.offset,
    dataPointer: STATE.fdp.offset,
    registers: X87_REGISTERS,
    operand: X87_OPERAND,
  });
  /** A linear address as a number; the unit keeps it for FSTENV only, so bits past 2^53 do not count. */
  const address = (offset: number) => view.getInt32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
  return {
    /** (opcode, ModRM, arithmetic flags, 16-bit operands) -> outcome; addresses in `scratch` and `scratch2`. */
    x87: (opcode: number, modrm: number, flags: number, operand16: number): number =>
      x87(
        state,
        opcode,
        modrm,
        flags,
        operand16 !== 0,
        address(STATE.scratch.offset),
        modrm < 0xc0 ? address(STATE.scratch2.offset) : 0,
      ),
  };
}
