/** The fuzzer against itself, without a processor: determinism, encodings, comparison, vectors. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, Decoder, DecoderOptions } from "iced-x86";
import { INSTRUCTIONS } from "../../src/isa/table.ts";
import { runCampaign } from "./campaign.ts";
import { CaseMaker, STATES_PER_CODE, type TestCase, toBatch } from "./cases.ts";
import { differences, mismatches } from "./compare.ts";
import { FormGenerator } from "./form-generator.ts";
import { type Batch, type BatchResult, FINISHED, type Ring3Engine } from "./image.ts";
import { InterpreterEngine } from "./interpreter-engine.ts";
import { BASE, BLOCK, NO_EXCEPTION, PAGE, PHYSICAL } from "./layout.ts";
import { DROPPED, shrink } from "./shrink.ts";
import { formatVectors, recordVectors, replayVectors, type VectorFile } from "./vectors.ts";

const generator = new FormGenerator(INSTRUCTIONS);

/** Cases of different codes. */
const casesOf = (maker: CaseMaker, count: number): TestCase[] =>
  Array.from({ length: count }, (_, i) => maker.make(i * STATES_PER_CODE));

/** An engine that leaves every state as it was, but for what `change` does to a case's block. */
function fakeEngine(change: (block: DataView) => void): Ring3Engine {
  return {
    name: "fake",
    run(batch: Batch): BatchResult {
      const outputs = batch.inputs.slice();
      for (let index = 0; index < batch.count; index++) {
        const block = new DataView(outputs.buffer, index * BLOCK.size, BLOCK.size);
        block.setBigUint64(BLOCK.rip, 0n, true);
        block.setUint32(BLOCK.vector, NO_EXCEPTION, true);
        change(block);
      }
      return { outputs, window: batch.window };
    },
    [Symbol.dispose]() {},
  };
}

test("a case depends on its seed and number only", () => {
  const run = new CaseMaker(7, generator).makeRun(100, 50);
  const alone = new CaseMaker(7, generator).make(123);
  assert.deepEqual(alone, run.test(23));
  assert.deepEqual(Buffer.from(alone.input), Buffer.from(run.batch.inputs.subarray(23 * BLOCK.size, 24 * BLOCK.size)));
  assert.notDeepEqual(new CaseMaker(8, generator).make(123).input, alone.input);
});

test("cases in a row share code, not states", () => {
  const run = new CaseMaker(7, generator).makeRun(0, 2 * STATES_PER_CODE);
  const [first, second, last] = [run.test(0), run.test(1), run.test(STATES_PER_CODE)];
  assert.deepEqual(second.code, first.code);
  assert.notDeepEqual(second.input, first.input);
  assert.notDeepEqual(last.codeOffset, first.codeOffset);
});

test("an independent decoder reads every encoding as it was meant", () => {
  const maker = new CaseMaker(3, generator);
  for (const { code, instructions } of casesOf(maker, 3000)) {
    let at = 0;
    for (const { name, bytes } of instructions) {
      const decoder = new Decoder(64, code.subarray(at, at + bytes.length), DecoderOptions.None);
      const decoded = decoder.decode();
      const hex = Buffer.from(code.subarray(at, at + bytes.length)).toString("hex");
      // These bring stores of their own, which hide what is the host's.
      const several = /^(PUSHF|FXSAVE|FXRSTOR)/.test(name);
      // LOCK where it is not allowed, and what makes a VEX prefix undefined, is generated on purpose, rarely.
      if (decoded.code !== Code.INVALID) {
        if (!several) assert.equal(decoded.length, bytes.length, `${name}: ${hex}`);
      } else assert.match(hex, /f0|c[45]/, `${name}: ${hex} is no instruction`);
      decoded.free();
      decoder.free();
      at += bytes.length;
    }
  }
});

test("a difference in any compared place is found, and named", () => {
  const maker = new CaseMaker(1, generator);
  const cases = casesOf(maker, 3);
  const same = new Uint8Array(3 * BLOCK.size);
  const places: readonly (readonly [number, string])[] = [
    [BLOCK.gpr + 8 * 3, "rbx"],
    [BLOCK.fx + 24, "mxcsr"],
    [BLOCK.fx + 160 + 16 * 5 + 9, "xmm5"],
    [BLOCK.fx + 32 + 16 * 2, "st/mm2"],
    [BLOCK.vector, "exception"],
    [BLOCK.hot, "window-0x100"],
    [BLOCK.size - 1, "window+0xf8"],
  ];
  for (const [place, what] of places) {
    const other = same.slice();
    other[BLOCK.size + place] = 1;
    assert.deepEqual(mismatches(cases, same, other), [1], what);
    const block = (bytes: Uint8Array) => bytes.subarray(BLOCK.size, 2 * BLOCK.size);
    const test = cases[1] as TestCase;
    assert.deepEqual(
      differences(test, block(same), block(other)).map((difference) => difference.what),
      [what],
    );
  }
  assert.deepEqual(mismatches(cases, same, same), []);
});

test("flags that are undefined at the case's end are not compared", () => {
  const ended = new Uint8Array(BLOCK.size);
  new DataView(ended.buffer).setUint32(BLOCK.vector, NO_EXCEPTION, true);
  const other = ended.slice();
  other[BLOCK.rflags] = 0x10; // AF
  const flags = (finalUndefined: number): TestCase => {
    const made = new CaseMaker(1, generator).make(0);
    return { ...made, finalUndefined };
  };
  assert.deepEqual(mismatches([flags(0)], ended, other), [0]);
  assert.deepEqual(mismatches([flags(0x10)], ended, other), []);
});

test("the shrinker keeps what the failure needs and drops the rest", () => {
  const maker = new CaseMaker(5, generator);
  const found = casesOf(maker, 200).find(({ instructions }) => instructions.length === 5) as TestCase;
  const third = found.instructions[2]?.name;
  const fails = (test: TestCase) => test.instructions[2]?.name === third && test.input[BLOCK.gpr + 8 * 6] !== 0;
  const start = { ...found, input: Uint8Array.from(found.input, () => 255) };
  const small = shrink(start, fails);
  assert.deepEqual(
    small.instructions.map(({ name }) => name),
    [DROPPED, DROPPED, third, DROPPED, DROPPED],
  );
  assert.equal(small.code.length, found.code.length);
  assert.equal(small.input[BLOCK.gpr + 8 * 6], 255);
  assert.equal(small.input[BLOCK.gpr], 0);
});

test("vectors replay what was recorded, and show what has changed since", () => {
  const maker = new CaseMaker(2, generator);
  const cases = casesOf(maker, 200).filter(
    ({ instructions }) => instructions.length === 1 && instructions[0]?.approximate === false,
  );
  const recorded = fakeEngine((block) => block.setBigUint64(BLOCK.gpr, 77n, true));
  const text = formatVectors(recordVectors(cases, maker, recorded, "a processor"));
  const file = JSON.parse(text) as VectorFile;
  assert.equal(file.cpu, "a processor");
  assert.deepEqual(replayVectors(file, maker, recorded), []);
  const other = fakeEngine((block) => block.setBigUint64(BLOCK.gpr, 78n, true));
  assert.equal(replayVectors(file, maker, other).length, cases.length);
  assert.throws(() => replayVectors({ ...file, inputsDigest: "" }, maker, recorded), /record them again/);
});

test("a processor that changes its answer is no mismatch, an engine that does is one", () => {
  const steady = () => fakeEngine(() => {});
  // The first block that it sees is wrong, once.
  const flaky = () => {
    let blocks = 0;
    return fakeEngine((block) => {
      if (blocks++ === 0) block.setUint32(BLOCK.gpr, ~block.getUint32(BLOCK.gpr, true), true);
    });
  };
  const campaign = (expected: Ring3Engine, actual: Ring3Engine) =>
    runCampaign({
      maker: new CaseMaker(4, generator),
      expected,
      actual,
      start: 0,
      count: 32,
      maxFailures: 5,
      onFailure() {},
    });
  const excused = campaign(flaky(), steady());
  assert.equal(excused.failures, 0);
  assert.deepEqual([...excused.known.values()], [1]);
  assert.equal(campaign(steady(), flaky()).failures, 1);
});

test("a string instruction that begins in the runtime ends at its page, before what carries the batch", () => {
  const maker = new CaseMaker(1, generator);
  const loads = new Uint8Array([0xf3, 0xac]); // REP LODSB
  const flags = { undefinedFlags: 0, readsFlags: 0, definesFlags: false, jumps: false };
  const run = maker.makeWith(0, loads, [{ name: "LODS", bytes: loads, approximate: false, wild: false, ...flags }], 0);
  const input = new DataView(run.input.buffer, run.input.byteOffset, run.input.byteLength);
  input.setBigUint64(BLOCK.gpr + 8 * 6, FINISHED, true);
  input.setBigUint64(BLOCK.gpr + 8 * 1, BigInt(16 * PAGE), true);
  input.setBigUint64(BLOCK.rflags, 2n, true);
  using engine = new InterpreterEngine();
  const { outputs } = engine.run(toBatch([run], maker.window));
  const output = new DataView(outputs.buffer, outputs.byteOffset, outputs.byteLength);
  assert.equal(output.getUint32(BLOCK.vector, true), 14);
  assert.equal(output.getBigUint64(BLOCK.cr2, true), BASE + BigInt(PHYSICAL.runtime + PAGE));
});
