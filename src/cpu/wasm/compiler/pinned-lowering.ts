/**
 * The compiler's reading of the table: general registers in locals, operands and addresses known, flags put off as the
 * rule they were set by, and whatever leaves the fast path leaves the region, with the state as it was before the
 * instruction.
 */

import type { Decoded } from "../../../isa/decode.ts";
import type { Bits, HelperCall, Operand, Statement, Value, ValueType } from "../../../isa/ir.ts";
import { Semantics } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { STATE_BASE, TLB } from "../layout.ts";
import { isFlags, LOAD, type LowerBase, Lowering } from "../lower.ts";
import { type Flags, isCarried } from "./carried-flags.ts";
import { isFusable, pushCondition } from "./conditions.ts";
import { isBoolean, isSseGuard, leavesAtOnce } from "./fast-path.ts";
import { FloatFacts } from "./float-facts.ts";
import type { TemporaryPool } from "./temporary-pool.ts";
import { gprNumber, isGpr } from "./general-registers.ts";
import { isXmm, isZeroIdiom, type VectorRegisters, xmmNumber, zeroExtended } from "./vector-registers.ts";

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

/** A page kept in locals: its last byte's linear address, 0 for none, and what leads from linear addresses to places. */
interface KeptPage {
  readonly tag: number;
  readonly addend: number;
}
/** Pages that a region keeps at most: each takes two locals. */
const MAX_KEPT = 12;
const PAGE_LAST = 0xfffn;

export class PinnedLowering extends Lowering {
  readonly #target: PinnedTarget;
  #decoded: Decoded | undefined;
  #at = 0;
  /** The flags as they are before the instruction. */
  flags: Flags = "locals";
  readonly #places = new Map<Value, number>();
  readonly #kept = new Map<string, KeptPage>();
  /** Loaded integers that are used as floats: kept as such. */
  readonly #floats = new Map<Value, { readonly local: number; readonly type: "f32" | "f64" }>();
  #asFloats: ReadonlySet<Value> = new Set();
  /** Vector registers that lie in the state for a helper that may change them. */
  readonly #spilled = new Set<number>();
  /** MXCSR, or the result, was found to allow the fast path of the present instruction. */
  #allowed = false;
  /** What is known of vector registers and MXCSR on this way. */
  facts = new FloatFacts();

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
    this.#asFloats = this.#loadsAsFloats(statements);
    this.#allowed = false;
    return this.block(statements);
  }

  /** Pushes a value that flags are still to be computed of. */
  pushKept(value: Value): void {
    this.push(value);
  }

  /** Puts the flags where they belong, if they are not there: emits code, but changes nothing of what is known. */
  settle(): void {
    const { flags } = this;
    if (flags === "locals") return;
    const m = new Semantics(this.#now.context);
    if (!isCarried(flags)) {
      m.setFlags(flags);
      this.block(m.finish());
      return;
    }
    for (const [value, local] of flags.locals) this.values.set(value, local);
    m.setFlags(flags.rule);
    this.code.get(flags.pending);
    this.code.if();
    this.block(m.finish());
    this.code.end();
  }

  /** Locals that the flags depend on. */
  flagLocals(): Set<number> {
    const found = new Set<number>();
    if (this.flags === "locals" || isCarried(this.flags)) return found;
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
    if (this.flags === "locals" || isCarried(this.flags) || !isFusable(this.flags, code)) return false;
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
        if (isXmm(offset)) {
          this.#target.vectors.store(xmmNumber(offset));
          this.#spilled.add(xmmNumber(offset));
        }
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
    else if (offset === STATE.mxcsr.offset) code.get(this.#target.mxcsr);
    else if (isXmm(offset)) this.#target.vectors.push(offset, bits);
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
    if (isXmm(offset)) {
      this.#setVector(offset, operand.bits, value);
      return;
    }
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
    if (isXmm(offset)) {
      this.#setVector(offset, bits, value);
      return;
    }
    if (!isGpr(offset)) {
      code.i32(0);
      this.push(value);
      this.storeTo(bits, value.type, STATE_BASE + offset);
      if (offset === STATE.mxcsr.offset) this.#reloadMxcsr();
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
    // Whether SSE may be used was looked at when the region was entered.
    if (isSseGuard(s.condition)) return false;
    if (this.#holds(s.condition)) return this.block(s.then);
    if (s.condition.test?.kind === "ordinary" && s.else.length > 0 && this.#exactly(s)) return false;
    if (leavesAtOnce(s.then)) {
      this.push(s.condition);
      code.if();
      this.#target.retry();
      code.end();
      return this.block(s.else);
    }
    if (leavesAtOnce(s.else)) {
      code.block();
      const on = code.depth;
      code.block();
      this.#leaveUnless(s.condition, code.depth);
      code.br(on);
      code.end();
      this.#target.retry();
      code.end();
      this.#learn(s.condition);
      return this.block(s.then);
    }
    this.push(s.condition);
    code.if();
    const before = this.facts;
    this.facts = before.copy();
    const thenEnds = this.block(s.then);
    const afterThen = this.facts;
    this.facts = before;
    let elseEnds = false;
    if (s.else.length > 0) {
      code.else();
      elseEnds = this.block(s.else);
    }
    code.end();
    if (elseEnds) this.facts = afterThen;
    else if (!thenEnds) this.facts = new FloatFacts();
    if (!thenEnds || !elseEnds) return false;
    code.unreachable();
    return true;
  }

  protected jump(target: Value): void {
    this.push(target);
    this.#target.jump();
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
    for (const number of this.#spilled) {
      this.#target.vectors.load(number);
      this.facts.set(number, undefined);
    }
    if (this.#spilled.size > 0) this.#reloadMxcsr();
    this.#spilled.clear();
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

  /** Pushes the place in the memory of a linear address, or leaves. */
  #place(value: Value, address: number, bits: Bits, table: number): void {
    const { code } = this;
    const bytes = bits / 8;
    const entry = this.#target.locals.take("i32");
    const kept = this.#keptPage(value, table);
    if (kept === undefined) {
      this.probe(address, entry, bytes, table);
      this.#missed();
      this.placeOf(address, entry, table);
      return;
    }
    code.get(address);
    if (bytes > 1) {
      code.i64(BigInt(bytes - 1));
      code.op("i64.add");
    }
    code.i64(PAGE_LAST);
    code.op("i64.or");
    code.get(kept.tag);
    code.op("i64.ne");
    code.if();
    this.probe(address, entry, bytes, table);
    this.#missed();
    code.get(address);
    code.i64(PAGE_LAST);
    code.op("i64.or");
    code.set(kept.tag);
    code.get(entry);
    code.memory("i32.load", table + 8);
    code.set(kept.addend);
    code.end();
    code.get(address);
    code.op("i32.wrap_i64");
    code.get(kept.addend);
    code.op("i32.add");
  }

  #keptPage(address: Value, table: number): KeptPage | undefined {
    const stream = this.#target.stream(address);
    if (stream === undefined) return undefined;
    const key = `${stream} ${table}`;
    const known = this.#kept.get(key);
    if (known !== undefined || this.#kept.size >= MAX_KEPT) return known;
    const made = { tag: this.code.local("i64"), addend: this.code.local("i32") };
    this.#kept.set(key, made);
    return made;
  }

  protected load(value: Value, addressValue: Value, bits: Bits, intent: "read" | "write"): void {
    const { code } = this;
    const address = this.addressLocal(addressValue);
    this.#place(addressValue, address, bits, intent === "write" ? TLB.writeDelta : 0);
    if (intent === "write") {
      const place = this.#target.locals.take("i32");
      this.#places.set(value, place);
      code.tee(place);
    }
    if (this.#asFloats.has(value)) code.memory(bits === 64 ? "f64.load" : "f32.load", 0);
    else code.memory(LOAD[bits], 0);
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
      const vector = this.#vectorOffset(s.value);
      if (vector !== undefined && s.bits >= 32) {
        this.#storeVector(s.address, address, vector, s.bits);
        return;
      }
      const stored = this.storedLocal(s.value);
      this.#place(s.address, address, s.bits, TLB.writeDelta);
      code.get(stored);
    }
    this.storeTo(s.bits, s.value.type, 0);
  }

  #storeVector(value: Value, address: number, vector: number, bits: Bits): void {
    const { code } = this;
    const { vectors } = this.#target;
    this.#place(value, address, bits, TLB.writeDelta);
    if (bits === 64) vectors.pushDouble(vector);
    else if (bits === 32) vectors.pushSingle(vector);
    else vectors.push(vector, bits);
    code.memory(bits === 64 ? "f64.store" : bits === 32 ? "f32.store" : "v128.store", 0);
  }

  // --- vector registers ---

  /** Where a value lies that is read from a vector register: it is read where it is used, since an instruction writes its
   * register last. */
  #vectorOffset(value: Value): number | undefined {
    const { source } = value;
    // One that has a local may be an earlier instruction's, of which flags are still to be computed.
    if (source.kind !== "operand" || this.values.has(value)) return undefined;
    const offset = this.#register(source.operand);
    return isXmm(offset) ? offset : undefined;
  }

  /** What a float is made of that is an integer's bits. */
  #floatOf({ source, args }: Value): Value | undefined {
    const isFloat =
      source.kind === "pure" && (source.op === "f64.reinterpret_i64" || source.op === "f32.reinterpret_i32");
    return isFloat ? args[0] : undefined;
  }

  /** Loads of which a float is made. */
  #loadsAsFloats(statements: readonly Statement[]): ReadonlySet<Value> {
    const found = new Set<Value>();
    const note = (value: Value | undefined) => {
      if (value?.source.kind === "load" && value.source.intent === "read" && value.source.bits >= 32) found.add(value);
    };
    const visit = (list: readonly Statement[]) => {
      for (const s of list) {
        if (s.kind === "evaluate") note(this.#floatOf(s.value));
        else if (s.kind === "setOperand" && s.operand.bits === 128) {
          const offset = this.#register(s.operand);
          const low = zeroExtended(s.value);
          if (isXmm(offset) && this.#target.vectors.isDouble(xmmNumber(offset)) && low?.type === "i64") note(low);
        } else if (s.kind === "if") {
          visit(s.then);
          visit(s.else);
        }
      }
    };
    visit(statements);
    return found;
  }

  protected override evaluateSpecially(value: Value): boolean {
    if (this.#vectorOffset(value) !== undefined || isSseGuard(value)) return true;
    // Found to hold, its variable was never set.
    if (value.test?.kind === "allowed" && this.#holds(value)) return true;
    const bits = this.#floatOf(value);
    if (bits !== undefined && (this.#vectorOffset(bits) !== undefined || this.#floats.has(bits))) return true;
    if (!this.#asFloats.has(value) || value.uses === 0) return false;
    const { source } = value;
    const [address] = value.args;
    if (source.kind !== "load" || address === undefined) return false;
    const type = source.bits === 64 ? "f64" : "f32";
    this.load(value, address, source.bits, "read");
    const local = this.#target.locals.take(type);
    this.code.set(local);
    this.#floats.set(value, { local, type });
    return true;
  }

  protected override pushSpecially(value: Value): boolean {
    const { code } = this;
    const { vectors } = this.#target;
    const { source } = value;
    const offset = this.#vectorOffset(value);
    if (offset !== undefined && source.kind === "operand") {
      vectors.push(offset, source.operand.bits);
      return true;
    }
    const float = this.#floats.get(value);
    if (float !== undefined) {
      code.get(float.local);
      code.op(float.type === "f64" ? "i64.reinterpret_f64" : "i32.reinterpret_f32");
      return true;
    }
    const bits = this.#floatOf(value);
    if (bits !== undefined) {
      const from = this.#vectorOffset(bits);
      const loaded = this.#floats.get(bits);
      if (loaded !== undefined) code.get(loaded.local);
      else if (from === undefined) return false;
      else if (value.type === "f64") vectors.pushDouble(from);
      else vectors.pushSingle(from);
      return true;
    }
    if (isZeroIdiom(value, this.#now.registers)) {
      vectors.pushZero();
      return true;
    }
    return false;
  }

  /** Pushes 64 bits as a double. */
  #pushAsDouble(value: Value): void {
    const { code } = this;
    const { vectors } = this.#target;
    const { source, args } = value;
    const [float] = args;
    const offset = this.#vectorOffset(value);
    const loaded = this.#floats.get(value);
    if (loaded !== undefined) code.get(loaded.local);
    else if (offset !== undefined) vectors.pushDouble(offset);
    else if (source.kind === "pure" && source.op === "i64.reinterpret_f64" && float !== undefined) this.push(float);
    else {
      this.push(value);
      code.op("f64.reinterpret_i64");
    }
  }

  #setVector(offset: number, bits: Bits, value: Value): void {
    const { code } = this;
    const { vectors } = this.#target;
    const number = xmmNumber(offset);
    const from = this.#vectorOffset(value);
    const isZero = isZeroIdiom(value, this.#now.registers);
    const { source, args } = value;
    const low = zeroExtended(value);
    const fact = isZero ? "zero" : from !== undefined && bits === 128 ? this.facts.get(xmmNumber(from)) : value.plain;
    if (bits === 128 && vectors.isDouble(number) && (isZero || from !== undefined || low?.type === "i64")) {
      const zero = () => code.i64(0n);
      if (isZero) vectors.setHalves(number, () => code.f64(0), zero);
      else if (low !== undefined) vectors.setHalves(number, () => this.#pushAsDouble(low), zero);
      else if (from !== undefined && from !== offset) {
        vectors.setHalves(
          number,
          () => vectors.pushDouble(from),
          () => vectors.pushHigh(xmmNumber(from)),
        );
      }
    } else if (bits === 64 && (offset & 15) === 0) vectors.setDouble(offset, () => this.#pushAsDouble(value));
    else if (
      bits === 32 &&
      source.kind === "pure" &&
      source.op === "i32.reinterpret_f32" &&
      !vectors.isDouble(number)
    ) {
      const [float] = args;
      if (float !== undefined) vectors.set(offset, 32, "f32", () => this.push(float));
    } else vectors.set(offset, bits, value.type, () => this.push(value));
    this.facts.set(number, fact);
  }

  #reloadMxcsr(): void {
    this.#target.loadMxcsr();
    this.facts.ordinary = false;
  }

  /** A result that may be inexact where MXCSR is ordinary: elsewhere it is looked at, out of the way, and the region left
   * where it is not exact. */
  #exactly({ then, else: otherwise }: Extract<Statement, { kind: "if" }>): boolean {
    const [certain] = then;
    const last = otherwise.at(-1);
    if (then.length !== 1 || certain?.kind !== "assign" || certain.value.source.kind !== "constant") return false;
    if (last?.kind !== "assign" || last.variable !== certain.variable) return false;
    const { code } = this;
    code.get(this.#target.ordinary);
    code.op("i32.eqz");
    code.if();
    this.block(otherwise.slice(0, -1));
    this.push(last.value);
    code.op("i32.eqz");
    code.if();
    this.#target.retry();
    code.end();
    code.end();
    this.#allowed = true;
    return true;
  }

  // --- conditions of fast paths ---

  /** Whether a test is known to hold. */
  #holds({ test }: Value): boolean {
    if (test === undefined) return false;
    if (test.kind === "allowed" && this.#allowed) return true;
    if (test.kind !== "plain") return this.facts.ordinary;
    const number = this.#testedRegister(test.value);
    return number !== undefined && this.facts.isPlain(number, test.type);
  }
  #testedRegister(value: Value): number | undefined {
    const offset = this.#vectorOffset(this.#floatOf(value) ?? value);
    return offset === undefined ? undefined : xmmNumber(offset);
  }

  /** The parts that must all hold. */
  #parts(value: Value, op: "i32.and" | "v128.and"): Value[] {
    const { source, args } = value;
    if (source.kind !== "pure" || source.op !== op || this.values.has(value)) return [value];
    if (op === "i32.and" && !args.every(isBoolean)) return [value];
    return args.flatMap((arg) => this.#parts(arg, op));
  }

  /** Branches to `label` where a condition does not hold. */
  #leaveUnless(condition: Value, label: number): void {
    const { code } = this;
    for (const part of this.#parts(condition, "i32.and")) {
      if (this.#holds(part)) continue;
      const { source, args } = part;
      const [a, b] = args;
      const isOpen = source.kind === "pure" && !this.values.has(part);
      if (isOpen && source.op === "i32.or" && a !== undefined && b !== undefined) {
        code.block();
        this.push(a);
        code.brIf(code.depth);
        this.#leaveUnless(b, label);
        code.end();
      } else if (isOpen && source.op === "i8x16.all_true" && a !== undefined) this.#leaveUnlessAll(a, label);
      else {
        this.push(part);
        code.op("i32.eqz");
        code.brIf(label);
      }
    }
  }

  /** The same for a condition in lanes. Most values are normal: zeros are only looked for where one is not. */
  #leaveUnlessAll(condition: Value, label: number): void {
    const { code } = this;
    const parts = this.#parts(condition, "v128.and").filter((part) => !this.#holds(part));
    if (parts.length === 0) return;
    const test = (list: readonly Value[]) => {
      list.forEach((part, i) => {
        this.push(part);
        if (i > 0) code.op("v128.and");
      });
      code.op("i8x16.all_true");
    };
    const usual = parts.flatMap((part) => {
      const { source, args } = part;
      const [first] = args;
      const isEither = source.kind === "pure" && source.op === "v128.or" && !this.values.has(part);
      return isEither && first !== undefined ? this.#parts(first, "v128.and") : [part];
    });
    code.block();
    if (usual.some((part, i) => part !== parts[i])) {
      test(usual);
      code.brIf(code.depth);
    }
    test(parts);
    code.op("i32.eqz");
    code.brIf(label);
    code.end();
  }

  /** Notes what holds where a condition does. */
  #learn(condition: Value): void {
    for (const part of this.#parts(condition, "i32.and")) {
      const { source, args } = part;
      const [lanes] = args;
      const all = source.kind === "pure" && source.op === "i8x16.all_true" && lanes !== undefined;
      for (const { test } of all ? this.#parts(lanes, "v128.and") : [part]) {
        if (test?.kind === "ordinary") this.facts.ordinary = true;
        else if (test?.kind === "plain") {
          const number = this.#testedRegister(test.value);
          if (number !== undefined && !this.facts.isPlain(number, test.type)) this.facts.set(number, test.type);
        }
      }
    }
  }
}
