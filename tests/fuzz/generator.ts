/** What the fuzzer asks of a source of random instructions. */

import type { CodeBits } from "./layout.ts";
import type { Random } from "./random.ts";
import type { Role } from "./inputs.ts";

export interface CaseContext {
  readonly random: Random;
  /** What each general register held before the case; what it holds by now is not tracked. */
  readonly roles: readonly Role[];
  /** Where the instruction will lie. */
  readonly address: number;
  /** The seam of the window's pages, as far from `address`: for RIP-relative operands. Both below 2^53. */
  readonly window: number;
  /** RFLAGS bits that earlier instructions left undefined: an instruction that reads one must not follow. */
  readonly undefinedFlags: number;
}

export interface GeneratedInstruction {
  readonly bytes: Uint8Array;
  /** The form's name, such as `ADD 00 /r Eb,Gb`. */
  readonly name: string;
  /** RFLAGS bits that it leaves undefined. */
  readonly undefinedFlags: number;
  /** RFLAGS bits that its result depends on. */
  readonly readsFlags: number;
  /** It gives every arithmetic flag a defined value. */
  readonly definesFlags: boolean;
  /** The result is defined only within a bound (RCPPS and its kin): compared apart, and the case ends with it. */
  readonly approximate: boolean;
  /** It may write far from where it begins: a string operation. */
  readonly wild: boolean;
  /** It may go elsewhere than to what follows. */
  readonly jumps: boolean;
  /** A relative target in the last bytes, to be set to a later boundary of the case. */
  readonly branchBytes: 0 | 1 | 2 | 4;
}

export interface Generator {
  readonly bits: CodeBits;
  /** A random instruction. May throw only where no form is left to choose. */
  generate(context: CaseContext): GeneratedInstruction;
}
