/**
 * The compiler's reading of the table: general registers in locals, operands and addresses known, flags put off as the
 * rule they were set by, and whatever leaves the fast path leaves the region, with the state as it was before the
 * instruction.
 */

import type { Decoded } from "../../../isa/decode.ts";
import type { Bits, FlagRule, HelperCall, Operand, Statement, Value, ValueType } from "../../../isa/ir.ts";
import { Semantics } from "../../../isa/semantics.ts";
import { GPR, STATE } from "../../../isa/state.ts";
import type { CodeWriter } from "../../../wasm/code.ts";
import { STATE_BASE, TLB } from "../layout.ts";
import { isFlags, LOAD, type LowerBase, Lowering } from "../lower.ts";
import { isFusable, pushCondition } from "./conditions.ts";

const GPR_BYTES = 16 * 8;

/** Where the flags are: in their locals, or still to be computed. */
export type Flags = "locals" | FlagRule;

export function isGpr(offset: number): boolean {
  return offset >= GPR && offset < GPR + GPR_BYTES;
}
export function gprNumber(offset: number): number {
  return (offset - GPR) >> 3;
}

/** Gives out locals for values; those that flags still to be computed need are kept. */
export class TemporaryPool {
  readonly #code: CodeWriter;
  readonly #all: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  #taken = new Set<number>();

  constructor(code: CodeWriter) {
    this.#code = code;
  }
  take(type: ValueType): number {
    for (const local of this.#all[type]) {
      if (this.#taken.has(local)) continue;
      this.#taken.add(local);
      return local;
    }
    const made = this.#code.local(type);
    this.#all[type].push(made);
    this.#taken.add(made);
    return made;
  }
  /** What is taken now; given back to `reset`. */
  taken(): ReadonlySet<number> {
    return new Set(this.#taken);
  }
  reset(taken: ReadonlySet<number>, also: Iterable<number> = []): void {
    this.#taken = new Set([...taken, ...also]);
  }
}

/** What the region's emitter does for an instruction. */
export interface PinnedTarget extends LowerBase {
  readonly locals: TemporaryPool;
  /** Locals of the general registers, by number. */
  readonly registers: readonly number[];
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
  /** The same with RIP in the state, after a look for interrupts or without. */
  leaveStored(poll: boolean): void;
  /** Goes to where the instruction's relative operand leads. */
  relative(): void;
  viewChanged(): void;
}

export class PinnedLowering extends Lowering {
  readonly #target: PinnedTarget;
  #decoded: Decoded | undefined;
  #at = 0;
  /** The flags as they are before the instruction. */
  flags: Flags = "locals";
  readonly #places = new Map<Value, number>();

  constructor(target: PinnedTarget) {
    super(target);
    this.#target = target;
  }

  /** What follows belongs to an instruction at an address. */
  begin(decoded: Decoded, at: number): void {
    this.#decoded = decoded;
    this.#at = at;
  }
  /** Emits the instruction; whether control cannot come out of its end. */
  instruction(statements: readonly Statement[]): boolean {
    return this.block(statements);
  }

  /** Puts the flags where they belong, if they are not there: emits code, but changes nothing of what is known. */
  settle(): void {
    const { flags } = this;
    if (flags === "locals") return;
    const m = new Semantics(this.#now.context);
    m.setFlags(flags);
    this.block(m.finish());
  }

  /** Locals that the flags depend on. */
  flagLocals(): Set<number> {
    const found = new Set<number>();
    if (this.flags === "locals") return found;
    const visit = (value: Value) => {
      const local = this.values.get(value);
      if (local !== undefined) found.add(local);
      else value.args.forEach(visit);
    };
    const { a, b, result, carry } = this.flags;
    [a, b, result].forEach(visit);
    if (carry !== undefined) visit(carry);
    return found;
  }

  get #now(): Decoded {
    if (this.#decoded === undefined) throw new Error("no instruction is being compiled");
    return this.#decoded;
  }

  protected override emitCondition(code: number): boolean {
    if (this.flags === "locals" || !isFusable(this.flags, code)) return false;
    pushCondition(this.code, this.flags, code, (value) => this.push(value));
    return true;
  }

  protected place(value: Value): void {
    const { code } = this;
    const { source } = value;
    const decoded = this.#now;
    switch (source.kind) {
      case "operand":
        this.#read(this.#register(source.operand), source.operand.bits);
        return;
      case "operandOffset": {
        const offset = this.#register(source.operand);
        // A helper will read the register there.
        if (isGpr(offset)) {
          code.i32(0);
          code.get(this.#gpr(offset));
          code.memory("i64.store", STATE_BASE + (offset & ~7));
        }
        code.i32(offset);
        return;
      }
      case "state":
        this.#read(source.offset, source.bits);
        return;
      case "immediate":
        this.#immediate(source.operand, value.type);
        return;
      case "address":
        this.#address(source.linear);
        return;
      case "rip":
        this.pushRip(source.next ? this.#at + decoded.length : this.#at);
        return;
      case "target":
        this.pushRip(this.#at + decoded.length + decoded.immediateLow, true);
        return;
      default:
        throw new Error(`unexpected ${source.kind}`);
    }
  }

  /** The instruction pointer of an address in the region; a jump's target is cut to the operand size. */
  pushRip(at: number, isTarget = false): void {
    const { code } = this;
    const { long, operandSize } = this.#now.context;
    code.get(this.#target.base);
    code.i64(BigInt(at));
    code.op("i64.add");
    if (long) return;
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.codeBase.offset);
    code.op("i64.sub");
    code.i64(isTarget && operandSize === 16 ? 0xffffn : 0xffff_ffffn);
    code.op("i64.and");
  }

  #register(operand: Operand): number {
    return this.#now.registers[operand.index as 0 | 1 | 2];
  }

  /** Reads `bits` of the state at an offset, zero-extended. */
  #read(offset: number, bits: Bits): void {
    const { code } = this;
    if (offset === STATE.flagsResult.offset) code.get(this.#target.flagsResult);
    else if (offset === STATE.flagsAux.offset) code.get(this.#target.flagsAux);
    else if (isGpr(offset)) {
      code.get(this.#gpr(offset));
      if (bits === 64) return;
      if ((offset & 7) !== 0) {
        code.i64(BigInt((offset & 7) * 8));
        code.op("i64.shr_u");
      }
      code.op("i32.wrap_i64");
      if (bits < 32) {
        code.i32((1 << bits) - 1);
        code.op("i32.and");
      }
    } else {
      code.i32(0);
      code.memory(LOAD[bits], STATE_BASE + offset);
    }
  }

  #gpr(offset: number): number {
    const local = this.#target.registers[gprNumber(offset)];
    if (local === undefined) throw new Error(`no general register lies at ${offset}`);
    return local;
  }

  #immediate(operand: Operand, type: ValueType): void {
    const { operands, immediateLow, immediateHigh } = this.#now;
    const isImmediate = (o: Operand) => o.kind === "imm" || o.kind === "rel";
    const second = operands.some((o) => o.index < operand.index && isImmediate(o));
    if (type === "i32") this.code.i32(second ? immediateHigh : immediateLow);
    else this.code.i64((BigInt(immediateHigh) << 32n) | BigInt(immediateLow >>> 0));
  }

  #address(linear: boolean): void {
    const { code } = this;
    const { addressForm, context, base, index, scale, displacement, ripRelative, length, addressContext } = this.#now;
    const { immediateLow, immediateHigh } = this.#now;
    if (addressForm === "absolute") {
      code.i64((BigInt(immediateHigh) << 32n) | BigInt(immediateLow >>> 0));
    } else if (ripRelative) {
      code.get(this.#target.base);
      code.i64(BigInt(displacement + this.#at + length));
      code.op("i64.add");
    } else {
      let parts = 0;
      const add = () => {
        if (parts++ > 0) code.op("i64.add");
      };
      if (base !== STATE.zero.offset) {
        code.get(this.#gpr(base));
        add();
      }
      if (index !== STATE.zero.offset) {
        code.get(this.#gpr(index));
        if (scale > 0) {
          code.i64(BigInt(scale));
          code.op("i64.shl");
        }
        add();
      }
      if (displacement !== 0 || parts === 0) {
        code.i64(BigInt(displacement));
        add();
      }
    }
    const { addressSize, long, segment } = context;
    if (addressForm === "simple") return;
    if (addressSize < 64) {
      code.i64(addressSize === 32 ? 0xffff_ffffn : 0xffffn);
      code.op("i64.and");
    }
    if (!linear || (long && segment !== "fs" && segment !== "gs")) return;
    code.i32(0);
    code.memory("i64.load", STATE_BASE + addressContext);
    code.op("i64.add");
    if (!long) {
      code.i64(0xffff_ffffn);
      code.op("i64.and");
    }
  }

  protected setOperand(operand: Operand, value: Value): void {
    const offset = this.#register(operand);
    if (operand.bits === 32 && operand.partial !== true) {
      if (isGpr(offset)) {
        this.push(value);
        this.code.op("i64.extend_i32_u");
        this.code.set(this.#gpr(offset));
        return;
      }
      this.code.i32(0);
      this.push(value);
      this.code.op("i64.extend_i32_u");
      this.code.memory("i64.store", STATE_BASE + offset);
    } else this.setState(offset, operand.bits, value);
  }

  protected setState(offset: number, bits: Bits, value: Value): void {
    const { code } = this;
    if (isFlags(offset)) {
      this.push(value);
      code.set(offset === STATE.flagsAux.offset ? this.#target.flagsAux : this.#target.flagsResult);
      return;
    }
    if (!isGpr(offset)) {
      code.i32(0);
      this.push(value);
      this.storeTo(bits, value.type, STATE_BASE + offset);
      return;
    }
    const local = this.#gpr(offset);
    if (bits === 64) {
      this.push(value);
      code.set(local);
      return;
    }
    const shift = BigInt((offset & 7) * 8);
    const mask = (1n << BigInt(bits)) - 1n;
    code.get(local);
    code.i64(~(mask << shift));
    code.op("i64.and");
    this.push(value);
    if (value.type === "i32") code.op("i64.extend_i32_u");
    code.i64(mask);
    code.op("i64.and");
    if (shift !== 0n) {
      code.i64(shift);
      code.op("i64.shl");
    }
    code.op("i64.or");
    code.set(local);
  }

  // --- control ---

  protected branch(s: Extract<Statement, { kind: "if" }>): boolean {
    const { code } = this;
    this.push(s.condition);
    code.if();
    const thenEnds = this.block(s.then);
    let elseEnds = false;
    if (s.else.length > 0) {
      code.else();
      elseEnds = this.block(s.else);
    }
    code.end();
    if (!thenEnds || !elseEnds) return false;
    code.unreachable();
    return true;
  }

  protected jump(target: Value): void {
    this.push(target);
    this.#target.leave();
  }
  protected jumpRelative(): void {
    const { context, length, immediateLow } = this.#now;
    if (context.long || context.operandSize !== 16) {
      this.#target.relative();
      return;
    }
    this.pushRip(this.#at + length + immediateLow, true);
    this.#target.leave();
  }
  protected repeat(): void {
    throw new Error("the interpreter runs instructions that repeat");
  }
  protected endTrace(poll: boolean): void {
    this.#target.leaveStored(poll);
  }
  protected leaveWithFault(): void {
    this.#target.fault();
  }
  protected call(call: HelperCall): void {
    this.callHelper(call);
    if (call.name === "viewChanged") this.#target.viewChanged();
    if (!call.quiet) this.checkFault();
  }

  // --- memory: what misses the TLB is the interpreter's ---

  #missed(): void {
    const { code } = this;
    code.op("i32.eqz");
    code.if();
    this.#target.retry();
    code.end();
  }

  protected load(value: Value, addressValue: Value, bits: Bits, intent: "read" | "write"): void {
    const { code } = this;
    const address = this.addressLocal(addressValue);
    const entry = this.#target.locals.take("i32");
    const table = intent === "write" ? TLB.writeDelta : 0;
    this.probe(address, entry, bits / 8, table);
    this.#missed();
    this.placeOf(address, entry, table);
    if (intent === "write") {
      const place = this.#target.locals.take("i32");
      this.#places.set(value, place);
      code.tee(place);
    }
    code.memory(LOAD[bits], 0);
  }

  protected store(s: Extract<Statement, { kind: "store" }>): void {
    const { code } = this;
    const place = s.through === undefined ? undefined : this.#places.get(s.through);
    if (place !== undefined) {
      const stored = this.storedLocal(s.value);
      code.get(place);
      code.get(stored);
    } else {
      const address = this.addressLocal(s.address);
      const stored = this.storedLocal(s.value);
      const entry = this.#target.locals.take("i32");
      this.probe(address, entry, s.bits / 8, TLB.writeDelta);
      this.#missed();
      this.placeOf(address, entry, TLB.writeDelta);
      code.get(stored);
    }
    this.storeTo(s.bits, s.value.type, 0);
  }
}
