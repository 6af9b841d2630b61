/**
 * Vectors: what a named processor made of single instructions, by form, so that hosts without KVM test against it too.
 * A vector holds the number of a state (made by InputMaker, whose digest the file carries), the code, and every
 * 8-byte word of the block that changed.
 */

import { createHash } from "node:crypto";
import { IF, IOPL } from "../../src/isa/flags.ts";
import { type CaseMaker, type TestCase, toBatch } from "./cases.ts";
import { type Difference, differences, mismatches } from "./compare.ts";
import type { Ring3Engine } from "./image.ts";
import { knownDifference } from "./known-differences.ts";
import { BLOCK } from "./layout.ts";

const FORMAT = 1;
/** States whose bytes the digest covers. */
const DIGEST_STATES = 64;

/** [number of the state, code in hex, undefined flags, "offset:word" for each changed word, in hex]. */
export type Vector = readonly [number: number, code: string, undefinedFlags: number, changes: string];

export interface VectorFile {
  readonly format: number;
  /** As the processor names itself. */
  readonly cpu: string;
  readonly seed: number;
  readonly inputsDigest: string;
  readonly forms: Readonly<Record<string, readonly Vector[]>>;
}

/** Names the state generator: vectors are meaningless with another. */
export function inputsDigest(maker: CaseMaker): string {
  const hash = createHash("sha256").update(maker.window);
  const nothing = new Uint8Array(0);
  for (let number = 0; number < DIGEST_STATES; number++) hash.update(maker.makeWith(number, nothing, [], 0).input);
  return hash.digest("hex").slice(0, 16);
}

/** Of the forms' names: string operations and images of the state may write far into the window. */
const isWild = (name: string): boolean => /^((MOVS|STOS|CMPS|SCAS|LODS)B?|FXSAVE|FXRSTOR) /.test(name);

/** The block as it was before, the way an output shows it: no exception, no entry point. */
function unchanged(input: Uint8Array): DataView {
  const block = new Uint8Array(input);
  block.fill(0, BLOCK.rip, BLOCK.hot);
  return new DataView(block.buffer);
}

function encodeChanges(input: Uint8Array, output: Uint8Array): string {
  const before = unchanged(input);
  const after = new DataView(output.buffer, output.byteOffset, BLOCK.size);
  const changes: string[] = [];
  for (let at = 0; at < BLOCK.size; at += 8) {
    // FOP, FIP, FDP and MXCSR_MASK are not compared, nor is what lies behind XMM15.
    if (at === 8 || at === 16 || (at >= 416 && at < BLOCK.gpr)) continue;
    let value = after.getBigUint64(at, true);
    if (at === 24) value &= 0xffff_ffffn;
    if (at === BLOCK.rflags) value &= ~BigInt(IF | IOPL);
    if (value !== before.getBigUint64(at, true)) changes.push(`${at.toString(16)}:${value.toString(16)}`);
  }
  return changes.join(" ");
}

function decodeChanges(input: Uint8Array, changes: string): Uint8Array {
  const block = unchanged(input);
  for (const change of changes.split(" ")) {
    const [at, value] = change.split(":");
    if (at !== undefined && value !== undefined)
      block.setBigUint64(Number.parseInt(at, 16), BigInt(`0x${value}`), true);
  }
  return new Uint8Array(block.buffer);
}

/** Runs `cases` (of one instruction each) and writes down what came of them, by form. */
export function recordVectors(
  cases: readonly TestCase[],
  maker: CaseMaker,
  engine: Ring3Engine,
  cpu: string,
): VectorFile {
  const forms: Record<string, Vector[]> = {};
  for (const test of cases) {
    const { outputs } = engine.run(toBatch([test], maker.window));
    const name = test.instructions[0]?.name ?? "";
    if (test.instructions[0]?.wild !== isWild(name)) throw new Error(`record ${name}: whether it is wild is not known`);
    const code = Buffer.from(test.code).toString("hex");
    const vector: Vector = [test.number, code, test.finalUndefined, encodeChanges(test.input, outputs)];
    forms[name] = [...(forms[name] ?? []), vector];
  }
  return { format: FORMAT, cpu, seed: maker.seed, inputsDigest: inputsDigest(maker), forms };
}

/** One line a form, so that a new recording shows what changed. */
export function formatVectors({ forms, ...head }: VectorFile): string {
  const lines = Object.entries(forms).map(([name, vectors]) => `${JSON.stringify(name)}: ${JSON.stringify(vectors)}`);
  return `${JSON.stringify(head).slice(0, -1)},"forms":{\n${lines.join(",\n")}\n}}\n`;
}

export interface VectorFailure {
  readonly test: TestCase;
  readonly differences: readonly Difference[];
}

/** Runs a file's vectors on `engine`. Throws where the file was recorded with other states. */
export function replayVectors(file: VectorFile, maker: CaseMaker, engine: Ring3Engine): VectorFailure[] {
  if (file.format !== FORMAT || file.inputsDigest !== inputsDigest(maker)) {
    throw new Error(
      `replay vectors: recorded with states ${file.inputsDigest}, these are ${inputsDigest(maker)}; record them again`,
    );
  }
  const failures: VectorFailure[] = [];
  const pending: { test: TestCase; changes: string }[] = [];
  const slots = new Set<number>();
  const flush = (): void => {
    if (pending.length === 0) return;
    const cases = pending.map(({ test }) => test);
    const { outputs } = engine.run(toBatch(cases, maker.window));
    for (const [index, { test, changes }] of pending.entries()) {
      const expected = decodeChanges(test.input, changes);
      const actual = outputs.slice(index * BLOCK.size, (index + 1) * BLOCK.size);
      if (mismatches([test], expected, actual).length === 0) continue;
      const found = differences(test, expected, actual);
      if (knownDifference(test, found, expected, actual) === undefined) failures.push({ test, differences: found });
    }
    pending.length = 0;
    slots.clear();
  };
  for (const [name, vectors] of Object.entries(file.forms)) {
    for (const [number, code, undefinedFlags, changes] of vectors) {
      const bytes = new Uint8Array(Buffer.from(code, "hex"));
      const approximate = /^(RCP|RSQRT)/.test(name);
      const wild = isWild(name);
      const flags = { undefinedFlags, readsFlags: 0, definesFlags: false, jumps: false };
      const test = maker.makeWith(number, bytes, [{ name, bytes, approximate, wild, ...flags }], undefinedFlags);
      if (slots.has(test.codeOffset >> 8)) flush();
      slots.add(test.codeOffset >> 8);
      pending.push({ test, changes });
    }
  }
  flush();
  return failures;
}
