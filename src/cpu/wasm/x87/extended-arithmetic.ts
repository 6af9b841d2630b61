/**
 * Sums, products and quotients of the x87's 80-bit format in WebAssembly, for what programs compute nearly always: normal
 * numbers and zeros, rounded to nearest with 64 bits, every exception masked [SDM 1 §4.8, §8.1.5]. All else is told apart
 * before anything is changed, and left to the unit [isa/float/x87.ts], whose answers these are bit for bit.
 */

import { STATE } from "../../../isa/state.ts";
import type { ModuleBuilder } from "../../../wasm/module.ts";
import { STATE_BASE } from "../layout.ts";
import {
  above,
  add,
  and,
  below,
  both,
  call,
  choose,
  divideUnsigned,
  either,
  equal,
  type Expression,
  FunctionEmitter,
  type FunctionReference,
  isZero,
  leadingZeros,
  load,
  type Local,
  low32,
  mul,
  notEqual,
  or,
  shiftLeft,
  shiftRight,
  sub,
  widen,
  xor,
} from "../memory/emitter.ts";

const BIAS = 16_383;
const SPECIAL = 0x7fff;
const SIGN = 0x8000;
const TOP_BIT = -(1n << 63n);
/** Half of the lowest bit of a significand, in the 64 bits below it. */
const HALF = TOP_BIT;
const LOW_HALF = 0xffff_ffffn;
/** Status word: inexact; rounded up. */
export const PRECISION = 1 << 5;
export const C1 = 1 << 9;

const STATUS = STATE_BASE + STATE.fsw.offset;

export function status(): Expression {
  return load("i32.load16_u", 0, STATUS);
}
export function setStatus(f: FunctionEmitter, value: Expression): void {
  f.store("i32.store16", 0, value, STATUS);
}

/** An operand: sign and biased exponent, and the significand. */
export interface Extended {
  readonly head: Local;
  readonly significand: Local;
}

export function exponentOf({ head }: Extended): Expression {
  return and(head, SPECIAL);
}
export function isNull({ head, significand }: Extended): Expression {
  return isZero(or(widen(and(head, SPECIAL)), significand));
}
/** Whether an operand is neither normal nor zero. */
export function isOdd(operand: Extended): Expression {
  const normal = both(
    below(sub(exponentOf(operand), 1), SPECIAL - 1),
    isZero(low32(add(shiftRight(operand.significand, 63n), -1n))),
  );
  return isZero(or(normal, isNull(operand)));
}

export interface ExtendedArithmetic {
  /**
   * (field, head of ST(0), significand, head of the other, significand, place i32) -> i32: FADD to FDIVR by the reg field of
   * ModRM. Stores the result at a place in the memory and sets C1 and PE. 0: not done, nothing has changed.
   */
  readonly arithmetic: FunctionReference;
}

/** Rounds `significand` with `rest` below it, stores it with a sign, and reports; leaves with 0 where it is too large or small. */
function defineFinish(module: ModuleBuilder): FunctionReference {
  const f = new FunctionEmitter(module, ["i32", "i32", "i64", "i64", "i32"], "i32");
  const [sign, exponent, significand, rest, place] = [0, 1, 2, 3, 4].map((i) => f.parameter(i)) as [
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const up = f.local("i32");
  f.set(up, choose(equal(rest, HALF), low32(and(significand, 1n)), above(rest, HALF)));
  f.set(significand, add(significand, widen(up)));
  f.if(both(up, isZero(significand)), () => {
    f.set(significand, TOP_BIT);
    f.set(exponent, add(exponent, 1));
  });
  f.returnIf(isZero(below(sub(exponent, 1), SPECIAL - 1)), 0);
  f.store("i64.store", place, significand);
  f.store("i32.store16", place, or(sign, exponent), 8);
  const inexact = choose(isZero(rest), 0, PRECISION);
  setStatus(f, or(and(status(), ~C1), or(inexact, choose(up, C1, 0))));
  f.return(1);
  f.unreachable();
  return f;
}

/** Stores an exact result. */
function exactly(f: FunctionEmitter, place: Local, head: Expression, significand: Expression | bigint): void {
  f.store("i64.store", place, significand);
  f.store("i32.store16", place, head, 8);
  setStatus(f, and(status(), ~C1));
  f.return(1);
}

/** a + b of operands neither of which is odd. */
function defineAdd(module: ModuleBuilder, finish: FunctionReference): FunctionReference {
  const f = new FunctionEmitter(module, ["i32", "i64", "i32", "i64", "i32"], "i32");
  const a: Extended = { head: f.parameter(0), significand: f.parameter(1) };
  const b: Extended = { head: f.parameter(2), significand: f.parameter(3) };
  const place = f.parameter(4);
  const distance = f.local("i32");
  const [high, low] = [f.local("i64"), f.local("i64")];
  const exponent = f.local("i32");
  const zeros = f.local("i64");

  f.if(isNull(b), () => {
    f.if(isNull(a), () => exactly(f, place, and(a.head, b.head), 0n));
    exactly(f, place, a.head, a.significand);
  });
  f.if(isNull(a), () => exactly(f, place, b.head, b.significand));
  // From here on |a| >= |b|.
  const smaller = below(exponentOf(a), exponentOf(b));
  const same = equal(exponentOf(a), exponentOf(b));
  f.if(either(smaller, both(same, below(a.significand, b.significand))), () => {
    f.set(distance, a.head);
    f.set(a.head, b.head);
    f.set(b.head, distance);
    f.set(high, a.significand);
    f.set(a.significand, b.significand);
    f.set(b.significand, high);
  });
  f.set(exponent, exponentOf(a));
  f.set(distance, sub(exponent, exponentOf(b)));
  const by = widen(distance);
  f.if(
    below(distance, 64),
    () => {
      f.set(high, shiftRight(b.significand, by));
      f.set(low, choose(isZero(distance), 0n, shiftLeft(b.significand, sub(64n, by))));
    },
    () => {
      f.set(high, 0n);
      // Of what is too far down only that it is there counts.
      const lost = notEqual(shiftLeft(b.significand, sub(128n, by)), 0n);
      const near = choose(equal(distance, 64), b.significand, or(shiftRight(b.significand, sub(by, 64n)), widen(lost)));
      f.set(low, choose(below(distance, 128), near, 1n));
    },
  );
  const sign = and(a.head, SIGN);
  f.if(
    isZero(and(xor(a.head, b.head), SIGN)),
    () => {
      f.set(high, add(a.significand, high));
      f.if(below(high, a.significand), () => {
        f.set(low, or(or(shiftLeft(high, 63n), shiftRight(low, 1n)), and(low, 1n)));
        f.set(high, or(shiftRight(high, 1n), TOP_BIT));
        f.set(exponent, add(exponent, 1));
      });
    },
    () => {
      f.set(high, sub(sub(a.significand, high), widen(notEqual(low, 0n))));
      f.set(low, sub(0n, low));
      f.if(isZero(high), () => {
        f.if(isZero(low), () => {
          f.store("i64.store", place, 0n);
          f.store("i32.store16", place, 0, 8);
          setStatus(f, and(status(), ~C1));
          f.return(1);
        });
        f.set(high, low);
        f.set(low, 0n);
        f.set(exponent, sub(exponent, 64));
      });
      f.set(zeros, leadingZeros(high));
      f.if(notEqual(zeros, 0n), () => {
        f.set(high, or(shiftLeft(high, zeros), shiftRight(low, sub(64n, zeros))));
        f.set(low, shiftLeft(low, zeros));
        f.set(exponent, sub(exponent, low32(zeros)));
      });
    },
  );
  f.return(call(finish, sign, exponent, high, low, place));
  f.unreachable();
  return f;
}

function defineMultiply(module: ModuleBuilder, finish: FunctionReference): FunctionReference {
  const f = new FunctionEmitter(module, ["i32", "i64", "i32", "i64", "i32"], "i32");
  const a: Extended = { head: f.parameter(0), significand: f.parameter(1) };
  const b: Extended = { head: f.parameter(2), significand: f.parameter(3) };
  const place = f.parameter(4);
  const [high, low, cross, carry] = [f.local("i64"), f.local("i64"), f.local("i64"), f.local("i64")];
  const exponent = f.local("i32");
  const sign = and(xor(a.head, b.head), SIGN);

  f.if(either(isNull(a), isNull(b)), () => exactly(f, place, sign, 0n));
  const [aLow, aHigh] = [and(a.significand, LOW_HALF), shiftRight(a.significand, 32n)];
  const [bLow, bHigh] = [and(b.significand, LOW_HALF), shiftRight(b.significand, 32n)];
  f.set(low, mul(aLow, bLow));
  f.set(cross, add(mul(aHigh, bLow), shiftRight(low, 32n)));
  f.set(carry, shiftRight(cross, 32n));
  f.set(cross, add(mul(aLow, bHigh), and(cross, LOW_HALF)));
  f.set(high, add(add(mul(aHigh, bHigh), carry), shiftRight(cross, 32n)));
  f.set(low, or(shiftLeft(cross, 32n), and(low, LOW_HALF)));
  f.set(exponent, sub(add(exponentOf(a), exponentOf(b)), BIAS - 1));
  f.if(isZero(shiftRight(high, 63n)), () => {
    f.set(high, or(shiftLeft(high, 1n), shiftRight(low, 63n)));
    f.set(low, shiftLeft(low, 1n));
    f.set(exponent, sub(exponent, 1));
  });
  // A result that rounding alone brings into range counts as tiny.
  f.returnIf(below(add(exponent, SIGN), SIGN + 1), 0);
  f.return(call(finish, sign, exponent, high, low, place));
  f.unreachable();
  return f;
}

/** a / b; 128 bits by 64 in two steps of 32 bits of the quotient [Knuth, TAOCP 2 §4.3.1, algorithm D]. */
function defineDivide(module: ModuleBuilder, finish: FunctionReference): FunctionReference {
  const f = new FunctionEmitter(module, ["i32", "i64", "i32", "i64", "i32"], "i32");
  const a: Extended = { head: f.parameter(0), significand: f.parameter(1) };
  const b: Extended = { head: f.parameter(2), significand: f.parameter(3) };
  const place = f.parameter(4);
  const [rest, next, digit, guess, quotient] = [0, 1, 2, 3, 4].map(() => f.local("i64")) as [
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const exponent = f.local("i32");
  const sign = and(xor(a.head, b.head), SIGN);
  const divisor = b.significand;
  const [top, bottom] = [shiftRight(divisor, 32n), and(divisor, LOW_HALF)];

  f.returnIf(isNull(b), 0);
  f.if(isNull(a), () => exactly(f, place, sign, 0n));
  f.set(exponent, add(sub(exponentOf(a), exponentOf(b)), BIAS));
  f.set(rest, a.significand);
  f.set(next, 0n);
  f.if(
    below(a.significand, divisor),
    () => f.set(exponent, sub(exponent, 1)),
    () => {
      f.set(rest, shiftRight(a.significand, 1n));
      f.set(next, shiftLeft(a.significand, 63n));
    },
  );
  f.returnIf(below(add(exponent, SIGN), SIGN + 1), 0);
  f.set(quotient, 0n);
  for (const half of [shiftRight(next, 32n), and(next, LOW_HALF)]) {
    f.set(digit, divideUnsigned(rest, top));
    f.set(guess, sub(rest, mul(digit, top)));
    f.loop((again) => {
      const tooLarge = either(
        notEqual(shiftRight(digit, 32n), 0n),
        above(mul(digit, bottom), or(shiftLeft(guess, 32n), half)),
      );
      f.if(tooLarge, () => {
        f.set(digit, sub(digit, 1n));
        f.set(guess, add(guess, top));
        again(isZero(shiftRight(guess, 32n)));
      });
    });
    f.set(rest, sub(or(shiftLeft(rest, 32n), half), mul(digit, divisor)));
    f.set(quotient, or(shiftLeft(quotient, 32n), digit));
  }
  // What is below the quotient: nothing, less than a half, a half, or more.
  const over = sub(divisor, rest);
  const below64 = choose(equal(rest, over), HALF, choose(above(rest, over), HALF + 1n, 1n));
  f.set(next, choose(isZero(rest), 0n, below64));
  f.return(call(finish, sign, exponent, quotient, next, place));
  f.unreachable();
  return f;
}

export function defineExtendedArithmetic(module: ModuleBuilder): ExtendedArithmetic {
  const finish = defineFinish(module);
  const sum = defineAdd(module, finish);
  const product = defineMultiply(module, finish);
  const ratio = defineDivide(module, finish);

  const f = new FunctionEmitter(module, ["i32", "i32", "i64", "i32", "i64", "i32"], "i32");
  const field = f.parameter(0);
  const a: Extended = { head: f.parameter(1), significand: f.parameter(2) };
  const b: Extended = { head: f.parameter(3), significand: f.parameter(4) };
  const place = f.parameter(5);
  f.returnIf(either(isOdd(a), isOdd(b)), 0);
  const of = (operation: FunctionReference, x: Extended, y: Extended, flip = 0) =>
    call(operation, x.head, x.significand, xor(y.head, flip), y.significand, place);
  f.returnIf(isZero(field), of(sum, a, b));
  f.returnIf(equal(field, 1), of(product, a, b));
  f.returnIf(equal(field, 4), of(sum, a, b, SIGN));
  f.returnIf(equal(field, 5), of(sum, b, a, SIGN));
  f.returnIf(equal(field, 6), of(ratio, a, b));
  f.return(of(ratio, b, a));
  f.unreachable();
  return { arithmetic: f };
}
