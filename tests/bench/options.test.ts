/** The bench's options and means. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { PARTS, readOptions } from "../../bench/options.ts";
import { chooseBenchmarks } from "../../bench/programs.ts";
import { geometricMean, median } from "../../bench/statistics.ts";

test("without options all but what is only run by name is measured, three times", () => {
  const options = readOptions([]);
  assert.equal(options?.rounds, 3);
  assert.deepEqual(
    [...(options?.parts ?? [])],
    PARTS.filter((part) => part !== "nested" && part !== "v86"),
  );
});

test("parts, groups and rounds are chosen by name; help asks for nothing else", () => {
  const options = readOptions(["--rounds", "5", "--only", "sort,boot,real"]);
  assert.equal(options?.rounds, 5);
  assert.deepEqual([...(options?.parts ?? [])], ["boot"]);
  assert.deepEqual([...(options?.programs ?? [])], ["sort", "real"]);
  assert.equal(readOptions(["--help"]), undefined);
});

test("one boot may take longer where v86 takes part, unless a time is given", () => {
  assert.equal(readOptions([])?.timeoutSeconds, 60);
  assert.equal(readOptions(["--only", "v86"])?.timeoutSeconds, 300);
  assert.equal(readOptions(["--only", "v86", "--timeout", "20"])?.timeoutSeconds, 20);
});

test("what is wrong is named, and what would be right", () => {
  for (const [args, message] of [
    [["--rounds", "0"], /--rounds is "0"; wanted: a whole number from 1/],
    [["--rounds", "3x"], /--rounds is "3x"/],
    [["--fast"], /--fast.*see --help/],
  ] as const) {
    assert.throws(() => readOptions(args), message);
  }
});

test("programs are chosen by their names and groups; a wrong name is told with the right ones", () => {
  const all = [
    { group: "integer", name: "sort", command: "bench sort" },
    { group: "real", name: "gzip", command: "gzip" },
  ] as const;
  assert.deepEqual(
    chooseBenchmarks(all, new Set(["real"])).map(({ name }) => name),
    ["gzip"],
  );
  assert.deepEqual(
    chooseBenchmarks(all, new Set(["sort"])).map(({ name }) => name),
    ["sort"],
  );
  assert.throws(() => chooseBenchmarks(all, new Set(["boots"])), /--only has "boots"; wanted: .*integer.*sort, gzip/);
});

test("means", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
  assert.ok(Math.abs(geometricMean([1, 4, 16]) - 4) < 1e-12);
});
