/**
 * A small vocabulary for the memory core's functions, so that they read like the manual's pseudo-code. An expression
 * pushes one value when it is emitted; a statement is a method of FunctionEmitter. One name of this file stands for one
 * WebAssembly instruction or a few: there is nothing hidden that would cost time.
 */

import { STATE, type StateName } from "../../../isa/state.ts";
import type { CodeWriter } from "../../../wasm/code.ts";
import type { ModuleBuilder } from "../../../wasm/module.ts";
import { STATE_BASE } from "../layout.ts";

type Type = "i32" | "i64";

/** Something that pushes one value. It may be emitted more than once, and is evaluated each time. */
export interface Expression {
  readonly type: Type;
  push(code: CodeWriter): void;
}

/** An expression, an i32 constant (number) or an i64 constant (bigint). */
export type Operand = Expression | number | bigint;

/** A parameter or local variable of the function that is being written. */
export interface Local extends Expression {
  readonly index: number;
}

/** A function of the module, imported or defined. */
export interface FunctionReference {
  readonly index: number;
  readonly result: Type | undefined;
}

function asExpression(operand: Operand): Expression {
  if (typeof operand === "number") return { type: "i32", push: (code) => code.i32(operand) };
  if (typeof operand === "bigint") return { type: "i64", push: (code) => code.i64(operand) };
  return operand;
}

function binary(op: string, compares = false): (a: Operand, b: Operand) => Expression {
  return (a, b) => {
    const left = asExpression(a);
    const right = asExpression(b);
    if (left.type !== right.type) throw new Error(`${op} of ${left.type} and ${right.type}`);
    return {
      type: compares ? "i32" : left.type,
      push: (code) => {
        left.push(code);
        right.push(code);
        code.op(`${left.type}.${op}`);
      },
    };
  };
}

export const add = binary("add");
export const sub = binary("sub");
export const mul = binary("mul");
export const divideUnsigned = binary("div_u");
export const and = binary("and");
export const or = binary("or");
export const xor = binary("xor");
export const shiftLeft = binary("shl");
export const shiftRight = binary("shr_u");
export const shiftRightSigned = binary("shr_s");
export const equal = binary("eq", true);
export const notEqual = binary("ne", true);
export const below = binary("lt_u", true);
export const above = binary("gt_u", true);

function unary(op: (from: Type) => string, to: Type): (a: Expression) => Expression {
  return (a) => ({
    type: to,
    push: (code) => {
      a.push(code);
      code.op(op(a.type));
    },
  });
}

/** 1 where the value is 0: also "not" of a truth value. */
export const isZero = unary((from) => `${from}.eqz`, "i32");
/** The low half of an i64. */
export const low32 = unary(() => "i32.wrap_i64", "i32");
/** An i32 as an unsigned i64. */
export const widen = unary(() => "i64.extend_i32_u", "i64");

export const leadingZeros = unary((from) => `${from}.clz`, "i64");

/** Truth values (0 or 1): both sides are evaluated. */
export function both(...conditions: Expression[]): Expression {
  return conditions.reduce((a, b) => and(a, b));
}
export function either(...conditions: Expression[]): Expression {
  return conditions.reduce((a, b) => or(a, b));
}

/** Whether any bit of `mask` is set. */
export function hasAny(value: Expression, mask: Operand): Expression {
  return notEqual(and(value, mask), value.type === "i64" ? 0n : 0);
}

/** `condition ? a : b`; both are evaluated. */
export function choose(condition: Expression, a: Operand, b: Operand): Expression {
  const left = asExpression(a);
  const right = asExpression(b);
  return {
    type: left.type,
    push: (code) => {
      left.push(code);
      right.push(code);
      condition.push(code);
      code.select();
    },
  };
}

/** A load by its WebAssembly name from `address + offset`. */
export function load(name: `${Type}.load${string}`, address: Operand, offset = 0): Expression {
  return {
    type: name.startsWith("i64") ? "i64" : "i32",
    push: (code) => {
      asExpression(address).push(code);
      code.memory(name, offset);
    },
  };
}

/** A field of the vCPU's state. */
export function state(name: StateName): Expression {
  return load(`${stateType(name)}.load`, 0, STATE_BASE + STATE[name].offset);
}
function stateType(name: StateName): Type {
  return STATE[name].type === "i64" ? "i64" : "i32";
}

/** The value of a call to a function that has a result. */
export function call(callee: FunctionReference, ...args: Operand[]): Expression {
  if (callee.result === undefined) throw new Error("a call without a result is a statement");
  return {
    type: callee.result,
    push: (code) => {
      for (const arg of args) asExpression(arg).push(code);
      code.call(callee.index);
    },
  };
}

/** Writes one function, statement by statement. */
export class FunctionEmitter implements FunctionReference {
  readonly index: number;
  readonly result: Type | undefined;
  readonly #code: CodeWriter;
  readonly #params: readonly Type[];

  /** `name` exports the function. */
  constructor(module: ModuleBuilder, params: readonly Type[], result?: Type, name?: string) {
    const made = module.function(params, result === undefined ? [] : [result], name);
    this.index = made.index;
    this.#code = made.code;
    this.#params = params;
    this.result = result;
  }

  parameter(index: number): Local {
    const type = this.#params[index];
    if (type === undefined) throw new Error(`the function has no parameter ${index}`);
    return { type, index, push: (code) => code.get(index) };
  }
  local(type: Type): Local {
    const index = this.#code.local(type);
    return { type, index, push: (code) => code.get(index) };
  }

  set(local: Local, value: Operand): void {
    asExpression(value).push(this.#code);
    this.#code.set(local.index);
  }
  setState(name: StateName, value: Operand): void {
    this.store(`${stateType(name)}.store`, 0, value, STATE_BASE + STATE[name].offset);
  }
  /** A store by its WebAssembly name at `address + offset`. */
  store(name: `${Type}.store${string}`, address: Operand, value: Operand, offset = 0): void {
    asExpression(address).push(this.#code);
    asExpression(value).push(this.#code);
    this.#code.memory(name, offset);
  }
  fill(address: Operand, byte: Operand, length: Operand): void {
    for (const operand of [address, byte, length]) asExpression(operand).push(this.#code);
    this.#code.memoryFill();
  }
  copy(to: Operand, from: Operand, length: Operand): void {
    for (const operand of [to, from, length]) asExpression(operand).push(this.#code);
    this.#code.memoryCopy();
  }

  /** Calls a function; its result, if it has one, is dropped. */
  call(callee: FunctionReference, ...args: Operand[]): void {
    for (const arg of args) asExpression(arg).push(this.#code);
    this.#code.call(callee.index);
    if (callee.result !== undefined) this.#code.drop();
  }

  if(condition: Expression, then: () => void, otherwise?: () => void): void {
    condition.push(this.#code);
    this.#code.if();
    then();
    if (otherwise !== undefined) {
      this.#code.else();
      otherwise();
    }
    this.#code.end();
  }
  /** Runs `body` again wherever it calls `again`, and leaves at its end. */
  loop(body: (again: (condition?: Expression) => void) => void): void {
    const code = this.#code;
    code.loop();
    const label = code.depth;
    body((condition) => {
      if (condition === undefined) {
        code.br(label);
        return;
      }
      condition.push(code);
      code.brIf(label);
    });
    code.end();
  }
  return(value?: Operand): void {
    if (value !== undefined) asExpression(value).push(this.#code);
    this.#code.return();
  }
  returnIf(condition: Expression, value?: Operand): void {
    this.if(condition, () => this.return(value));
  }
  /** Marks the function's end where no path falls through. */
  unreachable(): void {
    this.#code.unreachable();
  }
}
