/** Random encodings of the instruction table's forms, for 64-bit mode at ring 3. */

import { AF, ARITHMETIC, CF, IF, IOPL, ZF } from "../../src/isa/flags.ts";
import { type Form, type Instruction, parseForm } from "../../src/isa/instruction.ts";
import type { CaseContext, GeneratedInstruction, Generator } from "./generator.ts";
import { ROLE } from "./inputs.ts";
import { WINDOW_LOW, WINDOW_SEAM } from "./layout.ts";
import type { Random } from "./random.ts";

/**
 * Not fuzzed, beyond what the table marks as `system`: their results are the host's own (time, randomness, identity,
 * descriptor tables), or ring 3 on a paravirtual KVM does not show what the processor does.
 */
const EXCLUDED = new RegExp(
  "^(CPUID|RDTSCP?|RDRAND|RDSEED|RDPID|RDPMC|XGETBV|INT|INT1|INTO|IRET[DQ]?|SYSCALL|SYSENTER|SYSRET|SYSEXIT|LAR|LSL|" +
    "VERR|VERW|SGDT|SIDT|SLDT|STR|SMSW|CALLF|JMPF|RETF|LSS|LFS|LGS|IN|OUT|INS.?|OUTS.?|HLT|MONITOR|MWAIT|" +
    "(FX|X)(SAVE|RSTOR).*|RD[FG]SBASE|WR[FG]SBASE)$",
);
/** Results within a bound only. */
const APPROXIMATE = /^(RCP|RSQRT)[PS]S$/;
/** All arithmetic flags are defined after these, at every count and operand. */
const DEFINES_FLAGS = /^(ADD|SUB|CMP|ADC|SBB|NEG|XADD|CMPXCHG|CMPS.?|SCAS.?|U?COMIS[SD]|POPCNT|SAHF|POPF.?)$/;
/** Which flags an instruction reads; by name, the first that matches. */
const READS: readonly (readonly [RegExp, number])[] = [
  [/^(ADC|SBB|RCL|RCR|CMC|SALC)$/, CF],
  [/^(J|SET|CMOV)(N?[OBZSP]|N?BE|N?L|N?LE|N?C|N?AE?|N?E|N?GE?|P[EO]|[ABGL]E?|NBE|NLE)$/, ARITHMETIC & ~AF],
  [/^(Jcc|SETcc|CMOVcc)$/, ARITHMETIC & ~AF],
  [/^(LOOPN?[EZ]|LOOPcc)$/, ZF],
  [/^(LAHF|PUSHF.?)$/, ARITHMETIC],
];

const SEGMENT_PREFIXES = [0x26, 0x2e, 0x36, 0x3e];
const IMMEDIATES = [0, 1, -1, 2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, -128, 128, 255, 256, 0x7fff, -0x8000, 0x7fffffff];

/** Whether a form can be fuzzed at ring 3 in 64-bit mode. */
export function isFuzzable(form: Form): boolean {
  if (form.instruction.system || form.not64 || EXCLUDED.test(form.instruction.name)) return false;
  return !form.operands.some((operand) => ["S", "C", "D", "A"].includes(operand.place));
}

export function formName(form: Form): string {
  return `${form.instruction.name} ${form.text}`;
}

/** An instruction under construction; reused. */
class Encoding {
  readonly bytes: number[] = [];
  rex = 0;
  rexForced = false;
}

export class FormGenerator implements Generator {
  readonly forms: readonly Form[];
  readonly #byInstruction: readonly (readonly Form[])[];

  /** `only` selects forms by the beginning of their name or by a substring of it, case-insensitively. */
  constructor(instructions: readonly Instruction[], only?: string) {
    const wanted = only?.toLowerCase();
    const groups: Form[][] = [];
    for (const instruction of instructions) {
      const forms = instruction.forms
        .map((text) => parseForm(instruction, text))
        .filter((form) => isFuzzable(form) && (wanted === undefined || matches(form, wanted)));
      if (forms.length > 0) groups.push(forms);
    }
    this.#byInstruction = groups;
    this.forms = groups.flat();
  }

  generate(context: CaseContext): GeneratedInstruction {
    const { random } = context;
    for (let attempt = 0; ; attempt++) {
      // Half by instruction and half by form, so that neither the rare nor the many-formed dominate.
      const form = random.chance(0.5) ? random.pick(this.forms) : random.pick(random.pick(this.#byInstruction));
      if ((reads(form.instruction.name) & context.undefinedFlags) !== 0 && attempt < 50) continue;
      return encode(form, context);
    }
  }
}

function matches(form: Form, wanted: string): boolean {
  const name = formName(form).toLowerCase();
  return name.startsWith(`${wanted} `) || name === wanted || (wanted.includes(" ") && name.startsWith(wanted));
}

function reads(name: string): number {
  return READS.find(([pattern]) => pattern.test(name))?.[1] ?? 0;
}

/** One random encoding of `form`. */
export function encode(form: Form, context: CaseContext): GeneratedInstruction {
  const { random } = context;
  const { instruction } = form;
  const encoding = new Encoding();
  const head: number[] = [];
  const usesMemory = form.modrm && (form.rm === "memory" || (form.rm === "both" && random.chance(0.5)));
  const string = instruction.uses?.includes("rep") === true;

  // Legacy prefixes, in any order where the order is free.
  if (random.chance(0.04) && (usesMemory || string || form.operands.some((o) => o.place === "O"))) head.push(0x67);
  const address32 = head.includes(0x67);
  if (random.chance(0.05)) head.push(random.chance(0.6) ? 0x64 + random.below(2) : random.pick(SEGMENT_PREFIXES));
  if (string && random.chance(0.5)) head.push(0xf2 + random.below(2));
  const sized = form.operands.some((o) => "vzy".includes(o.size) || o.size === "rAX") || form.default64 || string;
  let operandSize = 32;
  if (form.prefix === "any" && sized) {
    const roll = random.below(8);
    if (roll < 3) operandSize = 64;
    else if (roll < 5) operandSize = 16;
  }
  if (form.prefix !== "any" && form.operands.some((o) => o.size === "y") && random.chance(0.5)) operandSize = 64;
  // With a 16-bit target a jump leaves the code; AMD and Intel differ there.
  if (form.operands.some((o) => o.place === "J") || form.force64) operandSize = 64;
  if (operandSize === 16) head.push(0x66);
  if (form.lock && usesMemory && random.chance(0.3)) head.push(0xf0);
  else if (random.chance(0.001)) head.push(0xf0);
  shuffle(random, head);
  // Mandatory prefixes come last: an earlier 66 is then ignored with F2 and F3.
  if (form.prefix === "66" || form.prefix === "F2" || form.prefix === "F3") head.push(Number.parseInt(form.prefix, 16));

  // Without a size operand, W selects the form of some (MOVD, CVTSI2SD, `y` operands), and is ignored by others.
  const wide = form.operands.some((o) => o.size === "y" || o.size === "v") || sized;
  if (wide ? operandSize === 64 : random.chance(0.1)) encoding.rex |= 8;
  if (random.chance(0.2)) encoding.rexForced = true;

  let opcode = form.opcode;
  if (form.opcodeRegister) {
    const register = random.below(16);
    opcode |= register & 7;
    encoding.rex |= register >> 3;
  }
  let ripRelative = -1;
  if (form.exact !== undefined) encoding.bytes.push(form.exact);
  else if (form.modrm) {
    const reg = form.digit ?? random.below(16);
    if (form.digit === undefined) encoding.rex |= (reg >> 3) << 2;
    else if (random.chance(0.1)) encoding.rex |= 4;
    if (usesMemory) ripRelative = memory(encoding, reg & 7, context, address32);
    else {
      const rm = random.below(16);
      encoding.rex |= rm >> 3;
      encoding.bytes.push(0xc0 | ((reg & 7) << 3) | (rm & 7));
    }
  }
  const branchBytes = immediates(form, encoding, operandSize, random, address32);

  const prefixBytes = [...head];
  if (encoding.rex !== 0 || encoding.rexForced) prefixBytes.push(0x40 | encoding.rex);
  const map = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][form.map] ?? [];
  const start = [...prefixBytes, ...map, opcode];
  const pushesFlags = /^PUSHF/.test(instruction.name);
  const bytes = Uint8Array.from([...start, ...encoding.bytes, ...(pushesFlags ? hidden(operandSize) : [])]);
  if (ripRelative >= 0) {
    // The displacement counts from the end of the instruction.
    const view = new DataView(bytes.buffer);
    const at = start.length + ripRelative;
    view.setInt32(at, (view.getInt32(at, true) + context.window - context.address - bytes.length) | 0, true);
  }
  return {
    bytes,
    name: formName(form),
    undefinedFlags: pushesFlags ? AF : (instruction.undefinedFlags ?? 0),
    definesFlags: DEFINES_FLAGS.test(instruction.name),
    approximate: APPROXIMATE.test(instruction.name),
    branchBytes,
  };
}

/** AND [RSP], so that a pushed image of RFLAGS does not show IF and IOPL: on a paravirtual KVM they are the host's. */
function hidden(operandSize: number): readonly number[] {
  const low = [~(IF | IOPL) & 255, (~(IF | IOPL) >> 8) & 255];
  return operandSize === 16 ? [0x66, 0x81, 0x24, 0x24, ...low] : [0x81, 0x24, 0x24, ...low, 0xff, 0xff];
}

function shuffle(random: Random, list: number[]): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    [list[i], list[j]] = [list[j] ?? 0, list[i] ?? 0];
  }
}

/** A distance from the window's seam: within the hot bytes, often aligned. */
function nearby(random: Random): number {
  const distance = random.below(128) - 64;
  return random.chance(0.6) ? distance & ~15 : distance;
}

/** Appends ModRM, SIB and displacement; gives the place of a RIP-relative displacement in `bytes`, or -1. */
function memory(encoding: Encoding, reg: number, { random, roles }: CaseContext, address32: boolean): number {
  const { bytes } = encoding;
  const pushDisplacement = (value: number): void => {
    bytes.push(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255);
  };
  const kind = random.below(16);
  if (kind === 0 && !address32) {
    bytes.push((reg << 3) | 5);
    pushDisplacement(nearby(random));
    return 1;
  }
  if (kind === 1) {
    // No base: an absolute address below 2 GiB.
    bytes.push((reg << 3) | 4, 0x25);
    pushDisplacement(Number(WINDOW_LOW) + WINDOW_SEAM + nearby(random));
    return -1;
  }
  const base = register(random, roles, ROLE.pointer);
  encoding.rex |= base >> 3;
  // RSP and R12 as a base need a SIB byte; RBP and R13 need a displacement.
  const sib = (base & 7) === 4 || kind < 7;
  let mod = random.below(8) < 4 ? 1 : random.below(3);
  if (mod === 0 && (base & 7) === 5) mod = 1;
  bytes.push((mod << 6) | (reg << 3) | (sib ? 4 : base & 7));
  if (sib) {
    let index = random.chance(0.3) ? 4 : register(random, roles, ROLE.small);
    if (index === 4 && random.chance(0.3)) index = 12;
    encoding.rex |= (index >> 3) << 1;
    bytes.push((random.below(4) << 6) | ((index & 7) << 3) | (base & 7));
  }
  if (mod === 1) bytes.push(nearby(random) & 255);
  if (mod === 2) pushDisplacement(random.chance(0.02) ? random.u32() | 0 : nearby(random));
  return -1;
}

/** A register's number; one of `role` where there is one, nine times of ten. */
function register(random: Random, roles: readonly number[], role: number): number {
  const first = random.below(16);
  if (random.chance(0.05)) return first;
  for (let i = 0; i < 16; i++) {
    const candidate = (first + i) & 15;
    if (roles[candidate] === role) return candidate;
  }
  return first;
}

/** Appends immediates, offsets and branch displacements; gives the bytes of the last. */
function immediates(
  form: Form,
  { bytes }: Encoding,
  operandSize: number,
  random: Random,
  address32: boolean,
): 0 | 1 | 2 | 4 {
  let branchBytes: 0 | 1 | 4 = 0;
  const push = (value: number, count: number): void => {
    for (let i = 0; i < count; i++) bytes.push(i < 4 ? (value >> (8 * i)) & 255 : value < 0 ? 255 : 0);
  };
  for (const { place, size } of form.operands) {
    if (place === "I") {
      const value = random.chance(0.4) ? random.pick(IMMEDIATES) : random.u32() | 0;
      const counts: Readonly<Record<string, number>> = { b: 1, bs: 1, w: 2, d: 4, q: 8 };
      const v = operandSize === 16 ? 2 : operandSize === 64 && size === "v" ? 8 : 4;
      push(value, counts[size] ?? v);
    } else if (place === "J") {
      branchBytes = size === "b" ? 1 : 4;
      push(0, branchBytes);
    } else if (place === "O") {
      push(Number(WINDOW_LOW) + WINDOW_SEAM + nearby(random), address32 ? 4 : 8);
    }
  }
  return branchBytes;
}
