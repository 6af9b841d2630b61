import assert from "node:assert/strict";
import { test } from "node:test";
import { formatSize, parseSize } from "./size.ts";

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
  assert.equal(parseSize(formatSize(3966 * MIB)), 3966 * MIB);
});
