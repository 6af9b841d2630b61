/** Conditions straight from what set the flags: a comparison in place of flags and their test [SDM 1 appendix B]. */

import type { Bits, FlagRule, Value } from "../../../isa/ir.ts";
import type { CodeWriter } from "../../../wasm/code.ts";

/** Pairs of conditions by their encoding / 2. */
const PAIR = { O: 0, B: 1, E: 2, BE: 3, S: 4, P: 5, L: 6, LE: 7 } as const;

/** Whether a condition can be had without the flags. */
export function isFusable(rule: FlagRule, condition: number): boolean {
  const pair = condition >> 1;
  if (pair === PAIR.E || pair === PAIR.S) return true;
  if (pair === PAIR.O || pair === PAIR.P) return false;
  if (rule.kind === "logic") return true;
  if (pair === PAIR.B || pair === PAIR.BE) return rule.plain || rule.carry !== undefined;
  return rule.kind === "sub" && rule.plain;
}

/** Whether the bits of a value above `bits` are known to be 0. */
function isZeroExtended({ source, args }: Value, bits: Bits): boolean {
  switch (source.kind) {
    case "operand":
      return source.operand.bits <= bits;
    case "state":
    case "load":
      return source.bits <= bits;
    case "pure": {
      const mask = args[1]?.source;
      return source.op === "i32.and" && mask?.kind === "constant" && Number(mask.value) >>> 0 < 2 ** bits;
    }
    case "constant":
      return Number(source.value) >= 0 && Number(source.value) < 2 ** bits;
    default:
      return false;
  }
}

/** Pushes a condition (1 or 0) that `isFusable`. */
export function pushCondition(code: CodeWriter, rule: FlagRule, condition: number, push: (value: Value) => void): void {
  const { kind, bits, a, b, result, carry } = rule;
  const { type } = result;
  const unsigned = (value: Value) => {
    push(value);
    if (bits >= 32 || isZeroExtended(value, bits)) return;
    code.i32((1 << bits) - 1);
    code.op("i32.and");
  };
  const signed = (value: Value) => {
    push(value);
    if (bits < 32) code.op(`i32.extend${bits}_s`);
  };
  const zero = () => (type === "i64" ? code.i64(0n) : code.i32(0));
  const isZero = () => {
    // A difference is 0 where both are equal: the comparison that V8 fuses best.
    if (kind === "sub" && rule.plain) {
      unsigned(a);
      unsigned(b);
      code.op(`${type}.eq`);
      return;
    }
    unsigned(result);
    code.op(`${type}.eqz`);
  };
  const below = () => {
    if (carry !== undefined) push(carry);
    else if (kind === "logic") code.i32(0);
    else {
      unsigned(kind === "sub" ? a : result);
      unsigned(kind === "sub" ? b : a);
      code.op(`${type}.lt_u`);
    }
  };
  const compare = (left: Value, right: Value | undefined, op: string, take: (value: Value) => void) => {
    take(left);
    if (right === undefined) zero();
    else take(right);
    code.op(`${type}.${op}`);
  };
  switch (condition >> 1) {
    case PAIR.B:
      below();
      break;
    case PAIR.E:
      isZero();
      break;
    case PAIR.BE:
      if (kind === "sub" && carry === undefined) compare(a, b, "le_u", unsigned);
      else if (kind === "logic") isZero();
      else {
        below();
        isZero();
        code.op("i32.or");
      }
      break;
    case PAIR.S:
      compare(result, undefined, "lt_s", signed);
      break;
    case PAIR.L:
      if (kind === "logic") compare(result, undefined, "lt_s", signed);
      else compare(a, b, "lt_s", signed);
      break;
    case PAIR.LE:
      if (kind === "logic") compare(result, undefined, "le_s", signed);
      else compare(a, b, "le_s", signed);
      break;
    default:
      throw new Error(`condition ${condition} needs the flags themselves`);
  }
  if ((condition & 1) !== 0) code.op("i32.eqz");
}
