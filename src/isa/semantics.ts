/**
 * All that an instruction may say: operands, memory, flags, stack, control. Effects are written against this class and
 * nothing else. The order of an effect is: read, compute, write memory, then registers and flags, so that a fault finds
 * the state untouched [SDM 3 §6.6, restartable faults].
 */

import { Builder } from "./builder.ts";
import { AC, AF, CF, OF, PF, SF, ZF } from "./flags.ts";
import type { Bits, FlagRule, Operand, Value, ValueType } from "./ir.ts";
import {
  addressContext,
  gprOffset,
  SCRATCH,
  SEGMENTS,
  STATE,
  type Segment,
  type StateName,
  segmentField,
} from "./state.ts";

/** What prefixes and the mode make of an instruction; fixed when its handler is built. */
export interface Context {
  /** Operand size in bits after prefixes. */
  readonly operandSize: 16 | 32 | 64;
  readonly addressSize: 16 | 32 | 64;
  /** Width of the stack pointer: 64 in 64-bit mode, else by SS.B. */
  readonly stackSize: 16 | 32 | 64;
  readonly rep: "none" | "rep" | "repne";
  readonly lock: boolean;
  /** The segment override of an implicit memory operand (string instructions, XLAT), DS by default. */
  readonly segment: Segment;
  /** 64-bit mode. */
  readonly long: boolean;
  /** Data accesses must be aligned, or raise #AC: CR0.AM and EFLAGS.AC are set at CPL 3 [SDM 3 §6.15, #AC]. */
  readonly alignment: boolean;
  /** Segments, one bit each by number, whose limit or rights must be looked at; none in 64-bit mode. */
  readonly checked: number;
}

export const RAX = 0;
export const RCX = 1;
export const RDX = 2;
export const RBX = 3;
export const RSP = 4;
export const RBP = 5;
export const RSI = 6;
export const RDI = 7;

export const EXCEPTION = {
  DE: 0,
  DB: 1,
  BP: 3,
  OF: 4,
  BR: 5,
  UD: 6,
  NM: 7,
  DF: 8,
  TS: 10,
  NP: 11,
  SS: 12,
  GP: 13,
  PF: 14,
  MF: 16,
  AC: 17,
  MC: 18,
  XM: 19,
} as const;

/** The type that holds an operand of so many bits; narrower ones are zero-extended in it. */
export function typeOf(bits: Bits): ValueType {
  return bits === 64 ? "i64" : bits === 128 ? "v128" : "i32";
}

/** The condition "below": CF. */
const CONDITION_BELOW = 2;

/** Whether a result is just the operation on both operands. */
function isPlain(operation: "add" | "sub", a: Value, b: Value, result: Value): boolean {
  const { source, args } = result;
  return source.kind === "pure" && source.op === `${result.type}.${operation}` && args[0] === a && args[1] === b;
}

export class Semantics extends Builder {
  readonly context: Context;
  /** Loads with write intent, by operand, for the store that follows. */
  readonly #modified = new Map<Operand, { load: Value; address: Value }>();

  /** The segment by which a linear address was formed, where it is checked. */
  readonly #segments = new Map<Value, Segment>();

  constructor(context: Context) {
    super();
    this.context = context;
  }

  // --- operands ---

  /** An operand's value: i32 zero-extended (8, 16, 32 bits), i64 (64), v128 (128). Immediates are taken modulo the size. */
  read(operand: Operand): Value {
    switch (operand.kind) {
      case "imm":
      case "rel": {
        const type = operand.bits === 64 ? "i64" : "i32";
        const value = this.ordered(type, { kind: "immediate", operand });
        return operand.bits < 32 ? this.and(value, (1 << operand.bits) - 1) : value;
      }
      case "mem":
        return this.load(this.address(operand), operand.bits);
      case "fixed":
        if (operand.field === undefined) throw new Error("a fixed operand names its field");
        return this.state(operand.field.offset, operand.bits);
      case "reg":
        return this.ordered(typeOf(operand.bits), { kind: "operand", operand });
    }
  }

  /** Reads an operand that is then written: the memory access is checked for writing at once, and translated once. */
  readModify(operand: Operand): Value {
    if (operand.kind !== "mem") return this.read(operand);
    const address = this.address(operand);
    const load = this.loadForWrite(address, operand.bits);
    this.#modified.set(operand, { load, address });
    return load;
  }

  /** Writes an operand; a 32-bit register write clears the upper half. Bits of `value` above the size are ignored. */
  write(operand: Operand, value: Value): void {
    if (operand.kind === "mem") {
      const modified = this.#modified.get(operand);
      this.store(modified?.address ?? this.address(operand), operand.bits, value, modified?.load);
    } else if (operand.kind === "fixed") {
      if (operand.field === undefined) throw new Error("a fixed operand names its field");
      this.setGprAt(operand.field.offset, operand.bits, value);
    } else {
      this.statement({ kind: "setOperand", operand, value: this.use(value) });
    }
  }

  /** Where the operand's value lies in the state, as a byte offset (i32): helpers work on registers in place. A memory
   * operand is loaded into scratch slot `slot` (0 to 3) first. */
  operandOffset(operand: Operand, slot = 0): Value {
    if (operand.kind === "reg") return this.ordered("i32", { kind: "operandOffset", operand });
    const offset = SCRATCH + slot * 16;
    this.setState(offset, operand.bits, this.read(operand));
    return this.i32(offset);
  }

  /** The ModRM byte (i32) of an x87 instruction with a memory operand: it lies in the immediate's place. */
  modrm(): Value {
    return this.and(this.ordered("i32", { kind: "immediate", operand: { index: 3, kind: "imm", bits: 8 } }), 0xff);
  }

  /** Linear address (i64) of a memory operand. */
  address(operand: Operand): Value {
    const address = this.ordered("i64", { kind: "address", operand, linear: true });
    return this.context.checked === 0 ? address : this.#within(this.context.segment, address);
  }
  /** Notes by which segment a linear address was formed, where accesses through it are checked. */
  #within(segment: Segment | undefined, address: Value): Value {
    if (segment !== undefined && (this.context.checked & (1 << SEGMENTS.indexOf(segment))) !== 0) {
      this.#segments.set(address, segment);
    }
    return address;
  }
  /** Limit and rights of the segment that an address was formed by [SDM 3 §5.3, §5.5]: #GP(0), or #SS(0) for SS. */
  #checkSegment(address: Value, bytes: number, write: boolean): void {
    const segment = this.#segments.get(address);
    if (segment === undefined) return;
    const offset = this.sub(address, this.state(segmentField(segment, "base").offset, 64));
    this.call("checkSegment", [
      this.i32(SEGMENTS.indexOf(segment)),
      this.op("i32.wrap_i64", offset),
      this.i32(bytes),
      this.i32(write ? 1 : 0),
    ]);
  }
  /** Its offset in the segment (i64), as LEA gives it. */
  offset(operand: Operand): Value {
    return this.ordered("i64", { kind: "address", operand, linear: false });
  }

  // --- memory ---

  /** Loads from a linear address (i64). Narrow values are zero-extended. */
  load(address: Value, bits: Bits, alignment = bits / 8): Value {
    this.#checkSegment(address, bits / 8, false);
    this.checkAlignment(address, alignment);
    return this.#load(address, bits, "read", false);
  }
  /** Loads checked for writing, for a later `store` through it. */
  loadForWrite(address: Value, bits: Bits, alignment = bits / 8): Value {
    this.#checkSegment(address, bits / 8, true);
    this.checkAlignment(address, alignment);
    return this.#load(address, bits, "write", false);
  }
  /** Loads with supervisor rights whatever CPL is: descriptor tables, TSS [SDM 3 §4.6, implicit accesses]. */
  loadSystem(address: Value, bits: Bits): Value {
    return this.#load(address, bits, "read", true);
  }
  #load(address: Value, bits: Bits, intent: "read" | "write", system: boolean): Value {
    return this.ordered(typeOf(bits), { kind: "load", bits, intent, system }, [address]);
  }
  store(address: Value, bits: Bits, value: Value, through?: Value, alignment = bits / 8): void {
    if (through === undefined) {
      this.#checkSegment(address, bits / 8, true);
      this.checkAlignment(address, alignment);
    }
    this.use(address);
    if (through !== undefined) this.use(through);
    this.statement({ kind: "store", address, bits, value: this.use(value), through, system: false });
  }

  /** Linear address of an offset (i64, already masked to the address size) in a segment. */
  linear(segment: Segment, offset: Value): Value {
    if (this.context.long && segment !== "fs" && segment !== "gs") return offset;
    const sum = this.add(offset, this.state(segmentField(segment, "base").offset, 64));
    return this.context.long ? sum : this.#within(segment, this.op("i64.and", sum, this.i64(0xffff_ffffn)));
  }

  /** A linear address further on by `delta` bytes, wrapped as the mode wraps. */
  advance(address: Value, delta: Value | number): Value {
    const sum = this.add(address, delta);
    if (this.context.long) return sum;
    return this.#within(this.#segments.get(address), this.op("i64.and", sum, this.i64(0xffff_ffffn)));
  }
  /** #GP(0) unless a linear address is a multiple of `bytes`. */
  requireAligned(address: Value, bytes: number): void {
    this.#refuseMisaligned(address, bytes, EXCEPTION.GP);
  }
  /** Segment's limit and rights for a whole operand of `bytes` at an address that `address` gave, before any of it moves. */
  requireSegment(address: Value, bytes: number, write: boolean): void {
    this.#checkSegment(address, bytes, write);
  }
  /** #AC(0) where alignment is checked and a linear address is no multiple of `bytes`: before #PF. */
  checkAlignment(address: Value, bytes: number): void {
    if (this.context.alignment && bytes > 1) this.#refuseMisaligned(address, bytes, EXCEPTION.AC);
  }
  /** #GP comes before all else; with #AC an address that is not canonical is left to the access, which knows its #SS. */
  #refuseMisaligned(address: Value, bytes: number, vector: number): void {
    this.when(this.and(this.op("i32.wrap_i64", address), bytes - 1), () => {
      if (this.context.long && vector === EXCEPTION.AC) this.faultWhen(this.#isCanonical(address), vector, 0);
      else this.fault(vector, 0);
    });
  }
  /** #GP(0) for an address (i64) that is not canonical [SDM 3 §4.5]; outside 64-bit mode there is none. */
  requireCanonical(target: Value): void {
    if (!this.context.long) return;
    this.faultWhen(this.isZero(this.#isCanonical(target)), EXCEPTION.GP, 0);
  }
  /** #GP(0) for a branch's target (i64) that is not canonical, or beyond CS's limit [SDM 2 JMP, CALL, RET]. */
  requireTarget(target: Value): void {
    this.requireCanonical(target);
    if (!this.#codeLimited) return;
    const limit = this.state(segmentField("cs", "limit").offset, 32);
    this.faultWhen(this.gtU(this.op("i32.wrap_i64", target), limit), EXCEPTION.GP, 0);
  }
  get #codeLimited(): boolean {
    return !this.context.long && (this.context.checked & (1 << SEGMENTS.indexOf("cs"))) !== 0;
  }
  /** Whether bits 63:47 are alike (i32). */
  #isCanonical(address: Value): Value {
    return this.eq(this.shrS(this.shl(address, 16), 16), address);
  }

  // --- registers and other state ---

  /** State at a byte offset: `bits` wide, zero-extended. */
  state(offset: number, bits: Bits): Value {
    return this.ordered(typeOf(bits), { kind: "state", offset, bits });
  }
  setState(offset: number, bits: Bits, value: Value): void {
    this.statement({ kind: "setState", offset, bits, value: this.use(value) });
  }
  field(name: StateName): Value {
    return this.state(STATE[name].offset, STATE[name].type === "i64" ? 64 : 32);
  }
  setField(name: StateName, value: Value): void {
    this.setState(STATE[name].offset, STATE[name].type === "i64" ? 64 : 32, value);
  }
  gpr(register: number, bits: Bits): Value {
    return this.state(gprOffset(register), bits);
  }
  /** Writes a register by number; 32 bits clear the upper half, 8 bits are the low byte. */
  setGpr(register: number, bits: Bits, value: Value): void {
    this.setGprAt(gprOffset(register), bits, value);
  }
  protected setGprAt(offset: number, bits: Bits, value: Value): void {
    if (bits === 32) this.setState(offset, 64, this.op("i64.extend_i32_u", value));
    else this.setState(offset, bits, value);
  }

  /** A register that holds an offset or a count, cut to the address size (i64). */
  addressRegister(register: number): Value {
    return this.fit(this.gpr(register, this.context.addressSize), 64);
  }
  setAddressRegister(register: number, value: Value): void {
    const { addressSize } = this.context;
    this.setGpr(register, addressSize, this.fit(value, addressSize));
  }
  /** An offset (i64) cut to the address size. */
  cutToAddress(offset: Value): Value {
    const { addressSize } = this.context;
    return addressSize === 64 ? offset : this.and(offset, addressSize === 32 ? 0xffff_ffff : 0xffff);
  }
  /** Moves a segment's base, in the register and in the contexts that effective addresses are formed by. */
  setSegmentBase(segment: Segment, base: Value): void {
    this.setState(segmentField(segment, "base").offset, 64, base);
    for (const size of [16, 32, 64] as const) this.setState(addressContext(size, segment), 64, base);
  }

  // --- widths ---

  /** A value in the type that holds `bits`: cut, or extended by zeros. */
  fit(value: Value, bits: Bits): Value {
    return this.resize(value, bits === 64 ? "i64" : "i32");
  }

  /** The low `bits` of an i32 (8, 16 or 32), or an i64 as it is. */
  zeroExtend(value: Value, bits: Bits): Value {
    return bits >= 32 ? value : this.and(value, (1 << bits) - 1);
  }
  /** Sign-extends the low `bits` of a value within its own type. */
  signExtend(value: Value, bits: Bits): Value {
    if (value.type === "i64") return bits === 64 ? value : this.op(`i64.extend${bits}_s`, value);
    return bits >= 32 ? value : this.op(`i32.extend${bits}_s`, value);
  }
  /** Sign-extends an operand-sized value to i64. */
  signExtend64(value: Value, bits: Bits): Value {
    return value.type === "i64"
      ? this.signExtend(value, bits)
      : this.op("i64.extend_i32_s", this.signExtend(value, bits));
  }

  // --- flags [flags.ts] ---

  /** Flags of a + b (+ carry) = result, all of `bits`; the values may hold more bits, which are ignored. */
  flagsAdd(bits: Bits, a: Value, b: Value, result: Value): void {
    this.setFlags({ kind: "add", bits, a, b, result, plain: isPlain("add", a, b, result), carry: undefined });
  }
  /** Flags of a - b (- borrow) = result. */
  flagsSub(bits: Bits, a: Value, b: Value, result: Value): void {
    this.setFlags({ kind: "sub", bits, a, b, result, plain: isPlain("sub", a, b, result), carry: undefined });
  }
  /** Flags of a logical result: CF, OF and AF clear. */
  flagsLogic(bits: Bits, result: Value): void {
    this.setFlags({ kind: "logic", bits, a: result, b: result, result, plain: false, carry: undefined });
  }
  /** Flags of a + 1 or a - 1, but for CF, which stays: INC and DEC. */
  flagsStep(kind: "add" | "sub", bits: Bits, a: Value, one: Value, result: Value): void {
    this.setFlags({ kind, bits, a, b: one, result, plain: true, carry: this.carry() });
  }
  /** Flags by a rule. */
  setFlags(rule: FlagRule): void {
    const { kind, bits, a, b, result, carry } = rule;
    let aux = this.i32(0);
    if (kind === "add") {
      aux = this.#auxOf(bits, this.or(this.and(a, b), this.and(this.or(a, b), this.not(result))));
    } else if (kind === "sub") {
      const notA = this.not(a);
      aux = this.#auxOf(bits, this.or(this.and(notA, b), this.and(this.or(notA, b), result)));
    }
    if (carry !== undefined) aux = this.#withCarry(aux, carry);
    this.setField("flagsResult", this.signExtend64(result, bits));
    const { offset } = STATE.flagsAux;
    this.statement({ kind: "setState", offset, bits: 32, value: this.use(aux), rule });
  }
  /** ZF, SF and PF by the result, the others as given (i32, 0 or 1); absent ones are cleared. */
  flagsOf(bits: Bits, result: Value, others: { cf?: Value; of?: Value; af?: Value }): void {
    const cf = others.cf ?? this.i32(0);
    const of = others.of ?? this.i32(0);
    let aux = this.or(this.xor(cf, of), this.shl(cf, 1));
    if (others.af !== undefined) aux = this.or(aux, this.shl(others.af, 3));
    this.setResult(bits, result, aux);
  }
  /** Changes CF alone; `cf` is 0 or 1. */
  setCarry(cf: Value): void {
    this.setField("flagsAux", this.#withCarry(this.field("flagsAux"), cf));
  }
  #withCarry(aux: Value, cf: Value): Value {
    const overflow = this.xor(this.#overflowOf(aux), cf);
    return this.or(this.and(aux, ~3), this.or(overflow, this.shl(cf, 1)));
  }
  /** All six arithmetic flags at their places in RFLAGS (i32). */
  arithmeticFlags(): Value {
    const aux = this.field("flagsAux");
    const result = this.field("flagsResult");
    let flags = this.#carryOf(aux);
    const put = (value: Value, bit: number) => {
      flags = this.or(flags, this.shl(value, Math.log2(bit)));
    };
    put(this.#parityOf(result, aux), PF);
    put(this.and(this.shrU(aux, 3), 1), AF);
    put(this.isZero(result), ZF);
    put(this.#signOf(result, aux), SF);
    put(this.#overflowOf(aux), OF);
    return flags;
  }
  /** Sets all six arithmetic flags from their places in RFLAGS (i32). */
  setArithmeticFlags(flags: Value): void {
    const bit = (mask: number) => this.and(this.shrU(flags, Math.log2(mask)), 1);
    const zf = bit(ZF);
    const cf = bit(CF);
    let aux = this.or(this.xor(cf, bit(OF)), this.shl(cf, 1));
    aux = this.or(aux, this.shl(bit(AF), 3));
    aux = this.or(aux, this.shl(this.xor(bit(PF), zf), 8));
    aux = this.or(aux, this.shl(bit(SF), 16));
    this.setField("flagsResult", this.op("i64.extend_i32_u", this.xor(zf, 1)));
    this.setField("flagsAux", aux);
  }
  /** Changes some flags, given at their places in RFLAGS; `mask` is within the arithmetic six. */
  setSomeFlags(mask: number, flags: Value): void {
    this.setArithmeticFlags(this.or(this.and(this.arithmeticFlags(), ~mask), this.and(flags, mask)));
  }
  /** Changes CF and OF alone, each 0 or 1: rotates. */
  setCarryAndOverflow(cf: Value, of: Value): void {
    const kept = this.and(this.field("flagsAux"), ~3);
    this.setField("flagsAux", this.or(kept, this.or(this.xor(cf, of), this.shl(cf, 1))));
  }
  carry(): Value {
    const value = this.#carryOf(this.field("flagsAux"));
    value.condition = CONDITION_BELOW;
    return value;
  }
  /** A condition by its encoding (0 O, 1 NO, 2 B, ... 15 G) as 1 or 0 [SDM 1 appendix B]. */
  condition(code: number): Value {
    const positive = this.#condition(code >> 1);
    const value = (code & 1) === 0 ? positive : this.isZero(positive);
    value.condition = code;
    return value;
  }
  #condition(pair: number): Value {
    const aux = this.field("flagsAux");
    const result = this.field("flagsResult");
    switch (pair) {
      case 0:
        return this.#overflowOf(aux);
      case 1:
        return this.#carryOf(aux);
      case 2:
        return this.isZero(result);
      case 3:
        return this.or(this.#carryOf(aux), this.isZero(result));
      case 4:
        return this.#signOf(result, aux);
      case 5:
        return this.#parityOf(result, aux);
      case 6:
        return this.xor(this.#signOf(result, aux), this.#overflowOf(aux));
      default:
        return this.or(this.xor(this.#signOf(result, aux), this.#overflowOf(aux)), this.isZero(result));
    }
  }
  protected setResult(bits: Bits, result: Value, aux: Value): void {
    this.setField("flagsResult", this.signExtend64(result, bits));
    this.setField("flagsAux", aux);
  }
  /** The auxiliary word from a vector of carries out of every bit. */
  #auxOf(bits: Bits, carries: Value): Value {
    const top = this.and(this.resize(this.shrU(carries, bits - 2), "i32"), 3);
    return this.or(top, this.and(this.resize(carries, "i32"), 8));
  }
  #carryOf(aux: Value): Value {
    return this.and(this.shrU(aux, 1), 1);
  }
  #overflowOf(aux: Value): Value {
    return this.and(this.shrU(this.add(aux, 1), 1), 1);
  }
  #signOf(result: Value, aux: Value): Value {
    const sign = this.op("i32.wrap_i64", this.shrU(result, 63));
    return this.and(this.xor(sign, this.shrU(aux, 16)), 1);
  }
  #parityOf(result: Value, aux: Value): Value {
    const byte = this.and(this.xor(this.op("i32.wrap_i64", result), this.shrU(aux, 8)), 0xff);
    return this.and(this.not(this.op("i32.popcnt", byte)), 1);
  }

  // --- stack ---

  #stackMask(pointer: Value): Value {
    const { stackSize } = this.context;
    return stackSize === 64
      ? pointer
      : this.op("i64.and", pointer, this.i64(stackSize === 32 ? 0xffff_ffffn : 0xffffn));
  }
  #setStackPointer(pointer: Value): void {
    const { stackSize } = this.context;
    if (stackSize === 64) this.setGpr(RSP, 64, pointer);
    else this.setGpr(RSP, stackSize, this.op("i32.wrap_i64", pointer));
  }
  /** Pushes a value of `bits`; RSP changes after the store succeeded. */
  push(value: Value, bits: Bits): void {
    const top = this.#stackMask(this.sub(this.gpr(RSP, 64), bits / 8));
    this.store(this.linear("ss", top), bits, value);
    this.#setStackPointer(top);
  }
  /** The value at `depth` bytes above the top of the stack, unpopped. */
  peek(bits: Bits, depth = 0): Value {
    return this.load(this.linear("ss", this.#stackMask(this.add(this.gpr(RSP, 64), depth))), bits);
  }
  /** Linear address at `depth` bytes above the top of the stack; negative below it. */
  stackAddress(depth: number): Value {
    return this.linear("ss", this.#stackMask(this.add(this.gpr(RSP, 64), depth)));
  }
  /** Linear address that a stack offset (i64) means, cut to the stack's size. */
  stackLinear(offset: Value): Value {
    return this.linear("ss", this.#stackMask(offset));
  }
  /** Writes the stack pointer by the stack's size. */
  setStackPointer(pointer: Value): void {
    this.#setStackPointer(pointer);
  }
  /** Adds to RSP: the second half of a pop, said after everything that may fault. */
  dropStack(bytes: number | Value): void {
    this.#setStackPointer(this.#stackMask(this.add(this.gpr(RSP, 64), bytes)));
  }

  // --- control ---

  /** The instruction pointer (i64) of the next instruction, and of this one. */
  nextRip(): Value {
    return this.ordered("i64", { kind: "rip", next: true });
  }
  thisRip(): Value {
    return this.ordered("i64", { kind: "rip", next: false });
  }
  /** RIP that a relative operand leads to, cut to the operand size outside 64-bit mode. */
  target(operand: Operand): Value {
    return this.ordered("i64", { kind: "target", operand });
  }
  jump(target: Value): void {
    this.statement({ kind: "jump", target: this.use(target) });
  }
  jumpRelative(operand: Operand): void {
    if (this.#codeLimited) this.requireTarget(this.target(operand));
    this.statement({ kind: "jumpRelative", operand });
  }
  repeat(): void {
    this.statement({ kind: "repeat" });
  }
  endTrace(poll: boolean): void {
    this.statement({ kind: "endTrace", poll });
  }
  /** Raises an exception; `error` (i32) for those that push a code. */
  fault(vector: number, error?: Value | number): void {
    const code = typeof error === "number" ? this.i32(error) : error;
    if (code !== undefined) this.use(code);
    this.statement({ kind: "fault", vector, error: code });
  }
  faultWhen(condition: Value, vector: number, error?: number): void {
    this.when(condition, () => {
      this.fault(vector, error);
    });
  }
  /** #GP(0) above ring 0. */
  requirePrivilege(): void {
    this.faultWhen(this.field("cpl"), EXCEPTION.GP, 0);
  }
  /** Ends the trace at the next instruction; with `poll` interrupts are looked for first. */
  leave(poll: boolean): void {
    this.setField("rip", this.nextRip());
    this.endTrace(poll);
  }
  /** A whole instruction done by the engine outside WebAssembly [cpu/wasm/system]; the trace ends after it. RIP is the
   * next instruction's before the call, so that a helper that jumps simply sets it. */
  system(name: string, args: readonly Value[] = []): void {
    this.setField("rip", this.nextRip());
    this.call(name, args);
    this.endTrace(true);
  }
  /** The string instructions' step: the element's size, negative where DF is set (i64). */
  stringStep(bits: Bits): Value {
    const down = this.and(this.field("flagsSystem"), 1 << 10);
    return this.select(down, this.i64(-bits / 8), this.i64(bits / 8));
  }
  /** EFLAGS.AC and the like: whether a system flag is set (i32, non-zero). */
  systemFlag(mask: number): Value {
    return this.and(this.field("flagsSystem"), mask);
  }
  /** Sets or clears EFLAGS.AC [SDM 2, STAC]; the engine's view of memory changes with it. */
  setAlignmentCheck(on: boolean): void {
    const flags = this.field("flagsSystem");
    this.setField("flagsSystem", on ? this.or(flags, AC) : this.and(flags, ~AC));
    this.call("viewChanged", [], true);
  }
}
