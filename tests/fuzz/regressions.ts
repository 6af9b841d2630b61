/**
 * Code that once went wrong, with the exception that shows it: recorded as vectors from a state in which the processor
 * raises that exception. Most need more than one instruction, or a state that is rare.
 */

import { NO_EXCEPTION } from "./layout.ts";

const VECTOR = { DB: 1, SS: 12, GP: 13, PF: 14, MF: 16, AC: 17 } as const;

export interface Regression {
  /** Names its vectors, beside those of the forms. */
  readonly name: string;
  /** In hexadecimal. */
  readonly code: string;
  /** The exception it must raise. */
  readonly vector: number;
}

export const REGRESSIONS: readonly Regression[] = [
  { name: "TF: the trap follows the instruction after POPF", code: "9d90", vector: VECTOR.DB },
  { name: "TF: the trap follows a jump", code: "9deb0090", vector: VECTOR.DB },
  { name: "TF: a trap after each iteration of REP LODSB", code: "9df3ac", vector: VECTOR.DB },
  { name: "TF: POPF that clears it is trapped, and saves no RF", code: "9d9d9090", vector: VECTOR.DB },
  { name: "#AC: a misaligned load", code: "9d8b4701", vector: VECTOR.AC },
  { name: "#AC: a misaligned store of 10 bytes", code: "9ddb7f04", vector: VECTOR.AC },
  { name: "#AC: a misaligned load of 16 bytes", code: "9d0f104708", vector: VECTOR.AC },
  { name: "#AC: a misaligned push", code: "9d4883ec0150", vector: VECTOR.AC },
  { name: "#AC: ENTER with nesting", code: "9d4883ec02c8100003", vector: VECTOR.AC },
  { name: "#MF before the operand's fault", code: "d9243cdf28", vector: VECTOR.MF },
  { name: "#GP, not #SS: XLAT", code: "d7", vector: VECTOR.GP },
  { name: "#GP, not #SS: LODSB", code: "4889c6ac", vector: VECTOR.GP },
  { name: "#SS before #GP for alignment", code: "420f290ce4", vector: VECTOR.SS },
  { name: "#SS: the stack's side of PUSH m", code: "4889c4ff37", vector: VECTOR.SS },
  { name: "#SS: the stack's side of CALL m", code: "4889c4ff17", vector: VECTOR.SS },
  { name: "ENTER with nesting probes for writing", code: "c8f6ce01", vector: VECTOR.PF },
  {
    name: "FNSTENV after FLD m32: the opcode with ModRM",
    code: "d904250030815ad934251030815a",
    vector: NO_EXCEPTION,
  },
  {
    name: "FNSTENV after FLD GS:m32: the operand's offset, without the base",
    code: "65d904254030815ad934251030815a",
    vector: NO_EXCEPTION,
  },
];
