/** What the compiler's lowering of an instruction asks of the region around it. */

import type { Value } from "../../../isa/ir.ts";
import type { LowerBase } from "../lower.ts";
import type { TemporaryPool } from "./temporary-pool.ts";
import type { VectorRegisters } from "./vector-registers.ts";

/** What the region's emitter does for an instruction. */
export interface PinnedTarget extends LowerBase {
  readonly locals: TemporaryPool;
  /** Locals of the general registers, by number. */
  readonly registers: readonly number[];
  readonly vectors: VectorRegisters;
  /** Locals of MXCSR, whose flags only helpers set, and of whether it allows the fast path. */
  readonly mxcsr: number;
  readonly ordinary: number;
  readonly flagsResult: number;
  readonly flagsAux: number;
  /** Linear address of the head's page. */
  readonly base: number;
  /** Leaves to the interpreter at this instruction. */
  retry(): void;
  /** Leaves with the fault in the state, at this instruction. */
  fault(): void;
  /** Leaves after this instruction, with RIP on the stack. */
  leave(): void;
  /** The same, unless RIP lies in the region where it is known to lead. */
  jump(): void;
  /** The same with RIP in the state, after a look for interrupts or without. */
  leaveStored(poll: boolean): void;
  /** Goes to where the instruction's relative operand leads. */
  relative(): void;
  viewChanged(): void;
  loadMxcsr(): void;
  /** Names the accesses that the one of this instruction shares a kept page with; undefined where none is kept. */
  stream(address: Value): string | undefined;
}
