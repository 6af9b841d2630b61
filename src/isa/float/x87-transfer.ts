/**
 * x87 data transfer: loads, stores, integers, packed decimal, constants, conditional moves and the register stack
 * [SDM 1 §8.3.3, §8.3.4, SDM 2].
 */

import { convert, fromInteger, toInteger } from "./arithmetic.ts";
import { constantValue, type ConstantName } from "./constants.ts";
import {
  BINARY32,
  BINARY64,
  EXTENDED,
  type Float,
  type FloatFormat,
  finite,
  INDEFINITE,
  pack,
  storeExtended,
  unpack,
  zero,
} from "./format.ts";
import { DE, IE, round, TRUNCATE } from "./rounding.ts";
import { C1, type X87State } from "./x87-state.ts";

function operandBits(state: X87State, format: FloatFormat): bigint {
  if (format === BINARY32) return BigInt(state.view.getUint32(state.operand, true));
  return state.view.getBigUint64(state.operand, true);
}

/** Exponents of a double as the 11 bits say, and what turns them into those of a register. */
const DOUBLE_SPECIAL = 0x7ff;
const REBIAS = EXTENDED.bias - BINARY64.bias;

/** FLD m64 of a normal number without bigints. @returns whether it was one */
function loadNormalDouble(state: X87State): boolean {
  const { view, operand } = state;
  const high = view.getUint32(operand + 4, true);
  const low = view.getUint32(operand, true);
  const exponent = (high >>> 20) & DOUBLE_SPECIAL;
  if (exponent === 0 || exponent === DOUBLE_SPECIAL) return false;
  state.condition(C1, 0);
  state.push();
  const at = state.slot(0);
  view.setUint32(at, low << 11, true);
  view.setUint32(at + 4, 0x8000_0000 | ((high & 0xf_ffff) << 11) | (low >>> 21), true);
  view.setUint16(at + 8, ((high >>> 16) & 0x8000) | (exponent + REBIAS), true);
  return true;
}

/** FST m64 of a number that is a normal double as it stands. @returns whether it was one, and has been stored */
function storeNormalDouble(state: X87State): boolean {
  const { view, operand } = state;
  const at = state.slot(0);
  const [low, high, head] = [view.getUint32(at, true), view.getUint32(at + 4, true), view.getUint16(at + 8, true)];
  const exponent = (head & 0x7fff) - REBIAS;
  if (high < 0x8000_0000 || (low & 0x7ff) !== 0 || exponent <= 0 || exponent >= DOUBLE_SPECIAL) return false;
  state.condition(C1, 0);
  view.setUint32(operand, (low >>> 11) | (high << 21), true);
  view.setUint32(operand + 4, ((head & 0x8000) << 16) | (exponent << 20) | ((high >>> 11) & 0xf_ffff), true);
  return true;
}

/** FLD m32 and m64: a signalling NaN or a denormal raises its exception, unlike FLD m80. */
export function loadFloat(state: X87State, format: FloatFormat): void {
  if (!state.canPush()) return;
  if (format === BINARY64 && loadNormalDouble(state)) return;
  const context = state.begin(false);
  // A denormal is loaded even when DE is not masked.
  context.unmasked &= ~DE;
  const value = convert(unpack(format, operandBits(state, format)), EXTENDED, context);
  if (!state.finish()) return;
  state.push();
  state.write(0, value);
}

/** FLD m80: the bytes as they are. */
export function loadExtended(state: X87State): void {
  if (!state.canPush()) return;
  state.condition(C1, 0);
  state.push();
  state.copy(state.operand, state.slot(0));
}

/** FLD ST(i). */
export function loadRegister(state: X87State, i: number): void {
  if (state.isEmpty(i)) {
    if (!state.underflow()) return;
    state.push();
    state.write(0, INDEFINITE);
    return;
  }
  if (!state.canPush()) return;
  state.condition(C1, 0);
  const from = state.slot(i);
  state.push();
  state.copy(from, state.slot(0));
}

/** FILD m16, m32 and m64. */
export function loadInteger(state: X87State, bytes: number): void {
  if (!state.canPush()) return;
  const { view, operand } = state;
  let value: bigint;
  if (bytes === 2) value = BigInt(view.getInt16(operand, true));
  else value = bytes === 4 ? BigInt(view.getInt32(operand, true)) : view.getBigInt64(operand, true);
  const context = state.begin(false);
  const result = fromInteger(value, EXTENDED, context);
  state.finish();
  state.push();
  state.write(0, result);
}

/** FBLD: 18 decimal digits and a sign. Digits above 9 count as their value. */
export function loadDecimal(state: X87State): void {
  if (!state.canPush()) return;
  const { view, operand } = state;
  let value = 0n;
  for (let at = 8; at >= 0; at--) {
    const byte = view.getUint8(operand + at);
    value = value * 100n + BigInt((byte >> 4) * 10 + (byte & 15));
  }
  const sign = view.getUint8(operand + 9) >> 7;
  state.condition(C1, 0);
  state.push();
  state.write(0, value === 0n ? zero(sign) : finite(sign, value, 0));
}

/** FLD1, FLDZ and the others, rounded by the rounding control. */
export function loadConstant(state: X87State, name: ConstantName): void {
  if (!state.canPush()) return;
  const { significand, exponent } = constantValue(name);
  const context = state.begin(false);
  const value = significand === 0n ? zero(0) : round(0, significand, exponent, EXTENDED, context);
  state.condition(C1, 0);
  state.push();
  state.write(0, value);
}

/** FST and FSTP m32, m64. */
export function storeFloat(state: X87State, format: FloatFormat, pop: boolean): void {
  if (format === BINARY64 && !state.isEmpty(0) && storeNormalDouble(state)) {
    state.stored();
    if (pop) state.pop();
    return;
  }
  let value: Float = INDEFINITE;
  if (state.isEmpty(0)) {
    if (!state.underflow()) return;
  } else {
    const context = state.begin(false);
    const from = state.read(0);
    // A denormal operand raises no DE here: it underflows.
    value = convert(from.denormal ? { ...from, denormal: false } : from, format, context);
    if (!state.finishStore()) return;
  }
  const bits = pack(format, value);
  if (format === BINARY64) state.view.setBigUint64(state.operand, bits, true);
  else state.view.setUint32(state.operand, Number(bits), true);
  state.stored();
  if (pop) state.pop();
}

/** FSTP m80. */
export function storeExtendedAndPop(state: X87State): void {
  if (state.isEmpty(0)) {
    if (!state.underflow()) return;
    storeExtended(state.view, state.operand, INDEFINITE);
  } else {
    state.condition(C1, 0);
    state.copy(state.slot(0), state.operand);
  }
  state.stored();
  state.pop();
}

/** FST and FSTP ST(i). */
export function storeRegister(state: X87State, i: number, pop: boolean): void {
  if (state.isEmpty(0)) {
    if (!state.underflow()) return;
    state.write(i, INDEFINITE);
  } else {
    state.condition(C1, 0);
    state.copy(state.slot(0), state.slot(i));
    state.fill(i);
  }
  if (pop) state.pop();
}

/** FSTP ST(i) by D9 D8+i, undocumented: an empty ST(0) is popped without a fault and without a copy. */
export function storeRegisterUnchecked(state: X87State, i: number): void {
  if (!state.isEmpty(0)) {
    storeRegister(state, i, true);
    return;
  }
  state.condition(C1, 0);
  state.pop();
}

/** FIST, FISTP and FISTTP (`truncate`). */
export function storeInteger(state: X87State, bytes: number, truncate: boolean, pop: boolean): void {
  const bits = bytes * 8;
  let value = 1n << BigInt(bits - 1);
  if (state.isEmpty(0)) {
    if (!state.underflow()) return;
  } else {
    const context = state.begin(false);
    value = toInteger(state.read(0), bits, truncate ? TRUNCATE : context.rounding, context);
    if (!state.finishStore()) return;
  }
  const { view, operand } = state;
  if (bytes === 8) view.setBigUint64(operand, value, true);
  else if (bytes === 4) view.setUint32(operand, Number(value), true);
  else view.setUint16(operand, Number(value), true);
  state.stored();
  if (pop) state.pop();
}

const DECIMAL_LIMIT = 10n ** 18n;

/** FBSTP. */
export function storeDecimal(state: X87State): void {
  const { view, operand } = state;
  let digits: bigint | undefined;
  let sign = 0;
  if (state.isEmpty(0)) {
    if (!state.underflow()) return;
  } else {
    const context = state.begin(false);
    const from = state.read(0);
    ({ sign } = from);
    const value = BigInt.asIntN(64, toInteger(from, 64, context.rounding, context));
    const magnitude = value < 0n ? -value : value;
    if ((context.flags & IE) !== 0 || magnitude >= DECIMAL_LIMIT) {
      context.flags = IE;
      context.roundedUp = false;
    } else digits = magnitude;
    if (!state.finishStore()) return;
  }
  if (digits === undefined) {
    // Packed decimal indefinite [SDM 1 Table 4-4].
    view.setBigUint64(operand, 0xc000_0000_0000_0000n, true);
    view.setUint16(operand + 8, 0xffff, true);
  } else {
    for (let at = 0; at < 9; at++) {
      const pair = Number(digits % 100n);
      digits /= 100n;
      view.setUint8(operand + at, (Math.floor(pair / 10) << 4) | (pair % 10));
    }
    view.setUint8(operand + 9, sign << 7);
  }
  state.stored();
  state.pop();
}

/** FXCH ST(i): an empty register counts as the indefinite value when the fault is masked. */
export function exchange(state: X87State, i: number): void {
  if (state.isEmpty(0) || state.isEmpty(i)) {
    if (!state.underflow()) return;
    if (state.isEmpty(0)) state.write(0, INDEFINITE);
    if (state.isEmpty(i)) state.write(i, INDEFINITE);
  } else state.condition(C1, 0);
  const { view } = state;
  const [a, b] = [state.slot(0), state.slot(i)];
  const [low, high, head] = [view.getUint32(a, true), view.getUint32(a + 4, true), view.getUint16(a + 8, true)];
  state.copy(b, a);
  view.setUint32(b, low, true);
  view.setUint32(b + 4, high, true);
  view.setUint16(b + 8, head, true);
}

/** EFLAGS bits that the conditions of FCMOVcc test: B, E, BE, U. */
const MOVE_FLAGS = [1, 0x40, 0x41, 4] as const;

/** FCMOVcc ST(0), ST(i): condition 0 to 3 is below, equal, below or equal, unordered. */
export function moveIf(state: X87State, condition: number, negated: boolean, i: number): void {
  if (state.isEmpty(0) || state.isEmpty(i)) {
    if (state.underflow()) state.write(0, INDEFINITE);
    return;
  }
  const holds = (state.eflags & (MOVE_FLAGS[condition & 3] ?? 0)) !== 0;
  if (holds !== negated) state.copy(state.slot(i), state.slot(0));
}

/** FFREE, and FFREEP with its undocumented pop. */
export function freeRegister(state: X87State, i: number, pop: boolean): void {
  state.free(i);
  state.condition(C1, 0);
  if (pop) state.pop();
}

/** FINCSTP and FDECSTP. */
export function rotate(state: X87State, by: number): void {
  state.top += by;
  state.condition(C1, 0);
}
