import assert from "node:assert/strict";
import { test } from "node:test";
import { formatBytes, formatCount, formatDuration, formatPercent } from "./format.ts";

test("bytes come in the largest unit that leaves at least 1", () => {
  const told = [0, 1023, 1024, 1536, 128 * 2 ** 20, 2 ** 30 * 23.4].map(formatBytes);
  assert.deepEqual(told, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "128 MiB", "23.4 GiB"]);
});

test("percent: a decimal only where it tells something", () => {
  assert.deepEqual([0, 0.44, 9.96, 25.2, 250].map(formatPercent), ["0 %", "0.4 %", "10.0 %", "25 %", "250 %"]);
});

test("spans come in their two largest units", () => {
  assert.deepEqual([-1, 59, 200, 3700, 187_200].map(formatDuration), [
    "0 s",
    "59 s",
    "3 min 20 s",
    "1 h 1 min",
    "2 d 4 h",
  ]);
});

test("counts come in thousands", () => {
  assert.deepEqual([7, 1500, 123_456, 2e9].map(formatCount), ["7", "1.5 k", "123 k", "2.0 G"]);
});
