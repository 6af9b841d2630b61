import assert from "node:assert/strict";
import { test } from "node:test";
import { InterpreterEngine } from "./interpreter-engine.ts";
import { LIMIT_CASES, vectorOf } from "./limit-cases.ts";

test("segments and alignment are looked at as the processor does", () => {
  using engine = new InterpreterEngine();
  for (const each of LIMIT_CASES) assert.equal(vectorOf(each, engine), each.vector, each.name);
});
