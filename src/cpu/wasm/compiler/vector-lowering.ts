/** Vector registers of a region, which lie in locals, and what is known of the floats in them. */

import type { Bits, Statement, Value } from "../../../isa/ir.ts";
import { isSseGuard } from "./fast-path.ts";
import { FloatFacts } from "./float-facts.ts";
import { MemoryLowering } from "./memory-lowering.ts";
import { isXmm, isZeroIdiom, xmmNumber, zeroExtended } from "./vector-registers.ts";

export abstract class VectorLowering extends MemoryLowering {
  /** Loaded integers that are used as floats: kept as such. */
  readonly #floats = new Map<Value, { readonly local: number; readonly type: "f32" | "f64" }>();
  /** MXCSR, or the result, was found to allow the fast path of the present instruction. */
  protected allowed = false;
  /** What is known of vector registers and MXCSR on this way. */
  facts = new FloatFacts();

  /** Where a value lies that is read from a vector register: it is read where it is used, since an instruction writes its
   * register last. */
  protected vectorOffset(value: Value): number | undefined {
    const { source } = value;
    // One that has a local may be an earlier instruction's, of which flags are still to be computed.
    if (source.kind !== "operand" || this.values.has(value)) return undefined;
    const offset = this.register(source.operand);
    return isXmm(offset) ? offset : undefined;
  }

  /** What a float is made of that is an integer's bits. */
  #floatOf({ source, args }: Value): Value | undefined {
    const isFloat =
      source.kind === "pure" && (source.op === "f64.reinterpret_i64" || source.op === "f32.reinterpret_i32");
    return isFloat ? args[0] : undefined;
  }

  /** Loads of which a float is made. */
  protected loadsAsFloats(statements: readonly Statement[]): ReadonlySet<Value> {
    const found = new Set<Value>();
    const note = (value: Value | undefined) => {
      if (value?.source.kind === "load" && value.source.intent === "read" && value.source.bits >= 32) found.add(value);
    };
    const visit = (list: readonly Statement[]) => {
      for (const s of list) {
        if (s.kind === "evaluate") note(this.#floatOf(s.value));
        else if (s.kind === "setOperand" && s.operand.bits === 128) {
          const offset = this.register(s.operand);
          const low = zeroExtended(s.value);
          if (isXmm(offset) && this.target.vectors.isDouble(xmmNumber(offset)) && low?.type === "i64") note(low);
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
    if (this.vectorOffset(value) !== undefined || isSseGuard(value)) return true;
    // Found to hold, its variable was never set.
    if (value.test?.kind === "allowed" && this.holds(value)) return true;
    const bits = this.#floatOf(value);
    if (bits !== undefined && (this.vectorOffset(bits) !== undefined || this.#floats.has(bits))) return true;
    if (!this.asFloats.has(value) || value.uses === 0) return false;
    const { source } = value;
    const [address] = value.args;
    if (source.kind !== "load" || address === undefined) return false;
    const type = source.bits === 64 ? "f64" : "f32";
    this.load(value, address, source.bits, "read");
    const local = this.target.locals.take(type);
    this.code.set(local);
    this.#floats.set(value, { local, type });
    return true;
  }

  protected override pushSpecially(value: Value): boolean {
    const { code } = this;
    const { vectors } = this.target;
    const { source } = value;
    const offset = this.vectorOffset(value);
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
      const from = this.vectorOffset(bits);
      const loaded = this.#floats.get(bits);
      if (loaded !== undefined) code.get(loaded.local);
      else if (from === undefined) return false;
      else if (value.type === "f64") vectors.pushDouble(from);
      else vectors.pushSingle(from);
      return true;
    }
    if (isZeroIdiom(value, this.now.registers)) {
      vectors.pushZero();
      return true;
    }
    return false;
  }

  /** Pushes 64 bits as a double. */
  #pushAsDouble(value: Value): void {
    const { code } = this;
    const { vectors } = this.target;
    const { source, args } = value;
    const [float] = args;
    const offset = this.vectorOffset(value);
    const loaded = this.#floats.get(value);
    if (loaded !== undefined) code.get(loaded.local);
    else if (offset !== undefined) vectors.pushDouble(offset);
    else if (source.kind === "pure" && source.op === "i64.reinterpret_f64" && float !== undefined) this.push(float);
    else {
      this.push(value);
      code.op("f64.reinterpret_i64");
    }
  }

  protected setVector(offset: number, bits: Bits, value: Value): void {
    const { code } = this;
    const { vectors } = this.target;
    const number = xmmNumber(offset);
    const from = this.vectorOffset(value);
    const isZero = isZeroIdiom(value, this.now.registers);
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

  protected reloadMxcsr(): void {
    this.target.loadMxcsr();
    this.facts.ordinary = false;
  }

  /** Whether a test is known to hold. */
  protected holds({ test }: Value): boolean {
    if (test === undefined) return false;
    if (test.kind === "allowed" && this.allowed) return true;
    if (test.kind !== "plain") return this.facts.ordinary;
    const number = this.testedRegister(test.value);
    return number !== undefined && this.facts.isPlain(number, test.type);
  }
  protected testedRegister(value: Value): number | undefined {
    const offset = this.vectorOffset(this.#floatOf(value) ?? value);
    return offset === undefined ? undefined : xmmNumber(offset);
  }
}
