/**
 * What every SSE and MMX instruction begins and ends with: whether the unit may be used, aligned operands, and the MMX
 * view of the x87 registers [SDM 1 §9.5, SDM 3 §13.1, §12.1].
 *
 * MMX registers are declared with the size `dq` where they are written: MMi is the low 64 bits of the x87 register's 16
 * bytes, and writing it sets bits 79:64. Both units then compute on vectors, MMX in the low half.
 */

import type { Operand, Value } from "../ir.ts";
import { EXCEPTION, RDI, type Semantics } from "../semantics.ts";
import { SCRATCH } from "../state.ts";

/** #UD or #NM where SSE may not be used now. Every SSE effect says it first. */
export function sseGuard(m: Semantics): void {
  const state = m.field("sseState");
  m.when(state, () => {
    m.faultWhen(m.eq(state, EXCEPTION.UD), EXCEPTION.UD);
    m.fault(EXCEPTION.NM);
  });
}

const CR0_EM = 1 << 2;
/** x87 status word: error summary, that is, an exception waiting; top of stack. */
const FSW_ES = 1 << 7;
const FSW_TOP = 7 << 11;

/** #UD, #NM or the waiting x87 exception before an MMX instruction [SDM 3 §12.1, table 12-1]. */
export function mmxGuard(m: Semantics): void {
  m.when(m.field("x87State"), () => {
    m.faultWhen(m.and(m.op("i32.wrap_i64", m.field("cr0")), CR0_EM), EXCEPTION.UD);
    m.fault(EXCEPTION.NM);
  });
  m.faultWhen(m.and(m.field("fsw"), FSW_ES), EXCEPTION.MF);
}

/** What MMX instructions do to the x87 unit besides the register they write: TOP = 0, every tag valid (or empty). */
export function enterMmx(m: Semantics, tags = 0xff): void {
  m.setField("fsw", m.and(m.field("fsw"), ~FSW_TOP));
  m.setField("ftw", m.i32(tags));
}

/** The linear address of a 128-bit operand, checked to be a multiple of 16: else #GP(0). */
function alignedAddress(m: Semantics, operand: Operand): Value {
  const address = m.address(operand);
  m.requireAligned(address, 16);
  return address;
}

/** Reads an operand; one of 128 bits in memory must be aligned [SDM 1 §10.4.1.1]. */
export function readAligned(m: Semantics, operand: Operand): Value {
  if (operand.kind !== "mem" || operand.bits !== 128) return m.read(operand);
  return m.load(alignedAddress(m, operand), 128);
}

export function writeAligned(m: Semantics, operand: Operand, value: Value): void {
  if (operand.kind === "mem" && operand.bits === 128) m.store(alignedAddress(m, operand), 128, value);
  else m.write(operand, value);
}

/** An operand of 32, 64 or 128 bits as a vector; a narrow one is repeated in all lanes. */
export function readVector(m: Semantics, operand: Operand): Value {
  const value = readAligned(m, operand);
  if (value.type === "i64") return m.op("i64x2.splat", value);
  return value.type === "i32" ? m.op("i32x4.splat", value) : value;
}

/** A vector of zeros but for its low 32 or 64 bits. */
export function zeroExtendVector(m: Semantics, value: Value): Value {
  const zero = m.v128(new Uint8Array(16));
  return m.lanes(value.type === "i64" ? "i64x2.replace_lane" : "i32x4.replace_lane", [0], zero, value);
}

export function lowHalf(m: Semantics, vector: Value): Value {
  return m.lanes("i64x2.extract_lane", [0], vector);
}

/** Writes the low half of `vector` to an MMX register (declared as 128 bits), and enters MMX. Nothing may fault after. */
export function writeMmx(m: Semantics, operand: Operand, vector: Value): void {
  m.write(operand, m.lanes("i64x2.replace_lane", [1], vector, m.i64(0xffff)));
  enterMmx(m);
}

/** The two units that share an instruction's computation. */
export interface Unit {
  readonly mmx: boolean;
  guard(m: Semantics): void;
  write(m: Semantics, operand: Operand, value: Value): void;
}
export const XMM_UNIT: Unit = {
  mmx: false,
  guard: sseGuard,
  write: (m, operand, value) => {
    m.write(operand, value);
  },
};
export const MMX_UNIT: Unit = { mmx: true, guard: mmxGuard, write: writeMmx };

/** 16 bytes from a rule of lane or byte number. */
export function bytes(rule: (index: number) => number): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, index) => rule(index));
}
/** A vector constant of 32-bit lanes. */
export function words32(lanes: readonly [number, number, number, number]): Uint8Array {
  return new Uint8Array(Uint32Array.from(lanes, (lane) => lane >>> 0).buffer);
}

/** MASKMOVDQU, MASKMOVQ: stores at DS:rDI the bytes whose mask has bit 7 set. The whole span must be writable. */
export function maskMove(m: Semantics, data: Operand, control: Operand, bits: 64 | 128): void {
  const address = m.linear(m.context.segment, m.addressRegister(RDI));
  // Where alignment is checked, 8 bytes are enough for both.
  m.loadForWrite(address, bits, 8);
  m.call("sseMaskMove", [address, m.operandOffset(data), m.operandOffset(control), m.i32(bits / 8)]);
}

/** The even (0) or odd (1) elements of `size` bytes of two vectors, the first's before the second's. */
export function everyOther(m: Semantics, a: Value, b: Value, size: number, odd: 0 | 1): Value {
  const lanes = bytes((i) => Math.floor(i / size) * size * 2 + odd * size + (i % size));
  return m.lanes("i8x16.shuffle", [...lanes], a, b);
}

/** The halves of two vectors side by side: 0 the low ones, 1 the high ones. */
export function joinHalves(m: Semantics, a: Value, b: Value, half: 0 | 1): Value {
  return m.lanes("i8x16.shuffle", [...bytes((i) => (i < 8 ? i : i + 8) + half * 8)], a, b);
}

/** Where helpers find an operand whose value has been read: the register itself, or scratch slot `slot` (0 to 3). */
export function placeOf(m: Semantics, operand: Operand, value: Value, slot: number): Value {
  if (operand.kind === "reg") return m.operandOffset(operand);
  const offset = SCRATCH + slot * 16;
  m.setState(offset, operand.bits, value);
  return m.i32(offset);
}
