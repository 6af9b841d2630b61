import assert from "node:assert/strict";
import { test } from "node:test";
import { struct } from "./struct.ts";

test("fields lie at multiples of their alignment, and the end is padded", () => {
  const inner = struct({ a: "u32", b: "u16" });
  assert.deepEqual(inner.offset, { a: 0, b: 4 });
  assert.equal(inner.size, 8);
  const outer = struct({ flag: "u8", inner, raw: 3, word: "u64", last: "u8" });
  assert.deepEqual(outer.offset, { flag: 0, inner: 4, raw: 12, word: 16, last: 24 });
  assert.equal(outer.size, 32);
});
