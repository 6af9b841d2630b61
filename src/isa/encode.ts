/**
 * Encodes instructions by the table's forms: the inverse of decode.ts, for test programs and fuzzers [SDM 2 chapter 2].
 * Prefixes come in the order lock, repeat or mandatory, segment, 66, 67, REX.
 */

import { immediateBytes } from "./decode.ts";
import type { Form, OperandPattern } from "./instruction.ts";
import type { Segment } from "./state.ts";

/** The code size that an instruction runs under: 64-bit mode, or CS.D of 1 or 0. */
export type Mode = 64 | 32 | 16;
export type Size = 16 | 32 | 64;

export interface MemoryChoice {
  /** General register by number, or the instruction pointer. */
  readonly base?: number | "rip";
  readonly index?: number;
  readonly scale?: 1 | 2 | 4 | 8;
  /** Signed; or an address where there is no register. */
  readonly disp?: bigint;
  /** Makes the displacement this wide, though a narrower one would do. */
  readonly dispBits?: 8 | 16 | 32;
  readonly segment?: Segment;
}

/** What stands for one operand of a form. Fixed operands are given nothing. */
export type Choice =
  /** A register by its number; `high` for AH, CH, DH, BH (0 to 3). */
  | { readonly kind: "reg"; readonly number: number; readonly high?: boolean }
  | ({ readonly kind: "mem" } & MemoryChoice)
  /** An immediate; a relative target counts from the end of the instruction. */
  | { readonly kind: "imm"; readonly value: bigint }
  | { readonly kind: "fixed" };

export interface EncodeOptions {
  readonly mode: Mode;
  /** By default what the mode gives without prefixes. */
  readonly operandSize?: Size;
  readonly addressSize?: Size;
  readonly lock?: boolean;
  readonly rep?: "rep" | "repne";
  /** Override for an implicit memory operand. */
  readonly segment?: Segment;
  /** One for each operand of the form. */
  readonly operands: readonly Choice[];
}

/** Where a displacement or an immediate lies in the bytes, for those who fill it in later. */
export interface Placed {
  /** Which operand it belongs to. */
  readonly operand: number;
  readonly at: number;
  readonly bytes: number;
}

export interface Encoded {
  readonly bytes: Uint8Array;
  readonly placed: readonly Placed[];
}

const SEGMENT_PREFIX: Partial<Record<Segment, number>> = { es: 0x26, cs: 0x2e, ss: 0x36, ds: 0x3e, fs: 0x64, gs: 0x65 };
/** What leads to an opcode of each map, where VEX does not say it. */
const MAP_BYTES = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]] as const;
const PAIRS16: readonly (readonly [number, number])[] = [
  [3, 6],
  [3, 7],
  [5, 6],
  [5, 7],
  [6, -1],
  [7, -1],
  [5, -1],
  [3, -1],
];

/** The operand size that a form has without prefixes. */
export function defaultOperandSize(form: Form, mode: Mode): Size {
  if (mode !== 64) return mode;
  return form.default64 || form.force64 ? 64 : 32;
}

/** Little-endian bytes of a number taken modulo their width. */
export function littleEndian(value: bigint, bytes: number): number[] {
  const unsigned = BigInt.asUintN(bytes * 8, value);
  return Array.from({ length: bytes }, (_, i) => Number((unsigned >> BigInt(8 * i)) & 0xffn));
}

/** Whether a number has a signed or an unsigned form of `bits`. */
export function fits(value: bigint, bits: number): boolean {
  return BigInt.asIntN(bits, value) === value || BigInt.asUintN(bits, value) === value;
}

interface ModRM {
  modrm: number;
  sib: number | undefined;
  disp: number[];
  rexX: number;
  rexB: number;
}

/** Throws RangeError on operands that the form cannot hold. */
export function encodeParts(form: Form, options: EncodeOptions): Encoded {
  const { mode } = options;
  const name = `${form.instruction.name} (${form.text})`;
  const refuse = (why: string): never => {
    throw new RangeError(`encoding ${name} in ${mode}-bit mode: ${why}`);
  };
  const long = mode === 64;
  if (long ? form.not64 : form.only64) refuse("it does not exist there");
  const natural = defaultOperandSize(form, mode);
  const operandSize = options.operandSize ?? natural;
  const addressSize = options.addressSize ?? mode;
  if (!long && operandSize === 64) refuse("operands have at most 32 bits");
  if (addressSize !== mode && addressSize === (long ? 16 : 64)) refuse(`addresses cannot have ${addressSize} bits`);
  const forced = long && form.force64;
  if (long && form.default64 && operandSize === 32) refuse("it has no 32-bit operands");
  if (forced && operandSize !== 64) refuse("its operands always have 64 bits");
  const rexW = long && operandSize === 64 && !forced && !form.default64;
  const operand66 = form.prefix === "66" ? false : operandSize !== natural && !rexW;
  if (form.prefix === "66" && operandSize === 16 && natural !== 16) refuse("66 is part of its opcode");
  if ((form.prefix === "NP" || form.vex) && operand66) refuse("it allows no 66 prefix");

  // --- operands ---
  let reg = form.digit ?? 0;
  let rexR = 0;
  let plus = 0;
  let vexRegister = 0;
  let needsRex = false;
  let forbidsRex = false;
  let rm: ModRM | undefined;
  let segment = options.segment;
  let memoryOperand = -1;
  const tail: { operand: number; bytes: number[] }[] = [];

  const registerNumber = (choice: Choice, pattern: OperandPattern): number => {
    if (choice.kind !== "reg")
      throw new RangeError(`encoding ${name}: operand ${pattern.place}${pattern.size} wants a register`);
    if (choice.high === true) {
      if (pattern.size !== "b" || choice.number > 3) refuse("only AH, CH, DH and BH are high bytes");
      forbidsRex = true;
      return choice.number + 4;
    }
    if (pattern.size === "b" && pattern.place !== "T" && choice.number >= 4 && choice.number < 8) {
      if (!long) refuse("SPL to DIL exist in 64-bit mode only");
      needsRex = true;
    }
    return choice.number;
  };

  for (const [i, pattern] of form.operands.entries()) {
    const choice = options.operands[i] ?? { kind: "fixed" };
    switch (pattern.place) {
      case "G":
      case "V":
      case "P":
      case "S":
      case "C":
      case "D": {
        const number = registerNumber(choice, pattern);
        reg = number & 7;
        rexR = number >> 3;
        break;
      }
      case "B":
        vexRegister = registerNumber(choice, pattern);
        break;
      case "Z": {
        const number = registerNumber(choice, pattern);
        plus = number & 7;
        rm = { modrm: 0, sib: undefined, disp: [], rexX: 0, rexB: number >> 3 };
        break;
      }
      case "E":
      case "W":
      case "Q":
      case "M":
      case "R":
      case "U":
      case "N":
      case "T":
        if (choice.kind === "mem") {
          if (form.rm === "register") refuse("it takes a register only");
          rm = memory(choice, addressSize, long);
          segment = choice.segment ?? segment;
          memoryOperand = i;
        } else {
          if (form.rm === "memory") refuse("it takes memory only");
          const number = registerNumber(choice, pattern);
          rm = { modrm: 0xc0 | (number & 7), sib: undefined, disp: [], rexX: 0, rexB: number >> 3 };
        }
        break;
      case "I":
      case "J":
      case "O": {
        const bytes = pattern.place === "O" ? addressSize / 8 : immediateBytes(pattern, operandSize);
        let value = 0n;
        if (choice.kind === "imm") value = choice.value;
        else if (choice.kind === "mem") {
          value = choice.disp ?? 0n;
          segment = choice.segment ?? segment;
        } else refuse(`operand ${pattern.place}${pattern.size} wants a number`);
        checkImmediate(pattern, value, bytes, operandSize, refuse);
        tail.push({ operand: i, bytes: littleEndian(value, bytes) });
        break;
      }
      default:
    }
  }
  if (form.modrm && rm === undefined) rm = { modrm: 0xc0, sib: undefined, disp: [], rexX: 0, rexB: 0 };
  if (options.lock === true && !(form.lock && memoryOperand >= 0)) refuse("LOCK is not allowed");

  // --- bytes ---
  const bytes: number[] = [];
  if (options.lock === true) bytes.push(0xf0);
  if ((form.prefix === "F2" && !form.vex) || options.rep === "repne") bytes.push(0xf2);
  if ((form.prefix === "F3" && !form.vex) || options.rep === "rep") bytes.push(0xf3);
  if (segment !== undefined) bytes.push(SEGMENT_PREFIX[segment] ?? refuse(`${segment} is no segment register`));
  if (operand66 || (form.prefix === "66" && !form.vex)) bytes.push(0x66);
  if (addressSize !== mode) bytes.push(0x67);
  const rex = (rexW ? 8 : 0) | (rexR << 2) | ((rm?.rexX ?? 0) << 1) | (rm?.rexB ?? 0);
  if (!long && Math.max(rex, vexRegister >> 3) !== 0) refuse("registers above 7 exist in 64-bit mode only");
  if (form.vex) bytes.push(...vexPrefix(form, rex, vexRegister));
  else if (rex !== 0 || needsRex) {
    if (forbidsRex) refuse("a high byte register excludes REX");
    bytes.push(0x40 | rex);
  }
  if (!form.vex) bytes.push(...MAP_BYTES[form.map]);
  bytes.push(form.opcode + plus);
  const placed: Placed[] = [];
  if (form.exact !== undefined) bytes.push(form.exact);
  else if (form.modrm && rm !== undefined) {
    bytes.push(rm.modrm | (reg << 3));
    if (rm.sib !== undefined) bytes.push(rm.sib);
    if (rm.disp.length > 0) placed.push({ operand: memoryOperand, at: bytes.length, bytes: rm.disp.length });
    bytes.push(...rm.disp);
  }
  for (const part of tail) {
    placed.push({ operand: part.operand, at: bytes.length, bytes: part.bytes.length });
    bytes.push(...part.bytes);
  }
  if (bytes.length > 15) refuse(`it has ${bytes.length} bytes, more than 15`);
  return { bytes: Uint8Array.from(bytes), placed };
}

/** A VEX prefix: of two bytes where that is enough. `rex` and `register` are not inverted [SDM 2 §2.3.5]. */
export function vexPrefix(form: Form, rex: number, register: number): number[] {
  const last = ((~register & 15) << 3) | ["NP", "66", "F3", "F2"].indexOf(form.prefix);
  if (form.map === 1 && (rex & 11) === 0) return [0xc5, ((~rex & 4) << 5) | last];
  return [0xc4, ((~rex & 7) << 5) | form.map, ((rex & 8) << 4) | last];
}

export function encode(form: Form, options: EncodeOptions): Uint8Array {
  return encodeParts(form, options).bytes;
}

function checkImmediate(
  pattern: OperandPattern,
  value: bigint,
  bytes: number,
  operandSize: Size,
  refuse: (why: string) => never,
): void {
  const bits = bytes * 8;
  // What is sign-extended to the operand size must come out as the value meant, modulo that size.
  const extended = pattern.place === "J" || pattern.size === "bs" || (pattern.size === "z" && operandSize === 64);
  const reached = BigInt.asUintN(operandSize, BigInt.asIntN(bits, value));
  const good = extended
    ? fits(value, operandSize) && reached === BigInt.asUintN(operandSize, value)
    : fits(value, bits);
  if (!good) refuse(`${value} does not fit ${bits} bits${extended ? ", sign-extended" : ""}`);
}

function memory(choice: MemoryChoice, addressSize: Size, long: boolean): ModRM {
  const { base, index, scale = 1, disp = 0n } = choice;
  const none = { sib: undefined, rexX: 0, rexB: 0 };
  if (addressSize === 16) {
    if (base === undefined && index === undefined) return { modrm: 0x06, disp: littleEndian(disp, 2), ...none };
    const rm = PAIRS16.findIndex(([b, i]) => b === base && i === (index ?? -1));
    if (rm < 0 || scale !== 1) throw new RangeError(`16-bit addresses have no base ${base} with index ${index}`);
    const bytes = displacementBytes(disp, rm === 6, 2, choice.dispBits);
    return { modrm: modOf(bytes) | rm, disp: littleEndian(disp, bytes), ...none };
  }
  if (base === "rip") {
    if (!long) throw new RangeError("RIP-relative addresses exist in 64-bit mode only");
    return { modrm: 0x05, disp: littleEndian(disp, 4), ...none };
  }
  if (index === 4) throw new RangeError("RSP cannot be an index");
  // Without REX the encodings of 8 to 15 are not reachable; the caller refuses REX outside 64-bit mode.
  const indexBits = ((index ?? 4) & 7) << 3;
  const sibScale = Math.log2(scale) << 6;
  const rexX = (index ?? 0) >> 3;
  if (base === undefined) {
    const plain = index === undefined && !long;
    return {
      modrm: plain ? 0x05 : 0x04,
      sib: plain ? undefined : sibScale | indexBits | 5,
      disp: littleEndian(disp, 4),
      rexX,
      rexB: 0,
    };
  }
  const bytes = displacementBytes(disp, (base & 7) === 5, 4, choice.dispBits);
  const withSib = index !== undefined || (base & 7) === 4;
  return {
    modrm: modOf(bytes) | (withSib ? 4 : base & 7),
    sib: withSib ? sibScale | indexBits | (base & 7) : undefined,
    disp: littleEndian(disp, bytes),
    rexX,
    rexB: base >> 3,
  };
}

function displacementBytes(disp: bigint, never0: boolean, wide: 2 | 4, wanted: number | undefined): number {
  if (wanted !== undefined) return wanted === 8 ? 1 : wide;
  if (disp === 0n && !never0) return 0;
  return BigInt.asIntN(8, disp) === disp ? 1 : wide;
}

function modOf(bytes: number): number {
  return bytes === 0 ? 0 : bytes === 1 ? 0x40 : 0x80;
}
