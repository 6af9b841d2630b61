/** The processor itself, in a process of its own, against the portable engine: 32-bit code above all. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { INSTRUCTIONS } from "../../src/isa/table.ts";
import { runCampaign } from "../fuzz/campaign.ts";
import { CaseMaker } from "../fuzz/cases.ts";
import { FormGenerator } from "../fuzz/form-generator.ts";
import { InterpreterEngine } from "../fuzz/interpreter-engine.ts";
import type { CodeBits } from "../fuzz/layout.ts";
import { LIMIT_CASES, vectorOf } from "../fuzz/limit-cases.ts";
import { NativeEngine } from "../fuzz/native-engine.ts";
import { describeFailure } from "../fuzz/report.ts";

const SEED = 81;
const CASES = 20_000;

test("the recorded exceptions are the processor's", () => {
  using engine = new NativeEngine();
  for (const each of LIMIT_CASES) {
    const vector = vectorOf(each, engine);
    if (vector !== each.wrapped) assert.equal(vector, each.vector, each.name);
  }
});

for (const bits of [32, 64] satisfies CodeBits[]) {
  test(`${CASES} random cases of ${bits}-bit code`, () => {
    using expected = new NativeEngine();
    using actual = new InterpreterEngine();
    const maker = new CaseMaker(SEED, new FormGenerator(INSTRUCTIONS, undefined, "", bits));
    const found: string[] = [];
    const names = { seed: SEED, expectedName: expected.name, actualName: actual.name };
    runCampaign({
      maker,
      expected,
      actual,
      start: 0,
      count: CASES,
      maxFailures: 5,
      onFailure: (failure) => found.push(describeFailure({ ...names, ...failure })),
    });
    assert.equal(found.length, 0, found.join("\n"));
  });
}
