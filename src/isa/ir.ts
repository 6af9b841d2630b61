/**
 * The small language in which an instruction's effect is said once. An effect builds statements over typed expression
 * trees; each engine tier lowers them to WebAssembly in its own way (operands from a decoded record, or pinned).
 * Values carry WebAssembly's types, and pure operations its names.
 */

import type { ValueType } from "../wasm/opcodes.ts";
import type { Field } from "./state.ts";

export type { ValueType };

/** Widths of operands in bits. */
export type Bits = 8 | 16 | 32 | 64 | 128;

/** An operand as an effect sees it: what kind of thing it is, not which one. */
export type OperandKind = "reg" | "mem" | "imm" | "rel" | "fixed";

export interface Operand {
  /** Place among the instruction's operands: tells the tier where to find it. */
  readonly index: number;
  readonly kind: OperandKind;
  readonly bits: Bits;
  /** A shift count that is not 0 modulo 32: flags are set for certain. */
  readonly nonZero?: true;
  /** A part of a vector register: writing 32 bits leaves the rest as it is. */
  readonly partial?: boolean;
  /** For `fixed`: the state it names, such as AL or XMM0. */
  readonly field?: Field;
}

/** What the value comes from. All but `pure` are evaluated where they stand, in order. */
export type ValueSource =
  /** A WebAssembly operation on `args`; `lanes` for those that take lane indices. */
  | { readonly kind: "pure"; readonly op: string; readonly lanes?: readonly number[] }
  | { readonly kind: "constant"; readonly value: bigint | number | Uint8Array }
  /** A register operand, zero-extended into i32 (8 to 32 bits) or i64; v128 for 128 bits. */
  | { readonly kind: "operand"; readonly operand: Operand }
  /** Where a register operand lies in the state: a byte offset (i32), for helpers. */
  | { readonly kind: "operandOffset"; readonly operand: Operand }
  /** State at a fixed place; `bits` wide. */
  | { readonly kind: "state"; readonly offset: number; readonly bits: Bits }
  /** The immediate, sign-extended to 64 bits by the decoder; taken modulo the type. */
  | { readonly kind: "immediate"; readonly operand: Operand }
  /** The effective address (without segment base), or the linear address (with it) of a memory operand. */
  | { readonly kind: "address"; readonly operand: Operand; readonly linear: boolean }
  /** A load from linear address args[0]. `intent` write: the address is then written through `Store.through`. */
  | { readonly kind: "load"; readonly bits: Bits; readonly intent: "read" | "write"; readonly system: boolean }
  /** RIP of this instruction, or of the next one. */
  | { readonly kind: "rip"; readonly next: boolean }
  /** The linear target of a relative jump. */
  | { readonly kind: "target"; readonly operand: Operand }
  /** The present content of a variable. */
  | { readonly kind: "variable"; readonly variable: Variable }
  /** Result of a call to a helper. */
  | { readonly kind: "helper"; readonly call: HelperCall };

export interface Value {
  readonly type: ValueType;
  readonly source: ValueSource;
  readonly args: readonly Value[];
  /** How many values and statements use it; counted while building. */
  uses: number;
  /** It is this condition, by its encoding, of the flags as they were before the instruction: a tier that knows what set
   * them may compare instead. */
  condition?: number;
  /** What it tests, for tiers that may know the answer already. */
  test?: FloatTest;
  /** As a float of this type, or lanes of it, it is zero or normal wherever a statement uses it. */
  plain?: FloatType;
}

export type FloatType = "f32" | "f64" | "f32x4" | "f64x2";

/** Tests that floating point begins with: whether a value is zero or normal, in all lanes; whether MXCSR allows the fast
 * path, or that and what the result is (`allowed`). A test is 1 or 0. */
export type FloatTest =
  | { readonly kind: "plain"; readonly value: Value; readonly type: FloatType }
  | { readonly kind: "ordinary" | "allowed" };

/** What flags were set by, for tiers that put off computing them. */
export interface FlagRule {
  readonly kind: "add" | "sub" | "logic";
  readonly bits: Bits;
  readonly a: Value;
  readonly b: Value;
  readonly result: Value;
  /** The result is a + b or a - b with nothing carried in; CF is theirs unless `carry` is given. */
  readonly plain: boolean;
  /** CF as it was before (i32, 0 or 1), where it stays: INC, DEC. */
  readonly carry: Value | undefined;
}

/** A slot that branches of an `if` may assign differently. */
export interface Variable {
  readonly id: number;
  readonly type: ValueType;
}

/** A call of the engine's own function by name [helpers.ts]; it may raise a fault unless `quiet`. */
export interface HelperCall {
  readonly name: string;
  readonly args: readonly Value[];
  readonly result: ValueType | undefined;
  /** Cannot fault. */
  readonly quiet: boolean;
}

export type Statement =
  /** The point where a value is evaluated. */
  | { readonly kind: "evaluate"; readonly value: Value }
  | { readonly kind: "setOperand"; readonly operand: Operand; readonly value: Value }
  | {
      readonly kind: "setState";
      readonly offset: number;
      readonly bits: Bits;
      readonly value: Value;
      /** On the last statement that sets flags: what this and the others before it amount to. */
      readonly rule?: FlagRule;
    }
  | { readonly kind: "assign"; readonly variable: Variable; readonly value: Value }
  /** A store to a linear address. `through`: the load with write intent whose translation it reuses. */
  | {
      readonly kind: "store";
      readonly address: Value;
      readonly bits: Bits;
      readonly value: Value;
      readonly through: Value | undefined;
      readonly system: boolean;
    }
  | {
      readonly kind: "if";
      readonly condition: Value;
      readonly then: readonly Statement[];
      readonly else: readonly Statement[];
    }
  | { readonly kind: "call"; readonly call: HelperCall }
  /** Raises an exception; nothing after it runs. */
  | { readonly kind: "fault"; readonly vector: number; readonly error: Value | undefined }
  /** Ends the instruction by going to a linear address. */
  | { readonly kind: "jump"; readonly target: Value }
  /** Ends the instruction by going to the target of its relative operand (linkable). */
  | { readonly kind: "jumpRelative"; readonly operand: Operand }
  /** Runs this instruction again at once, as REP does; interruptible between. */
  | { readonly kind: "repeat" }
  /** Ends the instruction and the trace: RIP (already stored, or the next) is looked up anew. `poll`: interrupts first. */
  | { readonly kind: "endTrace"; readonly poll: boolean };
