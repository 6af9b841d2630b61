/** Floating-point compares: CMPccPS to CMPccSD, COMISS, UCOMISS and the like [SDM 2]. */

import { AUX } from "../flags.ts";
import { sseCode } from "../float/sse-packed.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import type { Semantics } from "../semantics.ts";
import { exactly, SD, SHAPES, type Shape, SS } from "./sse-float.ts";
import { placeOf, readAligned, sseGuard } from "./sse-operands.ts";

/** 0 or -1 (i32) by bit 0 of `bit`, in the type of a scalar's bits or in every lane. */
function wide(m: Semantics, shape: Shape, bit: Value): Value {
  const mask = m.sub(m.i32(0), m.and(bit, 1));
  if (shape.packed) return m.op("i32x4.splat", mask);
  return shape.lane === "f64" ? m.op("i64.extend_i32_s", mask) : mask;
}

/** The mask of a predicate 0 to 7 (equal, less, less or equal, unordered, and their negations) between plain operands. */
function predicate(m: Semantics, shape: Shape, a: Value, b: Value, number: Value): Value {
  const compared = (op: string) => {
    const result = shape.op(m, op, a, b);
    return shape.packed ? result : wide(m, shape, result);
  };
  const bitwise = (op: "and" | "or" | "xor", x: Value, y: Value) => m.op(`${x.type}.${op}`, x, y);
  // Of numbers 0 to 3, equality counts in 0 and 2, less in 1 and 2.
  const equal = bitwise("and", compared("eq"), wide(m, shape, m.add(number, 1)));
  const less = bitwise("and", compared("lt"), wide(m, shape, m.shrU(m.add(number, 1), 1)));
  return bitwise("xor", bitwise("or", equal, less), wide(m, shape, m.shrU(number, 2)));
}

/** A compare into a mask: NaNs and denormals, which may raise IE and DE, go the exact way. */
function compareMask(shape: Shape): Instruction {
  const code = sseCode(`cmp${shape.suffix}`);
  return {
    name: `CMP${shape.suffix.toUpperCase()}`,
    forms: [`${shape.prefix} 0F C2 /r ${shape.operands},Ib`],
    effect(m, dst, src, immediate) {
      sseGuard(m);
      const source = readAligned(m, src);
      const number = m.and(m.read(immediate), 7);
      const a = shape.float(m, m.read(dst));
      const b = shape.float(m, source);
      m.when(
        shape.all(m, shape.and(m, shape.isPlain(m, a), shape.isPlain(m, b))),
        () => {
          m.write(dst, predicate(m, shape, a, b, number));
        },
        () => {
          exactly(m, m.or(m.shl(number, 8), code), dst, src, source);
        },
      );
    },
  };
}

/** A compare into ZF, PF and CF; OF, SF and AF are cleared. */
function compareFlags(name: string, opcode: string, shape: Shape): Instruction {
  const code = sseCode(name.toLowerCase() + shape.suffix);
  return {
    name: name + shape.suffix.toUpperCase(),
    // The scalar forms, but with the prefixes of the packed ones.
    forms: [`${shape.lane === "f32" ? "NP" : "66"} 0F ${opcode} /r ${shape.operands}`],
    effect(m: Semantics, dst: Operand, src: Operand) {
      sseGuard(m);
      const source = m.read(src);
      const a = shape.float(m, m.read(dst));
      const b = shape.float(m, source);
      m.when(
        shape.and(m, shape.isPlain(m, a), shape.isPlain(m, b)),
        () => {
          // Ordered: ZF and CF as they are, PF clear. A zero result has even parity, which `aux` corrects.
          const equal = shape.op(m, "eq", a, b);
          const less = shape.op(m, "lt", a, b);
          m.setField("flagsResult", m.op("i64.extend_i32_u", m.isZero(equal)));
          m.setField("flagsAux", m.or(m.mul(less, AUX.carry | AUX.overflow), m.shl(equal, AUX.parity)));
        },
        () => {
          const place = placeOf(m, src, source, 0);
          m.setArithmeticFlags(m.helper("sseCompare", "i32", [m.i32(code), m.operandOffset(dst), place]));
        },
      );
    },
  };
}

export const SSE_COMPARE: readonly Instruction[] = [
  ...SHAPES.map(compareMask),
  ...[SS, SD].flatMap((shape) => [compareFlags("UCOMI", "2E", shape), compareFlags("COMI", "2F", shape)]),
];
