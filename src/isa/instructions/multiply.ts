/** Multiplication and division of integers [SDM 2, MUL, IMUL, DIV, IDIV]. */

import { AF, ARITHMETIC, PF, SF, ZF } from "../flags.ts";
import type { Instruction } from "../instruction.ts";
import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RAX, RDX, type Semantics } from "../semantics.ts";
import { gprOffset } from "../state.ts";
import { divide128, multiplyHigh } from "./wide.ts";

const UNDEFINED = SF | ZF | AF | PF;

/** CF and OF together: whether the upper half says something that the lower does not. */
function productFlags(m: Semantics, bits: Operand["bits"], low: Value, significant: Value): void {
  m.flagsOf(bits, low, { cf: significant, of: significant });
}

/** An operand in i64, by its sign or by zeros. */
function widened(m: Semantics, value: Value, bits: Operand["bits"], signed: boolean): Value {
  return signed ? m.signExtend64(value, bits) : m.fit(value, 64);
}

/** The one-operand forms: AX, DX:AX, EDX:EAX or RDX:RAX becomes the whole product. */
function multiplyAccumulator(m: Semantics, src: Operand, signed: boolean): void {
  const { bits } = src;
  const a = m.gpr(RAX, bits);
  const b = m.read(src);
  if (bits === 64) {
    const low = m.mul(a, b);
    const high = multiplyHigh(m, a, b, signed);
    m.setGpr(RAX, 64, low);
    m.setGpr(RDX, 64, high);
    productFlags(m, bits, low, m.ne(high, signed ? m.shrS(low, 63) : m.i64(0)));
    return;
  }
  const product = m.mul(widened(m, a, bits, signed), widened(m, b, bits, signed));
  const low = m.fit(product, 32);
  if (bits === 8) m.setGpr(RAX, 16, low);
  else {
    m.setGpr(RAX, bits, low);
    m.setGpr(RDX, bits, m.fit(m.shrU(product, bits), 32));
  }
  productFlags(m, bits, low, m.ne(product, widened(m, m.zeroExtend(low, bits), bits, signed)));
}

/** The two- and three-operand forms of IMUL: the product is cut to the destination. */
function multiplyInto(m: Semantics, dst: Operand, left: Operand, right: Operand): void {
  const { bits } = dst;
  const a = m.read(left);
  const b = m.read(right);
  if (bits === 64) {
    const low = m.mul(a, b);
    m.write(dst, low);
    productFlags(m, bits, low, m.ne(multiplyHigh(m, a, b, true), m.shrS(low, 63)));
    return;
  }
  const product = m.mul(m.signExtend64(a, bits), m.signExtend64(b, bits));
  const low = m.fit(product, 32);
  m.write(dst, low);
  productFlags(m, bits, low, m.ne(product, m.signExtend64(low, bits)));
}

/** The dividend of a division by fewer than 64 bits, in i64. */
function dividend(m: Semantics, bits: Operand["bits"], signed: boolean): Value {
  if (bits === 8) return widened(m, m.gpr(RAX, 16), 16, signed);
  const high = m.fit(m.gpr(RDX, bits), 64);
  const both = m.or(m.shl(high, bits), m.fit(m.gpr(RAX, bits), 64));
  return bits === 16 ? widened(m, m.fit(both, 32), 32, signed) : both;
}

function setQuotient(m: Semantics, bits: Operand["bits"], quotient: Value, remainder: Value): void {
  m.setGpr(RAX, bits, m.fit(quotient, bits));
  if (bits === 8) m.setState(gprOffset(RAX) + 1, 8, m.fit(remainder, 32));
  else m.setGpr(RDX, bits, m.fit(remainder, bits));
}

function divide(m: Semantics, src: Operand): void {
  const { bits } = src;
  const divisor = m.fit(m.read(src), 64);
  if (bits === 64) {
    const high = m.gpr(RDX, 64);
    const low = m.gpr(RAX, 64);
    // Covers a divisor of 0: the quotient would not fit 64 bits.
    m.faultWhen(m.geU(high, divisor), EXCEPTION.DE);
    m.when(
      m.isZero(high),
      () => setQuotient(m, 64, m.op("i64.div_u", low, divisor), m.op("i64.rem_u", low, divisor)),
      () => {
        const { quotient, remainder } = divide128(m, high, low, divisor);
        setQuotient(m, 64, quotient, remainder);
      },
    );
    return;
  }
  m.faultWhen(m.isZero(divisor), EXCEPTION.DE);
  const number = dividend(m, bits, false);
  const quotient = m.op("i64.div_u", number, divisor);
  m.faultWhen(m.ne(m.shrU(quotient, bits), 0), EXCEPTION.DE);
  setQuotient(m, bits, quotient, m.op("i64.rem_u", number, divisor));
}

/** `value` negated where `sign` is all ones, as it is where 0. */
function withSign(m: Semantics, value: Value, sign: Value): Value {
  return m.sub(m.xor(value, sign), sign);
}

function divideSigned(m: Semantics, src: Operand): void {
  const { bits } = src;
  const divisor = m.signExtend64(m.read(src), bits);
  m.faultWhen(m.isZero(divisor), EXCEPTION.DE);
  const smallest = -(1n << 63n);
  const fast = (number: Value) => {
    // The one quotient that WebAssembly traps on; it does not fit here either.
    m.faultWhen(m.and(m.eq(number, m.i64(smallest)), m.eq(divisor, -1)), EXCEPTION.DE);
    const quotient = m.op("i64.div_s", number, divisor);
    if (bits < 64) m.faultWhen(m.ne(quotient, m.signExtend(quotient, bits)), EXCEPTION.DE);
    setQuotient(m, bits, quotient, m.op("i64.rem_s", number, divisor));
  };
  if (bits < 64) {
    fast(dividend(m, bits, true));
    return;
  }
  const high = m.gpr(RDX, 64);
  const low = m.gpr(RAX, 64);
  m.when(
    m.eq(high, m.shrS(low, 63)),
    () => fast(low),
    () => {
      // By magnitudes. The remainder has the dividend's sign.
      const sign = m.shrS(high, 63);
      const divisorSign = m.shrS(divisor, 63);
      const quotientSign = m.xor(sign, divisorSign);
      const size = withSign(m, divisor, divisorSign);
      const lowSize = withSign(m, low, sign);
      const borrow = m.and(m.fit(m.ne(low, 0), 64), sign);
      const highSize = m.sub(withSign(m, high, sign), borrow);
      m.faultWhen(m.geU(highSize, size), EXCEPTION.DE);
      const { quotient, remainder } = divide128(m, highSize, lowSize, size);
      const result = withSign(m, quotient, quotientSign);
      // It fits if its sign came out as it should; a quotient of 0 cannot occur here, since the dividend is too large.
      m.faultWhen(m.ne(m.shrS(result, 63), quotientSign), EXCEPTION.DE);
      setQuotient(m, 64, result, withSign(m, remainder, sign));
    },
  );
}

export const MULTIPLY: readonly Instruction[] = [
  {
    name: "MUL",
    forms: ["F6 /4 Eb", "F7 /4 Ev"],
    undefinedFlags: UNDEFINED,
    effect: (m, src) => multiplyAccumulator(m, src, false),
  },
  {
    name: "IMUL",
    forms: ["F6 /5 Eb", "F7 /5 Ev"],
    undefinedFlags: UNDEFINED,
    effect: (m, src) => multiplyAccumulator(m, src, true),
  },
  {
    name: "IMUL 2",
    forms: ["0F AF /r Gv,Ev"],
    undefinedFlags: UNDEFINED,
    effect: (m, dst, src) => multiplyInto(m, dst, dst, src),
  },
  {
    name: "IMUL 3",
    forms: ["69 /r Gv,Ev,Iz", "6B /r Gv,Ev,Ibs"],
    undefinedFlags: UNDEFINED,
    effect: (m, dst, src, factor) => multiplyInto(m, dst, src, factor),
  },
  { name: "DIV", forms: ["F6 /6 Eb", "F7 /6 Ev"], undefinedFlags: ARITHMETIC, effect: divide },
  { name: "IDIV", forms: ["F6 /7 Eb", "F7 /7 Ev"], undefinedFlags: ARITHMETIC, effect: divideSigned },
];
