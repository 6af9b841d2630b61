/** The fuzzer's committed runtime is what GNU as makes of its source. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { assembleRuntime } from "../fuzz/assemble.ts";
import { RUNTIME_BASE64 } from "../fuzz/runtime-bytes.ts";

test("runtime-bytes.ts holds runtime.s", () => {
  const same = Buffer.from(RUNTIME_BASE64, "base64").equals(assembleRuntime());
  assert.ok(same, "it differs: run node tests/fuzz/assemble.ts");
});
