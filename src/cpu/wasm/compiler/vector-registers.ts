/**
 * XMM registers in a region: each in locals from the region's start to its end, as a vector, or as a double and the 64
 * bits above it where the region uses it mostly so. A scalar that stays in a vector's lane costs half as much again.
 */

import type { Decoded } from "../../../isa/decode.ts";
import type { Bits, Statement, Value } from "../../../isa/ir.ts";
import { XMM, xmmOffset } from "../../../isa/state.ts";
import type { CodeWriter } from "../../../wasm/code.ts";
import { STATE_BASE } from "../layout.ts";

const XMM_BYTES = 16;
const REGISTERS = 16;
const ZERO = new Uint8Array(XMM_BYTES);

export function isXmm(offset: number): boolean {
  return offset >= XMM && offset < XMM + REGISTERS * XMM_BYTES;
}
export function xmmNumber(offset: number): number {
  return (offset - XMM) >> 4;
}

/** A v128.xor of a register with itself: how zero is made. */
export function isZeroIdiom({ source, args }: Value, registers: readonly number[]): boolean {
  if (source.kind !== "pure" || source.op !== "v128.xor") return false;
  const [a, b] = args.map((arg) => (arg.source.kind === "operand" ? registers[arg.source.operand.index] : undefined));
  return a !== undefined && a === b;
}

/** The low part that a vector is made of whose rest is zero: what MOVSD and MOVD load. */
export function zeroExtended({ source, args }: Value): Value | undefined {
  const [into, low] = args;
  if (source.kind !== "pure" || source.lanes?.[0] !== 0 || into?.source.kind !== "constant") return undefined;
  if (source.op !== "i64x2.replace_lane" && source.op !== "i32x4.replace_lane") return undefined;
  return (into.source.value as Uint8Array).every((byte) => byte === 0) ? low : undefined;
}

/** How often a region uses registers as doubles and as whole vectors, and which it writes. */
export class VectorUse {
  readonly used = new Set<number>();
  readonly written = new Set<number>();
  readonly #doubles = new Map<number, number>();
  readonly #vectors = new Map<number, number>();

  note(decoded: Decoded, statements: readonly Statement[]): void {
    const copied = new Set<Value>();
    const at = (index: number) => decoded.registers[index as 0 | 1 | 2];
    const count = (offset: number, bits: Bits, plain: boolean) => {
      if (!isXmm(offset)) return;
      const number = xmmNumber(offset);
      this.used.add(number);
      if (plain) return;
      const counts = bits === 64 && (offset & 15) === 0 ? this.#doubles : this.#vectors;
      counts.set(number, (counts.get(number) ?? 0) + 1);
    };
    const isPlain = (value: Value): boolean => {
      if (value.source.kind === "operand" || value.source.kind === "constant") return true;
      return isZeroIdiom(value, decoded.registers) || zeroExtended(value)?.type === "i64";
    };
    const visit = (list: readonly Statement[]) => {
      for (const s of list) {
        if (s.kind === "setOperand" || s.kind === "setState") {
          const offset = s.kind === "setOperand" ? at(s.operand.index) : s.offset;
          const bits = s.kind === "setOperand" ? s.operand.bits : s.bits;
          const plain = bits === 128 && isPlain(s.value);
          if (plain) for (const value of [s.value, ...s.value.args]) copied.add(value);
          count(offset, bits, plain);
          if (isXmm(offset)) this.written.add(xmmNumber(offset));
        } else if (s.kind === "if") {
          visit(s.then);
          visit(s.else);
        }
      }
    };
    visit(statements);
    const reads = (list: readonly Statement[]) => {
      for (const s of list) {
        if (s.kind === "evaluate") {
          const { source } = s.value;
          if (source.kind === "operand") count(at(source.operand.index), source.operand.bits, copied.has(s.value));
          else if (source.kind === "state") count(source.offset, source.bits, copied.has(s.value));
          else if (source.kind === "operandOffset") {
            const offset = at(source.operand.index);
            count(offset, 128, false);
            // A helper may write it there.
            if (isXmm(offset)) this.written.add(xmmNumber(offset));
          }
        } else if (s.kind === "if") {
          reads(s.then);
          reads(s.else);
        }
      }
    };
    reads(statements);
  }

  isDouble(register: number): boolean {
    const doubles = this.#doubles.get(register) ?? 0;
    return doubles > 0 && doubles >= (this.#vectors.get(register) ?? 0);
  }
}

type Home =
  | { readonly kind: "vector"; readonly local: number }
  | { readonly kind: "double"; readonly low: number; readonly high: number };

/** The locals of a region's XMM registers, and the code that reads and writes them. */
export class VectorRegisters {
  readonly #code: CodeWriter;
  readonly #homes = new Map<number, Home>();
  readonly #written: ReadonlySet<number>;
  /** For taking vectors apart. */
  readonly #scratch: number;

  constructor(code: CodeWriter, use: VectorUse) {
    this.#code = code;
    this.#written = use.written;
    for (const number of use.used) {
      this.#homes.set(
        number,
        use.isDouble(number)
          ? { kind: "double", low: code.local("f64"), high: code.local("i64") }
          : { kind: "vector", local: code.local("v128") },
      );
    }
    this.#scratch = use.used.size > 0 ? code.local("v128") : 0;
  }

  isDouble(number: number): boolean {
    return this.#home(number).kind === "double";
  }

  #home(number: number): Home {
    const home = this.#homes.get(number);
    if (home === undefined) throw new Error(`XMM${number} has no local`);
    return home;
  }

  /** Loads all registers from the state. */
  loadAll(): void {
    for (const number of this.#homes.keys()) this.load(number);
  }
  /** Stores those that the region writes. */
  storeAll(): void {
    for (const number of this.#written) this.store(number);
  }

  load(number: number): void {
    const code = this.#code;
    const home = this.#home(number);
    const at = STATE_BASE + xmmOffset(number);
    code.i32(0);
    if (home.kind === "vector") {
      code.memory("v128.load", at);
      code.set(home.local);
      return;
    }
    code.memory("f64.load", at);
    code.set(home.low);
    code.i32(0);
    code.memory("i64.load", at + 8);
    code.set(home.high);
  }

  store(number: number): void {
    const code = this.#code;
    const home = this.#home(number);
    const at = STATE_BASE + xmmOffset(number);
    code.i32(0);
    if (home.kind === "vector") {
      code.get(home.local);
      code.memory("v128.store", at);
      return;
    }
    code.get(home.low);
    code.memory("f64.store", at);
    code.i32(0);
    code.get(home.high);
    code.memory("i64.store", at + 8);
  }

  /** Pushes `bits` at a place in the state, zero-extended to i32, or i64, or v128. */
  push(offset: number, bits: Bits): void {
    const code = this.#code;
    const home = this.#home(xmmNumber(offset));
    const byte = offset & 15;
    if (home.kind === "double") {
      if (bits === 64) {
        if (byte === 0) this.pushDouble(offset);
        else code.get(home.high);
        if (byte === 0) code.op("i64.reinterpret_f64");
        return;
      }
      if (bits === 32 && byte === 0) {
        code.get(home.low);
        code.op("i64.reinterpret_f64");
        code.op("i32.wrap_i64");
        return;
      }
      code.get(home.low);
      code.op("f64x2.splat");
      code.get(home.high);
      code.op("i64x2.replace_lane", [1]);
    } else code.get(home.local);
    if (bits === 64) code.op("i64x2.extract_lane", [byte >> 3]);
    else if (bits === 32) code.op("i32x4.extract_lane", [byte >> 2]);
    else if (bits === 16) code.op("i16x8.extract_lane_u", [byte >> 1]);
    else if (bits === 8) code.op("i8x16.extract_lane_u", [byte]);
  }

  /** Pushes the low 64 bits as a double, or the low 32 bits as a single. */
  pushDouble(offset: number): void {
    const home = this.#home(xmmNumber(offset));
    if (home.kind === "double") this.#code.get(home.low);
    else {
      this.#code.get(home.local);
      this.#code.op("f64x2.extract_lane", [0]);
    }
  }
  pushSingle(offset: number): void {
    const home = this.#home(xmmNumber(offset));
    if (home.kind === "vector") {
      this.#code.get(home.local);
      this.#code.op("f32x4.extract_lane", [0]);
    } else {
      this.push(offset, 32);
      this.#code.op("f32.reinterpret_i32");
    }
  }

  /** Sets the low 64 bits to a double. */
  setDouble(offset: number, push: () => void): void {
    const code = this.#code;
    const home = this.#home(xmmNumber(offset));
    if (home.kind === "double") {
      push();
      code.set(home.low);
      return;
    }
    code.get(home.local);
    push();
    code.op("f64x2.replace_lane", [0]);
    code.set(home.local);
  }
  /** Sets a register that is kept as a double, and the bits above. */
  setHalves(number: number, low: () => void, high: () => void): void {
    const home = this.#home(number);
    if (home.kind !== "double") throw new Error(`XMM${number} is kept as a vector`);
    low();
    this.#code.set(home.low);
    high();
    this.#code.set(home.high);
  }
  /** Pushes the bits above the low 64. */
  pushHigh(number: number): void {
    this.push(xmmOffset(number) + 8, 64);
  }

  /** Sets `bits` at a place in the state; the value is an i32, i64, f32 or v128. */
  set(offset: number, bits: Bits, type: Value["type"], push: () => void): void {
    const code = this.#code;
    const number = xmmNumber(offset);
    const home = this.#home(number);
    const byte = offset & 15;
    if (home.kind === "double") {
      if (bits === 64) {
        push();
        if (byte === 0) code.op("f64.reinterpret_i64");
        code.set(byte === 0 ? home.low : home.high);
        return;
      }
      if (bits !== 128) this.push(xmmOffset(number), 128);
    } else if (bits !== 128) code.get(home.local);
    push();
    if (bits === 64) code.op("i64x2.replace_lane", [byte >> 3]);
    else if (bits === 32) code.op(type === "f32" ? "f32x4.replace_lane" : "i32x4.replace_lane", [byte >> 2]);
    else if (bits === 16) code.op("i16x8.replace_lane", [byte >> 1]);
    else if (bits === 8) code.op("i8x16.replace_lane", [byte]);
    if (home.kind === "vector") {
      code.set(home.local);
      return;
    }
    code.tee(this.#scratch);
    code.op("f64x2.extract_lane", [0]);
    code.set(home.low);
    code.get(this.#scratch);
    code.op("i64x2.extract_lane", [1]);
    code.set(home.high);
  }

  pushZero(): void {
    this.#code.v128(ZERO);
  }
}
