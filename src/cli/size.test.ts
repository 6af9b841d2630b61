import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_RAM_BYTES, MIN_RAM_BYTES } from "../memory/guest-memory.ts";
import { formatSize, parseMemory, parseSize } from "./size.ts";

const MIB = 2 ** 20;

test("sizes are read in powers of 1024", () => {
  const cases: [string, number][] = [
    ["268435456", 256 * MIB],
    ["256M", 256 * MIB],
    ["256m", 256 * MIB],
    ["256MB", 256 * MIB],
    ["256MiB", 256 * MIB],
    ["262144K", 256 * MIB],
    ["0.25G", 256 * MIB],
    ["1G", 1024 * MIB],
    ["1.5GiB", 1536 * MIB],
    [" 2T ", 2 ** 41],
    ["100B", 100],
    ["0", 0],
  ];
  for (const [text, size] of cases) assert.equal(parseSize(text), size, text);
});

test("what is no size is refused", () => {
  for (const text of [
    "",
    " ",
    "M",
    "-1",
    "-1M",
    "1e9",
    "0x100",
    "NaN",
    "Infinity",
    "1,5G",
    "1 2",
    "1MM",
    "1P",
    "1.M",
    "0.3B",
  ]) {
    assert.equal(parseSize(text), undefined, text);
  }
  assert.equal(parseSize("99999999999999999999"), Infinity);
  assert.equal(parseSize("9999999T"), Infinity);
});

test("sizes are written exactly where that is short", () => {
  assert.equal(formatSize(256 * MIB), "256M");
  assert.equal(formatSize(1536 * MIB), "1536M");
  assert.equal(formatSize(2 ** 30), "1G");
  assert.equal(formatSize(100_000), "97.7K");
  assert.equal(formatSize(17), "17");
  assert.equal(parseSize(formatSize(MAX_RAM_BYTES)), MAX_RAM_BYTES);
});

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
