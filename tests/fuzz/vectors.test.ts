/** The portable engine gives what a real processor gave, form by form, on hosts without KVM too. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { INSTRUCTIONS } from "../../src/isa/table.ts";
import { CaseMaker } from "./cases.ts";
import { FormGenerator, formName } from "./form-generator.ts";
import { InterpreterEngine } from "./interpreter-engine.ts";
import { describeFailure } from "./report.ts";
import { REGRESSIONS } from "./regressions.ts";
import { replayVectors, type VectorFile } from "./vectors.ts";

const file = JSON.parse(readFileSync(new URL("../vectors/ring3.json", import.meta.url), "utf8")) as VectorFile;
const generator = new FormGenerator(INSTRUCTIONS);

/** What differs from the recorded vectors, for a person; empty where nothing does. */
function replay(engine: InterpreterEngine): string {
  const failures = replayVectors(file, new CaseMaker(file.seed, generator), engine);
  const reports = failures.map(({ test: failed, differences }) =>
    describeFailure({
      seed: file.seed,
      recorded: true,
      test: failed,
      expectedName: file.cpu,
      actualName: engine.name,
      differences,
    }),
  );
  return reports.join("\n");
}

test("the recorded vectors hold on the portable engine", () => {
  using engine = new InterpreterEngine();
  assert.equal(replay(engine), "");
});

test("the recorded vectors hold when every trace is compiled at once", () => {
  using engine = InterpreterEngine.compiled();
  assert.equal(replay(engine), "");
});

test("what once went wrong has a vector", () => {
  const missing = REGRESSIONS.filter(({ name }) => (file.forms[name]?.length ?? 0) === 0);
  assert.deepEqual(missing, [], "record them: npm run fuzz -- --record tests/vectors/ring3.json");
});

test("every form that ring 3 can run has a vector", () => {
  const missing = generator.forms.map(formName).filter((name) => (file.forms[name]?.length ?? 0) === 0);
  assert.deepEqual(missing, [], "record them: npm run fuzz -- --record tests/vectors/ring3.json");
});
