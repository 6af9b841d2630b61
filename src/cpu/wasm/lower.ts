/**
 * Lowers an effect's statements to WebAssembly, with operands taken from a decoded record (layout.ts) and registers in
 * memory: the interpreter's reading of the table. Where an effect ends, the caller says what is emitted.
 */

import type { AddressForm } from "../../isa/decode.ts";
import type { Bits, HelperCall, Operand, Statement, Value, ValueType, Variable } from "../../isa/ir.ts";
import type { Context } from "../../isa/semantics.ts";
import { STATE } from "../../isa/state.ts";
import type { CodeWriter } from "../../wasm/code.ts";
import { RECORD, STATE_BASE, TLB } from "./layout.ts";

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
}

/** How a handler leaves, in the place where it is emitted. */
export interface Exits {
  /** To the next record. */
  next(): void;
  /** To the instruction at `rip` in the state. */
  dispatch(): void;
  /** To the target of the record's relative operand. */
  relative(): void;
  /** With the fault in the state. */
  fault(): void;
  /** To the same record again. */
  repeat(): void;
  /** To `rip`, after a look for interrupts. */
  poll(): void;
}

/** Gives out locals by type, to be taken again by the next handler in the same function. */
export class LocalPool {
  readonly #code: CodeWriter;
  readonly #all = new Map<ValueType, number[]>();
  readonly #taken = new Map<ValueType, number>();

  constructor(code: CodeWriter) {
    this.#code = code;
  }
  take(type: ValueType): number {
    const list = this.#all.get(type) ?? [];
    this.#all.set(type, list);
    const used = this.#taken.get(type) ?? 0;
    this.#taken.set(type, used + 1);
    const local = list[used] ?? this.#code.local(type);
    if (used === list.length) list.push(local);
    return local;
  }
  reset(): void {
    this.#taken.clear();
  }
}

export interface LowerTarget {
  readonly code: CodeWriter;
  readonly locals: LocalPool;
  /** The local that holds the record's address. */
  readonly record: number;
  /** Puts the address of the current view's TLB on the stack. */
  pushTlb(): void;
  /** A local that becomes 1 where a part of a sequence stored the slow way: it may have overwritten the next one. */
  readonly slowed?: number;
  /** After a helper that may have changed the view. */
  viewChanged(): void;
  readonly core: CoreFunctions;
  helper(name: string): number;
  readonly exits: Exits;
}

const LOAD: Record<8 | 16 | 32 | 64 | 128, string> = {
  8: "i32.load8_u",
  16: "i32.load16_u",
  32: "i32.load",
  64: "i64.load",
  128: "v128.load",
};
const STORE: Record<8 | 16 | 32 | 64 | 128, string> = {
  8: "i32.store8",
  16: "i32.store16",
  32: "i32.store",
  64: "i64.store",
  128: "v128.store",
};
const PAGE_MASK = ~0xfffn;

function isFlags(offset: number): boolean {
  return offset === STATE.flagsResult.offset || offset === STATE.flagsAux.offset;
}

/** What lowering must know of a handler besides its statements. */
export interface HandlerShape {
  readonly operands: readonly Operand[];
  readonly addressForm: AddressForm;
  readonly context: Context;
}

export class Lowering {
  readonly #target: LowerTarget;
  readonly #code: CodeWriter;
  readonly #operands: readonly Operand[];
  readonly #addressForm: AddressForm;
  readonly #context: Context;
  #isPart = false;
  readonly #values = new Map<Value, number>();
  readonly #variables = new Map<Variable, number>();
  /** Locals that hold what the flags' fields hold, by their offset: read again, they need no load. */
  readonly #flags = new Map<number, number>();
  /** For a load with write intent: the local with its place in the memory, 0 where the slow path must store. */
  readonly #places = new Map<Value, number>();

  constructor(target: LowerTarget, handler: HandlerShape) {
    this.#target = target;
    this.#code = target.code;
    this.#operands = handler.operands;
    this.#addressForm = handler.addressForm;
    this.#context = handler.context;
  }

  /** Emits a whole handler. */
  handler(statements: readonly Statement[]): void {
    if (!this.#block(statements)) this.#target.exits.next();
  }

  /** Emits one of a sequence of handlers that is not the last: control comes out of its end. */
  part(statements: readonly Statement[]): void {
    this.#isPart = true;
    if (this.#block(statements)) throw new Error("only a handler that goes on can be followed by another");
  }

  /** Tells the next of a sequence which flags are known. */
  handTo(next: Lowering): void {
    for (const [offset, local] of this.#flags) next.#flags.set(offset, local);
  }

  /** Emits statements; whether control cannot come out of their end. */
  #block(statements: readonly Statement[]): boolean {
    for (const statement of statements) if (this.#statement(statement)) return true;
    return false;
  }

  #statement(s: Statement): boolean {
    const code = this.#code;
    switch (s.kind) {
      case "evaluate":
        this.#evaluate(s.value);
        return false;
      case "setOperand":
        this.#setOperand(s.operand, s.value);
        return false;
      case "setState":
        code.i32(0);
        this.#push(s.value);
        if (isFlags(s.offset)) {
          const local = this.#target.locals.take(s.value.type);
          code.tee(local);
          this.#flags.set(s.offset, local);
        }
        this.#storeTo(s.bits, s.value.type, STATE_BASE + s.offset);
        return false;
      case "assign": {
        this.#push(s.value);
        code.set(this.#variable(s.variable));
        return false;
      }
      case "store":
        this.#store(s);
        return false;
      case "if": {
        this.#push(s.condition);
        code.if();
        const known = new Map(this.#flags);
        const thenEnds = this.#block(s.then);
        const afterThen = thenEnds ? known : new Map(this.#flags);
        this.#know(known);
        let elseEnds = false;
        if (s.else.length > 0) {
          code.else();
          elseEnds = this.#block(s.else);
        }
        code.end();
        const afterElse = elseEnds ? afterThen : new Map(this.#flags);
        // What both ways left alike is still known.
        this.#know(new Map([...afterThen].filter(([offset, local]) => afterElse.get(offset) === local)));
        if (thenEnds && elseEnds) {
          code.unreachable();
          return true;
        }
        return false;
      }
      case "call":
        this.#call(s.call);
        return false;
      case "fault":
        this.#setState32("fault", () => code.i32(s.vector + 1));
        this.#setState32("faultError", () => {
          if (s.error === undefined) code.i32(0);
          else this.#push(s.error);
        });
        this.#target.exits.fault();
        return true;
      case "jump":
        code.i32(0);
        this.#push(s.target);
        code.memory("i64.store", STATE_BASE + STATE.rip.offset);
        this.#target.exits.dispatch();
        return true;
      case "jumpRelative":
        if (this.#context.long || this.#context.operandSize === 32) this.#target.exits.relative();
        else {
          code.i32(0);
          this.#linearTarget();
          this.#fromLinear(true);
          code.memory("i64.store", STATE_BASE + STATE.rip.offset);
          this.#target.exits.dispatch();
        }
        return true;
      case "repeat":
        this.#target.exits.repeat();
        return true;
      case "endTrace":
        if (s.poll) this.#target.exits.poll();
        else this.#target.exits.dispatch();
        return true;
    }
  }

  #know(flags: ReadonlyMap<number, number>): void {
    const copy = new Map(flags);
    this.#flags.clear();
    for (const [offset, local] of copy) this.#flags.set(offset, local);
  }

  #evaluate(value: Value): void {
    const source = value.source;
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
      this.#code.drop();
      return;
    }
    const local = this.#target.locals.take(value.type);
    this.#values.set(value, local);
    this.#code.set(local);
  }

  /** Puts a value on the stack. */
  #push(value: Value): void {
    const local = this.#values.get(value);
    if (local !== undefined) {
      this.#code.get(local);
      return;
    }
    const source = value.source;
    if (source.kind === "constant") this.#constant(value.type, source.value);
    else if (source.kind === "pure") this.#emitPure(value);
    else throw new Error(`a value of kind ${source.kind} is used outside the branch that made it`);
  }

  #constant(type: ValueType, value: bigint | number | Uint8Array): void {
    const code = this.#code;
    if (type === "i64") code.i64(BigInt(value as bigint));
    else if (type === "i32") code.i32(Number(value));
    else if (type === "f64") code.f64(Number(value));
    else if (type === "f32") code.f32(Number(value));
    else code.v128(value as Uint8Array);
  }

  #emitPure(value: Value): void {
    if (value.source.kind !== "pure") throw new Error("not a pure value");
    for (const arg of value.args) this.#push(arg);
    if (value.source.op === "select") {
      if (value.type === "v128") this.#code.append([0x1c, 1, 0x7b]);
      else this.#code.select();
    } else this.#code.op(value.source.op, value.source.lanes);
  }

  #emitOrdered(value: Value): void {
    const code = this.#code;
    const record = this.#target.record;
    const source = value.source;
    switch (source.kind) {
      case "operand":
        code.get(record);
        code.memory("i32.load16_u", this.#registerField(source.operand));
        code.memory(LOAD[source.operand.bits], STATE_BASE);
        return;
      case "operandOffset":
        code.get(record);
        code.memory("i32.load16_u", this.#registerField(source.operand));
        return;
      case "state": {
        const known = this.#flags.get(source.offset);
        if (known !== undefined) {
          code.get(known);
          return;
        }
        code.i32(0);
        code.memory(LOAD[source.bits], STATE_BASE + source.offset);
        if (isFlags(source.offset)) {
          const local = this.#target.locals.take(value.type);
          code.tee(local);
          this.#flags.set(source.offset, local);
        }
        return;
      }
      case "immediate":
        code.get(record);
        code.memory(
          value.type === "i64" ? "i64.load" : "i32.load",
          RECORD.immediate + this.#immediateHalf(source.operand),
        );
        return;
      case "address":
        this.#address(source.linear);
        return;
      case "load":
        this.#load(value, source.bits, source.intent);
        return;
      case "rip":
        code.i32(0);
        code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
        code.get(record);
        code.memory("i64.load16_u", RECORD.offset);
        code.op("i64.add");
        if (source.next) {
          code.get(record);
          code.memory("i64.load8_u", RECORD.length);
          code.op("i64.add");
        }
        this.#fromLinear(false);
        return;
      case "target":
        this.#linearTarget();
        this.#fromLinear(true);
        return;
      case "variable":
        code.get(this.#variable(source.variable));
        return;
      case "helper":
        this.#call(source.call);
        return;
      default:
        throw new Error(`unexpected ${source.kind}`);
    }
  }

  #linearTarget(): void {
    const code = this.#code;
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.pageBase.offset);
    code.get(this.#target.record);
    code.memory("i64.load", RECORD.immediate);
    code.op("i64.add");
  }

  /** Turns a linear address on the stack into an instruction pointer; a jump's target is cut to the operand size. */
  #fromLinear(isTarget: boolean): void {
    const { long, operandSize } = this.#context;
    if (long) return;
    const code = this.#code;
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.codeBase.offset);
    code.op("i64.sub");
    code.i64(isTarget && operandSize === 16 ? 0xffffn : 0xffff_ffffn);
    code.op("i64.and");
  }

  #registerField(operand: Operand): number {
    const field = RECORD.reg[operand.index];
    if (field === undefined) throw new Error("an instruction has at most three operands");
    return field;
  }

  /** A second immediate lies in the upper half of the field. */
  #immediateHalf(operand: Operand): 0 | 4 {
    const isImmediate = (o: Operand) => o.kind === "imm" || o.kind === "rel";
    return this.#operands.some((o) => o.index < operand.index && isImmediate(o)) ? 4 : 0;
  }

  #variable(variable: Variable): number {
    let local = this.#variables.get(variable);
    if (local === undefined) {
      local = this.#target.locals.take(variable.type);
      this.#variables.set(variable, local);
    }
    return local;
  }

  /** The effective address: base + index << scale + displacement, cut to the address size, displaced by the segment. */
  #address(linear: boolean): void {
    const code = this.#code;
    const record = this.#target.record;
    const register = (field: number) => {
      code.get(record);
      code.memory("i32.load16_u", field);
      code.memory("i64.load", STATE_BASE);
    };
    if (this.#addressForm === "absolute") {
      code.get(record);
      code.memory("i64.load", RECORD.immediate);
    } else {
      register(RECORD.base);
      if (this.#addressForm === "full") {
        register(RECORD.index);
        code.get(record);
        code.memory("i64.load8_u", RECORD.scale);
        code.op("i64.shl");
        code.op("i64.add");
      }
      code.get(record);
      code.memory("i64.load32_s", RECORD.displacement);
      code.op("i64.add");
    }
    if (this.#addressForm === "simple") return;
    const context = (part: 0 | 8) => {
      code.get(record);
      code.memory("i32.load16_u", RECORD.context);
      code.memory("i64.load", STATE_BASE + part);
    };
    context(8);
    code.op("i64.and");
    if (linear) {
      context(0);
      code.op("i64.add");
      // Outside 64-bit mode linear addresses are 32 bits.
      if (!this.#context.long) {
        code.i64(0xffff_ffffn);
        code.op("i64.and");
      }
    }
  }

  #setOperand(operand: Operand, value: Value): void {
    const code = this.#code;
    code.get(this.#target.record);
    code.memory("i32.load16_u", this.#registerField(operand));
    this.#push(value);
    // A 32-bit general register is zero-extended; a vector register is written in part.
    if (operand.bits === 32 && operand.partial !== true) {
      code.op("i64.extend_i32_u");
      code.memory("i64.store", STATE_BASE);
    } else this.#storeTo(operand.bits, value.type, STATE_BASE);
  }

  /** Stores the top of the stack at the address below it. */
  #storeTo(bits: Bits, type: ValueType, offset: number): void {
    if (type === "f64" || type === "f32") this.#code.memory(`${type}.store`, offset);
    else if (type === "i64" && bits < 64) this.#code.memory(`i64.store${bits}`, offset);
    else this.#code.memory(STORE[bits], offset);
  }

  #setState32(name: keyof typeof STATE, push: () => void): void {
    this.#code.i32(0);
    push();
    this.#code.memory("i32.store", STATE_BASE + STATE[name].offset);
  }

  #call(call: HelperCall): void {
    const code = this.#code;
    for (const arg of call.args) this.#push(arg);
    this.#flags.clear();
    code.call(this.#target.helper(call.name));
    if (call.name === "viewChanged") this.#target.viewChanged();
    if (!call.quiet) this.#checkFault();
  }

  #checkFault(): void {
    const code = this.#code;
    code.i32(0);
    code.memory("i32.load", STATE_BASE + STATE.fault.offset);
    code.if();
    this.#target.exits.fault();
    code.end();
  }

  // --- memory ---

  /** The local that holds an address: the value's own, or a fresh one. */
  #addressLocal(address: Value): number {
    const own = this.#values.get(address);
    if (own !== undefined) return own;
    this.#push(address);
    const local = this.#target.locals.take("i64");
    this.#code.set(local);
    return local;
  }

  /** Leaves on the stack whether the TLB entry holds `address`; sets `entry`. One compare catches page crossing too. */
  #probe(address: number, entry: number, bytes: number, table: number): void {
    const code = this.#code;
    this.#target.pushTlb();
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
  #place(address: number, entry: number, table: number): void {
    const code = this.#code;
    code.get(address);
    code.op("i32.wrap_i64");
    code.get(entry);
    code.memory("i32.load", table + 8);
    code.op("i32.add");
  }

  #load(value: Value, bits: Bits, intent: "read" | "write"): void {
    const code = this.#code;
    const [addressValue] = value.args;
    if (addressValue === undefined) throw new Error("a load has an address");
    const address = this.#addressLocal(addressValue);
    const entry = this.#target.locals.take("i32");
    const bytes = bits / 8;
    const table = intent === "write" ? TLB.writeDelta : 0;
    const slow = intent === "write" ? this.#target.core.loadForWrite : this.#target.core.load;
    this.#probe(address, entry, bytes, table);
    code.if(value.type);
    this.#place(address, entry, table);
    let place: number | undefined;
    if (intent === "write") {
      place = this.#target.locals.take("i32");
      this.#places.set(value, place);
      code.tee(place);
    }
    code.memory(LOAD[bits], 0);
    code.else();
    if (place !== undefined) {
      code.i32(0);
      code.set(place);
    }
    if (bits === 128) {
      const half = (at: number) => {
        code.get(address);
        code.i64(BigInt(at));
        code.op("i64.add");
        code.i32(8);
        code.call(slow);
      };
      half(0);
      this.#checkFault();
      code.op("i64x2.splat");
      half(8);
      this.#checkFault();
      code.op("i64x2.replace_lane", [1]);
    } else {
      code.get(address);
      code.i32(bytes);
      code.call(slow);
      if (value.type === "i32") code.op("i32.wrap_i64");
      this.#checkFault();
    }
    code.end();
  }

  #store(s: Extract<Statement, { kind: "store" }>): void {
    const code = this.#code;
    const address = this.#addressLocal(s.address);
    const type = s.value.type;
    let stored = this.#values.get(s.value);
    if (stored === undefined) {
      this.#push(s.value);
      stored = this.#target.locals.take(type);
      code.set(stored);
    }
    const place = s.through === undefined ? undefined : this.#places.get(s.through);
    let entry = 0;
    if (place !== undefined) code.get(place);
    else {
      entry = this.#target.locals.take("i32");
      this.#probe(address, entry, s.bits / 8, TLB.writeDelta);
    }
    code.if();
    if (place !== undefined) code.get(place);
    else this.#place(address, entry, TLB.writeDelta);
    code.get(stored);
    this.#storeTo(s.bits, type, 0);
    code.else();
    this.#slowStore(address, stored, type, s.bits);
    this.#checkFault();
    if (this.#isPart && this.#target.slowed !== undefined) {
      code.i32(1);
      code.set(this.#target.slowed);
    }
    code.end();
  }

  #slowStore(address: number, stored: number, type: ValueType, bits: Bits): void {
    const code = this.#code;
    const { store, probeWrite } = this.#target.core;
    if (bits === 128) {
      // Both halves are checked before either is written.
      code.get(address);
      code.i32(16);
      code.call(probeWrite);
      this.#checkFault();
      for (const lane of [0, 1]) {
        code.get(address);
        code.i64(BigInt(lane * 8));
        code.op("i64.add");
        code.i32(8);
        code.get(stored);
        code.op("i64x2.extract_lane", [lane]);
        code.call(store);
      }
      return;
    }
    code.get(address);
    code.i32(bits / 8);
    code.get(stored);
    if (type === "f64") code.op("i64.reinterpret_f64");
    else if (type === "f32") {
      code.op("i32.reinterpret_f32");
      code.op("i64.extend_i32_u");
    } else if (type === "i32") code.op("i64.extend_i32_u");
    code.call(store);
  }
}
