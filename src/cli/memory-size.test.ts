import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_RAM_BYTES, MIN_RAM_BYTES } from "../memory/guest-memory.ts";
import { parseMemory } from "./memory-size.ts";

const MIB = 2 ** 20;

test("--memory stays within what the engine can give", () => {
  assert.equal(parseMemory("256M"), 256 * MIB);
  assert.equal(parseMemory(String(MIN_RAM_BYTES)), MIN_RAM_BYTES);
  assert.equal(parseMemory(String(MAX_RAM_BYTES)), MAX_RAM_BYTES);
  const refused: [string, RegExp][] = [
    ["", /not a size/],
    ["lots", /not a size/],
    ["0", /that is 0 bytes, too little/],
    ["256", /that is 256 bytes, too little/],
    ["1M", /too little/],
    ["1T", /more than the engine/],
    [String(MAX_RAM_BYTES + 65536), /more than the engine/],
    [String(MIN_RAM_BYTES + 1), /not a multiple of 64K/],
  ];
  for (const [text, problem] of refused) {
    assert.throws(() => parseMemory(text), { code: "usage", message: problem }, text);
    assert.throws(() => parseMemory(text), /wanted: 2M to 3966M/, text);
  }
});
