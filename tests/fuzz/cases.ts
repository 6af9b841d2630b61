/** Cases: 1 to 6 random instructions with a random state. A case is a function of (seed, number) and of the generator alone. */

import type { GeneratedInstruction, Generator } from "./generator.ts";
import { type Batch, CODE_ADDRESS, FINISHED, WINDOW_BYTES } from "./image.ts";
import { InputMaker } from "./inputs.ts";
import { BASE, BLOCK, CODE_BYTES, MAX_CASES, WINDOW_DISTANCE, WINDOW_SEAM } from "./layout.ts";
import { Random } from "./random.ts";

const SLOT_BYTES = CODE_BYTES / MAX_CASES;
const SLOTS_PER_PAGE = 4096 / SLOT_BYTES;
/** A slot's first bytes stay free: the code of a page's last slot may run over into the next page. */
const SLOT_FREE_BYTES = 112;
const MAX_CODE_BYTES = 95;
/** Cases that fit in one batch: the last page's slots stay free, since its last one would run out of the area. */
export const BATCH_CASES = MAX_CASES - SLOTS_PER_PAGE;
const JMP_BYTES = 5;
const INT3 = 0xcc;
const JMP = 0xe9;
const CODE_LOW = Number(CODE_ADDRESS & 0xffff_ffffn);
const CODE_HIGH = Number(CODE_ADDRESS >> 32n);
const WINDOW_SEAM_LOW = Number(BASE & 0xffff_ffffn) + WINDOW_DISTANCE + WINDOW_SEAM;
/** From the end of a case's code, the jump's displacement is this less the code's offset. */
const FINISH_DISTANCE = Number(FINISHED - CODE_ADDRESS) - JMP_BYTES;
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

/** One case by itself. */
export interface TestCase {
  readonly number: number;
  readonly instructions: readonly CaseInstruction[];
  /** Without the closing jump. */
  readonly code: Uint8Array;
  /** Place of the first byte from the start of the code area. */
  readonly codeOffset: number;
  /** BLOCK.size bytes. */
  readonly input: Uint8Array;
  /** Flags that are undefined where the case runs to its end. */
  readonly finalUndefined: number;
}

/** Flags that any of the case's instructions may leave undefined: what an exception on the way may show. */
export function anyUndefined({ instructions }: TestCase): number {
  return instructions.reduce((flags, instruction) => flags | instruction.undefinedFlags, 0);
}

export class CaseMaker {
  readonly seed: number;
  readonly inputs: InputMaker;
  readonly window: Uint8Array;
  readonly #generator: Generator;
  readonly #random = new Random();

  constructor(seed: number, generator: Generator) {
    this.seed = seed;
    this.#generator = generator;
    this.inputs = new InputMaker(new Random().seed(seed, -1));
    this.window = this.inputs.window(WINDOW_BYTES);
  }

  /** The case of this number. */
  make(number: number): TestCase {
    return this.#make(number, new Uint8Array(BLOCK.size));
  }

  /** `count` cases from number `start`; their inputs share a buffer. */
  makeMany(start: number, count: number): TestCase[] {
    const inputs = new Uint8Array(count * BLOCK.size);
    const view = new DataView(inputs.buffer);
    return Array.from({ length: count }, (_, i) =>
      this.#make(start + i, inputs.subarray(i * BLOCK.size, (i + 1) * BLOCK.size), view),
    );
  }

  /** The state of this number before code that was made elsewhere. */
  makeWith(
    number: number,
    code: Uint8Array,
    instructions: readonly CaseInstruction[],
    finalUndefined: number,
  ): TestCase {
    const input = new Uint8Array(BLOCK.size);
    const codeOffset = this.#state(number, input, new DataView(input.buffer));
    if (instructions.some(({ wild }) => wild)) input[BLOCK.wild] = 1;
    return { number, codeOffset, input, code, instructions, finalUndefined };
  }

  #make(number: number, input: Uint8Array, view = new DataView(input.buffer)): TestCase {
    const codeOffset = this.#state(number, input, view);
    const code = this.#code(this.#random, codeOffset);
    if (code.instructions.some(({ wild }) => wild)) view.setUint8(input.byteOffset + BLOCK.wild, 1);
    return { number, codeOffset, input, ...code };
  }

  /** Writes the state and gives the code's place: drawn first, so that they do not depend on the generator. */
  #state(number: number, input: Uint8Array, view: DataView): number {
    const random = this.#random.seed(this.seed, number);
    this.inputs.fill(random, view, input);
    const slot = number % BATCH_CASES;
    const last = slot % SLOTS_PER_PAGE === SLOTS_PER_PAGE - 1;
    // The code of every page's last slot begins just before the page's end, so that it crosses.
    const inSlot = last ? SLOT_BYTES - 1 - random.below(16) : SLOT_FREE_BYTES + random.below(48);
    const codeOffset = slot * SLOT_BYTES + inSlot;
    // The code area ends below the next 4 GiB boundary.
    view.setUint32(input.byteOffset + BLOCK.rip, CODE_LOW + codeOffset, true);
    view.setUint32(input.byteOffset + BLOCK.rip + 4, CODE_HIGH, true);
    return codeOffset;
  }

  #code(random: Random, codeOffset: number): Pick<TestCase, "instructions" | "code" | "finalUndefined"> {
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
    return { instructions: generated, code, finalUndefined: undefinedFlags };
  }
}

/** Lays cases of different slots out as one batch. */
export function toBatch(cases: readonly TestCase[], window: Uint8Array): Batch {
  const from = cases.reduce((least, { codeOffset }) => Math.min(least, codeOffset), CODE_BYTES);
  const to = cases.reduce((most, { codeOffset, code }) => Math.max(most, codeOffset + code.length), 0) + JMP_BYTES;
  const code = new Uint8Array(to - from).fill(INT3);
  const view = new DataView(code.buffer);
  const inputs = new Uint8Array(cases.length * BLOCK.size);
  for (const [index, test] of cases.entries()) {
    inputs.set(test.input, index * BLOCK.size);
    const start = test.codeOffset - from;
    code.set(test.code, start);
    const end = start + test.code.length;
    code[end] = JMP;
    view.setInt32(end + 1, FINISH_DISTANCE - (from + end), true);
  }
  return { count: cases.length, code, codeOffset: from, inputs, window };
}
