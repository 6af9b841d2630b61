/**
 * Lowers an effect's statements to WebAssembly: values, branches, the TLB's probe. Where operands and state lie, and
 * what a miss, a call and a jump become, is said by each tier: from a decoded record (record-lowering.ts), or pinned to
 * locals (compiler/pinned-lowering.ts). Both read the same statements.
 */

import type { Bits, HelperCall, Operand, Statement, Value, ValueType, Variable } from "../../isa/ir.ts";
import { STATE } from "../../isa/state.ts";
import type { CodeWriter } from "../../wasm/code.ts";
import { STATE_BASE, TLB } from "./layout.ts";

/** Functions of the memory core that lowered code calls, by index in the module under construction. */
export interface CoreFunctions {
  /** (linear i64, bytes i32) -> i64; sets `fault` in the state. */
  readonly load: number;
  /** (linear i64, bytes i32, value i64). */
  readonly store: number;
  /** (linear i64, bytes i32) -> i64, checked for writing. */
  readonly loadForWrite: number;
  /** (linear i64, bytes i32): raises what a store there would raise. */
  readonly probeWrite: number;
  /** The same of a load. */
  readonly probeRead: number;
}

/** Gives out locals by type. */
export interface LocalSource {
  take(type: ValueType): number;
}

/** What every lowering needs of its surroundings. */
export interface LowerBase {
  readonly code: CodeWriter;
  readonly locals: LocalSource;
  /** Puts the address of the current view's TLB on the stack. */
  pushTlb(): void;
  helper(name: string): number;
}

export const LOAD: Record<8 | 16 | 32 | 64 | 128, string> = {
  8: "i32.load8_u",
  16: "i32.load16_u",
  32: "i32.load",
  64: "i64.load",
  128: "v128.load",
};
export const STORE: Record<8 | 16 | 32 | 64 | 128, string> = {
  8: "i32.store8",
  16: "i32.store16",
  32: "i32.store",
  64: "i64.store",
  128: "v128.store",
};
const PAGE_MASK = ~0xfffn;

export function isFlags(offset: number): boolean {
  return offset === STATE.flagsResult.offset || offset === STATE.flagsAux.offset;
}

export abstract class Lowering {
  protected readonly code: CodeWriter;
  protected readonly values = new Map<Value, number>();
  readonly #base: LowerBase;
  readonly #variables = new Map<Variable, number>();

  constructor(base: LowerBase) {
    this.#base = base;
    this.code = base.code;
  }

  /** Puts an operand, a place, state, an immediate, an address or an instruction pointer on the stack. */
  protected abstract place(value: Value): void;
  protected abstract setOperand(operand: Operand, value: Value): void;
  protected abstract setState(offset: number, bits: Bits, value: Value): void;
  protected abstract load(value: Value, address: Value, bits: Bits, intent: "read" | "write"): void;
  protected abstract store(statement: Extract<Statement, { kind: "store" }>): void;
  /** A branch; whether control cannot come out of its end. */
  protected abstract branch(statement: Extract<Statement, { kind: "if" }>): boolean;
  protected abstract call(call: HelperCall): void;
  /** Leaves with the fault that is in the state. */
  protected abstract leaveWithFault(): void;
  protected abstract jump(target: Value): void;
  protected abstract jumpRelative(): void;
  protected abstract repeat(): void;
  protected abstract endTrace(poll: boolean): void;

  /** Puts a condition of the flags on the stack, where the tier knows it from what set them. */
  protected emitCondition(_condition: number): boolean {
    return false;
  }

  /** Emits statements; whether control cannot come out of their end. */
  protected block(statements: readonly Statement[]): boolean {
    for (const statement of statements) if (this.#statement(statement)) return true;
    return false;
  }

  #statement(s: Statement): boolean {
    switch (s.kind) {
      case "evaluate":
        this.#evaluate(s.value);
        return false;
      case "setOperand":
        this.setOperand(s.operand, s.value);
        return false;
      case "setState":
        this.setState(s.offset, s.bits, s.value);
        return false;
      case "assign": {
        this.push(s.value);
        this.code.set(this.#variable(s.variable));
        return false;
      }
      case "store":
        this.store(s);
        return false;
      case "if":
        return this.branch(s);
      case "call":
        this.call(s.call);
        return false;
      case "fault":
        this.#setState32("fault", () => this.code.i32(s.vector + 1));
        this.#setState32("faultError", () => {
          if (s.error === undefined) this.code.i32(0);
          else this.push(s.error);
        });
        this.leaveWithFault();
        return true;
      case "jump":
        this.jump(s.target);
        return true;
      case "jumpRelative":
        this.jumpRelative();
        return true;
      case "repeat":
        this.repeat();
        return true;
      case "endTrace":
        this.endTrace(s.poll);
        return true;
    }
  }

  /** Evaluates a value in a tier's own way; whether it did. */
  protected evaluateSpecially(_value: Value): boolean {
    return false;
  }
  /** Pushes a value that was evaluated so, or one that the tier has a shorter way for; whether it did. */
  protected pushSpecially(_value: Value): boolean {
    return false;
  }

  #evaluate(value: Value): void {
    const source = value.source;
    if (this.evaluateSpecially(value)) return;
    if (source.kind === "constant") return;
    if (source.kind === "pure") {
      if (value.uses < 2) return; // Emitted at its one use, or never.
      this.#emitPure(value);
      this.#keep(value);
      return;
    }
    const effectless = source.kind !== "load" && source.kind !== "helper";
    if (effectless && value.uses === 0) return;
    this.#emitOrdered(value);
    this.#keep(value);
  }

  #keep(value: Value): void {
    if (value.uses === 0) {
      this.code.drop();
      return;
    }
    const local = this.#base.locals.take(value.type);
    this.values.set(value, local);
    this.code.set(local);
  }

  /** Puts a value on the stack. */
  protected push(value: Value): void {
    if (this.pushSpecially(value)) return;
    const local = this.values.get(value);
    if (local !== undefined) {
      this.code.get(local);
      return;
    }
    const source = value.source;
    if (source.kind === "constant") this.#constant(value.type, source.value);
    else if (source.kind === "pure") this.#emitPure(value);
    else throw new Error(`a value of kind ${source.kind} is used outside the branch that made it`);
  }

  #constant(type: ValueType, value: bigint | number | Uint8Array): void {
    const code = this.code;
    if (type === "i64") code.i64(BigInt(value as bigint));
    else if (type === "i32") code.i32(Number(value));
    else if (type === "f64") code.f64(Number(value));
    else if (type === "f32") code.f32(Number(value));
    else code.v128(value as Uint8Array);
  }

  #emitPure(value: Value): void {
    if (value.source.kind !== "pure") throw new Error("not a pure value");
    if (value.condition !== undefined && this.emitCondition(value.condition)) return;
    for (const arg of value.args) this.push(arg);
    if (value.source.op === "select") {
      if (value.type === "v128") this.code.append([0x1c, 1, 0x7b]);
      else this.code.select();
    } else this.code.op(value.source.op, value.source.lanes);
  }

  #emitOrdered(value: Value): void {
    const source = value.source;
    switch (source.kind) {
      case "load": {
        const [address] = value.args;
        if (address === undefined) throw new Error("a load has an address");
        this.load(value, address, source.bits, source.intent);
        return;
      }
      case "variable":
        this.code.get(this.#variable(source.variable));
        return;
      case "helper":
        this.call(source.call);
        return;
      case "pure":
      case "constant":
        throw new Error(`unexpected ${source.kind}`);
      default:
        this.place(value);
    }
  }

  #variable(variable: Variable): number {
    let local = this.#variables.get(variable);
    if (local === undefined) {
      local = this.#base.locals.take(variable.type);
      this.#variables.set(variable, local);
    }
    return local;
  }

  /** Stores the top of the stack at the address below it. */
  protected storeTo(bits: Bits, type: ValueType, offset: number): void {
    if (type === "f64" || type === "f32") this.code.memory(`${type}.store`, offset);
    else if (type === "i64" && bits < 64) this.code.memory(`i64.store${bits}`, offset);
    else this.code.memory(STORE[bits], offset);
  }

  #setState32(name: keyof typeof STATE, push: () => void): void {
    this.code.i32(0);
    push();
    this.code.memory("i32.store", STATE_BASE + STATE[name].offset);
  }

  /** Calls a helper with its arguments; its result, if any, is on the stack. */
  protected callHelper(call: HelperCall): void {
    for (const arg of call.args) this.push(arg);
    this.code.call(this.#base.helper(call.name));
  }

  protected checkFault(): void {
    const { code } = this;
    code.i32(0);
    code.memory("i32.load", STATE_BASE + STATE.fault.offset);
    code.if();
    this.leaveWithFault();
    code.end();
  }

  // --- memory ---

  /** The local that holds an address: the value's own, or a fresh one. */
  protected addressLocal(address: Value): number {
    const own = this.values.get(address);
    if (own !== undefined) return own;
    this.push(address);
    const local = this.#base.locals.take("i64");
    this.code.set(local);
    return local;
  }

  /** Leaves on the stack whether the TLB entry holds `address`; sets `entry`. One compare catches page crossing too. */
  protected probe(address: number, entry: number, bytes: number, table: number): void {
    const code = this.code;
    this.#base.pushTlb();
    code.get(address);
    code.op("i32.wrap_i64");
    code.i32(8);
    code.op("i32.shr_u");
    code.i32((TLB.entries - 1) * TLB.entryBytes);
    code.op("i32.and");
    code.op("i32.add");
    code.tee(entry);
    code.memory("i64.load", table);
    code.get(address);
    if (bytes > 1) {
      code.i64(BigInt(bytes - 1));
      code.op("i64.add");
    }
    code.i64(PAGE_MASK);
    code.op("i64.and");
    code.op("i64.eq");
  }

  /** The place in the memory of `address`, whose entry was hit. */
  protected placeOf(address: number, entry: number, table: number): void {
    const code = this.code;
    code.get(address);
    code.op("i32.wrap_i64");
    code.get(entry);
    code.memory("i32.load", table + 8);
    code.op("i32.add");
  }

  /** The local that holds a value that is to be stored. */
  protected storedLocal(value: Value): number {
    const own = this.values.get(value);
    if (own !== undefined) return own;
    this.push(value);
    const local = this.#base.locals.take(value.type);
    this.code.set(local);
    return local;
  }
}
