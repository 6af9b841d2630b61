/**
 * The x87 unit's control instructions and its images in memory: environment (FLDENV, FNSTENV), whole state (FRSTOR,
 * FNSAVE) and the x87 part of FXSAVE [SDM 1 §8.1.10, §8.1.11, §10.5.1]. Environments take the protected-mode layouts,
 * of 28 bytes, or 14 with a 16-bit operand size. Code and data selectors are stored as 0 and ignored when loaded, as
 * on processors that report FCS and FDS as deprecated (CPUID.07H:EBX[13]).
 */

import { FINITE, unpackExtended, ZERO } from "./format.ts";
import { BUSY, ES, SF, X87_AX, type X87State } from "./x87-state.ts";

const EXCEPTIONS = 0x3f;

/** The two tag bits of physical register `r`: valid, zero, special, empty [SDM 1 §8.1.7]. */
function fullTag(state: X87State, r: number): number {
  if (((state.tags >> r) & 1) === 0) return 3;
  const at = state.at.registers + r * 16;
  const value = unpackExtended(state.view.getUint16(at + 8, true), state.view.getBigUint64(at, true));
  if (value.kind === ZERO) return 1;
  return value.kind === FINITE && !value.denormal ? 0 : 2;
}

function tagWord(state: X87State): number {
  let word = 0;
  for (let r = 0; r < 8; r++) word |= fullTag(state, r) << (r * 2);
  return word;
}

/** Bytes of an environment and of a whole state. */
export function environmentBytes(operand16: boolean): number {
  return operand16 ? 14 : 28;
}
export function stateBytes(operand16: boolean): number {
  return environmentBytes(operand16) + 80;
}

function storeWords(state: X87State): void {
  const { view, at, operand } = state;
  const words = [
    state.control,
    state.status,
    tagWord(state),
    view.getUint32(at.instructionPointer, true),
    view.getUint16(at.opcode, true),
    view.getUint32(at.dataPointer, true),
    0,
  ] as const;
  if (state.operand16) {
    words.forEach((word, n) => view.setUint16(operand + n * 2, n === 4 ? 0 : word & 0xffff, true));
    return;
  }
  // The upper halves of the first three words and the last are reserved, and stored as ones.
  words.forEach((word, n) => {
    let value = word;
    if (n < 3) value = word | 0xffff_0000;
    else if (n === 4) value = word << 16;
    else if (n === 6) value = 0xffff_0000;
    view.setUint32(operand + n * 4, value >>> 0, true);
  });
}

/** FNSTENV: stores the environment, then masks every exception. */
export function storeEnvironment(state: X87State): void {
  storeWords(state);
  state.stored();
  state.setControl(state.control | EXCEPTIONS);
}

/** FLDENV. */
export function loadEnvironment(state: X87State): void {
  const { view, at, operand } = state;
  const step = state.operand16 ? 2 : 4;
  view.setUint16(at.status, view.getUint16(operand + step, true), true);
  const word = view.getUint16(operand + step * 2, true);
  let tags = 0;
  for (let r = 0; r < 8; r++) if (((word >> (r * 2)) & 3) !== 3) tags |= 1 << r;
  state.tags = tags;
  state.setControl(view.getUint16(operand, true));
  const pointer = (at: number): bigint =>
    BigInt(state.operand16 ? view.getUint16(operand + at * 2, true) : view.getUint32(operand + at * 4, true));
  view.setBigUint64(at.instructionPointer, pointer(3), true);
  view.setBigUint64(at.dataPointer, pointer(5), true);
  view.setUint16(at.opcode, state.operand16 ? 0 : view.getUint16(operand + 18, true) & 0x7ff, true);
}

/** FNSAVE: environment and registers ST(0) to ST(7), then FNINIT. */
export function saveState(state: X87State): void {
  storeWords(state);
  const at = state.operand + environmentBytes(state.operand16);
  for (let i = 0; i < 8; i++) state.copy(state.slot(i), at + i * 10);
  state.stored();
  state.initialise();
}

/** FRSTOR. */
export function restoreState(state: X87State): void {
  loadEnvironment(state);
  const at = state.operand + environmentBytes(state.operand16);
  for (let i = 0; i < 8; i++) state.copy(at + i * 10, state.slot(i));
}

export function loadControl(state: X87State): void {
  state.setControl(state.view.getUint16(state.operand, true));
}

export function storeControl(state: X87State): void {
  state.view.setUint16(state.operand, state.control, true);
  state.stored();
}

/** FNSTSW m16. */
export function storeStatus(state: X87State): void {
  state.view.setUint16(state.operand, state.status, true);
  state.stored();
}

/** FNSTSW AX. */
export function statusToAx(state: X87State): void {
  state.outcome |= X87_AX | state.status;
}

/** FNCLEX. */
export function clearExceptions(state: X87State): void {
  state.status &= ~(EXCEPTIONS | SF | ES | BUSY);
}

/** Offsets in an FXSAVE image. */
const IMAGE = { control: 0, status: 2, tags: 4, opcode: 6, instructionPointer: 8, dataPointer: 16, registers: 32 };

/**
 * Writes bytes 0 to 23 and 32 to 159 of an FXSAVE image at `base` in `to`; MXCSR (24 to 31) and the XMM registers are
 * the caller's. `wide`: the 64-bit form, with REX.W.
 */
export function fxsave(state: X87State, to: DataView, base: number, wide: boolean): void {
  const { view, at } = state;
  to.setUint16(base + IMAGE.control, state.control, true);
  to.setUint16(base + IMAGE.status, state.status, true);
  to.setUint16(base + IMAGE.tags, state.tags, true);
  to.setUint16(base + IMAGE.opcode, view.getUint16(at.opcode, true), true);
  for (const pointer of ["instructionPointer", "dataPointer"] as const) {
    to.setUint32(base + IMAGE[pointer], view.getUint32(at[pointer], true), true);
    to.setUint32(base + IMAGE[pointer] + 4, wide ? view.getUint32(at[pointer] + 4, true) : 0, true);
  }
  for (let i = 0; i < 8; i++) {
    const from = state.slot(i);
    const register = base + IMAGE.registers + i * 16;
    to.setBigUint64(register, view.getBigUint64(from, true), true);
    to.setBigUint64(register + 8, BigInt(view.getUint16(from + 8, true)), true);
  }
}

/** Reads what `fxsave` writes. Reserved control bits are dropped and ES follows from flags and masks. */
export function fxrstor(state: X87State, from: DataView, base: number, wide: boolean): void {
  const { view, at } = state;
  state.status = from.getUint16(base + IMAGE.status, true);
  state.setControl(from.getUint16(base + IMAGE.control, true));
  state.tags = from.getUint8(base + IMAGE.tags);
  view.setUint16(at.opcode, from.getUint16(base + IMAGE.opcode, true) & 0x7ff, true);
  for (const pointer of ["instructionPointer", "dataPointer"] as const) {
    view.setUint32(at[pointer], from.getUint32(base + IMAGE[pointer], true), true);
    view.setUint32(at[pointer] + 4, wide ? from.getUint32(base + IMAGE[pointer] + 4, true) : 0, true);
  }
  for (let i = 0; i < 8; i++) {
    const to = state.slot(i);
    const register = base + IMAGE.registers + i * 16;
    view.setBigUint64(to, from.getBigUint64(register, true), true);
    view.setUint16(to + 8, from.getUint16(register + 8, true), true);
  }
}
