/** Floating-point arithmetic: ADD, SUB, MUL, DIV, SQRT, MIN, MAX, their sums of neighbours, approximations [SDM 2]. */

import { sseCode } from "../float/sse-packed.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { exactly, ordinaryMxcsr, ordinaryOrExact, PD, PS, SHAPES, type Shape } from "./sse-float.ts";
import { everyOther, readAligned, sseGuard, words32 } from "./sse-operands.ts";

/** What the fast path computes, and which of its zeros are exact. `a` and `b` are plain. */
interface Rule {
  compute(m: Semantics, shape: Shape, a: Value, b: Value): Value;
  /** Whether a zero result comes of zero operands, and not of underflow. */
  zero(m: Semantics, shape: Shape, a: Value, b: Value): Value | "always";
  /** Whether a normal result is surely exact (i32); absent: nobody knows. */
  exact?(m: Semantics, shape: Shape, a: Value, b: Value, result: Value): Value;
}

/** What a + b lost by rounding is itself a float [Knuth, TAOCP 2, §4.2.2, theorem B]. */
function exactSum(m: Semantics, shape: Shape, a: Value, b: Value, sum: Value): Value {
  const rounded = shape.op(m, "sub", sum, a);
  const lostOfA = shape.op(m, "sub", a, shape.op(m, "sub", sum, rounded));
  const lost = shape.op(m, "add", lostOfA, shape.op(m, "sub", b, rounded));
  return shape.all(m, shape.isZero(m, lost));
}

/** Whether x * y is exact and equal to z. Singles multiply exactly as doubles; of doubles the zeros at the ends of the
 * significands are counted. */
function exactProduct(m: Semantics, shape: Shape, x: Value, y: Value, z: Value): Value {
  if (shape.packed) return m.i32(0);
  const double = (value: Value) => (shape.lane === "f32" ? m.op("f64.promote_f32", value) : value);
  const equal = m.op("f64.eq", m.op("f64.mul", double(x), double(y)), double(z));
  if (shape.lane === "f32") return equal;
  const zeros = (value: Value) => m.op("i64.ctz", m.op("i64.reinterpret_f64", value));
  return m.and(equal, m.op("i64.gt_u", m.add(zeros(x), zeros(y)), m.i64(52)));
}

function operation(name: string, zero: Rule["zero"], exact: NonNullable<Rule["exact"]>): Rule {
  return { compute: (m, shape, a, b) => shape.op(m, name, a, b), zero, exact };
}
const ADD = operation("add", () => "always", exactSum);
const SUB = operation(
  "sub",
  () => "always",
  (m, shape, a, b, result) => exactSum(m, shape, a, shape.op(m, "neg", b), result),
);
const MUL = operation(
  "mul",
  (m, shape, a, b) => shape.or(m, shape.isZero(m, a), shape.isZero(m, b)),
  (m, shape, a, b, result) => exactProduct(m, shape, a, b, result),
);
const DIV = operation(
  "div",
  (m, shape, a) => shape.isZero(m, a),
  (m, shape, a, b, result) => exactProduct(m, shape, result, b, a),
);
const SQRT: Rule = {
  compute: (m, shape, _a, b) => shape.op(m, "sqrt", b),
  zero: () => "always",
  exact: (m, shape, _a, b, result) => exactProduct(m, shape, result, result, b),
};

/** Whether a result is what the processor would give, without exceptions but PE. */
function isGood(m: Semantics, shape: Shape, rule: Rule, a: Value, b: Value, result: Value): Value {
  let zero = shape.isZero(m, result);
  const exact = rule.zero(m, shape, a, b);
  if (exact !== "always") zero = shape.and(m, zero, exact);
  return shape.or(m, shape.isNormal(m, result), zero);
}

/** Reads the operands, and does the operation fast or exactly. */
function compute(m: Semantics, shape: Shape, rule: Rule, code: number, dst: Operand, src: Operand): void {
  sseGuard(m);
  const source = readAligned(m, src);
  const destination = m.read(dst);
  const a = shape.float(m, destination);
  const b = shape.float(m, source);
  const result = rule.compute(m, shape, a, b);
  let plain = shape.isPlain(m, b);
  if (rule !== SQRT) plain = shape.and(m, plain, shape.isPlain(m, a));
  const good = shape.all(m, shape.and(m, plain, isGood(m, shape, rule, a, b, result)));
  const { exact } = rule;
  const allowed = exact === undefined ? ordinaryMxcsr(m) : ordinaryOrExact(m, () => exact(m, shape, a, b, result));
  m.when(
    m.and(good, allowed),
    () => {
      m.write(dst, shape.plainBits(m, result));
    },
    () => {
      exactly(m, m.i32(code), dst, src, source);
    },
  );
}

function arithmetic(name: string, opcode: string, rule: Rule): Instruction[] {
  return SHAPES.map((shape) => {
    const code = sseCode(name.toLowerCase() + shape.suffix);
    return {
      name: name + shape.suffix.toUpperCase(),
      forms: [`${shape.prefix} 0F ${opcode} /r ${shape.operands}`],
      effect(m: Semantics, dst: Operand, src: Operand) {
        compute(m, shape, rule, code, dst, src);
      },
    };
  });
}

/** MIN and MAX: the first operand if it is beyond the second, else the second. Nothing is rounded, so MXCSR only
 * counts where an operand is a NaN or denormal. */
function choice(name: string, opcode: string, beyond: "lt" | "gt"): Instruction[] {
  return SHAPES.map((shape) => {
    const code = sseCode(name.toLowerCase() + shape.suffix);
    return {
      name: name + shape.suffix.toUpperCase(),
      forms: [`${shape.prefix} 0F ${opcode} /r ${shape.operands}`],
      effect(m: Semantics, dst: Operand, src: Operand) {
        sseGuard(m);
        const source = readAligned(m, src);
        const destination = m.read(dst);
        const a = shape.float(m, destination);
        const b = shape.float(m, source);
        const plain = shape.all(m, shape.and(m, shape.isPlain(m, a), shape.isPlain(m, b)));
        m.when(
          plain,
          () => {
            const first = shape.op(m, beyond, a, b);
            m.write(
              dst,
              shape.packed ? m.op("v128.bitselect", destination, source, first) : m.select(first, destination, source),
            );
          },
          () => {
            exactly(m, m.i32(code), dst, src, source);
          },
        );
      },
    };
  });
}

/** RCP and RSQRT, always by the helper: their bits are the vendor's tables. They raise nothing. */
function approximation(name: string, opcode: string): Instruction[] {
  return SHAPES.filter((shape) => shape.lane === "f32").map((shape) => {
    const code = sseCode(name.toLowerCase() + shape.suffix);
    return {
      name: name + shape.suffix.toUpperCase(),
      forms: [`${shape.prefix} 0F ${opcode} /r ${shape.operands}`],
      effect(m: Semantics, dst: Operand, src: Operand) {
        sseGuard(m);
        exactly(m, m.i32(code), dst, src, readAligned(m, src));
      },
    };
  });
}

/** HADD and HSUB: lane 0 with 1, lane 2 with 3, of the destination and then of the source. */
function neighbours(rule: Rule): Rule {
  return {
    compute(m, shape, a, b) {
      const size = shape.lane === "f32" ? 4 : 8;
      return rule.compute(m, shape, everyOther(m, a, b, size, 0), everyOther(m, a, b, size, 1));
    },
    zero: () => "always",
  };
}

/** ADDSUB: even lanes subtract, odd ones add. */
const ALTERNATE: Rule = {
  compute(m, shape, a, b) {
    const signs = shape.lane === "f32" ? words32([1 << 31, 0, 1 << 31, 0]) : words32([0, 1 << 31, 0, 0]);
    return shape.op(m, "add", a, m.op("v128.xor", b, m.v128(signs)));
  },
  zero: () => "always",
};

/** An SSE3 instruction, of which the single form has the prefix F2 and the double form 66. */
function sse3(name: string, opcode: string, rule: Rule): Instruction[] {
  return (
    [
      ["F2", PS],
      ["66", PD],
    ] as const
  ).map(([prefix, shape]) => {
    const code = sseCode(name.toLowerCase() + shape.suffix);
    return {
      name: name + shape.suffix.toUpperCase(),
      forms: [`${prefix} 0F ${opcode} /r Vdq,Wdq`],
      feature: "sse3",
      effect(m: Semantics, dst: Operand, src: Operand) {
        compute(m, shape, rule, code, dst, src);
      },
    };
  });
}

export const SSE_ARITHMETIC: readonly Instruction[] = [
  ...arithmetic("SQRT", "51", SQRT),
  ...approximation("RSQRT", "52"),
  ...approximation("RCP", "53"),
  ...arithmetic("ADD", "58", ADD),
  ...arithmetic("MUL", "59", MUL),
  ...arithmetic("SUB", "5C", SUB),
  ...choice("MIN", "5D", "lt"),
  ...arithmetic("DIV", "5E", DIV),
  ...choice("MAX", "5F", "gt"),
  ...sse3("HADD", "7C", neighbours(ADD)),
  ...sse3("HSUB", "7D", neighbours(SUB)),
  ...sse3("ADDSUB", "D0", ALTERNATE),
];
