/**
 * A small assembler for test guests, over the table's forms: `asm.emit("ADD", "rax", mem({ base: "rbx", disp: 8 }))`.
 * Operands are in the manual's order. Of the forms that fit, the shortest encoding is taken.
 */

import { operandBits } from "./decode.ts";
import {
  type Choice,
  defaultOperandSize,
  type Encoded,
  encodeParts,
  fits,
  littleEndian,
  type Mode,
  type Size,
} from "./encode.ts";
import { type Form, type OperandPattern, parseForm } from "./instruction.ts";
import type { Bits } from "./ir.ts";
import type { Segment } from "./state.ts";
import { INSTRUCTIONS } from "./table.ts";

type RegisterClass = "general" | "vector" | "mmx" | "segment" | "control" | "debug" | "x87";

export interface Register {
  readonly kind: "reg";
  readonly name: string;
  readonly file: RegisterClass;
  readonly number: number;
  readonly bits: Bits;
  readonly high?: boolean;
}
export interface Memory {
  readonly kind: "mem";
  readonly base?: string;
  readonly index?: string;
  readonly scale?: 1 | 2 | 4 | 8;
  readonly disp?: bigint | number;
  /** A place in this program: RIP-relative in 64-bit mode, else an absolute address. */
  readonly label?: string;
  readonly segment?: Segment;
  /** Width of the access; needed where no register operand tells it. */
  readonly bits?: Bits;
}
export interface Label {
  readonly kind: "label";
  readonly name: string;
}
/** A string is a register if it names one, else a label; numbers are immediates. */
export type AsmOperand = Register | Memory | Label | bigint | number | string;
type Resolved = Register | Memory | Label | { readonly kind: "number"; readonly value: bigint };

const REGISTERS = new Map<string, Register>();
function define(name: string, file: RegisterClass, number: number, bits: Bits, high = false): void {
  REGISTERS.set(name, { kind: "reg", name, file, number, bits, ...(high ? { high } : {}) });
}
for (const [i, n] of ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"].entries()) {
  define(`r${n}`, "general", i, 64);
  define(`e${n}`, "general", i, 32);
  define(n, "general", i, 16);
  define(i < 4 ? `${n[0]}l` : `${n}l`, "general", i, 8);
  if (i < 4) define(`${n[0]}h`, "general", i, 8, true);
}
for (let i = 8; i < 16; i++) {
  for (const [suffix, bits] of [
    ["", 64],
    ["d", 32],
    ["w", 16],
    ["b", 8],
  ] as const)
    define(`r${i}${suffix}`, "general", i, bits);
}
for (let i = 0; i < 16; i++) {
  define(`xmm${i}`, "vector", i, 128);
  define(`cr${i}`, "control", i, 64);
  if (i < 8) define(`st${i}`, "x87", i, 128);
  if (i < 8) define(`mm${i}`, "mmx", i, 64);
  if (i < 8) define(`dr${i}`, "debug", i, 64);
}
for (const [i, n] of ["es", "cs", "ss", "ds", "fs", "gs"].entries()) define(n, "segment", i, 16);

/** A register by its usual name; throws RangeError for another. */
export function reg(name: string): Register {
  const found = REGISTERS.get(name.toLowerCase());
  if (found === undefined) throw new RangeError(`"${name}" is no register`);
  return found;
}
export function mem(operand: Omit<Memory, "kind">): Memory {
  return { kind: "mem", ...operand };
}
export function label(name: string): Label {
  return { kind: "label", name };
}

const FORMS = new Map<string, Form[]>();
for (const instruction of INSTRUCTIONS) {
  for (const text of instruction.forms) {
    const form = parseForm(instruction, text);
    // By the mnemonic, and by the whole name where that tells more.
    for (const name of new Set([instruction.name.toUpperCase(), mnemonicOf(instruction.name)])) {
      FORMS.set(name, [...(FORMS.get(name) ?? []), form]);
    }
  }
}
function mnemonicOf(name: string): string {
  return (name.split(" ")[0] ?? "").toUpperCase();
}

const FILES: Readonly<Record<string, RegisterClass>> = {
  G: "general",
  E: "general",
  M: "general",
  R: "general",
  Z: "general",
  V: "vector",
  W: "vector",
  U: "vector",
  P: "mmx",
  Q: "mmx",
  N: "mmx",
  S: "segment",
  C: "control",
  D: "debug",
  T: "x87",
};
const FIXED: Readonly<Record<string, number>> = { AL: 0, AX: 0, rAX: 0, CL: 1, DX: 2 };

interface Fixup {
  /** Where the field lies in the program. */
  readonly at: number;
  readonly bytes: number;
  readonly label: string;
  /** For a relative field: where it counts from. */
  readonly from: number | undefined;
  readonly addend: bigint;
}
interface Prefixes {
  lock?: boolean;
  rep?: "rep" | "repne";
  segment?: Segment;
}

export class Assembler {
  #mode: Mode;
  readonly #origin: bigint;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];
  #prefixes: Prefixes = {};

  /** `origin` is the address of the first byte, for labels as absolute addresses. */
  constructor({ bits = 64, origin = 0n }: { bits?: Mode; origin?: bigint } = {}) {
    this.#mode = bits;
    this.#origin = origin;
  }

  /** What follows runs as 64-, 32- or 16-bit code. */
  bits(mode: Mode): this {
    this.#mode = mode;
    return this;
  }
  get size(): number {
    return this.#bytes.length;
  }
  /** Address of the next byte. */
  get here(): bigint {
    return this.#origin + BigInt(this.#bytes.length);
  }
  label(name: string): this {
    if (this.#labels.has(name)) throw new RangeError(`label "${name}" is there twice`);
    this.#labels.set(name, this.#bytes.length);
    return this;
  }
  /** Address of a label that has been placed. */
  address(name: string): bigint {
    const at = this.#labels.get(name);
    if (at === undefined) throw new RangeError(`there is no label "${name}"`);
    return this.#origin + BigInt(at);
  }

  // Prefixes of the next instruction.
  lock(): this {
    this.#prefixes.lock = true;
    return this;
  }
  rep(): this {
    this.#prefixes.rep = "rep";
    return this;
  }
  repne(): this {
    this.#prefixes.rep = "repne";
    return this;
  }
  /** For an implicit memory operand. */
  segment(segment: Segment): this {
    this.#prefixes.segment = segment;
    return this;
  }

  // Data.
  db(...values: (number | bigint | string)[]): this {
    return this.#data(1, values);
  }
  dw(...values: (number | bigint | Label)[]): this {
    return this.#data(2, values);
  }
  dd(...values: (number | bigint | Label)[]): this {
    return this.#data(4, values);
  }
  dq(...values: (number | bigint | Label)[]): this {
    return this.#data(8, values);
  }
  /** Fills with NOPs, or `fill`, up to a multiple of `bytes` from the first byte. */
  align(bytes: number, fill = 0x90): this {
    while (this.#bytes.length % bytes !== 0) this.#bytes.push(fill);
    return this;
  }
  #data(bytes: number, values: readonly (number | bigint | string | Label)[]): this {
    for (const value of values) {
      if (typeof value === "string") this.#bytes.push(...new TextEncoder().encode(value));
      else if (typeof value === "object") {
        this.#fixups.push({ at: this.#bytes.length, bytes, label: value.name, from: undefined, addend: 0n });
        this.#bytes.push(...littleEndian(0n, bytes));
      } else {
        if (!fits(BigInt(value), bytes * 8)) throw new RangeError(`${value} does not fit ${bytes} bytes`);
        this.#bytes.push(...littleEndian(BigInt(value), bytes));
      }
    }
    return this;
  }

  mov(to: AsmOperand, from: AsmOperand): this {
    return this.emit("MOV", to, from);
  }

  /** One instruction by its mnemonic, or by its full name in the table (`JMP far`). Operand size `size` is needed only
   * where neither registers nor memory tell it, as for PUSHF or far jumps. */
  emit(name: string, ...operands: (AsmOperand | { size: Size })[]): this {
    const prefixes = this.#prefixes;
    this.#prefixes = {};
    let wanted: Size | undefined;
    const given: Resolved[] = [];
    for (const operand of operands) {
      if (typeof operand === "object" && "size" in operand) wanted = operand.size;
      else given.push(resolve(operand));
    }
    const forms = FORMS.get(name.toUpperCase()) ?? [];
    if (forms.length === 0) throw new RangeError(`there is no instruction "${name}"`);
    let best: { form: Form; encoded: Encoded } | undefined;
    let refusal = "no form takes these operands";
    for (const form of forms) {
      for (const size of this.#sizes(form, wanted)) {
        const choices = this.#match(form, size, wanted !== undefined, given);
        if (choices === undefined) continue;
        try {
          const encoded = this.#encode(form, size, choices, given, prefixes);
          if (best === undefined || encoded.bytes.length < best.encoded.bytes.length) best = { form, encoded };
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
          refusal = error.message;
        }
      }
    }
    if (best === undefined)
      throw new RangeError(`${name} ${given.map(show).join(", ")} in ${this.#mode}-bit code: ${refusal}`);
    this.#place(best.form, best.encoded, given);
    return this;
  }

  #sizes(form: Form, wanted: Size | undefined): Size[] {
    if (wanted !== undefined) return [wanted];
    const natural = defaultOperandSize(form, this.#mode);
    const sized = form.operands.some((o) => ["v", "z", "bs", "y", "rAX"].includes(o.size));
    if (!sized) return [natural];
    return [natural, ...([16, 32, 64] as const).filter((s) => s !== natural && (s < 64 || this.#mode === 64))];
  }

  /** The operands as choices of a form, or undefined where they do not fit it. */
  #match(form: Form, size: Size, wanted: boolean, given: readonly Resolved[]): Choice[] | undefined {
    if (this.#mode === 64 ? form.not64 : form.only64) return undefined;
    if (form.operands.length !== given.length) return undefined;
    const choices: Choice[] = [];
    // With immediates alone to go by, the size is the natural one.
    const told =
      wanted ||
      given.some((o) => (o.kind === "reg" && o.file === "general") || (o.kind === "mem" && o.bits !== undefined));
    if (!told && size !== defaultOperandSize(form, this.#mode) && !given.some((o) => o.kind === "mem"))
      return undefined;
    for (const [i, pattern] of form.operands.entries()) {
      const operand = given[i];
      if (operand === undefined) return undefined;
      const choice = this.#choice(
        form,
        pattern,
        operand,
        operandBits(pattern, size, size === 64),
        widthIsTold(form, i, given),
      );
      if (choice === undefined) return undefined;
      choices.push(choice);
    }
    return choices;
  }

  #choice(form: Form, pattern: OperandPattern, operand: Resolved, bits: Bits, told: boolean): Choice | undefined {
    if (pattern.place === "fixed") {
      if (operand.kind === "number")
        return pattern.size === "1" && operand.value === 1n ? { kind: "fixed" } : undefined;
      const matches =
        operand.kind === "reg" &&
        operand.file === "general" &&
        operand.high !== true &&
        operand.number === FIXED[pattern.size] &&
        operand.bits === bits;
      return matches ? { kind: "fixed" } : undefined;
    }
    if (pattern.place === "I" || pattern.place === "J") {
      if (operand.kind === "number") return { kind: "imm", value: operand.value };
      // A label's value comes later; a byte could not hold an address.
      if (operand.kind !== "label" || (pattern.place === "I" && (pattern.size === "b" || pattern.size === "bs")))
        return undefined;
      return { kind: "imm", value: 0n };
    }
    if (operand.kind === "reg") {
      if (FILES[pattern.place] !== operand.file) return undefined;
      if (operand.file === "general" && operand.bits !== bits) return undefined;
      if (form.rm === "memory" && "EWQM".includes(pattern.place)) return undefined;
      return { kind: "reg", number: operand.number, ...(operand.high === true ? { high: true } : {}) };
    }
    if (operand.kind !== "mem" || !"EWQMO".includes(pattern.place) || form.rm === "register") return undefined;
    if (operand.bits === undefined ? !told : pattern.size !== "" && operand.bits !== bits) return undefined;
    return this.#memory(pattern, operand);
  }

  #memory(pattern: OperandPattern, operand: Memory): Choice | undefined {
    const { base, index, scale, segment } = operand;
    const absolute = base === undefined && index === undefined;
    const ripRelative = operand.label !== undefined && this.#mode === 64 && absolute;
    if (pattern.place === "O" && (!absolute || ripRelative)) return undefined;
    const shared = {
      kind: "mem" as const,
      ...(index === undefined ? {} : { index: reg(index).number }),
      ...(scale === undefined ? {} : { scale }),
      ...(segment === undefined ? {} : { segment }),
      disp: operand.label === undefined ? BigInt(operand.disp ?? 0) : 0n,
      ...(operand.label === undefined
        ? {}
        : { dispBits: addressSizeOf(operand, this.#mode) === 16 ? (16 as const) : (32 as const) }),
    };
    if (ripRelative || base === "rip") return { ...shared, base: "rip" };
    return base === undefined ? shared : { ...shared, base: reg(base).number };
  }

  #encode(form: Form, size: Size, choices: readonly Choice[], given: readonly Resolved[], prefixes: Prefixes): Encoded {
    const addressSize = given
      .map((o) => (o.kind === "mem" ? addressSizeOf(o, this.#mode) : undefined))
      .find((s) => s !== undefined);
    const short = given.findIndex(
      (o, i) => o.kind === "label" && form.operands[i]?.place === "J" && form.operands[i]?.size === "b",
    );
    const shortLabel = given[short];
    let operands = choices;
    if (shortLabel !== undefined && shortLabel.kind === "label") {
      // A short jump can be taken backwards only, where the distance is known, unless there is no other form.
      const longer = (FORMS.get(form.instruction.name.toUpperCase()) ?? []).some((f) => f.operands[0]?.size === "z");
      const target = this.#labels.get(shortLabel.name);
      if (target === undefined && longer) throw new RangeError("the distance is not known yet");
      if (target !== undefined) {
        const { bytes } = encodeParts(form, { mode: this.#mode, operands: choices });
        const value = BigInt(target - (this.#bytes.length + bytes.length));
        operands = choices.with(short, { kind: "imm", value });
      }
    }
    const options = {
      mode: this.#mode,
      operandSize: size,
      operands,
      ...prefixes,
      ...(addressSize === undefined ? {} : { addressSize }),
    };
    return encodeParts(form, options);
  }

  /** Appends the bytes, and notes the fields that labels fill in. */
  #place(form: Form, { bytes, placed }: Encoded, given: readonly Resolved[]): void {
    const start = this.#bytes.length;
    const end = start + bytes.length;
    this.#bytes.push(...bytes);
    for (const { operand, at, bytes: width } of placed) {
      const what = given[operand];
      if (what?.kind === "mem" && what.label !== undefined) {
        const relative = this.#mode === 64 && what.base === undefined && what.index === undefined;
        this.#fixups.push({
          at: start + at,
          bytes: width,
          label: what.label,
          from: relative ? end : undefined,
          addend: BigInt(what.disp ?? 0),
        });
      } else if (what?.kind === "label") {
        const relative = form.operands[operand]?.place === "J";
        this.#fixups.push({
          at: start + at,
          bytes: width,
          label: what.name,
          from: relative ? end : undefined,
          addend: 0n,
        });
      }
    }
  }
  /** The program with all labels filled in. Throws RangeError for one that is missing or too far. */
  finish(): Uint8Array {
    const bytes = Uint8Array.from(this.#bytes);
    for (const { at, bytes: width, label: name, from, addend } of this.#fixups) {
      const target = this.address(name) + addend;
      const value = from === undefined ? target : target - this.#origin - BigInt(from);
      const held = from === undefined ? fits(value, width * 8) : BigInt.asIntN(width * 8, value) === value;
      if (!held) throw new RangeError(`label "${name}" is too far: ${value} does not fit ${width} bytes`);
      bytes.set(littleEndian(value, width), at);
    }
    return bytes;
  }
}

/** Whether the width of memory operand `at` is clear without being given: by a register of the same size, or since the
 * form has no other. */
function widthIsTold(form: Form, at: number, given: readonly Resolved[]): boolean {
  const pattern = form.operands[at];
  if (pattern === undefined || !"EO".includes(pattern.place)) return true;
  const twins: Record<string, string> = { AL: "b", rAX: "v" };
  return form.operands.some(
    (o, i) => i !== at && given[i]?.kind === "reg" && (twins[o.size] ?? o.size) === pattern.size,
  );
}

function resolve(operand: AsmOperand): Resolved {
  if (typeof operand === "string") return REGISTERS.get(operand.toLowerCase()) ?? label(operand);
  if (typeof operand === "bigint" || typeof operand === "number") return { kind: "number", value: BigInt(operand) };
  return operand;
}

/** By the registers of an address, else the mode's. */
function addressSizeOf(operand: Memory, mode: Mode): Size {
  const named = operand.base === "rip" ? undefined : (operand.base ?? operand.index);
  if (named === undefined) return mode;
  const { bits, file } = reg(named);
  if (file !== "general" || bits === 8 || bits === 128) throw new RangeError(`${named} cannot form an address`);
  return bits;
}

function show(operand: Resolved): string {
  if (operand.kind === "reg" || operand.kind === "label") return operand.name;
  if (operand.kind === "number") return operand.value.toString();
  return `[${operand.base ?? operand.label ?? ""}${operand.index === undefined ? "" : `+${operand.index}*${operand.scale ?? 1}`}]`;
}
