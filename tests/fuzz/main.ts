/**
 * The fuzzer: random instruction sequences on the portable engine and on the processor itself, compared.
 *
 *     npm run fuzz -- --seed 7 --count 1000000 [--start N] [--bits 64|32] [--form ADD] [--without "ENTER,AND 80"] [--engine wasm|compiler]
 * `--bits 32` runs compatibility mode. The judge is the processor through KVM; with `--oracle native`, and for 32-bit
 * code, which a paravirtual KVM emulates, a process of its own.
 *
 *     npm run fuzz -- --record tests/vectors/ring3.json [--vectors 4]
 *     npm run fuzz -- --replay tests/vectors/ring3.json
 */

import { readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { INSTRUCTIONS } from "../../src/isa/table.ts";
import { IsolaError } from "../../src/base/errors.ts";
import { runCampaign, summary } from "./campaign.ts";
import { CaseMaker, CODE_SLOTS, STATES_PER_CODE, type TestCase, toBatch } from "./cases.ts";
import { formName, FormGenerator } from "./form-generator.ts";
import type { Ring3Engine } from "./image.ts";
import { InterpreterEngine } from "./interpreter-engine.ts";
import { KvmEngine } from "./kvm-engine.ts";
import { NativeEngine } from "./native-engine.ts";
import { BLOCK, type CodeBits, NO_EXCEPTION } from "./layout.ts";
import { REGRESSIONS, type Regression } from "./regressions.ts";
import { describeFailure } from "./report.ts";
import { formatVectors, recordVectors, replayVectors, type VectorFile } from "./vectors.ts";

const PROGRESS_MILLISECONDS = 5000;
/** Cases of a form among which the recorded ones are chosen. */
const CANDIDATES = 24;
/** States among which one is looked for that shows a regression. */
const MAX_REGRESSION_STATES = 1_000_000;

function integer(name: string, text: string, minimum: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < minimum) {
    throw new IsolaError({
      code: "option-invalid",
      message: `read --${name}: found "${text}", wanted a whole number of at least ${minimum}`,
    });
  }
  return value;
}

function codeBits(text: string): CodeBits {
  if (text === "64") return 64;
  if (text === "32") return 32;
  throw new IsolaError({ code: "option-invalid", message: `read --bits: found "${text}", wanted 64 or 32` });
}

function openEngine(name: string): Ring3Engine {
  if (name === "kvm") return new KvmEngine();
  if (name === "native") return new NativeEngine();
  if (name === "wasm") return new InterpreterEngine();
  if (name === "compiler") return InterpreterEngine.compiled();
  throw new IsolaError({
    code: "option-invalid",
    message: `read --engine: found "${name}", wanted wasm, compiler, kvm or native`,
  });
}

function main(): number {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: "1" },
      count: { type: "string", default: "100000" },
      start: { type: "string", default: "0" },
      form: { type: "string" },
      without: { type: "string" },
      bits: { type: "string", default: "64" },
      engine: { type: "string", default: "wasm" },
      oracle: { type: "string" },
      failures: { type: "string", default: "5" },
      record: { type: "string" },
      replay: { type: "string" },
      vectors: { type: "string", default: "4" },
      list: { type: "boolean", default: false },
    },
  });
  const seed = integer("seed", values.seed, 0);
  const generator = new FormGenerator(INSTRUCTIONS, values.form, values.without, codeBits(values.bits));
  if (generator.forms.length === 0) {
    throw new IsolaError({
      code: "option-invalid",
      message: `read --form: no form begins with "${values.form ?? ""}"; wanted a mnemonic or a form from --list`,
    });
  }
  if (values.list) {
    for (const form of generator.forms) console.log(formName(form));
    return 0;
  }
  if (values.replay !== undefined) return replay(values.replay, values.engine);
  if (values.record !== undefined) return record(values.record, seed, integer("vectors", values.vectors, 1));

  const maker = new CaseMaker(seed, generator);
  using expected = openEngine(values.oracle ?? (values.bits === "64" ? "kvm" : "native"));
  using actual = openEngine(values.engine);
  const selection = [
    values.bits === "64" ? "" : ` --bits ${values.bits}`,
    values.form === undefined ? "" : ` --form "${values.form}"`,
    values.without === undefined ? "" : ` --without "${values.without}"`,
  ].join("");
  let shown = performance.now();
  const result = runCampaign({
    maker,
    expected,
    actual,
    start: integer("start", values.start, 0),
    count: integer("count", values.count, 1),
    maxFailures: integer("failures", values.failures, 1),
    onFailure({ test, differences }) {
      console.log(
        describeFailure({ seed, selection, test, expectedName: "processor", actualName: actual.name, differences }),
      );
    },
    onProgress(done) {
      if (performance.now() - shown < PROGRESS_MILLISECONDS) return;
      shown = performance.now();
      console.error(`${done} cases`);
    },
  });
  for (const line of summary(result, expected.name, actual.name)) console.log(line);
  return result.failures === 0 ? 0 : 1;
}

/** `perForm` vectors of each form of the whole table: one that raises an exception, where one was met, and others. */
function record(path: string, seed: number, perForm: number): number {
  using engine = new KvmEngine();
  const all = new FormGenerator(INSTRUCTIONS);
  const maker = new CaseMaker(seed, all);
  const kept: TestCase[] = [];
  for (const [index, form] of all.forms.entries()) {
    const single = new CaseMaker(seed, all.withForm(form));
    // Every number has a slot of its own, so that the candidates make one batch.
    const numbers = Array.from(
      { length: CANDIDATES },
      (_, i) => (((index * 61) % CODE_SLOTS) + i * (CODE_SLOTS + 1)) * STATES_PER_CODE,
    );
    const cases = numbers.map((number) => single.make(number)).filter(({ instructions }) => instructions.length === 1);
    const { outputs } = engine.run(toBatch(cases, maker.window));
    const view = new DataView(outputs.buffer, outputs.byteOffset, outputs.byteLength);
    const raised = (_: TestCase, i: number): boolean =>
      view.getUint32(i * BLOCK.size + BLOCK.vector, true) !== NO_EXCEPTION;
    const faults = cases.filter(raised);
    const others = cases.filter((test, i) => !raised(test, i));
    kept.push(...[...faults.slice(0, 1), ...others, ...faults.slice(1)].slice(0, perForm));
  }
  kept.push(...REGRESSIONS.map((regression) => regressionCase(regression, maker, engine)));
  const file = recordVectors(kept, maker, engine, cpus()[0]?.model ?? "unknown");
  writeFileSync(path, formatVectors(file));
  console.log(`${kept.length} vectors of ${all.forms.length} forms, recorded on ${file.cpu}`);
  return 0;
}

/** A case of a regression's code, from the first state that shows it. */
function regressionCase({ name, code, vector }: Regression, maker: CaseMaker, engine: Ring3Engine): TestCase {
  const bytes = new Uint8Array(Buffer.from(code, "hex"));
  const flags = { undefinedFlags: 0, readsFlags: 0, definesFlags: false, jumps: false };
  const instructions = [{ name, bytes, approximate: false, wild: false, ...flags }];
  for (let group = 0; group < MAX_REGRESSION_STATES; group += CODE_SLOTS) {
    const cases = Array.from({ length: CODE_SLOTS }, (_, i) =>
      maker.makeWith((group + i) * STATES_PER_CODE, bytes, instructions, 0),
    );
    const { outputs } = engine.run(toBatch(cases, maker.window));
    const view = new DataView(outputs.buffer, outputs.byteOffset, outputs.byteLength);
    const found = cases.find((_, i) => view.getUint32(i * BLOCK.size + BLOCK.vector, true) === vector);
    if (found !== undefined) return found;
  }
  throw new Error(`record "${name}": no state raises exception ${vector}, wanted one of ${MAX_REGRESSION_STATES}`);
}

function replay(path: string, engineName: string): number {
  const file = JSON.parse(readFileSync(path, "utf8")) as VectorFile;
  using engine = openEngine(engineName);
  const maker = new CaseMaker(file.seed, new FormGenerator(INSTRUCTIONS));
  const failures = replayVectors(file, maker, engine);
  for (const { test, differences } of failures) {
    const { seed } = file;
    console.log(
      describeFailure({ seed, recorded: true, test, expectedName: file.cpu, actualName: engine.name, differences }),
    );
  }
  console.log(`${failures.length} of the vectors differ`);
  return failures.length === 0 ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof IsolaError)) throw error;
  console.error(`fuzz: ${error.message}`);
  process.exitCode = 2;
}
