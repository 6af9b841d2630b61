/**
 * The compiler's reading of the table, as far as integers go: general registers in locals, operands and addresses known,
 * flags put off as the rule they were set by.
 */

import type { Decoded } from "../../../isa/decode.ts";
import type { Bits, Operand, Value, ValueType } from "../../../isa/ir.ts";
import { Semantics } from "../../../isa/semantics.ts";
import { STATE } from "../../../isa/state.ts";
import { STATE_BASE } from "../layout.ts";
import { isFlags, LOAD, Lowering } from "../lower.ts";
import { type Flags, isCarried } from "./carried-flags.ts";
import { isFusable, pushCondition } from "./conditions.ts";
import { gprNumber, isGpr } from "./general-registers.ts";
import type { PinnedTarget } from "./pinned-target.ts";
import { isXmm, xmmNumber } from "./vector-registers.ts";

export abstract class IntegerLowering extends Lowering {
  protected readonly target: PinnedTarget;
  #decoded: Decoded | undefined;
  protected at = 0;
  /** The flags as they are before the instruction. */
  flags: Flags = "locals";
  /** Vector registers that lie in the state for a helper that may change them. */
  protected readonly spilled = new Set<number>();

  constructor(target: PinnedTarget) {
    super(target);
    this.target = target;
  }

  /** What follows belongs to an instruction at an address. */
  begin(decoded: Decoded, at: number): void {
    this.#decoded = decoded;
    this.at = at;
  }
  /** Pushes a value that flags are still to be computed of. */
  pushKept(value: Value): void {
    this.push(value);
  }

  /** Puts the flags where they belong, if they are not there: emits code, but changes nothing of what is known. */
  settle(): void {
    const { flags } = this;
    if (flags === "locals") return;
    const m = new Semantics(this.now.context);
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

  protected get now(): Decoded {
    if (this.#decoded === undefined) throw new Error("no instruction is being compiled");
    return this.#decoded;
  }

  protected abstract setVector(offset: number, bits: Bits, value: Value): void;
  protected abstract reloadMxcsr(): void;

  protected override emitCondition(code: number): boolean {
    if (this.flags === "locals" || isCarried(this.flags) || !isFusable(this.flags, code)) return false;
    pushCondition(this.code, this.flags, code, (value) => this.push(value));
    return true;
  }

  protected place(value: Value): void {
    const { code } = this;
    const { source } = value;
    const decoded = this.now;
    switch (source.kind) {
      case "operand":
        this.#read(this.register(source.operand), source.operand.bits);
        return;
      case "operandOffset": {
        const offset = this.register(source.operand);
        // A helper will read the register there.
        if (isXmm(offset)) {
          this.target.vectors.store(xmmNumber(offset));
          this.spilled.add(xmmNumber(offset));
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
        this.pushRip(source.next ? this.at + decoded.length : this.at);
        return;
      case "target":
        this.pushRip(this.at + decoded.length + decoded.immediateLow, true);
        return;
      default:
        throw new Error(`unexpected ${source.kind}`);
    }
  }

  /** The instruction pointer of an address in the region; a jump's target is cut to the operand size. */
  pushRip(at: number, isTarget = false): void {
    const { code } = this;
    const { long, operandSize } = this.now.context;
    code.get(this.target.base);
    code.i64(BigInt(at));
    code.op("i64.add");
    if (long) return;
    code.i32(0);
    code.memory("i64.load", STATE_BASE + STATE.codeBase.offset);
    code.op("i64.sub");
    code.i64(isTarget && operandSize === 16 ? 0xffffn : 0xffff_ffffn);
    code.op("i64.and");
  }

  protected register(operand: Operand): number {
    return this.now.registers[operand.index as 0 | 1 | 2];
  }

  /** Reads `bits` of the state at an offset, zero-extended. */
  #read(offset: number, bits: Bits): void {
    const { code } = this;
    if (offset === STATE.flagsResult.offset) code.get(this.target.flagsResult);
    else if (offset === STATE.flagsAux.offset) code.get(this.target.flagsAux);
    else if (offset === STATE.mxcsr.offset) code.get(this.target.mxcsr);
    else if (isXmm(offset)) this.target.vectors.push(offset, bits);
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
    const local = this.target.registers[gprNumber(offset)];
    if (local === undefined) throw new Error(`no general register lies at ${offset}`);
    return local;
  }

  #immediate(operand: Operand, type: ValueType): void {
    const { operands, immediateLow, immediateHigh } = this.now;
    const isImmediate = (o: Operand) => o.kind === "imm" || o.kind === "rel";
    const second = operands.some((o) => o.index < operand.index && isImmediate(o));
    if (type === "i32") this.code.i32(second ? immediateHigh : immediateLow);
    else this.code.i64((BigInt(immediateHigh) << 32n) | BigInt(immediateLow >>> 0));
  }

  #address(linear: boolean): void {
    const { code } = this;
    const { addressForm, context, base, index, scale, displacement, ripRelative, length, addressContext } = this.now;
    const { immediateLow, immediateHigh } = this.now;
    if (addressForm === "absolute") {
      code.i64((BigInt(immediateHigh) << 32n) | BigInt(immediateLow >>> 0));
    } else if (ripRelative) {
      code.get(this.target.base);
      code.i64(BigInt(displacement + this.at + length));
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
    const offset = this.register(operand);
    if (isXmm(offset)) {
      this.setVector(offset, operand.bits, value);
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
      code.set(offset === STATE.flagsAux.offset ? this.target.flagsAux : this.target.flagsResult);
      return;
    }
    if (isXmm(offset)) {
      this.setVector(offset, bits, value);
      return;
    }
    if (!isGpr(offset)) {
      code.i32(0);
      this.push(value);
      this.storeTo(bits, value.type, STATE_BASE + offset);
      if (offset === STATE.mxcsr.offset) this.reloadMxcsr();
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
}
