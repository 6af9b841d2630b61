/**
 * Cases: 1 to 6 random instructions with a random state. A case is a function of (seed, number) and of the generator
 * alone. STATES_PER_CODE cases in a row share their code and what their registers are for (roles): code is dearer to
 * make, decode and compile than a state is, and one state seldom shows all that a sequence does.
 */

import type { GeneratedInstruction, Generator } from "./generator.ts";
import { type Batch, CODE_ADDRESS, CODE_ADDRESS_32, ENTER_32, FINISHED, FINISHED_32, WINDOW_BYTES } from "./image.ts";
import { InputMaker } from "./inputs.ts";
import { BASE, BLOCK, CODE_BYTES, type CodeBits, MAX_CASES, SELECTOR, WINDOW_DISTANCE, WINDOW_SEAM } from "./layout.ts";
import { Random } from "./random.ts";

const SLOT_BYTES = 256;
const SLOTS_PER_PAGE = 4096 / SLOT_BYTES;
/** A slot's first bytes stay free: the code of a page's last slot may run over into the next page. */
const SLOT_FREE_BYTES = 112;
const MAX_CODE_BYTES = 95;
/** The last page's slots stay free, since its last one would run out of the area. */
export const CODE_SLOTS = CODE_BYTES / SLOT_BYTES - SLOTS_PER_PAGE;
/** Cases in a row with the same code. */
export const STATES_PER_CODE = 16;
export const BATCH_CASES = MAX_CASES;
const BLOCK_WORDS = BLOCK.size / 4;
/** Tells the random sequences of states from those of codes: an arbitrary number. */
const STATE_SEED = 0x5f3759df;
const JMP_BYTES = 5;
const INT3 = 0xcc;
const JMP = 0xe9;
const CODE_LOW = Number(CODE_ADDRESS & 0xffff_ffffn);
const CODE_HIGH = Number(CODE_ADDRESS >> 32n);
const WINDOW_SEAM_LOW = Number(BASE & 0xffff_ffffn) + WINDOW_DISTANCE + WINDOW_SEAM;
/** From the end of a case's code, the jump's displacement is this less the code's offset. */
const FINISH_DISTANCE = {
  64: Number(FINISHED - CODE_ADDRESS) - JMP_BYTES,
  32: Number(FINISHED_32 - CODE_ADDRESS_32) - JMP_BYTES,
} as const;
/** How many instructions: often one, at most six. */
const LENGTHS = [1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6];

export interface CaseInstruction {
  readonly name: string;
  /** The code is the concatenation. */
  readonly bytes: Uint8Array;
  readonly undefinedFlags: number;
  readonly readsFlags: number;
  readonly definesFlags: boolean;
  readonly approximate: boolean;
  readonly wild: boolean;
  /** It may pass over what follows. */
  readonly jumps: boolean;
}

/** What is undefined after instructions that run in order, and whether any of them read what was undefined. */
export function followFlags(instructions: readonly CaseInstruction[]): {
  undefinedFlags: number;
  wellDefined: boolean;
} {
  let undefinedFlags = 0;
  let wellDefined = true;
  let jumped = false;
  for (const instruction of instructions) {
    if ((instruction.readsFlags & undefinedFlags) !== 0) wellDefined = false;
    if (instruction.definesFlags && !jumped) undefinedFlags = 0;
    if (instruction.jumps) jumped = true;
    undefinedFlags |= instruction.undefinedFlags;
  }
  return { undefinedFlags, wellDefined };
}

/** What cases in a row have in common. */
export interface CaseCode {
  readonly instructions: readonly CaseInstruction[];
  /** Without the closing jump. */
  readonly code: Uint8Array;
  /** Place of the first byte from the start of the code area. */
  readonly codeOffset: number;
  /** Flags that are undefined where the case runs to its end. */
  readonly finalUndefined: number;
  /** Flags that any of the instructions may leave undefined: what an exception on the way may show. */
  readonly anyUndefined: number;
}

/** One case by itself. */
export interface TestCase extends CaseCode {
  readonly number: number;
  readonly bits: CodeBits;
  /** BLOCK.size bytes. */
  readonly input: Uint8Array;
}

const anyUndefined = (instructions: readonly CaseInstruction[]): number =>
  instructions.reduce((flags, instruction) => flags | instruction.undefinedFlags, 0);

/** What is known of instructions beside their bytes. */
export function flagsOf(instructions: readonly CaseInstruction[]): Pick<CaseCode, "finalUndefined" | "anyUndefined"> {
  return {
    finalUndefined: followFlags(instructions).undefinedFlags,
    anyUndefined: anyUndefined(instructions),
  };
}

/** Many cases in a row, laid out as a batch. */
export interface CaseRun {
  readonly start: number;
  readonly batch: Batch;
  /** By case. */
  readonly codes: readonly CaseCode[];
  /** The case of an index, by itself. */
  test(index: number): TestCase;
  /** Whether the case of an index may write far from where it begins; the window is restored after it. */
  wild(index: number): boolean;
}

export class CaseMaker {
  readonly seed: number;
  readonly inputs: InputMaker;
  readonly window: Uint8Array;
  readonly #generator: Generator;
  readonly #random = new Random();
  readonly #words = new Int32Array(BATCH_CASES * BLOCK_WORDS);
  /** The group of cases made last, to which the roles in `inputs` belong, and its code. */
  #group = -1;
  #last: CaseCode | undefined;

  constructor(seed: number, generator: Generator) {
    this.seed = seed;
    this.#generator = generator;
    this.inputs = new InputMaker(new Random().seed(seed, -1), generator.bits);
    this.window = this.inputs.window(WINDOW_BYTES);
  }

  get bits(): CodeBits {
    return this.#generator.bits;
  }

  /** The case of this number. */
  make(number: number): TestCase {
    const code = this.#codeOf(number);
    return { number, bits: this.bits, input: this.#input(number, code), ...code };
  }

  /** `count` cases from number `start`, at most BATCH_CASES. */
  makeRun(start: number, count: number): CaseRun {
    const words = this.#words;
    words.fill(0, 0, count * BLOCK_WORDS);
    const codes: CaseCode[] = [];
    const distinct: CaseCode[] = [];
    for (let i = 0; i < count; i++) {
      const code = this.#codeOf(start + i);
      this.#state(start + i, code, words, i * BLOCK_WORDS);
      codes.push(code);
      if (distinct.at(-1) !== code) distinct.push(code);
    }
    const inputs = new Uint8Array(words.buffer, 0, count * BLOCK.size);
    const batch = { count, inputs, window: this.window, ...layOut(distinct, this.bits) };
    return {
      start,
      batch,
      codes,
      wild: (index) => words[index * BLOCK_WORDS + BLOCK.wild / 4] !== 0,
      test: (index) => {
        const input = inputs.slice(index * BLOCK.size, (index + 1) * BLOCK.size);
        return { number: start + index, bits: this.bits, input, ...(codes[index] ?? this.#codeOf(start + index)) };
      },
    };
  }

  /** The state of this number before code that was made elsewhere. */
  makeWith(
    number: number,
    code: Uint8Array,
    instructions: readonly CaseInstruction[],
    finalUndefined: number,
  ): TestCase {
    const codeOffset = this.#place(number);
    const made = { codeOffset, code, instructions, finalUndefined, anyUndefined: anyUndefined(instructions) };
    return { number, bits: this.bits, input: this.#input(number, made), ...made };
  }

  #input(number: number, code: CaseCode): Uint8Array {
    const words = new Int32Array(BLOCK_WORDS);
    this.#state(number, code, words, 0);
    return new Uint8Array(words.buffer);
  }

  /** Writes the state of this number; the roles are those of its code. */
  #state(number: number, { instructions, codeOffset }: CaseCode, words: Int32Array, at: number): void {
    this.inputs.fill(this.#random.seed(this.seed ^ STATE_SEED, number), words, at);
    if (this.#generator.bits === 64) {
      // The code area ends below the next 4 GiB boundary.
      words[at + BLOCK.rip / 4] = CODE_LOW + codeOffset;
      words[at + BLOCK.rip / 4 + 1] = CODE_HIGH;
    } else {
      words[at + BLOCK.rip / 4] = Number(ENTER_32 & 0xffff_ffffn);
      words[at + BLOCK.rip / 4 + 1] = Number(ENTER_32 >> 32n);
      words[at + BLOCK.vector / 4] = Number(CODE_ADDRESS_32) + codeOffset;
      words[at + BLOCK.vector / 4 + 1] = SELECTOR.userCode32;
    }
    if (instructions.some(({ wild }) => wild)) words[at + BLOCK.wild / 4] = 1;
  }

  /** Draws the roles and the code's place: first, so that they do not depend on the generator. */
  #place(number: number): number {
    const group = Math.floor(number / STATES_PER_CODE);
    const random = this.#random.seed(this.seed, group);
    this.#group = -1;
    this.inputs.drawRoles(random);
    const slot = group % CODE_SLOTS;
    const last = slot % SLOTS_PER_PAGE === SLOTS_PER_PAGE - 1;
    // The code of every page's last slot begins just before the page's end, so that it crosses.
    const inSlot = last ? SLOT_BYTES - 1 - random.below(16) : SLOT_FREE_BYTES + random.below(48);
    return slot * SLOT_BYTES + inSlot;
  }

  /** The code of a case, and its roles in `inputs`. */
  #codeOf(number: number): CaseCode {
    const group = Math.floor(number / STATES_PER_CODE);
    if (this.#group === group && this.#last !== undefined) return this.#last;
    const codeOffset = this.#place(number);
    this.#last = this.#code(this.#random, codeOffset);
    this.#group = group;
    return this.#last;
  }

  #code(random: Random, codeOffset: number): CaseCode {
    const wanted = random.pick(LENGTHS);
    const generated: GeneratedInstruction[] = [];
    let length = 0;
    let undefinedFlags = 0;
    while (generated.length < wanted) {
      const instruction = this.#generator.generate({
        random,
        roles: this.inputs.roles,
        // The low 32 bits are enough: what lies in reach of RIP lies in the same 4 GiB.
        address: CODE_LOW + codeOffset + length,
        window: WINDOW_SEAM_LOW,
        undefinedFlags,
      });
      if (length + instruction.bytes.length > MAX_CODE_BYTES) break;
      generated.push(instruction);
      ({ undefinedFlags } = followFlags(generated));
      length += instruction.bytes.length;
      if (instruction.approximate) break;
    }
    const code = new Uint8Array(length);
    let at = 0;
    for (const [index, { bytes, branchBytes }] of generated.entries()) {
      code.set(bytes, at);
      at += bytes.length;
      if (branchBytes === 0) continue;
      // A branch goes to a later instruction, or to the end: no case loops.
      const skipped = generated.slice(index + 1, index + 1 + random.below(generated.length - index));
      const distance = skipped.reduce((sum, instruction) => sum + instruction.bytes.length, 0);
      code[at - branchBytes] = distance;
    }
    return { instructions: generated, code, codeOffset, ...flagsOf(generated) };
  }
}

/** Lays cases of different slots out as one batch. */
export function toBatch(cases: readonly TestCase[], window: Uint8Array): Batch {
  const inputs = new Uint8Array(cases.length * BLOCK.size);
  for (const [index, { input }] of cases.entries()) inputs.set(input, index * BLOCK.size);
  return { count: cases.length, inputs, window, ...layOut(cases, cases[0]?.bits ?? 64) };
}

/** The code area's part that holds these, each closed by its jump. */
function layOut(codes: readonly CaseCode[], bits: CodeBits): Pick<Batch, "code" | "codeOffset"> {
  const from = codes.reduce((least, { codeOffset }) => Math.min(least, codeOffset), CODE_BYTES);
  const to = codes.reduce((most, { codeOffset, code }) => Math.max(most, codeOffset + code.length), 0) + JMP_BYTES;
  const area = new Uint8Array(to - from).fill(INT3);
  const view = new DataView(area.buffer);
  for (const { code, codeOffset } of codes) {
    area.set(code, codeOffset - from);
    const end = codeOffset - from + code.length;
    area[end] = JMP;
    view.setInt32(end + 1, FINISH_DISTANCE[bits] - (from + end), true);
  }
  return { code: area, codeOffset: from };
}
