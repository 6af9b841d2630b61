/**
 * The compiler's reading of the table: control, helpers and the conditions of fast paths. What leaves the fast path
 * leaves the region, with the state as it was before the instruction.
 */

import type { HelperCall, Statement, Value } from "../../../isa/ir.ts";
import { EXACT_HELPERS, isBoolean, isSseGuard, leavesAtOnce } from "./fast-path.ts";
import { FloatFacts } from "./float-facts.ts";
import { VectorLowering } from "./vector-lowering.ts";

export class PinnedLowering extends VectorLowering {
  /** Emits the instruction; whether control cannot come out of its end. */
  instruction(statements: readonly Statement[]): boolean {
    this.asFloats = this.loadsAsFloats(statements);
    this.allowed = false;
    return this.block(statements);
  }

  // --- control ---

  protected branch(s: Extract<Statement, { kind: "if" }>): boolean {
    const { code } = this;
    // Whether SSE may be used was looked at when the region was entered.
    if (isSseGuard(s.condition)) return false;
    if (this.holds(s.condition)) return this.block(s.then);
    if (s.condition.test?.kind === "ordinary" && s.else.length > 0 && this.#exactly(s)) return false;
    if (leavesAtOnce(s.then)) {
      this.push(s.condition);
      code.if();
      this.target.retry();
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
      this.target.retry();
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
    this.target.jump();
  }
  protected jumpRelative(): void {
    const { context, length, immediateLow } = this.now;
    if (context.long || context.operandSize !== 16) {
      this.target.relative();
      return;
    }
    this.pushRip(this.at + length + immediateLow, true);
    this.target.leave();
  }
  protected repeat(): void {
    throw new Error("the interpreter runs instructions that repeat");
  }
  protected endTrace(poll: boolean): void {
    this.target.leaveStored(poll);
  }
  protected leaveWithFault(): void {
    this.target.fault();
  }
  protected call(call: HelperCall): void {
    this.callHelper(call);
    for (const number of this.spilled) {
      this.target.vectors.load(number);
      this.facts.set(number, undefined);
    }
    // A conversion from memory to an MMX register names no XMM register, and yet may set exceptions.
    if (EXACT_HELPERS.has(call.name)) this.reloadMxcsr();
    this.spilled.clear();
    if (call.name === "viewChanged") this.target.viewChanged();
    if (!call.quiet) this.checkFault();
  }

  /** A result that may be inexact where MXCSR is ordinary: elsewhere it is looked at, out of the way, and the region left
   * where it is not exact. */
  #exactly({ then, else: otherwise }: Extract<Statement, { kind: "if" }>): boolean {
    const [certain] = then;
    const last = otherwise.at(-1);
    if (then.length !== 1 || certain?.kind !== "assign" || certain.value.source.kind !== "constant") return false;
    if (last?.kind !== "assign" || last.variable !== certain.variable) return false;
    const { code } = this;
    code.get(this.target.ordinary);
    code.op("i32.eqz");
    code.if();
    this.block(otherwise.slice(0, -1));
    this.push(last.value);
    code.op("i32.eqz");
    code.if();
    this.target.retry();
    code.end();
    code.end();
    this.allowed = true;
    return true;
  }

  // --- conditions of fast paths ---

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
      if (this.holds(part)) continue;
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
    const parts = this.#parts(condition, "v128.and").filter((part) => !this.holds(part));
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
          const number = this.testedRegister(test.value);
          if (number !== undefined && !this.facts.isPlain(number, test.type)) this.facts.set(number, test.type);
        }
      }
    }
  }
}
