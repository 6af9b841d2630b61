/** Random encodings of the instruction table's forms, for 64-bit mode or compatibility mode at ring 3. */

import { AF, ARITHMETIC, CF, IF, IOPL, OF, PF, ZF } from "../../src/isa/flags.ts";
import { vexPrefix } from "../../src/isa/encode.ts";
import { type Form, type Instruction, parseForm } from "../../src/isa/instruction.ts";
import type { CaseContext, GeneratedInstruction, Generator } from "./generator.ts";
import { ROLE } from "./inputs.ts";
import { type CodeBits, WINDOW_LOW, WINDOW_SEAM } from "./layout.ts";
import type { Random } from "./random.ts";

/**
 * Not fuzzed, beyond what the table marks as `system`: their results are the host's own (time, randomness, identity,
 * descriptor tables), or ring 3 on a paravirtual KVM does not show what the processor does.
 */
const EXCLUDED = new RegExp(
  "^(CPUID|RDTSCP?|RDRAND|RDSEED|RDPID|RDPMC|XGETBV|INT|INT1|INTO|IRET[DQ]?|SYSCALL|SYSENTER|SYSRET|SYSEXIT|LAR|LSL|" +
    "VERR|VERW|SGDT|SIDT|SLDT|STR|SMSW|(CALL|JMP) far.*|RETF.*|LSS|LFS|LGS|IN|OUT|INS.?|OUTS.?|HLT|VMM?CALL|" +
    "X(SAVE|RSTOR).*|RD[FG]SBASE|WR[FG]SBASE|(PUSH|POP) [C-GS]S|L[DE]S)$",
);
/** Results within a bound, or with fields that are the host's: nothing may follow that makes more of the difference. */
const APPROXIMATE = /^(RCP|RSQRT)[PS]S$|^(F2XM1|FYL2X|FYL2XP1|FPTAN|FPATAN|FSIN|FCOS|FSINCOS|FNSTENV|FNSAVE)$/;
/** Their memory operand is an image of 512 bytes, parts of which are the vendor's own. */
const STATE_IMAGE = /^FX(SAVE|RSTOR)$/;
/** All arithmetic flags are defined after these, at every count and operand. */
const DEFINES_FLAGS = /^(ADD|SUB|CMP|ADC|SBB|NEG|XADD|CMPXCHG|U?COMIS[SD]|POPCNT)$/;
/** Which flags an instruction reads; by name, the first that matches. */
const READS: readonly (readonly [RegExp, number])[] = [
  [/^AA[AS]$/, AF],
  [/^DA[AS]$/, AF | CF],
  [/^(ADC|ADCX|SBB|RCL|RCR|CMC|SALC)$/, CF],
  [/^ADOX$/, OF],
  [/^(J|SET|CMOV)(N?[OBZSP]|N?BE|N?L|N?LE|N?C|N?AE?|N?E|N?GE?|P[EO]|[ABGL]E?|NBE|NLE)$/, ARITHMETIC & ~AF],
  [/^FCMOVN?(B|E|BE|U)$/, CF | PF | ZF],
  [/^(Jcc|SETcc|CMOVcc)$/, ARITHMETIC & ~AF],
  [/^(LOOPN?[EZ]|LOOPcc)$/, ZF],
  [/^(LAHF|PUSHF.?)$/, ARITHMETIC],
];

/** Prefixes after which VEX is undefined; REX among them. */
const BEFORE_VEX = [0x66, 0xf2, 0xf3, 0xf0, 0x40, 0x48];
const SEGMENT_PREFIXES = [0x26, 0x2e, 0x36, 0x3e];
/** Then an instruction that reads undefined flags is taken after all: the selection holds no other. */
const MAX_ATTEMPTS = 50;
const IMMEDIATES = [
  0, 1, -1, 2, 7, 8, 15, 16, 31, 32, 33, 63, 64, 127, -128, 128, 255, 256, 0x7fff, -0x8000, 0x7fffffff,
];

/** Whether a form can be fuzzed at ring 3, in 64-bit or in compatibility mode. */
export function isFuzzable(form: Form, bits: CodeBits): boolean {
  if (form.instruction.system || (bits === 64 ? form.not64 : form.only64) || EXCLUDED.test(form.instruction.name))
    return false;
  if (bits === 32 && STATE_IMAGE.test(form.instruction.name)) return false;
  return !form.operands.some((operand) => ["S", "C", "D", "A"].includes(operand.place));
}

export function formName(form: Form): string {
  return `${form.instruction.name} ${form.text}`;
}

/** What encoding a form asks again and again, worked out once. */
interface FormPlan {
  readonly form: Form;
  readonly bits: CodeBits;
  readonly name: string;
  /** Takes REP prefixes as such. */
  readonly string: boolean;
  /** 66 and REX.W select the operand size, by the operands or by the instruction itself (CBW, string operations). */
  readonly sized: boolean;
  /** A `y` operand: REX.W alone selects. */
  readonly wide: boolean;
  readonly relative: boolean;
  readonly absolute: boolean;
  readonly mandatory: number;
  readonly map: readonly number[];
  readonly readsFlags: number;
  readonly undefinedFlags: number;
  readonly definesFlags: boolean;
  readonly approximate: boolean;
  readonly pushesFlags: boolean;
  /** LOCK raises #UD where it is not allowed; AMD's processors ignore it on fences and some hints. */
  readonly lockRaises: boolean;
  /** An indirect jump or call, or any other instruction that goes elsewhere. */
  readonly indirect: boolean;
  readonly jumps: boolean;
  /** Whether VEX.vvvv is a register operand. */
  readonly vexRegister: boolean;
  /** A memory operand of 16 bytes, which mostly must be aligned. */
  readonly aligned: boolean;
}

function plan(form: Form, bits: CodeBits): FormPlan {
  const { instruction, operands } = form;
  const mnemonic = instruction.name.split(" ")[0] ?? "";
  const sizes = new Set(operands.map((operand) => operand.size));
  const places = new Set(operands.map((operand) => operand.place));
  const string = instruction.uses?.includes("rep") === true;
  const pushesFlags = mnemonic.startsWith("PUSHF");
  return {
    form,
    bits,
    name: formName(form),
    string,
    sized:
      ["v", "z", "bs", "rAX"].some((size) => sizes.has(size)) ||
      form.default64 ||
      string ||
      (form.prefix === "any" && operands.length === 0),
    wide: sizes.has("y"),
    relative: places.has("J"),
    absolute: places.has("O"),
    mandatory: form.vex || form.prefix === "any" || form.prefix === "NP" ? 0 : Number.parseInt(form.prefix, 16),
    map: [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][form.map] ?? [],
    readsFlags: READS.find(([pattern]) => pattern.test(mnemonic))?.[1] ?? 0,
    undefinedFlags: pushesFlags ? AF : (instruction.undefinedFlags ?? 0),
    definesFlags: DEFINES_FLAGS.test(mnemonic),
    approximate: APPROXIMATE.test(mnemonic),
    pushesFlags,
    lockRaises: !/FENCE$|^NOP$/.test(mnemonic),
    indirect: /^(JMP|CALL) indirect$/.test(instruction.name),
    jumps: instruction.ends === true || instruction.branches === true,
    vexRegister: places.has("B"),
    aligned: operands.some(({ place, size }) => "MW".includes(place) && ["dq", "ps", "pd"].includes(size)),
  };
}

/** An instruction under construction. */
interface Encoding {
  readonly prefixes: number[];
  readonly tail: number[];
  rex: number;
}

export class FormGenerator implements Generator {
  readonly bits: CodeBits;
  readonly forms: readonly Form[];
  readonly #plans: readonly FormPlan[];
  readonly #byInstruction: readonly (readonly FormPlan[])[];

  /**
   * `only` selects by mnemonic, or by the beginning of a form's name; `without` leaves such out, separated by commas.
   * Case does not matter.
   */
  constructor(instructions: readonly Instruction[], only?: string, without = "", bits: CodeBits = 64) {
    this.bits = bits;
    const wanted = only?.toLowerCase();
    const unwanted = without
      .toLowerCase()
      .split(",")
      .filter((name) => name !== "");
    const groups: FormPlan[][] = [];
    for (const instruction of instructions) {
      const plans = instruction.forms
        .map((text) => parseForm(instruction, text))
        .filter((form) => isFuzzable(form, bits) && (wanted === undefined || matches(form, wanted)))
        .filter((form) => !unwanted.some((name) => matches(form, name)))
        .map((form) => plan(form, bits));
      if (plans.length > 0) groups.push(plans);
    }
    this.#byInstruction = groups;
    this.#plans = groups.flat();
    this.forms = this.#plans.map(({ form }) => form);
  }

  /** A generator of one form only. */
  withForm(form: Form): Generator {
    const only = plan(form, this.bits);
    return { bits: this.bits, generate: (context) => encode(only, context) };
  }

  generate(context: CaseContext): GeneratedInstruction {
    const { random } = context;
    for (let attempt = 0; ; attempt++) {
      // Half by instruction and half by form, so that neither the rare nor the many-formed dominate.
      const chosen = random.chance(0.5) ? random.pick(this.#plans) : random.pick(random.pick(this.#byInstruction));
      if ((chosen.readsFlags & context.undefinedFlags) !== 0 && attempt < MAX_ATTEMPTS) continue;
      return encode(chosen, context);
    }
  }
}

function matches(form: Form, wanted: string): boolean {
  const name = formName(form).toLowerCase();
  return name.startsWith(`${wanted} `) || name === wanted || (wanted.includes(" ") && name.startsWith(wanted));
}

/** One random encoding. */
function encode(chosen: FormPlan, context: CaseContext): GeneratedInstruction {
  if (STATE_IMAGE.test(chosen.form.instruction.name)) return encodeStateImage(chosen, context);
  const { random } = context;
  const { form } = chosen;
  const long = chosen.bits === 64;
  const encoding: Encoding = { prefixes: [], tail: [], rex: 0 };
  const { prefixes, tail } = encoding;
  const usesMemory = form.modrm && (form.rm === "memory" || (form.rm === "both" && random.chance(0.5)));

  const shortAddress = (usesMemory || chosen.string || chosen.absolute) && random.chance(long ? 0.04 : 0.2);
  if (shortAddress) prefixes.push(0x67);
  if (random.chance(0.05)) {
    // In compatibility mode FS and GS hold null selectors, or what the host keeps there.
    const based = random.chance(0.6) && long;
    prefixes.push(based ? 0x64 + random.below(2) : random.pick(SEGMENT_PREFIXES));
  }
  if (chosen.string && random.chance(0.5)) prefixes.push(0xf2 + random.below(2));
  const operandSize = sizeOf(chosen, random);
  if (operandSize === 16) prefixes.push(0x66);
  if (form.lock && usesMemory ? random.chance(0.3) : chosen.lockRaises && random.chance(0.001)) prefixes.push(0xf0);
  if (prefixes.length > 1) shuffle(random, prefixes);
  // Mandatory prefixes come last: an earlier 66 is then ignored with F2 and F3.
  if (chosen.mandatory !== 0) prefixes.push(chosen.mandatory);
  if (form.vex && random.chance(0.005)) prefixes.push(random.pick(BEFORE_VEX));

  // Where W does not select, it is ignored.
  if (long && (chosen.sized || chosen.wide ? operandSize === 64 : random.chance(0.1))) encoding.rex |= 8;
  let opcode = form.opcode;
  if (form.opcodeRegister) {
    const number = random.below(long ? 16 : 8);
    opcode |= number & 7;
    encoding.rex |= number >> 3;
  }
  let ripRelative = -1;
  if (form.exact !== undefined) tail.push(form.exact);
  else if (form.modrm) {
    const reg = form.digit ?? random.below(long ? 16 : 8);
    if (form.digit === undefined) encoding.rex |= (reg >> 3) << 2;
    else if (long && random.chance(0.1)) encoding.rex |= 4;
    if (usesMemory && !long && shortAddress) memory16(tail, reg & 7, random, chosen.aligned);
    else if (usesMemory)
      ripRelative = memory(encoding, reg & 7, context, long, shortAddress, chosen.aligned && random.chance(0.9));
    else {
      const rm = chosen.indirect ? register(context, ROLE.code, long) : random.below(long ? 16 : 8);
      encoding.rex |= rm >> 3;
      tail.push(0xc0 | ((reg & 7) << 3) | (rm & 7));
    }
  }
  const branchBytes = immediates(chosen, tail, operandSize, random, shortAddress);
  if (form.vex) prefixes.push(...vex(chosen, encoding.rex, random), opcode);
  else {
    if (long && (encoding.rex !== 0 || random.chance(0.2))) prefixes.push(0x40 | encoding.rex);
    prefixes.push(...chosen.map, opcode);
  }
  const tailStart = prefixes.length;
  const length = tailStart + tail.length;
  const fixup = chosen.pushesFlags ? hidden(operandSize) : [];
  const bytes = new Uint8Array(length + fixup.length);
  bytes.set(prefixes);
  bytes.set(tail, tailStart);
  bytes.set(fixup, length);
  if (ripRelative >= 0) {
    // The displacement counts from the end of the instruction.
    const view = new DataView(bytes.buffer);
    const at = tailStart + ripRelative;
    view.setInt32(at, (view.getInt32(at, true) + context.window - context.address - length) | 0, true);
  }
  const { name, undefinedFlags, readsFlags, definesFlags, approximate } = chosen;
  const { jumps, string: wild } = chosen;
  return { bytes, name, undefinedFlags, readsFlags, definesFlags, approximate, wild, jumps, branchBytes };
}

/** A VEX prefix; now and then with what makes it undefined: L set, or vvvv used where it names no operand. */
function vex({ form, bits, vexRegister }: FormPlan, rex: number, random: Random): number[] {
  const odd = random.chance(0.005);
  const used = vexRegister || (odd && random.chance(0.5));
  const prefix = vexPrefix(form, rex, used ? random.below(bits === 64 ? 16 : 8) : 0);
  const last = prefix.length - 1;
  if (odd && !used) prefix[last] = (prefix[last] ?? 0) | 4;
  return prefix;
}

function sizeOf({ form, bits, sized, wide, relative }: FormPlan, random: Random): 16 | 32 | 64 {
  // With a 16-bit target a jump leaves the code, and AMD and Intel differ there.
  if (relative || form.force64) return bits;
  if (sized) {
    const roll = random.below(8);
    if (roll < 3) return bits;
    return roll < 5 && form.prefix !== "NP" && form.prefix !== "66" ? 16 : 32;
  }
  return wide && random.chance(0.5) ? bits : 32;
}

/** MOV m, imm32 of zero: FOP, FIP, FDP and MXCSR_MASK in an FXSAVE image, which vendors keep differently. */
const VENDOR_FIELDS = [
  { at: 6, opcode: [0x66, 0xc7], immediate: 2, wide: false },
  { at: 8, opcode: [0xc7], immediate: 4, wide: true },
  { at: 16, opcode: [0xc7], immediate: 4, wide: true },
  { at: 28, opcode: [0xc7], immediate: 4, wide: false },
] as const;

/**
 * FXSAVE, followed by stores that clear what is the vendor's; FXRSTOR, preceded by one that mostly makes MXCSR valid in
 * what lies there.
 */
function encodeStateImage(chosen: FormPlan, context: CaseContext): GeneratedInstruction {
  const { random } = context;
  const { name } = chosen;
  const base = register(context, ROLE.pointer, true);
  const place = nearby(random, random.chance(0.95));
  const bytes: number[] = [];
  /** An instruction with the operand [base + place + at]. */
  const add = (opcode: readonly number[], reg: number, at: number, wide: boolean): void => {
    const [first = 0] = opcode;
    const prefixes = first === 0x66 ? [first] : [];
    const rex = (wide ? 0x48 : 0x40) | (base >> 3);
    const sib = (base & 7) === 4 ? [0x24] : [];
    const displacement = place + at;
    bytes.push(...prefixes, rex, ...opcode.slice(prefixes.length), 0x80 | (reg << 3) | (base & 7), ...sib);
    for (let i = 0; i < 4; i++) bytes.push((displacement >> (8 * i)) & 255);
  };
  const restores = chosen.form.digit === 1;
  if (restores && random.chance(0.95)) {
    add([0xc7], 0, 24, false);
    const mxcsr = random.chance(0.7) ? 0x1f80 | (random.u32() & 0xe07f) : random.u32() & 0xffff;
    bytes.push(mxcsr & 255, mxcsr >> 8, 0, 0);
  }
  add([0x0f, 0xae], restores ? 1 : 0, 0, random.chance(0.5));
  if (!restores) {
    for (const { at, opcode, immediate, wide } of VENDOR_FIELDS) {
      add(opcode, 0, at, wide);
      for (let i = 0; i < immediate; i++) bytes.push(0);
    }
  }
  const flags = { undefinedFlags: 0, readsFlags: 0, definesFlags: false, jumps: false };
  return { bytes: Uint8Array.from(bytes), name, ...flags, approximate: false, wild: true, branchBytes: 0 };
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
function nearby(random: Random, aligned = false): number {
  const distance = random.below(128) - 64;
  return aligned || random.chance(0.6) ? distance & ~15 : distance;
}

/** Appends ModRM, SIB and displacement; gives the place of a RIP-relative displacement in the tail, or -1. */
function memory(
  encoding: Encoding,
  reg: number,
  context: CaseContext,
  long: boolean,
  shortAddress: boolean,
  aligned: boolean,
): number {
  const { random } = context;
  const bytes = encoding.tail;
  const pushDisplacement = (value: number): void => {
    bytes.push(value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >> 24) & 255);
  };
  const pushAbsolute = (): void => pushDisplacement(Number(WINDOW_LOW) + WINDOW_SEAM + nearby(random, aligned));
  const kind = random.below(16);
  if (kind === 0 && !shortAddress) {
    bytes.push((reg << 3) | 5);
    if (!long) {
      pushAbsolute();
      return -1;
    }
    pushDisplacement(nearby(random, aligned));
    return 1;
  }
  if (kind === 1) {
    // No base: an absolute address below 2 GiB.
    bytes.push((reg << 3) | 4, 0x25);
    pushAbsolute();
    return -1;
  }
  const base = register(context, ROLE.pointer, long);
  encoding.rex |= base >> 3;
  // RSP and R12 as a base need a SIB byte; RBP and R13 need a displacement.
  const sib = (base & 7) === 4 || kind < 7;
  let mod = random.below(8) < 4 ? 1 : random.below(3);
  if (mod === 0 && (base & 7) === 5) mod = 1;
  bytes.push((mod << 6) | (reg << 3) | (sib ? 4 : base & 7));
  if (sib) {
    let index = random.chance(aligned ? 0.9 : 0.3) ? 4 : register(context, ROLE.small, long);
    if (index === 4 && random.chance(0.3) && long) index = 12;
    encoding.rex |= (index >> 3) << 1;
    bytes.push((random.below(4) << 6) | ((index & 7) << 3) | (base & 7));
  }
  if (mod === 1) bytes.push(nearby(random, aligned) & 255);
  if (mod === 2) pushDisplacement(random.chance(0.02) ? random.u32() | 0 : nearby(random, aligned));
  return -1;
}

/** Appends ModRM and displacement with a 16-bit address [SDM 2 table 2-1]. */
function memory16(bytes: number[], reg: number, random: Random, aligned: boolean): void {
  const pushDisplacement = (value: number): void => {
    bytes.push(value & 255, (value >> 8) & 255);
  };
  const rm = random.below(8);
  const mod = random.below(3);
  bytes.push((mod << 6) | (reg << 3) | rm);
  if (mod === 0 && rm === 6) pushDisplacement(WINDOW_SEAM + nearby(random, aligned));
  else if (mod === 1) bytes.push(nearby(random, aligned) & 255);
  else if (mod === 2) pushDisplacement(random.chance(0.1) ? random.u32() : nearby(random, aligned));
}

/** A register's number; one of `role` where there is one, nine times of ten. */
function register({ random, roles }: CaseContext, role: number, long: boolean): number {
  const last = long ? 15 : 7;
  const first = random.below(last + 1);
  if (random.chance(0.05)) return first;
  for (let i = 0; i <= last; i++) {
    const candidate = (first + i) & last;
    if (roles[candidate] === role) return candidate;
  }
  return first;
}

const IMMEDIATE_BYTES: Readonly<Record<string, number>> = { b: 1, bs: 1, w: 2, d: 4, q: 8 };

/** Appends immediates, offsets and branch displacements; gives the bytes of the last. */
function immediates(
  { form, bits }: FormPlan,
  bytes: number[],
  operandSize: number,
  random: Random,
  shortAddress: boolean,
): 0 | 1 | 4 {
  let branchBytes: 0 | 1 | 4 = 0;
  const push = (value: number, count: number): void => {
    for (let i = 0; i < count; i++) bytes.push(i < 4 ? (value >> (8 * i)) & 255 : value < 0 ? 255 : 0);
  };
  for (const { place, size } of form.operands) {
    if (place === "I") {
      const value = random.chance(0.4) ? random.pick(IMMEDIATES) : random.u32() | 0;
      const full = operandSize === 16 ? 2 : operandSize === 64 && size === "v" ? 8 : 4;
      push(value, IMMEDIATE_BYTES[size] ?? full);
    } else if (place === "J") {
      branchBytes = size === "b" ? 1 : 4;
      push(0, branchBytes);
    } else if (place === "O") {
      push(Number(WINDOW_LOW) + WINDOW_SEAM + nearby(random), (shortAddress ? bits / 2 : bits) / 8);
    }
  }
  return branchBytes;
}
