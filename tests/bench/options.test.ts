/** The bench's options and means. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { PARTS, readOptions } from "../../bench/options.ts";
import { geometricMean, median } from "../../bench/statistics.ts";

test("without options everything is measured three times", () => {
  const options = readOptions([]);
  assert.equal(options?.rounds, 3);
  assert.deepEqual([...(options?.parts ?? [])], [...PARTS]);
});

test("parts, groups and rounds are chosen by name; help asks for nothing else", () => {
  const options = readOptions(["--rounds", "5", "--only", "work,boot", "--groups", "sort"]);
  assert.equal(options?.rounds, 5);
  assert.deepEqual([...(options?.parts ?? [])].sort(), ["boot", "work"]);
  assert.deepEqual([...(options?.groups ?? [])], ["sort"]);
  assert.equal(readOptions(["--help"]), undefined);
});

test("what is wrong is named, and what would be right", () => {
  for (const [args, message] of [
    [["--rounds", "0"], /--rounds is "0"; wanted: a whole number from 1/],
    [["--rounds", "3x"], /--rounds is "3x"/],
    [["--only", "boots"], /--only is "boots"; wanted: one of boot, memory/],
    [["--groups", "sha256,none"], /--groups is "none"; wanted: one of sha256, gzip/],
    [["--fast"], /--fast.*see --help/],
  ] as const) {
    assert.throws(() => readOptions(args), message);
  }
});

test("means", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.ok(Math.abs(geometricMean([1, 4, 16]) - 4) < 1e-12);
});
