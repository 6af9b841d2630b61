/**
 * The interpreter's reading of the table: operands taken from a decoded record (layout.ts), registers in memory. Where
 * an effect ends, the caller says what is emitted.
 */

import type { AddressForm } from "../../isa/decode.ts";
import type { Bits, HelperCall, Operand, Statement, Value, ValueType } from "../../isa/ir.ts";
import type { Context } from "../../isa/semantics.ts";
import { STATE } from "../../isa/state.ts";
import type { CodeWriter } from "../../wasm/code.ts";
import { RECORD, STATE_BASE, TLB } from "./layout.ts";
import { type CoreFunctions, isFlags, LOAD, type LowerBase, Lowering } from "./lower.ts";

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

export interface LowerTarget extends LowerBase {
  readonly locals: LocalPool;
  /** The local that holds the record's address. */
  readonly record: number;
  /** A local that becomes 1 where a part of a sequence stored the slow way: it may have overwritten the next one. */
  readonly slowed?: number;
  /** After a helper that may have changed the view. */
  viewChanged(): void;
  readonly core: CoreFunctions;
  readonly exits: Exits;
}

/** What lowering must know of a handler besides its statements. */
export interface HandlerShape {
  readonly operands: readonly Operand[];
  readonly addressForm: AddressForm;
  readonly context: Context;
}

export class RecordLowering extends Lowering {
  readonly #target: LowerTarget;
  readonly #operands: readonly Operand[];
  readonly #addressForm: AddressForm;
  readonly #context: Context;
  #isPart = false;
  /** Locals that hold what the flags' fields hold, by their offset: read again, they need no load. */
  readonly #flags = new Map<number, number>();
  /** For a load with write intent: the local with its place in the memory, 0 where the slow path must store. */
  readonly #places = new Map<Value, number>();

  constructor(target: LowerTarget, handler: HandlerShape) {
    super(target);
    this.#target = target;
    this.#operands = handler.operands;
    this.#addressForm = handler.addressForm;
    this.#context = handler.context;
  }

  /** Emits a whole handler. */
  handler(statements: readonly Statement[]): void {
    if (!this.block(statements)) this.#target.exits.next();
  }

  /** Emits one of a sequence of handlers that is not the last: control comes out of its end. */
  part(statements: readonly Statement[]): void {
    this.#isPart = true;
    if (this.block(statements)) throw new Error("only a handler that goes on can be followed by another");
  }

  /** Tells the next of a sequence which flags are known. */
  handTo(next: RecordLowering): void {
    for (const [offset, local] of this.#flags) next.#flags.set(offset, local);
  }

  protected setState(offset: number, bits: Bits, value: Value): void {
    const { code } = this;
    code.i32(0);
    this.push(value);
    if (isFlags(offset)) {
      const local = this.#target.locals.take(value.type);
      code.tee(local);
      this.#flags.set(offset, local);
    }
    this.storeTo(bits, value.type, STATE_BASE + offset);
  }

  protected branch(s: Extract<Statement, { kind: "if" }>): boolean {
    const { code } = this;
    this.push(s.condition);
    code.if();
    const known = new Map(this.#flags);
    const thenEnds = this.block(s.then);
    const afterThen = thenEnds ? known : new Map(this.#flags);
    this.#know(known);
    let elseEnds = false;
    if (s.else.length > 0) {
      code.else();
      elseEnds = this.block(s.else);
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

  protected jump(target: Value): void {
    this.code.i32(0);
    this.push(target);
    this.code.memory("i64.store", STATE_BASE + STATE.rip.offset);
    this.#target.exits.dispatch();
  }

  protected jumpRelative(): void {
    if (this.#context.long || this.#context.operandSize === 32) {
      this.#target.exits.relative();
      return;
    }
    this.code.i32(0);
    this.#linearTarget();
    this.#fromLinear(true);
    this.code.memory("i64.store", STATE_BASE + STATE.rip.offset);
    this.#target.exits.dispatch();
  }

  protected repeat(): void {
    this.#target.exits.repeat();
  }
  protected endTrace(poll: boolean): void {
    if (poll) this.#target.exits.poll();
    else this.#target.exits.dispatch();
  }
  protected leaveWithFault(): void {
    this.#target.exits.fault();
  }

  #know(flags: ReadonlyMap<number, number>): void {
    const copy = new Map(flags);
    this.#flags.clear();
    for (const [offset, local] of copy) this.#flags.set(offset, local);
  }

  protected place(value: Value): void {
    const { code } = this;
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
      default:
        throw new Error(`unexpected ${source.kind}`);
    }
  }

  #linearTarget(): void {
    const { code } = this;
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
    const { code } = this;
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

  /** The effective address: base + index << scale + displacement, cut to the address size, displaced by the segment. */
  #address(linear: boolean): void {
    const { code } = this;
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

  protected setOperand(operand: Operand, value: Value): void {
    const { code } = this;
    code.get(this.#target.record);
    code.memory("i32.load16_u", this.#registerField(operand));
    this.push(value);
    // A 32-bit general register is zero-extended; a vector register is written in part.
    if (operand.bits === 32 && operand.partial !== true) {
      code.op("i64.extend_i32_u");
      code.memory("i64.store", STATE_BASE);
    } else this.storeTo(operand.bits, value.type, STATE_BASE);
  }

  protected call(call: HelperCall): void {
    this.callHelper(call);
    this.#flags.clear();
    if (call.name === "viewChanged") this.#target.viewChanged();
    if (!call.quiet) this.checkFault();
  }

  protected load(value: Value, addressValue: Value, bits: Bits, intent: "read" | "write"): void {
    const { code } = this;
    const address = this.addressLocal(addressValue);
    const entry = this.#target.locals.take("i32");
    const bytes = bits / 8;
    const table = intent === "write" ? TLB.writeDelta : 0;
    const slow = intent === "write" ? this.#target.core.loadForWrite : this.#target.core.load;
    this.probe(address, entry, bytes, table);
    code.if(value.type);
    this.placeOf(address, entry, table);
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
      // Both halves are checked before either is read.
      const { probeRead, probeWrite } = this.#target.core;
      code.get(address);
      code.i32(16);
      code.call(intent === "write" ? probeWrite : probeRead);
      this.checkFault();
      half(0);
      this.checkFault();
      code.op("i64x2.splat");
      half(8);
      this.checkFault();
      code.op("i64x2.replace_lane", [1]);
    } else {
      code.get(address);
      code.i32(bytes);
      code.call(slow);
      if (value.type === "i32") code.op("i32.wrap_i64");
      this.checkFault();
    }
    code.end();
  }

  protected store(s: Extract<Statement, { kind: "store" }>): void {
    const { code } = this;
    const address = this.addressLocal(s.address);
    const type = s.value.type;
    const stored = this.storedLocal(s.value);
    const place = s.through === undefined ? undefined : this.#places.get(s.through);
    let entry = 0;
    if (place !== undefined) code.get(place);
    else {
      entry = this.#target.locals.take("i32");
      this.probe(address, entry, s.bits / 8, TLB.writeDelta);
    }
    code.if();
    if (place !== undefined) code.get(place);
    else this.placeOf(address, entry, TLB.writeDelta);
    code.get(stored);
    this.storeTo(s.bits, type, 0);
    code.else();
    this.#slowStore(address, stored, type, s.bits);
    this.checkFault();
    if (this.#isPart && this.#target.slowed !== undefined) {
      code.i32(1);
      code.set(this.#target.slowed);
    }
    code.end();
  }

  #slowStore(address: number, stored: number, type: ValueType, bits: Bits): void {
    const { code } = this;
    const { store, probeWrite } = this.#target.core;
    if (bits === 128) {
      // Both halves are checked before either is written.
      code.get(address);
      code.i32(16);
      code.call(probeWrite);
      this.checkFault();
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
