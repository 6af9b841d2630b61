/**
 * Decodes x86 machine code by the instruction table [SDM 2 chapter 2].
 *
 * The result says which form it is, how its operands are reached, and the context its handler is built for. What
 * follows from prefixes, opcode, ModRM and SIB is worked out once and kept: a kernel's boot decodes half a million
 * instructions, of some thousand shapes.
 */

import { type Form, type Instruction, type OperandPattern, parseForm } from "./instruction.ts";
import type { Bits, Operand } from "./ir.ts";
import type { Context } from "./semantics.ts";
import { addressContext, gprOffset, SEGMENTS, STATE, type Segment, X87_REGISTERS, xmmOffset } from "./state.ts";

/** Bits of `decodeContext` in the state. */
export const DECODE = {
  long: 1 << 0,
  /** CS.D: operands and addresses are 32 bits by default. */
  code32: 1 << 1,
  /** SS.B. */
  stack32: 1 << 2,
  /** RFLAGS.TF: one instruction a trace. */
  singleStep: 1 << 3,
  /** #AC for misaligned data: CR0.AM, EFLAGS.AC, CPL 3. */
  alignment: 1 << 4,
  /** Six bits from here, by segment number: its limit or rights must be looked at. */
  checked: 5,
  /** Protected mode, where C4 and C5 with mod = 3 begin a VEX prefix; 64-bit mode needs no bit. */
  protected: 1 << 11,
  /** CS does not reach to 4 GiB: fetches and branches are checked against its limit. */
  limited: 1 << 12,
  /** A breakpoint of DR0 to DR3 is enabled: one instruction a trace, looked at before and after. */
  debug: 1 << 13,
  /** Bits of all of these. */
  bits: 14,
} as const;

/** Segments, one bit each by number, that an instruction may use without naming them: strings ES, stacks SS. */
const IMPLICIT_SEGMENTS = (1 << SEGMENTS.indexOf("es")) | (1 << SEGMENTS.indexOf("ss"));

const CODE_SEGMENT = 1 << SEGMENTS.indexOf("cs");

/** How a memory operand's address is found: base + displacement; with index and segment; an absolute 64-bit offset. */
export type AddressForm = "simple" | "full" | "absolute";

export interface Decoded {
  /**
   * A small number, the same for instructions that differ in displacement and immediate only; -1 where that is not known.
   * Numbers begin anew with `forgetShapes`.
   */
  readonly shape: number;
  readonly form: Form;
  readonly length: number;
  readonly operands: readonly Operand[];
  readonly context: Context;
  /** State offsets of register operands, by operand index. */
  readonly registers: readonly [number, number, number];
  readonly addressForm: AddressForm;
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: number;
  /** RIP-relative: the displacement counts from the next instruction, and base is the page. */
  readonly ripRelative: boolean;
  readonly addressContext: number;
  /** The immediate, sign-extended to 64 bits, as two signed halves; of x87 memory forms the ModRM byte. */
  readonly immediateLow: number;
  readonly immediateHigh: number;
  /** Whether the memory operand goes by SS: a non-canonical address is #SS then, else #GP. */
  readonly stackSegment: boolean;
  /** Whether it reaches the stack by itself, as pushes and pops do. */
  readonly usesStack: boolean;
}

/** A decoded instruction by whose shape others are decoded. */
interface Shape extends Decoded {
  shape: number;
  readonly displacementBytes: number;
  /** Bytes of its only immediate, 0 for none; undefined where more than `immediateLow` and its sign follow from them. */
  readonly immediateBytes: number | undefined;
}

/** Why bytes could not be decoded. */
export type DecodeFailure =
  /** More bytes are needed than given. */
  | "short"
  /** No form: #UD. */
  | "undefined"
  /** Longer than 15 bytes: #GP(0). */
  | "long";

const MAX_LENGTH = 15;
const PREFIX_SEGMENTS: ReadonlyMap<number, Segment> = new Map([
  [0x26, "es"],
  [0x2e, "cs"],
  [0x36, "ss"],
  [0x3e, "ds"],
  [0x64, "fs"],
  [0x65, "gs"],
]);
/** How opcodes whose shapes are kept go on. */
const KEPT = { plain: 1, modrm: 2 } as const;
/** Opcodes that are more than opcodes: 0F and x87's, which keep their ModRM byte, and VEX. */
const NO_SHAPE: ReadonlySet<number> = new Set([
  0x0f, 0xc4, 0xc5, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0x138, 0x13a,
]);
const NONE: Operand = { index: 3, kind: "imm", bits: 8 };
export const NO_OPERAND = NONE;

/** Base and index registers of 16-bit ModRM.rm [SDM 2 table 2-1]. */
const MEMORY16: readonly (readonly [number, number])[] = [
  [3, 6],
  [3, 7],
  [5, 6],
  [5, 7],
  [6, -1],
  [7, -1],
  [5, -1],
  [3, -1],
];

/** Where the forms with a VEX prefix begin among all forms by map and opcode. */
const VEX_FORMS = 4 * 256;
/** Map and mandatory prefix as VEX encodes them. */
const VEX_PREFIXES = [0, 0x66, 0xf3, 0xf2] as const;

/** The fields of a VEX prefix, not inverted [SDM 2 §2.3.5]. */
interface Vex {
  readonly map: 1 | 2 | 3;
  /** 66, F3, F2 or 0. */
  readonly prefix: number;
  /** As REX has them: W, R, X, B. */
  readonly rex: number;
  /** The register operand that ModRM has no room for. */
  readonly register: number;
  /** Vectors of 256 bits. */
  readonly wide: boolean;
}

/** Reads a VEX prefix from its second byte on; undefined for a map that has no instructions. */
function readVex(code: Uint8Array, first: number, at: number, long: boolean): Vex | undefined {
  const second = code[at] ?? 0;
  const last = first === 0xc5 ? second : (code[at + 1] ?? 0);
  const map = first === 0xc5 ? 1 : second & 0x1f;
  if (map !== 1 && map !== 2 && map !== 3) return undefined;
  const extensions = (~second >> 5) & (first === 0xc5 ? 4 : 7);
  const rex = extensions | (first === 0xc5 ? 0 : (last >> 4) & 8);
  return {
    map,
    prefix: VEX_PREFIXES[(last & 3) as 0 | 1 | 2 | 3],
    // Outside 64-bit mode there are eight registers, and W means nothing to operands in general registers.
    rex: long ? rex : 0,
    register: (~last >> 3) & 15,
    wide: (last & 4) !== 0,
  };
}

/** A decoder for one set of instructions; `features` are those the CPU model has. */
export class Decoder {
  /** Forms by map * 256 + opcode, the most specific first; those with a VEX prefix behind the others. */
  readonly #forms: Form[][] = Array.from({ length: 2 * VEX_FORMS }, () => []);
  readonly forms: readonly Form[];
  readonly #features: ReadonlySet<string> | undefined;
  /** By map (0 or 1) * 256 + opcode: whether shapes are kept, and whether there is a ModRM byte. */
  readonly #kept = new Uint8Array(2 * 256);
  /** By mode, then by prefix, REX, opcode, ModRM and SIB. */
  readonly #shapes = new Map<number, Map<number, Shape>>();
  #shapesMet = 0;

  constructor(instructions: readonly Instruction[], features?: ReadonlySet<string>) {
    this.#features = features;
    const all: Form[] = [];
    for (const instruction of instructions) {
      if (this.#lacks(instruction.feature)) continue;
      for (const text of instruction.forms) all.push(parseForm(instruction, text, all.length));
    }
    this.forms = all;
    for (const form of all) {
      const codes = form.opcodeRegister ? [0, 1, 2, 3, 4, 5, 6, 7].map((r) => form.opcode + r) : [form.opcode];
      const first = (form.vex ? VEX_FORMS : 0) + form.map * 256;
      for (const code of codes) this.#forms[first + code]?.push(form);
    }
    const rank = (form: Form) =>
      (form.exact === undefined ? 4 : 0) + (form.prefix === "any" ? 2 : form.prefix === "NP" ? 1 : 0);
    for (const list of this.#forms) {
      list.sort((a, b) => rank(a) - rank(b));
      if (list.some((form) => form.modrm !== list[0]?.modrm)) {
        throw new Error(`${list[0]?.text} and its neighbours do not agree on having a ModRM byte`);
      }
    }
    for (let code = 0; code < this.#kept.length; code++) {
      const list = this.#forms[code] ?? [];
      if (list.length === 0 || !list.every(hasShape) || NO_SHAPE.has(code)) continue;
      this.#kept[code] = list[0]?.modrm === true ? KEPT.modrm : KEPT.plain;
    }
  }

  /** Gives back the memory of known shapes, some MB after a boot; they are found anew as they are met. */
  forgetShapes(): void {
    this.#shapes.clear();
    this.#shapesMet = 0;
  }

  /** Whether the processor is without this feature. */
  #lacks(feature: string | undefined): boolean {
    return feature !== undefined && this.#features?.has(feature) === false;
  }

  /** Decodes the instruction at `from` in `code`, of which at most 15 bytes are looked at. */
  decode(code: Uint8Array, mode: number, from = 0): Decoded | DecodeFailure {
    let at = from;
    let prefix = 0;
    let rex = 0;
    let byte = code[at++] ?? 0;
    if (byte === 0x66 || byte === 0xf3 || byte === 0xf2) {
      prefix = byte === 0x66 ? 1 : byte & 3;
      byte = code[at++] ?? 0;
    }
    if ((byte & 0xf0) === 0x40 && (mode & DECODE.long) !== 0) {
      rex = byte;
      byte = code[at++] ?? 0;
    }
    let opcode = byte;
    if (byte === 0x0f) opcode = 256 + (code[at++] ?? 0);
    // Of several REX prefixes the last counts; as opcodes they are INC and DEC outside 64-bit mode.
    const again = rex !== 0 && (byte & 0xf0) === 0x40;
    const kept = again ? 0 : (this.#kept[opcode] ?? 0);
    if (kept === 0) return this.#decodeWhole(code.subarray(from, from + MAX_LENGTH), mode);
    let modrm = 0;
    let sib = 0;
    if (kept === KEPT.modrm) {
      modrm = code[at++] ?? 0;
      // With 16-bit addresses this is no SIB, and tells shapes apart for nothing: as many as such a guest has.
      if (modrm < 0xc0 && (modrm & 7) === 4) sib = code[at++] ?? 0;
    }
    let shapes = this.#shapes.get(mode);
    if (shapes === undefined) {
      shapes = new Map();
      this.#shapes.set(mode, shapes);
    }
    // 9 bits of opcode, 2 of prefix, 5 of REX, and two bytes: a small integer, which a Map finds without allocating.
    const rexBits = rex === 0 ? 0 : 0x10 | (rex & 0x0f);
    const key = (opcode << 23) | (prefix << 21) | (rexBits << 16) | (modrm << 8) | sib;
    let shape = shapes.get(key);
    if (shape === undefined) {
      const whole = this.#decodeWhole(code.subarray(from, from + MAX_LENGTH), mode);
      if (typeof whole === "string" || whole.immediateBytes === undefined) return whole;
      shape = whole;
      shape.shape = this.#shapesMet++;
      shapes.set(key, shape);
    }
    // What is cut off, or too long, is told apart by the one that looks at every byte.
    if (from + shape.length > code.length) return this.#decodeWhole(code.subarray(from), mode);
    return ofShape(shape, code, from);
  }

  #decodeWhole(code: Uint8Array, mode: number): Shape | DecodeFailure {
    const long = (mode & DECODE.long) !== 0;
    let at = 0;
    let rex = 0;
    let operand66 = false;
    let address67 = false;
    let repeat = 0;
    let lock = false;
    let segment: Segment | undefined;
    const available = Math.min(code.length, MAX_LENGTH);
    const tooFar = (): DecodeFailure => (code.length >= MAX_LENGTH ? "long" : "short");

    for (; ; at++) {
      if (at >= available) return tooFar();
      const byte = code[at] ?? 0;
      if (long && (byte & 0xf0) === 0x40) {
        rex = byte;
        continue;
      }
      if (byte === 0x66) operand66 = true;
      else if (byte === 0x67) address67 = true;
      else if (byte === 0xf2 || byte === 0xf3) repeat = byte;
      else if (byte === 0xf0) lock = true;
      else {
        const named = PREFIX_SEGMENTS.get(byte);
        if (named === undefined) break;
        // In 64-bit mode the four old segment overrides are ignored [SDM 2 §2.1.1].
        if (!long || named === "fs" || named === "gs") segment = named;
      }
      rex = 0; // A REX prefix counts only right before the opcode.
    }

    let map: 0 | 1 | 2 | 3 = 0;
    let opcode = code[at++] ?? 0;
    let vex: Vex | undefined;
    if ((opcode & 0xfe) === 0xc4 && (long || (mode & DECODE.protected) !== 0)) {
      if (at >= available) return tooFar();
      // Outside 64-bit mode this is LES or LDS, unless ModRM would name a register, which those do not take.
      if (long || (code[at] ?? 0) >= 0xc0) {
        if (lock || operand66 || repeat !== 0 || rex !== 0) return "undefined";
        const bytes = opcode === 0xc5 ? 1 : 2;
        if (at + bytes >= available) return tooFar();
        vex = readVex(code, opcode, at, long);
        if (vex === undefined) return "undefined";
        at += bytes;
        ({ map, rex } = vex);
        operand66 = vex.prefix === 0x66;
        repeat = operand66 ? 0 : vex.prefix;
        opcode = code[at++] ?? 0;
      }
    }
    if (vex === undefined && opcode === 0x0f) {
      if (at >= available) return tooFar();
      map = 1;
      opcode = code[at++] ?? 0;
      if (opcode === 0x38 || opcode === 0x3a) {
        map = opcode === 0x38 ? 2 : 3;
        if (at >= available) return tooFar();
        opcode = code[at++] ?? 0;
      }
    }
    const candidates = this.#forms[(vex === undefined ? 0 : VEX_FORMS) + map * 256 + opcode] ?? [];
    if (candidates.length === 0) return "undefined";
    let modrm = -1;
    if (candidates[0]?.modrm === true) {
      if (at >= available) return tooFar();
      modrm = code[at] ?? 0;
      // MOV to and from control and debug registers takes any mod as that of a register [SDM 2 MOV].
      if (map === 1 && (opcode & 0xfc) === 0x20) modrm |= 0xc0;
    }
    const form = select(candidates, modrm, long, operand66, repeat);
    if (form === undefined) return "undefined";
    if (vex !== undefined && !vexFits(form, vex)) return "undefined";
    if (form.modrm) at++;

    const isMemory = form.modrm && modrm < 0xc0;
    if (lock && !(form.lock && isMemory)) return "undefined";
    const mandatory66 = form.prefix === "66";
    const rexW = (rex & 8) !== 0;
    const operandSize = operandSizeOf(form, mode, operand66 && !mandatory66, rexW);
    if (operandSize === 64 && this.#lacks(form.instruction.wideFeature)) return "undefined";
    const addressSize = long ? (address67 ? 32 : 64) : ((mode & DECODE.code32) !== 0) !== address67 ? 32 : 16;

    // --- ModRM, SIB, displacement ---
    let base: number = STATE.zero.offset;
    let index: number = STATE.zero.offset;
    let scale = 0;
    let displacement = 0;
    let ripRelative = false;
    let stackBased = false;
    let hasIndex = false;
    let displacementBytes = 0;
    if (isMemory) {
      const mod = modrm >> 6;
      const rm = modrm & 7;
      displacementBytes = mod === 1 ? 1 : mod === 2 ? (addressSize === 16 ? 2 : 4) : 0;
      if (addressSize === 16) {
        const pair = MEMORY16[rm] ?? [0, 0];
        if (mod === 0 && rm === 6) displacementBytes = 2;
        else {
          base = gprOffset(pair[0]);
          stackBased = pair[0] === 5;
          if (pair[1] >= 0) {
            index = gprOffset(pair[1]);
            hasIndex = true;
          }
        }
      } else if (rm === 4) {
        if (at >= available) return tooFar();
        const sib = code[at++] ?? 0;
        scale = sib >> 6;
        const indexRegister = ((sib >> 3) & 7) | ((rex & 2) << 2);
        if (indexRegister !== 4) {
          index = gprOffset(indexRegister);
          hasIndex = true;
        }
        if ((sib & 7) === 5 && mod === 0) displacementBytes = 4;
        else {
          const baseRegister = (sib & 7) | ((rex & 1) << 3);
          base = gprOffset(baseRegister);
          stackBased = baseRegister === 4 || baseRegister === 5;
        }
      } else if (rm === 5 && mod === 0) {
        displacementBytes = 4;
        if (long) {
          ripRelative = true;
          base = STATE.pageBase.offset;
        }
      } else {
        const baseRegister = rm | ((rex & 1) << 3);
        base = gprOffset(baseRegister);
        stackBased = baseRegister === 4 || baseRegister === 5;
      }
      if (at + displacementBytes > available) return tooFar();
      displacement = signed(code, at, displacementBytes);
      at += displacementBytes;
    }

    // --- operands ---
    const operands: Operand[] = [];
    const registers: [number, number, number] = [0, 0, 0];
    let low = 0;
    let high = 0;
    let immediates = 0;
    let onlyBytes = 0;
    let absolute = false;
    const reg = ((modrm >> 3) & 7) | ((rex & 4) << 1);
    const rm = (modrm & 7) | ((rex & 1) << 3);
    for (const [i, pattern] of form.operands.entries()) {
      const bits = operandBits(pattern, operandSize, rexW);
      let kind: Operand["kind"] = "reg";
      let number = 0;
      switch (pattern.place) {
        case "E":
        case "W":
        case "Q":
        case "M":
          if (isMemory) {
            kind = "mem";
            break;
          }
          number = rm;
          break;
        case "R":
        case "U":
        case "N":
          number = rm;
          break;
        case "T":
          kind = "imm";
          low = rm & 7;
          break;
        case "G":
        case "V":
        case "P":
          number = reg;
          break;
        case "B":
          number = (vex?.register ?? 0) & (long ? 15 : 7);
          break;
        case "Z":
          number = (opcode & 7) | ((rex & 1) << 3);
          break;
        case "S":
        case "C":
        case "D":
          kind = "imm";
          low = reg;
          break;
        case "I":
        case "J": {
          kind = pattern.place === "I" ? "imm" : "rel";
          const bytes = immediateBytes(pattern, operandSize);
          if (at + bytes > available) return tooFar();
          onlyBytes = bytes;
          const value = signed(code, at, Math.min(bytes, 4));
          // A second immediate (ENTER, far pointers) lies in the upper half.
          if (immediates === 0) {
            low = value;
            high = bytes === 8 ? signed(code, at + 4, 4) : value >> 31;
          } else high = value;
          at += bytes;
          immediates++;
          break;
        }
        case "O": {
          kind = "mem";
          absolute = true;
          const bytes = addressSize / 8;
          if (at + bytes > available) return tooFar();
          low = addressSize === 16 ? signed(code, at, 2) & 0xffff : signed(code, at, 4);
          high = addressSize === 64 ? signed(code, at + 4, 4) : 0;
          at += bytes;
          break;
        }
        default:
          if (pattern.size === "1") {
            kind = "imm";
            low = 1;
          } else number = pattern.size === "CL" ? 1 : pattern.size === "DX" ? 2 : 0;
      }
      if (kind === "reg") registers[i as 0 | 1 | 2] = registerOffset(pattern, number, bits, rex !== 0);
      if (kind === "imm" && form.instruction.counts === true && (low & 0x1f) !== 0) {
        operands.push({ index: i, kind, bits, nonZero: true });
        continue;
      }
      operands.push(
        kind === "reg" && "VWUPQN".includes(pattern.place)
          ? { index: i, kind, bits, partial: true }
          : { index: i, kind, bits },
      );
    }
    // The x87 unit remembers the opcode of its last instruction, ModRM included; memory forms have no immediate.
    if (isMemory && map === 0 && (opcode & 0xf8) === 0xd8) low = modrm;
    const explicit = isMemory || absolute;
    const used = segment ?? (explicit && stackBased ? "ss" : "ds");
    const plain = long && used !== "fs" && used !== "gs";
    const addressForm = absolute ? "absolute" : plain && addressSize === 64 && !hasIndex ? "simple" : "full";
    return {
      shape: -1,
      displacementBytes,
      immediateBytes: immediates > 1 || absolute ? undefined : onlyBytes,
      form,
      length: at,
      operands,
      context: {
        operandSize,
        addressSize,
        stackSize: long ? 64 : (mode & DECODE.stack32) !== 0 ? 32 : 16,
        rep: repeat === 0xf3 ? "rep" : repeat === 0xf2 ? "repne" : "none",
        lock,
        segment: used,
        long,
        alignment: (mode & DECODE.alignment) !== 0,
        // What no access can go through is left out, or every handler would be there once for each state of FS and GS,
        // and CS, never writable, would keep strings from running in bulk.
        // Branches go by CS where it has a limit.
        checked: long ? 0 : checkedOf(mode, form, used),
      },
      registers,
      addressForm,
      base,
      index,
      scale,
      displacement,
      ripRelative,
      addressContext: addressContext(addressSize, used),
      immediateLow: low,
      immediateHigh: high,
      stackSegment: used === "ss",
      usesStack: form.instruction.uses?.includes("stackSize") === true,
    };
  }
}

/** The instruction at `from`, which has a known shape: all but displacement and immediate is the same. */
function ofShape(shape: Shape, code: Uint8Array, from: number): Decoded {
  const { displacementBytes, immediateBytes = 0, length } = shape;
  const end = from + length;
  const hasImmediate = immediateBytes > 0;
  const low = hasImmediate ? signed(code, end - immediateBytes, Math.min(immediateBytes, 4)) : shape.immediateLow;
  const sign = immediateBytes === 8 ? signed(code, end - 4, 4) : low >> 31;
  return {
    shape: shape.shape,
    form: shape.form,
    length,
    operands: shape.operands,
    context: shape.context,
    registers: shape.registers,
    addressForm: shape.addressForm,
    base: shape.base,
    index: shape.index,
    scale: shape.scale,
    displacement: signed(code, end - immediateBytes - displacementBytes, displacementBytes),
    ripRelative: shape.ripRelative,
    addressContext: shape.addressContext,
    immediateLow: low,
    immediateHigh: hasImmediate ? sign : shape.immediateHigh,
    stackSegment: shape.stackSegment,
    usesStack: shape.usesStack,
  };
}

/** Whether what follows from a form's immediate is its value alone. */
function hasShape({ instruction, operands }: Form): boolean {
  return instruction.counts !== true && operands.every(({ place }) => !"OSCDT".includes(place));
}

/** Segments, a bit each, that a handler outside 64-bit mode checks. */
function checkedOf(mode: number, form: Form, used: Segment): number {
  const { ends, branches } = form.instruction;
  const limits = (mode & DECODE.limited) !== 0 && (ends === true || branches === true);
  const wanted = IMPLICIT_SEGMENTS | (1 << SEGMENTS.indexOf(used)) | (limits ? CODE_SEGMENT : 0);
  return (mode >> DECODE.checked) & wanted;
}

function fits(form: Form, modrm: number, long: boolean): boolean {
  if (long ? form.not64 : form.only64) return false;
  if (!form.modrm) return true;
  if (form.exact !== undefined) return form.exact === modrm;
  if (form.digit !== undefined && form.digit !== ((modrm >> 3) & 7)) return false;
  if (form.rm === "memory") return modrm < 0xc0;
  return form.rm === "both" || modrm >= 0xc0;
}

/** Forms have vectors of 128 bits; without an operand in vvvv its bits must all be set. */
function vexFits(form: Form, { wide, register }: Vex): boolean {
  return !wide && (register === 0 || form.operands.some(({ place }) => place === "B"));
}

/**
 * The first fitting form with the prefix that counts. F2 and F3 win over 66 [SDM 2 §2.1.2]; without a form of their own
 * they fall to a form that looks at none.
 */
function select(
  candidates: readonly Form[],
  modrm: number,
  long: boolean,
  operand66: boolean,
  repeat: number,
): Form | undefined {
  const wanted = repeat === 0xf3 ? "F3" : repeat === 0xf2 ? "F2" : operand66 ? "66" : "NP";
  let any: Form | undefined;
  for (const form of candidates) {
    if (form.prefix === wanted) {
      if (fits(form, modrm, long)) return form;
    } else if (any === undefined && form.prefix === "any" && fits(form, modrm, long)) any = form;
  }
  return any;
}

function operandSizeOf(form: Form, mode: number, prefixed: boolean, rexW: boolean): 16 | 32 | 64 {
  if ((mode & DECODE.long) !== 0) {
    if (form.force64 || rexW) return 64;
    if (prefixed) return 16;
    return form.default64 ? 64 : 32;
  }
  return ((mode & DECODE.code32) !== 0) !== prefixed ? 32 : 16;
}

export function operandBits(pattern: OperandPattern, operandSize: 16 | 32 | 64, rexW: boolean): Bits {
  switch (pattern.size) {
    case "b":
    case "AL":
    case "CL":
    case "1":
    case "":
    case "s":
    case "p":
      return 8;
    case "w":
    case "AX":
    case "DX":
      return 16;
    case "d":
    case "ss":
      return 32;
    case "q":
    case "sd":
      return 64;
    case "v":
    case "z":
    case "bs":
    case "rAX":
      return operandSize;
    case "y":
      return rexW ? 64 : 32;
    case "dq":
    case "ps":
    case "pd":
      return 128;
    default:
      throw new Error(`operand size "${pattern.size}" is not in the notation`);
  }
}

export function immediateBytes(pattern: OperandPattern, operandSize: 16 | 32 | 64): number {
  switch (pattern.size) {
    case "b":
    case "bs":
      return 1;
    case "w":
      return 2;
    case "d":
      return 4;
    case "z":
      return operandSize === 16 ? 2 : 4;
    default:
      return operandSize / 8;
  }
}

/** Where a register operand lies. AH, CH, DH and BH are byte 1 of the first four, without REX. */
function registerOffset(pattern: OperandPattern, number: number, bits: Bits, rex: boolean): number {
  if (pattern.place === "fixed") return gprOffset(number);
  if ("VWU".includes(pattern.place)) return xmmOffset(number);
  if ("PQN".includes(pattern.place)) return X87_REGISTERS + (number & 7) * 16;
  if (bits === 8 && !rex && number >= 4 && number < 8) return gprOffset(number - 4) + 1;
  return gprOffset(number);
}

/** A little-endian two's complement number of 0 to 4 bytes; 0 for none. */
function signed(code: Uint8Array, at: number, bytes: number): number {
  switch (bytes) {
    case 0:
      return 0;
    case 1:
      return ((code[at] ?? 0) << 24) >> 24;
    case 2:
      return (((code[at] ?? 0) | ((code[at + 1] ?? 0) << 8)) << 16) >> 16;
    default:
      return (code[at] ?? 0) | ((code[at + 1] ?? 0) << 8) | ((code[at + 2] ?? 0) << 16) | ((code[at + 3] ?? 0) << 24);
  }
}
